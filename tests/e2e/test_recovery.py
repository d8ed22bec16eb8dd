"""In the real page, with real engines: handover in mid-sentence, stops at any moment, nothing out in local-only."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hybr_testing import events, kill_worker, serve, until, wait_local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hybr_testing import Served, Watch
    from playwright.sync_api import Page

START = """async ([question, id]) => {
    const H = await ModuleLoader.getModule('HybridLLMProvider');
    window.__chunks = []; window.__end = null;
    (async () => { for await (const chunk of H.api.stream([{role: 'user', content: question}],
        {temperature: 0, maxOutputTokens: 48, requestId: id})) window.__chunks.push(chunk); })()
      .then(() => { window.__end = 'done'; }, (error) => { window.__end = error.name + ': ' + error.message; }); }"""
STOPS = """async ([count, seed]) => {
    const H = await ModuleLoader.getModule('HybridLLMProvider');
    let state = seed;
    const random = () => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648;
    const ask = [{role: 'user', content: 'hi'}], ends = {};
    for (let index = 0; index < count; index += 1) {
      const stop = new AbortController();
      setTimeout(() => stop.abort(), random() * 300);
      let text = '', late = 0, end = 'done';
      try {
        for await (const chunk of H.api.stream(ask, {maxOutputTokens: 40, signal: stop.signal})) {
          text += chunk.delta;
          if (stop.signal.aborted) late += 1;
          if (chunk.text !== text) end = 'text';
        }
      } catch (error) { end = error.name; }
      if (late) end = 'late';
      ends[end] = (ends[end] || 0) + 1;
    }
    const after = await H.api.completeLocal(ask, {maxOutputTokens: 2});
    return {ends, tokens: after.usage.completionTokens, active: (await H.api.getStatus()).active}; }"""


def stops(page: Page, count: int) -> None:
    """Stop `count` answers at seeded random moments; each ends as a stop or was already done, and the engine is free after."""
    got: dict[str, Any] = page.evaluate(STOPS, [count, 7])
    assert set(got["ends"]) <= {"Aborted", "done"}, got
    assert got["ends"]["Aborted"] > 0
    assert (got["tokens"], got["active"]) == (2, 0)
    assert events(page, "hybrid-llm:fallback") == []


def use_local(page: Page) -> None:
    """Put mode local in force."""
    assert page.evaluate("ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.setMode('local'))")


def test_stops_at_any_moment(tiny_page: tuple[Page, Watch]) -> None:
    """Forty stops: no fallback, no chunk after a stop, and the lock is free."""
    use_local(tiny_page[0])
    stops(tiny_page[0], 40)


@pytest.mark.long
def test_two_hundred_stops(tiny_page: tuple[Page, Watch]) -> None:
    """The same, two hundred times in one page."""
    use_local(tiny_page[0])
    stops(tiny_page[0], 200)


UNABLE = """async () => {
    const H = await ModuleLoader.getModule('HybridLLMProvider');
    const tools = [{type: 'function', function: {name: 'f', parameters: {type: 'object'}}}];
    const image = [{role: 'user', content: [{type: 'image_url', image_url: {url: 'data:image/png;base64,AA'}}]}];
    const ask = [{role: 'user', content: 'hi'}], codes = [], maxOutputTokens = 2;
    for (const [messages, options] of [[ask, {tools, maxOutputTokens}], [image, {}]])
      codes.push(await H.api.completeLocal(messages, options).then(() => 'answered', ({name, code}) => [name, code]));
    return codes; }"""


def test_what_the_model_cannot_do_is_refused_by_type(tiny_page: tuple[Page, Watch]) -> None:
    """No model of the index says that it reads images: asked to, it is not asked at all. Tools it is told of in words."""
    page, watch = tiny_page
    before = len(watch.requests)
    assert page.evaluate(UNABLE) == ["answered", ["UnsupportedError", "unsupported"]]
    assert [url for url in watch.requests[before:] if "/v1/chat" in url] == []


def test_local_only_asks_for_nothing(tiny_page: tuple[Page, Watch]) -> None:
    """In local-only the local model answers, the cloud is refused, and no request goes to /v1 or /api."""
    page, watch = tiny_page
    before = len(watch.requests)
    said = page.evaluate(
        """async () => { const H = await ModuleLoader.getModule('HybridLLMProvider');
             const mode = await H.api.setMode('local-only'), ask = [{role: 'user', content: 'hi'}];
             const done = await H.api.complete(ask, {maxOutputTokens: 2});
             const refused = await H.api.completeCloud(ask).catch((error) => error.code);
             return [mode, done.provider, refused]; }"""
    )
    try:
        assert said == [True, "local", "refused"]
        page.wait_for_timeout(2500)  # longer than preferences wait before they are sent
        assert [url for url in watch.requests[before:] if "/v1/" in url or "/api/" in url] == []
    finally:
        page.evaluate("ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.setMode('cloud'))")


def test_the_cloud_finishes_the_sentence(smollm_page: tuple[Page, Watch]) -> None:
    """The engine's worker dies while SmolLM2 streams: llama.cpp goes on, what was shown stays, and the model comes back."""
    page, _ = smollm_page
    use_local(page)
    page.evaluate(START, ["Write three sentences about the city of Paris.", "handed-over"])
    until(lambda: page.evaluate("window.__chunks.length") >= 5, timeout=120, what="five chunks")
    kill_worker(page, "engine")
    shown = page.evaluate("window.__chunks.at(-1).text")
    until(lambda: page.evaluate("window.__end"), timeout=180, what="the end")
    assert page.evaluate("window.__end") == "done"
    chunks = page.evaluate("window.__chunks")
    last = chunks[-1]
    assert last["text"].startswith(shown)
    assert "".join(chunk["delta"] for chunk in chunks) == last["text"]
    assert len(last["text"]) > len(shown)
    assert (last["provider"], last["segments"], chunks[0]["provider"]) == ("cloud", 2, "local")
    (handover,) = [event for event in events(page, "hybrid-llm:handover") if event["requestId"] == "handed-over"]
    assert (handover["from"], handover["to"], handover["cause"]) == ("local", "cloud", "engine_died")
    cut = handover["atChars"]
    assert last["text"][:cut] == "".join(chunk["delta"] for chunk in chunks if chunk["segment"] == 0)
    wait_local(page)
    assert page.evaluate("ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.getMode())") == "local"


def kill_house(served: Served) -> None:
    """Kill the server's llama.cpp, as the system does when memory runs out."""
    victims = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            child = f"PPid:\t{served.process.pid}\n" in status.read_text()
            if child and b"housechild" in status.with_name("cmdline").read_bytes():
                victims.append(int(status.parent.name))
    (victim,) = victims
    os.kill(victim, signal.SIGKILL)


def stream(page: Page, request_id: str) -> str:
    """Begin a streamed answer in the cloud and return what is shown after a few pieces."""
    page.evaluate(START, ["Write a long story about the city of Paris.", request_id])
    until(lambda: page.evaluate("window.__chunks.length") >= 4, timeout=120, what="four chunks", every=0.02)
    return str(page.evaluate("window.__chunks.at(-1).text"))


@pytest.fixture
def doomed(tmp_path: Path, visit: Callable[..., tuple[Page, Watch]]) -> Iterator[tuple[Served, Page]]:
    """A server of one's own, whose model may be killed, and a page with `tiny` ready that prefers the cloud."""
    with serve(tmp_path / "data", log=tmp_path / "serve.log") as served:
        served.wait_built("tiny")
        page, watch = visit("/?model=tiny&load=1&mode=cloud", base=served.url)
        watch.expected += ["503", "502", "net::ERR"]
        wait_local(page)
        yield served, page
        page.goto("about:blank")  # before the server goes: nothing is to be asked of it any more
        page.evaluate("window.__violations = []")


def test_the_browser_finishes_the_sentence(doomed: tuple[Served, Page]) -> None:
    """The server's model dies while it streams: the browser's goes on, and what was shown begins the whole."""
    served, page = doomed
    stream(page, "upstream-died")
    kill_house(served)
    until(lambda: page.evaluate("window.__end"), timeout=180, what="the end")
    assert page.evaluate("window.__end") == "done"
    chunks = page.evaluate("window.__chunks")
    last = chunks[-1]
    assert "".join(chunk["delta"] for chunk in chunks) == last["text"]
    assert (chunks[0]["provider"], last["provider"], last["segments"]) == ("cloud", "local", 2)
    (handover,) = events(page, "hybrid-llm:handover")
    assert (handover["from"], handover["to"]) == ("cloud", "local")
    assert last["text"][: handover["atChars"]] == "".join(chunk["delta"] for chunk in chunks if chunk["segment"] == 0)


def test_both_dead(doomed: tuple[Served, Page]) -> None:
    """Neither side is left: one typed error, no final chunk, and all that was shown is in it; the page lives on."""
    served, page = doomed
    page.evaluate("ModuleLoader.getModule('LocalLLM').then((L) => L.api.unload())")
    shown = stream(page, "both-died")
    kill_house(served)
    until(lambda: page.evaluate("window.__end"), timeout=180, what="the end")
    end, chunks = page.evaluate("window.__end"), page.evaluate("window.__chunks")
    assert end.split(":")[0] in {"GatewayError", "CloudUnavailableError"}, end
    assert not [chunk for chunk in chunks if chunk["done"]]
    assert chunks[-1]["text"].startswith(shown)
    status = page.evaluate("ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.getStatus())")
    assert status["active"] == 0
