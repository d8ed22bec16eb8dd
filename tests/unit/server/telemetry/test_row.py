"""Telemetry's row takes words out of lists and numbers in bounds, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybr.server.errors import RequestError
from hybr.server.telemetry.buckets import bucket, quantile
from hybr.server.telemetry.row import DEVICES, ERRORS, EVENTS, Row, from_page, kind_of

KNOWN = {"local", "cloud", "smollm2-135m"}
GOOD = {
    "event": "complete",
    "provider": "local",
    "model": "smollm2-135m",
    "device": "webgpu",
    "latency": 812.6,
    "ttft": 40,
    "prompt": 12,
    "completion": 30,
    "rate": 38.5,
}


def test_a_good_event() -> None:
    """What a page knows of an answer becomes one row."""
    row = from_page("events[0]", GOOD, "ada", 5.0, KNOWN)
    assert row == Row("ada", 5.0, "page", "complete", "local", "smollm2-135m", "webgpu", "none", 813, 40, 12, 30, 38.5)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"text": "hello"}, "events[0]"),
        ({"event": "the prompt was"}, "events[0].event"),
        ({"device": "my laptop"}, "events[0].device"),
        ({"latency": -1}, "events[0].latency"),
        ({"latency": "5"}, "events[0].latency"),
        ({"latency": True}, "events[0].latency"),
        ({"rate": 1e300}, "events[0].rate"),
        ({"prompt": 10**12}, "events[0].prompt"),
        ({"model": "x" * 201}, "events[0].model"),
        ({"error": ["a"]}, "events[0].error"),
    ],
)
def test_anything_else_is_refused(change: dict[str, Any], field: str) -> None:
    """A field that is none, a word out of no list, a number out of bounds: the refusal names the place and repeats nothing."""
    with pytest.raises(RequestError) as caught:
        from_page("events[0]", GOOD | change, "ada", 5.0, KNOWN)
    assert caught.value.field == field
    assert "laptop" not in caught.value.message
    assert "prompt was" not in caught.value.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*sorted(GOOD), "error"]), json_values))
def test_no_text_gets_through(body: dict[str, Any]) -> None:
    """Whatever a page sends, a row that comes of it holds no word of its own."""
    try:
        row = from_page("e", body, "ada", 5.0, KNOWN)
    except RequestError:
        return
    assert row.event in EVENTS
    assert row.device in DEVICES
    assert row.error in ERRORS
    assert {row.provider, row.model} <= KNOWN | {"other"}
    for name in ("latency", "ttft", "prompt", "completion", "rate"):
        assert isinstance(getattr(row, name), int | float | None)


def test_codes_are_counted_by_kind() -> None:
    """An error's code is counted under its kind; an unknown code is "other", whatever it says."""
    assert (kind_of(None), kind_of("stream_stalled"), kind_of("timeout"), kind_of("Hello, my name is")) == (
        "none",
        "timeout",
        "timeout",
        "other",
    )


@given(st.lists(st.floats(0, 1e7), min_size=1, max_size=200), st.sampled_from([0.5, 0.95]))
def test_a_quantile_is_near_the_true_one(values: list[float], share: float) -> None:
    """Out of buckets it is within one bucket's width of what sorting gives."""
    counts: dict[int, int] = {}
    for value in values:
        counts[bucket(value)] = counts.get(bucket(value), 0) + 1
    found = quantile(counts, share)
    exact = sorted(values)[min(int(share * len(values) - 1e-9), len(values) - 1)]
    assert found is not None
    assert exact / 1.25 - 1 <= found <= max(exact, 1) * 1.25


def test_nothing_has_no_quantile() -> None:
    """Of no values there is no median."""
    assert quantile({}, 0.5) is None
