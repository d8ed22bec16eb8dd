"""A dead, silent or deviceless engine: noticed, said once, and everything pending ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine_desk import model
from hybr_testing import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine_desk import Bench, Desk


def test_a_terminated_worker_rejects_what_is_pending_at_once(bench: Bench, desk: Desk) -> None:
    """terminate() fires no event anywhere: the lock tells. Load, running and waiting chat reject, `onDeath` is told once."""
    entry = desk.add(model())
    bench.call("load", {"model": entry})
    for name in ("running", "waiting"):
        bench.start(name, "chat", bench.chat(name, {"endless": True, "everyMs": 5}))
    desk.fault("params_shard_0.bin", "stall")
    bench.start("load", "load", {"model": desk.add(model("other"))})
    until(lambda: bench.events("running"), timeout=10, what="a delta")
    bench.page.evaluate("bench.terminate()")
    for name in ("running", "waiting", "load"):
        failed = bench.end(name)["failed"]
        assert (failed["isError"], failed["name"], failed["phase"]) == (True, "EngineDeadError", "worker")
    assert [death["name"] for death in bench.page.evaluate("bench.deaths")] == ["EngineDeadError"]
    assert bench.call("status")["failed"]["name"] == "EngineDeadError"


def test_a_new_worker_is_attached_and_finds_the_files(bench: Bench, desk: Desk) -> None:
    """After a death mid-load the next worker goes on with the files that were finished."""
    entry = desk.add(model())
    desk.fault("params_shard_2.bin", "stall")
    bench.start("load", "load", {"model": entry})
    until(lambda: len(bench.page.evaluate("bench.keys('webllm/model')")) == 4, timeout=30, what="all but one stored")
    bench.page.evaluate("bench.terminate()")
    assert bench.end("load")["failed"]["name"] == "EngineDeadError"
    desk.asked.clear()
    bench.page.evaluate("bench.restart('/pages/scripted.worker.js')")
    assert bench.call("load", {"model": entry})["model"] == "toy"
    assert desk.downloads() == ["params_shard_2.bin"]
    assert bench.call("chat", bench.chat("r", {"say": ["alive"]}))["text"] == "alive"
    assert len(bench.page.evaluate("bench.deaths")) == 1


def test_attaching_a_new_worker_ends_the_calls_of_the_old(bench: Bench, desk: Desk) -> None:
    """Calls do not wait for a worker that nobody listens to any more; that is no death to be told of."""
    bench.call("load", {"model": desk.add(model())})
    bench.start("x", "chat", bench.chat("x", {"endless": True, "everyMs": 5}))
    until(lambda: bench.events("x"), timeout=10, what="a delta")
    bench.page.evaluate("bench.restart('/pages/scripted.worker.js')")
    assert bench.end("x")["failed"]["name"] == "EngineDeadError"
    assert bench.call("status")["state"] == "empty"
    assert bench.page.evaluate("bench.deaths") == []


def test_a_worker_script_that_is_not_there_does_not_leave_calls_hanging(open_bench: Callable[..., Bench]) -> None:
    """No worker ever says hello: calls end with EngineDeadError by the port's end or by silence."""
    bench = open_bench("/pages/missing.engine.js", pingEveryMs=200, misses=5)
    assert bench.call("status")["failed"]["name"] == "EngineDeadError"


def test_a_silent_worker_is_given_up_and_a_slow_one_is_not(open_bench: Callable[..., Bench]) -> None:
    """A worker stuck for longer than the patience is dead to us; one stuck for less still answers."""
    bench = open_bench(pingEveryMs=600, misses=5)
    bench.page.evaluate("bench.script({blockMs: 800})")
    assert bench.call("status")["state"] == "empty"
    bench.page.evaluate("bench.script({blockMs: 60000})")
    failed = bench.call("status")["failed"]
    assert (failed["name"], failed["phase"]) == ("EngineDeadError", "worker")
    assert "has not answered for 3 s" in failed["message"]
    assert len(bench.page.evaluate("bench.deaths")) == 1


def test_this_threads_own_pause_is_not_held_against_the_worker(open_bench: Callable[..., Bench]) -> None:
    """Python at work blocks the client's thread for seconds: the worker's pongs wait, and that is no silence."""
    bench = open_bench(pingEveryMs=400, misses=5)
    answer = bench.page.evaluate(
        """async () => { const answer = bench.call('cached', {}); const end = performance.now() + 4000;
             while (performance.now() < end); return answer; }"""
    )
    assert answer["models"] == []
    assert bench.page.evaluate("bench.deaths") == []


def test_a_lost_device_ends_the_running_chat_and_is_told(bench: Bench, desk: Desk) -> None:
    """A real device destroyed under a generation that never settles: the chat rejects, `onLost` is told, a new worker goes on."""
    entry = desk.add(model(device=True))
    bench.call("load", {"model": entry})
    failed = bench.call("chat", bench.chat("r1", {"say": ["a", "b", "c"], "loseAt": 2}))["failed"]
    assert (failed["name"], failed["phase"]) == ("DeviceLostError", "worker")
    assert [event["delta"] for event in bench.events()] == ["a", "b"]
    assert [loss["name"] for loss in bench.page.evaluate("bench.losses")] == ["DeviceLostError"]
    assert bench.call("ping")["failed"]["name"] == "DeviceLostError"
    bench.page.evaluate("bench.terminate()")
    bench.page.evaluate("bench.restart('/pages/scripted.worker.js')")
    assert bench.call("load", {"model": entry})["downloadedBytes"] == 0
    assert bench.call("chat", bench.chat("r3", {"say": ["back"]}))["text"] == "back"
    assert bench.page.evaluate("bench.deaths") == []


def test_a_device_lost_while_loading_is_the_loads_failure(bench: Bench, desk: Desk) -> None:
    """Memory that runs out while weights move in: the load rejects in phase 'load', and another model can be loaded."""
    failed = bench.call("load", {"model": desk.add(model("big", device=True, lose=True))})["failed"]
    assert (failed["name"], failed["phase"]) == ("DeviceLostError", "load")
    assert bench.page.evaluate("bench.losses") == []
    assert bench.call("status")["state"] == "lost"
    assert bench.call("load", {"model": desk.add(model("small"))})["model"] == "small"


def test_unloading_is_not_a_loss(bench: Bench, desk: Desk) -> None:
    """The device that goes with an unload or a change of model is nobody's accident."""
    entry = desk.add(model(device=True))
    bench.call("load", {"model": entry})
    bench.call("load", {"model": desk.add(model("other", device=True))})
    bench.call("unload")
    assert bench.call("status")["state"] == "empty"
    assert bench.page.evaluate("bench.losses") == []


def test_a_load_cancelled_while_the_gpu_is_busy_answers_at_once_and_leaves_nothing(bench: Bench, desk: Desk) -> None:
    """WebLLM cannot be interrupted there: the caller is free at once, the half-loaded model goes, the next load works."""
    slow = desk.add(model("slow", shards=3, everyMs=700))
    bench.start("load", "load", {"model": slow})
    until(lambda: any(event["phase"] == "load" for event in bench.events("load")), timeout=30, what="weights moving in")
    bench.call("cancel-load")
    failed = bench.end("load")["failed"]
    assert (failed["name"], failed["phase"]) == ("AbortError", "load")
    assert bench.call("load", {"model": desk.add(model("quick"))})["model"] == "quick"
    assert bench.call("status")["model"] == "quick"


def test_a_failed_load_is_an_error_of_its_phase_and_the_engine_can_load_again(bench: Bench, desk: Desk) -> None:
    """An error of WebLLM's own while loading arrives with its name; the files, being sound, are kept."""
    failed = bench.call("load", {"model": desk.add(model(fail=["LinkError", "import object"]))})["failed"]
    assert (failed["name"], failed["message"], failed["phase"]) == ("LinkError", "import object", "load")
    assert [item["id"] for item in bench.call("cached")["models"]] == ["toy"]
    assert bench.call("status")["state"] == "empty"
    assert bench.call("load", {"model": desk.add(model("other"))})["model"] == "other"
