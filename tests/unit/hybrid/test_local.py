"""LocalLLM: loading, waiting for a build, switching, cancelling, and what happens when the engine dies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import ASK, NO, YES, Desk, MemoryStorage, entry
from lab.engine import Die, Fail, Sleep

from hybr.webapp.hybrid.errors import LocalUnavailableError
from hybr.webapp.hybrid.types import Call, Options
from hybr.webapp.runtimes.base import EngineCallError


def failure(result: bool | dict[str, Any]) -> dict[str, Any]:
    """The error of an `init` that failed."""
    assert isinstance(result, dict)
    assert result["success"] is False
    return dict(result["error"])


@virtual
async def test_m12_a_load_from_start_to_ready() -> None:
    """M12: loading, progress from 0 to 1 that never goes back, ready; and the status says the same."""
    desk = Desk()
    desk.engine.loads.append([Sleep(1)] * 10)
    assert await desk.local.init("tiny") is True
    assert [name for name, _ in desk.seen if name.startswith("local-llm:")][:3] == [
        "local-llm:models",
        "local-llm:loading",
        "local-llm:progress",
    ]
    parts = [detail["progress"] for detail in desk.of("local-llm:progress")]
    assert parts == sorted(parts)
    assert 0 <= parts[0] < parts[-1] <= 1
    assert desk.of("local-llm:ready")[0]["runtime"] == "webgpu"
    status = desk.local.get_status()
    assert (status["state"], status["model"], status["progress"], status["webgpu"]) == ("ready", "tiny", 1.0, "yes")
    assert desk.local.get_runtime_info()["gpu"] == {"vendor": "scripted"}
    assert await desk.local.init("tiny") is True  # at once
    assert len(desk.of("local-llm:loading")) == 1


@virtual
async def test_two_inits_of_one_model_are_one_load() -> None:
    """A second `init` of the model that is loading joins the first."""
    desk = Desk()
    results = await asyncio.gather(desk.local.init("tiny"), desk.local.init("tiny"))
    assert results == [True, True]
    assert desk.engine.ops.count("load") == 1


@virtual
async def test_an_init_that_nobody_awaits_goes_on() -> None:
    """A caller that gives up waiting does not end the load."""
    desk = Desk()
    task = asyncio.create_task(desk.local.init("tiny"))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(1)
    assert desk.local.is_ready()


@virtual
async def test_another_model_replaces_a_load() -> None:
    """Of two loads the later wins; the earlier one is told why it ended."""
    desk = Desk()
    desk.engine.loads.append([Sleep(100)])
    first = asyncio.create_task(desk.local.init("tiny"))
    await asyncio.sleep(0.1)
    assert await desk.local.init("smollm2-135m") is True
    assert "smollm2-135m" in failure(await first)["message"]
    assert desk.local.model == "smollm2-135m"
    assert len(desk.of("local-llm:ready")) == 1


@virtual
async def test_m15_a_switch_frees_first() -> None:
    """M15: switching unloads the former model, with its event, before the next is loaded."""
    desk = await Desk().ready("tiny")
    assert await desk.local.switch_model("smollm2-135m") is True
    assert desk.of("local-llm:unloaded") == [{"model": "tiny", "reason": "switch"}]
    assert desk.engine.ops[-2:] == ["unload", "load"]


@virtual
async def test_d14_a_failed_switch_leaves_a_true_status() -> None:
    """D14: the load fails: the status says error, nothing is ready, the mode is cloud; an unknown model changes nothing."""
    desk = await Desk().ready("tiny")
    assert failure(await desk.local.switch_model("nope"))["code"] == "unknown_model"
    assert desk.local.model == "tiny"
    desk.engine.loads.append([Fail("IntegrityError", "sha256 of params_shard_0.bin is wrong", "download")])
    error = failure(await desk.local.switch_model("smollm2-135m"))
    assert error["code"] == "tampered"
    assert "nothing of it was kept" in error["message"]
    assert desk.engine.ops.count("load") == 2  # what may have been tampered with is not fetched again and again
    status = desk.local.get_status()
    assert (status["state"], status["model"], status["error"]) == ("error", "smollm2-135m", error)
    assert (desk.local.is_ready(), desk.hybrid.get_mode()) == (False, "cloud")


@virtual
async def test_d13_errors_are_typed() -> None:
    """D13, M13: whatever is thrown, `init` never raises and the error has name, message and code."""
    desk = Desk()
    for fault in (
        Fail("Error", "DeviceLostError: gone", "load"),
        Fail("", "boom", ""),
        Fail("QuotaExceededError", "Quota", "download"),
    ):
        desk.engine.loads.append([fault])
        error = failure(await desk.local.init("tiny"))
        assert set(error) >= {"name", "message", "code"}
        assert all(isinstance(value, str) for value in error.values())
        assert desk.local.get_status()["error"] == error
    for junk in (None, 3, "", {}):
        assert failure(await desk.local.init(junk))["code"] == "unknown_model"  # type: ignore[arg-type]


@virtual
async def test_without_webgpu() -> None:
    """Nothing can run here: unsupported, with the reason and what would change it; a better probe later is believed."""
    desk = Desk(preflight=NO)
    status = desk.local.get_status()
    assert (status["state"], status["webgpu"]) == ("unsupported", "no")
    assert status["reason"] == "This browser has no WebGPU. Use another."
    error = failure(await desk.local.init("tiny"))
    assert error["message"].startswith("WebGPU unavailable: This browser has no WebGPU.")
    assert desk.of("local-llm:error")[0]["error"] == error
    assert desk.local.unavailable().code == "no_webgpu"
    desk.local.preflight(YES)
    assert desk.local.get_status()["state"] == "unloaded"


@virtual
async def test_a_model_that_does_not_fit() -> None:
    """A model beyond the adapter is refused before a byte is downloaded."""
    desk = Desk()
    desk.upstream.files["/models/index.json"] = {"models": [entry("big-q4f16_1")]}
    error = failure(await desk.local.init("big-q4f16_1"))
    assert "shader-f16" in error["message"]
    assert "load" not in desk.engine.ops


@virtual
async def test_a_preflight_that_never_comes(caplog: pytest.LogCaptureFixture) -> None:
    """Without the shell's word the load is tried after a while."""
    desk = Desk()
    desk.local._probed.clear()
    assert await desk.local.init("tiny") is True
    assert asyncio.get_running_loop().time() > 20
    assert "preflight" in caplog.text


@virtual
async def test_a_model_that_is_being_built_is_waited_for() -> None:
    """`init` waits for the server's build, shows it as progress, and gets over a server that does not answer for a while."""
    desk = Desk()
    building = entry("tiny", "building", progress={"step": "compile", "fraction": 0.0, "text": "compiling", "eta_s": 30})

    def index(method: str, body: object) -> object:
        now = asyncio.get_running_loop().time()
        if 3 < now < 6:
            return 503, {}
        progress = {**building["progress"], "fraction": min(now / 10, 1.0)}
        return {"models": [{**building, "progress": progress} if now < 10 else entry("tiny")]}

    desk.upstream.files["/models/index.json"] = index
    assert await desk.local.init("tiny") is True
    parts = [detail["progress"] for detail in desk.of("local-llm:progress")]
    assert parts == sorted(parts)
    assert "compiling" in desk.of("local-llm:progress")[0]["text"]
    assert parts[5] <= 0.5 <= parts[-1]


@pytest.mark.parametrize(
    ("state", "code", "said"),
    [("missing", "not_built", "hybr models build tiny"), ("failed", "build_failed", "no compiler")],
)
def test_a_model_that_is_not_there(state: str, code: str, said: str) -> None:
    """A model that the server has not or could not build says so, with the command that builds it."""

    @virtual
    async def check() -> None:
        desk = Desk()
        desk.upstream.files["/models/index.json"] = {"models": [entry("tiny", state, error={"message": "no compiler"})]}
        error = failure(await desk.local.init("tiny"))
        assert error["code"] == code
        assert said in error["message"]

    check()


@virtual
async def test_a_server_that_goes_while_it_builds() -> None:
    """The build's server does not come back: the load ends with an error instead of waiting for ever."""
    desk = Desk()
    desk.upstream.files["/models/index.json"] = {"models": [entry("tiny", "building")]}
    load = asyncio.create_task(desk.local.init("tiny"))
    await asyncio.sleep(0.5)
    desk.upstream.down = True
    assert failure(await load)["code"] == "no_index"


@virtual
async def test_no_index_at_all() -> None:
    """Without a list of models the error says that, and `lists` knows nothing."""
    desk = Desk()
    desk.upstream.down = True
    assert failure(await desk.local.init("tiny"))["code"] == "no_index"
    assert await desk.local.lists("tiny") is False


@virtual
async def test_cancel_a_load() -> None:
    """Cancelling: `init` returns `aborted`, the status is unloaded, the engine is told, and a new load works."""
    desk = Desk()
    assert await desk.local.cancel_load() is False
    desk.engine.loads.append([Sleep(100)])
    load = asyncio.create_task(desk.local.init("tiny"))
    await asyncio.sleep(0.1)
    assert desk.local.is_loading()
    assert desk.local.unavailable().code == "local_loading"
    assert await desk.local.cancel_load() is True
    assert failure(await load)["code"] == "aborted"
    assert desk.local.get_status()["state"] == "unloaded"
    assert desk.of("local-llm:unloaded") == [{"model": "tiny", "reason": "cancelled"}]
    assert "cancel-load" in desk.engine.ops
    assert desk.preferences.get("load_at_start") is False
    assert await desk.local.init("tiny") is True


@virtual
async def test_a_load_that_the_engine_gave_up() -> None:
    """The engine itself says AbortError: not an error, the model is just not loaded."""
    desk = Desk()
    desk.engine.loads.append([Fail("AbortError", "Reload() is aborted.", "load")])
    assert failure(await desk.local.init("tiny"))["code"] == "aborted"
    assert desk.local.get_status()["state"] == "unloaded"


@virtual
async def test_unload() -> None:
    """Unloading frees the model and is remembered; unloading nothing is False; during a load it cancels that."""
    desk = await Desk().ready()
    assert await desk.local.unload() is True
    assert desk.local.get_status()["state"] == "unloaded"
    assert desk.of("local-llm:unloaded") == [{"model": "tiny", "reason": "unload"}]
    assert await desk.local.unload() is False
    assert desk.preferences.get("load_at_start") is False
    load = asyncio.create_task(desk.local.init("tiny"))
    await asyncio.sleep(0.1)
    assert await desk.local.unload() is True
    assert failure(await load)["code"] == "aborted"


@virtual
async def test_delete() -> None:
    """Deleting unloads first and is seen in the list; a failing engine is told, not raised."""
    desk = await Desk().ready()
    await desk.local.refresh()
    tiny = desk.local.get_available_models()[0]
    assert (tiny["cached"], tiny["loaded"], tiny["fits"]["fits"]) == (True, True, True)
    assert await desk.local.delete("tiny") is True
    assert desk.local.get_status()["state"] == "unloaded"
    tiny = desk.local.get_available_models()[0]
    assert (tiny["cached"], tiny["loaded"]) == (False, False)
    desk.engine._do = failing  # type: ignore[method-assign]
    assert await desk.local.delete("smollm2-135m") is False


async def failing(op: str, args: object, tell: object) -> dict[str, Any]:
    """An engine whose every operation fails."""
    raise EngineCallError("UnknownError", "disk", "worker")


@virtual
async def test_death_in_mid_load() -> None:
    """The worker dies while it loads: `init` returns the failure at once, the worker is replaced, nothing is loaded by itself."""
    desk = Desk()
    desk.engine.loads.append([Sleep(0.1), Die()])
    error = failure(await desk.local.init("tiny"))
    assert (error["name"], error["code"]) == ("EngineDeadError", "engine_died")
    assert desk.local.get_status()["state"] == "error"
    assert len(desk.of("local-llm:error")) == 1
    assert desk.engine.restarts == 1
    await asyncio.sleep(60)
    assert desk.local.get_status()["state"] == "error"
    assert await desk.local.init("tiny") is True


@virtual
async def test_death_of_a_ready_model_is_repaired_once() -> None:
    """A model that was ready comes back by itself, the mode with it; if it dies again soon it is left to the person."""
    desk = await Desk().ready()
    desk.engine.die()
    assert (desk.local.is_ready(), desk.local.get_status()["state"], desk.hybrid.get_mode()) == (False, "error", "cloud")
    assert [name for name, _ in desk.seen] == ["local-llm:error", "local-llm:unloaded", "hybrid-llm:mode-changed"]
    assert desk.local.unavailable().code == "engine_died"
    await asyncio.sleep(10)
    assert (desk.local.is_ready(), desk.hybrid.get_mode()) == (True, "local")
    desk.engine.die()
    await asyncio.sleep(30)
    assert not desk.local.is_ready()
    assert await desk.local.init("tiny") is True
    await asyncio.sleep(400)
    desk.engine.die()
    await asyncio.sleep(10)
    assert desk.local.is_ready()


@virtual
async def test_the_person_may_reload_before_the_repair() -> None:
    """A load by hand takes the repair's place."""
    desk = await Desk().ready()
    desk.engine.die()
    assert await desk.local.init("smollm2-135m") is True
    await asyncio.sleep(10)
    assert desk.local.model == "smollm2-135m"


@virtual
async def test_death_of_an_idle_engine() -> None:
    """A worker that dies with no model in it is replaced in silence."""
    desk = Desk()
    desk.engine.die()
    assert desk.engine.restarts == 1
    assert desk.of("local-llm:error") == []
    assert desk.local.get_status()["state"] == "unloaded"
    assert await desk.local.init("tiny") is True


@virtual
async def test_a_lost_device() -> None:
    """The model is gone though the worker lives: the same as a death."""
    desk = await Desk().ready()
    desk.engine.lose()
    assert desk.of("local-llm:unloaded") == [{"model": "tiny", "reason": "device_lost"}]
    await asyncio.sleep(10)
    assert desk.local.is_ready()


@virtual
async def test_resume_only_what_is_there() -> None:
    """After a reload the last model is loaded if its files are in the browser; nothing is downloaded unasked."""
    assert await Desk().local.resume() is False
    stored = {"preferences": '{"model": "tiny", "load_at_start": true}'}
    desk = Desk(storage=MemoryStorage(stored))
    assert await desk.local.resume() is False
    assert "load" not in desk.engine.ops
    desk.engine.cache = {"tiny"}
    assert await desk.local.resume() is True


@virtual
async def test_chat_without_a_model() -> None:
    """Asking LocalLLM itself while nothing is loaded says what to do."""
    desk = Desk()
    with pytest.raises(LocalUnavailableError, match="load one first"):
        await desk.local.chat(Call("x", tuple(ASK), Options()), lambda _: None)


@virtual
async def test_a_load_replaced_before_its_first_step() -> None:
    """Found by the state machine: a load that is replaced at once is answered, not cancelled into its caller's face."""
    desk = Desk()
    await desk.local.refresh()
    first = asyncio.create_task(desk.local.init("tiny"))
    await asyncio.sleep(0)
    second = asyncio.create_task(desk.local.init("smollm2-135m"))
    assert failure(await first)["code"] == "aborted"
    assert await second is True


@virtual
async def test_a_damaged_copy_is_loaded_once_more() -> None:
    """The engine dropped a damaged file, or the index was old: one more try by itself, with the new index; not two."""
    for fault in (Fail("IntegrityError", "dropped", "load"), Fail("ModelFileMissingError", "404", "download")):
        desk = Desk()
        desk.engine.loads.append([fault])
        assert await desk.local.init("tiny") is True
        assert desk.engine.ops.count("load") == 2
        desk.engine.loads.extend([[fault], [fault]])
        assert failure(await desk.local.switch_model("smollm2-135m"))["code"] in {"tampered", "model_changed"}
        assert desk.engine.ops.count("load") == 4


@virtual
async def test_a_device_lost_while_loading() -> None:
    """Too big for the graphics memory: a new worker (the only sure way to free it), no second try, and the advice."""
    desk = Desk()
    desk.engine.loads.append([Fail("Error", "DeviceLostError: gone", "load")])
    error = failure(await desk.local.init("tiny"))
    assert error["code"] == "out_of_memory"
    assert "smaller model" in error["message"]
    assert (desk.engine.restarts, desk.engine.ops.count("load")) == (1, 1)
    assert await desk.local.init("tiny") is True


@virtual
async def test_late_words_of_an_old_load() -> None:
    """Progress of a load that was replaced is nobody's any more."""
    desk = Desk()
    desk.engine.loads.append([Sleep(100)])
    old = asyncio.create_task(desk.local.init("tiny"))
    await asyncio.sleep(0.1)
    load = desk.local._load
    assert load is not None
    await desk.local.init("smollm2-135m")
    desk.seen.clear()
    desk.local._report(load, 0.5, {})
    assert desk.seen == []
    await old


@virtual
async def test_no_seconds_left() -> None:
    """An estimate of 0 s is told as 0, and only a missing one as unknown."""
    desk = Desk()
    building = entry("tiny", "building", progress={"step": "link", "fraction": 0.9, "text": "linking", "eta_s": 0})
    index = iter([building])
    desk.upstream.files["/models/index.json"] = lambda *_: {"models": [next(index, entry("tiny"))]}
    assert await desk.local.init("tiny") is True
    told = [detail["eta_s"] for detail in desk.of("local-llm:progress")]
    assert (told[0], told[-1]) == (0, None)


@virtual
@pytest.mark.parametrize("method", ["init", "switch_model"])
async def test_a_load_of_nothing(method: str) -> None:
    """Without an id the answer is an error that names the models there are; nothing is raised."""
    result = await getattr(Desk().local, method)()
    assert result["success"] is False
    assert result["error"]["message"] == "No model was named. There are: tiny, smollm2-135m."
