"""Who is asked, in which order, and how often: all of it before the first byte of an answer.

A call is repeated to the same provider when the failure may pass (`retryable`) and not when its time ran out; then, if the
operator said so, to the next one. After the first byte nobody is asked again: the client has begun to read, and would pay twice.
"""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

from hybr.server.errors import HybrError, RequestError, SlowUpstreamError, UnavailableError
from hybr.server.providers.base import Call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from hybr.server.providers.base import Answer, Provider
    from hybr.server.secret import Secret

FIRST = 0.4  # seconds before the first repetition, doubled for each further one
LONGEST = 10.0  # seconds; whoever wants us to wait longer is told to the client, who knows better how long it can


class Target(NamedTuple):
    """One who can be asked: a provider, its model's id, and the caller's own key for it."""

    provider: Provider
    model: str
    key: Secret | None = None

    def own(self, call: Call) -> Call:
        """Return `call` as this one is asked it."""
        if self.key is None and call.key is None and self.model == call.model:
            return call
        return Call(self.model, call.stream, call.body, self.key)


@dataclass(frozen=True)
class Tries:
    """How repetitions wait. `jitter` gives a factor of about 1: clients that failed together must not return together."""

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = lambda: random.uniform(0.5, 1.5)  # noqa: S311

    def open(self, targets: Sequence[Target], call: Call) -> Asking:
        """Return the asking of `targets` in turn, to be entered."""
        return Asking(self, targets, call)

    def wait(self, error: HybrError, repeated: int) -> float | None:
        """Return the seconds before asking again, None when that would be of no use."""
        if not error.retryable or isinstance(error, SlowUpstreamError):
            return None
        if error.retry_after is not None:
            return error.retry_after + self.jitter() * FIRST if error.retry_after <= LONGEST else None
        return min(LONGEST, FIRST * float(2**repeated) * self.jitter())


class Asking:
    """One call's way to whoever answers it. Entered, it knows `target`, the `answer` and how many `attempts` that took."""

    __slots__ = ("answer", "attempts", "call", "held", "target", "targets", "tries")

    answer: Answer
    target: Target
    held: AbstractAsyncContextManager[Answer]

    def __init__(self, tries: Tries, targets: Sequence[Target], call: Call) -> None:
        self.tries = tries
        self.targets = targets
        self.call = call
        self.attempts = 0

    async def __aenter__(self) -> Self:
        """Ask. Raises the last one's error."""
        error: HybrError | None = None
        for target in self.targets:
            error = await self._one(target)
            if error is None:
                self.target = target
                return self
            error.attempts, error.provider, error.breaker = self.attempts, target.provider.name, target.provider.breaker.state
            if isinstance(error, RequestError):  # the caller's mistake is nobody else's business
                break
        raise error or HybrError("nobody can be asked", code="no_model")

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.held.__aexit__(kind, error, trace)

    async def _one(self, target: Target) -> HybrError | None:
        """Ask one provider until it answers, or until it is of no use, which the returned error says."""
        provider, own, repeated = target.provider, target.own(self.call), 0
        error: HybrError | None = None
        while provider.breaker.admits():
            held = provider.open(own)
            try:
                self.answer = await held.__aenter__()
            except HybrError as failed:
                provider.breaker.failed(failed)
                error = failed
                self.attempts += max(1, failed.attempts) * (not isinstance(failed, RequestError))
            except BaseException:
                provider.breaker.left()
                raise
            else:
                provider.breaker.succeeded()
                self.held = held
                self.attempts += self.answer.attempts
                return None
            wait = self.tries.wait(error, repeated)
            if repeated == provider.retries or wait is None:
                return error
            await self.tries.sleep(wait)
            repeated += 1
        return error or shut(target)


def shut(target: Target) -> UnavailableError:
    """Return the error for a provider that is not asked for a while."""
    name, breaker = target.provider.name, target.provider.breaker
    error = UnavailableError(f"{name} failed several times in a row and is not asked for a moment", code="breaker_open")
    error.retry_after = max(1, math.ceil(breaker.wait()))
    return error
