"""`hybr config show`: every setting, its value and where it came from; `hybr config check` says whether it holds together.

A secret shows as *** and a database's address without its password, so that the output can go into a bug report.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from hybr.server.config.settings import catalogue
from hybr.server.config.sources import PARTS, Told, add_flags, load, spelt
from hybr.server.secret import Secret

if TYPE_CHECKING:
    import argparse

PASSWORD = re.compile(r"(?<=://)([^/@:]*):.*@")  # greedy: a password with an @ in it is covered to its end
ASKED = re.compile(r"\?.*")


def add_parser(subparsers: Any) -> None:
    """Add `config` to the frame."""
    config = subparsers.add_parser("config", help="show every setting and where it came from")
    verbs = config.add_subparsers(dest="verb", required=True)
    for verb, text in (("show", "print every setting, secrets masked"), ("check", "say nothing, or what is wrong")):
        parser = verbs.add_parser(verb, help=text)
        if verb == "show":
            parser.add_argument("--json", action="store_true", help="for programs")
        add_flags(parser)
    config.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what `hybr config` was told."""
    told = load(args)
    if args.verb == "show":
        found = rows(told)
        print(json.dumps(found, indent=2) if args.json else drawn(found, told))
    return 0


def rows(told: Told) -> list[dict[str, str]]:
    """Return name, value and source of everything that can be set, as texts that hold no secret."""
    found = []
    for one in catalogue():
        value = getattr(told.settings, one.field)
        found.append({"name": one.key, "value": masked(value), "source": told.origins[one.key]})
    place = {variable: f"{told.file}" if told.file else variable for variable in PARTS}
    for upstream in told.settings.upstreams.configured:
        key = "key set" if upstream.key else "no key"
        found.append(
            {"name": f"upstreams.{upstream.name}", "value": f"{upstream.base_url} ({key})", "source": place["HYBR_UPSTREAMS"]}
        )
    for name, lacks in told.settings.upstreams.missing.items():
        found.append({"name": f"upstreams.{name}", "value": f"not set up ({lacks})", "source": "default"})
    return found


def masked(value: Any) -> str:
    """Return the value as a text: a URL without password and options, any other secret as ***."""
    if isinstance(value, Secret):
        text = value.reveal()
        return ASKED.sub("", PASSWORD.sub(r"\1:***@", text)) if "://" in text else "***"
    return spelt(value)


def drawn(found: list[dict[str, str]], told: Told) -> str:
    """Return the rows as a table for a person."""
    wide = [max(len(row[name]) for row in found) for name in ("name", "value")]
    lines = [f"{row['name']:{wide[0]}}  {row['value']:{min(wide[1], 60)}}  {row['source']}" for row in found]
    return "\n".join([*lines, "", f"file: {told.file or 'none'}"])
