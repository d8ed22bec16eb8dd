"""The ledger's unit: what was used on a day by an owner of one provider's model. Whole numbers, so that sums are exact."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import add
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hybr.server.money.booking import Booking


Key = tuple[str, str]  # a budget: its scope and period


class Row(NamedTuple):
    """Which row of the ledger."""

    day: str
    owner: str
    provider: str
    model: str


FIGURES = ("requests", "prompt", "cached", "completion", "cost", "unpriced", "errors")


class Entry(NamedTuple):
    """A change of one row: figures to add to it. `cost` is nano-dollars, `unpriced` the answers that have none."""

    day: str
    owner: str
    provider: str
    model: str
    requests: int = 0
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    cost: int = 0
    unpriced: int = 0
    errors: int = 0

    @classmethod
    def of(cls, booking: Booking, day: str, model: str) -> Entry:
        """Return all that is to be said of a booking now."""
        provider, failed = booking.provider or "none", booking.kind is not None
        spent = booking.spent
        if spent is None:
            return cls(day, booking.caller.owner, provider, model, requests=1, errors=int(failed))
        return cls(
            day,
            booking.caller.owner,
            provider,
            model,
            1,
            spent.prompt,
            spent.cached,
            spent.completion,
            spent.cost or 0,
            int(spent.cost is None),
            int(failed),
        )

    @property
    def row(self) -> Row:
        """The row it changes."""
        return Row(*self[:4])

    def figures(self) -> tuple[int, ...]:
        """Return the figures in the order of FIGURES."""
        return self[4:]

    def less(self, before: Entry) -> Entry:
        """Return the difference to what was said before of the same booking."""
        changed = (mine - other for mine, other in zip(self.figures(), before.figures(), strict=True))
        return Entry(*self.row, *changed)

    def nothing(self) -> bool:
        """Say whether it changes nothing."""
        return not any(self.figures())


@dataclass
class Batch:
    """Changes that go to the store together, under one name."""

    name: str
    rows: dict[Row, list[int]] = field(default_factory=dict)
    costs: dict[Key, int] = field(default_factory=dict)

    def add(self, entry: Entry, keys: Sequence[Key]) -> None:
        """Add one change."""
        held = self.rows.get(cast("Row", entry[:4]))  # a plain tuple finds it as well
        if held is None:
            self.rows[entry.row] = list(entry.figures())
        else:
            held[:] = map(add, held, entry.figures())
        for key in keys:
            self.costs[key] = self.costs.get(key, 0) + entry.cost
