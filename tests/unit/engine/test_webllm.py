"""The real WebLLM with the real `tiny` in the real worker, under the page's policy, on the software adapter."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from engine_desk import Bench, Desk, Model
from hybr_testing import Watch, until
from shelf import built

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def tiny() -> Model:
    """`tiny` as the compiler builds it (kept in the cache: the first time takes a minute or two)."""
    folder = built("tiny")
    files = json.loads((folder / "manifest.json").read_text())["files"]
    return Model("tiny", {file["path"]: (folder / file["path"]).read_bytes() for file in files}, folder.name)


@pytest.fixture(scope="module")
def loaded(tiny: Model, desk_server: tuple[Desk, str], engine_browser: Browser) -> Iterator[Bench]:
    """One page with `tiny` in WebLLM, for all tests here: creating an engine is what takes time."""
    desk, url = desk_server
    context = engine_browser.new_context()
    watch = Watch(url)
    watch.attach(context)
    page = context.new_page()
    page.goto(url + "/pages/blank.html")
    page.evaluate(
        "async () => { window.bench = await import('/pages/bench.js'); await bench.begin('/js/engine/engine.worker.js'); }"
    )
    bench = Bench(page, watch)
    desk.clear()
    answer = bench.call("load", {"model": desk.add(tiny)})
    assert answer.get("model") == "tiny", answer
    yield bench
    watch.check()
    context.close()


def ask(bench: Bench, request_id: str, **options: Any) -> dict[str, Any]:
    """Return the arguments of a greedy chat."""
    messages = [{"role": "user", "content": "Once upon a time"}]
    return {"requestId": request_id, "messages": messages, "options": {"temperature": 0, "max_tokens": 32, **options}}


def deltas(bench: Bench, name: str = "last") -> str:
    """Return what the deltas of a chat add up to."""
    return "".join(event["delta"] for event in bench.events(name))


def test_the_load_asked_the_server_once_for_each_file_and_webllm_for_none(loaded: Bench, tiny: Model) -> None:
    """WebLLM found everything under the keys we stored it by: each needed file was requested exactly once, by us."""
    model_requests = [request.rsplit("/", 1)[1] for request in loaded.watch.requests if "/resolve/main/" in request]
    others = {"model.wasm", "model-subgroups.wasm"}  # the library for this adapter is the software one
    needed = set(tiny.files) - others - {"tiny.gguf", "tokenizer_config.json", "ndarray-cache.json", "manifest.json"}
    assert sorted(model_requests) == sorted(needed)


def test_greedy_is_the_same_each_time_and_ends_by_length(loaded: Bench) -> None:
    """Temperature 0 repeats itself to the letter; max_tokens ends it with 'length' and is counted."""
    first = loaded.call("chat", ask(loaded, "r1", seed=1))
    assert deltas(loaded) == first["text"] != ""
    assert (first["finishReason"], first["usage"]["completionTokens"]) == ("length", 32)
    assert first["timings"]["decodeTps"] > 0
    assert loaded.call("chat", ask(loaded, "r2", seed=2))["text"] == first["text"]


def test_a_seed_makes_sampling_repeatable(loaded: Bench) -> None:
    """The same seed gives the same text at temperature 1, another seed another."""
    texts = [loaded.call("chat", ask(loaded, f"s{i}", temperature=1, seed=seed))["text"] for i, seed in enumerate((5, 5, 6))]
    assert texts[0] == texts[1] != texts[2]


def test_a_stop_sequence_is_never_shown_not_even_its_beginning(loaded: Bench) -> None:
    """WebLLM streams a stop sequence's first tokens before it knows them; the deltas and the text end before it all the same."""
    whole = loaded.call("chat", ask(loaded, "r1"))["text"]
    stop = whole[6:9]
    result = loaded.call("chat", ask(loaded, "r2", stop=[stop, "never"]))
    assert result["finishReason"] == "stop"
    assert result["text"] == deltas(loaded) == whole[: whole.index(stop)]


def test_a_stop_sequence_that_does_not_come_withholds_nothing(loaded: Bench) -> None:
    """Text that only began like a stop sequence is there at the end."""
    whole = loaded.call("chat", ask(loaded, "r1"))["text"]
    result = loaded.call("chat", ask(loaded, "r2", stop=whole[-1] + "\0"))
    assert result["text"] == deltas(loaded) == whole


def test_logprobs_come_for_every_token(loaded: Bench) -> None:
    """One entry a token, with the alternatives asked for."""
    result = loaded.call("chat", ask(loaded, "r1", temperature=1, seed=3, logprobs=True, top_logprobs=2, max_tokens=8))
    assert len(result["logprobs"]) == result["usage"]["completionTokens"]
    assert all(len(entry["top_logprobs"]) == 2 and entry["logprob"] <= 0 for entry in result["logprobs"])


def test_an_abort_ends_the_stream_and_frees_the_engine(loaded: Bench) -> None:
    """Stopped at the third delta: 'abort', the text so far, and the next chat is answered whole."""
    loaded.start("long", "chat", ask(loaded, "long", max_tokens=900))
    until(lambda: len(loaded.events("long")) >= 3, timeout=60, what="three deltas", every=0.01)
    loaded.call("abort", {"requestId": "long"})
    result = loaded.end("long")
    assert result["finishReason"] == "abort"
    assert result["text"] == deltas(loaded, "long") != ""
    assert result["usage"]["completionTokens"] < 900
    assert loaded.call("chat", ask(loaded, "next"))["finishReason"] == "length"


def test_json_mode_begins_an_object_and_nothing_else(loaded: Bench) -> None:
    """`json_object` without a schema: the story `tiny` would tell becomes an object, as far as the tokens reach."""
    result = loaded.call("chat", ask(loaded, "r1", response_format={"type": "json_object"}, max_tokens=24))
    assert result.get("failed") is None
    assert result["text"] == deltas(loaded)
    assert re.match(r'\{\s*("|\}|$)', result["text"]), result["text"]
    if result["finishReason"] == "stop":
        assert isinstance(json.loads(result["text"]), dict)


@pytest.mark.parametrize("word", ["Paris", "Rome"])
def test_a_schema_forces_the_answer(loaded: Bench, word: str) -> None:
    """OpenAI's `json_schema` with one permitted value: that value, whole and parsed, whatever the model would have said."""
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": {"enum": [word]}}}
    result = loaded.call("chat", ask(loaded, word, response_format=wanted))
    assert (result["finishReason"], json.loads(result["text"])) == ("stop", word)


def test_text_as_a_format_is_no_format(loaded: Bench) -> None:
    """`text` changes nothing, also right after a constrained answer."""
    free = loaded.call("chat", ask(loaded, "r1"))["text"]
    loaded.call("chat", ask(loaded, "r2", response_format={"type": "json_object"}, max_tokens=4))
    assert loaded.call("chat", ask(loaded, "r3", response_format={"type": "text"}))["text"] == free


def test_a_schema_that_is_none_is_a_callers_error(loaded: Bench) -> None:
    """An unknown type in the schema is refused in phase 'validate'; the next schema is obeyed as before."""
    loaded.watch.expected += ["Unsupported type", "Aborted()"]  # the grammar compiler says so itself
    wanted = {"type": "json_schema", "json_schema": {"name": "bad", "schema": {"type": "what"}}}
    failed = loaded.call("chat", ask(loaded, "bad", response_format=wanted))["failed"]
    assert (failed["name"], failed["phase"]) == ("GrammarMatcherInitError", "validate")
    wanted["json_schema"] = {"name": "good", "schema": {"enum": ["good"]}}
    assert loaded.call("chat", ask(loaded, "after", response_format=wanted))["text"] == '"good"'
    assert loaded.call("chat", ask(loaded, "free"))["finishReason"] == "length"


REFUSED = [({"temperature": -1}, "NonNegativeError"), ({"top_p": 7}, "RangeError"), ({"seed": 1.5}, "SeedTypeError")]


@pytest.mark.parametrize(("options", "name"), REFUSED)
def test_webllms_own_refusals_are_callers_errors(loaded: Bench, options: dict[str, Any], name: str) -> None:
    """Options out of range: WebLLM's error by name, phase 'validate', and the engine stays usable."""
    failed = loaded.call("chat", ask(loaded, "bad", **options))["failed"]
    assert (failed["name"], failed["phase"]) == (name, "validate")
    assert loaded.call("status")["state"] == "ready"


def test_a_prompt_beyond_the_context_is_an_error_before_any_token(loaded: Bench) -> None:
    """Tiny's context is 1024 tokens: 5000 characters are refused in phase 'prefill' by name."""
    args = {"requestId": "big", "messages": [{"role": "user", "content": "x" * 5000}], "options": {"max_tokens": 4}}
    failed = loaded.call("chat", args)["failed"]
    assert (failed["name"], failed["phase"]) == ("ContextWindowSizeExceededError", "prefill")
    assert loaded.call("chat", ask(loaded, "after"))["finishReason"] == "length"


def test_unload_and_load_again_come_from_the_cache(loaded: Bench, tiny: Model) -> None:
    """Freed and loaded again without a request; the answer is the same as before."""
    before = loaded.call("chat", ask(loaded, "r1"))["text"]
    loaded.call("unload")
    assert loaded.call("status")["state"] == "empty"
    again = loaded.call("load", {"model": tiny.entry()})
    assert again["downloadedBytes"] == 0
    assert loaded.call("chat", ask(loaded, "r2"))["text"] == before
    assert loaded.page.evaluate("bench.losses") == []
