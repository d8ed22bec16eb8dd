"""HybridLLMProvider: one interface over the model in the browser and the one behind the server (blueprint 0x000039).

It checks what callers hand in, has `plan.Planner` decide who is asked (one leg, or two where the second is the rescue), and
leaves the request itself to `run.Run`. A plan never has the cloud in it when the request is private.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid import validate
from hybr.webapp.hybrid.account import Account
from hybr.webapp.hybrid.auto import configure
from hybr.webapp.hybrid.desk import Desk
from hybr.webapp.hybrid.errors import MessageError, OptionError
from hybr.webapp.hybrid.gate import Gate
from hybr.webapp.hybrid.health import Health
from hybr.webapp.hybrid.modes import MODES, Modes
from hybr.webapp.hybrid.plan import NO_CLOUD, Planner
from hybr.webapp.hybrid.recovery import Recovery
from hybr.webapp.hybrid.run import Run
from hybr.webapp.hybrid.stream import ChunkStream
from hybr.webapp.hybrid.walk import Asked
from hybr.webapp.runtimes.client import as_runtime

if TYPE_CHECKING:
    from hybr.webapp.hybrid.events import EventBus
    from hybr.webapp.hybrid.local import LocalLLM
    from hybr.webapp.hybrid.modes import Remembers
    from hybr.webapp.hybrid.plan import Side
    from hybr.webapp.hybrid.types import Completion, Mode, Provider
    from hybr.webapp.runtimes.base import CloudRuntime

log = logging.getLogger(__name__)


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
        self._events = events
        self._account = Account()
        self._desk = Desk(events, self._account, **desk)
        self._modes = Modes(events, preferences, local, self._desk.now)
        self._runs: dict[str, Run] = {}
        self._health = Health(local, events, self._account, self._runs)
        self._gate = Gate(events, preferences, self._desk.now)
        self._planner = Planner(local, self._modes, self._health, self._gate, preferences)
        self._planner.cloud = gateway
        self._preferences = preferences
        self._recovery = Recovery(preferences)
        if stored := preferences.get("auto"):
            self._restore_auto(stored)
        self._ids = itertools.count(1)

    def _restore_auto(self, stored: object) -> None:
        try:
            self._planner.config = configure(self._planner.config, stored)
        except OptionError as error:
            log.warning("the stored auto config is left aside: %s", error)

    def init(self, cloud_client: object | None = None) -> bool:
        """Use `cloud_client` as the cloud side, or the server's gateway when None. Raises CallerError for what is no client."""
        self._planner.cloud = self._gateway if cloud_client is None else as_runtime(cloud_client)
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

    def resume(
        self, messages: object, prefix: object, options: object = None, on: object = "local", *, by: Provider = "local"
    ) -> ChunkStream:
        """Finish an answer of which an earlier page had shown `prefix`, on the side that the person chose; as `stream` does.

        The first chunk is the prefix, so that deltas and text agree from the first; `by` is who had written it. The local model
        takes up a generation that it kept where `options.journal` names one. A private request is not resumed in the cloud.
        Raises CallerError at once.
        """
        side, shown = validate.side(on), validate.prefix(prefix)
        return ChunkStream(self._run(messages, options, side, streaming=True, prefix=shown, by=by))

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

    def _run(
        self, messages: object, options: object, only: Side, *, streaming: bool, prefix: str = "", by: Provider = "local"
    ) -> Run:
        checked, asked = validate.messages(messages), self._recovery.resolve(validate.options(options))
        if not asked.request_id:
            asked = replace(asked, request_id=f"request-{next(self._ids)}")
        if asked.request_id in self._runs:
            raise OptionError(
                f"options.request_id {asked.request_id!r} is in use by a request under way.",
                field="options.request_id",
            )
        request = Asked(checked, asked, streaming, prefix, by)
        run = Run(self._desk, request, lambda: self._planner.legs(asked, only, checked))
        run.on_leg(self._health.outcome)
        self._runs[run.id] = run
        run.on_end = lambda _: self._runs.pop(run.id, None)
        return run

    def visibility(self, *, hidden: bool, frozen_ms: float = 0.0) -> None:
        """What the shell saw of the page: hidden or not, and for how long nothing ran. No watchdog counts such time."""
        self._desk.attention.tell(hidden=hidden, frozen_ms=frozen_ms)

    # -- what the person prefers when something fails

    def get_recovery(self) -> dict[str, Any]:
        """`{handover, hedge, trim}`: what happens in the middle of an answer, beside a slow start, with a long conversation."""
        return self._recovery.to_dict()

    def set_recovery(self, change: object) -> dict[str, Any]:
        """Change some of them, and keep them. Raises OptionError."""
        return self._recovery.change(change)

    # -- what leaves the browser

    def set_egress_policy(self, policy: object) -> bool:
        """`allow`, `redact`, `ask` or `never`, for all requests. Raises OptionError."""
        self._gate.set_policy(policy)
        return True

    def get_egress_policy(self) -> str:
        """The policy for all requests; one message may be stricter."""
        return self._gate.policy

    def answer_egress(self, request_id: str, allow: bool | str) -> bool:
        """The person's answer to `egress:asked`: true, false or "redact". False when nobody is waiting for it."""
        return self._gate.answer(request_id, allow)

    def get_egress_log(self) -> list[dict[str, Any]]:
        """The receipts of what left the browser in this session, newest first."""
        return list(self._gate.receipts)

    # -- what is so

    def get_status(self) -> dict[str, Any]:
        """`{mode, preferred_mode, pending, local_available, cloud_available, local_model, local_ready, active, local, ...}`."""
        cloud = self._planner.cloud
        return {
            "mode": self._modes.mode,
            "preferred_mode": self._modes.preferred,
            "pending": self._modes.pending,
            "local_available": self._local.is_ready(),
            "local_ready": self._local.is_ready(),
            "local_model": self._local.model,
            "cloud_available": cloud is not None and cloud.available(),
            "cloud_reason": NO_CLOUD if cloud is None else getattr(cloud, "reason", ""),
            "breaker": self._health.to_dict(),
            "active": len(self._runs),
            "local": self._local.get_status(),
        }

    def get_usage_stats(self) -> dict[str, Any]:
        """`{local, cloud: {requests, tokens, errors, total_time, ...}, models, fallbacks, handovers, switch_history, ...}`."""
        return {**self._account.to_dict(), "switch_history": list(self._modes.history)}

    def get_auto_switch_config(self) -> dict[str, Any]:
        """What switches by itself: auto mode's weights, priority, qualities, wait and budget, and its latest decision."""
        decision = self._planner.decision
        return {
            "enabled": self._modes.mode == "auto",
            "fallback_to_cloud": self._planner.cloud is not None,
            "prefer_local": self._modes.preferred == "local",
            "modes": list(MODES),
            **self._planner.config.to_dict(),
            "last_decision": {"first": decision.first, "reason": decision.reason} if decision else None,
        }

    def set_auto_switch_config(self, change: object) -> dict[str, Any]:
        """Change some of auto mode's settings, and keep them. Raises OptionError naming the field."""
        self._planner.config = configure(self._planner.config, change)
        self._preferences.set("auto", self._planner.config.to_dict())
        return self.get_auto_switch_config()
