"""Wherever a conversation can stand, a model's logits: so that two of them can be compared there.

Over a prompt that crosses prefill chunks (and where attention slides, its window), greedy tokens after it, a cache that is popped
back and goes on otherwise in small chunks, and to the context's last token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hybr.mlc_build.reference import Reference

F32 = npt.NDArray[np.float32]
STEPS = 32


class Model(Protocol):
    """One sequence: `library_desk.Library` in a page, `native_model.Native` or a reference's `Last` here."""

    def reset(self) -> None:
        """Start anew."""

    def forward(self, tokens: list[int], chunk: int | None = None) -> F32:
        """Append tokens, in chunks, and return the last logits."""

    def pop(self, count: int) -> None:
        """Forget the last tokens."""


class Last:
    """A reference that tells the last position's logits, as a library does."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.reset, self.pop = reference.reset, reference.pop

    def forward(self, tokens: list[int], chunk: int | None = None) -> F32:
        """See Model."""
        step = chunk or len(tokens)
        return [self.reference.forward(tokens[at : at + step])[-1] for at in range(0, len(tokens), step)][-1]


@dataclass(frozen=True)
class Walk:
    """What was read (`sequences`), and for each of them the positions whose logits were taken, and those (`logits`)."""

    sequences: list[list[int]]
    positions: list[list[int]]
    logits: list[list[F32]]

    def read_by(self, reference: Reference) -> list[F32]:
        """Return the reference's logits at those positions; it reads each sequence at once."""
        found = []
        for sequence, positions in zip(self.sequences, self.positions, strict=True):
            reference.reset()
            found.append(reference.forward(sequence)[positions])
        return found

    def off(self, theirs: Sequence[F32]) -> float:
        """Return the largest difference from another's logits: an array a sequence, a row for each of its positions."""
        pairs = zip(self.logits, theirs, strict=True)
        return max(float(np.abs(np.array(ours) - other).max()) for ours, other in pairs)


def walk(model: Model, prompt: list[int], context: int, given: Sequence[int] = (), back: int = 45) -> Walk:
    """Take a model for the walk; `back` tokens are popped after `STEPS` greedy ones, or after those that are given."""
    model.reset()
    first, seen = list(prompt), [model.forward(prompt)]
    for number in range(STEPS):
        first.append(given[number] if given else int(seen[-1].argmax()))
        seen.append(model.forward(first[-1:]))
    model.pop(back)
    second = first[:-back] + prompt[:50]
    later = [model.forward(prompt[:50], 7)]
    rest = (prompt * (context // len(prompt) + 1))[: context - len(second)]
    later.append(model.forward(rest))
    places = [list(range(len(prompt) - 1, len(first))), [len(second) - 1, context - 1]]
    return Walk([first, second + rest], places, [seen, later])
