"""The page's local model as it stands: which runtime it has, what is loaded, what could be, and what is told of it.

States: `unsupported` (nothing can run here), `unloaded`, `loading`, `ready`, `error`. The status is set before the event that
announces it, and every change of state makes a new one.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid import device
from hybr.webapp.hybrid.choice import Choice
from hybr.webapp.hybrid.errors import HybridError, LocalError, LocalUnavailableError
from hybr.webapp.hybrid.profile import DeviceProfile, key

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from hybr.webapp.hybrid.events import EventBus
    from hybr.webapp.hybrid.modes import Remembers
    from hybr.webapp.runtimes.base import LocalRuntime
    from hybr.webapp.runtimes.catalogue import Catalogue
    from hybr.webapp.runtimes.others import Others

log = logging.getLogger(__name__)

IDLE: dict[str, Any] = {
    "progress": 0.0,
    "loaded_bytes": 0,
    "total_bytes": 0,
    "bytes_per_second": None,
    "eta_s": None,
    "text": "",
    "phase": "",  # download, or load
    "step": "",  # what `text` says, as one word
}


@dataclass(slots=True)
class _State:
    """What `get_status` tells."""

    state: str = "unloaded"
    model: str | None = None
    error: dict[str, Any] | None = None
    gpu: dict[str, Any] | None = None
    profile: str | None = None
    threads: int | None = None
    shared: bool = False
    progress: dict[str, Any] = field(default_factory=lambda: dict(IDLE))


class Model(ABC):
    """See the module. `loading.Loading` changes what it tells."""

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
        self._events = events
        self._preferences = preferences
        self._state = _State()
        self._preflight: dict[str, Any] = {}
        self._probed = asyncio.Event()
        self._cached: set[str] = set()
        self._instead_of: dict[str, Any] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._listen()
        self.choose()

    @abstractmethod
    def _listen(self) -> None:
        """Hear what the runtimes tell of themselves."""

    # -- what is so

    @property
    def model(self) -> str | None:
        """The model that is ready, or None."""
        return self._state.model if self.is_ready() else None

    @property
    def measured(self) -> str:
        """The name under which the device profile knows the model that is ready, or ""."""
        return key(self.model, self._runtime.name) if self.model else ""

    def patience(self, prompt_tokens: int) -> tuple[float, float]:
        """How long (s) the ready model may fairly be silent before its first token, and between two."""
        return self.profile.patience(self.measured, prompt_tokens, software=self._state.profile == "software")

    def is_ready(self) -> bool:
        """Whether a model is loaded and its worker alive."""
        return self._state.state == "ready"

    def is_loading(self) -> bool:
        """Whether a load is under way."""
        return self._state.state == "loading"

    def context(self) -> int:
        """The loaded model's window in tokens; 0 when none is loaded or the index does not say."""
        return int((self._catalogue.find(self.model) or {}).get("context") or 0)

    @property
    def others(self) -> Others | None:
        """The models of other hosts."""
        return self._catalogue.others

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
        """`{state, runtime, webgpu, reason, model, progress, loaded_bytes, total_bytes, eta_s, text, error, gpu, profile, ...}`.

        `state`, `runtime` and `webgpu` have the values of page-contract.md's `local-status`. `instead_of` is set while a smaller
        or float32 model stands in for one that could not run here: `{model, instead, error}`. `shared`: by another tab's doing.
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
            "shared": state.shared,
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
            "code": probe.get("code"),
            "args": probe.get("args"),
            "gpu": self._state.gpu or probe.get("adapter"),
            "limits": probe.get("limits") or {},
            "features": probe.get("features") or [],
            "profile": self._state.profile or probe.get("profile"),
            "wasm": probe.get("wasm", "unknown"),
            "threads": self._state.threads,
            "storage": probe.get("storage"),
        }

    def get_available_models(self) -> list[dict[str, Any]]:
        """The index's entries, each with `fits` (`{fits, reason, code, args}`), `cached`, `loaded` and `begun`.

        Behind them those of other hosts that were added or taken. `begun` is `{have, bytes}` of a download that is not whole.
        """
        return [self._told(entry) for entry in self._catalogue.entries]

    async def get_offered_models(self) -> list[dict[str, Any]]:
        """The models of WebLLM's own list, likewise; other hosts have them. Raises LocalError when the list cannot be had."""
        others = self._catalogue.others
        return [self._told(entry) for entry in await others.ask()] if others else []

    def _told(self, entry: dict[str, Any]) -> dict[str, Any]:
        name = entry["id"]
        return {
            **entry,
            "bytes": device.size(entry, self._runtime.name),
            "fits": self._fits(entry),
            "cached": name in self._cached,
            "begun": self._runtime.begun.get(name) if name not in self._cached else None,
            "loaded": name == self.model,
        }

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

    def choose(self) -> None:
        """Take the runtime that device and preference ask for, unless a model is loaded or loading."""
        if self._state.state not in {"ready", "loading"}:
            self._runtime, self._why = self._choice.runtime(), self._choice.made()[1]
        if self.blocker() and self._state.state == "unloaded":
            self._set("unsupported")
        elif not self.blocker() and self._state.state == "unsupported":
            self._set("unloaded")

    def _unfit(self, entry: dict[str, Any]) -> HybridError | None:
        """Why this model cannot run here, or None."""
        if blocker := self.blocker():
            return LocalUnavailableError(f"WebGPU unavailable: {blocker}", code="no_webgpu", kind="capability")
        verdict = self._fits(entry)
        if verdict["fits"]:
            return self._unasked(entry)
        return LocalError(f"{entry['id']} does not fit this device. {verdict['reason']}", code="does_not_fit", kind="capability")

    def _unasked(self, entry: dict[str, Any]) -> HybridError | None:
        """Why a model of another host may not be fetched from there, or None."""
        others = self._catalogue.others
        if not entry.get("remote") or entry["id"] in self._cached or (others and others.may(entry)):
            return None
        hosts = ", ".join(entry.get("hosts") or ())
        return LocalError(
            f"{entry['id']} lies on other hosts ({hosts}): allow them first.",
            code="host_not_allowed",
            kind="policy",
            phase="probe",
        )

    def _fits(self, entry: dict[str, Any]) -> dict[str, Any]:
        cached, others = entry["id"] in self._cached, self._catalogue.others
        if entry.get("remote") and not cached and others and others.closed:
            return {
                "fits": False,
                "code": "elsewhere",
                "args": {},
                "reason": "It lies on another host, which this page cannot reach: leave it to download the model.",
            }
        return device.fits(entry, self._preflight, cached=cached, runtime=self._runtime.name)

    def storage(self, told: dict[str, Any]) -> None:
        """Take what the browser says by now of its storage: `{quota, usage, persisted}`."""
        self._preflight["storage"] = told
        self._events.emit("local-llm:models", {})

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
