"""Long conversations and long replies: a bounded part of them is in the page, and the reader does not notice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hybr_testing import until
from shell_testing import ask, delta, finish, op, settle, shell_page, shell_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

MOST = 60
COUNT = 1000


def message(index: int) -> dict[str, Any]:
    """One message of a long conversation; replies are of very different heights."""
    role = "assistant" if index % 2 else "user"
    text = "\n\n".join(f"Paragraph {line} of {index}." for line in range(1 + index % 23)) if index % 2 else f"Question {index}?"
    return {"type": "message", "id": f"m{index}", "role": role, "text": text, "state": "done", "provider": "local", "model": "m"}


def opened(page: Page, count: int = COUNT) -> None:
    """Open a conversation at its end."""
    conversation = {"id": "c", "title": "Long", "temporary": False, "stored": True}
    op(page, {"type": "open", "conversation": conversation, "messages": [message(i) for i in range(count)]})
    until(lambda: gap(page) <= 1 and page.locator(f"[data-id=m{count - 1}]").count() == 1, timeout=10, what="the end")


def gap(page: Page) -> float:
    """Pixels between the reader and the end."""
    settle(page)
    return float(
        page.evaluate("(({scrollHeight, scrollTop, clientHeight}) => scrollHeight - scrollTop - clientHeight)(scroller)")
    )


def shown(page: Page) -> list[int]:
    """Which messages are in the page."""
    settle(page)
    found: list[int] = page.evaluate("[...document.querySelectorAll('.message')].map((m) => Number(m.dataset.id.slice(1)))")
    return found


def in_sight(page: Page) -> list[str]:
    """The ids of what stands within the viewport."""
    found: list[str] = page.evaluate(
        """() => { const {top, bottom} = scroller.getBoundingClientRect();
             return [...document.querySelectorAll('.message')].filter((m) => { const r = m.getBoundingClientRect();
               return r.bottom > top && r.top < bottom; }).map((m) => m.dataset.id); }"""
    )
    return found


@pytest.fixture(scope="module")
def page(chromium_without_webgpu: Browser) -> Iterator[Page]:
    """One shell for the whole file."""
    with (
        shell_server() as origin,
        shell_page(chromium_without_webgpu, origin, viewport={"width": 1280, "height": 800}) as (page, _),
    ):
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield page


def test_a_thousand_messages_are_open_at_once_and_few_are_in_the_page(page: Page) -> None:
    """One op shows the end of the branch; each message says which of how many it is."""
    opened(page)
    there = shown(page)
    assert there[-1] == COUNT - 1
    assert 3 <= len(there) <= MOST
    assert there == list(range(there[0], COUNT))
    last = page.locator(f"[data-id=m{COUNT - 1}]")
    assert (last.get_attribute("aria-posinset"), last.get_attribute("aria-setsize")) == (str(COUNT), str(COUNT))


def test_wherever_the_reader_goes_messages_are_there_and_never_too_many(page: Page) -> None:
    """Scrolled to any place, the viewport is full of the right messages, in order."""
    opened(page)
    for part in (0.5, 0.1, 0.0, 0.9, 0.33):
        page.evaluate("(part) => { scroller.scrollTop = scroller.scrollHeight * part; }", part)
        seen = until(lambda: in_sight(page), timeout=10, what=f"messages at {part}")
        there = shown(page)
        assert len(there) <= MOST
        assert there == sorted(there)
        assert {int(one[1:]) for one in seen} <= set(there)
        assert abs(there[0] - part * COUNT) < COUNT * 0.15


def test_reading_upwards_never_jumps(page: Page) -> None:
    """While messages come in above, guessed heights give way to real ones, and what is looked at moves by the wheel alone."""
    opened(page)
    page.mouse.move(640, 400)
    for _ in range(12):
        page.evaluate(
            """() => { const edge = scroller.getBoundingClientRect().top + 200;
                 window.seen = [...document.querySelectorAll('.message')].find((m) => m.getBoundingClientRect().bottom > edge);
                 window.was = {top: window.seen.getBoundingClientRect().top, at: scroller.scrollTop}; }"""
        )
        page.mouse.wheel(0, -300)
        until(lambda: page.evaluate("scroller.scrollTop !== window.was.at"), timeout=5, what="scrolled")
        until(lambda: settled(page), timeout=5, what="at rest")
        moved = page.evaluate("window.seen.getBoundingClientRect().top - window.was.top")
        assert abs(moved - 300) <= 2


def settled(page: Page) -> bool:
    """Whether nothing has moved for a few frames."""
    return bool(
        page.evaluate(
            """async () => { const at = () => [scroller.scrollTop, scroller.scrollHeight].join();
                 const before = at();
                 for (let i = 0; i < 6; i += 1) await new Promise((done) => requestAnimationFrame(done));
                 return before === at(); }"""
        )
    )


def test_what_grows_above_moves_nothing_in_sight(page: Page) -> None:
    """A reply that is written out of sight, or a picture that comes late, does not push the reader away."""
    opened(page)
    page.evaluate("scroller.scrollTop = scroller.scrollHeight * 0.5")
    until(lambda: settled(page) and in_sight(page), timeout=10, what="the middle")
    page.evaluate(
        """() => { const [first] = document.querySelectorAll('.message');
             window.seen = [...document.querySelectorAll('.message')].find(
               (m) => m !== first && m.getBoundingClientRect().bottom > scroller.getBoundingClientRect().top);
             window.was = window.seen.getBoundingClientRect().top; first.style.paddingBottom = '333px'; }"""
    )
    settle(page)
    assert abs(page.evaluate("window.seen.getBoundingClientRect().top - window.was")) <= 1


def test_reveal_goes_to_a_message_and_marks_the_words(page: Page) -> None:
    """Far away or near, the message comes into sight with the found words marked in it; the text itself is untouched."""
    opened(page)
    op(page, {"type": "reveal", "id": "m101", "find": "PARAGRAPH 7 of"})
    until(lambda: "m101" in in_sight(page), timeout=10, what="the message in sight")
    marked = page.evaluate("[...CSS.highlights.get('meant')].map((range) => range.toString())")
    assert marked == ["Paragraph 7 of"]
    assert page.locator("[data-id=m101] mark").count() == 0
    until(lambda: settled(page), timeout=5, what="at rest")
    assert "m101" in in_sight(page), "it is not left again for the end"
    assert page.evaluate("[scrollY, document.scrollingElement.scrollHeight <= innerHeight]") == [0, True], (
        "the page itself is still"
    )
    op(page, {"type": "reveal", "id": "m500"})
    until(lambda: "m500" in in_sight(page), timeout=10, what="the other one")


def test_where_all_is_in_sight_nothing_offers_the_end(page: Page) -> None:
    """A found message of a short conversation is shown without the button that leads to the end: one is there."""
    opened(page, 2)
    op(page, {"type": "reveal", "id": "m0", "find": "Question"})
    until(lambda: page.evaluate("CSS.highlights.get('meant')?.size ?? 0") == 1, timeout=10, what="the place")
    until(lambda: settled(page), timeout=5, what="at rest")
    assert page.locator("#jump").is_hidden()


def test_a_message_with_the_focus_stays(page: Page) -> None:
    """Scrolling away takes no focus from anybody, and the tab order goes on from there."""
    opened(page)
    op(
        page,
        {"type": "message", "id": "m1000", "role": "assistant", "text": "[a link](https://a.example)", "state": "done"},
    )
    page.locator("[data-id=m1000] a").focus()
    page.evaluate("scroller.scrollTop = 0")
    until(lambda: shown(page)[0] == 0, timeout=10, what="the beginning")
    assert page.evaluate("document.activeElement.closest('.message').dataset.id") == "m1000"
    page.evaluate("document.activeElement.blur(); scroller.scrollTop = 4000")
    until(lambda: 1000 not in shown(page), timeout=10, what="gone when nobody needs it")


def test_a_selection_is_copied_with_what_is_not_in_the_page(page: Page) -> None:
    """From one message to another far below: all texts between are in the clipboard."""
    opened(page, 200)
    page.evaluate("scroller.scrollTop = 0")
    until(lambda: shown(page)[0] == 0, timeout=10, what="the beginning")
    page.evaluate(
        "window.from = document.querySelector('[data-id=m2] .body').firstChild; getSelection().setPosition(window.from, 0)"
    )
    page.evaluate("getSelection().extend(document.querySelector('[data-id=m4] .body').firstChild, 3)")
    page.evaluate("scroller.scrollTop = scroller.scrollHeight")
    until(lambda: 199 in shown(page), timeout=10, what="the end")
    page.evaluate("getSelection().extend(document.querySelector('[data-id=m198] .body').firstChild, 3)")
    page.keyboard.press("Control+C")
    copied = until(lambda: page.evaluate("navigator.clipboard.readText()"), timeout=5, what="copied")
    assert "Question 2?" in copied
    assert "Paragraph 0 of 101." in copied
    assert "Question 198?" in copied
    assert len(shown(page)) <= MOST


def test_a_reply_that_streams_out_of_sight_is_whole_when_one_comes_back(page: Page) -> None:
    """What comes while the message is not in the page is there when it is."""
    opened(page)
    ask(page, 1)
    delta(page, 1, "One ")
    page.evaluate("scroller.scrollTop = 0")
    until(lambda: shown(page)[0] == 0, timeout=10, what="the beginning")
    assert page.locator("[data-id=a1]").count() == 0
    delta(page, 1, "two ")
    delta(page, 1, "three.")
    finish(page, 1)
    page.locator("#jump").click()
    until(lambda: page.locator("[data-id=a1]").count() == 1, timeout=10, what="the reply in the page")
    assert page.locator("[data-id=a1] .body").inner_text() == "One two three."
    assert page.locator("[data-id=a1]").get_attribute("data-state") == "done"


def test_messages_go_away_by_name(page: Page) -> None:
    """`remove` takes messages out wherever they are, and the counts follow."""
    opened(page, 50)
    op(page, {"type": "remove", "ids": ["m48", "m3", "nobody"]})
    until(lambda: page.locator("[data-id=m48]").count() == 0, timeout=5, what="gone")
    last = page.locator("[data-id=m49]")
    assert (last.get_attribute("aria-posinset"), last.get_attribute("aria-setsize")) == ("48", "48")


def test_another_conversation_leaves_nothing_behind(page: Page) -> None:
    """Opening twenty conversations one after the other keeps no message of the former ones."""
    for _ in range(20):
        opened(page, 120)
    assert set(shown(page)) <= set(range(120))
    assert len(shown(page)) <= MOST
    op(page, {"type": "clear"})
    assert page.locator(".message").count() == 0
    assert page.locator("#hello").is_visible()


def test_blocks_of_a_long_reply_are_laid_out_only_in_sight(page: Page) -> None:
    """A hundred kilobytes stand in sections, of which those far away are skipped by the browser; all of the text is there."""
    text = "".join(f"## Part {i}\n\nSome **bold** words of part {i}, and `code`.\n\n" for i in range(1500))
    op(page, {"type": "clear"}, {"type": "message", "id": "a", "role": "assistant", "text": text, "state": "done"})
    until(lambda: "part 1499" in (page.locator("[data-id=a]").text_content() or ""), timeout=30, what="all of it")
    sections = page.locator("[data-id=a] .section")
    assert sections.count() == (3000 - 32 + 31) // 32
    assert page.evaluate("getComputedStyle(document.querySelector('.section')).contentVisibility") == "auto"


def test_finding_words_reaches_what_is_not_in_the_page(page: Page) -> None:
    """Ctrl+F opens a bar of ours where the browser's would miss messages; Enter goes from place to place; Escape ends it."""
    opened(page)
    page.get_by_test_id("composer").focus()
    page.keyboard.press("Control+f")
    until(lambda: page.evaluate("document.activeElement.dataset.testid") == "find", timeout=5, what="the bar")
    page.keyboard.type("paragraph 3 OF 9")
    count = page.locator("#find output")
    until(lambda: count.inner_text().startswith("1 of ") is False and " of " in count.inner_text(), timeout=5, what="a count")
    until(lambda: meant(page) == ["Paragraph 3 of 9"], timeout=5, what="the last place marked")
    last = page.evaluate("[...CSS.highlights.get('meant')][0].startContainer.parentElement.closest('.message').dataset.id")
    assert int(last[1:]) > 900
    page.keyboard.press("Enter")
    until(lambda: count.inner_text().startswith("1 of "), timeout=5, what="round to the first")
    until(lambda: "m9" in in_sight(page), timeout=5, what="the first place in sight")
    page.get_by_test_id("find").fill("no such words")
    until(lambda: count.inner_text() == "Not found", timeout=5, what="nothing")
    page.keyboard.press("Escape")
    assert page.locator("#find").is_hidden()
    assert page.evaluate("document.activeElement.id") == "composer"


def meant(page: Page) -> list[str]:
    """What is marked as the place that is looked for."""
    found: list[str] = page.evaluate("[...(CSS.highlights.get('meant') ?? [])].map((range) => range.toString())")
    return found
