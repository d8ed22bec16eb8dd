"""What the books cost an answer: let in, reserved, booked, journalled, counted and noted, all limits on."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from accounts import ADA, PRICES, call
from harness import Figure, bench
from serving import parts_in

from hybr.server.money.limits import Limits, Policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybr.server.money.office import Office

ROUNDS, ANSWERS = 5, 4000
ALL = Limits(requests_per_minute=10**9, tokens_per_minute=10**12, streams=1000, spend_day=10**15, spend_month=10**15)


async def answer(office: Office) -> None:
    """Have one answer in the books."""
    with await office.meter.book(ADA, call(100, said="x" * 1200), "p") as booking:
        booking.answered("p", "p/m", 1)
        booking.first()
        booking.pieces += 1
        booking.usage(400, 50, 10)
        assert booking.cost


async def measure(folder: Path, limits: Limits) -> float:
    """Return the best round's microseconds of CPU an answer; the store is not asked meanwhile, as on the relay's path."""
    parts = parts_in(folder)
    office = parts.office
    office.meter.policy, office.meter.prices = Policy(limits), PRICES
    await answer(office)
    best = float("inf")
    for _ in range(ROUNDS):
        office.writer._queue.clear()  # a full one would make it cheaper than it is
        begin = time.process_time()
        for _ in range(ANSWERS):
            await answer(office)
        best = min(best, (time.process_time() - begin) / ANSWERS * 1e6)
    await parts.stop()
    return best


@bench
def money_cost() -> Iterator[Figure]:
    """CPU of the books an answer, with every limit and with none."""
    for name, limits in (("limited", ALL), ("unlimited", Limits())):
        with tempfile.TemporaryDirectory() as folder:
            spent = asyncio.run(measure(Path(folder), limits))
        told = "admit, reserve, settle, journal, ledger, metrics, telemetry; best of 5 rounds of 4000"
        yield Figure(f"money.{name}", spent, "us", "limit: 25 us", 25.0, told)
