"""Two tabs, one engine: the second tab's client reaches the first tab's worker, and neither gets into the other's way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from engine_desk import Bench, Desk, model
from hybr_testing import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page


@pytest.fixture
def other(bench: Bench, desk_server: tuple[Desk, str]) -> Iterator[Bench]:
    """A second tab of the same browser, whose client has joined the engine of `bench`."""
    assert bench.call("status")["state"] == "empty"  # only an engine that holds its lock is found by others
    page: Page = bench.page.context.new_page()
    page.goto(desk_server[1] + "/pages/blank.html")
    lock = bench.page.evaluate("bench.lock")
    page.evaluate("async (lock) => { window.bench = await import('/pages/bench.js'); bench.join(lock); }", lock)
    yield Bench(page, bench.watch)
    if not page.is_closed():
        page.close()


def states(tab: Bench) -> list[tuple[str, str | None]]:
    """What a tab heard of the other's doings, without repetitions."""
    heard = tab.page.evaluate("bench.states.map((status) => [status.state, status.loading ?? status.model])")
    return [tuple(item) for i, item in enumerate(heard) if i == 0 or item != heard[i - 1]]


def test_a_model_is_loaded_once_for_both(bench: Bench, other: Bench, desk: Desk) -> None:
    """The second tab finds the first one's model, hears of its load, and both are answered by it, each with its own text."""
    args = {"model": desk.add(model())}
    assert bench.call("load", args)["model"] == "toy"
    downloads = len(desk.downloads())
    assert other.call("status")["model"] == "toy"
    assert other.call("load", args)["model"] == "toy"
    assert len(desk.downloads()) == downloads
    until(lambda: states(other) == [("loading", "toy"), ("ready", "toy")], timeout=10, what="the states")
    for tab, words in ((bench, ["a", "b"]), (other, ["c", "d"])):
        tab.start("chat", "chat", tab.chat("same id", {"say": words, "everyMs": 5}))
    assert [tab.end("chat")["text"] for tab in (bench, other)] == ["ab", "cd"]
    assert [len(tab.events("chat")) for tab in (bench, other)] == [2, 2]


def test_two_loads_of_one_model_are_one(bench: Bench, other: Bench, desk: Desk) -> None:
    """The second tab's load joins the one under way, with its progress; both end with the model."""
    args = {"model": desk.add(model(everyMs=60))}
    bench.start("load", "load", args)
    until(lambda: bench.call("status")["state"] == "loading", timeout=10, what="the load")
    assert other.call("unload", {"unless": "toy"}) == {"unloaded": None}
    assert other.call("load", args)["model"] == "toy"
    assert bench.end("load")["model"] == "toy"
    assert other.events()[-1]["progress"] == 1


def test_answers_queue_in_the_order_of_asking(bench: Bench, other: Bench, desk: Desk) -> None:
    """Concurrent requests of both tabs take turns; a stop in one tab stops that tab's request and no other."""
    bench.call("load", {"model": desk.add(model())})
    long = {"say": ["x"], "endless": True, "everyMs": 5}
    bench.start("first", "chat", bench.chat("1", long))
    until(lambda: bench.events("first"), timeout=10, what="a delta")
    other.start("second", "chat", other.chat("1", {"say": ["y"]}))
    until(lambda: bench.call("status")["queued"] == 1, timeout=10, what="the queue")
    bench.start("third", "chat", bench.chat("3", {"say": ["z"]}))
    bench.page.evaluate("bench.stop('first')")
    ends = [bench.end("first"), other.end("second"), bench.end("third")]
    assert [end["finishReason"] for end in ends] == ["abort", "stop", "stop"]
    assert [end["text"] for end in ends[1:]] == ["y", "z"]


def test_a_model_that_answers_another_tab_is_not_taken_away(bench: Bench, other: Bench, desk: Desk) -> None:
    """Loading another model, or unloading, is refused while the other tab is being answered, and wins as soon as it is not."""
    bench.call("load", {"model": desk.add(model())})
    bench.start("chat", "chat", bench.chat("1", {"say": ["x"], "endless": True, "everyMs": 5}))
    until(lambda: bench.events("chat"), timeout=10, what="a delta")
    second = {"model": desk.add(model("second"))}
    for op, args in (("load", second), ("unload", {})):
        failed = other.call(op, args)["failed"]
        assert failed["name"] == "EngineBusyError"
        assert "Another tab is being answered by toy" in failed["message"]
    assert bench.page.evaluate("bench.pending('chat')")
    bench.page.evaluate("bench.stop('chat')")
    assert bench.end("chat")["finishReason"] == "abort"
    assert other.call("load", second)["model"] == "second"
    until(lambda: states(bench)[-1:] == [("ready", "second")], timeout=10, what="the state")


def test_a_tab_that_goes_leaves_nothing_behind(bench: Bench, other: Bench, desk: Desk) -> None:
    """The second tab is closed in the middle of its answer: the engine stops it, and the first tab's request begins."""
    bench.call("load", {"model": desk.add(model())})
    other.start("chat", "chat", other.chat("1", {"say": ["x"], "endless": True, "everyMs": 5}))
    until(lambda: other.events("chat"), timeout=10, what="a delta")
    bench.start("next", "chat", bench.chat("2", {"say": ["z"]}))
    other.page.close()
    assert bench.end("next")["text"] == "z"
    status = bench.call("status")
    assert (status["active"], status["queued"]) == (None, 0)


def test_the_leaders_end_is_told_to_the_other_tab(bench: Bench, other: Bench, desk: Desk) -> None:
    """The tab with the engine is closed in the middle of the other's answer: a typed failure, told once; later calls reject."""
    bench.call("load", {"model": desk.add(model())})
    other.start("chat", "chat", other.chat("1", {"say": ["x"], "endless": True, "everyMs": 5}))
    until(lambda: other.events("chat"), timeout=10, what="a delta")
    bench.page.close()
    failed = other.end("chat")["failed"]
    assert (failed["name"], failed["phase"]) == ("EngineMovedError", "worker")
    assert [death["name"] for death in other.page.evaluate("bench.deaths")] == ["EngineMovedError"]
    assert other.call("status")["failed"]["name"] == "EngineMovedError"
