"""The main paths by keyboard alone, in the real page: ask, edit, go between branches, find, load a model, change the mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hybr_testing import attribute, until, wait_core, wait_local

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr_testing import Served, Watch
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.e2e

# What has the focus, through shadow roots: its test id, else its label or text.
FOCUS = """() => {
  let node = document.activeElement; while (node?.shadowRoot?.activeElement) node = node.shadowRoot.activeElement;
  return node?.dataset?.testid ?? node?.dataset?.act ?? node?.getAttribute?.('aria-label') ?? node?.id ?? ''; }"""
SEEN = """() => {
  let node = document.activeElement; while (node?.shadowRoot?.activeElement) node = node.shadowRoot.activeElement;
  const box = node.getBoundingClientRect(); return box.width > 0 && box.bottom > 0 && box.top < innerHeight; }"""


def _to(page: Page, wanted: str, *, key: str = "Tab") -> None:
    """Press `key` until `wanted` has the focus."""
    _until(page, key, lambda: page.evaluate(FOCUS) == wanted, what=wanted)


def _until(page: Page, key: str, there: Callable[[], bool], *, what: str = "it") -> None:
    """Press `key` until it is there; what has the focus on the way can be seen."""
    for _ in range(120):
        if there():
            return
        page.keyboard.press(key)
        assert page.evaluate(SEEN), f"the focus is on something out of sight: {page.evaluate(FOCUS)}"
    raise AssertionError(f"{what!r} is not reached by {key}; the focus is on {page.evaluate(FOCUS)!r}")


def _replies(page: Page) -> Locator:
    return page.locator("[data-testid=message][data-role=assistant]")


def _answered(page: Page, count: int) -> None:
    def done() -> bool:
        states = [reply.get_attribute("data-state") for reply in _replies(page).all()]
        return len(states) == count and set(states) == {"done"}

    until(done, timeout=240, what=f"{count} replies")


def test_a_whole_visit(served: Served, visit: Callable[..., tuple[Page, Watch]]) -> None:
    """No pointer anywhere: each step is reached by Tab or a shortcut, and the focus is always where it can be seen."""
    served.wait_built("tiny")
    page, _ = visit("/", viewport={"width": 1280, "height": 800})
    wait_core(page)
    until(page.get_by_test_id("mode").is_visible, timeout=60, what="the panel")
    _to(page, "composer")
    page.keyboard.type("Say hello")
    page.keyboard.press("Enter")
    _answered(page, 1)
    # edit the question: a branch of its own, and back to the first
    question = page.locator("[data-testid=message][data-role=user]")
    _until(page, "Shift+Tab", lambda: question.locator(":focus").count() == 1)
    _to(page, "message-edit", key="ArrowRight")
    page.keyboard.press("Enter")
    until(page.get_by_test_id("edit-text").is_visible, timeout=10, what="the editor")
    page.keyboard.press("Control+a")
    page.keyboard.type("Say goodbye")
    _to(page, "edit-save")
    page.keyboard.press("Enter")
    until(lambda: "goodbye" in question.inner_text(), timeout=30, what="the other branch")
    _answered(page, 1)
    # find the first question's branch by a word
    _to(page, "search-history", key="Shift+Tab")
    page.keyboard.type("say hello")
    hit = page.get_by_test_id("search-hit")
    until(lambda: hit.count() >= 1, timeout=60, what="the hit")
    _to(page, "search-hit", key="ArrowDown")
    page.keyboard.press("Enter")
    until(lambda: "hello" in question.inner_text(), timeout=30, what="the first branch")
    # load a model and answer with it
    _to(page, "model-search")
    page.keyboard.type("tiny")
    tiny = page.locator("[data-testid=model-option][data-model=tiny]")
    until(lambda: page.get_by_test_id("model-option").count() <= 2, timeout=30, what="fewer models")
    _until(page, "Tab", lambda: page.get_by_test_id("model-option").locator(":focus").count() == 1)
    _until(page, "ArrowDown", lambda: tiny.locator(":checked").count() == 1)
    _to(page, "load-model")
    page.keyboard.press("Enter")
    wait_local(page)
    page.keyboard.press("Control+k")
    page.keyboard.type("this browser")
    page.keyboard.press("Enter")
    until(lambda: attribute(page, "mode", "data-mode") == "local", timeout=60, what="local mode")
    # a new chat, for tiny's window holds no long one
    page.keyboard.press("Control+k")
    page.keyboard.type("new chat")
    page.keyboard.press("Enter")
    until(lambda: question.count() == 0, timeout=30, what="an empty chat")
    page.keyboard.press("Shift+Escape")
    page.keyboard.type("And now?")
    page.keyboard.press("Enter")
    _answered(page, 1)
    assert _replies(page).last.get_attribute("data-provider") == "local"
