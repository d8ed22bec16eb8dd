"""The conversation as a tree in the real page, with a real model: versions by keyboard, undo, reloads, crashes, tabs, storage."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

import pytest
from hybr_testing import RECORDER, Watch, until, wait_core
from playwright.sync_api import Error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybr_testing import Served
    from playwright.sync_api import Browser, Locator, Page

LONG = "Write a very long story about a dragon and a princess, with many chapters."
SHELF = "() => performance.getEntriesByType('resource').map(({name}) => name).find((name) => name.endsWith('/js/shelf.js'))"


@pytest.fixture(scope="module")
def shared(served: Served, chromium_without_webgpu: Browser) -> Iterator[tuple[Page, Watch]]:
    """One page for most of these tests; each begins a new conversation."""
    context = chromium_without_webgpu.new_context(permissions=["clipboard-read", "clipboard-write"])
    context.add_init_script(RECORDER)
    watch = Watch(served.url)
    watch.attach(context)
    page = context.new_page()
    page.goto(f"{served.url}/?mode=cloud")
    wait_core(page)
    yield page, watch
    assert page.evaluate("window.__violations") == []
    page.context.close()
    watch.check()


@pytest.fixture
def page(shared: tuple[Page, Watch]) -> Page:
    """The shared page with a new conversation."""
    page, _ = shared
    page.get_by_test_id("new-conversation").first.click()
    until(lambda: page.get_by_test_id("message").count() == 0, timeout=30, what="a new conversation")
    return page


def message(page: Page, at: int) -> Locator:
    """The message at that place."""
    return page.get_by_test_id("message").nth(at)


def body(page: Page, at: int) -> str:
    """Its text."""
    return message(page, at).locator(".body").last.inner_text()


def texts(page: Page) -> list[str]:
    """All messages' texts."""
    found: list[str] = page.locator("[data-testid=message] .body").all_inner_texts()
    return found


def where(page: Page, at: int) -> str:
    """Its `2/3`; empty where it has no siblings."""
    found = message(page, at).locator(".siblings .where")
    return found.inner_text() if found.count() else ""


def answered(page: Page, count: int) -> None:
    """Wait until there are so many messages, and the last one has ended."""
    ended = {"done", "stopped", "error"}
    last = page.get_by_test_id("message").last
    until(
        lambda: page.get_by_test_id("message").count() == count and last.get_attribute("data-state") in ended,
        timeout=240,
        what=f"{count} messages",
    )


def ask(page: Page, text: str) -> None:
    """Send a message and wait for its answer."""
    before = page.get_by_test_id("message").count()
    page.get_by_test_id("composer").fill(text)
    page.get_by_test_id("send").click()
    answered(page, before + 2)


def begin(page: Page, text: str = LONG) -> str:
    """Send a message and wait for some of its answer; what is shown then."""
    before = page.get_by_test_id("message").count()
    page.get_by_test_id("composer").fill(text)
    page.get_by_test_id("send").click()
    until(lambda: page.get_by_test_id("message").count() == before + 2, timeout=60, what="the answer begun")
    until(lambda: len(body(page, before + 1)) > 40, timeout=120, what="some text", every=0.02)
    return body(page, before + 1)


def press(page: Page, at: int, act: str, key: str = "Enter") -> None:
    """Reach a button of a message by keyboard alone: into its toolbar, along it with the arrow keys, and press it."""

    def reached() -> bool:  # a view that is drawn anew may take the focus back on the way
        message(page, at).get_by_role("toolbar").locator("button[tabindex='0']").first.focus()
        for _ in range(8):
            if page.evaluate("document.activeElement?.dataset.act") == act:
                return True
            page.keyboard.press("ArrowRight")
        return False

    until(reached, timeout=30, what=f"{act} in the toolbar of message {at}")
    page.keyboard.press(key)


def undo(page: Page) -> Locator:
    """The button of the newest toast that tells of a deletion."""
    return page.get_by_test_id("toast").filter(has_text="deleted").last.get_by_test_id("toast-act")


def address(page: Page) -> str:
    """The conversation that the address names."""
    found = re.search(r"#c=([\w-]+)$", page.url)
    return found.group(1) if found else ""


def shelf(page: Page, script: str, argument: Any = None) -> Any:
    """An expression over the page's own shelf."""
    url = page.evaluate(SHELF)
    return page.evaluate(f"([url, argument]) => import(url).then(({{shelf}}) => {script})", [url, argument])


def stored(page: Page) -> dict[str, Any]:
    """The open conversation's messages as they are stored, by id."""
    nodes = shelf(page, "shelf.read(argument).then(({nodes}) => nodes)", address(page))
    return {node["id"]: node for node in nodes}


def test_versions_by_keyboard(page: Page) -> None:
    """Edit, answer again, step, copy, delete, undo, with no mouse; a reload and Back show what was shown."""
    ask(page, "What is the capital of France?")
    first = body(page, 1)
    press(page, 0, "edit")
    until(lambda: page.evaluate("document.activeElement?.dataset.testid") == "edit-text", timeout=10, what="the editor")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("What is the capital of Italy?")
    page.keyboard.press("ControlOrMeta+Enter")
    until(lambda: where(page, 0) == "2/2", timeout=30, what="a second version")
    answered(page, 2)
    second = body(page, 1)
    press(page, 1, "regenerate")
    until(lambda: where(page, 1) == "2/2", timeout=30, what="a second answer")
    answered(page, 2)
    press(page, 0, "previous")
    until(lambda: where(page, 0) == "1/2", timeout=30, what="the first version")
    assert texts(page) == ["What is the capital of France?", first]
    until(lambda: page.evaluate("document.activeElement?.dataset.act") == "previous", timeout=10, what="the focus stays")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    until(lambda: where(page, 0) == "2/2", timeout=30, what="the second version")
    assert where(page, 1) == "2/2", "as it was left"
    press(page, 1, "previous")
    until(lambda: body(page, 1) == second, timeout=30, what="the first answer to it")
    press(page, 1, "copy")
    until(lambda: page.evaluate("navigator.clipboard.readText()").strip() != "", timeout=10, what="the clipboard")
    whole = texts(page)
    press(page, 0, "delete")
    until(lambda: page.get_by_test_id("delete-branch").is_visible(), timeout=10, what="the question")
    page.get_by_test_id("delete-branch").press("Enter")
    until(lambda: texts(page) == ["What is the capital of France?", first], timeout=30, what="the branch gone")
    assert where(page, 0) == ""
    undo(page).press("Enter")
    until(lambda: texts(page) == whole, timeout=30, what="the branch back")
    name = address(page)
    page.reload()
    wait_core(page)
    until(lambda: texts(page) == whole, timeout=30, what="the conversation after a reload")
    assert (where(page, 0), where(page, 1), address(page)) == ("2/2", "1/2", name)
    page.get_by_test_id("new-conversation").first.click()
    until(lambda: page.get_by_test_id("message").count() == 0, timeout=30, what="a new one")
    assert address(page) == ""
    page.go_back()
    until(lambda: texts(page) == whole, timeout=30, what="Back")
    assert address(page) == name


def test_an_edited_answer_and_one_message_out(page: Page) -> None:
    """The person's version of an answer stands beside the model's; a message in the middle goes, the rest stays."""
    ask(page, "What is the capital of Spain?")
    ask(page, "What is the capital of Italy?")
    press(page, 1, "edit")
    page.get_by_test_id("edit-text").fill("**Hello**, said by me.")
    page.get_by_test_id("edit-save").press("Enter")
    until(lambda: (where(page, 1), page.get_by_test_id("message").count()) == ("2/2", 2), timeout=30, what="my version")
    assert message(page, 1).locator("strong").inner_text() == "Hello"
    assert "edited by you" in message(page, 1).get_by_test_id("stats").inner_text()
    press(page, 1, "previous")
    until(lambda: page.get_by_test_id("message").count() == 4, timeout=30, what="the model's")
    assert "edited by you" not in message(page, 1).get_by_test_id("stats").inner_text()
    before = texts(page)
    press(page, 1, "delete")
    page.get_by_test_id("delete-message").last.press("Enter")
    until(lambda: page.get_by_test_id("message").count() == 3, timeout=30, what="one message less")
    assert texts(page) == [before[0], *before[2:]]
    undo(page).press("Enter")
    until(lambda: texts(page) == before, timeout=30, what="the undo")


def test_going_on_after_a_stop(page: Page) -> None:
    """A stopped answer goes on where it was, also after a reload, by an address that somebody wrote."""
    begin(page)
    page.get_by_test_id("stop").click()
    answered(page, 2)
    kept = body(page, 1)
    origin, name = page.url.split("/?")[0], address(page)
    page.goto(f"{origin}/?mode=cloud&c={name}")
    wait_core(page)
    until(lambda: page.get_by_test_id("message").count() == 2, timeout=30, what="the conversation")
    assert (body(page, 1), message(page, 1).get_attribute("data-state")) == (kept, "stopped")
    press(page, 1, "continue")
    until(lambda: len(body(page, 1)) > len(kept) + 10, timeout=120, what="more of it")
    assert body(page, 1).startswith(kept.rstrip())
    page.get_by_test_id("stop").click()
    answered(page, 2)


def test_a_temporary_conversation(page: Page) -> None:
    """It is answered, named nowhere, stored nowhere, and gone with the page."""
    rows = len(shelf(page, "shelf.list()"))
    page.get_by_test_id("temporary-conversation").click()
    page.get_by_test_id("composer").fill("What is the capital of Spain?")
    page.get_by_test_id("send").click()
    answered(page, 2)
    assert (address(page), len(shelf(page, "shelf.list()"))) == ("", rows)
    page.reload()
    wait_core(page)
    page.wait_for_timeout(500)
    assert page.get_by_test_id("message").count() == 0


def test_two_tabs(shared: tuple[Page, Watch], page: Page) -> None:
    """Both write in the same conversation: what both wrote is kept, and each tab shows the other's as a version."""
    ask(page, "What is the capital of Spain?")
    other = page.context.new_page()
    other.goto(page.url)
    wait_core(other)
    until(lambda: other.get_by_test_id("message").count() == 2, timeout=60, what="the same conversation")
    for tab, text in ((page, "What is the capital of Peru?"), (other, "What is the capital of Egypt?")):
        tab.get_by_test_id("composer").fill(text)
        tab.get_by_test_id("send").click()
    answered(page, 4)
    answered(other, 4)
    until(lambda: len(stored(page)) == 6, timeout=60, what="the messages of both")
    for tab, own in ((page, "What is the capital of Peru?"), (other, "What is the capital of Egypt?")):
        assert body(tab, 2) == own
        until(lambda tab=tab: where(tab, 2).endswith("/2"), timeout=30, what="the other's version")
    other.close()


def test_a_crash_while_writing(served: Served, chromium_without_webgpu: Browser) -> None:
    """The renderer dies in mid-answer: the next page has all turns from the shelf and offers the cut answer, once."""
    with chromium_without_webgpu.new_context() as context:
        context.add_init_script(RECORDER)
        first = context.new_page()
        first.goto(served.url + "/?mode=cloud")
        wait_core(first)
        ask(first, "What is the capital of France?")
        whole, shown, url = texts(first), begin(first), first.url
        with contextlib.suppress(Error):
            first.goto("chrome://crash", timeout=10_000)
        second = context.new_page()
        second.goto(url)
        wait_core(second)
        until(lambda: second.locator("[data-interrupted]").count() == 1, timeout=60, what="the cut answer")
        assert texts(second)[:3] == [*whole, LONG]
        assert body(second, 3).startswith(shown)
        second.get_by_test_id("keep").click()
        until(lambda: second.locator(".cut").count() == 0, timeout=10, what="the decision")
        kept = texts(second)
        second.reload()
        wait_core(second)
        until(lambda: texts(second) == kept, timeout=30, what="all of it")
        assert second.locator("[data-interrupted]").count() == 0


DENIED = "IDBFactory.prototype.open = () => { throw new DOMException('denied', 'SecurityError'); };"
FULL = """IDBObjectStore.prototype.put = ((put) => function (row) {
  if (this.name === 'nodes') throw new DOMException('no room', 'QuotaExceededError');
  return put.call(this, row); })(IDBObjectStore.prototype.put);"""


# A warning goes after a while, which a busy machine may take for two answers: each is written down as it comes.
TOLD = """window.__told = []; new MutationObserver((changes) => {
  for (const node of changes.flatMap(({addedNodes}) => [...addedNodes]))
    if (node.dataset?.testid === 'toast') window.__told.push([node.dataset.kind, node.innerText]);
}).observe(document, {childList: true, subtree: true});"""


@pytest.mark.parametrize(
    ("spoil", "kind", "word"), [(DENIED, "warning", "until it is closed"), (FULL, "error", "no room")], ids=["denied", "full"]
)
def test_storage_denied_or_full(served: Served, chromium_without_webgpu: Browser, spoil: str, kind: str, word: str) -> None:
    """It is said once; the conversation is on the screen, can be edited, and can be read back for an export."""
    with chromium_without_webgpu.new_context() as context:
        context.add_init_script(RECORDER)
        context.add_init_script(TOLD)
        context.add_init_script(spoil)
        page = context.new_page()
        page.goto(served.url + "/?mode=cloud")
        wait_core(page)
        ask(page, "What is the capital of Spain?")
        ask(page, "What is the capital of Italy?")
        until(lambda: any(word in text for _, text in page.evaluate("__told")), timeout=30, what="a word on it")
        assert [which for which, text in page.evaluate("__told") if word in text] == [kind]
        assert {node["text"] for node in stored(page).values()} >= {
            "What is the capital of Spain?",
            "What is the capital of Italy?",
        }
        press(page, 3, "delete")
        until(lambda: page.get_by_test_id("message").count() == 3, timeout=30, what="one less")


def test_a_conversation_from_the_future(page: Page) -> None:
    """It is left as it is, and the person is told; the page goes on."""
    ask(page, "What is the capital of Spain?")
    name = address(page)
    put = """([row]) => new Promise((resolve) => { indexedDB.open('hybr-history').onsuccess = ({target: {result: database}}) => {
      const writing = database.transaction('conversations', 'readwrite');
      writing.objectStore('conversations').put(row);
      writing.oncomplete = () => { database.close(); resolve(); }; }; })"""
    row = {"id": "future", "v": 2, "title": "From tomorrow", "shape": ["new"]}
    page.evaluate(put, [row])
    page.evaluate("location.hash = 'c=future'")
    told = page.locator("[data-testid=toast][data-kind=error]")
    until(lambda: any("newer version" in text for text in told.all_inner_texts()), timeout=30, what="the word")
    until(lambda: address(page) == name, timeout=10, what="the address of what is open")
    assert row in shelf(page, "shelf.list()")
    assert len(texts(page)) == 2
    page.locator("[data-testid=toast] .close").last.click()


def test_memory_after_a_hundred_conversations(page: Page) -> None:
    """Opened in turn, the page's memory after a hundred is within 1.2 of what it was after ten."""
    make = """(async () => { for (let n = 0; n < 100; n += 1) {
      const nodes = Array.from({length: 20}, (_, k) => ({id: `m${n}-${k}`, parent: k ? `m${n}-${k - 1}` : null,
        role: k % 2 ? 'assistant' : 'user', text: `conversation ${n} message ${k} ` + 'words '.repeat(300), createdAt: k}));
      await shelf.write({conversation: {id: `bound-${n}`, title: `Bound ${n}`}, nodes}); } })()"""
    shelf(page, make)
    session = page.context.new_cdp_session(page)

    def heap() -> float:
        session.send("HeapProfiler.collectGarbage")
        return float(session.send("Runtime.getHeapUsage")["usedSize"])

    def visit(numbers: range) -> None:
        for number in numbers:
            page.evaluate("(n) => (location.hash = `c=bound-${n}`)", number)
            until(lambda number=number: body_of(page, f"m{number}-"), timeout=30, what=f"conversation {number}", every=0.01)

    visit(range(10))
    ten = heap()
    visit(range(10, 100))
    hundred = heap()
    assert hundred < 1.2 * ten, f"{ten / 1e6:.1f} MB after 10, {hundred / 1e6:.1f} MB after 100"
    shelf(page, "Promise.all(Array.from({length: 100}, (_, n) => shelf.remove(`bound-${n}`)))")


def body_of(page: Page, prefix: str) -> bool:
    """Whether the messages shown are those of that conversation."""
    return bool(page.evaluate("(prefix) => !!document.querySelector(`.message[data-id^='${prefix}']`)", prefix))
