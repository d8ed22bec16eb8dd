"""The gate's question, the cut answer and the struck segment, as a person meets them; Python is played."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from shell_testing import ask, delta, finish, op, reply, say, sent, settle, shell_page, wait_sent

from hybr.server.paths import home

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page

SIZES = {"wide": {"width": 1280, "height": 800}, "narrow": {"width": 390, "height": 844}}
QUESTION: dict[str, Any] = {
    "requestId": "r1",
    "provider": "cloud",
    "model": "gpt-5-mini",
    "cause": "fallback",
    "bytes": 2480,
    "messages": 3,
    "found": {"email": 1, "phone": 2},
    "timeoutS": 30,
}


def question(page: Page, **more: Any) -> None:
    """Have the gate ask."""
    say(page, {"kind": "event", "name": "egress:asked", "detail": {**QUESTION, **more}})


def answers(page: Page) -> list[list[Any]]:
    """What Python was answered."""
    return [call["args"] for call in sent(page, "rpc") if call["method"] == "answerEgress"]


@pytest.mark.parametrize(("button", "answer"), [("keep", False), ("redact", "redact"), ("send", True)])
def test_each_answer(page: Page, button: str, answer: object) -> None:
    """The dialog says what would leave, to whom and why; each button is one answer, and the dialog is gone."""
    question(page)
    dialog = page.get_by_test_id("egress-ask")
    text = dialog.inner_text()
    for part in ("2.5 kB", "3 messages", "gpt-5-mini", "failed before its first word", "1 e-mail address, 2 phone numbers"):
        assert part in text, part
    assert dialog.get_attribute("aria-labelledby") == "egress-title"
    page.get_by_test_id(f"egress-{button}").click()
    wait_sent(page, "rpc")
    assert answers(page) == [["r1", answer]]
    assert not dialog.is_visible()


def test_keyboard(page: Page) -> None:
    """The focus is on the safe answer, stays inside, and Escape keeps all here."""
    question(page)
    assert page.evaluate("document.activeElement.dataset.answer") == "keep"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.answer") == "redact"
    page.keyboard.press("Escape")
    wait_sent(page, "rpc")
    assert answers(page) == [["r1", False]]


def test_silence_keeps_it_here(page: Page) -> None:
    """When the time is over the answer is no, and the next question is asked; one that was settled elsewhere is not."""
    question(page, timeoutS=0.2)
    question(page, requestId="r2", cause="mode", found={})
    question(page, requestId="r3")
    wait_sent(page, "rpc")
    assert answers(page)[0] == ["r1", False]
    dialog = page.get_by_test_id("egress-ask")
    assert "to answer this message" in dialog.inner_text()
    assert page.get_by_test_id("egress-redact").count() == 0, "there is nothing to take out"
    for gone in ("r2", "r3"):
        say(page, {"kind": "event", "name": "egress:refused", "detail": {"requestId": gone}})
    assert not dialog.is_visible()
    assert answers(page) == [["r1", False]]


def interrupted(page: Page, *, cloud: bool = True) -> None:
    """Show an answer that was cut off."""
    op(
        page,
        {"type": "message", "id": "u1", "role": "user", "text": "Tell me of Paris", "state": "done"},
        {"type": "message", "id": "a1", "role": "assistant", "text": "Paris is the capital of", "state": "stopped"},
        {"type": "interrupted", "id": "a1", "cloud": cloud},
    )


@pytest.mark.parametrize(
    ("button", "event"),
    [
        ("resume-local", {"event": "resume", "id": "a1", "on": "local"}),
        ("resume-cloud", {"event": "resume", "id": "a1", "on": "cloud"}),
        ("keep", {"event": "keep", "id": "a1"}),
    ],
)
def test_a_cut_answer(page: Page, button: str, event: dict[str, Any]) -> None:
    """It says that it was cut, and each button is one message to Python; the focus goes to the composer."""
    interrupted(page)
    assert "cut off" in reply(page, 1).inner_text()
    assert "cut off" in page.locator("#announcer").inner_text()
    page.get_by_test_id(button).click()
    (told,) = wait_sent(page, "ui")
    assert {name: told[name] for name in event} == event
    assert page.evaluate("document.activeElement.id") == "composer"
    op(page, {"type": "message", "id": "a1", "role": "assistant", "text": "Paris is the capital of", "state": "streaming"})
    assert page.get_by_test_id(button).count() == 0


def test_a_private_cut_answer(page: Page) -> None:
    """What may not leave is not offered to the cloud."""
    interrupted(page, cloud=False)
    assert page.get_by_test_id("resume-cloud").count() == 0


def test_a_restart(page: Page) -> None:
    """What was shown is struck and stays readable; the new segment stands below its note and is the message's text."""
    ask(page, 1)
    delta(page, 1, '{"city": "Par')
    op(page, {"type": "delta", "id": "a1", "delta": '{"city":', "provider": "cloud", "segment": 1, "restart": True})
    delta(page, 1, ' "Paris"}', provider="cloud", segment=1)
    finish(page, 1, provider="cloud")
    message = reply(page, 1)
    assert message.locator("del.struck").inner_text().strip() == '{"city": "Par'
    assert message.locator(":scope > .body").inner_text().strip() == '{"city": "Paris"}'
    assert message.locator(".handover").inner_text() == "Begun anew by the server"
    assert (message.get_attribute("data-segments"), message.get_attribute("data-provider")) == ("2", "cloud")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", SIZES)
def test_pictures(chromium_without_webgpu: Browser, origin: str, scheme: Any, name: str) -> None:
    """Question, cut answer and struck segment fit in any size; the pictures are for a person to look at."""
    folder = home() / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"viewport": SIZES[name], "color_scheme": scheme, "reduced_motion": "reduce"}
    with shell_page(chromium_without_webgpu, origin, **options) as (page, _):
        interrupted(page)
        shot(page, folder / f"cut-{name}-{scheme}.png")
        question(page)
        shot(page, folder / f"ask-{name}-{scheme}.png")
        page.keyboard.press("Escape")
        op(page, {"type": "clear"})
        ask(page, 2)
        delta(page, 2, "The capital of France is Lyon, and")
        delta(page, 2, "The capital of France is Paris.", provider="cloud", segment=1, restart=True)
        finish(page, 2, provider="cloud")
        shot(page, folder / f"restart-{name}-{scheme}.png")


def shot(page: Page, path: Path) -> None:
    """Take a picture once all is drawn; nothing may scroll sideways."""
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.screenshot(path=path)
