"""The shelf of conversations (static/js/shelf.js) in a real browser: whole or not at all, and nothing lost whoever writes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from hybr_testing import until
from playwright.sync_api import Error
from shell_testing import ASSETS, SCRIPTED_WORKERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

USE = f"""async ([script, argument]) => {{
    window.shelves ??= await import('{ASSETS}/js/shelf.js');
    window.heard ??= (() => {{ const heard = []; shelves.shelf.onChange((one) => heard.push(one));
      window.troubles = []; shelves.shelf.onTrouble((one) => troubles.push(one.code)); return heard; }})();
    const tried = (work) => work().then((value) => ({{value}}), ({{code, message}}) => ({{code, message}}));
    return eval(`async (shelf, argument) => ${{script}}`)(shelves.shelf, argument).then((value) => value ?? null); }}"""


def node(name: str, parent: str | None = None, **more: Any) -> dict[str, Any]:
    """One message."""
    return {"id": name, "parent": parent, "role": "user", "text": name, "createdAt": 1, **more}


class Tab:
    """One document of a browser, with the module in it."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def run(self, script: str, argument: Any = None) -> Any:
        """An expression of `shelf` and `argument`, in the module's own realm."""
        return self.page.evaluate(USE, [script, argument])

    def write(self, **change: Any) -> Any:
        """`{value}` or `{code, message}`."""
        return self.run("tried(() => shelf.write(argument))", change)

    def read(self, name: str = "c") -> Any:
        """The conversation's row and messages by id."""
        found = self.run("tried(() => shelf.read(argument))", name)
        return {one["id"]: one for one in found["value"]["nodes"]} if "value" in found else found

    def row(self, name: str = "c") -> Any:
        """The conversation's row."""
        return self.run("shelf.read(argument).then(({conversation}) => conversation)", name)


@pytest.fixture
def context(chromium_without_webgpu: Browser) -> Iterator[BrowserContext]:
    """A new visitor. Content policies are off for the tests' own eval."""
    with chromium_without_webgpu.new_context(bypass_csp=True) as context:
        context.add_init_script(SCRIPTED_WORKERS)
        yield context


@pytest.fixture
def tab(context: BrowserContext, origin: str) -> Callable[..., Tab]:
    """Open documents of that visitor's browser; `before` is a script that spoils something first."""

    def opened(before: str = "") -> Tab:
        page = context.new_page()
        if before:
            page.add_init_script(before)
        page.goto(origin)
        return Tab(page)

    return opened


def test_fields_are_laid_over(tab: Callable[..., Tab]) -> None:
    """A write names what it changes; the rest of the row and of the message stays, unknown fields too."""
    one = tab()
    one.write(conversation={"id": "c", "title": "One", "future": {"x": 1}}, nodes=[node("a", more="kept")])
    one.write(conversation={"id": "c", "pinned": True}, nodes=[{"id": "a", "state": "done"}])
    row = one.row()
    assert (row["title"], row["pinned"], row["future"], row["v"], row["deletedAt"]) == ("One", True, {"x": 1}, 1, None)
    found = one.read()["a"]
    assert (found["text"], found["state"], found["more"], found["conversation"]) == ("a", "done", "kept", "c")
    assert [one["id"] for one in one.run("shelf.list()")] == ["c"]
    assert "names no conversation" in one.run("tried(() => shelf.write({nodes: [{id: 'x'}]}))")["message"]


def test_two_tabs(tab: Callable[..., Tab]) -> None:
    """Both write the same conversation: the messages and the fields of both are there, and each is told of the other's."""
    one, two = tab(), tab()
    two.run("null")
    one.write(conversation={"id": "c", "title": "One"}, nodes=[node("a")])
    until(lambda: two.run("heard.length") == 1, timeout=10, what="the news", every=0.02)
    (told,) = two.run("heard")
    assert (told["kind"], told["by"], told["row"]["title"], told["nodes"][0]["id"]) == ("written", "tab", "One", "a")
    one.write(nodes=[node("b", "a", conversation="c")])
    two.write(conversation={"id": "c", "pinned": True}, nodes=[node("d", "a")])
    assert set(one.read()) == set(two.read()) == {"a", "b", "d"}
    assert (one.row()["title"], one.row()["pinned"]) == ("One", True)
    two.run("shelf.remove('c')")
    until(lambda: one.run("heard.at(-1).kind") == "removed", timeout=10, what="the removal", every=0.02)
    assert one.read()["code"] == "not_found"


def test_what_another_tab_wrote_under_a_dropped_message(tab: Callable[..., Tab]) -> None:
    """It lives on under the nearest message above; of the dropped one no text is left; a late word on it does not raise it."""
    one, two = tab(), tab()
    one.write(conversation={"id": "c"}, nodes=[node("a"), node("b", "a"), node("x", "b")])
    two.write(nodes=[node("before", "x", conversation="c")])
    one.write(conversation={"id": "c"}, drop=["b", "x"])
    two.write(conversation={"id": "c"}, nodes=[node("after", "x"), {"id": "x", "state": "done"}])
    found = one.read()
    assert {name: one["parent"] for name, one in found.items()} == {"a": None, "before": "a", "after": "a"}
    until(lambda: one.run("heard.at(-1).by") == "tab", timeout=10, what="the news", every=0.02)
    assert one.run("heard.at(-1).nodes.map(({id, parent}) => [id, parent])") == [["after", "a"]]
    raw = one.page.evaluate(RAW)
    assert [row["gone"] for row in raw if row["id"] in {"b", "x"}] == [True, True]
    assert not [row for row in raw if row["id"] in {"b", "x"} and "text" in row]
    one.write(conversation={"id": "c"}, nodes=[node("x", "a", text="again")])
    assert one.read()["x"]["text"] == "again", "an undo puts it back"


RAW = """() => new Promise((resolve) => { indexedDB.open('hybr-history').onsuccess = ({target: {result: database}}) => {
    database.transaction('nodes').objectStore('nodes').getAll().onsuccess = ({target}) => {
      database.close();
      resolve(target.result); }; }; })"""
PUT = """([store, row]) => new Promise((resolve) => {
  indexedDB.open('hybr-history').onsuccess = ({target: {result: database}}) => {
    const writing = database.transaction(store, 'readwrite');
    writing.objectStore(store).put(row);
    writing.oncomplete = () => { database.close(); resolve(); }; }; })"""


def test_rows_of_a_later_version(tab: Callable[..., Tab]) -> None:
    """They are listed, never read as ours nor written, and removed by nobody; a later message closes its conversation too."""
    one = tab()
    one.write(conversation={"id": "old"}, nodes=[node("a")])
    future = {"id": "c", "v": 2, "title": "From tomorrow", "shape": ["new"]}
    one.page.evaluate(PUT, ["conversations", future])
    one.page.evaluate(PUT, ["nodes", {"conversation": "old", "id": "z", "v": 9, "parent": "a"}])
    for name in ("c", "old"):
        read, written = one.read(name), one.write(conversation={"id": name, "title": "x"}, nodes=[node("z")])
        assert read["code"] == written["code"] == "newer_schema"
        assert "newer version" in written["message"]
    assert one.run("tried(() => shelf.remove('c'))")["code"] == "newer_schema"
    assert future in one.run("shelf.list()")
    assert one.run("shelf.row(argument)", future["id"]) == future
    assert [row["v"] for row in one.page.evaluate(RAW) if row["id"] == "z"] == [9]


def test_a_database_of_a_later_version(tab: Callable[..., Tab]) -> None:
    """The shelf leaves it alone, works in memory, and says so once; and it lets go of its own when a later page wants it."""
    one = tab()
    one.write(conversation={"id": "c"}, nodes=[node("a")])
    upgrade = """() => new Promise((resolve, reject) => { const asked = indexedDB.open('hybr-history', 7);
      asked.onsuccess = () => { asked.result.close(); resolve('upgraded'); };
      asked.onblocked = () => reject(new Error('blocked')); })"""
    assert one.page.evaluate(upgrade) == "upgraded"
    assert "value" in one.write(conversation={"id": "d"}, nodes=[node("b")])
    assert set(one.read("d")) == {"b"}
    assert one.run("troubles") == ["newer_schema"]


DENIED = "IDBFactory.prototype.open = () => { throw new DOMException('denied', 'SecurityError'); };"


def test_denied(tab: Callable[..., Tab]) -> None:
    """Without a database everything works in memory, and that is told once."""
    one = tab(DENIED)
    assert "value" in one.write(conversation={"id": "c", "title": "One"}, nodes=[node("a"), node("b", "a")])
    one.write(conversation={"id": "c", "pinned": True}, drop=["b"])
    assert set(one.read()) == {"a"}
    assert [(row["title"], row["pinned"]) for row in one.run("shelf.list()")] == [("One", True)]
    assert (one.run("shelf.row('c')")["title"], one.run("shelf.row('d')")) == ("One", None)
    assert one.run("troubles") == ["storage_denied"]
    one.run("shelf.remove('c')")
    assert one.run("shelf.list()") == []


FULL = """const put = IDBObjectStore.prototype.put; window.full = false;
    IDBObjectStore.prototype.put = function (row) {
      if (window.full && row.text === 'b') throw new DOMException('no room', 'QuotaExceededError');
      return put.call(this, row); };"""


def test_full(tab: Callable[..., Tab]) -> None:
    """What does not fit is told, stays to be read in this page, changes nothing on the disk, and goes with the next write."""
    one, two = tab(FULL), tab()
    one.write(conversation={"id": "c", "title": "One"}, nodes=[node("a")])
    one.page.evaluate("full = true")
    told = one.write(conversation={"id": "c", "title": "Two"}, nodes=[node("b", "a")])
    assert (told["code"], "no room" in told["message"]) == ("storage_full", True)
    assert set(one.read()) == {"a", "b"}
    assert (one.row()["title"], one.run("shelf.list()")[0]["title"]) == ("Two", "Two")
    assert (one.run("shelf.row('c')"), one.run("shelf.row('d')")) == (one.run("shelf.list()")[0], None)
    assert (set(two.read()), two.row()["title"]) == ({"a"}, "One"), "nothing of it is half stored"
    one.page.evaluate("full = false")
    one.write(conversation={"id": "c", "pinned": True})
    assert (set(two.read()), two.row()["title"], two.row()["pinned"]) == ({"a", "b"}, "Two", True)


def test_killed_while_writing(context: BrowserContext, tab: Callable[..., Tab]) -> None:
    """The renderer dies in the middle of many writes: each is there whole (row and both messages) or not at all."""
    one = tab()
    script = """(() => { for (let n = 0; n < 1500; n += 1) {
      const made = (id) => ({id, parent: null, role: 'user', text: 'x'.repeat(20000), createdAt: n});
      const pair = [`q${n}`, `r${n}`].map(made);
      const row = {id: 'c', leaf: `r${n}`, count: n + 1};
      void shelf.write({conversation: row, nodes: pair}).then(() => (window.done = n + 1)); } })()"""
    one.run(f"(window.done = 0, {script})")
    until(lambda: one.page.evaluate("done") > 5, timeout=30, what="some writes", every=0.005)
    with contextlib.suppress(Error):
        one.page.goto("chrome://crash", timeout=5000)
    two = tab()
    row, found = two.row(), two.read()
    assert 5 < row["count"] < 1500
    assert len(found) == 2 * row["count"]
    assert row["leaf"] in found
    assert context.pages


def test_scan(tab: Callable[..., Tab]) -> None:
    """All that lives, one conversation at a time."""
    one = tab()
    for name in ("a", "b", "d"):
        one.write(conversation={"id": name}, nodes=[node(f"{name}1")])
    one.write(conversation={"id": "b", "deletedAt": 5})
    one.page.evaluate(PUT, ["conversations", {"id": "n", "v": 2}])
    scan = "(async () => { const all = []; for await (const one of shelf.scan()) all.push(one.nodes[0].id); return all; })()"
    assert one.run(scan) == ["a1", "d1"]
