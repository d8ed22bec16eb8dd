"""`hybr config show`: every setting, limit and price, and where it came from; `hybr config check` says whether it all fits.

A secret shows as *** and a database's address without its password, so that the output can go into a bug report.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

from hybr.server.config.settings import catalogue
from hybr.server.config.sources import PARTS, Told, add_flags, load, spelt
from hybr.server.money.limits import Policy, limits_of
from hybr.server.money.prices import NANO, shipped
from hybr.server.secret import Secret
from hybr.server.upstreams import KEY_NAMES

if TYPE_CHECKING:
    import argparse

    from hybr.server.money.config import Money

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
    place = {variable: part_source(variable, told) for variable in PARTS}
    for upstream in told.settings.upstreams.configured:
        key = "key set" if upstream.key else "no key"
        found.append(
            {
                "name": f"upstreams.{upstream.name}",
                "value": f"{upstream.base_url} ({key})",
                "source": key_source(upstream.name) or place["HYBR_UPSTREAMS"],
            }
        )
    for name, lacks in told.settings.upstreams.missing.items():
        found.append({"name": f"upstreams.{name}", "value": f"not set up ({lacks})", "source": "default"})
    return found + money_rows(told.settings.money, place["HYBR_LIMITS"])


def key_source(name: str) -> str:
    """Return the variable whose key alone sets a provider up, empty for a provider that a file describes."""
    variable = KEY_NAMES.get(name, "")
    return next((one for one in (variable, f"{variable}_FILE") if variable and os.environ.get(one, "").strip()), "")


def part_source(variable: str, told: Told) -> str:
    """Return where a part's tables stand: in the file that its variable names, else in the settings' file if there is one."""
    if named := os.environ.get(variable, "").strip():
        return f"{named} ({variable})"
    return f"{told.file}" if told.file else "default"


def money_rows(money: Money, source: str) -> list[dict[str, str]]:
    """Return who has which limits, what becomes of an unknown price, and the prices: the operator's own and which list else."""
    policy = money.policy
    tables = {"limits": policy.everybody, "limits.token": policy.tokens}
    tables |= {f"limits.users.{name}": one for name, one in policy.users.items()}
    tables |= {f"limits.keys.{name}": one for name, one in policy.keys.items()}
    found = []
    for name, limits in tables.items():
        said = [f"{word}={value}" for word, value in limits_of(limits).items() if value is not None]
        here = source if said or "." in name.removeprefix("limits.token") else "default"
        found.append({"name": name, "value": ", ".join(said) or "no limit", "source": here})
    unknown = "default" if policy.unknown_price == Policy().unknown_price else source
    found.append({"name": "unknown_price", "value": policy.unknown_price, "source": unknown})
    for pattern, prices in money.prices.own.items():
        fees = "; ".join(f"{one.input / NANO:g} in, {one.output / NANO:g} out from {one.begins}" for one in prices)
        found.append({"name": f'prices."{pattern}"', "value": f"USD a million tokens: {fees}", "source": source})
    return [*found, {"name": "prices", "value": f"list prices of {shipped().version}", "source": "default"}]


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
