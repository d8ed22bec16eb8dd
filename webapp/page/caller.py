"""A cloud client that lives in the page's JavaScript (`Hybrid.init(client)`), called by messages.

Out go `cloud-call` and `cloud-abort`, back come `cloud-result` or `cloud-error`.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.errors import CloudError
from hybr.webapp.page import convert

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.types import Message


class CallerClient:
    """A `runtimes.client.CloudClient` over messages."""

    def __init__(self, post: Callable[[dict[str, Any]], None]) -> None:
        self._post = post
        self._ids = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Any]] = {}

    async def complete(self, messages: list[Message], options: dict[str, Any]) -> Any:
        """Ask the caller's client. Raises CloudError with its name and message."""
        call_id = f"cloud-{next(self._ids)}"
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = answer
        wire = {convert.camel_name(name): value for name, value in options.items()}
        if "maxTokens" in wire:
            wire["maxOutputTokens"] = wire["maxTokens"]
        self._post({"kind": "cloud-call", "id": call_id, "messages": messages, "options": wire})
        try:
            return await answer
        except asyncio.CancelledError:
            self._post({"kind": "cloud-abort", "id": call_id})
            raise
        finally:
            del self._waiting[call_id]

    def receive(self, message: dict[str, Any]) -> None:
        """One answer; one that nobody waits for any more is dropped."""
        answer = self._waiting.get(message.get("id", ""))
        if answer is None or answer.done():
            return
        if message["kind"] == "cloud-result":
            value = message.get("value")
            answer.set_result(convert.snake(value) if isinstance(value, dict) else value)
            return
        error = message.get("error") or {}
        name, said = str(error.get("name") or "Error"), str(error.get("message") or "The cloud client failed.")
        answer.set_exception(CloudError(said, name=name, code=str(error.get("code") or "client_failed")))
