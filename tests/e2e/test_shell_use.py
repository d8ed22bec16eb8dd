"""What a person does: writing and sending, theme, drawer, keyboard; and whether all of it can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hybr_testing import until
from shell_testing import ask, delta, finish, op, say, sent, shell_page, wait_sent

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}


class TestComposer:
    """Writing and sending."""

    def test_enter_sends_and_shift_enter_breaks(self, page: Page) -> None:
        """A message with a line break goes out whole and trimmed, once, and the field is empty again."""
        composer = page.get_by_test_id("composer")
        composer.press_sequentially("  one")
        composer.press("Shift+Enter")
        composer.press_sequentially("two ")
        composer.press("Enter")
        assert wait_sent(page, "ui") == [{"kind": "ui", "event": "send", "text": "one\ntwo", "transferred": 0}]
        assert composer.input_value() == ""

    def test_the_field_grows_with_its_text(self, page: Page) -> None:
        """Ten lines make it taller, a hundred no more than its limit."""
        composer = page.get_by_test_id("composer")

        def height(lines: int) -> float:
            composer.fill("\n".join("x" * lines))
            box = composer.bounding_box()
            assert box is not None
            return box["height"]

        one, ten, many = height(1), height(10), height(100)
        assert one < ten <= many <= 16 * 16

    def test_an_input_methods_enter_is_not_a_send(self, page: Page) -> None:
        """While a word is being composed, Enter chooses it."""
        page.get_by_test_id("composer").fill("にほ")
        for extra in ({"isComposing": True}, {"keyCode": 229}):
            page.get_by_test_id("composer").dispatch_event("keydown", {"key": "Enter", **extra})
        assert sent(page, "ui") == []

    @pytest.mark.parametrize("text", ["", "   ", "\n\n"])
    def test_nothing_is_not_sent(self, page: Page, text: str) -> None:
        """An empty message says what to do, marks the field, keeps the focus there, and the hint goes with the first letter."""
        composer = page.get_by_test_id("composer")
        composer.fill(text)
        page.get_by_test_id("send").click()
        assert sent(page, "ui") == []
        assert "write a message" in page.locator("#hint").inner_text()
        assert composer.get_attribute("aria-invalid") == "true"
        assert page.evaluate("document.activeElement.id") == "composer"
        composer.press_sequentially("x")
        assert composer.get_attribute("aria-invalid") is None
        assert "Enter sends" in page.locator("#hint").inner_text()

    def test_typed_and_sent_before_the_core_is_up(self, chromium_without_webgpu: Browser, origin: str) -> None:
        """The text is kept, the wait is said, and it goes out once when the core is ready."""
        with shell_page(chromium_without_webgpu, origin, core=False) as (page, _):
            composer = page.get_by_test_id("composer")
            composer.fill("early")
            composer.press("Enter")
            composer.press("Enter")
            assert sent(page, "ui") == []
            assert composer.input_value() == "early"
            assert "as soon as" in page.locator("#hint").inner_text()
            say(page, {"kind": "ready", "stage": "core"})
            assert [m["text"] for m in sent(page, "ui")] == ["early"]
            assert composer.input_value() == ""

    def test_an_early_send_that_is_edited_waits_for_its_writer(self, chromium_without_webgpu: Browser, origin: str) -> None:
        """Typing on after an early Enter takes the send back."""
        with shell_page(chromium_without_webgpu, origin, core=False) as (page, _):
            page.get_by_test_id("composer").fill("early")
            page.get_by_test_id("composer").press("Enter")
            page.get_by_test_id("composer").press_sequentially(" and more")
            say(page, {"kind": "ready", "stage": "core"})
            assert sent(page, "ui") == []

    def test_a_draft_survives_a_reload(self, page: Page) -> None:
        """What was typed and not sent is there again after a reload, and what was sent is not."""
        page.get_by_test_id("composer").fill("half a thought")
        page.reload()
        assert page.get_by_test_id("composer").input_value() == "half a thought"
        say(page, {"kind": "ready", "stage": "core"})
        page.get_by_test_id("composer").press("Enter")
        page.reload()
        assert page.get_by_test_id("composer").input_value() == ""

    def test_stop_while_busy(self, page: Page) -> None:
        """While an answer is under way the send button is a stop button; text typed meanwhile is kept."""
        ask(page, 1)
        assert page.get_by_test_id("send").is_hidden()
        page.get_by_test_id("composer").fill("next")
        page.get_by_test_id("composer").press("Enter")
        page.get_by_test_id("stop").click()
        assert [m["event"] for m in sent(page, "ui")] == ["stop"]
        finish(page, 1, "stopped")
        assert page.get_by_test_id("stop").is_hidden()
        assert page.get_by_test_id("composer").input_value() == "next"
        assert page.evaluate("document.activeElement.id") == "composer", "the stop button had the focus and is gone"

    def test_a_suggestion_fills_the_field(self, page: Page) -> None:
        """The welcome's ideas are put into the composer for the person to send."""
        page.get_by_role("button", name="What is the capital of France?").click()
        assert page.get_by_test_id("composer").input_value() == "What is the capital of France?"
        assert page.evaluate("document.activeElement.id") == "composer"

    def test_on_touch_enter_breaks_the_line(self, chromium_without_webgpu: Browser, origin: str) -> None:
        """A phone's Enter key makes a line; the button sends."""
        with shell_page(chromium_without_webgpu, origin, **PHONE, is_mobile=True) as (page, _):
            page.get_by_test_id("composer").fill("one")
            page.get_by_test_id("composer").press("Enter")
            assert sent(page, "ui") == []
            assert page.get_by_test_id("composer").input_value() == "one\n"
            page.get_by_test_id("send").click()
            assert [m["text"] for m in sent(page, "ui")] == ["one"]

    def test_new_conversation(self, page: Page) -> None:
        """The button tells Python; `clear` empties the list and brings the welcome back."""
        ask(page, 1)
        assert page.locator("#hello").is_hidden()
        page.get_by_test_id("new-conversation").click()
        assert [m["event"] for m in sent(page, "ui")] == ["new-conversation"]
        op(page, {"type": "clear"})
        assert page.get_by_test_id("message").count() == 0
        assert page.locator("#hello").is_visible()


class TestForm:
    """Theme, small screens, keyboard, contrast."""

    def test_the_theme_goes_round_and_is_kept(self, page: Page) -> None:
        """System, light, dark, system; the choice is on <html> before the first paint of the next visit."""
        button, html = page.locator("#theme"), page.locator("html")
        seen = []
        for _ in range(3):
            button.click()
            seen.append((html.get_attribute("data-theme"), button.get_attribute("aria-label")))
        assert seen == [("light", "Theme: light"), ("dark", "Theme: dark"), (None, "Theme: as the system")]
        button.click()
        button.click()
        page.reload()
        assert html.get_attribute("data-theme") == "dark"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(23, 22, 20)"

    def test_the_drawer_on_a_phone(self, chromium_without_webgpu: Browser, origin: str) -> None:
        """The button opens the panel and says so; Escape closes it and the focus comes back; nothing sticks out sideways."""
        with shell_page(chromium_without_webgpu, origin, **PHONE) as (page, _):
            panel, button = page.locator("#panel-root"), page.locator("#panel-toggle")
            assert panel.is_hidden()
            button.click()
            assert button.get_attribute("aria-expanded") == "true"
            assert panel.is_visible()
            assert page.evaluate("document.activeElement.id") == "panel-root"
            page.keyboard.press("Escape")
            until(panel.is_hidden, timeout=5, what="closed")
            assert button.get_attribute("aria-expanded") == "false"
            assert page.evaluate("document.activeElement.id") == "panel-toggle"
            button.click()
            page.locator("#scrim").click(position={"x": 5, "y": 300})
            until(panel.is_hidden, timeout=5, what="closed by the scrim")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390

    def test_wide_content_scrolls_inside_itself(self, chromium_without_webgpu: Browser, origin: str) -> None:
        """Long words, code and tables do not widen a phone's page."""
        with shell_page(chromium_without_webgpu, origin, **PHONE) as (page, _):
            wide = f"{'x' * 200}\n\n```\n{'y' * 200}\n```\n\n| {' | '.join('column' for _ in range(20))} |\n|{'---|' * 20}\n"
            op(page, {"type": "message", "id": "a1", "role": "assistant", "text": wide, "state": "done"})
            assert page.evaluate("[document.documentElement.scrollWidth, scroller.scrollWidth - scroller.clientWidth]") == [
                390,
                0,
            ]

    def test_the_keyboard_reaches_everything_in_order(self, page: Page) -> None:
        """From the top: skip link, header's buttons, the history, the welcome's ideas, composer, send."""
        page.evaluate("document.querySelector('.skip').focus()")
        order = ["skip"]
        for _ in range(14):
            page.keyboard.press("Tab")
            order.append(
                page.evaluate(
                    "document.activeElement.id || document.activeElement.className || document.activeElement.textContent"
                )
            )
        assert order[:3] == ["skip", "history-toggle", "theme"]
        assert order[3:7] == ["new-conversation", "temporary", "history-more", "search-history"]
        assert order.index("composer") < order.index("send")
        assert "What is the capital of France?" in order

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_every_text_has_contrast(self, chromium_without_webgpu: Browser, origin: str, scheme: Any) -> None:
        """Each text on the page stands out from what is behind it by 4.5 to 1 at least (WCAG AA)."""
        with shell_page(chromium_without_webgpu, origin, color_scheme=scheme) as (page, _):
            low = page.evaluate(CONTRAST)
            ask(page, 1)
            delta(page, 1, "Text with `code`, a [link](https://a.example).\n\n> quote\n\n```js\ncode\n```\n")
            delta(page, 1, "more", provider="cloud", segment=1)
            finish(page, 1, "error", stats={"cost": 0}, error={"name": "E", "message": "Problem"})
            ask(page, 2)
            finish(page, 2, provider="cloud")
            op(page, {"type": "toast", "toast": "warning", "text": "toast"})
            page.get_by_test_id("send").click()
            assert low + page.evaluate(CONTRAST) == []

    def test_reduced_motion_stops_what_moves(self, chromium_without_webgpu: Browser, origin: str) -> None:
        """Who asked for less motion sees nothing that moves."""
        with shell_page(chromium_without_webgpu, origin, reduced_motion="reduce") as (page, _):
            ask(page, 1)
            delta(page, 1, "x")
            op(page, {"type": "toast", "toast": "info", "text": "t"})
            page.evaluate("new Promise((done) => setTimeout(done, 100))")
            assert page.evaluate("document.getAnimations().filter((a) => a.playState === 'running').length") == 0


CONTRAST = """() => {
  const parse = (color) => { const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number); return {r, g, b, a}; };
  const mix = (top, under, k) => top[k] * top.a + under[k] * (1 - top.a);
  const over = (top, under) => ({a: 1, r: mix(top, under, 'r'), g: mix(top, under, 'g'), b: mix(top, under, 'b')});
  const back = (node) => {
    if (!node) return {r: 255, g: 255, b: 255, a: 1};
    const own = parse(getComputedStyle(node).backgroundColor);
    return own.a === 1 ? own : over(own, back(node.parentElement));
  };
  const light = ({r, g, b}) => {
    const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const low = [];
  for (const node of document.querySelectorAll('body *')) {
    const text = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!text || !node.checkVisibility({visibilityProperty: true}) || node.closest('.hidden, .skip, svg, noscript')) continue;
    const ground = back(node);
    const [a, b] = [light(over(parse(getComputedStyle(node).color), ground)), light(ground)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) low.push(`${node.tagName}.${node.className} ${ratio.toFixed(2)}`);
  }
  return low;
}"""
