"""Anthropic's token counting: the request of `/v1/messages`, and how many tokens it is by the provider's own word.

Where a provider cannot be asked that, the request is refused: a guess would look like a count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybr.server import chat
from hybr.server.body import decode
from hybr.server.errors import RequestError
from hybr.server.providers.base import COUNTING, Call
from hybr.server.surfaces.messages import Messages, Said, inner

if TYPE_CHECKING:
    from hybr.server.providers.base import Ending

FIELDS = {"model", "messages", "system", "tools", "tool_choice", "thinking", "output_config"}


class Counting(Messages):
    """The surface; its refusals are those of messages."""

    def read(self, raw: bytes) -> tuple[Call, Said]:
        """Return the request and its voice. Raises RequestError."""
        body = decode(raw)
        if not isinstance(body, dict):
            raise RequestError("the body must be a JSON object", code="invalid_json")
        if unknown := {name for name, value in body.items() if value is not None} - FIELDS:
            name = min(unknown)[:100]
            raise RequestError(f"{name}: Extra inputs are not permitted", code="unknown_field", field=name)
        call = chat.checked(inner({**body, "max_tokens": 1}), "")
        told = {name: value for name, value in call.body.items() if name != "max_tokens"}
        return Call(call.model, stream=False, body={**told, COUNTING: True}), Count(call.model)


class Count(Said):
    """The voice."""

    def plain(self, chunks: list[dict[str, Any]], ending: Ending, usage: dict[str, Any] | None) -> dict[str, Any]:  # noqa: ARG002
        """Return the count."""
        return chunks[0]
