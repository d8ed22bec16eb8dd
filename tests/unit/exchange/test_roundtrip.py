"""Conversations leave the page and come back as they were, and come from elsewhere as they were there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from exchange_desk import conversation
from exchange_trees import chatgpt, library, openwebui, trees
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from exchange_desk import ExchangeDesk

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(library())
def test_what_is_exported_comes_back_whole(desk: ExchangeDesk, conversations: list[dict[str, Any]]) -> None:
    """Rows, branches, attachments and fields of a later page are the same after export and import into an empty browser."""
    outcomes, shelf = desk.take(desk.write(conversations))
    assert outcomes == ["added"] * len(conversations)
    assert list(shelf.values()) == conversations


@quick
@given(library(most=3), st.integers(1, 64))
def test_a_file_that_comes_in_pieces_is_the_same_file(desk: ExchangeDesk, conversations: list[dict[str, Any]], step: int) -> None:
    """However the bytes are cut, even inside a letter."""
    text = desk.write(conversations)
    assert desk.read(text, step=step) == desk.read(text) == (conversations, [])


@quick
@given(library())
def test_importing_twice_changes_nothing(desk: ExchangeDesk, conversations: list[dict[str, Any]]) -> None:
    """The second time everything is here already."""
    text = desk.write(conversations)
    outcomes, shelf = desk.take(text, text)
    assert outcomes == ["added"] * len(conversations) + ["same"] * len(conversations)
    assert list(shelf.values()) == conversations


@quick
@given(trees(), st.data())
def test_nothing_that_is_there_is_lost_or_overwritten(desk: ExchangeDesk, mine: dict[str, Any], data: st.DataObject) -> None:
    """A file with another state of the same conversation: all that was here is here afterwards, word for word."""
    theirs = json.loads(json.dumps(mine))
    for node in theirs["nodes"]:
        node["text"] = data.draw(st.sampled_from([node["text"], node["text"] + "!"]))
    theirs["nodes"] += [{**theirs["nodes"][0], "id": "new-one", "parent": mine["nodes"][-1]["id"]}]
    outcomes, shelf = desk.take(desk.write([theirs]), before=[mine])
    changed = any(a["text"] != b["text"] for a, b in zip(mine["nodes"], theirs["nodes"], strict=False))
    assert outcomes == ["copied" if changed else "grown"]
    kept = shelf[mine["conversation"]["id"]]
    assert kept["conversation"] == mine["conversation"]
    assert [node for node in kept["nodes"] if node["id"] != "new-one"] == mine["nodes"]
    texts = sorted(node["text"] for one in shelf.values() for node in one["nodes"])
    assert all(node["text"] in texts for node in theirs["nodes"])
    assert desk.take(desk.write([theirs]), desk.write([theirs]), before=[mine])[0][1] == "same"


def test_what_was_deleted_comes_back(desk: ExchangeDesk) -> None:
    """An import of what waits to be removed for good restores it; its messages are as they were."""
    one = conversation("c", [("a", None, "user", "x")], deletedAt=1_700_000_000_000)
    outcomes, shelf = desk.take(desk.write([one]), before=[one])
    assert outcomes == ["restored"]
    assert shelf["c"]["conversation"]["deletedAt"] is None


def visible(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree as another product shows it: no system messages, no empty ones, roles that alternate."""
    nodes = []
    for index, node in enumerate(tree["nodes"]):
        role = "assistant" if node["parent"] and by(tree, node["parent"])["role"] == "user" else "user"
        node |= {"role": role, "text": node["text"].strip() or f"text {index}", "state": "done"}
        nodes.append(node)
    return {**tree, "nodes": nodes}


def by(tree: dict[str, Any], identity: str) -> dict[str, Any]:
    """The node of that id."""
    return next(node for node in tree["nodes"] if node["id"] == identity)


def shape(one: dict[str, Any]) -> tuple[Any, ...]:
    """What every product knows of a conversation."""
    row = one["conversation"]
    nodes = [(node["id"], node["parent"], node["role"], node["text"]) for node in one["nodes"]]
    return row["id"], row["title"], row["leaf"], sorted(nodes)


@quick
@given(trees())
def test_chatgpts_tree_comes_as_it_was(desk: ExchangeDesk, tree: dict[str, Any]) -> None:
    """Ids, branches, authors, texts, times and the branch that was shown; what was hidden is not there."""
    tree = visible(tree)
    found, notes = desk.read([chatgpt(tree)])
    assert [shape(one) for one in found] == [shape(tree)]
    assert notes == []
    times = {node["id"]: node["createdAt"] for node in found[0]["nodes"]}
    assert times == {node["id"]: node["createdAt"] for node in tree["nodes"]}


@quick
@given(trees())
def test_open_webuis_tree_comes_as_it_was(desk: ExchangeDesk, tree: dict[str, Any]) -> None:
    """Ids, branches, authors, texts, attachments and the branch that was shown."""
    found, notes = desk.read([openwebui(tree)])
    assert [shape(one) for one in found] == [shape(tree)]
    assert notes == []
    data = [[one["data"] for one in node.get("attachments", [])] for node in tree["nodes"]]
    assert [[one["data"] for one in node["attachments"]] for node in found[0]["nodes"]] == data


@quick
@given(trees(most=12))
def test_markdown_has_every_message_once(desk: ExchangeDesk, tree: dict[str, Any]) -> None:
    """With all branches each message is there once; without, those of the branch shown, in order."""
    for index, node in enumerate(tree["nodes"]):
        node |= {"text": f"message {index}.", "attachments": []}
    everything = desk.ask("markdown", one=tree, branches=True)
    lines = everything.splitlines()
    assert sorted(line for line in lines if line.startswith("message ")) == sorted(node["text"] for node in tree["nodes"])
    path = []
    at: str | None = tree["conversation"]["leaf"]
    while at:
        path.insert(0, by(tree, at)["text"])
        at = by(tree, at)["parent"]
    shown = desk.ask("markdown", one=tree, branches=False).splitlines()
    assert [line for line in shown if line.startswith("message ")] == path
