"""The tree of a conversation: branches, removals and their undo, rows of others, under random edits."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hybr.webapp.state.tree import Change, Node, Tree

PICK = st.integers(0, 10_000)


def made(*links: tuple[str, str | None], leaf: str | None = None) -> Tree:
    """A tree of `(id, parent)`, in that order of time."""
    return Tree([Node(name, parent, "user", name, created_at=at) for at, (name, parent) in enumerate(links, 1)], leaf)


def ids(tree: Tree) -> str:
    """The branch shown, as one word."""
    return "".join(node.id for node in tree.path)


def test_siblings_and_the_branch_last_shown() -> None:
    """A fork shows the newest; stepping away and back comes back to where one was; there is nothing beyond the ends."""
    tree = made(("a", None), ("b", "a"), ("c", "b"), ("d", "a"), ("e", "d"), ("f", "d"))
    assert (ids(tree), tree.place("d"), tree.place("e")) == ("adf", (1, 2), (0, 2))
    assert tree.step("f", -1)
    assert ids(tree) == "ade"
    assert tree.step("d", -1)
    assert ids(tree) == "abc"
    assert tree.step("b", 1)
    assert ids(tree) == "ade", "as it was left"
    assert not tree.step("d", 1)
    assert not tree.step("a", -1)
    tree.select("c")
    assert ids(tree) == "abc"


def test_a_clock_that_jumps_back() -> None:
    """A new message is never older than one before it, so siblings stay in the order in which they were made."""
    tree = Tree()
    for name, now in (("a", 5000), ("b", 100), ("c", 100), ("d", 6000)):
        tree.add(Node(name, None, "user", name, created_at=tree.stamp(now)))
    assert tree.children(None) == ["a", "b", "c", "d"]
    times = [tree.nodes[name].created_at for name in "abcd"]
    assert times == sorted(set(times))


def test_splice_and_cut() -> None:
    """One message out: what hung under it goes up. A branch out: all of it; then the neighbour is shown, or what is above."""
    tree = made(("a", None), ("b", "a"), ("c", "b"), ("d", "c"))
    change = tree.splice("b")
    assert (ids(tree), [node.id for node in change.moved], change.drop) == ("acd", ["c"], ("b",))
    tree = made(("a", None), ("b", "a"), ("c", "b"), ("d", "a"), ("e", "a"), leaf="c")
    change = tree.cut("b")
    assert (ids(tree), set(change.drop)) == ("ad", {"b", "c"})
    assert ids(made(("a", None), ("b", "a"), leaf="b")) == "ab"
    tree.cut("d")
    tree.cut("e")
    assert ids(tree) == "a"
    tree.cut("a")
    assert (ids(tree), tree.leaf, len(tree)) == ("", None, 0)


def test_undo_brings_what_was_written_meanwhile_along() -> None:
    """The message comes back where it was; who hung under it too, with what came under that since."""
    tree = made(("a", None), ("b", "a"), ("c", "b"))
    removal = tree.splice("b").removal
    assert removal
    tree.add(Node("d", "c", "user", "d", created_at=tree.stamp(0)))
    change = tree.restore(removal)
    assert (ids(tree), [node.id for node in change.put], [node.id for node in change.moved]) == ("abcd", ["b"], ["c"])
    removal = tree.cut("b").removal
    assert removal
    tree.add(Node("e", "a", "user", "e", created_at=tree.stamp(0)))
    tree.restore(removal)
    assert ids(tree) == "abcd", "what comes back is shown"
    tree.restore(removal)
    assert ids(tree) == "abcd", "twice is as once"


def test_damaged_links() -> None:
    """Orphans and circles stand at the top; nothing is missing, nothing hangs."""
    tree = made(("a", "nobody"), ("b", "a"), ("x", "y"), ("y", "x"), ("self", "self"))
    reached = {one for top in tree.children(None) for one in tree.below(top)}
    assert reached == {"a", "b", "x", "y", "self"}
    assert ids(made(("x", "y"), ("y", "x"), leaf="y")) == "xy"
    with pytest.raises(KeyError):
        tree.add(Node("new", "nobody", "user", ""))
    with pytest.raises(KeyError):
        tree.add(Node("a", None, "user", ""))


def test_what_another_tab_wrote() -> None:
    """Its messages are there as siblings or below, ours too; what it dropped is gone and its children are not."""
    tree = made(("a", None), ("b", "a"))
    tree.take([Node("c", "a", "user", "c", created_at=9), Node("d", "b", "assistant", "d", created_at=10)])
    assert (ids(tree), tree.place("b")) == ("ab", (0, 2)), "the branch shown does not change by itself"
    tree.take([Node("e", "d", "user", "e", created_at=11)])
    assert tree.follow()
    assert ids(tree) == "abd", "a question of another tab's is not followed before it is answered"
    tree.cut("e")
    tree.take([], ["b", "unknown"])
    assert (ids(tree), tree.parent("d")) == ("ad", "a")
    empty = Tree()
    empty.take([Node("a", None, "user", "a")])
    assert empty.leaf == "a"


class Stored:
    """The shelf's rows, changed by changes alone."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    def take(self, change: Change) -> None:
        """As the shelf does it: whole nodes, parents, drops."""
        self.nodes |= {node.id: copy.deepcopy(node) for node in change.put}
        for node in change.moved:
            self.nodes[node.id] = replace(self.nodes[node.id], parent=node.parent)
        for name in change.drop:
            del self.nodes[name]


class Edits(RuleBasedStateMachine):
    """Two tabs on one conversation: the person writes, edits, deletes, undoes and steps; the other tab writes and deletes."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = Tree()
        self.stored = Stored()
        self.removals: list[Any] = []
        self.count = 0

    def fresh(self, parent: str | None, now: int) -> Node:
        """A new message."""
        self.count += 1
        return Node(f"n{self.count}", parent, "user", f"text {self.count}", created_at=self.tree.stamp(now))

    def some(self, pick: int) -> str:
        """One of the messages."""
        names = sorted(self.tree.nodes)
        return names[pick % len(names)]

    def did(self, change: Change) -> None:
        """The shelf hears of it."""
        self.stored.take(change)
        if change.removal:
            self.removals.append(change.removal)

    @rule(now=st.integers(0, 1000))
    def send(self, now: int) -> None:
        """A message at the end of the branch."""
        node = self.fresh(self.tree.leaf, now)
        self.did(self.tree.add(node))
        assert self.tree.leaf == node.id

    @precondition(lambda self: len(self.tree))
    @rule(pick=PICK, now=st.integers(0, 1000))
    def edit(self, pick: int, now: int) -> None:
        """A sibling of a message."""
        beside = self.some(pick)
        before = self.tree.place(beside)[1]
        node = self.fresh(self.tree.parent(beside), now)
        self.did(self.tree.add(node))
        assert self.tree.place(node.id) == (before, before + 1), "the newest is the last"

    @precondition(lambda self: len(self.tree))
    @rule(pick=PICK, branch=st.booleans())
    def delete(self, pick: int, branch: bool) -> None:
        """A message or a branch; undone at once, all is as it was."""
        name = self.some(pick)
        before, nodes = self.picture(), len(self.tree)
        change = self.tree.cut(name) if branch else self.tree.splice(name)
        self.did(change)
        assert len(self.tree) == nodes - len(change.drop)
        assert change.removal
        self.did(self.tree.restore(change.removal))
        now = self.picture()
        assert now[0] == before[0]
        assert now[1] == before[1] or (now[1].startswith(before[1]) and before[2]), "or on to what another tab has written below"
        self.did(self.tree.cut(name) if branch else self.tree.splice(name))

    @precondition(lambda self: self.removals)
    @rule(pick=PICK)
    def undo(self, pick: int) -> None:
        """Any removal, whatever came after it: what it took out is there again."""
        removal = self.removals.pop(pick % len(self.removals))
        self.did(self.tree.restore(removal))
        assert {node.id for node in removal.nodes} <= set(self.tree.nodes)

    @precondition(lambda self: len(self.tree))
    @rule(pick=PICK, by=st.sampled_from([-1, 1]))
    def step(self, pick: int, by: int) -> None:
        """To a sibling and back is where one was."""
        self.tree.select(self.tree.leaf)
        node = self.tree.path[pick % len(self.tree.path)]
        before = ids(self.tree)
        if self.tree.step(node.id, by):
            shown = self.tree.path[[one.id for one in self.tree.path_to(node.id)].index(node.id)]
            self.tree.step(shown.id, -by)
        assert ids(self.tree) == before

    @precondition(lambda self: len(self.tree))
    @rule(pick=PICK, now=st.integers(0, 1000))
    def other_writes(self, pick: int, now: int) -> None:
        """Another tab's message, whose clock is its own."""
        node = replace(self.fresh(self.some(pick), 0), created_at=now)
        self.stored.nodes[node.id] = copy.deepcopy(node)
        shown = ids(self.tree)
        self.tree.take([node])
        assert ids(self.tree) == shown or self.tree.leaf == node.id

    @precondition(lambda self: len(self.tree) > 1)
    @rule(pick=PICK)
    def other_drops(self, pick: int) -> None:
        """Another tab splices a message out."""
        name = self.some(pick)
        other = Tree([copy.deepcopy(node) for node in self.stored.nodes.values()])
        change = other.splice(name)
        self.stored.take(change)
        self.tree.take(copy.deepcopy(list(change.moved)), change.drop)

    def picture(self) -> Any:
        """All that a person could see, by stepping about."""
        tree = self.tree
        open_end = tree.leaf is not None and bool(tree.children(tree.leaf))
        return {name: (tree.parent(name), tree.place(name), tree.nodes[name].text) for name in tree.nodes}, ids(tree), open_end

    @invariant()
    def whole(self) -> None:
        """Every message is reached once, siblings are in order of time, the branch goes from the top to an end."""
        tree = self.tree
        reached = [one for top in tree.children(None) for one in tree.below(top)]
        assert sorted(reached) == sorted(tree.nodes)
        for name in [None, *tree.nodes]:
            times = [(tree.nodes[one].created_at, one) for one in tree.children(name)]
            assert times == sorted(times)
        path = [node.id for node in tree.path]
        assert [tree.parent(name) for name in path] == [None, *path[:-1]][: len(path)]
        assert (tree.leaf is None) == (not tree.nodes)

    @invariant()
    def stored_alike(self) -> None:
        """What was written is what is here: a reload shows the same tree."""
        again = Tree(copy.deepcopy(list(self.stored.nodes.values())), self.tree.leaf)
        assert {name: (again.parent(name), again.place(name)) for name in again.nodes} == {
            name: (self.tree.parent(name), self.tree.place(name)) for name in self.tree.nodes
        }


TestEdits = Edits.TestCase
TestEdits.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
