"""Preferences: versions, conflicts, checks, and what is left after a restart or on a broken disk."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from serving import asking, parts_in

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from hybr.server.secret import Secret

GOOD = {
    "mode": "local-only",
    "model": "smollm2-135m",
    "cloud_model": "openai/gpt-5",
    "while_loading": "wait",
    "load_at_start": True,
    "theme": "dark",
    "telemetry": False,
}


async def put(client: httpx.AsyncClient, version: Any, preferences: Any) -> httpx.Response:
    """Write preferences."""
    return await client.put("/api/preferences", json={"version": version, "preferences": preferences})


async def test_kept_across_restarts(tmp_path: Path, database_url: Secret | None) -> None:
    """What was acknowledged is there after the server was stopped and started again."""
    async with asking(parts_in(tmp_path, told={"database": database_url})) as client:
        assert (await client.get("/api/preferences")).json() == {"version": 0, "preferences": {}}
        assert (await put(client, 0, GOOD)).json() == {"version": 1, "preferences": GOOD}
    async with asking(parts_in(tmp_path, told={"database": database_url})) as client:
        answer = await client.get("/api/preferences")
    assert answer.json() == {"version": 1, "preferences": GOOD}
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["cache-control"] == "no-store"


async def test_two_tabs(tmp_path: Path, database_url: Secret | None) -> None:
    """Of two writes from the same version one is stored, and the other is told so."""
    async with asking(parts_in(tmp_path, told={"database": database_url})) as client:
        answers = await asyncio.gather(*(put(client, 0, {"mode": mode}) for mode in ("local", "cloud", "auto")))
        stored = (await client.get("/api/preferences")).json()
    won = [answer for answer in answers if answer.status_code == 200]
    lost = [answer for answer in answers if answer.status_code == 409]
    assert (len(won), len(lost)) == (1, 2)
    assert stored == won[0].json()
    assert {answer.json()["error"]["code"] for answer in lost} == {"version_conflict"}


async def test_versions_start_from_what_is_there(tmp_path: Path, database_url: Secret | None) -> None:
    """A write from a version that never was is a conflict too, on an empty store and on another."""
    async with asking(parts_in(tmp_path, told={"database": database_url})) as client:
        assert (await put(client, 5, {})).status_code == 409
        assert (await put(client, 0, {})).status_code == 200
        for version in (0, 2, 5):
            assert (await put(client, version, {})).status_code == 409


async def test_a_write_replaces(tmp_path: Path, database_url: Secret | None) -> None:
    """A key that is left out is forgotten."""
    async with asking(parts_in(tmp_path, told={"database": database_url})) as client:
        await put(client, 0, GOOD)
        assert (await put(client, 1, {"mode": "auto"})).json() == {"version": 2, "preferences": {"mode": "auto"}}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"version": 0, "preferences": {"mode": "fast"}}, "preferences.mode"),
        ({"version": 0, "preferences": {"mode": None}}, "preferences.mode"),
        ({"version": 0, "preferences": {"mode": ["local"]}}, "preferences.mode"),
        ({"version": 0, "preferences": {"model": "../../x"}}, "preferences.model"),
        ({"version": 0, "preferences": {"model": "a\r\nb"}}, "preferences.model"),
        ({"version": 0, "preferences": {"telemetry": 1}}, "preferences.telemetry"),
        ({"version": 0, "preferences": {"admin": True}}, "preferences.admin"),
        ({"version": 0, "preferences": []}, "preferences"),
        ({"version": "0", "preferences": {}}, "version"),
        ({"version": True, "preferences": {}}, "version"),
        ({"version": -1, "preferences": {}}, "version"),
        ({"version": 2**60, "preferences": {}}, "version"),
        ({"version": 0, "preferences": {}, "owner": "other"}, "preferences"),
        ({"preferences": {}}, "preferences"),
        ([], "preferences"),
    ],
)
async def test_bad_bodies(tmp_path: Path, body: Any, field: str) -> None:
    """Unknown keys and wrong values are refused by name, and nothing is stored (adverse list, 35)."""
    async with asking(parts_in(tmp_path)) as client:
        answer = await client.put("/api/preferences", json=body)
        stored = (await client.get("/api/preferences")).json()
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == field
    assert stored["version"] == 0


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"version": NaN, "preferences": {}}', b"[" * 9000])
async def test_not_json(tmp_path: Path, content: bytes) -> None:
    """What is no JSON is a 400, never a 500."""
    async with asking(parts_in(tmp_path)) as client:
        answer = await client.put("/api/preferences", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400


async def test_too_large(tmp_path: Path) -> None:
    """Preferences are no place to store things."""
    async with asking(parts_in(tmp_path)) as client:
        answer = await put(client, 0, {"model": "x" * 20000})
    assert answer.status_code == 413


async def test_locked_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process holds the database, the answer is a 503 that may be tried again, and then it works (40)."""
    monkeypatch.setattr("hybr.server.store.engine.BUSY", 0.05)
    async with asking(parts_in(tmp_path)) as client:
        await put(client, 0, {})
        other = sqlite3.connect(tmp_path / "data" / "hybr.sqlite3", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        answer = await put(client, 1, {})
        other.execute("ROLLBACK")
        other.close()
        after = await put(client, 1, {})
    assert answer.status_code == 503
    assert (answer.json()["error"]["code"], answer.json()["error"]["retryable"]) == ("store_unavailable", True)
    assert after.status_code == 200


@pytest.mark.parametrize("spoil", ["garbage", "folder", "file in the way"])
async def test_a_broken_store(tmp_path: Path, spoil: str) -> None:
    """A store that cannot be opened costs the preferences, not the server."""
    data = tmp_path / "data"
    if spoil == "file in the way":
        data.write_text("x")
    else:
        data.mkdir()
    if spoil == "garbage":
        (data / "hybr.sqlite3").write_bytes(b"no database" * 500)
    if spoil == "folder":
        (data / "hybr.sqlite3").mkdir()
    async with asking(parts_in(tmp_path)) as client:
        answer = await client.get("/api/preferences")
        other = await client.get("/v1/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert other.status_code == 200


async def test_private_files(tmp_path: Path) -> None:
    """The data folder and the database are for their owner only."""
    async with asking(parts_in(tmp_path)) as client:
        await put(client, 0, {})
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "data" / "hybr.sqlite3").stat().st_mode & 0o777 == 0o600
