"""The client's side of one answer: its bytes as they go out, and what must happen while nothing does.

One `Pulse` looks at all exchanges, so that a request costs no timer of its own. It lets a client that waits hear that we live,
and ends an exchange whose client does not read, or whose session was taken back (CVE-2026-44553).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hybr.server.errors import HybrError, RequestError
from hybr.server.spell import spell

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import Send

    from hybr.server.surfaces.base import Voice

Headers = list[tuple[bytes, bytes]]
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
JSON = (b"content-type", b"application/json")
LOOK = 1.0  # seconds between looks
BEAT = 10.0  # seconds of silence after which we say something
WRITE = 60.0  # seconds in which a client must take what we have for it


class Exchange:
    """One answer going out. `reason` says why it was ended from outside, if it was."""

    __slots__ = ("begun", "head", "last", "loop", "over", "reason", "send", "stream", "valid", "voice", "work", "writing")

    def __init__(self, send: Send, voice: Voice, head: Headers, *, stream: bool, valid: Callable[[], bool] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.send = send
        self.voice = voice
        self.head = head
        self.stream = stream
        self.valid = valid
        self.begun = False
        self.reason: HybrError | None = None
        self.over = False
        self.work = asyncio.current_task()
        self.writing = 0.0
        self.last = self.loop.time()

    async def begin(self, head: Headers) -> None:
        """Send a stream's head, with `head` about who answers. After a heartbeat it has been sent already."""
        if not self.begun:
            self.begun = True
            await self.send({"type": "http.response.start", "status": 200, "headers": [*self.head, *head, EVENTS]})

    async def say(self, data: bytes, *, more: bool = True) -> None:
        """Send whole events; waits for a client that reads slowly."""
        self.writing = self.last = self.loop.time()
        await self.send({"type": "http.response.body", "body": data, "more_body": more})
        self.writing = 0.0
        self.over = not more  # from here on the client may go: servers say so of everyone who has the whole answer

    async def whole(self, head: Headers, body: dict[str, Any]) -> None:
        """Send a plain answer."""
        raw = spell(body)
        sized = [JSON, (b"content-length", b"%d" % len(raw))]
        self.begun = True
        await self.send({"type": "http.response.start", "status": 200, "headers": [*self.head, *head, *sized]})
        await self.say(raw, more=False)

    async def beat(self) -> None:
        """Say that we live."""
        await self.begin([])
        await self.say(self.voice.beat)

    def cut(self, reason: HybrError) -> None:
        """End it; its client is told why where that is still possible."""
        if self.reason is None and self.work is not None and not self.over:
            self.reason = reason
            self.work.cancel()

    def left(self) -> None:
        """End it, for the client has gone."""
        self.cut(LeftError("the client has left", code="client_gone"))

    def calm(self) -> None:
        """Take the cancelling back: its reason is known, and the task goes on to tell it."""
        if self.work is not None:
            self.work.uncancel()

    @property
    def deaf(self) -> bool:
        """Whether the client has stopped to read."""
        return bool(self.writing) and self.loop.time() - self.writing > WRITE


class Pulse:
    """Looks at all running exchanges about once a second, as long as there are any."""

    def __init__(self) -> None:
        self.running: set[Exchange] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._beats: set[asyncio.Task[None]] = set()

    def add(self, exchange: Exchange) -> None:
        """Watch one."""
        self.running.add(exchange)
        if self._timer is None:
            self._timer = exchange.loop.call_later(min(LOOK, BEAT, WRITE), self._watch, exchange.loop)

    def remove(self, exchange: Exchange) -> None:
        """Watch it no longer."""
        self.running.discard(exchange)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self.look(list(self.running))
        # Who waits for the next look costs nothing, so the last exchange's end need not call it off.
        self._timer = loop.call_later(min(LOOK, BEAT, WRITE), self._watch, loop) if self.running else None

    def look(self, exchanges: Sequence[Exchange]) -> None:
        """See to each."""
        for one in exchanges:
            if one.deaf:
                one.cut(DeafError("the client did not read for too long", code="slow_reader"))
            elif one.valid is not None and not one.valid():
                one.cut(RevokedError("the session has ended", code="session_ended"))
            elif one.stream and not one.writing and one.loop.time() - one.last >= BEAT:
                task = asyncio.create_task(one.beat())
                self._beats.add(task)
                task.add_done_callback(self._beats.discard)


class DeafError(RequestError):
    """A client that asks and does not listen."""

    status = 408


class LeftError(RequestError):
    """A client that has gone; nobody reads this."""

    status = 499


class RevokedError(RequestError):
    """A session that was ended while its answer ran."""

    type = "authentication_error"
    status = 401
