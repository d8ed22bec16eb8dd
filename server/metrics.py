"""`/metrics` in Prometheus's text form, out of dictionaries: what a client library would cost on the relay's path, it need not.

Labels are bounded: providers and models that the server knows, and error codes, which are ours; beyond MOST of a kind, "other".
Who may read: whoever has the metrics token (`HYBR_METRICS_TOKEN`), an administrator, and on a server for one person any
program of this machine. With accounts a proxy makes everybody look like this machine, so there only the first two.
"""

from __future__ import annotations

import bisect
import hmac
import ipaddress
import resource
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from hybr.server.errors import UnauthorizedError
from hybr.server.money.booking import NANO

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from starlette.requests import Request

    from hybr.server.money.booking import Booking
    from hybr.server.secret import Secret

MOST = 200  # different models, providers or codes that are told apart
SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
BREAKER = {"closed": 0, "half-open": 1, "open": 2}
TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[str, ...]


class Histogram:
    """Counts by upper bound, for one set of labels each."""

    def __init__(self) -> None:
        self.counts: dict[str, list[int]] = {}
        self.sums: dict[str, float] = {}

    def observe(self, label: str, seconds: float) -> None:
        """Count one."""
        counts = self.counts.get(label) or self.counts.setdefault(label, [0] * (len(SECONDS) + 1))
        counts[bisect.bisect_left(SECONDS, seconds)] += 1
        self.sums[label] = self.sums.get(label, 0.0) + seconds

    def lines(self, name: str) -> Iterator[str]:
        """Yield its samples."""
        for label, counts in self.counts.items():
            total = 0
            for bound, count in zip((*SECONDS, float("inf")), counts, strict=True):
                total += count
                shown = "+Inf" if bound == float("inf") else f"{bound:g}"
                yield f'{name}_bucket{{provider="{label}",le="{shown}"}} {total}'
            yield f'{name}_sum{{provider="{label}"}} {self.sums[label]:.6f}'
            yield f'{name}_count{{provider="{label}"}} {total}'


@dataclass(slots=True)
class Side:
    """What one provider's answers used; `cost` in nano-dollars, `prompt` without what was cached."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    cost: int = 0
    retries: int = 0


class Metrics:
    """The counters. `known` says whether a model may be named; `gauges` are asked when somebody reads."""

    def __init__(self, known: Callable[[str], bool]) -> None:
        self.known = known
        self.answers: Counter[Labels] = Counter()
        self.errors: Counter[Labels] = Counter()
        self.sides: dict[str, Side] = {}
        self.refused: Counter[Labels] = Counter()
        self.latency = Histogram()
        self.first = Histogram()
        self.began = time.time()

    def take(self, booking: Booking) -> None:
        """Count an answer that is over."""
        provider, spent = self.bounded(booking.provider or "none", self.latency.counts), booking.spent
        model = booking.model or booking.requested
        model = model if self.known(model) else "other"
        self.answers[provider, model, "ok" if booking.kind is None else "error"] += 1
        if booking.kind is not None:
            self.errors[provider, booking.kind if len(self.errors) < MOST else "other"] += 1
        side = self.sides.get(provider) or self.sides.setdefault(provider, Side())
        if booking.attempts > 1:
            side.retries += booking.attempts - 1
        now = booking.books.clock()
        self.latency.observe(provider, now - booking.began)
        if booking.first_at is not None:
            self.first.observe(provider, booking.first_at - booking.began)
        if spent is not None:
            side.prompt += spent.prompt - spent.cached
            side.cached += spent.cached
            side.completion += spent.completion
            side.cost += spent.cost or 0

    @staticmethod
    def bounded(label: str, there: Mapping[str, Any]) -> str:
        """Return a label, or "other" when there are enough."""
        return label if label in there or len(there) < MOST else "other"

    def refuse(self, code: str) -> None:
        """Count a request that a limit refused."""
        self.refused[code,] += 1

    def text(self, gauges: Mapping[str, float], breakers: Mapping[str, str]) -> str:
        """Return the whole exposition."""
        sides = self.sides.items()
        tokens: dict[Labels, float] = {
            (name, kind): getattr(one, kind) for name, one in sides for kind in ("prompt", "cached", "completion")
        }
        cost: dict[Labels, float] = {(name,): one.cost / NANO for name, one in sides}
        retries: dict[Labels, float] = {(name,): one.retries for name, one in sides}
        kinds: list[tuple[str, str, str, Labels, Mapping[Labels, float]]] = [
            ("requests_total", "counter", "Answers that are over.", ("provider", "model", "outcome"), self.answers),
            ("errors_total", "counter", "Answers that failed, by error code.", ("provider", "code"), self.errors),
            ("tokens_total", "counter", "Tokens used.", ("provider", "kind"), tokens),
            ("cost_usd_total", "counter", "What the answers cost, as far as prices are known.", ("provider",), cost),
            ("retries_total", "counter", "Requests repeated to a provider.", ("provider",), retries),
            ("limits_refused_total", "counter", "Requests that a limit refused.", ("limit",), self.refused),
            (
                "breaker_state",
                "gauge",
                "0 closed, 1 half-open, 2 open.",
                ("provider",),
                {(name,): BREAKER.get(state, 2) for name, state in breakers.items()},
            ),
        ]
        out = [line for name, kind, told, labels, values in kinds for line in samples(f"hybr_{name}", kind, told, labels, values)]
        for name, told, histogram in (
            ("hybr_request_seconds", "From the request to the answer's end.", self.latency),
            ("hybr_first_token_seconds", "From the request to the first piece of text.", self.first),
        ):
            out += [f"# HELP {name} {told}", f"# TYPE {name} histogram", *histogram.lines(name)]
        out += [
            line
            for name, value in {**gauges, **self.process()}.items()
            for line in samples(name, kind_of(name), "", (), {(): value})
        ]
        return "\n".join(out) + "\n"

    def process(self) -> dict[str, float]:
        """Return what every exporter says of its process."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        found = {"process_cpu_seconds_total": usage.ru_utime + usage.ru_stime, "process_start_time_seconds": self.began}
        try:
            with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  one read, no path to build
                found["process_resident_memory_bytes"] = int(file.read().split()[1]) * resource.getpagesize()
        except OSError:  # no Linux
            pass
        return found


def kind_of(name: str) -> str:
    """Return the type of a sample without labels."""
    return "counter" if name.endswith("_total") else "gauge"


def samples(name: str, kind: str, told: str, labels: Labels, values: Mapping[Labels, float]) -> Iterator[str]:
    """Yield one metric's lines."""
    if told:
        yield f"# HELP {name} {told}"
    yield f"# TYPE {name} {kind}"
    for key, value in sorted(values.items()):
        inside = ",".join(f'{label}="{escaped(word)}"' for label, word in zip(labels, key, strict=True))
        yield f"{name}{{{inside}}} {value}" if inside else f"{name} {value}"


def escaped(word: str) -> str:
    """Return a label's value as the format wants it."""
    return word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Exposition:
    """The route. `gauges` and `breakers` are read at each scrape; `admin` says whether an administrator asks."""

    def __init__(
        self,
        metrics: Metrics,
        gauges: Callable[[], Mapping[str, float]],
        breakers: Callable[[], Iterable[tuple[str, str]]],
        admin: Callable[[Request], Awaitable[bool]],
        token: Secret | None,
        *,
        alone: bool,
    ) -> None:
        self.metrics = metrics
        self.gauges = gauges
        self.breakers = breakers
        self.admin = admin
        self.token = token
        self.alone = alone

    async def show(self, request: Request) -> Response:
        """Answer GET. Raises UnauthorizedError, the same for every reason."""
        if not (self.scraper(request) or await self.admin(request)):
            raise UnauthorizedError
        return Response(self.metrics.text(self.gauges(), dict(self.breakers())), media_type=TYPE)

    def scraper(self, request: Request) -> bool:
        """Say whether the request brings the metrics token, or comes from this machine to a server for one person on it."""
        given = [value for name, value in request.scope["headers"] if name == b"authorization"]
        if self.token is not None and len(given) == 1:
            return hmac.compare_digest(given[0], b"Bearer " + self.token.reveal().encode())
        host = request.client.host if request.client else ""
        try:
            return self.alone and not given and ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False
