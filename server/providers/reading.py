"""One answer as it is read from a provider behind a network: its clock, its failures in our words, its connection's end.

All answers of a provider share one timer: each wait only says until when it may last, and the timer rings when the earliest of
these moments has come. Most never come, and a timer of its own would cost an answer more than reading its words.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp

from hybr.server import egress
from hybr.server.errors import DeniedError, SlowUpstreamError, UpstreamError

if TYPE_CHECKING:
    from hybr.server.providers.dialect import Stream
    from hybr.server.providers.line import Reply, Way
    from hybr.server.providers.remote import Patience

ANSWER = 64 * 1024 * 1024  # bytes of one streamed answer
ATTEMPTS = 3
PARTING = 0.25  # seconds in which the rest of a whole answer comes, or its connection is not kept
AFRESH = 1.0  # seconds between looks at what should have ended


class Clock:
    """The waits of one provider's answers, and the timer that ends those that last too long."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.running: set[Reading] = set()
        self._at = float("inf")
        self._timer: asyncio.TimerHandle | None = None

    def expect(self, moment: float) -> None:
        """Look at the answers at `moment` of the loop's time, or before."""
        if moment < self._at:
            self.stop()
            self._at, self._timer = moment, self.loop.call_at(moment, self._ring)

    def stop(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._at, self._timer = float("inf"), None

    def _ring(self) -> None:
        self._at, self._timer = float("inf"), None
        now = self.loop.time()
        for one in list(self.running):
            one.look(now)
        if self.running:
            self.expect(min(one.until for one in self.running))


class Reading:
    """One answer being read, with its clock: iterated, it gives the chunks in the lots in which they come.

    Entered (`with`), it turns the network's failures into ours.
    """

    __slots__ = (
        "ahead", "attempts", "begun", "clock", "deadline", "patience", "reply", "size", "stream", "until",
    )  # fmt: skip

    def __init__(self, stream: Stream, patience: Patience, clock: Clock) -> None:
        now = clock.loop.time()
        self.clock = clock
        self.stream = stream
        self.patience = patience
        self.until = now + patience.first
        self.deadline = now + patience.total
        self.begun = False
        self.attempts = 1
        self.size = 0
        self.reply: Reply | None = None
        self.ahead: list[dict[str, Any]] | None = None  # the chunks with which the answer began
        clock.running.add(self)
        clock.expect(self.until)

    async def first(self) -> list[dict[str, Any]]:
        """Return the first chunks. Raises UpstreamError for a stream that fails before it says anything."""
        with self:
            while not (out := await self._step()) and not self.stream.over:
                pass
        self.begun = True
        self.until = self.deadline
        return out

    def __aiter__(self) -> Reading:
        return self

    async def __anext__(self) -> list[dict[str, Any]]:
        """Return the next chunks. Raises UpstreamError when the answer breaks off."""
        if self.ahead is not None:
            out, self.ahead = self.ahead, None
            return out
        while not self.stream.over:
            if self.stream.failure:
                raise self.stream.failure
            self.until = min(self.clock.loop.time() + self.patience.idle, self.deadline)
            self.clock.expect(self.until)
            with self:
                out = await self._step()
            self.until = self.deadline  # a client that takes its time is not the provider's silence
            if out:
                return out
        raise StopAsyncIteration

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Turn what the network raises into our errors; their texts name the provider and no address."""
        if error is None:
            return
        name, begun = self.stream.name, self.begun
        if isinstance(error, TimeoutError):
            what, code = ("stopped in mid-answer", "stream_stalled") if begun else ("did not answer in time", "timeout")
            raise SlowUpstreamError(f"{name} {what}", code=code, attempts=1) from None
        if isinstance(error, aiohttp.ClientSSLError):
            raise DeniedError(f"{name}'s certificate is not to be trusted", code="bad_certificate", attempts=1) from None
        if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, egress.PrivateAddressError):
            raise DeniedError(f"{name}'s name leads into a private network", code="private_address", attempts=1) from None
        if isinstance(error, aiohttp.ClientConnectorError):
            raise UpstreamError(f"{name} cannot be reached", code="unreachable", attempts=1) from None
        if isinstance(error, aiohttp.ClientError | OSError | ValueError):
            what, code = ("'s answer was cut off", "stream_cut") if begun else (" broke the connection", "connection_broken")
            raise UpstreamError(f"{name}{what}", code=code, attempts=1) from None

    def part(self) -> bool:
        """Let the connection go: whole answers give it back, all others cut it, and with it the generation.

        Returns False where a whole answer's connection waits for its last packet; see `rest`.
        """
        self.clock.running.discard(self)
        reply = self.reply
        if reply is None or reply.whole:
            return True
        if self.stream.over:
            return False
        reply.close()
        return True

    async def rest(self) -> None:
        """Read to the end of a whole answer's body: aiohttp keeps a connection only when it has seen it."""
        assert self.reply is not None  # noqa: S101  for mypy: `part` said so
        try:
            async with asyncio.timeout(PARTING):
                while await content(self.reply).readany():
                    pass
        except (TimeoutError, aiohttp.ClientError, OSError):
            pass
        finally:
            self.reply.close()  # nothing, where it has gone back

    async def _step(self) -> list[dict[str, Any]]:
        piece = await self.reply.content.readany()  # type: ignore[union-attr]  # it has been asked
        self.size += len(piece)
        if self.size > ANSWER:
            raise UpstreamError(f"{self.stream.name}'s answer is too long", code="answer_too_large", attempts=1)
        out = self.stream.feed(piece) if piece else self.stream.end()
        if self.stream.failure and not out:
            raise self.stream.failure
        return out

    def look(self, now: float) -> None:
        """End a wait that has lasted too long."""
        if now >= self.until:
            self.until = now + AFRESH
            if self.reply is not None:  # connecting has a limit of its own
                self.reply.fail(TimeoutError())


async def post(way: Way, head: bytes, body: bytes, reading: Reading) -> Reply:
    """Return the reply once its head is there. A kept connection that ends before a byte was closed before it got our request."""
    while True:
        reading.reply = reply = await way.connect()
        try:
            await reply.ask(head, body)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            reading.reply = None
            if not reply.reused or reading.attempts >= ATTEMPTS:
                raise
            reading.attempts += 1
        else:
            return reply


def content(reply: Reply) -> aiohttp.StreamReader:
    """Return the body of a reply whose head has been read."""
    assert reply.content is not None  # noqa: S101  for mypy
    return reply.content


async def bounded(content: aiohttp.StreamReader, most: int) -> bytes:
    """Return the first `most` bytes of a body."""
    raw = bytearray()
    async for chunk in content.iter_any():
        raw += chunk
        if len(raw) >= most:
            break
    return bytes(raw[:most])
