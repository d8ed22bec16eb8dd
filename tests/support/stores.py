"""The store's databases as fixtures: `database` runs a test twice, over SQLite and over PostgreSQL.

tests/conftest.py lists this module in `pytest_plugins`, so every test can ask for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from postgres import Cluster

from hybr.server.secret import Secret
from hybr.server.store.database import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

BACKENDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """One private PostgreSQL for all tests of the session."""
    cluster = Cluster()
    yield cluster
    cluster.end()


@pytest.fixture
def postgres_url(postgres: Cluster) -> Iterator[str]:
    """The URL of a fresh, empty database."""
    url = postgres.fresh()
    yield url
    postgres.drop(url)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The name of the database that this run of the test is over."""
    return str(request.param)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, backend: str, monkeypatch: pytest.MonkeyPatch) -> Secret | None:
    """What `HYBR_DATABASE_URL` says: nothing for SQLite. The store is patient, however busy the machine."""
    monkeypatch.setattr("hybr.server.store.engine.BUSY", 30.0)
    return Secret(request.getfixturevalue("postgres_url")) if backend == "postgresql" else None


@pytest.fixture
async def database(tmp_path: Path, database_url: Secret | None) -> AsyncIterator[Database]:
    """An empty store, over SQLite and over PostgreSQL; opened, and so migrated, at its first use."""
    store = Database(tmp_path / "data", database_url)
    yield store
    await store.close()
