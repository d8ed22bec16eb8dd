"""Lets a request in or not, and books what became of it. All in memory: the store is asked ahead of need, in the background.

`book` is what the relay calls. It waits only where this process holds too little of a caller's budget (their first priced
request of a day, or the end of the money); everything else is `admit`, which never waits. What is checked here: streams,
requests and tokens a minute, money a day and a month, for the person and for their API token.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from hybr.server.errors import LimitError, RefusedError
from hybr.server.money import estimate, purse
from hybr.server.money.account import Account
from hybr.server.money.booking import NANO, Booking, Spent
from hybr.server.money.ledger import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hybr.server.caller import Caller
    from hybr.server.money.account import Refusal
    from hybr.server.money.limits import Policy
    from hybr.server.money.prices import Price, Prices
    from hybr.server.money.purse import Period, Purse
    from hybr.server.providers.base import Call

ACCOUNTS = 10_000  # remembered; the idle ones go first
ROUNDS = 8  # times a request waits for money before it is told to come back
OTHER = "other"
TIED = 2.0  # seconds after which money that is only reserved may be free again


class Till(Protocol):
    """Where the money comes from and goes to; `hybr.server.money.till` over the store."""

    async def fill(self, purses: Sequence[Purse], need: int) -> None:
        """Try to have `need` free in each purse. Raises UnavailableError when the store does not answer."""

    def wake(self, purse: Purse) -> None:
        """Fill it in the background, for it runs low."""

    def book(self, entry: Entry, cost: int, purses: Sequence[Purse]) -> None:
        """Take down one change of the ledger; what it costs is out of `purses`."""


class LeaseError(Exception):
    """Too little of the caller's budget is in this process; the store may have more."""

    def __init__(self, purses: Sequence[Purse], need: int) -> None:
        super().__init__("no lease")
        self.purses = purses
        self.need = need


@dataclass(slots=True)
class Hold:
    """What a booking keeps of its caller's limits until it is over: tokens in every account, nano-dollars in every purse."""

    accounts: tuple[Account, ...]
    price: Price | None
    prompt: int
    tokens: int
    purses: tuple[Purse, ...] = ()
    amount: int = 0
    entry: Entry | None = None


@dataclass
class Meter:
    """See the module. `watchers` hear of each booking's end, `refusals` the name of each limit that refused.

    `known` says whether a model's name is one that the server itself has.
    """

    policy: Policy
    prices: Prices
    till: Till
    watchers: list[Callable[[Booking], None]] = field(default_factory=list)
    refusals: list[Callable[[str], None]] = field(default_factory=list)
    known: Callable[[str], bool] = lambda _: True
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    running: int = 0
    _accounts: dict[tuple[str, str | None], tuple[Account, ...]] = field(default_factory=dict)
    _today: Period = field(default_factory=lambda: purse.Period("", 0.0))
    _month: Period = field(default_factory=lambda: purse.Period("", 0.0))

    async def book(self, caller: Caller, call: Call, provider: str = "", others: Sequence[str] = ()) -> Booking:
        """Return the booking for `call`, to be entered at once; `provider` is who will be asked, `others` the models after it.

        Raises LimitError for a limit, RefusedError for a price that is not known, UnavailableError when nobody can say whether
        the caller has money left.
        """
        for _ in range(ROUNDS):
            try:
                return self.admit(caller, call, provider, others)
            except LeaseError as lack:
                await self.till.fill(lack.purses, lack.need)
        raise self._refused(LimitError("too many requests ask for this budget at once", code="budget_busy", retry_after=1))

    def admit(self, caller: Caller, call: Call, provider: str = "", others: Sequence[str] = ()) -> Booking:
        """Return the booking without waiting. Raises as `book` does, and LeaseError where that would wait."""
        now = self.clock()
        accounts = self._accounts.get((caller.owner, caller.token)) or self._open(caller, now)
        prompt, output = estimate.prompt(call), estimate.output(call, others)
        tokens = prompt + output
        for account in accounts:
            if (refusal := account.check(tokens, now)) is not None:
                raise self._refused(self._over(accounts, account, refusal, now))
        today = self.today().name
        price = self.prices.find(call.model, today)
        hold = Hold(accounts, price, prompt, tokens)
        self._reserve(hold, [price, *[self.prices.find(model, today) for model in others]], prompt, output, now)
        for account in accounts:
            account.take(tokens, now)
        self.running += 1
        booking = Booking(self, caller, call.model, stream=call.stream, hold=hold)
        booking.provider = provider
        booking.bound = output if hold.amount and output and not estimate.bounded(call) else None
        policy, rate = standings(accounts, now)
        if policy:
            booking.standing = ((b"ratelimit-policy", policy.encode()), (b"ratelimit", rate.encode()))
        return booking

    def shown(self, provider: str, model: str) -> dict[str, Any] | None:  # noqa: ARG002
        """Return a model's price today in USD for a million tokens, None where nobody knows it."""
        price = self.prices.find(model, self.today().name)
        return None if price is None else price.wire()

    def today(self) -> Period:
        """Return the UTC day, looked at once a request and made once a day."""
        now = self.wall()
        if not self._today.ends - 86_400 <= now < self._today.ends:
            self._today, self._month = purse.day(now), purse.month(now)
        return self._today

    def _open(self, caller: Caller, now: float) -> tuple[Account, ...]:
        """Return a caller's accounts, made at their first request; a person's is shared by all their tokens."""
        if len(self._accounts) >= ACCOUNTS:
            busy = {key[0] for key, accounts in self._accounts.items() if not all(one.idle(now) for one in accounts)}
            idle = [key for key in self._accounts if key[0] not in busy]  # a person's tokens stay together: they share an account
            for key in idle:
                del self._accounts[key]
        scopes = self.policy.scopes(caller)
        person = self._accounts.get((caller.owner, None)) or (Account(*scopes[0], now),)
        self._accounts[caller.owner, None] = person
        found = person + tuple(Account(*scope, now) for scope in scopes[1:])
        self._accounts[caller.owner, caller.token] = found
        return found

    def _reserve(self, hold: Hold, prices: Sequence[Price | None], prompt: int, output: int, now: float) -> None:
        """Keep the most the answer can cost, whoever gives it, in every budget of the caller."""
        limited = [account for account in hold.accounts if account.limits.spends()]
        if not limited:
            return
        if None in prices:
            self._check_unpriced()
        hold.purses = tuple(one for account in limited for one in account.open(self._today, self._month))
        need = max(price.cost(prompt, output, 0) if price else 0 for price in prices)
        if not need:
            return
        for one in hold.purses:
            if one.free(now) < need:
                self._check_left(one, need, now)
                raise LeaseError(hold.purses, need)
        for one in hold.purses:
            one.reserved += need
            one.touched = now
            if one.low(now):
                self.till.wake(one)
        hold.amount = need

    def _check_unpriced(self) -> None:
        if self.policy.unknown_price == "refuse":
            text = "this model's price is not known here, and your spending is limited"
            raise RefusedError(
                text, code="price_unknown", field="model", remedy="Ask for another model, or the operator for its price"
            )

    def _check_left(self, one: Purse, need: int, now: float) -> None:
        """Raise LimitError where asking the store again would give the same answer."""
        kind = "day" if len(one.period.name) > 7 else "month"
        if need > one.limit:
            text = f"this request may cost ${need / NANO:.4f}, more than your whole budget of ${one.limit / NANO:g} a {kind}"
            remedy = "Ask for fewer max_tokens or a cheaper model"
            raise self._refused(LimitError(text, code=f"spend_{kind}", retry_after=None, remedy=remedy))
        free = max(one.free(now), 0)
        if now - one.asked < TIED and free + one.left < need:
            soon = free + one.left + one.tied + one.reserved >= need  # others may need less than they keep
            ends = TIED if soon else one.period.ends - self.wall()
            text = f"your budget of ${one.limit / NANO:g} a {kind} does not hold this request"
            remedy = "Ask for fewer max_tokens, or come back when the budget is new"
            raise self._refused(LimitError(text, code=f"spend_{kind}", retry_after=max(1, math.ceil(ends)), remedy=remedy))

    def _over(self, accounts: Sequence[Account], account: Account, refusal: Refusal, now: float) -> LimitError:
        """Return the error for a limit that refuses, with the standing of all."""
        whose = "this API token" if account.scope.startswith("key:") else "you"
        unit = {"requests": "requests a minute", "tokens": "tokens a minute", "streams": "answers at once"}[refusal.limit]
        retry = max(1, math.ceil(refusal.wait))
        policy, rate = standings(accounts, now)
        text = f"{whose} may have {refusal.size} {unit}, and that is used up"
        return LimitError(text, code=f"limit_{refusal.limit}", retry_after=retry, rate=rate, policy=policy)

    def _refused(self, error: LimitError) -> LimitError:
        for told in self.refusals:
            told(error.code)
        return error

    # -- what a booking reports

    def price(self, booking: Booking, spent: Spent) -> int | None:
        """Return what `spent` costs, by the price of the model that answered."""
        hold = held(booking)
        answered = booking.model or booking.requested
        price = hold.price if answered == booking.requested else self.prices.find(answered, self.today().name)
        return None if price is None else price.cost(spent.prompt, spent.completion, spent.cached)

    def record(self, booking: Booking) -> None:
        """Book the difference to what was booked for this answer before."""
        hold = held(booking)
        day = hold.entry.day if hold.entry else self.today().name
        entry = Entry.of(booking, day, self.named(booking, day))
        change = entry if hold.entry is None else entry.less(hold.entry)
        if not change.nothing():
            self.till.book(change, change.cost, hold.purses)
        hold.entry = entry
        self._release(hold)

    def named(self, booking: Booking, day: str) -> str:
        """Return the model's name for the ledger: one that has a price or that somebody lists.

        Any other is what a caller wrote, and the store takes no text of theirs.
        """
        model = booking.model or booking.requested
        return model if self.prices.find(model, day) is not None or self.known(model) else f"{booking.provider}/{OTHER}"

    def end(self, booking: Booking) -> None:
        """Give back and count; see `Booking`."""
        hold, now = held(booking), self.clock()
        try:
            if booking.spent is None and booking.attempts:
                booking.usage(hold.prompt, booking.pieces)
            elif hold.entry is None or booking.kind is not None:
                self.record(booking)
        finally:
            self._release(hold)
            spent = booking.spent or Spent()
            for account in hold.accounts:
                account.give(hold.tokens - spent.prompt - spent.completion, now)
            self.running -= 1
        for told in self.watchers:
            told(booking)

    def _release(self, hold: Hold) -> None:
        for one in hold.purses if hold.amount else ():
            one.reserved -= hold.amount
        hold.amount = 0


def held(booking: Booking) -> Hold:
    """Return what the booking keeps."""
    hold = booking.hold
    assert isinstance(hold, Hold)  # noqa: S101  the meter made it
    return hold


def standings(accounts: Sequence[Account], now: float) -> tuple[str, str]:
    """Return the values of `RateLimit-Policy` and `RateLimit`: structured fields, one member a limit."""
    policy = ", ".join([account.policy for account in accounts if account.policy])
    return policy, ", ".join([f"{name};{bucket.standing(now)}" for account in accounts for name, bucket in account.rates])
