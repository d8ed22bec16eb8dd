"""Who is asked, in which order, and how often: all of it before the first byte of an answer.

A call is repeated to the same provider when the failure may pass (`retryable`) and not when its time ran out; then, if the
operator said so, to the next one. After the first byte nobody is asked again: the client has begun to read, and would pay twice.
"""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybr.server.errors import HybrError, RequestError, SlowUpstreamError, UnavailableError
from hybr.server.providers.base import Call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AsyncExitStack

    from hybr.server.providers.base import Answer, Provider
    from hybr.server.secret import Secret

FIRST = 0.4  # seconds before the first repetition, doubled for each further one
LONGEST = 10.0  # seconds; whoever wants us to wait longer is told to the client, who knows better how long it can


@dataclass(frozen=True)
class Target:
    """One who can be asked: a provider, its model's id, and the caller's own key for it."""

    provider: Provider
    model: str
    key: Secret | None = None


@dataclass(frozen=True)
class Tries:
    """How repetitions wait. `jitter` gives a factor of about 1: clients that failed together must not return together."""

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = lambda: random.uniform(0.5, 1.5)  # noqa: S311

    async def open(self, stack: AsyncExitStack, targets: Sequence[Target], call: Call) -> tuple[Target, Answer, int]:
        """Return who answers, the answer, and how many requests that took. Raises the last one's error."""
        attempts, error = 0, HybrError("nobody can be asked", code="no_model")
        for target in targets:
            found, error, attempts = await self._one(stack, target, call, attempts)
            if found is not None:
                return target, found, attempts
            error.attempts, error.provider, error.breaker = attempts, target.provider.name, target.provider.breaker.state
            if isinstance(error, RequestError):  # the caller's mistake is nobody else's business
                break
        raise error

    async def _one(
        self, stack: AsyncExitStack, target: Target, call: Call, attempts: int
    ) -> tuple[Answer | None, HybrError, int]:
        """Ask one provider until it answers or it is of no use. Returns the answer or the last error, and the tries so far."""
        provider, own = target.provider, Call(target.model, call.stream, call.body, target.key)
        error: HybrError = shut(target)
        for repeated in range(provider.retries + 1):
            if not provider.breaker.admits():
                return None, shut(target) if not repeated else error, attempts
            try:
                answer = await stack.enter_async_context(provider.open(own))
            except HybrError as failed:
                provider.breaker.failed(failed)
                error, attempts = failed, attempts + max(1, failed.attempts) * (not isinstance(failed, RequestError))
            except BaseException:
                provider.breaker.left()
                raise
            else:
                provider.breaker.succeeded()
                return answer, error, attempts + answer.attempts
            wait = self.wait(error, repeated)
            if repeated == provider.retries or wait is None:
                break
            await self.sleep(wait)
        return None, error, attempts

    def wait(self, error: HybrError, repeated: int) -> float | None:
        """Return the seconds before asking again, None when that would be of no use."""
        if not error.retryable or isinstance(error, SlowUpstreamError):
            return None
        if error.retry_after is not None:
            return error.retry_after + self.jitter() * FIRST if error.retry_after <= LONGEST else None
        return min(LONGEST, FIRST * float(2**repeated) * self.jitter())


def shut(target: Target) -> UnavailableError:
    """Return the error for a provider that is not asked for a while."""
    name, breaker = target.provider.name, target.provider.breaker
    error = UnavailableError(f"{name} failed several times in a row and is not asked for a moment", code="breaker_open")
    error.retry_after = max(1, math.ceil(breaker.wait()))
    return error
