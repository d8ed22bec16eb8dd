"""Requests, tokens and streams a minute: refused in time, with headers that are true, and never leaked."""

from __future__ import annotations

import re
from typing import Any

import pytest
from accounts import ADA, BOB, PRICES, Clock, NoTill, call, policy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from hybr.server.caller import Caller
from hybr.server.errors import LimitError, UpstreamError
from hybr.server.money.limits import Limits, Policy
from hybr.server.money.meter import Meter


def meter_of(clock: Clock, limits: Policy | None = None, **figures: Any) -> Meter:
    """Return a meter without money."""
    return Meter(limits or policy(**figures), PRICES, NoTill(), clock=clock)


def refusal(meter: Meter, who: Caller = ADA, **shape: Any) -> LimitError:
    """Return why a call is refused."""
    with pytest.raises(LimitError) as caught:
        meter.admit(who, call(**shape))
    return caught.value


def members(value: str) -> dict[str, dict[str, int]]:
    """Return a structured field's members and their parameters."""
    assert re.fullmatch(r'("[a-z-]+"(;[a-z]=\d+)+)(, "[a-z-]+"(;[a-z]=\d+)+)*', value)
    found = (member.split(";") for member in value.split(", "))
    return {name.strip('"'): {pair[0]: int(pair[2:]) for pair in pairs} for name, *pairs in found}


def test_requests_a_minute() -> None:
    """The request over the limit is refused, and admitted after the seconds it was told, not before."""
    clock = Clock()
    meter = meter_of(clock, requests_per_minute=3)
    for _ in range(3):
        meter.admit(ADA, call()).close()
    error = refusal(meter)
    assert (error.status, error.code, error.retryable) == (429, "limit_requests", True)
    assert error.headers()["retry-after"] == "20"
    clock.now += 19.9
    assert refusal(meter).retry_after == 1
    clock.now += 0.1
    meter.admit(ADA, call()).close()


def test_the_headers_are_true() -> None:
    """What RateLimit says is left can be had, and no more; after its `t` seconds all of it is there again."""
    clock = Clock()
    meter = meter_of(clock, requests_per_minute=5, tokens_per_minute=1000)
    for _ in range(3):
        booking = meter.admit(ADA, call())
        headers = dict(booking.standing)
        booking.close()
    assert members(headers[b"ratelimit-policy"].decode()) == {"requests": {"q": 5, "w": 60}, "tokens": {"q": 1000, "w": 60}}
    standing = members(headers[b"ratelimit"].decode())["requests"]
    assert standing == {"r": 2, "t": 36}
    for _ in range(standing["r"]):
        meter.admit(ADA, call()).close()
    error = refusal(meter)
    assert members(error.headers()["ratelimit"])["requests"]["r"] == 0
    clock.now += members(error.headers()["ratelimit"])["requests"]["t"]
    for _ in range(5):
        meter.admit(ADA, call()).close()


def waiting(meter: Meter, clock: Clock, output: int) -> Any:
    """Return the booking of a call that waits as it is told; each of the two limits can refuse it once."""
    for _ in range(3):
        try:
            return meter.admit(ADA, call(output))
        except LimitError as error:
            told = error.retry_after
        assert told is not None
        clock.now += told
    raise AssertionError("told to wait too little")


@given(st.integers(1, 100), st.integers(1, 5000), st.lists(st.integers(1, 3000), min_size=1, max_size=12))
def test_retry_after_is_true(requests: int, tokens: int, outputs: list[int]) -> None:
    """Whoever waits as long as the refusal says is let in, whichever limit refused."""
    clock = Clock()
    meter = meter_of(clock, requests_per_minute=requests, tokens_per_minute=tokens)
    for output in outputs:
        with waiting(meter, clock, output) as booking:
            booking.answered("p", "p/m", 1)
            booking.usage(9, output)


def test_tokens_are_settled_by_true_use() -> None:
    """What was reserved and not used is there for the next request."""
    meter = meter_of(Clock(), tokens_per_minute=1000)
    with meter.admit(ADA, call(900)) as booking:
        assert refusal(meter, output=900).code == "limit_tokens"
        booking.answered("p", "p/m", 1)
        booking.usage(9, 41)
    meter.admit(ADA, call(900)).close()


def test_more_than_was_reserved_is_paid_back_in_time() -> None:
    """An answer longer than was thought takes the bucket below zero, and the next request waits for it."""
    clock = Clock()
    meter = meter_of(clock, tokens_per_minute=600)
    with meter.admit(ADA, call(10)) as booking:
        booking.answered("p", "p/m", 1)
        booking.usage(9, 1191)
    assert refusal(meter, output=51).retry_after == 66  # 600 too many, and 60 for this one, at ten a second


def test_streams() -> None:
    """So many answers at once; the next is let in when one ends, by whatever way."""
    meter = meter_of(Clock(), streams=2)
    first, second = meter.admit(ADA, call()), meter.admit(ADA, call())
    assert refusal(meter).code == "limit_streams"
    meter.admit(BOB, call()).close()
    with pytest.raises(RuntimeError), first:
        raise RuntimeError
    meter.admit(ADA, call()).close()
    second.close()
    second.close()
    assert meter.running == 0


def test_a_token_has_limits_of_its_own() -> None:
    """A token counts for its person and for itself; the person's other ways in are not held by it."""
    limits = Policy(
        Limits(requests_per_minute=3), tokens=Limits(requests_per_minute=1), keys={"big": Limits(requests_per_minute=9)}
    )
    meter = meter_of(Clock(), limits)
    script, big = Caller("ada", "user", "t1"), Caller("ada", "user", "big")
    booking = meter.admit(script, call())
    assert set(members(dict(booking.standing)[b"ratelimit"].decode())) == {"requests", "key-requests"}
    booking.close()
    assert refusal(meter, script).message.startswith("this API token")
    meter.admit(big, call()).close()
    meter.admit(ADA, call()).close()
    assert refusal(meter, big).message.startswith("you")


def test_an_exception_for_one_person() -> None:
    """One person's limits differ from everybody's."""
    meter = meter_of(Clock(), Policy(Limits(requests_per_minute=1), users={"bob": Limits(requests_per_minute=2)}))
    meter.admit(ADA, call()).close()
    refusal(meter, ADA)
    meter.admit(BOB, call()).close()
    meter.admit(BOB, call()).close()


def test_what_failed_before_it_began_used_no_tokens() -> None:
    """A provider that refused costs a request and nothing else, and the ledger has the error."""
    meter = meter_of(Clock(), tokens_per_minute=100)
    with pytest.raises(UpstreamError), meter.admit(ADA, call(80), "p"):
        raise UpstreamError("no", code="unreachable")
    meter.admit(ADA, call(80)).close()
    (entry, _) = meter.till.entries  # type: ignore[attr-defined]
    assert (entry.provider, entry.requests, entry.errors, entry.prompt) == ("p", 1, 1, 0)


def test_an_answer_that_broke_off_counts_what_it_had_sent() -> None:
    """Nobody told the usage: the prompt's estimate and the pieces that came are booked (adverse list, 22)."""
    meter = meter_of(Clock())
    with meter.admit(ADA, call(80), "p") as booking:
        booking.answered("p", "p/m", 1)
        booking.pieces += 7
        booking.failed("client_gone")
    (entry,) = meter.till.entries  # type: ignore[attr-defined]
    assert (entry.requests, entry.errors, entry.prompt, entry.completion, entry.cost) == (1, 1, 9, 7, 16_000)


def test_idle_accounts_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of callers does not fill the memory, and nobody's standing is lost by it."""
    monkeypatch.setattr("hybr.server.money.meter.ACCOUNTS", 20)
    clock = Clock()
    meter = meter_of(clock, requests_per_minute=1)
    meter.admit(ADA, call()).close()
    for number in range(50):
        clock.now += 0.01
        meter.admit(Caller(f"c{number}", "user"), call()).close()
    refusal(meter, ADA)
    clock.now += 60
    meter.admit(Caller("late", "user"), call()).close()
    assert len(meter._accounts) < 5


def test_a_person_has_one_account_for_all_their_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgetting idle accounts does not part a person from a token of theirs that is not idle: their limits hold for both."""
    monkeypatch.setattr("hybr.server.money.meter.ACCOUNTS", 2)
    meter = meter_of(Clock(), Policy(Limits(streams=1), tokens=Limits(requests_per_minute=5)))
    script = Caller("ada", "user", "k")
    meter.admit(script, call()).close()
    meter.admit(BOB, call()).close()
    with meter.admit(script, call()):
        assert refusal(meter, ADA).code == "limit_streams"


class Interleaved(RuleBasedStateMachine):
    """Answers that begin, go on and end in any order and by any way (adverse list, 39)."""

    bookings = Bundle("bookings")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.meter = meter_of(self.clock, requests_per_minute=10**6, tokens_per_minute=10**6, streams=8)
        self.open: set[Any] = set()

    @rule(target=bookings, output=st.integers(1, 5000), who=st.sampled_from([ADA, BOB, Caller("ada", "user", "k")]))
    def begin(self, output: int, who: Caller) -> Any:
        """A request comes."""
        if sum(one.caller.owner == who.owner for one in self.open) == 8:
            assert refusal(self.meter, who).code == "limit_streams"
            return None
        booking = self.meter.admit(who, call(output))
        self.open.add(booking)
        return booking

    @rule(booking=bookings, prompt=st.integers(-5, 100), completion=st.integers(-5, 100))
    def use(self, booking: Any, prompt: int, completion: int) -> None:
        """A provider answers, perhaps twice, perhaps too late."""
        if booking is not None:
            if not booking.ended:
                booking.answered("p", "p/m", 1)
            booking.usage(prompt, completion)

    @rule(booking=consumes(bookings), kind=st.sampled_from([None, "timeout", "client_gone"]), twice=st.booleans())
    def end(self, booking: Any, kind: str | None, twice: bool) -> None:
        """It ends, and perhaps two causes end it at the same instant."""
        if booking is None:
            return
        if kind:
            booking.failed(kind)
        booking.close()
        if twice:
            booking.__exit__(TimeoutError, TimeoutError(), None)
        self.open.discard(booking)

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.now += seconds

    @invariant()
    def nothing_leaks(self) -> None:
        """What runs is what is open, and a bucket that had time is full but for what is reserved."""
        assert self.meter.running == len(self.open)
        for (owner, token), accounts in self.meter._accounts.items():
            mine = [one for one in self.open if one.caller.owner == owner and (token is None or one.caller.token == token)]
            assert accounts[-1].running == len(mine)

    def teardown(self) -> None:
        """At the end all of it is given back."""
        for booking in self.open:
            booking.close()
        self.clock.now += 1e6
        assert self.meter.running == 0
        for accounts in self.meter._accounts.values():
            for account in accounts:
                assert account.running == 0
                assert account.idle(self.clock.now)
        figures = [sum(column) for column in zip(*(one.figures() for one in self.meter.till.entries), strict=True)]  # type: ignore[attr-defined]
        if figures:
            assert min(figures) >= 0
            assert figures[4] == 1000 * (figures[1] + figures[3] - figures[2])  # each token is a thousand nano-dollars


Interleaved.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
test_interleavings = Interleaved.TestCase
