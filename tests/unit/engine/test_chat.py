"""Generating: one at a time, each request its own stops and text, every failure an Error with its phase."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from engine_desk import model
from hybr_testing import until

if TYPE_CHECKING:
    from engine_desk import Bench, Desk


@pytest.fixture
def ready(bench: Bench, desk: Desk) -> Bench:
    """A page whose engine has a (scripted) model."""
    assert bench.call("load", {"model": desk.add(model())})["model"] == "toy"
    return bench


def text_of(events: list[dict[str, Any]]) -> str:
    """Return what the deltas add up to."""
    return "".join(event["delta"] for event in events if event["type"] == "delta")


def test_a_chat_streams_deltas_and_ends_with_usage_and_timings(ready: Bench) -> None:
    """The deltas add up to the text; usage and rates are the engine's own, what it cannot know is null and not NaN."""
    result = ready.call("chat", ready.chat("r1", {"say": ["Par", "is", "."]}))
    assert result["text"] == text_of(ready.events()) == "Paris."
    assert result["finishReason"] == "stop"
    assert result["usage"] == {"promptTokens": 7, "completionTokens": 3, "totalTokens": 10}
    timings = result["timings"]
    assert (timings["prefillTps"], timings["decodeTps"]) == (70, 10)
    assert 0 <= timings["queuedMs"] <= timings["ttftMs"] <= timings["totalMs"]
    assert ready.call("chat", ready.chat("r2", {"say": ["one"]}))["timings"]["decodeTps"] is None


def test_options_reach_webllm_and_ours_cannot_be_overridden(ready: Bench) -> None:
    """Sampling options pass through under OpenAI's names, nulls are left out, and messages get no system turn."""
    sampling = {"temperature": 0, "seed": 7, "stop": ["\n"], "max_tokens": 5, "logprobs": True}
    chat = ready.chat("r1", {"echo": True}, **sampling, top_p=None, stream=False, n=3)
    request = json.loads(ready.call("chat", chat)["text"])
    assert {name: request[name] for name in sampling} == sampling
    assert request["stream"] is True
    assert "n" not in request
    assert "top_p" not in request
    assert [message["role"] for message in request["messages"]] == ["user"]


def test_dollars_are_doubled_where_webllm_fills_a_template(bench: Bench, desk: Desk) -> None:
    """Of the system, and of roles whose template holds the message: `String.replace` makes one of two; others go as they are."""
    bench.call("load", {"model": desk.add(model(roles={"assistant": " {assistant_message}", "user": "said"}))})
    messages = [{"role": role, "content": "$$ or $&"} for role in ("system", "user", "assistant")]
    messages += [{"role": "assistant", "content": [{"type": "text", "text": "$1"}, {"type": "image_url"}]}]
    chat = bench.chat("r1", {"echo": True})
    request = json.loads(bench.call("chat", {**chat, "messages": [*messages, *chat["messages"]]})["text"])
    contents = [message["content"] for message in request["messages"][:4]]
    assert contents == ["$$$$ or $$&", "$$ or $&", "$$$$ or $$&", [{"type": "text", "text": "$$1"}, {"type": "image_url"}]]


SCHEMA = {"enum": ["a"]}
FORMS = [
    ({"type": "text"}, None),
    ({"type": "json_object"}, {"type": "json_object", "schema": '{"type":"object"}'}),
    ({"type": "json_object", "schema": '{"enum":["a"]}'}, {"type": "json_object", "schema": '{"enum":["a"]}'}),
    ({"type": "json_object", "schema": SCHEMA}, {"type": "json_object", "schema": '{"enum":["a"]}'}),
    (
        {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
        {"type": "json_object", "schema": '{"enum":["a"]}'},
    ),
    ({"type": "grammar", "grammar": 'root ::= "a"'}, {"type": "grammar", "grammar": 'root ::= "a"'}),
]


@pytest.mark.parametrize(("asked", "got"), FORMS)
def test_a_response_format_reaches_webllm_in_its_own_words(
    ready: Bench, asked: dict[str, Any], got: dict[str, Any] | None
) -> None:
    """WebLLM obeys `json_object` with a schema as text; OpenAI's other ways to say it are put into that."""
    answer = ready.call("chat", ready.chat("r1", {"echo": True}, response_format=asked))
    assert json.loads(answer["text"]).get("response_format") == got


def test_a_json_schema_without_a_schema_is_refused(ready: Bench) -> None:
    """Free text must not come back as if it were what was asked for."""
    failed = ready.call("chat", ready.chat("r1", {"echo": True}, response_format={"type": "json_schema"}))["failed"]
    assert (failed["name"], failed["phase"]) == ("InvalidResponseFormatError", "validate")


def test_text_webllm_holds_back_is_given_at_the_end(ready: Bench) -> None:
    """What WebLLM withheld (the end of an unfinished character) still arrives as a delta, so that deltas equal the text."""
    result = ready.call("chat", ready.chat("r1", {"say": ["a", "b", "c"], "withholdFrom": 2}))
    assert result["text"] == text_of(ready.events()) == "abc"


def test_chats_wait_their_turn_and_keep_apart(ready: Bench) -> None:
    """Five concurrent chats are answered one after the other, each with its own text and no other's."""
    for i in range(5):
        ready.start(f"c{i}", "chat", ready.chat(f"c{i}", {"say": [f"{i}"] * 10, "everyMs": 5 if i else 100}))
    until(lambda: ready.call("status")["active"] == "c0", timeout=10, what="the first running")
    assert ready.call("status")["queued"] == 4
    for i in range(5):
        result = ready.end(f"c{i}")
        assert result["text"] == text_of(ready.events(f"c{i}")) == f"{i}" * 10
        assert result["finishReason"] == "stop"
    assert ready.call("status") | {"gpu": None} == {
        "state": "ready", "model": "toy", "loading": None, "profile": "software", "gpu": None, "threads": None,
        "active": None, "queued": 0,
    }  # fmt: skip


def test_an_abort_stops_its_chat_and_no_other(ready: Bench) -> None:
    """The running chat ends with 'abort' and its text so far; the waiting one runs whole."""
    ready.start("long", "chat", ready.chat("long", {"endless": True, "everyMs": 5}))
    ready.start("next", "chat", ready.chat("next", {"say": ["whole"]}))
    until(lambda: len(ready.events("long")) > 3, timeout=10, what="some deltas")
    assert ready.call("abort", {"requestId": "long"}) == {"aborted": True}
    result = ready.end("long")
    assert result["finishReason"] == "abort"
    assert result["text"] == text_of(ready.events("long"))
    assert ready.end("next")["text"] == "whole"
    assert ready.call("abort", {"requestId": "long"}) == {"aborted": False}


def test_a_waiting_chat_can_be_aborted_without_waiting_for_its_turn(ready: Bench) -> None:
    """Stopping the second of two leaves the first untouched and answers at once."""
    ready.start("first", "chat", ready.chat("first", {"endless": True, "everyMs": 5}))
    ready.start("second", "chat", ready.chat("second", {"say": ["never"]}))
    until(lambda: ready.call("status")["queued"] == 1, timeout=10, what="the second waiting")
    ready.call("abort", {"requestId": "second"})
    second = ready.end("second")
    assert (second["finishReason"], second["text"], second["timings"]["ttftMs"]) == ("abort", "", None)
    assert ready.call("status")["active"] == "first"
    ready.call("abort", {"requestId": "first"})
    assert ready.end("first")["finishReason"] == "abort"


def test_an_abort_before_the_engine_listens_is_not_lost(ready: Bench) -> None:
    """WebLLM forgets an interrupt raised before a generation begins; a stop in that moment still stops it."""
    ready.page.evaluate(
        """() => { const args = {requestId: 'x', messages: [{role: 'user', content: '{"endless": true, "everyMs": 2}'}]};
             bench.start('x', 'chat', args); bench.start('stop', 'abort', {requestId: 'x'}); }"""
    )
    result = ready.end("x")
    assert result["finishReason"] == "abort"
    assert result["timings"]["totalMs"] < 10_000


def test_a_signal_aborts_its_chat(ready: Bench) -> None:
    """An AbortSignal given to `call` does what `abort` does."""
    ready.start("x", "chat", ready.chat("x", {"endless": True, "everyMs": 5}))
    until(lambda: ready.events("x"), timeout=10, what="a delta")
    ready.page.evaluate("bench.stop('x')")
    assert ready.end("x")["finishReason"] == "abort"


@pytest.mark.parametrize(
    ("script", "name", "message", "phase"),
    [
        (
            {"failAt": 0, "fail": ["ContextWindowSizeExceededError", "too long"]},
            "ContextWindowSizeExceededError",
            "too long",
            "prefill",
        ),
        ({"failAt": 0, "fail": ["RangeError", "temperature"]}, "RangeError", "temperature", "validate"),
        (
            {"failAt": 2, "fail": ["Error", "Object has already been disposed"]},
            "Error",
            "Object has already been disposed",
            "decode",
        ),
        ({"failAt": 1, "fail": "DeviceLostError: gone"}, "DeviceLostError", "gone", "decode"),
        ({"failAt": 0, "fail": "just words"}, "Error", "just words", "prefill"),
    ],
)
def test_whatever_webllm_throws_becomes_an_error_with_its_phase(
    ready: Bench, script: dict[str, Any], name: str, message: str, phase: str
) -> None:
    """Errors, and the bare strings WebLLM's layers throw, arrive as Errors; the engine then answers the next chat."""
    failed = ready.call("chat", ready.chat("r1", script))["failed"]
    assert failed["isError"]
    assert (failed["name"], failed["message"], failed["phase"]) == (name, message, phase)
    assert ready.call("chat", ready.chat("r2", {"say": ["fine"]}))["text"] == "fine"


@pytest.mark.parametrize(
    ("op", "args", "name"),
    [
        ("chat", {"requestId": "r", "messages": []}, "MessageOrderError"),
        ("chat", {"messages": [{"role": "user", "content": "{}"}]}, "RequestIdError"),
        ("dance", {}, "UnknownOperationError"),
    ],
)
def test_a_callers_mistake_is_named(ready: Bench, op: str, args: dict[str, Any], name: str) -> None:
    """Empty messages, a missing request id, an unknown operation: typed, of phase 'validate'."""
    failed = ready.call(op, args)["failed"]
    assert (failed["name"], failed["phase"]) == (name, "validate")


def test_the_same_request_id_twice_is_refused(ready: Bench) -> None:
    """Two chats under one id could not be told apart by an abort: the second is refused, the first goes on."""
    ready.start("x", "chat", ready.chat("x", {"endless": True, "everyMs": 5}))
    assert ready.call("chat", ready.chat("x", {}))["failed"]["name"] == "RequestIdError"
    ready.call("abort", {"requestId": "x"})
    assert ready.end("x")["finishReason"] == "abort"


def test_arguments_that_are_not_json_reject_and_do_not_hang(ready: Bench) -> None:
    """The client's own parsing fails as an Error too."""
    failed = ready.page.evaluate("bench.raw('status', '{')")["failed"]
    assert (failed["name"], failed["phase"]) == ("SyntaxError", "validate")


def test_a_chat_without_a_model_says_so(bench: Bench) -> None:
    """Nothing loaded: a typed error, no hang."""
    assert bench.call("chat", bench.chat("r1", {}))["failed"]["name"] == "ModelNotLoadedError"


def test_unload_ends_what_runs_and_waits(ready: Bench) -> None:
    """Unloading ends the running and the waiting chat as if aborted; afterwards the engine is empty."""
    for name in ("one", "two"):
        ready.start(name, "chat", ready.chat(name, {"endless": True, "everyMs": 5}))
    until(lambda: ready.events("one"), timeout=10, what="a delta")
    assert ready.call("unload") == {"unloaded": "toy"}
    assert [ready.end(name)["finishReason"] for name in ("one", "two")] == ["abort", "abort"]
    assert ready.call("status")["state"] == "empty"
    assert ready.call("unload") == {"unloaded": None}


def test_the_library_of_the_profile_is_the_one_webllm_gets(ready: Bench, desk: Desk) -> None:
    """SwiftShader gets the software library; a forced profile gets its own."""
    assert "software" in ready.call("chat", ready.chat("r1", {"library": True}))["text"]
    assert ready.call("load", {"model": desk.add(model()), "profile": "gpu"})["profile"] == "gpu"
    assert "gpu" in ready.call("chat", ready.chat("r2", {"library": True}))["text"]


def test_pictures_reach_a_model_that_reads_them(ready: Bench, desk: Desk) -> None:
    """WebLLM takes pictures only for a record that says so: it says so where the index does, and the refusal keeps its name."""
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}
    for number, sees in enumerate((False, True)):
        ready.call("unload")
        assert ready.call("load", {"model": {**desk.add(model()), "vision": sees}})["model"] == "toy"
        asked = ready.chat(f"r{number}", {"say": ["a cat"]})
        told = ready.call("chat", {**asked, "messages": [picture, *asked["messages"]]})
        assert told["text"] == "a cat" if sees else told["failed"]["name"] == "UserMessageContentErrorForNonVLM"


def test_a_model_in_half_precision_is_refused_before_the_download(bench: Bench, desk: Desk) -> None:
    """SwiftShader has no shader-f16: said in phase 'probe', without a byte fetched (facts/webllm.md)."""
    entry = {**desk.add(model()), "quantisation": "q4f16_1"}
    failed = bench.call("load", {"model": entry})["failed"]
    assert (failed["name"], failed["phase"]) == ("ShaderF16SupportError", "probe")
    assert desk.downloads() == []


def test_deltas_cross_fast(ready: Bench) -> None:
    """20,000 deltas arrive complete and in order through worker, port and client."""
    result = ready.call("chat", ready.chat("r1", {"say": [f"{i} " for i in range(20_000)]}))
    assert result["text"] == text_of(ready.events())
    assert result["text"].split() == [str(i) for i in range(20_000)]
