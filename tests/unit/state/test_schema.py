"""Rows of the shelf: there and back, damaged, older and of a later version."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybr.webapp.state import library, schema
from hybr.webapp.state.library import ShelfError
from hybr.webapp.state.schema import Conversation, NewerSchema
from hybr.webapp.state.tree import Node

TEXT = st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)
)
NODES = st.builds(
    Node,
    id=st.uuids().map(str),
    parent=st.none() | st.uuids().map(str),
    role=st.sampled_from(schema.ROLES),
    text=TEXT,
    state=st.sampled_from(schema.STATES),
    created_at=st.integers(0, 2**50),
    provider=st.sampled_from([None, "local", "cloud"]),
    model=st.none() | TEXT.filter(bool),
    stats=st.none() | st.just({"usage": {"promptTokens": 3}, "of_a_tool": "kept"}),
    error=st.none() | st.just({"name": "E", "message": "m", "code": "c"}),
    segments=st.just([]) | st.just([{"provider": "local", "atChars": 0}]),
    attachments=st.just([]) | st.just([{"kind": "text", "name": "snake_name.txt", "mime": "text/plain", "data": "x"}]),
    closed=st.booleans(),
    extra=st.just({}) | st.just({"edited": True, "of_others": {"keep_this": 1}}),
)


@settings(deadline=None, max_examples=50)
@given(NODES)
def test_a_message_there_and_back(node: Node) -> None:
    """Nothing of it changes; a row's own names are camelCase."""
    row = schema.node_row(node, "c")
    assert (row["conversation"], row["v"], row["createdAt"]) == ("c", schema.VERSION, node.created_at)
    assert schema.node_from(row) == node


def test_a_conversation_there_and_back() -> None:
    """With settings whose own keys are left as they are; a change has only the fields that are named."""
    kept = {"max_output_tokens": 5, "response_format": {"type": "json_schema", "json_schema": {"schema": {"my_key": 1}}}}
    one = Conversation("c", "Title", True, 1, 2, True, "work", "leaf", "redact", "brief", kept, 9)
    row = schema.conversation_row(one)
    assert row["settings"]["maxOutputTokens"] == 5
    assert row["settings"]["responseFormat"]["json_schema"]["schema"] == {"my_key": 1}
    assert "temporary" not in row
    assert schema.conversation_from(row) == one
    assert schema.conversation_row(one, {"updated_at", "leaf"}) == {"id": "c", "updatedAt": 2, "leaf": "leaf"}


@given(
    st.dictionaries(st.sampled_from([*"abc", "title", "settings", "createdAt", "pinned", "leaf", "deletedAt", "folder"]), JSON)
)
def test_a_damaged_conversation(fields: dict[str, Any]) -> None:
    """Whatever its fields are, it is one; only without an id it is none."""
    one = schema.conversation_from({**fields, "id": "c"})
    assert isinstance(one.title, str)
    assert isinstance(one.created_at, int)
    assert schema.conversation_from(schema.conversation_row(one)) == one
    with pytest.raises(KeyError):
        schema.conversation_from(fields)


@given(
    st.dictionaries(st.sampled_from(["parent", "text", "state", "createdAt", "stats", "segments", "attachments", "model"]), JSON)
)
def test_a_damaged_message(fields: dict[str, Any]) -> None:
    """Whatever its fields are, it is one; without a role it is left aside, and the conversation opens."""
    node = schema.node_from({**fields, "id": "n", "role": "user"})
    assert schema.node_from(schema.node_row(node, "c")) == node
    _, tree = library.read({"id": "c", "leaf": "n"}, [{**fields, "id": "n", "role": "user"}, {**fields, "id": "m"}])
    assert set(tree.nodes) == {"n"}
    assert tree.leaf == "n"


def test_an_answer_under_way_elsewhere() -> None:
    """What was stored while it was being written was cut off."""
    assert schema.node_from({"id": "n", "role": "assistant", "state": "streaming"}).state == "stopped"


def test_versions() -> None:
    """An older row is brought up step by step; one of a later version, or of none that makes sense, is not taken for ours."""
    steps = {1: lambda row: {**row, "name": row["title"]}, 2: lambda row: {**row, "name": row["name"].upper()}}
    assert schema.migrated({"v": 1, "title": "a"}, steps, 3) == {"v": 3, "title": "a", "name": "A"}
    assert schema.migrated({"v": 3, "name": "a"}, steps, 3) == {"v": 3, "name": "a"}
    for version in (schema.VERSION + 1, "x", None):
        with pytest.raises(NewerSchema):
            schema.conversation_from({"id": "c", "v": version})
        with pytest.raises(ShelfError) as refused:
            library.read({"id": "c", "v": 1}, [{"id": "n", "role": "user", "v": version}])
        assert refused.value.code == "newer_schema"


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Hello", "Hello"),
        ("\n  \n  two   words \nmore", "two words"),
        ("", ""),
        ("x" * 100, "x" * 60 + "…"),
        (
            "What is the capital of France, and why is it not Lyon, which lies nearer?",
            "What is the capital of France, and why is it not Lyon…",
        ),
        ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
    ],
)
def test_titles(text: str, title: str) -> None:
    """The first line that says something, cut between words."""
    assert schema.title_of(text) == title
