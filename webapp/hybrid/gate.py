"""The egress gate: every step from the page to the cloud passes here, under a policy, and leaves a receipt.

    allow   goes out (the default)
    redact  goes out without what `redact` finds; the answer gets it back
    ask     goes out when the person says yes, or redacted when they say that; nobody answering within ASK_S counts as no
    never   does not go out: the planner leaves the cloud out, and were it asked all the same, this refuses

A policy is set for the page and may be made stricter for one message (`options.egress`); `private` is `never`. Receipts say what
left, when, to whom and why, and are kept for the person to read; the text itself is not kept.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from hybr.webapp.hybrid import schema
from hybr.webapp.hybrid.errors import OptionError, RefusedError
from hybr.webapp.hybrid.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.events import EventBus
    from hybr.webapp.hybrid.modes import Remembers
    from hybr.webapp.hybrid.types import Call, Cause, Final, Options
    from hybr.webapp.runtimes.base import CloudRuntime, Emit

Policy = Literal["allow", "redact", "ask", "never"]
POLICIES: tuple[Policy, ...] = ("allow", "redact", "ask", "never")  # from the least strict
ASK_S = 30.0
KEPT = 200


class Gate:
    """See the module. `now` is the wall clock (s)."""

    def __init__(self, events: EventBus, preferences: Remembers, now: Callable[[], float]) -> None:
        self._events = events
        self._preferences = preferences
        self._now = now
        self._waiting: dict[str, asyncio.Future[Policy]] = {}
        self.receipts: deque[dict[str, Any]] = deque(maxlen=KEPT)

    @property
    def policy(self) -> Policy:
        """The page's policy."""
        stored = self._preferences.get("egress")
        return stored if stored in POLICIES else "allow"

    def set_policy(self, policy: object) -> None:
        """Set the page's policy. Raises OptionError."""
        if policy not in POLICIES:
            raise OptionError(f"egress is {schema.said(policy)}; it must be one of {', '.join(POLICIES)}.", field="egress")
        self._preferences.set("egress", policy)

    def policy_for(self, asked: Options) -> Policy:
        """The policy that holds for a request: the stricter of the page's and its own."""
        own = "never" if asked.private else asked.egress or "allow"
        return max(self.policy, own, key=POLICIES.index)

    def answer(self, request_id: str, allow: object) -> bool:
        """The person's answer to `egress:asked`: true, false or "redact". False when nobody is waiting for it."""
        waiting = self._waiting.get(request_id) if isinstance(request_id, str) else None
        if waiting is None or waiting.done():
            return False
        waiting.set_result("redact" if allow == "redact" else "allow" if allow else "never")
        return True

    def asking(self, request_id: str) -> bool:
        """Whether the person is still being asked, so that nothing of this request has left."""
        return request_id in self._waiting

    async def chat(self, cloud: CloudRuntime, call: Call, emit: Emit) -> Final:
        """Ask the cloud, if the policy lets the call out. Raises RefusedError, and what the cloud raises."""
        policy = self.policy_for(call.options)
        if policy == "never":
            raise self.refused(call.request_id, call.cause, "the egress policy is 'never'")
        if policy == "ask" and (policy := await self._ask(call)) == "never":
            raise self.refused(call.request_id, call.cause, "the person did not allow it")
        if policy != "redact":
            return await self._send(cloud, call, emit, {})
        redactor = Redactor()
        call = replace(call, messages=redactor.messages(call.messages), prefix="")

        def restored(delta: str) -> None:
            if text := redactor.restore(delta):
                emit(text)

        final = await self._send(cloud, call, restored, redactor.counts)
        if rest := redactor.flush():
            emit(rest)
        return final

    async def _send(self, cloud: CloudRuntime, call: Call, emit: Emit, redacted: dict[str, int]) -> Final:
        receipt: dict[str, Any] = {
            "request_id": call.request_id,
            "provider": "cloud",
            "model": call.model,
            "bytes": _size(call),
            "at": self._now(),
            "cause": call.cause,
        }
        if redacted:
            receipt["redacted"] = redacted
        self.receipts.appendleft(receipt)  # before the answer: it has left, whatever comes back
        self._events.emit("egress:sent", receipt)
        final = await cloud.chat(call, emit)
        receipt["model"] = final.model
        receipt["bytes"] = final.bytes_sent or receipt["bytes"]
        return replace(final, egress=receipt)

    async def _ask(self, call: Call) -> Policy:
        answer: asyncio.Future[Policy] = asyncio.get_running_loop().create_future()
        self._waiting[call.request_id] = answer
        self._events.emit("egress:asked", _question(call))
        timer = asyncio.get_running_loop().call_later(ASK_S, self.answer, call.request_id, False)
        try:
            return await answer
        except asyncio.CancelledError:  # nobody waits for the answer any more: the question is taken back
            self.refused(call.request_id, call.cause, "the request is over")
            raise
        finally:
            timer.cancel()
            del self._waiting[call.request_id]

    def refused(self, request_id: str, cause: Cause, reason: str) -> RefusedError:
        """Tell that nothing leaves, and the error that says so."""
        self._events.emit("egress:refused", {"request_id": request_id, "cause": cause, "reason": reason})
        return RefusedError(f"Nothing was sent to the cloud: {reason}. Load a local model, or allow it.", code="egress_refused")


def _question(call: Call) -> dict[str, Any]:
    """What a person needs to know to answer: how much would leave, to whom, why, and what `redact` would take out of it."""
    redactor = Redactor()
    redactor.messages(call.messages)
    return {
        "request_id": call.request_id,
        "provider": "cloud",
        "model": call.model,
        "cause": call.cause,
        "bytes": _size(call),
        "messages": len(call.messages),
        "found": {name.lower(): count for name, count in redactor.counts.items()},
        "timeout_s": ASK_S,
    }


def _size(call: Call) -> int:
    return len(json.dumps(call.messages, ensure_ascii=False).encode())
