"""The house model: llama.cpp on this machine, no key, always there. The cloud side of a fresh installation.

It runs in a child process (`llama` keeps it, `housechild` is it). A request whose child dies before the first byte is sent
once more to a new one; after the first byte nobody may be asked twice, and the relay says that the stream was cut.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from hybr.server.errors import HybrError, RequestError, SlowUpstreamError, UnavailableError, UpstreamError
from hybr.server.providers.base import COUNTING, Answer, Call, Model
from hybr.server.providers.breaker import Breaker
from hybr.server.providers.content import refuse, spoken
from hybr.server.providers.dialect import Stream
from hybr.server.providers.llama import Endpoint, Llama
from hybr.server.providers.openai import Chunks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from hybr.server.secret import Secret

log = logging.getLogger("hybr.house")

# Plain ChatML with no default system turn, as the page's template for the same model (the catalogue's `drop_default_system`):
# the checkpoint's own adds one under which the 4-bit model answers capitals wrongly.
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
ATTEMPTS = 2
TIMES = aiohttp.ClientTimeout(total=900, sock_connect=10, sock_read=120)
SEEDS = 2**32 - 1  # llama.cpp takes 32 bits, and all ones means "any"
NOTICE = 0.1  # seconds between looks at whether llama.cpp has noticed a leaving client, and how often we look
NOTICE_CHECKS = 3
HUNG = 5.0  # seconds in which a working llama.cpp comes to the end of a batch and says what its slots do


@dataclass
class House:
    """The provider. `weights` is the GGUF's path where it is known; otherwise the child fetches it by the model's id."""

    id: str
    title: str
    context: int
    template: str = CHATML
    slots: int = 2
    weights: Path | None = None
    sampling: dict[str, float] = field(default_factory=dict)  # where a request says nothing: the catalogue's, as in the page
    name: str = "house"
    breaker: Breaker = field(default_factory=Breaker, init=False)
    retries: int = 0  # a child that died before the first byte is replaced and asked again here
    llama: Llama = field(init=False)
    _session: aiohttp.ClientSession | None = field(default=None, init=False)
    _active: int = field(default=0, init=False)
    _reapers: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.llama = Llama(self.task)

    def task(self) -> dict[str, Any]:
        """Return what the child is to load and how."""
        weights = str(self.weights) if self.weights else None
        return {"id": self.id, "context": self.context, "template": self.template, "slots": self.slots, "weights": weights}

    def models(self) -> Sequence[Model]:
        """Return the one model."""
        return [Model(self.id, self.title, self.context, self.name, prefill=True)]

    def takes(self, model: str) -> bool:
        """Say whether it is the one model."""
        return model == self.id

    def usable(self, key: Secret | None) -> bool:  # noqa: ARG002
        """Say yes: no key is wanted."""
        return True

    def report(self) -> dict[str, Any]:
        """Return what `/api/providers` says."""
        failed = self.llama.state == "failed"
        reason = self.llama.notice or None
        return {"name": self.name, "kind": "house", "available": not failed, "reason": reason, "models": 1} | {
            "breaker": self.breaker.state
        }

    async def stop(self) -> None:
        """End the child and the connections to it."""
        for task in list(self._reapers):
            task.cancel()
            with suppress(asyncio.CancelledError, HybrError):
                await task
        if self._session:
            await self._session.close()
        await self.llama.stop()

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[Answer]:
        """Send `call`; see `Provider.open`."""
        if "input" in call.body:
            raise RequestError("the house model makes answers, not embeddings", code="unsupported", field="model")
        if COUNTING in call.body:
            raise RequestError("the house model counts tokens in an answer's usage only", code="unsupported", field="model")
        body = json.dumps(self.sampling | translate(call)).encode()
        self._active += 1
        reading = Reading()
        try:
            response, first, attempts = await self._send(body, reading)
            try:
                if response.status != 200:
                    reading.ended = True
                    raise refusal(response.status, first, attempts)
                stream = Stream("the house model", Chunks(self.id))
                yield Answer(reading.chunks(first, response, stream, attempts), stream.reader, attempts)
            finally:
                response.close()  # not release(): a half-read answer must be cut
        finally:
            self._active -= 1
            if not reading.ended:
                self._reap(silent=reading.silent)

    def _reap(self, *, silent: bool) -> None:
        """See to it, in the background, that nothing goes on generating for a client that has left, or hangs."""
        if endpoint := self.llama.running:
            task = asyncio.create_task(self._replace_hung(endpoint) if silent else self._stop_orphans(endpoint))
            self._reapers.add(task)
            task.add_done_callback(self._reapers.discard)

    async def _stop_orphans(self, endpoint: Endpoint) -> None:
        """Wait for llama.cpp to notice; end the child when it does not and works for nobody else.

        It notices at its next write, so while it reads a long prompt it does not; then a new child, half a second away, is
        cheaper for everybody than seconds of work for nobody. Work for others is never ended: there the orphan goes on
        until its first token.
        """
        for _ in range(NOTICE_CHECKS):
            await asyncio.sleep(NOTICE)
            if (await self._busy(endpoint, NOTICE)) in range(self._active + 1):
                return
        if self._active == 0:
            await self._replace(endpoint)

    async def _replace_hung(self, endpoint: Endpoint) -> None:
        """End a child that does not even answer for itself: whoever else waits for it waits in vain."""
        if await self._busy(endpoint, HUNG) is None:
            log.warning("the house model's process hangs; it is replaced")
            await self._replace(endpoint)

    async def _replace(self, endpoint: Endpoint) -> None:
        await endpoint.child.stop()
        with suppress(HybrError):  # whoever asks next will hear it
            await self.llama.endpoint()

    async def _busy(self, endpoint: Endpoint, patience: float) -> int | None:
        """Return how many slots generate, None when llama.cpp does not say within `patience` seconds."""
        headers = {"authorization": f"Bearer {endpoint.key}"}
        try:
            async with asyncio.timeout(patience), self._http().get(f"{endpoint.address}/slots", headers=headers) as answer:
                return sum(bool(slot["is_processing"]) for slot in await answer.json())
        except TimeoutError:
            return None
        except (aiohttp.ClientError, KeyError, TypeError, ValueError):
            return 0  # it is dying or dead, and with it whatever it did

    async def _send(self, body: bytes, reading: Reading) -> tuple[aiohttp.ClientResponse, bytes, int]:
        """Return the response and its first bytes once these are there, and how many sendings that took.

        llama.cpp sends the head at once and the first bytes after reading the prompt: only then is it answering.
        """
        for attempt in range(1, ATTEMPTS + 1):
            endpoint = await self.llama.endpoint()
            try:
                return *await self._first(endpoint, body), attempt
            except TimeoutError as error:
                reading.silent = True
                raise SlowUpstreamError("the house model did not answer in time", code="timeout", attempts=attempt) from error
            except aiohttp.ClientError as error:
                log.warning("%s before the first byte, attempt %d", type(error).__name__, attempt)
                await self.llama.settle(endpoint.child)
        raise UpstreamError("the house model's process ended twice on this request", code="house_crashed", attempts=ATTEMPTS)

    async def _first(self, endpoint: Endpoint, body: bytes) -> tuple[aiohttp.ClientResponse, bytes]:
        headers = {"authorization": f"Bearer {endpoint.key}", "content-type": "application/json"}
        url = f"{endpoint.address}/v1/chat/completions"
        response = await self._http().post(url, data=body, headers=headers, allow_redirects=False)
        try:
            return response, await response.content.readany()
        except BaseException:
            response.close()
            raise

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=TIMES,
                trust_env=False,  # a proxy from the environment has no business between us and our own child
                auto_decompress=False,
                read_bufsize=64 * 1024,  # bytes held for a slow reader before llama.cpp is made to wait
            )
        return self._session


class Reading:
    """One answer being read: `ended` once it came to its end, by itself or by the child's death, `silent` if nothing came."""

    def __init__(self) -> None:
        self.ended = False
        self.silent = False

    async def chunks(
        self, first: bytes, response: aiohttp.ClientResponse, stream: Stream, attempts: int
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """Yield the answer as it comes. Raises UpstreamError when it is cut."""
        piece = first
        try:
            while True:
                out = stream.feed(piece) if piece else stream.end()
                if out:
                    yield out
                if stream.over or stream.failure:
                    break
                piece = await response.content.readany()
        except TimeoutError as error:
            self.silent = True
            raise SlowUpstreamError("the house model stopped in mid-answer", code="stream_stalled", attempts=attempts) from error
        except aiohttp.ClientError as error:
            self.ended = True
            raise UpstreamError("the house model's answer was cut off", code="stream_cut", attempts=attempts) from error
        self.ended = stream.over
        if stream.failure:
            raise stream.failure


def refusal(status: int, raw: bytes, attempts: int) -> HybrError:
    """Return the error for llama.cpp's own refusal. Its words may pass: it is our child and holds no secret but its key."""
    try:
        told = json.loads(raw)["error"]
        text, kind = str(told["message"])[:500], str(told.get("type", ""))
    except (ValueError, KeyError, TypeError):
        text, kind, told = f"status {status}", "", {}
    if kind == "exceed_context_size_error":
        text = f"the conversation is {told.get('n_prompt_tokens')} tokens, the model's window {told.get('n_ctx')}"
        return RequestError(text, code="context_length_exceeded", field="messages")
    if status in {400, 404, 422, 501}:
        return RequestError(f"the house model refused the request: {text}", code="refused_by_model")
    if status == 503:
        return UnavailableError(f"the house model is not ready: {text}", code="house_unavailable", attempts=attempts)
    return UpstreamError(f"the house model failed: {text}", code="house_failed", attempts=attempts)


def translate(call: Call) -> dict[str, Any]:
    """Return the body for llama.cpp. Raises RequestError for what a small text model behind a plain template cannot do."""
    refuse(call, "the house model", "verbosity")
    body = dict(call.body)
    for name in ("reasoning_effort", "reasoning_budget", "verbosity", "parallel_tool_calls"):
        body.pop(name, None)  # it thinks as much as it can, and calls no tools
    for name in ("tools", "tool_choice"):
        if body.pop(name, None) not in (None, [], "none", "auto"):
            raise RequestError("the house model cannot call tools", code="unsupported", field=name)
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    body["messages"] = [plain(message, f"messages[{index}]") for index, message in enumerate(body["messages"])]
    if "max_completion_tokens" in body:
        body["max_tokens"] = body.pop("max_completion_tokens")
    if "seed" in body:
        body["seed"] = int(body["seed"]) % SEEDS
    return body


def plain(message: dict[str, Any], where: str) -> dict[str, str]:
    """Return the message as role and text."""
    if message["role"] == "tool" or message.get("tool_calls"):
        raise RequestError("the house model cannot call tools", code="unsupported", field=where)
    content = spoken(message)
    if not isinstance(content, str):
        if any(part["type"] != "text" for part in content):
            raise RequestError("the house model reads text only", code="unsupported", field=f"{where}.content")
        content = "".join(part["text"] for part in content)
    return {"role": "system" if message["role"] == "developer" else message["role"], "content": content}
