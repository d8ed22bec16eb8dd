"""The scripted upstream of the gateway bench: OpenAI's wire, no model, as little work as Python can do for an answer.

The user's text scripts it: `plan:32x20` answers with 32 chunks, 20 ms apart (0: all at once); `flood:256` with 256 MiB of chunks
as fast as they are taken. Each chunk holds the moment it was written (`t=`, nanoseconds of the machine-wide monotonic clock), so
that the client can tell how long it was under way. Run as a program: `provider.py PORT`.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import cast

import uvloop

PLAN = re.compile(rb"plan:(\d+)x(\d+)")
FLOOD = re.compile(rb"flood:(\d+)")
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
STREAM = re.compile(rb'"stream" *: *true')
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
SHAPE = b'"id":"chatcmpl-b","object":"chat.completion.chunk","created":1,"model":"bench"'
LAST = (
    b"data: {" + SHAPE + b',"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b"data: {" + SHAPE + b',"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":%d,"total_tokens":%d}}\n\n'
    b"data: [DONE]\n\n"
)
MODELS = b'{"object":"list","data":[{"id":"bench","object":"model","created":1,"owned_by":"bench"}]}'
WHOLE = (
    b'{"id":"chatcmpl-b","object":"chat.completion","created":1,"model":"bench","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"t=%d "},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}'
)


def piece() -> bytes:
    """Return one event that holds the time of its making."""
    text = b'"t=%d "' % time.monotonic_ns()
    return b"data: {" + SHAPE + b',"choices":[{"index":0,"delta":{"content":' + text + b'},"finish_reason":null}]}\n\n'


def chunk(data: bytes) -> bytes:
    """Return `data` as one HTTP chunk."""
    return b"%x\r\n" % len(data) + data + b"\r\n"


class Connection(asyncio.Protocol):
    """One client: requests in turn, each answered by its plan."""

    def __init__(self) -> None:
        self.held = b""
        self.task: asyncio.Task[None] | None = None
        self.room = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class, of that shape
        self.room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop writing to nobody."""
        if self.task:
            self.task.cancel()

    def pause_writing(self) -> None:
        """Wait: the gateway reads slower than we write."""
        self.room.clear()

    def resume_writing(self) -> None:
        """Go on."""
        self.room.set()

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self.held += data
        while (end := self.held.find(b"\r\n\r\n")) >= 0:
            head = self.held[:end]
            found = LENGTH.search(head)
            stop = end + 4 + (int(found[1]) if found else 0)
            if len(self.held) < stop:
                return
            body, self.held = self.held[end + 4 : stop], self.held[stop:]
            self.answer(head, body)

    def answer(self, head: bytes, body: bytes) -> None:
        """Begin the answer that the request's text asks for."""
        if head.startswith(b"GET"):
            self.plain(MODELS)
        elif not STREAM.search(body):
            self.plain(WHOLE % time.monotonic_ns())
        elif flood := FLOOD.search(body):
            self.task = asyncio.create_task(self.flood(int(flood[1]) << 20))
        else:
            found = PLAN.search(body)
            count, gap = (int(found[1]), int(found[2])) if found else (1, 0)
            if gap:
                self.task = asyncio.create_task(self.paced(count, gap / 1000))
            else:
                events = b"".join(chunk(piece()) for _ in range(count))
                self.transport.write(HEAD + events + chunk(LAST % (count, count + 9)) + b"0\r\n\r\n")

    def plain(self, body: bytes) -> None:
        """Send one JSON answer."""
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )

    async def paced(self, count: int, gap: float) -> None:
        """Send `count` events, `gap` seconds apart; the first at once."""
        self.transport.write(HEAD)
        for turn in range(count):
            if turn:
                await asyncio.sleep(gap)
            self.transport.write(chunk(piece()))
        self.transport.write(chunk(LAST % (count, count + 9)) + b"0\r\n\r\n")

    async def flood(self, size: int) -> None:
        """Send `size` bytes of events as fast as they are taken."""
        self.transport.write(HEAD)
        block = chunk(b"".join(piece() for _ in range(200)))  # LiteLLM gives up on a model that repeats itself
        for _ in range(size // len(block) + 1):
            await self.room.wait()
            self.transport.write(block)
        self.transport.write(chunk(LAST % (1, 10)) + b"0\r\n\r\n")


async def serve(port: int) -> None:
    """Answer until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
