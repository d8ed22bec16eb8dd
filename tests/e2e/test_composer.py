"""Writing: files that go along, drafts, the prompt library, commands by `/`, and Enter as the person prefers it."""

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hybr_testing import until
from shell_testing import ASSETS, ask, finish, op, say, sent, shell_page, wait_sent

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FilePayload, Page


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# Two by two pixels, red and transparent.
PNG = (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 6, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(b"\0" + b"\xff\0\0\xff" * 2 + b"\0" + b"\0\0\0\0" * 2))
    + chunk(b"IEND", b"")
)


def prefer(page: Page, **preferences: Any) -> None:
    """Store preferences as the settings do."""
    page.evaluate("(value) => localStorage.setItem('hybr:preferences', value)", json.dumps(preferences))


def attach(page: Page, *files: tuple[str, str, bytes]) -> None:
    """Choose files with the button's dialog."""
    chosen: list[FilePayload] = [{"name": name, "mimeType": mime, "buffer": data} for name, mime, data in files]
    page.get_by_test_id("chooser").set_input_files(chosen)


def chips(page: Page, count: int) -> None:
    """Wait for that many files."""
    until(lambda: page.get_by_test_id("attachment").count() == count, timeout=10, what=f"{count} files")


def hint(page: Page, part: str) -> None:
    """Wait until the hint says it."""
    until(lambda: part in page.locator("#hint").inner_text(), timeout=10, what=f"hint {part!r}")


def sees(page: Page, *, local: bool, cloud: bool, mode: str = "local") -> None:
    """Answer Python's status from now on."""
    status = {"mode": mode, "sees": {"local": local, "cloud": cloud}}
    page.evaluate(
        """(status) => { window.python.onsent = (m) => { if (m.kind === 'rpc' && m.method === 'getStatus')
             setTimeout(() => window.python.say({kind: 'rpc-result', id: m.id, value: status})); }; }""",
        status,
    )


def named(page: Page, *names: str) -> None:
    """Wait for just these files."""
    chips = page.locator("[data-testid=attachment] .name")
    until(lambda: chips.all_inner_texts() == list(names), timeout=10, what=f"the files {names}")


def kept_files(page: Page) -> list[str]:
    """The names of all drafts' files in the database."""
    found: list[str] = page.evaluate(
        """() => new Promise((resolve) => {
             const request = indexedDB.open('hybr-drafts', 1);
             request.onupgradeneeded = () => request.transaction.abort();
             request.onerror = () => resolve([]);
             request.onsuccess = () => {
               const all = request.result.transaction('files').objectStore('files').getAll();
               all.onsuccess = () => { request.result.close(); resolve(all.result.flat().map(({name}) => name).sort()); };
             };
           })"""
    )
    return found


class TestEnter:
    """What Enter does."""

    def test_enter_breaks_the_line_for_who_prefers_it(self, page: Page) -> None:
        """Then Ctrl+Enter sends, and the hint says so from the next focus on."""
        prefer(page, enter="newline")
        composer = page.get_by_test_id("composer")
        page.locator("#theme").focus()
        composer.focus()
        hint(page, "Ctrl+Enter sends")
        composer.press_sequentially("one")
        composer.press("Enter")
        composer.press_sequentially("two")
        assert composer.input_value() == "one\ntwo"
        assert sent(page, "ui") == []
        composer.press("Control+Enter")
        assert [one["text"] for one in wait_sent(page, "ui")] == ["one\ntwo"]


class TestFiles:
    """What goes along."""

    def test_a_text_file_and_a_picture_go_with_the_message(self, page: Page) -> None:
        """Both are chips with name and size, go out with the text, and the composer is empty again."""
        sees(page, local=True, cloud=True)
        attach(page, ("notes.md", "text/markdown", "# Grüße\n".encode()), ("dot.png", "image/png", PNG))
        chips(page, 2)
        assert page.locator("[data-testid=attachment] .name").all_inner_texts() == ["notes.md", "dot.png"]
        assert page.locator("[data-testid=attachment] .size").first.inner_text() == "10 B"
        page.get_by_test_id("composer").fill("look")
        page.get_by_test_id("composer").press("Enter")
        [told] = wait_sent(page, "ui")
        text, picture = told["attachments"]
        assert (told["text"], text) == (
            "look",
            {"kind": "text", "name": "notes.md", "mime": "text/markdown", "data": "# Grüße\n"},
        )
        assert (picture["kind"], picture["mime"]) == ("image", "image/png")
        assert picture["data"].startswith("data:image/png;base64,")
        chips(page, 0)

    def test_a_file_alone_is_a_message(self, page: Page) -> None:
        """No text is needed when there is something to look at."""
        attach(page, ("a.txt", "text/plain", b"x"))
        chips(page, 1)
        page.get_by_test_id("send").click()
        [told] = wait_sent(page, "ui")
        assert (told["text"], len(told["attachments"])) == ("", 1)

    def test_a_large_picture_is_made_smaller(self, page: Page) -> None:
        """Models look at no more than 1536 pixels a side, and what a camera writes beside the picture stays here."""
        sees(page, local=True, cloud=True)
        page.evaluate(
            """async () => { const canvas = new OffscreenCanvas(4000, 1000);
                 const pen = canvas.getContext('2d'); pen.fillStyle = '#c33'; pen.fillRect(0, 0, 2000, 1000);
                 const blob = await canvas.convertToBlob({type: 'image/jpeg'});
                 const data = new DataTransfer(); data.items.add(new File([blob], 'wide.jpg', {type: 'image/jpeg'}));
                 const event = new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true});
                 document.querySelector('#composer').dispatchEvent(event); }"""
        )
        chips(page, 1)
        page.get_by_test_id("send").click()
        [told] = wait_sent(page, "ui")
        size = page.evaluate(
            """async (url) => { const image = new Image(); image.src = url; await image.decode();
                 return [image.naturalWidth, image.naturalHeight]; }""",
            told["attachments"][0]["data"],
        )
        assert size == [1536, 384]

    def test_a_picture_is_pasted_but_an_office_programs_text_stays_text(self, page: Page) -> None:
        """Files of the clipboard are attached, unless there is text beside them."""
        sees(page, local=True, cloud=True)
        paste = """async ([bytes, text]) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], 'image.png', {type: 'image/png'}));
          if (text) data.setData('text/plain', text);
          const event = new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true});
          return document.querySelector('#composer').dispatchEvent(event); }"""
        assert page.evaluate(paste, [list(PNG), "cells"]) is True
        assert page.evaluate(paste, [list(PNG), ""]) is False
        chips(page, 1)

    @pytest.mark.parametrize(
        ("name", "mime", "data", "said"),
        [
            ("big.txt", "text/plain", b"x" * 300_000, "big.txt is too large: text files may have 256 kB"),
            ("program.exe", "application/octet-stream", b"MZ\x00\x01\xff", "program.exe is neither a picture"),
            ("packed.txt", "text/plain", b"Gr\xfc\xdfe\x02\x1f", "packed.txt is neither a picture"),
            ("half.txt", "text/plain", b"\xff\xfea", "half.txt is neither a picture"),
            ("broken.png", "image/png", b"not a picture", "broken.png is neither a picture"),
        ],
    )
    def test_what_cannot_go_along_is_told(self, page: Page, name: str, mime: str, data: bytes, said: str) -> None:
        """Too large, binary or damaged: a sentence that names the file and the limit, and no chip."""
        attach(page, (name, mime, data))
        hint(page, said)
        assert page.get_by_test_id("attachment").count() == 0

    def test_text_of_other_encodings_is_read(self, page: Page) -> None:
        """With a byte order mark it is known; what old Windows programs write is guessed, and the person is told to look."""
        said = {"utf-8-sig": "is attached.", "utf-16": "is attached.", "cp1252": "It is not UTF-8; it was read as Western"}
        for encoding, sentence in said.items():
            attach(page, (f"{encoding}.csv", "text/csv", "Größe;10 €\n".encode(encoding)))
            hint(page, f"{encoding}.csv is attached.")
            hint(page, sentence)
        page.get_by_test_id("send").click()
        assert [one["data"] for one in wait_sent(page, "ui")[0]["attachments"]] == ["Größe;10 €\n"] * 3

    def test_eight_at_most(self, page: Page) -> None:
        """More are refused with a sentence; those that fit are kept."""
        attach(page, *((f"{i}.txt", "text/plain", b"x") for i in range(10)))
        chips(page, 8)
        hint(page, "At most 8")

    def test_files_are_removed_by_keyboard(self, page: Page) -> None:
        """Arrows go from chip to chip, Delete removes, the focus stays in the row and then returns to the text; it is said."""
        attach(page, ("a.txt", "text/plain", b"1"), ("b.txt", "text/plain", b"2"), ("c.txt", "text/plain", b"3"))
        chips(page, 3)
        page.get_by_role("button", name="Remove a.txt").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Delete")
        hint(page, "b.txt is removed")
        assert page.evaluate("document.activeElement.ariaLabel") == "Remove c.txt"
        page.keyboard.press("Backspace")
        page.keyboard.press("Enter")
        chips(page, 0)
        assert page.evaluate("document.activeElement.id") == "composer"

    def test_pictures_go_only_where_somebody_sees_them(self, page: Page) -> None:
        """Where no model that may answer sees, that is said when the picture comes, and nothing is sent; the text alone goes."""
        sees(page, local=False, cloud=True, mode="local-only")
        attach(page, ("dot.png", "image/png", PNG))
        hint(page, "No model that may answer here can see pictures")
        page.get_by_test_id("composer").fill("what is it?")
        page.get_by_test_id("composer").press("Enter")
        until(lambda: page.get_by_test_id("composer").get_attribute("aria-invalid") == "true", timeout=10, what="refused")
        assert sent(page, "ui") == []
        page.get_by_role("button", name="Remove dot.png").click()
        page.get_by_test_id("composer").press("Enter")
        [told] = wait_sent(page, "ui")
        assert "attachments" not in told

    def test_it_is_said_when_a_picture_leaves_the_browser(self, page: Page) -> None:
        """In local mode, with a local model that is blind, the server's will look at it: the person knows before sending."""
        sees(page, local=False, cloud=True)
        attach(page, ("dot.png", "image/png", PNG))
        hint(page, "cannot see pictures, so the server")
        page.get_by_test_id("send").click()
        assert len(wait_sent(page, "ui")[0]["attachments"]) == 1


class TestDrafts:
    """What was not sent."""

    @staticmethod
    def to(page: Page, name: str, **more: Any) -> None:
        """Open a conversation."""
        conversation = {"id": name, "title": name, "temporary": False, "stored": True, **more}
        op(page, {"type": "open", "conversation": conversation, "messages": []})

    def test_each_conversation_keeps_its_own(self, page: Page) -> None:
        """Text and files come back with the conversation; a reload keeps the text of a stored one, nothing of a temporary one."""
        composer = page.get_by_test_id("composer")
        self.to(page, "one")
        composer.fill("draft of one")
        attach(page, ("a.txt", "text/plain", b"1"))
        chips(page, 1)
        self.to(page, "two")
        assert composer.input_value() == ""
        chips(page, 0)
        self.to(page, "secret", temporary=True, stored=False)
        composer.fill("nobody may know")
        self.to(page, "one")
        assert composer.input_value() == "draft of one"
        chips(page, 1)
        kept = page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")
        assert "draft of one" in kept
        assert "nobody may know" not in kept
        page.reload()
        say(page, {"kind": "ready", "stage": "core"})
        self.to(page, "one")
        assert composer.input_value() == "draft of one"

    def test_files_of_a_draft_outlive_the_page(self, page: Page) -> None:
        """Those of a stored and of a new conversation come back after a reload; of a temporary one, and what was sent, none."""
        attach(page, ("new.txt", "text/plain", b"0"))
        chips(page, 1)
        self.to(page, "one")
        chips(page, 0)
        attach(page, ("a.txt", "text/plain", b"1"), ("dot.png", "image/png", PNG))
        chips(page, 2)
        self.to(page, "gone")
        attach(page, ("sent.txt", "text/plain", b"2"))
        chips(page, 1)
        page.get_by_test_id("send").click()
        wait_sent(page, "ui")
        self.to(page, "secret", temporary=True, stored=False)
        attach(page, ("secret.txt", "text/plain", b"3"))
        chips(page, 1)
        until(lambda: kept_files(page) == ["a.txt", "dot.png", "new.txt"], timeout=10, what="two drafts in the database")
        page.reload()
        say(page, {"kind": "ready", "stage": "core"})
        named(page, "new.txt")
        for name, files in (("gone", []), ("secret", []), ("one", ["a.txt", "dot.png"])):
            self.to(page, name)
            named(page, *files)
        page.get_by_role("button", name="Remove a.txt").click()
        until(lambda: kept_files(page) == ["dot.png", "new.txt"], timeout=10, what="what is left")
        page.evaluate("async (script) => (await import(script)).shelf.remove('one')", f"{ASSETS}/js/shelf.js")
        until(lambda: kept_files(page) == ["new.txt"], timeout=10, what="gone with its conversation")

    def test_the_files_of_drafts_have_a_bound(self, page: Page) -> None:
        """The newest drafts' files are kept as far as they fit, and none for longer than a month, by whichever clock."""
        page.evaluate(
            """async (script) => { const {keep} = await import(script);
                 const file = (name, size) => [{kind: 'text', name, mime: 'text/plain', data: 'x'.repeat(size)}];
                 const now = Date.now;
                 const write = (name, size, days) => ((Date.now = () => now() + days * 86_400_000), keep(name, file(name, size)));
                 await write('later', 1, 40); await write('first', 20e6, 0); await write('second', 20e6, 1);
                 await write('third', 20e6, 2); await write('huge', 60e6, 3); }""",
            f"{ASSETS}/js/draftfiles.js",
        )
        assert kept_files(page) == ["second", "third"]

    def test_who_types_before_the_page_is_up_loses_nothing(self, chromium_without_webgpu: Browser, origin: str) -> None:
        """The last conversation opens under a text that was begun meanwhile; the text stays, as that conversation's draft."""
        with shell_page(chromium_without_webgpu, origin, core=False) as (page, _):
            page.get_by_test_id("composer").press_sequentially("early")
            say(page, {"kind": "ready", "stage": "core"})
            self.to(page, "one")
            assert page.get_by_test_id("composer").input_value() == "early"
            self.to(page, "two")
            assert page.get_by_test_id("composer").input_value() == ""
            self.to(page, "one")
            assert page.get_by_test_id("composer").input_value() == "early"

    def test_what_is_sent_is_no_draft(self, page: Page) -> None:
        """After the send there is nothing to come back to."""
        self.to(page, "one")
        page.get_by_test_id("composer").fill("out")
        page.get_by_test_id("composer").press("Enter")
        wait_sent(page, "ui")
        self.to(page, "two")
        self.to(page, "one")
        assert page.get_by_test_id("composer").input_value() == ""
        assert "out" not in page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")


class TestSlash:
    """Commands and prompts by `/`."""

    def test_a_command_is_found_and_run_by_keyboard(self, page: Page) -> None:
        """The list follows what is typed, is a combobox for assistive technology, and Enter runs the chosen command."""
        composer = page.get_by_test_id("composer")
        composer.press_sequentially("/")
        until(lambda: page.get_by_test_id("slash").is_visible(), timeout=5, what="the list")
        names = page.locator("#slash .slash-name").all_inner_texts()
        assert {"/new", "/temporary", "/local", "/cloud"} <= set(names)
        assert composer.get_attribute("aria-expanded") == "true"
        assert composer.get_attribute("aria-controls") == "slash"
        composer.press("ArrowDown")
        chosen = composer.get_attribute("aria-activedescendant")
        assert page.locator(f"#{chosen}").get_attribute("aria-selected") == "true"
        composer.press_sequentially("temp")
        until(lambda: page.locator("#slash .slash-name").first.inner_text() == "/temporary", timeout=5, what="found")
        composer.press("Enter")
        assert [one.get("temporary") for one in wait_sent(page, "ui")] == [True]
        assert composer.input_value() == ""
        assert page.get_by_test_id("slash").is_hidden()

    @pytest.mark.parametrize(("typed", "event"), [("/new", "new-conversation"), ("/local", "set-mode"), ("/cloud", "set-mode")])
    def test_what_the_commands_do(self, page: Page, typed: str, event: str) -> None:
        """Each tells Python what the button or the control would."""
        page.get_by_test_id("composer").press_sequentially(typed)
        page.get_by_test_id("composer").press("Enter")
        assert wait_sent(page, "ui")[0]["event"] == event

    def test_stop_is_there_while_there_is_something_to_stop(self, page: Page) -> None:
        """During an answer `/stop` stops it; at rest there is no such command and the text is a message."""
        ask(page, 1)
        composer = page.get_by_test_id("composer")
        composer.press_sequentially("/stop")
        composer.press("Enter")
        assert [one["event"] for one in wait_sent(page, "ui")] == ["stop"]
        finish(page, 1, "stopped")
        composer.press_sequentially("/stop")
        composer.press("Enter")
        assert wait_sent(page, "ui", 2)[1]["text"] == "/stop"

    @pytest.mark.parametrize("text", ["/etc/hosts is what?", "a /new thing", "/zzz"])
    def test_what_is_no_command_is_a_message(self, page: Page, text: str) -> None:
        """Paths, slashes in the middle and unknown words go out as they are."""
        page.get_by_test_id("composer").press_sequentially(text)
        page.get_by_test_id("composer").press("Enter")
        assert wait_sent(page, "ui")[0]["text"] == text

    def test_escape_leaves_the_text(self, page: Page) -> None:
        """After Escape the very same text is a message."""
        composer = page.get_by_test_id("composer")
        composer.press_sequentially("/new")
        composer.press("Escape")
        assert page.get_by_test_id("slash").is_hidden()
        composer.press("Enter")
        assert wait_sent(page, "ui")[0]["text"] == "/new"


class TestPrompts:
    """The prompt library."""

    def test_written_used_changed_and_deleted_by_keyboard(self, page: Page) -> None:
        """A prompt is saved with a name, found by `/`, its blank is selected; it is changed, deleted, outlives a reload."""
        composer = page.get_by_test_id("composer")
        composer.press_sequentially("/prompts")
        composer.press("Enter")
        until(lambda: page.get_by_test_id("promptbook").is_visible(), timeout=5, what="the library")
        page.keyboard.press("Enter")
        page.keyboard.type("Translate")
        page.keyboard.press("Tab")
        page.keyboard.type("Translate into {{language}}: ")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        until(lambda: page.get_by_test_id("prompt").count() == 1, timeout=5, what="saved")
        page.keyboard.press("Escape")
        page.reload()
        say(page, {"kind": "ready", "stage": "core"})
        composer.press_sequentially("/tran")
        composer.press("Enter")
        until(lambda: composer.input_value() == "Translate into {{language}}: ", timeout=5, what="inserted")
        page.keyboard.type("French")
        assert composer.input_value() == "Translate into French: "
        composer.fill("")
        composer.press_sequentially("/prompts")
        composer.press("Enter")
        page.get_by_role("button", name="Edit: Translate").click()
        page.get_by_role("textbox", name="Name").fill("Into French")
        page.get_by_role("button", name="Save", exact=True).click()
        until(lambda: "Into French" in page.get_by_test_id("prompt").inner_text(), timeout=5, what="changed")
        page.get_by_role("button", name="Delete: Into French").click()
        until(lambda: page.get_by_test_id("prompt").count() == 0, timeout=5, what="deleted")

    def test_what_is_typed_becomes_a_prompt(self, page: Page) -> None:
        """`/save` takes what follows it; without a name nothing is saved, and that is said."""
        page.get_by_test_id("composer").press_sequentially("/save Be brief.")
        page.get_by_test_id("composer").press("Enter")
        until(lambda: page.get_by_role("textbox", name="Text").input_value() == "Be brief.", timeout=5, what="the text")
        page.get_by_role("button", name="Save", exact=True).click()
        assert "needs a name" in page.locator(".prompt-said").inner_text()
        page.get_by_role("textbox", name="Name").fill("Brief")
        page.keyboard.press("Enter")
        until(lambda: page.get_by_test_id("prompt").count() == 1, timeout=5, what="saved")

    def test_two_tabs_lose_nothing(self, chromium_without_webgpu: Browser, origin: str) -> None:
        """What another tab has saved meanwhile stays."""
        with shell_page(chromium_without_webgpu, origin) as (page, _):
            page.evaluate("localStorage.setItem('hybr:prompts', JSON.stringify({a: {title: 'Theirs', text: 'x'}}))")
            save = """async () => (await import(document.querySelector('meta[name=assets]').content + '/js/prompts.js'))
                 .save({title: 'Ours', text: 'y'})"""
            assert page.evaluate(save) is True
            stored = json.loads(page.evaluate("localStorage.getItem('hybr:prompts')"))
            assert sorted(one["title"] for one in stored.values()) == ["Ours", "Theirs"]
