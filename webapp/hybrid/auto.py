"""Auto mode: who should answer this request, and why, in one line that a person can read.

Rules come first, in this order; the first that speaks decides:
    nothing to choose   only one side can answer now
    offline             the browser has no network
    modality            images or tools that only one side understands
    schema              likewise
    context             a prompt that only one side's window holds
    budget              the budget is spent: no more paid answers
    time                the local model would take longer than `max_wait_s`, by what this device has shown
Otherwise a score: weights for speed, cost, privacy and quality, each side's measure of each between 0 and 1; `priority` breaks
ties. Among several models of the cloud the same score decides, after those that cannot do it are left out; `upstreams` breaks
ties. A private request has no choice, and no decision is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.errors import OptionError
from hybr.webapp.hybrid.schema import finite

if TYPE_CHECKING:
    from hybr.webapp.hybrid.types import Provider

ANSWER_TOKENS = 200  # expected where the caller set no limit
HALF_SPEED_S = 10.0  # an answer that takes so long scores half for speed
HALF_COST = 0.01  # dollars; likewise for cost
TIE = 0.02
MOST = 1e9  # of any setting: sums and products of such stay numbers
SPELT = {"images": "images", "tools": "tools", "schema": "a JSON schema"}


@dataclass(frozen=True)
class AutoConfig:
    """What a person may tune. Weights are relative; `quality` is 0 to 1 by side or by model; `budget` in dollars a session.

    `upstreams` are names of models or of their owners, the one preferred among equals first.
    """

    weights: dict[str, float] = field(default_factory=lambda: {"speed": 1.0, "cost": 0.5, "privacy": 0.5, "quality": 1.0})
    priority: tuple[Provider, ...] = ("local", "cloud")
    upstreams: tuple[str, ...] = ()
    quality: dict[str, float] = field(default_factory=lambda: {"local": 0.5, "cloud": 0.7})
    max_wait_s: float = 30.0
    budget: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As `configure` takes it."""
        return {**asdict(self), "priority": list(self.priority), "upstreams": list(self.upstreams)}


@dataclass(frozen=True)
class Side:
    """One side of a choice.

    `seconds` until a whole answer (None: unknown), `cost` in dollars, `context` in tokens (0: unknown).
    """

    model: str = ""
    ready: bool = True
    seconds: float | None = None
    cost: float = 0.0
    context: int = 0
    images: bool = False
    tools: bool = False
    schema: bool = True
    owner: str = ""

    def able(self, wants: Wants) -> bool:
        """Whether it can do it at all, and its window holds it."""
        can = all(getattr(self, what) or not getattr(wants, what) for what in ("images", "tools", "schema"))
        return can and not (self.context and wants.tokens > self.context)


@dataclass(frozen=True)
class Wants:
    """What the request needs."""

    tokens: int = 0
    images: bool = False
    tools: bool = False
    schema: bool = False


@dataclass(frozen=True)
class Decision:
    """Who goes first, and why."""

    first: Provider
    reason: str


def configure(config: AutoConfig, change: object) -> AutoConfig:
    """The config with some fields changed. Raises OptionError naming the field."""
    if not isinstance(change, Mapping):
        raise OptionError("the auto config must be an object.", field="auto")
    known = config.to_dict()
    for name, value in change.items():
        if name not in known:
            raise OptionError(f"auto.{name} is not a setting. There are: {', '.join(known)}.", field=f"auto.{name}")
        config = replace(config, **{name: _checked(name, value, known[name])})
    return config


def _checked(name: str, value: Any, known: Any) -> Any:
    if name == "priority":
        if not isinstance(value, list | tuple) or list(value) not in (["cloud", "local"], ["local", "cloud"]):
            raise OptionError("auto.priority must list 'local' and 'cloud' in the order you prefer.", field="auto.priority")
        return tuple(value)
    if name == "upstreams":
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) and one for one in value):
            raise OptionError("auto.upstreams must list names of models or of their owners.", field="auto.upstreams")
        return tuple(value)
    if name in {"weights", "quality"}:
        if not isinstance(value, Mapping) or not all(isinstance(one, str) and _number(value[one]) for one in value):
            raise OptionError(f"auto.{name} must be an object of numbers, from 0 to {MOST:g}.", field=f"auto.{name}")
        if name == "weights" and not set(value) <= set(known):
            raise OptionError(f"auto.weights has {', '.join(known)} only.", field="auto.weights")
        return {**known, **value}
    if value is None and name == "budget":
        return None
    if not _number(value):
        raise OptionError(f"auto.{name} must be a number from 0 to {MOST:g}.", field=f"auto.{name}")
    return value


def _number(value: object) -> bool:
    return finite(value) and 0 <= value <= MOST


def decide(
    local: Side, cloud: Side, wants: Wants, config: AutoConfig, *, offline: bool = False, spent: float = 0.0, broke: bool = False
) -> Decision:
    """Who goes first. `spent` in this session; `broke`: the person's own budget for a month or a session is spent."""
    return _rules(local, cloud, wants, config, offline=offline, spent=spent, broke=broke) or _score(local, cloud, config)


def among(models: Sequence[Side], wants: Wants, config: AutoConfig) -> Side | None:
    """The best of the cloud's models for a request: of those that can, the one that scores best; None when there is none."""
    able = [side for side in models if side.able(wants)] or list(models)
    if not able:
        return None
    best = max(_value(side, "cloud", config) for side in able)
    near = [side for side in able if best - _value(side, "cloud", config) <= TIE]
    return min(near, key=lambda side: _rank(side, config.upstreams))


def _rank(side: Side, preferred: tuple[str, ...]) -> int:
    return next((place for place, name in enumerate(preferred) if name in {side.model, side.owner}), len(preferred))


def _rules(
    local: Side, cloud: Side, wants: Wants, config: AutoConfig, *, offline: bool, spent: float, broke: bool
) -> Decision | None:
    if not local.ready:
        return Decision("cloud", "no local model is ready")
    if offline:
        return Decision("local", "the browser is offline")
    if not cloud.ready:
        return Decision("local", "the cloud cannot be asked now")
    for what in ("images", "tools", "schema"):
        if getattr(wants, what) and getattr(local, what) != getattr(cloud, what):
            able: Provider = "local" if getattr(local, what) else "cloud"
            return Decision(able, f"only the {able} model takes {SPELT[what]}")
    if local.context and wants.tokens > local.context:
        return Decision("cloud", f"about {wants.tokens} tokens are more than the local model's window of {local.context}")
    if cloud.context and wants.tokens > cloud.context:
        return Decision("local", f"about {wants.tokens} tokens are more than the cloud model's window of {cloud.context}")
    if broke:
        return Decision("local", "the budget is spent")
    if config.budget is not None and spent >= config.budget and cloud.cost > 0:
        return Decision("local", f"the budget of ${config.budget:.2f} is spent")
    if local.seconds is not None and local.seconds > config.max_wait_s and (cloud.seconds or 0.0) < local.seconds:
        return Decision("cloud", f"here it would take about {local.seconds:.0f} s, longer than {config.max_wait_s:g} s")
    return None


def _score(local: Side, cloud: Side, config: AutoConfig) -> Decision:
    scores: dict[Provider, float] = {"local": _value(local, "local", config), "cloud": _value(cloud, "cloud", config)}
    if abs(scores["local"] - scores["cloud"]) <= TIE:
        return Decision(config.priority[0], f"both score {scores['local']:.2f}; {config.priority[0]} is preferred")
    first: Provider = "local" if scores["local"] > scores["cloud"] else "cloud"
    other: Provider = "cloud" if first == "local" else "local"
    return Decision(first, f"{first} scores {scores[first]:.2f} against {scores[other]:.2f} for {other}")


def _value(side: Side, provider: Provider, config: AutoConfig) -> float:
    """The weighted mean of the measures."""
    measures = {
        "speed": 0.5 if side.seconds is None else HALF_SPEED_S / (HALF_SPEED_S + side.seconds),
        "cost": HALF_COST / (HALF_COST + side.cost),
        "privacy": 1.0 if provider == "local" else 0.0,
        "quality": min(config.quality.get(side.model, config.quality.get(provider, 0.5)), 1.0),
    }
    total = sum(config.weights.values()) or 1.0
    return sum(config.weights.get(name, 0.0) * measure for name, measure in measures.items()) / total
