"""The bounded queue between whoever has a row and the store. Nobody waits for it; what does not fit is dropped and counted.

Telemetry fails open: a store that is away costs telemetry, never an answer.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import itertools
import logging
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from hybr.server.errors import HybrError
from hybr.server.telemetry.buckets import bucket
from hybr.server.telemetry.row import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from hybr.server.store.database import Database

log = logging.getLogger("hybr.telemetry")

ROOM = 10_000  # rows held while the store is away
EVERY = 2.0  # seconds that a row may wait for others
AGAIN = 15.0  # seconds between tries when the store is away
BATCH = 500  # rows a transaction
TOGETHER = 25  # rows a statement
KEPT = 30  # days that rows are kept; the sums by day are kept for SUMMED
SUMMED = 400

COLUMNS = (*Row._fields, "day")
COUNT = (
    "INSERT INTO telemetry_days (day, owner, provider, model, measure, bucket, n) VALUES "
    "(:day, :owner, :provider, :model, :measure, :bucket, :n) ON CONFLICT (day, owner, provider, model, measure, bucket) "
    "DO UPDATE SET n = telemetry_days.n + excluded.n"
)
Place = tuple[str, str, str, str, str, int]  # day, owner, provider, model, measure, bucket


class Writer:
    """See the module. `kept` is how many days rows stay; `dropped` how many were never stored."""

    def __init__(self, database: Database, kept: int = KEPT, wall: Callable[[], float] = time.time) -> None:
        self.database = database
        self.kept = kept
        self.wall = wall
        self.dropped = 0
        self._queue: deque[Row] = deque()
        self._some = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._pruned = ""

    def note(self, row: Row) -> None:
        """Take a row. Never waits, never raises."""
        if len(self._queue) >= ROOM:
            self.dropped += 1
            return
        self._queue.append(row)
        self._some.set()

    @property
    def waiting(self) -> int:
        """How many rows wait for the store."""
        return len(self._queue)

    def start(self) -> None:
        """Begin to write in the background."""
        self._task = asyncio.create_task(self._writing())

    async def stop(self) -> None:
        """Write what there is, if the store takes it, and end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self.flush()
        except Exception:  # noqa: BLE001  nothing that telemetry meets keeps a server from its end
            self._drop(len(self._queue))

    def _drop(self, count: int) -> None:
        """Drop the oldest rows and count them."""
        for _ in range(count):
            self._queue.popleft()
        self.dropped += count

    async def _writing(self) -> None:
        while True:
            await self._some.wait()
            await asyncio.sleep(EVERY)
            try:
                await self.flush()
            except HybrError as error:
                log.warning("telemetry waits, and is dropped beyond %d rows: %s", ROOM, error.message)
                await asyncio.sleep(AGAIN)
            except Exception:
                log.exception("telemetry that cannot be stored is dropped")  # a defect: the same rows would fail for ever
                self._drop(min(BATCH, len(self._queue)))

    async def flush(self) -> None:
        """Write all that waits. Raises UnavailableError; what was not written still waits."""
        async with self._lock:
            while self._queue:
                rows = [self._queue[index] for index in range(min(BATCH, len(self._queue)))]
                await self._store(rows)
                for _ in rows:
                    self._queue.popleft()
            self._some.clear()

    async def _store(self, rows: Sequence[Row]) -> None:
        from sqlalchemy import text

        async with self.database.begin() as connection:
            for size, values in lots(rows):
                await connection.exec_driver_sql(insertion(size, connection.dialect.paramstyle), values)
            names = ("day", "owner", "provider", "model", "measure", "bucket")
            counted = sorted(tally(rows).items())
            await connection.execute(text(COUNT), [{**dict(zip(names, place, strict=True)), "n": n} for place, n in counted])
            if self._pruned != (today := day_of(self.wall())):
                old = {"rows": day_of(self.wall() - self.kept * 86_400), "days": day_of(self.wall() - SUMMED * 86_400)}
                await connection.execute(text("DELETE FROM telemetry WHERE day < :day"), {"day": old["rows"]})
                await connection.execute(text("DELETE FROM telemetry_days WHERE day < :day"), {"day": old["days"]})
                self._pruned = today

    async def forget(self, owner: str) -> None:
        """Remove all of an owner's rows and sums, waiting ones too. Raises UnavailableError."""
        from sqlalchemy import text

        async with self._lock:
            self._queue = deque(row for row in self._queue if row.owner != owner)
            async with self.database.begin() as connection:
                for table in ("telemetry", "telemetry_days"):
                    await connection.execute(text(f"DELETE FROM {table} WHERE owner = :owner"), {"owner": owner})  # noqa: S608


def lots(rows: Sequence[Row]) -> Iterator[tuple[int, list[tuple[Any, ...]]]]:
    """Yield the values of statements that insert so many rows each: TOGETHER, and what is left one by one.

    Each statement's end hands the interpreter's lock to and fro between the store's thread and the relay's, and of each kind of
    statement the store keeps a prepared one.
    """
    told = [(*row, day_of(row.at)) for row in rows]
    whole = len(told) // TOGETHER * TOGETHER
    if whole:
        yield TOGETHER, [tuple(itertools.chain.from_iterable(told[at : at + TOGETHER])) for at in range(0, whole, TOGETHER)]
    if whole < len(told):
        yield 1, told[whole:]


@functools.cache
def insertion(rows: int, style: str) -> str:
    """Return the statement that inserts so many rows at once, with the parameters of a driver's style."""
    width = len(COLUMNS)
    marks = [[f"${row * width + one + 1}" if style == "numeric_dollar" else "?" for one in range(width)] for row in range(rows)]
    values = ", ".join(f"({', '.join(row)})" for row in marks)
    return f"INSERT INTO telemetry ({', '.join(COLUMNS)}) VALUES {values}"  # noqa: S608  names of ours, and marks


def tally(rows: Iterable[Row]) -> Counter[Place]:
    """Return what the rows add to the sums and histograms."""
    places: dict[tuple[str, str, str, str], Counter[tuple[str, int]]] = {}
    for row in rows:
        place = (day_of(row.at), row.owner, row.provider, row.model)
        found = places.get(place)
        if found is None:
            found = places[place] = Counter()
        found[f"event:{row.event}", 0] += 1
        if row.error != "none":
            found[f"error:{row.error}", 0] += 1
        for name, count in (("prompt", row.prompt), ("completion", row.completion)):
            if count:
                found[name, 0] += count
        for name, value in (("latency", row.latency), ("ttft", row.ttft), ("rate", None if row.rate is None else row.rate * 10)):
            if value is not None:
                found[name, bucket(value)] += 1
    return Counter({(*place, *what): n for place, found in places.items() for what, n in found.items()})


def day_of(at: float) -> str:
    """Return the UTC day of a POSIX time."""
    return day_name(int(at // 86_400))


@functools.lru_cache(8)
def day_name(days: int) -> str:
    """Return the day that is so many after the first of 1970."""
    return f"{dt.date(1970, 1, 1) + dt.timedelta(days):%Y-%m-%d}"
