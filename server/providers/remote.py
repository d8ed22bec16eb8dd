"""A provider behind a network: one `Upstream` of the configuration, spoken to in its dialect over aiohttp.

The destination is the configuration's and nobody else's: redirects are not followed, proxies of the environment are not used, no
header of the answer goes to the client. The provider is always asked for a stream, so that leaving cancels it in every phase.
A request is repeated in one case only: it was put on a kept connection that the provider had closed meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from hybr.server import egress
from hybr.server.errors import DeniedError, HybrError, NotFoundError, SlowUpstreamError, UpstreamError
from hybr.server.money import estimate
from hybr.server.providers.base import Answer, Call, Model
from hybr.server.providers.breaker import Breaker
from hybr.server.providers.dialect import Stream, spent
from hybr.server.providers.known import filled
from hybr.server.providers.refusals import refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from hybr.server.providers.dialect import Dialect, Question
    from hybr.server.secret import Secret
    from hybr.server.upstreams import Upstream

log = logging.getLogger("hybr.upstream")

REFUSAL = 64 * 1024  # bytes of an error's body that are looked at
LISTING = 8 * 1024 * 1024
ANSWER = 64 * 1024 * 1024  # bytes of one streamed answer
FRESH = 3600.0  # seconds between looks at a provider's list of models
ATTEMPTS = 3
PARTING = 0.25  # seconds in which the rest of a whole answer comes, or its connection is not kept
AGAIN = 60.0  # after a look that failed


@dataclass(frozen=True)
class Patience:
    """Seconds we wait: for a connection, the first byte, between two reads, for the whole answer, for a list of models."""

    connect: float = 10
    first: float = 120
    idle: float = 60
    total: float = 900
    listing: float = 15


@dataclass
class Remote:
    """The provider. `problem` says what went wrong last, empty when it answered; `suspect` that its key was refused."""

    upstream: Upstream
    dialect: Dialect
    patience: Patience = field(init=False)
    breaker: Breaker = field(default_factory=Breaker)
    problem: str = ""
    suspect: bool = False
    _known: Sequence[Model] = ()
    _session: aiohttp.ClientSession | None = None
    _watch: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.patience = Patience(**self.upstream.timeouts)

    @property
    def name(self) -> str:
        """The name that its models' ids begin with."""
        return self.upstream.name

    @property
    def retries(self) -> int:
        """How often a call that failed before its first byte is repeated."""
        return self.upstream.retries

    def usable(self, key: Secret | None) -> bool:
        """Say whether there is a key, where one is wanted."""
        return key is not None or self.upstream.key is not None or not self.upstream.wants_key

    def models(self) -> Sequence[Model]:
        """Return the configured models, else the provider's own list, else the one default; the default first."""
        own = [self._model(name) for name in self.upstream.models]
        default = self.upstream.default
        found = own or list(self._known) or ([self._model(default)] if default else [])
        return sorted(found, key=lambda model: model.id != f"{self.name}/{default}")

    def takes(self, model: str) -> bool:
        """Say whether the id is one of ours: also one that no list has, for lists lag behind."""
        return model.startswith(f"{self.name}/")

    def _model(self, name: str) -> Model:
        known = {model.id: model for model in self._known}
        return known.get(f"{self.name}/{name}") or filled(self.dialect.model(name))

    def report(self) -> dict[str, Any]:
        """Return what `/api/providers` says. No address: it can name a machine of the operator's network."""
        available = not self.suspect and self.usable(None)
        return {
            "name": self.name,
            "kind": self.upstream.kind,
            "available": available,
            "reason": self.problem or None,
            "models": len(self.models()),
            "breaker": self.breaker.state,
        }

    def start(self) -> None:
        """Begin to keep the list of models."""
        self._watch = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """End the watching and the connections."""
        if self._watch:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        if self._session:
            await self._session.close()

    async def _keep(self) -> None:
        if self.usable(None):  # without a key there is no list
            while True:  # noqa: ASYNC110  a clock, not a condition
                await asyncio.sleep(FRESH if await self.refresh() else AGAIN)

    async def refresh(self) -> bool:
        """Read the provider's list of models and say whether that worked."""
        try:
            async with asyncio.timeout(self.patience.listing):
                body = await self._list()
            self._known = [filled(model) for model in self.dialect.listed(body) if len(model.id) < 200]
        except (HybrError, TimeoutError, aiohttp.ClientError, KeyError, TypeError, ValueError, AttributeError) as error:
            self._note(error if isinstance(error, HybrError) else UpstreamError(f"{self.name} gives no list", code="no_list"))
            return False
        self.problem, self.suspect = "", False
        return True

    async def _list(self) -> Any:
        headers = self._headers()
        async with self._http().get(self._url(self.dialect.listing), headers=headers, allow_redirects=False) as response:
            raw = await bounded(response, LISTING)
            if response.status != 200:
                raise refusal(self.name, response.status, response.headers, raw[:REFUSAL], self.upstream.key)
        return json.loads(raw)

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[Answer]:
        """Send `call`; see `Provider.open`."""
        model = call.model.removeprefix(f"{self.name}/")
        if not self.upstream.fits(model):
            raise NotFoundError(f"{self.name} cannot have a model of that name", code="model_not_found", field="model")
        reading = Reading(Stream(self.name, self.dialect.reader(f"{self.name}/{model}")), self.patience)
        try:
            yield await (self._embed if "input" in call.body else self._chat)(call, model, reading)
        except UpstreamError as error:
            if call.key is None:
                self._note(error)
            raise
        finally:
            await reading.part()

    async def _chat(self, call: Call, model: str, reading: Reading) -> Answer:
        await self._send(self.dialect.question(call, model), reading, call.key)
        self._check(reading.response)
        first = await reading.first()
        self._well(call)
        return Answer(reading.chunks(first), reading.stream.reader, reading.attempts)

    async def _embed(self, call: Call, model: str, reading: Reading) -> Answer:
        reader = reading.stream.reader
        await self._send(self.dialect.embedding(call, model), reading, call.key)
        try:
            check_encoding(self.name, reading.response)
            with reading.failures():
                async with asyncio.timeout_at(reading.deadline_first):
                    raw = await bounded(reading.response, ANSWER)
            vectors, tokens = self.dialect.embedded(json.loads(raw))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            raise UpstreamError(f"{self.name}'s vectors cannot be read", code="bad_answer", attempts=1) from None
        if len(vectors) != len(call.body["input"]):
            raise UpstreamError(f"{self.name} sent another number of vectors", code="bad_answer", attempts=1)
        self._well(call)
        reader.finish = "stop"
        reader.usage = spent(tokens or sum(estimate.length(str(text)) for text in call.body["input"]), 0)
        return Answer(one({"vectors": vectors}), reader, reading.attempts)

    def _well(self, call: Call) -> None:
        """Note that it answered; of the operator's key a person's own says nothing."""
        if call.key is None:
            self.problem, self.suspect = "", False

    async def _send(self, question: Question, reading: Reading, own: Secret | None) -> None:
        """Ask, and leave the response in `reading`. Raises unless its status is 200."""
        url, body = self._url(question.path, beta=question.beta), json.dumps(question.body).encode()
        headers = {**self._headers(own), "content-type": "application/json"}
        with reading.failures():
            async with asyncio.timeout_at(reading.deadline_first):
                reading.response = response = await self._post(url, body, headers, reading)
                if response.status != 200:
                    raw = await bounded(response, REFUSAL)
                    raise refusal(self.name, response.status, response.headers, raw, own or self.upstream.key)

    async def _post(self, url: URL, body: bytes, headers: dict[str, str], reading: Reading) -> aiohttp.ClientResponse:
        """Return the response's head. A kept connection that ends before a byte was closed before it got our request."""
        while True:
            try:
                return await self._http().post(url, data=body, headers=headers, allow_redirects=False)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not egress.reused() or reading.attempts >= ATTEMPTS:
                    raise
                reading.attempts += 1

    def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raise unless the answer is a stream of events."""
        check_encoding(self.name, response)
        kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "text/event-stream":
            raise UpstreamError(f"{self.name} did not answer with a stream", code="bad_answer", attempts=1)

    def _headers(self, own: Secret | None = None) -> dict[str, str]:
        return {**self.dialect.headers(own or self.upstream.key), "accept-encoding": "identity", "user-agent": "hybr"}

    def _url(self, path: str, *, beta: bool = False) -> URL:
        base = f"{self.upstream.base_url.removesuffix('/v1')}/beta" if beta else self.upstream.base_url
        query = f"{'&' if '?' in path else '?'}{self.upstream.query}" if self.upstream.query else ""
        return URL(f"{base}{path}{query}", encoded=True)  # as written: yarl would take a quoted mark for a plain one

    def _note(self, error: HybrError) -> None:
        """Keep what went wrong for the operator: our own words only."""
        self.problem = error.message
        self.suspect = self.suspect or error.code == "key_refused"
        log.warning("%s: %s", self.name, error.code)

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=egress.connector(self.upstream.base_url, private=self.upstream.private),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.patience.connect),
                trust_env=False,
                auto_decompress=False,
                read_bufsize=64 * 1024,
            )
        return self._session


class Reading:
    """One answer being read, with its clock.

    Reading has one timer, looked at when it rings: each wait only moves the moment until which it may last.
    """

    response: aiohttp.ClientResponse

    def __init__(self, stream: Stream, patience: Patience) -> None:
        self.loop = asyncio.get_running_loop()
        now = self.loop.time()
        self.stream = stream
        self.patience = patience
        self.deadline_first = self.until = now + patience.first
        self.deadline = now + patience.total
        self.begun = False
        self.attempts = 1
        self.size = 0
        self._timer: asyncio.TimerHandle | None = None

    def failures(self) -> Failures:
        """Return a context in which the network's failures become ours."""
        return Failures(self)

    async def first(self) -> list[dict[str, Any]]:
        """Return the first chunks. Raises UpstreamError for a stream that fails before it says anything."""
        self._timer = self.loop.call_at(self.until, self._look)
        with self.failures():
            while not (out := await self._step()) and not self.stream.over:
                pass
        self.begun = True
        return out

    async def chunks(self, first: list[dict[str, Any]]) -> AsyncIterator[list[dict[str, Any]]]:
        """Yield the answer as it comes. Raises UpstreamError when it breaks off."""
        yield first
        idle, clock, failures = self.patience.idle, self.loop.time, self.failures()
        while not self.stream.over:
            if self.stream.failure:
                raise self.stream.failure
            self._wait(clock() + idle)
            with failures:
                out = await self._step()
            self.until = self.deadline  # a client that takes its time is not the provider's silence
            if out:
                yield out

    async def part(self) -> None:
        """Give the connection back after a whole answer; cut it after any other, and with it the generation.

        aiohttp keeps a connection only when it has seen the end of the body, which can be a packet behind the answer's.
        """
        if self._timer:
            self._timer.cancel()
        response = getattr(self, "response", None)
        if response is None:
            return
        if self.stream.over and not response.content.at_eof():
            with suppress(TimeoutError, aiohttp.ClientError, OSError):
                async with asyncio.timeout(PARTING):
                    while await response.content.readany():
                        pass
        if not response.content.at_eof():
            response.close()
        response.release()

    async def _step(self) -> list[dict[str, Any]]:
        piece = await self.response.content.readany()
        self.size += len(piece)
        if self.size > ANSWER:
            raise UpstreamError(f"{self.stream.name}'s answer is too long", code="answer_too_large", attempts=1)
        out = self.stream.feed(piece) if piece else self.stream.end()
        if self.stream.failure and not out:
            raise self.stream.failure
        return out

    def _wait(self, moment: float) -> None:
        """Begin a wait that may last until `moment`. The timer is moved only when it would ring later, which is rare."""
        self.until = min(moment, self.deadline)
        assert self._timer is not None  # noqa: S101  for mypy: `first` comes first
        if self._timer.when() > self.until:
            self._timer.cancel()
            self._timer = self.loop.call_at(self.until, self._look)

    def _look(self) -> None:
        """End a wait that has lasted too long; else come again when it would have."""
        if self.loop.time() >= self.until:
            self.response.content.set_exception(TimeoutError())
        else:
            self._timer = self.loop.call_at(self.until, self._look)


class Failures:
    """Turns what the network raises into our errors; their texts name the provider and no address."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        name, begun = self.reading.stream.name, self.reading.begun
        if isinstance(error, TimeoutError):
            what, code = ("stopped in mid-answer", "stream_stalled") if begun else ("did not answer in time", "timeout")
            raise SlowUpstreamError(f"{name} {what}", code=code, attempts=1) from None
        if isinstance(error, aiohttp.ClientSSLError):
            raise DeniedError(f"{name}'s certificate is not to be trusted", code="bad_certificate", attempts=1) from None
        if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, egress.PrivateAddressError):
            raise DeniedError(f"{name}'s name leads into a private network", code="private_address", attempts=1) from None
        if isinstance(error, aiohttp.ClientConnectorError):
            raise UpstreamError(f"{name} cannot be reached", code="unreachable", attempts=1) from None
        if isinstance(error, aiohttp.ClientError | OSError | ValueError):
            what, code = ("'s answer was cut off", "stream_cut") if begun else (" broke the connection", "connection_broken")
            raise UpstreamError(f"{name}{what}", code=code, attempts=1) from None


async def one(chunk: dict[str, Any]) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield an answer that came in one piece."""
    yield [chunk]


def check_encoding(name: str, response: aiohttp.ClientResponse) -> None:
    """Raise for a compressed body: none was asked for, and a small one can unfold into gigabytes."""
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UpstreamError(f"{name} compressed its answer unasked", code="bad_encoding", attempts=1)


async def bounded(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Return the first `most` bytes of a body."""
    raw = bytearray()
    async for chunk in response.content.iter_any():
        raw += chunk
        if len(raw) >= most:
            break
    return bytes(raw[:most])
