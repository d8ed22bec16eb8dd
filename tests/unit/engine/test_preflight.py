"""The preflight's answers, in a real browser and for browsers played to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from engine_desk import Bench

# Every floor of WebLLM's, met.
LIMITS = {
    "maxBufferSize": 1 << 28,
    "maxStorageBufferBindingSize": 1 << 27,
    "maxComputeWorkgroupStorageSize": 32768,
    "maxStorageBuffersPerShaderStage": 10,
}
PLAY = """({limits, info, features, world}) => bench.preflight({secure: true, isolated: true, caches: true,
    gpu: limits === undefined ? undefined : {requestAdapter: async () => limits && {limits, info, features: new Set(features)}},
    storage: {estimate: async () => ({quota: 5, usage: 2}), persisted: async () => true}, ...world})"""
INFO = {"vendor": "nvidia", "architecture": "ampere", "description": ""}


def play(bench: Bench, **browser: Any) -> dict[str, Any]:
    """Return the preflight's answer for a browser described by its adapter and world."""
    found: dict[str, Any] = bench.page.evaluate(PLAY, {"info": INFO, "features": [], "world": {}, **browser})
    return found


def test_a_device_gets_the_buffers_that_its_adapter_has(bench: Bench) -> None:
    """WebLLM asks for 1 GiB or falls back to 128 MiB: what lies between is asked for too, so that what fits also loads."""
    found = bench.page.evaluate(
        """async () => {
             const native = GPUAdapter.prototype.requestDevice;
             const {watchDevices} = await import('/js/engine/device.js');
             let asked;
             GPUAdapter.prototype.requestDevice = async (descriptor) => {
               asked = descriptor;
               return {lost: new Promise(() => {})};
             };
             watchDevices(() => {});
             const limits = {maxBufferSize: 2 ** 29, maxStorageBufferBindingSize: 2 ** 29 - 4};
             const webllms = {maxBufferSize: 2 ** 28, maxStorageBufferBindingSize: 2 ** 27, maxStorageBuffersPerShaderStage: 10};
             await GPUAdapter.prototype.requestDevice.call({limits}, {requiredLimits: webllms, requiredFeatures: ['subgroups']});
             GPUAdapter.prototype.requestDevice = native;
             return asked;
           }"""
    )
    limits = {"maxBufferSize": 2**29, "maxStorageBufferBindingSize": 2**29 - 4, "maxStorageBuffersPerShaderStage": 10}
    assert found == {"requiredLimits": limits, "requiredFeatures": ["subgroups"]}


def test_the_software_adapter_is_seen_as_what_it_is(bench: Bench) -> None:
    """Chromium's SwiftShader passes every floor, without half precision, under the software profile."""
    found = bench.page.evaluate("bench.preflight()")
    assert (found["webgpu"], found["profile"], found["reason"]) == ("yes", "software", None)
    assert found["adapter"]["architecture"] == "swiftshader"
    assert "shader-f16" not in found["features"]
    assert found["limits"]["maxStorageBuffersPerShaderStage"] >= 10
    assert found["storage"]["quota"] > 0
    assert found["isolated"]
    assert found["sharedMemory"]


def test_a_good_adapter_gets_the_gpu_profile(bench: Bench) -> None:
    """A graphics card at exactly the floors is enough."""
    found = play(bench, limits=LIMITS, features=["shader-f16"])
    assert (found["webgpu"], found["profile"], found["features"]) == ("yes", "gpu", ["shader-f16"])
    assert found["storage"] == {"quota": 5, "usage": 2, "persisted": True}
    assert play(bench, limits=LIMITS, features=["subgroups"])["profile"] == "subgroups"


@pytest.mark.parametrize(
    "info", [{"architecture": "swiftshader"}, {"description": "llvmpipe (LLVM 17)"}, {"isFallbackAdapter": True}]
)
def test_adapters_on_the_cpu_get_the_software_profile(bench: Bench, info: dict[str, Any]) -> None:
    """By name or by the fallback flag."""
    assert play(bench, limits=LIMITS, info={**INFO, **info})["profile"] == "software"


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_an_adapter_below_a_floor_is_named_with_the_limit(bench: Bench, name: str) -> None:
    """The reason names the limit, what it is and what it must be."""
    found = play(bench, limits={**LIMITS, name: LIMITS[name] - 1})
    assert found["webgpu"] == "no"
    assert f"{name} is {LIMITS[name] - 1}" in found["reason"]
    assert str(LIMITS[name]) in found["reason"]
    assert found["profile"] is None


@pytest.mark.parametrize(
    ("browser", "reason", "remedy"),
    [
        ({"limits": None}, "no graphics adapter", "hardware acceleration"),
        ({}, "has no WebGPU", "Chrome or Edge 113"),
        ({"limits": LIMITS, "world": {"secure": False}}, "plain http", "https"),
        ({"limits": LIMITS, "world": {"caches": False}}, "keeps no files", "site data"),
    ],
)
def test_each_no_has_its_reason_and_remedy(bench: Bench, browser: dict[str, Any], reason: str, remedy: str) -> None:
    """No adapter, no WebGPU, no secure context, no storage: each in words a person can act on."""
    found = play(bench, **browser)
    assert found["webgpu"] == "no"
    assert reason in found["reason"]
    assert remedy in found["remedy"]


def test_a_browser_that_throws_is_an_answer_too(bench: Bench) -> None:
    """The preflight never fails: an adapter request that throws is a no, storage that throws is unknown."""
    found = bench.page.evaluate(
        """() => { const no = async () => { throw new DOMException('no', 'SecurityError'); };
             const world = {secure: true, isolated: false, caches: true};
             return bench.preflight({...world, gpu: {requestAdapter: no}, storage: {estimate: no, persisted: no}}); }"""
    )
    assert (found["webgpu"], found["storage"], found["isolated"]) == ("no", None, False)
