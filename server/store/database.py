"""The store behind one door: transactions on whichever database the operator chose.

Opened at the first use, not at the start: a broken disk or a database that is away costs what needs it, not the chat. Whatever
keeps it from answering is one error, UnavailableError, and the next transaction tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from typing import TYPE_CHECKING

from hybr.server.errors import HybrError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from hybr.server.secret import Secret
    from hybr.server.store.engine import File
    from hybr.server.store.migrate import Step

log = logging.getLogger("hybr.store")


class Database:
    """`hybr.sqlite3` in `folder`, or what `url` names; `steps` are other migrations than the shipped ones, for tests."""

    def __init__(self, folder: Path, url: Secret | None = None, steps: Sequence[Step] | None = None) -> None:
        self.folder = folder
        self.url = url
        self.steps = steps
        self._engine: AsyncEngine | None = None
        self._file: File | None = None
        self._opening = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection inside one transaction: committed at the end, rolled back by an exception.

        Raises UnavailableError (code store_unavailable) when the database cannot: locked by another process for 2 s, read-only,
        full, corrupt, restarting, out of connections; and ConfigError when its schema is newer than this program.
        """
        try:
            engine = await self.engine()
            async with engine.begin() as connection:
                yield connection
        except HybrError:
            raise
        except Exception as error:
            if down := self.down(error):
                raise down from error
            raise

    def down(self, error: Exception) -> UnavailableError | None:
        """Return what `error` means to a caller when it is the store's state, None when it is anything else."""
        from hybr.server.store import engine

        if not engine.is_down(error):
            return None
        log.warning("the data store does not answer: %s", engine.reason(error))
        where = "the database of HYBR_DATABASE_URL runs and lets this server in" if self.url else f"{self.folder} has room"
        remedy = f"Check that {where}; `hybr doctor` says more"
        return UnavailableError("the data store does not answer", code="store_unavailable", remedy=remedy)

    async def engine(self) -> AsyncEngine:
        """Return the engine: opened and migrated at the first call, after a failure, and when its file was taken away."""
        if self._engine is None or not await self.in_place():
            async with self._opening:
                if self._engine is None or not await self.in_place():
                    await self.close()
                    self._engine = await self.opened()
        return self._engine

    async def in_place(self) -> bool:
        """Say whether the SQLite file is still the one that is open: a write to a deleted file would be lost in silence."""
        return self._file is None or await asyncio.to_thread(self._file.in_place)

    async def opened(self) -> AsyncEngine:
        """Return a fresh engine over a database that has our schema."""
        # Off the loop: this imports SQLAlchemy.
        engines = await asyncio.to_thread(importlib.import_module, "hybr.server.store.engine")
        from hybr.server.store.migrate import migrate, migrations, pending

        engine, self._file = await asyncio.to_thread(engines.make, self.folder, self.url)
        try:
            steps = self.steps if self.steps is not None else migrations()
            if await pending(engine, steps):  # asked first without the lock, which another process may hold for long
                await migrate(engine, steps)
            if self._file:
                self._file.remember()
        except BaseException:
            await engine.dispose()
            raise
        return engine  # type: ignore[no-any-return]

    async def close(self) -> None:
        """Close every connection; a later transaction opens the store again."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()
