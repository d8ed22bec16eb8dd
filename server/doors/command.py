"""`hybr tokens create|list|revoke`: API tokens for scripts, against the same database as the server's.

A token's text is shown once, when it is made. A running server hears of a revocation within two seconds and ends what runs on it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from hybr.server.caller import LOCAL
from hybr.server.errors import ConfigError

if TYPE_CHECKING:
    import argparse

    from hybr.server.store.database import Database


def at_home() -> Database:
    """Return the database of the server that is started with this environment and hybr.toml."""
    from hybr.server.config import load
    from hybr.server.store.database import Database

    told = load().settings
    return Database(told.data, told.database)


def add_parser(subparsers: Any) -> None:
    """Add `tokens` to the frame."""
    tokens = subparsers.add_parser("tokens", help="API tokens for scripts")
    verbs = tokens.add_subparsers(dest="verb", required=True)
    create = verbs.add_parser("create", help="make a token and show it, once")
    create.add_argument("name", help="what it is for")
    create.add_argument(
        "--user", default="", help="whose it is, with HYBR_AUTH=accounts (default: the one person of this machine)"
    )
    create.add_argument("--admin", action="store_true", help="let it do what an administrator may, if its owner is one")
    create.add_argument("--days", type=int, default=0, help="days until it ends (default: it does not)")
    verbs.add_parser("list", help="say which there are")
    verbs.add_parser("revoke", help="end one").add_argument("id", help="its id, as `list` shows it")
    tokens.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what `hybr tokens` was told."""
    return asyncio.run(told(at_home(), args))


async def told(database: Database, args: argparse.Namespace) -> int:
    """Do it in `database`."""
    try:
        await {"create": create, "list": show, "revoke": revoke}[args.verb](database, args)
    finally:
        await database.close()
    return 0


async def create(database: Database, args: argparse.Namespace) -> None:
    """Make a token."""
    from hybr.server.doors.store import create_token

    if not 0 < len(args.name) <= 100 or not args.name.isprintable():
        raise ConfigError("a token's name is 1 to 100 printable characters", field="name", remedy="Say what it is for")
    if not 0 <= args.days <= 3650:
        raise ConfigError("a token lasts 1 to 3650 days", field="--days", remedy="Give 0, or leave it out, for no end")
    expires = time.time() + args.days * 86400 if args.days else None
    async with database.begin() as connection:
        owner = await owner_of(connection, args.user)
        public, text = await create_token(connection, owner, args.name, "admin" if args.admin else "user", expires)
    print(f"{text}\n\nIts id is {public}. This is the only time that the token is shown.")


async def owner_of(connection: Any, name: str) -> str:
    """Return the person's id. Raises ConfigError when there is none of that name."""
    from hybr.server.doors.store import run as execute

    if not name:
        return LOCAL
    found = (await execute(connection, "SELECT id FROM users WHERE name = :name", name=name)).scalar()
    if found is None:
        raise ConfigError(f"there is no {name}", field="--user", remedy="`hybr users list` says who there is")
    return str(found)


async def show(database: Database, args: argparse.Namespace) -> None:  # noqa: ARG001
    """Print every token, without its text, which nobody has any more."""
    from hybr.server.doors.store import tokens

    async with database.begin() as connection:
        for row in await tokens(connection):
            end = time.strftime("until %Y-%m-%d", time.gmtime(row.expires)) if row.expires else "no end"
            state = "revoked" if row.revoked else end
            print(f"{row.id}  {row.person or row.owner:20} {row.role:6} {state:18} {row.name}")


async def revoke(database: Database, args: argparse.Namespace) -> None:
    """End one token. Raises ConfigError when there is none of that id."""
    from hybr.server.doors.store import revoke_token

    async with database.begin() as connection:
        if not await revoke_token(connection, args.id):
            raise ConfigError(f"no token {args.id} holds", field="id", remedy="`hybr tokens list` says which there are")
    print(f"{args.id} is revoked")
