"""One SQLite file behind one thread: the event loop never waits for a disk, and writes never meet.

Opened at the first use, not at the start: a broken disk costs the preferences, not the chat.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from hybr.server.errors import HybrError, UnavailableError
from hybr.server.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger("hybr.store")
T = TypeVar("T")
BUSY = 2.0  # seconds to wait for another process's lock


class Database:
    """The database `hybr.sqlite3` in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "hybr.sqlite3"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._connection: sqlite3.Connection | None = None

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return `work(connection)`, run alone and in one transaction; an exception rolls it back.

        Raises UnavailableError when SQLite cannot: locked for BUSY seconds, read-only, full, corrupt.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work, work)

    def _work(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._connection = self._connection or self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except HybrError:
            raise
        except (sqlite3.Error, OSError) as error:
            log.warning("%s: %s", self.path, error)
            remedy = f"Check that {self.path.parent} can be written and has room"
            raise UnavailableError("the data store does not answer", code="store_unavailable", remedy=remedy) from error
        return result

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=BUSY, isolation_level=None, check_same_thread=False)
        try:
            self.path.chmod(0o600)
            connection.execute("PRAGMA journal_mode = WAL")
            # FULL, not NORMAL: a preference that was acknowledged is there after a power cut, and writes are rare.
            connection.execute("PRAGMA synchronous = FULL")
            migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    async def close(self) -> None:
        """Finish what is queued and close the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def _close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None
