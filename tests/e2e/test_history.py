"""The history beside the chat: found, named, pinned, put away, deleted and brought back, in and out as files, in every tab."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from exchange_desk import archive, conversation
from exchange_trees import chatgpt, openwebui
from hybr_testing import until
from shell_testing import SCRIPTED_WORKERS, op, say, sent, shell_page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Locator, Page

PHONE = {"viewport": {"width": 390, "height": 844}}
DAY = 86_400_000
SHELF = "(await import('/assets/test/js/shelf.js')).shelf"
WRITE = f"async (rows) => {{ for (const {{conversation, nodes}} of rows) await {SHELF}.write({{conversation, nodes}}); }}"
CLEAR = f"""async () => {{
  document.querySelectorAll('dialog[open]').forEach((one) => one.close());
  document.querySelectorAll('.toast .close').forEach((one) => one.click());
  const shelf = {SHELF};
  for (const {{ id, v }} of await shelf.list()) if (v === 1) await shelf.remove(id);
  localStorage.removeItem('hybr:history');
  const search = document.getElementById('search-history');
  search.value = ''; search.dispatchEvent(new Event('input'));
  window.python.sent.length = 0; }}"""

# A row as a later page writes it, past the shelf; without one, it is taken away.
RAW = """(row) => new Promise((resolve, reject) => {
  const request = indexedDB.open('hybr-history');
  request.onsuccess = () => {
    const run = request.result.transaction('conversations', 'readwrite');
    if (row) run.objectStore('conversations').put(row);
    else run.objectStore('conversations').delete('later');
    run.oncomplete = () => (request.result.close(), resolve());
    run.onerror = reject;
  }; })"""
DROP = """(text) => {
  const data = new DataTransfer();
  data.items.add(new File([text], 'x.json'));
  const event = new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true});
  document.getElementById('history').dispatchEvent(event); }"""


def chat(identity: str, title: str, *, days: float = 0, text: str = "Hello", **fields: Any) -> dict[str, Any]:
    """A conversation of two messages, used `days` ago."""
    now = time.time() * 1000
    texts = [(f"{identity}-q", None, "user", text), (f"{identity}-a", f"{identity}-q", "assistant", f"About: {text}")]
    return conversation(identity, texts, title=title, updatedAt=now - days * DAY, createdAt=now - days * DAY, **fields)


@pytest.fixture(scope="module")
def shared(chromium_without_webgpu: Browser, origin: str) -> Iterator[Page]:
    """One page for all."""
    with shell_page(chromium_without_webgpu, origin, viewport={"width": 1280, "height": 800}) as (page, _):
        yield page


@pytest.fixture
def page(shared: Page) -> Page:
    """The page with an empty history."""
    shared.evaluate(CLEAR)
    until(lambda: titles(shared) == [], timeout=10, what="an empty list", every=0.02)
    return shared


def put(page: Page, *rows: dict[str, Any]) -> None:
    """Write conversations as another part of the page does, and wait until they are listed."""
    page.evaluate(WRITE, list(rows))
    for row in rows:
        row_of(page, row["conversation"]["id"]).wait_for()


def titles(page: Page) -> list[str]:
    """The titles in the list, from top to bottom."""
    found: list[str] = page.evaluate(
        "[...document.querySelectorAll('.long [data-testid=conversation]')].map((one) => one.textContent)"
    )
    return found


def headings(page: Page) -> list[str]:
    """The headings, without how many conversations a folder has."""
    script = (
        "[...document.querySelectorAll('.heading h3')].map((one) => one.querySelector('.name')?.textContent ?? one.textContent)"
    )
    found: list[str] = page.evaluate(script)
    return found


def row_of(page: Page, identity: str) -> Locator:
    """A conversation's button."""
    return page.locator(f"[data-testid=conversation][data-id='{identity}']")


def wait_titles(page: Page, *expected: str) -> None:
    """Wait for exactly these titles, in this order."""
    until(lambda: titles(page) == list(expected), timeout=10, what=f"titles {expected}, are {titles(page)}", every=0.02)


def stored(page: Page, identity: str) -> dict[str, Any] | None:
    """The row on the shelf."""
    found: dict[str, Any] | None = page.evaluate(
        f"async (id) => (await {SHELF}.list()).find((row) => row.id === id) ?? null", identity
    )
    return found


def wait_stored(page: Page, identity: str, **fields: Any) -> None:
    """Wait until the shelf has these fields."""

    def there() -> bool:
        row = stored(page, identity)
        return row is not None and all(row.get(name) == value for name, value in fields.items())

    until(there, timeout=10, what=f"{identity} with {fields}", every=0.05)


def focused(page: Page) -> str:
    """What has the focus, by what can be told of it."""
    found: str = page.evaluate(
        "(({dataset, id, textContent}) => dataset.id ?? dataset.testid ?? (id || textContent))(document.activeElement)"
    )
    return found


def menu(page: Page, identity: str, *path: str) -> None:
    """Choose in a conversation's menu."""
    row_of(page, identity).hover()
    row_of(page, identity).locator("xpath=..").get_by_test_id("conversation-menu").click()
    for testid in path:
        page.get_by_test_id(testid).click()


class TestList:
    """What is listed, and where."""

    def test_conversations_stand_by_the_day_of_their_last_use(self, page: Page) -> None:
        """Pinned first, then folders, then the days; a clock that was set back makes nothing disappear."""
        put(
            page,
            chat("old", "Long ago", days=400),
            chat("week", "This week", days=4),
            chat("today", "Now"),
            chat("future", "Tomorrow", days=-1),
            chat("pin", "Kept", days=9, pinned=True),
            chat("work", "Report", days=2, folder="Work"),
        )
        wait_titles(page, "Kept", "Report", "Tomorrow", "Now", "This week", "Long ago")
        assert headings(page)[:5] == ["Pinned", "Work", "Today", "Last 7 days", headings(page)[4]]

    def test_the_open_one_is_marked_and_a_click_asks_for_another(self, page: Page) -> None:
        """Python says what is open; the list only asks."""
        put(page, chat("one", "One"), chat("two", "Two", days=1))
        op(
            page,
            {"type": "open", "conversation": {"id": "one", "title": "One", "temporary": False, "stored": True}, "messages": []},
        )
        until(lambda: row_of(page, "one").get_attribute("aria-current") == "page", timeout=10, what="the mark")
        assert row_of(page, "two").get_attribute("aria-current") is None
        row_of(page, "two").click()
        asked = [m for m in sent(page, "ui") if m["event"] == "open-conversation"]
        assert [m["id"] for m in asked] == ["two"]

    def test_a_thousand_are_listed_and_few_are_in_the_document(self, page: Page) -> None:
        """The list is as long as it should be, bounded in the document, and the keys reach its end and its beginning."""
        many = [chat(f"n{index}", f"Chat {index}", days=index / 10_000) for index in range(1000)]
        page.evaluate(WRITE, many)
        until(lambda: row_of(page, "n0").count() == 1, timeout=30, what="the first")
        until(lambda: page.evaluate("document.querySelector('.long').offsetHeight") > 30_000, timeout=30, what="all of them")
        assert page.get_by_test_id("conversation").count() < 120
        row_of(page, "n0").focus()
        page.keyboard.press("End")
        until(lambda: focused(page) == "n999", timeout=10, what="the last one")
        assert page.get_by_test_id("conversation").count() < 120
        page.keyboard.press("ArrowUp")
        until(lambda: focused(page) == "n998", timeout=10, what="the one before")
        page.keyboard.press("Home")
        until(lambda: focused(page) == "n0", timeout=10, what="the first one")
        page.keyboard.press("ArrowUp")
        assert focused(page) == "search-history"

    def test_it_is_there_before_python(self, chromium_without_webgpu: Browser, origin: str) -> None:
        """The list and the search work with no answer from Python, and without a network."""
        with shell_page(chromium_without_webgpu, origin, core=False) as (page, _):
            put(page, chat("one", "One", text="a needle"))
            page.context.set_offline(True)
            page.get_by_test_id("search-history").fill("needle")
            page.get_by_test_id("search-hit").first.wait_for()
            page.context.set_offline(False)


class TestDeeds:
    """Names, pins, folders, deletion."""

    def test_renamed_in_place(self, page: Page) -> None:
        """F2, a name, Enter; Escape leaves the old one; the focus stays on the row. A name given by hand is marked as such."""
        put(page, chat("one", "Old name", titled=False))
        row_of(page, "one").focus()
        page.keyboard.press("F2")
        page.get_by_test_id("rename").fill("never")
        page.keyboard.press("Escape")
        assert titles(page) == ["Old name"]
        assert focused(page) == "one"
        page.keyboard.press("F2")
        page.get_by_test_id("rename").fill("  New <b>name</b>  ")
        page.keyboard.press("Enter")
        wait_titles(page, "New <b>name</b>")
        wait_stored(page, "one", title="New <b>name</b>", titled=True)
        until(lambda: focused(page) == "one", timeout=10, what="the focus on the row")

    def test_a_change_from_elsewhere_does_not_end_a_renaming(self, page: Page) -> None:
        """An answer that goes on writes the row while its name is being typed."""
        put(page, chat("one", "One"))
        row_of(page, "one").focus()
        page.keyboard.press("F2")
        page.get_by_test_id("rename").fill("half a na")
        page.evaluate(
            WRITE, [{"conversation": {"id": "one", "title": "By Python", "updatedAt": time.time() * 1000}, "nodes": []}]
        )
        wait_stored(page, "one", title="By Python")
        page.keyboard.type("me")
        page.keyboard.press("Enter")
        wait_titles(page, "half a name")

    def test_pinned_by_the_keyboard_alone(self, page: Page) -> None:
        """Tab reaches the row and its menu; arrows and letters move in it, Escape gives the focus back."""
        put(page, chat("one", "One"), chat("two", "Two", days=1))
        row_of(page, "one").focus()
        page.keyboard.press("ArrowDown")
        assert focused(page) == "two"
        page.keyboard.press("Tab")
        assert focused(page) == "conversation-menu"
        page.keyboard.press("Enter")
        assert focused(page) == "rename-item"
        page.keyboard.press("Escape")
        assert focused(page) == "conversation-menu"
        page.keyboard.press("Shift+F10")
        page.keyboard.press("ArrowUp")
        assert focused(page) == "delete-item"
        page.keyboard.press("p")
        assert focused(page) == "pin-item"
        page.keyboard.press("Enter")
        wait_titles(page, "Two", "One")
        wait_stored(page, "two", pinned=True)

    def test_deleted_and_brought_back(self, page: Page) -> None:
        """Delete hides it and marks the row; undo brings it back as it was, and opens it again if it was open."""
        put(page, chat("one", "One"), chat("two", "Two", days=1))
        op(
            page,
            {"type": "open", "conversation": {"id": "one", "title": "One", "temporary": False, "stored": True}, "messages": []},
        )
        before = stored(page, "one")
        row_of(page, "one").focus()
        page.keyboard.press("Delete")
        wait_titles(page, "Two")
        assert focused(page) == "two"
        assert any(m["event"] == "new-conversation" for m in sent(page, "ui"))
        page.get_by_test_id("toast-act").click()
        wait_titles(page, "One", "Two")
        until(lambda: stored(page, "one") == before, timeout=10, what="the row as it was")
        assert sent(page, "ui")[-1]["event"] == "open-conversation"

    def test_a_deletion_is_final_when_its_notice_is_gone(self, page: Page) -> None:
        """Row and messages leave the database."""
        put(page, chat("one", "One"))
        menu(page, "one", "delete-item")
        wait_titles(page)
        wait_stored(page, "one")  # still there: it can be undone
        page.get_by_test_id("toast").get_by_role("button", name="Dismiss").click()
        until(lambda: stored(page, "one") is None, timeout=10, what="the row is gone")

    def test_a_deletion_that_was_left_is_finished_at_the_next_start(self, chromium_without_webgpu: Browser, origin: str) -> None:
        """A mark that is old, or from a clock that was set back since, is taken away; a fresh one waits, and is not listed."""
        with shell_page(chromium_without_webgpu, origin) as (page, _):
            now = time.time() * 1000
            page.evaluate(
                WRITE,
                [
                    chat("old", "Old", deletedAt=now - DAY),
                    chat("future", "Future", deletedAt=now + DAY),
                    chat("fresh", "Fresh", deletedAt=now),
                    chat("kept", "Kept"),
                ],
            )
            page.reload()
            say(page, {"kind": "ready", "stage": "core"})
            until(lambda: stored(page, "old") is None and stored(page, "future") is None, timeout=10, what="both are gone")
            assert stored(page, "fresh") is not None
            assert titles(page) == ["Kept"]

    def test_folders(self, page: Page) -> None:
        """A conversation goes into a new folder, named at once; that is renamed, folded, and deleted without its chats."""
        put(page, chat("one", "One"), chat("two", "Two", days=1))
        menu(page, "one", "move-item", "new-folder-item")
        page.get_by_test_id("rename").fill("Travel")
        page.keyboard.press("Enter")
        wait_stored(page, "one", folder="Travel")
        until(lambda: headings(page)[0] == "Travel", timeout=10, what="the folder first")
        folder = page.get_by_test_id("folder")
        folder.click()
        wait_titles(page, "Two")
        assert folder.get_attribute("aria-expanded") == "false"
        folder.focus()
        page.keyboard.press("F2")
        page.get_by_test_id("rename").fill("Holidays")
        page.keyboard.press("Enter")
        wait_stored(page, "one", folder="Holidays")
        until(lambda: headings(page)[0] == "Holidays", timeout=10, what="its new name")
        assert page.get_by_test_id("folder").get_attribute("aria-expanded") == "false"
        page.get_by_test_id("folder").focus()
        page.keyboard.press("Delete")
        wait_stored(page, "one", folder=None)
        wait_titles(page, "One", "Two")

    def test_a_row_of_a_later_version_is_shown_and_left_alone(self, page: Page) -> None:
        """It cannot be opened, named or deleted here, and it says why; nothing of it is changed."""
        later = {"id": "later", "v": 2, "title": "From the future", "updatedAt": time.time() * 1000, "shape": {"new": True}}
        page.evaluate(RAW, later)
        page.reload()
        say(page, {"kind": "ready", "stage": "core"})
        row_of(page, "later").click()
        page.get_by_test_id("toast").first.wait_for()
        assert "newer version" in page.get_by_test_id("toast").first.inner_text()
        assert [m for m in sent(page, "ui") if m["event"] == "open-conversation"] == []
        for key in ("F2", "Delete"):
            row_of(page, "later").focus()
            page.keyboard.press(key)
        assert page.get_by_test_id("rename").count() == 0
        assert stored(page, "later") == later
        page.evaluate(RAW, None)
        page.reload()
        say(page, {"kind": "ready", "stage": "core"})


class TestSearch:
    """Full text."""

    def test_a_hit_leads_to_its_message(self, page: Page) -> None:
        """Without accents and case, in any branch; the snippet marks the words; a click asks for chat, message and words."""
        put(page, chat("one", "One", text="The pastéis of BELÉM"), chat("two", "Two", text="something else"))
        page.get_by_test_id("search-history").fill("belem pasteis")
        hits = page.get_by_test_id("search-hit")
        until(lambda: hits.count() == 2 and hits.first.locator("mark").count() == 2, timeout=10, what="both messages, marked")
        assert hits.first.locator("mark").all_inner_texts() == ["pastéis", "BELÉM"]
        hits.filter(has_text="You:").click()
        asked = [m for m in sent(page, "ui") if m["event"] == "open-conversation"]
        assert [(m["id"], m["node"], m["find"]) for m in asked] == [("one", "one-q", "belem pasteis")]

    def test_by_the_keyboard(self, page: Page) -> None:
        """Arrow down goes to the hits, Enter opens one, Escape empties the field and shows the list again."""
        put(page, chat("one", "One", text="needle"), chat("two", "Two", days=1))
        search = page.get_by_test_id("search-history")
        search.fill("needle")
        page.get_by_test_id("search-hit").first.wait_for()
        search.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        assert page.evaluate("document.activeElement.dataset.node") in {"one-q", "one-a"}
        page.keyboard.press("Enter")
        assert [m["id"] for m in sent(page, "ui") if m["event"] == "open-conversation"] == ["one"]
        search.press("Escape")
        wait_titles(page, "One", "Two")
        search.fill("nowhere to be found")
        until(lambda: "Nothing found" in page.locator(".found").inner_text(), timeout=10, what="that nothing was found")
        search.press("Escape")

    def test_what_is_written_is_found_and_what_is_gone_is_not(self, page: Page) -> None:
        """The index follows the shelf: new text, changed text, a deletion and its undoing."""
        put(page, chat("one", "One", text="alpha"))
        search = page.get_by_test_id("search-history")

        def found(query: str) -> int:
            search.fill(query)
            page.wait_for_timeout(60)
            return page.get_by_test_id("search-hit").count()

        until(lambda: found("alpha") == 2, timeout=10, what="alpha")
        page.evaluate(WRITE, [{"conversation": {"id": "one"}, "nodes": [{"id": "one-q", "text": "beta"}]}])
        until(lambda: found("beta") == 1 and found("alpha") == 1, timeout=10, what="beta instead")
        page.evaluate(WRITE, [{"conversation": {"id": "one", "deletedAt": time.time() * 1000}, "nodes": []}])
        until(lambda: found("beta") == 0, timeout=10, what="nothing of the deleted one")
        page.evaluate(WRITE, [{"conversation": {"id": "one", "deletedAt": None}, "nodes": []}])
        until(lambda: found("beta") == 1, timeout=10, what="it is back")


class TestFrame:
    """The column, and the drawer of narrow screens."""

    def test_the_column_folds_and_stays_so(self, page: Page) -> None:
        """The button for a new chat is always to be seen; the choice outlives a reload."""
        toggle, fresh = page.get_by_test_id("history-toggle"), page.get_by_test_id("new-conversation")
        assert fresh.is_visible()
        toggle.click()
        until(lambda: not page.get_by_test_id("search-history").is_visible(), timeout=10, what="folded")
        assert fresh.is_visible()
        page.reload()
        say(page, {"kind": "ready", "stage": "core"})
        assert not page.get_by_test_id("search-history").is_visible()
        assert fresh.is_visible()
        page.get_by_test_id("history-toggle").click()
        until(lambda: page.get_by_test_id("search-history").is_visible(), timeout=10, what="open again")

    def test_on_a_phone_it_is_a_drawer_that_keeps_the_focus(self, chromium_without_webgpu: Browser, origin: str) -> None:
        """Closed at first; open, Tab stays in it; Escape and a choice close it, and the focus goes back."""
        with shell_page(chromium_without_webgpu, origin, **PHONE) as (page, _):
            assert page.get_by_test_id("new-conversation").is_visible()
            assert not page.get_by_test_id("search-history").is_visible()
            page.evaluate(WRITE, [chat("one", "One")])
            page.get_by_test_id("history-toggle").click()
            row_of(page, "one").wait_for()
            for _ in range(12):
                page.keyboard.press("Tab")
                inside = page.evaluate(
                    "document.activeElement === document.body || !!document.activeElement.closest('#history, .toasts')"
                )
                assert inside, focused(page)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            page.get_by_test_id("search-history").focus()
            page.keyboard.press("Escape")
            until(lambda: focused(page) == "history-toggle", timeout=10, what="the focus on the button")
            page.get_by_test_id("history-toggle").click()
            row_of(page, "one").click()
            until(lambda: page.evaluate("document.body.dataset.history") == "closed", timeout=10, what="closed")

    def test_a_temporary_chat_is_asked_for_and_never_listed(self, page: Page) -> None:
        """The button is pressed while one is open; nothing is in the list, nor on the shelf."""
        button = page.get_by_test_id("temporary-conversation")
        button.click()
        assert [m.get("temporary") for m in sent(page, "ui") if m["event"] == "new-conversation"] == [True]
        op(page, {"type": "open", "conversation": {"id": "t", "title": "", "temporary": True, "stored": False}, "messages": []})
        until(lambda: button.get_attribute("aria-pressed") == "true", timeout=10, what="pressed")
        assert titles(page) == []
        op(page, {"type": "open", "conversation": {"id": "n", "title": "", "temporary": False, "stored": False}, "messages": []})
        until(lambda: button.get_attribute("aria-pressed") == "false", timeout=10, what="not pressed")


class TestTabs:
    """The same browser, twice; and browsers that keep nothing."""

    def test_a_change_in_one_shows_in_the_other(self, shared: Page, page: Page, origin: str) -> None:
        """Named, deleted and brought back: each is seen in the other tab, and undone in the other's list too."""
        put(page, chat("one", "One"), chat("two", "Two", days=1))
        other = shared.context.new_page()
        other.goto(origin)
        wait_titles(other, "One", "Two")
        row_of(page, "one").focus()
        page.keyboard.press("F2")
        page.get_by_test_id("rename").fill("Renamed")
        page.keyboard.press("Enter")
        wait_titles(other, "Renamed", "Two")
        menu(page, "one", "delete-item")
        wait_titles(other, "Two")
        page.get_by_test_id("toast-act").click()
        wait_titles(other, "Renamed", "Two")
        menu(page, "two", "move-item", "new-folder-item")
        page.get_by_test_id("rename").press("Enter")
        until(lambda: headings(other)[:1] == ["New folder"], timeout=10, what="the folder in the other tab")
        other.close()

    def test_undone_though_another_tab_has_taken_it_away(self, page: Page) -> None:
        """The tab that deleted it still has it, and puts it back whole."""
        put(page, chat("one", "One", text="precious"))
        menu(page, "one", "delete-item")
        wait_titles(page)
        page.evaluate(f"async () => await {SHELF}.remove('one', 'tab')")
        page.get_by_test_id("toast-act").click()
        wait_titles(page, "One")
        texts = page.evaluate(f"async () => (await {SHELF}.read('one')).nodes.map((node) => node.text)")
        assert sorted(texts) == ["About: precious", "precious"]

    def test_it_can_be_brought_back_after_a_reload(self, page: Page) -> None:
        """The notice is gone with the page; the menu still has it, whole, and has it no more when it is back."""
        put(page, chat("one", "One", text="precious"), chat("two", "Two", days=1))
        menu(page, "one", "delete-item")
        wait_titles(page, "Two")
        page.reload()
        say(page, {"kind": "ready", "stage": "core"})
        wait_titles(page, "Two")
        page.get_by_test_id("history-more").click()
        assert page.get_by_test_id("restore-item").inner_text().strip() == "Bring back 1 deleted chat"
        page.get_by_test_id("restore-item").click()
        wait_titles(page, "One", "Two")
        page.get_by_test_id("history-more").click()
        page.get_by_test_id("import-item").wait_for()
        assert page.get_by_test_id("restore-item").count() == 0
        page.keyboard.press("Escape")
        texts = page.evaluate(f"async () => (await {SHELF}.read('one')).nodes.map((node) => node.text)")
        assert sorted(texts) == ["About: precious", "precious"]

    def test_where_storage_is_denied_it_lasts_as_long_as_the_page(self, chromium_without_webgpu: Browser, origin: str) -> None:
        """Said once; what is written is listed, found and named all the same."""
        context = chromium_without_webgpu.new_context(viewport={"width": 1280, "height": 800})
        context.add_init_script(SCRIPTED_WORKERS)
        context.add_init_script("IDBFactory.prototype.open = () => { throw new DOMException('denied', 'SecurityError'); };")
        page = context.new_page()
        page.goto(origin)
        say(page, {"kind": "ready", "stage": "core"})
        put(page, chat("one", "One", text="needle"))
        row_of(page, "one").focus()
        page.keyboard.press("F2")
        page.get_by_test_id("rename").fill("Renamed")
        page.keyboard.press("Enter")
        wait_titles(page, "Renamed")
        page.get_by_test_id("search-history").fill("needle")
        page.get_by_test_id("search-hit").first.wait_for()
        assert page.locator("[data-testid=toast][data-kind=warning]").count() == 1
        context.close()

    def test_where_storage_is_full_nothing_on_the_screen_is_lost(self, page: Page) -> None:
        """The new name is kept in this page, and the reader is told."""
        put(page, chat("one", "One"))
        page.evaluate(
            """() => { window.__put = IDBObjectStore.prototype.put;
              IDBObjectStore.prototype.put = () => { throw new DOMException('full', 'QuotaExceededError'); }; }"""
        )
        row_of(page, "one").focus()
        page.keyboard.press("F2")
        page.get_by_test_id("rename").fill("Renamed")
        page.keyboard.press("Enter")
        wait_titles(page, "Renamed")
        page.locator("[data-testid=toast][data-kind=error]").wait_for()
        page.evaluate("() => { IDBObjectStore.prototype.put = window.__put; }")


def choose(page: Page, *files: dict[str, Any]) -> None:
    """Import files by the menu, and wait for the result."""
    with page.expect_file_chooser() as chooser:
        page.get_by_test_id("history-more").click()
        page.get_by_test_id("import-item").click()
    chooser.value.set_files(list(files))  # type: ignore[arg-type]
    page.get_by_test_id("import-result").wait_for()


def file(name: str, content: Any) -> dict[str, Any]:
    """A file for the chooser."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return {"name": name, "mimeType": "application/json", "buffer": data}


class TestFiles:
    """In and out."""

    def test_everything_goes_out_and_comes_back(self, page: Page, tmp_path: Path) -> None:
        """Exported as one file, deleted here, imported again: rows, branches and attachments are the same."""
        one = chat("one", "One", folder="Work", pinned=True)
        one["nodes"].append({**one["nodes"][1], "id": "one-b", "text": "another branch"})
        one["nodes"][0]["attachments"] = [{"kind": "text", "name": "a.txt", "mime": "text/plain", "data": "attached"}]
        put(page, one, chat("two", "Two", days=3))
        every = f"async () => {{ const all = []; for await (const one of {SHELF}.scan()) all.push(one); return all; }}"
        before = page.evaluate(every)
        with page.expect_download() as download:
            page.get_by_test_id("history-more").click()
            page.get_by_test_id("export-item").click()
            page.get_by_test_id("export-json").click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        assert path.suffix == ".json"
        page.evaluate(CLEAR)
        wait_titles(page)
        choose(page, file("backup.json", path.read_bytes()))
        assert "2 chats were imported." in page.get_by_test_id("import-result").inner_text()
        page.get_by_test_id("import-close").click()
        wait_titles(page, "One", "Two")
        assert page.evaluate(every) == before
        choose(page, file("backup.json", path.read_bytes()))
        assert "2 were here already." in page.get_by_test_id("import-result").inner_text()

    def test_one_conversation_as_markdown(self, page: Page, tmp_path: Path) -> None:
        """The branch shown, with headings; the file bears the title, and comes in again as the chat that it was."""
        put(page, chat("one", "A/B: test?", text="# Hi"))
        row_of(page, "one").hover()
        with page.expect_download() as download:
            menu(page, "one", "export-item", "export-markdown")
        path = tmp_path / "out.md"
        download.value.save_as(path)
        assert download.value.suggested_filename == "A B test.md"
        text = path.read_text()
        assert text.startswith("# A/B: test? <!-- hybr chat one ")
        shown = re.sub(r" <!-- .* -->", "", text)
        assert shown.index("## You\n\n# Hi") < shown.index("## Assistant\n\nAbout: # Hi")
        page.evaluate(CLEAR)
        wait_titles(page)
        choose(page, {"name": "out.md", "mimeType": "text/markdown", "buffer": path.read_bytes()})
        assert "1 chat was imported." in page.get_by_test_id("import-result").inner_text()
        page.get_by_test_id("import-close").click()
        wait_titles(page, "A/B: test?")

    def test_chatgpts_and_open_webuis_files_come_in(self, page: Page) -> None:
        """An archive and a list, at once, with titles full of markup that stays text."""
        evil = '<img src=x onerror="window.__evil=1">'
        choose(
            page,
            file(f"{evil}.zip", archive({"conversations.json": json.dumps([chatgpt(chat("gpt", evil))])})),
            file("webui.json", [openwebui(chat("webui", "From the web UI", days=1))]),
        )
        assert "2 chats were imported." in page.get_by_test_id("import-result").inner_text()
        page.get_by_test_id("import-close").click()
        until(lambda: set(titles(page)) == {evil, "From the web UI"}, timeout=10, what="both")
        page.get_by_test_id("search-history").fill("onerror hello")
        assert page.evaluate("window.__evil") is None

    def test_a_damaged_file_says_what_and_where(self, page: Page) -> None:
        """The good one comes, the other is named by its place, the file's end is missed, and what was here stays."""
        put(page, chat("mine", "Mine"))
        good = json.dumps(chat("good", "Good", days=1))
        text = f'{{"format":"hybr","version":1,"conversations":[{good},{{"conversation":7}},{good[:60]}'
        choose(page, file("broken <b>.json", text.encode()))
        assert "1 chat was imported." in page.get_by_test_id("import-result").inner_text()
        notes = page.get_by_test_id("import-notes").locator("li").all_inner_texts()
        assert notes[0].startswith("Entry 2:")
        assert notes[1].startswith("broken <b>.json: the file ends in the middle of chat 3")
        page.get_by_test_id("import-close").click()
        wait_titles(page, "Mine", "Good")
        choose(page, file("picture.json", b"\x89PNG"))
        assert "No chat was imported." in page.get_by_test_id("import-result").inner_text()
        assert "no chats were found in it" in page.get_by_test_id("import-notes").inner_text()

    def test_a_long_import_can_be_stopped_and_keeps_what_came(self, page: Page) -> None:
        """The page answers meanwhile; after the stop no more comes, and what came is whole."""
        many = {"format": "hybr", "version": 1, "conversations": [chat(f"m{index}", f"M {index}") for index in range(9000)]}
        with page.expect_file_chooser() as chooser:
            page.get_by_test_id("history-more").click()
            page.get_by_test_id("import-item").click()
        chooser.value.set_files([file("many.json", many)])  # type: ignore[list-item]
        until(lambda: page.get_by_test_id("conversation").count() > 0, timeout=30, what="the first ones", every=0.02)
        page.get_by_test_id("import-stop").click()
        page.get_by_test_id("import-result").wait_for()
        came = int(page.get_by_test_id("import-dialog").get_attribute("data-came") or 0)
        assert 0 < came < 9000
        assert "stopped" in page.get_by_test_id("import-notes").inner_text()
        page.get_by_test_id("import-close").click()
        count = page.evaluate(f"async () => (await {SHELF}.list()).length")
        assert came <= count <= came + 1

    def test_a_dropped_file_is_imported(self, page: Page) -> None:
        """Dropping it on the list does the same as the button."""
        page.evaluate(DROP, json.dumps([openwebui(chat("dropped", "Dropped"))]))
        page.get_by_test_id("import-result").wait_for()
        page.get_by_test_id("import-close").click()
        wait_titles(page, "Dropped")
