"""Who may do what: every route by its owner, another person, an administrator, nobody and a revoked token (adverse 30, 34, 35).

The table is compared with the application's routes: a route that nobody thought about fails here. What belongs to Ada carries a
canary; the others ask every route for it, by its id, by a guess and by naming her, and may neither read nor change a thing.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import httpx
import pytest
from fakes import openai
from fakes.gateway import parts_of
from fakes.wire import wired
from people import browser, person, routes, token
from serving import listening, question

from hybr.server.doors import store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hybr.server.serve import Parts

CANARY, BLOB = "adas-canary", "adas-blob"
KEY = "sk-adas-canary-0123456789"
JSON = {"content-type": "application/json"}
BYTES = {"content-type": "application/octet-stream"}
ASK = question(model="openai/gpt-5-mini", max_tokens=5)

# public: anybody. page: a document, or the way in. own: who asks, for themselves. admin: an administrator, or nobody's concern.
Kind = Literal["public", "page", "own", "admin"]


@dataclass(frozen=True)
class Row:
    """One route. `path` stands for it in requests; `ada` marks one whose answer to Ada holds her canary once it is set."""

    kind: Kind
    path: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    ada: bool = False


def blob(**headers: str) -> dict[str, str]:
    """Return the headers of a blob's writing."""
    return {**BYTES, **{name.replace("_", "-"): value for name, value in headers.items()}}


ROWS: dict[str, Row] = {
    "GET /healthz": Row("public", "/healthz"),
    "GET /readyz": Row("public", "/readyz"),
    "GET /docs": Row("own", "/docs"),
    "GET /openapi.json": Row("own", "/openapi.json"),
    "GET /favicon.ico": Row("public", "/favicon.ico"),
    "GET /assets/x": Row("public", "/assets/0000/none.js"),
    "GET /local/assets/x": Row("public", "/local/assets/0000/none.js"),
    "GET /remote/assets/x": Row("own", "/remote/assets/0000/none.js"),
    "GET /models/index.json": Row("public", "/models/index.json"),
    "GET /models/x/x/x": Row("public", "/models/tiny/0/none"),
    "POST /api/session": Row("public", "/api/session", {"name": "ada", "password": "guess"}, JSON),
    "GET /": Row("page", "/"),
    "GET /local": Row("page", "/local"),
    "GET /api/session": Row("own", "/api/session"),
    "DELETE /api/session": Row("own", "/api/session"),
    "GET /v1/models": Row("own", "/v1/models"),
    "GET /v1/models/x": Row("own", "/v1/models/openai/gpt-5-mini"),
    "POST /v1/chat/completions": Row("own", "/v1/chat/completions", ASK, JSON),
    "POST /v1/messages": Row("own", "/v1/messages", ASK | {"temperature": 1}, JSON),
    "POST /v1/messages/count_tokens": Row(
        "own", "/v1/messages/count_tokens", {"model": ASK["model"], "messages": ASK["messages"]}, JSON
    ),
    "POST /v1/embeddings": Row("own", "/v1/embeddings", {"model": "openai/gpt-5-mini", "input": "x"}, JSON),
    "GET /api/keys": Row("own", "/api/keys"),
    "GET /api/keys/openai": Row("own", "/api/keys/openai"),
    "PUT /api/keys/openai": Row("own", "/api/keys/openai", {"key": openai.KEY}, JSON),
    "DELETE /api/keys/openai": Row("own", "/api/keys/openai"),
    "GET /api/providers": Row("own", "/api/providers"),
    "GET /api/preferences": Row("own", "/api/preferences", ada=True),
    "PUT /api/preferences": Row("own", "/api/preferences", {"version": 1, "preferences": {"model": "other"}}, JSON),
    "GET /api/blobs": Row("own", "/api/blobs"),
    "GET /api/blobs/x": Row("own", f"/api/blobs/{BLOB}", ada=True),
    "PUT /api/blobs/x": Row("own", f"/api/blobs/{BLOB}", b"other", blob(if_match='"1"')),
    "DELETE /api/blobs/x": Row("own", f"/api/blobs/{BLOB}", None, {"if-match": "*"}),
    "GET /api/prices": Row("own", "/api/prices"),
    "GET /api/usage": Row("own", "/api/usage"),
    "GET /api/telemetry/summary": Row("own", "/api/telemetry/summary"),
    "GET /api/telemetry/export": Row("own", "/api/telemetry/export"),
    "POST /api/telemetry": Row("own", "/api/telemetry", {"events": []}, JSON),
    "DELETE /api/telemetry": Row("own", "/api/telemetry"),
    "DELETE /api/me/data": Row("own", "/api/me/data"),
    "GET /metrics": Row("admin", "/metrics"),
}
LAST = ["DELETE /api/me/data", "DELETE /api/session"]  # what ends the rest
READ = [name for name in ROWS if name.startswith("GET")]


async def send(client: httpx.AsyncClient, name: str, headers: dict[str, str], query: str = "") -> httpx.Response:
    """Ask one route."""
    row = ROWS[name]
    content = row.body if isinstance(row.body, bytes) else None if row.body is None else json.dumps(row.body).encode()
    return await client.request(name.partition(" ")[0], row.path + query, content=content, headers={**row.headers, **headers})


@dataclass
class House:
    """A server with Ada, whose things carry the canary, and others: headers by who asks."""

    parts: Parts
    ada: str
    who: dict[str, dict[str, str]]
    client: httpx.AsyncClient
    asked: list[Any]

    async def snapshot(self) -> list[str]:
        """Return all that Ada keeps here, as she reads it."""
        names = [name for name in READ if "keys" in name or "blobs" in name or "preferences" in name]
        return [(await send(self.client, name, self.who["ada"])).text for name in names]


@contextlib.asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    """Set up the server and its people."""
    keys = {openai.KEY, KEY}

    def answer(asked: Any) -> Any:
        given = asked.headers.get("authorization", "").removeprefix("Bearer ")
        return openai.answer(asked, given if given in keys else openai.KEY)

    async with wired(answer) as wire:
        parts = parts_of(folder, "openai", wire.address, openai.KEY, auth="accounts", models=["gpt-5-mini"])
        async with listening(parts) as address, browser(address) as client:
            ids = {
                "ada": await person(parts, "ada"),
                "eve": await person(parts, "eve"),
                "root": await person(parts, "root", "admin"),
            }
            who: dict[str, dict[str, str]] = {"nobody": {}}
            for name, owner in ids.items():
                _, text = await token(parts, owner, "admin")
                who[name] = {"authorization": f"Bearer {text}"}
            public, text = await token(parts, ids["ada"], "admin")
            who["revoked"] = {"authorization": f"Bearer {text}"}
            async with parts.database.begin() as connection:
                await store.revoke_token(connection, public)
            found = House(parts, ids["ada"], who, client, wire.asked)
            await seed(found)
            yield found


async def seed(one: House) -> None:
    """Give Ada things."""
    mine = one.who["ada"]
    steps = [
        ("PUT", "/api/preferences", json.dumps({"version": 0, "preferences": {"model": CANARY}}), JSON),
        ("PUT", f"/api/blobs/{BLOB}", CANARY, blob(if_none_match="*")),
        ("PUT", "/api/keys/openai", json.dumps({"key": KEY}), JSON),
        ("POST", "/v1/chat/completions", json.dumps(ASK), JSON),
    ]
    for method, path, content, headers in steps:
        answer = await one.client.request(method, path, content=content, headers={**headers, **mine})
        assert answer.status_code in {200, 201}, (path, answer.text)


def test_every_route_has_a_row(tmp_path: Path) -> None:
    """The table names the application's routes, no more and no fewer: who may ask a new one must be said here."""
    from serving import parts_in

    assert {f"{method} {path}" for method, path in routes(parts_in(tmp_path))} == set(ROWS)


async def test_nobody_and_a_revoked_token(tmp_path: Path) -> None:
    """Without a credential that holds, everything but the public is the same 401, and nothing happens behind it."""
    async with house(tmp_path) as one:
        before, asked = await one.snapshot(), len(one.asked)
        for name, row in ROWS.items():
            for who in ("nobody", "revoked"):
                answer = await send(one.client, name, one.who[who])
                shut = row.kind != "public" or name == "POST /api/session"
                assert (answer.status_code == 401) == shut, (name, who, answer.status_code)
                assert CANARY not in answer.text
                assert row.kind != "page" or 'data-testid="door"' in answer.text
        assert len(one.asked) == asked, "no provider was asked for them"
        assert await one.snapshot() == before


@pytest.mark.parametrize("who", ["eve", "root"])
async def test_34_another_persons_things(tmp_path: Path, who: str) -> None:
    """Another person, an administrator too, finds nothing of Ada's by id, by guess or by naming her, and changes nothing."""
    async with house(tmp_path) as one:
        before, used = await one.snapshot(), sum(KEY in str(asked.headers) for asked in one.asked)
        assert used == 2, "tried when it was set, and her own question"
        assert [CANARY in text or BLOB in text or '"person"' in text for text in before] == [True] * 5
        for name, nothing in (
            ("GET /api/telemetry/export", ""),
            ("GET /api/blobs", '"blobs":[]'),
            ("GET /api/usage", '"data":[]'),
        ):
            assert nothing in (await send(one.client, name, one.who[who])).text, name
        assert (await send(one.client, "GET /api/telemetry/export", one.who[who])).text == ""
        last = [name for name in ROWS if name not in LAST] + LAST
        for name in last:
            for query in ("", f"?owner={one.ada}&user={one.ada}", "?owner=*"):
                answer = await send(one.client, name, one.who[who], query)
                assert answer.status_code < 500, (name, query, answer.text)
                assert CANARY not in answer.text, (name, query)
                assert answer.status_code != 401 or ROWS[name].kind == "admin" or name == "POST /api/session", (name, query)
                if "owner=" in query and who == "eve" and name in {"GET /api/usage", "GET /api/telemetry/summary"}:
                    assert answer.status_code in {400, 403}, (name, query)
        assert await one.snapshot() == before
        assert sum(KEY in str(asked.headers) for asked in one.asked) == used, "her key paid for nobody else"


async def test_an_owner_reaches_their_own(tmp_path: Path) -> None:
    """Ada reads what is hers, metrics are for an administrator alone, and a user's token is no administrator's."""
    async with house(tmp_path) as one:
        for name, row in ROWS.items():
            if name in READ and row.kind in {"own", "page"}:
                there = 404 if row.path.endswith("/none.js") else 200  # this house has no bundle
                assert (await send(one.client, name, one.who["ada"])).status_code == there, name
            if row.ada:
                assert CANARY in (await send(one.client, name, one.who["ada"])).text, name
        assert (await send(one.client, "GET /metrics", one.who["ada"])).status_code == 401
        assert (await send(one.client, "GET /metrics", one.who["root"])).status_code == 200
        assert (await send(one.client, "GET /api/session", one.who["ada"])).json()["role"] == "user", "asked for admin, is none"


EXTRA = {
    "role": "admin",
    "owner": "OWNER",
    "user_id": "OWNER",
    "budget": 1e9,
    "disabled": 0,
    "version_": 99,
    "caller": {"role": "admin"},
}


async def test_35_mass_assignment(tmp_path: Path) -> None:
    """Fields that nobody offers (`role`, `owner`, `budget` ...) are refused or without effect on every write."""
    async with house(tmp_path) as one:
        before = await one.snapshot()
        extra = json.loads(json.dumps(EXTRA).replace("OWNER", one.ada))
        for name, row in ROWS.items():
            if isinstance(row.body, dict):
                for word, value in extra.items():
                    body = json.dumps(row.body | {word: value})
                    answer = await one.client.request(name.split()[0], row.path, content=body, headers={**JSON, **one.who["eve"]})
                    fine = name == "POST /api/session" and answer.status_code == 429
                    assert 400 <= answer.status_code < 500 or fine, (name, word, answer.status_code)
        assert (await send(one.client, "GET /api/session", one.who["eve"])).json()["role"] == "user"
        assert await one.snapshot() == before


META = ["' OR '1'='1", "'; DROP TABLE users; --", "x' UNION SELECT digest FROM api_tokens --", '" OR ""="']


async def test_30_sql_metacharacters(tmp_path: Path) -> None:
    """In every header, path and field they are text: each statement that runs is one of ours, its values bound beside it."""
    from sqlalchemy import event

    async with house(tmp_path) as one:
        ran: list[str] = []
        engine = (await one.parts.database.engine()).sync_engine
        event.listen(engine, "before_cursor_execute", lambda *given: ran.append(given[2]))
        before = await one.snapshot()
        for bad in META:
            headers = {"user-agent": bad, "referer": bad, "x-request-id": bad, "if-match": bad, "cookie": f"hybr={bad}"}
            for credential in ({"authorization": f"Bearer {bad}"}, {"x-api-key": bad}, one.who["eve"]):
                known = credential is one.who["eve"]
                for name, row in ROWS.items():
                    if name in LAST or not (known or name == "GET /v1/models"):
                        continue
                    body = json.dumps(bent(row.body, bad)).encode() if isinstance(row.body, dict) else row.body
                    path = row.path.replace(BLOB, httpx.URL("/", params={"q": bad}).query.decode()[2:])
                    answer = await one.client.request(
                        name.split()[0],
                        path,
                        params={"owner": bad, "since": bad, "group": bad},
                        content=body,
                        headers={**row.headers, **headers, **credential},
                    )
                    assert answer.status_code < 500, (name, bad, answer.text)
        assert await one.snapshot() == before
    assert ran
    assert not [statement for statement in ran for bad in META if bad in statement]


def bent(body: Any, bad: str) -> Any:
    """Return the body with every text in it, and every name of a field, followed by metacharacters."""
    if isinstance(body, dict):
        return {name: bent(value, bad) for name, value in body.items()} | {bad: bad}
    if isinstance(body, list):
        return [bent(item, bad) for item in body]
    return bad if isinstance(body, str) else body
