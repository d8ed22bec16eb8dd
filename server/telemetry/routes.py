"""`/api/telemetry`: a page's events in; summaries, an export and the caller's own rows' removal out.

POST   /api/telemetry           {"events": [{event, provider, model, device, error, latency, ttft, ...}]}, at most 100
GET    /api/telemetry/summary   ?from&to&group=day|provider|model (an administrator: &owner=*)
GET    /api/telemetry/export    ?format=jsonl|csv, the caller's rows
DELETE /api/telemetry           the caller's rows and sums
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response, StreamingResponse

from hybr.server.body import check_type, decode, read_body
from hybr.server.caller import of as asker
from hybr.server.errors import RequestError
from hybr.server.money.usage import GROUPS, question
from hybr.server.telemetry.buckets import quantile
from hybr.server.telemetry.row import from_page

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Container, Mapping

    from starlette.requests import Request

    from hybr.server.telemetry.writer import Writer

BODY = 64 * 1024
EVENTS = 100
PAGE = 1000
COLUMNS = "id, at, source, event, provider, model, device, error, latency, ttft, prompt, completion, rate, attempts"
KINDS = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}


class Telemetry:
    """The routes over `writer`; `known` gives the names of models and providers that may be stored."""

    def __init__(self, writer: Writer, known: Callable[[], Container[str]]) -> None:
        self.writer = writer
        self.known = known

    async def take(self, request: Request) -> Response:
        """Answer POST: 202, for nothing is promised."""
        check_type(request.scope)
        body = decode(await read_body(request.receive, BODY))
        if not isinstance(body, dict) or set(body) != {"events"} or not isinstance(body["events"], list):
            raise RequestError("send an object with exactly events, a list", field="events")
        if len(body["events"]) > EVENTS:
            raise RequestError(f"at most {EVENTS} events at once", field="events")
        owner, now, known = asker(request.scope).owner, self.writer.wall(), self.known()
        rows = [from_page(f"events[{index}]", event, owner, now, known) for index, event in enumerate(body["events"])]
        for row in rows:
            self.writer.note(row)
        return JSONResponse({"taken": len(rows)}, status_code=202)

    async def summary(self, request: Request) -> Response:
        """Answer the summary: counts, tokens, errors by kind, and medians and 95th percentiles out of the histograms."""
        from sqlalchemy import text

        asked = question(dict(request.query_params), asker(request.scope), self.writer.wall())
        await self.writer.flush()
        columns = GROUPS[asked.group]
        names = ", ".join(columns)
        whose = "" if asked.owner == "*" else "owner = :owner AND "
        statement = (
            f"SELECT {names}, measure, bucket, sum(n) FROM telemetry_days WHERE {whose}day BETWEEN :first AND :last "  # noqa: S608
            f"GROUP BY {names}, measure, bucket ORDER BY {names}"
        )
        values = {"first": asked.first, "last": asked.last} | ({} if asked.owner == "*" else {"owner": asked.owner})
        async with self.writer.database.begin() as connection:
            rows = (await connection.execute(text(statement), values)).all()
        groups: dict[tuple[str, ...], dict[str, Counter[int]]] = defaultdict(lambda: defaultdict(Counter))
        for *key, measure, index, n in rows:
            groups[tuple(key)][measure][index] += int(n)
        data = [dict(zip(columns, key, strict=True)) | shown(measures) for key, measures in groups.items()]
        return JSONResponse({"from": asked.first, "to": asked.last, "group": asked.group, "data": data})

    async def export(self, request: Request) -> Response:
        """Answer the caller's own rows, as they are stored."""
        form = request.query_params.get("format", "jsonl")
        if form not in KINDS:
            raise RequestError(f"format must be one of {', '.join(KINDS)}", field="format")
        await self.writer.flush()
        lines = as_csv if form == "csv" else as_json
        headers = {"content-disposition": f'attachment; filename="telemetry.{form}"'}
        rows = self._rows(asker(request.scope).owner)
        return StreamingResponse(lines(rows), media_type=KINDS[form], headers=headers)

    async def _rows(self, owner: str) -> AsyncIterator[list[dict[str, Any]]]:
        from sqlalchemy import text

        statement = text(f"SELECT {COLUMNS} FROM telemetry WHERE owner = :owner AND id > :last ORDER BY id LIMIT :page")  # noqa: S608
        last = -1
        while True:
            async with self.writer.database.begin() as connection:
                found = (await connection.execute(statement, {"owner": owner, "last": last, "page": PAGE})).mappings().all()
            if not found:
                return
            last = found[-1]["id"]
            yield [{name: value for name, value in row.items() if name != "id"} for row in found]

    async def forget(self, request: Request) -> Response:
        """Answer DELETE."""
        await self.writer.forget(asker(request.scope).owner)
        return Response(status_code=204)


def shown(measures: Mapping[str, Counter[int]]) -> dict[str, Any]:
    """Return one group's figures."""

    def count(measure: str) -> int:
        return sum(measures[measure].values()) if measure in measures else 0

    def quantiles(measure: str, scale: float = 1.0) -> dict[str, float | None]:
        counts = measures.get(measure, Counter())
        found = {name: quantile(counts, share) for name, share in (("p50", 0.5), ("p95", 0.95))}
        return {name: None if value is None else round(value / scale, 1) for name, value in found.items()}

    errors = {name.removeprefix("error:"): count(name) for name in sorted(measures) if name.startswith("error:")}
    events = {name: count(f"event:{name}") for name in ("complete", "fallback", "handover", "error")}
    tokens = {"prompt_tokens": count("prompt"), "completion_tokens": count("completion")}
    times = {"latency_ms": quantiles("latency"), "ttft_ms": quantiles("ttft"), "tokens_per_second": quantiles("rate", 10)}
    return {"events": events, "errors": errors, **tokens, **times}


async def as_json(pages: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[str]:
    """Yield JSON lines."""
    async for rows in pages:
        yield "".join(json.dumps(row) + "\n" for row in rows)


async def as_csv(pages: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[str]:
    """Yield CSV with a line of names first."""
    names = COLUMNS.split(", ")[1:]
    yield ",".join(names) + "\r\n"
    async for rows in pages:
        text = io.StringIO()
        csv.DictWriter(text, names).writerows(rows)
        yield text.getvalue()
