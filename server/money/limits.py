"""How much each caller may have: one set of limits for everybody, with exceptions by person and by API token."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from hybr.server.money.booking import NANO

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hybr.server.caller import Caller

Unknown = Literal["allow", "refuse"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one person or one token; None is no limit. Spending is in nano-dollars, days and months are UTC's.

    Rates and streams count per server process, spending over all processes on one store.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    streams: int | None = None
    spend_day: int | None = None
    spend_month: int | None = None

    def spends(self) -> bool:
        """Say whether money is limited."""
        return self.spend_day is not None or self.spend_month is not None

    def over(self, changes: Mapping[str, int]) -> Limits:
        """Return these limits with some of them changed."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Policy:
    """Who has which limits. `unknown_price` says what becomes of a request whose price nobody knows where spending is limited."""

    everybody: Limits = field(default_factory=Limits)
    users: Mapping[str, Limits] = field(default_factory=dict)
    tokens: Limits = field(default_factory=Limits)
    keys: Mapping[str, Limits] = field(default_factory=dict)
    unknown_price: Unknown = "refuse"

    def scopes(self, caller: Caller) -> list[tuple[str, Limits]]:
        """Return the scopes that count for a caller, each with its limits: the person, and the token they came with."""
        found = [(f"user:{caller.owner}", self.users.get(caller.owner, self.everybody))]
        if caller.token is not None:
            found.append((f"key:{caller.token}", self.keys.get(caller.token, self.tokens)))
        return found


def limits_of(limits: Limits) -> dict[str, Any]:
    """Return limits as they are shown: money in USD, None for no limit."""
    found: dict[str, Any] = asdict(limits)
    return {name: value / NANO if value is not None and name.startswith("spend") else value for name, value in found.items()}
