"""One answer under way: it streams into its message and into the view, and its end, however it comes, is in the message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.errors import Aborted, CallerError, HybridError
from hybr.webapp.state.names import camel

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.provider import HybridLLMProvider
    from hybr.webapp.hybrid.stream import ChunkStream
    from hybr.webapp.hybrid.types import Chunk, Completion, Message, Provider
    from hybr.webapp.page.drawing import View
    from hybr.webapp.page.journal import Cut
    from hybr.webapp.state.tree import Node


class Answer:
    """`cut` is what there is of it already (nothing, for a new one), `on` the side that goes on with that, or None."""

    def __init__(self, hybrid: HybridLLMProvider, view: View, node: Node, cut: Cut, on: str | None) -> None:
        self.node = node
        self.cut = cut
        self.unfinished = False  # it failed, and what there is of it can be gone on with
        self._hybrid = hybrid
        self._view = view
        self._on = on if cut.text else None
        self._known = self._on is not None  # then the first chunk is what is shown already
        self._over = False
        self._task: asyncio.Task[None] | None = None

    def start(self, messages: list[Message], options: dict[str, Any], ended: Callable[[Answer], None]) -> None:
        """Ask, and call `ended` at the end, unless it was left by then."""
        self.node.state, self.node.error = "streaming", None
        self._task = asyncio.get_running_loop().create_task(self._run(messages, options, ended))

    def stop(self) -> bool:
        """Stop it; it ends as stopped. True if it was under way."""
        return self._hybrid.abort(self.node.id)

    def leave(self) -> None:
        """Stop it, and end here and now with what there is: nobody looks any more."""
        self._over = True
        self.node.state = "stopped"
        self.stop()

    async def _run(self, messages: list[Message], options: dict[str, Any], ended: Callable[[Answer], None]) -> None:
        state = "done"
        try:
            async for chunk in self._stream(messages, options):
                self._take(chunk)
        except Aborted as stop:
            state = "stopped"
            usage = stop.usage.to_dict() if stop.usage else None
            self.node.stats = {"usage": camel(usage)} if usage and usage["total_tokens"] else self.node.stats
        except HybridError as error:
            state = "error"
            if not self._over:
                self.node.error = camel(error.to_dict())
            self.unfinished = bool(self.node.text) and not isinstance(
                error, CallerError
            )  # a caller's mistake would be made again
        if not self._over:
            self._over = True
            self.node.state = state
            ended(self)

    def _stream(self, messages: list[Message], options: dict[str, Any]) -> ChunkStream:
        if self._on is None:
            return self._hybrid.stream(messages, options)
        by: Provider = "cloud" if self.cut.provider == "cloud" else "local"
        return self._hybrid.resume(messages, self.cut.text, options, self._on, by=by)

    def _take(self, chunk: Chunk) -> None:
        if self._over:
            return
        if self._known:
            self._known = False
            return
        node = self.node
        segment = max(chunk.segment, self.cut.segment + 1) if self._on else chunk.segment
        if chunk.restart:
            node.text = ""
        if chunk.delta or chunk.restart:
            self._mark(chunk, segment)
            node.text += chunk.delta
            self._view.delta(node.id, chunk.delta, chunk.provider, segment, restart=chunk.restart)
        node.provider = chunk.provider
        if chunk.completion:
            node.model, node.stats = chunk.completion.model, figures(chunk.completion)

    def _mark(self, chunk: Chunk, segment: int) -> None:
        """Who writes from here on."""
        segments = self.node.segments
        if len(segments) > segment and not chunk.restart:
            return
        begun = [] if chunk.restart else segments
        self.node.segments = [*begun, {"provider": chunk.provider, "atChars": units(self.node.text)}]


def figures(completion: Completion) -> dict[str, Any]:
    """What is shown under an answer, camelCase; its text is in the message."""
    return {name: value for name, value in camel(completion.to_dict()).items() if name != "text"}


def units(text: str) -> int:
    """Its length as JavaScript counts it, in UTF-16 units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
