"""Panel as it is in the bundle, in the page's own Python (Pyodide in Node): it imports, draws our views and takes messages."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hybr.server.page import build

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def crossed() -> list[dict[str, Any]]:
    """Everything that the app sent, in order."""
    assets = next((build() / "assets").iterdir())
    command = [shutil.which("node") or "node", str(HERE / "panel.mjs"), str(assets), str(HERE / "views.py")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr[-3000:]
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def test_the_views_are_drawn_as_roots(crossed: list[dict[str, Any]]) -> None:
    """The first message draws the views, in their order, each with its module's address in the bundle."""
    first = crossed[0]
    assert (first["kind"], first["op"]) == ("panel", "render")
    order = ["mode", "persona", "status", "models", "generation", "usage", "telemetry", "egress", "settings", "doctor"]
    assert [root["name"] for root in first["roots"]] == order
    text = json.dumps(first["docs"])
    for name in order:
        assert f"http://127.0.0.1/assets/0/js/ui/{name}.js" in text


def test_nothing_leads_to_another_host(crossed: list[dict[str, Any]]) -> None:
    """No address in the document is one of a content network: styles are asked from the bundle."""
    text = json.dumps(crossed[0])
    assert "cdn." not in text
    assert "jsdelivr" not in text


def test_a_message_from_the_view_reaches_the_orchestrator(crossed: list[dict[str, Any]]) -> None:
    """What a person does in a view arrives as a call, and the view is shown anew."""
    assert next(line for line in crossed if "chosen" in line)["chosen"] == ["local"]
    patches = [json.loads(line["patch"]) for line in crossed if line.get("op") == "patch"]
    states = [event["new"] for patch in patches for event in patch["events"] if event.get("attr") == "state"]
    newest = [json.loads(state) for state in states if "modes" in json.loads(state)][-1]
    assert newest["mode"] == "local"
    assert (newest["heard"], newest["doing"]) == (1, [])  # so what the person changed by it may be drawn anew


def test_bokeh_plots_and_widgets_serialise_with_the_stand_ins(crossed: list[dict[str, Any]]) -> None:
    """The kinds that the next views will need work without numpy and pandas."""
    kinds = next(line for line in crossed if "kinds" in line)["kinds"]
    assert {"Figure", "Line", "ColumnDataSource"} <= {kind.capitalize() if kind == "figure" else kind for kind in kinds}
