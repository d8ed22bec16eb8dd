"""HybridLLMProvider: one interface over the model in the browser and the one behind the server (blueprint 0x000039).

It checks what callers hand in, decides who is asked (a plan of one leg, or of two where the second is the rescue), and leaves
the request itself to `run.Run`. A plan never has the cloud in it when the request is private.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from hybr.webapp.hybrid import validate
from hybr.webapp.hybrid.account import Account
from hybr.webapp.hybrid.errors import (
    CloudUnavailableError,
    LocalUnavailableError,
    MessageError,
    OptionError,
    RefusedError,
    UnknownModelError,
)
from hybr.webapp.hybrid.modes import MODES, Modes
from hybr.webapp.hybrid.run import ChunkStream, Desk, Leg, Run
from hybr.webapp.runtimes.client import as_runtime

if TYPE_CHECKING:
    from hybr.webapp.hybrid.events import EventBus
    from hybr.webapp.hybrid.local import LocalLLM
    from hybr.webapp.hybrid.modes import Remembers
    from hybr.webapp.hybrid.types import Completion, Mode, Options
    from hybr.webapp.runtimes.base import CloudRuntime

log = logging.getLogger(__name__)

NO_CLOUD = "Cloud API client not available: call HybridLLMProvider.init(cloud_client), or open the page from `hybr serve`."
Side = Literal["local", "cloud"] | None


class HybridLLMProvider:
    """See the module. `gateway` is the cloud side that `init()` without a client means; None where there is no server."""

    def __init__(
        self,
        local: LocalLLM,
        gateway: CloudRuntime | None,
        events: EventBus,
        preferences: Remembers,
        **desk: Any,
    ) -> None:
        self._local = local
        self._gateway = gateway
        self._cloud = gateway
        self._events = events
        self._account = Account()
        self._desk = Desk(events, self._account, **desk)
        self._modes = Modes(events, preferences, local, self._desk.now)
        self._preferences = preferences
        self._runs: dict[str, Run] = {}
        self._ids = itertools.count(1)
        self._announced = True  # whether the local model's latest failure has been told by a fallback
        self._failure: dict[str, Any] | None = None
        events.on("local-llm:loading", lambda _: self._recovering())
        events.on("local-llm:ready", lambda _: self._recovering())
        events.on("local-llm:error", self._failed)
        events.on("hybrid-llm:fallback", self._told)

    def init(self, cloud_client: object | None = None) -> bool:
        """Use `cloud_client` as the cloud side, or the server's gateway when None. Raises CallerError for what is no client."""
        self._cloud = self._gateway if cloud_client is None else as_runtime(cloud_client)
        return True

    # -- modes

    @property
    def preferred_mode(self) -> Mode:
        """What the person wants; the mode in force follows as soon as it can."""
        return self._modes.preferred

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes there are."""
        return MODES

    def set_mode(self, mode: object, manual: bool = True, *, remember: bool = True) -> bool:
        """Put a mode in force; False and a warning when it cannot be.

        `remember`: a wish for `local` that cannot be granted yet is kept and granted when a model is ready. That is right for the
        person's own control and wrong for a script, which was told False.
        """
        return self._modes.set(mode, manual=manual, remember=remember)

    def restore_mode(self, mode: object) -> None:
        """Take up a preference that came later than the page (the server's copy)."""
        self._modes.restore(mode)

    def get_mode(self) -> Mode:
        """The mode in force."""
        return self._modes.mode

    def is_local_available(self) -> bool:
        """Whether a local model is ready to answer."""
        return self._local.is_ready()

    # -- requests

    async def complete(self, messages: object, options: object = None) -> Completion:
        """One answer, whole. Raises HybridError."""
        return await self._whole(messages, options, None)

    async def complete_local(self, messages: object, options: object = None) -> Completion:
        """One answer from the local model only; its failure is the caller's to handle."""
        return await self._whole(messages, options, "local")

    async def complete_cloud(self, messages: object, options: object = None) -> Completion:
        """One answer from the cloud only."""
        return await self._whole(messages, options, "cloud")

    async def generate_with_model(self, prompt: object, options: object = None) -> Completion:
        """One answer to one prompt, by the model named in the options where there is one."""
        if not isinstance(prompt, str):
            raise MessageError("prompt must be a text.", field="prompt")
        return await self._whole([{"role": "user", "content": prompt}], options, None)

    def stream(self, messages: object, options: object = None) -> ChunkStream:
        """One answer as it comes; raises CallerError at once, the rest while iterating. Close it (`aclose`) to walk away."""
        return ChunkStream(self._run(messages, options, None, streaming=True))

    def abort(self, request_id: str | None = None) -> bool:
        """Stop one request, or all when None; True if there was one."""
        runs = list(self._runs.values()) if request_id is None else [run for run in (self._runs.get(request_id),) if run]
        return [run.stop() for run in runs].count(True) > 0

    async def _whole(self, messages: object, options: object, only: Side) -> Completion:
        run = self._run(messages, options, only, streaming=False)
        run.start()
        try:
            await run.next()
        finally:
            run.abandon()  # the caller was cancelled; else it is over already
        assert run.completion is not None  # noqa: S101 - for mypy: a run without a completion raises
        return run.completion

    def _run(self, messages: object, options: object, only: Side, *, streaming: bool) -> Run:
        checked, asked = validate.messages(messages), validate.options(options)
        if not asked.request_id:
            asked = replace(asked, request_id=f"request-{next(self._ids)}")
        if asked.request_id in self._runs:
            raise OptionError(
                f"options.request_id {asked.request_id!r} is in use by a request under way.",
                field="options.request_id",
            )
        run = Run(self._desk, checked, asked, lambda: self._plan(asked, only), streaming=streaming)
        self._runs[run.id] = run
        run.on_end = lambda _: self._runs.pop(run.id, None)
        return run

    # -- who is asked

    async def _plan(self, asked: Options, only: Side) -> list[Leg]:
        """The legs in order. Raises RefusedError, CallerError, or the LocalUnavailableError that leaves nobody to ask."""
        model = asked.model
        sides = await self._sides(model) if model else {"local", "cloud"}
        if only and only not in sides:
            raise UnknownModelError(f"The {only} side has no model {model!r}.", field="options.model")
        if asked.private and (only == "cloud" or not self._ready_with(model)):
            raise RefusedError(self._private(only))
        if only == "local" and not self._ready_with(model):
            raise self._not_loaded(model)
        if only or asked.private:
            return [self._cloud_leg(model) if only == "cloud" else self._local_leg(model)]
        if self._local_first(model, sides):
            rescue = self._cloud is not None and not self._cloud.offline()
            return [self._local_leg(model), *([self._cloud_leg(model if "cloud" in sides else None)] if rescue else [])]
        return [self._cloud_leg(model), *([self._local_leg(None)] if self._local.is_ready() else [])]

    def _local_first(self, model: str | None, sides: set[str]) -> bool:
        if len(sides) == 1:
            return "local" in sides
        return (self._modes.mode == "local" and self._ready_with(model)) or self._owed()

    def _ready_with(self, model: str | None) -> bool:
        return self._local.is_ready() and model in {None, self._local.model}

    async def _sides(self, model: str) -> set[str]:
        """Which sides have `model`. Raises UnknownModelError when neither has."""
        sides = {"local"} if await self._local.lists(model) else set()
        known = await self._cloud.knows(model) if self._cloud is not None else False
        if known or (known is None and not sides):
            sides.add("cloud")
        if not sides:
            names = [entry["id"] for entry in self._local.get_available_models()]
            names += [str(entry.get("id")) for entry in (self._cloud.models() if self._cloud else ())]
            raise UnknownModelError(
                f"There is no model {model!r}. There are: {', '.join(dict.fromkeys(names)) or 'none'}.",
                field="options.model",
            )
        return sides

    def _local_leg(self, model: str | None) -> Leg:
        if self._ready_with(model):
            return Leg("local", self._local.chat, self._local.model)
        return Leg("local", None, model, error=self._known_failure() if self._owed() else self._not_loaded(model))

    def _cloud_leg(self, model: str | None) -> Leg:
        if self._cloud is None:
            return Leg("cloud", None, model, error=CloudUnavailableError(NO_CLOUD))
        return Leg("cloud", self._cloud.chat, model, prefill=self._cloud.prefills(model))

    def _not_loaded(self, model: str | None) -> LocalUnavailableError:
        if model is None or not self._local.is_ready():
            return self._local.unavailable()
        message = f"{model} is not the local model that is loaded ({self._local.model}): LocalLLM.api.init({model!r}) first."
        return LocalUnavailableError(message, code="local_not_loaded", kind="capability")

    def _private(self, only: Side) -> str:
        if only == "cloud":
            return "This request is private, so the cloud may not be asked: use complete or complete_local."
        return f"This request is private and may not leave the browser. {self._local.unavailable().message}"

    # -- a failure of the local model is told once: by the first request that would have gone there

    def _owed(self) -> bool:
        """Whether the person wants the local model, it has failed, and no request has told so yet."""
        return (
            self._failure is not None and not self._announced and self._modes.preferred == "local" and not self._local.is_ready()
        )

    def _recovering(self) -> None:
        self._announced, self._failure = False, None

    def _failed(self, detail: dict[str, Any]) -> None:
        self._failure = detail["error"]

    def _known_failure(self) -> LocalUnavailableError:
        """The failure as an error of its own: requests must not share one, since each leaves its text in it."""
        failure = self._failure or {}
        return LocalUnavailableError(str(failure.get("message")), name=failure.get("name"), code=failure.get("code"))

    def _told(self, detail: dict[str, Any]) -> None:
        if detail["from"] == "local":
            self._announced = True

    # -- what is so

    def get_status(self) -> dict[str, Any]:
        """`{mode, preferred_mode, pending, local_available, cloud_available, local_model, local_ready, active, local, ...}`."""
        local = self._local.get_status()
        return {
            "mode": self._modes.mode,
            "preferred_mode": self._modes.preferred,
            "pending": self._modes.pending,
            "local_available": self._local.is_ready(),
            "local_ready": self._local.is_ready(),
            "local_model": self._local.model,
            "cloud_available": self._cloud is not None and self._cloud.available(),
            "cloud_reason": NO_CLOUD if self._cloud is None else getattr(self._cloud, "reason", ""),
            "active": len(self._runs),
            "local": local,
        }

    def get_usage_stats(self) -> dict[str, Any]:
        """`{local, cloud: {requests, tokens, errors, total_time, ...}, models, fallbacks, handovers, switch_history, ...}`."""
        return {**self._account.to_dict(), "switch_history": list(self._modes.history)}

    def get_auto_switch_config(self) -> dict[str, Any]:
        """`{enabled, fallback_to_cloud, prefer_local}`: what switches by itself today."""
        return {
            "enabled": False,
            "fallback_to_cloud": self._cloud is not None,
            "prefer_local": self._modes.preferred == "local",
            "modes": list(MODES),
        }
