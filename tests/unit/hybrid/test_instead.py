"""What a load that failed asks for: a smaller or float32 model, a cleared cache, another try; each once, and said."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import ASK, Desk, entry
from lab.engine import Die, Fail, Sleep

from hybr.webapp.hybrid import room
from hybr.webapp.hybrid.instead import choose

BIG = entry("big-q4f16_1", quantisation="q4f16_1", bytes=9000, family="big")
TWIN = entry("big-q4f32_1", bytes=9500, family="big")
MIDDLE, SMALL = entry("middle", bytes=5000), entry("small", bytes=2000)
F16 = {"webgpu": "yes", "features": ["shader-f16"], "limits": {}}
OOM = Fail("Error", "DeviceLostError: The WebGPU device was lost.", "load")


def test_the_choice() -> None:
    """The twin for a shader, the largest smaller one for memory, what is in the browser first, and never a test's model."""
    everything = [BIG, TWIN, MIDDLE, SMALL, entry("unbuilt", "missing", bytes=8000), entry("toy", bytes=7000, test_only=True)]

    def choice(code: str, *entries: dict[str, Any], able: Any = lambda _: True) -> str | None:
        return choose(BIG, code, entries or everything, able)

    assert choice("needs_f16") == "big-q4f32_1"
    assert choice("bad_shader", BIG, MIDDLE, SMALL) == "middle"
    assert choice("out_of_memory") == "middle"
    assert choice("out_of_memory", MIDDLE, {**SMALL, "cached": True}) == "small"
    assert choice("out_of_memory", able=lambda one: one["id"] == "small") == "small"
    assert choice("out_of_memory", BIG, TWIN) is None


@virtual
async def test_out_of_memory_loads_a_smaller_one() -> None:
    """The person gets the error of the model they asked for, and the next request a smaller model; status and event say why."""
    desk = Desk(models=[BIG, MIDDLE, SMALL], preflight=F16)
    desk.engine.loads.append([Sleep(0.1), OOM])
    result = await desk.local.init("big-q4f16_1")
    assert isinstance(result, dict)
    assert result["error"]["code"] == "out_of_memory"
    (told,) = desk.of("local-llm:replaced")
    assert (told["model"], told["instead"], told["error"]["code"]) == ("big-q4f16_1", "middle", "out_of_memory")
    await desk.local.settled()
    assert (desk.local.model, desk.local.get_status()["instead_of"]) == ("middle", told)
    desk.hybrid.set_mode("local")
    assert (await desk.hybrid.complete(ASK)).model == "middle"
    assert desk.local.profile.of("big-q4f16_1").failures == {"out_of_memory": 1}
    assert await desk.local.init("small") is True
    assert desk.local.get_status()["instead_of"] is None


@virtual
async def test_one_after_the_other_until_one_runs() -> None:
    """Each is tried once: the next smaller after the next smaller, and when none is left the last error stands."""
    desk = Desk(models=[BIG, MIDDLE, SMALL], preflight=F16)
    desk.engine.loads.extend([[OOM], [OOM], [OOM]])
    await desk.local.init("big-q4f16_1")
    await asyncio.sleep(10)
    await desk.local.settled()
    assert [detail["instead"] for detail in desk.of("local-llm:replaced")] == ["middle", "small"]
    assert (desk.local.get_status()["state"], desk.local.get_status()["model"]) == ("error", "small")
    assert desk.engine.ops.count("load") == 3


@virtual
async def test_a_shader_that_does_not_compile_loads_the_float32_twin() -> None:
    """WGSL without f16, once: the twin comes."""
    desk = Desk(models=[BIG, TWIN, SMALL], preflight=F16)
    desk.engine.loads.append([Fail("Error", "Error while parsing WGSL: extension 'f16' is not allowed", "load")])
    await desk.local.init("big-q4f16_1")
    await desk.local.settled()
    assert desk.local.model == "big-q4f32_1"


@virtual
async def test_a_model_that_dies_twice_gives_way_to_a_smaller_one() -> None:
    """Two deaths within a few minutes: the third time a smaller model is loaded, and the cloud answers meanwhile."""
    desk = await Desk(models=[MIDDLE, SMALL]).ready("middle")
    desk.engine.die()
    await asyncio.sleep(5)
    assert desk.local.model == "middle"
    desk.engine.scripts.append(["The ", Die()])
    assert (await desk.hybrid.complete(ASK)).provider == "cloud"
    await asyncio.sleep(5)
    assert (desk.local.model, desk.of("local-llm:replaced")[0]["error"]["code"]) == ("small", "died_twice")


@virtual
async def test_a_corrupt_model_is_cleared_once() -> None:
    """Its files are deleted and it is loaded again; the second time the error stands."""
    corrupt = Fail("CompileError", "WebAssembly.instantiate(): bad magic", "load")
    desk = Desk()
    desk.engine.loads.extend([[corrupt], [Sleep(0.1)]])
    assert await desk.local.init("tiny") is True
    assert desk.engine.ops.count("delete") == 1
    desk = Desk()
    desk.engine.loads.extend([[corrupt], [corrupt]])
    result = await desk.local.init("tiny")
    assert isinstance(result, dict)
    assert (result["error"]["code"], desk.engine.ops.count("load")) == ("corrupt_model", 2)


@virtual
async def test_a_fresh_copy_that_differs_is_told_as_tampering() -> None:
    """IntegrityError twice: the cache is cleared once, then it stops with an alert."""
    wrong = Fail("IntegrityError", "sha256 differs", "load")
    desk = Desk()
    desk.engine.loads.extend([[wrong], [wrong]])
    result = await desk.local.init("tiny")
    assert isinstance(result, dict)
    assert (result["error"]["code"], desk.engine.ops.count("load"), desk.engine.ops.count("delete")) == ("tampered", 2, 1)
    assert "somebody may have changed it" in result["error"]["message"]


@virtual
async def test_a_download_that_breaks_off_is_gone_on_with() -> None:
    """Three tries with growing pauses; files that are whole are kept."""
    broken = Fail("NetworkError", "Cache.add() encountered a network error", "download")
    desk = Desk()
    desk.engine.loads.extend([[broken], [broken], [Sleep(0.1)]])
    start = asyncio.get_running_loop().time()
    assert await desk.local.init("tiny") is True
    assert asyncio.get_running_loop().time() - start == pytest.approx(5.1, abs=0.1)
    desk = Desk()
    desk.engine.loads.extend([[broken]] * 3)
    result = await desk.local.init("tiny")
    assert isinstance(result, dict)
    assert (result["error"]["code"], desk.engine.ops.count("delete")) == ("download_failed", 0)


FULL = Fail("QuotaExceededError", "Quota exceeded.", "download")


def test_who_gives_way() -> None:
    """The one used longest ago first, one never used before all, no more than are needed, and nobody where it is no use."""
    sizes = {"a": 10, "b": 20, "c": 30, "mine": 99}

    def gone(need: int, free: int = 0, recent: tuple[str, ...] = ("a", "b", "c")) -> list[str]:
        return room.choose(need, free, sizes, recent, {"mine"})

    assert gone(25) == ["c"]
    assert gone(40) == ["c", "b"]
    assert gone(40, free=10) == ["c"]
    assert gone(5, free=50) == ["c"]  # there seemed to be room, and there was none
    assert gone(15, recent=("c", "b")) == ["a", "b"]
    assert gone(61) == []
    assert room.choose(1, 0, {}, (), ()) == []


async def filled() -> Desk:
    """A browser with two models, `middle` loaded before `small`; and no room for a third."""
    desk = Desk(models=[BIG, MIDDLE, SMALL], preflight=F16)
    for model in ("middle", "small"):
        assert await desk.local.init(model) is True
    desk.engine.loads.extend([[Sleep(0.1), FULL], [Sleep(0.1)]])
    desk.engine.begun["big-q4f16_1"] = (4_500, 9_000)
    desk.seen.clear()
    return desk


@virtual
async def test_no_room_others_give_way() -> None:
    """Quota exceeded: the model that was used longest ago goes, it is told, and the load goes on where it was."""
    desk = await filled()
    assert await desk.local.init("big-q4f16_1") is True
    (told,) = desk.of("local-llm:evicted")
    assert told == {"model": "big-q4f16_1", "removed": ["middle"], "bytes": 5000}
    assert desk.engine.cache == {"small", "big-q4f16_1"}
    assert desk.of("local-llm:error") == []
    assert [one for one in desk.engine.ops if one in {"load", "delete"}][-3:] == ["load", "delete", "load"]


@virtual
async def test_no_room_and_nobody_gives_way() -> None:
    """Where the person would rather keep them, or it would not be enough, nothing goes, and a smaller model takes its place."""
    desk = await filled()
    desk.hybrid.set_recovery({"make_room": False})
    result = await desk.local.init("big-q4f16_1")
    assert isinstance(result, dict)
    assert (result["error"]["code"], desk.engine.ops.count("delete"), desk.of("local-llm:evicted")) == ("no_space", 0, [])
    assert desk.of("local-llm:replaced")[0]["instead"] == "middle"
    await desk.local.settled()
    desk = await filled()
    desk.engine.begun.clear()
    desk.upstream.files["/models/index.json"] = {"schema": 1, "models": [{**BIG, "bytes": 90_000}, MIDDLE, SMALL]}
    await desk.local.refresh()
    result = await desk.local.init("big-q4f16_1")
    assert isinstance(result, dict)
    assert (result["error"]["code"], desk.engine.ops.count("delete")) == ("no_space", 0)
    await desk.local.settled()
