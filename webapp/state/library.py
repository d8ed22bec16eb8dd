"""The open conversation and the shelf it is kept on: one at a time in memory, whatever the shelf holds.

What a person does is written at once, by field, so that two tabs and the sidebar do not overwrite each other. A conversation
comes onto the shelf with its first message; a temporary one never does. One that another tab removes while it is open here is
written whole with the next change: nothing that is on a screen is lost.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Protocol

from hybr.webapp.hybrid.gate import POLICIES
from hybr.webapp.state import schema
from hybr.webapp.state.schema import Conversation
from hybr.webapp.state.tree import Change, Node, Tree

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from hybr.webapp.state.tree import Removal

log = logging.getLogger(__name__)

UNDOABLE = 8  # removals that can still be undone; each holds the text of what was removed


class ShelfError(Exception):
    """The shelf could not do it; `code` is one of static/js/shelf/errors.js, the message is for the person."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Shelf(Protocol):
    """Where conversations are kept. Calls take effect in their order, whether or not they are awaited."""

    def read(self, conversation: str) -> Awaitable[dict[str, Any]]:
        """`{conversation, nodes}`, rows. Raises ShelfError."""
        ...

    def write(self, change: dict[str, Any]) -> Awaitable[object]:
        """`{conversation: {id, ...}, nodes: [...], drop: [...]}`, all of it or nothing. Raises ShelfError."""
        ...


class Library:
    """See the module. `now` gives ms; `trouble` is told of a write that failed."""

    def __init__(self, shelf: Shelf, now: Callable[[], float], trouble: Callable[[ShelfError], None]) -> None:
        self._shelf = shelf
        self._now = now
        self._trouble = trouble
        self._tasks: set[asyncio.Task[None]] = set()
        self._undo: OrderedDict[str, tuple[str, Removal]] = OrderedDict()
        self._failed = ""
        self.new()

    # -- which one is open

    def new(self, *, temporary: bool = False) -> None:
        """Open a new conversation; it is stored with its first message."""
        now = int(self._now())
        self._open(Conversation(str(uuid.uuid4()), created_at=now, updated_at=now, temporary=temporary), Tree())

    async def open(self, conversation: str) -> None:
        """Open one of the shelf. Raises ShelfError, and then changes nothing."""
        found = await self.look(conversation)
        self._open(*found, stored=True)

    async def look(self, conversation: str) -> tuple[Conversation, Tree]:
        """Read one without opening it. Raises ShelfError."""
        rows = await self._shelf.read(conversation)
        return read(rows["conversation"], rows["nodes"])

    def adopt(self, conversation: Conversation, tree: Tree, *, stored: bool) -> None:
        """Open what was found elsewhere (the journal, another document)."""
        self._open(conversation, tree, stored=stored)

    def _open(self, conversation: Conversation, tree: Tree, *, stored: bool = False) -> None:
        self.conversation = conversation
        self.tree = tree
        self._stored = stored

    @property
    def stored(self) -> bool:
        """Whether the open conversation is on the shelf."""
        return self._stored

    # -- writing

    def save(self, change: Change | None = None, *names: str) -> None:
        """Write what has changed: messages, and the fields `names` of the conversation. Messages make it the newest."""
        one, tree = self.conversation, self.tree
        fields = set(names)
        if change:
            one.updated_at, one.leaf = max(int(self._now()), one.updated_at), tree.leaf
            fields |= {"updated_at", "leaf"}
        if not one.titled and (title := self._title()) != one.title:
            one.title = title
            fields.add("title")
        if one.temporary or (not self._stored and not tree):
            return
        if self._stored:
            self._write(rows_of(one, change or Change(), fields))
        else:
            one.leaf, self._stored = tree.leaf, True
            drop = change.drop if change else ()
            self._write(rows_of(one, Change(put=tuple(tree.nodes.values()), drop=drop), None))

    def add(self, node: Node) -> None:
        """Put a new message into the tree, without writing it yet."""
        node.created_at = self.tree.stamp(int(self._now()))
        self.tree.add(node)

    def remove(self, change: Change) -> str:
        """Write a removal; returns the token that undoes it."""
        self.save(change)
        token = str(uuid.uuid4())
        assert change.removal  # noqa: S101 - for mypy: splice and cut have one
        self._undo[token] = (self.conversation.id, change.removal)
        while len(self._undo) > UNDOABLE:
            self._undo.popitem(last=False)
        return token

    async def undo(self, token: str) -> bool:
        """Put back what was removed; True when that was in the open conversation. Raises ShelfError."""
        conversation, removal = self._undo.pop(token, ("", None))
        if removal is None:
            return False
        if conversation == self.conversation.id:
            self.save(self.tree.restore(removal))
            return True
        one, tree = await self.look(conversation)
        change = tree.restore(removal)
        one.leaf = tree.leaf
        self._write(rows_of(one, change, {"leaf"}))
        return False

    def _title(self) -> str:
        first = next((node for node in self.tree.path if node.role == "user"), None)
        if first is None:
            return self.conversation.title
        return schema.title_of(first.text) or next((str(one.get("name", "")) for one in first.attachments), "")

    def _write(self, change: dict[str, Any]) -> None:
        task = asyncio.get_running_loop().create_task(self._written(self._shelf.write(change)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _written(self, writing: Awaitable[object]) -> None:
        try:
            await writing
            self._failed = ""
        except ShelfError as error:
            log.warning("a conversation was not stored: %s", error.message)
            if error.code != self._failed:  # said once, until a write has worked
                self._failed = error.code
                self._trouble(error)

    # -- what others do with the open conversation

    def heard(self, row: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]], drop: Iterable[str]) -> None:
        """Another tab or the sidebar has written; `row` is whole. Raises NewerSchema.

        What concerns all tabs is taken; not the branch that the other shows, and not an egress policy that is less strict than
        this tab's own: nobody said so here.
        """
        theirs, mine = schema.conversation_from(row), self.conversation
        for name in ("title", "titled", "pinned", "folder", "persona", "settings", "deleted_at"):
            setattr(mine, name, getattr(theirs, name))
        if theirs.egress in POLICIES and POLICIES.index(theirs.egress) > POLICIES.index(mine.egress or "allow"):
            mine.egress = theirs.egress
        self.tree.take(_nodes(nodes), drop)

    def forgotten(self) -> None:
        """Another tab has removed it from the shelf: the next change brings it back whole."""
        self._stored = False
        self.conversation.deleted_at = None


def read(row: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]]) -> tuple[Conversation, Tree]:
    """Rows to a conversation; damaged messages are left where they are, with a word in the log. Raises ShelfError."""
    try:
        conversation = schema.conversation_from(row)
        return conversation, Tree(_nodes(nodes), conversation.leaf)
    except schema.NewerSchema as error:
        raise ShelfError("newer_schema", str(error)) from error
    except KeyError as error:
        raise ShelfError("not_found", f"the conversation's row has no {error}") from error


def rows_of(conversation: Conversation, change: Change, names: set[str] | None) -> dict[str, Any]:
    """A change as the shelf takes it; `names` None: the whole row."""
    whole = [schema.node_row(node, conversation.id) for node in change.put]
    moved = [{"id": node.id, "parent": node.parent, "conversation": conversation.id} for node in change.moved]
    row = schema.conversation_row(conversation, names)
    return {"conversation": row, "nodes": whole + moved, "drop": list(change.drop)}


def _nodes(rows: Iterable[Mapping[str, Any]]) -> list[Node]:
    found = []
    for row in rows:
        try:
            found.append(schema.node_from(row))
        except KeyError as error:
            log.warning("a stored message is left aside, it has no %s", error)
    return found
