"""An HTTP server whose every byte the test decides: it records what it was asked, and plays a script."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: Any


Script = list["bytes | asyncio.Event | float"]
NEVER = 3600.0  # seconds; for a script that several tests share: an event belongs to the loop of the first


def head(status: int = 200, kind: str = "text/event-stream", **headers: str) -> bytes:
    """Return a response's head; the body ends with the connection."""
    given = {"content-type": kind, "connection": "close", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return f"HTTP/1.1 {status} X\r\n".encode() + b"".join(f"{n}: {v}\r\n".encode() for n, v in given.items()) + b"\r\n"


def chunked(piece: bytes) -> bytes:
    """Return a piece of a chunked body."""
    return f"{len(piece):x}\r\n".encode() + piece + b"\r\n"


def answered(status: int, body: Any, kind: str = "application/json", **headers: str) -> Script:
    """Return a whole answer."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return [head(status, kind, content_length=str(len(raw)), **headers), raw]


def streamed(*pieces: bytes | asyncio.Event | float) -> Script:
    """Return a good stream's answer, chunked, with its proper end."""
    first = head(transfer_encoding="chunked").replace(b"connection: close\r\n", b"")
    return [first, *(chunked(piece) if isinstance(piece, bytes) else piece for piece in pieces), b"0\r\n\r\n"]


@dataclass
class Wire:
    """The server. `script` gives the answer to one request: bytes to send, events or seconds to wait for; then it closes."""

    script: Callable[[Asked], Script]
    asked: list[Asked] = field(default_factory=list)
    gone: int = 0
    address: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and note when the client left before the script's end."""
        try:
            raw = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *lines = raw.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            method, target, _ = line.split(" ")
            asked = Asked(method, target, headers, json.loads(body) if body else None)
            self.asked.append(asked)
            playing = asyncio.create_task(self._play(self.script(asked), writer))
            leaving = asyncio.create_task(reader.read(1))
            await asyncio.wait({playing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            self.gone += not playing.done()
            for task in (playing, leaving):
                task.cancel()
            await asyncio.gather(playing, leaving, return_exceptions=True)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _play(self, script: Script, writer: asyncio.StreamWriter) -> None:
        for item in script:
            if isinstance(item, bytes):
                writer.write(item)
                await writer.drain()
            elif isinstance(item, asyncio.Event):
                await item.wait()
            else:
                await asyncio.sleep(item)


@contextlib.asynccontextmanager
async def wired(script: Callable[[Asked], Script]) -> AsyncIterator[Wire]:
    """Serve on a free port."""
    wire = Wire(script)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield wire
    finally:
        server.close()
        await server.wait_closed()


def events(*items: Any, name: Callable[[Any], str] | None = None, end: bytes = b"\n\n") -> bytes:
    """Return items as Server-Sent Events, with event names where the provider sends them."""
    out = b""
    for item in items:
        out += f"event: {name(item)}".encode() + end[: len(end) // 2] if name else b""
        out += b"data: " + (item if isinstance(item, bytes) else json.dumps(item, ensure_ascii=False).encode()) + end
    return out
