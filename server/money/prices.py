"""Prices as data: `prices.toml` beside this file, over it what the operator says, each with the day from which it holds.

A model's price is the newest that has begun, of the longest pattern that fits its id: `*` stands for any end, so
`openai/gpt-5-mini*` covers dated names too. Amounts are nano-dollars for a million tokens; a model that no pattern fits has no
price, which is not the same as costing nothing.
"""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

from hybr.server.errors import ConfigError
from hybr.server.paths import package

MILLION = 1_000_000
NANO = 1_000_000_000
PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}\*?|\*")
REMEDY = (
    'Write [prices."provider/model"] with input and output in USD for a million tokens, and cached_input and from if you like'
)
KNOWN = 4096  # ids whose price is remembered


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-dollars for a million tokens, from the UTC day `begins` (ISO)."""

    input: int
    output: int
    cached_input: int
    begins: str = "1970-01-01"

    def cost(self, prompt: int, completion: int, cached: int) -> int:
        """Return the nano-dollars for an answer, `cached` being part of `prompt`; halves are rounded up."""
        total = (prompt - cached) * self.input + cached * self.cached_input + completion * self.output
        return (total + MILLION // 2) // MILLION

    def wire(self) -> dict[str, Any]:
        """Return USD for a million tokens, as `/api/prices` says it."""
        figures = {"input": self.input / NANO, "output": self.output / NANO, "cached_input": self.cached_input / NANO}
        return {**figures, "from": self.begins}


FREE = Price(0, 0, 0)


class Prices:
    """The price of any model on any day. `version` names the data, for whoever keeps a copy; `own` are the operator's in it."""

    def __init__(
        self, table: Mapping[str, tuple[Price, ...]], version: str, own: Mapping[str, tuple[Price, ...]] | None = None
    ) -> None:
        self.version = version
        self.own = own or {}
        self._table = {
            pattern: tuple(sorted(prices, key=lambda one: one.begins, reverse=True)) for pattern, prices in table.items()
        }
        self._known: dict[tuple[str, str], Price | None] = {}

    def find(self, model: str, day: str) -> Price | None:
        """Return the price of a model's id (as `/v1/models` lists it) on a UTC day, None when nobody knows it."""
        key = (model, day)
        try:
            return self._known[key]
        except KeyError:
            if len(self._known) >= KNOWN:
                self._known.clear()  # ids that are not listed can be anybody's invention
            found = self._known[key] = self._look(model, day)
            return found

    def _look(self, model: str, day: str) -> Price | None:
        if "/" not in model:
            return FREE  # the house's: only upstreams' models have a provider before them
        fitting = [one for one in self._table if one == model or (one.endswith("*") and model.startswith(one[:-1]))]
        for pattern in sorted(fitting, key=lambda one: (len(one.rstrip("*")), not one.endswith("*")), reverse=True):
            for price in self._table[pattern]:
                if price.begins <= day:
                    return price
        return None


@cache
def shipped() -> Prices:
    """Return the list prices that come with this program."""
    body = tomllib.loads((package("server") / "money" / "prices.toml").read_text("utf-8"), parse_float=Decimal)
    return Prices(parse(body["prices"]), str(body["version"]))


def over(own: Mapping[str, Any]) -> Prices:
    """Return the shipped prices with the operator's `[prices]` tables over them. Raises ConfigError."""
    base = shipped()
    if not own:
        return base
    parsed = parse(own)
    return Prices(base._table | parsed, f"{base.version}+own", parsed)  # noqa: SLF001  of its own class


def parse(tables: Mapping[str, Any]) -> dict[str, tuple[Price, ...]]:
    """Return pattern to prices. A pattern's value is a table, or a list of them with different `from`. Raises ConfigError."""
    found = {}
    for pattern, value in tables.items():
        where = f'prices."{pattern[:100]}"'
        if not PATTERN.fullmatch(pattern):
            raise ConfigError(f"{where}: a model is provider/model, with * at its end at most", field=where, remedy=REMEDY)
        entries = value if isinstance(value, list) else [value]
        found[pattern] = tuple(one_price(where, entry) for entry in entries)
    return found


def one_price(where: str, entry: Any) -> Price:
    """Return the price of one table. Raises ConfigError."""
    if not isinstance(entry, Mapping) or not {"input", "output"} <= set(entry) <= {"input", "output", "cached_input", "from"}:
        raise ConfigError(f"{where}: this must be a table with input and output", field=where, remedy=REMEDY)
    fee = {name: nano(f"{where}.{name}", entry[name]) for name in ("input", "output", "cached_input") if name in entry}
    begins = entry.get("from", dt.date(1970, 1, 1))
    if not isinstance(begins, dt.date) or isinstance(begins, dt.datetime):
        raise ConfigError(f"{where}.from: this must be a date", field=f"{where}.from", remedy="Write from = 2026-01-31")
    return Price(fee["input"], fee["output"], fee.get("cached_input", fee["input"]), begins.isoformat())


def nano(where: str, value: Any) -> int:
    """Return USD as nano-dollars, exactly. Raises ConfigError."""
    good = isinstance(value, int | Decimal) and not isinstance(value, bool) and Decimal(value).is_finite()
    amount = Decimal(value) * NANO if good else Decimal(-1)
    if not 0 <= amount <= 10**6 * NANO or amount != int(amount):
        text = f"{where}: this must be USD from 0 to 1000000 with at most nine decimals"
        raise ConfigError(text, field=where, remedy="Write it as 0.25")
    return int(amount)
