"""What another tab does with the engine they share, as this tab's orchestrator sees it."""

from __future__ import annotations

import asyncio

from lab.clock import virtual
from lab.desk import ASK, Desk
from lab.engine import Fail, Sleep

from hybr.webapp.runtimes.base import EngineCallError

READY = {"state": "ready", "model": "tiny", "profile": "software", "gpu": {"vendor": "scripted"}}
EMPTY = {"state": "empty", "model": None}


@virtual
async def test_another_tabs_model_is_this_tabs_too() -> None:
    """Loading with its progress, ready, and gone again: the status is right after each event; it is not remembered as ours."""
    desk = Desk()
    desk.engine.tell_state({"state": "loading", "loading": "tiny", "progress": {"progress": 0.4, "loaded_bytes": 4}})
    status = desk.local.get_status()
    assert (status["state"], status["model"], status["progress"]) == ("loading", "tiny", 0.4)
    desk.engine.model = "tiny"
    desk.engine.tell_state(READY)
    assert desk.local.is_ready()
    assert desk.of("local-llm:ready") == [
        {"model": "tiny", "runtime": "webgpu", "gpu": {"vendor": "scripted"}, "profile": "software"}
    ]
    assert desk.hybrid.set_mode("local") is True
    assert (await desk.hybrid.complete(ASK)).provider == "local"
    assert "load" not in desk.engine.ops
    desk.engine.tell_state(EMPTY)
    assert desk.local.get_status()["state"] == "unloaded"
    assert desk.of("local-llm:unloaded") == [{"model": "tiny", "reason": "elsewhere"}]
    assert not desk.preferences.get("load_at_start")


@virtual
async def test_a_tab_that_comes_later_joins() -> None:
    """At its start it asks how the engine stands; what is loaded there is ready here at once."""
    desk = Desk()
    desk.engine.model = "tiny"
    await desk.local.join()
    assert desk.local.model == "tiny"
    assert await desk.local.init("tiny") is True
    assert "load" not in desk.engine.ops


@virtual
async def test_init_waits_for_the_other_tabs_load() -> None:
    """The same model is not loaded twice; if that load comes to nothing, this tab does it."""
    desk = Desk()
    desk.engine.tell_state({"state": "loading", "loading": "tiny"})
    waiting = asyncio.create_task(desk.local.init("tiny"))
    await asyncio.sleep(1)
    desk.engine.tell_state(READY)
    assert await waiting is True
    assert "load" not in desk.engine.ops
    desk.engine.tell_state({"state": "loading", "loading": "smollm2-135m"})
    waiting = asyncio.create_task(desk.local.init("smollm2-135m"))
    await asyncio.sleep(1)
    desk.engine.tell_state(EMPTY)
    assert await waiting is True
    assert desk.engine.ops.count("load") == 1


@virtual
async def test_what_this_tab_is_doing_it_knows_better() -> None:
    """News of another tab in the middle of a load of our own changes nothing."""
    desk = Desk()
    desk.engine.loads.append([Sleep(5)])
    load = asyncio.create_task(desk.local.init("tiny"))
    await asyncio.sleep(1)
    desk.engine.tell_state(EMPTY)
    assert desk.local.get_status()["state"] == "loading"
    assert await load is True


@virtual
async def test_a_busy_engine_is_told_and_nothing_is_lost() -> None:
    """The other tab is being answered: `init` says so, and the model that is there stays ready here."""
    desk = await Desk().ready("tiny")
    desk.engine.loads.append([Fail("EngineBusyError", "Another tab is being answered by tiny: wait.", "validate")])
    refused = await desk.local.init("smollm2-135m")
    assert isinstance(refused, dict)
    assert refused["error"]["code"] == "engine_busy"
    assert "Another tab is being answered" in refused["error"]["message"]
    desk.engine.model = "tiny"
    await asyncio.sleep(1)
    assert desk.local.model == "tiny"


@virtual
async def test_the_tab_with_the_engine_is_closed() -> None:
    """However often that happens, the model is loaded again here, and it is no failure of the model's."""
    desk = await Desk().ready("tiny")
    gone = EngineCallError("EngineMovedError", "The local engine, which another tab had, has ended.", "worker")
    for _ in range(3):
        desk.engine._handler(gone)
        assert desk.of("local-llm:unloaded")[-1]["reason"] == "engine_moved"
        await asyncio.sleep(5)
        assert desk.local.model == "tiny"
    assert desk.local.profile.of("tiny").failures == {}
