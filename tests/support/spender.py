"""A process that spends until it is killed: `python spender.py FOLDER OWNER [URL]`. A line it says is an acknowledged answer."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from accounts import NOON, PRICES, Clock, call, policy

from hybr.server.caller import Caller
from hybr.server.errors import LimitError, UnavailableError
from hybr.server.money.meter import Meter
from hybr.server.money.till import Till
from hybr.server.secret import Secret
from hybr.server.store.database import Database

LIMIT = 400 * 19_000


async def spend(meter: Meter, owner: str) -> None:
    """Answer until the money is gone; acknowledge each answer after it was booked and before it is over."""
    while True:
        try:
            booking = await meter.book(Caller(owner, "user"), call(10), "p")
        except LimitError:
            return
        except UnavailableError:
            await asyncio.sleep(0.01)
            continue
        with booking:
            booking.answered("p", "p/m", 1)
            await asyncio.sleep(0)
            booking.usage(9, 10)
            os.write(1, b"a\n")  # the last bytes, out of our hands
            await asyncio.sleep(0.001)


async def main(folder: str, owner: str, url: str = "") -> None:
    """Spend with four hands, settling every few milliseconds so that a kill meets every moment of it."""
    till_module = sys.modules[Till.__module__]
    till_module.SETTLE = 0.003  # type: ignore[attr-defined]
    database = Database(Path(folder), Secret(url) if url else None)
    till = Till(database, Path(folder) / "journal", wall=Clock(NOON))
    meter = Meter(policy(spend_day=LIMIT), PRICES, till, wall=Clock(NOON))  # the same day, whenever the test runs
    till.start()
    await asyncio.gather(*(spend(meter, owner) for _ in range(4)))
    await till.stop()
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
