"""What a person reads: the first frame, messages as they stream, auto-scroll, toasts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hybr_testing import until
from shell_testing import STATIC, ask, delta, finish, op, reply, say, sent, settle, shell_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


class TestFirstFrame:
    """Before any script has run."""

    def test_the_page_stands_without_javascript(self, chromium_without_webgpu: Browser, origin: str) -> None:
        """With scripts off there is a header, a composer and a placeholder for the panel; <noscript> says what is missing."""
        with chromium_without_webgpu.new_context(java_script_enabled=False) as context:
            page = context.new_page()
            page.goto(origin)
            assert page.get_by_test_id("composer").is_visible()
            assert page.locator("#panel-root .bone").first.is_visible()
            assert "needs JavaScript" in page.locator("noscript").inner_html()
            assert page.locator("html").get_attribute("lang") == "en"

    def test_no_handler_or_script_stands_in_the_html(self) -> None:
        """The policy would refuse them; nothing external is named either."""
        html = (STATIC / "index.html").read_text()
        assert " on" not in {word[:3] for word in html.split("<") if "=" in word}
        assert "<script>" not in html
        assert "http:" not in html.replace("http://www.w3.org", "")
        assert "https:" not in html

    def test_boot_is_told_with_progress(self, chromium_without_webgpu: Browser, origin: str) -> None:
        """`status` messages show text and fraction until the core is ready."""
        with shell_page(chromium_without_webgpu, origin, core=False) as (page, _):
            say(page, {"kind": "status", "phase": "python", "step": "python", "fraction": 0.4})
            assert page.locator("#boot .boot-text").inner_text() == "Starting Python"
            assert page.locator("#boot progress").get_attribute("value") == "0.4"
            say(page, {"kind": "status", "phase": "panel", "text": "Views", "fraction": None})
            assert page.locator("#boot progress").get_attribute("value") is None
            say(page, {"kind": "ready", "stage": "core"})
            assert page.locator("#boot").is_hidden()
            assert page.locator("#panel-root [data-skeleton]").count() == 1
            say(page, {"kind": "ready", "stage": "ui"})
            assert page.locator("#panel-root [data-skeleton]").count() == 0

    def test_without_webgpu_the_welcome_says_why(self, page: Page) -> None:
        """The reason and the remedy are told; the promise of a model in the browser stands, for the processor keeps it."""
        until(lambda: page.locator("#no-local").is_visible(), timeout=25, what="reason")
        assert page.locator("#promise").is_visible()
        assert "processor" in page.locator("#no-local").inner_text()
        assert "WebGPU" in page.locator("#no-local").inner_text()


class TestMessages:
    """The list."""

    def test_a_reply_streams_and_ends_with_its_figures(self, page: Page) -> None:
        """Role, state, provider and segments are on the element; the stats line names who, what, how much, how fast and how."""
        ask(page, 1, text="<b>my</b>\nquestion")
        user = page.locator("[data-testid=message][data-role=user]")
        assert user.locator(".body").inner_text() == "<b>my</b>\nquestion"
        assert reply(page, 1).get_attribute("data-state") == "streaming"
        delta(page, 1, "The **capi")
        delta(page, 1, "tal**")
        assert reply(page, 1).locator("strong").inner_text() == "capital"
        assert reply(page, 1).get_attribute("data-provider") == "local"
        stats = {"usage": {"completionTokens": 12}, "timings": {"ttftMs": 1234.5, "totalMs": 3000, "decodeTps": 7.256}, "cost": 0}
        finish(page, 1, stats={**stats, "note": "The oldest message was left out."})
        assert reply(page, 1).get_attribute("data-state") == "done"
        assert reply(page, 1).get_attribute("data-segments") == "1"
        line = " ".join(reply(page, 1).get_by_test_id("stats").inner_text().split())
        assert line == "In this browser tiny 12 tokens first after 1.2 s 7.26 tok/s no cost The oldest message was left out."

    @pytest.mark.parametrize(
        ("cost", "shown"), [(0.0004, "$0.0004"), (1.5, "$1.5"), (None, ""), ({"amount": 0.02, "currency": "EUR"}, "€0.02")]
    )
    def test_cost_is_shown_when_it_is_known(self, page: Page, cost: Any, shown: str) -> None:
        """Money with its currency, small sums with their digits, nothing when nobody said."""
        ask(page, 1)
        finish(page, 1, stats={"cost": cost})
        figures = reply(page, 1).locator(".figure").all_inner_texts()
        assert figures == [text for text in ("tiny", shown) if text]

    def test_an_error_is_shown_with_its_remedy(self, page: Page) -> None:
        """What was written stays, the message stands below it, and it is announced."""
        ask(page, 1)
        delta(page, 1, "So far")
        finish(page, 1, "error", error={"name": "GatewayError", "message": "<i>No</i> model. Start one.", "code": "x"})
        assert "So far" in reply(page, 1).inner_text()
        assert "<i>No</i> model. Start one." in reply(page, 1).locator(".problem").inner_text()
        assert "Start one." in page.locator("#announcer").inner_text()

    def test_a_stopped_reply_says_so(self, page: Page) -> None:
        """What was shown stays, and the line below says that it was stopped."""
        ask(page, 1)
        delta(page, 1, "So far")
        finish(page, 1, "stopped")
        assert reply(page, 1).get_attribute("data-state") == "stopped"
        assert reply(page, 1).locator(".body").inner_text() == "So far"
        assert "stopped" in reply(page, 1).get_by_test_id("stats").inner_text()

    def test_a_handover_is_marked(self, page: Page) -> None:
        """When another provider goes on, the message says so and counts its segments."""
        ask(page, 1)
        delta(page, 1, "Local text, ")
        delta(page, 1, "cloud text.", provider="cloud", segment=1)
        assert reply(page, 1).get_attribute("data-provider") == "cloud"
        assert reply(page, 1).get_attribute("data-segments") == "2"
        assert "by the server" in reply(page, 1).locator(".handover").inner_text()
        until(lambda: "Local text, cloud text." in reply(page, 1).inner_text(), timeout=5, what="both parts drawn")

    def test_states_are_announced_but_not_tokens(self, page: Page) -> None:
        """Assistive technology hears that an answer began and ended; the list itself is no live region."""
        ask(page, 1)
        assert page.locator("#announcer").inner_text() == "Answering"
        for _ in range(5):
            delta(page, 1, "word ")
        assert page.locator("#announcer").inner_text() == "Answering"
        finish(page, 1)
        assert page.locator("#announcer").inner_text() == "Answer complete"
        assert page.evaluate("document.querySelector('#messages').closest('[aria-live]')") is None

    def test_many_deltas_are_drawn_together(self, page: Page) -> None:
        """Two thousand deltas that come at once are all there, and cost a handful of drawings."""
        ask(page, 1)
        drawings = page.evaluate(
            """async () => {
                 let count = 0;
                 new MutationObserver(() => (count += 1)).observe(document.querySelector('[data-id=a1] .body'),
                   {childList: true, subtree: true, characterData: true});
                 for (let i = 0; i < 2000; i += 1)
                   python.say({kind: 'view', op: {type: 'delta', id: 'a1', delta: `w${i} `, provider: 'local', segment: 0}});
                 const body = document.querySelector('[data-id=a1] .body');
                 while (!body.textContent.includes('w1999')) await new Promise((done) => setTimeout(done, 20));
                 await new Promise((done) => setTimeout(done, 100));
                 return count;
               }"""
        )
        assert drawings <= 3
        assert reply(page, 1).locator(".body").inner_text().split() == [f"w{i}" for i in range(2000)]

    def test_what_comes_for_an_unknown_message_harms_nothing(self, page: Page) -> None:
        """A delta or an end after `clear` finds nobody."""
        ask(page, 1)
        op(page, {"type": "clear"})
        delta(page, 1, "late")
        finish(page, 1)
        assert page.get_by_test_id("message").count() == 0


class TestScroll:
    """Following the end, and letting go of it."""

    def fill(self, page: Page) -> None:
        """Stream more than a screen."""
        ask(page, 1)
        for i in range(40):
            delta(page, 1, f"Paragraph {i}.\n\n")

    @staticmethod
    def gap(page: Page) -> float:
        """Return the pixels between the reader and the end."""
        settle(page)
        return float(
            page.evaluate("(({scrollHeight, scrollTop, clientHeight}) => scrollHeight - scrollTop - clientHeight)(scroller)")
        )

    def test_it_follows_lets_go_and_takes_hold_again(self, page: Page) -> None:
        """At the end the view follows; a scroll up lets go and shows the way back; the button takes hold again."""
        self.fill(page)
        assert self.gap(page) <= 1
        assert page.locator("#jump").is_hidden()
        page.mouse.move(400, 400)
        page.mouse.wheel(0, -300)
        until(lambda: page.locator("#jump").is_visible(), timeout=5, what="let go")
        top = page.evaluate("scroller.scrollTop")
        for i in range(10):
            delta(page, 1, f"More {i}.\n\n")
        assert page.evaluate("scroller.scrollTop") == top
        page.locator("#jump").click()
        assert self.gap(page) <= 1
        delta(page, 1, "And on.\n\n")
        assert self.gap(page) <= 1
        assert page.locator("#jump").is_hidden()

    def test_coming_back_to_the_end_takes_hold(self, page: Page) -> None:
        """Scrolling down to the end by oneself is enough."""
        self.fill(page)
        page.mouse.move(400, 400)
        page.mouse.wheel(0, -200)
        until(lambda: page.locator("#jump").is_visible(), timeout=5, what="let go")
        page.mouse.wheel(0, 5000)
        until(lambda: page.locator("#jump").is_hidden(), timeout=5, what="hold")
        delta(page, 1, "More.\n\nAnd more.\n\n")
        assert self.gap(page) <= 1

    def test_sending_goes_to_the_end(self, page: Page) -> None:
        """Who sends wants to see the answer."""
        self.fill(page)
        finish(page, 1)
        page.mouse.move(400, 400)
        page.mouse.wheel(0, -300)
        until(lambda: page.locator("#jump").is_visible(), timeout=5, what="let go")
        page.get_by_test_id("composer").fill("next")
        page.get_by_test_id("composer").press("Enter")
        assert self.gap(page) <= 1


class TestToasts:
    """Notices."""

    def test_kind_text_and_dismissal(self, page: Page) -> None:
        """A toast carries its kind, shows text as text, and goes when it is dismissed."""
        op(page, {"type": "toast", "toast": "fallback", "text": "<b>Local</b> stopped."})
        toast = page.get_by_test_id("toast")
        assert toast.get_attribute("data-kind") == "fallback"
        assert toast.inner_text() == "<b>Local</b> stopped."
        assert page.locator("#toasts").get_attribute("aria-live") == "polite"
        toast.get_by_role("button", name="Dismiss").click()
        assert toast.count() == 0

    def test_they_go_by_themselves_but_not_during_an_answer(self, chromium_without_webgpu: Browser, origin: str) -> None:
        """A notice stays while an answer is under way and twenty seconds after; an error stays until it is dismissed."""
        with shell_page(chromium_without_webgpu, origin) as (page, _):
            page.clock.install()
            op(page, {"type": "busy", "value": True}, {"type": "toast", "toast": "fallback", "text": "a"})
            op(page, {"type": "toast", "toast": "error", "text": "b"})
            page.clock.run_for(120_000)
            assert page.get_by_test_id("toast").count() == 2
            op(page, {"type": "busy", "value": False})
            page.clock.run_for(19_000)
            assert page.get_by_test_id("toast").count() == 2
            page.clock.run_for(2_000)
            assert page.get_by_test_id("toast").all_inner_texts() == ["b"]

    def test_only_the_last_few_stand(self, page: Page) -> None:
        """A storm of notices does not cover the page."""
        op(page, *({"type": "toast", "toast": "info", "text": str(i)} for i in range(9)))
        assert page.get_by_test_id("toast").all_inner_texts() == ["5", "6", "7", "8"]

    def test_refused_storage_is_told_once(self, page: Page) -> None:
        """A browser that keeps nothing costs the settings, not the page, and the person is told once."""
        page.evaluate("() => { Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }; }")
        say(page, {"kind": "store", "key": "a", "value": 1}, {"kind": "store", "key": "b", "value": 2})
        assert page.get_by_test_id("toast").count() == 1

    def test_offline_is_said_and_unsaid(self, page: Page) -> None:
        """Going offline shows a line and tells Python; coming back takes it away."""
        page.context.set_offline(True)
        until(lambda: page.locator("#notice").is_visible(), timeout=5, what="offline line")
        page.context.set_offline(False)
        until(lambda: page.locator("#notice").is_hidden(), timeout=5, what="line gone")
        assert [m["value"] for m in sent(page, "online")] == [False, True]
