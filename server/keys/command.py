"""`hybr keys list|rotate|rewrap`: the stored keys' custody, from the command line.

`rewrap` puts every data key under the newest master key; it takes up where it was broken off, for what is done is known by its
name. `rotate` makes a fresh master key, rewraps, and then forgets the old one. `--dry-run` rehearses: it opens every stored key
and wraps in memory, and changes nothing. A rotation that was never rehearsed is an outage.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from hybr.server.doors.command import at_home
from hybr.server.doors.store import changed, run
from hybr.server.errors import ConfigError
from hybr.server.keys.envelope import SealError, name, seal, unseal
from hybr.server.keys.keyring import TOPIC, Row, about_key, about_owner
from hybr.server.keys.master import Custody, Master, generate

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from hybr.server.store.database import Database


def add_parser(subparsers: Any) -> None:
    """Add `keys` to the frame."""
    keys = subparsers.add_parser("keys", help="the people's provider keys and the master key over them")
    verbs = keys.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="say whose keys are stored, without a character of them")
    for verb, text in (("rewrap", "put every data key under the newest master key"), ("rotate", "change the master key")):
        verbs.add_parser(verb, help=text).add_argument("--dry-run", action="store_true", help="rehearse, and change nothing")
    keys.set_defaults(run=run_keys)


def run_keys(args: argparse.Namespace) -> int:
    """Do what `hybr keys` was told."""
    from hybr.server.config import load

    return asyncio.run(told(at_home(), Custody.of(load().settings), args))


async def told(database: Database, custody: Custody, args: argparse.Namespace) -> int:
    """Do it in `database` and return the exit code: 1 when a stored key does not open."""
    try:
        if args.verb == "list":
            return await show(database)
        if args.verb == "rewrap":
            return await rewrap(database, custody.master(), dry=args.dry_run)
        with alone(custody):
            return await rotate(database, custody, dry=args.dry_run)
    finally:
        await database.close()


@contextlib.contextmanager
def alone(custody: Custody) -> Iterator[None]:
    """Hold off every other rotation on this machine: two would each forget the other's fresh key. Raises ConfigError."""
    from hybr.mlc_build.lock import hold

    path = custody.path.with_name(f"{custody.path.name}.lock")
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(hold(path, wait=False))
        except BlockingIOError:
            remedy = "Let it end, then look with `hybr keys list`"
            raise ConfigError("another rotation of the master key is running", field="rotate", remedy=remedy) from None
        yield


async def show(database: Database) -> int:
    """Print whose keys there are."""
    statement = (
        "SELECT k.owner, k.provider, k.suspect, k.sealed, d.wrapped, u.name FROM provider_keys k "
        "LEFT JOIN data_keys d ON d.owner = k.owner LEFT JOIN users u ON u.id = k.owner ORDER BY k.owner, k.provider"
    )
    async with database.begin() as connection:
        for row in await run(connection, statement):
            under = (row.wrapped or "v1:none:").split(":")[1]
            print(
                f"{row.name or row.owner:24} {row.provider:16} under {under}{'  refused by the provider' if row.suspect else ''}"
            )
    return 0


async def rotate(database: Database, custody: Custody, *, dry: bool) -> int:
    """Change the master key: the fresh one first, then everything under it, then the old ones are forgotten."""
    held = custody.texts()
    fresh = generate()
    where = custody.kind
    if dry:
        return await rewrap(database, Master([fresh, *held], where), dry=True)
    custody.keep([fresh, *held])
    code = await rewrap(database, Master([fresh, *held], where), dry=False)
    if code == 0:
        custody.keep([fresh])
        print("the master key is a fresh one; keep a copy of it apart from the database's")
    else:
        print("the old master key is kept beside the fresh one, for the sake of what does not open")
    return code


async def rewrap(database: Database, master: Master, *, dry: bool) -> int:
    """Put every data key under the newest master key, an owner a transaction, and check that all their keys open."""
    newest, done, broken = name(master.newest), 0, 0
    async with database.begin() as connection:
        if not dry:  # waits for keys that are being stored under the master key of before; whoever comes later reads the newest
            await changed(connection, TOPIC)
        owners = list((await run(connection, "SELECT owner FROM data_keys ORDER BY owner")).scalars())
    for owner in owners:
        try:
            done += await rewrap_one(database, master, owner, dry=dry)
        except SealError:
            broken += 1
            print(f"{owner}: a stored key does not open under any master key given")
    print(f"{done} of {len(owners)} data keys {'would be' if dry else 'were'} put under {newest}; {broken} do not open")
    return 1 if broken else 0


async def rewrap_one(database: Database, master: Master, owner: str, *, dry: bool) -> bool:
    """Rewrap one owner's data key and say whether it was not yet under the newest. Raises SealError."""
    async with database.begin() as connection:
        wrapped = (await run(connection, "SELECT wrapped FROM data_keys WHERE owner = :owner", owner=owner)).scalar()
        key = unseal(str(wrapped), about_owner(owner), master.find)
        statement = "SELECT owner, provider, version, sealed, suspect FROM provider_keys WHERE owner = :owner"
        for found in await run(connection, statement, owner=owner):
            row = Row(**found._mapping)  # noqa: SLF001
            unseal(row.sealed, about_key(row.owner, row.provider, row.version), lambda _: key)
        if str(wrapped).startswith(f"v1:{name(master.newest)}:"):
            return False
        again = seal(master.newest, key, about_owner(owner))
        if unseal(again, about_owner(owner), master.find) != key:
            raise SealError
        if not dry:
            statement = "UPDATE data_keys SET wrapped = :again WHERE owner = :owner AND wrapped = :wrapped"
            await run(connection, statement, again=again, owner=owner, wrapped=wrapped)
            await changed(connection, TOPIC)
        return True
