"""The page's conversation: takes what a person does in the composer, keeps the messages, streams answers into the view.

The conversation goes to the model as it is, with no system turn of ours. What was shown is kept: a stopped or failed answer
stays in the view, and what there is of it goes along with the next turn, so that the model sees what the person sees.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import TYPE_CHECKING, Any, Protocol

from hybr.webapp.hybrid.errors import Aborted, HybridError

if TYPE_CHECKING:
    from hybr.webapp.hybrid.provider import HybridLLMProvider
    from hybr.webapp.hybrid.types import Chunk, Message

log = logging.getLogger(__name__)


class View(Protocol):
    """Where answers are drawn."""

    def op(self, op: dict[str, Any]) -> None:
        """Draw one view op (static/js/protocol.js)."""
        ...

    def delta(self, message_id: str, delta: str, provider: str, segment: int) -> None:
        """Append text to a message."""
        ...


class Chat:
    """One conversation at a time; one answer at a time."""

    def __init__(self, hybrid: HybridLLMProvider, view: View) -> None:
        self._hybrid = hybrid
        self._view = view
        self._messages: list[Message] = []
        self._ids = itertools.count(1)
        self._task: asyncio.Task[None] | None = None
        self._answering = ""

    @property
    def messages(self) -> list[Message]:
        """The conversation, as the next request will send it."""
        return list(self._messages)

    def take(self, event: dict[str, Any]) -> None:
        """One event of the shell's controls: `send`, `stop`, `retry`, `new-conversation`."""
        kind = event.get("event")
        if kind == "send":
            self._send(str(event.get("text") or ""))
        elif kind == "stop":
            self.stop()
        elif kind == "retry":
            self._retry()
        elif kind == "new-conversation":
            self._clear()
        else:
            log.warning("unknown event of the shell: %r", kind)

    def stop(self) -> bool:
        """Stop the answer under way; True if there was one."""
        return bool(self._answering) and self._hybrid.abort(self._answering)

    def _send(self, text: str) -> None:
        if not text.strip():
            return
        if self._answering:
            self._view.op({"type": "toast", "toast": "info", "text": "One answer at a time: stop this one, or wait for it."})
            return
        self._messages.append({"role": "user", "content": text})
        self._view.op({"type": "message", "id": f"user-{next(self._ids)}", "role": "user", "text": text, "state": "done"})
        self._answer()

    def _retry(self) -> None:
        """Ask the last question again."""
        if self._answering or not any(message["role"] == "user" for message in self._messages):
            return
        while self._messages[-1]["role"] != "user":
            self._messages.pop()
        self._answer()

    def _clear(self) -> None:
        self.stop()
        self._answering = ""
        self._messages = []
        self._view.op({"type": "clear"})
        self._view.op({"type": "busy", "value": False})

    def _answer(self) -> None:
        self._answering = message_id = f"answer-{next(self._ids)}"
        self._view.op({"type": "message", "id": message_id, "role": "assistant", "text": "", "state": "streaming"})
        self._view.op({"type": "busy", "value": True})
        self._task = asyncio.get_running_loop().create_task(self._run(message_id))

    async def _run(self, message_id: str) -> None:
        text, last = "", None
        finish: dict[str, Any] = {"type": "finish", "id": message_id, "state": "done"}
        try:
            stream = self._hybrid.stream(self._messages, {"request_id": message_id})
            async for chunk in stream:
                text, last = chunk.text, chunk
                if chunk.delta:
                    self._view.delta(message_id, chunk.delta, chunk.provider, chunk.segment)
        except Aborted as stop:
            usage = stop.usage.to_dict() if stop.usage else None
            finish |= {"state": "stopped", "stats": {"usage": usage} if usage and usage["total_tokens"] else None}
        except HybridError as error:
            finish |= {"state": "error", "error": error.to_dict()}
        self._end(message_id, text, last, finish)

    def _end(self, message_id: str, text: str, last: Chunk | None, finish: dict[str, Any]) -> None:
        if self._answering != message_id:
            return  # a new conversation has begun meanwhile
        self._answering = ""
        if text.strip():
            self._messages.append({"role": "assistant", "content": text})
        if last is not None:
            finish["provider"] = last.provider
            if last.completion:
                finish |= {"model": last.completion.model, "stats": last.completion.to_dict()}
        self._view.op(finish)
        self._view.op({"type": "busy", "value": False})
