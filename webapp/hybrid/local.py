"""LocalLLM: the one local model of the page: choosing, loading, its state, its loss (blueprint 0x000038).

States: `unsupported` (nothing can run here), `unloaded`, `loading`, `ready`, `error`. The status is set before the event that
announces it. One load at a time: a second `init` of the same model joins the first, of another model replaces it. Whatever
belongs to a load that was replaced, cancelled or killed is ignored when it comes late (`_Load.live`).

When the engine dies, its worker is replaced at once. A model that was ready is then loaded again in the background, once within
REPAIR_WINDOW_S; a model that dies while loading is not, since it may be what killed the worker. WebGPU that keeps failing gives
way to WebAssembly, for the next request (`choice`): then the model is loaded again there.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid import device, instead
from hybr.webapp.hybrid.choice import Choice
from hybr.webapp.hybrid.errors import Aborted, HybridError, LocalError, LocalUnavailableError, UnknownModelError
from hybr.webapp.hybrid.loader import Loader
from hybr.webapp.hybrid.profile import DeviceProfile, key

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from hybr.webapp.hybrid.events import EventBus
    from hybr.webapp.hybrid.modes import Remembers
    from hybr.webapp.hybrid.types import Call, Final
    from hybr.webapp.runtimes.base import Emit, LocalRuntime
    from hybr.webapp.runtimes.catalogue import Catalogue

log = logging.getLogger(__name__)

PREFLIGHT_S = 25.0  # the shell's probe gives up after 20 s
REPAIR_AFTER_S = 1.0  # the rescue by the cloud goes first
REPAIR_WINDOW_S = 300.0

IDLE: dict[str, Any] = {"progress": 0.0, "loaded_bytes": 0, "total_bytes": 0, "eta_s": None, "text": ""}


@dataclass(slots=True)
class _Load:
    """One load under way; `live` until something else took its place."""

    model: str
    live: bool = True
    verdict: HybridError | None = None
    task: asyncio.Task[HybridError | None] = field(init=False)


@dataclass(slots=True)
class _State:
    """What `get_status` tells."""

    state: str = "unloaded"
    model: str | None = None
    error: dict[str, Any] | None = None
    gpu: dict[str, Any] | None = None
    profile: str | None = None
    threads: int | None = None
    progress: dict[str, Any] = field(default_factory=lambda: dict(IDLE))


class LocalLLM:
    """See the module."""

    def __init__(
        self,
        runtime: LocalRuntime,
        catalogue: Catalogue,
        events: EventBus,
        preferences: Remembers,
        profile: DeviceProfile | None = None,
        *,
        processor: LocalRuntime | None = None,
    ) -> None:
        self.profile = profile or DeviceProfile()
        self._runtime = runtime
        self._choice = Choice(runtime, processor, preferences, self.profile)
        self._why = "webgpu"
        self._catalogue = catalogue
        self._loader = Loader(lambda: self._runtime, catalogue)
        self._events = events
        self._preferences = preferences
        self._state = _State()
        self._load: _Load | None = None
        self._preflight: dict[str, Any] = {}
        self._probed = asyncio.Event()
        self._cached: set[str] = set()
        self._repair: asyncio.Task[None] | None = None
        self._instead_of: dict[str, Any] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._repaired = float("-inf")
        for each in self._choice.all.values():
            each.on_death(self._died)
            each.on_state(self._elsewhere)
        self._changed = asyncio.Event()  # set, and replaced, whenever another tab's load has come to an end
        self.choose()

    # -- what is so

    @property
    def model(self) -> str | None:
        """The model that is ready, or None."""
        return self._state.model if self.is_ready() else None

    @property
    def measured(self) -> str:
        """The name under which the device profile knows the model that is ready, or ""."""
        return key(self.model, self._runtime.name) if self.model else ""

    def is_ready(self) -> bool:
        """Whether a model is loaded and its worker alive."""
        return self._state.state == "ready"

    def is_loading(self) -> bool:
        """Whether a load is under way."""
        return self._state.state == "loading"

    def context(self) -> int:
        """The loaded model's window in tokens; 0 when none is loaded or the index does not say."""
        return int((self._catalogue.find(self.model) or {}).get("context") or 0)

    def entry(self, model: str | None) -> dict[str, Any] | None:
        """What the index says of a model; None when it says nothing."""
        return self._catalogue.find(model)

    def sees(self) -> bool:
        """Whether the loaded model takes images."""
        return bool((self._catalogue.find(self.model) or {}).get("vision"))

    def blocker(self) -> str:
        """Why no local model can run here; empty when one can, or while that is not known."""
        return device.blocker(self._preflight, self._runtime.name)

    def get_status(self) -> dict[str, Any]:
        """`{state, runtime, webgpu, reason, model, progress, loaded_bytes, total_bytes, eta_s, text, error, gpu, profile}`.

        `state`, `runtime` and `webgpu` have the values of page-contract.md's `local-status`. `instead_of` is set while a smaller
        or float32 model stands in for one that could not run here: `{model, instead, error}`.
        """
        state = self._state
        return {
            "state": state.state,
            "ready": self.is_ready(),
            "runtime": self._runtime.name,
            "webgpu": self._preflight.get("webgpu", "unknown"),
            "reason": self.blocker(),
            "model": state.model,
            "error": state.error,
            "gpu": state.gpu,
            "profile": state.profile,
            "instead_of": self._instead_of,
            **state.progress,
        }

    def get_runtime_info(self) -> dict[str, Any]:
        """The adapter and what the preflight found of it; the runtime, the wish (`auto`, ...) and what decided (`why`)."""
        probe = self._preflight
        return {
            "runtime": self._runtime.name,
            "wish": self._choice.wish,
            "why": self._why,
            "webgpu": probe.get("webgpu", "unknown"),
            "reason": probe.get("reason"),
            "remedy": probe.get("remedy"),
            "gpu": self._state.gpu or probe.get("adapter"),
            "limits": probe.get("limits") or {},
            "features": probe.get("features") or [],
            "profile": self._state.profile or probe.get("profile"),
            "wasm": probe.get("wasm", "unknown"),
            "threads": self._state.threads,
            "storage": probe.get("storage"),
        }

    def get_available_models(self) -> list[dict[str, Any]]:
        """The index's entries, each with `fits` (`{fits, reason}`), `cached` and `loaded`."""
        return [
            {
                **entry,
                "bytes": device.size(entry, self._runtime.name),
                "fits": self._fits(entry),
                "cached": entry["id"] in self._cached,
                "loaded": entry["id"] == self.model,
            }
            for entry in self._catalogue.entries
        ]

    async def lists(self, model_id: str) -> bool:
        """Whether the index has that model; reads it if it was never read."""
        if not self._catalogue.read:
            try:
                await self._catalogue.refresh()
            except HybridError:
                return False
        return self._catalogue.find(model_id) is not None

    async def refresh(self) -> list[dict[str, Any]]:
        """Read /models/index.json and the browser's cache again; emits `local-llm:models`. Raises LocalError."""
        await self._catalogue.refresh()
        await self._look_into_cache()
        return self.get_available_models()

    def preflight(self, result: dict[str, Any]) -> None:
        """Take what the shell's probe of the adapter found."""
        self._preflight = {**result, "wasm_reason": result.get("wasmReason", result.get("wasm_reason"))}
        self._choice.preflight = self._preflight
        self.choose()
        self._probed.set()
        self._events.emit("local-llm:models", {})

    def force(self, wish: object) -> None:
        """Use this runtime for as long as the page lives, whatever the preference (`?runtime=`); nonsense is ignored."""
        self._choice.force(wish)
        self.choose()

    async def set_runtime(self, wish: object) -> bool:
        """Prefer `auto`, `webgpu` or `wasm`, now and later; a model in the other one is unloaded. False for nonsense."""
        if not self._choice.prefer(wish):
            return False
        if self._choice.runtime() is not self._runtime:
            await self.unload()
        self.choose()
        await self._look_into_cache()
        return True

    def choose(self) -> None:
        """Take the runtime that device and preference ask for, unless a model is loaded or loading."""
        if self._state.state not in {"ready", "loading"}:
            self._runtime, self._why = self._choice.runtime(), self._choice.made()[1]
        if self.blocker() and self._state.state == "unloaded":
            self._set("unsupported")
        elif not self.blocker() and self._state.state == "unsupported":
            self._set("unloaded")

    # -- loading

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
        load = self._load
        if load is None or load.model != entry["id"]:
            load = await self._begin(entry["id"])
        await asyncio.wait([load.task])  # whoever waits may leave; the load goes on
        return load.verdict if load.task.cancelled() else load.task.result()

    def _unfit(self, entry: dict[str, Any]) -> HybridError | None:
        """Why this model cannot run here, or None."""
        if blocker := self.blocker():
            return LocalUnavailableError(f"WebGPU unavailable: {blocker}", code="no_webgpu", kind="capability")
        verdict = self._fits(entry)
        if verdict["fits"]:
            return None
        return LocalError(f"{entry['id']} does not fit this device. {verdict['reason']}", code="does_not_fit", kind="capability")

    def _fits(self, entry: dict[str, Any]) -> dict[str, Any]:
        return device.fits(entry, self._preflight, cached=entry["id"] in self._cached, runtime=self._runtime.name)

    async def _entry(self, model_id: object) -> dict[str, Any]:
        if self._catalogue.find(model_id) is None:
            await self._catalogue.refresh()
        entry = self._catalogue.find(model_id)
        if entry is None:
            known = ", ".join(self._catalogue.ids()) or "none"
            wrong = "No model was named." if model_id is None else f"There is no local model {model_id!r}."
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
        self._set("ready", model=model, gpu=loaded.get("gpu"), profile=loaded.get("profile"), threads=loaded.get("threads"))
        self._state.progress["progress"] = 1.0
        self._cached.add(model)
        ready = {"model": model, "runtime": self._runtime.name, "gpu": loaded.get("gpu"), "profile": loaded.get("profile")}
        self._events.emit("local-llm:ready", ready)

    def _report(self, load: _Load, progress: float, event: dict[str, Any]) -> None:
        if load.live:
            self._tell_progress(load.model, progress, event)

    def _tell_progress(self, model: str, progress: float, event: dict[str, Any]) -> None:
        given = {name: event.get(name) for name in ("loaded_bytes", "total_bytes", "eta_s", "text")}
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
            gave_way = error.kind in {"health", "capability"} and error.phase in {"probe", "load"} and self._give_way(load.model)
            if not gave_way:
                self._replace(load.model, error)
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
        await self._look_into_cache()
        return done

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
            self._set("loading", model=model)
            self._events.emit("local-llm:loading", {"model": model, "progress": 0.0})
        self._tell_progress(model, float(progress.get("progress") or 0.0), progress)

    # -- answering

    async def chat(self, call: Call, emit: Emit) -> Final:
        """Answer with the model that is ready. Raises LocalUnavailableError when none is."""
        if not self.is_ready():
            raise self.unavailable()
        measured = self.measured
        final = await self._runtime.chat(call, emit)
        self.profile.learn(measured, final)
        return final

    def unavailable(self) -> LocalUnavailableError:
        """Why the local model cannot answer now, and what would change it."""
        if blocker := self.blocker():
            return LocalUnavailableError(f"No local model can run here: {blocker}", code="no_webgpu", kind="capability")
        state = self._state
        if state.state == "loading":
            return LocalUnavailableError(
                f"{state.model} is still loading: wait until it is ready.", code="local_loading", kind="capability"
            )
        if state.error:
            return LocalUnavailableError(f"The local model failed: {state.error['message']}", code=state.error["code"])
        message = "No local model is loaded: load one first (LocalLLM.api.init('smollm2-135m'), or Load in the page)."
        return LocalUnavailableError(message, kind="capability")

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

    # -- helpers

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it after what is under way; the loop itself keeps only a weak reference."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _gone(self, reason: str) -> None:
        model = self._state.model
        self._set("unloaded")
        self._events.emit("local-llm:unloaded", {"model": model, "reason": reason})

    def _set(self, state: str, **fields: Any) -> None:
        """Every change of state makes a new one, so that nothing of the old one lingers."""
        kept = {"gpu": self._state.gpu, "profile": self._state.profile}
        self._state = _State(state, **{**kept, **fields})

    async def _look_into_cache(self) -> None:
        try:
            self._cached = await self._runtime.cached()
        except HybridError as error:
            log.info("the browser's model cache cannot be read: %s", error)
        self._events.emit("local-llm:models", {})

    @staticmethod
    async def _quietly(work: Any) -> bool:
        """Await an engine call whose failure changes nothing for the person."""
        try:
            await work
        except HybridError as error:
            log.info("the engine: %s", error)
            return False
        return True
