"""One request, from its first token to its one end: exactly one final chunk or one exception.

A `Run` owns a task that walks the plan (`walk.Walk`) and a queue of chunks. The consumer's handle, `stream.ChunkStream`, only
takes from the queue: it holds the run, the run does not hold it, so a consumer that walks away, by `aclose()`, by cancellation
or by forgetting the stream, ends the task and with it all that the runtimes held.

A stop is immediate: undelivered chunks are dropped, the consumer gets `Aborted` at once, and the runtime frees its engine or
connection in the background.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.errors import Aborted, HybridError, TimedOut
from hybr.webapp.hybrid.types import Chunk, Completion, Timings
from hybr.webapp.hybrid.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hybr.webapp.hybrid.answer import Answer, Asked
    from hybr.webapp.hybrid.desk import Desk
    from hybr.webapp.hybrid.leg import Attempt, Leg
    from hybr.webapp.hybrid.types import Final, Provider
    from hybr.webapp.hybrid.walk import OnLeg

log = logging.getLogger(__name__)


class Run:
    """See the module. `plan` gives the legs in order; it is asked in the task, since finding a model may need the network."""

    def __init__(self, desk: Desk, asked: Asked, plan: Callable[[], Awaitable[list[Leg]]]) -> None:
        self.id = asked.options.request_id
        self.delivered = ""
        self.completion: Completion | None = None
        self.error: BaseException | None = None
        self.over = False
        self.walk = Walk(desk, asked, plan, self._show)
        self._answer: Answer = self.walk.answer
        self._desk = desk
        self._asked = asked
        self._streaming = asked.streaming
        self._queue: deque[Chunk] = deque()
        self._waiters: list[asyncio.Future[None]] = []
        self._loop: asyncio.AbstractEventLoop
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._started = 0.0
        self._ttft_ms: float | None = None
        self.on_end: Callable[[Run], object] = lambda _: None

    @property
    def text(self) -> str:
        """The answer so far, delivered or not."""
        return self._answer.text

    def on_leg(self, heard: OnLeg) -> None:
        """Call `heard(provider, error or None)` at the end of each leg."""
        self.walk.on_leg = heard

    # -- the consumer's side

    def start(self) -> None:
        """Begin, once; later calls do nothing."""
        if self._task or self.over:
            return
        self._loop = loop = asyncio.get_running_loop()
        self._started = loop.time()
        if self._asked.prefix and self._streaming:
            self._put(Chunk(self._asked.prefix, self._asked.prefix, False, self._asked.by))
        self._task = loop.create_task(self._drive())
        limit = self._asked.options.timeout_ms
        if limit is not None:
            self._timer = loop.call_later(limit / 1000, self._expire, limit)

    async def next(self) -> Chunk | None:
        """The next chunk, None after the last. Raises what ended the run, once."""
        while True:
            if self._queue:
                chunk = self._queue.popleft()
                self.delivered = chunk.text
                return chunk
            if self.over:
                error, self.error = self.error, None
                if error is not None:
                    raise error
                return None
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)

    def stop(self) -> bool:
        """A stop: no chunk follows, the consumer gets Aborted. False if the run had ended."""
        if self.over:
            return False
        self._give_up()
        self._end(Aborted(text=self.delivered if self._streaming else self.text))
        return True

    def abandon(self) -> None:
        """The consumer walked away: end everything, tell nobody but the books."""
        if not self.over:
            self._give_up()
            self._end(None)

    async def settled(self) -> None:
        """Wait until nothing of this run is held any more."""
        if self._task:
            await asyncio.wait([self._task])
        await self.walk.settled()

    def _give_up(self) -> None:
        self._queue.clear()
        self.walk.give_up()
        if self._task:
            self._task.cancel()

    def _expire(self, limit: float) -> None:
        self._give_up()
        error = TimedOut(f"No whole answer came within timeout_ms = {limit:g}. Raise it, or ask for fewer tokens.")
        error.text = self.text
        self._end(error)

    # -- the task

    async def _drive(self) -> None:
        try:
            self._finish(*await self.walk.go())
        except HybridError as error:
            error.text = error.text or self.text
            self._end(error)
        except Exception as error:  # a bug of ours must end the request, not hang it; and is never retried (D17)
            log.exception("request %s failed by a bug", self.id)
            bug = HybridError(f"Something in this page is broken: {error!r}", code="internal")
            bug.text = self.text
            self._end(bug)
        except BaseException:  # the loop is being closed: whoever waits is told all the same
            self._end(Aborted(text=self.text))
            raise

    def _show(self, delta: str, provider: Provider, restart: bool) -> None:
        """New text. Once per token: kept short."""
        if self._ttft_ms is None:
            self._ttft_ms = (self._loop.time() - self._started) * 1000
        answer = self._answer
        answer.text = text = answer.text + delta
        if self._streaming:
            self._put(Chunk(delta, text, False, provider, answer.segment, None, restart))
            detail: dict[str, Any] = {"delta": delta, "provider": provider, "request_id": self.id}
            if restart:
                detail["restart"] = True
            self._desk.events.emit("hybrid-llm:stream-chunk", detail)

    def _put(self, chunk: Chunk) -> None:
        self._queue.append(chunk)
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    # -- the end

    def _finish(self, attempt: Attempt, final: Final) -> None:
        restart = self.walk.flush(attempt)
        if self.over:
            return  # somebody who heard the last piece of text stopped it
        usage, last = final.usage or attempt.usage(), self._loop.time()
        decode_tps = final.decode_tps or attempt.decode_rate(usage, last)
        timings = Timings(self._ttft_ms, (last - self._started) * 1000, final.prefill_tps, decode_tps)
        self.walk.finish(attempt, final)
        if self.over:
            return  # or who heard what it cost
        answer = self._answer
        self.completion = Completion(
            text=answer.text,
            provider=attempt.leg.provider,
            model=final.model,
            usage=answer.spent,
            timings=timings,
            finish_reason=final.finish_reason,
            cost=answer.cost,
            fallback=answer.fallback,
            handover=answer.handover,
            egress=final.egress,
            request_id=self.id,
            segments=answer.segment + 1,
            tool_calls=final.tool_calls,
            decision=answer.decision,
            parts=tuple(answer.parts),
            hedge=answer.hedge,
            trimmed=answer.trimmed,
            note=answer.note,
        )
        if self._streaming:
            self._put(Chunk("", answer.text, True, attempt.leg.provider, answer.segment, self.completion, restart))
        self._end(None)

    def _end(self, error: HybridError | None) -> None:
        if self.over:
            return
        self.over = True
        self.error = error
        if error is not None:
            error.usage = self._answer.spent
            error.parts = tuple(self._answer.parts)
        if self._timer:
            self._timer.cancel()
        self.on_end(self)
        self._tell(error)
        self._wake()

    def _tell(self, error: HybridError | None) -> None:
        emit = self._desk.events.emit
        if done := self.completion:
            detail = {
                "provider": done.provider,
                "model": done.model,
                "usage": done.usage.to_dict(),
                "timings": done.timings.to_dict(),
                "cost": done.cost,
                "request_id": self.id,
                "private": self._asked.options.private,
            }
            emit("hybrid-llm:complete", detail)
            if self._streaming:
                emit("hybrid-llm:stream-complete", {**detail, "chars": len(done.text)})
        elif error and self._streaming and not isinstance(error, Aborted):
            told = {"error": error.to_dict(), "request_id": self.id, "private": self._asked.options.private}
            emit("hybrid-llm:stream-error", told)
