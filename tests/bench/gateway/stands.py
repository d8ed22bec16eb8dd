"""The gateways that are compared: how each is installed (once, under the cache), started alone on one core, and asked.

Peers live in environments of their own, outside the project's lock: nothing of HYBR depends on them. nginx comes from Debian.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hybr_testing import HYBR, free_port
from load import Target

from hybr.server.paths import home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

CORE = "0"  # the gateway's; the load and the scripted upstream share the other
LITELLM = "1.106.2"
PORTKEY = "1.15.2"
NODE_SERVER = "1.13.8"  # later ones break Portkey 1.15
KEY = "sk-bench-0123456789abcdef"


@dataclass(frozen=True)
class Stand:
    """A running gateway."""

    name: str
    target: Target
    process: subprocess.Popen[bytes] | None
    boot: float = 0.0

    def processes(self) -> list[int]:
        """Return its process ids, children included."""
        if self.process is None:
            return []
        found = [self.process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += [int(child) for child in (task / "children").read_text().split()]
        return found

    def cpu(self) -> float:
        """Return the seconds of processor time it has used."""
        ticks = 0
        for pid in self.processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Return its resident memory in MB."""
        total = 0
        for pid in self.processes():
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
        return total / 1024


def direct(upstream: int) -> Stand:
    """Return the upstream itself: what everything is measured against."""
    return Stand("direct", Target("127.0.0.1", upstream, "bench"), None)


@contextlib.contextmanager
def ours(upstream: int, folder: Path) -> Iterator[Stand]:
    """Start HYBR with everything on: token, limits, ledger, telemetry, SQLite."""
    port = free_port()
    told = folder / "hybr.toml"
    told.write_text(
        f'default = "bench/bench"\n[upstreams.bench]\nbase_url = "http://127.0.0.1:{upstream}/v1"\nmodels = ["bench"]\n'
    )
    subprocess.run([HYBR, "page", "build"], check=True, stdout=subprocess.DEVNULL)  # else the server would, beside the measuring
    limits = folder / "limits.toml"
    limits.write_text(LIMITS)
    (folder / "home").mkdir()
    (folder / "home/page").symlink_to(home() / "page")  # the built page; no weights, so that no house model is loaded
    env = {**os.environ, "HYBR_DATA": str(folder / "data"), "HYBR_HOME": str(folder / "home"), "HYBR_UPSTREAMS": str(told)}
    env |= {"HYBR_BUILD": "off", "HYBR_WARM": "off", "HYBR_LIMITS": str(limits)}
    created = subprocess.run([HYBR, "tokens", "create", "bench"], env=env, check=True, capture_output=True, text=True)
    token = created.stdout.split()[0]
    with running([HYBR, "serve", "--port", str(port)], port, env) as (process, boot):
        yield Stand("hybr", Target("127.0.0.1", port, "bench/bench", headers={"Authorization": f"Bearer {token}"}), process, boot)


# Limits of every kind, none of which the bench reaches, and a price, so that each answer is let in, reserved, settled and booked.
LIMITS = """
[limits]
requests_per_minute = 100000000
tokens_per_minute = 1000000000000
streams = 100000
spend_day = 1000000
spend_month = 1000000
[limits.token]
requests_per_minute = 100000000
[prices."bench/bench"]
input = 1.0
output = 2.0
"""


@contextlib.contextmanager
def nginx(upstream: int, folder: Path) -> Iterator[Stand]:
    """Start nginx as a reverse proxy: the floor."""
    if not shutil.which("nginx"):
        install(["apt-get", "install", "-y", "--no-install-recommends", "nginx-light"], root=True)
    port = free_port()
    text = f"""daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr error;
events {{ worker_connections 1024; }}
http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream it {{ server 127.0.0.1:{upstream}; keepalive 128; }}
  server {{ listen 127.0.0.1:{port}; keepalive_requests 1000000; location / {{
    proxy_pass http://it; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }} }} }}"""
    (folder / "nginx.conf").write_text(text)
    command = [shutil.which("nginx") or "nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with running(command, port, os.environ) as (process, boot):
        yield Stand("nginx", Target("127.0.0.1", port, "bench"), process, boot)


@contextlib.contextmanager
def portkey(upstream: int, folder: Path) -> Iterator[Stand]:
    """Start Portkey's gateway."""
    place = home() / "bench" / f"portkey-{PORTKEY}"
    entry = place / "node_modules/@portkey-ai/gateway/build/start-server.js"
    if not entry.exists():
        place.mkdir(parents=True, exist_ok=True)
        wanted = {"dependencies": {"@portkey-ai/gateway": PORTKEY}, "overrides": {"@hono/node-server": NODE_SERVER}}
        (place / "package.json").write_text(json.dumps({"private": True, **wanted}))
        install(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(place)])
    port = free_port()
    headers = {
        "Authorization": f"Bearer {KEY}",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{upstream}/v1",
    }
    command = ["node", str(entry), "--headless", f"--port={port}"]
    with running(command, port, {**os.environ, "NODE_ENV": "production"}) as (process, boot):
        yield Stand("portkey", Target("127.0.0.1", port, "bench", headers=headers), process, boot)


@contextlib.contextmanager
def litellm(upstream: int, folder: Path) -> Iterator[Stand]:
    """Start LiteLLM's proxy, compiled beforehand so that its start is not its compiler's."""
    place = home() / "bench" / f"litellm-{LITELLM}"
    if not (place / "whole").exists():
        install([sys.executable, "-m", "venv", "--clear", str(place)])
        install([str(place / "bin/python"), "-m", "pip", "install", "-q", f"litellm[proxy]=={LITELLM}"])
        install([str(place / "bin/python"), "-m", "compileall", "-q", "-j1", str(place / "lib")], check=False)
        (place / "whole").touch()
    port = free_port()
    settings = folder / "litellm.yaml"
    settings.write_text(
        "model_list:\n  - model_name: bench\n    litellm_params:\n      model: openai/bench\n"
        f"      api_base: http://127.0.0.1:{upstream}/v1\n      api_key: none\n"
        f"general_settings:\n  master_key: {KEY}\n"
    )
    command = [
        str(place / "bin/litellm"),
        "--config",
        str(settings),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--telemetry",
        "False",
    ]
    env = {
        **os.environ,
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "PATH": f"{place}/bin:{os.environ['PATH']}",
    }
    with running(command, port, env) as (process, boot):
        yield Stand("litellm", Target("127.0.0.1", port, "bench", headers={"Authorization": f"Bearer {KEY}"}), process, boot)


PEERS: Sequence[Callable[[int, Path], contextlib.AbstractContextManager[Stand]]] = (nginx, portkey, litellm)


def install(command: list[str], *, root: bool = False, check: bool = True) -> None:
    """Run one step of an installation, and say it. Raises RuntimeError with the command when it cannot."""
    print(f"   installing: {' '.join(command)}", flush=True)
    if root and os.geteuid():
        raise RuntimeError(f"as root, once: {' '.join(command)}")
    subprocess.run(command, check=check, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def running(command: Sequence[str], port: int, env: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """Run a gateway on its core until the block ends; give its process and the seconds until it answered."""
    errors = None if HYBR in command else subprocess.DEVNULL  # the peers tell tracebacks of what they lack
    begin = time.perf_counter()
    process = subprocess.Popen(["taskset", "-c", CORE, *command], env=dict(env), stdout=subprocess.DEVNULL, stderr=errors)
    try:
        listening(port, process)
        yield process, time.perf_counter() - begin
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(15)


def listening(port: int, process: subprocess.Popen[bytes] | None = None, seconds: float = 90) -> None:
    """Wait until something answers HTTP on the port. Raises RuntimeError if the process ends before, or TimeoutError."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"the gateway ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as asking:
            asking.settimeout(30)
            asking.sendall(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            if asking.recv(1):
                return
        time.sleep(0.01)
    raise TimeoutError(f"nothing answers on {port} after {seconds:g} s")
