"""No screen has a serious accessibility violation, in either theme (axe-core, WCAG 2.1 AA); and all is there at 200 % zoom."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hybr_testing import RECORDER, Watch, until, wait_core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hybr_testing import Served
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.e2e

AXE = Path(__file__).parents[2] / "static/node_modules/axe-core/axe.min.js"
RUN = """async () => (await axe.run(document, {resultTypes: ['violations'],
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']}))
  .violations.filter(({impact}) => impact === 'serious' || impact === 'critical')
  .map(({id, nodes}) => `${id}: ${nodes.slice(0, 4).map((node) => node.target.flat().join(' ')).join(' | ')}`)"""


def _open(browser: Browser, origin: str) -> tuple[Page, Watch]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    context.add_init_script(RECORDER)
    watch = Watch(origin)
    watch.attach(context)
    page = context.new_page()
    page.goto(origin)
    wait_core(page)
    return page, watch


@pytest.fixture(scope="module")
def page(served: Served, chromium: Browser) -> Iterator[Page]:
    """One page for all screens."""
    page, watch = _open(chromium, served.url)
    page.evaluate(AXE.read_text())
    watch.expected.append("404")  # the sync's sheet asks the server whether there is one already
    yield page
    page.context.close()
    watch.check()


def _check(page: Page, screen: str) -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.wait_for_timeout(50)
        assert page.evaluate(RUN) == [], f"{screen}, {scheme}"


def _closed(page: Page) -> None:
    page.keyboard.press("Escape")
    until(lambda: page.locator("dialog[open]").count() == 0, timeout=10, what="the dialog to close")


def test_the_first_screen(page: Page) -> None:
    """The welcome, the mode control, the models."""
    until(page.get_by_test_id("mode").is_visible, timeout=60, what="the panel")
    _check(page, "welcome")


def test_a_conversation(page: Page) -> None:
    """A reply with code, a table, a formula and a list, and its buttons."""
    page.get_by_test_id("composer").fill("Say hello")
    page.get_by_test_id("composer").press("Enter")
    reply = page.locator("[data-testid=message][data-role=assistant]")
    until(lambda: reply.count() == 1 and reply.get_attribute("data-state") == "done", timeout=120, what="the reply")
    _check(page, "conversation")


def test_every_section_open(page: Page) -> None:
    """Telemetry with plots, settings, the egress log: all that can be unfolded in the panel is."""
    for name in ("telemetry", "egress-log", "settings"):
        section = page.get_by_test_id(name)
        until(section.is_visible, timeout=60, what=name)
        if section.get_attribute("open") is None:
            section.locator("summary").first.click()
        until(lambda found=section: found.get_attribute("open") is not None, timeout=30, what=f"{name} open")  # type: ignore[misc]
    _check(page, "sections")


@pytest.mark.parametrize(("keys", "dialog"), [("Control+k", "palette"), ("?", "shortcuts")])
def test_what_opens_over_the_page(page: Page, keys: str, dialog: str) -> None:
    """The palette and the sheet of keys."""
    page.evaluate("document.activeElement?.blur()")
    page.keyboard.press(keys)
    until(page.get_by_test_id(dialog).is_visible, timeout=10, what=dialog)
    _check(page, dialog)
    _closed(page)


def test_a_message_being_edited(page: Page) -> None:
    """The editor in place of a message."""
    page.locator("[data-testid=message][data-role=user]").get_by_test_id("message-edit").click()
    until(page.get_by_test_id("edit-text").is_visible, timeout=10, what="the editor")
    _check(page, "editor")
    page.keyboard.press("Escape")


def test_the_history(page: Page) -> None:
    """Hits of a search, a conversation's menu, the sheet of the sync."""
    page.get_by_test_id("search-history").fill("hello")
    until(lambda: page.get_by_test_id("search-hit").count() > 0, timeout=60, what="a hit")
    _check(page, "search")
    page.get_by_test_id("search-history").fill("")
    until(lambda: page.get_by_test_id("conversation").count() > 0, timeout=30, what="the list")
    page.get_by_test_id("history-more").click()
    until(page.get_by_test_id("menu").is_visible, timeout=10, what="the menu")
    _check(page, "menu")
    page.get_by_test_id("sync-item").click()
    until(page.get_by_test_id("sync-dialog").is_visible, timeout=10, what="the sync")
    _check(page, "sync")
    _closed(page)


@pytest.mark.parametrize("name", ["generation", "doctor", "model-filters"])
def test_more_of_the_panel(page: Page, name: str) -> None:
    """The settings of generation, the doctor, the picker's filters."""
    section = page.get_by_test_id(name)
    section.scroll_into_view_if_needed()
    if section.get_attribute("open") is None:
        section.locator("summary").first.click()
    until(lambda: section.get_attribute("open") is not None, timeout=30, what=name)
    page.wait_for_timeout(300)
    _check(page, name)


def test_narrow(page: Page) -> None:
    """At 390 px: the chat, then the panel over it, then the history over it."""
    page.set_viewport_size({"width": 390, "height": 844})
    _check(page, "narrow")
    for toggle in ("#panel-toggle", "#history-toggle"):
        page.locator(toggle).click()
        page.wait_for_timeout(100)
        _check(page, f"narrow with {toggle}")
        page.keyboard.press("Escape")
    page.set_viewport_size({"width": 1280, "height": 800})


def test_the_local_document(visit: Callable[..., tuple[Page, Watch]]) -> None:
    """`/local` with its banner."""
    page, _ = visit("/local", viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    page.evaluate(AXE.read_text())
    until(page.get_by_test_id("local-banner").is_visible, timeout=60, what="the banner")
    until(page.get_by_test_id("mode").is_visible, timeout=60, what="the panel")
    _check(page, "local")


def test_at_200_percent(visit: Callable[..., tuple[Page, Watch]]) -> None:
    """Zoomed to 200 % (half the pixels each way) nothing is cut off and nothing needs scrolling sideways."""
    page, _ = visit("/", viewport={"width": 640, "height": 400}, device_scale_factor=2)
    wait_core(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for name in ("composer", "send", "new-conversation"):
        box = page.get_by_test_id(name).bounding_box()
        assert box, name
        assert box["x"] >= 0, name
        assert box["x"] + box["width"] <= 640, name
        assert box["y"] + box["height"] <= 400, name
