"""Two devices' states become one: the same on both, and nothing of either is lost but what one of them removed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from exchange_desk import conversation
from exchange_trees import trees
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from exchange_desk import ExchangeDesk

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def base_of(desk: ExchangeDesk, one: dict[str, Any]) -> dict[str, Any]:
    """What a device remembers of a state that both have."""
    answer: dict[str, Any] = desk.ask("base", one=one)
    return answer


def changed(draw: st.DrawFn, tree: dict[str, Any], name: str) -> dict[str, Any]:
    """A device's changes: texts, removals, new messages, the title."""
    one = copy.deepcopy(tree)
    for node in list(one["nodes"]):
        what = draw(st.sampled_from(["keep", "keep", "edit", "remove"]))
        if what == "edit":
            node["text"] += f" by {name}"
        elif what == "remove" and len(one["nodes"]) > 1:
            one["nodes"].remove(node)
            for other in one["nodes"]:
                if other["parent"] == node["id"]:
                    other["parent"] = node["parent"]
    if draw(st.booleans()):
        last = one["nodes"][-1]
        one["nodes"].append({**last, "id": f"new-{name}", "parent": last["id"], "text": f"new by {name}"})
        one["conversation"]["leaf"] = f"new-{name}"
    if draw(st.booleans()):
        one["conversation"]["title"] = f"by {name}"
    one["conversation"]["updatedAt"] += draw(st.integers(0, 2))
    ids = {node["id"] for node in one["nodes"]}
    if one["conversation"]["leaf"] not in ids:
        one["conversation"]["leaf"] = one["nodes"][-1]["id"]
    return one


@st.composite
def pairs(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A state that both had, and what two devices made of it."""
    tree = draw(trees(most=5))
    return tree, changed(draw, tree, "me"), changed(draw, tree, "them")


@quick
@given(pairs())
def test_both_devices_come_to_the_same(desk: ExchangeDesk, states: tuple[dict[str, Any], ...]) -> None:
    """Whoever merges first; every message has its parent, and the branch shown is there."""
    before, mine, theirs = states
    base = base_of(desk, before)
    here = desk.ask("merge", base=base, mine=mine, theirs=theirs)["one"]
    there = desk.ask("merge", base=base, mine=theirs, theirs=mine)["one"]
    key = lambda node: node["id"]  # noqa: E731
    assert here["conversation"] == there["conversation"]
    assert sorted(here["nodes"], key=key) == sorted(there["nodes"], key=key)
    ids = {node["id"] for node in here["nodes"]}
    assert all(node["parent"] is None or node["parent"] in ids for node in here["nodes"])
    assert here["conversation"]["leaf"] is None or here["conversation"]["leaf"] in ids
    again = desk.ask("merge", base=base_of(desk, here), mine=here, theirs=there)
    assert again["write"] == {"nodes": [], "drop": [], "row": False}


@quick
@given(pairs())
def test_nothing_that_was_written_is_lost(desk: ExchangeDesk, states: tuple[dict[str, Any], ...]) -> None:
    """New messages of both are there; one that a device removed is gone only if the other left it as it was."""
    before, mine, theirs = states
    merged = desk.ask("merge", base=base_of(desk, before), mine=mine, theirs=theirs)
    texts = {node["id"]: node["text"] for node in merged["one"]["nodes"]}
    known = {node["id"]: node for node in before["nodes"]}
    for one, other in ((mine, theirs), (theirs, mine)):
        others = {node["id"]: node for node in other["nodes"]}
        for node in one["nodes"]:
            if node["id"] not in known or node["text"] != known[node["id"]]["text"]:
                assert texts.get(node["id"]) in {node["text"], others.get(node["id"], node)["text"]}
    gone = [
        node["id"] for node in before["nodes"] if node not in mine["nodes"] and node["id"] not in {n["id"] for n in mine["nodes"]}
    ]
    for identity in gone:
        assert (identity not in texts) == (
            known[identity] in theirs["nodes"] or identity not in {n["id"] for n in theirs["nodes"]}
        )


def test_the_first_meeting_is_a_union(desk: ExchangeDesk) -> None:
    """Without a common state nothing is removed, and the newer row counts."""
    mine = conversation("c", [("a", None, "user", "1")], title="old", updatedAt=1)
    theirs = conversation("c", [("b", None, "user", "2")], title="new", updatedAt=2)
    merged = desk.ask("merge", base=None, mine=mine, theirs=theirs)
    assert {node["id"] for node in merged["one"]["nodes"]} == {"a", "b"}
    assert merged["one"]["conversation"]["title"] == "new"
    assert merged["push"]


def test_a_name_and_a_pin_from_two_devices_both_hold(desk: ExchangeDesk) -> None:
    """Fields are merged one by one."""
    before = conversation("c", [("a", None, "user", "1")])
    mine, theirs = copy.deepcopy(before), copy.deepcopy(before)
    mine["conversation"]["title"], theirs["conversation"]["pinned"] = "named here", True
    row = desk.ask("merge", base=base_of(desk, before), mine=mine, theirs=theirs)["one"]["conversation"]
    assert (row["title"], row["pinned"]) == ("named here", True)
