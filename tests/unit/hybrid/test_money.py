"""Months, budgets, the rate window, estimates, the report: each figure is what a hand calculation gives."""

from __future__ import annotations

import asyncio
import json
import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab.clock import run, virtual
from lab.desk import ASK, Desk, MemoryStorage
from lab.engine import Fail, Sleep
from lab.upstream import Refuse, Tail

from hybr.webapp.hybrid.account import Account
from hybr.webapp.hybrid.errors import BudgetExceeded, GatewayError, OptionError, RefusedError
from hybr.webapp.hybrid.ledger import SUMS, Ledger
from hybr.webapp.hybrid.types import Usage

NOVEMBER = time.mktime((2026, 11, 15, 12, 0, 0, 0, 0, -1))
DECEMBER = time.mktime((2026, 12, 15, 12, 0, 0, 0, 0, -1))
PRICES = {"version": "1", "currency": "USD", "models": {"box/m": {"input": 2.0, "output": 10.0, "cached_input": 0.2}}}


class Wall:
    """A wall clock that a test sets."""

    def __init__(self, now: float = NOVEMBER) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time (s)."""
        return self.now


def paid(desk: Desk, cost: float) -> None:
    """Every answer of the cloud costs so much."""
    desk.upstream.default = ["x", Tail({"prompt_tokens": 10, "completion_tokens": 20, "cost": cost})]


@virtual
async def test_months_are_kept_and_end() -> None:
    """Totals survive a reload, a new month begins at nothing, and a clock that jumps back books where it jumped to."""
    wall, storage = Wall(), MemoryStorage()
    desk = Desk(storage=storage, now=wall)
    paid(desk, 0.25)
    await desk.hybrid.complete(ASK)
    desk = Desk(storage=storage, now=wall)
    paid(desk, 0.5)
    await desk.hybrid.complete(ASK)
    stats = desk.hybrid.get_usage_stats()
    month = stats["month"]
    assert (month["name"], month["total"]["cost"], month["total"]["requests"]) == ("2026-11", 0.75, 2)
    assert month["models"][0]["provider"] == "cloud"
    assert (stats["cloud"]["cost"], stats["cloud"]["requests"]) == (0.5, 1)  # the session's own
    wall.now = DECEMBER
    assert desk.hybrid.get_usage_stats()["month"]["total"]["cost"] == 0
    await desk.hybrid.complete(ASK)
    wall.now = NOVEMBER
    await desk.hybrid.complete(ASK)
    ledger = Ledger(storage, wall)
    assert [(name, ledger.total(name)["cost"]) for name in ledger.months()] == [("2026-12", 0.5), ("2026-11", 1.25)]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"2026-11": 3}', '{"2026-11": {"cloud/m": {"cost": -1}}}', '{"2026-11": {"a/b": {}}}']
)
def test_a_damaged_ledger(text: str) -> None:
    """It begins anew, and the page starts."""
    assert Ledger(MemoryStorage({"ledger": text}), Wall()).months() == []


@virtual
async def test_a_budget_warns_once_and_stops() -> None:
    """80 % is told once, 100 % too; then the cloud is not asked, by a typed error, while the local model answers as ever."""
    desk = Desk(now=Wall())
    paid(desk, 0.3)
    assert desk.hybrid.set_budget({"month": 1.0})["month"] == {"limit": 1.0, "spent": 0, "state": "within"}
    for _ in range(4):
        await desk.hybrid.complete(ASK)
    told = [(detail["state"], detail["period"], round(detail["spent"], 9)) for detail in desk.of("cost:budget")]
    assert told == [("warning", "month", 0.9), ("exceeded", "month", 1.2)]
    with pytest.raises(BudgetExceeded, match=r"budget of \$1.00 a month is spent \(\$1.20\)") as error:
        await desk.hybrid.complete(ASK)
    assert (error.value.code, error.value.kind, len(desk.upstream.chats)) == ("budget_exceeded", "policy", 4)
    await desk.local.init("tiny")
    done = await desk.hybrid.complete(ASK)
    assert done.provider == "local"
    assert done.fallback is not None
    assert done.fallback["error"]["code"] == "budget_exceeded"
    assert desk.hybrid.get_status()["breaker"]["cloud"] == "closed"
    desk.hybrid.set_budget({"month": None})
    assert (await desk.hybrid.complete(ASK)).provider == "cloud"


@virtual
async def test_a_spent_budget_leaves_what_costs_nothing() -> None:
    """The house is free, so it is asked all the same; auto mode minds the budget too."""
    desk = Desk(now=Wall())
    paid(desk, 1.0)
    await desk.hybrid.complete(ASK)
    desk.hybrid.set_budget({"session": 0.5})
    await desk.gateway.check()
    assert (await desk.hybrid.complete(ASK)).provider == "cloud"
    desk.upstream.files["/v1/models"] = {"data": [{"id": "m", "owned_by": "box"}]}
    await desk.gateway.check()
    await desk.ready(mode="auto")
    assert (await desk.hybrid.complete(ASK)).decision == "local: the budget is spent"


@virtual
async def test_a_budget_that_is_none() -> None:
    """Nonsense is refused by name and changes nothing; nonsense that was stored is no budget."""
    desk = Desk()
    for change, field in [
        (3, "budget"),
        ({"year": 1}, "budget.year"),
        ({"month": -1}, "budget.month"),
        ({"month": math.nan}, "budget.month"),
    ]:
        with pytest.raises(OptionError) as error:
            desk.hybrid.set_budget(change)
        assert error.value.field == field
    desk.preferences.set("budget", {"month": "much"})
    assert desk.hybrid.get_budget()["month"]["limit"] is None


@virtual
async def test_an_estimate_before_the_request() -> None:
    """Local against cloud: tokens, seconds and dollars by the price list, and what the local model saves; nobody is asked."""
    desk = await Desk().ready()
    await desk.hybrid.complete(ASK)
    desk.upstream.files["/v1/models"] = {"data": [{"id": "m", "owned_by": "box"}]}
    desk.upstream.files["/api/prices"] = PRICES
    await desk.gateway.check()
    prompt = 4 + len(ASK[0]["content"]) // 4
    told = desk.hybrid.estimate(ASK, {"max_output_tokens": 1000})
    cost = (prompt * 2.0 + 1000 * 10.0) / 1_000_000
    assert told["tokens"] == {"prompt_tokens": prompt, "completion_tokens": 1000, "total_tokens": prompt + 1000}
    assert (told["local"]["model"], told["local"]["cost"], told["local"]["ready"]) == ("tiny", 0.0, True)
    assert told["local"]["seconds"] == pytest.approx(prompt / 50 + 1000 / 100)
    assert (told["cloud"]["model"], told["cloud"]["cost"]) == ("m", pytest.approx(cost))
    assert told["saving"] == pytest.approx(cost)
    assert len(desk.upstream.chats) == 0
    with pytest.raises(OptionError):
        desk.hybrid.estimate(ASK, {"nonsense": 1})
    desk.gateway._prices.clear()
    told = desk.hybrid.estimate(ASK)
    assert (told["cloud"]["cost"], told["saving"]) == (None, None)


@virtual
async def test_the_rate_window() -> None:
    """M23: more requests in 60 s than set: one warning with the waiting time; once there is room again, the next may come."""
    desk = Desk()
    desk.hybrid.set_rate_limits({"cloud": 3})
    for _ in range(5):
        await desk.hybrid.complete(ASK)
    (told,) = desk.of("rate-limit:exceeded")
    assert (told["provider"], told["limit"]) == ("cloud", 3)
    assert 59_000 < told["wait_time"] <= 60_000
    assert desk.hybrid.get_usage_stats()["rate_limits"]["cloud"] == {"limit": 3, "asked": 5}
    await asyncio.sleep(61)
    assert desk.hybrid.get_usage_stats()["rate_limits"]["cloud"]["asked"] == 0
    for _ in range(4):
        await desk.hybrid.complete(ASK)
    assert len(desk.of("rate-limit:exceeded")) == 2
    for change in (3, {"cloud": 0}, {"cloud": 1.5}, {"x": 1}):
        with pytest.raises(OptionError):
            desk.hybrid.set_rate_limits(change)


@virtual
async def test_what_never_left_is_not_counted() -> None:
    """Refused at the gate, or by a spent budget: no request of the cloud's; a rescue by the cloud and a hedge are."""
    desk = Desk(now=Wall())
    desk.hybrid.set_rate_limits({"cloud": 1})
    for _ in range(3):
        asking = asyncio.ensure_future(desk.hybrid.complete(ASK, {"egress": "ask", "request_id": "r"}))
        await asyncio.sleep(0.1)
        desk.hybrid.answer_egress("r", False)
        with pytest.raises(RefusedError):
            await asking
    rates = lambda: {name: one["asked"] for name, one in desk.hybrid.get_usage_stats()["rate_limits"].items()}  # noqa: E731
    assert (rates(), desk.of("rate-limit:exceeded")) == ({"local": 0, "cloud": 0}, [])
    asking = asyncio.ensure_future(desk.hybrid.complete(ASK, {"egress": "ask", "request_id": "r"}))
    await asyncio.sleep(0.1)
    desk.hybrid.answer_egress("r", True)
    await asking
    assert rates() == {"local": 0, "cloud": 1}
    await desk.ready()
    desk.engine.scripts.append(["It ", Fail("DeviceLostError", "gone")])
    assert (await desk.hybrid.complete(ASK)).provider == "cloud"
    assert rates() == {"local": 1, "cloud": 2}
    assert len(desk.of("rate-limit:exceeded")) == 1
    await desk.local.settled()


@virtual
async def test_a_429_is_told_with_its_waiting_time() -> None:
    """What the provider refuses is told by the same event, with the provider's own time."""
    desk = Desk()
    desk.upstream.default = [Refuse(429, "rate_limited", headers={"retry-after": "20"})]
    with pytest.raises(GatewayError):
        await desk.hybrid.complete(ASK)
    (told,) = desk.of("rate-limit:exceeded")
    assert (told["provider"], told["wait_time"], told["limit"]) == ("cloud", 20_000, None)


@virtual
async def test_the_report() -> None:
    """What a person reads has the figures of the books."""
    desk = await Desk(now=Wall()).ready()
    paid(desk, 0.125)
    await desk.hybrid.complete(ASK)
    await desk.hybrid.complete_cloud(ASK)
    await desk.hybrid.complete_cloud(ASK)
    desk.hybrid.set_budget({"month": 2})
    lines = desk.hybrid.report().splitlines()
    assert "  local: 1 requests, 18 tokens, 0 errors, $0.000000" in lines
    assert "  cloud: 2 requests, 60 tokens, 0 errors, $0.250000" in lines
    assert "In 2026-11:" in lines
    assert "  cloud/house-model: 2 requests, 60 tokens, $0.250000" in lines
    assert "Budget a month: $0.250000 of $2.00 (within)" in lines


BOOKING = st.tuples(
    st.sampled_from(["local", "cloud"]),
    st.sampled_from(["a", "b/c"]),
    st.sampled_from(["done", "error", "stopped"]),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.none() | st.integers(0, 10**6),
    st.sampled_from([NOVEMBER, DECEMBER]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(BOOKING, max_size=30), st.sets(st.integers(0, 30)))
def test_the_sums_are_those_of_a_hand_calculation(bookings: list[Any], reloads: set[int]) -> None:
    """Session and months, by provider and model, over reloads: the sums of the single bookings (costs in exact binary parts)."""

    async def check() -> None:
        wall, storage, account = Wall(), MemoryStorage(), Account()
        ledger = Ledger(storage, wall)
        account.heard = lambda *one: ledger.book(*one)  # noqa: PLW0108 - the ledger changes
        for index, (provider, model, outcome, prompt, completion, cost, now) in enumerate(bookings):
            if index in reloads:
                ledger = Ledger(storage, wall)
            wall.now = now
            dollars = None if cost is None else cost / 1024
            account.book(provider, model, outcome, Usage(prompt, completion), ms=1.0, ttft_ms=None, cost=dollars)
        for side in ("local", "cloud"):
            mine = [one for one in bookings if one[0] == side]
            told = account.provider(side).to_dict()
            assert told["tokens"] == sum(one[3] + one[4] for one in mine)
            assert told["cost"] == sum((one[5] or 0) for one in mine) / 1024
            assert (told["errors"], told["unpriced"]) == (
                sum(one[2] == "error" for one in mine),
                sum(one[5] is None for one in mine),
            )
        for month, now in [("2026-11", NOVEMBER), ("2026-12", DECEMBER)]:
            mine = [one for one in bookings if one[6] == now]
            total = Ledger(storage, wall).total(month)
            assert total["cost"] == sum((one[5] or 0) for one in mine) / 1024
            assert (total["requests"], total["prompt_tokens"]) == (len(mine), sum(one[3] for one in mine))
        assert all(
            set(sums) == set(SUMS) for month in json.loads(storage.get("ledger") or "{}").values() for sums in month.values()
        )

    run(check())


@virtual
async def test_a_budget_that_is_spent_while_an_answer_is_under_way() -> None:
    """The rescue of a long answer is asked when the budget is spent by then: it is refused as such, and the text is kept."""
    desk = await Desk(now=Wall()).ready()
    paid(desk, 1.0)
    desk.hybrid.set_budget({"session": 0.5})
    desk.engine.scripts.append(["The ", Sleep(5), Fail("Error", "boom")])
    stream = desk.hybrid.stream(ASK)
    assert (await anext(stream)).text == "The "
    await desk.hybrid.complete_cloud(ASK)
    with pytest.raises(BudgetExceeded) as error:
        async for _ in stream:
            pass
    assert (error.value.text, len(desk.upstream.chats)) == ("The ", 1)


@pytest.mark.parametrize("cost", [math.nan, math.inf, -1, True, "1", [1]])
def test_a_cost_that_is_none(cost: object) -> None:
    """NaN or a debt of the provider's would spoil the month for good: such a cost is unknown."""

    @virtual
    async def check() -> None:
        desk = Desk(now=Wall())
        desk.upstream.scripts.append(["x", Tail({"prompt_tokens": 1, "completion_tokens": 1, "cost": cost})])
        desk.upstream.headers = {"x-hybr-provider": "openai"}
        assert (await desk.hybrid.complete(ASK)).cost is None
        assert Ledger(desk.storage, Wall()).total() == {**dict.fromkeys(SUMS, 1), "errors": 0, "cost": 0}

    check()
