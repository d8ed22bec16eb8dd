"""Progress with a clock of ours: bytes, rate and remaining time are what the arrivals say, and nothing ever goes back."""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

MODULE = Path(__file__).parents[3] / "static" / "js" / "engine" / "progress.js"
SCRIPT = """
const {Progress} = await import(process.argv[1]);
const {total, steps} = JSON.parse(process.argv[2]);
let clock = 1000;
const events = [];
const progress = new Progress(total, (event) => events.push({at: clock, ...event}), () => clock);
for (const [op, value] of steps) op === 'wait' ? (clock += value) : progress[op](value);
console.log(JSON.stringify(events));
"""
MB = 1_000_000


def run(total: int, *steps: tuple[str, Any]) -> list[dict[str, Any]]:
    """Return the events of a `Progress` over `total` bytes after calls `(method, argument)` and `('wait', ms)`."""
    command = [shutil.which("node") or "node", "--input-type=module", "-e", SCRIPT, MODULE.as_uri()]
    given = json.dumps({"total": total, "steps": steps})
    result = subprocess.run([*command, given], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    events: list[dict[str, Any]] = json.loads(result.stdout)
    return events


def arrivals(count: int, size: int, every: int) -> list[tuple[str, Any]]:
    """Return `count` arrivals of `size` bytes, `every` ms apart, the first at once."""
    return [step for _ in range(count) for step in (("add", size), ("wait", every))]


def test_the_time_left_is_the_bytes_left_at_the_rate_of_the_arrivals() -> None:
    """1 MB each half second of 100 MB: about 2 MB/s, and the ETA is the rest over that very rate."""
    events = run(100 * MB, ("skip", 0), *arrivals(21, MB, 500))
    last = events[-1]
    assert (last["phase"], last["loadedBytes"], last["totalBytes"]) == ("download", 21 * MB, 100 * MB)
    assert last["bytesPerSecond"] == pytest.approx(2 * MB, rel=0.15)
    assert last["etaS"] == pytest.approx((100 - 21) * MB / last["bytesPerSecond"], abs=0.51)
    etas = [event["etaS"] for event in events if event["etaS"] is not None]
    assert etas[-1] < etas[len(etas) // 2]
    assert last["progress"] == pytest.approx(0.8 * 0.21)
    assert last["text"] == "Downloading 21 MB of 100 MB"


def test_no_rate_is_told_before_there_is_one() -> None:
    """At the start and in the first fifth of a second nothing is known: null, not zero, infinity or a wild guess."""
    events = run(100 * MB, ("skip", 0), ("wait", 100), ("add", MB), ("wait", 150), ("add", MB))
    assert [(event["bytesPerSecond"], event["etaS"]) for event in events] == [(None, None)] * 3


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """Fast for ten seconds, then slow for ten: the ETA is the slow one's, ten times as long."""
    events = run(1000 * MB, *arrivals(20, 10 * MB, 500), *arrivals(20, MB, 500))
    assert events[19]["bytesPerSecond"] == pytest.approx(20 * MB, rel=0.15)
    assert events[-1]["bytesPerSecond"] == pytest.approx(2 * MB, rel=0.15)
    assert events[-1]["etaS"] == pytest.approx((1000 - 220) / 2, rel=0.15)


def test_what_was_here_already_says_nothing_about_the_rate() -> None:
    """60 of 100 MB from the cache: they count as done, but the ETA of the rest is the network's."""
    events = run(100 * MB, ("skip", 60 * MB), *arrivals(11, MB, 500))
    assert events[0]["text"] == "60 MB are in this browser already"
    assert (events[0]["loadedBytes"], events[0]["etaS"]) == (60 * MB, None)
    assert events[0]["progress"] == pytest.approx(0.48)
    assert events[-1]["bytesPerSecond"] == pytest.approx(2 * MB, rel=0.15)
    assert events[-1]["etaS"] == pytest.approx(29 / 2, abs=2.5)


def test_a_file_begun_again_takes_nothing_back() -> None:
    """10 MB taken back and fetched again: shown bytes and progress stand still, the ETA grows, the rate stays positive."""
    events = run(40 * MB, *arrivals(20, MB, 500), ("add", -10 * MB), ("wait", 500), *arrivals(12, MB, 500))
    for name in ("loadedBytes", "progress"):
        assert [event[name] for event in events] == sorted(event[name] for event in events)
    before, begun = events[19], events[20]
    assert begun["loadedBytes"] == before["loadedBytes"] == 20 * MB
    assert begun["etaS"] > before["etaS"]
    assert all(event["bytesPerSecond"] > 0 for event in events[1:])
    assert events[-1]["loadedBytes"] == 22 * MB


def test_events_are_at_most_ten_a_second_but_the_last_byte_is_told() -> None:
    """A hundred arrivals ten ms apart: some ten events, no two closer than 100 ms but the last, which is the whole."""
    events = run(100, *arrivals(100, 1, 10))
    times = [event["at"] for event in events]
    assert all(later - earlier >= 100 for earlier, later in pairwise(times[:-1]))
    assert 8 <= len(events) <= 12
    assert (events[-1]["loadedBytes"], events[-1]["etaS"], events[-1]["progress"]) == (100, 0, pytest.approx(0.8))


def test_loading_into_the_gpu_is_the_rest_in_our_words() -> None:
    """WebLLM counts twice from 0 to 1; ours goes on from 0.8 to 1 once, without a rate, and says what happens."""
    reports = [
        {"progress": share, "text": text}
        for text in ("Loading model from cache[1/2]", "Loading GPU shader modules[3/9]")
        for share in (0, 0.5, 1)
    ]
    events = run(
        MB, ("add", MB), *[("engine", report) for report in reports], ("engine", {"progress": 1, "text": "Finish loading"})
    )
    loads = events[1:]
    assert [event["progress"] for event in loads] == pytest.approx([0.8, 0.85, 0.9, 0.9, 0.95, 1, 1])
    assert {(event["phase"], event["bytesPerSecond"], event["etaS"]) for event in loads} == {("load", None, None)}
    words = ["Putting the model into graphics memory"] * 3 + ["Preparing the model for this device"] * 3 + ["Loaded"]
    assert [event["text"] for event in loads] == words


def test_everything_from_the_cache_has_no_time_left_to_tell() -> None:
    """A model that is here whole, and one of no bytes: 0.8 at once, no rate, and no division by nothing."""
    for total in (MB, 0):
        (event,) = run(total, ("skip", total))
        assert (event["progress"], event["bytesPerSecond"], event["etaS"]) == (pytest.approx(0.8), None, None)
