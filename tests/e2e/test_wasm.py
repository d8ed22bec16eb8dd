"""A browser without WebGPU runs the model all the same, on its processor: llama.cpp in WebAssembly, in the real page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybr_testing import attribute, events, kill_worker, load_model, until, wait_local

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr_testing import Served, Watch
    from playwright.sync_api import Page

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


def test_tiny_is_not_offered(visit_without_webgpu: Callable[..., tuple[Page, Watch]], served: Served) -> None:
    """A model without a GGUF does not fit, with the reason; one with it does, at the GGUF's size."""
    served.wait_built("tiny")
    page, _ = visit_without_webgpu("/")
    models = page.evaluate("ModuleLoader.getModule('LocalLLM').then((L) => L.api.getAvailableModels())")
    fits = {model["id"]: model["fits"] for model in models}
    assert fits["tiny"]["fits"] is False
    assert "WebGPU only" in fits["tiny"]["reason"]
    assert fits[MODEL] == {"fits": True, "reason": ""}
    (smollm,) = (model for model in models if model["id"] == MODEL)
    assert smollm["bytes"] == smollm["gguf"]["bytes"]


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
