"""The house model: llama.cpp on this machine, no key, always there. The cloud side of a fresh installation.

It runs in a child process (`housechild`), started by whoever needs it first and shared from then on; a child that died is
replaced at the next request. A request whose child dies before the first byte is sent once more to the new one; after
the first byte nobody may be asked twice, and the relay says that the stream was cut.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from hybr.server.children import Child
from hybr.server.errors import HybrError, RequestError, SlowUpstreamError, UnavailableError, UpstreamError
from hybr.server.providers.base import Answer, Call, Model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

log = logging.getLogger("hybr.house")

# Plain ChatML with no default system turn: the checkpoint's own adds one under which the 4-bit model answers capitals wrongly.
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
ATTEMPTS = 2
START = 600.0  # seconds for a start: the first one may fetch 93 MB
TIMES = aiohttp.ClientTimeout(total=900, sock_connect=10, sock_read=120)
ERROR_BYTES = 64 * 1024
MODULE = "hybr.server.providers.housechild"
SEEDS = 2**32 - 1  # llama.cpp takes 32 bits, and all ones means "any"


@dataclass(frozen=True)
class Endpoint:
    """Where a child serves, and the key it wants."""

    address: str
    key: str
    child: Child


@dataclass
class House:
    """The provider. `weights` is the GGUF's path where it is known; otherwise the child fetches it by the model's id."""

    id: str = "smollm2-135m"
    title: str = "SmolLM2 135M Instruct (on this machine)"
    context: int = 2048
    template: str = CHATML
    slots: int = 2
    weights: Path | None = None
    slots_endpoint: bool = False
    name: str = "house"
    state: str = field(default="idle", init=False)
    notice: str = field(default="", init=False)
    _endpoint: Endpoint | None = field(default=None, init=False)
    _starting: asyncio.Task[Endpoint] | None = field(default=None, init=False)
    _child: Child | None = field(default=None, init=False)
    _session: aiohttp.ClientSession | None = field(default=None, init=False)

    def models(self) -> Sequence[Model]:
        """Return the one model, unless it can never answer here."""
        return [] if self.state == "unsupported" else [Model(self.id, self.title, self.context, self.name)]

    # The child's life.

    async def endpoint(self) -> Endpoint:
        """Return where a live child serves, starting one when there is none; all callers wait for the same start.

        Raises UnavailableError when it cannot start. A caller that leaves does not stop the start for the others.
        """
        if self._endpoint and self._endpoint.child.running:
            return self._endpoint
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._starting)

    async def _start(self) -> Endpoint:
        self.state, self.notice = "starting", "starting"
        if self._child:
            await self._child.stop()
        task = {
            "id": self.id,
            "context": self.context,
            "template": self.template,
            "slots": self.slots,
            "weights": str(self.weights) if self.weights else None,
            "slots_endpoint": self.slots_endpoint,
        }
        try:
            self._child = child = await Child.start(MODULE, [json.dumps(task)])
            async with asyncio.timeout(START):
                news = await self._news(child)
        except Exception as error:
            self.state, self.notice = "failed", str(error)
            if self._child:
                await self._child.stop()
            if isinstance(error, HybrError):
                raise
            raise UnavailableError("the house model did not start", code="house_unavailable") from error
        self._endpoint = Endpoint(news["address"], news["key"], child)
        self.state, self.notice = "ready", ""
        return self._endpoint

    async def _news(self, child: Child) -> dict[str, Any]:
        """Follow the child's lines until it serves. Raises UnavailableError when it gives up or dies."""
        while line := await child.line():
            news: dict[str, Any] = json.loads(line)
            if "address" in news:
                return news
            if "error" in news:
                text = f"the house model cannot start: {news['error']}"
                raise UnavailableError(text, code="house_unavailable", remedy=news.get("remedy"))
            self.notice = str(news["progress"])
        code = await child.wait()
        raise UnavailableError(f"the house model's process ended at its start (exit code {code})", code="house_unavailable")

    async def stop(self) -> None:
        """End the child and the connections to it."""
        if self._starting:
            self._starting.cancel()
            with suppress(asyncio.CancelledError, HybrError):
                await self._starting
        if self._session:
            await self._session.close()
        if self._child:
            await self._child.stop()
        self.state = "idle"

    # One call.

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[Answer]:
        """Send `call`; see `Provider.open`."""
        body = json.dumps(translate(call)).encode()
        response, attempts = await self._send(body)
        try:
            if response.status != 200:
                raise await refusal(response, attempts)
            yield Answer(chunks(response, attempts), attempts)
        finally:
            response.close()  # not release(): a half-read answer must be cut, which is what stops the generation

    async def _send(self, body: bytes) -> tuple[aiohttp.ClientResponse, int]:
        """Return the response once its head is there, and how many sendings that took."""
        for attempt in range(1, ATTEMPTS + 1):
            endpoint = await self.endpoint()
            headers = {"authorization": f"Bearer {endpoint.key}", "content-type": "application/json"}
            url = f"{endpoint.address}/v1/chat/completions"
            try:
                return await self._http().post(url, data=body, headers=headers, allow_redirects=False), attempt
            except TimeoutError as error:
                raise SlowUpstreamError("the house model did not answer in time", code="timeout", attempts=attempt) from error
            except aiohttp.ClientError as error:
                log.warning("house: %s before the first byte, attempt %d", type(error).__name__, attempt)
                await self._settle(endpoint.child)
        raise UpstreamError("the house model's process ended twice on this request", code="house_crashed", attempts=ATTEMPTS)

    async def _settle(self, child: Child) -> None:
        """Give a dying child the moment it needs to be seen as dead, so that the next attempt starts a new one."""
        with suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), 0.5)

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


async def chunks(response: aiohttp.ClientResponse, attempts: int) -> AsyncIterator[bytes]:
    """Yield the body as it comes. Raises UpstreamError when it is cut."""
    try:
        async for chunk in response.content.iter_any():
            yield chunk
    except TimeoutError as error:
        raise SlowUpstreamError("the house model stopped in mid-answer", code="stream_stalled", attempts=attempts) from error
    except aiohttp.ClientError as error:
        raise UpstreamError("the house model's answer was cut off", code="stream_cut", attempts=attempts) from error


async def refusal(response: aiohttp.ClientResponse, attempts: int) -> HybrError:
    """Return the error for llama.cpp's own refusal. Its words may pass: it is our child and holds no secret but its key."""
    raw = await response.content.read(ERROR_BYTES)
    try:
        told = json.loads(raw)["error"]
        text, kind = str(told["message"])[:500], str(told.get("type", ""))
    except (ValueError, KeyError, TypeError):
        text, kind, told = f"status {response.status}", "", {}
    if kind == "exceed_context_size_error":
        text = f"the conversation is {told.get('n_prompt_tokens')} tokens, the model's window {told.get('n_ctx')}"
        return RequestError(text, code="context_length_exceeded", field="messages")
    if response.status in {400, 404, 422, 501}:
        return RequestError(f"the house model refused the request: {text}", code="refused_by_model")
    if response.status == 503:
        return UnavailableError(f"the house model is not ready: {text}", code="house_unavailable", attempts=attempts)
    return UpstreamError(f"the house model failed: {text}", code="house_failed", attempts=attempts)


def translate(call: Call) -> dict[str, Any]:
    """Return the body for llama.cpp. Raises RequestError for what a small text model behind a plain template cannot do."""
    body = dict(call.body)
    for name in ("tools", "tool_choice"):
        if body.pop(name, None) not in (None, [], "none", "auto"):
            raise RequestError("the house model cannot call tools", code="unsupported", field=name)
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
    content = message["content"]
    if not isinstance(content, str):
        if any(part["type"] != "text" for part in content):
            raise RequestError("the house model reads text only", code="unsupported", field=f"{where}.content")
        content = "".join(part["text"] for part in content)
    return {"role": "system" if message["role"] == "developer" else message["role"], "content": content}
