"""The event bus: listeners by name, called in the order they came, once per event, each shielded from the others' failures.

`emit` is synchronous, so that whoever reads a status inside a listener sees the state that the event announces. An event
emitted inside a listener is delivered after the one being delivered, to everybody: order is the same for all listeners.
A listener that is a coroutine function is begun in that order too, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Handler = Callable[[dict[str, Any]], object]
    Tap = Callable[[str, dict[str, Any]], object]

log = logging.getLogger(__name__)


class EventBus:
    """Names to handlers. `tap` listeners hear every event with its name; the page uses one to pass events on to JavaScript."""

    def __init__(self) -> None:
        self._handlers: dict[str, list[Handler]] = {}
        self._taps: list[Tap] = []
        self._queue: deque[tuple[str, dict[str, Any]]] = deque()
        self._draining = False
        self._works: set[asyncio.Task[object]] = set()

    def on(self, name: str, handler: Handler) -> Callable[[], None]:
        """Call `handler(detail)` at each event `name`; the returned function ends that."""
        self._handlers.setdefault(name, []).append(handler)
        return lambda: self.off(name, handler)

    def off(self, name: str, handler: Handler) -> None:
        """Stop calling `handler` for `name`; without effect if it was not registered."""
        handlers = self._handlers.get(name, [])
        if handler in handlers:
            handlers.remove(handler)

    def tap(self, handler: Tap) -> None:
        """Call `handler(name, detail)` at every event."""
        self._taps.append(handler)

    def emit(self, name: str, detail: dict[str, Any]) -> None:
        """Deliver the event to all who listen now, in the order they registered."""
        self._queue.append((name, detail))
        if self._draining:
            return
        self._draining = True
        try:
            while self._queue:
                self._deliver(*self._queue.popleft())
        finally:
            self._draining = False

    def _deliver(self, name: str, detail: dict[str, Any]) -> None:
        for tap in tuple(self._taps):
            self._shielded(name, tap, name, detail)
        for handler in tuple(self._handlers.get(name, ())):
            self._shielded(name, handler, detail)

    def _shielded(self, name: str, handler: Callable[..., object], *args: Any) -> None:
        try:
            result = handler(*args)
            if result is not None and asyncio.iscoroutine(result):
                self._begin(name, result)
        except (Exception, asyncio.CancelledError):  # of a cancelled future that it read: nobody cancels us in here
            log.exception("a listener to %s failed", name)

    def _begin(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        """What a listener wants to wait for, it waits for by itself."""
        try:
            task = asyncio.get_running_loop().create_task(work)
        except RuntimeError:
            work.close()
            raise
        self._works.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(lambda done: self._ended(name, done))

    def _ended(self, name: str, task: asyncio.Task[object]) -> None:
        self._works.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a listener to %s failed", name, exc_info=error)
