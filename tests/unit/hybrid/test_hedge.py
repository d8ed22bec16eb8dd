"""A hedged start: the cloud beside a slow local model; one winner, one loser that is stopped and booked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import ASK, Desk, entry
from lab.engine import Die, Fail, Sleep
from lab.upstream import Cut, Refuse

from hybr.webapp.hybrid.errors import CallerError, GatewayError, LocalError, RefusedError
from hybr.webapp.hybrid.hedge import Bound
from hybr.webapp.hybrid.profile import DeviceProfile
from hybr.webapp.hybrid.types import Final

HEDGE = {"hedge": True, "request_id": "h"}


async def known(**more: Any) -> Desk:
    """A desk whose local model has been measured: 50 tokens/s prefill, 100 tokens/s decode."""
    desk = await Desk(**more).ready()
    await desk.hybrid.complete(ASK)
    desk.seen.clear()
    desk.engine.chats.clear()
    return desk


def test_the_bound_is_this_devices() -> None:
    """Nothing measured, no bound; else a multiple of the predicted prefill with a floor, and a share of the decode rate."""
    profile = DeviceProfile()
    assert Bound.of(profile, "m", 100) is None
    profile.learn("m", Final("m", prefill_tps=50.0, decode_tps=10.0))
    assert Bound.of(profile, "m", 100) == Bound(3 * (2.0 + 0.1), 2.5)
    assert Bound.of(profile, "m", 0) == Bound(1.0, 2.5)


@virtual
async def test_off_by_default() -> None:
    """Without the wish a slow model is waited for; with the preference it is hedged."""
    desk = await known()
    desk.engine.scripts.append([Sleep(20), "slow"])
    assert (await desk.hybrid.complete(ASK)).text == "slow"
    assert desk.upstream.chats == []
    desk.hybrid.set_recovery({"hedge": True})
    desk.engine.scripts.append([Sleep(20), "slow"])
    assert (await desk.hybrid.complete(ASK)).provider == "cloud"


@virtual
async def test_the_cloud_wins_a_slow_start() -> None:
    """No first token within the bound: the cloud starts beside it and wins; one fallback, the loser stopped and booked."""
    desk = await known()
    desk.engine.scripts.append([Sleep(20), "slow"])
    chunks = await desk.read(desk.hybrid.stream(ASK, HEDGE))
    done = chunks[-1].completion
    assert (done.text, done.provider, done.segments) == ("It is Paris.", "cloud", 1)
    assert done.hedge is not None
    assert (done.hedge["from"], done.hedge["to"], done.hedge["winner"]) == ("local", "cloud", "cloud")
    assert done.hedge["cause"] == "no token within 1.0 s"
    (begun,), (told,) = desk.of("hybrid-llm:hedge"), desk.of("hybrid-llm:fallback")
    assert (begun["request_id"], told["error"]["code"], done.fallback) == ("h", "slow", told)
    await asyncio.sleep(0.1)
    assert desk.free
    stats = desk.hybrid.get_usage_stats()
    assert (stats["local"]["stopped"], stats["local"]["errors"], stats["cloud"]["requests"]) == (1, 0, 1)
    assert desk.hybrid.get_status()["breaker"]["local"] == "closed"


@virtual
async def test_the_local_model_wins_after_all() -> None:
    """Its first token comes before the cloud's: the cloud is stopped, its connection closed, and nothing has changed hands."""
    desk = await known()
    desk.engine.scripts.append([Sleep(1.2), "The ", "end."])
    desk.upstream.scripts.append([Sleep(5), "late"])
    done = await desk.hybrid.complete(ASK, HEDGE)
    assert (done.text, done.provider, done.fallback, done.handover) == ("The end.", "local", None, None)
    assert done.hedge is not None
    assert done.hedge["winner"] == "local"
    await asyncio.sleep(0)
    assert desk.free
    assert desk.hybrid.get_usage_stats()["cloud"]["stopped"] == 1


@virtual
async def test_a_rate_under_the_bound() -> None:
    """Fast at first, then four times slower than measured: the cloud goes on with the very text, once."""
    desk = await known()
    desk.engine.scripts.append(["The capital ", "of France ", Sleep(15), "never"])
    desk.upstream.scripts.append(["of France is ", "Paris."])
    chunks = await desk.read(desk.hybrid.stream(ASK, HEDGE))
    done = chunks[-1].completion
    assert (done.text, done.segments, done.fallback) == ("The capital of France is Paris.", 2, None)
    (told,) = desk.of("hybrid-llm:handover")
    assert (told["cause"], told["at_chars"], done.handover) == ("slow", 22, told)
    assert [(part.provider, part.start, part.cause) for part in done.parts] == [("local", 0, "mode"), ("cloud", 22, "hedge")]
    assert "under 25.0" in done.hedge["cause"]
    await asyncio.sleep(0.1)
    assert desk.free
    assert desk.hybrid.get_usage_stats()["local"]["completion_tokens"] == 7 + 2


@virtual
async def test_a_steady_rate_is_left_alone() -> None:
    """Slower than measured, but above the bound, for many windows: no hedge."""
    desk = await known()
    desk.engine.scripts.append([step for number in range(200) for step in (Sleep(0.02), f"{number} ")])
    done = await desk.hybrid.complete(ASK, HEDGE)
    assert (done.provider, done.hedge, desk.upstream.chats) == ("local", None, [])


@virtual
async def test_the_loser_costs_what_the_price_list_says() -> None:
    """A cloud that lost cannot state its cost: it is booked by the price list, for the prompt and what it wrote."""
    desk = Desk()
    desk.upstream.files["/v1/models"] = {"data": [{"id": "m", "owned_by": "box"}]}
    desk.upstream.files["/api/prices"] = {
        "version": "1",
        "currency": "USD",
        "models": {"box/m": {"input": 1_000_000, "output": 2_000_000}},
    }
    await desk.gateway.check()
    await desk.ready()
    await desk.hybrid.complete(ASK)
    desk.engine.scripts.append([Sleep(1.2), "The ", "end."])
    desk.upstream.scripts.append([Sleep(5), "late"])
    done = await desk.hybrid.complete(ASK, HEDGE)
    prompt = 4 + len(ASK[0]["content"]) // 4
    assert done.cost == pytest.approx(prompt)
    assert desk.hybrid.get_usage_stats()["cloud"]["cost"] == pytest.approx(prompt)


@pytest.mark.parametrize("fault", [Refuse(503), Cut()])
def test_a_hedge_that_fails_leaves_it_to_the_first(fault: Any) -> None:
    """The cloud fails beside the slow model: the slow one finishes, and no second change is tried."""

    @virtual
    async def check() -> None:
        desk = await known()
        desk.engine.scripts.append([Sleep(3), "slow"])
        desk.upstream.scripts.append([fault])
        done = await desk.hybrid.complete(ASK, HEDGE)
        assert (done.text, done.provider, done.fallback) == ("slow", "local", None)
        assert desk.hybrid.get_usage_stats()["cloud"]["errors"] == 1
        assert desk.free

    check()


@virtual
async def test_a_slow_model_that_dies_leaves_it_to_the_hedge() -> None:
    """The local model dies while the cloud is on its way: the cloud answers, and the fallback says why."""
    desk = await known()
    desk.engine.scripts.append([Sleep(1.2), Die()])
    desk.upstream.scripts.append([Sleep(2), "well"])
    done = await desk.hybrid.complete(ASK, HEDGE)
    assert done.text == "well"
    assert [detail["error"]["code"] for detail in desk.of("hybrid-llm:fallback")] == ["engine_died"]
    await desk.local.unload()
    await asyncio.sleep(3)


@virtual
async def test_both_fail() -> None:
    """The hedge was the one change: with both gone the first one's failure is told, and nobody is asked again."""
    desk = await known()
    desk.engine.scripts.append([Sleep(3), Fail("OperationError", "Device is lost")])
    desk.upstream.scripts.append([Refuse()])
    with pytest.raises(LocalError, match="lost"):
        await desk.hybrid.complete(ASK, HEDGE)
    assert (len(desk.engine.chats), len(desk.upstream.chats)) == (1, 1)
    desk.engine.scripts.append([Sleep(3), Fail("Error", "MessageOrderError: no", "validate")])
    await desk.local.init("tiny")
    desk.upstream.scripts.append([Sleep(9), "x"])
    with pytest.raises(CallerError):
        await desk.hybrid.complete(ASK, HEDGE)
    await desk.local.unload()


@virtual
async def test_a_winner_that_fails_is_not_rescued() -> None:
    """After the race there is no change left: the winner's failure is the request's, with all the text."""
    desk = await known()
    desk.engine.scripts.append([Sleep(60)])
    desk.upstream.scripts.append(["It is ", Cut()])
    with pytest.raises(GatewayError) as error:
        await desk.hybrid.complete(ASK, HEDGE)
    assert error.value.text == "It is "
    await asyncio.sleep(0.1)
    assert desk.free


@virtual
async def test_a_stop_ends_both() -> None:
    """A stop in the middle of a race frees engine and connection, and books both as stopped."""
    desk = await known()
    desk.engine.scripts.append([Sleep(60)])
    desk.upstream.scripts.append([Sleep(60)])
    task = asyncio.create_task(desk.hybrid.complete(ASK, HEDGE))
    await asyncio.sleep(2)
    assert len(desk.upstream.chats) == 1
    assert desk.hybrid.abort("h")
    await asyncio.wait([task])
    task.exception()
    await asyncio.sleep(0.1)
    assert desk.free
    stats = desk.hybrid.get_usage_stats()
    assert (stats["local"]["stopped"], stats["cloud"]["stopped"]) == (1, 1)


@virtual
async def test_what_may_not_leave_is_not_hedged() -> None:
    """Private, local-only, cloud-only: no hedge; and a hedge asks the egress gate like everything else."""
    desk = await known()
    for mode, options in [("local", {"private": True}), ("local-only", {}), ("local", {"egress": "never"})]:
        desk.hybrid.set_mode(mode)
        desk.engine.scripts.append([Sleep(20), "slow"])
        assert (await desk.hybrid.complete(ASK, {**HEDGE, **options})).text == "slow"
    assert desk.upstream.chats == []
    desk.hybrid.set_mode("local")
    desk.engine.scripts.append([Sleep(20), "slow"])
    done = await desk.hybrid.complete(ASK, {**HEDGE, "egress": "ask"})
    assert (done.text, desk.upstream.chats, len(desk.of("egress:refused"))) == ("slow", [], 1)
    assert desk.of("egress:asked")[0]["cause"] == "hedge"
    desk.hybrid.set_mode("cloud-only")
    assert (await desk.hybrid.complete(ASK, HEDGE)).hedge is None


@virtual
async def test_half_a_document_is_not_raced_for() -> None:
    """Constrained output that has begun is waited for; before its first token it may be hedged."""
    desk = await known(models=[entry("tiny")])
    options = {**HEDGE, "response_format": {"type": "json_object"}}
    desk.engine.scripts.append(['{"a": ', Sleep(15), "1}"])
    assert (await desk.hybrid.complete(ASK, options)).text == '{"a": 1}'
    desk.engine.scripts.append(["The ", Sleep(15), "end."])
    assert (await desk.hybrid.complete(ASK, {**HEDGE, "handover": "stop"})).text == "The end."
    desk.engine.scripts.append([Sleep(15), "{}"])
    assert (await desk.hybrid.complete(ASK, options)).provider == "cloud"
    assert RefusedError.kind == "policy"
