"""The history in the real page: a hit leads to its branch; the encrypted sync, of which the server never sees a word."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from exchange_desk import conversation
from hybr_testing import RECORDER, Watch, get_json, serve, until, wait_core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hybr_testing import Served
    from playwright.sync_api import Browser, Page

PASSPHRASE = "correct horse battery staple"
SHELF = "(await import(document.querySelector('meta[name=assets]').content + '/js/shelf.js')).shelf"
WIDE = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of this file's own: its blobs are counted."""
    folder = tmp_path_factory.mktemp("sync")
    with serve(folder / "data", "--no-build", log=folder / "serve.log") as running:
        yield running


@pytest.fixture(scope="module")
def open_device(chromium_without_webgpu: Browser, server: Served) -> Iterator[Callable[..., Page]]:
    """Open the page in a browser of its own."""
    opened: list[tuple[Page, Watch]] = []

    def device(path: str = "/") -> Page:
        context = chromium_without_webgpu.new_context(viewport=WIDE)
        context.add_init_script(RECORDER)
        watch = Watch(server.url, expected=["404", "412"])  # a browser logs what the sync asks and finds missing or newer
        watch.attach(context)
        page = context.new_page()
        page.goto(server.url + path)
        wait_core(page)
        opened.append((page, watch))
        return page

    yield device
    for page, watch in opened:
        page.context.close()
        watch.check()


def put(page: Page, *rows: dict[str, Any]) -> None:
    """Write on the shelf."""
    page.evaluate(f"async (rows) => {{ for (const row of rows) await {SHELF}.write(row); }}", list(rows))


def state(page: Page) -> dict[str, Any]:
    """Every conversation on the shelf by id, as title and texts by message id."""
    script = f"""async () => {{ const all = {{}};
      for await (const {{ conversation, nodes }} of {SHELF}.scan())
        all[conversation.id] = [conversation.title, Object.fromEntries(nodes.map((node) => [node.id, node.text]))];
      return all; }}"""
    found: dict[str, Any] = page.evaluate(script)
    return found


def sheet(page: Page) -> None:
    """Open the sheet."""
    if not page.get_by_test_id("sync-dialog").is_visible():
        page.get_by_test_id("history-more").click()
        page.get_by_test_id("sync-item").click()


def turn_on(page: Page, passphrase: str, *, known: bool) -> None:
    """Give the passphrase, twice where it is new."""
    sheet(page)
    form = page.locator("[data-testid=sync-dialog] form")
    until(lambda: form.get_attribute("data-known") == ("yes" if known else "no"), timeout=30, what="whether there is one")
    page.get_by_test_id("sync-passphrase").fill(passphrase)
    if not known:
        page.get_by_test_id("sync-again").fill(passphrase)
    page.get_by_test_id("sync-on").click()


def sync(page: Page) -> None:
    """Sync now, and wait for the round's end."""
    sheet(page)
    page.get_by_test_id("sync-now").click()
    button = page.get_by_test_id("sync-now")
    until(lambda: button.is_visible() and button.is_enabled() and said(page) != "working", timeout=60, what="the round's end")


def said(page: Page) -> str | None:
    """The sync's state."""
    return page.get_by_test_id("sync-status").get_attribute("data-state")


def blobs(server: Served) -> list[dict[str, Any]]:
    """What the server has."""
    found: list[dict[str, Any]] = get_json(f"{server.url}/api/blobs")["blobs"]
    return [one for one in found if not one["deleted"]]


def chat(identity: str, title: str, text: str, **fields: Any) -> dict[str, Any]:
    """A conversation of one message."""
    return conversation(identity, [(f"{identity}-1", None, "user", text)], title=title, **fields)


@pytest.fixture(scope="module")
def devices(open_device: Callable[..., Page]) -> tuple[Page, Page]:
    """Two browsers of one person."""
    return open_device(), open_device()


class TestTwoDevices:
    """In order: each test goes on where the one before ended."""

    def test_it_is_off_until_a_person_turns_it_on(self, devices: tuple[Page, Page], server: Served) -> None:
        """Chats are written, and the server has nothing; then they are there, and no word of them can be read."""
        one, _ = devices
        put(one, chat("a", "Secret title", "a very private sentence"), chat("b", "Second", "more"))
        put(one, chat("kept", "Kept here", "never leaves", egress="never"))
        assert blobs(server) == []
        turn_on(one, PASSPHRASE, known=False)
        until(lambda: said(one) == "idle" and len(blobs(server)) == 3, timeout=60, what="two chats and the header")
        content = b""
        for blob in blobs(server):
            with urllib.request.urlopen(f"{server.url}/api/blobs/{blob['name']}", timeout=30) as answer:
                content += blob["name"].encode() + answer.read()
        for word in (b"Secret", b"private", b"Second", b"user", PASSPHRASE.encode(), b"a-1"):
            assert word not in content, word

    def test_a_wrong_passphrase_is_said_and_nothing_comes(self, devices: tuple[Page, Page]) -> None:
        """The other browser asks for the one there is; a wrong one opens nothing and breaks nothing."""
        _, two = devices
        turn_on(two, "not the right passphrase", known=True)
        problem = two.locator("[data-testid=sync-dialog] .problem")
        until(lambda: "not the passphrase" in problem.inner_text(), timeout=60, what="that it is wrong")
        assert state(two) == {}

    def test_the_right_one_brings_everything(self, devices: tuple[Page, Page]) -> None:
        """All but what never leaves its browser."""
        one, two = devices
        turn_on(two, PASSPHRASE, known=True)
        expected = {key: value for key, value in state(one).items() if key != "kept"}
        until(lambda: state(two) == expected, timeout=60, what="the same chats")

    def test_changes_of_both_meet(self, devices: tuple[Page, Page]) -> None:
        """Messages written on both, a name on one: both browsers end with all of it."""
        one, two = devices
        put(one, {"conversation": {"id": "a", "title": "Named by one"}, "nodes": []})
        put(one, {"conversation": {"id": "a"}, "nodes": [node("a", "a-2", "a-1", "by one")]})
        put(two, {"conversation": {"id": "a"}, "nodes": [node("a", "a-3", "a-1", "by two")]})
        sync(one)
        sync(two)
        sync(one)
        expected = ["Named by one", {"a-1": "a very private sentence", "a-2": "by one", "a-3": "by two"}]
        assert [state(page)["a"] for page in (one, two)] == [expected, expected]

    def test_what_is_deleted_goes_everywhere_but_not_what_was_changed(self, devices: tuple[Page, Page], server: Served) -> None:
        """A message and a chat removed on one are gone on the other; a chat that the other has gone on with stays."""
        one, two = devices
        put(one, chat("c", "Third", "x"))
        sync(one)
        sync(two)
        assert "c" in state(two)
        put(one, {"conversation": {"id": "a"}, "drop": ["a-2"]})
        one.evaluate(f"async () => {{ await {SHELF}.remove('b'); await {SHELF}.remove('c'); }}")
        put(two, {"conversation": {"id": "c"}, "nodes": [node("c", "c-2", "c-1", "gone on")]})
        sync(one)
        sync(two)
        sync(one)
        assert state(two).keys() == {"a", "c"}
        assert {key: value for key, value in state(one).items() if key != "kept"} == state(two)
        assert state(one)["a"][1].keys() == {"a-1", "a-3"}
        assert len(blobs(server)) == 3

    def test_a_long_conversation_goes_in_parts(self, devices: tuple[Page, Page], server: Served) -> None:
        """More than one blob may hold, as pictures make it; deleted, its parts go too."""
        one, two = devices
        before = len(blobs(server))
        one.evaluate(
            f"""async (row) => {{ const noise = new Uint8Array(65536 * 96);
              for (let i = 0; i < noise.length; i += 65536) crypto.getRandomValues(noise.subarray(i, i + 65536));
              let data = '';
              for (let i = 0; i < noise.length; i += 32768) data += String.fromCharCode(...noise.subarray(i, i + 32768));
              row.nodes[0].attachments = [{{ kind: 'image', name: 'x.png', mime: 'image/png', data: btoa(data) }}];
              await {SHELF}.write(row); }}""",
            chat("long", "Long", "see"),
        )
        sync(one)
        assert len(blobs(server)) > before + 1
        sync(two)
        size = f"async () => (await {SHELF}.read('long')).nodes[0].attachments[0].data.length"
        assert one.evaluate(size) == two.evaluate(size) > 8_000_000
        two.evaluate(f"async () => await {SHELF}.remove('long')")
        sync(two)
        assert len(blobs(server)) == before

    def test_damaged_bytes_cost_only_themselves(self, devices: tuple[Page, Page], server: Served) -> None:
        """A blob that somebody gave for another is not taken, and is told; the others come, and who has it whole mends it."""
        one, two = devices
        put(one, chat("d", "Fourth", "x"))
        sync(one)
        names = [blob for blob in blobs(server) if blob["name"].startswith("c-")]
        victim = max(names, key=lambda blob: blob["version"])
        other = min(names, key=lambda blob: blob["version"])
        with urllib.request.urlopen(f"{server.url}/api/blobs/{other['name']}", timeout=30) as answer:
            swapped = answer.read()
        before = state(two)
        request = urllib.request.Request(f"{server.url}/api/blobs/{victim['name']}", swapped, method="PUT")
        request.add_header("Content-Type", "application/octet-stream")
        request.add_header("If-Match", f'"{victim["version"]}"')
        urllib.request.urlopen(request, timeout=30).close()
        sync(two)
        assert state(two) == before
        assert "1 chat on the server could not be read" in two.get_by_test_id("sync-status").inner_text()
        sync(one)  # which has it whole, and mends it
        sync(two)
        assert state(two) == {**before, "d": state(one)["d"]}

    def test_turned_off_the_server_keeps_what_it_has(self, devices: tuple[Page, Page], server: Served) -> None:
        """The other browser forgets passphrase and states; chats and blobs stay, and it would have to ask again."""
        _, two = devices
        before, there = state(two), len(blobs(server))
        sheet(two)
        two.get_by_test_id("sync-off").click()
        form = two.locator("[data-testid=sync-dialog] form")
        until(lambda: form.count() == 1, timeout=30, what="the form again")
        assert state(two) == before
        assert len(blobs(server)) == there
        turn_on(two, PASSPHRASE, known=True)
        until(lambda: said(two) == "idle", timeout=60, what="on again")
        assert state(two) == before

    def test_it_goes_on_after_a_reload_and_rests_when_paused(self, devices: tuple[Page, Page]) -> None:
        """The passphrase is not asked again; paused, not one request goes out, also after a change."""
        one, _ = devices
        one.reload()
        wait_core(one)
        until(lambda: one.get_by_test_id("sync-line").is_visible(), timeout=30, what="it is on")
        sheet(one)
        one.get_by_test_id("sync-pause").click()
        until(lambda: said(one) == "paused", timeout=30, what="paused")
        asked = record(one)
        put(one, chat("e", "Fifth", "x"))
        one.wait_for_timeout(6000)  # longer than a change waits
        assert asked == []
        one.get_by_test_id("sync-pause").click()
        until(lambda: said(one) == "idle" and asked, timeout=60, what="it goes on")

    def test_nothing_goes_out_in_local_only_mode(self, devices: tuple[Page, Page]) -> None:
        """A script's local-only ends it at once, and says so; with another mode it goes on by itself."""
        one, _ = devices
        sheet(one)
        one.evaluate("async () => (await ModuleLoader.getModule('HybridLLMProvider')).api.setMode('local-only')")
        asked = record(one)
        put(one, chat("f", "Sixth", "x"))
        one.get_by_test_id("sync-now").click()
        until(lambda: said(one) == "closed", timeout=30, what="that it rests")
        assert asked == []
        one.evaluate("async () => (await ModuleLoader.getModule('HybridLLMProvider')).api.setMode('cloud')")
        until(lambda: said(one) == "idle" and asked, timeout=60, what="it goes on")

    def test_erased_and_off(self, devices: tuple[Page, Page], server: Served) -> None:
        """After a second question nothing is on the server; the chats stay here, and in the other browser, which says so."""
        one, two = devices
        before, others = state(one), state(two)
        sheet(one)
        one.get_by_test_id("sync-erase").click()
        one.get_by_test_id("sync-erase-really").click()
        until(lambda: blobs(server) == [], timeout=60, what="an empty server")
        until(lambda: not one.get_by_test_id("sync-line").is_visible(), timeout=30, what="off")
        assert state(one) == before
        sheet(two)
        two.get_by_test_id("sync-now").click()
        until(lambda: said(two) == "error", timeout=60, what="that it is gone")
        assert "is gone" in two.get_by_test_id("sync-status").inner_text()
        assert state(two) == others != {}


def test_a_hit_opens_chat_branch_and_message(open_device: Callable[..., Page]) -> None:
    """The words stand in a branch that is not shown: a click on the hit opens the chat there, and the list marks it."""
    page = open_device()
    texts = [
        ("q", None, "user", "first question"),
        ("other", "q", "assistant", "the other answer"),
        ("deep", "other", "user", "a needle, deep down"),
        ("shown", "q", "assistant", "the answer that is shown"),
    ]
    put(page, conversation("tree", texts, title="A tree"), chat("else", "Something else", "x"))
    page.get_by_test_id("search-history").fill("needle")
    page.get_by_test_id("search-hit").click()
    deep = page.locator("[data-testid=message][data-id=deep]")
    until(lambda: deep.count() == 1 and deep.is_visible(), timeout=60, what="the message of the other branch")
    assert page.locator("[data-testid=message][data-id=shown]").count() == 0
    page.get_by_test_id("search-history").fill("")
    row = page.locator("[data-testid=conversation][data-id=tree]")
    until(lambda: row.get_attribute("aria-current") == "page", timeout=30, what="the mark in the list")
    page.locator("[data-testid=conversation][data-id=else]").click()
    until(lambda: page.locator("[data-testid=message][data-id=else-1]").count() == 1, timeout=60, what="the other chat")
    page.locator("[data-testid=conversation][data-id=else]").focus()
    page.keyboard.press("Delete")
    until(lambda: page.get_by_test_id("message").count() == 0, timeout=30, what="an empty page")
    page.get_by_test_id("toast-act").click()
    until(lambda: page.locator("[data-testid=message][data-id=else-1]").count() == 1, timeout=60, what="it is open again")


def node(identity: str, name: str, parent: str, text: str) -> dict[str, Any]:
    """One more message."""
    made: dict[str, Any] = conversation(identity, [(name, parent, "user", text)])["nodes"][0]
    return made


def record(page: Page) -> list[str]:
    """The requests for blobs from now on, in a list that grows."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/api/blobs" in request.url else None)
    return asked


def test_in_the_local_document_it_cannot_even_try(open_device: Callable[..., Page]) -> None:
    """`/local` refuses before a request is made, in words; files come in there as everywhere."""
    page = open_device("/local")
    asked = record(page)
    put(page, chat("l", "Local", "x"))
    sheet(page)
    problem = page.locator("[data-testid=sync-dialog] .problem")
    until(lambda: "Nothing leaves this browser now" in problem.inner_text(), timeout=30, what="the reason")
    assert asked == []
    page.get_by_test_id("sync-cancel").click()
    with page.expect_file_chooser() as chooser:
        page.get_by_test_id("history-more").click()
        page.get_by_test_id("import-item").click()
    rows = [chat("in", "Imported", "x")]
    content = json.dumps({"format": "hybr", "version": 1, "conversations": rows}).encode()
    chooser.value.set_files([{"name": "x.json", "mimeType": "application/json", "buffer": content}])
    until(lambda: "in" in state(page), timeout=30, what="the import's worker, under the strict policy")
    assert page.evaluate("window.__violations") == []
