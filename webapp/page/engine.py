"""The engine's worker, as the bridge that `runtimes.webllm` talks through, over the client of static/js/engine/client.js.

After a death the shell is asked for a new worker; until that answers a ping, calls wait. A worker that dies again and again at
its start is given up after RESTARTS_MAX, so that a broken engine costs one error and not a loop.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any, Protocol

from hybr.webapp.page.convert import camel_name, snake
from hybr.webapp.runtimes.base import EngineCallError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hybr.webapp.runtimes.base import OnEvent

log = logging.getLogger(__name__)

REVIVAL_S = 60.0
PING_EVERY_S = 0.1
ATTACH_S = 15.0  # a new worker whose every ping is refused for so long has died
RESTARTS_MAX = 3
RESTARTS_WINDOW_S = 60.0


class Client(Protocol):
    """What `browser.EngineProxy` makes of the JavaScript client: failures are EngineCallError, callbacks plain functions."""

    def call(self, op: str, args: str, on_event: Callable[[str], None] | None) -> Awaitable[str]:
        """JSON in, JSON out, JSON events."""
        ...

    def on_gone(self, handler: Callable[[str], None]) -> None:
        """Call `handler(failure as JSON)` when the worker is dead or its model lost."""
        ...

    def on_state(self, handler: Callable[[str], None]) -> None:
        """Call `handler(status as JSON)` when another tab has done something about the model."""
        ...


class Engine:
    """An `EngineBridge`. `ask_restart` tells the shell to make a new worker and to attach it to the client."""

    def __init__(self, client: Client, ask_restart: Callable[[], None]) -> None:
        self._client = client
        self._ask_restart = ask_restart
        self._alive = asyncio.Event()
        self._alive.set()
        self._reviving: asyncio.Task[None] | None = None
        self._restarts: list[float] = []

    async def call(self, op: str, args: dict[str, Any], on_event: OnEvent | None = None) -> dict[str, Any]:
        """One operation of the engine. Raises EngineCallError."""
        await self._revived()
        return await self._raw(op, args, on_event)

    def on_death(self, handler: Callable[[EngineCallError], None]) -> None:
        """Call `handler(failure)` when the worker is dead or its model lost."""

        def gone(text: str) -> None:
            failure = json.loads(text)
            if not self._alive.is_set():
                return  # the last words of a worker that is being replaced
            handler(EngineCallError(failure.get("name", "Error"), failure.get("message", ""), failure.get("phase", "worker")))

        self._client.on_gone(gone)

    def on_state(self, handler: Callable[[dict[str, Any]], None]) -> None:
        """Call `handler(status)` when another tab has loaded or unloaded a model, or its load goes on."""
        self._client.on_state(lambda text: handler(snake(json.loads(text))))

    def restart(self) -> None:
        """Have the worker replaced, unless that has been in vain too often."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._restarts = [then for then in self._restarts if now - then < RESTARTS_WINDOW_S]
        if len(self._restarts) >= RESTARTS_MAX:
            log.error("the engine died %d times within %g s: it is not started again", RESTARTS_MAX, RESTARTS_WINDOW_S)
            return
        self._restarts.append(now)
        self._alive.clear()
        if self._reviving:
            self._reviving.cancel()
        self._ask_restart()
        self._reviving = loop.create_task(self._await_worker())

    async def _await_worker(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ATTACH_S
        while loop.time() < deadline:
            try:
                await self._raw("ping", {})
            except EngineCallError:
                await asyncio.sleep(PING_EVERY_S)  # the new worker's port has not come yet
            else:
                self._alive.set()
                return
        self._reviving = None
        self.restart()  # it died at its start

    async def _revived(self) -> None:
        if self._alive.is_set():
            return
        try:
            await asyncio.wait_for(self._alive.wait(), REVIVAL_S)
        except TimeoutError:
            raise EngineCallError("EngineDeadError", "The local engine did not start again: reload the page.", "worker") from None

    async def _raw(self, op: str, args: dict[str, Any], on_event: OnEvent | None = None) -> dict[str, Any]:
        wire = json.dumps({camel_name(name): value for name, value in args.items()})
        handler = None
        if on_event is not None:
            take = on_event

            def handler(text: str) -> None:
                event = json.loads(text)
                take(event if event.get("type") == "delta" else snake(event))

        answer = json.loads(await self._client.call(op, wire, handler))
        return _answer(answer) if isinstance(answer, dict) else {}


def _answer(answer: dict[str, Any]) -> dict[str, Any]:
    """Names converted, but for tool calls, whose names are the model's and the caller's."""
    calls = answer.pop("toolCalls", None)
    ours: dict[str, Any] = snake(answer)
    return {**ours, "tool_calls": calls} if calls else ours
