"""The log: one line an event, with ids and without anything private, whoever writes it; and the probes beside it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import asking, parts_in

from hybr.server import access, logs
from hybr.server.config import Settings
from hybr.server.errors import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hybr.server.secret import Secret

CANARY = "canary-5e1f-violet-otter"


@pytest.fixture
def lines() -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """What was logged since it was configured, decoded line by line; the root logger is put back afterwards."""
    root = logging.getLogger()
    names = ["hybr.access", "sqlalchemy", "aiosqlite", "asyncio", "uvicorn"]
    before = root.handlers[:], root.level, [logging.getLogger(name).level for name in names]
    stream = io.StringIO()

    def read(**told: Any) -> list[dict[str, Any]]:
        if told:
            logs.configure(Settings(**{"log_format": "json", **told}), stream)
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    read(log_level="info")
    yield read
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    for name, level in zip(names, before[2], strict=True):
        logging.getLogger(name).setLevel(level)


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    """Return the error with a traceback, as one that was caught."""
    try:
        raise error from cause and raised(cause)
    except type(error) as caught:
        return caught


def test_a_line(lines: Callable[..., list[dict[str, Any]]]) -> None:
    """A line is one JSON object with time, level, logger, message and the id of the request it is about."""
    token = logs.REQUEST.set("r1")
    logging.getLogger("hybr.store").warning("%s is %s", "it", "full")
    logs.REQUEST.reset(token)
    (line,) = lines()
    assert line.pop("time")[:2] == "20"
    assert line == {"level": "warning", "logger": "hybr.store", "message": "it is full", "request": "r1"}


@pytest.mark.parametrize(
    "text",
    ["sk-proj-abcdefghijkl", "Bearer abc.def", "AIzaSyA-1234567890", "x" * 43, "https://u:p@host/?key=1", "gsk_abcdefgh"],
)
def test_keys_are_not_told(lines: Callable[..., list[dict[str, Any]]], text: str) -> None:
    """What is shaped like a key or an address that can hold one becomes ***, in messages, fields and our own exceptions."""
    log = logging.getLogger("hybr.x")
    log.warning("refused: %s!", text)
    log.warning("field", extra={"fields": {"code": text}})
    log.error("failed", exc_info=raised(UpstreamError(f"it said {text}", code="x")))
    assert len(lines()) == 3
    assert text not in json.dumps(lines())


def test_a_foreign_exception_keeps_its_words(lines: Callable[..., list[dict[str, Any]]]) -> None:
    """Of an exception that is not ours type and places are logged; its message, which may quote a person, only on debug."""
    for told in ({"log_level": "info"}, {"log_level": "debug"}):
        lines(**told)
        logging.getLogger("hybr.x").error(
            "failed", exc_info=raised(UpstreamError("ours", code="x"), ValueError(f"bad text {CANARY}"))
        )
    closed, open_ = lines()
    assert closed["error"][0] == "UpstreamError: ours"
    assert "ValueError" in closed["error"]
    assert any("test_logs.py" in place for place in closed["error"])
    assert CANARY not in json.dumps(closed)
    assert f"ValueError: bad text {CANARY}" in open_["error"]


async def test_asyncio_s_own_words(lines: Callable[..., list[dict[str, Any]]]) -> None:
    """A task that nobody awaited is logged by asyncio with its exception's message; by us without."""

    async def fail() -> None:
        raise ValueError(CANARY)

    task = asyncio.create_task(fail())
    await asyncio.wait({task})
    del task
    (line,) = lines()
    assert line["message"] == "Task exception was never retrieved"
    assert CANARY not in json.dumps(line)


@given(st.text(st.characters(codec="utf-8"), max_size=50))
def test_no_text_begins_a_line(text: str) -> None:
    """Whatever a message holds, both forms stay on one line of printable characters (log injection)."""
    record = logging.LogRecord("hybr.x", logging.INFO, __file__, 1, "%s", (text,), None)
    for form in (logs.Json(), logs.Text()):
        line = form.format(record)
        assert line.isprintable()
        assert len(line.splitlines()) == 1
    assert "\x1b" not in logs.clean("\x1b[31mred\r\n")


def test_text_for_people() -> None:
    """On a terminal a line reads as a person would say it, with an exception's lines under it."""
    record = logging.LogRecord("hybr.store", logging.WARNING, __file__, 1, "it is full", (), None)
    record.fields = {"status": 503}
    assert logs.Text().format(record)[9:] == "warning store: it is full [status=503]"
    error = raised(UpstreamError("ours", code="x"))
    record.exc_info = type(error), error, error.__traceback__
    assert "\n    UpstreamError: ours\n" in logs.Text().format(record)


async def test_ids(tmp_path: Path) -> None:
    """Every answer, refusals of the outermost walls included, has a different id of ours, whatever ids the client sends."""
    seen = []
    async with asking(parts_in(tmp_path)) as client:
        for headers in ({}, {"host": "evil.example"}, {"x-hybr-request": "mine", "x-request-id": "mine"}):
            for path in ("/healthz", "/nothing", "/api/preferences"):
                answer = await client.get(path, headers=headers)
                seen += answer.headers.get_list("x-hybr-request")
    assert len(seen) == len(set(seen)) == 9
    assert "mine" not in seen
    assert all(len(one) == 16 for one in seen)


async def test_access(tmp_path: Path, lines: Callable[..., list[dict[str, Any]]]) -> None:
    """Failures have a line with route template, status, time, owner and code; no path, no query, no body; successes have none."""
    async with asking(parts_in(tmp_path)) as client:
        assert (await client.get(f"/api/preferences?q={CANARY}")).status_code == 200
        answers = [
            await client.get(f"/api/blobs/{CANARY}?q={CANARY}"),
            await client.get(f"/{CANARY}"),
            await client.put("/api/preferences", json={"version": 0, "preferences": {"mode": CANARY}}),
            await client.get("/healthz", headers={"host": CANARY}),
        ]
    found = [line for line in lines() if line["logger"] == "hybr.access"]
    assert [(line["method"], line["route"], line["status"], line.get("owner"), line["code"]) for line in found] == [
        ("GET", "/api/blobs/{name:path}", 404, "local", "no_such_blob"),
        ("GET", "none", 404, "local", "no_such_path"),
        ("PUT", "/api/preferences", 400, "local", "invalid_value"),
        ("GET", "none", 400, None, "bad_host"),
    ]
    assert [line["request"] for line in found] == [answer.headers["x-hybr-request"] for answer in answers]
    assert all(line["ms"] >= 0 for line in found)
    assert CANARY not in json.dumps(lines())


@pytest.mark.parametrize(("which", "count"), [("off", 0), ("errors", 1), ("all", 2)])
async def test_which(tmp_path: Path, lines: Callable[..., list[dict[str, Any]]], which: str, count: int) -> None:
    """The setting decides which requests have a line."""
    async with asking(parts_in(tmp_path, told={"log_requests": which})) as client:
        await client.get("/api/preferences")
        await client.get("/nothing")
    assert len([line for line in lines() if line["logger"] == "hybr.access"]) == count


async def test_a_crash(tmp_path: Path, lines: Callable[..., list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect of ours is a 500 with an id, and a line of its own, both without the exception's words."""

    async def broken(*words: Any) -> None:
        raise ValueError(CANARY)

    monkeypatch.setattr("hybr.server.preferences.load", broken)
    async with asking(parts_in(tmp_path)) as client:
        answer = await client.get("/api/preferences")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert CANARY not in answer.text + json.dumps(lines())
    line = next(line for line in lines() if line["logger"] == "hybr.access")
    assert (line["level"], line["status"], line["request"]) == ("warning", 500, answer.headers["x-hybr-request"])


def test_owners_are_hashed() -> None:
    """An owner's id is not in the log; the one person of a local server is called so."""
    assert access.hashed("local") == "local"
    assert access.hashed("u-123") != "u-123"
    assert access.hashed("u-123") == access.hashed("u-123")


async def test_ready(tmp_path: Path, database_url: Secret | None) -> None:
    """A server is ready when its store answers, and not while it drains."""
    parts = parts_in(tmp_path, told={"database": database_url})
    async with asking(parts) as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()) == (200, {"status": "ready", "store": "ok", "draining": False})
        parts.probes.draining = True
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["draining"]) == (503, True)
        assert answer.headers["retry-after"] == "1"


async def test_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is locked by another makes the server unready, once for all who ask, and ready again afterwards."""
    monkeypatch.setattr("hybr.server.store.engine.BUSY", 0.05)
    monkeypatch.setattr("hybr.server.probes.FRESH", 0.0)
    parts = parts_in(tmp_path)
    async with asking(parts) as client:
        assert (await client.get("/readyz")).status_code == 200
        other = sqlite3.connect(tmp_path / "data" / "hybr.sqlite3", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        answers = await asyncio.gather(*(client.get("/readyz") for _ in range(5)))
        assert {(answer.status_code, answer.json()["store"]) for answer in answers} == {(503, "store_unavailable")}
        other.execute("ROLLBACK")
        other.close()
        assert (await client.get("/readyz")).status_code == 200
