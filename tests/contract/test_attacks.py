"""The relay between an attacker on either side: no byte of one answer or request becomes part of another."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

import pytest
from fakes import openai
from fakes.gateway import QUICK, parts_of
from fakes.wire import chunked, events
from serving import asking, question

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
