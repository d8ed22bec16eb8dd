"""A client whose every byte the test decides, on one connection to the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOST = b"Host: localhost\r\n"
POST = b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
GET = b"GET /v1/models HTTP/1.1\r\n"


class Line:
    """One connection of bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        """Send the pieces."""
        for piece in pieces:
            self.writer.write(piece)
            with contextlib.suppress(ConnectionError):
                await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Return the status and the headers of an answer."""
        raw = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 60)).decode()
        line, *lines = raw.strip().split("\r\n")
        return int(line.split()[1]), {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}

    async def answer(self) -> tuple[int, Any]:
        """Return the status and the JSON of an answer."""
        status, headers = await self.head()
        assert headers["content-type"] == "application/json"
        assert headers["x-content-type-options"] == "nosniff"
        return status, json.loads(await self.reader.readexactly(int(headers["content-length"])))

    async def ended(self) -> bytes:
        """Return what comes until the server closes."""
        return await asyncio.wait_for(self.reader.read(), 60)


@contextlib.asynccontextmanager
async def dialled(address: str) -> AsyncIterator[Line]:
    """Connect."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rsplit(":", 1)[1]))
    try:
        yield Line(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def goes_on(address: str) -> None:
    """The server answers the next client."""
    async with dialled(address) as line:
        await line.send(GET + HOST + b"\r\n")
        assert (await line.head())[0] == 200
