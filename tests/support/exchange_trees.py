"""Hypothesis' conversations: trees with branches, attachments, any text, and what only a later page knows."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

# No lone surrogates: JSON files are UTF-8, which has none.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
IDS = st.uuids().map(str)
TIMES = st.integers(0, 4_000_000_000_000)
IMAGE = "data:image/png;base64,iVBORw0KGgo="
ATTACHMENTS = st.one_of(
    st.fixed_dictionaries({"kind": st.just("text"), "name": TEXT, "mime": st.just("text/plain"), "data": TEXT}),
    st.fixed_dictionaries({"kind": st.just("image"), "name": TEXT, "mime": st.just("image/png"), "data": st.just(IMAGE)}),
)
STATS = st.one_of(st.none(), st.dictionaries(st.sampled_from(["usage", "cost"]), st.integers(0, 9), max_size=2))
SEGMENTS = st.lists(
    st.fixed_dictionaries({"provider": st.sampled_from(["local", "cloud"]), "atChars": st.integers(0, 99)}), max_size=2
)


@st.composite
def trees(draw: st.DrawFn, *, most: int = 8) -> dict[str, Any]:
    """One conversation's rows as the page writes them."""
    identity = draw(IDS)
    ids = draw(st.lists(IDS, min_size=1, max_size=most, unique=True))
    nodes = []
    for index, node in enumerate(ids):
        optional = {
            "provider": st.sampled_from([None, "local", "cloud"]),
            "model": st.one_of(st.none(), TEXT),
            "stats": STATS,
            "error": st.one_of(st.none(), st.just({"name": "E", "message": "m"})),
            "segments": SEGMENTS,
            "parts": st.lists(TEXT, max_size=2),
            "attachments": st.lists(ATTACHMENTS, max_size=2),
            "laterField": TEXT,
        }
        nodes.append(
            {
                "conversation": identity,
                "id": node,
                "v": 1,
                "parent": draw(st.sampled_from([None, *ids[:index]])),
                "role": draw(st.sampled_from(["user", "assistant", "system"])),
                "text": draw(TEXT),
                "state": draw(st.sampled_from(["done", "stopped", "error"])),
                "createdAt": draw(TIMES),
                **draw(st.fixed_dictionaries({}, optional=optional)),
            }
        )
    created = draw(TIMES)
    row = {
        "id": identity,
        "v": 1,
        "title": draw(TEXT),
        "titled": draw(st.booleans()),
        "createdAt": created,
        "updatedAt": created + draw(st.integers(0, 10**9)),
        "pinned": draw(st.booleans()),
        "folder": draw(st.one_of(st.none(), st.text("abc", min_size=1, max_size=5))),
        "leaf": draw(st.sampled_from(ids)),
        "egress": draw(st.sampled_from([None, "allow", "redact", "ask", "never"])),
        "persona": draw(st.one_of(st.none(), TEXT)),
        "settings": draw(st.dictionaries(st.text("abc", min_size=1), st.one_of(st.floats(0, 2), TEXT), max_size=2)),
        "deletedAt": None,
        **draw(st.fixed_dictionaries({}, optional={"laterField": TEXT})),
    }
    return {"conversation": row, "nodes": nodes}


def library(*, most: int = 4) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Some conversations, each under an id of its own."""
    return st.lists(trees(), max_size=most, unique_by=lambda one: one["conversation"]["id"])


def chatgpt(tree: dict[str, Any]) -> dict[str, Any]:
    """The same tree as ChatGPT writes it, with a hidden root and a hidden system message above it."""
    row = tree["conversation"]
    mapping: dict[str, Any] = {
        "client-created-root": {"id": "client-created-root", "message": None, "parent": None, "children": ["system-0"]},
        "system-0": {
            "id": "system-0",
            "parent": "client-created-root",
            "children": [],
            "message": {"author": {"role": "system"}, "content": {"content_type": "text", "parts": [""]}},
        },
    }
    for node in tree["nodes"]:
        mapping[node["id"]] = {
            "id": node["id"],
            "parent": node["parent"] or "system-0",
            "children": [one["id"] for one in tree["nodes"] if one["parent"] == node["id"]],
            "message": {
                "id": node["id"],
                "author": {"role": node["role"], "name": None, "metadata": {}},
                "create_time": node["createdAt"] / 1000,
                "content": {"content_type": "text", "parts": [node["text"]]},
                "status": "finished_successfully",
                "recipient": "all",
                "metadata": {"model_slug": "gpt-4o"} if node["role"] == "assistant" else {},
            },
        }
    return {
        "id": row["id"],
        "conversation_id": row["id"],
        "title": row["title"],
        "create_time": row["createdAt"] / 1000,
        "update_time": row["updatedAt"] / 1000,
        "mapping": mapping,
        "current_node": row["leaf"],
    }


def openwebui(tree: dict[str, Any]) -> dict[str, Any]:
    """The same tree as Open WebUI writes it."""
    row = tree["conversation"]
    messages = {
        node["id"]: {
            "id": node["id"],
            "parentId": node["parent"],
            "childrenIds": [one["id"] for one in tree["nodes"] if one["parent"] == node["id"]],
            "role": node["role"],
            "content": node["text"],
            "timestamp": node["createdAt"] // 1000,
            "model": "llama3",
            "done": True,
            "files": [
                {"type": "image", "url": one["data"]}
                if one["kind"] == "image"
                else {"type": "file", "name": one["name"], "file": {"data": {"content": one["data"]}}}
                for one in node.get("attachments", [])
            ],
        }
        for node in tree["nodes"]
    }
    return {
        "id": row["id"],
        "user_id": "u",
        "title": row["title"],
        "chat": {
            "id": row["id"],
            "title": row["title"],
            "models": ["llama3"],
            "history": {"messages": messages, "currentId": row["leaf"]},
            "messages": [],
            "timestamp": row["createdAt"],
        },
        "created_at": row["createdAt"] // 1000,
        "updated_at": row["updatedAt"] // 1000,
        "pinned": row["pinned"],
        "archived": False,
    }
