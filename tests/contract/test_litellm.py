"""LiteLLM's proxy as an upstream in front of a real llama.cpp: other people's gateway behind ours.

It lives in an environment of its own in the cache, outside our lock, made here once.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from hybr_testing import free_port
from serving import asking, listening, parts_in, question, said, soon, stream

from hybr.server.paths import home
from hybr.server.providers.registry import remote
from hybr.server.secret import Secret
from hybr.server.upstreams import make

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hybr.server.serve import Parts

VERSION = "1.106.2"
KEY = "sk-litellm-0123456789abcdef"
MODEL = "litellm/small"
pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


@pytest.fixture(scope="session")
def program() -> Path:
    """LiteLLM's command, installed on first use; the bench uses the same."""
    place = home() / "bench" / f"litellm-{VERSION}"
    if not (place / "whole").exists():
        pip = [str(place / "bin/python"), "-m", "pip", "install", "-q", f"litellm[proxy]=={VERSION}"]
        for command in ([sys.executable, "-m", "venv", "--clear", str(place)], pip):
            subprocess.run(command, check=True)
        (place / "whole").touch()
    return place / "bin/litellm"


def started(command: list[str], env: dict[str, str], path: Path) -> subprocess.Popen[bytes]:
    """Start a program whose words go to a file."""
    with path.open("wb") as log:
        return subprocess.Popen(command, env=env, stdout=log, stderr=log)


@contextlib.asynccontextmanager
async def behind(program: Path, folder: Path, gguf: Path) -> AsyncIterator[tuple[Parts, subprocess.Popen[bytes]]]:
    """Give parts whose provider `litellm` is LiteLLM in front of llama.cpp, and LiteLLM's process."""
    house = parts_in(folder / "inner", weights=gguf).house
    endpoint = await house.llama.endpoint()
    model = {"model": "openai/smollm2-135m", "api_base": f"{endpoint.address}/v1", "api_key": endpoint.key}
    config = {"model_list": [{"model_name": "small", "litellm_params": model}], "general_settings": {"master_key": KEY}}
    path = folder / "litellm.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    port = free_port()
    env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PATH": f"{program.parent}:{os.environ['PATH']}"}
    command = [str(program), "--config", str(path), "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]
    process = started(command, env, folder / "litellm.log")
    address = f"http://127.0.0.1:{port}"
    try:
        await soon(lambda: ready(f"{address}/health/liveliness", process), 240)
        parts = parts_in(folder / "outer")
        parts.remotes = [remote(make("litellm", {"base_url": f"{address}/v1", "retries": 0}, Secret(KEY)))]
        parts.relay.providers = [*parts.remotes, parts.house]
        yield parts, process
    finally:
        process.terminate()
        process.wait(30)
        await house.stop()


async def ready(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Say whether it answers."""
    assert process.poll() is None
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(url) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False


async def test_through_both(program: Path, tmp_path: Path, gguf: Path) -> None:
    """A question goes through both gateways to llama.cpp, and its answer comes back whole and streamed, with usage."""
    async with behind(program, tmp_path, gguf) as (parts, _), asking(parts) as client:
        assert await parts.remotes[0].refresh()
        listed = [entry["id"] for entry in (await client.get("/v1/models")).json()["data"]]
        plain = await client.post("/v1/chat/completions", json=question(model=MODEL), timeout=120)
        live = await client.post("/v1/chat/completions", json=question(model=MODEL, stream=True), timeout=120)
        bad = await client.post("/v1/chat/completions", json=question(model="litellm/nobody"), timeout=120)
    body = plain.json()
    found: list[Any] = [json.loads(line[6:]) for line in live.text.split("\n\n") if line.startswith("data: {")]
    assert listed == [MODEL, "smollm2-135m"]
    assert (body["choices"][0]["message"]["content"], body["model"]) == ("The capital of France is Paris.", MODEL)
    assert body["usage"]["total_tokens"] == 24
    assert said(found) == "The capital of France is Paris."
    assert live.text.endswith("data: [DONE]\n\n")
    assert bad.status_code in {400, 404}
    assert KEY not in bad.text


async def test_a_killed_proxy(program: Path, tmp_path: Path, gguf: Path) -> None:
    """When LiteLLM dies in mid-stream, ours ends in an error, and in no end made up."""
    seen: list[Any] = []
    body = question("Write a very long story about a ship.", model=MODEL, max_tokens=800)
    async with (
        behind(program, tmp_path, gguf) as (parts, process),
        listening(parts) as address,
        aiohttp.ClientSession() as session,
    ):
        async for event in stream(session, address, body):
            seen.append(event)
            if len(seen) == 3:
                process.kill()
    assert seen[-1]["error"]["code"] == "stream_cut"
