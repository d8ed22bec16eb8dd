"""A key in memory: usable, and printable only by asking for it.

`repr`, `str`, a traceback with locals, `vars` and `pickle` give nothing; `redact` takes keys out of texts that others wrote.
"""

from __future__ import annotations

import re
from typing import NoReturn

LONGEST = 300  # characters of somebody else's text that we pass on
# What keys look like, for a provider may quote another one than ours, or ours half masked; and addresses, which can hold one.
SHAPES = re.compile(
    r"(?i)\b(?:bearer|basic)\s+\S+|\b(?:sk|pk|gsk|rk|xai|hf|key|api)[-_][\w*.\-]{6,}|\bAIza[\w\-]{8,}|https?://\S+|\b[\w\-]{40,}"
)


class Secret:
    """Holds a key's text; `reveal` gives it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text, for the header that needs it and nothing else."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written down")


def redact(text: str, secret: Secret | None) -> str:
    """Return `text` without the key, without anything shaped like one, on one line and not long."""
    if secret:
        text = text.replace(secret.reveal(), "***")
    text = SHAPES.sub("***", text[: 8 * LONGEST])
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:LONGEST]
