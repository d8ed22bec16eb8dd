"""Modes: the truth table, what is in force and what is wanted, the history, what a reload finds again."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from lab.clock import virtual
from lab.desk import ASK, NO, Desk, MemoryStorage
from lab.engine import Die, Sleep


@virtual
async def test_the_default_is_cloud() -> None:
    """M1: a first visit asks the cloud."""
    desk = Desk()
    assert (desk.hybrid.get_mode(), desk.hybrid.preferred_mode) == ("cloud", "cloud")
    assert desk.hybrid.modes[:2] == ("local", "cloud")


@virtual
async def test_local_without_a_model_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """Blueprint, box 1: switching to local fails gracefully: False, a warning, and the mode unchanged."""
    desk = Desk()
    with caplog.at_level(logging.WARNING):
        assert desk.hybrid.set_mode("local", remember=False) is False
    assert "no local model is ready" in caplog.text
    assert (desk.hybrid.get_mode(), desk.hybrid.preferred_mode) == ("cloud", "cloud")
    assert desk.of("hybrid-llm:mode-changed") == []


@virtual
async def test_a_wish_is_granted_when_the_model_is_ready() -> None:
    """From the person's control: False now, in force on `local-llm:ready`, not by hand."""
    desk = Desk()
    assert desk.hybrid.set_mode("local") is False
    assert (desk.hybrid.get_mode(), desk.hybrid.preferred_mode) == ("cloud", "local")
    assert desk.hybrid.get_status()["pending"] is True
    assert await desk.local.init("tiny") is True
    assert desk.of("hybrid-llm:mode-changed") == [{"from": "cloud", "to": "local", "mode": "local", "manual": False}]
    assert desk.hybrid.get_status()["pending"] is False


@virtual
async def test_where_nothing_can_run_no_wish_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    """Without WebGPU `local` is refused with the reason, and not wanted for later."""
    desk = Desk(preflight=NO)
    assert desk.hybrid.set_mode("local") is False
    assert "no WebGPU" in caplog.text
    assert desk.hybrid.preferred_mode == "cloud"


@pytest.mark.parametrize("junk", ["junk", "", None, 3, ["local"], {"mode": "local"}, "LOCAL"])
def test_junk_changes_nothing(junk: object) -> None:
    """Anything that is no mode: False, and nothing changes."""

    @virtual
    async def check() -> None:
        desk = await Desk().ready()
        assert desk.hybrid.set_mode(junk) is False
        assert (desk.hybrid.get_mode(), desk.hybrid.preferred_mode) == ("local", "local")
        assert desk.seen == []

    check()


@virtual
async def test_m10_the_history_of_switches() -> None:
    """M10: 20 deep, newest first, by hand or not, and only when the mode really changed."""
    desk = await Desk().ready()
    for _ in range(15):
        assert desk.hybrid.set_mode("cloud") is True
        assert desk.hybrid.set_mode("cloud") is True
        assert desk.hybrid.set_mode("local") is True
    history = desk.hybrid.get_usage_stats()["switch_history"]
    assert len(history) == 20
    assert history[0] == {"from": "cloud", "to": "local", "timestamp": 1000.0, "manual": True}
    assert len(desk.of("hybrid-llm:mode-changed")) == 30


@virtual
async def test_d10_losing_the_model_is_told() -> None:
    """D10: when the model goes, the mode follows with an event and an entry in the history, and comes back with it."""
    desk = await Desk().ready()
    await desk.local.unload()
    assert desk.of("hybrid-llm:mode-changed") == [{"from": "local", "to": "cloud", "mode": "cloud", "manual": False}]
    assert desk.hybrid.get_usage_stats()["switch_history"][0]["manual"] is False
    assert desk.hybrid.preferred_mode == "local"
    await desk.local.init("tiny")
    assert desk.hybrid.get_mode() == "local"


@virtual
async def test_status_is_right_in_every_listener() -> None:
    """Blueprint, box 4: whoever reads the status inside an event's listener sees what the event says."""
    desk = Desk()
    desk.hybrid.set_mode("local")
    wrong = []

    def look(name: str, detail: dict[str, object]) -> None:
        status = desk.hybrid.get_status()
        expected = {
            "local-llm:ready": ("local_ready", True),
            "local-llm:unloaded": ("local_ready", False),
            "local-llm:error": ("local_ready", False),
            "hybrid-llm:mode-changed": ("mode", detail.get("to")),
        }.get(name)
        if expected and status[expected[0]] != expected[1]:
            wrong.append((name, status))

    desk.events.tap(look)
    desk.engine.scripts.append(["a", Die()])
    await desk.local.init("tiny")
    await desk.hybrid.complete(ASK)
    await desk.local.unload()
    assert wrong == []
    assert len(desk.of("hybrid-llm:mode-changed")) == 2


@virtual
async def test_cloud_until_ready() -> None:
    """While the wanted model loads the cloud answers, without a fallback: the status says that the wish is pending."""
    desk = Desk()
    desk.hybrid.set_mode("local")
    desk.engine.loads.append([Sleep(5)])
    load = asyncio.create_task(desk.local.init("tiny"))
    await asyncio.sleep(0.1)
    done = await desk.hybrid.complete(ASK)
    assert (done.provider, done.fallback) == ("cloud", None)
    assert desk.hybrid.get_status()["local"]["state"] == "loading"
    assert await load is True
    assert (await desk.hybrid.complete(ASK)).provider == "local"


@virtual
async def test_m22_the_preference_survives_a_reload() -> None:
    """M22: mode and model are found again, and are in force once the model is loaded from the cache, not by hand."""
    storage = MemoryStorage()
    await Desk(storage=storage).ready()
    kept = {"model": "tiny", "load_at_start": True, "mode": "local", "recent": ["tiny"]}
    assert json.loads(storage.values["preferences"]) == kept
    desk = Desk(storage=storage)
    desk.engine.cache = {"tiny"}
    assert (desk.hybrid.get_mode(), desk.hybrid.preferred_mode) == ("cloud", "local")
    assert await desk.local.resume() is True
    assert desk.hybrid.get_mode() == "local"
    assert desk.of("hybrid-llm:mode-changed")[0]["manual"] is False


@virtual
async def test_a_stored_mode_that_is_none_is_ignored() -> None:
    """What was stored may be anything."""
    desk = Desk(storage=MemoryStorage({"preferences": '{"mode": "turbo"}'}))
    assert desk.hybrid.preferred_mode == "cloud"
    desk.hybrid.restore_mode("turbo")
    assert desk.hybrid.preferred_mode == "cloud"


@virtual
async def test_the_servers_copy_comes_later() -> None:
    """A preference that arrives after the model was loaded is put in force at once."""
    desk = Desk()
    await desk.local.init("tiny")
    assert desk.hybrid.get_mode() == "cloud"
    desk.hybrid.restore_mode("local")
    assert desk.hybrid.get_mode() == "local"


@virtual
async def test_get_auto_switch_config() -> None:
    """What switches by itself, in one object."""
    desk = await Desk().ready()
    config = desk.hybrid.get_auto_switch_config()
    assert (config["enabled"], config["fallback_to_cloud"], config["prefer_local"]) == (False, True, True)


@virtual
async def test_a_client_of_the_callers_own() -> None:
    """`init(cloud_client)` puts a caller's client in the gateway's place; `init()` puts the gateway back."""

    class Client:
        async def complete(self, messages: object, options: dict[str, object]) -> str:
            return "from the client"

    desk = Desk(cloud=False)
    assert desk.hybrid.init(Client()) is True
    done = await desk.hybrid.complete(ASK)
    assert (done.text, done.model, done.cost) == ("from the client", "client", None)
    assert desk.hybrid.get_usage_stats()["cloud"]["unpriced"] == 1
    assert desk.hybrid.get_status()["cloud_available"] is True
    assert desk.hybrid.init() is True
    assert desk.hybrid.get_status()["cloud_available"] is False
