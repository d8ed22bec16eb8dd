"""How well a model's weights foretell a text: exp of the mean negative logarithm of each next token's probability."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .reference import Reference


def perplexity(model: Reference, tokens: list[int]) -> float:
    """Return the perplexity of `tokens` but for the first, which nothing comes before. Lower is better; 1 is certainty."""
    model.reset()
    logits = model.forward(tokens[:-1]).astype(np.float64)
    top = logits.max(1)
    known = logits[np.arange(len(logits)), tokens[1:]]
    return float(np.exp((top + np.log(np.exp(logits - top[:, None]).sum(1)) - known).mean()))
