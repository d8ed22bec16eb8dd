"""`hybr serve` as a person runs it: a process of its own, from the start to the end and to the kill -9."""

from __future__ import annotations

import functools
import json
import os
import re
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hybr_testing import HYBR, answers, free_port, get_json, serve, until

from hybr.server import paths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybr_testing import Served


def heed() -> None:
    """Have the terminal's end mean what it usually means."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def served(tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A running server that builds no models. A test run under nohup ignores SIGHUP, which its children would inherit."""
    monkeypatch.setattr(subprocess, "Popen", functools.partial(subprocess.Popen, preexec_fn=heed))
    with serve(tmp_path / "data", "--no-build", log=tmp_path / "log") as running:
        yield running


def children(pid: int) -> list[int]:
    """Return the process's children."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def resident(pid: int) -> float:
    """Return the process's resident memory in MB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def gone(pid: int) -> bool:
    """Say whether the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def post(url: str, body: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Ask with curl, as the README does."""
    command = ["curl", "-sS", "--max-time", "120", "-H", "Content-Type: application/json", "-d", json.dumps(body), url]
    return subprocess.run(command, capture_output=True, text=True, timeout=150, check=True)


def test_a_life(served: Served) -> None:
    """It says its address in one line, answers from page and model, stays small, and ends on SIGTERM with its children."""
    until(lambda: get_json(f"{served.url}/healthz")["house"]["state"] == "ready", timeout=120, what="the house model")
    health = get_json(f"{served.url}/healthz")
    assert (health["status"], health["page"]["state"]) == ("ok", "ready")
    until(lambda: served.url in served.log.read_text(), timeout=60, what="the address")
    assert served.log.read_text().count(served.url) <= 2, "once more when it took long to get ready"
    assert get_json(f"{served.url}/v1/models")["data"][0]["id"] == "smollm2-135m"
    question = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}
    answer = json.loads(post(f"{served.url}/v1/chat/completions", question).stdout)
    assert answer["choices"][0]["message"]["content"] == "The capital of France is Paris."
    assert resident(served.process.pid) < 80
    limits = Path(f"/proc/{served.process.pid}/limits").read_text()
    assert re.search(r"Max core file size\s+0 ", limits), "no crash writes keys to a disk (adverse list, 46)"
    offspring = children(served.process.pid)
    assert len(offspring) == 1
    served.process.send_signal(signal.SIGTERM)
    served.process.wait(60)
    until(lambda: all(gone(pid) for pid in offspring), timeout=60, what="the house model's end")


def test_48_the_terminal_closes(served: Served) -> None:
    """SIGHUP stops the server as SIGTERM does, with its children, instead of killing it."""
    offspring = children(served.process.pid)
    served.process.send_signal(signal.SIGHUP)
    served.process.wait(60)
    assert served.process.returncode != -signal.SIGHUP
    until(lambda: all(gone(pid) for pid in offspring), timeout=60, what="the house model's end")


def test_48_no_descriptor_is_left(served: Served) -> None:
    """A server that can take no more connections answers again as soon as some are closed (EMFILE)."""
    port = int(served.url.rsplit(":", 1)[1])
    until(
        lambda: get_json(f"{served.url}/healthz")["house"]["state"] == "ready", timeout=120, what="all that it opens for itself"
    )
    used = len(list(Path(f"/proc/{served.process.pid}/fd").iterdir()))
    resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (used + 16, used + 16))
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
    for one in held:
        one.close()
    until(lambda: answers(f"{served.url}/healthz"), timeout=60, what="an answer")


def test_kill_9(served: Served) -> None:
    """When the server is killed with -9, the house model ends too."""
    offspring = until(lambda: children(served.process.pid), timeout=60, what="the house model")
    served.process.kill()
    until(lambda: all(gone(pid) for pid in offspring), timeout=60, what="the house model's end")


@pytest.mark.parametrize("wait", [0.3, 0.6, 0.9, 1.2])
def test_kill_9_while_starting(tmp_path: Path, gguf: Path, wait: float) -> None:
    """Also when it is killed in the midst of starting, nothing of it is left."""
    mark = {"HYBR_DATA": str(tmp_path / "data")}
    process = subprocess.Popen(
        [HYBR, "serve", "--port", str(free_port()), "--no-build"], env={**os.environ, **mark}, stdout=subprocess.DEVNULL
    )
    time.sleep(wait)
    process.kill()
    process.wait()
    until(lambda: not with_environment(mark), timeout=60, what="the end of all it started")


def with_environment(mark: dict[str, str]) -> list[int]:
    """Return the processes that have `mark` in their environment: all that a marked process started, at any depth."""
    needle = "\0".join(f"{name}={value}" for name, value in mark.items()).encode() + b"\0"
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if needle in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_preferences_survive_a_kill(tmp_path: Path, gguf: Path) -> None:
    """What was acknowledged is there after a kill -9 and a new start."""
    command = ["curl", "-sS", "-X", "PUT", "-H", "Content-Type: application/json"]
    with serve(tmp_path / "data", "--no-build", log=tmp_path / "log") as running:
        for version in range(5):
            body = json.dumps({"version": version, "preferences": {"mode": ["local", "cloud"][version % 2]}})
            run = subprocess.run([*command, "-d", body, f"{running.url}/api/preferences"], capture_output=True, check=True)
            assert json.loads(run.stdout)["version"] == version + 1
        running.process.kill()
    with serve(tmp_path / "data", "--no-build", log=tmp_path / "log") as running:
        assert get_json(f"{running.url}/api/preferences") == {"version": 5, "preferences": {"mode": "local"}}


def test_a_taken_port(served: Served) -> None:
    """A second server on the port says so in one line with the remedy, and the first goes on."""
    port = served.url.rsplit(":", 1)[1]
    second = subprocess.run([HYBR, "serve", "--port", port], capture_output=True, text=True, timeout=180, check=False)
    assert second.returncode == 1
    assert f"port {port}" in second.stderr
    assert "make run PORT=" in second.stderr
    assert answers(f"{served.url}/healthz")


@pytest.mark.parametrize(("variable", "value", "word"), [("HYBR_AUTH", "of", "HYBR_AUTH"), ("HYBR_BUILD", "never", "HYBR_BUILD")])
def test_a_misspelt_variable(variable: str, value: str, word: str) -> None:
    """A variable that is neither on nor off stops the start instead of being taken for one of them."""
    env = {**os.environ, variable: value}
    run = subprocess.run([HYBR, "serve"], capture_output=True, text=True, timeout=180, check=False, env=env)
    assert run.returncode == 2
    assert word in run.stderr


@pytest.fixture
def fresh(tmp_path: Path, gguf: Path) -> Path:
    """A cache without models, that shares everything else with the real one."""
    shared, home = paths.home(), tmp_path / "home"
    home.mkdir()
    for name in ("npm", "page", "sources"):
        (home / name).symlink_to(shared / name)
    return home


def test_builds_in_the_background(tmp_path: Path, fresh: Path) -> None:
    """A first start answers at once and shows the build's progress; a stop in the middle leaves no process and no trace."""
    mark = {"HYBR_HOME": str(fresh)}
    with serve(tmp_path / "data", log=tmp_path / "log", env=mark) as running:
        assert running.model("tiny")["state"] == "building", "queued counts: the page waits for it"
        begun = lambda: (running.model("tiny")["progress"] or {}).get("step") not in {None, "queued"}  # noqa: E731
        until(begun, timeout=300, what="progress of tiny's build")
        assert answers(f"{running.url}/healthz")
        assert len(with_environment(mark)) > 2
    until(lambda: not with_environment(mark), timeout=60, what="the end of all it started")
    with serve(tmp_path / "data", "--no-build", log=tmp_path / "log", env=mark) as running:
        assert running.model("tiny")["state"] == "missing"


def test_a_build_that_fails(tmp_path: Path, fresh: Path) -> None:
    """Without the linker the model is `failed` with a message that names the remedy, and the server goes on."""
    env = {"HYBR_HOME": str(fresh), "PATH": "/nonexistent"}
    with serve(tmp_path / "data", log=tmp_path / "log", env=env) as running:
        entry = until(lambda: failed(running), timeout=300, what="tiny's failure")
        assert "emscripten" in entry["error"]["message"]
        assert answers(f"{running.url}/healthz")


def failed(running: Served) -> dict[str, Any]:
    """Return tiny's entry once its build has failed."""
    entry = running.model("tiny")
    return entry if entry["state"] == "failed" else {}


def test_accounts_want_https(tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server for people under a name says at its start that they log in over https only, one at home does not."""
    with serve(tmp_path / "home", "--no-build", log=tmp_path / "first"):
        pass
    monkeypatch.setenv("HYBR_HOSTS", "chat.example.org")
    with serve(tmp_path / "data", "--no-build", "--auth", "accounts", log=tmp_path / "second"):
        pass
    assert "https only" not in (tmp_path / "first").read_text()
    said = (tmp_path / "second").read_text()
    assert "https only" in said
    assert "chat.example.org" in said
