"""Two tabs of one browser share one engine, in the real page; when the tab that has it goes, the other goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hybr_testing import RECORDER, Watch, attribute, events, until, wait_core, wait_local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hybr_testing import Served
    from playwright.sync_api import Browser, Page

Tabs = tuple["Page", "Page", Watch]
INIT = "(model) => ModuleLoader.getModule('LocalLLM').then((L) => L.api.init(model))"
MODE = "(mode) => ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.setMode(mode))"
BEGIN = """async ([tokens, count]) => {
    const H = await ModuleLoader.getModule('HybridLLMProvider');
    const one = async () => {
      const run = {text: '', last: null, failed: null, control: new AbortController()};
      const done = (async () => {
        try {
          const options = {maxOutputTokens: tokens, signal: run.control.signal};
          for await (const chunk of H.api.stream([{role: 'user', content: 'hi'}], options)) {
            run.text += chunk.delta;
            if (chunk.done) run.last = chunk;
          }
        } catch (error) { run.failed = error.name; }
        return {text: run.text, provider: run.last?.provider, whole: run.last?.text, failed: run.failed};
      })();
      return {run, done};
    };
    window.__runs = await Promise.all(Array.from({length: count}, one)); }"""
ENDS = "Promise.all(window.__runs.map(({done}) => done))"
SHOWN = "window.__runs[0].run.text"


def engines(*pages: Page) -> int:
    """How many engine workers these pages have."""
    return sum("/engine.worker.js" in worker.url for page in pages for worker in page.workers)


def open_tab(context: Any, url: str) -> Page:
    """One more tab, as far as the orchestrator."""
    page: Page = context.new_page()
    page.goto(url)
    wait_core(page)
    return page


@pytest.fixture
def two(served: Served) -> Iterator[Callable[[Browser], Tabs]]:
    """Two tabs in one browser profile; `tiny` was loaded in the first, before the second was opened."""
    opened: list[tuple[Any, Watch]] = []

    def tabs(browser: Browser) -> Tabs:
        served.wait_built("tiny")
        context = browser.new_context()
        context.set_default_timeout(300_000)
        context.add_init_script(RECORDER)
        watch = Watch(served.url)
        watch.attach(context)
        opened.append((context, watch))
        first = open_tab(context, served.url + "/")
        assert first.evaluate(INIT, "tiny") is True
        return first, open_tab(context, served.url + "/"), watch

    yield tabs
    for context, watch in opened:
        context.close()
        watch.check()


def test_one_engine_answers_both(two: Callable[[Browser], Tabs], chromium: Browser) -> None:
    """The second tab is ready with no engine of its own; both are answered, queued; stops stay in their tab."""
    first, second, watch = two(chromium)
    wait_local(second)
    assert attribute(second, "local-status", "data-model") == "tiny"
    assert engines(first, second) == 1
    assert second.evaluate(INIT, "tiny") is True
    for page in (first, second):
        assert page.evaluate(MODE, "local") is True
        page.evaluate(BEGIN, [12, 3])
    for page in (first, second):
        ends = page.evaluate(ENDS)
        assert [end["provider"] for end in ends] == ["local"] * 3
        assert all(end["text"] == end["whole"] != "" for end in ends)
    first.evaluate(BEGIN, [400, 1])
    until(lambda: first.evaluate(SHOWN), timeout=60, what="the first tab's text")
    refused = second.evaluate(INIT, "smollm2-135m")
    assert refused["error"]["code"] in {"engine_busy", "not_built"}, refused
    wait_local(second)
    second.evaluate(BEGIN, [8, 1])
    second.evaluate("window.__runs[0].run.control.abort()")
    assert second.evaluate(ENDS)[0]["failed"] == "Aborted"
    first.evaluate("window.__runs[0].run.control.abort()")
    assert first.evaluate(ENDS)[0]["failed"] == "Aborted"
    assert first.evaluate("ModuleLoader.getModule('LocalLLM').then((L) => L.api.unload())") is True
    wait_local(second, "unloaded")
    assert not [url for url in watch.requests if "/v1/chat" in url]


def test_the_leader_is_closed_in_the_middle(two: Callable[[Browser], Tabs], chromium_without_webgpu: Browser) -> None:
    """The server ends the second tab's sentence, nothing shown is lost; then that tab has an engine of its own."""
    first, second, watch = two(chromium_without_webgpu)
    wait_local(second)
    assert second.evaluate(MODE, "local") is True
    downloads = len([url for url in watch.requests if url.endswith(".gguf")])
    second.evaluate(BEGIN, [900, 1])
    shown = until(lambda: second.evaluate(SHOWN), timeout=60, what="text")
    first.close()
    (end,) = second.evaluate(ENDS)
    assert end["provider"] == "cloud"
    assert end["text"] == end["whole"]
    assert end["text"].startswith(shown)
    assert len(events(second, "hybrid-llm:handover")) == 1
    wait_local(second)
    assert engines(second) == 1
    assert len([url for url in watch.requests if url.endswith(".gguf")]) == downloads  # from the browser's own files
    second.evaluate(BEGIN, [4, 1])
    assert second.evaluate(ENDS)[0]["provider"] == "local"
    third = open_tab(second.context, second.url)
    wait_local(third)
    assert engines(second, third) == 1


def test_tabs_share_what_is_stored(served: Served, chromium_without_webgpu: Browser) -> None:
    """Both tabs' bookings are in the month, in each tab and in the storage; what one prefers, the other reads."""
    context = chromium_without_webgpu.new_context()
    context.add_init_script(RECORDER)
    watch = Watch(served.url)
    watch.attach(context)
    pages = [open_tab(context, served.url + "/") for _ in range(2)]
    for page in pages:
        page.evaluate("window.H = ModuleLoader.getModule('HybridLLMProvider').then((found) => found.api)")
    asked = """async () => { const api = await H;
      for (let i = 0; i < 3; i += 1) await api.completeCloud([{role: 'user', content: 'hi'}], {maxOutputTokens: 2}); }"""
    for page in pages:
        page.evaluate(f"window.__asked = ({asked})(); null")  # both at once
    for page in pages:
        page.evaluate("window.__asked")
    month = "H.then((api) => api.getUsageStats()).then((stats) => stats.month.total.requests)"
    for page in pages:
        until(lambda page=page: page.evaluate(month) == 6, timeout=30, what="six requests in the month")
    stored = """Object.values(JSON.parse(localStorage['hybr:ledger'])).flatMap(Object.values)
      .reduce((sum, {requests}) => sum + requests, 0)"""
    assert pages[0].evaluate(stored) == 6
    pages[0].evaluate("H.then((api) => api.setRecovery({handover: 'stop'}))")
    pages[1].evaluate("H.then((api) => api.setBudget({month: 100}))")
    handover, limit = "H.then((api) => api.getRecovery())", "H.then((api) => api.getBudget())"
    for page in pages:
        until(lambda page=page: page.evaluate(handover)["handover"] == "stop", timeout=30, what="the preference")
        until(lambda page=page: page.evaluate(limit)["month"]["limit"] == 100, timeout=30, what="the budget")
    context.close()
    watch.check()
