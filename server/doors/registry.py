"""What was found out about each credential, kept in memory, and the requests that live by it.

A request costs one look into a dictionary. An entry older than FRESH seconds is looked up again behind the request's back, one
older than STALE before it. A watch reads one number of the database every WATCH seconds: when another process (the command line,
a second server) has revoked something, everything known is looked up again, and what no longer holds ends, running streams too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hybr.server.errors import HybrError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hybr.server.caller import Caller

log = logging.getLogger("hybr.doors")

FRESH = 10.0
STALE = 60.0
GRACE = 300.0  # how long what was known counts while the database does not answer: nobody can revoke anything then either
IDLE = 600.0
WATCH = 2.0
MOST = 10_000


@dataclass(frozen=True)
class Pass:
    """A credential that holds: whose, and until when (seconds since the epoch, None for no end)."""

    caller: Caller
    expires: float | None = None


class Visit:
    """One request that runs on a credential; ending it cancels the request's task."""

    __slots__ = ("ended", "task")

    def __init__(self) -> None:
        self.task = asyncio.current_task()
        self.ended = False

    def end(self) -> None:
        """End the request: what let it in does not hold any more."""
        self.ended = True
        if self.task:
            self.task.cancel()


@dataclass
class Entry:
    """What is known of one credential. `checked` and `used` are by the monotonic clock."""

    held: Pass
    checked: float
    used: float
    visits: set[Visit] = field(default_factory=set)
    looking: asyncio.Task[None] | None = None

    def end(self, but: Visit | None = None) -> None:
        """End what runs on the credential."""
        for visit in self.visits - {but}:
            visit.end()


class Registry:
    """Looks credentials up by `look(kind, digest)` and remembers; `changes()` is the number that every revocation moves."""

    def __init__(self, look: Callable[[str, str], Awaitable[Pass | None]], changes: Callable[[], Awaitable[int]]) -> None:
        self.look = look
        self.changes = changes
        self._known: dict[tuple[str, str], Entry] = {}
        self._seen: int | None = None
        self._turn = 0  # counts the sweeps that found something revoked
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch for what other processes revoke."""
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End the watching."""
        tasks = [task for task in (self._task, *(entry.looking for entry in self._known.values())) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def find(self, kind: str, digest: str) -> Entry | None:
        """Return what is known of the credential, None when it does not hold. Raises UnavailableError when nobody can say."""
        entry = self._known.get((kind, digest))
        now = time.monotonic()
        if entry is None or now - entry.checked > STALE:
            entry = await self._ask(kind, digest)
        elif now - entry.checked > FRESH and entry.looking is None:
            entry.looking = asyncio.create_task(self._again(kind, digest, entry))
        if entry is None or past(entry.held):
            return None
        entry.used = now
        return entry

    def forget(self, kind: str, digest: str, but: Visit | None = None) -> None:
        """Drop a credential that was revoked, and end what runs on it, `but` the request that says so."""
        if entry := self._known.pop((kind, digest), None):
            entry.end(but)

    async def _ask(self, kind: str, digest: str) -> Entry | None:
        known = self._known.get((kind, digest))
        try:
            held = await self._look(kind, digest)
        except UnavailableError:
            if known and time.monotonic() - known.checked < GRACE:
                return known
            raise
        return self._learn(kind, digest, held)

    async def _look(self, kind: str, digest: str) -> Pass | None:
        """Look it up; again, when meanwhile something was revoked that this look may have come too early for."""
        while True:
            turn = self._turn
            held = await self.look(kind, digest)
            if turn == self._turn:
                return held

    def _learn(self, kind: str, digest: str, held: Pass | None) -> Entry | None:
        known = self._known.get((kind, digest))
        if held is None or (known and known.held.caller != held.caller):
            self.forget(kind, digest)  # also when the role has changed: what runs was let in by the old one
        if held is None:
            return None
        now = time.monotonic()
        entry = self._known.setdefault((kind, digest), Entry(held, now, now))
        entry.held, entry.checked = held, now
        while len(self._known) > MOST:
            self.forget(*min(self._known, key=lambda key: self._known[key].used))
        return entry

    async def _again(self, kind: str, digest: str, entry: Entry) -> None:
        try:
            await self._ask(kind, digest)
        except HybrError:
            pass  # said by the store; what was known counts for a while
        finally:
            entry.looking = None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH)
            try:
                await self.sweep()
            except HybrError:
                continue
            except Exception:  # the watch must outlive whatever one look runs into
                log.exception("the doors' watch stumbled")

    async def sweep(self) -> None:
        """Drop what has ended or lies idle; look everything up again when something was revoked."""
        now = time.monotonic()
        for key, entry in list(self._known.items()):
            if past(entry.held) or (not entry.visits and now - entry.used > IDLE):
                self.forget(*key)
        if not self._known:
            self._seen = None
            return
        newest = await self.changes()
        if newest == self._seen:
            return
        self._turn += 1
        for key in list(self._known):
            # What cannot be looked up now ends this sweep, and the next looks all up: a revoked stream asks no more by itself.
            self._learn(*key, await self._look(*key))
        self._seen = newest


def past(held: Pass) -> bool:
    """Say whether the pass has ended by itself."""
    return held.expires is not None and held.expires <= time.time()
