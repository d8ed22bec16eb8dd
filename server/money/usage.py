"""`/api/usage`, what was used and what it cost, and `/api/prices`, what it will cost.

`GET /api/usage?from=2026-11-01&to=2026-11-30&group=day` (or provider, model; UTC days, both ends in it; this month without them)
answers the caller's own rows, `owner=NAME` or `owner=*` an administrator's question about others. Sums are made by the store in
nano-dollars; `cost` in USD is for reading, `cost_nano` for calculating.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.responses import JSONResponse

from hybr.server.caller import of as asker
from hybr.server.errors import RefusedError, RequestError
from hybr.server.money.booking import NANO
from hybr.server.money.ledger import FIGURES
from hybr.server.money.limits import limits_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection
    from starlette.requests import Request

    from hybr.server.caller import Caller
    from hybr.server.money.meter import Meter
    from hybr.server.money.till import Till
    from hybr.server.relay import Relay
    from hybr.server.store.database import Database

GROUPS = {"day": ("day",), "provider": ("provider",), "model": ("provider", "model")}
NAMES = dict(
    zip(
        FIGURES,
        ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "cost_nano", "unpriced", "errors"),
        strict=True,
    )
)
QUESTION = ("from", "to", "group", "owner")
DAYS = 400  # the most that one question spans


class Usage:
    """The two routes."""

    def __init__(self, database: Database, till: Till, meter: Meter, relay: Relay) -> None:
        self.database = database
        self.till = till
        self.meter = meter
        self.relay = relay

    async def prices(self, request: Request) -> JSONResponse:
        """Answer `/api/prices`: of what the caller can ask for now, each model whose price is known."""
        offered = self.relay.offered(asker(request.scope))
        prices = {model.id: self.meter.shown(model.provider, model.id) for model in offered}
        models = {name: price for name, price in prices.items() if price is not None}
        return JSONResponse({"version": self.meter.prices.version, "currency": "USD", "models": models})

    async def usage(self, request: Request) -> JSONResponse:
        """Answer `/api/usage`."""
        who = asker(request.scope)
        asked = question(dict(request.query_params), who, self.meter.wall())
        await self.till.settle()  # so that a person sees the answer they just had
        columns = GROUPS[asked.group]
        async with self.database.begin() as connection:
            rows = await grouped(connection, asked, columns)
        shown = [dict(zip(columns, row, strict=False)) | figures_of(row[len(columns) :]) for row in rows]
        total = figures_of(
            [sum(column) for column in zip(*(row[len(columns) :] for row in rows), strict=True)] or [0] * len(FIGURES)
        )
        told = {"from": asked.first, "to": asked.last, "group": asked.group, "currency": "USD"}
        limits = [{"scope": scope.partition(":")[0], **limits_of(one)} for scope, one in self.meter.policy.scopes(who)]
        return JSONResponse({**told, "data": shown, "total": total, "limits": limits})

    async def forget(self, owner: str) -> None:
        """Remove an owner's rows; budgets keep their bare sums, or forgetting would be a way around a limit."""
        from sqlalchemy import text

        await self.till.settle()
        async with self.database.begin() as connection:
            await connection.execute(text("DELETE FROM ledger WHERE owner = :owner"), {"owner": owner})


class Question(NamedTuple):
    """Whose rows (`*` for everybody's), from which UTC day to which, and how they are grouped."""

    owner: str
    first: str
    last: str
    group: str


def question(asked: Mapping[str, str], who: Caller, now: float) -> Question:
    """Return what a query asks for. Raises RequestError and RefusedError."""
    for name in asked:
        if name not in QUESTION:
            text = f"there is no {name[:50]!r} here; there are {', '.join(QUESTION)}"
            raise RequestError(text, code="unknown_field", field=name[:50])
    last = day("to", asked.get("to"), dt.datetime.fromtimestamp(now, dt.UTC).date())
    first = day("from", asked.get("from"), last.replace(day=1))
    if not 0 <= (last - first).days < DAYS:
        raise RequestError(f"from must not be after to, nor {DAYS} days before it", field="from")
    group = asked.get("group", "day")
    if group not in GROUPS:
        raise RequestError(f"group must be one of {', '.join(GROUPS)}", field="group")
    owner = asked.get("owner", who.owner)
    if owner != who.owner and who.role != "admin":
        raise RefusedError("only an administrator may see what others use", code="not_admin", field="owner")
    return Question(owner, first.isoformat(), last.isoformat(), group)


async def grouped(connection: AsyncConnection, asked: Question, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the columns and the figures' sums, in the columns' order."""
    from sqlalchemy import text

    names = ", ".join(columns)  # out of GROUPS, never out of a request
    sums = ", ".join(f"sum({name})" for name in FIGURES)
    whose = "" if asked.owner == "*" else "owner = :owner AND "
    where = f"{whose}day BETWEEN :first AND :last GROUP BY {names} ORDER BY {names}"
    values = {"first": asked.first, "last": asked.last} | ({"owner": asked.owner} if whose else {})
    rows = (await connection.execute(text(f"SELECT {names}, {sums} FROM ledger WHERE {where}"), values)).all()  # noqa: S608
    return [(*row[: len(columns)], *(int(figure) for figure in row[len(columns) :])) for row in rows]


def figures_of(row: Sequence[int]) -> dict[str, Any]:
    """Return the figures by their names on the wire."""
    found = {NAMES[name]: figure for name, figure in zip(FIGURES, row, strict=True)}
    return {**found, "cost": found["cost_nano"] / NANO}


def day(name: str, value: str | None, default: dt.date) -> dt.date:
    """Return a day of the question. Raises RequestError."""
    if value is None:
        return default
    try:
        found = dt.date.fromisoformat(value)
    except ValueError:
        found = dt.date.min
    if len(value) != 10 or found.year < 2000:
        raise RequestError(f"{name} must be a day such as 2026-11-22", field=name)
    return found
