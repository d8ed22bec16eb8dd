"""A conversation that is longer than a model's window: the oldest exchanges are left out, and it is said.

The system turn stays, and so do the last question and what belongs to it. An exchange (a question, its answer, the tool calls
between them) goes as a whole, so that no tool's result is left without its call.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hybr.webapp.hybrid.profile import estimate_tokens

if TYPE_CHECKING:
    from hybr.webapp.hybrid.errors import ProviderError
    from hybr.webapp.hybrid.types import Message

RESERVE = 64  # tokens left for an answer where the caller set no limit
MOST = 0.5  # of the window, that a caller's limit may reserve
TRIES = 4
# WebLLM, our house, OpenAI, Anthropic, llama.cpp
_HAVE = re.compile(r"(?:of prompt tokens|conversation is|resulted in|too long:|n_prompt_tokens)\D{0,12}(\d+)", re.IGNORECASE)
_WINDOW = re.compile(r"(?:window size|window|context length|tokens >|n_ctx)\D{0,12}(\d+)", re.IGNORECASE)


def numbers(error: ProviderError, messages: tuple[Message, ...], context: int) -> tuple[int, int]:
    """Tokens of the conversation and of the window, as the error says, else as far as is known (window 0: unknown)."""
    have, window = _HAVE.search(error.message), _WINDOW.search(error.message)
    return int(have.group(1)) if have else estimate_tokens(messages), int(window.group(1)) if window else context


def exchanges(messages: tuple[Message, ...], *, goes_on: bool = False) -> list[list[Message]]:
    """The messages after the system turn, grouped by question; what comes before the first question belongs to it.

    `goes_on`: the last turn asks to go on with the answer before it (a handover), and is no question of its own.
    """
    groups: list[list[Message]] = []
    for message in messages:
        if message["role"] == "system":
            continue
        if goes_on and message is messages[-1] and groups:
            groups[-1].append(message)
            continue
        if not groups or (message["role"] == "user" and any(one["role"] == "user" for one in groups[-1])):
            groups.append([])
        groups[-1].append(message)
    return groups


def shorten(
    messages: tuple[Message, ...], have: int, window: int, answer: int | None, *, goes_on: bool = False
) -> tuple[Message, ...]:
    """The messages without the oldest exchanges, so that they should fit; without one at least, where there is one to spare.

    `have` tokens by the model's own count scale our estimate. With an unknown window half of the exchanges go.
    """
    system, groups = tuple(one for one in messages if one["role"] == "system"), exchanges(messages, goes_on=goes_on)
    scale = have / max(estimate_tokens(messages), 1)
    room = window - min(answer or RESERVE, window * MOST) if window else have / 2
    while len(groups) > 1:
        groups.pop(0)
        kept = (*system, *(message for group in groups for message in group))
        if estimate_tokens(kept) * scale <= room:
            return kept
    return (*system, *(message for group in groups for message in group))


def too_long(have: int, window: int) -> str:
    """What a person is told, with both numbers."""
    holds = f"the model's window holds {window:,}" if window else "more than the model's window holds"
    remedy = "Shorten it, begin a new one, or allow the oldest turns to be left out (trim)."
    return f"The conversation has {have:,} tokens; {holds}. {remedy}"


def said(left_out: int, have: int, window: int) -> str:
    """The one-line note of a completion."""
    turns = "The oldest message was" if left_out == 1 else f"The {left_out} oldest messages were"
    why = (
        f"the conversation has {have:,} tokens, the model's window holds {window:,}"
        if window
        else f"{have:,} tokens were too many"
    )
    return f"{turns} left out: {why}."
