"""A browser without WebGPU runs the model all the same, on its processor: llama.cpp in WebAssembly, in the real page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hybr_testing import RECORDER, Watch, attribute, events, kill_worker, load_model, until, wait_core, wait_local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hybr_testing import Served
    from playwright.sync_api import Browser, Page

MODEL = "smollm2-135m"
ASK = "What is the capital of France?"
LONG = "Tell me a very long story about a lighthouse keeper and the sea."
STREAM = """async ([prompt, options]) => {
    const H = await ModuleLoader.getModule('HybridLLMProvider');
    window.__deltas = []; window.__last = null; window.__failed = null; window.__control = new AbortController();
    window.__run = (async () => {
        try {
            for await (const chunk of H.api.stream([{role: 'user', content: prompt}], {...options, signal: __control.signal})) {
                window.__deltas.push(chunk.delta);
                if (chunk.done) window.__last = chunk;
            }
        } catch (error) { window.__failed = {name: error.name, code: error.code, message: error.message}; }
    })(); }"""


def asked_server(watch: Watch) -> list[str]:
    """Return the requests that went to the cloud side."""
    return [url for url in watch.requests if "/v1/chat" in url]


def complete(page: Page, messages: list[dict[str, str]], **options: Any) -> Any:
    """Ask the local model through the page's own interface; an error comes back as its fields."""
    return page.evaluate(
        """async ([messages, options]) => { const H = await ModuleLoader.getModule('HybridLLMProvider');
             try { return await H.api.completeLocal(messages, options); }
             catch (error) { return {failed: {name: error.name, code: error.code, message: error.message}}; } }""",
        [messages, options],
    )


def test_paris_from_the_processor(wasm_page: tuple[Page, Watch]) -> None:
    """The question is answered by the local provider on runtime wasm, streamed, and nothing is asked of the server."""
    page, watch = wasm_page
    assert page.evaluate("LocalLLM => ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.setMode('local'))") is True
    status = {name: attribute(page, "local-status", f"data-{name}") for name in ("state", "runtime", "webgpu", "model")}
    assert status == {"state": "ready", "runtime": "wasm", "webgpu": "no", "model": MODEL}
    assert "No WebGPU here, so the model runs on the processor" in page.get_by_test_id("local-status").first.inner_text()
    assert events(page, "local-llm:ready")[-1]["runtime"] == "wasm"
    page.get_by_test_id("composer").fill(ASK)
    page.get_by_test_id("composer").press("Enter")
    reply = page.locator("[data-testid=message][data-role=assistant]").last
    until(lambda: reply.get_attribute("data-state") == "done", timeout=120, what="reply")
    assert "Paris" in reply.inner_text()
    assert reply.get_attribute("data-provider") == "local"
    assert asked_server(watch) == []
    assert any("/vendor/wllama/wllama.wasm" in url for url in watch.requests)
    assert not any("/vendor/web-llm/" in url for url in watch.requests)


def test_the_options_are_honoured(wasm_page: tuple[Page, Watch]) -> None:
    """Greedy twice is the same text; max_tokens ends with length, stop before its word; usage and rates are told."""
    page, _ = wasm_page
    messages = [{"role": "user", "content": ASK}]
    first, second = (complete(page, messages, temperature=0, maxOutputTokens=24) for _ in range(2))
    assert first["text"] == second["text"]
    short = complete(page, messages, temperature=0, maxOutputTokens=3)
    assert (short["finishReason"], short["usage"]["completionTokens"]) == ("length", 3)
    assert first["text"].startswith(short["text"])
    stopped = complete(page, messages, temperature=0, maxOutputTokens=24, stop=["Paris"])
    assert "Paris" in first["text"]
    assert stopped["text"] == first["text"].split("Paris")[0]
    assert stopped["finishReason"] == "stop"
    assert first["usage"]["promptTokens"] == second["usage"]["promptTokens"] > 10
    assert first["timings"]["decodeTps"] > 0
    open_ended = [{"role": "user", "content": LONG}]
    seeded = [complete(page, open_ended, temperature=1, maxOutputTokens=16, seed=seed)["text"] for seed in (7, 7, 8)]
    assert seeded[0] == seeded[1] != seeded[2]


def test_the_context_overflows_as_the_typed_error(wasm_page: tuple[Page, Watch]) -> None:
    """A prompt beyond the window is the same error as WebLLM's, and the engine goes on afterwards."""
    page, _ = wasm_page
    failed = complete(page, [{"role": "user", "content": "sea " * 4000}])["failed"]
    assert failed["code"] == "context_overflow", failed
    assert complete(page, [{"role": "user", "content": ASK}], temperature=0, maxOutputTokens=4)["text"]


def test_a_stop_in_the_middle_ends_it(wasm_page: tuple[Page, Watch]) -> None:
    """The stream ends as stopped, what was shown stays, no fallback follows, and the engine is free at once."""
    page, watch = wasm_page
    page.evaluate("LocalLLM => ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.setMode('local'))")
    page.evaluate(STREAM, [LONG, {"maxOutputTokens": 800}])
    until(lambda: page.evaluate("window.__deltas.length") >= 5, timeout=60, what="some deltas")
    page.evaluate("window.__control.abort()")
    page.evaluate("window.__run")
    assert page.evaluate("window.__failed.name") in {"AbortError", "Aborted"}
    count = page.evaluate("window.__deltas.length")
    assert complete(page, [{"role": "user", "content": ASK}], temperature=0, maxOutputTokens=2)["text"]
    assert page.evaluate("window.__deltas.length") == count
    assert events(page, "hybrid-llm:fallback") == []
    assert asked_server(watch) == []


def test_reload_then_death_in_the_middle(visit_without_webgpu: Callable[..., tuple[Page, Watch]], served: Served) -> None:
    """Reloaded, the page has the model again without a download; its worker killed mid-answer, the server ends the sentence."""
    served.wait_built(MODEL)
    page, watch = visit_without_webgpu("/?mode=local")
    load_model(page, MODEL)
    before = len(watch.requests)
    page.goto(page.url.split("?")[0])
    wait_local(page)
    assert attribute(page, "local-status", "data-runtime") == "wasm"
    assert [url for url in watch.requests[before:] if ".gguf" in url] == []
    until(lambda: attribute(page, "mode", "data-mode") == "local", timeout=30, what="mode local")
    page.evaluate(STREAM, [LONG, {"temperature": 0, "maxOutputTokens": 120}])
    until(lambda: page.evaluate("window.__deltas.length") >= 5, timeout=60, what="some deltas")
    kill_worker(page, "engine")
    page.evaluate("window.__run")
    assert page.evaluate("window.__failed") is None
    assert len(events(page, "hybrid-llm:handover")) == 1
    last = page.evaluate("({provider: __last.provider, text: __last.text, told: __deltas.join('')})")
    assert last["provider"] == "cloud"
    assert last["text"] == last["told"]
    wait_local(page)  # repaired in the background


def test_one_list_for_both_runtimes(visit_without_webgpu: Callable[..., tuple[Page, Watch]], served: Served) -> None:
    """Every model with a GGUF fits, at the GGUF's size, and the entry says which file that is."""
    for model in ("tiny", MODEL):
        served.wait_built(model)
    page, _ = visit_without_webgpu("/")
    models = page.evaluate("ModuleLoader.getModule('LocalLLM').then((L) => L.api.getAvailableModels())")
    for model in models:
        if model["id"] in {"tiny", MODEL}:
            assert (model["fits"]["fits"], model["fits"]["reason"]) == (True, "")
            assert model["bytes"] == model["gguf"]["bytes"]
            assert len(model["gguf"]["sha256"]) == 64


@pytest.fixture(scope="module")
def tiny_wasm(served: Served, chromium_without_webgpu: Browser) -> Iterator[tuple[Page, Watch]]:
    """A page without WebGPU and with `tiny` on the processor, shared by the tests that leave it ready."""
    served.wait_built("tiny")
    watch = Watch(served.url)
    context = chromium_without_webgpu.new_context()
    context.add_init_script(RECORDER)
    watch.attach(context)
    page = context.new_page()
    page.goto(served.url + "/")
    wait_core(page)
    assert page.evaluate("ModuleLoader.getModule('LocalLLM').then((L) => L.api.init('tiny'))") is True
    yield page, watch
    context.close()
    watch.check()


def test_local_only_private_and_offline_hold(tiny_wasm: tuple[Page, Watch]) -> None:
    """Each is answered in the browser with nothing asked of the server, the last with the network gone."""
    page, watch = tiny_wasm
    ask = [{"role": "user", "content": "hi"}]
    set_mode = "(mode) => ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.setMode(mode))"
    complete_any = (
        """async ([messages, options]) => (await ModuleLoader.getModule('HybridLLMProvider')).api.complete(messages, options)"""
    )
    short = {"maxOutputTokens": 4}
    for mode, options in (("local-only", short), ("local", {**short, "private": True}), ("local", short)):
        assert page.evaluate(set_mode, mode) is True
        assert page.evaluate(complete_any, [ask, options])["provider"] == "local"
    page.context.set_offline(True)
    try:
        assert page.evaluate(complete_any, [ask, short])["provider"] == "local"
    finally:
        page.context.set_offline(False)
    assert asked_server(watch) == []


def test_stops_at_any_moment(tiny_wasm: tuple[Page, Watch]) -> None:
    """Stopped at whatever moment, an answer ends as stopped, no chunk follows, and the next one begins at once."""
    page, watch = tiny_wasm
    outcome = page.evaluate(
        """async (count) => {
             const H = await ModuleLoader.getModule('HybridLLMProvider');
             const ask = [{role: 'user', content: 'hi'}], ends = {};
             for (let index = 0; index < count; index += 1) {
               const stop = new AbortController();
               setTimeout(() => stop.abort(), (index * 37) % 90);
               let end = 'done';
               try {
                 for await (const chunk of H.api.stream(ask, {maxOutputTokens: 300, signal: stop.signal}))
                   if (stop.signal.aborted) end = 'late';
               } catch (error) { if (end !== 'late') end = error.name; }
               ends[end] = (ends[end] || 0) + 1;
             }
             const after = await H.api.completeLocal(ask, {maxOutputTokens: 2});
             return {ends, tokens: after.usage.completionTokens, active: (await H.api.getStatus()).active}; }""",
        60,
    )
    assert set(outcome["ends"]) <= {"Aborted", "done"}, outcome
    assert outcome["ends"]["Aborted"] > 5, "a fast machine has answered before most stops"
    assert (outcome["tokens"], outcome["active"]) == (2, 0)
    assert asked_server(watch) == []


def test_death_before_the_first_token(visit_without_webgpu: Callable[..., tuple[Page, Watch]], served: Served) -> None:
    """The worker killed before it said anything: the server answers from the start, as a fallback, and the model comes back."""
    served.wait_built("tiny")
    page, _ = visit_without_webgpu("/")
    assert page.evaluate("ModuleLoader.getModule('LocalLLM').then((L) => L.api.init('tiny'))") is True
    assert page.evaluate("ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.setMode('local'))") is True
    page.evaluate("""async () => { // the engine hears of the question only after it is dead
        const H = await ModuleLoader.getModule('HybridLLMProvider');
        window.__answer = H.api.complete([{role: 'user', content: 'x'.repeat(900)}], {maxOutputTokens: 8}); }""")
    kill_worker(page, "engine")
    answer = page.evaluate("window.__answer")
    assert answer["provider"] == "cloud"
    assert len(events(page, "hybrid-llm:fallback")) == 1
    wait_local(page)
    assert attribute(page, "local-status", "data-runtime") == "wasm"


def test_a_download_is_cancelled_and_taken_up(visit_without_webgpu: Callable[..., tuple[Page, Watch]], served: Served) -> None:
    """Cancelled while the file travels: unloaded; the next load goes on from the pieces that are here, and is ready."""
    served.wait_built(MODEL)
    page, watch = visit_without_webgpu("/")
    until(lambda: page.get_by_test_id("model-option").count() > 0, timeout=120, what="the models")
    page.locator(f"[data-testid=model-option][data-model='{MODEL}']").first.click()
    page.get_by_test_id("load-model").first.click()
    pieces = "caches.open('hybr/pieces').then((cache) => cache.keys()).then((keys) => keys.length)"
    until(lambda: page.evaluate(pieces) > 0, timeout=60, what="a piece", every=0.01)
    page.evaluate("ModuleLoader.getModule('LocalLLM').then((L) => L.api.cancelLoad())")
    wait_local(page, "unloaded")
    load_model(page, MODEL)
    gguf = [url for url in watch.requests if url.endswith(".gguf")]
    assert len(gguf) == 2
    assert page.evaluate(pieces) == 0


def test_the_person_chooses_in_the_panel(visit: Callable[..., tuple[Page, Watch]]) -> None:
    """The control shows what is in force and why; choosing the processor takes effect at once and is there after a reload."""
    page, _ = visit("/")
    until(lambda: attribute(page, "local-status", "data-webgpu") == "yes", timeout=120, what="the preflight")
    control = page.get_by_test_id("runtime")
    assert (control.input_value(), control.get_attribute("data-why")) == ("auto", "webgpu")
    control.select_option("wasm")
    until(lambda: attribute(page, "local-status", "data-runtime") == "wasm", timeout=30, what="runtime wasm")
    until(lambda: control.get_attribute("data-why") == "wished", timeout=30, what="the reason")
    page.reload()
    until(lambda: attribute(page, "local-status", "data-runtime") == "wasm", timeout=120, what="runtime wasm")
    assert page.get_by_test_id("runtime").input_value() == "wasm"
    page.get_by_test_id("runtime").select_option("auto")
    until(lambda: attribute(page, "local-status", "data-runtime") == "webgpu", timeout=30, what="runtime webgpu")


def test_the_preference_forces_it(visit: Callable[..., tuple[Page, Watch]]) -> None:
    """With WebGPU at hand WebLLM is chosen; `?runtime=wasm` and the stored preference put llama.cpp in its place."""
    page, _ = visit("/?runtime=wasm")
    until(lambda: attribute(page, "local-status", "data-webgpu") == "yes", timeout=120, what="the preflight")
    assert attribute(page, "local-status", "data-runtime") == "wasm"
    page, _ = visit("/")
    until(lambda: attribute(page, "local-status", "data-webgpu") == "yes", timeout=120, what="the preflight")
    assert attribute(page, "local-status", "data-runtime") == "webgpu"
    prefer = "(wish) => ModuleLoader.getModule('LocalLLM').then((L) => L.api.setRuntime(wish))"
    assert page.evaluate(prefer, "abacus") is False
    assert page.evaluate(prefer, "wasm") is True
    page.reload()
    until(lambda: attribute(page, "local-status", "data-runtime") == "wasm", timeout=120, what="runtime wasm")
    assert page.evaluate(prefer, "auto") is True


def test_the_local_only_document(visit_without_webgpu: Callable[..., tuple[Page, Watch]], served: Served) -> None:
    """`/local`, whose policy lets nothing out, loads the model on the processor all the same, and answers."""
    served.wait_built("tiny")
    page, watch = visit_without_webgpu("/local")
    wait_core(page)
    assert page.evaluate("ModuleLoader.getModule('LocalLLM').then((L) => L.api.init('tiny'))") is True
    assert attribute(page, "local-status", "data-runtime") == "wasm"
    assert complete(page, [{"role": "user", "content": "hi"}], maxOutputTokens=4)["provider"] == "local"
    assert page.evaluate("window.__violations") == []
    assert not [url for url in watch.requests if "/v1/" in url or "/api/" in url]
