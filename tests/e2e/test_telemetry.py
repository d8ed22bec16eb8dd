"""The telemetry panel and the widget in the real page: figures of real answers, Bokeh's plots, export and clearing."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hybr_testing import attribute, until, wait_core

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr_testing import Watch
    from playwright.sync_api import Page

pytestmark = pytest.mark.e2e

ASK = """async (times) => { const H = await ModuleLoader.getModule('HybridLLMProvider');
  for (let i = 0; i < times; i++) await H.api.complete([{role: 'user', content: 'canary question'}], {maxOutputTokens: 4}); }"""
# Figures stand in shadow roots, as deep as Bokeh likes; one that has nothing to draw is not shown.
TITLES = """() => { const all = []; const walk = (root) => { for (const node of root.querySelectorAll('*')) {
  if (node.localName === 'canvas' && node.getBoundingClientRect().width > 50) all.push(node.getRootNode().host);
  if (node.shadowRoot) walk(node.shadowRoot); } };
  walk(document); return new Set(all).size; }"""


def _exported(page: Page, kind: str) -> str:
    with page.expect_download() as download:
        page.get_by_test_id(f"telemetry-{kind}").click()
    assert download.value.suggested_filename.endswith(f".{kind}")
    return Path(download.value.path()).read_text()


def _widened(page: Page) -> None:
    """Plots have room where the list of chats makes some: the chat keeps its own, and all is as it was afterwards."""
    wide, toggle = page.get_by_role("button", name="Wide", exact=True), page.locator("#history-toggle")
    narrow = page.locator("#panel-root").bounding_box()
    wide.click()
    until(lambda: toggle.get_attribute("aria-expanded") == "false", timeout=10, what="the list of chats folded")
    box, chat = page.locator("#panel-root").bounding_box(), page.locator("#chat").bounding_box()
    assert box
    assert chat
    assert narrow
    assert box["width"] > 1.5 * narrow["width"]
    assert chat["width"] > 500
    wide.click()
    until(lambda: toggle.get_attribute("aria-expanded") == "true", timeout=10, what="the list of chats back")


def test_the_panel_shows_what_answers_took(visit: Callable[..., tuple[Page, Watch]]) -> None:
    """Answers become a row with percentiles and plots; both exports have it, a reload keeps it, clearing forgets it."""
    page, watch = visit("/", viewport={"width": 1280, "height": 800})
    wait_core(page)
    panel = page.get_by_test_id("telemetry")
    until(panel.is_visible, timeout=60, what="the panel")
    panel.locator("summary").click()
    until(lambda: page.evaluate(TITLES) <= 1, timeout=60, what="no plot of answers, for there was none")
    until(panel.get_by_text("Nothing was answered").is_visible, timeout=30, what="word of it")
    page.evaluate(ASK, 2)
    row = panel.locator("tbody tr[data-provider=cloud]")
    until(lambda: row.count() == 1, timeout=60, what="the model's row")
    cells = row.locator("td").all_inner_texts()
    assert cells[0] == "2"
    assert "/" in cells[2], "p50 / p95 of the whole answer"
    until(lambda: page.evaluate(TITLES) >= 2, timeout=120, what="the answers over time, and by day")
    assert not panel.get_by_text("Nothing was answered").is_visible()
    _widened(page)
    (exported,) = csv.DictReader(_exported(page, "csv").splitlines())
    assert (exported["provider"], exported["requests"]) == ("cloud", "2")
    (kept,) = json.loads(_exported(page, "json"))["rows"]
    assert kept["requests"] == 2
    assert kept["total_p95"] > 0
    assert "canary" not in page.evaluate("localStorage.getItem('hybr:series')")
    page.reload()
    wait_core(page)
    until(panel.is_visible, timeout=60, what="the panel again")
    panel.locator("summary").click()
    until(lambda: row.count() == 1 and row.locator("td").first.inner_text() == "2", timeout=60, what="what was kept")
    page.get_by_test_id("telemetry-clear").click()
    page.get_by_test_id("telemetry-clear-really").click()
    until(lambda: row.count() == 0, timeout=30, what="nothing left")
    assert page.evaluate("localStorage.getItem('hybr:series')") == "{}"
    watch.check()


def test_the_widget_compares_and_switches(visit: Callable[..., tuple[Page, Watch]]) -> None:
    """Both providers, their figures, whether they can answer; its buttons switch, and the switch is listed as by hand.

    A reply of the automatic mode says on demand why it came from there.
    """
    page, _ = visit("/", viewport={"width": 1280, "height": 800})
    wait_core(page)
    page.evaluate(ASK, 1)
    usage = page.get_by_test_id("usage")
    until(lambda: usage.locator("tbody tr").count() == 2, timeout=60, what="both rows")
    cloud = usage.locator("tr[data-provider=cloud]")
    until(lambda: cloud.locator("td").first.inner_text() == "1", timeout=30, what="the request")
    assert cloud.get_attribute("data-available") == "yes"
    assert usage.locator("tr[data-provider=local]").get_attribute("data-available") == "no", "no model is loaded"
    page.evaluate("ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.setMode('auto'))")
    until(lambda: attribute(page, "mode", "data-mode") == "auto", timeout=30, what="automatic mode")
    page.get_by_test_id("composer").fill("Hello")
    page.get_by_test_id("composer").press("Enter")
    why = page.get_by_test_id("why")
    until(why.is_visible, timeout=240, what="the question why, at the reply")
    why.locator("summary").click()
    until(lambda: "no local model is ready" in why.inner_text(), timeout=10, what="the reason of the automatic choice")
    page.get_by_test_id("use-cloud").click()
    until(lambda: attribute(page, "mode", "data-mode") == "cloud", timeout=30, what="the server's mode")
    until(lambda: "by hand" in usage.inner_text(), timeout=30, what="the switch in the list")
