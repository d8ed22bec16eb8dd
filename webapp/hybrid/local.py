"""LocalLLM: the one local model of the page (blueprint 0x000038): its answers, its loss, and what is done about it.

What it is like is `model.Model`'s, how it is loaded `loading.Loading`'s.

When the engine dies, its worker is replaced at once. A model that was ready is then loaded again in the background, once within
REPAIR_WINDOW_S; a model that dies while loading is not, since it may be what killed the worker. WebGPU that keeps failing gives
way to WebAssembly, for the next request (`choice`): then the model is loaded again there.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid import device, instead, sense
from hybr.webapp.hybrid.errors import HybridError, LocalError
from hybr.webapp.hybrid.loading import Loading
from hybr.webapp.hybrid.profile import key

if TYPE_CHECKING:
    from hybr.webapp.hybrid.types import Call, Final
    from hybr.webapp.runtimes.base import Emit

log = logging.getLogger(__name__)

REPAIR_AFTER_S = 1.0  # the rescue by the cloud goes first
REPAIR_WINDOW_S = 300.0


class LocalLLM(Loading):
    """See the module."""

    _repaired = float("-inf")

    # -- answering

    async def chat(self, call: Call, emit: Emit) -> Final:
        """Answer with the model that is ready. Raises LocalUnavailableError when none is."""
        if not self.is_ready():
            raise self.unavailable()
        measured = self.measured
        entry, runtime = self.entry(self.model) or {}, self._runtime
        if entry.get("test_only"):  # random numbers are all that it has to say
            final = await runtime.chat(call, emit)
        else:
            final = await sense.guarded(lambda take: runtime.chat(call, take), emit)
        self.profile.learn(measured, final)
        return final

    async def settled(self) -> None:
        """Wait for the load or repair under way, if any, however it ends."""
        if self._repair and not self._repair.done():
            await asyncio.wait([self._repair])
        while load := self._load:
            await asyncio.wait([load.task])
        await self._follow(str(self._state.model))

    def pulse(self) -> int:
        """A number that grows while the engine is at work for anybody: one that is busy with others has not stalled."""
        return self._runtime.pulse

    async def ping(self) -> None:
        """A sign of life of the engine's worker. Raises LocalError."""
        await self._runtime.ping()

    # -- its loss

    def lost(self, error: HybridError) -> None:
        """A request found that the ready model is of no use any more (garbage, a stall, a lost device): begin anew."""
        if self.is_ready():
            self._died(error)

    def _died(self, error: HybridError) -> None:
        """The worker, or the model in it, is gone."""
        load, was, model = self._load, self._state.state, self._state.model
        self._retire(error)
        self._runtime.restart()
        if load is None and was == "loading":  # another tab's load ended with that tab
            self._elsewhere({"state": "empty"})
        if load is None and was != "ready":
            return  # nothing was there to lose, or its failure has been told
        self._set("error", model=model, error=error.to_dict())
        self._events.emit("local-llm:error", {"error": error.to_dict(), "model": model})
        if model is None:
            return
        moved = error.code == "engine_moved"  # the tab that had the engine was closed: no failure of the model's
        if was == "ready":
            self._events.emit("local-llm:unloaded", {"model": model, "reason": error.code})
        if moved:
            self._repair = asyncio.get_running_loop().create_task(self._reload(model))
            return
        if was == "ready":
            self.profile.failed(key(model, self._runtime.name), error.code)
        if not self._give_way(model) and was == "ready":
            self._repair_soon(model)

    def _cope(self, model: str, error: HybridError) -> None:
        """A load has failed: another runtime, or another model, takes its place where that can help."""
        gave_way = error.kind in {"health", "capability"} and error.phase in {"probe", "load"} and self._give_way(model)
        if not gave_way:
            self._replace(model, error)

    def _give_way(self, model: str) -> bool:
        """Count a failure of the runtime's; True if llama.cpp takes over from WebGPU because of it, and loads the model."""
        if self._runtime.name != "webgpu" or not self._runs(model, "wasm"):
            return False
        loop = asyncio.get_running_loop()
        if not self._choice.failed(loop.time()):
            return False
        log.warning("WebGPU keeps failing: %s is loaded in WebAssembly instead", model)
        self.choose()
        self._repair = loop.create_task(self._reload(model))
        return True

    def _runs(self, model: str, runtime: str) -> bool:
        entry = self._catalogue.find(model)
        return bool(entry and device.fits(entry, self._preflight, runtime=runtime)["fits"])

    def _repair_soon(self, model: str) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._repaired < REPAIR_WINDOW_S:
            log.warning("%s died twice within %g s: it is not loaded again by itself", model, REPAIR_WINDOW_S)
            self._replace(model, LocalError("It died twice in a short time.", code="died_twice", kind="capability"), again=True)
            return
        self._repaired = loop.time()
        self._repair = loop.create_task(self._reload(model))

    def _replace(self, model: str, error: HybridError, *, again: bool = False) -> None:
        """Load a smaller or a float32 model in place of one that cannot run here, for the next request, and say so."""
        if not again:
            if not isinstance(error, LocalError) or "smaller" not in error.reactions:
                return
            self.profile.failed(key(model, self._runtime.name), error.code)
        failed = self._catalogue.find(model)
        other = failed and instead.choose(failed, error.code, self.get_available_models(), self._able)
        if not other:
            return
        self._instead_of = {"model": model, "instead": other, "error": error.to_dict()}
        self._events.emit("local-llm:replaced", dict(self._instead_of))
        self._repair = asyncio.get_running_loop().create_task(self._reload(other))

    def _able(self, entry: dict[str, Any]) -> bool:
        """Whether a model fits this device and has not shown that it does not run here."""
        known = self.profile.of(key(str(entry["id"]), self._runtime.name)).failures
        return bool(entry["fits"]["fits"]) and not set(known) & instead.UNFIT

    async def _reload(self, model: str) -> None:
        await asyncio.sleep(REPAIR_AFTER_S)
        result = await self.init(model)
        log.info("%s loaded again after its engine died: %s", model, result)
