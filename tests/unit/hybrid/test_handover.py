"""The joint between two models' text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybr.webapp.hybrid.handover import ANCHOR, Joiner, Seam, anchor, continuation

SHOWN = "The capital of France is Paris, which lies on the river"


def joined(shown: str, pieces: list[str]) -> str:
    """What a reader sees after `shown`."""
    joiner = Joiner(shown)
    return "".join(joiner.feed(piece) for piece in pieces) + joiner.flush()


@pytest.mark.parametrize(
    ("pieces", "want"),
    [
        ([" Seine", "."], " Seine."),  # goes on
        (["on the river", " Seine."], " Seine."),  # repeats the anchor
        (["on ", "the ", "riv", "er", " Se", "ine."], " Seine."),  # the same, in pieces
        (['"which lies on the river', " Seine."], " Seine."),  # quoted
        (["... lies on the river Seine."], " Seine."),
        ([SHOWN, " Seine."], " Seine."),  # begins all over
        ([SHOWN[:30], SHOWN[30:] + " Seine."], " Seine."),
        (["  on the river Seine."], " Seine."),
        (["river Seine."], "river Seine."),  # too short to be more than chance
        (["on the riverbank."], "bank."),  # half a word, completed
        (["The river Seine is long."], "The river Seine is long."),
        ([""], ""),
        ([], ""),
        (["on the river"], ""),  # repeats and stops
        (["on the ri"], ""),  # repeats a part and stops
        (["on"], "on"),
        ([" "], ""),
    ],
)
def test_the_joint(pieces: list[str], want: str) -> None:
    """What repeats the end of the text is dropped, what is new is kept to the letter."""
    assert joined(SHOWN, pieces) == want


def test_a_new_sentence_gets_its_space() -> None:
    """Models strip the space before a new sentence; after other words nothing is guessed."""
    assert joined("It is Paris.", ["It lies on the Seine."]) == " It lies on the Seine."
    assert joined("3.", ["14"]) == "14"
    assert joined("ab", ["cd"]) == "cd"


def test_a_beginning_that_occurs_twice() -> None:
    """The place where the text really ends is found, not the first that looks alike."""
    assert joined("chapter one, chapter two", ["chapter two", " ends"]) == " ends"


LIST = "Here is the list of capitals:\n\n"
JOINTS = [
    ("ha " * 40, anchor("ha " * 40) + " ha ha END", "ha ha END"),  # what was asked for, not the longest overlap
    ("a" * 200, "a" * ANCHOR + "aaab", "aaab"),
    (LIST, "Here is the list of capitals:\n- Paris", "- Paris"),  # other white space than was shown
    (LIST, "Here is the list of capitals:\n\n\n- Paris", "\n- Paris"),
    (LIST, "- Paris", "- Paris"),
    ("The capital of France is ", "The capital of France is\tParis", "\tParis"),
    ("The capital of France is ", '"The capital of France is" Paris.', "Paris."),  # the anchor in quotes
    ('He said "Paris is nice', '"Paris is nice" and left', '" and left'),  # quotes of the text's own
    ("The capital of France is ", '"The capital of France is"', ""),
    ("A family: \U0001f469\u200d", "A family: \U0001f469\u200d\U0001f4bb codes", "\U0001f4bb codes"),  # cut inside a cluster
    ("cafe", "cafe\u0301 noir", "\u0301 noir"),
    ("  ", "hello", "hello"),
]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(("shown", "continuation", "want"), JOINTS)
def test_hard_joints(shown: str, continuation: str, want: str, size: int) -> None:
    """Texts that repeat themselves, white space, quotes and characters of several parts, in whichever pieces they come."""
    pieces = [continuation[start : start + size] for start in range(0, len(continuation), size)]
    assert joined(shown, pieces) == want


@pytest.mark.parametrize(
    ("shown", "pieces", "want", "hit"),
    [
        ("one E", ["ND two"], "", True),
        ("one E", ["N", "D", " two"], "", True),
        ("one E", ["N", "d", " END"], "Nd END", False),  # the one that lies beyond is its provider's business
        ("one EN", ["E", "ND"], "END", False),
        ("one", [" END"], " END", False),
        ("one E", ["N"], "N", False),  # the end came first
        ("one E", [], "", False),
    ],
)
def test_a_stop_sequence_across_the_joint(shown: str, pieces: list[str], want: str, hit: bool) -> None:
    """One that began in what was shown is found in whichever pieces it ends, and nothing is let through after it."""
    seam = Seam(shown, ("END", "X"))
    assert "".join([*(seam.feed(piece) for piece in pieces), seam.flush()]) == want
    assert seam.hit is hit


def test_after_the_joint_everything_passes() -> None:
    """Later repetitions are the model's own text."""
    joiner = Joiner(SHOWN)
    assert joiner.feed(" Seine") == " Seine"
    assert joiner.feed("on the river") == "on the river"
    assert joiner.flush() == ""


def test_the_anchor_is_whole_words() -> None:
    """The words to repeat begin at a word and are not many."""
    assert anchor("short") == "short"
    long = "word " * 40
    assert anchor(long).startswith("word")
    assert len(anchor(long)) <= ANCHOR
    assert anchor("x" * 100) == "x" * ANCHOR
    assert anchor("a b " + "y" * 47) == "y" * 47
    assert anchor("   ") == "   "


def test_the_conversation_is_left_alone() -> None:
    """LiteLLM's bug: the continuation must not clobber the system prompt. Turns are only added at the end."""
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "?"})
    told = continuation(messages, SHOWN, prefill=False)
    assert told[:2] == messages
    assert [message["role"] for message in told[2:]] == ["assistant", "user"]
    assert continuation(messages, SHOWN, prefill=True) == (*messages, {"role": "assistant", "content": SHOWN})


@settings(max_examples=200, deadline=None)
@given(
    words=st.lists(
        st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=8), min_size=4, max_size=30
    ),
    cut=st.integers(1, 29),
    back=st.integers(0, 60),
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=10),
)
def test_a_faithful_repetition_is_always_joined_exactly(words: list[str], cut: int, back: int, sizes: list[int]) -> None:
    """Any text, cut anywhere, repeated from well before the cut, in any pieces: the whole text comes out."""
    text = " ".join(words) + " \N{END OF PROOF}tail"
    shown = text[: max(12, min(cut * 3, len(text) - 6))]
    start = max(0, len(shown) - max(10, back))
    repeated, pieces, at = text[start:], [], 0
    while at < len(repeated):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(repeated[at : at + size])
        at += size
    if repeated[:1].isspace() or shown[start:][:1] in '"\u201c\u2026.':
        return  # the beginning is trimmed: fewer characters are left to match
    if shown.count(shown[start:]) > 1:
        return  # the repetition could stand for two places
    assert shown + joined(shown, pieces) == text
