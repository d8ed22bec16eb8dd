"""The blueprint's five boxes, and those behaviours of its first implementation that no other file names: M2-M7, M14, M16, M17."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import ASK, NO, Desk, entry
from lab.engine import Die, Fail, Sleep

from hybr.webapp.hybrid.errors import CloudUnavailableError, UnsupportedError

TEXT = "The capital of France is Paris."
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}]
STATES = ("ready", "loading", "unloaded", "impossible")
# In which states of the local runtime `set_mode` grants a mode to a script (architecture.md).
TRUTH: dict[str, tuple[str, ...]] = {
    "local": ("ready",),
    "local-only": STATES,
    "auto": STATES,
    "cloud": STATES,
    "cloud-only": STATES,
    "remote": (),
}


async def in_state(state: str) -> Desk:
    """A desk whose local runtime is in that state; the mode is another than any that is asked for."""
    desk = Desk(preflight=NO if state == "impossible" else None)
    if state == "ready":
        await desk.local.init("tiny")
    if state == "loading":
        desk.engine.loads.append([Sleep(1000)])
        desk.loading = asyncio.ensure_future(desk.local.init("tiny"))  # type: ignore[attr-defined]
        await asyncio.sleep(0.1)
    return desk


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("mode", TRUTH)
def test_m2_the_truth_table(mode: str, state: str, caplog: pytest.LogCaptureFixture) -> None:
    """M2: by mode and state, whether it is granted: with an event and a line in the history, else with a warning."""

    @virtual
    async def check() -> None:
        desk = await in_state(state)
        before = "auto" if mode != "auto" else "cloud"
        assert desk.hybrid.set_mode(before) is True
        desk.seen.clear()
        granted = state in TRUTH[mode]
        with caplog.at_level(logging.WARNING):
            assert desk.hybrid.set_mode(mode, remember=False) is granted
        assert desk.hybrid.get_mode() == (mode if granted else before)
        changed = [{"from": before, "to": mode, "mode": mode, "manual": True}] if granted else []
        assert desk.of("hybrid-llm:mode-changed") == changed
        assert (desk.hybrid.get_usage_stats()["switch_history"][0]["to"] == mode) is granted
        assert ("set_mode" in caplog.text) is not granted
        if state == "loading":
            await desk.local.cancel_load()

    check()


@virtual
async def test_m3_the_readings() -> None:
    """M3: the blueprint's five readings, under its own names, with a model and without one."""
    desk = Desk()
    assert (desk.hybrid.get_mode(), desk.hybrid.is_local_available()) == ("cloud", False)
    await desk.ready()
    assert (desk.hybrid.get_mode(), desk.hybrid.is_local_available()) == ("local", True)
    await desk.gateway.check()
    status = desk.hybrid.get_status()
    told = {name: status[name] for name in ("mode", "local_available", "cloud_available", "local_model", "local_ready")}
    assert told == {"mode": "local", "local_available": True, "cloud_available": True, "local_model": "tiny", "local_ready": True}
    auto = desk.hybrid.get_auto_switch_config()
    assert (auto["enabled"], auto["fallback_to_cloud"], auto["prefer_local"]) == (False, True, True)
    desk.hybrid.set_mode("auto")
    auto = desk.hybrid.get_auto_switch_config()
    assert (auto["enabled"], auto["prefer_local"]) == (True, False)
    await desk.hybrid.complete(ASK)
    stats = desk.hybrid.get_usage_stats()
    for side in ("local", "cloud"):
        assert set(stats[side]) >= {"requests", "tokens", "errors", "total_time"}
    assert {"fallbacks", "switch_history"} <= set(stats)


@pytest.mark.parametrize("side", ["local", "cloud"])
def test_m4_the_shape_of_a_result(side: str) -> None:
    """M4: text, usage, model, provider, elapsed and tokens a second, from either side."""

    @virtual
    async def check() -> None:
        desk = await Desk().ready()
        ask = desk.hybrid.complete_local if side == "local" else desk.hybrid.complete_cloud
        done = (await ask(ASK)).to_dict()
        assert set(done) >= {"text", "usage", "model", "provider", "elapsed", "tokens_per_second"}
        assert (done["provider"], bool(done["text"]), bool(done["model"])) == (side, True, True)
        assert set(done["usage"]) >= {"prompt_tokens", "completion_tokens", "total_tokens"}
        assert done["usage"]["total_tokens"] == done["usage"]["prompt_tokens"] + done["usage"]["completion_tokens"] > 0
        assert min(done["elapsed"], done["tokens_per_second"]) > 0

    check()


@virtual
async def test_m5_box_2_one_fallback_a_failure() -> None:
    """M5, box 2: a failure of the local model is one call of the cloud and one event that says from where, where to and why."""
    desk = await Desk().ready()
    desk.engine.scripts.append([Fail("Error", "something new")])
    done = await desk.hybrid.complete(ASK, {"request_id": "r"})
    (told,) = desk.of("hybrid-llm:fallback")
    assert (told["from"], told["to"], told["request_id"], told["model"]) == ("local", "cloud", "r", "tiny")
    assert set(told["error"]) >= {"name", "message", "code"}
    assert (done.provider, done.fallback, len(desk.upstream.chats), len(desk.engine.chats)) == ("cloud", told, 1, 1)
    stats = desk.hybrid.get_usage_stats()
    assert (stats["fallback_count"], stats["local"]["fallbacks"], stats["cloud"]["fallbacks"]) == (1, 1, 0)


@virtual
async def test_m6_box_5_no_cloud_client() -> None:
    """M6, box 5: the error says what is missing and what to call; the status says it before anybody asks."""
    desk = Desk(cloud=False)
    with pytest.raises(CloudUnavailableError, match=r"Cloud API client not available: call HybridLLMProvider\.init\("):
        await desk.hybrid.complete(ASK)
    assert "Cloud API client not available" in desk.hybrid.get_status()["cloud_reason"]


@pytest.mark.parametrize("way", ["local", "cloud", "fallback", "handover"])
def test_m7_box_3_the_contract_of_a_stream(way: str) -> None:
    """M7, box 3: `text` is all so far, one chunk is done, it is the last, and has the usage; whichever way the answer went."""

    @virtual
    async def check() -> None:
        desk = await Desk().ready(mode="cloud" if way == "cloud" else "local")
        desk.upstream.default = [TEXT]
        if way == "fallback":
            desk.engine.scripts.append([Die()])
        if way == "handover":
            desk.engine.scripts.append(["The capital ", Die()])
            desk.upstream.default = ["capital of France is Paris."]
        text, chunks = "", []
        async for chunk in desk.hybrid.stream(ASK):
            text += chunk.delta
            assert chunk.text == text
            assert chunk.provider in {"local", "cloud"}
            chunks.append(chunk)
        assert [chunk.done for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
        assert [chunk.usage is not None for chunk in chunks] == [chunk.done for chunk in chunks]
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens > 0
        assert text == TEXT
        await desk.local.settled()

    check()


@virtual
async def test_box_1_local_before_it_is_ready() -> None:
    """Box 1: False and a warning, and nothing else: the next request is answered as before."""
    desk = Desk()
    assert desk.hybrid.set_mode("local", remember=False) is False
    assert (await desk.hybrid.complete(ASK)).provider == "cloud"
    assert desk.of("hybrid-llm:fallback") == []


@virtual
async def test_box_4_the_status_after_each_event() -> None:
    """Box 4: inside every event of a life from load to unload, the status already says what the event says."""
    desk = Desk()
    seen: list[tuple[str, Any]] = []
    wanted = {
        "local-llm:loading": ("state", "loading"),
        "local-llm:progress": ("state", "loading"),
        "local-llm:ready": ("state", "ready"),
        "local-llm:error": ("state", "error"),
        "local-llm:unloaded": ("ready", False),
    }

    def look(name: str, _: dict[str, Any]) -> None:
        if name in wanted:
            field, value = wanted[name]
            seen.append((name, desk.hybrid.get_status()["local"][field] == value))

    desk.events.tap(look)
    assert await desk.local.init("tiny") is True
    desk.engine.die()
    await asyncio.sleep(5)
    await desk.local.settled()
    await desk.local.unload()
    assert {name for name, _ in seen} == set(wanted)
    assert all(right for _, right in seen)


@virtual
async def test_m14_the_catalogue_of_models() -> None:
    """M14: the server's index, with what the page knows beside it; without the server the list that was there stays."""
    desk = Desk(models=[entry("tiny"), entry("big", bytes=10**12), entry("half", quantisation="q4f16_1")])
    models = {one["id"]: one for one in await desk.local.refresh()}
    assert list(models) == ["tiny", "big", "half"]
    assert [models[name]["fits"]["fits"] for name in models] == [True, False, False]
    assert [(models[name]["cached"], models[name]["loaded"]) for name in models] == [(False, False)] * 3
    await desk.local.init("tiny")
    (tiny, *_) = desk.local.get_available_models()
    assert (tiny["loaded"], tiny["cached"]) == (True, True)
    desk.upstream.files.clear()
    assert [one["id"] for one in desk.local.get_available_models()] == ["tiny", "big", "half"]


@virtual
async def test_m16_images_go_to_a_model_that_sees() -> None:
    """M16: parts of a message reach a model that reads images as they are; one that does not is never given them."""
    desk = await Desk(models=[entry("tiny", vision=True), entry("smollm2-135m")]).ready()
    await desk.hybrid.complete_local(IMAGE)
    assert desk.engine.chats[-1]["messages"] == IMAGE
    await desk.local.init("smollm2-135m")
    with pytest.raises(UnsupportedError, match="smollm2-135m cannot read images"):
        await desk.hybrid.complete_local(IMAGE)
    assert len(desk.engine.chats) == 1


@virtual
async def test_m17_the_runtime_tells_about_itself() -> None:
    """M17: which runtime, why, on what adapter, with which limits and storage; and why not, where it cannot run."""
    desk = await Desk().ready()
    info = desk.local.get_runtime_info()
    assert (info["runtime"], info["webgpu"], info["reason"]) == ("webgpu", "yes", None)
    assert info["gpu"]
    assert info["why"]
    assert {"limits", "features", "storage", "profile", "threads"} <= set(info)
    info = Desk(preflight=NO).local.get_runtime_info()
    assert (info["webgpu"], info["reason"], info["remedy"]) == ("no", NO["reason"], NO["remedy"])
