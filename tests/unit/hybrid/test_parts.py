"""The small parts: events, errors, account, device, taxonomy."""

from __future__ import annotations

import asyncio
import logging

import pytest

from hybr.webapp.hybrid import device, taxonomy
from hybr.webapp.hybrid.account import Account
from hybr.webapp.hybrid.errors import Aborted, CallerError, EngineDiedError, GatewayError, HybridError, LocalError
from hybr.webapp.hybrid.events import EventBus
from hybr.webapp.hybrid.types import Chunk, Completion, Timings, Usage


def test_events_in_order_to_all() -> None:
    """Listeners are called in the order they came; one that fails harms nobody; off and the returned function end it."""
    bus, seen = EventBus(), []
    bus.on("x", lambda detail: seen.append(("a", detail["n"])))
    bus.on("x", lambda _: 1 / 0)
    end = bus.on("x", lambda detail: seen.append(("b", detail["n"])))
    bus.emit("x", {"n": 1})
    end()
    end()
    bus.off("y", print)
    bus.emit("x", {"n": 2})
    bus.emit("y", {"n": 3})
    assert seen == [("a", 1), ("b", 1), ("a", 2)]


def test_a_failing_listener_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A listener's exception is told where a developer looks."""
    bus = EventBus()
    bus.on("x", lambda _: 1 / 0)
    with caplog.at_level(logging.ERROR):
        bus.emit("x", {})
    assert "a listener to x failed" in caplog.text


def test_a_listener_that_reads_a_cancelled_future() -> None:
    """A cancellation that a listener meets is its own: nobody else's, and the events after it are told."""
    bus, seen = EventBus(), []

    def bad(_: object) -> None:
        raise asyncio.CancelledError

    bus.on("x", bad)
    bus.on("x", seen.append)
    bus.emit("x", {"n": 1})
    assert seen == [{"n": 1}]


async def test_a_listener_may_wait(caplog: pytest.LogCaptureFixture) -> None:
    """A coroutine function as a listener is begun, and nobody waits for it; what it raises is logged."""
    bus, seen, go = EventBus(), [], asyncio.Event()

    async def slow(detail: dict[str, int]) -> None:
        await go.wait()
        seen.append(detail["n"])
        if detail["n"] == 2:
            raise ValueError("no")

    bus.on("x", slow)
    bus.emit("x", {"n": 1})
    bus.emit("x", {"n": 2})
    assert seen == []
    go.set()
    with caplog.at_level(logging.ERROR):
        await asyncio.wait(bus._works)
        await asyncio.sleep(0)
    assert seen == [1, 2]
    assert "a listener to x failed" in caplog.text


def test_a_listener_that_waits_outside_of_a_loop(caplog: pytest.LogCaptureFixture) -> None:
    """Without a loop there is no waiting: it is said, and harms nobody."""
    bus = EventBus()

    async def slow(_: object) -> None: ...

    bus.on("x", slow)
    with caplog.at_level(logging.ERROR):
        bus.emit("x", {})
    assert "a listener to x failed" in caplog.text


def test_an_event_inside_an_event_comes_after_it() -> None:
    """What a listener emits reaches everybody after what it was listening to."""
    bus, seen = EventBus(), []
    bus.on("a", lambda _: bus.emit("b", {}))
    bus.tap(lambda name, _: seen.append(name))
    bus.on("a", lambda _: seen.append("a again"))
    bus.on("b", lambda _: seen.append("b again"))
    bus.emit("a", {})
    assert seen == ["a", "a again", "b", "b again"]


def test_errors_cross_as_three_words() -> None:
    """Each error is name, message, code; the defaults are the class's own."""
    assert HybridError("no").to_dict() == {"name": "HybridError", "message": "no", "code": "error"}
    error = GatewayError("no", name="X", code="y", retryable=True)
    assert (error.to_dict(), error.retryable, error.provider) == ({"name": "X", "message": "no", "code": "y"}, True, "cloud")


def test_usage_adds_up() -> None:
    """Sums of usages; an estimate stays one."""
    total = Usage(1, 2) + Usage(3, 4, estimated=True)
    assert total.to_dict() == {"prompt_tokens": 4, "completion_tokens": 6, "total_tokens": 10, "estimated": True}
    done = Completion("t", "local", "m", total, Timings(), tool_calls=({"id": "1"},))
    assert done.tokens_per_second == 0.0
    assert done.to_dict()["tool_calls"] == [{"id": "1"}]
    assert Chunk("", "t", True, "local", 0, done).to_dict()["text"] == "t"


def test_m11_the_sums_are_those_of_the_entries() -> None:
    """M11: per provider and per model, requests, tokens, errors, times, cost; fallbacks 20 deep, newest first."""
    account = Account()
    account.book("cloud", "a", "done", Usage(10, 20), ms=100, ttft_ms=40, cost=0.5, prefill_tps=100, decode_tps=30)
    account.book("cloud", "a", "done", Usage(), ms=0, ttft_ms=None, cost=0.0, decode_tps=10)
    account.book("cloud", "b", "error", Usage(), ms=50, ttft_ms=None, cost=None)
    account.book("local", "tiny", "stopped", Usage(1, 2), ms=10, ttft_ms=5, cost=0.0)
    stats = account.to_dict()
    cloud = stats["cloud"]
    assert (cloud["requests"], cloud["tokens"], cloud["errors"], cloud["stopped"]) == (3, 30, 1, 0)
    assert (cloud["total_time"], cloud["average_time"], cloud["average_ttft"]) == (150, 50, 40)
    assert (cloud["average_prefill_tps"], cloud["average_decode_tps"]) == (100, 20)
    assert (stats["local"]["average_prefill_tps"], stats["local"]["average_decode_tps"]) == (None, None)
    assert (cloud["cost"], cloud["unpriced"]) == (0.5, 1)
    assert [(one["provider"], one["model"], one["tokens"]) for one in stats["models"]] == [
        ("cloud", "a", 30),
        ("cloud", "b", 0),
        ("local", "tiny", 3),
    ]
    assert Account().to_dict()["local"]["average_time"] == 0
    account.changed("fallback", {"from": "local", "model": "tiny"})
    assert (account.to_dict()["local"]["fallbacks"], account.models["local", "tiny"].fallbacks) == (1, 1)
    account = Account()
    for number in range(25):
        account.changed("fallback", {"n": number})
        account.changed("handover", {"n": number})
    stats = account.to_dict()
    assert (len(stats["fallbacks"]), stats["fallbacks"][0], stats["fallback_count"]) == (20, {"n": 24}, 25)
    assert (len(stats["handovers"]), stats["handover_count"]) == (20, 25)


PROBE = {"webgpu": "yes", "features": ["subgroups"], "limits": {"maxBufferSize": 100}, "storage": {"quota": 50, "usage": 10}}


@pytest.mark.parametrize(
    ("entry", "cached", "said"),
    [
        ({"id": "m"}, False, ""),
        ({"id": "m-q4f16_1-MLC"}, False, "shader-f16"),
        ({"id": "m", "quantisation": "q0f16"}, False, "shader-f16"),
        ({"id": "m", "features": ["timestamp-query"]}, False, "timestamp-query"),
        ({"id": "m", "features": ["subgroups"]}, False, ""),
        ({"id": "m", "limits": {"maxBufferSize": 200}}, False, "maxBufferSize 200"),
        ({"id": "m", "limits": {"maxBufferSize": 100, "unknown": 1}}, False, ""),
        ({"id": "m", "bytes": 41}, False, "Delete another model"),
        ({"id": "m", "bytes": 41}, True, ""),
        ({"id": "m", "bytes": 40}, False, ""),
    ],
)
def test_fits(entry: dict[str, object], cached: bool, said: str) -> None:
    """Whether a model fits is known before a byte is downloaded, with the one thing in the way."""
    verdict = device.fits(entry, PROBE, cached=cached)
    assert verdict["fits"] is (said == "")
    assert said in verdict["reason"]


def test_what_does_not_fit_has_a_code_and_its_figures() -> None:
    """The page says it in its own language: by a code, with what the sentence is about."""
    small = device.fits({"id": "m", "bytes": 90 << 20}, {"storage": {"quota": 50 << 20, "usage": 10 << 20}})
    assert (small["code"], small["args"]) == ("room", {"need": "90 MB", "free": "40 MB"})
    low = {"webgpu": "no", "code": "low_limit", "args": {"name": "maxBufferSize", "value": 1, "floor": 2}, "reason": "Too small."}
    assert device.fits({"id": "m"}, low)["args"]["floor"] == 2
    assert device.fits({"id": "m"}, PROBE) == {"fits": True, "reason": "", "code": "", "args": {}}


def test_fits_where_nothing_is_known() -> None:
    """Without a preflight nothing speaks against a model; without WebGPU everything does."""
    assert device.fits({"id": "m-q4f16_1", "bytes": 1}, {})["fits"] is True
    assert device.fits({"id": "m"}, {"webgpu": "no"})["reason"].startswith("WebGPU is not available")


# One line per row of the facts on WebLLM, in all the forms in which the failure arrives.
FAILURES = [
    ("AbortError", "stopped", "decode", "aborted", "stop"),
    ("WebGPUNotAvailableError", "x", "probe", "no_webgpu", "capability"),
    ("Error", "WebGPUNotFoundError: Cannot find WebGPU in the environment", "probe", "no_webgpu", "capability"),
    ("Error", "Unable to find a compatible GPU. Issue during", "load", "no_webgpu", "capability"),
    (
        "Error",
        "Cannot initialize runtime because of requested maxBufferSize exceeds limit.",
        "load",
        "adapter_limits",
        "capability",
    ),
    ("ShaderF16SupportError", "x", "load", "needs_f16", "capability"),
    ("Error", "FeatureSupportError: shader-f16", "load", "needs_f16", "capability"),
    ("GPUPipelineError", "[Invalid ShaderModule]", "load", "bad_shader", "capability"),
    ("Error", "Error while parsing WGSL: extension 'f16' is not allowed", "load", "needs_f16", "capability"),
    ("EngineDeadError", "The local engine has ended", "worker", "engine_died", "health"),
    ("EngineMovedError", "The local engine, which another tab had, has ended", "worker", "engine_moved", "health"),
    ("EngineBusyError", "Another tab is being answered", "validate", "engine_busy", "capability"),
    ("Error", "DeviceLostError: The WebGPU device was lost", "load", "out_of_memory", "health"),
    ("Error", "DeviceLostError: The WebGPU device was lost", "decode", "device_lost", "health"),
    ("ModelNotLoadedError", "x", "prefill", "device_lost", "health"),
    ("Error", "Object has already been disposed", "decode", "device_lost", "health"),
    ("OperationError", "Instance dropped in popErrorScope", "decode", "device_lost", "health"),
    ("Error", "failed to sample a valid token", "decode", "garbage", "health"),
    ("QuotaExceededError", "x", "download", "no_space", "capability"),
    ("TypeError", "Failed to execute 'add' on 'Cache': Quota exceeded", "download", "no_space", "capability"),
    ("Error", "ArtifactOPFSCache failed to fetch: x", "download", "no_space", "capability"),
    ("IntegrityError", "x", "load", "damaged_copy", "capability"),
    ("IntegrityError", "config.json is not the file the model list names", "download", "tampered", "capability"),
    ("StorageError", "x", "download", "storage", "capability"),
    ("ModelFileMissingError", "x", "download", "model_changed", "capability"),
    ("AddressError", "No model can be had from there", "validate", "no_such_model", "capability"),
    ("ModelNotCachedError", "Nothing of it is whole", "validate", "not_cached", "capability"),
    ("ModelNotBuiltError", "x", "download", "not_built", "capability"),
    ("EngineScriptError", "x", "worker", "bad_worker", "health"),
    ("RequestIdError", "requestId is taken", "validate", "invalid_request", "caller"),
    ("NetworkError", "x", "download", "download_failed", "capability"),
    ("Error", "Cannot fetch http://x err= TypeError", "download", "download_failed", "capability"),
    ("SyntaxError", "Unexpected token < in JSON", "load", "corrupt_model", "capability"),
    ("CompileError", "WebAssembly.compile(): expected magic word", "load", "corrupt_model", "capability"),
    ("Error", "Cannot find function prefill in exports", "load", "corrupt_model", "capability"),
    ("MissingModelError", "x", "load", "bad_model", "capability"),
    ("RangeError", "x", "load", "bad_model", "capability"),
    ("ContextWindowSizeExceededError", "x", "prefill", "context_overflow", "capability"),
    ("UserMessageContentErrorForNonVLM", "x", "validate", "no_vision", "capability"),
    ("CustomSystemPromptError", "x", "validate", "no_tools", "capability"),
    ("GrammarMatcherInitError", "x", "validate", "bad_schema", "capability"),
    ("ToolCallOutputParseError", "x", "decode", "bad_tool_call", "capability"),
    ("RangeError", "temperature must be", "validate", "invalid_request", "caller"),
    ("Error", "MessageOrderError: x", "prefill", "invalid_request", "caller"),
    ("UnknownMessageKindError", "x", "worker", "bad_worker", "health"),
    ("StalledError", "x", "decode", "stalled", "health"),
    ("", "whatever", "", "local_error", "health"),
    ("Error", "something new", "decode", "local_error", "health"),
]


@pytest.mark.parametrize(("name", "message", "phase", "code", "kind"), FAILURES)
def test_taxonomy(name: str, message: str, phase: str, code: str, kind: str) -> None:
    """Each failure, as it really arrives, becomes the typed error of its row."""
    error = taxonomy.classify(name, message, phase)
    assert (error.code, error.kind) == (code, kind)
    want = {"stop": Aborted, "caller": CallerError}.get(kind, EngineDiedError if code == "engine_died" else LocalError)
    assert type(error) is want
    assert error.name
    if isinstance(error, LocalError):
        assert error.reactions[-1] == "cloud"


def test_every_row_is_reached() -> None:
    """No row is dead: the failures above reach all of them."""
    reached = {code for _, _, _, code, _ in FAILURES}
    assert {row.code for row in taxonomy.ROWS} | {"local_error"} == reached


def test_a_remedy_is_said_once() -> None:
    """The person reads what to do, after what happened."""
    error = taxonomy.classify("QuotaExceededError", "Quota exceeded.", "download")
    assert error.message.startswith("Quota exceeded. The browser has no room")
    again = taxonomy.classify("QuotaExceededError", error.message, "download")
    assert again.message == error.message
