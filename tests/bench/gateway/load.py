"""The load generator of the gateway bench: raw HTTP/1.1 over kept connections, as cheap whoever answers."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

STAMP = re.compile(rb"t=(\d+) ")
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """Who is asked: address, path, model and headers as that gateway wants them."""

    host: str
    port: int
    model: str
    path: str = "/v1/chat/completions"
    headers: Mapping[str, str] = field(default_factory=dict)

    def request(self, text: str, *, stream: bool) -> bytes:
        """Return one question as bytes."""
        body = json.dumps({"model": self.model, "messages": [{"role": "user", "content": text}], "stream": stream}).encode()
        told = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        head = f"POST {self.path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Type: application/json\r\n{told}"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class Taken:
    """What one answer took, in seconds: to its first chunk's arrival and to its end; each chunk's time under way."""

    first: float = 0.0
    whole: float = 0.0
    transits: list[float] = field(default_factory=list)


class Client(asyncio.Protocol):
    """One kept connection. `ask` sends a question and gives what its answer took."""

    def __init__(self) -> None:
        self.done: asyncio.Future[Taken] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class, of that shape

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that ends in an answer is a failure of the run."""
        if self.done and not self.done.done():
            self.done.set_exception(ConnectionError("the gateway hung up"))

    async def ask(self, request: bytes) -> Taken:
        """Send and wait for the whole answer. Raises RuntimeError unless it is a 200."""
        self.head, self.held, self.left, self.tail = False, b"", -1, b""
        self.taken = Taken()
        self.done = asyncio.get_running_loop().create_future()
        self.begin = time.perf_counter()
        self.transport.write(request)
        return await self.done

    def data_received(self, data: bytes) -> None:
        """Take some bytes of the answer."""
        now = time.monotonic_ns()
        assert self.done is not None
        if not self.head:
            self.held += data
            end = self.held.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data = self.held[:end], self.held[end + 4 :]
            self.head = True
            if not head.startswith(b"HTTP/1.1 200"):
                self.done.set_exception(RuntimeError(self.held[:600].decode(errors="replace")))
                return
            if found := LENGTH.search(head):
                self.left = int(found[1])
        stamps = STAMP.findall(self.tail[-40:] + data) if self.left < 0 else STAMP.findall(data)
        if stamps:
            if not self.taken.first:
                self.taken.first = time.perf_counter() - self.begin
            self.taken.transits += [(now - int(stamp)) / 1e9 for stamp in stamps]
        if self.left >= 0:
            self.left -= len(data)
            over = self.left <= 0
        else:
            # Of what came before, only an unfinished stamp and the end mark may still matter.
            joined = self.tail + data
            over = joined.endswith(b"0\r\n\r\n")
            last = joined.rfind(b"t=")
            self.tail = joined[last:] if last >= 0 and not STAMP.match(joined, last) else joined[-8:].replace(b"t=", b"")
        if over and not self.done.done():
            self.taken.whole = time.perf_counter() - self.begin
            self.done.set_result(self.taken)


async def connect(target: Target) -> Client:
    """Open one connection."""
    _, client = await asyncio.get_running_loop().create_connection(Client, target.host, target.port)
    return client


async def closed_loop(target: Target, request: bytes, *, clients: int, seconds: float, most: int = 1_000_000) -> list[Taken]:
    """Ask again as soon as an answer is whole, on `clients` connections, for `seconds` or `most` answers."""
    taken: list[Taken] = []
    end = time.perf_counter() + seconds

    async def work() -> None:
        client = await connect(target)
        while time.perf_counter() < end and len(taken) < most:
            taken.append(await client.ask(request))
        client.transport.close()

    await asyncio.gather(*(work() for _ in range(clients)))
    return taken


async def starve(target: Target, request: bytes, seconds: float) -> None:
    """Ask, read one piece, and then nothing for `seconds`: a reader that has fallen asleep."""
    reader, writer = await asyncio.open_connection(target.host, target.port, limit=4096)
    writer.write(request)
    await reader.read(1024)
    await asyncio.sleep(seconds)
    writer.transport.abort()


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of `values` lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
