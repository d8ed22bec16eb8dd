"""Who is asked, and who rescues: the legs of a request, from the mode, the model it names, privacy, and what can run now.

    private, local-only   the local model or nobody; a load or repair under way is waited for
    local                 the local model, then the cloud
    cloud                 the cloud, then the local model if it is ready (offline, unreachable, failing)
    auto                  whoever `auto.decide` finds better, then the other
    cloud-only            the cloud or nobody

A breaker that is open moves its side out of the first place where there is another, and never bars the only way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from hybr.webapp.hybrid import auto
from hybr.webapp.hybrid.auto import AutoConfig
from hybr.webapp.hybrid.errors import CloudUnavailableError, LocalUnavailableError, RefusedError, UnknownModelError
from hybr.webapp.hybrid.leg import Leg
from hybr.webapp.hybrid.profile import estimate_tokens, has_images

if TYPE_CHECKING:
    from hybr.webapp.hybrid.auto import Decision
    from hybr.webapp.hybrid.gate import Gate
    from hybr.webapp.hybrid.health import Health
    from hybr.webapp.hybrid.local import LocalLLM
    from hybr.webapp.hybrid.modes import Modes, Remembers
    from hybr.webapp.hybrid.types import Message, Options, Provider
    from hybr.webapp.runtimes.base import CloudRuntime

NO_CLOUD = "Cloud API client not available: call HybridLLMProvider.init(cloud_client), or open the page from `hybr serve`."
Side = Literal["local", "cloud"] | None
BOTH: frozenset[Provider] = frozenset({"local", "cloud"})


class Planner:
    """See the module. `cloud` is exchanged by `HybridLLMProvider.init`."""

    def __init__(self, local: LocalLLM, modes: Modes, health: Health, gate: Gate, preferences: Remembers) -> None:
        self.cloud: CloudRuntime | None = None
        self._local = local
        self._modes = modes
        self._health = health
        self._gate = gate
        self._preferences = preferences
        self.config = AutoConfig()
        self.decision: Decision | None = None

    async def legs(self, asked: Options, only: Side, messages: tuple[Message, ...] = ()) -> list[Leg]:
        """The legs in order. Raises RefusedError, CallerError, or the LocalUnavailableError that leaves nobody to ask."""
        sides = await self._sides(asked.model) if asked.model else BOTH
        if only and only not in sides:
            raise UnknownModelError(f"The {only} side has no model {asked.model!r}.", field="options.model")
        mode = self._modes.mode
        if mode == "local-only" or self._gate.policy_for(asked) == "never":
            return [await self._closed(asked, only, sides, messages)]
        if only == "local":
            return [self._only_local(asked.model, messages)]
        if only == "cloud" or (mode == "cloud-only" and "cloud" in sides):
            return [self._cloud_leg(asked.model)]
        if self._should_wait(sides):
            await self._local.settled()
        if mode == "auto" and sides == BOTH:
            return self._automatic(asked, messages)
        if self._local_first(asked.model, sides):
            return self._rescued(self._local_leg(asked.model, messages), asked.model if "cloud" in sides else None)
        first = replace(self._cloud_leg(asked.model), stands_in=self._stands_in(sides))
        return self._local_rescue(first, messages)

    def _automatic(self, asked: Options, messages: tuple[Message, ...]) -> list[Leg]:
        decision = self.decide(asked, messages)
        if decision.first == "local" and self._ready_with(asked.model):
            first, *rest = self._rescued(self._local_leg(asked.model, messages), asked.model)
        else:
            first, *rest = self._local_rescue(self._cloud_leg(asked.model), messages)
        return [replace(first, reason=f"{first.provider}: {decision.reason}"), *rest]

    def decide(self, asked: Options, messages: tuple[Message, ...]) -> Decision:
        """Auto mode's choice for a request; kept in `decision` for the status."""
        cloud, entry = self.cloud, (self.cloud.models() or [{}])[0] if self.cloud else {}
        answer = asked.max_output_tokens or auto.ANSWER_TOKENS
        prompt = estimate_tokens(messages)
        model = self._local.model or ""
        abilities = entry.get("capabilities") or {}
        self.decision = auto.decide(
            auto.Side(
                model,
                ready=bool(model) and not self._health.open("local"),
                seconds=self._local.profile.predict_s(self._local.measured, prompt, answer),
                context=self._local.context(),
                images=self._local.sees(),
            ),
            auto.Side(
                str(entry.get("id") or ""),
                ready=cloud is not None and cloud.available() and not self._health.open("cloud"),
                seconds=self._health.mean_seconds("cloud", answer),
                cost=self._health.mean_cost(),
                context=int(entry.get("context_length") or 0),
                images=bool(abilities.get("images")),
                tools=bool(abilities.get("tools")),
            ),
            auto.Wants(prompt + answer, has_images(messages), bool(asked.tools)),
            self.config,
            offline=cloud is not None and cloud.offline(),
            spent=self._health.spent(),
        )
        return self.decision

    async def _closed(self, asked: Options, only: Side, sides: frozenset[Provider], messages: tuple[Message, ...]) -> Leg:
        """The local leg of a request that may not leave the browser."""
        why = "The mode is local-only" if self._modes.mode == "local-only" else "The egress policy is 'never'"
        why = "This request is private" if asked.private else why
        if only == "cloud" or "local" not in sides:
            raise RefusedError(f"{why}, so the cloud may not be asked: use a local model.")
        await self._local.settled()
        if not self._ready_with(asked.model):
            raise RefusedError(f"{why} and nothing may leave the browser. {self._not_loaded(asked.model).message}")
        return self._local_leg(asked.model, messages)

    def _only_local(self, model: str | None, messages: tuple[Message, ...]) -> Leg:
        if not self._ready_with(model):
            raise self._not_loaded(model)
        return self._local_leg(model, messages)

    def _should_wait(self, sides: frozenset[Provider]) -> bool:
        """Whether the person chose to wait for the model they prefer, and it is loading."""
        wish = self._modes.preferred == "local" and self._preferences.get("while_loading") == "wait"
        return wish and "local" in sides and self._local.is_loading()

    def _stands_in(self, sides: frozenset[Provider]) -> bool:
        """Whether the cloud is asked only because the model the person prefers is still loading."""
        return self._modes.preferred == "local" and sides == BOTH and self._local.is_loading()

    def _local_first(self, model: str | None, sides: frozenset[Provider]) -> bool:
        if len(sides) == 1:
            return "local" in sides
        wanted = self._modes.mode == "local" and self._ready_with(model)
        return wanted or (self._modes.preferred == "local" and self._health.owed())

    def _rescued(self, first: Leg, model: str | None) -> list[Leg]:
        if self.cloud is None or self.cloud.offline():
            return [first]
        if self._health.open("local"):
            first = Leg("local", None, first.model, error=self._health.refusal("local"))
        return [first, self._cloud_leg(model)]

    def _local_rescue(self, first: Leg, messages: tuple[Message, ...]) -> list[Leg]:
        if not self._local.is_ready() or self._health.open("local"):
            return [first]
        if self._health.open("cloud"):
            first = Leg("cloud", None, first.model, error=self._health.refusal("cloud"))
        return [first, self._local_leg(None, messages)]

    def _ready_with(self, model: str | None) -> bool:
        return self._local.is_ready() and model in {None, self._local.model}

    def _local_leg(self, model: str | None, messages: tuple[Message, ...]) -> Leg:
        if self._ready_with(model):
            name = str(self._local.model)
            first_s, next_s = self._local.profile.patience(self._local.measured, estimate_tokens(messages))
            return Leg(
                "local",
                self._local.chat,
                name,
                first_s=first_s,
                next_s=next_s,
                pulse=self._local.pulse,
                ping=self._local.ping,
                context=self._local.context(),
            )
        return Leg("local", None, model, error=self._health.failure() if self._health.owed() else self._not_loaded(model))

    def _cloud_leg(self, model: str | None) -> Leg:
        if self.cloud is None:
            return Leg("cloud", None, model, error=CloudUnavailableError(NO_CLOUD))
        cloud = self.cloud
        return Leg("cloud", lambda call, emit: self._gate.chat(cloud, call, emit), model, prefill=cloud.prefills(model))

    def _not_loaded(self, model: str | None) -> LocalUnavailableError:
        if model is None or not self._local.is_ready():
            return self._local.unavailable()
        message = f"{model} is not the local model that is loaded ({self._local.model}): LocalLLM.api.init({model!r}) first."
        return LocalUnavailableError(message, code="local_not_loaded", kind="capability")

    async def _sides(self, model: str) -> frozenset[Provider]:
        """Which sides have `model`. Raises UnknownModelError when neither has."""
        sides: set[Provider] = {"local"} if await self._local.lists(model) else set()
        known = False if self.cloud is None else await self._ask_cloud(model)
        if known or (known is None and not sides):
            sides.add("cloud")
        if not sides:
            names = [entry["id"] for entry in self._local.get_available_models()]
            names += [str(entry.get("id")) for entry in (self.cloud.models() if self.cloud else ())]
            raise UnknownModelError(
                f"There is no model {model!r}. There are: {', '.join(dict.fromkeys(names)) or 'none'}.",
                field="options.model",
            )
        return frozenset(sides)

    async def _ask_cloud(self, model: str) -> bool | None:
        """In local-only nothing goes out, not even a question about models."""
        if self.cloud is None or self._modes.mode == "local-only":
            return None
        return await self.cloud.knows(model)
