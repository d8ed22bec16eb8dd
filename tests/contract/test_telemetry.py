"""Telemetry on the wire: what a page may send, what comes out, who may have it removed, and what is never in it."""

from __future__ import annotations

import csv
import io
import json
import logging
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fakes import openai
from fakes.gateway import parts_of
from fakes.wire import Asked, Script, events, head, streamed, wired
from people import person, token
from serving import asking, listening, parts_in, question

if TYPE_CHECKING:
    from pathlib import Path

CHAT = "/v1/chat/completions"
EVENT = {
    "event": "complete",
    "provider": "local",
    "model": "smollm2-135m",
    "device": "webgpu",
    "latency": 800,
    "ttft": 40,
    "rate": 30.5,
}
CANARY = "xyzzy-canary-7261"


async def post(client: httpx.AsyncClient, *sent: Any) -> httpx.Response:
    """Send events as the page does."""
    return await client.post("/api/telemetry", json={"events": list(sent)})


async def test_a_pages_events_are_summed(tmp_path: Path) -> None:
    """Events of a page are in the summary by model, with their errors, fallbacks and percentiles."""
    async with asking(parts_in(tmp_path)) as client:
        answer = await post(client, *[EVENT | {"latency": 100 * number} for number in range(1, 21)])
        assert (answer.status_code, answer.json()) == (202, {"taken": 20})
        await post(client, EVENT | {"event": "fallback", "error": "device_lost"}, EVENT | {"event": "handover"})
        await post(client, EVENT | {"model": CANARY, "provider": CANARY, "error": CANARY})
        found = (await client.get("/api/telemetry/summary?group=model")).json()["data"]
    assert {row["model"] for row in found} == {"smollm2-135m", "other"}
    (row,) = [row for row in found if row["model"] == "smollm2-135m"]
    assert row["events"] == {"complete": 20, "fallback": 1, "handover": 1, "error": 0}
    assert row["errors"] == {"device": 1}
    assert 850 <= row["latency_ms"]["p50"] <= 1250
    assert 1600 <= row["latency_ms"]["p95"] <= 2300
    assert 24 <= row["tokens_per_second"]["p50"] <= 38


async def test_the_relays_answers_are_in_it(tmp_path: Path) -> None:
    """Each answer of the gateway is one row, a failed one under its kind."""

    def script(asked: Asked) -> Script:
        return (
            [head(), events(openai.chunk({"content": "Pa"}))] if asked.body and asked.body.get("stop") else openai.answer(asked)
        )

    async with wired(script) as wire, asking(parts_of(tmp_path, "openai", wire.address, openai.KEY)) as client:
        for stop in (None, None, "x"):
            await client.post(CHAT, json=question(model="openai/gpt-5-mini", stop=stop, stream=True))
        (row,) = (await client.get("/api/telemetry/summary?group=model")).json()["data"]
        lines = [json.loads(line) for line in (await client.get("/api/telemetry/export")).text.splitlines()]
    assert (row["provider"], row["model"]) == ("openai", "openai/gpt-5-mini")
    assert (row["events"]["complete"], row["events"]["error"], row["errors"]) == (2, 1, {"broken": 1})
    assert row["prompt_tokens"] >= 18
    assert row["latency_ms"]["p50"] > 0
    assert {line["source"] for line in lines} == {"gateway"}
    assert {line["ttft"] is not None for line in lines} == {True}


async def test_switched_off(tmp_path: Path) -> None:
    """An operator who wants none has none of the relay's."""
    from hybr.server.config import Settings
    from hybr.server.serve import assemble

    parts = assemble(
        Settings(home=tmp_path / "home", data=tmp_path / "data", build=False, warm=False, auth="off", telemetry=False)
    )
    assert parts.office.note not in parts.office.meter.watchers


@pytest.mark.parametrize(
    "body",
    [
        {"events": [EVENT] * 101},
        {"events": [EVENT | {"prompt_text": CANARY}]},
        {"events": [EVENT | {"event": CANARY}]},
        {"events": CANARY},
        {"rows": []},
        [EVENT],
        {"events": [EVENT | {"model": "x" * 70_000}]},
    ],
)
async def test_what_is_no_telemetry_is_refused(tmp_path: Path, body: Any) -> None:
    """Too much, free text, another shape: nothing of it is stored, and the refusal does not repeat it."""
    async with asking(parts_in(tmp_path)) as client:
        answer = await client.post("/api/telemetry", json=body)
        rows = (await client.get("/api/telemetry/export")).text
    assert answer.status_code in {400, 413}
    assert CANARY not in answer.text
    assert rows == ""


async def test_export_in_both_forms(tmp_path: Path) -> None:
    """The export is all rows, as JSON lines or CSV, as a file."""
    async with asking(parts_in(tmp_path)) as client:
        await post(client, *[EVENT] * 3)
        lines = await client.get("/api/telemetry/export?format=jsonl")
        table = await client.get("/api/telemetry/export?format=csv")
        other = await client.get("/api/telemetry/export?format=xml")
    rows = [json.loads(line) for line in lines.text.splitlines()]
    assert [(row["model"], row["latency"], row["rate"]) for row in rows] == [("smollm2-135m", 800, 30.5)] * 3
    assert len(list(csv.DictReader(io.StringIO(table.text)))) == 3
    assert lines.headers["content-disposition"] == 'attachment; filename="telemetry.jsonl"'
    assert other.status_code == 400


async def test_delete_my_data(tmp_path: Path) -> None:
    """A person's telemetry goes by itself, all that is theirs goes at once, and nobody else's is touched."""
    async with wired(openai.answer) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, openai.KEY, auth="accounts")
        async with listening(parts) as address, httpx.AsyncClient(base_url=address, timeout=60) as client:
            keys = {name: (await token(parts, await person(parts, name)))[1] for name in ("ann", "bob")}

            async def ask(name: str, method: str, path: str, **fields: Any) -> httpx.Response:
                return await client.request(method, path, headers={"authorization": f"Bearer {keys[name]}"}, **fields)

            async def has(name: str) -> tuple[int, int, int]:
                rows = (await ask(name, "GET", "/api/telemetry/export")).text.count("\n")
                usage = (await ask(name, "GET", "/api/usage")).json()["total"]["requests"]
                version: int = (await ask(name, "GET", "/api/preferences")).json()["version"]
                return rows, usage, version

            for name in keys:
                await ask(name, "POST", CHAT, json=question(model="openai/gpt-5-mini"))
                await ask(name, "POST", "/api/telemetry", json={"events": [EVENT]})
                await ask(name, "PUT", "/api/preferences", json={"version": 0, "preferences": {"theme": "dark"}})
            assert [await has(name) for name in keys] == [(2, 1, 1)] * 2
            assert (await ask("ann", "DELETE", "/api/telemetry")).status_code == 204
            assert [await has(name) for name in keys] == [(0, 1, 1), (2, 1, 1)]
            for _ in range(2):
                assert (await ask("ann", "DELETE", "/api/me/data")).json() == {"forgotten": True}
            assert [await has(name) for name in keys] == [(0, 0, 0), (2, 1, 1)]


async def test_every_part_that_keeps_something_forgets(tmp_path: Path) -> None:
    """No table with an owner is left out of delete-my-data, but who there is and the sync's clock, which must not go back."""
    from sqlalchemy import text

    kept = {"users", "api_tokens", "sessions", "blob_owners"}
    parts = parts_in(tmp_path)
    async with asking(parts) as client:
        async with parts.database.begin() as connection:
            names = (await connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))).scalars().all()
            owned = []
            for name in set(names) - kept:
                columns = (await connection.execute(text(f"PRAGMA table_info({name})"))).mappings().all()
                if any(column["name"] == "owner" for column in columns):
                    owned.append(name)
                    typed = {"INTEGER": "1", "REAL": "1.0", "BLOB": "x'00'"}
                    values = ", ".join(
                        "'local'" if one["name"] == "owner" else typed.get(one["type"], f"'{one['name']}'") for one in columns
                    )
                    await connection.execute(text(f"INSERT INTO {name} VALUES ({values})"))  # noqa: S608
        assert {"ledger", "telemetry", "telemetry_days", "preferences", "provider_keys"} <= set(owned)
        assert (await client.delete("/api/me/data")).status_code == 200
        async with parts.database.begin() as connection:
            for name in owned:
                count = (await connection.execute(text(f"SELECT count(*) FROM {name}"))).scalar_one()  # noqa: S608
                assert (name, count) == (name, 0)


def holding(folder: Path) -> list[Path]:
    """Return the files that hold the canary."""
    return [path for path in folder.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]


async def test_44_the_canary_is_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A marked prompt, answer, tool, title and file name, in good answers, failures and refusals, are in no file, log or metric.

    The adverse list's 44. The provider repeats the mark in its texts, errors and model name.
    """
    caplog.set_level(logging.DEBUG)

    def script(asked: Asked) -> Script:
        kind = str(asked.body)
        if "cut" in kind:
            return [head(), events(openai.chunk({"content": CANARY}))]
        if "refuse" in kind:
            return openai.error(400, f"I will not say {CANARY}", code=CANARY)
        told = [openai.chunk({"content": CANARY}, "stop", model=CANARY), b"[DONE]"]
        return streamed(events(*told)) if asked.method == "POST" else openai.answer(asked)

    async with wired(script) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, openai.KEY)
        async with listening(parts) as address, httpx.AsyncClient(base_url=address, timeout=60) as client:
            tool = {"type": "function", "function": {"name": "open", "description": CANARY, "parameters": {"type": "object"}}}
            for word in ("good", "cut", "refuse"):
                for stream in (True, False):
                    body = question(f"{word} {CANARY} /home/{CANARY}.txt", model="openai/gpt-5-mini", stream=stream, tools=[tool])
                    answer = await client.post(CHAT, json=body)
                    assert word == "refuse" or CANARY in answer.text or answer.status_code == 502
            await client.post(CHAT, json=question(CANARY, model=f"openai/{CANARY}"))
            await client.post(CHAT, json=question(CANARY, user=CANARY, metadata={"title": CANARY}))
            await client.post(CHAT, content=f'{{"messages": "{CANARY}"', headers={"content-type": "application/json"})
            await post(client, EVENT | {"model": CANARY, "error": CANARY})
            await post(client, EVENT | {"title": CANARY})
            scraped = (await client.get("/metrics")).text
            told = (await client.get("/api/telemetry/export")).text + (await client.get("/api/telemetry/summary")).text
    assert not holding(tmp_path)
    assert (tmp_path / "data" / "hybr.sqlite3").stat().st_size > 0
    printed = capfd.readouterr()
    for where in (scraped, told, caplog.text, printed.out, printed.err):
        assert CANARY not in where
    assert "openai" in scraped
