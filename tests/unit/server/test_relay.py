"""The relay against upstreams that a real llama.cpp cannot be made to be: cut, malformed, endless, silent."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from serving import asking, listening, parts_in, question, soon
from standing import Standing

from hybr.server import body as body_module
from hybr.server import relay as relay_module
from hybr.server.errors import SlowUpstreamError, UnavailableError, UpstreamError
from hybr.server.providers.base import Answer, Call
from hybr.server.providers.breaker import Breaker
from hybr.server.providers.dialect import Reader
from hybr.server.surfaces.chat import frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hybr.server.serve import Parts

HI = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]}
WHOLE = frame(HI)
DONE = b"data: [DONE]\n\n"


@dataclass
class Scripted(Standing):
    """A provider that answers with the given chunks; an exception among them is raised, an event is waited for."""

    script: list[dict[str, Any] | Exception | asyncio.Event]
    name: str = "scripted"
    opened: int = 0
    released: int = 0
    retries: int = 0
    before: asyncio.Event | None = None
    breaker: Breaker = field(default_factory=Breaker)
    calls: list[Call] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[Answer]:
        """Begin, and note the end."""
        self.opened += 1
        self.calls.append(call)
        try:
            if self.before:
                await self.before.wait()
            if self.script and isinstance(self.script[0], Exception):
                raise self.script[0]
            reader = Reader("m")
            reader.finish = "stop"
            yield Answer(self.chunks(), reader)
        finally:
            self.released += 1

    async def chunks(self) -> AsyncIterator[list[dict[str, Any]]]:
        """Play the script."""
        for item in self.script:
            if isinstance(item, Exception):
                raise item
            if isinstance(item, asyncio.Event):
                await item.wait()
            else:
                yield [item]


def parts_with(folder: Path, provider: Scripted) -> Parts:
    """Return parts whose only provider is the scripted one."""
    parts = parts_in(folder)
    parts.relay.providers = [provider]
    return parts


async def ask(folder: Path, script: list[Any], **fields: Any) -> tuple[int, bytes, Scripted]:
    """Return status and body of a streamed question to an upstream that follows `script`."""
    provider = Scripted(script)
    async with asking(parts_with(folder, provider)) as client:
        answer = await client.post("/v1/chat/completions", json=question(model="m", stream=True, **fields))
    assert provider.opened == provider.released
    return answer.status_code, answer.content, provider


async def test_passes_chunks(tmp_path: Path) -> None:
    """A good stream arrives chunk for chunk, with the finish and `[DONE]` behind."""
    status, body, _ = await ask(tmp_path, [HI, HI, HI])
    assert status == 200
    assert body.startswith(WHOLE * 3)
    assert body.endswith(b'"finish_reason":"stop"}]}\n\n' + DONE)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([HI, UpstreamError("cut", code="stream_cut", attempts=1)], "stream_cut"),
        ([HI, HI, UpstreamError("failed", code="failed_midway", attempts=1), HI], "failed_midway"),
        ([HI, SlowUpstreamError("slow", code="stream_stalled", attempts=1)], "stream_stalled"),
    ],
)
async def test_a_broken_stream_says_so(tmp_path: Path, script: list[Any], code: str) -> None:
    """Whole events, then our error event, and never a made-up end (adverse list, 7, 8, 11)."""
    status, body, _ = await ask(tmp_path, script)
    good = WHOLE * script.count(HI) if code != "failed_midway" else WHOLE * 2
    assert status == 200
    assert body.startswith(good + b"data: ")
    error = json.loads(body[len(good) + 6 :])["error"]
    assert (error["code"], error["retryable"], error["provider"]) == (code, True, "scripted")
    assert b"[DONE]" not in body
    assert b'"finish_reason":"' not in body


async def test_an_error_before_the_first_byte_has_a_status(tmp_path: Path) -> None:
    """While nothing was sent, an upstream's failure is a plain JSON answer."""
    status, body, _ = await ask(tmp_path, [UnavailableError("no", code="house_unavailable", attempts=2)])
    error = json.loads(body)["error"]
    assert (status, error["code"], error["attempts"], error["retryable"]) == (503, "house_unavailable", 2, True)


async def test_a_plain_answer_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain answer without an end is an error at the cap, not memory (adverse list, 14)."""
    monkeypatch.setattr(relay_module, "ANSWER", 1000)
    async with asking(parts_with(tmp_path, Scripted([HI] * 1000))) as client:
        answer = await client.post("/v1/chat/completions", json=question(model="m"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "answer_too_large")


async def test_unknown_model(tmp_path: Path) -> None:
    """A model that is not there is a 404 that names those that are."""
    async with asking(parts_with(tmp_path, Scripted([]))) as client:
        answer = await client.post("/v1/chat/completions", json=question(model="../../x"))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["field"]) == (404, "model_not_found", "model")
    assert error["message"].endswith("there is: m")


async def test_no_model_at_all(tmp_path: Path) -> None:
    """Without any model the answer is a 503 that says where to look."""
    parts = parts_in(tmp_path)
    parts.relay.providers = []
    async with asking(parts) as client:
        answer = await client.post("/v1/chat/completions", json=question())
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_model")


async def test_too_large(tmp_path: Path) -> None:
    """More than 4 MiB is refused before it is read as JSON (adverse list, 25)."""
    async with asking(parts_with(tmp_path, Scripted([]))) as client:
        answer = await client.post("/v1/chat/completions", json=question("x" * (5 * 1024 * 1024)))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


async def test_a_body_that_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body shorter than announced is a 408 and frees its place (adverse list, 24)."""
    monkeypatch.setattr(body_module, "BODY_SECONDS", 0.1)
    async with listening(parts_with(tmp_path, Scripted([]))) as address:
        port = int(address.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: 500\r\n\r\n{"
        )
        assert b" 408 " in await asyncio.wait_for(reader.readline(), 60)
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("phase", ["before the first byte", "in mid-stream", "in a plain answer"])
async def test_the_client_leaves(tmp_path: Path, phase: str) -> None:
    """In every phase the upstream is released soon after the client has gone (adverse list, 21, 22)."""
    never = asyncio.Event()
    provider = Scripted([HI, never], before=never if phase == "before the first byte" else None)
    async with listening(parts_with(tmp_path, provider)) as address, aiohttp.ClientSession() as session:
        body = question(model="m", stream=phase != "in a plain answer")
        asked = asyncio.create_task(session.post(f"{address}/v1/chat/completions", json=body))
        if phase == "in mid-stream":
            answer = await asked
            await answer.content.readline()
            answer.close()
        else:
            await soon(lambda: provider.opened)
            asked.cancel()
        await soon(lambda: provider.released)


async def test_leaving_storm(tmp_path: Path) -> None:
    """After two hundred clients that came and left, no task and no upstream remains (adverse list, 37)."""
    provider = Scripted([HI, asyncio.Event()])
    async with listening(parts_with(tmp_path, provider)) as address, aiohttp.ClientSession() as session:

        async def come_and_go() -> None:
            answer = await session.post(f"{address}/v1/chat/completions", json=question(model="m", stream=True))
            await answer.content.readline()
            answer.close()

        async def storm(times: int) -> None:
            left = provider.released + 20 * times
            for _ in range(times):
                await asyncio.gather(*(come_and_go() for _ in range(20)))
            await soon(lambda: provider.released == left)

        await storm(1)  # the first opens what stays
        before = len(asyncio.all_tasks())
        await storm(9)
        await soon(lambda: len(asyncio.all_tasks()) < before + 8)


async def test_a_slow_reader_holds_the_upstream_back(tmp_path: Path) -> None:
    """Who does not read makes the upstream wait instead of filling our memory (adverse list, 23)."""
    sent = 0

    async def flood() -> AsyncIterator[list[dict[str, Any]]]:
        nonlocal sent
        piece = {"choices": [{"index": 0, "delta": {"content": "x" * 65000}, "finish_reason": None}]}
        for _ in range(4096):  # 256 MiB
            sent += 65000
            yield [piece]

    provider = Scripted([])
    provider.chunks = flood  # type: ignore[method-assign]
    async with listening(parts_with(tmp_path, provider)) as address:
        port = int(address.rsplit(":", 1)[1])
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        body = json.dumps(question(model="m", stream=True)).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        last = -1
        while sent != last or not sent:
            last = sent
            await asyncio.sleep(0.3)
        assert sent < 16 * 1024 * 1024
        writer.close()
        await soon(lambda: provider.released)


@pytest.mark.parametrize("begun", [True, False])
async def test_the_server_stops(tmp_path: Path, begun: bool) -> None:
    """At the server's end a running answer is ended by an error that says so, not by silence (adverse list, 48)."""
    never = asyncio.Event()
    provider = Scripted([HI, never], before=None if begun else never)
    async with aiohttp.ClientSession() as session:
        async with listening(parts_with(tmp_path, provider)) as address:
            asked = asyncio.create_task(session.post(f"{address}/v1/chat/completions", json=question(model="m", stream=True)))
            await soon(lambda: provider.opened)
            if begun:
                await asked
        answer = await asked
        body = await answer.read()
    error = json.loads(body.removeprefix(WHOLE).removeprefix(b"data: "))["error"]
    assert (answer.status, error["code"], error["retryable"]) == (200 if begun else 503, "server_stopping", True)
    assert body.startswith(WHOLE) is begun
    assert provider.released == 1
