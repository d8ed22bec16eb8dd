"""`/local`: nothing leaves it, tried from the page and from its workers; a conversation comes and goes with the person."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from hybr_testing import attribute, until, wait_core, wait_local
from recording_proxy import recording

from hybr.server.paths import home

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr_testing import Served, Watch
    from playwright.sync_api import Page

# Every way out that a script has, each to an address of its own, so that the server's log tells which one came through.
WAYS = """async (base) => {
    const tried = [], failed = [];
    const attempt = async (name, work) => {
      tried.push(name);
      try { await work(); } catch (error) { failed.push(name); }
    };
    const beyond = (ms) => new Promise((done) => setTimeout(done, ms));
    const told = (target, good, bad) => new Promise((resolve, reject) => { target[good] = resolve; target[bad] = reject; });
    await attempt('fetch', () => fetch(base + '/v1/models?way=fetch'));
    await attempt('post', () => fetch(base + '/api/preferences?way=post', {method: 'PUT', body: '{}'}));
    await attempt('no-cors', () => fetch(base + '/v1/models?way=no-cors', {mode: 'no-cors'}));
    await attempt('root', () => fetch(base + '/?way=root'));
    await attempt('dots', () => fetch(base + '/assets/../v1/models?way=dots'));
    if (self.XMLHttpRequest) await attempt('xhr', () => { const x = new XMLHttpRequest();
      x.open('GET', base + '/v1/models?way=xhr'); const end = told(x, 'onload', 'onerror'); x.send(); return end; });
    await attempt('websocket', () => { const s = new WebSocket(base.replace('http', 'ws') + '/v1/ws?way=websocket');
      return told(s, 'onopen', 'onerror'); });
    if (self.EventSource) await attempt('eventsource', () => { const s = new EventSource(base + '/v1/models?way=eventsource');
      return told(s, 'onopen', 'onerror').finally(() => s.close()); });
    if (navigator.sendBeacon) { tried.push('beacon'); failed.push('beacon'); // it says true at once, whatever comes of it
      navigator.sendBeacon(base + '/api/preferences?way=beacon', 'x'); }
    await attempt('import', () => import(base + '/v1/models?way=import'));
    await attempt('worker', () => { const w = new Worker(base + '/assets/x.js?way=worker', {type: 'module'});
      return told(w, 'onmessage', 'onerror'); });
    await attempt('blob-worker', () => {
      const script = `fetch('${base}/v1/models?way=blob-worker').then(() => postMessage('out'), () => postMessage('in'))`;
      const w = new Worker(URL.createObjectURL(new Blob([script], {type: 'text/javascript'})));
      return told(w, 'onmessage', 'onerror').then(({data}) => { if (data !== 'out') throw new Error('in'); }); });
    if (self.document) {
      await attempt('img', () => { const i = new Image(); const end = told(i, 'onload', 'onerror');
        i.src = base + '/v1/models?way=img'; return end; });
      for (const [tag, name, more] of [['link', 'href', {rel: 'stylesheet'}], ['link', 'href', {rel: 'prefetch'}],
        ['script', 'src', {}], ['iframe', 'src', {}], ['object', 'data', {}], ['video', 'src', {}]]) {
        const made = Object.assign(document.createElement(tag), more);
        tried.push(tag); failed.push(tag); // they tell nobody whether they got through: the server's log does
        made[name] = base + `/v1/models?way=${tag}-${more.rel ?? ''}`;
        document.body.append(made); await beyond(60); made.remove();
      }
    }
    return {tried, failed}; }"""

# Playwright waits for a navigation that was begun, so this comes last.
FORM = """(base) => {
    const form = Object.assign(document.createElement('form'), {action: base + '/v1/models', method: 'get'});
    form.innerHTML = '<input name="way" value="form">';
    document.body.append(form);
    form.submit();
    return new Promise((done) => setTimeout(done, 300)); }"""


def in_worker(page: Page, word: str, script: str, argument: str) -> Any:
    """Run a function in the worker whose URL contains `word`."""
    worker = next(worker for worker in page.workers if word in worker.url)
    return worker.evaluate(script, argument)


def say(page: Page, text: str) -> Any:
    """Send a message and return the reply's element, finished."""
    before = page.get_by_test_id("message").count()
    page.get_by_test_id("composer").fill(text)
    page.get_by_test_id("send").click()
    reply = page.get_by_test_id("message").nth(before + 1)
    until(lambda: reply.count() and reply.get_attribute("data-state") not in {None, "streaming"}, timeout=120, what="reply")
    return reply


def test_nothing_gets_out(served: Served, visit: Callable[..., tuple[Page, Watch]]) -> None:
    """From the page and both workers every way to the server is blocked by the policy; the local model answers all the same.

    A proxy before the server writes down what really came: documents, built files and models, and none of the attempts.
    """
    served.wait_built("tiny")
    with recording(served.url) as (address, seen):
        page, watch = visit("/local?model=tiny&load=1", base=address)
        watch.expected += ["Content Security Policy", "Content-Security-Policy", "violates the following", "blocked", "net::ERR"]
        wait_local(page)
        got = [page.evaluate(WAYS, address), *(in_worker(page, word, WAYS, address) for word in ("python", "engine"))]
        reply = say(page, "hello")
        page.wait_for_timeout(2500)  # longer than preferences wait before they are sent
        page.evaluate(FORM, address)
        violations: list[str] = page.evaluate("window.__violations.splice(0)")
        assert urlsplit(page.url).path == "/local"
    for one in got:
        assert set(one["tried"]) - set(one["failed"]) == set()
        assert len(one["tried"]) >= 9
    assert (reply.get_attribute("data-state"), reply.get_attribute("data-provider")) == ("done", "local")
    assert [path for path in seen if "way=" in path] == []
    assert {path.split("/")[1].split("?")[0] for path in seen} == {"local", "assets", "models"}
    for way in ("fetch", "post", "xhr", "websocket", "eventsource", "beacon", "img", "script-", "link-stylesheet", "worker"):
        assert any(f"way={way}" in text for text in violations), way
    assert any("form-action" in text for text in violations)


@pytest.mark.parametrize("start", ["/", "/local"])
def test_opened_directly(visit: Callable[..., tuple[Page, Watch]], start: str) -> None:
    """`/local` starts in local-only whatever was preferred; `/` does not."""
    page, _ = visit(start)
    mode = page.evaluate("ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.getMode())")
    assert (mode == "local-only") == (start == "/local")
    assert page.get_by_test_id("local-banner").is_visible() == (start == "/local")
    assert ("When it cannot" in page.locator("#promise").inner_text()) == (start == "/")


def test_there_and_back(served: Served, visit: Callable[..., tuple[Page, Watch]]) -> None:
    """The person's own control moves between the documents; what was said goes along, and not through the server."""
    served.wait_built("tiny")
    page, watch = visit("/?mode=cloud")
    first = say(page, "What is the capital of France?").inner_text()
    other = page.context.new_page()  # a second tab, with no wish of its own
    other.goto(watch.origin + "/")
    wait_core(other)
    until(lambda: attribute(page, "mode", "data-mode"), timeout=60, what="the mode control")
    page.get_by_test_id("mode-local-only").click()
    page.wait_for_url(re.compile(r"/local(#.*)?$"))
    other.wait_for_url("**/local")
    wait_core(other)
    assert other.get_by_test_id("local-banner").is_visible(), "it says where one is, and how to leave"
    other.close()
    wait_core(page)
    until(lambda: page.get_by_test_id("message").count() == 2, timeout=30, what="the conversation")
    asked, carried = page.get_by_test_id("message").nth(0), page.get_by_test_id("message").nth(1)
    until(lambda: asked.inner_text().endswith("What is the capital of France?"), timeout=30, what="the question drawn")
    until(lambda: carried.inner_text() == first, timeout=30, what="the answer drawn")
    assert (carried.get_attribute("data-provider"), carried.get_attribute("data-state")) == ("cloud", "done")
    page.get_by_test_id("leave-local").click()
    page.wait_for_url(re.compile(re.escape(watch.origin) + r"/(#.*)?$"))
    wait_core(page)
    until(lambda: page.get_by_test_id("message").count() == 2, timeout=30, what="the conversation again")
    status = "ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.getStatus())"
    until(
        lambda: [page.evaluate(status)[name] for name in ("mode", "preferredMode")] == ["cloud", "local"],
        timeout=30,
        what="the mode that was preferred",
    )
    told = [url for url in watch.requests if "/api/preferences" in url]
    assert all("France" not in url for url in told)


def test_a_script_in_either_document(visit: Callable[..., tuple[Page, Watch]]) -> None:
    """In `/` a script's local-only holds at once and moves nobody; in `/local` another mode is the other document's."""
    page, watch = visit("/?mode=cloud")
    set_mode = "(mode) => ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.setMode(mode))"
    assert page.evaluate(set_mode, "local-only") is True
    assert page.evaluate("ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.getMode())") == "local-only"
    assert urlsplit(page.url).path == "/"
    page.goto(watch.origin + "/")  # preferred now: the open document sends the person on
    page.wait_for_url(re.compile(r"/local(#.*)?$"))
    wait_core(page)
    assert page.evaluate(set_mode, "local") is False, "no model is ready: refused, and nobody moves"
    assert page.evaluate(set_mode, "nonsense") is False
    assert urlsplit(page.url).path == "/local"
    page.evaluate(f"({set_mode})('cloud').catch(() => {{}}); null")
    page.wait_for_url(re.compile(re.escape(watch.origin) + r"/(#.*)?$"))
    wait_core(page)
    assert page.evaluate("ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.getMode())") == "cloud"


def test_pictures(visit: Callable[..., tuple[Page, Watch]]) -> None:
    """The banner and the policy control fit wide and narrow, light and dark."""
    page, _ = visit("/local")
    folder = home() / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    until(lambda: attribute(page, "mode", "data-mode") == "local-only", timeout=60, what="the mode control")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for name, width, height in (("wide", 1280, 800), ("narrow", 390, 844)):
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(300)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            page.screenshot(path=folder / f"local-{name}-{scheme}.png")
