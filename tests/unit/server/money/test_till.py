"""Budgets over a real store: never over-granted, by one process or several, alive or dead; and the ledger, counted once."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from accounts import ADA, BOB, NOON, Clock, answer, budget, call, figures, metered, policy
from sqlalchemy import text

from hybr.server.caller import Caller
from hybr.server.errors import LimitError, RefusedError, UnavailableError
from hybr.server.money import estimate, leases
from hybr.server.money.limits import Limits, Policy
from hybr.server.store.database import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hybr.server.money.meter import Meter

ONE = 19_000  # nano-dollars of one answer of 19 tokens


async def storm(meter: Meter, count: int, **shape: Any) -> list[LimitError | None]:
    """Ask so many times at once and return the refusals."""

    async def one() -> LimitError | None:
        try:
            await answer(meter, **shape)
        except LimitError as error:
            return error
        return None

    return await asyncio.gather(*(one() for _ in range(count)))


async def test_five_hundred_against_a_budget_for_ten(database: Database) -> None:
    """Ten of five hundred parallel requests are answered; a restart changes nothing (adverse list, 36)."""
    limits = policy(spend_day=10 * ONE)
    async with metered(database, limits) as meter:
        refusals = [error for error in await storm(meter, 500) if error]
    assert len(refusals) == 490
    assert {error.code for error in refusals} <= {"spend_day", "budget_busy"}
    assert await figures(database) == (10, 10 * ONE)
    assert await budget(database) == (10 * ONE, 0)
    async with metered(database, limits) as meter:
        (error,) = {error.code: error for error in await storm(meter, 5) if error}.values()
        assert error.code == "spend_day"
        assert error.retry_after == 12 * 3600  # noon to midnight, UTC
    assert await figures(database) == (10, 10 * ONE)


async def test_answers_that_cost_less_leave_room(database: Database) -> None:
    """What was reserved and not used is spent by others: the budget is used up to less than one reservation."""
    async with metered(database, policy(spend_day=100 * ONE)) as meter:
        for _ in range(300):
            with contextlib.suppress(LimitError):
                await answer(meter, tokens=10, reserve=91)  # 10 of 100 reserved
    requests, cost = await figures(database)
    assert cost == requests * 10_000
    assert 100 * ONE - 100_000 < cost <= 100 * ONE


async def test_never_over_by_more_than_one_answer(database: Database) -> None:
    """An answer that cost more than was reserved for it takes the budget over once; the next is refused."""
    async with metered(database, policy(spend_day=10 * ONE)) as meter:
        await answer(meter, tokens=20 * 19, reserve=10)
        assert [error.code for error in await storm(meter, 3) if error] == ["spend_day"] * 3
    assert await figures(database) == (1, 20 * ONE)


async def test_two_servers_share_a_budget(tmp_path: Path, database: Database) -> None:
    """Two processes on one store together grant what there is, and the one takes what the other gave back."""
    other = Database(tmp_path / "other", database.url) if database.url else Database(database.folder)
    limits = policy(spend_day=40 * ONE, spend_month=1000 * ONE)
    async with metered(database, limits) as first:
        async with metered(other, limits) as second:
            await asyncio.gather(storm(first, 100), storm(second, 100))
        await asyncio.sleep(0)
        await storm(first, 100)
    requests, cost = await figures(database)
    assert cost == requests * ONE
    assert 39 <= requests <= 40
    assert await budget(database) == (cost, 0)
    assert await budget(database, period="2026-11") == (cost, 0)
    await other.close()


async def test_a_dead_process_keeps_what_it_had_on_lease(database: Database) -> None:
    """An unsettled lease counts as spent once its process is not heard of; nothing is granted twice."""
    limits, wall = policy(spend_day=32 * ONE), Clock(NOON)
    async with metered(database, limits, wall=wall) as dead:
        await answer(dead)
        lost = dead.till.purses["user:ada", "2026-11-23"].lease  # type: ignore[attr-defined]
        dead.till.purses.clear()  # type: ignore[attr-defined]
        dead.till._batch.rows.clear()  # type: ignore[attr-defined]
    assert lost >= 2 * ONE
    wall.now += leases.TTL + leases.GRACE + 1
    async with metered(database, limits, wall=wall) as meter:
        dead.till.journal.close()  # type: ignore[attr-defined]
        await storm(meter, 50)
    requests, cost = await figures(database)
    assert requests == (32 * ONE - lost) // ONE
    assert await budget(database) == (cost + lost, 0)


async def test_what_a_written_off_process_says_late_is_not_counted_twice(database: Database) -> None:
    """A process that was only asleep settles what had been written off, and may go on."""
    limits, wall, clock = policy(spend_day=32 * ONE), Clock(NOON), Clock()
    async with metered(database, limits, clock, wall) as asleep, metered(database, limits, wall=wall) as other:
        await answer(asleep)
        lost = asleep.till.purses["user:ada", "2026-11-23"].lease  # type: ignore[attr-defined]
        wall.now += leases.TTL + leases.GRACE + 1
        await answer(other)
        await other.till.settle()  # type: ignore[attr-defined]
        assert (await budget(database))[0] == lost + ONE
        clock.now += leases.TTL + leases.GRACE + 1
        await asleep.till.settle()  # type: ignore[attr-defined]
        assert (await budget(database))[0] == lost + ONE
        assert (await figures(database)) == (2, 2 * ONE)
        await answer(asleep)


class Forgetful(Database):
    """A store whose word on a commit gets lost on the way."""

    forget = 0

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[Any]:
        """As ever, but for the end."""
        async with super().begin() as connection:
            yield connection
        if self.forget:
            self.forget -= 1
            raise UnavailableError("the connection broke at the end", code="store_unavailable")


async def test_a_commit_that_was_not_heard_of_counts_once(tmp_path: Path, database_url: Any) -> None:
    """A batch that is sent again because nobody knows what became of it is in the ledger once."""
    store = Forgetful(tmp_path / "data", database_url)
    async with metered(store, policy(spend_day=100 * ONE)) as meter:
        await answer(meter)
        store.forget = 2
        for _ in range(2):
            with pytest.raises(UnavailableError):
                await meter.till.settle()  # type: ignore[attr-defined]
        await answer(meter)
    assert await figures(store) == (2, 2 * ONE)
    assert await budget(store) == (2 * ONE, 0)
    await store.close()


class Away(Database):
    """A store that can be taken away."""

    away = False

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[Any]:
        """As ever, when it is there."""
        if self.away:
            raise UnavailableError("the data store does not answer", code="store_unavailable")
        async with super().begin() as connection:
            yield connection


async def test_the_store_is_away(tmp_path: Path) -> None:
    """Money fails closed, saying so, once the lease is used up; who has no limit is served; all is booked in the end."""
    store, clock = Away(tmp_path), Clock()
    limits = Policy(Limits(spend_day=320 * ONE), users={"bob": Limits()})
    async with metered(store, limits, clock) as meter:
        await answer(meter)
        store.away = True
        for _ in range(19):  # a lease is a sixteenth: twenty answers
            await answer(meter)
        with pytest.raises(UnavailableError) as caught:
            await answer(meter)
        assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "budget_unavailable", 5)
        assert "spending is limited" in caught.value.message
        for _ in range(5):
            await answer(meter, BOB)
        with pytest.raises(UnavailableError):
            await meter.till.settle()  # type: ignore[attr-defined]
        store.away = False
        await answer(meter)
    assert (await figures(store), await figures(store, "bob")) == ((21, 21 * ONE), (5, 5 * ONE))
    await store.close()


async def test_a_lease_that_ran_out_is_not_spent(tmp_path: Path) -> None:
    """A process that cannot renew its lease stops using it: others may have written it off."""
    store, clock = Away(tmp_path), Clock()
    async with metered(store, policy(spend_day=320 * ONE), clock) as meter:
        await answer(meter)
        store.away = True
        clock.now += leases.TTL
        with pytest.raises(UnavailableError):
            await answer(meter)
        store.away = False
        await answer(meter)
    await store.close()


async def test_renewing_keeps_it(database: Database) -> None:
    """A sign of life in time keeps the lease; one that nobody uses goes back to the budget."""
    clock, wall = Clock(), Clock(NOON)
    async with metered(database, policy(spend_day=320 * ONE), clock, wall) as meter:
        await answer(meter)
        await meter.till.settle()  # type: ignore[attr-defined]
        for _ in range(3):
            clock.now, wall.now = clock.now + 20, wall.now + 20
            meter.admit(ADA, call()).close()
            await meter.till.renew()  # type: ignore[attr-defined]
        clock.now, wall.now = clock.now + 59, wall.now + 59
        meter.admit(ADA, call()).close()
        clock.now, wall.now = clock.now + 61, wall.now + 61
        await meter.till.renew()  # type: ignore[attr-defined]
        assert await budget(database) == (ONE, 0)
        await answer(meter)


async def test_a_new_day_is_a_new_budget(database: Database) -> None:
    """At midnight UTC the day's budget is whole again and the month's is not."""
    wall = Clock(NOON)
    async with metered(database, policy(spend_day=10 * ONE, spend_month=15 * ONE), wall=wall) as meter:
        assert sum(error is None for error in await storm(meter, 20)) == 10
        wall.now += 86_400
        refusals = [error for error in await storm(meter, 20) if error]
        assert len(refusals) == 15
        assert refusals[0].code == "spend_month"
    assert (await budget(database, period="2026-11-23"), await budget(database, period="2026-11-24")) == (
        (10 * ONE, 0),
        (5 * ONE, 0),
    )
    assert await budget(database, period="2026-11") == (15 * ONE, 0)


async def test_an_answer_over_midnight_belongs_to_the_day_it_began(database: Database) -> None:
    """What is reserved in one day's budget is spent there, and the ledger agrees."""
    wall = Clock(NOON + 12 * 3600 - 1)
    async with metered(database, policy(spend_day=10 * ONE), wall=wall) as meter:
        with await meter.book(ADA, call(10), "p") as booking:
            booking.answered("p", "p/m", 1)
            wall.now += 2
            booking.usage(9, 10)
    assert await budget(database, period="2026-11-23") == (ONE, 0)
    assert await budget(database, period="2026-11-24") == (0, 0)


async def test_tokens_have_budgets_too(database: Database) -> None:
    """A token's budget and its person's are both kept; the smaller one refuses."""
    limits = Policy(Limits(spend_day=100 * ONE), tokens=Limits(spend_day=2 * ONE))
    async with metered(database, limits) as meter:
        script = Caller("ada", "user", "t1")
        assert sum(error is None for error in await storm(meter, 5, who=script)) == 2
        await answer(meter)
    assert await budget(database, "key:t1") == (2 * ONE, 0)
    assert await budget(database) == (3 * ONE, 0)


async def test_a_request_larger_than_the_budget(database: Database) -> None:
    """No waiting helps, and the refusal says what does."""
    async with metered(database, policy(spend_day=10 * ONE)) as meter:
        with pytest.raises(LimitError) as caught:
            await answer(meter, reserve=1000)
    assert (caught.value.retryable, caught.value.headers()) == (False, {})
    assert "max_tokens" in caught.value.envelope()["error"]["message"]


async def test_a_price_that_nobody_knows(database: Database) -> None:
    """Where spending is limited it is refused unless the operator allows it; elsewhere it is counted as unpriced."""
    async with metered(database, policy(spend_day=10 * ONE)) as meter:
        with pytest.raises(RefusedError) as caught:
            await meter.book(ADA, call(model="q/m"))
        assert (caught.value.code, caught.value.field) == ("price_unknown", "model")
        (await meter.book(ADA, call(model="house-model"))).close()
    async with metered(database, Policy(Limits(spend_day=10 * ONE), unknown_price="allow")) as meter:
        with await meter.book(ADA, call(model="q/m"), "q") as booking:
            booking.answered("q", "q/m", 1)
            booking.usage(9, 10)
            assert booking.cost is None
    assert await figures(database) == (2, 0)


async def test_a_limit_set_in_mid_month_counts_the_month(database: Database) -> None:
    """Spending before there was a limit is in the ledger, and the new budget begins from there."""
    async with metered(database, policy()) as meter:
        for _ in range(6):
            await answer(meter)
    async with metered(database, policy(spend_month=10 * ONE)) as meter:
        assert sum(error is None for error in await storm(meter, 10)) == 4


async def test_another_process_adopts_the_journal(database: Database) -> None:
    """What a dead process had written down is booked by the next, once, and its files are gone."""
    async with metered(database, policy(spend_day=32 * ONE)) as dead:
        for _ in range(3):
            await answer(dead)
        dead.till._batch.rows.clear()  # type: ignore[attr-defined]
        dead.till.purses.clear()  # type: ignore[attr-defined]
    folder = database.folder / "journal"
    assert list(folder.glob("*.journal"))
    with next(iter(folder.glob("*.journal"))).open("ab") as piece:
        piece.write(b'["2026-11-23","ada","p","p/m",1,9')  # the line it died in
    async with metered(database, policy(spend_day=32 * ONE)) as meter:
        await meter.till.adopt()  # type: ignore[attr-defined]
        await meter.till.adopt()  # type: ignore[attr-defined]
    assert await figures(database) == (3, 3 * ONE)
    assert (await budget(database))[0] == 3 * ONE
    assert not list(folder.iterdir())


async def test_a_living_process_is_left_alone(database: Database) -> None:
    """Nobody books what a living process has yet to settle."""
    async with metered(database, policy()) as one, metered(database, policy()) as two:
        await answer(one)
        await two.till.adopt()  # type: ignore[attr-defined]
        assert await figures(database) == (0, 0)
    assert await figures(database) == (1, ONE)


async def test_old_things_are_forgotten(database: Database) -> None:
    """Budgets of past months, and leases and journals of last week, do not stay."""
    wall = Clock(NOON)
    async with metered(database, policy(spend_day=32 * ONE), wall=wall) as meter:
        await answer(meter)
    wall.now += 63 * 86_400
    async with metered(database, policy(spend_day=32 * ONE), wall=wall) as meter:
        await answer(meter)
        await meter.till.settle()  # type: ignore[attr-defined]
        await meter.till.prune()  # type: ignore[attr-defined]
        assert await budget(database) == (0, 0)
        assert (await budget(database, period="2027-01-25"))[0] == ONE


async def rows(store: Database, table: str) -> int:
    """Return how many rows a table has."""
    async with store.begin() as connection:
        return int((await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())  # noqa: S608


async def test_settled_pieces_are_forgotten_without_a_limit(database: Database) -> None:
    """Where nobody's spending is limited the names of settled pieces do not pile up either."""
    wall = Clock(NOON)
    async with metered(database, policy(), wall=wall) as meter:
        for _ in range(3):
            await answer(meter)
            await meter.till.settle()  # type: ignore[attr-defined]
            wall.now += 5 * 86_400
        await meter.till.prune()  # type: ignore[attr-defined]
        assert await rows(database, "segments") == 1


async def test_what_nobody_settled_stays_spent(database: Database) -> None:
    """A month's lease whose process died counts as spent weeks later, though its journal is lost and nobody asked in between."""
    limits, wall = policy(spend_month=32 * ONE), Clock(NOON - 20 * 86_400)
    async with metered(database, limits, wall=wall) as dead:
        await answer(dead)
        lost = dead.till.purses["user:ada", "2026-11"].lease  # type: ignore[attr-defined]
        dead.till.purses.clear()  # type: ignore[attr-defined]
        dead.till._batch.rows.clear()  # type: ignore[attr-defined]
    shutil.rmtree(database.folder / "journal")
    wall.now = NOON
    async with metered(database, limits, wall=wall) as meter:
        await answer(meter, BOB)
        await meter.till.prune()  # type: ignore[attr-defined]
        assert sum(error is None for error in await storm(meter, 50)) == (32 * ONE - lost) // ONE
    assert (await budget(database, period="2026-11"))[0] <= 32 * ONE


async def test_a_clock_set_back_over_midnight_makes_no_second_budget(database: Database) -> None:
    """What is reserved of a day's budget stays reserved when the wall clock leaves that day and comes back (adverse list, 48)."""
    wall = Clock(NOON + 12 * 3600 - 1)
    async with metered(database, policy(spend_day=10 * ONE), wall=wall) as meter:
        running = [await meter.book(ADA, call(10), "p") for _ in range(6)]
        wall.now += 2
        await answer(meter)
        wall.now -= 2
        assert sum(error is None for error in await storm(meter, 20)) == 4
        for booking in running:
            with booking:
                booking.answered("p", "p/m", 1)
                booking.usage(9, 10)
    assert await budget(database, period="2026-11-23") == (10 * ONE, 0)


async def test_a_provider_that_lies_about_its_tokens(database: Database) -> None:
    """A count that no database can hold is bounded: the answer is booked, and so are everybody's after it."""
    async with metered(database, policy()) as meter:
        with await meter.book(BOB, call(10), "p") as booking:
            booking.answered("p", "p/m", 1)
            booking.usage(10**30, 10**30, 10**30)
        await answer(meter)
        await meter.till.settle()  # type: ignore[attr-defined]
    assert await figures(database) == (1, ONE)
    assert (await figures(database, "bob"))[0] == 1


async def test_a_journal_that_cannot_be_removed_stops_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that became read-only what is used is settled all the same, in the background, again and again."""
    monkeypatch.setattr("hybr.server.money.till.SETTLE", 0.001)
    async with metered(database, policy(spend_day=100 * ONE)) as meter:
        till: Any = meter.till
        for number in range(3):
            (database.folder / "journal" / f"{till.process}-{number}.journal").mkdir(parents=True)
        till.start()
        for number in range(1, 4):
            await answer(meter)
            async with asyncio.timeout(120):
                while await figures(database) != (number, number * ONE):  # noqa: ASYNC110  the store has no event
                    await asyncio.sleep(0.005)
        assert not any(task.done() for task in till._tasks)


async def test_a_journal_that_cannot_be_read_costs_no_lease(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A neighbour's broken journal does not keep this process from renewing its leases."""
    monkeypatch.setattr("hybr.server.money.till.RENEW", 0.005)
    folder = database.folder / "journal"
    (folder / "dead-0.journal").mkdir(parents=True)
    (folder / "dead.lock").write_text("")
    clock, wall = Clock(), Clock(NOON)
    async with metered(database, policy(spend_day=100 * ONE), clock, wall) as meter:
        till: Any = meter.till
        await answer(meter)
        (purse,) = till.purses.values()
        clock.now += 20
        till.start()
        async with asyncio.timeout(120):
            while purse.valid < clock.now + leases.TTL:  # noqa: ASYNC110  nor a purse
                await asyncio.sleep(0.005)
        assert not any(task.done() for task in till._tasks)


async def test_the_dearest_who_may_answer_is_reserved(database: Database) -> None:
    """What is kept for an answer covers its fallbacks, free or dear; who is free is not let in for the dear one's money."""
    async with metered(database, policy(spend_day=10 * ONE)) as meter:
        booking = await meter.book(ADA, call(10, model="house-model"), "house", ["p/m"])
        assert sum(error is None for error in await storm(meter, 20)) == 9
        with booking:
            booking.answered("p", "p/m", 2)
            booking.usage(9, 10)
        with pytest.raises(LimitError):
            await meter.book(ADA, call(10, model="house-model"), "house", ["p/m"])
        (await meter.book(ADA, call(10, model="house-model"), "house")).close()
    assert await budget(database) == (10 * ONE, 0)


async def test_a_fallback_whose_price_is_known_is_paid_for(database: Database) -> None:
    """Where an unknown price is allowed, the budget still pays for the fallback that answered at a known one."""
    async with metered(database, Policy(Limits(spend_day=10 * ONE), unknown_price="allow")) as meter:
        with await meter.book(ADA, call(10, model="q/m"), "q", ["p/m"]) as booking:
            booking.answered("p", "p/m", 2)
            booking.usage(9, 10)
    assert await budget(database) == (ONE, 0)


async def test_both_bounds_of_an_answer(database: Database) -> None:
    """A request that bounds its answer twice is kept by the larger: some providers go by the one, some by the other."""
    async with metered(database, policy(spend_day=10 * ONE)) as meter:
        asked = call(1)
        with pytest.raises(LimitError):
            await meter.book(ADA, replace(asked, body={**asked.body, "max_completion_tokens": 1000}), "p")
        asked = replace(asked, model="anthropic/claude-haiku-4-5", body={**asked.body, "reasoning_effort": "high"})
        assert estimate.output(asked) == 1 + 16_384
