"""Who is asked how often: repetitions, waits, fallbacks and the breaker, with a clock of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standing import Standing

from hybr.server.errors import (
    DeniedError,
    HybrError,
    LimitedError,
    RequestError,
    SlowUpstreamError,
    UnavailableError,
    UpstreamError,
)
from hybr.server.providers.base import Answer, Call
from hybr.server.providers.breaker import FAILURES, LONGEST, PAUSE, Breaker
from hybr.server.providers.dialect import Reader
from hybr.server.tries import Target, Tries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CALL = Call("a/m", stream=True, body={})


def error(kind: type[UpstreamError] = UpstreamError, wait: int | None = None, code: str = "x") -> UpstreamError:
    """Return a failure."""
    found = kind("no", code=code, attempts=1)
    found.retry_after = wait
    return found


@dataclass
class Told(Standing):
    """A provider that fails as listed and answers then; `asked` are the calls it got."""

    failures: list[Any]
    name: str = "a"
    retries: int = 2
    clock: Any = None
    asked: list[Call] = field(default_factory=list)
    breaker: Breaker = field(default_factory=Breaker)

    @contextlib.asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[Answer]:
        """Fail, or answer."""
        self.asked.append(call)
        if self.failures:
            raise self.failures.pop(0)

        async def nothing() -> AsyncIterator[list[dict[str, Any]]]:
            yield []

        yield Answer(nothing(), Reader("m"))


async def opened(*providers: Told) -> tuple[str, int, list[float]]:
    """Return who answered, the tries, and the waits between them."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    targets = [Target(provider, f"{provider.name}/m") for provider in providers]
    async with Tries(sleep, lambda: 1.0).open(targets, CALL) as asked:
        return asked.target.provider.name, asked.attempts, waits
    raise AssertionError


async def test_3_repeated_with_growing_waits() -> None:
    """A failure that may pass is tried again, each time after a longer wait, and the answer tells how many tries it took."""
    provider = Told([error(), error()])
    name, attempts, waits = await opened(provider)
    assert (name, attempts, len(provider.asked)) == ("a", 3, 3)
    assert waits == [0.4, 0.8]


async def test_3_at_most_so_often() -> None:
    """After the last repetition the failure is the client's, with the number of tries, the provider and its breaker's state."""
    provider = Told([error() for _ in range(9)])
    with pytest.raises(UpstreamError) as caught:
        await opened(provider)
    assert len(provider.asked) == 3
    told = caught.value.envelope()["error"]
    assert (told["attempts"], told["provider"], told["breaker"]) == (3, "a", "closed")


async def test_3_as_long_as_was_said() -> None:
    """A Retry-After that is short is waited for and never undercut; a long one is the client's to wait for."""
    _, _, waits = await opened(Told([error(LimitedError, 7)]))
    assert waits[0] >= 7
    provider = Told([error(LimitedError, 60)])
    with pytest.raises(LimitedError) as caught:
        await opened(provider)
    assert (len(provider.asked), caught.value.retry_after) == (1, 60)
    assert caught.value.envelope()["error"]["retry_after"] == 60


@pytest.mark.parametrize(
    "failure",
    [
        error(DeniedError, code="key_refused"),
        error(SlowUpstreamError, code="timeout"),
        RequestError("bad", field="x"),
    ],
)
async def test_never_repeated(failure: HybrError) -> None:
    """A refused key, a caller's mistake and a time that ran out are not tried again at the same provider."""
    provider = Told([failure])
    with pytest.raises(type(failure)):
        await opened(provider)
    assert len(provider.asked) == 1


async def test_fallbacks_in_order() -> None:
    """When one has failed for good the next is asked for its own model, and the tries are counted over all."""
    first, second, third = Told([error()] * 3), Told([error(DeniedError)], "b"), Told([], "c")
    name, attempts, _ = await opened(first, second, third)
    assert (name, attempts) == ("c", 5)
    assert third.asked[0].model == "c/m"


async def test_a_callers_mistake_goes_nowhere_else() -> None:
    """What is wrong with a request is not sent to another provider."""
    first, second = Told([RequestError("bad", field="x")]), Told([], "b")
    with pytest.raises(RequestError):
        await opened(first, second)
    assert second.asked == []


async def test_an_open_breaker_is_passed_by() -> None:
    """A provider that failed often is not asked; the fallback is, at once; without one the caller hears when to come back."""
    first, second = Told([error() for _ in range(9)], retries=0), Told([], "b")
    for _ in range(FAILURES):
        with pytest.raises(UpstreamError):
            await opened(first)
    assert (await opened(first, second))[0] == "b"
    assert len(first.asked) == FAILURES
    with pytest.raises(UnavailableError) as caught:
        await opened(first)
    told = caught.value.envelope()["error"]
    assert (told["code"], told["breaker"], told["attempts"]) == ("breaker_open", "open", 0)
    assert 0 < told["retry_after"] <= PAUSE


async def test_leaving_while_waiting() -> None:
    """Who leaves during a wait, or during the one try of a half-open breaker, leaves it free for the next."""
    now = [0.0]
    provider = Told([error() for _ in range(9)], retries=0, breaker=Breaker(lambda: now[0]))
    for _ in range(FAILURES):
        with pytest.raises(UpstreamError):
            await opened(provider)
    now[0] += PAUSE
    assert provider.breaker.state == "half-open"
    provider.failures = [asyncio.CancelledError()]
    with pytest.raises(asyncio.CancelledError):
        await opened(provider)
    assert (await opened(provider))[0] == "a"
    assert provider.breaker.state == "closed"


@given(st.lists(st.sampled_from(["fail", "answer", "mistake", "limit", "leave", "tick", "long"]), max_size=60))
def test_breaker(steps: list[str]) -> None:
    """Whatever happens: open lets none pass, half-open one at a time, and an answer closes it; it never stays open for ever."""
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    for step in steps:
        if step in {"tick", "long"}:
            now[0] += 1.0 if step == "tick" else LONGEST
            continue
        state = breaker.state
        passed = breaker.admits()
        assert passed is (state != "open")
        if not passed:
            continue
        if state == "half-open":
            assert not breaker.admits()
        if step == "fail":
            breaker.failed(error())
            assert breaker.state == "open" or breaker.failures < FAILURES
            assert state != "half-open" or breaker.state == "open"
        elif step == "leave":
            breaker.left()
        else:
            given_ = {"mistake": RequestError("x"), "limit": error(LimitedError, code="rate_limited")}.get(step)
            breaker.failed(given_) if given_ else breaker.succeeded()
            assert breaker.state == "closed"
    now[0] += LONGEST
    assert breaker.admits()
