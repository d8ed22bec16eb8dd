"""What the store survives (adverse list, 40, 41, 43, 48): the chat goes on, preferences say 503, nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import store_writer
from serving import asking, parts_in
from sqlalchemy import text

from hybr.server.errors import UnavailableError
from hybr.server.preferences import load
from hybr.server.secret import Secret
from hybr.server.store.database import Database
from hybr.server.store.migrate import migrations

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from postgres import Cluster


async def put(client: httpx.AsyncClient, version: int, model: str = "m") -> httpx.Response:
    """Write preferences."""
    return await client.put("/api/preferences", json={"version": version, "preferences": {"model": model}})


async def unavailable(client: httpx.AsyncClient, version: int = 1) -> None:
    """Assert that preferences are a 503 to be tried again, readiness says so, and the chat's own routes answer."""
    for answer in (await put(client, version), await client.get("/api/preferences")):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["retryable"]) == (503, "store_unavailable", True)
        assert "hybr doctor" in error["message"]
    assert (await client.get("/v1/models")).status_code == 200
    assert (await client.get("/readyz")).status_code == 503


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it has to give up the store does so after 0.5 s instead of 2: the same way, sooner. The probe asks anew each time.

    Everywhere else it is patient: on a busy machine a lock, a connection or a recovery from a kill may take its time.
    """
    gives_up = any(word in request.node.name for word in ("locked_by", "every_connection"))
    monkeypatch.setattr("hybr.server.store.engine.BUSY", 0.5 if gives_up else 20.0)
    monkeypatch.setattr("hybr.server.probes.FRESH", 0.0)


def file_of(folder: Path) -> Path:
    """Return the SQLite file of `parts_in(folder)`."""
    return folder / "data" / "hybr.sqlite3"


async def test_40_locked_by_another_process(tmp_path: Path) -> None:
    """While another process holds the lock preferences are a 503, and right afterwards all is well."""
    async with asking(parts_in(tmp_path)) as client:
        assert (await put(client, 0)).status_code == 200
        other = sqlite3.connect(file_of(tmp_path), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await unavailable(client)
        other.execute("ROLLBACK")
        other.close()
        assert (await put(client, 1)).status_code == 200


async def test_40_the_disk_is_full(tmp_path: Path) -> None:
    """When no byte more can be written preferences are a 503; with room again they go on, and the file is whole."""
    async with asking(parts_in(tmp_path)) as client:
        assert (await put(client, 0)).status_code == 200
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))  # every file of this process: a write beyond it is an error
        try:
            answer = await put(client, 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
        assert (await client.get("/api/preferences")).json()["version"] == 1
        assert (await put(client, 1)).status_code == 200
    whole = sqlite3.connect(file_of(tmp_path))
    assert whole.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    whole.close()


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Be a user whom file permissions bind, if this is root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def modes(folder: Path, mode: int) -> None:
    """Give the data and their folder a mode; who may only read cannot write to the folder either."""
    folder.chmod(0o755)
    (folder / "data").chmod(mode | 0o111)
    for path in (folder / "data").iterdir():
        path.chmod(mode)


async def test_40_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store on a disk that became read-only is a 503, not a crash."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        async with asking(parts_in(folder)) as client:
            assert (await put(client, 0)).status_code == 200
        modes(folder, 0o444)
        parts = parts_in(folder)
        with as_nobody():
            async with asking(parts) as client:
                await unavailable(client)
    finally:
        modes(folder, 0o644)
        shutil.rmtree(folder)


async def test_40_the_file_is_deleted(tmp_path: Path) -> None:
    """A write to a file that somebody deleted is never acknowledged into nowhere: there is a new store, and the page is told."""
    async with asking(parts_in(tmp_path)) as client:
        assert (await put(client, 0, "old")).status_code == 200
        for path in (tmp_path / "data").glob("hybr.sqlite3*"):
            path.unlink()
        assert (await put(client, 1, "new")).status_code == 409
        assert (await client.get("/api/preferences")).json() == {"version": 0, "preferences": {}}
        assert (await put(client, 0, "new")).status_code == 200
        assert file_of(tmp_path).stat().st_mode & 0o777 == 0o600
    async with asking(parts_in(tmp_path)) as client:
        assert (await client.get("/api/preferences")).json()["preferences"] == {"model": "new"}


async def test_40_the_log_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that stays for long makes SQLite's log grow; once it is gone the log shrinks again to its bound."""
    monkeypatch.setattr("hybr.server.store.engine.WAL_KEPT", 64 * 1024)
    log = tmp_path / "data" / "hybr.sqlite3-wal"
    headers = {"if-none-match": "*", "content-type": "application/octet-stream"}
    async with asking(parts_in(tmp_path)) as client:
        assert (await put(client, 0)).status_code == 200
        reader = sqlite3.connect(file_of(tmp_path), isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM preferences").fetchall()
        for number in range(6):
            answer = await client.put(f"/api/blobs/n{number}", content=bytes(1024 * 1024), headers=headers)
            assert answer.status_code == 201
        grown = log.stat().st_size
        reader.execute("COMMIT")
        reader.close()
        for version in (1, 2, 3):
            assert (await put(client, version)).status_code == 200
        assert grown > 6 * 1024 * 1024
        assert log.stat().st_size <= 64 * 1024


async def test_48_two_servers_on_one_file(tmp_path: Path) -> None:
    """Two instances on one SQLite file see each other's writes, and lose none that both acknowledged."""
    async with asking(parts_in(tmp_path)) as first, asking(parts_in(tmp_path)) as second:
        for version in range(5):
            answers = await asyncio.gather(put(first, version, f"a{version}"), put(second, version, f"b{version}"))
            assert sorted(answer.status_code for answer in answers) == [200, 409]
            seen = [(await client.get("/api/preferences")).json() for client in (first, second)]
            assert seen[0] == seen[1]
            assert seen[0]["version"] == version + 1


async def test_48_the_clock_jumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is set back or forward by a day changes no version and no answer."""
    now = time.time
    async with asking(parts_in(tmp_path)) as client:
        for version, jump in enumerate((0, -86400, 86400, 0)):
            monkeypatch.setattr(time, "time", lambda jump=jump: now() + jump)
            assert (await put(client, version)).json()["version"] == version + 1
            assert (await client.get("/readyz")).status_code == 200


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


async def test_43_postgresql_restarts(tmp_path: Path, postgres: Cluster, postgres_url: str) -> None:
    """While PostgreSQL is away preferences are a 503; when it is back the very next request is answered."""
    async with asking(parts_in(tmp_path, told={"database": Secret(postgres_url)})) as client:
        assert (await put(client, 0)).status_code == 200
        await asyncio.to_thread(postgres.stop)
        try:
            await unavailable(client)
        finally:
            await asyncio.to_thread(postgres.start)
        assert (await client.get("/api/preferences")).json()["version"] == 1
        await asyncio.to_thread(postgres.stop, "fast")
        await asyncio.to_thread(postgres.start)
        assert (await put(client, 1)).status_code == 200


async def test_43_every_connection_is_taken(tmp_path: Path, postgres_url: str) -> None:
    """With the pool used up a transaction waits a moment and then says that the store does not answer."""
    database = Database(tmp_path, Secret(postgres_url))
    async with contextlib.AsyncExitStack() as held:
        for _ in range(5):
            await held.enter_async_context(database.begin())
        with pytest.raises(UnavailableError):
            await ask(database, "SELECT 1")
    assert await ask(database, "SELECT 1") == 1
    await database.close()


async def ask(database: Database, query: str) -> Any:
    """Return one value."""
    async with database.begin() as connection:
        return (await connection.execute(text(query))).scalar()


async def test_43_a_statement_takes_too_long(tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL ends a statement of ours that runs too long, and the connection serves the next."""
    monkeypatch.setattr("hybr.server.store.engine.STATEMENT", 1.0)
    database = Database(tmp_path, Secret(postgres_url))
    with pytest.raises(UnavailableError):
        await ask(database, "SELECT pg_sleep(20)")
    assert await ask(database, "SELECT 1") == 1
    await database.close()


async def test_43_locked_by_another_session(tmp_path: Path, postgres_url: str) -> None:
    """A row that another session holds is waited for briefly, then it is a 503."""
    async with asking(parts_in(tmp_path, told={"database": Secret(postgres_url)})) as client:
        assert (await put(client, 0)).status_code == 200
        other = Database(tmp_path, Secret(postgres_url))
        async with other.begin() as connection:
            await connection.execute(text("SELECT * FROM preferences FOR UPDATE"))
            assert (await put(client, 1)).status_code == 503
        assert (await put(client, 1)).status_code == 200
        await other.close()


async def test_43_a_read_only_replica(tmp_path: Path, postgres: Cluster, postgres_url: str) -> None:
    """After a failover to a replica that takes no writes, writing is a 503 and reading goes on."""
    async with asking(parts_in(tmp_path, told={"database": Secret(postgres_url)})) as client:
        assert (await put(client, 0)).status_code == 200
        name = postgres_url.partition("@/")[2].partition("?")[0]
        await asyncio.to_thread(postgres.sql, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await asyncio.to_thread(postgres.sql, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")  # noqa: S608
        answer = await put(client, 1)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
        assert (await client.get("/api/preferences")).json()["version"] == 1


# --- kill -9 ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def nest() -> Iterator[subprocess.Popen[bytes]]:
    """A process that forks writers: each begins to write at once, with everything imported."""
    process = subprocess.Popen([sys.executable, store_writer.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        yield process
        process.kill()


def killed(nest: subprocess.Popen[bytes], folder: Path, url: str, after: float) -> int:
    """Run a writer, kill it `after` seconds from its first breath, and return the newest version that it acknowledged."""
    assert nest.stdin is not None
    assert nest.stdout is not None
    nest.stdin.write(f"{folder}\t{url}\n".encode())
    nest.stdin.flush()
    pid = int(nest.stdout.readline())
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    said = list(iter(nest.stdout.readline, b"end\n"))
    return int(said[-1]) if said else 0


async def survives(
    nest: subprocess.Popen[bytes], tmp_path: Path, url: Secret | None, kills: int, postgres: Cluster | None
) -> None:
    """Kill a writer again and again, on fresh databases (in their migration) and on ones with content."""
    moments = random.Random(41)  # noqa: S311
    folder, place = tmp_path / "0", url.reveal() if url else ""
    acknowledged = 0
    for number in range(kills):
        if number % 5 == 4:  # a fresh one: the kill may fall into the migrations
            folder, acknowledged = tmp_path / str(number), 0
            place = postgres.fresh() if postgres else ""
        said = await asyncio.to_thread(killed, nest, folder, place, moments.uniform(0, 0.4 if number % 5 else 0.1))
        acknowledged = max(acknowledged, said)
        stored = await inspected(folder, place)
        assert stored["version"] in {acknowledged, acknowledged + 1}, "the last one may have been stored and not yet said"
        acknowledged = stored["version"]
        if acknowledged:
            assert stored["preferences"] == {"model": f"m{acknowledged}"}


async def inspected(folder: Path, place: str) -> dict[str, Any]:
    """Return what is stored, after the database was found whole and its schema complete or absent, never half."""
    if not place and (folder / "hybr.sqlite3").exists():
        plain = sqlite3.connect(folder / "hybr.sqlite3")
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        named = {row[0] for row in plain.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        plain.close()
        assert not named or {"migrations", "preferences", "blobs"} <= named
    database = Database(folder, Secret(place) if place else None)
    try:
        async with database.begin() as connection:
            assert (await connection.execute(text("SELECT count(*) FROM migrations"))).scalar() == len(migrations())
            return await load(connection, "local")
    finally:
        await database.close()


async def test_41_killed_at_ten_moments(
    request: pytest.FixtureRequest, nest: subprocess.Popen[bytes], tmp_path: Path, database_url: Secret | None
) -> None:
    """Killed with -9 at ten random moments the store is whole, and every acknowledged preference is there."""
    await survives(nest, tmp_path, database_url, 10, request.getfixturevalue("postgres") if database_url else None)


@pytest.mark.long
async def test_41_killed_at_a_hundred_moments(
    request: pytest.FixtureRequest, nest: subprocess.Popen[bytes], tmp_path: Path, database_url: Secret | None
) -> None:
    """And so at a hundred."""
    await survives(nest, tmp_path, database_url, 100, request.getfixturevalue("postgres") if database_url else None)
