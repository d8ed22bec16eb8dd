"""Who has which provider key: asked by the relay for every call, and so answered from memory.

Memory holds the sealed rows, never a key's text: `find` gives a handle that opens its row at the moment its header is written.
Writes go through the database and are heard of by other processes within REFRESH seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hybr.server.doors.store import changed, changes, run
from hybr.server.errors import HybrError
from hybr.server.keys.envelope import KEY, seal, unseal
from hybr.server.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sqlalchemy.ext.asyncio import AsyncConnection

    from hybr.server.keys.master import Custody
    from hybr.server.store.database import Database

log = logging.getLogger("hybr.keys")

REFRESH = 5.0
TOPIC = "keys"


@dataclass(frozen=True)
class Row:
    """One sealed key as it is stored. `suspect` says that its provider has refused it."""

    owner: str
    provider: str
    version: int
    sealed: str
    suspect: bool


class Own(Secret):
    """A person's own key, still sealed; `reveal` opens it."""

    __slots__ = ("keyring", "row")

    def __init__(self, keyring: Keyring, row: Row) -> None:
        self.keyring = keyring
        self.row = row

    def reveal(self) -> str:
        """Return the key's text. Raises SealError when it does not open under our master key."""
        return self.keyring.open(self.row)


class Keyring:
    """The people's keys in `database`, under the master key that `custody` keeps."""

    def __init__(self, database: Database, custody: Custody) -> None:
        self.database = database
        self.custody = custody
        self.loaded = False
        self._rows: dict[tuple[str, str], Row] = {}
        self._wrapped: dict[str, str] = {}
        self._seen = -1
        self._loading = asyncio.Lock()
        self._reading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to follow the database."""
        self._begin(self._follow())

    async def stop(self) -> None:
        """End the following."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self) -> None:
        while True:
            await self.ready(again=True)
            await asyncio.sleep(REFRESH)

    async def ready(self, *, again: bool = False) -> None:
        """Have the rows read once; a database that does not answer leaves what was known, and is asked again later."""
        if self.loaded and not again:
            return
        async with self._loading:
            if self.loaded and not again:
                return
            with contextlib.suppress(HybrError):  # said by the store
                await self.refresh()
            self.loaded = True

    async def refresh(self) -> None:
        """Read the rows again if any has changed. One at a time, so that what was read earlier never replaces what came later."""
        async with self._reading, self.database.begin() as connection:
            newest = await changes(connection, TOPIC)
            if newest == self._seen:
                return
            rows = await run(connection, "SELECT owner, provider, version, sealed, suspect FROM provider_keys")
            self._rows = {(row.owner, row.provider): Row(**{**row._mapping, "suspect": bool(row.suspect)}) for row in rows}  # noqa: SLF001
            self._wrapped = {row.owner: row.wrapped for row in await run(connection, "SELECT owner, wrapped FROM data_keys")}
            self._seen = newest

    def find(self, owner: str, provider: str) -> Own | None:
        """Return the owner's own key for the provider. Runs no SQL and opens nothing."""
        row = self._rows.get((owner, provider))
        return Own(self, row) if row else None

    def is_suspect(self, owner: str, provider: str) -> bool:
        """Say whether the provider has refused the owner's key since it was set."""
        row = self._rows.get((owner, provider))
        return row is not None and row.suspect

    def open(self, row: Row) -> str:
        """Return the text of a sealed key. Raises SealError."""
        key = unseal(self._wrapped.get(row.owner, ""), about_owner(row.owner), self.custody.find)
        return unseal(row.sealed, about_key(row.owner, row.provider, row.version), lambda _: key).decode()

    def suspect(self, key: Secret) -> None:
        """Note that the provider refused this key: people see it, until they set another."""
        if not isinstance(key, Own) or self._rows.get((key.row.owner, key.row.provider)) != key.row:
            return
        self._rows[key.row.owner, key.row.provider] = replace(key.row, suspect=True)
        self._begin(self._mark(key.row))

    async def _mark(self, row: Row) -> None:
        statement = "UPDATE provider_keys SET suspect = 1 WHERE owner = :owner AND provider = :provider AND version = :version"
        with contextlib.suppress(HybrError):
            async with self.database.begin() as connection:
                await run(connection, statement, owner=row.owner, provider=row.provider, version=row.version)
                await changed(connection, TOPIC)

    async def put(self, owner: str, provider: str, text: str) -> None:
        """Store a key, in the place of an earlier one. Raises UnavailableError, ConfigError (the master key), SealError."""
        async with self.database.begin() as connection:
            # First: a rotation waits at this row for all who may have read the master key that it is about to forget.
            await changed(connection, TOPIC)
            key = await self._data_key(connection, owner)
            statement = "SELECT version FROM provider_keys WHERE owner = :owner AND provider = :provider"
            last = (await run(connection, statement, owner=owner, provider=provider)).scalar()
            # From the clock where there is none, so that a version never comes twice, not even after a deletion.
            version = max(int(last or 0) + 1, int(time.time() * 1000))
            sealed = seal(key, text.encode(), about_key(owner, provider, version))
            statement = (
                "INSERT INTO provider_keys VALUES (:owner, :provider, :version, :sealed, 0, :now) ON CONFLICT (owner, provider) "
                "DO UPDATE SET version = excluded.version, sealed = excluded.sealed, suspect = 0, changed = excluded.changed"
            )
            values = {"owner": owner, "provider": provider, "version": version, "sealed": sealed}
            await run(connection, statement, **values, now=time.time())
        await self.refresh()

    async def _data_key(self, connection: AsyncConnection, owner: str) -> bytes:
        """Return the owner's data key, made at the first need."""
        fresh = secrets.token_bytes(KEY)
        # In a thread: the master key can lie in a keyring that asks its person first. Fresh: it may have been rotated.
        newest = (await asyncio.to_thread(self.custody.master, fresh=True)).newest
        statement = "INSERT INTO data_keys VALUES (:owner, :wrapped) ON CONFLICT (owner) DO NOTHING"
        await run(connection, statement, owner=owner, wrapped=seal(newest, fresh, about_owner(owner)))
        wrapped = (await run(connection, "SELECT wrapped FROM data_keys WHERE owner = :owner", owner=owner)).scalar()
        return unseal(str(wrapped), about_owner(owner), self.custody.find)

    async def drop(self, owner: str, provider: str) -> bool:
        """Forget a key and say whether there was one."""
        async with self.database.begin() as connection:
            statement = "DELETE FROM provider_keys WHERE owner = :owner AND provider = :provider"
            done = await run(connection, statement, owner=owner, provider=provider)
            # Without keys the data key goes too: so a person gets out of a lost master key by deleting and setting anew.
            left = "SELECT 1 FROM provider_keys WHERE owner = :owner"
            await run(connection, f"DELETE FROM data_keys WHERE owner = :owner AND NOT EXISTS ({left})", owner=owner)  # noqa: S608
            await changed(connection, TOPIC)
        await self.refresh()
        return bool(done.rowcount)

    async def forget(self, owner: str) -> None:
        """Forget all keys of an owner, and the data key with them."""
        async with self.database.begin() as connection:
            for table in ("provider_keys", "data_keys"):
                await run(connection, f"DELETE FROM {table} WHERE owner = :owner", owner=owner)  # noqa: S608
            await changed(connection, TOPIC)
        await self.refresh()


def about_owner(owner: str) -> str:
    """Return what binds a wrapped data key to its owner."""
    return f"data_keys|{owner}|v1"


def about_key(owner: str, provider: str, version: int) -> str:
    """Return what binds a sealed key to its row."""
    return f"provider_keys|{owner}|{provider}|{version}"
