"""A provider behind a network: one `Upstream` of the configuration, spoken to in its dialect over aiohttp.

The destination is the configuration's and nobody else's: redirects are not followed, proxies of the environment are not used, no
header of the answer goes to the client. The provider is always asked for a stream, so that leaving cancels it in every phase.
A request is repeated in one case only: it was put on a kept connection that the provider had closed meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
from yarl import URL

from hybr.server import egress
from hybr.server.errors import HybrError, NotFoundError, UpstreamError
from hybr.server.money import estimate
from hybr.server.providers.base import COUNTING, Answer, Call, Model
from hybr.server.providers.breaker import Breaker
from hybr.server.providers.dialect import Stream, spent
from hybr.server.providers.known import filled
from hybr.server.providers.line import Way
from hybr.server.providers.reading import ANSWER, Clock, Reading, bounded, content, post
from hybr.server.providers.refusals import refusal
from hybr.server.spell import spell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from hybr.server.providers.dialect import Dialect, Question
    from hybr.server.providers.line import Reply
    from hybr.server.secret import Secret
    from hybr.server.upstreams import Upstream

log = logging.getLogger("hybr.upstream")

Read = TypeVar("Read")

REFUSAL = 64 * 1024  # bytes of an error's body that are looked at
LISTING = 8 * 1024 * 1024
FRESH = 3600.0  # seconds between looks at a provider's list of models
AGAIN = 60.0  # after a look that failed
WAYS = 256


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
    _clock: Clock | None = None
    _ways: dict[tuple[str, bool], Way] = field(default_factory=dict)

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
        if self._clock:
            self._clock.stop()
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
        except NotFoundError:  # Azure's deployments have no list, and answer all the same
            if not self.upstream.models:
                self._note(UpstreamError(f"{self.name} lists no models: name them in its table", code="no_list"))
                return False
        except (HybrError, TimeoutError, aiohttp.ClientError, KeyError, TypeError, ValueError, AttributeError) as error:
            self._note(error if isinstance(error, HybrError) else UpstreamError(f"{self.name} gives no list", code="no_list"))
            return False
        self.problem, self.suspect = "", False
        return True

    async def _list(self) -> Any:
        headers = {**self.dialect.headers(self.upstream.key), "accept-encoding": "identity", "user-agent": "hybr"}
        async with self._http().get(self._url(self.dialect.listing), headers=headers, allow_redirects=False) as response:
            raw = await bounded(response.content, LISTING)
            if response.status != 200:
                raise refusal(self.name, response.status, response.headers, raw[:REFUSAL], self.upstream.key)
        return json.loads(raw)

    def open(self, call: Call) -> Opening:
        """Send `call`; see `Provider.open`."""
        return Opening(self, call)

    async def begin(self, call: Call, reading: Reading) -> Answer:
        """Send `call`, to be read by `reading`, and return the answer once its first bytes are there."""
        ask = self._embed if "input" in call.body else self._count if COUNTING in call.body else self._chat
        return await ask(call, self._inner(call), reading)

    def reading(self, call: Call) -> Reading:
        """Return who reads the answer to `call`. Raises NotFoundError for a model that is none of ours."""
        model = self._inner(call)
        if not self.upstream.fits(model):
            raise NotFoundError(f"{self.name} cannot have a model of that name", code="model_not_found", field="model")
        if self._clock is None:
            self._clock = Clock()
        return Reading(Stream(self.name, self.dialect.reader(f"{self.name}/{model}")), self.patience, self._clock)

    def _inner(self, call: Call) -> str:
        """Return the model's name at the provider."""
        return call.model.removeprefix(f"{self.name}/")

    async def _chat(self, call: Call, model: str, reading: Reading) -> Answer:
        reply = await self._send(self.dialect.question(call, model), reading, call.key)
        self._check(reply)
        reading.ahead = await reading.first()
        self.well(call)
        return Answer(reading, reading.stream.reader, reading.attempts)

    async def _embed(self, call: Call, model: str, reading: Reading) -> Answer:
        reader = reading.stream.reader
        vectors, tokens = await self._plain(self.dialect.embedding(call, model), call, reading, self.dialect.embedded)
        if len(vectors) != len(call.body["input"]):
            raise UpstreamError(f"{self.name} sent another number of vectors", code="bad_answer", attempts=1)
        self.well(call)
        reader.finish = "stop"
        reader.usage = spent(tokens or sum(estimate.length(str(text)) for text in call.body["input"]), 0)
        return Answer(one({"vectors": vectors}), reader, reading.attempts)

    async def _count(self, call: Call, model: str, reading: Reading) -> Answer:
        tokens = await self._plain(self.dialect.counting(call, model), call, reading, self.dialect.counted)
        self.well(call)
        reader = reading.stream.reader
        reader.finish, reader.usage = "stop", spent(0, 0)  # counting costs nothing
        return Answer(one({"input_tokens": tokens}), reader, reading.attempts)

    async def _plain(self, question: Question, call: Call, reading: Reading, read: Callable[[Any], Read]) -> Read:
        """Return what `read` finds in the JSON that answers `question`."""
        reply = await self._send(question, reading, call.key)
        try:
            check_encoding(self.name, reply)
            with reading:
                raw = await bounded(content(reply), ANSWER)
            return read(json.loads(raw))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            raise UpstreamError(f"{self.name}'s answer cannot be read", code="bad_answer", attempts=1) from None

    def well(self, call: Call) -> None:
        """Note that it answered; of the operator's key a person's own says nothing."""
        if call.key is None:
            self.problem, self.suspect = "", False

    def ill(self, call: Call, error: BaseException | None) -> None:
        """Note why it did not."""
        if call.key is None and isinstance(error, UpstreamError):
            self._note(error)

    async def _send(self, question: Question, reading: Reading, own: Secret | None) -> Reply:
        """Ask, and return the reply, which `reading` has too. Raises unless its status is 200."""
        body = spell(question.body)
        key = own or self.upstream.key
        with reading:
            way = self._way(question)
            reply = await post(way, way.head(self.dialect.headers(key), len(body)), body, reading)
            if reply.status == 200:
                return reply
            raise refusal(self.name, reply.status, reply.headers, await bounded(content(reply), REFUSAL), key)

    def _way(self, question: Question) -> Way:
        """Return the way to where `question` goes, made once."""
        place = (question.path, question.beta)
        way = self._ways.get(place)
        if way is None:
            if len(self._ways) >= WAYS:
                self._ways.clear()  # a path can hold a model's name, and so be anybody's invention
            connector = self._http().connector
            assert isinstance(connector, egress.Connector)  # noqa: S101  for mypy
            limit = aiohttp.ClientTimeout(connect=self.patience.first, sock_connect=self.patience.connect)
            url = self._url(question.path, beta=question.beta)
            way = self._ways[place] = Way(connector, url, limit, asyncio.get_running_loop())
        return way

    def _check(self, reply: Reply) -> None:
        """Raise unless the answer is a stream of events."""
        check_encoding(self.name, reply)
        kind = reply.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "text/event-stream":
            raise UpstreamError(f"{self.name} did not answer with a stream", code="bad_answer", attempts=1)

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


class Opening:
    """One call's life: entered, it is sent, and gives the answer; left, its connection goes back or is cut.

    A class, for a generator's machinery would cost more than what is in it.
    """

    __slots__ = ("call", "reading", "remote")

    def __init__(self, remote: Remote, call: Call) -> None:
        self.remote = remote
        self.call = call
        self.reading: Reading | None = None

    async def __aenter__(self) -> Answer:
        self.reading = self.remote.reading(self.call)
        try:
            return await self.remote.begin(self.call, self.reading)
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.remote.ill(self.call, error)
        if self.reading is not None and not self.reading.part():
            await self.reading.rest()


async def one(chunk: dict[str, Any]) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield an answer that came in one piece."""
    yield [chunk]


def check_encoding(name: str, reply: Reply) -> None:
    """Raise for a compressed body: none was asked for, and a small one can unfold into gigabytes."""
    if reply.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UpstreamError(f"{name} compressed its answer unasked", code="bad_encoding", attempts=1)
