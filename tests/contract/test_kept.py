"""A provider's connection after an answer: kept when the body came to its end, though a packet later; cut when it did not."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from fakes import openai
from fakes.gateway import QUICK, parts_of
from fakes.wire import chunked, events
from serving import asking, question

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
GOOD = events(*openai.told("Hi"))


class Provider:
    """Answers as many questions on a connection as come; the end of the body comes `late` seconds after the answer's."""

    def __init__(self, late: float | None) -> None:
        self.late = late
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                told = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                if told.startswith("get"):
                    writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                    continue
                await reader.readexactly(int(told.partition("content-length:")[2].split()[0]))
                writer.write(HEAD + chunked(GOOD))
                await writer.drain()
                if self.late is not None:
                    await asyncio.sleep(self.late)
                    writer.write(b"0\r\n\r\n")
        writer.close()


@contextlib.asynccontextmanager
async def provided(late: float | None) -> AsyncIterator[tuple[Provider, str]]:
    """Run one and give its address."""
    provider = Provider(late)
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    try:
        yield provider, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize(("late", "connections"), [(0.0, 1), (0.05, 1), (None, 3)])
@pytest.mark.parametrize("stream", [True, False])
async def test_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: float | None, connections: int, *, stream: bool
) -> None:
    """Three answers take one connection where each body comes to its end, and three where none does."""
    if late is not None:
        monkeypatch.setattr("hybr.server.providers.reading.PARTING", 30.0)  # it comes soon, but how soon is the machine's to say
    async with provided(late) as (provider, address):
        parts = parts_of(tmp_path, "openai", address, openai.KEY, QUICK)
        async with asking(parts) as client:
            for _ in range(3):
                answer = await client.post("/v1/chat/completions", json=question(model="openai/gpt-5-mini", stream=stream))
                assert answer.status_code == 200
                assert ("data: [DONE]" in answer.text) == stream
        assert provider.connections == connections
