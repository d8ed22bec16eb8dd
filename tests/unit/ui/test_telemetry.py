"""The telemetry panel's Python side without its plots: what is chosen, what is shown, what is exported."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace
from typing import Any

import pytest
from lab.desk import MemoryStorage

from hybr.webapp.hybrid.events import EventBus
from hybr.webapp.state.series import Series
from hybr.webapp.ui.telemetry import Telemetry

EVIL = '=HYPERLINK("https://example.org")'


@pytest.fixture
def panel() -> tuple[Telemetry, Any]:
    """A panel over one answer of a model whose name is a formula, and the view that it hands files to."""
    events = EventBus()
    context = SimpleNamespace(series=Series(MemoryStorage(), events), memory=[])
    timings = {"ttft_ms": 10.0, "total_ms": 20.0, "decode_tps": 3.0}
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    events.emit("hybrid-llm:complete", {"provider": "cloud", "model": EVIL, "timings": timings, "usage": usage, "cost": 0.5})
    events.emit("hybrid-llm:fallback", {"from": "local", "to": "cloud", "error": {"code": "timeout"}})
    view = SimpleNamespace(file="", plots=[])
    return Telemetry(context, view), view


async def test_what_is_chosen(panel: tuple[Telemetry, Any]) -> None:
    """Closed it says only what is chosen; a measure or a span that there is not changes nothing."""
    telemetry, _ = panel
    await telemetry.act(None, {"do": "choose", "measure": "rate", "span": "week"})
    await telemetry.act(None, {"do": "choose", "measure": "mood", "span": "age"})
    assert telemetry.facts(None) == {"open": False, "measure": "rate", "span": "week"}


async def test_what_is_shown(panel: tuple[Telemetry, Any]) -> None:
    """Open it has each model's figures and how often which cause came; cleared it has none."""
    telemetry, _ = panel
    telemetry._open = True  # opening draws with Bokeh, which is the browser's
    told = telemetry.facts(None)
    assert [(row["model"], row["requests"], row["tokens"], row["cost"]) for row in told["rows"]] == [(EVIL, 1, 3, 0.5)]
    assert told["changes"] == {"fallback:timeout": 1}
    await telemetry.act(None, {"do": "clear"})
    assert telemetry.facts(None)["rows"] == []
    await telemetry.act(None, {"do": "close"})
    assert not telemetry.facts(None)["open"]


async def test_what_is_exported(panel: tuple[Telemetry, Any]) -> None:
    """Both files have the row, each export is told as a new one, and no spreadsheet takes a name for a formula (CWE-1236)."""
    telemetry, view = panel
    await telemetry.act(None, {"do": "export", "format": "csv"})
    table = json.loads(view.file)
    (row,) = csv.DictReader(table["text"].splitlines())
    assert (row["model"], row["requests"], row["cost_usd"]) == (f"'{EVIL}", "1", "0.5")
    await telemetry.act(None, {"do": "export", "format": "json"})
    other = json.loads(view.file)
    assert json.loads(other["text"])["rows"][0]["model"] == EVIL
    assert table["number"] != other["number"]
