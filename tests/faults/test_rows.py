"""Row by row: how WebLLM and servers fail by the project's facts, played end to end, and what a person gets instead."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lab.clock import run
from lab.desk import ASK, Desk, entry
from lab.engine import Die, Fail, Lost, Silent, Sleep, Stall
from lab.upstream import Cut, Event, Refuse, Unreachable

from hybr.webapp.hybrid.errors import CallerError, HybridError
from hybr.webapp.hybrid.sense import RUN

SHOWN = "The capital of France "
# step, code, whether text was shown first, whether the worker is replaced, whether it counts against the model's health
GENERATING: list[tuple[str, Any, str, bool, bool, bool]] = [
    ("device lost at token k", Lost(), "device_lost", True, True, True),
    ("device lost before any", Lost(), "device_lost", False, True, True),
    ("rejected by a text", Fail("Error", "DeviceLostError: The WebGPU device was lost"), "device_lost", True, True, True),
    ("disposed object", Fail("Error", "Object has already been disposed"), "device_lost", True, True, True),
    ("operation error", Fail("OperationError", "mapAsync failed"), "device_lost", True, True, True),
    ("model not loaded", Fail("Error", "ModelNotLoadedError: load one", "prefill"), "device_lost", False, True, True),
    ("garbage in the logits", Fail("Error", "failed to sample a valid token"), "garbage", True, True, True),
    ("worker dies and tells", Die(), "engine_died", True, True, True),
    ("worker dies without an event", Silent(), "stalled", True, True, True),
    ("no next token", Stall(), "stalled", True, True, True),
    ("no first token", Stall(), "stalled", False, True, True),
    ("nobody knows this one", Fail("Error", "something new"), "local_error", True, False, True),
    ("no service worker", Fail("Error", "There is no active service worker", "worker"), "bad_worker", False, True, True),
    ("window exceeded", Fail("ContextWindowSizeExceededError", "too long", "prefill"), "context_overflow", False, False, False),
    ("no vision", Fail("Error", "UserMessageContentErrorForNonVLM: no", "validate"), "no_vision", False, False, False),
    ("no tools", Fail("Error", "UnsupportedModelIdError: no", "validate"), "no_tools", False, False, False),
    ("schema of another mind", Fail("Error", "GrammarMatcherInitError: no", "validate"), "bad_schema", False, False, False),
    ("a tool call that is none", Fail("Error", "ToolCallOutputParseError: no"), "bad_tool_call", True, False, False),
]


@pytest.mark.parametrize(
    ("step", "code", "shown", "replaced", "health"), [row[1:] for row in GENERATING], ids=[row[0] for row in GENERATING]
)
def test_the_engine_fails_and_the_cloud_goes_on(step: Any, code: str, *, shown: bool, replaced: bool, health: bool) -> None:
    """The answer comes whole from the cloud, once; the worker is replaced where the row says so, and health is counted so."""

    async def check() -> None:
        desk = await Desk().ready()
        desk.engine.scripts.append([SHOWN, step] if shown else [step])
        desk.upstream.scripts.append(["of France is Paris."] if shown else ["The capital of France is Paris."])
        done = await desk.hybrid.complete(ASK)
        assert (done.text, done.provider) == ("The capital of France is Paris.", "cloud")
        change = done.handover if shown else done.fallback
        assert change is not None
        assert change["error"]["code"] == code
        assert len(desk.of("hybrid-llm:fallback")) + len(desk.of("hybrid-llm:handover")) == 1
        assert bool(desk.engine.restarts) is replaced
        assert (len(desk.hybrid._health.breaker("local")._failures) == 1) is health
        assert bool(desk.local.profile.of("tiny").failures) is replaced
        await asyncio.sleep(120)
        await desk.local.settled()
        assert desk.local.is_ready()  # repaired in the background
        assert desk.free

    run(check())


LIMIT = "Cannot initialize runtime because of requested maxBufferSize"
FULL = "Failed to execute 'add' on 'Cache': Quota exceeded"
LOADING: list[tuple[str, list[Any], str]] = [
    ("no WebGPU", [Fail("WebGPUNotAvailableError", "no", "probe")], "no_webgpu"),
    ("no adapter", [Fail("Error", "Unable to find a compatible GPU", "probe")], "no_webgpu"),
    (
        "limits",
        [Fail("Error", f"{LIMIT} exceeds limit", "load")],
        "adapter_limits",
    ),
    ("no f16", [Fail("ShaderF16SupportError", "no", "load")], "needs_f16"),
    ("WGSL", [Fail("Error", "Error while parsing WGSL: :1:8 error: extension 'f16'", "load")], "needs_f16"),
    ("pipeline", [Fail("GPUPipelineError", "no", "load")], "bad_shader"),
    ("out of memory", [Fail("Error", "DeviceLostError: gone", "load")], "out_of_memory"),
    ("quota at shard 3", ["a", "b", Fail("QuotaExceededError", "full", "download")], "no_space"),
    (
        "quota, in the cache's words",
        [Fail("Error", FULL, "download")],
        "no_space",
    ),
    ("network, three times", [Fail("NetworkError", "Cannot fetch", "download")], "download_failed"),
    ("corrupt, twice", [Fail("LinkError", "import mismatch", "load")], "corrupt_model"),
    ("another file than promised, twice", [Fail("IntegrityError", "sha256", "load")], "tampered"),
    ("a manifest that is none", [Fail("ArtifactManifestError", "no", "load")], "bad_model"),
    ("the worker dies", [Sleep(0.1), Die()], "engine_died"),
]


@pytest.mark.parametrize(("steps", "code"), [row[1:] for row in LOADING], ids=[row[0] for row in LOADING])
def test_a_load_fails_and_the_cloud_answers(steps: list[Any], code: str) -> None:
    """`init` answers with the typed reason, the status agrees, and the next request goes to the cloud and says so once."""

    async def check() -> None:
        desk = Desk(models=[entry("tiny")])
        desk.hybrid.set_mode("local")
        desk.engine.loads.extend([list(steps)] * 3)
        result = await desk.local.init("tiny")
        assert isinstance(result, dict)
        assert result["error"]["code"] == code
        assert desk.local.get_status()["error"]["code"] == code
        done = await desk.hybrid.complete(ASK)
        assert done.provider == "cloud"
        assert done.fallback is not None
        assert done.fallback["error"]["code"] == code
        assert (await desk.hybrid.complete(ASK)).fallback is None
        await asyncio.sleep(60)
        assert desk.free

    run(check())


DATE = "Thu, 01 Jan 2099 00:00:00 GMT"
HEX = "🙂".encode()
SPLIT = b'data: {"choices":[{"delta":{"content":"' + HEX[:2]
SERVING: list[tuple[str, list[Any], str, bool]] = [
    ("malformed event", [b"data: {oops\n\n"], "stream_broken", True),
    ("cut inside a character", [SPLIT, Cut()], "stream_broken", True),
    ("cut between events", [Cut()], "stream_broken", True),
    ("a stream that just ends", [b": nothing more\n\n"], "stream_broken", True),
    ("an error in the middle", [Event({"error": {"code": "failed_midway", "message": "no"}})], "failed_midway", True),
    ("429 with seconds", [Refuse(429, "rate_limited", headers={"retry-after": "7"})], "rate_limited", False),
    (
        "429 with a date",
        [Refuse(429, "rate_limited", headers={"retry-after": DATE})],
        "rate_limited",
        False,
    ),
    ("500", [Refuse(500, "internal_error")], "internal_error", False),
    ("503", [Refuse(503, "no_model")], "no_model", False),
    ("401", [Refuse(401, "bad_key")], "bad_key", False),
    ("content filter", [Refuse(403, "content_filter")], "content_filter", False),
    ("window exceeded", [Refuse(400, "context_length_exceeded")], "context_overflow", False),
    ("silence", [Sleep(1e6)], "stalled", True),
]


@pytest.mark.parametrize(("steps", "code", "shown"), [row[1:] for row in SERVING], ids=[row[0] for row in SERVING])
def test_the_server_fails_and_the_local_model_goes_on(steps: list[Any], code: str, *, shown: bool) -> None:
    """In mode cloud with a model ready: the answer comes whole from the browser, the gateway was asked once."""

    async def check() -> None:
        desk = await Desk().ready(mode="cloud")
        desk.upstream.cut = 1
        desk.upstream.default = [SHOWN, *steps] if shown else steps
        desk.engine.scripts.append(["of France is Paris."] if shown else ["The capital of France is Paris."])
        done = await desk.hybrid.complete(ASK)
        assert (done.text, done.provider) == ("The capital of France is Paris.", "local")
        change = done.handover if shown else done.fallback
        assert change is not None
        assert (change["error"]["code"], len(desk.upstream.chats)) == (code, 1)
        told = desk.of("rate-limit:exceeded")
        assert len(told) == (code == "rate_limited")
        assert not told or told[0]["wait_time"] >= 7000
        assert desk.free

    run(check())


@pytest.mark.parametrize("streaming", [True, False])
def test_silent_nonsense_begins_anew_in_the_cloud(*, streaming: bool) -> None:
    """Memory ran out and nobody said so: the same nothing over and over is a failure of health, and nothing to go on from."""

    async def check() -> None:
        desk = await Desk().ready()
        desk.engine.scripts.append([SHOWN, *["!"] * 500])
        desk.upstream.scripts.append(["The capital of France is Paris."])
        if streaming:
            chunks = await desk.read(desk.hybrid.stream(ASK))
            done = chunks[-1].completion
            assert len(chunks) < RUN + 5
        else:
            done = await desk.hybrid.complete(ASK)
        assert (done.text, done.provider) == ("The capital of France is Paris.", "cloud")
        change = done.handover if streaming else done.fallback
        assert change["error"]["code"] == "gibberish"
        assert change["restart"] is True
        assert done.parts[0].text == SHOWN + "!" * RUN
        assert (desk.engine.restarts, len(desk.hybrid._health.breaker("local")._failures)) == (1, 1)
        await desk.local.settled()
        assert desk.local.is_ready()
        assert desk.free

    run(check())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("tiny", ["!"] * (RUN - 1)),
        ("tiny", ["!!"] * 99),
        ("tiny", ["-"] * 99),
        ("tiny", [" ha"] * 99),
        ("tiny", ["!", "\ufffd"] * 99),
        ("toy", ["!"] * 99),
    ],
)
def test_what_is_no_nonsense(model: str, words: list[str]) -> None:
    """A model that repeats itself is left alone, and so is one for tests, which has nothing else to say."""

    async def check() -> None:
        desk = await Desk(models=[entry("tiny"), entry("toy", test_only=True)]).ready(model)
        desk.engine.scripts.append(words)
        done = await desk.hybrid.complete(ASK)
        assert (done.text, done.provider, desk.engine.restarts) == ("".join(words), "local", 0)

    run(check())


@pytest.mark.parametrize(
    "name", ["RangeError", "MessageOrderError", "SeedTypeError", "UnsupportedFieldsError", "FunctionNotFoundError"]
)
def test_the_callers_mistake_goes_nowhere_else(name: str) -> None:
    """What only the engine notices is still the caller's: raised, nobody else asked, no health lost."""

    async def check() -> None:
        desk = await Desk().ready()
        desk.engine.scripts.append([Fail("Error", f"{name}: wrong", "validate")])
        with pytest.raises(CallerError):
            await desk.hybrid.complete(ASK)
        assert (desk.upstream.chats, desk.engine.restarts) == ([], 0)

    run(check())


def test_an_unreachable_gateway() -> None:
    """Three tries in all, then the local model; with none, a typed error that says what to do."""

    async def check() -> None:
        desk = Desk()
        desk.upstream.default = [Unreachable()]
        with pytest.raises(HybridError, match="Is `hybr serve` still running") as error:
            await desk.hybrid.complete(ASK)
        assert (error.value.code, len(desk.upstream.chats)) == ("gateway_unreachable", 3)

    run(check())
