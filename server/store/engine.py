"""The two databases under one SQL: how each is opened, and which of its errors mean "not now".

SQLAlchemy is imported by this module alone, and this module only when the store is first used: 0.5 s and 22 MB that a server
which nobody asks for preferences does not pay.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, exc
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from hybr.server.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from hybr.server.secret import Secret

BUSY = 2.0  # seconds to wait for another process's lock, for a free connection, or for PostgreSQL to let us in
STATEMENT = 10.0  # seconds after which PostgreSQL ends a statement of ours
POOL = 5  # PostgreSQL connections a replica
WAL_KEPT = 16 * 1024 * 1024  # bytes the write-ahead log keeps on disk once its content is in the file
FILE = "hybr.sqlite3"
# Mistakes in our SQL or values are defects and stay what they are; every other database error is the store's state.
DEFECTS = (exc.IntegrityError, exc.ProgrammingError, exc.DataError, exc.NotSupportedError)
FORBIDDEN = "42501"  # PostgreSQL's insufficient_privilege, which arrives as a ProgrammingError


def make(folder: Path, url: Secret | None) -> tuple[AsyncEngine, File | None]:
    """Return the engine for `url`, or for SQLite in `folder`, and SQLite's file. Raises ConfigError and OSError."""
    if url is None:
        file = File(folder / FILE)
    else:
        parsed = target(url.reveal())
        if not parsed.drivername.startswith("sqlite"):
            return postgresql(parsed), None
        file = File(Path(parsed.database or ""))
    file.prepare()
    return sqlite(file.path), file


class File:
    """SQLite's file, which only its owner may read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inode: tuple[int, int] | None = None

    def prepare(self) -> None:
        """Make it and its folder where they are missing. Raises OSError.

        Never opens a file that is there: closing it again would drop the locks of a connection in this very process.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        if self.path.stat().st_uid == os.geteuid():
            self.path.chmod(0o600)

    def remember(self) -> None:
        """Note which file it is, now that it is open."""
        stat = self.path.stat()
        self.inode = stat.st_dev, stat.st_ino

    def in_place(self) -> bool:
        """Say whether the path still leads to the file that was noted."""
        try:
            stat = self.path.stat()
        except OSError:
            return False
        return self.inode == (stat.st_dev, stat.st_ino)


def sqlite(path: Path) -> AsyncEngine:
    """Return an engine over one connection to the file: SQLite writes one at a time, and a queue is fairer than its lock."""
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=10 * BUSY,  # behind others of our own, who do get on
        connect_args={"timeout": BUSY, "isolation_level": None},  # None: sqlite3 leaves BEGIN to us
        hide_parameters=True,  # no error text ever shows a value
    )
    event.listen(engine.sync_engine, "connect", pragmas)
    event.listen(engine.sync_engine, "begin", immediate)
    return engine


def pragmas(connection: Any, record: Any) -> None:  # noqa: ARG001
    """Set up a fresh SQLite connection."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    # FULL, not NORMAL: what was acknowledged is there after a power cut, and writes are few.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute(f"PRAGMA journal_size_limit = {WAL_KEPT}")
    cursor.close()


def immediate(connection: Connection) -> None:
    """Take the write lock first: a transaction that begins by reading could otherwise be refused its later write."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def postgresql(url: URL) -> AsyncEngine:
    """Return an engine over a pool of connections. Raises ConfigError where its driver is not installed."""
    try:
        import asyncpg  # noqa: F401
    except ImportError:
        raise ConfigError(
            "the driver for PostgreSQL is not installed",
            field="HYBR_DATABASE_URL",
            remedy="Install it with `pip install 'hybr[postgres]'`, or unset HYBR_DATABASE_URL to use SQLite",
        ) from None
    settings = {
        "application_name": "hybr",
        "statement_timeout": milliseconds(STATEMENT),
        "lock_timeout": milliseconds(BUSY),
        "idle_in_transaction_session_timeout": milliseconds(STATEMENT),
    }
    return create_async_engine(
        asyncpg_url(url),
        pool_size=POOL,
        max_overflow=0,
        pool_timeout=BUSY,
        pool_pre_ping=True,  # a restarted server costs one reconnect, not one failed answer
        connect_args={"timeout": BUSY, "command_timeout": STATEMENT + BUSY, "server_settings": settings},
        hide_parameters=True,
    )


def milliseconds(seconds: float) -> str:
    """Return a duration as PostgreSQL's settings want it."""
    return str(int(seconds * 1000))


def asyncpg_url(url: URL) -> URL:
    """Return the URL with the words of asyncpg instead of libpq's."""
    query = dict(url.query)
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    return url.set(drivername="postgresql+asyncpg", query=query)


def target(text: str) -> URL:
    """Return the database that a URL names: `postgresql://user:password@host/name`, or `sqlite:///path`.

    Raises ConfigError, which shows nothing of the URL, for it may hold a password.
    """
    remedy = "Write postgresql://user:password@host:5432/name, or leave it empty for SQLite in the data folder"
    try:
        url = make_url(text)
    except (exc.ArgumentError, ValueError):
        raise ConfigError("the database's address cannot be read", field="HYBR_DATABASE_URL", remedy=remedy) from None
    kind = url.drivername.partition("+")[0]
    if kind not in {"postgresql", "postgres", "sqlite"} or not url.database:
        text = f"{kind!r} is no database of ours" if url.database else "the database's address names no database"
        raise ConfigError(text, field="HYBR_DATABASE_URL", remedy=remedy)
    return url


def is_down(error: BaseException) -> bool:
    """Say whether the error means that the store cannot answer now, and not that we asked wrongly."""
    if isinstance(error, exc.DBAPIError):
        state = getattr(error.orig, "sqlstate", None) or ""
        # A value that cannot be one (class 22) has no class of its own in SQLAlchemy where asyncpg finds it before sending.
        return state == FORBIDDEN or not (isinstance(error, DEFECTS) or state.startswith("22"))
    # asyncpg's own errors come unwrapped where no connection came about.
    return isinstance(error, (exc.TimeoutError, OSError, TimeoutError)) or type(error).__module__.startswith("asyncpg")


def reason(error: BaseException) -> str:
    """Return why, for the log: the driver's own words, in which no value of ours stands."""
    inner = getattr(error, "orig", None) or error
    return " ".join(str(inner).split())[:300] or type(inner).__name__
