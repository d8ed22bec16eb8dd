"""How answers went over time, for the person's own eyes: kept in this browser, sent nowhere (`telemetry` is what may be sent).

One bucket an hour, `{"<provider>|<model>": {...}, "changes": {...}, "errors": {...}}`, of counts and sums alone, so that several
tabs can add to the same bucket. A distribution is a histogram over powers of `STEP`, which gives every percentile within 5 % and
needs a few dozen small numbers however many answers there were. Model names and error codes are in it; never what was said.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hybr.webapp.hybrid.events import EventBus
    from hybr.webapp.runtimes.base import Storage

KEY = "series"
HOUR, DAY = 3_600, 86_400  # seconds
KEPT_DAYS = 92
STEP = 1.1  # a bin reaches from value / sqrt(STEP) to value * sqrt(STEP)
MEASURES = ("ttft", "total", "rate")  # ms, ms, tokens per second
SPANS = {"day": (DAY, HOUR), "week": (7 * DAY, 6 * HOUR), "month": (30 * DAY, DAY)}  # how far back, a stretch's width (s)

Bucket = dict[str, dict[str, Any]]


def bin_of(value: float) -> str:
    """The histogram bin of a positive value, as a name."""
    return str(round(math.log(value) / math.log(STEP)))


def percentile(histogram: dict[str, float], share: float) -> float | None:
    """The value under which `share` (0..1) of the counted ones lie, by nearest rank; None of an empty histogram."""
    bins = sorted((int(name), count) for name, count in histogram.items())
    left: float = math.ceil(share * sum(count for _, count in bins))
    for number, count in bins:
        left -= count
        if left <= 0:
            return float(STEP**number)
    return None


def merged(into: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Add the numbers of `other`, at any depth, to those of `into`; returns `into`."""
    for name, value in other.items():
        into[name] = merged(into.get(name) or {}, value) if isinstance(value, dict) else (into.get(name) or 0) + value
    return into


@dataclass(slots=True)
class Figures:
    """What one model did in a stretch of time."""

    provider: str
    model: str
    requests: int = 0
    tokens: int = 0
    cost: float = 0.0
    histograms: dict[str, dict[str, float]] = field(default_factory=dict)

    def of(self, measure: str, share: float) -> float | None:
        """A percentile of `ttft`, `total` (ms) or `rate` (tokens per second)."""
        return percentile(self.histograms.get(measure) or {}, share)


class Series:
    """The buckets by the hour they begin (seconds since 1970, as text)."""

    def __init__(self, storage: Storage, events: EventBus, *, now: Callable[[], float] = time.time) -> None:
        self._storage = storage
        self._now = now
        self.hours: dict[str, Bucket] = self._read()
        storage.listen(KEY, self._heard)
        events.on("hybrid-llm:complete", self._complete)
        events.on("hybrid-llm:fallback", lambda detail: self._changed("fallback", detail))
        events.on("hybrid-llm:handover", lambda detail: self._changed("handover", detail))
        events.on("hybrid-llm:stream-error", lambda detail: self._add({"errors": {_code(detail): 1}}))

    def clear(self) -> None:
        """Forget all of it, here, in the browser and in its other tabs, which hear of hours that are empty."""
        self._storage.assign(KEY, {hour: {} for hour in self.hours})
        self.hours = {}
        self._storage.set(KEY, "{}")

    def stretches(self, since: float, width: int, ahead: int = 0) -> list[tuple[int, list[Figures]]]:
        """What each model did from `since` on, by stretches of `width` seconds: `(start, figures)`, oldest first.

        `ahead`: by how many seconds the person's clock is ahead of UTC, so that a stretch of a day is a day of theirs.
        """
        sums: dict[int, Bucket] = {}
        for start, bucket in self._since(since):
            merged(sums.setdefault(start - (start + ahead) % width, {}), bucket)
        return [(start, _figures(sums[start])) for start in sorted(sums)]

    def totals(self, since: float) -> list[Figures]:
        """What each model did from `since` on, the most used first."""
        whole: Bucket = {}
        for _, bucket in self._since(since):
            merged(whole, bucket)
        return sorted(_figures(whole), key=lambda one: -one.requests)

    def counts(self, kind: str, since: float) -> dict[str, int]:
        """`changes` (`fallback:<cause>`, `handover:<cause>`) or `errors` by code, from `since` on, the most frequent first."""
        sums: dict[str, int] = {}
        for _, bucket in self._since(since):
            merged(sums, bucket.get(kind) or {})
        return dict(sorted(sums.items(), key=lambda item: -item[1]))

    def rows(self) -> list[dict[str, Any]]:
        """One row an hour and model, oldest first: what is exported."""
        return [
            {
                "hour": time.strftime("%Y-%m-%dT%H:00:00Z", time.gmtime(start)),
                "provider": one.provider,
                "model": one.model,
                "requests": one.requests,
                "tokens": one.tokens,
                "cost_usd": round(one.cost, 6),
                **{
                    f"{measure}_p{round(share * 100)}": _rounded(one.of(measure, share))
                    for measure in MEASURES
                    for share in (0.5, 0.95)
                },
            }
            for start, figures in self.stretches(0, HOUR)
            for one in figures
        ]

    def _since(self, since: float) -> Iterable[tuple[int, Bucket]]:
        return ((int(start), bucket) for start, bucket in self.hours.items() if int(start) + HOUR > since)

    def _read(self) -> dict[str, Bucket]:
        """What is stored, without what is too old; what is no series of ours counts as nothing."""
        try:
            stored = json.loads(self._storage.get(KEY) or "{}")
            hours = {str(int(start)): bucket for start, bucket in stored.items() if isinstance(bucket, dict)}
        except (ValueError, AttributeError):
            return {}
        kept = {start: bucket for start, bucket in hours.items() if int(start) > self._now() - KEPT_DAYS * DAY}
        if len(kept) < len(hours):
            self._storage.set(KEY, json.dumps(kept))
        return kept

    def _heard(self, changed: dict[str, Any]) -> None:
        """Another tab has added to these hours, or the browser tells what our own additions came to."""
        for start, bucket in changed.items():
            if bucket == {}:
                self.hours.pop(start, None)  # it was cleared there
            elif isinstance(bucket, dict) and _requests(bucket) >= _requests(self.hours.get(start) or {}):
                self.hours[start] = bucket

    def _complete(self, detail: dict[str, Any]) -> None:
        times, usage = detail["timings"], detail["usage"]
        measured = {"ttft": times.get("ttft_ms"), "total": times.get("total_ms"), "rate": times.get("decode_tps")}
        one: dict[str, Any] = {
            "requests": 1,
            "tokens": usage["prompt_tokens"] + usage["completion_tokens"],
            "cost": detail.get("cost") or 0,
        }
        one |= {name: {bin_of(value): 1} for name, value in measured.items() if value and value > 0}
        self._add({f"{detail['provider']}|{detail['model']}": one})

    def _changed(self, kind: str, detail: dict[str, Any]) -> None:
        self._add({"changes": {f"{kind}:{_code(detail)}": 1}})

    def _add(self, change: Bucket) -> None:
        hour = str(int(self._now() // HOUR * HOUR))
        merged(self.hours, {hour: change})
        self._storage.add(KEY, {hour: change})


def _figures(bucket: Bucket) -> list[Figures]:
    return [_one(name, sums) for name, sums in bucket.items() if "|" in name]


def _one(name: str, sums: dict[str, Any]) -> Figures:
    provider, _, model = name.partition("|")
    histograms = {name: sums[name] for name in MEASURES if sums.get(name)}
    return Figures(provider, model, int(sums.get("requests", 0)), int(sums.get("tokens", 0)), sums.get("cost", 0.0), histograms)


def _requests(bucket: Bucket) -> float:
    counted = [*(bucket.get("changes") or {}).values(), *(bucket.get("errors") or {}).values()]
    return float(sum(counted) + sum(sums.get("requests", 0) for name, sums in bucket.items() if "|" in name))


def _code(detail: dict[str, Any]) -> str:
    return str((detail.get("error") or {}).get("code") or "unknown")


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")
