"""Getting a model into the engine and out of it again, and following what other tabs do with the engine they share.

One load at a time: a second `init` of the same model joins the first, of another model replaces it. Whatever belongs to a load
that was replaced, cancelled or killed is ignored when it comes late (`_Load.live`).
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any

from hybr.webapp.hybrid import device, room
from hybr.webapp.hybrid.errors import Aborted, HybridError, LocalError, OptionError, UnknownModelError
from hybr.webapp.hybrid.loader import Loader
from hybr.webapp.hybrid.model import IDLE, Model
from hybr.webapp.hybrid.schema import said
from hybr.webapp.runtimes.others import added, addresses

log = logging.getLogger(__name__)

RECENT = 50  # models of which is remembered when they were used
PREFLIGHT_S = 25.0  # the shell's probe gives up after 20 s


@dataclass(slots=True)
class _Load:
    """One load under way; `live` until something else took its place."""

    model: str
    live: bool = True
    verdict: HybridError | None = None
    task: asyncio.Task[HybridError | None] = field(init=False)


class Loading(Model):
    """See the module. What is done about a model that failed is `local.LocalLLM`'s matter."""

    _load: _Load | None = None
    _repair: asyncio.Task[None] | None = None
    checking: dict[str, Any] | None = None  # {model, progress} while a model's files are checked

    def _listen(self) -> None:
        self._loader = Loader(lambda: self._runtime, self._catalogue, self._make_room)
        self._changed = asyncio.Event()  # set, and replaced, whenever another tab's load has come to an end
        for each in self._choice.all.values():
            each.on_death(self._died)
            each.on_state(self._elsewhere)

    @abstractmethod
    def _died(self, error: HybridError) -> None:
        """The worker, or the model in it, is gone."""

    @abstractmethod
    def _cope(self, model: str, error: HybridError) -> None:
        """A load has failed, and it has been told."""

    async def set_runtime(self, wish: object) -> bool:
        """Prefer `auto`, `webgpu` or `wasm`, now and later; a model in the other one is unloaded. False for nonsense.

        The next visit loads the model again, in the runtime that is preferred by then.
        """
        if not self._choice.prefer(wish):
            return False
        if self._choice.runtime() is not self._runtime:
            at_start = self._preferences.get("load_at_start")
            await self.unload()
            self._preferences.set("load_at_start", at_start)
        self.choose()
        await self._look_into_cache()
        return True

    async def init(self, model_id: str | None = None) -> bool | dict[str, Any]:
        """Load a model: True, or `{"success": False, "error": {name, message, code}}`. Never raises but for cancellation.

        A model that the server is still building is waited for, with progress events.
        """
        try:
            error = await self._init(model_id)
        except HybridError as refused:
            error = refused
        return True if error is None else {"success": False, "error": error.to_dict()}

    async def _init(self, model_id: object) -> HybridError | None:
        entry = await self._entry(model_id)
        await self._wait_for_preflight()
        if error := self._unfit(entry):
            self._events.emit("local-llm:error", {"error": error.to_dict(), "model": entry["id"]})
            return error
        await self._follow(entry["id"])
        if self.model == entry["id"]:
            return None
        if entry.get("remote") and self._catalogue.others:
            self._catalogue.others.keep(entry)  # found again later, without the list and without a network
        load = self._load
        if load is None or load.model != entry["id"]:
            load = await self._begin(entry["id"])
        await asyncio.wait([load.task])  # whoever waits may leave; the load goes on
        return load.verdict if load.task.cancelled() else load.task.result()

    async def _entry(self, model_id: object) -> dict[str, Any]:
        if self._catalogue.find(model_id) is None:
            await self._catalogue.refresh()
        if self._catalogue.find(model_id) is None and (others := self._catalogue.others):
            await self._quietly(others.ask())
        entry = self._catalogue.find(model_id)
        if entry is None:
            known = ", ".join(self._catalogue.ids()) or "none"
            wrong = "No model was named." if model_id is None else f"There is no local model {said(model_id)}."
            raise UnknownModelError(f"{wrong} There are: {known}.", field="model")
        return entry

    async def _wait_for_preflight(self) -> None:
        try:
            await asyncio.wait_for(self._probed.wait(), PREFLIGHT_S)
        except TimeoutError:
            log.warning("the preflight has not answered; trying without it")

    async def _begin(self, model_id: str) -> _Load:
        """Start a load in place of whatever is loaded or loading."""
        load = _Load(model_id)
        load.task = asyncio.get_running_loop().create_task(self._run(load))
        self._retire(Aborted(f"Another model, {model_id}, was asked for instead."))
        self._load = load
        if self.is_ready():
            self._gone("switch")
        if self._instead_of and self._instead_of["instead"] != model_id:
            self._instead_of = None
        self._preferences.set("model", model_id)
        self._set("loading", model=model_id)
        self._events.emit("local-llm:loading", {"model": model_id, "progress": 0.0})
        return load

    async def _run(self, load: _Load) -> HybridError | None:
        """The load itself; returns what went wrong."""
        try:
            loaded = await self._loader.load(load.model, lambda progress, event: self._report(load, progress, event))
        except HybridError as error:
            return self._failed(load, error)
        except asyncio.CancelledError:
            return self._failed(load, Aborted("The load was cancelled."))
        self._load = None
        self._preferences.set("load_at_start", True)
        self._loaded(load.model, loaded)
        return None

    def _loaded(self, model: str, loaded: dict[str, Any]) -> None:
        """It is ready, by this tab's doing or another's; `loaded` is the engine's account of it."""
        told = {name: loaded.get(name) for name in ("gpu", "profile", "threads")}
        self._set("ready", model=model, shared="state" in loaded, **told)
        self._state.progress["progress"] = 1.0
        self._cached.add(model)
        self._preferences.set("recent", [model, *(one for one in self._recent() if one != model)][:RECENT])
        ready = {"model": model, "runtime": self._runtime.name, "gpu": loaded.get("gpu"), "profile": loaded.get("profile")}
        self._events.emit("local-llm:ready", ready)

    def _recent(self) -> list[str]:
        """The models that were loaded here, the latest first."""
        stored = self._preferences.get("recent")
        return [str(one) for one in stored] if isinstance(stored, list) else []

    async def _make_room(self, model: str) -> bool:
        """Delete models that were used longest ago, where `model` has no room beside them; whether there is room now.

        Not where the person would rather keep them (the preference `make_room`); `local-llm:evicted` tells which went.
        """
        if self._preferences.get("make_room", True) is False:
            return False
        await self._look_into_cache()
        sizes = {one: self._bytes(one) for one in self._cached}
        need = self._bytes(model) - self._runtime.begun.get(model, {}).get("have", 0)
        storage = self._preflight.get("storage") or {}
        free = max(int(storage.get("quota") or 0) - int(storage.get("usage") or 0), 0)
        chosen = room.choose(need, free, sizes, self._recent(), {model})
        gone = [one for one in chosen if await self.delete(one)]
        if gone:
            self._events.emit("local-llm:evicted", {"model": model, "removed": gone, "bytes": sum(map(sizes.__getitem__, gone))})
        return bool(gone)

    def _bytes(self, model: str) -> int:
        return device.size(self._catalogue.find(model) or {}, self._runtime.name)

    def _report(self, load: _Load, progress: float, event: dict[str, Any]) -> None:
        if load.live:
            self._tell_progress(load.model, progress, event)

    def _tell_progress(self, model: str, progress: float, event: dict[str, Any]) -> None:
        given = {name: event.get(name) for name in IDLE if name != "progress"}
        told = {name: IDLE[name] if value is None else value for name, value in given.items()}  # 0 s left is said
        told["progress"] = max(self._state.progress["progress"], min(progress, 1.0))
        self._state.progress = told
        self._events.emit("local-llm:progress", {"model": model, **told})

    def _failed(self, load: _Load, error: HybridError) -> HybridError:
        if not load.live:
            return load.verdict or error
        self._load = None
        if isinstance(error, Aborted):
            self._set("unloaded")
            self._events.emit("local-llm:unloaded", {"model": load.model, "reason": "cancelled"})
        else:
            self._set("error", model=load.model, error=error.to_dict())
            if isinstance(error, LocalError) and "worker" in error.reactions:
                self._runtime.restart()  # a lost device leaves its memory taken until the worker ends
            self._events.emit("local-llm:error", {"error": error.to_dict(), "model": load.model})
            if error.code == "engine_busy":
                self._later(self.join())
            self._cope(load.model, error)
        return error

    def _retire(self, verdict: HybridError) -> None:
        """Let go of the load under way, if any: those who wait for it get `verdict`."""
        if self._repair and self._repair is not asyncio.current_task():
            self._repair.cancel()
        if load := self._load:
            self._load, load.live, load.verdict = None, False, verdict
            load.task.cancel()

    async def cancel_load(self) -> bool:
        """Stop the load under way; its `init` returns an error of code `aborted`. True if there was one."""
        load = self._load
        if load is None:
            return False
        self._retire(Aborted("The load was cancelled."))
        self._preferences.set("load_at_start", False)
        self._set("unloaded")
        self._events.emit("local-llm:unloaded", {"model": load.model, "reason": "cancelled"})
        await self._quietly(self._runtime.cancel_load())
        return True

    async def pause(self) -> bool:
        """Stop the load under way and keep what has come of its files, for `init` to go on with, also in a later visit."""
        done = await self.cancel_load()
        await self._look_into_cache()
        return done

    async def discard(self) -> bool:
        """Stop the load under way and drop what has come of its files, unless they were whole before."""
        model = self._load.model if self._load else None
        done = await self.cancel_load()
        if model and model not in self._cached:
            await self.delete(model)
        return done

    async def switch_model(self, model_id: str | None = None) -> bool | dict[str, Any]:
        """Load another model in place of the present one; the status is true to what came of it."""
        return await self.init(model_id)

    async def unload(self) -> bool:
        """Free the engine; True if a model was loaded. The next visit does not load one by itself."""
        if self._load:
            return await self.cancel_load()
        self._retire(Aborted("The model was unloaded."))
        if not self.is_ready():
            return False
        self._preferences.set("load_at_start", False)
        self._gone("unload")
        if await self._quietly(self._runtime.unload()):
            return True
        await self.join()  # another tab is being answered by it
        return False

    async def delete(self, model_id: str) -> bool:
        """Remove a model's files from the browser, unloading it first. False if that failed."""
        if model_id in {self.model, self._load.model if self._load else None}:
            await self.unload()
        done = await self._quietly(self._runtime.delete(model_id))
        others = self._catalogue.others
        if others and (entry := others.find(model_id)) and entry.get("source") == "web":
            others.forget(model_id)  # WebLLM's list still has it
        await self._look_into_cache()
        return done

    async def verify(self, model_id: str) -> dict[str, Any]:
        """Check every file of a model that is in this browser, and fetch anew what is damaged: `{files, damaged, repaired}`.

        Progress stands in `checking`, with the event `local-llm:checking`. Raises LocalError.
        """

        def tell(progress: float | None) -> None:
            self.checking = None if progress is None else {"model": model_id, "progress": progress}
            self._events.emit("local-llm:checking", {"model": model_id, "progress": progress})

        tell(0.0)
        try:
            entry = self._catalogue.find(model_id)
            return await self._runtime.verify(model_id, entry, lambda event: tell(float(event.get("progress") or 0.0)))
        finally:
            tell(None)
            await self._look_into_cache()

    # -- models of other hosts

    async def allow(self, hosts: list[str], *, instead: bool = False) -> None:
        """Let the engine fetch models from these hosts too (or from these alone). Raises LocalError when the server was not told.

        A policy is for a worker's life, so the engine begins anew; a model that was loaded is unloaded for it.
        """
        others = self._catalogue.others
        if others is None:
            raise LocalError("This page knows no other hosts.", code="closed", kind="policy")
        before = others.allowed
        await others.allow(hosts, instead=instead)
        if set(others.allowed) == set(before):
            return
        self._retire(Aborted("The engine begins anew, for other hosts."))
        if self._state.state in {"ready", "loading"}:
            self._gone("hosts")
        self._runtime.restart()

    async def unasked(self, model_id: object, address: object, library: object = None) -> list[str]:
        """The hosts that a model at that address needs and that are not allowed yet. Raises OptionError naming the field."""
        _, where, lib = addresses(model_id, address, library)
        others = self._catalogue.others
        if others is None:
            return []
        await self._quietly(others.ask())
        return [host for host in others.hosts(where, lib) if host not in others.allowed]

    async def add(self, model_id: object, address: object, library: object = None) -> dict[str, Any]:
        """Add a model of another host, after a look at what lies there; returns its entry. Raises OptionError, LocalError."""
        others = self._catalogue.others
        if others is None or others.closed:
            raise LocalError("This page reaches no other host: leave it to add a model.", code="closed", kind="policy")
        name, where, lib = addresses(model_id, address, library)
        if self._catalogue.find(name) is not None:
            raise OptionError(f"There is a model {name!r} already: choose another name.", field="name")
        found = await self._runtime.inspect(where, lib)
        entry = added(name, found, where, others.hosts(where, lib))
        others.keep(entry)
        self._events.emit("local-llm:models", {})
        return entry

    async def remove(self, model_id: str) -> bool:
        """Take a model that a person added off the list, and its files out of the browser."""
        others = self._catalogue.others
        if others is None or not any(entry["id"] == model_id for entry in others.kept()):
            return False
        await self.delete(model_id)
        others.forget(model_id)
        self._events.emit("local-llm:models", {})
        return True

    async def resume(self) -> bool | dict[str, Any]:
        """Load again what was loaded in an earlier visit, if it is still in the browser: nothing is downloaded unasked."""
        model = self._preferences.get("model")
        if not model or not self._preferences.get("load_at_start"):
            return False
        await self._look_into_cache()
        return await self.init(model) if model in self._cached else False

    # -- other tabs, which share the engine

    async def join(self) -> None:
        """Take over how it stands with the engine: another tab may have loaded a model already."""
        try:
            self._elsewhere(await self._runtime.status())
        except HybridError as error:
            log.info("the engine does not say how it stands: %s", error)

    async def _follow(self, model: str) -> None:
        """Wait for another tab's load of this model."""
        while self.is_loading() and self._load is None and self._state.model == model:
            await self._changed.wait()

    def _elsewhere(self, status: dict[str, Any]) -> None:
        """Another tab has done something about the model. What this tab is doing itself it knows better."""
        if self._load is not None:
            return
        state, model = status.get("state"), status.get("loading") or status.get("model")
        if state == "loading":
            self._loading_elsewhere(str(model), status.get("progress") or {})
            return
        self._changed.set()
        self._changed = asyncio.Event()
        if state == "ready" and self.model != model:
            self._runtime = self._choice.all.get("wasm" if status.get("profile") == "wasm" else "webgpu", self._runtime)
            self._loaded(str(model), status)
        elif state != "ready" and self._state.state in {"ready", "loading"}:
            self._gone("elsewhere")

    def _loading_elsewhere(self, model: str, progress: dict[str, Any]) -> None:
        if not self.is_loading() or self._state.model != model:
            if self.is_ready():
                self._gone("elsewhere")
            self._set("loading", model=model, shared=True)
            self._events.emit("local-llm:loading", {"model": model, "progress": 0.0})
        self._tell_progress(model, float(progress.get("progress") or 0.0), progress)
