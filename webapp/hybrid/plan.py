"""Who is asked, and who rescues: the legs of a request, from the mode, the model it names, privacy, and what can run now.

    private, local-only   the local model or nobody; a load or repair under way is waited for
    local                 the local model, then the cloud
    cloud                 the cloud, then the local model if it is ready (offline, unreachable, failing)
    auto                  whoever `auto.decide` finds better, then the other
    cloud-only            the cloud or nobody

A model that cannot do what is wanted (images, tools, a schema) is passed over for one that can. A breaker that is open moves its
side out of the first place where there is another, and never bars the only way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from hybr.webapp.hybrid import abilities, auto
from hybr.webapp.hybrid.auto import AutoConfig
from hybr.webapp.hybrid.errors import CloudUnavailableError, LocalUnavailableError, RefusedError, UnknownModelError
from hybr.webapp.hybrid.hedge import Bound
from hybr.webapp.hybrid.leg import Leg
from hybr.webapp.hybrid.profile import estimate_tokens
from hybr.webapp.hybrid.scale import Scale
from hybr.webapp.hybrid.schema import said
from hybr.webapp.hybrid.types import Options

if TYPE_CHECKING:
    from hybr.webapp.hybrid.auto import Decision
    from hybr.webapp.hybrid.gate import Gate
    from hybr.webapp.hybrid.health import Health
    from hybr.webapp.hybrid.ledger import Budget
    from hybr.webapp.hybrid.local import LocalLLM
    from hybr.webapp.hybrid.modes import Modes, Remembers
    from hybr.webapp.hybrid.types import Call, Cause, Final, Message, Mode, Provider
    from hybr.webapp.runtimes.base import CloudRuntime, Emit

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
        self.budget: Budget | None = None
        self.scale = Scale(local, health, lambda model: self.cloud.price(model) if self.cloud else None)

    async def legs(self, asked: Options, only: Side, messages: tuple[Message, ...] = ()) -> list[Leg]:
        """The legs in order. Raises RefusedError, CallerError, or the LocalUnavailableError that leaves nobody to ask."""
        legs = await self._by_mode(asked, only, messages)
        legs = self._able(legs, asked, messages)
        first, *rest = legs
        if asked.hedge and rest and first.provider == "local" and first.chat and rest[0].chat:
            bound = Bound.of(self._local.profile, self._local.measured, estimate_tokens(messages))
            return [replace(first, bound=bound), *rest]
        return legs

    async def _by_mode(self, asked: Options, only: Side, messages: tuple[Message, ...]) -> list[Leg]:
        sides = await self.sides(asked.model) if asked.model else BOTH
        if only and only not in sides:
            raise UnknownModelError(f"The {only} side has no model {asked.model!r}.", field="options.model")
        mode = self._mode(asked)
        if mode == "local-only" or self._gate.policy_for(asked) == "never":
            return [await self._closed(asked, only, sides, messages)]
        if only == "local":
            return [self._only_local(asked.model, messages)]
        if only == "cloud" or (mode == "cloud-only" and "cloud" in sides):
            return [self._cloud_leg(asked, messages)]
        if self._should_wait(mode, sides):
            await self._local.settled()
        if mode == "auto" and sides == BOTH:
            return self._automatic(asked, messages)
        if self._local_first(asked, sides):
            there = asked if "cloud" in sides else replace(asked, model=None)
            return self._rescued(self._local_leg(asked.model, messages), there, messages)
        first = replace(self._cloud_leg(asked, messages), stands_in=self._stands_in(asked, sides))
        return self._local_rescue(first, messages)

    def _able(self, legs: list[Leg], asked: Options, messages: tuple[Message, ...]) -> list[Leg]:
        """The legs whose model can do what is wanted. One that cannot is passed over, and says so. Raises UnsupportedError."""
        wanted = abilities.wanted(asked, messages)
        lack = [wanted - self._abilities(leg) if leg.chat else frozenset() for leg in legs]
        if not any(lack):
            return legs
        if all(missing or leg.chat is None for leg, missing in zip(legs, lack, strict=True)):
            if prompted := self._prompted(legs, lack):
                return [prompted]
            names = [str(leg.model or "the cloud's model") for leg, missing in zip(legs, lack, strict=True) if missing]
            raise abilities.refusal(lack[0] or lack[-1], " and ".join(names), self._who_could(wanted))
        if not lack[0]:
            return legs[:1]
        return [Leg(legs[0].provider, None, legs[0].model, error=abilities.lacking(legs[0].model, lack[0])), *legs[1:]]

    def _prompted(self, legs: list[Leg], lack: list[frozenset[str]]) -> Leg | None:
        """The local leg, told of the tools in words, where it lacks no more than those and nobody else may be asked."""
        for leg, missing in zip(legs, lack, strict=True):
            if missing == {"tools"} and leg.provider == "local" and abilities.promptable(self._local.entry(leg.model)):
                return replace(leg, prompted=True)
        return None

    def _abilities(self, leg: Leg) -> frozenset[str]:
        if leg.provider == "local":
            return abilities.local(self._local.entry(leg.model))
        models = self.cloud.models() if self.cloud else []
        entry = next((one for one in models if leg.model in {None, one.get("id")}), None)
        return abilities.cloud(entry)

    def sees(self) -> dict[str, bool]:
        """Whether the local model takes pictures, and whether one that the cloud may answer with does, or is not known not to."""
        models = self._named(Options())
        there = self.cloud is not None and (not models or any("images" in abilities.cloud(one) for one in models))
        return {"local": self._local.sees(), "cloud": there}

    def _who_could(self, wanted: frozenset[str]) -> list[str]:
        """The models that could do it, wherever they are, those that are known to."""
        here = [str(one["id"]) for one in self._local.get_available_models() if wanted <= abilities.local(one)]
        there = [str(one.get("id")) for one in (self.cloud.models() if self.cloud else ()) if wanted <= abilities.cloud(one)]
        return [*here, *there]

    def _automatic(self, asked: Options, messages: tuple[Message, ...]) -> list[Leg]:
        decision = self.decide(asked, messages)
        if decision.first == "local" and self._ready_with(asked.model):
            first, *rest = self._rescued(self._local_leg(asked.model, messages), asked, messages)
        else:
            first, *rest = self._local_rescue(self._cloud_leg(asked, messages), messages)
        return [replace(first, reason=f"{first.provider}: {decision.reason}"), *rest]

    def weigh(self, asked: Options, messages: tuple[Message, ...]) -> tuple[auto.Side, auto.Side]:
        """What the local and the cloud side would be for a request."""
        wants, answer = self.scale.wants(asked, messages), asked.max_output_tokens or auto.ANSWER_TOKENS
        there, cloud = self.scale.cloud(self._named(asked), wants, answer, self.config), self.cloud
        ready = cloud is not None and cloud.available() and not self._health.open("cloud")
        return self.scale.local(wants, answer), replace(there, ready=ready)

    def decide(self, asked: Options, messages: tuple[Message, ...]) -> Decision:
        """Auto mode's choice for a request; kept in `decision` for the status."""
        here, there = self.weigh(asked, messages)
        cloud, broke = self.cloud, not self.budget_allows(there.model or None)
        self.decision = auto.decide(
            here,
            there,
            self.scale.wants(asked, messages),
            self.config,
            broke=broke,
            offline=cloud is not None and cloud.offline(),
            spent=self._health.spent(),
        )
        return self.decision

    def _named(self, asked: Options) -> list[dict[str, Any]]:
        """The cloud's models among which there is a choice for this request."""
        models = [one for one in (self.cloud.models() if self.cloud else []) if abilities.answers(one)]
        name = asked.model or self._preferences.get("cloud_model")
        return [one for one in models if one.get("id") == name] or ([] if asked.model else models)

    def _choice(self, asked: Options, messages: tuple[Message, ...]) -> str | None:
        """The cloud's model for a request; None where the server's default will do.

        Auto mode takes the one that scores best. The others take the default, but for a request that only another one can do.
        """
        models = self._named(asked)
        if asked.model or not models:
            return asked.model
        wants, answer = self.scale.wants(asked, messages), asked.max_output_tokens or auto.ANSWER_TOKENS
        first = str(models[0].get("id") or "") or None
        default = self.cloud is not None and models[0] is self.cloud.models()[0]
        if self._mode(asked) == "auto" or not self.scale.cloud(models[:1], wants, answer, self.config).able(wants):
            first = self.scale.cloud(models, wants, answer, self.config).model or first
            default = default and models[0].get("id") == first
        return None if default else first

    async def _closed(self, asked: Options, only: Side, sides: frozenset[Provider], messages: tuple[Message, ...]) -> Leg:
        """The local leg of a request that may not leave the browser."""
        why = "The mode is local-only" if self._mode(asked) == "local-only" else "The egress policy is 'never'"
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

    def _mode(self, asked: Options) -> Mode:
        """The mode that holds for a request: its own or the page's; what is closed stays closed."""
        return self._modes.mode if self._modes.mode == "local-only" or asked.mode is None else asked.mode

    def _should_wait(self, mode: Mode, sides: frozenset[Provider]) -> bool:
        """Whether the person chose to wait for the model they prefer, and it is loading."""
        wish = "local" in {self._modes.preferred, mode} and self._preferences.get("while_loading") == "wait"
        return wish and "local" in sides and self._local.is_loading()

    def _stands_in(self, asked: Options, sides: frozenset[Provider]) -> bool:
        """Whether the cloud is asked only because the model the person prefers is still loading."""
        return (asked.mode or self._modes.preferred) == "local" and sides == BOTH and self._local.is_loading()

    def _local_first(self, asked: Options, sides: frozenset[Provider]) -> bool:
        if len(sides) == 1:
            return "local" in sides
        wanted = self._mode(asked) == "local" and self._ready_with(asked.model)
        return wanted or ((asked.mode or self._modes.preferred) == "local" and self._health.owed())

    def _rescued(self, first: Leg, asked: Options, messages: tuple[Message, ...]) -> list[Leg]:
        if self.cloud is None or self.cloud.offline():
            return [first]
        if self._health.open("local"):
            first = Leg("local", None, first.model, error=self._health.refusal("local"))
        return [first, self._cloud_leg(asked, messages)]

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
            first_s, next_s = self._local.patience(estimate_tokens(messages))
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

    def budget_allows(self, model: str | None) -> bool:
        """Whether the budget allows to ask a model of the cloud: it does while it is not spent, and what costs nothing always."""
        free = self.cloud is not None and (price := self.cloud.price(model)) is not None and not any(price.values())
        return free or self.budget is None or self.budget.exceeded() is None

    def _cloud_leg(self, asked: Options, messages: tuple[Message, ...]) -> Leg:
        if self.cloud is None:
            return Leg("cloud", None, asked.model, error=CloudUnavailableError(NO_CLOUD))
        cloud, model = self.cloud, self._choice(asked, messages)
        if not self.budget_allows(model) and self.budget:
            return Leg("cloud", None, model, error=self.budget.error())

        def barred(cause: Cause) -> RefusedError | None:
            why = self._barred(asked)
            return self._gate.refused(asked.request_id, cause, why) if why else None

        async def chat(call: Call, emit: Emit) -> Final:
            if not self.budget_allows(model) and self.budget and (error := self.budget.error()):
                raise error  # it was spent by others since the plan was made
            if refusal := barred(call.cause):
                raise refusal
            return await self._gate.chat(cloud, call, emit)

        return Leg("cloud", chat, model, prefill=cloud.prefills(model), unsent=self._gate.asking, barred=barred)

    def _barred(self, asked: Options) -> str:
        """Why the cloud may not be asked any more: the person has closed the page since the plan was made."""
        if self._mode(asked) == "local-only":
            return "the mode is local-only by now"
        return "the egress policy is 'never'" if self._gate.policy_for(asked) == "never" else ""

    def _not_loaded(self, model: str | None) -> LocalUnavailableError:
        if model is None or not self._local.is_ready():
            return self._local.unavailable()
        message = f"{model} is not the local model that is loaded ({self._local.model}): LocalLLM.api.init({model!r}) first."
        return LocalUnavailableError(message, code="local_not_loaded", kind="capability")

    async def sides(self, model: str) -> frozenset[Provider]:
        """Which sides have `model`. Raises UnknownModelError when neither has."""
        sides: set[Provider] = {"local"} if await self._local.lists(model) else set()
        known = False if self.cloud is None else await self._ask_cloud(model)
        if known or (known is None and not sides):
            sides.add("cloud")
        if not sides:
            names = [entry["id"] for entry in self._local.get_available_models()]
            names += [str(entry.get("id")) for entry in (self.cloud.models() if self.cloud else ())]
            raise UnknownModelError(
                f"There is no model {said(model)}. There are: {', '.join(dict.fromkeys(names)) or 'none'}.",
                field="options.model",
            )
        return frozenset(sides)

    async def _ask_cloud(self, model: str) -> bool | None:
        """In local-only nothing goes out, not even a question about models."""
        if self.cloud is None or self._modes.mode == "local-only":
            return None
        return await self.cloud.knows(model)
