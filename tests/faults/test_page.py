"""Every fault of the lab can be said in the page's address bar."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lab.engine import Die, End, Fail, Lost, Silent, Sleep, Stall
from lab.upstream import Cut, Event, Refuse, Unreachable

from hybr.webapp.faults import page

STEPS: list[tuple[Any, list[Any]]] = [
    ("a text", ["a text"]),
    ({"sleep": 2}, [Sleep(2.0)]),
    ({"again": ["!", 3]}, ["!", "!", "!"]),
    ({"fail": ["QuotaExceededError", "full", "download"]}, [Fail("QuotaExceededError", "full", "download")]),
    ({"die": True}, [Die()]),
    ({"lost": True}, [Lost()]),
    ({"stall": True}, [Stall()]),
    ({"silent": True}, [Silent()]),
    ({"end": "length"}, [End("length")]),
    ({"refuse": [401, "bad_key"]}, [Refuse(401, "bad_key")]),
    ({"refuse": [429, "rate_limited", {"retry-after": "7"}]}, [Refuse(429, "rate_limited", headers={"retry-after": "7"})]),
    ({"raw": "646174613a20f09f"}, [b"data: \xf0\x9f"]),
    ({"event": {"error": {"code": "x"}}}, [Event({"error": {"code": "x"}})]),
    ({"unreachable": True}, [Unreachable()]),
    ({"cut": True}, [Cut()]),
]


@pytest.mark.parametrize(("told", "made"), STEPS)
def test_a_step(told: Any, made: list[Any]) -> None:
    """In a question to either side, and in a load."""
    engine, upstream = page.parts(json.dumps({"local": [[told]], "cloud": [[told], []], "loads": [[told]]}))
    assert (list(engine.scripts), list(upstream.scripts), list(engine.loads)) == ([made], [made, []], [made])


def test_every_step_is_tried() -> None:
    """The list above leaves none out."""
    assert {name for told, _ in STEPS if isinstance(told, dict) for name in told} == {*page.STEPS, "again"}


@pytest.mark.parametrize("told", [3, {}, {"dance": 1}, {"die": 1, "cut": 1}])
def test_what_is_no_step(told: Any) -> None:
    """Said with what there is."""
    with pytest.raises(ValueError, match="is no step"):
        page.parts(json.dumps({"local": [[told]]}))
