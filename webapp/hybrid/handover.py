"""Continuing another model's answer in mid-sentence: what the next model is asked, and how its text is joined to what was shown.

Two ways. Where the next model can be *prefilled*, the shown text goes last, as the assistant's own turn, and the model goes on
from its last character. Elsewhere it is *instructed*: the shown text as the assistant's turn, then a user's turn that asks to
repeat the last words and go on. The repeated words are the anchor: `Joiner` finds where they end and lets only what is new
through, so spaces and half words come out exactly. The conversation's own turns, its system prompt above all, are left as they
are: a continuation prompt that replaces the system prompt is a known bug elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybr.webapp.hybrid.types import Message

ANCHOR = 48  # characters the next model is asked to repeat: long enough to be unique, short enough to be repeated faithfully
OVERLAP = 8  # a shorter match is chance ("e ", "the ") and is kept as text


def continuation(messages: tuple[Message, ...], shown: str, *, prefill: bool) -> tuple[Message, ...]:
    """The messages that make the next model go on after `shown`."""
    turn: Message = {"role": "assistant", "content": shown}
    if prefill:
        return (*messages, turn)
    ask = (
        "Your last message was cut off in the middle. Continue it. Do not apologise, explain or start again. Begin by repeating "
        f'exactly its last words, which are "{anchor(shown)}", and go on from there as if nothing had happened.'
    )
    return (*messages, turn, {"role": "user", "content": ask})


def anchor(shown: str) -> str:
    """The last words of `shown`, from a word's beginning, at most about ANCHOR characters."""
    tail = shown[-ANCHOR:]
    if len(shown) > ANCHOR and not shown[-ANCHOR - 1].isspace():
        tail = tail.partition(" ")[2] or tail
    return tail.strip() or tail


class Joiner:
    """Takes a continuation piece by piece and gives back only what comes after `shown`.

    It holds text back only while what came so far could still be a repetition of the end of `shown`: for a continuation that
    repeats nothing, that is a word or two.
    """

    def __init__(self, shown: str) -> None:
        self._shown = shown  # never empty: before the first token there is a fallback, not a handover
        self._least = min(OVERLAP, max(len(shown.strip()), 1))
        self._held = ""
        self._joined = False

    def feed(self, delta: str) -> str:
        """What of `delta`, and of what was held back before, is new."""
        if self._joined:
            return delta
        self._held += delta
        new = self._new()
        return "" if new is None else self._release(new)

    def flush(self) -> str:
        """The end of the continuation: what is still held back, less what repeats."""
        if self._joined:
            return ""
        held = self._held.lstrip()
        repeated = len(held) >= self._least and held in self._shown
        return self._release("" if repeated or not held else self._spaced(self._held))

    def _release(self, new: str) -> str:
        self._joined, self._held = True, ""
        return new

    def _new(self) -> str | None:
        """The part after the longest overlap; None while an overlap is still possible."""
        held = self._held.lstrip().lstrip('"\u201c\u2026').removeprefix("...")
        if not held:
            return None
        start = 0
        while (start := self._shown.find(held[: self._least], start)) >= 0:
            rest = self._shown[start:]
            if len(rest) >= self._least and held.startswith(rest):
                return held[len(rest) :]
            if rest.startswith(held):
                return None
            start += 1
        return self._spaced(self._held)

    def _spaced(self, new: str) -> str:
        """A continuation that did not repeat the anchor. Models strip the space that a new sentence needs."""
        gap = self._shown[-1:] in (".", "!", "?") and new[:1].isupper()
        return " " + new if gap else new
