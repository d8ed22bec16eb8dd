"""What our door costs: the house model asked through the gateway and asked directly, in turn, in one run."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from harness import Figure, bench
from hybr_testing import HYBR, answers, free_port, until
from serving import listening, parts_in, question

from hybr.mlc_build import sources

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 30
TOKENS = 16


async def ask(session: aiohttp.ClientSession, url: str, key: str) -> tuple[float, float]:
    """Return milliseconds to the first bytes and to the last."""
    body: dict[str, Any] = question(max_tokens=TOKENS, stream=True)
    begin = time.perf_counter()
    async with session.post(url, json=body, headers={"authorization": f"Bearer {key}"}) as answer:
        await answer.content.readany()
        first = time.perf_counter()
        await answer.read()
    return (first - begin) * 1000, (time.perf_counter() - begin) * 1000


async def measure(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Ask both ways in turn, so that the machine's moods fall on both."""
    parts = parts_in(folder, weights=sources.fetch("smollm2-135m"))
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "direct": []}
    async with listening(parts) as address, aiohttp.ClientSession() as session:
        endpoint = await parts.house.llama.endpoint()
        for turn in range(ROUNDS + 2):
            for name, base, key in (("ours", address, ""), ("direct", endpoint.address, endpoint.key)):
                times = await ask(session, f"{base}/v1/chat/completions", key)
                if turn > 1:
                    found[name].append(times)
    return found


@bench
def gateway_latency() -> Iterator[Figure]:
    """First token and whole answer through the gateway, beside llama.cpp asked directly."""
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder)))
    for index, name in enumerate(("first_token", "answer")):
        ours, direct = (statistics.median(times[index] for times in found[who]) for who in ("ours", "direct"))
        told = (
            f"median of {ROUNDS}, SmolLM2 135M, 16 prompt tokens, at most {TOKENS} new; gateway, client and relay share a process"
        )
        yield Figure(f"gateway.{name}", ours, "ms", "llama.cpp asked directly", direct, told)


@bench
def server_size() -> Iterator[Figure]:
    """Resident memory of the idle server, its imports, and its time to the first answer of any kind."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        env = {**os.environ, "HYBR_DATA": folder, "HYBR_BUILD": "off", "HYBR_AUTH": "off"}
        begin = time.monotonic()
        process = subprocess.Popen([HYBR, "serve", "--port", str(port)], env=env, stdout=subprocess.DEVNULL)
        try:
            until(lambda: answers(f"http://127.0.0.1:{port}/v1/models"), timeout=60, what="an answer", every=0.01)
            boot = time.monotonic() - begin
            until(lambda: answers(f"http://127.0.0.1:{port}/healthz"), timeout=120, what="health", every=0.02)
            status = Path(f"/proc/{process.pid}/status").read_text()
        finally:
            process.terminate()
            process.wait(20)
    memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024
    yield Figure("server.boot", boot, "s", "limit: 1 s", 1.0, "to the first answer; the house model still loads")
    yield Figure(
        "server.memory", memory, "MB", "limit: 80 MB", 80.0, f"resident, idle, house model apart; {sys.implementation.name}"
    )
