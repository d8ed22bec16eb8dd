"""The command palette, the sheet of keys and the second language, by keyboard alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from exchange_desk import conversation
from hybr_testing import attribute, until, wait_core

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr_testing import Watch
    from playwright.sync_api import Page

pytestmark = pytest.mark.e2e

SHELF = "(await import(document.querySelector('meta[name=assets]').content + '/js/shelf.js')).shelf"


@pytest.fixture
def page(visit: Callable[..., tuple[Page, Watch]]) -> Page:
    """The page, answering."""
    page, _ = visit("/", viewport={"width": 1280, "height": 800})
    wait_core(page)
    return page


def _chosen(page: Page) -> str:
    return str(page.evaluate("document.querySelector('.palette-option[aria-selected=true] span')?.textContent ?? ''"))


def _focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement?.id || document.activeElement?.className || ''"))


def test_the_palette_by_keyboard(page: Page) -> None:
    """Ctrl+K opens it from anywhere; letters find, arrows go round, Enter does it, Escape gives the focus back."""
    page.get_by_test_id("composer").focus()
    page.keyboard.press("Control+k")
    palette = page.get_by_test_id("palette")
    until(palette.is_visible, timeout=10, what="the palette")
    assert _focused(page) == "palette-input"
    first = _chosen(page)
    page.keyboard.press("ArrowUp")
    assert _chosen(page) != first, "the last one"
    page.keyboard.press("ArrowDown")
    assert _chosen(page) == first
    page.keyboard.type("automat")
    until(lambda: "Automatic" in _chosen(page), timeout=10, what="the mode among what is found")
    active = page.locator(".palette-input").get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").get_attribute("aria-selected") == "true"
    page.keyboard.press("Enter")
    until(lambda: attribute(page, "mode", "data-mode") == "auto", timeout=60, what="automatic mode")
    assert not palette.is_visible()
    page.keyboard.press("Control+k")
    page.keyboard.type("qqqq")
    until(page.locator(".palette-none").is_visible, timeout=10, what="word that nothing is found")
    page.keyboard.press("Enter")
    assert palette.is_visible(), "nothing to do"
    page.keyboard.press("Escape")
    until(lambda: _focused(page) == "composer", timeout=10, what="the focus where it was")


def test_what_the_palette_finds(page: Page) -> None:
    """A section of the panel opens, the density changes and a chat opens, each by a few letters of its name."""
    page.evaluate(f"async (row) => {SHELF}.write(row)", conversation("rhubarb", [("q", None, "user", "A pie of it?")]))
    until(page.get_by_test_id("mode").is_visible, timeout=120, what="the panel")
    until(page.get_by_test_id("conversation").is_visible, timeout=30, what="the chat in the list")

    def chosen(letters: str, what: str) -> None:
        page.keyboard.press("Control+k")
        page.keyboard.type(letters)
        until(lambda: what in _chosen(page), timeout=10, what=what)
        page.keyboard.press("Enter")

    chosen("doctor", "Doctor")
    until(lambda: page.get_by_test_id("doctor").get_attribute("open") is not None, timeout=10, what="the doctor open")
    chosen("density", "density")
    until(lambda: page.evaluate("document.documentElement.dataset.density") == "compact", timeout=10, what="a dense page")
    chosen("rhubarb", "Title of rhubarb")
    until(lambda: "A pie of it?" in page.locator("#messages").inner_text(), timeout=30, what="the chat")


def test_the_sheet_lists_every_shortcut(page: Page) -> None:
    """`?` opens it, but not while one types; it names each command's keys, and a shortcut works from anywhere."""
    page.get_by_test_id("composer").focus()
    page.keyboard.type("why?")
    assert page.get_by_test_id("composer").input_value() == "why?"
    assert not page.get_by_test_id("shortcuts").is_visible()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    sheet = page.get_by_test_id("shortcuts")
    until(sheet.is_visible, timeout=10, what="the sheet")
    caps: list[Any] = page.locator(".shortcuts .sheet-row dt").all_inner_texts()
    caps = ["+".join(keys.split()) for keys in caps]
    assert {"Ctrl+K", "Ctrl+Shift+O", "?", "Enter", "Shift+Enter"} <= set(caps)
    page.keyboard.press("Escape")
    until(lambda: not sheet.is_visible(), timeout=10, what="it closed")
    page.keyboard.press("Shift+Escape")
    assert _focused(page) == "composer"


def test_the_page_speaks_german(visit: Callable[..., tuple[Page, Watch]]) -> None:
    """A browser that prefers German gets it, Panel's views too; the palette changes the language, and it stays."""
    page, _ = visit("/", viewport={"width": 1280, "height": 800}, locale="de-DE")
    wait_core(page)
    assert page.evaluate("document.documentElement.lang") == "de"
    assert page.get_by_test_id("composer").get_attribute("placeholder") == "Nachricht schreiben"
    until(page.get_by_test_id("mode").get_by_text("Wer antwortet").is_visible, timeout=60, what="the panel in German")
    said = "import(document.querySelector('meta[name=assets]').content + '/js/strings.js').then((words) => words.sayError(%s))"
    assert page.evaluate(said % "{code: 'offline', message: 'You are offline.'}") == "Du bist offline."
    assert page.evaluate(said % "{code: 'unheard_of', message: 'As it is.'}") == "As it is."
    page.keyboard.press("Control+k")
    caps = page.locator(".palette-option kbd")
    until(lambda: {"Strg", "Umschalt"} <= set(caps.all_inner_texts()), timeout=10, what="keys as on a German keyboard")
    page.keyboard.type("english")
    until(lambda: "English" in _chosen(page), timeout=10, what="the language")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    wait_core(page)
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.get_by_test_id("composer").get_attribute("placeholder") == "Write a message"


def test_right_to_left(page: Page) -> None:
    """Written from the right, nothing overflows or leaves the screen, wide or narrow."""
    page.evaluate("document.documentElement.dir = 'rtl'")
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 800})
        until(
            lambda: page.evaluate("document.documentElement.scrollWidth <= innerWidth"),
            timeout=10,
            what=f"no sideways scroll at {width} px",
        )
        box = page.get_by_test_id("composer").bounding_box()
        assert box
        assert box["x"] >= 0
    page.locator("#panel-toggle").click()  # the drawer comes from where the sentences end
    until(lambda: (page.locator("#panel-root").bounding_box() or {"x": -1})["x"] == 0, timeout=10, what="the drawer at the left")
    page.keyboard.press("Escape")
    until(page.locator("#panel-root").is_hidden, timeout=10, what="the drawer gone")
