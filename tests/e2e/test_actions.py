"""The buttons of a message, the address bar and the shelf's questions in the shell, with Python played."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hybr_testing import until
from shell_testing import op, say, sent, settle, shell_page, wait_sent

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

STATS = {"finishReason": "length", "usage": {"completionTokens": 3}}


def branch(*more: dict[str, Any], stored: bool = True, name: str = "c") -> dict[str, Any]:
    """A conversation of a question, an answer that ended by its length, and more."""
    question = {"id": "u1", "role": "user", "text": "Capital?", "state": "done", "siblings": {"index": 1, "count": 3}}
    answer = {"id": "a1", "role": "assistant", "text": "**Paris** is", "state": "done", "provider": "local", "stats": STATS}
    messages = [question, {**answer, "siblings": {"index": 0, "count": 1}}, *more]
    conversation = {"id": name, "title": "Capital?", "temporary": False, "stored": stored}
    return {"type": "open", "conversation": conversation, "messages": messages}


def toolbar(page: Page, name: str) -> Locator:
    """A message's buttons."""
    return page.locator(f".message[data-id={name}]").get_by_role("toolbar")


def acts(page: Page, name: str) -> list[str]:
    """What they do."""
    found: list[str] = toolbar(page, name).locator("button").evaluate_all("(all) => all.map(({dataset}) => dataset.act)")
    return found


def events(page: Page, name: str) -> list[dict[str, Any]]:
    """What Python was told of that event."""
    return [one for one in sent(page, "ui") if one["event"] == name]


def test_which_buttons_there_are(page: Page) -> None:
    """Versions where there are some, `go on` where an answer is unfinished, none while it is written; each has a name."""
    later = {"id": "u2", "role": "user", "text": "b", "state": "done", "siblings": {"index": 0, "count": 1}}
    op(page, branch(later))
    settle(page)
    assert acts(page, "u1") == ["previous", "next", "copy", "edit", "regenerate", "delete"]
    assert acts(page, "a1") == ["copy", "edit", "regenerate", "continue", "delete"]
    assert page.locator(".message[data-id=u1] .where").inner_text() == "2/3"
    assert page.locator(".message[data-id=u1] .where").get_attribute("aria-label") == "Version 2 of 3"
    names = page.locator(".message-act").evaluate_all("(all) => all.map(({ariaLabel}) => ariaLabel)")
    assert all(names)
    op(page, {"type": "siblings", "id": "u1", "index": 0, "count": 1})
    op(page, {"type": "message", "id": "a2", "role": "assistant", "text": "", "state": "streaming"})
    settle(page)
    assert acts(page, "u1")[0] == "copy"
    assert acts(page, "a2") == []
    op(page, {"type": "delta", "id": "a2", "delta": "It", "provider": "local", "segment": 0})
    op(page, {"type": "finish", "id": "a2", "state": "stopped", "provider": "local"})
    until(lambda: "continue" in acts(page, "a2"), timeout=10, what="go on", every=0.02)
    op(page, {"type": "interrupted", "id": "a2", "cloud": True})
    until(lambda: "continue" not in acts(page, "a2"), timeout=10, what="the question instead", every=0.02)


def test_by_keyboard(page: Page) -> None:
    """A toolbar is one stop of Tab; the arrows move; Enter and Space press; at the end of the versions nothing is asked."""
    op(page, branch())
    settle(page)
    first = toolbar(page, "u1").locator("button").first
    first.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.message').dataset.id") == "a1"
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.dataset.act") == "previous"
    page.keyboard.press("Enter")
    assert wait_sent(page, "ui")[-1] == {"kind": "ui", "event": "branch", "id": "u1", "step": -1, "transferred": 0}
    op(page, {"type": "remove", "ids": ["u1", "a1"]})
    other = {"id": "u0", "role": "user", "text": "Other?", "state": "done", "siblings": {"index": 0, "count": 3}}
    op(page, {"type": "message", **other})
    until(lambda: page.evaluate("document.activeElement.dataset.act") == "previous", timeout=10, what="the focus", every=0.02)
    assert page.evaluate("document.activeElement.closest('.message').dataset.id") == "u0"
    before = len(events(page, "branch"))
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    until(lambda: len(events(page, "branch")) > before, timeout=10, what="the next version", every=0.02)
    assert [one["step"] for one in events(page, "branch")] == [-1, 1]
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.act") == "delete"


def test_editing(page: Page) -> None:
    """The editor has the raw text; nothing and Escape change nothing; the focus comes back."""
    op(page, branch())
    settle(page)
    toolbar(page, "a1").get_by_test_id("message-edit").press("Enter")
    text = page.get_by_test_id("edit-text")
    assert text.input_value() == "**Paris** is"
    text.fill("   ")
    page.get_by_test_id("edit-save").click()
    page.keyboard.press("Escape")
    until(lambda: page.get_by_test_id("edit-text").count() == 0, timeout=10, what="the editor gone", every=0.02)
    assert page.evaluate("document.activeElement.dataset.act") == "edit"
    assert events(page, "edit") == []
    toolbar(page, "a1").get_by_test_id("message-edit").press("Enter")
    page.get_by_test_id("edit-text").fill("Paris.\n<b>x</b>")
    page.get_by_test_id("edit-text").press("ControlOrMeta+Enter")
    until(lambda: events(page, "edit"), timeout=10, what="the edit", every=0.02)
    assert [(one["id"], one["text"]) for one in events(page, "edit")] == [("a1", "Paris.\n<b>x</b>")]


def test_deleting_and_its_undo(page: Page) -> None:
    """The last message goes at once; of one in the middle it is asked what; the toast has the way back."""
    op(page, branch())
    settle(page)
    toolbar(page, "a1").get_by_test_id("message-delete").click()
    until(lambda: events(page, "delete"), timeout=10, what="the deletion", every=0.02)
    for what in ("branch", "message"):
        toolbar(page, "u1").get_by_test_id("message-delete").press("Enter")
        page.get_by_test_id(f"delete-{what}").last.press("Enter")
        until(lambda what=what: events(page, "delete")[-1]["what"] == what, timeout=10, what=what, every=0.02)
    assert [(one["id"], one["what"]) for one in events(page, "delete")] == [
        ("a1", "message"),
        ("u1", "branch"),
        ("u1", "message"),
    ]
    op(page, {"type": "toast", "toast": "info", "say": "branchDeleted", "args": {"count": 4}, "undo": "token-1"})
    assert "4 messages deleted." in page.get_by_test_id("toast").last.inner_text()
    page.get_by_test_id("toast-act").last.press("Enter")
    until(lambda: events(page, "undo"), timeout=10, what="the undo", every=0.02)
    assert events(page, "undo")[0]["token"] == "token-1"


def test_the_address(chromium_without_webgpu: Browser, origin: str) -> None:
    """It names what is open and keeps the rest; a reload asks for it, Back for the one before; a link within does not."""
    with shell_page(chromium_without_webgpu, origin) as (page, _):
        page.goto(f"{origin}/?model=tiny&c=from-a-link")
        assert wait_sent(page, "restore")[0]["open"] == "from-a-link"
        say(page, {"kind": "ready", "stage": "core"})
        op(page, branch(name="from-a-link"))
        until(lambda: page.url == f"{origin}/?model=tiny#c=from-a-link", timeout=10, what="the hash", every=0.02)
        assert page.title().endswith(" · HYBR")
        op(page, branch(name="second"))
        op(page, branch(name="third", stored=False))
        until(lambda: page.title() == "HYBR", timeout=10, what="the title of what is kept nowhere")
        until(lambda: page.url == f"{origin}/?model=tiny", timeout=10, what="a new one's address", every=0.02)
        op(page, {"type": "conversation", "conversation": branch(name="third")["conversation"]})
        until(lambda: page.url.endswith("#c=third"), timeout=10, what="its address", every=0.02)
        page.locator(".skip").evaluate("(link) => link.click()")
        until(lambda: page.url.endswith("#c=third"), timeout=10, what="the address after a link", every=0.02)
        page.evaluate("history.go(-2)")
        until(lambda: events(page, "open-conversation"), timeout=10, what="Back", every=0.02)
        assert re.search(r"#c=(second|third)$", page.url)
        assert events(page, "open-conversation")[-1]["id"] in page.url
        page.reload()
        assert wait_sent(page, "restore")[0]["open"] in page.url


def test_the_shelf_answers_python(page: Page) -> None:
    """Reads and writes are answered, errors with their code; what the page or another tab changes is told, its own is not."""
    rows = {
        "conversation": {"id": "c", "title": "One"},
        "nodes": [{"id": "n", "role": "user", "parent": None, "text": "x"}],
        "drop": [],
    }
    say(
        page,
        {"kind": "shelf", "id": "s1", "op": "write", "args": [rows]},
        {"kind": "shelf", "id": "s2", "op": "read", "args": ["c"]},
    )
    first, second = wait_sent(page, "shelf-result", 2)
    assert (first["id"], first["value"], second["id"], second["value"]["nodes"][0]["text"]) == ("s1", None, "s2", "x")
    say(page, {"kind": "shelf", "id": "s3", "op": "read", "args": ["nowhere"]})
    (error,) = wait_sent(page, "shelf-error")
    assert (error["id"], error["error"]["code"]) == ("s3", "not_found")
    assert sent(page, "shelf-changed") == []
    page.evaluate("import('/assets/test/js/shelf.js').then(({shelf}) => shelf.write({conversation: {id: 'c', title: 'Two'}}))")
    (changed,) = wait_sent(page, "shelf-changed")
    assert (changed["conversation"], changed["change"], changed["by"], changed["row"]["title"]) == ("c", "written", "page", "Two")
