"""HybridLLMProvider: one interface over the model in the browser and the one behind the server (blueprint 0x000039).

It checks what callers hand in, has `plan.Planner` decide who is asked (one leg, or two where the second is the rescue), and
leaves the request itself to `run.Run`. A plan never has the cloud in it when the request is private.
"""

from __future__ import annotations

import itertools
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from hybr.webapp.hybrid import validate
from hybr.webapp.hybrid.account import Account
from hybr.webapp.hybrid.answer import Asked
from hybr.webapp.hybrid.auto import configure
from hybr.webapp.hybrid.desk import Desk
from hybr.webapp.hybrid.errors import MessageError, OptionError, UnknownModelError
from hybr.webapp.hybrid.estimate import dollars
from hybr.webapp.hybrid.gate import Gate
from hybr.webapp.hybrid.health import Health, clock
from hybr.webapp.hybrid.modes import Modes
from hybr.webapp.hybrid.money import Money
from hybr.webapp.hybrid.personas import Personas
from hybr.webapp.hybrid.plan import NO_CLOUD, Planner
from hybr.webapp.hybrid.recovery import Recovery
from hybr.webapp.hybrid.run import Run
from hybr.webapp.hybrid.stream import ChunkStream
from hybr.webapp.hybrid.types import MODES
from hybr.webapp.runtimes.client import as_runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.events import EventBus
    from hybr.webapp.hybrid.leg import Leg
    from hybr.webapp.hybrid.local import LocalLLM
    from hybr.webapp.hybrid.modes import Remembers
    from hybr.webapp.hybrid.plan import Side
    from hybr.webapp.hybrid.types import Completion, Mode, Provider
    from hybr.webapp.runtimes.base import CloudRuntime, Storage

log = logging.getLogger(__name__)

T = TypeVar("T")


class HybridLLMProvider:
    """See the module. `gateway` is the cloud side that `init()` without a client means; None where there is no server."""

    def __init__(
        self,
        local: LocalLLM,
        gateway: CloudRuntime | None,
        events: EventBus,
        preferences: Remembers,
        *,
        storage: Storage | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._local = local
        self._gateway = gateway
        self._events = events
        self._account = Account()
        self._money = Money(self._account, events, preferences, storage, now=now, clock=clock)
        self._desk = Desk(events, self._account, now, quote=self._quote, asked=self._money.window.asked)
        self._modes = Modes(events, preferences, local, self._desk.now)
        self._runs: dict[str, Run] = {}
        self._health = Health(local, events, self._account, self._runs, self._desk.attention)
        self._gate = Gate(events, preferences, self._desk.now)
        self._planner = Planner(local, self._modes, self._health, self._gate, preferences)
        self._planner.cloud = gateway
        self._planner.budget = self._money.budget
        self._preferences = preferences
        self._recovery = Recovery(preferences)
        self._personas = Personas(preferences)
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

    def pin_mode(self, mode: Mode) -> None:
        """Put a mode in force for as long as the page lives, whoever asks for another (the local-only document)."""
        self._modes.pin(mode)

    def restore_mode(self, mode: object) -> None:
        """Take up a preference that came later than the page (the server's copy)."""
        self._modes.restore(mode)

    def follow_mode(self, mode: object) -> None:
        """Take up what another tab wishes, where this one has no wish of its own and becomes no less private by it."""
        self._modes.follow(mode)

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
        named = [run for run in self._runs.values() if request_id is None or run.id == request_id]
        return [run.stop() for run in named].count(True) > 0

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
        given = validate.options(options)
        checked, asked = self._personas.apply(validate.messages(messages), given)
        asked = self._recovery.resolve(validate.together(asked))
        if not asked.request_id:
            asked = replace(asked, request_id=f"request-{next(self._ids)}")
        if asked.request_id in self._runs:
            raise OptionError(
                f"options.request_id {asked.request_id!r} is in use by a request under way.",
                field="options.request_id",
            )
        request = Asked(checked, asked, streaming, prefix, by)
        run = Run(self._desk, request, lambda: self._legs(request, only, given.model))
        run.on_leg(self._leg_ended)
        self._runs[run.id] = run
        run.on_end = lambda _: self._runs.pop(run.id, None)
        return run

    async def _legs(self, request: Asked, only: Side, named: str | None) -> list[Leg]:
        """The plan. A model that is not there and that the request did not name itself is its persona's mistake, told as such."""
        asked = request.options
        try:
            return await self._planner.legs(asked, only, request.messages)
        except UnknownModelError as error:
            if named is None and asked.model:
                persona = asked.persona or self._personas.current
                text = f"{error.message} The persona {persona!r} asks for it: change its model, or choose another persona."
                raise UnknownModelError(text, field="persona.model") from None
            raise

    def visibility(self, *, hidden: bool, frozen_ms: float = 0.0) -> None:
        """What the shell saw of the page: hidden or not, and for how long nothing ran. No watchdog counts such time."""
        self._desk.attention.tell(hidden=hidden, frozen_ms=frozen_ms)

    # -- what the person prefers when something fails

    def get_recovery(self) -> dict[str, Any]:
        """`{handover, hedge, trim}`: what happens in the middle of an answer, beside a slow start, with a long conversation."""
        return self._recovery.to_dict()

    def set_recovery(self, change: object) -> dict[str, Any]:
        """Change some of them, and keep them. Raises OptionError."""
        return self._told(self._recovery.change(change))

    # -- personas

    def list_personas(self) -> dict[str, Any]:
        """`{current, personas}`: the name of the current one or None, and all by name."""
        return {"current": self._personas.current, "personas": self._personas.all()}

    def save_persona(self, name: object, persona: object) -> dict[str, Any]:
        """Keep `{mode, model, private, egress, system, options}` (all may be left out) under a name. Raises OptionError."""
        return self._told(self._personas.save(name, persona))

    def delete_persona(self, name: str) -> bool:
        """Forget a persona; False if there was none of that name."""
        return self._told(self._personas.delete(name))

    def set_persona(self, name: str | None = None) -> bool:
        """Make a persona the current one, and its mode the mode in force; None for no persona. Raises OptionError.

        False when its mode cannot be in force yet: the persona is the current one all the same.
        """
        persona = self._told(self._personas.choose(name))
        return self.set_mode(persona["mode"]) if persona and persona["mode"] else True

    # -- money

    def estimate(self, messages: object, options: object = None) -> dict[str, Any]:
        """Tokens, seconds and dollars that a request would take on each side. Raises CallerError."""
        checked, asked = self._personas.apply(validate.messages(messages), validate.options(options))
        return self._money.estimate(self._planner, asked, checked)

    def get_budget(self) -> dict[str, Any]:
        """By period (`month`, `session`): `{limit, spent, state}`, in dollars."""
        return self._money.budget.to_dict()

    def set_budget(self, change: object) -> dict[str, Any]:
        """Set `month` or `session`, in dollars; None for no budget. Raises OptionError."""
        return self._told(self._money.budget.change(change))

    def set_rate_limits(self, change: object) -> dict[str, Any]:
        """Set after how many requests a minute to `local` or `cloud` there is a warning. Raises OptionError."""
        return dict(self._money.window.change(change))

    def report(self) -> str:
        """What was asked and spent, as a person reads it."""
        return self._money.report()

    def _quote(self, model: str | None, prompt_tokens: int, completion_tokens: int) -> float | None:
        cloud = self._planner.cloud
        return dollars(cloud.price(model) if cloud else None, prompt_tokens, completion_tokens)

    def _leg_ended(self, provider: Provider, error: Exception | None) -> None:
        self._health.outcome(provider, error)
        self._money.ended(provider, error)

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

    def _told(self, value: T) -> T:
        """Tell those who show what is so that it has changed."""
        self._events.emit("hybrid-llm:status", {})
        return value

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
            "sees": self._planner.sees(),
            "local": self._local.get_status(),
        }

    def get_usage_stats(self) -> dict[str, Any]:
        """`{local, cloud: {requests, tokens, errors, total_time, ...}, models, fallbacks, handovers, switch_history, ...}`."""
        return {**self._account.to_dict(), **self._money.to_dict(), "switch_history": list(self._modes.history)}

    async def sides_of(self, model: str) -> frozenset[Provider]:
        """Which sides have a model. Raises UnknownModelError when neither has."""
        return await self._planner.sides(model)

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
