"""The way of a request through its legs: at most one change of provider, whatever fails.

    fallback   the first leg failed before any text: the second is asked the same
    handover   it failed after some: the second goes on from the very text that was shown
    restart    the same where half a text is of no use (a tool call, a JSON document, the person's wish): the second begins
               anew, in a segment of its own that is marked so, and what was shown is kept as a struck part
    anew       it made something that cannot be used: the same model is asked once more, with no change of provider
    hedge      the first is slow: the second starts beside it, the next new text decides, the other is stopped

How a leg is asked, and asked otherwise where it cannot do what was asked, is `asking.Asking`'s.

An `Attempt` writes only while it is in the `lead`. It takes the lead with its first new text, and that is when a segment begins:
so a rescue that never says anything takes nothing back.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from hybr.webapp.hybrid import booking, sense, simpler
from hybr.webapp.hybrid.answer import Answer
from hybr.webapp.hybrid.asking import Asking
from hybr.webapp.hybrid.errors import Aborted, LocalError, ProviderError, RefusedError
from hybr.webapp.hybrid.leg import Attempt
from hybr.webapp.hybrid.types import Part

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hybr.webapp.hybrid.account import Outcome
    from hybr.webapp.hybrid.answer import Asked
    from hybr.webapp.hybrid.desk import Desk
    from hybr.webapp.hybrid.leg import Leg
    from hybr.webapp.hybrid.types import Call, Cause, Final, Provider, Usage

    Show = Callable[[str, Provider, bool], None]
    OnLeg = Callable[[Provider, Exception | None], object]


class Walk:
    """See the module. `plan` gives the legs in order; `show(delta, provider, restart)` gives new text out."""

    def __init__(self, desk: Desk, asked: Asked, plan: Callable[[], Awaitable[list[Leg]]], show: Show) -> None:
        self.answer = Answer(asked.prefix)
        self.stands_in = False
        self.on_leg: OnLeg = lambda *_: None
        self._desk = desk
        self._asked = asked
        self._plan = plan
        self._show = show
        self._loop: asyncio.AbstractEventLoop
        self._live: list[Attempt] = []
        self._lead: Attempt | None = None
        self._asking = Asking(desk, asked, self.answer, self._emit, self._thought)
        self._changed = False
        self._given_up = False

    async def go(self) -> tuple[Attempt, Final]:
        """Walk. Returns who finished, and how; raises what nobody could rescue."""
        self._loop = asyncio.get_running_loop()
        first, *rest = await self._plan()
        self.answer.decision, self.stands_in = first.reason, first.stands_in
        try:
            return await self._begin(first, rest)
        except ProviderError as error:
            failure = error
        if self._may_ask_anew(failure):
            try:
                return await self._anew(first)
            except ProviderError as error:
                failure = error
        if not rest or self._changed or not self._may_change():
            raise failure
        if refusal := rest[0].barred("handover" if self.answer.text else "fallback"):
            raise refusal from failure
        self._changed = True
        return await self._rescue(first, rest[0], failure)

    def give_up(self) -> None:
        """A stop: what is under way is booked as far as it came, and writes no more."""
        self._given_up = True
        for attempt in tuple(self._live):
            self._book(attempt, "stopped", attempt.usage())

    async def settled(self) -> None:
        """Wait until no runtime holds anything for this request."""
        await self._asking.settled()

    def bereft(self, error: dict[str, Any]) -> None:
        """The local model that this leg stands in for will not come: what began as a stopgap is a fallback, told as one."""
        self.stands_in = False
        self._note(
            "fallback", {"from": "local", "to": "cloud", "error": dict(error), "request_id": self._asked.options.request_id}
        )

    # -- the first leg, with or without another beside it

    async def _begin(self, first: Leg, rest: list[Leg]) -> tuple[Attempt, Final]:
        if self._asked.prefix:
            return await self._resumed(first)
        attempt, call = self._attempt(first, "mode"), self._asking.call(first, "mode")
        self._lead = attempt
        self._part(attempt)
        if first.bound is None or not rest or rest[0].chat is None:
            return attempt, await self._leg(attempt, call)
        main = self._loop.create_task(self._leg(attempt, call))
        try:
            slow = await first.bound.exceeded(attempt, main, self._desk.attention)
            if slow is None or main.done() or not self._may_hedge():
                return attempt, await main
            return await self._race(attempt, main, rest[0], slow)
        finally:
            await _ended(main)

    async def _resumed(self, leg: Leg) -> tuple[Attempt, Final]:
        """Go on from text that an earlier page had shown."""
        shown = self.answer.text
        self.answer.parts.append(Part(self._asked.by, None, 0, "resume"))
        attempt = self._attempt(leg, "resume")
        journal = self._asked.options.journal if leg.provider == "local" else None
        if journal:
            call = replace(self._asking.call(leg, "resume"), prefix=shown, journal=journal)
            return attempt, await self._leg(attempt, call)
        self._asking.join(attempt)
        return attempt, await self._leg(attempt, self._go_on(leg, "resume"))

    def _may_hedge(self) -> bool:
        """Half a document is not raced for, nor an answer that the person wants left at that where its model ends."""
        return not self.answer.text or not (self._restarts() or self._asked.options.handover == "stop")

    async def _race(self, attempt: Attempt, main: asyncio.Task[Final], second: Leg, slow: str) -> tuple[Attempt, Final]:
        """Both at once: whoever brings the next new text, or the end, is the one."""
        self._changed = True
        detail = {"from": attempt.leg.provider, "to": second.provider, "cause": slow, "at_chars": self.answer.units()}
        self.answer.hedge = {**detail, "winner": None}
        self._desk.events.emit("hybrid-llm:hedge", {**detail, "request_id": self._asked.options.request_id})
        error = LocalError(f"The local model is slow here: {slow}.", name="SlowError", code="slow", kind="capability")
        told = self._detail(attempt.leg, second, error)
        rival, call = self._attempt(second, "hedge", told), self._asking.call(second, "hedge")
        attempt.task = main
        if self.answer.text:
            call = self._go_on(second, "hedge")
            self._asking.join(rival)
        self._lead = None
        rival.task = beside = self._loop.create_task(self._leg(rival, call))
        try:
            return await self._winner({main: attempt, beside: rival})
        finally:
            await _ended(beside)

    async def _winner(self, racers: dict[asyncio.Task[Final], Attempt]) -> tuple[Attempt, Final]:
        """The end of a race. One that fails leaves it to the other; when both did, the failure of the one that led is told.

        A caller's mistake, found by the first, is final: it is the same for both.
        """
        failures: list[tuple[bool, bool, BaseException]] = []  # sorted: who led, then who was first
        waiting = set(racers)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=list(racers).index):
                attempt = racers[task]
                if task.cancelled() or (self._lead is not None and self._lead is not attempt):
                    continue  # it had lost
                if error := task.exception():
                    if attempt.detail is None and not isinstance(error, ProviderError):
                        raise error
                    failures.append((attempt is not self._lead, attempt.detail is not None, error))
                    self._blame(racers, error)
                    continue
                self._take_lead(attempt)
                return attempt, task.result()
            if not all(behind for behind, _, _ in failures):
                break
        raise min(failures, key=lambda failure: failure[:2])[2]

    @staticmethod
    def _blame(racers: dict[asyncio.Task[Final], Attempt], error: BaseException) -> None:
        """If the other one wins now, it is because of this failure and no longer for being slow."""
        for attempt in racers.values():
            if attempt.detail is not None and isinstance(error, ProviderError) and error.provider != attempt.leg.provider:
                attempt.detail = {**attempt.detail, "error": error.to_dict()}

    def _may_ask_anew(self, error: ProviderError) -> bool:
        """Where the failure asks for it, and nothing shown is lost by it that another model could go on from."""
        useless = not self.answer.text or self._restarts()
        return "retry" in error.reactions and useless and not self._changed and self._may_change()

    async def _anew(self, leg: Leg) -> tuple[Attempt, Final]:
        """The same model once more: what it made (a tool call that is none) is of no use, and a second try often is."""
        shown = bool(self.answer.text)
        attempt = self._attempt(leg, "restart" if shown and self._asked.streaming else "mode")
        self._lead = None
        if attempt.cause == "mode":
            if shown:
                self.answer.strike()
            self._lead = attempt
            self._part(attempt)
        return attempt, await self._leg(attempt, self._asking.call(leg, attempt.cause))

    # -- the second leg, after a failure of the first

    async def _rescue(self, first: Leg, second: Leg, error: ProviderError) -> tuple[Attempt, Final]:
        detail = self._detail(first, second, error)
        if not self.answer.text:
            self._note("fallback", detail)
            attempt = self._attempt(second, "fallback")
            self._lead = attempt
            self._part(attempt)
            return attempt, await self._leg(attempt, self._asking.call(second, "fallback"))
        if self._restarts() or error.code == sense.CODE:  # nobody could go on from nonsense
            return await self._again(second, detail)
        self._note("handover", {**detail, "cause": error.code, "at_chars": self.answer.units()})
        attempt, self._lead = self._attempt(second, "handover"), None
        self._asking.join(attempt)
        return attempt, await self._leg(attempt, self._go_on(second, "handover"))

    async def _again(self, second: Leg, detail: dict[str, Any]) -> tuple[Attempt, Final]:
        """The second model begins anew, and it is said; where nobody has seen the first one's text it is a plain fallback."""
        detail = {**detail, "restart": True}
        cause: Literal["restart", "fallback"] = "restart" if self._asked.streaming else "fallback"
        attempt, self._lead = self._attempt(second, cause), None
        if self._asked.streaming:
            self._note("handover", {**detail, "cause": detail["error"]["code"], "at_chars": self.answer.units()})
        else:
            self.answer.strike()
            self._note("fallback", detail)
        return attempt, await self._leg(attempt, self._asking.call(second, cause))

    def _may_change(self) -> bool:
        """Not after a stop, which whoever heard of the failure may have made; and not where text is to be left at that."""
        left = self._asked.options.handover == "stop" or bool(self._asked.prefix)
        return not self._given_up and not (self.answer.text and left)

    def _restarts(self) -> bool:
        """Half a JSON document or tool call cannot be continued by another model."""
        form = self._asked.options.response_format
        bound = bool(self._asked.options.tools) or (form is not None and form["type"] != "text")
        return bound or self._asked.options.handover == "restart"

    def _detail(self, first: Leg, second: Leg, error: ProviderError) -> dict[str, Any]:
        request_id = self._asked.options.request_id
        told = {"from": first.provider, "to": second.provider, "error": error.to_dict(), "request_id": request_id}
        return {**told, "model": first.model or "default"} if first.chat else told

    def _note(self, kind: Literal["fallback", "handover"], detail: dict[str, Any]) -> None:
        setattr(self.answer, kind, detail)
        self._desk.account.changed(kind, {**detail, "timestamp": self._desk.now()})
        self._desk.events.emit(f"hybrid-llm:{kind}", {**detail, "error": dict(detail["error"])})  # theirs to do with as they like

    def _go_on(self, leg: Leg, cause: Cause) -> Call:
        """The call that makes a model go on from the text so far, with the tokens that are left."""
        return self._asking.continued(leg, cause, sum(attempt.deltas for attempt in self._live))

    # -- attempts

    def _attempt(self, leg: Leg, cause: Cause, detail: dict[str, Any] | None = None) -> Attempt:
        attempt = Attempt(leg, self._loop.time(), cause, detail=detail)
        if leg.chat is not None:
            self._live.append(attempt)
        return attempt

    async def _leg(self, attempt: Attempt, call: Call) -> Final:
        """Walk one leg. Raises what it raises; what it spent is booked."""
        leg = attempt.leg
        if self._given_up:
            raise Aborted  # by whoever heard of the change
        if leg.chat is None:
            raise leg.error or ProviderError(f"The {leg.provider} side cannot be asked.")
        if leg.provider == "local":
            self._desk.asked(leg.provider)  # what goes to the cloud is counted where it leaves: the gate may let nothing out
        try:
            final = await self._asking.ask(attempt, call)
        except Exception as error:
            if not attempt.closed:
                refused = isinstance(error, RefusedError)  # by the egress gate: the provider was never asked
                self._book(attempt, "refused" if refused else "error", attempt.usage())
                self.on_leg(leg.provider, error)
            if attempt.deltas:
                self._say_how(attempt)
            raise
        self.on_leg(leg.provider, None)
        return final

    def _emit(self, attempt: Attempt, delta: str) -> None:
        """Take one piece of text from a leg. Once per token: kept short."""
        if attempt.closed or attempt.ended or not delta:
            return  # the run is over, or that leg has been left behind
        attempt.deltas += 1
        if attempt.first is None:
            attempt.first = self._loop.time()
        if attempt.half or not delta.isascii():
            delta = attempt.whole(delta)
        if attempt.reader is not None:
            delta = attempt.reader.feed(delta)
        if attempt.joiner is not None:
            delta = attempt.joiner.feed(delta)
        if attempt.seam is not None:
            delta = attempt.seam.feed(delta)
            attempt.ended = attempt.seam.hit
        if not delta:
            return
        restart = self._lead is not attempt and self._take_lead(attempt)
        self._show(delta, attempt.leg.provider, restart)

    def _thought(self, attempt: Attempt, thought: str) -> None:
        """What a model thinks is no text of the answer; it is shown beside it, and it is a sign of life."""
        if attempt.closed:
            return
        attempt.thoughts += 1
        detail = {"delta": thought, "provider": attempt.leg.provider, "request_id": self._asked.options.request_id}
        self._desk.events.emit("hybrid-llm:thought", detail)

    def flush(self, attempt: Attempt) -> bool:
        """The end of what the last leg wrote; True when it begins the answer anew and has nothing to say."""
        if attempt.half:
            attempt.half = ""
            self._emit(attempt, "\ufffd")  # whose other half never came
        rest = attempt.joiner.flush() if attempt.joiner else ""
        if attempt.seam:
            rest = attempt.seam.feed(rest) + attempt.seam.flush()
        if rest:
            restart = self._lead is not attempt and self._take_lead(attempt)
            self._show(rest, attempt.leg.provider, restart)
        return self._lead is not attempt and self._take_lead(attempt)

    def _take_lead(self, attempt: Attempt) -> bool:
        """From here on this attempt writes. True when the text begins anew."""
        if self._lead is attempt:
            return False
        self._lead = attempt
        if self.answer.hedge and self.answer.hedge["winner"] is None:
            self._won(attempt)
        elif self.answer.text:
            self.answer.segment += 1
        restart = attempt.cause == "restart"
        if restart:
            self.answer.strike()
        if attempt.cause != "mode":
            self._part(attempt)
        return restart

    def _won(self, attempt: Attempt) -> None:
        """A hedge is decided: the other is stopped, and if the second won, that is the request's change of provider."""
        assert self.answer.hedge is not None  # noqa: S101 - for mypy: the caller has looked
        self.answer.hedge["winner"] = attempt.leg.provider
        for other in tuple(self._live):
            if other is not attempt:
                self._book(other, "stopped", other.usage())
                if other.task:
                    other.task.cancel()
        if attempt.detail is None:
            return
        if self.answer.text:
            self.answer.segment += 1
            cause = attempt.detail["error"]["code"]
            self._note("handover", {**attempt.detail, "cause": cause, "at_chars": self.answer.units()})
        else:
            self._note("fallback", attempt.detail)

    def _part(self, attempt: Attempt) -> None:
        """A new part; one that came to nothing gives its place to the next."""
        parts, start = self.answer.parts, self.answer.units()
        if parts and not parts[-1].struck and parts[-1].start == start:
            parts.pop()
        parts.append(Part(attempt.leg.provider, attempt.leg.model, start, attempt.cause))

    # -- the books

    def finish(self, attempt: Attempt, final: Final) -> None:
        """Book the leg that ended well."""
        self._book(attempt, "done", final.usage or attempt.usage(), final)
        if "simpler" in attempt.notes and not final.tool_calls:
            attempt.notes["checked"] = simpler.checked(self.answer.text, self._asked.options.response_format)
        self._say_how(attempt)
        last = self.answer.parts[-1]
        self.answer.parts[-1] = replace(last, model=final.model)

    def _say_how(self, attempt: Attempt) -> None:
        """What was asked of the one whose text there is, where that is not what was asked of us."""
        if attempt.notes:
            self.answer.trimmed, self.answer.note = attempt.trimmed, " ".join(attempt.notes.values())

    def _book(self, attempt: Attempt, outcome: Outcome, usage: Usage, final: Final | None = None) -> None:
        """Book an attempt and take it off the table, once."""
        if attempt.closed:
            return
        attempt.closed = True
        self._live.remove(attempt)
        now = self._loop.time()
        booking.book(self._desk, self._asked, self.answer, attempt, outcome=outcome, usage=usage, final=final, now=now)


async def _ended(work: asyncio.Task[Any]) -> None:
    """See a task off."""
    if not work.done():
        work.cancel()
        await asyncio.wait([work])
    if not work.cancelled():
        work.exception()
