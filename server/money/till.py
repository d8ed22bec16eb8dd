"""Between the meter, which must not wait, and the store, which makes it: leases ahead of need, settles in batches.

One lock orders all that this process does to its leases, and after each the store's word on what it holds replaces ours. When
the store is away nothing new is leased, so requests with a price are refused once the lease is used up or has run out, and what
was used waits in the journal; a batch whose outcome is not known is sent again under the same name, and counted once.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import secrets
import time
from typing import TYPE_CHECKING

from hybr.server.errors import HybrError, UnavailableError
from hybr.server.money import journal
from hybr.server.money.journal import Journal
from hybr.server.money.ledger import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from hybr.server.money.leases import Grant
    from hybr.server.money.ledger import Entry, Key
    from hybr.server.money.purse import Purse
    from hybr.server.store.database import Database

log = logging.getLogger("hybr.money")

SETTLE = 1.0  # seconds that what was used may wait for more
RENEW = 15.0  # seconds between two signs of life
IDLE = 60.0  # seconds after which a lease that nobody uses goes back
PATIENCE = 5.0  # seconds that a request waits for the store before it is told to come back
RETRY_AFTER = 5


class Till:
    """See the module. `folder` is where the journal is; clocks are arguments for tests."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.database = database
        self.clock = clock
        self.wall = wall
        self.process = secrets.token_hex(8)
        self.journal = Journal(folder, self.process)
        self.purses: dict[Key, Purse] = {}
        self._batch = Batch("")
        self._sending: Batch | None = None
        self._lock = asyncio.Lock()
        self._asked: dict[Key, Purse] = {}
        self._round: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._dirty = asyncio.Event()
        self._pruned = ""
        self._settled = False

    # -- what the meter calls

    def book(self, entry: Entry, cost: int, purses: Sequence[Purse]) -> None:
        """Take down one change; see `meter.Till`."""
        keys = [one.key for one in purses] if cost else []
        for one in purses:
            one.used += cost
        self._batch.add(entry, keys)
        self.journal.write(entry, keys)
        self._dirty.set()

    async def fill(self, purses: Sequence[Purse], need: int) -> None:
        """Try to have `need` free in each purse. Raises UnavailableError when the store does not answer in time."""
        now = self.clock()
        for one in purses:
            one.wanted += max(need - max(one.free(now), 0), 0)
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.shield(self._ask(purses))
        except (TimeoutError, UnavailableError) as error:
            text = "your spending is limited, and the data store that counts it does not answer"
            away = UnavailableError(
                text, code="budget_unavailable", remedy="Try again soon, or ask for a model that costs nothing"
            )
            away.retry_after = RETRY_AFTER
            raise away from error

    def wake(self, purse: Purse) -> None:
        """Fill it in the background."""
        if purse.key not in self._asked:
            self._ask([purse])

    def _ask(self, purses: Sequence[Purse]) -> asyncio.Task[None]:
        """Return the round of asking the store that these purses are part of; whoever comes before it begins is in it."""
        self._asked |= {one.key: one for one in purses}
        if self._round is None:
            self._round = asyncio.create_task(self._fill())
            self._round.add_done_callback(heard)
        return self._round

    async def _fill(self) -> None:
        async with self._lock:
            purses, self._asked, self._round = list(self._asked.values()), {}, None
            from hybr.server.money import leases

            began = self.clock()
            wants = []
            for one in purses:
                wants.append(leases.Want(one.key, one.limit, one.wanted, one.block() if one.low(began) else 0))
                one.wanted = 0
            async with self.database.begin() as connection:
                granted = await leases.grant(connection, self.process, wants, self.wall())
            for one in purses:
                self.purses[one.key] = one
                self._told(one, granted[one.key], began, leases.TTL)

    def _told(self, one: Purse, grant: Grant, began: float, ttl: float) -> None:
        one.lease, one.left, one.tied = grant.held, grant.left, grant.others
        one.valid, one.asked = began + ttl, self.clock()

    # -- its life

    def start(self) -> None:
        """Begin to settle and to renew, and take over what dead processes left."""
        self._tasks = [asyncio.create_task(self._settling()), asyncio.create_task(self._renewing())]

    async def stop(self) -> None:
        """Settle, give back what is left, and end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._round is not None:
            await asyncio.gather(self._round, return_exceptions=True)
        with contextlib.suppress(HybrError):
            await self.settle()
            if self.purses:
                await self._give_back(list(self.purses.values()))
        self.journal.close()

    async def _settling(self) -> None:
        while True:
            await self._dirty.wait()
            await asyncio.sleep(SETTLE)
            try:
                await self.settle()
            except Exception as error:  # noqa: BLE001  whatever it is, the next try is not given up for it
                told("what was spent waits for the store", error)
                await asyncio.sleep(RETRY_AFTER)
                self._dirty.set()

    async def settle(self) -> None:
        """Send what was used to the store. Raises UnavailableError; nothing is lost by that."""
        async with self._lock:
            while self._sending or self._batch.rows:
                if self._sending is None:
                    self._dirty.clear()
                    self._batch.name = self.journal.turn()
                    self._sending, self._batch = self._batch, Batch("")
                await self._send(self._sending)
                self._sending = None

    async def _send(self, batch: Batch) -> None:
        from hybr.server.money import leases

        async with self.database.begin() as connection:
            held = await leases.settle(connection, self.process, batch, self.wall())
        for key, cost in batch.costs.items():
            if one := self.purses.get(key):
                one.used -= cost
                one.lease = held[key]
        self._settled = True
        self.journal.done(batch.name)

    async def _renewing(self) -> None:
        while True:
            steps = {
                "what a dead process spent waits": self.adopt,
                "leases cannot be renewed": self.renew,
                "old rows stay": self.prune,
            }
            for what, step in steps.items():  # each by itself: a broken journal must not cost this process its leases
                try:
                    await step()
                except Exception as error:  # noqa: BLE001  as above
                    told(what, error)
            await asyncio.sleep(RENEW)

    async def renew(self) -> None:
        """Say that this process lives, and give back what it does not use."""
        if not self.purses:
            return
        from hybr.server.money import leases

        now = self.clock()
        idle = [one for one in self.purses.values() if not one.reserved and not one.used and now - one.touched > IDLE]
        if idle:
            await self._give_back(idle)
        async with self._lock:
            began = self.clock()
            async with self.database.begin() as connection:
                held = await leases.renew(connection, self.process, self.wall())
            for key, one in self.purses.items():
                one.lease, one.valid = held.get(key, 0), began + leases.TTL

    async def prune(self) -> None:
        """Forget what is over, once a day; a process that books nothing does not open the store for it."""
        today = self.wall()
        if not (self._settled or self.purses) or self._pruned == (day := day_of(today)):
            return
        from hybr.server.money import leases

        async with self.database.begin() as connection:
            await leases.prune(connection, today, day_of(today - 62 * 86_400))
        self._pruned = day

    async def _give_back(self, purses: Sequence[Purse]) -> None:
        from hybr.server.money import leases

        async with self._lock:
            idle = [one for one in purses if not one.reserved and not one.used]  # looked at again: we waited for the lock
            for one in idle:
                one.valid = 0.0  # nothing is taken from it while the store hears of it
            async with self.database.begin() as connection:
                await leases.give_back(connection, self.process, [one.key for one in idle])
            for one in idle:
                one.lease = 0
                self.purses.pop(one.key, None)

    async def adopt(self) -> None:
        """Book what processes that are dead had written down and not settled. Raises UnavailableError."""
        for orphan in self.journal.orphans():
            from hybr.server.money import leases

            for piece in orphan.pieces():
                batch = Batch(piece.stem)
                for line in journal.read(piece):
                    batch.add(line.entry, line.keys)
                async with self.database.begin() as connection:
                    await leases.settle(connection, orphan.process, batch, self.wall())
                piece.unlink()
            orphan.bury()

    def standing(self) -> dict[str, int]:
        """Return what is on lease, how many leases that is, and how many rows wait for the store, for the metrics."""
        waiting = len(self._batch.rows) + (len(self._sending.rows) if self._sending else 0)
        held = [one.lease for one in self.purses.values()]
        return {"leases": sum(1 for one in held if one), "leased": sum(held), "waiting": waiting}


def day_of(now: float) -> str:
    """Return the UTC day of a POSIX time."""
    return f"{dt.datetime.fromtimestamp(now, dt.UTC):%Y-%m-%d}"


def told(what: str, error: Exception) -> None:
    """Log why a step of the till's life failed; what is no state of the store is a defect, and has its traceback."""
    if isinstance(error, HybrError):
        log.warning("%s: %s", what, error.message)
    else:
        log.error("%s", what, exc_info=error)


def heard(task: asyncio.Task[None]) -> None:
    """Take note of a round's failure where nobody waits for it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("no money could be leased: %s", error)
