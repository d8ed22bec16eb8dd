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
QUOTES = '"\u201c\u201d'
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
    repeats nothing, that is a word or two. The anchor counts first, as that is what was asked for: a text that repeats itself
    ("ha ha ha") has longer overlaps by chance. White space at the joint is not repeated faithfully by models, and stays as shown.
    """

    def __init__(self, shown: str) -> None:
        self._shown = shown  # never empty: before the first token there is a fallback, not a handover
        self._least = min(OVERLAP, max(len(shown.strip()), 1))
        self._anchor = len(shown.rstrip()) - len(anchor(shown))  # where it begins
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
        held, new = self._held.strip(), self._new(last=True)
        repeated = len(held) >= self._least and held in self._shown
        return self._release("" if repeated or not held or new is None else new)

    def _release(self, new: str) -> str:
        self._joined, self._held = True, ""
        return new

    def _new(self, *, last: bool = False) -> str | None:
        """The part after the overlap; None while one is still possible. `last`: nothing more will come."""
        held = self._held.lstrip().lstrip(QUOTES + "\u2026").removeprefix("...")
        if not held:
            return None
        if self._shown.strip() and (new := self._after(self._anchor, held, last=last)) is not None:
            return new or None
        start = 0
        while (start := self._shown.find(held[: self._least], start)) >= 0:
            if len(self._shown) - start >= self._least and (new := self._after(start, held, last=last)) is not None:
                return new or None
            if not last and self._shown[start:].startswith(held):
                return None
            start += 1
        return self._spaced(self._held)

    def _after(self, start: int, held: str, *, last: bool) -> str | None:
        """What comes after the shown text from `start` on, which `held` begins with; "" while that cannot be told; else None."""
        rest = self._shown[start:]
        core = rest.rstrip()
        if not core or not held.startswith(core):
            return None
        new, gap = held[len(core) :], rest[len(core) :]
        quoted = self._held.lstrip()[:1] in tuple(QUOTES) and not set(self._shown[max(start - 1, 0) : start + 1]) & set(QUOTES)
        if not last and not new.strip() and (gap or quoted):
            return ""
        if quoted and new[:1] in tuple(QUOTES):
            new = new[1:]
        return self._closed_up(new, gap)

    @staticmethod
    def _closed_up(new: str, gap: str) -> str:
        """The new text without the white space (`gap`) that is shown already."""
        lead = new[: len(new) - len(new.lstrip())]
        if lead.startswith(gap):
            return new[len(gap) :]
        return new.lstrip() if gap.startswith(lead) else new

    def _spaced(self, new: str) -> str:
        """A continuation that did not repeat the anchor. Models strip the space that a new sentence needs."""
        gap = self._shown[-1:] in (".", "!", "?") and new[:1].isupper()
        return " " + new if gap else new


class Seam:
    """Looks for a stop sequence that began in the shown text and ends in the continuation: no provider sees such a one.

    What was shown stays; nothing is let through once it is there, and `hit` is set. While it may still come, text is held back.
    Sequences that lie wholly in the continuation are its provider's own business.
    """

    def __init__(self, shown: str, stops: tuple[str, ...]) -> None:
        longest = max(map(len, stops))
        tail = shown[-(longest - 1) :] if longest > 1 else ""
        self._begun = [(stop, tail[at:]) for stop in stops for at in range(len(tail)) if stop.startswith(tail[at:])]
        self._held = ""
        self.hit = False

    def feed(self, delta: str) -> str:
        """What may be shown by now."""
        if not self._begun:
            return "" if self.hit else delta
        self._held += delta
        if any((begun + self._held).startswith(stop) for stop, begun in self._begun):
            self._begun, self.hit = [], True
            return ""
        self._begun = [(stop, begun) for stop, begun in self._begun if stop.startswith(begun + self._held)]
        return "" if self._begun else self._held

    def flush(self) -> str:
        """What is held back at the end, when no sequence came of it."""
        return self._held if self._begun else ""
