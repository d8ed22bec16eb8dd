"""Who can be trusted to answer now: a breaker per local model and one for the cloud, and what has to be told of failures.

A failure of the local model that no request has told of yet is *owed*: the first request that would have gone there tells it,
by a fallback. That is the oldest one under way that the cloud took only until the model was loaded, if there is one, else the
next. Afterwards requests simply go to the cloud, as the status says, until the model is back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.breaker import Breaker
from hybr.webapp.hybrid.errors import HybridError, LocalError, LocalUnavailableError, ProviderError
from hybr.webapp.hybrid.leg import Attempt, Leg
from hybr.webapp.hybrid.patience import Watchdog
from hybr.webapp.hybrid.profile import estimate_tokens
from hybr.webapp.hybrid.types import Call, Options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hybr.webapp.hybrid.account import Account
    from hybr.webapp.hybrid.events import EventBus
    from hybr.webapp.hybrid.local import LocalLLM
    from hybr.webapp.hybrid.patience import Attention
    from hybr.webapp.hybrid.run import Run
    from hybr.webapp.hybrid.types import Provider

log = logging.getLogger(__name__)

PROBE = ({"role": "user", "content": "Say yes."},)


class Health:
    """See the module. `runs` are the requests under way, oldest first."""

    def __init__(
        self, local: LocalLLM, events: EventBus, account: Account, runs: Mapping[str, Run], attention: Attention
    ) -> None:
        self._local = local
        self._attention = attention
        self._runs = runs
        self._account = account
        self._breakers: dict[tuple[Provider, str], Breaker] = {}
        self._failure: dict[str, Any] | None = None
        self._latest = ""
        self._announced = True
        self._probes: dict[str, asyncio.Task[None]] = {}
        events.on("local-llm:loading", lambda _: self._recovering())
        events.on("local-llm:ready", self._ready)
        events.on("local-llm:ready", lambda _: self._arrived())
        events.on("local-llm:unloaded", lambda _: self._arrived())
        events.on("local-llm:error", self._failed)
        events.on("hybrid-llm:fallback", self._told)

    # -- breakers

    def breaker(self, provider: Provider) -> Breaker:
        """The breaker of the cloud, or of the local model that is loaded or was the last to be, on its runtime."""
        key = (provider, self._latest if provider == "local" else "")
        if key not in self._breakers:
            self._breakers[key] = Breaker(clock)
        return self._breakers[key]

    def open(self, provider: Provider) -> bool:
        """Whether that side should rather not be asked; while a trial decides, nobody is to wait behind it."""
        state = self.breaker(provider).state
        return state == "open" or (state == "half-open" and provider == "local" and self._local.model in self._probes)

    def outcome(self, provider: Provider, error: Exception | None) -> None:
        """A leg ended: well, or with this error. Only failures of health count (invariant 8)."""
        breaker = self.breaker(provider)
        if error is None:
            breaker.succeeded()
        elif isinstance(error, ProviderError) and error.kind == "health":
            breaker.failed()
            if provider == "local":
                self._repair(error)

    def to_dict(self) -> dict[str, Any]:
        """`{local, cloud}`: the states, by side."""
        return {"local": self.breaker("local").state, "cloud": self.breaker("cloud").state}

    def refusal(self, provider: Provider) -> ProviderError:
        """Why that side is not asked: its breaker is open."""
        wait = self.breaker(provider).retry_in_s()
        kind = LocalUnavailableError if provider == "local" else ProviderError
        side = "local model" if provider == "local" else "cloud"
        peace = f"is left in peace for another {wait:.0f} s" if wait else "is being tried out"
        message = f"The {side} failed several times in a row and {peace}."
        return kind(message, code="breaker_open", kind="capability", retryable=True)

    def mean_seconds(self, provider: Provider, answer_tokens: int, model: str = "") -> float | None:
        """How long an answer of that length takes there, by this session's mean; None until one was had."""
        totals = self._account.models.get((provider, model)) if model else self._account.provider(provider)
        if totals is None:
            return None
        if not totals.completion_tokens or not totals.ttft_count:
            return None
        ttft = totals.ttft_sum / totals.ttft_count / 1000
        per_token = max(totals.total_time / 1000 - totals.ttft_sum / 1000, 0.0) / totals.completion_tokens
        return ttft + per_token * answer_tokens

    def mean_cost(self) -> float:
        """Dollars that an answer of the cloud has cost on average in this session."""
        totals = self._account.provider("cloud")
        return totals.cost / totals.requests if totals.requests else 0.0

    def spent(self) -> float:
        """Dollars spent in this session."""
        return self._account.provider("cloud").cost

    def _repair(self, error: ProviderError) -> None:
        """What a failure of health asks for: a new worker at once, or a trial when the breaker allows one."""
        self._renew(error)
        self._try_out()

    def _renew(self, error: HybridError) -> None:
        if isinstance(error, LocalError) and "worker" in error.reactions:
            self._local.lost(error)

    def _try_out(self) -> None:
        """Where the breaker of the model that is ready is open, have a trial decide and not a person's request."""
        model = self._local.model
        if model and self.open("local") and model not in self._probes:
            task = asyncio.get_running_loop().create_task(self._probe(model))
            self._probes[model] = task
            task.add_done_callback(lambda _: self._probes.pop(model, None))

    async def _probe(self, model: str) -> None:
        """Half-open: one tiny generation decides, again and again, until the model is well or gone."""
        breaker = self.breaker("local")
        while breaker.state != "closed":
            await asyncio.sleep(breaker.retry_in_s())
            if self._local.model != model:
                return
            try:
                await self._trial(model)
            except HybridError as error:
                log.info("%s is not well yet: %s", model, error)
                breaker.failed()
                self._renew(error)
            else:
                breaker.succeeded()

    async def _trial(self, model: str) -> None:
        """One tiny generation, watched like a request's: a worker that has died without a word would never answer it."""
        first_s, next_s = self._local.patience(estimate_tokens(PROBE))
        chat, ping = self._local.chat, self._local.ping
        leg = Leg("local", chat, model, first_s=first_s, next_s=next_s, pulse=self._local.pulse, ping=ping)
        work = asyncio.ensure_future(chat(Call("probe", PROBE, Options(max_output_tokens=1), model), lambda _: None))
        await Watchdog(Attempt(leg, clock()), self._attention).watch(work)
        work.result()

    # -- what is owed

    def owed(self) -> bool:
        """Whether the local model has failed, is not back, and no request has told so yet."""
        return self._failure is not None and not self._announced and not self._local.is_ready()

    def failure(self) -> LocalUnavailableError:
        """The failure that is owed, as an error of its own: requests must not share one, since each leaves its text in it."""
        failure = self._failure or {}
        return LocalUnavailableError(str(failure.get("message")), name=failure.get("name"), code=failure.get("code"))

    def _ready(self, detail: dict[str, Any]) -> None:
        self._latest = f"{detail['runtime']} {detail['model']}"
        self._recovering()
        self._try_out()

    def _recovering(self) -> None:
        self._announced, self._failure = False, None

    def _failed(self, detail: dict[str, Any]) -> None:
        self._failure = detail["error"]
        if self._local.is_loading() or not self.owed():
            return  # it was not the load that is waited for, or it has been told
        if run := next((run for run in self._runs.values() if run.walk.stands_in), None):
            run.walk.bereft(detail["error"])

    def _arrived(self) -> None:
        """The load that runs stood in for is over without a failure: a later one is not theirs to tell."""
        for run in self._runs.values():
            run.walk.stands_in = False

    def _told(self, detail: dict[str, Any]) -> None:
        if detail["from"] == "local":
            self._announced = True


def clock() -> float:
    """The loop's clock; outside a loop the one that loops are made of."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()
