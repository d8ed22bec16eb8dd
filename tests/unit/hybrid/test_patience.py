"""Watchdogs count attended time: a hidden, frozen or sleeping page kills no request; a worker that is silent is found."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lab.clock import VirtualLoop, virtual
from lab.desk import ASK, Desk
from lab.engine import Silent, Sleep, Stall
from lab.upstream import Tail

from hybr.webapp.hybrid.errors import Aborted
from hybr.webapp.hybrid.patience import PING_AFTER_S, PING_S, TICK_S


def jump(seconds: float) -> None:
    """The machine slept: the clock has gone on, and nothing has run."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.jump(seconds)


@virtual
async def test_a_jump_of_the_clock_kills_nothing() -> None:
    """The laptop's lid is closed for a day in the middle of an answer: it goes on where it was."""
    desk = await Desk().ready()
    desk.engine.scripts.append(["The ", Sleep(100), "end."])
    task = asyncio.create_task(desk.hybrid.complete(ASK))
    await asyncio.sleep(1)
    jump(86_400)
    assert (await task).text == "The end."
    assert desk.engine.restarts == 0


@virtual
async def test_a_hidden_page_is_not_watched() -> None:
    """While hidden no silence counts, on either side; afterwards it does again."""
    desk = await Desk().ready()
    desk.engine.scripts.append(["The ", Sleep(3000), "end."])
    task = asyncio.create_task(desk.hybrid.complete(ASK))
    await asyncio.sleep(1)
    desk.hybrid.visibility(hidden=True)
    assert (await task).text == "The end."
    desk.upstream.scripts.append(["The ", Sleep(3000), "end.", Tail()])
    assert (await desk.hybrid.complete_cloud(ASK)).text == "The end."
    desk.hybrid.visibility(hidden=False)
    desk.engine.scripts.append(["The ", Stall()])
    done = await desk.hybrid.complete(ASK)
    assert done.handover is not None
    assert done.handover["cause"] == "stalled"
    await asyncio.sleep(60)


@virtual
async def test_a_hidden_page_hedges_nothing() -> None:
    """A model that is throttled in the background is not slow."""
    desk = await Desk().ready()
    await desk.hybrid.complete(ASK)
    desk.engine.scripts.append([Sleep(25), "end."])
    desk.hybrid.visibility(hidden=True)
    assert (await desk.hybrid.complete(ASK, {"hedge": True})).text == "end."
    assert desk.upstream.chats == []


@virtual
async def test_back_from_a_freeze_the_engine_is_looked_after_first() -> None:
    """After a freeze the worker is pinged at once; one that died meanwhile without a word is found soon."""
    desk = await Desk().ready()
    desk.engine.scripts.append(["The ", Silent()])
    desk.upstream.scripts.append(["The end."])
    task = asyncio.create_task(desk.hybrid.complete(ASK))
    await asyncio.sleep(1)
    desk.hybrid.visibility(hidden=True)
    await asyncio.sleep(7200)
    began = asyncio.get_running_loop().time()
    desk.hybrid.visibility(hidden=False, frozen_ms=7_000_000)
    assert (await task).text == "The end."
    assert asyncio.get_running_loop().time() - began <= PING_S + 3 * TICK_S
    await asyncio.sleep(120)
    assert desk.free


@virtual
async def test_a_silent_worker_is_found_by_a_ping() -> None:
    """A worker that died without an event answers no ping: it is given up long before a slow token would be."""
    desk = await Desk().ready()
    desk.engine.scripts.append([Silent()])
    began = asyncio.get_running_loop().time()
    done = await desk.hybrid.complete(ASK)
    assert done.fallback is not None
    assert "worker has not answered" in done.fallback["error"]["message"]
    assert asyncio.get_running_loop().time() - began == pytest.approx(PING_AFTER_S + PING_S, abs=TICK_S)
    await asyncio.sleep(120)
    assert desk.engine.restarts == 1
    assert desk.local.is_ready()


@virtual
async def test_a_stop_that_a_dead_worker_does_not_answer() -> None:
    """The person stops, and the worker does not even answer that: it is replaced, and the model comes back."""
    desk = await Desk().ready()
    desk.engine.scripts.append([Silent()])
    task = asyncio.create_task(desk.hybrid.complete(ASK, {"request_id": "x"}))
    await asyncio.sleep(1)
    assert desk.hybrid.abort("x")
    with pytest.raises(Aborted):
        await task
    await asyncio.sleep(60)
    assert (desk.engine.restarts, desk.local.is_ready(), desk.free) == (1, True, True)
    assert (await desk.hybrid.complete(ASK)).provider == "local"


@virtual
async def test_a_worker_that_answers_is_given_its_time() -> None:
    """Lack of tokens alone is borne as long as the bound says while the worker lives."""
    desk = await Desk().ready()
    desk.engine.scripts.append([Sleep(290), "slow"])
    assert (await desk.hybrid.complete(ASK)).text == "slow"
    assert "ping" in desk.engine.ops


@virtual
async def test_a_software_adapter_is_given_more_time() -> None:
    """Measured fast, and then slow under load: a silence that would be a stall on a graphics card is borne here."""
    desk = Desk()
    desk.engine.profile = "software"
    await desk.ready()
    await desk.hybrid.complete(ASK)
    desk.engine.scripts.append([Sleep(200), "slow"])
    done: Any = await desk.hybrid.complete(ASK)
    assert (done.provider, done.text, desk.engine.restarts) == ("local", "slow", 0)


@virtual
async def test_the_bounds_come_from_the_device_profile() -> None:
    """Measured at 50 and 100 tokens a second, a silent start is given up at the floor and not after five minutes."""
    desk = await Desk().ready()
    await desk.hybrid.complete(ASK)
    desk.engine.scripts.append([Stall()])
    began = asyncio.get_running_loop().time()
    done: Any = await desk.hybrid.complete(ASK)
    assert done.fallback["error"]["code"] == "stalled"
    assert asyncio.get_running_loop().time() - began == pytest.approx(30, abs=TICK_S)
    await asyncio.sleep(120)
