"""Rows of the shelf (static/js/shelf.js) to conversations and messages, and back.

A row is what this or another version of the page has stored, or what a person has imported: every field may be missing or wrong,
and is then what it would be in a new row. Rows are camelCase; only our own names are converted, never what settings hold.
A row of an older version is brought up step by step (`STEPS`); one of a later version is never taken for ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from hybr.webapp.state.names import camel_name, snake_name
from hybr.webapp.state.tree import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

VERSION = 1
# From a version to the next: takes a row, returns it as the next version writes it.
STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
ROLES = ("user", "assistant", "system")
STATES = ("done", "stopped", "error")
LONGEST_TITLE = 60
NODE = {camel_name(one.name): one.name for one in fields(Node) if one.name != "extra"}
OWN = {*NODE, "conversation", "v", "extra"}


class NewerSchema(ValueError):
    """The row was written by a later version of the page."""


@dataclass(slots=True)
class Conversation:
    """A conversation's row. Times are ms; `settings` are request options by their names here, and `system`."""

    id: str
    title: str = ""
    titled: bool = False  # named by the person
    created_at: int = 0
    updated_at: int = 0
    pinned: bool = False
    folder: str | None = None
    leaf: str | None = None
    egress: str | None = None
    persona: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    deleted_at: int | None = None
    temporary: bool = False  # never stored: not a field of the row


def conversation_row(conversation: Conversation, names: set[str] | None = None) -> dict[str, Any]:
    """The row, or of it the id and the fields `names`."""
    given = {one.name: getattr(conversation, one.name) for one in fields(Conversation) if one.name != "temporary"}
    if names is not None:
        given = {name: value for name, value in given.items() if name == "id" or name in names}
    if "settings" in given:
        given["settings"] = {camel_name(name): value for name, value in given["settings"].items()}
    return {**({"v": VERSION} if names is None else {}), **{camel_name(name): value for name, value in given.items()}}


def conversation_from(row: Mapping[str, Any]) -> Conversation:
    """Raises NewerSchema; KeyError for a row without an id."""
    row = migrated(row)
    settings = row.get("settings")
    return Conversation(
        id=_id(row),
        title=_text(row.get("title")),
        titled=row.get("titled") is True,
        created_at=_time(row.get("createdAt")),
        updated_at=_time(row.get("updatedAt")),
        pinned=row.get("pinned") is True,
        folder=_word(row.get("folder")),
        leaf=_word(row.get("leaf")),
        egress=_word(row.get("egress")),
        persona=_word(row.get("persona")),
        settings={snake_name(name): value for name, value in settings.items()} if isinstance(settings, dict) else {},
        deleted_at=_time(row.get("deletedAt")) or None,
    )


def node_row(node: Node, conversation: str) -> dict[str, Any]:
    """The row of a message, whole."""
    own = {wire: getattr(node, name) for wire, name in NODE.items()}
    return {**node.extra, **own, "conversation": conversation, "v": VERSION}


def node_from(row: Mapping[str, Any]) -> Node:
    """Raises NewerSchema; KeyError for a row without an id or a known role."""
    row = migrated(row)
    if row.get("role") not in ROLES:
        raise KeyError("role")
    return Node(
        id=_id(row),
        parent=_word(row.get("parent")),
        role=row["role"],
        text=_text(row.get("text")),
        state=row["state"] if row.get("state") in STATES else "stopped" if row.get("state") == "streaming" else "done",
        created_at=_time(row.get("createdAt")),
        provider=row["provider"] if row.get("provider") in ("local", "cloud") else None,
        model=_word(row.get("model")),
        stats=_plain(row.get("stats")),
        error=_plain(row.get("error")),
        segments=_plains(row.get("segments")),
        attachments=_plains(row.get("attachments")),
        closed=row.get("closed") is True,
        extra={name: value for name, value in row.items() if name not in OWN},
    )


def migrated(
    row: Mapping[str, Any], steps: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] | None = None, version: int = VERSION
) -> dict[str, Any]:
    """The row as this version writes it. Raises NewerSchema."""
    now = dict(row)
    at = now.get("v", version)
    if not isinstance(at, int) or at > version:
        raise NewerSchema(f"a row of version {at!r}; this page knows {version}")
    for step in range(at, version):
        now = {**(STEPS if steps is None else steps)[step](now), "v": step + 1}
    return now


def title_of(text: str) -> str:
    """A title from a message's first words: the first line that says something, cut between words."""
    line = next((" ".join(line.split()) for line in text.splitlines() if line.strip()), "")
    if len(line) <= LONGEST_TITLE:
        return line
    head = line[:LONGEST_TITLE]
    return (head.rsplit(" ", 1)[0] if " " in head[20:] else head).rstrip(" ,.;:-") + "…"


def _id(row: Mapping[str, Any]) -> str:
    if not isinstance(row.get("id"), str) or not row["id"]:
        raise KeyError("id")
    return str(row["id"])


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _time(value: object) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53 else 0


def _plain(value: object) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _plains(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
