"""A conversation is a tree: each message hangs under the one it answers, and messages under the same one are siblings.

What is shown and sent is one branch, from the top to `leaf`. Order is that of the parents' links; among siblings it is that of
`created_at`, which never goes back within a conversation, whatever the clock does (`stamp`).

Damaged rows make a whole tree all the same: who hangs under nobody known, or in a circle, stands at the top. Every operation
returns the `Change` that makes the stored rows equal to this tree, and a removal carries what it takes to undo it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(slots=True)
class Node:
    """One message. Times are ms; `extra` is what a row had beside, kept for its way back.

    `stats`, `error`, `segments` and `attachments` are as the view and the shelf have them (camelCase): nobody here reads them.
    """

    id: str
    parent: str | None
    role: str
    text: str
    state: str = "done"
    created_at: int = 0
    provider: str | None = None
    model: str | None = None
    stats: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    segments: list[dict[str, Any]] = field(default_factory=list)
    attachments: list[dict[str, Any]] = field(default_factory=list)
    closed: bool = False  # may not be finished in the cloud
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Removal:
    """What was taken out and how to put it back: `moved` are the children that went up, with where they were."""

    nodes: tuple[Node, ...]
    moved: tuple[str, ...]
    under: str | None
    leaf: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """What differs from before: nodes to be written whole, nodes of which only the parent differs, and ids to drop."""

    put: tuple[Node, ...] = ()
    moved: tuple[Node, ...] = ()
    drop: tuple[str, ...] = ()
    removal: Removal | None = None


class Tree:
    """See the module. `nodes` in any order; a `leaf` that is none of them means the newest."""

    def __init__(self, nodes: Iterable[Node] = (), leaf: str | None = None) -> None:
        self._nodes = {node.id: node for node in nodes}
        self._chosen: dict[str | None, str] = {}  # where each fork was last taken
        self.leaf: str | None = None
        self._index()
        newest = max(self._nodes.values(), key=_order).id if self._nodes else None
        self._show(leaf if leaf in self._nodes else newest)

    # -- what is there

    @property
    def nodes(self) -> Mapping[str, Node]:
        """All messages by id."""
        return self._nodes

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def path(self) -> list[Node]:
        """The branch shown, from the top."""
        return self.path_to(self.leaf)

    def path_to(self, node_id: str | None) -> list[Node]:
        """The branch from the top to that message."""
        found = []
        while node_id is not None:
            found.append(self._nodes[node_id])
            node_id = self._up[node_id]
        return found[::-1]

    def children(self, node_id: str | None) -> list[str]:
        """Who hangs under it (None: the top), oldest first."""
        return self._down.get(node_id, [])

    def parent(self, node_id: str) -> str | None:
        """What it hangs under; None at the top."""
        return self._up[node_id]

    def place(self, node_id: str) -> tuple[int, int]:
        """Which of its siblings it is, from 0, and how many they are."""
        siblings = self.children(self._up[node_id])
        return siblings.index(node_id), len(siblings)

    def below(self, node_id: str) -> list[str]:
        """It and all that hangs under it, parents first."""
        found = [node_id]
        for one in found:
            found.extend(self.children(one))
        return found

    def stamp(self, now: int) -> int:
        """The time for a new message: now, but never before another message of this conversation."""
        return max(now, max((node.created_at for node in self._nodes.values()), default=0) + 1)

    # -- which branch is shown

    def select(self, node_id: str) -> None:
        """Show the branch through this message, as far down as it went when it was last shown."""
        self._show(node_id)

    def step(self, node_id: str, by: int) -> bool:
        """Show a sibling instead; False when there is none on that side."""
        siblings = self.children(self._up[node_id])
        at = siblings.index(node_id) + by
        if not 0 <= at < len(siblings):
            return False
        self._show(siblings[at])
        return True

    def follow(self) -> bool:
        """Go on to what has come under the branch's end (another tab's), up to the last answer; True if there was any."""
        before, end = self.leaf, self._end(self.leaf)
        while end not in {None, before} and self._nodes[str(end)].role == "user":
            end = self._up[str(end)]  # a question whose answer is still being written elsewhere
        self._stand(end)
        return self.leaf != before

    # -- changes

    def add(self, node: Node) -> Change:
        """Put a new message under its parent and show it. Raises KeyError for a parent or an id that cannot be."""
        if node.id in self._nodes or (node.parent is not None and node.parent not in self._nodes):
            raise KeyError(node.id)
        self._nodes[node.id] = node
        self._up[node.id] = node.parent
        siblings = self._down.setdefault(node.parent, [])
        siblings.append(node.id)
        siblings.sort(key=lambda one: _order(self._nodes[one]))
        self._show(node.id)
        return Change(put=(node,))

    def splice(self, node_id: str) -> Change:
        """Take out one message; what hung under it goes up to its parent."""
        return self._remove([node_id])

    def cut(self, node_id: str) -> Change:
        """Take out a message and all under it."""
        return self._remove(self.below(node_id))

    def restore(self, removal: Removal) -> Change:
        """Undo a removal: what hung under it comes back under it, and so does what was written there meanwhile."""
        back = {node.id: node for node in removal.nodes if node.id not in self._nodes}
        top = removal.nodes[0].id
        moved = [self._nodes[one] for one in removal.moved if one in self._nodes and self._nodes[one].parent == removal.under]
        self._nodes |= back
        for node in moved:
            node.parent = top
        self._index()
        if self.leaf is None or top not in {node.id for node in self.path}:
            self._show(removal.leaf if removal.leaf in self._nodes else top)
        return Change(put=tuple(back.values()), moved=tuple(moved))

    def take(self, nodes: Iterable[Node], drop: Iterable[str] = ()) -> None:
        """What another tab has written and dropped."""
        for node in nodes:
            self._nodes[node.id] = node
        self._index()
        gone = [node_id for node_id in drop if node_id in self._nodes]
        if gone:
            self._remove(gone)
        elif self.leaf is None:
            self._show(next(iter(self._nodes), None))

    def _remove(self, ids: list[str]) -> Change:
        """Take these out, the first being above the others; children that stay go up to where the first was."""
        gone, top, leaf = set(ids), self._up[ids[0]], self.leaf
        beside = self._beside(ids[0])
        moved = [child for one in ids for child in self.children(one) if child not in gone]
        for child in moved:
            self._nodes[child].parent = self._stays(child, gone)
        removed = tuple(self._nodes.pop(one) for one in ids)
        self._index()
        if leaf not in self._nodes:
            self._show(next((one for one in (beside, top) if one in self._nodes), None))
        removal = Removal(removed, tuple(moved), top, leaf)
        return Change(moved=tuple(self._nodes[one] for one in moved), drop=tuple(ids), removal=removal)

    def _stays(self, node_id: str, gone: set[str]) -> str | None:
        above = self._up[node_id]
        while above is not None and above in gone:
            above = self._up[above]
        return above

    def _beside(self, node_id: str) -> str | None:
        """The sibling that is shown when this one goes."""
        siblings = self.children(self._up[node_id])
        at = siblings.index(node_id)
        beside = siblings[at - 1 : at] or siblings[at + 1 : at + 2]
        return beside[0] if beside else None

    def _show(self, node_id: str | None) -> None:
        self._stand(self._end(node_id))

    def _end(self, node_id: str | None) -> str | None:
        """Where the branch through it ends, as it was last taken."""
        while node_id is not None and (under := self.children(node_id)):
            node_id = chosen if (chosen := self._chosen.get(node_id)) in under else under[-1]
        return node_id

    def _stand(self, leaf: str | None) -> None:
        self.leaf = leaf
        for node in self.path:
            self._chosen[self._up[node.id]] = node.id

    def _index(self) -> None:
        """Who hangs under whom; whatever cannot be reached from the top is put there."""
        self._up = {one.id: one.parent if one.parent in self._nodes else None for one in self._nodes.values()}
        self._down: dict[str | None, list[str]] = {}
        for node in sorted(self._nodes.values(), key=_order):
            self._down.setdefault(self._up[node.id], []).append(node.id)
        reached = {one for top in self.children(None) for one in self.below(top)}
        for node in sorted(self._nodes.values(), key=_order) if len(reached) < len(self._nodes) else ():
            if node.id not in reached:
                self._down[self._up[node.id]].remove(node.id)
                self._up[node.id] = None
                self._down.setdefault(None, []).append(node.id)
                reached.update(self.below(node.id))


def _order(node: Node) -> tuple[int, str]:
    return node.created_at, node.id
