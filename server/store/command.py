"""`hybr store move --to URL`: take everything to another database; `hybr store status` says which one there is and its schema."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybr.server.config.sources import add_flags, from_file, load
from hybr.server.errors import ConfigError
from hybr.server.secret import Secret

if TYPE_CHECKING:
    import argparse

    from hybr.server.config import Settings


def add_parser(subparsers: Any) -> None:
    """Add `store` to the frame."""
    store = subparsers.add_parser("store", help="the database: its state, and moving it")
    verbs = store.add_subparsers(dest="verb", required=True)
    status = verbs.add_parser("status", help="say where the data is and which schema it has")
    move = verbs.add_parser("move", help="copy everything into another, empty database (stop the server first)")
    to = move.add_mutually_exclusive_group(required=True)
    to.add_argument("--to", metavar="URL", help="postgresql://user@host/name, or sqlite:///path")
    to.add_argument("--to-file", metavar="FILE", help="a file that holds the URL, for one with a password")
    for parser in (status, move):
        add_flags(parser)
    store.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what `hybr store` was told."""
    settings = load(args).settings
    asyncio.run(status(settings) if args.verb == "status" else move(settings, args))
    return 0


async def status(settings: Settings) -> None:
    """Print where the data is and what of the schema is applied."""
    from hybr.server.config.command import masked
    from hybr.server.store.database import Database
    from hybr.server.store.engine import FILE
    from hybr.server.store.migrate import migrations

    database = Database(settings.data, settings.database)
    try:
        async with database.begin() as connection:
            rows = (await connection.exec_driver_sql("SELECT number, name FROM migrations ORDER BY number")).all()
            kind = connection.dialect.name
    finally:
        await database.close()
    place = masked(settings.database) if settings.database else settings.data / FILE
    print(f"{kind}: {place}")
    print(f"schema: {len(rows)} of {len(migrations())} migrations, the newest {rows[-1].number:03} {rows[-1].name}")


async def move(settings: Settings, args: argparse.Namespace) -> None:
    """Move everything and say what to do next."""
    from hybr.server.store.database import Database
    from hybr.server.store.engine import FILE
    from hybr.server.store.move import move as all_rows

    to = Secret(args.to or from_file(args.to_file, "--to-file"))
    here = settings.database.reveal() if settings.database else f"sqlite:///{settings.data / FILE}"
    if to.reveal() == here:
        raise ConfigError("the target is the database there is", field="--to", remedy="Name another one")
    source, target = Database(settings.data, settings.database), Database(Path(), to)
    try:
        await all_rows(source, target, print)
    finally:
        await source.close()
        await target.close()
    print("Every row is there. Set HYBR_DATABASE_URL to it (or database_url in hybr.toml) and start the server.")
