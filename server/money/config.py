"""What the operator says about money: limits, exceptions and prices, out of one TOML.

HYBR_LIMITS                                  path of a TOML:

    unknown_price = "refuse"                 # or "allow": for callers whose spending is limited
    [limits]                                 # of everybody; what is not named is not limited
    requests_per_minute = 60
    tokens_per_minute = 100000
    streams = 4
    spend_day = 1.0                          # USD, UTC days and months
    spend_month = 20.0
    [limits.token]                           # of every API token, besides its person's
    requests_per_minute = 30
    [limits.users.alice]                     # changes for one person
    spend_day = 5
    [limits.keys.k3yid]                      # changes for one API token, by its public id
    streams = 1
    [prices."box/qwen3:8b"]                  # over the shipped list prices
    input = 0.1
    output = 0.2

Limits hold for all that a person asks through this server, also what their own key pays for: a budget is a bound on what is spent
here, whoever sends the bill, and a fallback of the same request may be on the operator's. Who may spend more of their own money
gets a larger budget under [limits.users].

Where spending is limited, an answer whose request names no bound is held to the tokens that were reserved for it
(`hybr.server.money.estimate.OUTPUT`), and a fallback is asked only where the budget holds its price too.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hybr.server.errors import ConfigError
from hybr.server.money import prices
from hybr.server.money.limits import Limits, Policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hybr.server.money.prices import Prices

COUNTS = ("requests_per_minute", "tokens_per_minute", "streams")
SPENDS = ("spend_day", "spend_month")


@dataclass(frozen=True)
class Money:
    """The operator's word about money."""

    policy: Policy = field(default_factory=Policy)
    prices: Prices = field(default_factory=prices.shipped)


def read(environ: Mapping[str, str]) -> Money:
    """Return what the environment's file says. Raises ConfigError."""
    path = environ.get("HYBR_LIMITS", "")
    if not path:
        return Money()
    try:
        return parse(tomllib.loads(Path(path).expanduser().read_text("utf-8"), parse_float=Decimal))
    except OSError as error:
        bad("HYBR_LIMITS", f"{path} cannot be read ({error.strerror})", "Give the path of a TOML file, or unset it")
    except ValueError as error:
        bad("HYBR_LIMITS", f"{path} is not TOML: {error}", "Mend that line")


def parse(body: Mapping[str, Any]) -> Money:
    """Return the money part of a configuration, its decimals read as Decimal. Raises ConfigError."""
    known = ("unknown_price", "limits", "prices")
    for name in body:
        if name not in known:
            bad(name, "there is no such setting", f"There are {', '.join(known)}")
    tables = dict(table("limits", body.get("limits", {})))
    users, keys, token = (dict(table(f"limits.{name}", tables.pop(name, {}))) for name in ("users", "keys", "token"))
    everybody, tokens = Limits().over(figures("limits", tables)), Limits().over(figures("limits.token", token))
    unknown = body.get("unknown_price", "refuse")
    if unknown not in {"allow", "refuse"}:
        bad("unknown_price", f"{unknown!r} is no choice", 'Write "allow" or "refuse"')
    policy = Policy(
        everybody,
        {name: everybody.over(figures(f"limits.users.{name}", one)) for name, one in users.items()},
        tokens,
        {name: tokens.over(figures(f"limits.keys.{name}", one)) for name, one in keys.items()},
        unknown,
    )
    return Money(policy, prices.over(table("prices", body.get("prices", {}))))


def table(where: str, value: Any) -> Mapping[str, Any]:
    """Return a table. Raises ConfigError for anything else."""
    if not isinstance(value, dict):
        bad(where, "this must be a table", f"Write [{where}]")
    return value


def figures(where: str, value: Any) -> dict[str, int]:
    """Return the limits of one table: counts as they are, USD as nano-dollars. Raises ConfigError."""
    found = {}
    for name, figure in table(where, value).items():
        if name in SPENDS:
            found[name] = prices.nano(f"{where}.{name}", figure)
        elif name not in COUNTS:
            bad(f"{where}.{name}", "there is no such limit", f"There are {', '.join((*COUNTS, *SPENDS))}")
        elif isinstance(figure, bool) or not isinstance(figure, int) or not 1 <= figure <= 10**12:
            bad(f"{where}.{name}", "this must be a whole number from 1", "Leave it out for no limit")
        else:
            found[name] = figure
    return found


def bad(where: str, message: str, remedy: str) -> NoReturn:
    """Raise the error for a mistake in the file."""
    raise ConfigError(f"{where}: {message}", field=where, remedy=remedy)
