"""Recovery: breakers, stalls, new workers, closed modes, waiting."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import ASK, NO, Desk, MemoryStorage
from lab.engine import Die, Fail, Sleep, Stall
from lab.upstream import Refuse, Unreachable

from hybr.webapp.hybrid.breaker import Breaker
from hybr.webapp.hybrid.errors import (
    CallerError,
    CloudUnavailableError,
    GatewayError,
    HybridError,
    LocalError,
    LocalUnavailableError,
    RefusedError,
)
from hybr.webapp.hybrid.types import Call, Final

BROKEN = Fail("Error", "something new", "decode")


class Clock:
    """Seconds that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def test_a_breakers_life() -> None:
    """Closed, open after three failures in a minute, half-open after a while, twice as long after another; closed by success."""
    clock = Clock()
    breaker = Breaker(clock, limit=3, window_s=60, cooldown_s=20, longest_s=50)
    breaker.failed()
    clock.now = 50
    breaker.failed()
    clock.now = 70
    breaker.failed()
    assert breaker.state == "closed"  # the first was too long ago
    clock.now = 80
    breaker.failed()
    assert (breaker.state, breaker.retry_in_s()) == ("open", 20)
    breaker.failed()
    clock.now = 99.9
    assert breaker.state == "open"
    clock.now = 100
    assert breaker.to_dict() == {"state": "half-open", "retry_in_s": 0.0}
    breaker.failed()
    assert breaker.retry_in_s() == 40
    clock.now = 140
    breaker.failed()
    assert breaker.retry_in_s() == 50
    breaker.succeeded()
    assert (breaker.state, breaker.retry_in_s()) == ("closed", 0)
    breaker.failed()
    assert breaker.state == "closed"


@virtual
async def test_a_model_that_keeps_failing_is_left_in_peace() -> None:
    """Three failures open the local breaker: the engine is not asked, each request says so, a tiny generation decides later."""
    desk = await Desk().ready()
    desk.engine.default = [BROKEN]
    for _ in range(3):
        await desk.hybrid.complete(ASK)
    assert desk.hybrid.get_status()["breaker"] == {"local": "open", "cloud": "closed"}
    asked = len(desk.engine.chats)
    done = await desk.hybrid.complete(ASK)
    assert len(desk.engine.chats) == asked
    assert done.fallback is not None
    assert done.fallback["error"]["code"] == "breaker_open"
    await asyncio.sleep(25)  # a first trial fails
    assert len(desk.engine.chats) == asked + 1
    assert desk.engine.chats[-1]["options"] == {"max_tokens": 1}
    assert desk.hybrid.get_status()["breaker"]["local"] == "open"
    desk.engine.default = ["yes"]
    await asyncio.sleep(45)
    assert desk.hybrid.get_status()["breaker"]["local"] == "closed"
    assert (await desk.hybrid.complete(ASK)).provider == "local"


@virtual
async def test_a_model_that_was_loaded_again_is_tried_first() -> None:
    """Its breaker is still open: not the person's next request but one token of its own decides whether it is well."""
    desk = await Desk().ready()
    desk.engine.default = [BROKEN]
    for _ in range(3):
        await desk.hybrid.complete(ASK)
    await desk.local.unload()
    await asyncio.sleep(21)
    desk.engine.default = [BROKEN]
    await desk.local.init("tiny")
    assert await desk.local.unload()
    desk.hybrid._health.breaker("local").failed()  # half-open: it opens again, for 40 s
    await desk.local.init("tiny")
    desk.engine.default = ["yes"]
    asked = len(desk.engine.chats)
    await asyncio.sleep(41)
    assert [chat["options"] for chat in desk.engine.chats[asked:]] == [{"max_tokens": 1}]
    assert desk.hybrid.get_status()["breaker"]["local"] == "closed"


@virtual
async def test_a_breaker_never_bars_the_only_way() -> None:
    """With nobody else to ask, an open breaker does not keep a request from trying."""
    desk = await Desk(cloud=False).ready()
    desk.engine.default = [BROKEN]
    for _ in range(5):
        with pytest.raises(LocalError, match="something new"):
            await desk.hybrid.complete(ASK)
    assert len(desk.engine.chats) == 5
    await desk.local.unload()
    await asyncio.sleep(30)  # the trial finds the model gone


@virtual
async def test_a_cloud_that_keeps_failing_is_left_in_peace() -> None:
    """In mode cloud with a local model ready, an open breaker sends requests there at once."""
    desk = await Desk().ready(mode="cloud")
    desk.upstream.default = [Refuse(503)]
    for _ in range(3):
        assert (await desk.hybrid.complete(ASK)).provider == "local"
    done = await desk.hybrid.complete(ASK)
    assert done.fallback is not None
    assert done.fallback["error"]["code"] == "breaker_open"
    assert len(desk.upstream.chats) == 3
    await asyncio.sleep(20)
    desk.upstream.default = ["well"]
    assert (await desk.hybrid.complete(ASK)).provider == "cloud"
    assert desk.hybrid.get_status()["breaker"]["cloud"] == "closed"


@virtual
async def test_only_health_feeds_the_breaker() -> None:
    """What a model cannot do, what the caller did wrong and a stop say nothing about health."""
    desk = await Desk().ready()
    for fault in (Fail("ContextWindowSizeExceededError", "x", "prefill"), Fail("Error", "MessageOrderError: x", "validate")):
        desk.engine.default = [fault]
        for _ in range(4):
            with contextlib.suppress(CallerError):
                await desk.hybrid.complete(ASK)
    desk.engine.default = [Stall()]
    for _ in range(4):
        with pytest.raises(HybridError):
            await desk.hybrid.complete(ASK, {"timeout_ms": 100})
    assert desk.hybrid.get_status()["breaker"]["local"] == "closed"
    await asyncio.sleep(1)
    assert desk.free


@virtual
async def test_a_local_model_that_stalls() -> None:
    """No token for long: the cloud goes on with the text, the worker is replaced, the model comes back."""
    desk = await Desk().ready()
    desk.engine.scripts.append(["The capital of France ", Stall()])
    desk.upstream.scripts.append(["is Paris."])
    done = await desk.hybrid.complete(ASK)
    assert done.text == "The capital of France is Paris."
    assert desk.of("hybrid-llm:handover")[0]["cause"] == "stalled"
    assert desk.engine.restarts == 1
    await asyncio.sleep(60)
    assert desk.local.is_ready()
    assert desk.free


@virtual
async def test_no_first_token() -> None:
    """A model that never begins is given up after a while, with a fallback."""
    desk = await Desk().ready()
    desk.engine.scripts.append([Stall()])
    done = await desk.hybrid.complete(ASK)
    assert (done.provider, done.fallback is not None) == ("cloud", True)
    await asyncio.sleep(60)
    assert desk.free


@virtual
async def test_slow_is_not_stalled() -> None:
    """A token every 100 seconds is slow, and still alive."""
    desk = await Desk().ready()
    desk.engine.scripts.append([Sleep(250), "a", Sleep(100), "b", Sleep(100), "c"])
    assert (await desk.hybrid.complete(ASK)).text == "abc"


@virtual
async def test_a_cloud_that_stalls() -> None:
    """A silent connection is closed and the local model goes on; with none there is a typed error."""
    desk = await Desk().ready(mode="cloud")
    desk.upstream.default = ["The capital ", Sleep(1e6)]
    desk.engine.scripts.append(["of France."])
    done = await desk.hybrid.complete(ASK)
    assert (done.text, done.provider) == ("The capital of France.", "local")
    await desk.local.unload()
    with pytest.raises(HybridError) as error:
        await desk.hybrid.complete(ASK)
    assert (error.value.code, error.value.text) == ("stalled", "The capital ")
    assert desk.free


@virtual
async def test_garbage_wants_a_new_worker() -> None:
    """NaN in the logits: the worker is replaced and the model loaded again for the next request."""
    desk = await Desk().ready()
    desk.engine.scripts.append(["The ", Fail("Error", "failed to sample a valid token", "decode")])
    await desk.hybrid.complete(ASK)
    assert desk.engine.restarts == 1
    assert desk.of("local-llm:unloaded")[0]["reason"] == "garbage"
    await asyncio.sleep(10)
    assert desk.hybrid.get_mode() == "local"


@virtual
async def test_local_only() -> None:
    """`local-only` is always granted: requests wait for the load, or fail closed with the reason; nothing goes out."""
    desk = Desk()
    assert desk.hybrid.set_mode("local-only") is True
    with pytest.raises(RefusedError, match="No local model is loaded"):
        await desk.hybrid.complete(ASK)
    load = asyncio.create_task(desk.local.init("tiny"))
    await asyncio.sleep(0.01)
    assert (await desk.hybrid.complete(ASK)).provider == "local"
    assert await load is True
    for only, options in [("complete_cloud", {}), ("complete", {"model": "house-model"})]:
        with pytest.raises(HybridError):
            await getattr(desk.hybrid, only)(ASK, options)
    desk.engine.scripts.append(["The ", Die()])
    with pytest.raises(LocalError):
        await desk.hybrid.complete(ASK)
    assert (await desk.hybrid.complete(ASK)).provider == "local"  # waited for the repair
    assert desk.upstream.chats == []
    assert "GET /v1/models" not in desk.upstream.asked


@virtual
async def test_local_only_where_nothing_can_run() -> None:
    """True, and each request says why it cannot be answered."""
    desk = Desk(preflight=NO)
    assert desk.hybrid.set_mode("local-only") is True
    with pytest.raises(RefusedError, match="no WebGPU"):
        await desk.hybrid.complete(ASK)


@virtual
async def test_cloud_only() -> None:
    """`cloud-only` asks the cloud or nobody, but for a model that only the browser has."""
    desk = await Desk().ready()
    assert desk.hybrid.set_mode("cloud-only") is True
    desk.upstream.scripts.append([Refuse(503)])
    with pytest.raises(GatewayError):
        await desk.hybrid.complete(ASK)
    assert (await desk.hybrid.complete(ASK)).provider == "cloud"
    assert (await desk.hybrid.complete(ASK, {"model": "tiny"})).provider == "local"


@virtual
async def test_a_stored_local_only_holds_from_the_first_moment() -> None:
    """After a reload a closed mode is closed before anything is loaded."""
    storage = MemoryStorage()
    Desk(storage=storage).hybrid.set_mode("local-only")
    desk = Desk(storage=storage)
    assert desk.hybrid.get_mode() == "local-only"
    with pytest.raises(RefusedError):
        await desk.hybrid.complete(ASK)


@virtual
async def test_the_person_may_choose_to_wait() -> None:
    """`while_loading: wait`: a request that prefers local waits for the load instead of going to the cloud."""
    desk = Desk()
    desk.preferences.set("while_loading", "wait")
    desk.hybrid.set_mode("local")
    load = asyncio.create_task(desk.local.init("tiny"))
    await asyncio.sleep(0.01)
    assert (await desk.hybrid.complete(ASK)).provider == "local"
    assert await load is True


@virtual
async def test_waiting_can_be_stopped() -> None:
    """A stop reaches a request that waits for a load."""
    desk = Desk()
    desk.hybrid.set_mode("local-only")
    desk.engine.loads.append([Sleep(100)])
    load = asyncio.create_task(desk.local.init("tiny"))
    await asyncio.sleep(0.01)
    ask = asyncio.create_task(desk.hybrid.complete(ASK, {"request_id": "w"}))
    await asyncio.sleep(1)
    assert desk.hybrid.abort("w")
    with pytest.raises(HybridError) as stop:
        await ask
    assert stop.value.code == "aborted"
    await desk.local.cancel_load()
    await load


@virtual
async def test_both_breakers_open() -> None:
    """When neither side is well the cloud is tried all the same, and its error is the answer."""
    desk = await Desk().ready()
    desk.engine.default = [BROKEN]
    desk.upstream.default = [Unreachable()]
    for _ in range(3):
        with pytest.raises(CloudUnavailableError):
            await desk.hybrid.complete(ASK)
    assert desk.hybrid.get_status()["breaker"] == {"local": "open", "cloud": "open"}
    with pytest.raises(CloudUnavailableError):
        await desk.hybrid.complete(ASK)
    await desk.local.unload()
    await asyncio.sleep(30)


def test_the_status_outside_of_a_loop() -> None:
    """Status can be asked outside of any loop, with a breaker open too."""

    async def build() -> Any:
        return Desk()

    desk = asyncio.run(build())
    assert desk.hybrid.get_status()["breaker"] == {"local": "closed", "cloud": "closed"}
    assert type(desk.local.unavailable()) is LocalUnavailableError
    for _ in range(3):
        desk.hybrid._health.breaker("cloud").failed()
    assert desk.hybrid.get_status()["breaker"]["cloud"] == "open"


@virtual
async def test_late_words_of_a_leg_left_behind() -> None:
    """A model that stalled, was left behind and then talks on: nothing of that reaches the answer."""
    desk = await Desk().ready()

    async def deaf(call: Call, emit: Any) -> Final:
        emit("The ")
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1e6)
        for _ in range(5):
            await asyncio.sleep(0.01)
            emit("LATE ")
        return Final("tiny")

    desk.local.chat = deaf  # type: ignore[method-assign]
    desk.upstream.scripts.append(["capital ", "is ", "Paris."])
    done = await desk.hybrid.complete(ASK)
    assert done.text == "The capital is Paris."
    await asyncio.sleep(1)
    await desk.local.unload()


async def loading(desk: Desk, *steps: Any) -> asyncio.Task[Any]:
    """The person wants local and the model is on its way; cloud answers take two seconds."""
    desk.engine.loads.append([Sleep(1), *steps])
    desk.upstream.default = ["It ", Sleep(2), "is Paris."]
    desk.hybrid.set_mode("local")
    load = asyncio.create_task(desk.local.init("tiny"))
    await asyncio.sleep(0.1)
    assert desk.local.is_loading()
    return load


@virtual
@pytest.mark.parametrize("killed_after", [0.0, 0.005, 0.5], ids=["before it is planned", "at once", "while it runs"])
async def test_a_load_that_dies_under_a_stopgap(killed_after: float) -> None:
    """A question that the cloud takes while the preferred model loads tells that load's death, once; later ones do not."""
    desk = Desk()
    load = await loading(desk, Sleep(60))
    asking = [asyncio.create_task(desk.hybrid.complete(ASK, {"request_id": name})) for name in ("a", "b")]
    await asyncio.sleep(killed_after)
    desk.engine.die()
    first, second = await asyncio.gather(*asking)
    (told,) = desk.of("hybrid-llm:fallback")
    (failed,) = desk.of("local-llm:error")
    assert (told["from"], told["to"], told["request_id"], told["error"]) == ("local", "cloud", "a", failed["error"])
    assert (first.fallback, second.fallback, first.provider, first.text) == (told, None, "cloud", "It is Paris.")
    assert (await desk.hybrid.complete(ASK)).fallback is None
    assert len(desk.of("hybrid-llm:fallback")) == desk.hybrid.get_usage_stats()["fallback_count"] == 1
    assert (await load)["success"] is False


@virtual
async def test_a_load_that_fails_under_a_streamed_stopgap() -> None:
    """The same where the load itself fails and the answer streams: its last chunk tells the fallback."""
    desk = Desk()
    await loading(desk, Fail("Error", "something new", "load"))
    chunks = await desk.read(desk.hybrid.stream(ASK, {"request_id": "a"}))
    assert chunks[-1].completion is not None
    assert chunks[-1].completion.fallback == desk.of("hybrid-llm:fallback")[0]
    assert len(desk.of("hybrid-llm:fallback")) == 1


@virtual
async def test_what_is_no_stopgap_tells_no_fallback() -> None:
    """Nothing is told by a question meant for the cloud, by one whose load was cancelled, nor by one whose model came."""
    desk = Desk()
    await loading(desk, Sleep(60))
    meant = asyncio.create_task(desk.hybrid.complete_cloud(ASK))
    await asyncio.sleep(0.1)
    desk.engine.die()
    assert (await meant).fallback is None
    for end in ("cancelled", "ready"):
        desk = Desk()
        await loading(desk)
        asked = asyncio.create_task(desk.hybrid.complete(ASK))
        await asyncio.sleep(0.1)
        if end == "cancelled":
            await desk.local.cancel_load()
        else:
            await desk.local.settled()
            assert desk.local.is_ready()
        desk.engine.die()
        assert (await asked).fallback is None
        assert desk.of("hybrid-llm:fallback") == []
        await desk.local.unload()
        await asyncio.sleep(3)
