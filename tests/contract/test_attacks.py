"""The relay between an attacker on either side: no byte of one answer or request becomes part of another."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

import pytest
from fakes import openai
from fakes.gateway import QUICK, parts_of
from fakes.raw import GET, HOST, POST, Line, dialled, goes_on
from fakes.wire import chunked, events, streamed, wired
from serving import asking, listening, parts_in, question

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = STREAM + b"transfer-encoding: chunked\r\n\r\n"
GOOD = events(*openai.told("Hi"))
WHOLE = CHUNKED + chunked(GOOD) + b"0\r\n\r\n"
EVIL = CHUNKED + chunked(events(*openai.told("evil"))) + b"0\r\n\r\n"


@contextlib.asynccontextmanager
async def provided(first: list[bytes | float]) -> AsyncIterator[tuple[list[int], str]]:
    """A provider that keeps connections: the first question gets `first`, all others `WHOLE`. Gives questions a connection."""
    counts: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            told = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            if told.startswith("get"):
                writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                writer.close()
                return
            counts.append(0)
            while True:
                await reader.readexactly(int(told.partition("content-length:")[2].split()[0]))
                counts[-1] += 1
                for item in first if sum(counts) == 1 else [WHOLE]:
                    if isinstance(item, bytes):
                        writer.write(item)
                        await writer.drain()
                    else:
                        await asyncio.sleep(item)
                told = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield counts, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def said(text: str) -> str:
    """Return the words of a streamed answer."""
    found = ""
    for line in text.splitlines():
        if line.startswith("data: {") and "choices" in line:
            for choice in json.loads(line[6:])["choices"]:
                found += choice["delta"].get("content") or ""
    return found


SMUGGLED: dict[str, list[bytes | float]] = {
    "in one packet": [WHOLE + EVIL],
    "a packet later": [WHOLE, 0.05, EVIL],
    "behind a length": [STREAM + b"content-length: %d\r\n\r\n" % len(GOOD) + GOOD + EVIL],
    "behind a length, later": [STREAM + b"content-length: %d\r\n\r\n" % len(GOOD) + GOOD, 0.05, EVIL],
    "half a head": [WHOLE + b"HTTP/1.1 200 OK\r\nx-a: "],
    "half a head, later": [WHOLE, 0.05, b"HTTP/1.1 200 OK\r\nx-a: "],
    "garbage": [WHOLE + b"\x00\xffgarbage\r\n\r\n"],
    "an interim head": [WHOLE + b"HTTP/1.1 103 Early Hints\r\n\r\n"],
    "two bodies": [STREAM + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n" + chunked(GOOD) + b"0\r\n\r\n" + EVIL],
    "a done before the end": [CHUNKED + chunked(GOOD) + chunked(events(*openai.told("more"))) + b"0\r\n\r\n" + EVIL],
    "an extended chunk": [CHUNKED + b'%x;a="\r\n' % len(GOOD) + GOOD + b"\r\n0\r\n\r\n" + EVIL],
    "a trailer": [CHUNKED + chunked(GOOD) + b"0\r\nx-evil: HTTP/1.1 200 OK\r\n\r\n" + EVIL],
}


@pytest.mark.parametrize("name", SMUGGLED)
async def test_an_answer_nobody_asked_for(tmp_path: Path, name: str) -> None:
    """What a provider sends behind an answer is never the next one: the second caller hears their own or an error."""
    ask = question(model="openai/gpt-5-mini", stream=True)
    async with (
        provided(SMUGGLED[name]) as (counts, address),
        asking(parts_of(tmp_path, "openai", address, openai.KEY, QUICK)) as client,
    ):
        await client.post("/v1/chat/completions", json=ask)
        await asyncio.sleep(0.1)
        for _ in range(2):
            answer = await client.post("/v1/chat/completions", json=ask)
            assert said(answer.text) == "Hi", (answer.status_code, answer.text, counts)


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    """A server with nothing behind it."""
    async with listening(parts_in(tmp_path)) as found:
        yield found


ENDLESS = [b"0\r\nX-Trailer: ", b"0\r\n", b"1;a=", b"1\r\n{\r\n1;a="]
MORE = [b"x" * 4096, b"X-Y: z\r\n" * 512, b"b" * 4096, b"c" * 4096]


@pytest.mark.parametrize(("begin", "more"), list(zip(ENDLESS, MORE, strict=True)))
async def test_a_body_that_is_all_wrapping(address: str, begin: bytes, more: bytes) -> None:
    """A trailer or a chunk's extension that does not end is refused at the headers' bound, not kept until memory ends."""
    async with dialled(address) as line:
        await line.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + begin)
        sending = asyncio.create_task(line.send(*[more] * 4096))
        status, told = await line.answer()
        assert (status, told["error"]["code"]) == (431, "headers_too_large")
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    await goes_on(address)


async def test_a_body_in_pieces_of_one_byte(address: str) -> None:
    """A body whose every byte has a chunk and a packet of its own is a body."""
    raw = json.dumps(question(model="no/such", note="x" * 8000)).encode()
    async with dialled(address) as line:
        await line.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        await line.send(*[b"1;a=b\r\n%c\r\n" % byte for byte in raw], b"0\r\nX-Trailer: y\r\n\r\n")
        status, told = await line.answer()
        assert (status, told["error"]["field"]) == (400, "note")


@contextlib.asynccontextmanager
async def streaming(folder: Path, release: asyncio.Event) -> AsyncIterator[Line]:
    """A client's connection in the middle of a streamed answer, which goes on at `release`."""
    script = streamed(events(openai.chunk({"content": "Hi "})), release, events(*openai.told("end")))
    raw = json.dumps(question(model="openai/gpt-5-mini", stream=True)).encode()
    async with (
        wired(lambda asked: script if asked.method == "POST" else []) as fake,
        listening(parts_of(folder, "openai", fake.address, openai.KEY, QUICK)) as found,
        dialled(found) as line,
    ):
        await line.send(POST + b"Content-Length: %d\r\n\r\n" % len(raw) + raw)
        assert (await line.head())[0] == 200
        await line.reader.readuntil(b"Hi ")
        yield line


@pytest.mark.parametrize(
    "more", [b"\x00\xff\r\n\r\n", GET + b"X: " + b"y" * 65536 + b"\r\n\r\n", b"GET http://x/ HTTP/1.1\r\n\r\n"]
)
async def test_nonsense_behind_a_question(tmp_path: Path, more: bytes) -> None:
    """What is no request, sent while an answer runs, ends the connection: no refusal is written into the answer."""
    async with streaming(tmp_path, asyncio.Event()) as line:
        await line.send(more)
        assert b"HTTP/1.1" not in await line.ended()


async def test_the_next_question_waits(tmp_path: Path) -> None:
    """A request that is sent while an answer runs is answered behind it and not within."""
    release = asyncio.Event()
    async with streaming(tmp_path, release) as line:
        await line.send(GET + HOST + b"\r\n")
        release.set()
        rest = await line.reader.readuntil(b"0\r\n\r\n")
        assert b"data: [DONE]" in rest
        assert b"HTTP/1.1" not in rest
        assert (await line.head())[0] == 200


async def test_nonsense_behind_an_answer(address: str) -> None:
    """A body that turns out to be none after it was answered gets no second answer."""
    async with dialled(address) as line:
        await line.send(GET + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
        _, headers = await line.head()
        await line.reader.readexactly(int(headers["content-length"]))
        await line.send(b"zz\r\n")
        assert await line.ended() == b""


async def test_an_old_client(tmp_path: Path) -> None:
    """HTTP/1.0 has no chunks: a stream's answer is bare and ends with the connection."""
    raw = json.dumps(question(model="openai/gpt-5-mini", stream=True)).encode()
    async with (
        wired(openai.answer) as fake,
        listening(parts_of(tmp_path, "openai", fake.address, openai.KEY, QUICK)) as found,
        dialled(found) as line,
    ):
        await line.send(POST.replace(b"1.1", b"1.0") + b"Content-Length: %d\r\n\r\n" % len(raw) + raw)
        status, headers = await line.head()
        text = await line.ended()
    assert (status, headers.get("transfer-encoding"), headers["connection"]) == (200, None, "close")
    assert text.startswith(b"data: {")
    assert text.endswith(b"data: [DONE]\n\n")


async def test_who_asks_before_sending(address: str) -> None:
    """Who waits for 100 Continue gets it when the body is wanted, and an answer without it when it is not."""
    raw = b'{"messages": 1}'
    async with dialled(address) as line:
        await line.send(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(raw))
        assert (await line.head())[0] == 100
        await line.send(raw)
        assert (await line.answer())[0] == 400
    async with dialled(address) as line:
        await line.send(POST.replace(b"json", b"text") + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert (await line.answer())[0] == 415


async def test_only_the_head(address: str) -> None:
    """HEAD gets a head and nothing behind it that the next answer could begin with."""
    async with dialled(address) as line:
        await line.send(GET.replace(b"GET", b"HEAD") + HOST + b"\r\n" + GET + HOST + b"\r\n")
        first, second = await line.head(), await line.head()
        assert (first[0], second[0]) == (200, 200)
        assert json.loads(await line.reader.readexactly(int(second[1]["content-length"])))


@pytest.mark.parametrize("before", [b"", GET + HOST + b"\r\n"])
@pytest.mark.parametrize("line_", [GET + b"X: " + b"y" * 17_000 + b"\r\n", b"GET /" + b"y" * 17_000 + b" HTTP/1.1\r\n"])
async def test_25_large_headers_in_one_piece(address: str, before: bytes, line_: bytes) -> None:
    """Headers above the bound are refused also when they come whole in one packet, of a connection's first request or a later."""
    async with dialled(address) as line:
        if before:
            await line.send(before)
            _, headers = await line.head()
            await line.reader.readexactly(int(headers["content-length"]))
        await line.send(line_ + HOST + b"\r\n")
        status, told = await line.answer()
        assert (status, told["error"]["code"]) == (431, "headers_too_large")
