"""People with passwords, for a server that others may reach: `hybr users add|list|passwd|role|disable|enable`.

A person is stored under a random id, so that a name given away again does not inherit anything. Passwords are Argon2id (OWASP's
19 MiB, two passes); an unknown name costs the same work as a wrong password.
"""

from __future__ import annotations

import asyncio
import getpass
import re
import secrets
import sys
import time
from typing import TYPE_CHECKING, Any

from hybr.server.errors import ConfigError

if TYPE_CHECKING:
    import argparse

    from hybr.server.store.database import Database

NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
ROLES = ("admin", "user")
SHORTEST, LONGEST = 12, 1024  # characters of a password; length is what counts (NIST SP 800-63B)
MEMORY, PASSES = 19_456, 2  # KiB and iterations of Argon2id
HASHERS = 2  # at a time: each takes a core and 19 MiB for some 30 ms
NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


class Accounts:
    """The people in `database`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._room = asyncio.Semaphore(HASHERS)

    async def check(self, name: str, password: str) -> str | None:
        """Return the person's id when name and password belong together and they are not disabled."""
        from hybr.server.doors.store import run

        row = None
        if NAME.fullmatch(name):  # no other was ever given away, and PostgreSQL takes no NUL
            async with self.database.begin() as connection:
                statement = "SELECT id, password, disabled FROM users WHERE name = :name"
                row = (await run(connection, statement, name=name)).one_or_none()
        async with self._room:
            right = await asyncio.to_thread(verify, password, row.password if row else NOBODY)
        return str(row.id) if row and right and not row.disabled else None


def scramble(password: str) -> str:
    """Return the password's Argon2id hash in PHC form, with its salt and costs."""
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    return Argon2id(salt=secrets.token_bytes(16), length=32, iterations=PASSES, lanes=1, memory_cost=MEMORY).derive_phc_encoded(
        password.encode()
    )


def verify(password: str, scrambled: str) -> bool:
    """Say whether the password is the one that was scrambled."""
    from cryptography.exceptions import InvalidKey
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    try:
        Argon2id.verify_phc_encoded(password.encode(), scrambled)
    except InvalidKey:
        return False
    return True


async def add(database: Database, name: str, password: str, role: str) -> str:
    """Make a person and return their id. Raises ConfigError for a name that is taken or a password that is too short."""
    from hybr.server.doors.store import run

    check_name(name)
    scrambled = scramble(checked(password))
    identity = f"u_{secrets.token_hex(8)}"
    async with database.begin() as connection:
        if (await run(connection, "SELECT 1 FROM users WHERE name = :name", name=name)).scalar():
            raise bad("name", f"there is a {name} already", "Choose another name, or `hybr users passwd`")
        values = {"id": identity, "name": name, "password": scrambled, "role": role, "now": time.time()}
        await run(connection, "INSERT INTO users VALUES (:id, :name, :password, :role, :now, 0)", **values)
    return identity


async def change(database: Database, name: str, **fields: Any) -> None:
    """Change a person's password, role or disabled, and end their sessions. Raises ConfigError for an unknown name."""
    from hybr.server.doors.store import end_sessions, run

    if "password" in fields:
        fields["password"] = scramble(checked(fields["password"]))
    async with database.begin() as connection:
        owner = (await run(connection, "SELECT id FROM users WHERE name = :name", name=name)).scalar()
        if owner is None:
            raise bad("name", f"there is no {name}", "`hybr users list` says who there is")
        for field, value in fields.items():
            await run(connection, CHANGES[field], value=value, owner=owner)
        await end_sessions(connection, owner)  # counts up "doors" too, by which API tokens are looked at again


CHANGES = {
    "password": "UPDATE users SET password = :value WHERE id = :owner",
    "role": "UPDATE users SET role = :value WHERE id = :owner",
    "disabled": "UPDATE users SET disabled = :value WHERE id = :owner",
}


def check_name(name: str) -> None:
    """Raise ConfigError for a name that two people could take for the same."""
    if not NAME.fullmatch(name):
        raise bad("name", "a name is 1 to 64 lower-case letters, digits and . _ @ -", "Choose another")


def checked(password: str) -> str:
    """Return the password. Raises ConfigError when it is too short."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise bad("password", f"a password has {SHORTEST} to {LONGEST} characters", "A few unrelated words are a good one")
    return password


def bad(field: str, message: str, remedy: str) -> ConfigError:
    """Return the error for something the command line was told."""
    return ConfigError(message, field=field, remedy=remedy)


def add_parser(subparsers: Any) -> None:
    """Add `users` to the frame."""
    users = subparsers.add_parser("users", help="the people who may log in when HYBR_AUTH=accounts")
    verbs = users.add_subparsers(dest="verb", required=True)
    for verb, text in (("add", "make a person"), ("passwd", "set a password"), ("role", "set a role")):
        parser = verbs.add_parser(verb, help=text)
        parser.add_argument("name")
        if verb != "passwd":
            parser.add_argument(*(["--role"] if verb == "add" else ["role"]), choices=ROLES, default="user")
        if verb != "role":
            parser.add_argument("--stdin", action="store_true", help="read the password from standard input")
    for verb, text in (("disable", "end a person's sessions and let them in no more"), ("enable", "let them in again")):
        verbs.add_parser(verb, help=text).add_argument("name")
    verbs.add_parser("list", help="say who there is")
    users.set_defaults(run=run_users)


def run_users(args: argparse.Namespace) -> int:
    """Do what `hybr users` was told."""
    from hybr.server.doors.command import at_home

    return asyncio.run(told(at_home(), args))


async def told(database: Database, args: argparse.Namespace) -> int:
    """Do it in `database`."""
    try:
        if args.verb == "add":
            await add(database, args.name, asked(stdin=args.stdin), args.role)
        elif args.verb == "passwd":
            await change(database, args.name, password=asked(stdin=args.stdin))
        elif args.verb == "role":
            await change(database, args.name, role=args.role)
        elif args.verb == "list":
            await show(database)
        else:
            await change(database, args.name, disabled=int(args.verb == "disable"))
    finally:
        await database.close()
    return 0


async def show(database: Database) -> None:
    """Print everybody."""
    from hybr.server.doors.store import run

    async with database.begin() as connection:
        for row in await run(connection, "SELECT name, role, created, disabled FROM users ORDER BY name"):
            since = time.strftime("%Y-%m-%d", time.gmtime(row.created))
            print(f"{row.name:30} {row.role:6} since {since}{'  disabled' if row.disabled else ''}")


def asked(*, stdin: bool) -> str:
    """Return a password: never from the command line, which every process on the machine can read."""
    if stdin or not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass("password: ")
    if getpass.getpass("again: ") != first:
        raise bad("password", "the two are not the same", "Try again")
    return first
