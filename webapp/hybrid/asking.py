"""How one leg of a request is asked, and how it is asked otherwise where its model cannot do what was asked.

    trim       the conversation is too long for the window: once more, with ever less of it, where that is allowed
    prompt     the model knows no tools: once more, with the tools told in words (`prompted`)
    simpler    the engine cannot hold to the schema: once more, with what it can hold to (`simpler`)

None of these changes the provider, and none is tried once a word has been said. A runtime runs in a task of its own, so that a
silent one can be left behind while it still cleans up.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from hybr.webapp.hybrid import prompted, simpler, trim
from hybr.webapp.hybrid.errors import CloudError, LocalError, ProviderError
from hybr.webapp.hybrid.handover import Joiner, Seam, continuation
from hybr.webapp.hybrid.patience import Watchdog
from hybr.webapp.hybrid.profile import estimate_tokens
from hybr.webapp.hybrid.types import Call, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.answer import Answer, Asked
    from hybr.webapp.hybrid.desk import Desk
    from hybr.webapp.hybrid.leg import Attempt, Leg
    from hybr.webapp.hybrid.types import Cause

    Take = Callable[[Attempt, str], None]


class Asking:
    """See the module. `take` gets each piece of text, `think` each piece of what a model thinks beside it."""

    def __init__(self, desk: Desk, asked: Asked, answer: Answer, take: Take, think: Take) -> None:
        self._desk = desk
        self._asked = asked
        self._answer = answer
        self._take = take
        self._think = think
        self._works: set[asyncio.Task[Final]] = set()

    # -- calls

    def call(self, leg: Leg, cause: Cause) -> Call:
        """The request as that leg gets it."""
        call = Call(self._asked.options.request_id, self._asked.messages, self._asked.options, leg.model, cause=cause)
        kept = self._asked.options.journal if leg.provider == "local" and cause == "mode" else None
        return replace(call, journal=kept) if kept else call

    def continued(self, leg: Leg, cause: Cause, under_way: int = 0) -> Call:
        """The call that makes a model go on from the text so far; `under_way` tokens are not booked yet, but written."""
        text, options = self._answer.text, self._asked.options
        messages = continuation(self._asked.messages, text, prefill=leg.prefill)
        if options.max_output_tokens:
            written = self._answer.spent.completion_tokens + under_way
            options = replace(options, max_output_tokens=max(1, options.max_output_tokens - written))
        return Call(options.request_id, messages, options, leg.model, prefix=text, cause=cause)

    def join(self, attempt: Attempt) -> None:
        """Let the attempt's text go on from what was shown, as one text."""
        shown, stops = self._answer.text, self._asked.options.stop
        attempt.joiner = None if attempt.leg.prefill else Joiner(shown)
        attempt.seam = Seam(shown, stops) if stops else None

    # -- asking

    async def ask(self, attempt: Attempt, call: Call) -> Final:
        """The end of the leg's answer. Raises what the runtime raises, and a typed error where it just broke off."""
        if attempt.leg.prompted:
            call = self._in_words(attempt, call)
        final = await (self._taken_up if call.journal and call.prefix else self._fitted)(attempt, call)
        if attempt.reader is None:
            return final
        rest, calls = attempt.reader.end()
        attempt.reader = None
        if rest:
            self._take(attempt, rest)
        return replace(final, tool_calls=calls, finish_reason="tool_calls") if calls else final

    async def settled(self) -> None:
        """Wait until no runtime holds anything for this request."""
        if self._works:
            await asyncio.wait(self._works)

    async def _taken_up(self, attempt: Attempt, call: Call) -> Final:
        """The engine goes on with a generation that it kept; where that is gone, with the text that was shown."""
        try:
            return await self._watched(attempt, call)
        except LocalError as error:
            if error.name != "SessionGoneError" or attempt.deltas:
                raise
        self.join(attempt)
        return await self._fitted(attempt, self.continued(attempt.leg, "resume"))

    async def _fitted(self, attempt: Attempt, call: Call) -> Final:
        """Ask; where the model cannot do it, ask otherwise."""
        tries = 0
        while True:
            try:
                return await self._watched(attempt, call)
            except ProviderError as error:
                if attempt.deltas:
                    raise
                tries += error.code == "context_overflow"
                call = self._otherwise(attempt, call, error, may_trim=tries <= trim.TRIES)

    def _otherwise(self, attempt: Attempt, call: Call, error: ProviderError, *, may_trim: bool) -> Call:
        """The call in a form that may do better. Raises `error` where there is none, or none is left."""
        if error.code == "context_overflow":
            return self._shorter(attempt, call, error, may=may_trim)
        if "prompt" in error.reactions and call.options.tools:
            return self._in_words(attempt, call)
        form = simpler.form(call.options.response_format) if "simpler" in error.reactions else None
        if form is None:
            raise error
        attempt.notes["simpler"] = simpler.said(call.options.response_format, form)
        return replace(call, options=replace(call.options, response_format=form))

    def _in_words(self, attempt: Attempt, call: Call) -> Call:
        attempt.reader = prompted.Reader(call.options, call.request_id)
        return prompted.told(call)

    def _shorter(self, attempt: Attempt, call: Call, error: ProviderError, *, may: bool) -> Call:
        """Less of the conversation, which is said. Raises `error`, with both numbers, where that is not allowed or no use."""
        have, window = trim.numbers(error, call.messages, attempt.leg.context)
        fewer = trim.shorten(call.messages, have, window, call.options.max_output_tokens, goes_on=bool(call.prefix))
        if not call.options.trim or len(fewer) == len(call.messages) or not may:
            error.message = trim.too_long(have, window)
            error.args = (error.message,)
            raise error
        attempt.too_long = attempt.too_long or (have, window)
        attempt.trimmed += len(call.messages) - len(fewer)
        attempt.notes["trim"] = trim.said(attempt.trimmed, *attempt.too_long)
        return replace(call, messages=fewer)

    async def _watched(self, attempt: Attempt, call: Call) -> Final:
        """Await the runtime, for as long as it is not silent for too long."""
        assert attempt.leg.chat is not None  # noqa: S101 - for mypy: `walk.Walk` has looked

        def take(delta: str) -> None:
            self._take(attempt, delta)
            if attempt.ended:
                work.cancel()

        call = replace(call, think=lambda thought: self._think(attempt, thought))
        work = asyncio.get_running_loop().create_task(attempt.leg.chat(call, take))
        self._works.add(work)
        work.add_done_callback(self._left)
        await Watchdog(attempt, self._desk.attention).watch(work)
        if attempt.ended:
            return self._cut(attempt, call)
        if work.cancelled() or not isinstance(work.exception(), Exception | None):
            raise _broke_off(attempt.leg)  # nobody here has cancelled it
        return work.result()

    def _cut(self, attempt: Attempt, call: Call) -> Final:
        """The end of an answer that was complete before its model thought so."""
        prompt, local = estimate_tokens(call.messages), attempt.leg.provider == "local"
        cost = 0.0 if local else self._desk.quote(attempt.leg.model, prompt, attempt.deltas)
        return Final(attempt.leg.model or "default", "stop", attempt.usage(), cost=cost)

    def _left(self, work: asyncio.Task[Final]) -> None:
        self._works.discard(work)
        if not work.cancelled():
            work.exception()  # seen: a leg that was left behind may end as it likes


def _broke_off(leg: Leg) -> ProviderError:
    kind = LocalError if leg.provider == "local" else CloudError
    side = "local model" if leg.provider == "local" else "cloud"
    error = kind(f"The {side} broke off its own answer, without a word.", name="BrokeOffError", code="broke_off", phase="decode")
    error.reactions = ("cloud",)
    return error
