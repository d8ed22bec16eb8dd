"""The one way from a request to whoever answers it, for every surface: who asks, who may answer, what it costs, and the end.

The client's leaving cancels the task that answers, in every phase: uvicorn's `send` does not raise when nobody listens any more.
The upstream's connection closes on the way out, and with it the generation.

A stream that breaks off ends in a whole event: our error, never a made-up finish, never half a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from hybr.server import caller
from hybr.server.body import Watched, check_type, read_body
from hybr.server.errors import HybrError, NotFoundError, UnavailableError, UpstreamError
from hybr.server.exchange import DeafError, Exchange, LeftError, Pulse
from hybr.server.money.booking import Booking
from hybr.server.providers.base import Call
from hybr.server.tries import Target, Tries

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from hybr.server.caller import Caller
    from hybr.server.money.booking import Spent
    from hybr.server.providers.base import Answer, Model, Provider
    from hybr.server.secret import Secret
    from hybr.server.surfaces.base import Surface

log = logging.getLogger("hybr.relay")

ANSWER = 16 * 1024 * 1024  # characters of a plain answer
MONEY = {"spend_day", "spend_month", "price_unknown", "budget_unavailable"}  # refusals that a cheaper choice may escape
LISTED = 12  # models named in a refusal; a provider can have hundreds


class Relay:
    """The models of `providers`, in the order in which they are offered, for who asks.

    `default` is the model for requests that name none, when it is not the first; `missing` says of providers that are known but
    not set up what they lack; `fallbacks` names for a model or a provider who is asked next. `meter` lets in and books;
    `keyring` knows the callers' own keys, `sessions` whether a caller's session still stands, `prices` what models cost: where
    nobody set them up, everybody is let in and nobody has a key of their own.
    """

    def __init__(
        self,
        providers: Sequence[Provider],
        default: str = "",
        missing: Mapping[str, str] | None = None,
        fallbacks: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.providers = providers
        self.preferred = default
        self.missing = missing or {}
        self.fallbacks = fallbacks or {}
        self.meter: Any = Free()
        self.keyring: Any = None
        self.prices: Any = None
        self.sessions: Any = None
        self.tries = Tries()
        self.pulse = Pulse()
        self.stopping = False

    def interrupt(self) -> None:
        """End what still runs, for the server stops: each client is told, none is left with half an answer that looks whole."""
        self.stopping = True
        for exchange in list(self.pulse.running):
            exchange.cut(stopped())

    async def models(self, request: Request) -> JSONResponse:
        """Answer `/v1/models`: what can be asked for, the default first."""
        await self.keys_known()
        return JSONResponse({"object": "list", "data": [self.wire(model) for model in self.offered(caller.of(request.scope))]})

    async def model(self, request: Request) -> JSONResponse:
        """Answer `/v1/models/{id}`."""
        name = request.path_params["id"]
        for model in self.offered(caller.of(request.scope)):
            if model.id == name:
                return JSONResponse(self.wire(model))
        raise NotFoundError(f"no model {name[:200]!r} here", code="model_not_found", field="model")

    def wire(self, model: Model) -> dict[str, Any]:
        """Return a model with its price."""
        shown = model.wire()
        if self.prices is not None and (price := self.prices.shown(model.provider, model.id)):
            shown["pricing"] = price
        return shown

    def offered(self, who: Caller) -> list[Model]:
        """Return what `who` can ask for, the default first, what makes no answers last."""
        found = [model for provider in self.providers if self.usable(provider, who) for model in provider.models()]
        return sorted(found, key=lambda model: (model.embeds, model.id != self.preferred))

    async def keys_known(self) -> None:
        """Wait, once after the start, until it is known who has which key: the operator's must not pay for a person's calls."""
        if self.keyring is not None and not self.keyring.loaded:
            await self.keyring.ready()

    def usable(self, provider: Provider, who: Caller) -> bool:
        """Say whether `who` can ask `provider`."""
        return provider.usable(self.own_key(who, provider.name))

    def own_key(self, who: Caller, provider: str) -> Secret | None:
        """Return the caller's own key for a provider, which goes before the operator's."""
        found: Secret | None = self.keyring.find(who.owner, provider) if self.keyring is not None else None
        return found

    async def answer(self, surface: Surface, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request in a surface's words."""
        request = identity(scope)
        try:
            await self.let_in(surface, request, scope, receive, send)
        except HybrError as error:  # nothing has been sent yet
            error.request = request.decode()
            # The gateway alone repeats: what it gave up on is not for the SDKs to try again, but for a wait that somebody named.
            again = "false" if error.retry_after is None else "true"
            headers = {**error.headers(), "x-hybr-request": error.request, "x-should-retry": again}
            await JSONResponse(surface.refusal(error), status_code=error.status, headers=headers)(scope, receive, send)

    async def let_in(self, surface: Surface, request: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that may be answered. Raises HybrError only while nothing has been sent."""
        check_type(scope)
        await self.keys_known()
        who = caller.of(scope)
        call, voice = surface.read(await read_body(receive, scope=scope))
        if not call.model:
            call = Call(self.default(who), call.stream, call.body, call.key)
        targets = self.targets(call, who)
        booking, targets = await self.booked(who, call, targets)
        if booking.bound:  # or the provider's own, larger one would be paid out of money that nobody kept
            call = Call(call.model, call.stream, {**call.body, "max_tokens": booking.bound}, call.key)
        with booking:
            scope["state"]["booking"] = booking  # for the log's line
            head = [(b"x-hybr-request", request), *booking.standing]
            exchange = Exchange(send, voice, head, stream=call.stream, valid=self.sessions and self.sessions.watch(scope))
            self.pulse.add(exchange)
            with Watched(scope, receive, exchange.left):
                await self.until_left(exchange, self.relay(exchange, targets, call, booking), booking)

    async def booked(self, who: Caller, call: Call, targets: list[Target]) -> tuple[Booking, list[Target]]:
        """Return the booking and who may be asked under it: a fallback that the caller's budget does not hold is none."""
        provider, others = targets[0].provider.name, [target.model for target in targets[1:]]
        try:
            return await self.meter.book(who, call, provider, others), targets
        except HybrError as error:
            if not others or error.code not in MONEY:
                raise
            return await self.meter.book(who, call, provider), targets[:1]

    async def until_left(self, exchange: Exchange, work: Coroutine[Any, Any, None], booking: Booking) -> None:
        """Answer until the end, or until the client has left or somebody else ends it; leave nothing running."""
        try:
            await work
        except asyncio.CancelledError:
            if exchange.reason is None:  # then it is the server itself that ends this task
                raise
            exchange.calm()
            booking.failed(exchange.reason.code)
            await self.told(exchange, exchange.reason)
        finally:
            exchange.over = True
            self.pulse.remove(exchange)

    async def told(self, exchange: Exchange, reason: HybrError) -> None:
        """Tell the client of an answer that was ended from outside, in an event or in a status."""
        if isinstance(reason, LeftError):
            return
        if not exchange.begun:
            raise reason
        if not isinstance(reason, DeafError):  # who does not read cannot be told; uvicorn closes the connection
            with contextlib.suppress(OSError):
                await exchange.say(exchange.voice.failure(reason), more=False)

    async def relay(self, exchange: Exchange, targets: Sequence[Target], call: Call, booking: Booking) -> None:
        """Pass one call's answer on. Raises HybrError only while nothing has been sent."""
        try:
            async with self.tries.open(targets, call) as asked:
                name, attempts = asked.target.provider.name, asked.attempts
                booking.answered(name, asked.target.model, attempts)
                who = [(b"x-hybr-provider", name.encode()), (b"x-hybr-attempts", b"%d" % attempts)]
                try:
                    pass_on = stream if call.stream else whole
                    await pass_on(exchange, who, asked.answer, booking)
                except HybrError as error:
                    asked.target.provider.breaker.failed(error)
                    error.attempts, error.provider = attempts, name
                    raise
        except HybrError as error:
            if exchange.reason is not None or not exchange.begun:
                self.suspect(error, targets)
                raise
            log.warning("%s: %s", error.provider, error.message)
            booking.failed(error.code)
            await exchange.say(exchange.voice.failure(error), more=False)

    def suspect(self, error: HybrError, targets: Sequence[Target]) -> None:
        """Note that a caller's own key was refused."""
        if error.code == "key_refused" and self.keyring is not None:
            for target in targets:
                if target.provider.name == error.provider and target.key is not None:
                    self.keyring.suspect(target.key)

    def default(self, who: Caller) -> str:
        """Return the model for a request that names none."""
        if self.preferred:
            return self.preferred
        usable = (provider for provider in self.providers if self.usable(provider, who))
        return next((model.id for provider in usable for model in provider.models()), "")

    def targets(self, call: Call, who: Caller) -> list[Target]:
        """Return who is asked, in order. Raises NotFoundError naming what there is, UnavailableError when there is nothing."""
        provider = self.find(call.model, who)
        found = [Target(provider, call.model, self.own_key(who, provider.name))]
        for name in self.fallbacks.get(call.model) or self.fallbacks.get(provider.name, ()):
            with contextlib.suppress(HybrError):  # a fallback that this caller cannot ask is none
                model, other = self.fallback(name, who)
                found.append(Target(other, model, self.own_key(who, other.name)))
        return found

    def fallback(self, name: str, who: Caller) -> tuple[str, Provider]:
        """Return a model and who answers for it; a provider's bare name stands for its first model."""
        for provider in self.providers:
            if provider.name == name and self.usable(provider, who):
                return next(iter(provider.models())).id, provider
        return name, self.find(name, who)

    def find(self, model: str, who: Caller) -> Provider:
        """Return who answers for `model`."""
        for provider in self.providers:
            if provider.takes(model) and self.usable(provider, who):
                return provider
        offered = self.offered(who)
        if not offered:
            raise UnavailableError("no model can answer on this server now; /healthz says why", code="no_model")
        if lacks := self.missing.get(model.partition("/")[0]):
            text = f"{model!r} cannot be asked: this server has {lacks}"
            raise NotFoundError(text, code="provider_not_configured", field="model")
        listed = ", ".join([one.id for one in offered[:LISTED]] + ["..."] * (len(offered) > LISTED))
        raise NotFoundError(f"no model {model!r} here; there is: {listed}", code="model_not_found", field="model")


class Free:
    """The books of a server that keeps none: everybody is let in, and nothing is known to cost anything."""

    clock = staticmethod(time.monotonic)

    async def book(self, who: Caller, call: Call, provider: str = "", others: Sequence[str] = ()) -> Booking:  # noqa: ARG002
        """Return a booking."""
        return Booking(self, who, call.model, stream=call.stream, hold=None)

    def price(self, booking: Booking, spent: Spent) -> int | None:  # noqa: ARG002
        """Say that no price is known."""
        return None

    def record(self, booking: Booking) -> None:
        """Note nothing."""

    def end(self, booking: Booking) -> None:
        """Give nothing back."""


async def stream(exchange: Exchange, who: list[tuple[bytes, bytes]], answer: Answer, booking: Booking) -> None:
    """Send an answer as it comes, then its end and what it cost."""
    await exchange.begin(who)
    voice = exchange.voice
    async for chunks in answer.chunks:
        booking.first()
        booking.pieces += len(chunks)
        if data := voice.events(chunks):
            await exchange.say(data)
    await exchange.say(voice.closing(answer.ending, spent(answer, booking)), more=False)


async def whole(exchange: Exchange, who: list[tuple[bytes, bytes]], answer: Answer, booking: Booking) -> None:
    """Send an answer in one piece."""
    found: list[dict[str, Any]] = []
    size = 0
    async for chunks in answer.chunks:
        booking.first()
        booking.pieces += len(chunks)
        found += chunks
        size += sum(length(chunk) for chunk in chunks)
        if size > ANSWER:
            raise UpstreamError("the answer is too long", code="answer_too_large", attempts=answer.attempts)
    await exchange.whole(who, exchange.voice.plain(found, answer.ending, spent(answer, booking)))


def length(chunk: dict[str, Any]) -> int:
    """Return about how many characters a chunk holds."""
    return sum(len(str(value)) for choice in chunk.get("choices", ()) for value in choice["delta"].values())


def spent(answer: Answer, booking: Booking) -> dict[str, Any] | None:
    """Book what the answer used, and return the usage with what it cost."""
    usage = answer.ending.usage
    if usage is None:
        return None
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    booking.usage(usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0), cached, usage.get("cost"))
    cost = booking.cost
    return usage if cost is None else {**usage, "cost": cost}


def stopped() -> UnavailableError:
    """Return the error for an answer that the server's own end cut short."""
    return UnavailableError("the server is stopping", code="server_stopping")


def identity(scope: Scope) -> bytes:
    """Return the request's id: the door's, or a new one."""
    given = scope["state"].get("request") if "state" in scope else None
    return str(given).encode() if given else secrets.token_hex(8).encode()
