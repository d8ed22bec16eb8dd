"""`/v1/chat/completions` and `/v1/models`: one raw ASGI endpoint between a client and whoever answers.

Two tasks a request: one relays, one waits for the client to leave; the first to end decides. That is what notices a leaving
client in every phase, for uvicorn's `send` does not raise when nobody listens any more. The upstream's connection closes
with the relay task, and with it the generation.

Bytes pass through as they come, cut only at the ends of events, so that a stream which breaks off ends in a whole event:
our error, never a made-up finish, never half a line.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from hybr.server import chat
from hybr.server.errors import HybrError, NotFoundError, RequestError, TooLargeError, UnavailableError, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from hybr.server.providers.base import Answer, Call, Provider

log = logging.getLogger("hybr.relay")

BODY = 4 * 1024 * 1024
BODY_SECONDS = 30.0  # a body that comes slower is no client of ours (uvicorn waits for ever)
EVENT = 1024 * 1024
ANSWER = 16 * 1024 * 1024
LISTED = 12  # models named in a refusal; a provider can have hundreds


class Relay:
    """The chat surface over `providers`, in the order in which their models are offered.

    `default` is the model for requests that name none, when it is not the first; `missing` says of providers that are known but
    not set up what they lack.
    """

    def __init__(self, providers: Sequence[Provider], default: str = "", missing: Mapping[str, str] | None = None) -> None:
        self.providers = providers
        self.preferred = default
        self.missing = missing or {}
        self.stopping = False
        self._working: set[asyncio.Task[None]] = set()

    def interrupt(self) -> None:
        """End what still runs, for the server stops: each client is told, none is left with half an answer that looks whole."""
        self.stopping = True
        for task in self._working:
            task.cancel()

    async def models(self, request: Request) -> JSONResponse:  # noqa: ARG002
        """Answer `/v1/models`: what can be asked for, the default first."""
        offered = [model for provider in self.providers for model in provider.models()]
        data = [model.wire() for model in sorted(offered, key=lambda model: model.id != self.preferred)]
        return JSONResponse({"object": "list", "data": data})

    async def completions(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `/v1/chat/completions`."""
        check_type(scope)
        call = chat.parse(await read_body(receive), self.default())
        provider = self.find(call.model)
        work = asyncio.create_task(self.relay(provider, call, send))
        leaving = asyncio.create_task(left(receive))
        self._working.add(work)
        try:
            await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if work.cancelled():
                raise stopped()
            if work.done():
                work.result()
        finally:
            self._working.discard(work)
            # Awaited, so that when this returns the upstream is released, whatever ended the request.
            for task in (work, leaving):
                task.cancel()
            await asyncio.gather(work, leaving, return_exceptions=True)

    async def relay(self, provider: Provider, call: Call, send: Send) -> None:
        """Pass one call's answer on. Raises HybrError only while nothing has been sent."""
        async with provider.open(call) as answer:
            if not call.stream:
                await relay_whole(answer, provider.name, send)
                return
            try:
                await relay_stream(answer, provider.name, send)
            except asyncio.CancelledError:
                if not self.stopping:  # then the client has left, and nobody reads a reason
                    raise
                await send({"type": "http.response.body", "body": event(stopped())})

    def default(self) -> str:
        """Return the model for a request that names none."""
        return self.preferred or next((model.id for provider in self.providers for model in provider.models()), "")

    def find(self, model: str) -> Provider:
        """Return who answers for `model`. Raises NotFoundError naming what there is, UnavailableError when there is nothing."""
        available = [(one.id, provider) for provider in self.providers for one in provider.models()]
        if not available:
            raise UnavailableError("no model can answer on this server now; /healthz says why", code="no_model")
        for name, provider in available:
            if name == model:
                return provider
        for provider in self.providers:
            if provider.takes(model):
                return provider
        if lacks := self.missing.get(model.partition("/")[0]):
            text = f"{model!r} cannot be asked: this server has {lacks}"
            raise NotFoundError(text, code="provider_not_configured", field="model")
        names = ", ".join([name for name, _ in available[:LISTED]] + ["..."] * (len(available) > LISTED))
        raise NotFoundError(f"no model {model!r} here; there is: {names}", code="model_not_found", field="model")


async def relay_whole(answer: Answer, provider: str, send: Send) -> None:
    """Send a plain JSON answer, once it is known to be one."""
    body = bytearray()
    async for chunk in answer.chunks:
        body += chunk
        if len(body) > ANSWER:
            raise UpstreamError("the answer is too long", code="answer_too_large", attempts=answer.attempts)
    try:
        json.loads(body)
    except ValueError as error:
        raise UpstreamError("the model's answer is not whole", code="bad_answer", attempts=answer.attempts) from error
    head = [*head_of(provider, answer), (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": bytes(body)})


async def relay_stream(answer: Answer, provider: str, send: Send) -> None:
    """Send Server-Sent Events as they come; end with the upstream's own end or with our error event."""
    head = [*head_of(provider, answer), (b"content-type", b"text/event-stream; charset=utf-8")]
    events = Events()
    await send({"type": "http.response.start", "status": 200, "headers": head})
    try:
        async for chunk in answer.chunks:
            if whole := events.feed(chunk):
                await send({"type": "http.response.body", "body": whole, "more_body": True})
            if events.failed:
                break
        events.check_end(answer.attempts)
    except HybrError as error:
        log.warning("%s: %s", provider, error.message)
        await send({"type": "http.response.body", "body": event(error), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


class Events:
    """Cuts a byte stream at the ends of its events, and knows whether it came to its proper end."""

    def __init__(self) -> None:
        self._rest = b""
        self.done = False
        self.failed = False

    def feed(self, chunk: bytes) -> bytes:
        """Return all bytes up to the end of the last whole event so far.

        The upstream's own error event is held back, and `failed` set: its text is not ours to pass on.
        Raises UpstreamError for an endless event.
        """
        held = self._rest + chunk
        end = held.rfind(b"\n\n") + 2
        if end < 2:
            if len(held) > EVENT:
                raise UpstreamError("the model sent an event without an end", code="bad_stream", attempts=1)
            self._rest = held
            return b""
        whole, self._rest = held[:end], held[end:]
        failure = whole.find(b'data: {"error"')  # never inside an event's JSON: there the quotes are escaped
        if failure >= 0:
            self.failed = True
            return whole[:failure]
        self.done = self.done or whole.endswith(b"data: [DONE]\n\n")
        return whole

    def check_end(self, attempts: int) -> None:
        """Raise UpstreamError unless the stream came to its `[DONE]`."""
        if self.failed:
            raise UpstreamError("the model failed in mid-answer", code="failed_midway", attempts=attempts)
        if not self.done:
            raise UpstreamError("the model's answer ended before its end", code="stream_cut", attempts=attempts)


def stopped() -> UnavailableError:
    """Return the error for an answer that the server's own end cut short."""
    return UnavailableError("the server is stopping", code="server_stopping")


def event(error: HybrError) -> bytes:
    """Return the error as one event. No `[DONE]` follows it."""
    return b"data: " + json.dumps(error.envelope()).encode() + b"\n\n"


def head_of(provider: str, answer: Answer) -> list[tuple[bytes, bytes]]:
    """Return the headers that say who answered and after how many tries."""
    return [(b"x-hybr-provider", provider.encode()), (b"x-hybr-attempts", str(answer.attempts).encode())]


def check_type(scope: Scope) -> None:
    """Raise unless the body is declared as JSON: a form of another site can send anything else without asking first."""
    given = dict(scope["headers"]).get(b"content-type", b"").split(b";")[0].strip().lower()
    if given != b"application/json":
        raise WrongTypeError("send Content-Type: application/json", code="wrong_type", field="Content-Type")


async def read_body(receive: Receive, limit: int = BODY) -> bytes:
    """Return the request's body. Raises TooLargeError, SlowBodyError or GoneError."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise GoneError("the client left before its request was whole", code="client_gone")
                body += message.get("body", b"")
                if len(body) > limit:
                    raise TooLargeError(f"the body is larger than {limit} bytes", code="body_too_large")
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise SlowBodyError(f"the body did not come within {BODY_SECONDS:g} s", code="slow_body") from None


async def left(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


class WrongTypeError(RequestError):
    """A body that is not declared as JSON."""

    status = 415


class SlowBodyError(RequestError):
    """A body that does not arrive."""

    status = 408


class GoneError(RequestError):
    """Nobody is there to read this; the status is nginx's for the log."""

    status = 499
