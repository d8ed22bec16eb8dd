"""What the view shows of the open conversation: one branch, kept in step with the tree by the fewest ops that do it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hybr.webapp.state.library import Library
    from hybr.webapp.state.tree import Node, Tree


class View(Protocol):
    """Where answers are drawn."""

    def op(self, op: dict[str, Any]) -> None:
        """Draw one view op (static/js/protocol.js)."""
        ...

    def delta(self, message_id: str, delta: str, provider: str, segment: int, *, restart: bool = False) -> None:
        """Append text to a message; `restart` strikes what it has so far."""
        ...


class Drawing:
    """See the module. It remembers which messages the view has, by id, and which of its siblings each was said to be."""

    def __init__(self, view: View, library: Library) -> None:
        self._view = view
        self._library = library
        self._shown: dict[str, tuple[int, int]] = {}
        self._told: dict[str, Any] = {}

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._shown

    def open(self) -> None:
        """Show the open conversation, in place of what is shown."""
        tree = self._library.tree
        path = tree.path
        self._shown = {node.id: tree.place(node.id) for node in path}
        self._told = self._conversation()
        self._view.op({"type": "open", "conversation": self._told, "messages": [shown(tree, node) for node in path]})

    def sync(self) -> None:
        """Take away what left the branch, add what came, and tell what has other siblings now."""
        tree = self._library.tree
        path = tree.path
        ids = {node.id for node in path}
        kept = [one for one in self._shown if one in ids]
        if [node.id for node in path[: len(kept)]] != kept or (self._shown and not kept and len(path) > 1):
            self.open()
            return
        if gone := [one for one in self._shown if one not in ids]:
            self._view.op({"type": "remove", "ids": gone})
        before, self._shown = self._shown, {node.id: tree.place(node.id) for node in path}
        for one in kept:
            if self._shown[one] != before[one]:
                index, count = self._shown[one]
                self._view.op({"type": "siblings", "id": one, "index": index, "count": count})
        for node in path[len(kept) :]:
            self.message(node)
        self.conversation()

    def conversation(self) -> None:
        """Tell the conversation's title and state, if they are others than were told."""
        if (now := self._conversation()) != self._told:
            self._told = now
            self._view.op({"type": "conversation", "conversation": now})

    def message(self, node: Node) -> None:
        """Draw one message at the end, or anew."""
        self._view.op({"type": "message", **shown(self._library.tree, node)})
        if node.role == "assistant" and node.state != "streaming":
            self.finish(node)

    def reveal(self, node_id: str, find: str | None) -> None:
        """Scroll to a message, and mark what was searched for."""
        self._view.op({"type": "reveal", "id": node_id, "find": find})

    def finish(self, node: Node) -> None:
        """Draw an answer's end."""
        names = ("id", "state", "provider", "model", "stats", "error")
        self._view.op({"type": "finish", **{name: getattr(node, name) for name in names}})

    def _conversation(self) -> dict[str, Any]:
        one = self._library.conversation
        return {"id": one.id, "title": one.title, "temporary": one.temporary, "stored": self._library.stored}


def shown(tree: Tree, node: Node) -> dict[str, Any]:
    """A message as the view takes it."""
    index, count = tree.place(node.id)
    names = ("id", "role", "text", "state", "provider", "model", "segments", "stats", "error", "attachments")
    op = {name: value for name in names if (value := getattr(node, name)) or name in ("text", "state")}
    segment = max(len(node.segments) - 1, 0)
    edited: dict[str, Any] = {"edited": True} if node.extra.get("edited") else {}
    if thought := node.extra.get("thought"):
        edited["thought"] = str(thought)
    return {**op, **edited, "segment": segment, "siblings": {"index": index, "count": count}}
