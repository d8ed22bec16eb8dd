"""What scripts and tests may rely on in the page, name by name: methods, options, events, results, chunks, errors, elements.

Engine and upstream follow a script (webapp/faults), so that a fallback, a handover and a failure each happen; the page is the
real one. What each thing does is tested elsewhere: here it is that nothing of the contract is missing.
"""

from __future__ import annotations

import json
import urllib.parse
from typing import TYPE_CHECKING, Any

import pytest
from hybr_testing import RECORDER, attribute, events, serve, until, wait_core, wait_local

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

SCRIPT: dict[str, Any] = {
    "local": [
        ["The ", "capital ", {"fail": ["DeviceLostError", "The device was lost.", "decode"]}],
        [{"fail": ["ContextWindowSizeExceededError", "Prompt tokens exceed context window size", "prefill"]}],
    ],
    "cloud": [["capital of France", " is ", "Paris."], ["Paris."]],
}
HYBRID = {
    "setMode", "getMode", "isLocalAvailable", "complete", "completeLocal", "completeCloud", "stream", "abort", "getStatus",
    "getAutoSwitchConfig", "getUsageStats", "generateWithModel",
}  # fmt: skip
LOCAL = {"init", "getAvailableModels", "getStatus", "switchModel", "unload", "isReady", "getRuntimeInfo"}
USAGE = {"promptTokens", "completionTokens", "totalTokens"}
TIMINGS = {"ttftMs", "totalMs", "prefillTps", "decodeTps"}
RESULT = {
    "text", "provider", "model", "usage", "finishReason", "timings", "fallback", "cost", "egress", "elapsed", "tokensPerSecond",
}  # fmt: skip
CHUNK = {"delta", "text", "done", "provider", "segment"}
# One value that is right and one that is not; a signal that is none never reaches Python.
OPTIONS: dict[str, tuple[Any, Any]] = {
    "temperature": (0.5, "hot"),
    "maxOutputTokens": (5, -1),
    "topP": (0.9, 2),
    "stop": (["\n"], 3),
    "seed": (7, "x"),
    "responseFormat": ({"type": "json_object"}, 3),
    "tools": ([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}], "f"),
    "requestId": ("mine", 3),
    "private": (False, "no"),
    "model": ("scripted", 3),
    "timeoutMs": (60_000, -1),
    "signal": (None, 3),
}
DETAILS = {
    "hybrid-llm:mode-changed": {"from", "to", "manual", "mode"},
    "hybrid-llm:fallback": {"from", "to", "error", "requestId"},
    "hybrid-llm:handover": {"from", "to", "cause", "atChars", "requestId"},
    "hybrid-llm:complete": {"provider", "model", "usage", "timings", "cost", "requestId"},
    "local-llm:loading": {"model", "progress"},
    "local-llm:progress": {"model", "progress", "loadedBytes", "totalBytes", "text"},
    "local-llm:ready": {"model", "runtime", "gpu"},
    "local-llm:error": {"error"},
    "local-llm:unloaded": {"model", "reason"},
}
# By test id: its attributes, each with the values that it may have (None: any text).
ELEMENTS: dict[str, dict[str, set[str] | None]] = {
    "composer": {},
    "send": {},
    "stop": {},
    "mode": {"data-mode": {"local", "cloud", "auto", "local-only", "cloud-only"}},
    "mode-local": {},
    "mode-cloud": {},
    "mode-auto": {},
    "mode-local-only": {},
    "mode-cloud-only": {},
    "local-status": {
        "data-state": {"unsupported", "unloaded", "loading", "ready", "error"},
        "data-runtime": {"webgpu", "wasm"},
        "data-webgpu": {"yes", "no"},
        "data-model": {"scripted"},
    },
    "model-picker": {},
    "model-option": {"data-model": {"scripted"}, "data-fits": {"yes", "no"}, "data-cached": {"yes", "no"}},
    "load-model": {"data-model": {"scripted"}},
    "cancel-load": {},
    "delete-model": {"data-model": {"scripted"}},
    "load-progress": {"aria-valuenow": None},
    "message": {
        "data-role": {"user", "assistant"},
        "data-state": {"streaming", "done", "stopped", "error"},
    },
    "new-conversation": {},
    "conversation": {"data-id": None},
    "search-history": {},
    "stats": {},
    "settings": {},
    "telemetry": {},
    "egress-log": {},
}
SURFACE = """async () => {
  const [H, L] = [await ModuleLoader.getModule('HybridLLMProvider'), await ModuleLoader.getModule('LocalLLM')];
  const functions = (object) => Object.keys(object).filter((name) => typeof object[name] === 'function');
  const bus = [typeof EventBus.on, typeof EventBus.off];
  return {hybrid: functions(H.api), local: functions(L.api), init: typeof H.init, bus}; }"""
STREAM = """async () => {
  const H = await ModuleLoader.getModule('HybridLLMProvider');
  const chunks = [];
  for await (const chunk of H.api.stream([{role: 'user', content: 'hi'}], {})) chunks.push(chunk);
  return chunks; }"""
ASK = """async ([method, options]) => {
  const H = await ModuleLoader.getModule('HybridLLMProvider');
  const asked = method === 'generateWithModel' ? 'hi' : [{role: 'user', content: 'hi'}];
  try { return await H.api[method](asked, options); }
  catch (error) { return {failed: {isError: error instanceof Error, name: error.name, message: error.message, code: error.code,
    field: error.field}}; } }"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, chromium_without_webgpu: Browser) -> Iterator[Page]:
    """The page on a server that has the fault lab, with its scripted model ready and mode local, for all tests of this file."""
    folder: Path = tmp_path_factory.mktemp("contract")
    query = {"faults": json.dumps(SCRIPT), "model": "scripted", "load": "1", "mode": "local"}
    with serve(folder / "data", log=folder / "serve.log", env={"HYBR_TEST_FAULTS": "1"}) as running:
        address = running.url + "/?" + urllib.parse.urlencode(query)
        context = chromium_without_webgpu.new_context()
        context.add_init_script(RECORDER)
        context.add_init_script(
            "window.__kept = 0; navigator.storage.persist = async () => { window.__kept += 1; return true; };"
        )
        opened = context.new_page()
        opened.goto(address)
        wait_core(opened)
        wait_local(opened)
        until(lambda: attribute(opened, "mode", "data-mode") == "local", timeout=60, what="mode local")
        yield opened
        context.close()


def test_the_functions(page: Page) -> None:
    """Every method of both modules, `init`, and the event bus."""
    surface = page.evaluate(SURFACE)
    assert set(surface["hybrid"]) >= HYBRID
    assert set(surface["local"]) >= LOCAL
    assert (surface["init"], surface["bus"]) == ("function", ["function", "function"])


def test_results_chunks_and_a_change_of_provider(page: Page) -> None:
    """A handover, a fallback, a plain answer: each with all of its fields; an event comes to window and bus alike."""
    page.evaluate("window.__bus = []; EventBus.on('hybrid-llm:handover', (detail) => window.__bus.push(detail)); null")
    chunks = page.evaluate(STREAM)
    for chunk in chunks:
        assert set(chunk) >= CHUNK
    last = chunks[-1]
    assert set(last) >= CHUNK | {"usage", "timings", "cost"}
    assert [chunk["done"] for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert last["text"] == "The capital of France is Paris."
    assert page.evaluate("window.__bus") == events(page, "hybrid-llm:handover")
    assert until(lambda: attribute(page, "toast", "data-kind"), timeout=20, what="a notice") == "handover"
    wait_local(page)
    told = page.evaluate(ASK, ["complete", {}])
    assert set(told) >= RESULT
    assert (set(told["usage"]) >= USAGE, set(told["timings"]) >= TIMINGS) == (True, True)
    assert told["fallback"]["error"].keys() >= {"name", "message", "code"}
    wait_local(page)
    for method in ("completeLocal", "completeCloud", "generateWithModel"):
        assert set(page.evaluate(ASK, [method, {}])) >= RESULT, method


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option(page: Page, name: str) -> None:
    """Each option is known; a wrong value is an `Error` of that name, with a code, a message and the option's name."""
    right, wrong = OPTIONS[name]
    assert set(page.evaluate(ASK, ["complete", {name: right}])) >= RESULT
    failed = page.evaluate(ASK, ["complete", {name: wrong}])["failed"]
    assert failed["isError"]
    assert (failed["name"], failed["code"]) == ("OptionError", "invalid_option")
    assert name in failed["message"]
    assert name in failed["field"]


# What a script may hand in by mistake: as JavaScript that makes the arguments of `complete`, and the field that is told.
MISTAKES = {
    "[hi, 5]": "options",
    "[hi, 'fast']": "options",
    "[hi, [1]]": "options",
    "[hi, {temperature: NaN}]": "options.temperature",
    "[hi, {seed: 2 ** 60}]": "options.seed",
    "[hi, {maxOutputTokens: Infinity}]": "options.maxOutputTokens",
    "[hi, {stop: ['']}]": "options.stop",
    "[hi, {toolChoice: 'required'}]": "options.toolChoice",
    "[hi, {signal: AbortSignal.abort()}]": "options.signal",
    "[hi, {signal: 'x'}]": "options.signal",
    "[hi, {seed: 1n}]": None,  # no JSON: said before it leaves the caller's thread
    "[hi, {nonsense: 1}]": "options.nonsense",
    "[null]": "messages",
    "[[]]": "messages",
    "[[{role: 'user', content: 'half \\ud83d'}]]": "messages[0].content",
    "[[{role: 'user', content: 'x'.repeat(10_000_000)}]]": "messages",
    "[[{role: 'user', content: [{type: 'image_url', image_url: {url: '\\udc00'}}]}]]": "messages[0].content[0].image_url.url",
    "[[...hi, {role: 'assistant', content: null, tool_calls: [{}]}, ...hi]]": "messages[1].tool_calls[0].id",
}
MISTAKEN = """async (methods) => {
  const {api} = await ModuleLoader.getModule('HybridLLMProvider');
  const hi = [{role: 'user', content: 'hi'}];
  const before = JSON.stringify(await api.getUsageStats());
  const told = {};
  const mistakes = {%s};
  for (const [mistake, args] of Object.entries(mistakes)) for (const method of methods) {
    try {
      if (method === 'stream') for await (const chunk of api.stream(...args)) void chunk;
      else await api[method](...args);
      told[`${method} ${mistake}`] = 'no error';
    } catch (error) { told[`${method} ${mistake}`] = [error instanceof Error, error.code, error.field ?? null]; }
  }
  const untouched = before === JSON.stringify(await api.getUsageStats());
  return {told, untouched, active: (await api.getStatus()).active}; }""".replace(
    "%s", ", ".join(f"{json.dumps(mistake)}: {mistake}" for mistake in MISTAKES)
)


def test_bad_input(page: Page) -> None:
    """Each mistake is an `Error` with a code and the field's name, from a promise as from a stream; no provider is touched."""
    methods = ["complete", "stream"]
    found = page.evaluate(MISTAKEN, methods)
    wanted = {f"{method} {mistake}": field for mistake, field in MISTAKES.items() for method in methods}
    assert {name: (one[0], one[2]) if len(one) == 3 else one for name, one in found["told"].items()} == {
        name: (True, field) for name, field in wanted.items()
    }
    assert {one[1] for one in found["told"].values()} <= {"invalid_option", "invalid_messages", "invalid_request"}
    assert (found["untouched"], found["active"]) == (True, 0)


def test_two_requests_of_one_id(page: Page) -> None:
    """The second is refused by its field and the first goes on; the id is free again when it has ended."""
    ended = page.evaluate(
        """async () => {
             const {api} = await ModuleLoader.getModule('HybridLLMProvider');
             const hi = [{role: 'user', content: 'hi'}], options = {requestId: 'twice'};
             const [first, second] = await Promise.allSettled([api.completeCloud(hi, options), api.completeCloud(hi, options)]);
             const third = await api.completeCloud(hi, options);
             return [first.status, second.reason.field, third.requestId, (await api.getStatus()).active]; }"""
    )
    assert ended == ["fulfilled", "options.requestId", "twice", 0]


def test_the_browser_is_asked_to_keep_it(page: Page) -> None:
    """Once, when the model is there: it and the conversations shall not be cleared away when room gets short."""
    assert page.evaluate("window.__kept") == 1


def test_a_signal(page: Page) -> None:
    """An AbortSignal stops its request, by the name and code of a stop."""
    ended = page.evaluate(
        """async () => {
             const H = await ModuleLoader.getModule('HybridLLMProvider');
             const control = new AbortController();
             const asked = H.api.completeCloud([{role: 'user', content: 'hi'}], {signal: control.signal});
             control.abort();
             return asked.then(() => null, ({name, code}) => [name, code]); }"""
    )
    assert ended == ["Aborted", "aborted"]


def test_status(page: Page) -> None:
    """The fields of the status; the other readings answer objects."""
    status = page.evaluate("ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.getStatus())")
    assert set(status) >= {"mode", "preferredMode", "localAvailable", "cloudAvailable", "localModel", "localReady", "breaker"}
    assert (status["localModel"], status["mode"]) == ("scripted", "local")
    for name in ("getAutoSwitchConfig", "getUsageStats"):
        assert isinstance(page.evaluate(f"ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.{name}())"), dict)


def test_the_elements(page: Page) -> None:
    """Every element with every attribute, each with a value that the contract has."""
    page.get_by_test_id("composer").fill("hi")
    page.get_by_test_id("send").click()
    replies = page.locator("[data-testid=message][data-role=assistant]")
    until(lambda: replies.count() == 1 and replies.first.get_attribute("data-state") == "done", timeout=60, what="an answer")
    assert replies.first.get_attribute("data-provider") in {"local", "cloud"}
    assert replies.first.get_attribute("data-segments") == "1"
    for name, attributes in ELEMENTS.items():
        found = page.get_by_test_id(name)
        until(lambda found=found: found.count() > 0, timeout=60, what=name)  # type: ignore[misc]
        for key, values in attributes.items():
            value = found.first.get_attribute(key)
            assert value is not None, (name, key)
            assert values is None or value in values, (name, key, value)


def test_the_events(page: Page) -> None:
    """After all that, and after an unload, each event of the table has come with all of its fields; progress never goes back."""
    page.evaluate(
        """async () => {
             const [H, L] = [await ModuleLoader.getModule('HybridLLMProvider'), await ModuleLoader.getModule('LocalLLM')];
             await L.api.unload();
             return [await L.api.isReady(), await H.api.isLocalAvailable()]; }"""
    )
    for name, wanted in DETAILS.items():
        told = until(lambda name=name: events(page, name), timeout=20, what=name)  # type: ignore[misc]
        for detail in told:
            assert set(detail) >= wanted, name
    progress = [event["progress"] for event in events(page, "local-llm:progress")]
    assert all(0 <= one <= 1 for one in progress)
    changed = events(page, "hybrid-llm:mode-changed")[-1]
    assert changed["mode"] == changed["to"]
    failed = page.evaluate("ModuleLoader.getModule('LocalLLM').then((L) => L.api.init('nonsense'))")
    assert (failed["success"], set(failed["error"]) >= {"name", "message", "code"}) == (False, True)
