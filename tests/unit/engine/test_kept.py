"""A generation that WebLLM keeps: begun under a name, removed at its end, taken up where the text that was shown ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from engine_desk import model
from hybr_testing import until

if TYPE_CHECKING:
    from engine_desk import Bench, Desk

# A session's name has the model's revision in it: WebLLM would take a rebuilt model of the same id for the same one.
NAME = "story.0123456789abcdef"


@pytest.fixture
def ready(bench: Bench, desk: Desk) -> Bench:
    """A page whose engine has a (scripted) model."""
    assert bench.call("load", {"model": desk.add(model())})["model"] == "toy"
    return bench


def keep(ready: Bench, **session: Any) -> None:
    """Let the engine have one kept generation."""
    ready.page.evaluate("(sessions) => bench.script({sessions})", {NAME: session})


def kept(ready: Bench) -> list[str]:
    """Return the names of what the engine keeps."""
    return list(json.loads(ready.call("chat", ready.chat("look", {"sessions": True}))["text"]))


def take_up(ready: Bench, prefix: str, request: str = "again", **options: Any) -> Any:
    """Go on with the kept generation, of which `prefix` was shown."""
    return ready.call("chat", ready.chat(request, {}, **options) | {"journal": {"session": "story", "prefix": prefix}})


def text_of(ready: Bench) -> str:
    """Return what the deltas of the last call add up to."""
    return "".join(event["delta"] for event in ready.events() if event["type"] == "delta")


def test_an_answer_is_kept_while_it_is_written_and_no_longer(ready: Bench) -> None:
    """Batched writes, no copy of the attention cache; at its end nothing is left; without a name nothing is kept."""
    journal = {"journal": {"session": "story", "prefix": None}}
    request = json.loads(ready.call("chat", ready.chat("a", {"echo": True}) | journal)["text"])
    assert request["extra_body"]["resumable"] == {
        "enabled": True, "sessionId": NAME, "durabilityMode": "relaxed",
        "checkpointPrompt": False, "checkpointIntervalTokens": 2**30,
    }  # fmt: skip
    assert kept(ready) == []
    assert "extra_body" not in json.loads(ready.call("chat", ready.chat("b", {"echo": True}))["text"])
    ready.start("c", "chat", ready.chat("c", {"endless": True, "everyMs": 5}) | journal)
    until(lambda: ready.events("c"), timeout=10, what="a delta")
    ready.call("abort", {"requestId": "c"})
    assert ready.end("c")["finishReason"] == "abort"
    assert kept(ready) == [NAME], "a stopped one is the page's to remove: the person may have left, not stopped"
    assert ready.call("chat", ready.chat("d", {"say": ["fine"]}) | journal)["text"] == "fine", "the name can be used again"


def test_a_name_that_is_taken_costs_no_answer(ready: Bench) -> None:
    """What is kept under that name cannot be removed now: the answer is made all the same, without being kept."""
    keep(ready, stuck=True)
    journal = {"journal": {"session": "story", "prefix": None}}
    assert "extra_body" not in json.loads(ready.call("chat", ready.chat("a", {"echo": True}) | journal)["text"])


def test_what_cannot_be_kept_is_not(ready: Bench) -> None:
    """WebLLM replays no grammar, tools or images: such an answer is made without being kept."""
    journal = {"journal": {"session": "story", "prefix": None}}
    for options in ({"response_format": {"type": "json_object"}}, {"tools": [{"type": "function", "function": {"name": "f"}}]}):
        asked = json.loads(ready.call("chat", ready.chat("a", {"echo": True}, **options) | journal)["text"])
        assert "extra_body" not in asked


@pytest.mark.parametrize(
    ("said", "rest", "prefix", "more"),
    [
        ("Once upon", [" a", " time"], "Once upon", " a time"),  # written as far as it was shown
        ("Once", [" upon", " a", " time"], "Once upon a", " time"),  # behind: what is made again is held back
        ("Once upon a", [" time"], "Once", " upon a time"),  # ahead of what was shown
        ("", ["On", "ce"], "O", "nce"),  # nothing written yet; the cut was inside a token
        ("Once", [], "Once", ""),  # only its end is left
    ],
)
def test_it_goes_on_where_the_shown_text_ends(ready: Bench, said: str, rest: list[str], prefix: str, more: str) -> None:
    """Nothing is repeated, nothing lost, wherever the writing had come to; afterwards it is removed."""
    keep(ready, said=said, rest=rest)
    answer = take_up(ready, prefix)
    assert answer["text"] == text_of(ready) == more
    assert answer["finishReason"] == "stop"
    assert kept(ready) == []


@pytest.mark.parametrize(
    ("session", "prefix", "why"),
    [
        ({"said": "Twice", "rest": ["x"]}, "Once", "another text"),
        ({"said": "On", "rest": ["ly", " one"]}, "Once", "another text came of it"),
        ({"said": "On", "rest": ["c"]}, "Once upon", "ended before"),
        ({"said": "Once", "broken": True}, "Once", "missing RNG state"),
        ({"said": "On", "finished": True}, "Once", "finished"),
    ],
)
def test_what_does_not_agree_with_the_shown_text_is_not_taken_up(
    ready: Bench, session: dict[str, Any], prefix: str, why: str
) -> None:
    """Whatever stands against it is said before a piece of text is given, so that the text can be gone on with otherwise."""
    keep(ready, **session)
    failed = take_up(ready, prefix)["failed"]
    assert (failed["name"], failed["phase"]) == ("SessionGoneError", "prefill")
    assert why in failed["message"]
    assert text_of(ready) == ""
    assert ready.call("chat", ready.chat("next", {"say": ["fine"]}))["text"] == "fine"


def test_one_that_had_come_to_its_end_gives_what_was_not_shown(ready: Bench) -> None:
    """The document went away between the last token and the page's noticing: nothing is made beyond the end."""
    keep(ready, said="Once upon a time.", finished=True)
    answer = take_up(ready, "Once upon")
    assert (answer["text"], answer["finishReason"]) == (" a time.", "stop")
    keep(ready, said="Once.", finished=True)
    assert take_up(ready, "Once.", "more")["text"] == ""
    assert kept(ready) == []


def test_a_session_that_the_old_document_still_holds_is_waited_for(ready: Bench) -> None:
    """A reloaded page is often quicker than the going of the one before it; one that never lets go is gone."""
    keep(ready, said="Once", rest=[" upon"], busy=3)
    assert take_up(ready, "Once")["text"] == " upon"
    keep(ready, said="Once", rest=[" upon"], busy=10**6)
    failed = take_up(ready, "Once", "never")["failed"]
    assert failed["name"] == "SessionGoneError"
    assert "already active" in failed["message"]


def test_another_build_of_the_model_does_not_take_it_up(ready: Bench, desk: Desk) -> None:
    """The same id in another revision has other weights: its tokens would not be these."""
    keep(ready, said="Once", rest=[" upon"])
    newer = model()
    newer.rev = "fedcba9876543210"
    ready.call("load", {"model": desk.add(newer)})
    failed = take_up(ready, "Once")["failed"]
    assert (failed["name"], "not found" in failed["message"]) == ("SessionGoneError", True)


def test_a_stop_ends_what_was_taken_up(ready: Bench) -> None:
    """Stopped like any other; what it had said is told."""
    keep(ready, said="Once", rest=[" more"] * 5000, everyMs=5)
    ready.start("x", "chat", ready.chat("x", {}) | {"journal": {"session": "story", "prefix": "Once"}})
    until(lambda: ready.events("x"), timeout=10, what="a delta")
    ready.call("abort", {"requestId": "x"})
    answer = ready.end("x")
    assert answer["finishReason"] == "abort"
    assert answer["text"].startswith(" more")


def test_stop_sequences_hold_across_the_joint(ready: Bench) -> None:
    """What may begin a stop sequence waits as in any other answer."""
    keep(ready, said="Once", rest=[" upon E", "nd"])
    assert take_up(ready, "Once", stop=["End"])["text"] == " upon End"
    assert text_of(ready) == " upon End"
