"""How many tokens a request may come to, before anybody has counted them: what is reserved for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybr.server.providers.base import COUNTING
from hybr.server.providers.content import BUDGETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hybr.server.providers.base import Call

CHARACTERS = 3  # bytes a token: English has 4, code and other scripts have fewer
TURN = 8  # tokens that a chat template puts around a message
IMAGE = 1500
BOUNDS = ("max_tokens", "max_completion_tokens")
OUTPUT = 4096  # reserved where the request does not bound its answer


def prompt(call: Call) -> int:
    """Return an upper guess of the prompt's tokens."""
    total = 0
    for message in call.body.get("messages", ()):
        total += TURN + content(message.get("content"))
        if "tool_calls" in message:
            total += length(str(message["tool_calls"]))
    for name in ("tools", "response_format", "input"):
        if name in call.body:
            total += length(str(call.body[name]))
    return total


def content(value: Any) -> int:
    """Return the guess for one message's content."""
    if isinstance(value, str):
        return length(value)
    parts = value if isinstance(value, list) else ()
    return sum(length(part["text"]) if part.get("type") == "text" else IMAGE for part in parts)


def length(text: str) -> int:
    """Return the guess for a text. ASCII, the common case, is measured without looking at it."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return size // CHARACTERS + 1


def output(call: Call, models: Sequence[str] = ()) -> int:
    """Return the most tokens the answer may have, whichever of `models` gives it: as the request says, else a usual bound."""
    bounds = bounded(call)
    most = max(bounds) if bounds else 0 if "input" in call.body or COUNTING in call.body else OUTPUT
    if (effort := call.body.get("reasoning_effort")) is None:
        return most
    beside = any(model.startswith("anthropic/") for model in (call.model, *models))  # others' bounds have the thinking in them
    return most + (BUDGETS.get(effort, 0) if beside else 0)


def bounded(call: Call) -> list[int]:
    """Return the bounds that a request names for its answer, by either name: who has both is kept by the larger."""
    return [bound for name in BOUNDS if isinstance(bound := call.body.get(name), int)]
