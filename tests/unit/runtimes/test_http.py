"""Server-Sent Events out of bytes in any pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybr.webapp.runtimes import http
from hybr.webapp.runtimes.http import EventStream


def read(pieces: list[bytes]) -> list[str]:
    """All events of the stream."""
    events = EventStream()
    return [event for piece in pieces for event in events.feed(piece)] + list(events.flush())


@pytest.mark.parametrize(
    ("raw", "want"),
    [
        (b"data: a\n\ndata: b\n\n", ["a", "b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
        (b"data: a\r\rdata: b\r\r", ["a", "b"]),
        (b"data:a\n\n", ["a"]),
        (b"data:  a\n\n", [" a"]),
        (b": ping\n\ndata: a\n\n", ["a"]),
        (b"event: x\nid: 3\nretry: 9\ndata: a\n\n", ["a"]),
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b"data\n\n", [""]),
        (b"dataset: a\n\n", []),
        (b"data: a", ["a"]),
        (b"data: a\n", ["a"]),
        (b"", []),
        (b"\n\n\n", []),
        ("data: Zürich 🙂\n\n".encode(), ["Zürich 🙂"]),
    ],
)
def test_events(raw: bytes, want: list[str]) -> None:
    """D19: the standard's line ends, comments, fields, several data lines, no newline at the end; whole and byte by byte."""
    assert read([raw]) == want
    assert read([raw[index : index + 1] for index in range(len(raw))]) == want


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1), max_size=6),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    cuts=st.lists(st.integers(1, 9), min_size=1),
)
def test_any_cut_gives_the_same_events(texts: list[str], end: str, cuts: list[int]) -> None:
    """However the bytes are cut, inside a character or a line end, the events are the same."""
    raw = "".join(f"data: {text}{end}{end}" for text in texts).encode()
    pieces, at = [], 0
    while at < len(raw):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(raw[at : at + size])
        at += size
    assert read(pieces) == texts


def test_an_event_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: a line, or an event of many lines, that grows beyond the limit is an error."""
    monkeypatch.setattr(http, "MAX_EVENT", 100)
    with pytest.raises(ValueError, match="more than 100"):
        read([b"data: " + b"x" * 200])
    with pytest.raises(ValueError, match="more than 100"):
        read([b"data: " + b"x" * 60 + b"\n"] * 2)
