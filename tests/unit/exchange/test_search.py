"""Full text over all messages: what is found, and how it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from exchange_desk import conversation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from exchange_desk import ExchangeDesk

ONE = conversation(
    "one",
    [
        ("a", None, "user", "Where is the best Café in Lisbon?"),
        ("b", "a", "assistant", "Try the pastéis de nata in BELÉM."),
        ("c", "a", "assistant", "Another branch: the Castelo."),
        ("d", "c", "user", "Straße und İstanbul"),
    ],
    title="Ferien",
)
TWO = conversation("two", [("a", None, "user", "cafe at home")], title="Kitchen", updatedAt=1_800_000_000_000)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("cafe", {("two", "a"), ("one", "a")}),
        ("CAFÉ", {("two", "a"), ("one", "a")}),
        ("cafe lisbon", {("one", "a")}),
        ("lisbon cafe", {("one", "a")}),
        ('"in lisbon"', {("one", "a")}),
        ('"lisbon in"', set()),
        ("pasteis belem", {("one", "b")}),
        ("castelo", {("one", "c")}),
        ("straße istanbul", {("one", "d")}),
        ("ferien", set()),
        ("nothing", set()),
        ("  ", set()),
        ('"', set()),
        (".*", set()),
    ],
)
def test_words_are_found_in_every_branch(desk: ExchangeDesk, query: str, expected: set[tuple[str, str]]) -> None:
    """Whatever their case and accents, all of them in one message, quoted ones as they stand; nothing is a pattern."""
    hits = desk.ask("search", conversations=[ONE, TWO], query=query)
    assert {(hit["conversation"], node["id"]) for hit in hits for node in hit["nodes"]} == expected


def test_titles_come_first_then_what_was_used_last(desk: ExchangeDesk) -> None:
    """A title that has the words is worth more than a newer conversation."""
    titled = conversation("three", [("a", None, "user", "x")], title="Cafe", updatedAt=1)
    hits = desk.ask("search", conversations=[ONE, TWO, titled], query="cafe")
    assert [(hit["conversation"], hit["title"]) for hit in hits] == [("three", True), ("two", False), ("one", False)]


def test_attachments_are_searched(desk: ExchangeDesk) -> None:
    """Names, and what stands in text files."""
    one = conversation("one", [("a", None, "user", "see")])
    one["nodes"][0]["attachments"] = [{"kind": "text", "name": "plan.md", "mime": "text/plain", "data": "the secret garden"}]
    assert len(desk.ask("search", conversations=[one], query="garden plan.md")) == 1


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=80), st.text(max_size=6))
def test_a_snippet_is_a_part_of_the_text(desk: ExchangeDesk, text: str, query: str) -> None:
    """Folding keeps every place, so that what is marked is what was found, in any script."""
    import unicodedata

    text, query = (one.encode("utf-8", "replace").decode() for one in (text, query))
    plain = desk.ask("fold", text=text)
    assert len(plain.encode("utf-16-le")) == len(unicodedata.normalize("NFC", text).encode("utf-16-le"))
    pieces: list[dict[str, Any]] = desk.ask("snippet", text=text, query=query)
    shown = "".join(piece["text"] for piece in pieces).removeprefix("…")
    flat = "".join(" " if one.isspace() or one == "\ufeff" else one for one in unicodedata.normalize("NFC", text))
    assert "".join(" " if one.isspace() or one == "\ufeff" else one for one in shown) in flat
    words = desk.ask("fold", text=query)
    for piece in pieces:
        if piece["marked"]:
            assert desk.ask("fold", text=piece["text"]) in words
