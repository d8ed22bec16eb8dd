"""What this device has shown of each local model: its rates, and how it failed. Kept in the browser, never sent.

A model is measured apart in each runtime: `key` names the pair, and every method takes that name.

Rates are exponential means (the latest request weighs ALPHA), so that a hot laptop or a busy GPU shows within a few requests.
From them follow the predicted time of an answer and how long silence is fair.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.kept import kept

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hybr.webapp.hybrid.types import Final, Message
    from hybr.webapp.runtimes.base import Storage

log = logging.getLogger(__name__)

ALPHA = 0.3
KEY = "profile"
UNKNOWN = (300.0, 120.0)  # s; the least where nothing is known, and for a software adapter: it may take seconds a token
FLOOR = (30.0, 20.0)  # s; below this no silence is worth a new worker
FAIR = (10.0, 30.0)  # how many times the predicted time is fair, before the first token and between two


@dataclass(slots=True)
class Rates:
    """Tokens per second, None until measured; `requests` that were measured; failures by code."""

    prefill_tps: float | None = None
    decode_tps: float | None = None
    requests: int = 0
    failures: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """All four."""
        return {name: getattr(self, name) for name in self.__slots__}


class DeviceProfile:
    """See the module. Without a storage it lasts as long as the page."""

    def __init__(self, storage: Storage | None = None) -> None:
        self._storage = storage
        self._models: dict[str, Rates] = _read(storage.get(KEY) if storage else None)
        if storage:
            storage.listen(KEY, lambda changed: self._models.update(_rows(changed.items())))

    def of(self, model: str) -> Rates:
        """What is known of a model; nothing measured when nothing is."""
        return self._models.get(model, Rates())

    def learn(self, model: str, final: Final) -> None:
        """Take the rates of a request that went well."""
        rates = self._models.setdefault(model, Rates())
        rates.prefill_tps = _mean(rates.prefill_tps, final.prefill_tps)
        rates.decode_tps = _mean(rates.decode_tps, final.decode_tps)
        rates.requests += 1
        self._write(model)

    def failed(self, model: str, code: str) -> None:
        """Count a failure of health."""
        failures = self._models.setdefault(model, Rates()).failures
        failures[code] = failures.get(code, 0) + 1
        self._write(model)

    def predict_s(self, model: str, prompt_tokens: int, answer_tokens: int) -> float | None:
        """Seconds until a whole answer of that length, the engine being free; None until both rates are known."""
        rates = self.of(model)
        if not rates.prefill_tps or not rates.decode_tps:
            return None
        return prompt_tokens / rates.prefill_tps + answer_tokens / rates.decode_tps

    def patience(self, model: str, prompt_tokens: int, *, software: bool = False) -> tuple[float, float]:
        """How long (s) silence is fair before the first token and between two.

        A `software` adapter computes on cores that others need too: what it was measured at says little of the next minute.
        """
        rates, floor = self.of(model), UNKNOWN if software else FLOOR
        if not rates.prefill_tps or not rates.decode_tps:
            return UNKNOWN
        first = FAIR[0] * (prompt_tokens / rates.prefill_tps + 1 / rates.decode_tps)
        return max(first, floor[0]), max(FAIR[1] / rates.decode_tps, floor[1])

    def to_dict(self) -> dict[str, Any]:
        """Everything known, by model."""
        return {model: rates.to_dict() for model, rates in self._models.items()}

    def _write(self, model: str) -> None:
        """Only this model's row: other tabs measure others."""
        if self._storage:
            kept(self._storage.assign, KEY, {model: self._models[model].to_dict()})


def key(model: str, runtime: str) -> str:
    """The name under which `model` in `runtime` is measured; in WebLLM, where all began, the model's own."""
    return model if runtime == "webgpu" else f"{model}@{runtime}"


def estimate_tokens(messages: Iterable[Message]) -> int:
    """About how many tokens a conversation has: four characters each, and four for every turn's frame; 600 for an image."""
    total = 0
    for message in messages:
        content = message.get("content") or ""
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        total += 4 + sum(len(part["text"]) // 4 if part["type"] == "text" else 600 for part in parts)
    return total


def has_images(messages: Iterable[Message]) -> bool:
    """Whether any turn holds an image."""
    return any(
        part.get("type") == "image_url"
        for message in messages
        if isinstance(message.get("content"), list)
        for part in message["content"]
    )


def _mean(before: float | None, now: float | None) -> float | None:
    if now is None or now <= 0:
        return before
    return now if before is None else before + ALPHA * (now - before)


def _read(text: str | None) -> dict[str, Rates]:
    try:
        rows = json.loads(text or "{}").items()
    except (ValueError, AttributeError):
        log.warning("the stored device profile cannot be read; measuring anew")
        return {}
    return _rows(rows)


def _rows(rows: Iterable[tuple[str, Any]]) -> dict[str, Rates]:
    """The rows that are whole; a damaged one is dropped, since a rate that is none would fail in the arithmetic."""
    models = {}
    for model, row in rows:
        try:
            models[model] = _row(**row)
        except (ValueError, TypeError):
            log.warning("what is stored of the rates of %s cannot be read; measuring anew", model)
    return models


def _row(
    prefill_tps: object = None, decode_tps: object = None, requests: object = 0, failures: Mapping[str, object] | None = None
) -> Rates:
    """One row. Raises TypeError, ValueError."""
    counts = {code: _count(count) for code, count in dict(failures or {}).items()}
    return Rates(_rate(prefill_tps), _rate(decode_tps), _count(requests), counts)


def _rate(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(value)
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(value)
    return value
