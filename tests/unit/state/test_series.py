"""The person's own series: counts and sums by the hour, percentiles within 5 %, and several tabs that add to the same hour."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lab.desk import MemoryStorage

from hybr.webapp.hybrid.events import EventBus
from hybr.webapp.state.series import DAY, HOUR, KEPT_DAYS, STEP, Series, bin_of, percentile

NOW = 1_800_000_000.0


def done(
    events: EventBus, provider: str = "local", model: str = "tiny", *, ms: float = 100.0, tokens: int = 5, cost: float = 0.0
) -> None:
    """One answer."""
    timings = {"ttft_ms": ms / 2, "total_ms": ms, "decode_tps": 10.0}
    usage = {"prompt_tokens": 2, "completion_tokens": tokens - 2}
    events.emit("hybrid-llm:complete", {"provider": provider, "model": model, "timings": timings, "usage": usage, "cost": cost})


class Clock:
    """The time, by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        """Seconds since 1970."""
        return self.now


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 1.0]))
def test_percentiles_are_within_a_bin(values: list[float], share: float) -> None:
    """Whatever the values, the histogram's percentile is the true one by nearest rank, within half a bin."""
    histogram: dict[str, float] = {}
    for value in values:
        histogram[bin_of(value)] = histogram.get(bin_of(value), 0) + 1
    true = sorted(values)[math.ceil(share * len(values)) - 1]
    found = percentile(histogram, share)
    assert found is not None
    assert true / math.sqrt(STEP) * 0.999 <= found <= true * math.sqrt(STEP) * 1.001


def test_nothing_counted_has_no_percentile() -> None:
    """An empty histogram says so."""
    assert percentile({}, 0.5) is None


def test_answers_add_up_by_hour_and_model() -> None:
    """Two models in two hours: sums by stretch, by total, and in what is exported."""
    clock, events = Clock(), EventBus()
    series = Series(MemoryStorage(), events, now=clock)
    done(events, ms=100)
    done(events, ms=400, tokens=7)
    clock.now += HOUR
    done(events, "cloud", "gpt", cost=0.25)
    day = series.stretches(NOW - DAY, HOUR)
    assert [[(one.model, one.requests, one.tokens) for one in figures] for _, figures in day] == [
        [("tiny", 2, 12)],
        [("gpt", 1, 5)],
    ]
    local, cloud = series.totals(0)
    assert (local.model, cloud.cost) == ("tiny", 0.25)
    slow = local.of("total", 0.95)
    assert slow is not None
    assert 380 < slow < 420
    rows = series.rows()
    assert [(row["model"], row["requests"], row["cost_usd"]) for row in rows] == [("tiny", 2, 0), ("gpt", 1, 0.25)]
    assert rows[0]["hour"].endswith(":00:00Z")
    assert series.totals(clock.now + 2 * HOUR) == []


def test_changes_and_errors_by_cause() -> None:
    """Fallbacks, handovers and errors are counted by their code."""
    events = EventBus()
    series = Series(MemoryStorage(), events, now=Clock())
    for name in ("fallback", "fallback", "handover"):
        events.emit(f"hybrid-llm:{name}", {"from": "local", "to": "cloud", "error": {"code": "device_lost", "message": "secret"}})
    events.emit("hybrid-llm:stream-error", {"error": {"code": "timeout"}})
    assert series.counts("changes", 0) == {"fallback:device_lost": 2, "handover:device_lost": 1}
    assert series.counts("errors", 0) == {"timeout": 1}


def test_it_is_there_at_the_next_visit_and_old_hours_go() -> None:
    """What was stored comes back; what is older than three months, damaged or another's does not."""
    clock, storage, events = Clock(), MemoryStorage(), EventBus()
    Series(storage, events, now=clock)
    done(events)
    assert Series(storage, EventBus(), now=clock).totals(0)[0].requests == 1
    clock.now += KEPT_DAYS * DAY + HOUR
    assert Series(storage, EventBus(), now=clock).hours == {}
    assert json.loads(storage.values["series"]) == {}
    for damaged in ("{", "[]", '{"x": 1}', "3"):
        storage.values["series"] = damaged
        assert Series(storage, EventBus(), now=clock).hours == {}


def test_two_tabs_add_to_one_hour() -> None:
    """Each tab hears what the other added; a browser that stores nothing takes nothing away."""
    storage, events = MemoryStorage(), EventBus()
    series = Series(storage, events, now=Clock())
    done(events)
    ((hour, bucket),) = series.hours.items()
    other: dict[str, Any] = {**bucket, "cloud|gpt": {"requests": 3, "tokens": 9, "cost": 0}}
    series._heard({hour: other})
    assert sum(one.requests for one in series.totals(0)) == 4
    series._heard({hour: {"local|tiny": {"requests": 1}}})
    assert sum(one.requests for one in series.totals(0)) == 4


def test_clearing_forgets_it_in_the_browser_too() -> None:
    """Nothing is left, and the next answer begins anew."""
    storage, events = MemoryStorage(), EventBus()
    series = Series(storage, events, now=Clock())
    done(events)
    series.clear()
    assert (series.hours, json.loads(storage.values["series"])) == ({}, {})
    done(events)
    assert series.totals(0)[0].requests == 1


def test_another_tab_that_clears_is_heard() -> None:
    """What was forgotten in one tab is forgotten in all of them."""
    told: list[dict[str, Any]] = []
    storage, events = MemoryStorage(), EventBus()
    storage.assign = lambda _, change: told.append(change)  # type: ignore[method-assign]
    done(events)
    one, other = Series(storage, events, now=Clock()), Series(storage, events, now=Clock())
    done(events)
    one.clear()
    other._heard(told[0])
    assert other.hours == {}


def test_a_day_is_a_day_of_the_persons() -> None:
    """An hour before midnight UTC is the next day's where the clock is two hours ahead."""
    clock, events = Clock(), EventBus()
    series = Series(MemoryStorage(), events, now=clock)
    clock.now = NOW - NOW % DAY + DAY - HOUR
    done(events)
    (utc, _), (theirs, _) = series.stretches(0, DAY)[0], series.stretches(0, DAY, ahead=2 * HOUR)[0]
    assert theirs + 2 * HOUR == utc + DAY


def test_what_was_said_is_never_kept() -> None:
    """No text of an event gets in: only names of models, codes and numbers."""
    storage, events = MemoryStorage(), EventBus()
    Series(storage, events, now=Clock())
    timings = {"ttft_ms": 1.0, "total_ms": 2.0, "decode_tps": 3.0}
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    detail = {"provider": "local", "model": "m", "timings": timings, "usage": usage, "text": "canary", "request_id": "canary"}
    events.emit("hybrid-llm:complete", detail)
    events.emit("hybrid-llm:fallback", {"from": "local", "to": "cloud", "error": {"code": "x", "message": "canary"}})
    assert "canary" not in storage.values["series"]
