"""Which runtime is chosen and why; and that WebGPU which keeps failing gives way to WebAssembly for the next request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import ASK, NO, YES, Desk, MemoryStorage, entry
from lab.engine import Die, Fail, ScriptedEngine

from hybr.webapp.hybrid import device
from hybr.webapp.hybrid.choice import WINDOW_S, Choice
from hybr.webapp.hybrid.local import LocalLLM
from hybr.webapp.hybrid.profile import DeviceProfile, key
from hybr.webapp.hybrid.provider import HybridLLMProvider
from hybr.webapp.hybrid.types import Final
from hybr.webapp.runtimes.catalogue import Catalogue
from hybr.webapp.runtimes.webllm import WebLLM
from hybr.webapp.runtimes.wllama import Wllama
from hybr.webapp.state.preferences import Preferences

WASM = {"wasm": "yes"}
GGUF = {"gguf": {"path": "tiny.gguf", "bytes": 700, "sha256": "0" * 64}}
SOFT = {**YES, **WASM, "profile": "software"}


def chooser(preflight: dict[str, Any], profile: DeviceProfile | None = None, **stored: Any) -> Choice:
    """A Choice that knows a preflight and stored preferences."""
    preferences = Preferences(MemoryStorage())
    for name, value in stored.items():
        preferences.set(name, value)
    engine = ScriptedEngine()
    choice = Choice(WebLLM(engine), Wllama(engine), preferences, profile or DeviceProfile())
    choice.preflight = preflight
    return choice


CASES: list[tuple[dict[str, Any], str, tuple[str, str]]] = [
    ({}, "auto", ("webgpu", "webgpu")),
    ({**YES, **WASM}, "auto", ("webgpu", "webgpu")),
    ({**NO, **WASM}, "auto", ("wasm", "no_webgpu")),
    ({**NO, "wasm": "no"}, "auto", ("webgpu", "webgpu")),
    ({**YES, **WASM}, "wasm", ("wasm", "wished")),
    ({**NO, **WASM}, "webgpu", ("webgpu", "wished")),
    ({**YES, **WASM}, "abacus", ("webgpu", "webgpu")),
]


@pytest.mark.parametrize(("preflight", "wish", "made"), CASES)
def test_preflight_and_wish_decide(preflight: dict[str, Any], wish: str, made: tuple[str, str]) -> None:
    """WebGPU wherever it works, WebAssembly where it does not but that does; a wish goes before both, nonsense is none."""
    assert chooser(preflight, runtime=wish).made() == made


def measured(wasm: float | None, webgpu: float | None) -> DeviceProfile:
    """A profile with both rates of one model."""
    profile = DeviceProfile()
    for runtime, rate in (("wasm", wasm), ("webgpu", webgpu)):
        if rate:
            profile.learn(key("tiny", runtime), Final("tiny", "stop", None, prefill_tps=rate, decode_tps=rate))
    return profile


RATES = [(29.0, 0.4, "wasm"), (29.0, 20.0, "webgpu"), (29.0, None, "webgpu"), (None, 0.4, "webgpu")]


@pytest.mark.parametrize(("wasm", "webgpu", "name"), RATES)
def test_a_software_adapter_gives_way_to_what_was_measured(wasm: float | None, webgpu: float | None, name: str) -> None:
    """Only when both were measured with this model and WebAssembly is at least twice as fast; a real GPU never gives way."""
    profile = measured(wasm, webgpu)
    assert chooser(SOFT, profile, model="tiny").made()[0] == name
    assert chooser({**SOFT, "profile": "gpu"}, profile, model="tiny").made()[0] == "webgpu"
    assert chooser(SOFT, profile, model="another").made()[0] == "webgpu"


def test_two_failures_within_the_window() -> None:
    """One failure is bad luck, and so are two that are far apart; a wish for WebGPU is never overruled; a new wish forgives."""
    choice = chooser({**YES, **WASM})
    assert [choice.failed(at) for at in (0.0, WINDOW_S + 1, WINDOW_S + 2)] == [False, False, True]
    assert choice.made() == ("wasm", "failing")
    assert choice.prefer("auto")
    assert choice.made() == ("webgpu", "webgpu")
    wished = chooser({**YES, **WASM}, runtime="webgpu")
    assert [wished.failed(at) for at in (0.0, 1.0)] == [False, False]
    assert [chooser({**YES, "wasm": "no"}).failed(at) for at in (0.0, 1.0)] == [False, False]


FITS = [
    ({**NO, **WASM}, {}, "WebGPU only"),
    ({**NO, **WASM}, GGUF, ""),
    ({**NO, "wasm": "no", "wasm_reason": "This browser has no SIMD."}, GGUF, "no SIMD"),
    ({**NO, **WASM}, {"gguf": {"bytes": 3 << 30}}, "too long"),
    ({**NO, **WASM, "storage": {"quota": 500, "usage": 0}}, GGUF, "room"),
    ({**NO, **WASM}, {"state": "building"}, ""),
]


@pytest.mark.parametrize(("preflight", "more", "reason"), FITS)
def test_fits_on_the_processor(preflight: dict[str, Any], more: dict[str, Any], reason: str) -> None:
    """A model fits by its GGUF, whatever WebGPU would say; the reason names what is missing."""
    verdict = device.fits(entry("tiny-q4f16_1", **more), preflight, runtime="wasm")
    assert verdict["fits"] is not bool(reason)
    assert reason in verdict["reason"]


class Both(Desk):
    """The desk with the second runtime, on the same scripted engine as in the page."""

    def __init__(self, preflight: dict[str, Any]) -> None:
        super().__init__(preflight=preflight)
        self.upstream.files["/models/index.json"] = {"models": [entry("tiny", **GGUF), entry("bare")]}
        self.local = LocalLLM(
            WebLLM(self.engine), Catalogue(self.upstream), self.events, self.preferences, processor=Wllama(self.engine)
        )
        self.hybrid = HybridLLMProvider(self.local, self.gateway, self.events, self.preferences, now=lambda: 1000.0)
        self.hybrid.init()
        self.local.preflight(preflight)


@virtual
async def test_without_webgpu_local_modes_hold() -> None:
    """No WebGPU but WebAssembly: unloaded, not unsupported; it loads, and local, private and local-only hold."""
    desk = Both({**NO, **WASM})
    status = desk.local.get_status()
    assert (status["state"], status["runtime"], status["webgpu"]) == ("unloaded", "wasm", "no")
    assert desk.local.get_runtime_info()["why"] == "no_webgpu"
    await desk.ready("tiny")
    for options in ({}, {"private": True}):
        assert (await desk.hybrid.complete(ASK, options)).provider == "local"
    assert desk.hybrid.set_mode("local-only") is True
    assert (await desk.hybrid.complete(ASK)).provider == "local"
    assert desk.local.profile.of("tiny@wasm").requests == 3
    assert desk.local.profile.of("tiny").requests == 0
    refused = await desk.local.init("bare")
    assert isinstance(refused, dict)
    assert "WebGPU only" in refused["error"]["message"]


@virtual
async def test_webgpu_that_keeps_failing_gives_way() -> None:
    """The second death under answers: the request is rescued as ever, the next one is answered by WebAssembly, and it is said."""
    desk = await Both({**YES, **WASM}).ready("tiny")
    for _ in range(2):
        assert desk.local.get_status()["runtime"] == "webgpu"
        desk.engine.scripts.append([Die()])
        assert (await desk.hybrid.complete(ASK)).provider == "cloud"
        await desk.local.settled()
    await asyncio.sleep(5)
    status = desk.local.get_status()
    assert (status["state"], status["runtime"]) == ("ready", "wasm")
    assert desk.local.get_runtime_info()["why"] == "failing"
    assert desk.of("local-llm:ready")[-1]["runtime"] == "wasm"
    assert desk.local.profile.of("tiny").failures == {"engine_died": 2}
    assert await desk.local.set_runtime("auto") is True
    assert desk.local.get_status()["runtime"] == "webgpu"


@virtual
async def test_loads_that_fail_on_the_adapter_give_way_too() -> None:
    """A model that twice cannot be put into graphics memory is loaded on the processor; a failed download changes nothing."""
    desk = Both({**YES, **WASM})
    desk.engine.loads += [[Fail("NetworkError", "Cannot fetch", "download")]] * 6  # each load tries three times
    for _ in range(2):
        assert isinstance(await desk.local.init("tiny"), dict)
    await asyncio.sleep(5)
    assert desk.local.get_status()["state"] == "error"
    desk.engine.loads += [[Fail("GPUPipelineError", "Invalid ShaderModule", "load")]] * 2
    for _ in range(2):
        assert isinstance(await desk.local.init("tiny"), dict)
    await asyncio.sleep(5)
    assert (desk.local.get_status()["state"], desk.local.get_status()["runtime"]) == ("ready", "wasm")


@virtual
async def test_a_model_without_a_gguf_stays_where_it_is() -> None:
    """There is nothing to give way to: after two deaths the model is not loaded again by itself, and WebGPU stays chosen."""
    desk = await Both({**YES, **WASM}).ready("bare")
    for _ in range(2):
        desk.engine.scripts.append([Die()])
        await desk.hybrid.complete(ASK)
        await desk.local.settled()
    await asyncio.sleep(5)
    assert (desk.local.get_status()["state"], desk.local.get_status()["runtime"]) == ("error", "webgpu")


@virtual
async def test_a_change_of_runtime_unloads_and_is_remembered() -> None:
    """`set_runtime` frees the model of the other runtime and stores the wish; `force` holds for this page only."""
    desk = await Both({**YES, **WASM}).ready("tiny")
    assert await desk.local.set_runtime("abacus") is False
    assert await desk.local.set_runtime("wasm") is True
    assert (desk.local.get_status()["state"], desk.local.get_status()["runtime"]) == ("unloaded", "wasm")
    assert desk.preferences.get("runtime") == "wasm"
    assert desk.preferences.get("load_at_start") is True, "the next visit loads it there"
    desk.local.force("webgpu")
    assert desk.local.get_status()["runtime"] == "webgpu"
    assert desk.preferences.get("runtime") == "wasm"
