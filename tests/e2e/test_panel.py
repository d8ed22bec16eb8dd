"""Panel's controls in the real page: the mode and a model by hand and by keyboard, progress, figures, failures at boot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hybr_testing import attribute, until, wait_core, wait_local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hybr_testing import Served, Watch
    from playwright.sync_api import Browser, Page


FITS = "(({scrollWidth, clientWidth}) => scrollWidth <= clientWidth)(document.getElementById('panel-root'))"


def controls(page: Page) -> None:
    """Wait for Panel's views."""
    until(lambda: attribute(page, "mode", "data-mode"), timeout=120, what="Panel's mode control")


@pytest.fixture
def panel(visit: Callable[..., tuple[Page, Watch]]) -> Iterator[Page]:
    """A page with Panel's views; the mode, which the server remembers, is the server's again afterwards."""
    page, _ = visit("/")
    controls(page)
    yield page
    page.get_by_test_id("mode-cloud").click()
    until(lambda: attribute(page, "mode", "data-preferred") == "cloud", timeout=10, what="mode put back")


def test_the_mode_is_chosen_by_keyboard(panel: Page) -> None:
    """Arrow keys move the choice; with no model loaded the server stays in force, and the line under it says so.

    A choice that would leave the page is passed by, and chosen with Space alone.
    """
    panel.get_by_role("radio", name="Server", exact=True).focus()
    panel.keyboard.press("ArrowLeft")
    until(lambda: attribute(panel, "mode", "data-preferred") == "local", timeout=10, what="local preferred")
    assert attribute(panel, "mode", "data-mode") == "cloud"
    until(panel.get_by_role("radio", name="This browser", exact=True).is_checked, timeout=10, what="the choice moved")
    until(lambda: "until" in panel.get_by_test_id("mode").inner_text(), timeout=10, what="the line under it")
    panel.get_by_role("radio", name="Automatic", exact=True).focus()
    panel.keyboard.press("ArrowDown")
    only = panel.get_by_role("radio", name="Browser only", exact=True)
    until(
        lambda: only.evaluate("(node) => node.getRootNode().activeElement === node"),
        timeout=10,
        what="the choice that leaves this page, gone to",
    )
    panel.keyboard.press("ArrowDown")
    until(lambda: attribute(panel, "mode", "data-mode") == "cloud-only", timeout=30, what="the one after it chosen")
    assert panel.evaluate("location.pathname") == "/", "passing by a choice does not leave the page"


def test_every_model_is_in_plain_sight(panel: Page) -> None:
    """The models for tests stand under their own heading, and no model is behind anything that must be opened first."""
    options = panel.get_by_test_id("model-option")
    until(lambda: options.count() >= 2, timeout=30, what="the picker's models")
    until(lambda: all(option.is_visible() for option in options.all()), timeout=10, what="all of them in sight")
    tests = panel.get_by_role("group", name="For tests").get_by_test_id("model-option")
    assert "tiny" in [option.get_attribute("data-model") for option in tests.all()]


def test_a_model_is_loaded_used_and_deleted_from_the_picker(served: Served, panel: Page) -> None:
    """Choose, load with progress, see it ready with its adapter, delete: the picker and the status follow each step."""
    served.wait_built("tiny")
    option = panel.locator("[data-testid=model-option][data-model=tiny]")
    until(lambda: option.get_attribute("data-state") == "built", timeout=30, what="the picker knows that tiny is built")
    option.click()
    panel.evaluate(
        """() => { window.__progress = []; const root = document.getElementById('panel-status').firstElementChild.shadowRoot;
             const bar = root.querySelector('[data-testid=load-progress]');
             new MutationObserver(() => window.__progress.push(Number(bar.getAttribute('aria-valuenow'))))
               .observe(bar, {attributes: true, attributeFilter: ['aria-valuenow']}); }"""
    )
    panel.get_by_test_id("load-model").click()
    wait_local(panel)
    seen = panel.evaluate("window.__progress")
    assert seen == sorted(seen)
    assert any(0 < value < 100 for value in seen)
    until(lambda: "swiftshader" in panel.get_by_test_id("local-status").inner_text().lower(), timeout=30, what="the adapter")
    until(lambda: option.get_attribute("data-cached") == "yes", timeout=30, what="tiny is cached")
    panel.get_by_test_id("delete-model").click()
    wait_local(panel, "unloaded", timeout=30)
    until(lambda: option.get_attribute("data-cached") == "no", timeout=30, what="tiny is gone from the browser")


def test_figures_of_the_session(panel: Page) -> None:
    """After one answer of the server's, the table has its request and its tokens."""
    panel.get_by_test_id("composer").fill("What is the capital of France?")
    panel.get_by_test_id("composer").press("Enter")
    row = panel.get_by_test_id("usage").locator("tr[data-provider=cloud]")
    until(lambda: row.count() == 1 and row.locator("td").first.inner_text() == "1", timeout=120, what="the request")
    cells = [cell.inner_text() for cell in row.locator("td").all()]
    assert cells[0] == "1"
    assert int(cells[1].replace(",", "")) > 0
    assert cells[3] == "0"


def test_the_panel_fits_its_place(visit: Callable[..., tuple[Page, Watch]]) -> None:
    """On a phone it is a drawer whose button says who answers, on a screen a column; nothing in it is wider than it is."""
    page, _ = visit("/", viewport={"width": 1280, "height": 800}, color_scheme="light")
    controls(page)
    toggle = page.locator("#panel-toggle")
    for width, scheme in ((1280, "light"), (390, "dark"), (320, "dark")):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        if width == 390:
            until(lambda: "Server" in toggle.inner_text(), timeout=10, what="who answers, on the button")
            assert "Server" in str(toggle.get_attribute("aria-label"))
            toggle.click()
        for role, name in (("radio", "This browser"), ("radio", "Server"), ("group", "Who answers"), ("group", "Models")):
            until(page.get_by_role(role, name=name).first.is_visible, timeout=10, what=name)  # type: ignore[arg-type]
        assert page.evaluate(FITS)
    generation = page.get_by_test_id("generation")
    generation.locator("summary").first.click()
    page.get_by_test_id("preset-name").fill("unbreakable-" * 6)
    page.get_by_test_id("save-preset").click()
    preset = page.get_by_test_id("preset")
    until(lambda: "unbreakable" in preset.inner_text(), timeout=30, what="the preset with a long name")
    assert page.evaluate(FITS), "a long name makes nothing wider"
    preset.select_option(index=1)
    page.get_by_test_id("delete-preset").click()
    until(lambda: "unbreakable" not in preset.inner_text(), timeout=30, what="the preset gone")


def test_offline_is_told_at_once(panel: Page) -> None:
    """Without a network the mode's line, the widget and the page's own say so; with it they take it back."""
    line, cloud = (
        panel.get_by_test_id("mode").get_by_role("status"),
        panel.get_by_test_id("usage").locator("tr[data-provider=cloud]"),
    )
    for gone in (True, False):
        panel.context.set_offline(gone)
        until(lambda gone=gone: ("cannot be reached" in line.inner_text()) is gone, timeout=60, what=f"the line, {gone=}")  # type: ignore[misc]
        until(lambda gone=gone: cloud.get_attribute("data-available") == ("no" if gone else "yes"), timeout=60, what="the widget")  # type: ignore[misc]
        until(lambda gone=gone: panel.locator("#notice").is_visible() is gone, timeout=30, what="the page's line")  # type: ignore[misc]
        if gone:
            assert "server cannot answer" in panel.locator("#notice").inner_text(), "no model is loaded here either"


def _broken(served: Served, chromium: Browser, part: str) -> Page:
    """Open a page in which `part` of the bundle cannot be had."""
    context = chromium.new_context()
    context.route(f"**/{part}", lambda route: route.fulfill(status=404, body="gone"))
    page = context.new_page()
    page.goto(served.url)
    return page


def test_a_page_without_its_python_says_what_to_do(served: Served, chromium: Browser) -> None:
    """When the orchestrator's archive is gone, the page names it and the remedy, and callers get the error."""
    page = _broken(served, chromium, "core.zip")
    until(lambda: page.locator("#fatal").is_visible(), timeout=60, what="the fatal notice")
    text = page.locator("#fatal").inner_text()
    assert "core.zip" in text
    assert "hybr page build" in text
    outcome: Any = page.evaluate("ModuleLoader.getModule('HybridLLMProvider').then(() => null, ({name, code}) => ({name, code}))")
    assert outcome == {"name": "BootFailed", "code": "bundle_unreachable"}
    page.context.close()


@pytest.mark.parametrize("part", ["panel.zip", "panel.min.js"])
def test_a_page_without_panel_still_answers(served: Served, chromium: Browser, part: str) -> None:
    """When Panel cannot be had, its place says so and the chat goes on."""
    page = _broken(served, chromium, part)
    wait_core(page)
    failed = page.locator("#panel-root [role=alert]")
    until(lambda: failed.count() == 1, timeout=60, what="the notice in Panel's place")
    assert part in failed.inner_text()
    page.get_by_test_id("composer").fill("What is the capital of France?")
    page.get_by_test_id("composer").press("Enter")
    reply = page.locator("[data-testid=message][data-role=assistant]")
    until(lambda: reply.count() == 1 and reply.get_attribute("data-state") == "done", timeout=120, what="an answer all the same")
    page.context.close()
