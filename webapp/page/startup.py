"""What happens by itself: wishes in the address bar, the preferences, the last model, a look at server and builds now and then.

The address bar (`?model=ID&load=1&mode=MODE`; app.py reads `?runtime=`) counts as the person's own control. Without it, the
model of the last visit is loaded again if its files are still in the browser, and the preferred mode comes into force when it
is ready.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.errors import Aborted, HybridError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from hybr.webapp.page.app import Context

log = logging.getLogger(__name__)

WELL_S, UNWELL_S = 60.0, 3.0  # between looks at the server
BUILDING_S, SETTLED_S = 2.0, 60.0  # between looks at the model index
IDLE_S = 0.5  # between looks whether an answer is still under way


class Startup:
    """See the module. `complain` shows the person one sentence."""

    def __init__(self, context: Context, query: dict[str, Any], complain: Callable[[str], None]) -> None:
        self._context = context
        self._query = query
        self._complain = complain
        self._tasks: set[asyncio.Task[None]] = set()
        self._look = asyncio.Event()

    def begin(self) -> None:
        """Start it all; returns at once."""
        if mode := self._query.get("mode"):
            self._context.place.set_mode(mode)
        for work in (self._models(), self._watch_gateway(), self._watch_builds()):
            self._keep(work)

    def look_at_gateway(self) -> None:
        """Look now: the network changed."""
        self._look.set()

    def follow(self) -> None:
        """Another tab's wish has changed the mode here: go where it belongs, when no answer is under way any more."""
        self._keep(self._moved())

    async def _moved(self) -> None:
        context = self._context
        # What is being written was asked for in another mode, and may be seen to its end; no one event says that it is over.
        while context.chat.busy or context.hybrid.get_status()["active"]:  # noqa: ASYNC110
            await asyncio.sleep(IDLE_S)
        context.place.settle()

    async def _models(self) -> None:
        """Preferences first, then the model they or the address bar name."""
        context = self._context
        if await context.preferences.restore():
            if not self._query.get("mode"):
                context.hybrid.restore_mode(context.preferences.get("mode"))
                context.place.settle()
            context.local.choose()
            context.events.emit("hybrid-llm:status", {})
        await context.local.join()
        model = self._query.get("model")
        if model and str(self._query.get("load", "")) in {"1", "true"}:
            await self._loaded(context.local.init(model))
        else:
            await self._loaded(context.local.resume())

    async def _loaded(self, load: Coroutine[Any, Any, bool | dict[str, Any]]) -> None:
        """Await a load. What no `local-llm:error` tells (a model that is not there, an index out of reach) is told the person."""
        told: list[dict[str, Any]] = []
        forget = self._context.events.on("local-llm:error", told.append)
        result = await load
        forget()
        if isinstance(result, dict):
            error = result["error"]
            log.warning("the model was not loaded: %s", error["message"])
            if not told and error["code"] != Aborted.code:
                self._complain(error["message"])

    async def _watch_gateway(self) -> None:
        gateway = self._context.gateway
        told = gateway.available(), len(gateway.models())  # what the browser says of its network changes between two rounds
        while True:
            quiet = self._context.preferences.quiet()  # in local-only not even this question leaves
            well = gateway.available() if quiet else await gateway.check()
            if (well, len(gateway.models())) != told:
                told = well, len(gateway.models())
                self._context.events.emit("hybrid-llm:status", {})
            self._look.clear()
            delay = WELL_S if well and gateway.models() else UNWELL_S
            timer = asyncio.get_running_loop().call_later(delay, self._look.set)
            await self._look.wait()
            timer.cancel()

    async def _watch_builds(self) -> None:
        local = self._context.local
        while True:
            try:
                models = await local.refresh()
            except HybridError as error:
                log.info("%s", error)
                models = []
            moving = not models or any(model.get("state") == "building" for model in models)
            await asyncio.sleep(BUILDING_S if moving else SETTLED_S)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a background task of the page ended: %r", error)

    def end(self) -> None:
        """Stop it all (tests)."""
        for task in self._tasks:
            task.cancel()
