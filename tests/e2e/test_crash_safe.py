"""A reload or a crash in mid-answer: what was shown is shown again, and the person says what becomes of it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from hybr_testing import RECORDER, Watch, events, until, wait_core, wait_local
from playwright.sync_api import Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr_testing import Served
    from playwright.sync_api import Browser, Locator, Page

# What was said, to the byte: the drawn text is markdown, whose marks are gone.
LISTEN = """window.__said = '';
  window.addEventListener('hybrid-llm:stream-chunk', ({detail}) => { window.__said += detail.delta; });"""
# What the journal holds of the newest answer, read as another document would.
KEPT = """() => new Promise((resolve) => { indexedDB.open('hybr-journal').onsuccess = ({target: {result: database}}) => {
    const stores = database.transaction(['records', 'pieces']);
    stores.objectStore('records').getAll().onsuccess = ({target: {result: [row]}}) => {
      stores.objectStore('pieces').getAll().onsuccess = ({target: {result: pieces}}) => {
        const tail = JSON.parse(localStorage.getItem('hybr-tail:' + row.id) ?? '[]');
        const all = new Map([...pieces, ...tail].map((piece) => [piece.n, piece.delta]));
        database.close();
        resolve(row.record.text + [...all].sort(([a], [b]) => a - b).map(([, delta]) => delta).join('')); }; }; }; })"""
LONG = "Write a very long story about a dragon and a princess, with many chapters."


def begin(page: Page, question: str = LONG, *, least: int = 60) -> str:
    """Ask, wait until some of the answer is shown, and return what is."""
    page.get_by_test_id("composer").fill(question)
    page.get_by_test_id("send").click()
    reply = page.locator("[data-testid=message][data-role=assistant]").last
    until(lambda: len(body(reply)) >= least, timeout=120, what="some text", every=0.02)
    return body(reply)


def body(reply: Locator) -> str:
    """The answer's text as it is drawn, without its footer and buttons."""
    return reply.locator(".body").last.inner_text() if reply.count() else ""


def cut(page: Page) -> Locator:
    """Wait for the answer that was cut off and return its element."""
    found = page.locator("[data-testid=message][data-interrupted]")
    until(lambda: found.count() == 1, timeout=60, what="the cut answer")
    return found


def test_reload_and_resume_here(served: Served, visit: Callable[..., tuple[Page, Watch]]) -> None:
    """The engine goes on from the last character; before the cut the text is the same to the byte."""
    served.wait_built("tiny")
    page, _ = visit("/?model=tiny&load=1&mode=local")
    page.add_init_script(LISTEN)
    page.evaluate(LISTEN)
    wait_local(page)
    until(lambda: page.get_by_test_id("mode").get_attribute("data-mode") == "local", timeout=30, what="mode local")
    begin(page, "hi", least=20)
    said = page.evaluate("window.__said")
    page.reload()
    wait_core(page)
    found = cut(page)
    drawn, kept = body(found), page.evaluate(KEPT)
    assert kept.startswith(said), "to the byte"
    assert (found.get_attribute("data-state"), found.get_attribute("data-provider")) == ("stopped", "local")
    assert page.get_by_test_id("message").count() == 2
    wait_local(page)
    page.get_by_test_id("resume-local").click()
    reply = page.locator("[data-testid=message][data-role=assistant]")
    until(lambda: reply.get_attribute("data-state") == "done", timeout=120, what="the end")
    more = page.evaluate("window.__said")
    (ended,) = events(page, "hybrid-llm:stream-complete")
    assert more
    assert ended["chars"] == len(kept) + len(more)
    assert drawn
    assert (reply.get_attribute("data-provider"), reply.get_attribute("data-segments")) == ("local", "2")
    assert page.locator(".cut").count() == 0
    page.reload()
    wait_core(page)
    page.wait_for_timeout(500)
    assert page.locator("[data-interrupted]").count() == 0, "settled: it is not offered again"


def test_reload_and_finish_in_the_cloud(visit_without_webgpu: Callable[..., tuple[Page, Watch]]) -> None:
    """The server finishes what it, or a model here, had begun; what was shown stays."""
    page, _ = visit_without_webgpu("/?mode=cloud")
    shown = begin(page)
    page.reload()
    wait_core(page)
    kept = body(cut(page))
    assert kept.startswith(shown)
    page.get_by_test_id("resume-cloud").click()
    reply = page.locator("[data-testid=message][data-role=assistant]")
    until(lambda: len(body(reply)) > len(kept) + 20, timeout=120, what="more text")
    assert body(reply).startswith(kept.rstrip())
    assert (reply.get_attribute("data-provider"), reply.get_attribute("data-segments")) == ("cloud", "2")
    page.get_by_test_id("stop").click()
    until(lambda: reply.get_attribute("data-state") == "stopped", timeout=30, what="the stop")


def test_keep_and_go_on(visit_without_webgpu: Callable[..., tuple[Page, Watch]]) -> None:
    """Kept as it is, the cut answer is a turn like any other, and is not offered again."""
    page, _ = visit_without_webgpu("/?mode=cloud")
    begin(page)
    page.reload()
    wait_core(page)
    kept = body(cut(page))
    page.get_by_test_id("keep").click()
    reply = page.locator("[data-testid=message][data-role=assistant]")
    until(lambda: page.locator(".cut").count() == 0, timeout=10, what="the question gone")
    assert (body(reply), reply.get_attribute("data-state")) == (kept, "stopped")
    page.reload()
    wait_core(page)
    until(lambda: page.get_by_test_id("message").count() == 2, timeout=30, what="the conversation, from the shelf")
    page.wait_for_timeout(500)
    assert (body(reply), page.locator("[data-interrupted]").count()) == (kept, 0), "settled: it is not offered again"


def test_a_crash_and_a_closed_tab(served: Served, chromium_without_webgpu: Browser) -> None:
    """The renderer dies, the tab is closed: the next page of this browser has what was shown, and only one of them."""
    with chromium_without_webgpu.new_context() as context:
        context.add_init_script(RECORDER)
        first = context.new_page()
        first.goto(served.url + "/?mode=cloud")
        wait_core(first)
        shown = begin(first)
        crash(first)
        pages = [context.new_page(), context.new_page()]
        for page in pages:
            page.goto(served.url)
            wait_core(page)
        offers = [page.locator("[data-testid=message][data-interrupted]") for page in pages]
        until(lambda: sum(offer.count() for offer in offers) == 1, timeout=60, what="one offer")
        (offer,) = [offer for offer in offers if offer.count()]
        assert body(offer).startswith(shown)
        assert sum(offer.count() for offer in offers) == 1


def crash(page: Page) -> None:
    """End the page's renderer as a crash does: nothing of the page's own runs any more."""
    with contextlib.suppress(Error):
        page.goto("chrome://crash", timeout=10_000)


def test_private_stays_here(served: Served, visit: Callable[..., tuple[Page, Watch]]) -> None:
    """An answer of the local-only document is offered there, and never to the cloud."""
    served.wait_built("tiny")
    page, watch = visit("/local?model=tiny&load=1")
    wait_local(page)
    begin(page, "hi", least=20)
    page.reload()
    wait_core(page)
    cut(page)
    assert page.get_by_test_id("resume-cloud").count() == 0
    assert page.get_by_test_id("resume-local").count() == 1
    assert [url for url in watch.requests if "/v1/" in url] == []
    (kept,) = page.evaluate(SESSIONS)
    assert kept.startswith("answer-")
    page.get_by_test_id("keep").click()
    until(lambda: page.evaluate(SESSIONS) == [], timeout=30, what="the kept generation gone")
    begin(page, "hi", least=20)
    assert len(page.evaluate(SESSIONS)) == 1, "kept while it is written"
    page.get_by_test_id("stop").click()
    until(lambda: page.evaluate(SESSIONS) == [], timeout=30, what="the stopped generation gone")


# Through the public API: an answer with a seed, as far as `least` pieces, or to its end.
SEEDED = """([journal, least]) => new Promise(async (resolve, reject) => {
  const asked = [{role: 'user', content: 'Tell me a story about a dragon.'}];
  const options = {temperature: 1.0, seed: 7, maxOutputTokens: 48, journal};
  const H = await ModuleLoader.getModule('HybridLLMProvider');
  let text = '', pieces = 0;
  try {
    for await (const {delta} of H.api.stream(asked, options)) {
      text += delta;
      if (++pieces === least) resolve(text);
    }
    resolve(text);
  } catch (error) { reject(error); } })"""
TAKEN_UP = """async ([journal, prefix]) => {
  const H = await ModuleLoader.getModule('HybridLLMProvider');
  let text = '';
  const asked = [{role: 'user', content: 'Tell me a story about a dragon.'}];
  for await (const {delta} of H.api.resume(asked, prefix, {journal, maxOutputTokens: 48}, 'local')) text += delta;
  return text; }"""
SESSIONS = """async () => {
  try {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('webllm-resume');
    const names = [];
    for await (const name of (await root.getDirectoryHandle('sessions')).keys()) names.push(name);
    return names;
  } catch { return []; } }"""
LOSE = "async () => (await navigator.storage.getDirectory()).removeEntry('webllm-resume', {recursive: true})"


def test_the_engine_takes_up_what_it_kept(served: Served, visit: Callable[..., tuple[Page, Watch]]) -> None:
    """After a reload the rest is, to the byte, what it would have been; with the session lost the text is still gone on with."""
    served.wait_built("tiny")
    page, _ = visit("/?model=tiny&load=1&mode=local")
    wait_local(page)
    whole = page.evaluate(SEEDED, ["answer-whole", 0])
    assert not [name for name in page.evaluate(SESSIONS) if name.startswith("answer-whole.")], "removed at its end"
    shown = page.evaluate(SEEDED, ["story-cut", 12])
    assert whole.startswith(shown)
    assert len(shown) < len(whole)
    page.reload()
    wait_local(page)
    assert [name.split(".")[0] for name in page.evaluate(SESSIONS)] == ["story-cut"]
    assert page.evaluate(TAKEN_UP, ["story-cut", shown]) == whole
    assert page.evaluate(SESSIONS) == []
    page.evaluate(SEEDED, ["story-lost", 12])
    page.reload()
    wait_local(page)
    page.evaluate(LOSE)
    again = page.evaluate(TAKEN_UP, ["story-lost", shown])
    assert again.startswith(shown)
    assert len(again) > len(shown)
