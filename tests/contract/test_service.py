"""The service and what is around it: a stop in the midst of fifty answers, no network, other builds (48)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from fakes import openai
from fakes.wire import answered, events, streamed, wired
from hybr_testing import HYBR, serve
from people import browser
from serving import listening, parts_in, question, soon

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fakes.wire import Asked, Script

STREAMS = 50


async def until_end(session: aiohttp.ClientSession, url: str, begun: Callable[[], None]) -> list[Any]:
    """Return every event of one stream; `begun` is called with the first."""
    said: list[Any] = []
    async with session.post(f"{url}/v1/chat/completions", json=question(model="box/m", stream=True)) as answer:
        assert answer.status == 200
        async for line in answer.content:
            if line.startswith(b"data: "):
                said.append(line[6:].strip() if b"[DONE]" in line else json.loads(line[6:]))
                if len(said) == 1:
                    begun()
    return said


async def test_48_a_stop_with_fifty_streams(tmp_path: Path, gguf: Path) -> None:
    """SIGTERM: nobody new is let in, each of fifty running answers ends in an error that says so, and the process ends well."""
    begun = events(openai.chunk({"role": "assistant", "content": "Hi"}))

    def script(asked: Asked) -> Script:
        return streamed(begun, asyncio.Event()) if asked.method == "POST" else answered(200, {"data": [{"id": "m"}]})

    async with wired(script) as wire, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        (tmp_path / "upstreams.toml").write_text(f'[upstreams.box]\nbase_url = "{wire.address}/v1"\nmodels = ["m"]\n')
        told = {"HYBR_UPSTREAMS": str(tmp_path / "upstreams.toml")}
        words = ["--no-build", "--no-warm", "--drain", "1"]
        with serve(tmp_path / "data", *words, log=tmp_path / "log", env=told) as running:
            left = asyncio.Semaphore(0)
            streams = [asyncio.create_task(until_end(session, running.url, left.release)) for _ in range(STREAMS)]
            for _ in range(STREAMS):
                await asyncio.wait_for(left.acquire(), 120)
            running.process.send_signal(signal.SIGTERM)
            said = await asyncio.wait_for(asyncio.gather(*streams), 120)
            with pytest.raises(aiohttp.ClientError):
                await session.get(f"{running.url}/healthz")
            code = await asyncio.to_thread(running.process.wait, 120)
        assert [one[-1]["error"]["code"] for one in said] == ["server_stopping"] * STREAMS
        assert not [one for one in said if b"[DONE]" in one]
        await soon(lambda: wire.gone == STREAMS)
        assert code in {0, -signal.SIGTERM}, "uvicorn ends by the signal that it was sent"
        assert "Traceback" not in (tmp_path / "log").read_text()


ALONE = """
import json, os, subprocess, sys, time, urllib.error, urllib.request

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
assert len(open("/proc/net/dev").read().splitlines()) == 3, "the loopback alone"
url = "http://127.0.0.1:8080"


def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    try:
        asked = urllib.request.Request(url + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


server = subprocess.Popen([sys.argv[1], "serve", "--port", "8080", "--no-build", "--auth", "off"])
try:
    until = time.monotonic() + 150
    while ask("/api/preferences")[0] != 200 and time.monotonic() < until and server.poll() is None:
        time.sleep(0.05)
    while json.loads(ask("/healthz")[1])["page"]["state"] != sys.argv[2] and time.monotonic() < until:
        time.sleep(0.05)
    if sys.argv[2] == "building":
        while "could not" not in ask("/healthz")[1] and time.monotonic() < until:
            time.sleep(0.05)
    chat = {"model": "openai/gpt-5-mini", "messages": [{"role": "user", "content": "Hi"}]}
    print("RESULT", json.dumps([ask("/"), ask("/healthz"), ask("/v1/chat/completions", chat), server.poll()]))
finally:
    server.terminate()
    server.wait(60)
"""


@pytest.mark.parametrize("cache", ["full", "empty"])
def test_48_no_network(tmp_path: Path, gguf: Path, cache: str) -> None:
    """With nothing but the loopback the server starts, serves the page if it has it, and says what it lacks."""
    alone = ["unshare", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let us take the network away")
    environ = {**os.environ, "HYBR_DATA": str(tmp_path / "data"), "OPENAI_API_KEY": openai.KEY}
    if cache == "empty":
        environ["HYBR_HOME"] = str(tmp_path / "home")
    words = [*alone, sys.executable, "-c", ALONE, str(HYBR), "ready" if cache == "full" else "building"]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=300, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), "")
    assert line, done.stdout + done.stderr
    document, health, chat, ended = json.loads(line[7:])
    assert ended is None
    assert document[0] == (200 if cache == "full" else 503)
    if cache == "empty":
        assert "could not" in json.loads(health[1])["page"]["notice"]
        assert "could not" in document[1]
    error = json.loads(chat[1])["error"]
    assert (chat[0], error["retryable"], error["provider"]) == (502, True, "openai")
    assert openai.KEY not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


async def test_48_an_asset_of_another_build(tmp_path: Path) -> None:
    """A file under a hash that no build here has is a 404 that nothing keeps: never another file's bytes, never the page."""
    parts = parts_in(tmp_path)
    async with listening(parts) as address, browser(address) as client:
        assert parts.site.folder
        own = parts.site.folder / "assets" / parts.site.folder.name
        own.mkdir(parents=True)
        (own / "shell.js").write_text("export {};")
        assert (await client.get(f"/assets/{own.name}/shell.js")).status_code == 200
        for key in ("f" * 16, own.name[:-1] + "1", own.name.upper() + "A", ".." + own.name):
            for root in ("/assets", "/local/assets"):
                answer = await client.get(f"{root}/{key}/shell.js")
                assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")
                assert answer.headers["content-type"] == "application/json"
