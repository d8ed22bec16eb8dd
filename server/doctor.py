"""`hybr doctor`: what stands between this machine and a running server, each with its remedy; exit code 1 when something fails.

Nothing is built, downloaded or asked of a provider; `--online` lists each upstream's models, which costs nothing. The store is
opened, and so migrated, as a start would.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hybr.server.config.settings import doors_notice
from hybr.server.config.sources import add_flags, load
from hybr.server.errors import HybrError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from hybr.server.config import Settings

ROOM = 1024**3  # bytes below which a build or a growing store soon fails
MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@dataclass(frozen=True)
class Finding:
    """One check: `state` is ok, warn (works, but) or fail."""

    name: str
    state: str
    text: str
    remedy: str = ""


def add_parser(subparsers: Any) -> None:
    """Add `doctor` to the frame."""
    doctor = subparsers.add_parser("doctor", help="check what a server needs here")
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.add_argument("--online", action="store_true", help="ask each upstream for its models too")
    add_flags(doctor)
    doctor.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check everything and print it."""
    settings = load(args).settings
    found = [
        *disk(settings),
        *asyncio.run(asked(settings, online=args.online)),
        *built(settings),
        *doors(settings),
        port(settings),
    ]
    if args.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
    else:
        for one in found:
            print(f"{MARKS[one.state]}  {one.name}: {one.text}" + (f"\n      {one.remedy}" if one.remedy else ""))
    return int(any(one.state == "fail" for one in found))


def disk(settings: Settings) -> Iterator[Finding]:
    """Check the two folders: there or makeable, writable, private, with room."""
    for name, folder in (("data", settings.data), ("cache", settings.home)):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            yield Finding(name, "fail", f"{folder} cannot be written", f"Make it writable, or set HYBR_{name.upper()}")
            continue
        free = shutil.disk_usage(there).free
        text = f"{folder}, {free / 1024**3:.1f} GiB free"
        if name == "data" and folder.exists() and folder.stat().st_mode & 0o077:
            yield Finding(name, "warn", f"{text}; others can look into it", f"chmod 700 {folder}")
        else:
            yield Finding(name, "ok" if free >= ROOM else "warn", text, "" if free >= ROOM else "Make room")


async def asked(settings: Settings, *, online: bool) -> list[Finding]:
    """Check the store, the master key and the upstreams."""
    return [await store(settings), master(settings), *[finding async for finding in upstreams(settings, online=online)]]


async def store(settings: Settings) -> Finding:
    """Open the store and, where it is SQLite, read all of it."""
    from hybr.server.store.database import Database

    database = Database(settings.data, settings.database)
    try:
        async with database.begin() as connection:
            count = (await connection.exec_driver_sql("SELECT count(*) FROM migrations")).scalar()
            kind = connection.dialect.name
            whole = (await connection.exec_driver_sql("PRAGMA integrity_check")).scalar() if kind == "sqlite" else "ok"
    except HybrError as error:
        return Finding("store", "fail", error.message, error.remedy or "")
    finally:
        await database.close()
    if whole != "ok":
        return Finding("store", "fail", "the database's file is damaged", "Put a backup in its place")
    return Finding("store", "ok", f"{kind}, {count} migrations, whole")


def master(settings: Settings) -> Finding:
    """Check that the master key can be read; one that is not there yet is made at its first need."""
    from hybr.server.keys.master import Custody

    custody = Custody.of(settings)
    try:
        held = custody.read()
    except HybrError as error:
        return Finding("master key", "fail", error.message, error.remedy or "")
    return Finding("master key", "ok", f"kept by {custody.kind}" if held else "none yet; made when somebody keeps a key here")


async def upstreams(settings: Settings, *, online: bool) -> Any:
    """Check each upstream that is set up, and whether it answers where that is asked for."""
    from hybr.server.providers import registry

    for one in settings.upstreams.configured:
        text, state = f"{one.base_url}, {'key set' if one.key else 'no key'}", "ok"
        if online:
            remote = registry.remote(one)
            with contextlib.suppress(HybrError):
                state = "ok" if await remote.refresh() else "fail"
            await remote.stop()
        remedy = "" if state == "ok" else "It does not list its models: check address, key and network"
        yield Finding(f"upstream {one.name}", state, text, remedy)
    if not settings.upstreams.configured:
        yield Finding("upstreams", "warn", "none is set up; the house model answers", "Set a key such as OPENAI_API_KEY")


def built(settings: Settings) -> Iterator[Finding]:
    """Say whether page and models are there; both are made at a start."""
    from hybr.mlc_build import catalogue
    from hybr.server.models import Models

    page = any((settings.home / "page").glob("*/index.html"))
    yield Finding("page", "ok" if page else "warn", "built" if page else "not built yet", "" if page else "hybr page build")
    entries = Models(settings.home / "models", catalogue.entries).entries()
    done = [entry["id"] for entry in entries if entry["state"] == "built"]
    text = f"{len(done)} of {len(entries)} built"
    yield Finding("models", "ok" if done else "warn", text, "" if done else "hybr models build, or leave it to the server")


def doors(settings: Settings) -> Iterator[Finding]:
    """Say what a server with accounts wants before it."""
    if notice := doors_notice(settings):
        yield Finding("doors", "warn", notice, "Such as nginx or Caddy with a certificate; nothing to do if one stands there")


def port(settings: Settings) -> Finding:
    """Check that nobody listens where the server would."""
    from hybr.server.serve import bind

    try:
        bind(settings.host, settings.port).close()
    except HybrError as error:
        return Finding("port", "fail", error.message, error.remedy or "")
    except OSError as error:
        return Finding("port", "fail", f"{settings.host}:{settings.port}: {error.strerror}", "Use another --host or --port")
    return Finding("port", "ok", f"{settings.host}:{settings.port} is free")
