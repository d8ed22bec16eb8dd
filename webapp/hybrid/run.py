"""One request, from its first token to its one end: at most one change of provider, exactly one final chunk or one exception.

A `Run` owns a task that drives the plan (one leg, or two: the second is the rescue) and a queue of chunks. The consumer's
handle, `stream.ChunkStream`, only takes from the queue: it holds the run, the run does not hold it, so a consumer that walks
away, by `aclose()`, by cancellation or by forgetting the stream, ends the task and with it all that the runtimes held.

Before the first token a failed leg is replaced (a fallback); after it the next model continues the very text that was shown (a
handover). A stop is immediate: undelivered chunks are dropped, the consumer gets `Aborted` at once, and the runtime frees its
engine or connection in the background.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from hybr.webapp.hybrid.errors import Aborted, HybridError, ProviderError, TimedOut
from hybr.webapp.hybrid.handover import Joiner, continuation
from hybr.webapp.hybrid.leg import NO_USAGE, Attempt, check_alive, decode_rate
from hybr.webapp.hybrid.types import Call, Chunk, Completion, Timings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from hybr.webapp.hybrid.account import Account, Outcome
    from hybr.webapp.hybrid.events import EventBus
    from hybr.webapp.hybrid.leg import Leg
    from hybr.webapp.hybrid.types import Final, Message, Options, Provider, Usage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Desk:
    """What all runs share: where events go, where spending is booked, the wall clock (s)."""

    events: EventBus
    account: Account
    now: Callable[[], float] = time.time


class Run:
    """See the module. `plan` gives the legs in order; it is asked in the task, since finding a model may need the network."""

    def __init__(
        self,
        desk: Desk,
        messages: tuple[Message, ...],
        options: Options,
        plan: Callable[[], Awaitable[list[Leg]]],
        *,
        streaming: bool,
    ) -> None:
        self.id = options.request_id
        self.text = ""
        self.delivered = ""
        self.completion: Completion | None = None
        self.error: BaseException | None = None
        self.over = False
        self.stands_in = False
        self._desk = desk
        self._messages = messages
        self._options = options
        self._plan = plan
        self._streaming = streaming
        self._queue: deque[Chunk] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop
        self._task: asyncio.Task[None] | None = None
        self._works: set[asyncio.Task[Final]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._attempt: Attempt | None = None
        self._joiner: Joiner | None = None
        self._segment = 0
        self._decision = ""
        self._spent = NO_USAGE
        self._cost: float | None = 0.0
        self._fallback: dict[str, Any] | None = None
        self._handover: dict[str, Any] | None = None
        self._started = 0.0
        self._ttft_ms: float | None = None
        self.on_end: Callable[[Run], object] = lambda _: None
        self.on_leg: Callable[[Provider, Exception | None], object] = lambda *_: None

    # -- the consumer's side

    def start(self) -> None:
        """Begin, once; later calls do nothing."""
        if self._task or self.over:
            return
        self._loop = loop = asyncio.get_running_loop()
        self._started = loop.time()
        self._task = loop.create_task(self._drive())
        if self._options.timeout_ms is not None:
            self._timer = loop.call_later(self._options.timeout_ms / 1000, self._expire, self._options.timeout_ms)

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
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

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
        if self._works:
            await asyncio.wait(self._works)

    def _give_up(self) -> None:
        self._queue.clear()
        if self._attempt:
            self._book("stopped", self._attempt.usage(), None)
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
            legs = await self._plan()
            self._finish(await self._legs(legs))
        except HybridError as error:
            error.text = error.text or self.text
            self._end(error)
        except Exception as error:  # a bug of ours must end the request, not hang it; and is never retried (D17)
            log.exception("request %s failed by a bug", self.id)
            bug = HybridError(f"Something in this page is broken: {error!r}", code="internal")
            bug.text = self.text
            self._end(bug)

    async def _legs(self, legs: list[Leg]) -> Final:
        first, *rest = legs
        self._decision, self.stands_in = first.reason, first.stands_in
        try:
            return await self._leg(first, self._call(first, "mode"))
        except ProviderError as error:
            if not rest or not self._may_change():
                raise
            second = rest[0]
            detail: dict[str, Any] = {
                "from": first.provider,
                "to": second.provider,
                "error": error.to_dict(),
                "request_id": self.id,
            }
        if self.text and self._constrained() and not self._streaming:
            self.text = ""  # nobody has seen it: the second model begins anew, and the fallback says so
            detail["restart"] = True
        if self.text:
            return await self._leg(second, self._hand_over(second, detail))
        self._fallback = detail
        self._note("fallback", detail)
        return await self._leg(second, self._call(second, "fallback"))

    def bereft(self, error: dict[str, Any]) -> None:
        """The local model that this run's leg stands in for will not come: what began as a stopgap is a fallback, told as one."""
        self.stands_in = False
        self._fallback = {"from": "local", "to": "cloud", "error": dict(error), "request_id": self.id}
        self._note("fallback", self._fallback)

    def _may_change(self) -> bool:
        """Half a JSON document or tool call cannot be continued by another model, and what was shown is not taken back."""
        return not (self.text and self._streaming and self._constrained())

    def _constrained(self) -> bool:
        form = self._options.response_format
        return bool(self._options.tools) or (form is not None and form["type"] != "text")

    def _hand_over(self, second: Leg, detail: dict[str, Any]) -> Call:
        self._segment += 1
        cut = len(self.text.encode("utf-16-le")) // 2  # JavaScript counts UTF-16 units
        self._handover = {**detail, "cause": detail["error"]["code"], "at_chars": cut}
        self._note("handover", self._handover)
        self._joiner = None if second.prefill else Joiner(self.text)
        messages = continuation(self._messages, self.text, prefill=second.prefill)
        options = self._options
        if options.max_output_tokens:
            left = max(1, options.max_output_tokens - self._spent.completion_tokens)
            options = replace(options, max_output_tokens=left)
        return Call(self.id, messages, options, second.model, prefix=self.text, cause="handover")

    def _note(self, kind: Literal["fallback", "handover"], detail: dict[str, Any]) -> None:
        self._desk.account.changed(kind, {**detail, "timestamp": self._desk.now()})
        self._desk.events.emit(f"hybrid-llm:{kind}", detail)

    def _call(self, leg: Leg, cause: Literal["mode", "fallback"]) -> Call:
        return Call(self.id, self._messages, self._options, leg.model, cause=cause)

    async def _leg(self, leg: Leg, call: Call) -> Final:
        """Walk one leg. Raises what it raises; what it spent is booked."""
        if leg.chat is None:
            raise leg.error or ProviderError(f"The {leg.provider} side cannot be asked.")
        attempt = self._attempt = Attempt(leg, self._loop.time())
        try:
            final = await self._watch(attempt, leg.chat(call, lambda delta: self._emit(attempt, delta)))
        except Exception as error:
            self._book("error", attempt.usage(), None)
            self.on_leg(leg.provider, error)
            raise
        self.on_leg(leg.provider, None)
        return final

    async def _watch(self, attempt: Attempt, chat: Coroutine[Any, Any, Final]) -> Final:
        """Await the leg in a task of its own, so that a silent one can be left behind while it still cleans up.

        No timer is touched per token: now and then one looks whether any came since.
        """
        work = self._loop.create_task(chat)
        self._works.add(work)
        work.add_done_callback(self._left)
        leg, patience = attempt.leg, attempt.leg.first_s
        seen = leg.pulse() if leg.pulse else 0
        try:
            while not (await asyncio.wait([work], timeout=patience))[0]:
                pulse = leg.pulse() if leg.pulse else attempt.deltas
                check_alive(leg, pulse, seen, patience)
                patience, seen = leg.next_s if attempt.deltas else leg.first_s, pulse
        except BaseException:
            work.cancel()
            raise
        return work.result()

    def _left(self, work: asyncio.Task[Final]) -> None:
        self._works.discard(work)
        if not work.cancelled():
            work.exception()  # seen: a leg that was left behind may end as it likes

    def _emit(self, attempt: Attempt, delta: str) -> None:
        """Take one piece of text from a leg. Once per token: kept short."""
        if self._attempt is not attempt or not delta:
            return  # the run is over, or that leg has been left behind
        attempt.deltas += 1
        if attempt.first is None:
            attempt.first = self._loop.time()
        if self._joiner is not None:
            delta = self._joiner.feed(delta)
            if not delta:
                return
        self._show(delta, attempt.leg.provider)

    def _show(self, delta: str, provider: Provider) -> None:
        if self._ttft_ms is None:
            self._ttft_ms = (self._loop.time() - self._started) * 1000
        self.text = text = self.text + delta
        if self._streaming:
            self._queue.append(Chunk(delta, text, False, provider, self._segment))
            self._desk.events.emit("hybrid-llm:stream-chunk", {"delta": delta, "provider": provider, "request_id": self.id})
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

    # -- the end

    def _finish(self, final: Final) -> None:
        attempt = self._attempt
        assert attempt is not None  # noqa: S101 - for mypy: a final comes from a leg
        if self._joiner is not None and (rest := self._joiner.flush()):
            self._show(rest, attempt.leg.provider)
        usage = final.usage or attempt.usage()
        last = self._loop.time()
        timings = Timings(
            self._ttft_ms, (last - self._started) * 1000, final.prefill_tps, final.decode_tps or decode_rate(attempt, usage, last)
        )
        self._book("done", usage, final.cost, final.model)
        self.completion = Completion(
            text=self.text,
            provider=attempt.leg.provider,
            model=final.model,
            usage=self._spent,
            timings=timings,
            finish_reason=final.finish_reason,
            cost=self._cost,
            fallback=self._fallback,
            handover=self._handover,
            egress=final.egress,
            request_id=self.id,
            segments=self._segment + 1,
            tool_calls=final.tool_calls,
            decision=self._decision,
        )
        if self._streaming:
            self._queue.append(Chunk("", self.text, True, attempt.leg.provider, self._segment, self.completion))
        self._end(None)

    def _book(self, outcome: Outcome, usage: Usage, cost: float | None, model: str | None = None) -> None:
        """Book the attempt under way and take it off the table."""
        attempt, self._attempt = self._attempt, None
        assert attempt is not None  # noqa: S101 - for mypy: called once an attempt
        leg = attempt.leg
        if cost is None and (leg.provider == "local" or (outcome == "error" and not attempt.deltas)):
            cost = 0.0  # nothing was paid for what ran here, nor for a refusal
        ttft = None if attempt.first is None else (attempt.first - attempt.started) * 1000
        ms = (self._loop.time() - attempt.started) * 1000
        name = model or leg.model or "default"
        self._desk.account.book(leg.provider, name, outcome, usage, ms=ms, ttft_ms=ttft, cost=cost)
        self._spent += usage
        self._cost = None if cost is None or self._cost is None else self._cost + cost
        self._desk.events.emit("cost:updated", {"provider": leg.provider, "model": name, "cost": cost, "request_id": self.id})

    def _end(self, error: HybridError | None) -> None:
        if self.over:
            return
        self.over = True
        self.error = error
        if error is not None:
            error.usage = self._spent
        if self._timer:
            self._timer.cancel()
        self.on_end(self)
        self._tell(error)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

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
            }
            emit("hybrid-llm:complete", detail)
            if self._streaming:
                emit("hybrid-llm:stream-complete", {**detail, "chars": len(done.text)})
        elif error and self._streaming and not isinstance(error, Aborted):
            emit("hybrid-llm:stream-error", {"error": error.to_dict(), "request_id": self.id})
