"""The real llama.cpp in WebAssembly with the real `tiny` in the real worker: WebLLM's manners, stops and errors."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
from engine_desk import Bench, Desk, Model
from hybr_testing import Watch, until
from llamacpp import LlamaCpp

from hybr.mlc_build import checkpoint, rewrite, tiny

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

pytestmark = pytest.mark.models
WORKER = "/js/engine/engine.worker.js"
ASK = [{"role": "user", "content": "Once upon a time"}]
SHOWN = "<|im_start|>user\nOnce upon a time<|im_end|>\n<|im_start|>assistant\n"
FIRST = len(tiny.SPECIALS)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny` as a GGUF file, as the compiler writes it."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    rewrite.write(checkpoint.open_seeded(), tiny.tensors(), path)
    return path


@pytest.fixture(scope="module")
def model(weights: Path) -> Model:
    """`tiny` on the shelf, for llama.cpp only."""
    return Model("tiny", {"tiny.gguf": weights.read_bytes()}, gguf="tiny.gguf")


def load_args(desk: Desk, model: Model) -> dict[str, Any]:
    """The arguments of a load on the processor."""
    return {"model": {**desk.add(model), "context": 512}, "runtime": "wasm"}


@pytest.fixture(scope="module")
def loaded(model: Model, desk_server: tuple[Desk, str], engine_browser: Browser) -> Iterator[Bench]:
    """One page with `tiny` in llama.cpp, for the tests that leave it as it was."""
    desk, url = desk_server
    desk.clear()
    context = engine_browser.new_context()
    watch = Watch(url)
    watch.attach(context)
    page = context.new_page()
    page.goto(url + "/pages/blank.html")
    page.evaluate("async (worker) => { window.bench = await import('/pages/bench.js'); await bench.begin(worker); }", WORKER)
    bench = Bench(page, watch)
    answer = bench.call("load", load_args(desk, model))
    assert (answer.get("model"), answer.get("profile"), answer.get("gpu")) == ("tiny", "wasm", None), answer
    yield bench
    watch.check()
    assert watch.foreign() == []
    context.close()


def ask(request_id: str, messages: list[dict[str, Any]] | None = None, **options: Any) -> dict[str, Any]:
    """The arguments of a greedy chat."""
    return {"requestId": request_id, "messages": messages or ASK, "options": {"temperature": 0, "max_tokens": 24, **options}}


def said(bench: Bench, name: str = "last") -> str:
    """What the deltas add up to."""
    return "".join(event["delta"] for event in bench.events(name) if event["type"] == "delta")


def test_greedy_is_what_native_llama_cpp_says(loaded: Bench, weights: Path) -> None:
    """The page's text, token by token, is that of llama.cpp itself on the text that WebLLM's template gives."""
    native = LlamaCpp(weights)
    tokens, told = native.tokens(SHOWN), []
    prompt = len(tokens)
    for _ in range(24):
        token = native.next(tokens, 1)[0][0]
        told.append(token)
        tokens.append(token)
    assert all(token >= FIRST for token in told)
    result = loaded.call("chat", ask("greedy"))
    assert result["text"] == said(loaded) == bytes(token - FIRST for token in told).decode()
    assert result["finishReason"] == "length"
    assert result["usage"] == {"promptTokens": prompt, "completionTokens": 24, "totalTokens": prompt + 24}
    assert result["timings"]["decodeTps"] > 0
    assert 0 <= result["timings"]["ttftMs"] <= result["timings"]["totalMs"]


def test_a_stop_string_ends_before_it(loaded: Bench) -> None:
    """The text ends just before the stop string, reason `stop`, and no delta showed a piece of it."""
    whole = loaded.call("chat", ask("whole"))["text"]
    word = whole[8:11]
    result = loaded.call("chat", ask("stopped", stop=[word]))
    assert result["finishReason"] == "stop"
    assert result["text"] == said(loaded) == whole[: whole.index(word)]


def test_a_seed_repeats_and_another_does_not(loaded: Bench) -> None:
    """At a high temperature one seed gives one text; what is beyond 32 bits is folded, not refused."""
    texts = [loaded.call("chat", ask(f"s{i}", temperature=1.5, seed=seed))["text"] for i, seed in enumerate((3, 3, 4, 2**40, -1))]
    assert texts[0] == texts[1] != texts[2]
    assert all(texts)


def test_logprobs_have_openais_form(loaded: Bench) -> None:
    """One entry a token, each with its alternatives, never above zero; absent when nobody asked."""
    result = loaded.call("chat", ask("logprobs", logprobs=True, top_logprobs=2, max_tokens=5))
    assert len(result["logprobs"]) == 5
    for item in result["logprobs"]:
        assert item["logprob"] <= 0
        assert len(item["top_logprobs"]) == 2
        assert {"token", "logprob", "bytes"} <= set(item)
    assert "logprobs" not in loaded.call("chat", ask("plain", max_tokens=2))


SCHEMA = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"], "additionalProperties": False}
FORMS = [
    ({"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}, lambda text: json.loads(text)["a"] in {"x", "y"}),
    ({"type": "json_object", "schema": json.dumps(SCHEMA)}, lambda text: json.loads(text)["a"] in {"x", "y"}),
    ({"type": "grammar", "grammar": 'root ::= "yes" | "no"'}, lambda text: text in {"yes", "no"}),
]


@pytest.mark.parametrize(("form", "fits"), FORMS)
def test_a_response_format_is_obeyed(loaded: Bench, form: dict[str, Any], fits: Callable[[str], bool]) -> None:
    """A model of random weights answers in the asked form, which only a grammar can make it do."""
    result = loaded.call("chat", ask(f"form {form}", response_format=form, max_tokens=60))
    assert fits(result["text"]), result
    assert result["finishReason"] == "stop"


WRONG = [
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, ASK, "UnsupportedModelIdError"),
    (
        {},
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}],
        "UserMessageContentErrorForNonVLM",
    ),
    ({"response_format": {"type": "json_schema"}}, ASK, "InvalidResponseFormatError"),
    ({}, [], "MessageOrderError"),
]


@pytest.mark.parametrize(("options", "messages", "name"), WRONG)
def test_what_it_cannot_do_is_refused_by_name(
    loaded: Bench, options: dict[str, Any], messages: list[dict[str, Any]], name: str
) -> None:
    """Tools, images and nonsense are the same typed errors as WebLLM's, before the model is asked; it goes on afterwards."""
    failed = loaded.call("chat", {"requestId": name, "messages": messages, "options": options})["failed"]
    assert (failed["name"], failed["phase"]) == (name, "validate")
    assert loaded.call("chat", ask(f"after {name}", max_tokens=2))["text"]


def test_too_long_a_prompt_is_the_context_error(loaded: Bench) -> None:
    """More tokens than the window is ContextWindowSizeExceededError, and the engine goes on."""
    failed = loaded.call("chat", ask("long", [{"role": "user", "content": "x" * 600}]))["failed"]
    assert failed["name"] == "ContextWindowSizeExceededError"
    assert loaded.call("chat", ask("after", max_tokens=2))["text"]


def test_an_answer_that_fills_the_window_ends_with_length(loaded: Bench) -> None:
    """Nothing is shifted out of the window behind the person's back: the answer ends, and says why."""
    result = loaded.call("chat", ask("full", max_tokens=2000))
    assert result["finishReason"] == "length"
    assert result["usage"]["totalTokens"] <= 512


def test_a_stop_frees_the_engine_at_once(loaded: Bench) -> None:
    """The stopped chat keeps its text and reason `abort`; the queued one begins then; one stopped in the queue never does."""
    for name in ("running", "queued", "left"):
        loaded.start(name, "chat", ask(name, max_tokens=400 if name == "running" else 4, temperature=1))
    until(lambda: len(loaded.events("running")) >= 3, timeout=30, what="some deltas")
    loaded.page.evaluate("bench.stop('left'); bench.stop('running')")
    running, queued, left = (loaded.end(name) for name in ("running", "queued", "left"))
    assert (running["finishReason"], left["finishReason"]) == ("abort", "abort")
    assert running["text"] == said(loaded, "running")
    assert running["usage"]["completionTokens"] < 400
    assert (left["text"], queued["usage"]["completionTokens"]) == ("", 4)
    assert loaded.call("status")["queued"] == 0


def test_unload_ends_what_runs_and_frees(open_bench: Callable[..., Bench], desk: Desk, model: Model) -> None:
    """Unloading in the middle of an answer ends it as aborted; a later load brings the model back without a download."""
    bench = open_bench(WORKER)
    assert bench.call("load", load_args(desk, model))["model"] == "tiny"
    bench.start("chat", "chat", ask("c", max_tokens=400, temperature=1))
    until(lambda: len(bench.events("chat")) >= 2, timeout=30, what="some deltas")
    assert bench.call("unload") == {"unloaded": "tiny"}
    assert bench.end("chat")["finishReason"] == "abort"
    assert bench.call("chat", ask("d"))["failed"]["name"] == "ModelNotLoadedError"
    assert bench.call("load", load_args(desk, model))["downloadedBytes"] == 0
    assert desk.downloads() == ["tiny.gguf"]
    assert not any("/vendor/web-llm/" in path or "/vendor/wllama-compat/" in path for path in desk.asked)


def test_a_damaged_download_is_not_kept(open_bench: Callable[..., Bench], desk: Desk, model: Model) -> None:
    """A cut connection is tried again; a wrong byte is IntegrityError, nothing of it stays; the next load is whole."""
    bench = open_bench(WORKER)
    desk.fault("tiny.gguf", "flip")
    assert bench.call("load", load_args(desk, model))["failed"]["name"] == "IntegrityError"
    assert bench.page.evaluate("bench.keys('hybr/gguf')") == []
    desk.fault("tiny.gguf", "cut", "")
    assert bench.call("load", load_args(desk, model))["model"] == "tiny"
    assert bench.page.evaluate("bench.keys('hybr/gguf')") == ["tiny.gguf"]


def test_a_cancelled_download_is_begun_again(open_bench: Callable[..., Bench], desk: Desk, model: Model) -> None:
    """Cancelling while the file travels rejects with AbortError at once; the next load works; each runtime lists its own."""
    bench = open_bench(WORKER)
    desk.fault("tiny.gguf", "stall")
    bench.start("load", "load", load_args(desk, model))
    until(lambda: "tiny.gguf" in desk.downloads(), timeout=30, what="the download")
    assert bench.call("cancel-load") == {"cancelled": True}
    assert bench.end("load")["failed"]["name"] == "AbortError"
    assert bench.call("status")["state"] == "empty"
    desk.release.set()
    assert bench.call("load", load_args(desk, model))["model"] == "tiny"
    assert [item["id"] for item in bench.call("cached", {"runtime": "wasm"})["models"]] == ["tiny"]
    assert bench.call("cached", {"runtime": "webgpu"})["models"] == []
    assert bench.call("delete", {"id": "tiny"})["bytes"] == len(model.files["tiny.gguf"])
    assert bench.call("cached", {})["models"] == []


def test_a_long_file_goes_on_where_it_was_cut(open_bench: Callable[..., Bench], desk: Desk) -> None:
    """Cut in the middle, only the rest is asked for; cancelled and begun again, too; the whole is checked, and no piece stays."""
    bench = open_bench(WORKER)
    junk = Model("junk", {"junk.gguf": bytes(range(256)) * (60 << 12)}, gguf="junk.gguf")  # 60 MiB
    desk.fault("junk.gguf", "cut", "stall")
    bench.start("load", "load", load_args(desk, junk))
    until(lambda: len(desk.ranges) == 1, timeout=60, what="the second request")
    kept = int(desk.ranges[0].removeprefix("bytes=").removesuffix("-"))  # a reset loses what the browser had not read yet
    assert 0 < kept <= 30 << 20
    assert kept % (8 << 20) == 0
    assert bench.call("cancel-load") == {"cancelled": True}
    assert bench.end("load")["failed"]["name"] == "AbortError"
    desk.release.set()
    assert bench.call("load", load_args(desk, junk))["failed"]["name"] == "ModelLoadError"  # whole, and no model
    assert desk.ranges[1:] == desk.ranges[:1]
    assert bench.page.evaluate("bench.keys('hybr/gguf')") == ["junk.gguf"]
    assert bench.page.evaluate("bench.keys('hybr/pieces')") == []


def test_a_file_that_is_no_model_is_an_error_of_the_load(open_bench: Callable[..., Bench], desk: Desk) -> None:
    """llama.cpp's refusal of a GGUF is told as a failure of the load, and the worker takes the next model."""
    bench = open_bench(WORKER)
    junk = Model("junk", {"junk.gguf": b"GGUF" + struct.pack("<IQQ", 3, 0, 0)}, gguf="junk.gguf")
    failed = bench.call("load", load_args(desk, junk))["failed"]
    assert failed["phase"] in {"load", "worker"}, failed
    assert bench.call("status")["model"] is None


def test_an_old_browser_gets_the_other_build(open_bench: Callable[..., Bench], desk: Desk, model: Model, loaded: Bench) -> None:
    """Without 64-bit memory (Safari) the compatible build is fetched, from here, and says the same."""
    bench = open_bench("/pages/old.worker.js")
    assert bench.call("load", load_args(desk, model))["model"] == "tiny"
    assert "/vendor/wllama-compat/wllama.wasm" in desk.asked
    assert "/vendor/wllama/wllama.wasm" not in desk.asked
    assert bench.call("chat", ask("old"))["text"] == loaded.call("chat", ask("new"))["text"]


def test_one_thread_without_isolation(open_bench: Callable[..., Bench], desk: Desk, model: Model) -> None:
    """A page that is not cross-origin isolated has no shared memory: one thread, and it works."""
    desk.isolated = False
    bench = open_bench(WORKER)
    assert bench.page.evaluate("crossOriginIsolated") is False
    assert bench.call("load", load_args(desk, model))["threads"] == 1
    assert bench.call("chat", ask("one", max_tokens=2))["text"]


THREADS = [(1, True, 1), (2, True, 2), (4, True, 3), (8, True, 4), (64, True, 8), (8, False, 1)]


@pytest.mark.parametrize(("cores", "isolated", "threads"), THREADS)
def test_threads_leave_the_page_room(loaded: Bench, cores: int, isolated: bool, threads: int) -> None:
    """Fewer threads than cores from three cores on; one where the page is not isolated."""
    ask_module = "async (device) => (await import('/js/engine/wasm.js')).threads(device)"
    assert loaded.page.evaluate(ask_module, {"cores": cores, "isolated": isolated}) == threads


def test_a_dead_llama_cpp_ends_the_answer_and_is_told_once(loaded: Bench) -> None:
    """Its own worker's failure in the middle of an answer is EngineDeadError for the answer and one call of `onCrash`."""
    outcome = loaded.page.evaluate("""async () => {
        const {wasm} = await import('/js/engine/wasm.js');
        let logger;
        class Wllama {
          constructor(paths, config) { logger = config.logger; }
          setCompat() {}
          async loadModel() {}
          async exit() {}
          getNumThreads() { return 1; }
          getLoadedContextInfo() { return {n_vocab: 3}; }
          async createChatCompletion() {
            return (async function* () {
              yield {choices: [{index: 0, delta: {content: 'half'}, finish_reason: null}]};
              setTimeout(() => logger.error(new ErrorEvent('error', {message: 'memory access out of bounds'})));
              await new Promise(() => {});
            })();
          }
        }
        const crashes = [];
        const engine = await wasm({Wllama}).start(new Blob(['x']), {context: 8}, (error) => crashes.push(error.name));
        const heard = [];
        try {
          for await (const chunk of await engine.chat.completions.create({messages: [{role: 'user', content: 'x'}]}))
            heard.push(chunk.choices[0].delta.content);
        } catch (error) { return {heard, crashes, name: error.name, phase: error.phase}; }
      }""")
    assert outcome == {"heard": ["half"], "crashes": ["EngineDeadError"], "name": "EngineDeadError", "phase": "worker"}
