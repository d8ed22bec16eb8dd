"""The server's gateway as a cloud runtime: `/v1/chat/completions` streamed, `/v1/models`, `/healthz`.

The gateway alone repeats upstream calls. This side repeats only when the gateway itself was not reached (no answer at
all, or one of a proxy before it that has no envelope; its `Retry-After` is kept, up to WAIT_MAX_S), before a byte of the request
can have been worked on twice to the person's cost; a stream that breaks off is an error for the orchestrator, which has the text.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.errors import CallerError, CloudUnavailableError, GatewayError, HybridError
from hybr.webapp.hybrid.ledger import stated
from hybr.webapp.hybrid.types import Final, Usage
from hybr.webapp.runtimes.base import UnreachableError
from hybr.webapp.runtimes.http import EventStream, read_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.types import Call
    from hybr.webapp.runtimes.base import Emit, Response, Transport

log = logging.getLogger(__name__)

CHAT, MODELS, HEALTH, PRICES = "/v1/chat/completions", "/v1/models", "/healthz", "/api/prices"
RETRIES = 2
BACKOFF_S = 0.25
OK = 200
WAIT_MAX_S = 10.0  # nobody looks longer at an empty answer
PROXY_CODES = frozenset({"http_502", "http_503", "http_504"})  # no envelope: something before the gateway has answered
CONTEXT_CODES = frozenset({"context_length_exceeded", "context_overflow"})
CALLER_STATUS = frozenset({400, 404, 405, 413, 415, 422})


class Gateway:
    """See the module. `jitter` gives a factor of about 1 for each wait; `now` is the wall clock (s)."""

    def __init__(
        self,
        transport: Transport,
        *,
        jitter: Callable[[], float] = lambda: random.uniform(0.5, 1.5),  # noqa: S311
        now: Callable[[], float] = time.time,
    ) -> None:
        self._transport = transport
        self._now = now
        self._jitter = jitter
        self._models: list[dict[str, Any]] = []
        self._prices: dict[str, Any] = {}
        self._online = True
        self._healthy: bool | None = None
        self.reason = ""

    # -- what is known of it

    def available(self) -> bool:
        """Whether it answered when last asked (not asked yet counts as yes) and the browser is online."""
        return self._online and self._healthy is not False

    def offline(self) -> bool:
        """Whether the browser itself has no network."""
        return not self._online

    def online(self, value: bool) -> None:
        """Take what the browser says about its network."""
        self._online = value
        self.reason = "" if value else "The browser is offline."

    def models(self) -> list[dict[str, Any]]:
        """`/v1/models` as last read, the default first."""
        return self._models

    async def check(self) -> bool:
        """Ask `/healthz`, and for the models when it is well; returns `available()`."""
        try:
            response = await self._transport.request("GET", HEALTH)
            body = await read_json(response)
            self._mark(response.status == 200, _reason(body))
        except UnreachableError as error:
            self._mark(healthy=False, reason=f"The server cannot be reached ({error}).")
        except ValueError:
            self._mark(response.status == 200, f"The server answered {response.status}.")
        if self._healthy:
            await self._load_models()
            await self._load_prices()
        return self.available()

    async def knows(self, model: str) -> bool | None:
        """Whether it can answer with `model`; None when it cannot be asked."""
        if not any(entry.get("id") == model for entry in self._models):
            await self._load_models()
        return any(entry.get("id") == model for entry in self._models) if self._models else None

    def prefills(self, model: str | None) -> bool:
        """Whether the model goes on from an assistant's turn that comes last, as `/v1/models` says of it."""
        chosen = [entry for entry in self._models if model is None or entry.get("id") == model]
        return bool(chosen and (chosen[0].get("capabilities") or {}).get("prefill"))

    def price(self, model: str | None) -> dict[str, float] | None:
        """`{input, output}` in dollars a million tokens, of a model or of the default one; None where that is not known."""
        name = model or str((self._models or [{}])[0].get("id") or "")
        entry: dict[str, Any] = next((one for one in self._models if one.get("id") == name), {})
        if entry.get("owned_by") == "house":
            return {"input": 0.0, "output": 0.0}
        found = self._prices.get(name) or self._prices.get(f"{entry.get('owned_by')}/{name}")
        if not isinstance(found, dict) or not _priced(found):
            return None
        return {side: float(found[side]) for side in ("input", "output")}

    async def _load_prices(self) -> None:
        """For estimates and budgets; what an answer costs comes with it."""
        try:
            body = await read_json(await self._transport.request("GET", PRICES))
        except (UnreachableError, ValueError) as error:
            log.info("no price list: %s", error)
            return
        if isinstance(body, dict) and isinstance(body.get("models"), dict) and body.get("currency") == "USD":
            self._prices = body["models"]

    async def _load_models(self) -> None:
        try:
            response = await self._transport.request("GET", MODELS)
            body = await read_json(response)
        except (UnreachableError, ValueError) as error:
            log.info("no list of cloud models: %s", error)
            return
        if response.status == 200 and isinstance(body, dict) and isinstance(body.get("data"), list):
            self._models = [entry for entry in body["data"] if isinstance(entry, dict)]

    def _mark(self, healthy: bool, reason: str) -> None:
        self._healthy = healthy
        self.reason = "" if healthy else reason or "The server is not ready."

    # -- answering

    async def chat(self, call: Call, emit: Emit) -> Final:
        """Answer `call`, streamed. Raises CloudUnavailableError, GatewayError, CallerError."""
        body = json.dumps(_body(call), ensure_ascii=False).encode()
        response = await self._send(body)
        try:
            answer = Answer(call, response.headers.get("x-hybr-provider", ""), len(body))
            await _read(response, answer, emit)
            return answer.final()
        finally:
            await response.close()

    async def _send(self, body: bytes) -> Response:
        if not self._online:
            raise CloudUnavailableError("The browser is offline, so the cloud cannot be asked.", code="offline", retryable=True)
        asked_to_wait = 0.0
        for attempt in range(RETRIES + 1):
            if attempt:
                await asyncio.sleep(max(BACKOFF_S * 2 ** (attempt - 1) * self._jitter(), asked_to_wait))
            try:
                response = await self._transport.request("POST", CHAT, body)
            except UnreachableError as error:
                reason = str(error)
                continue
            self._mark(healthy=True, reason="")
            if response.status == OK:
                return response
            refusal = await _refusal(response, self._now())
            wait = refusal.retry_after or 0.0 if isinstance(refusal, GatewayError) else math.inf
            if refusal.code not in PROXY_CODES or attempt == RETRIES or wait > WAIT_MAX_S:
                raise refusal
            asked_to_wait = wait
        self._mark(healthy=False, reason=f"The server cannot be reached ({reason}).")
        message = f"The server cannot be reached ({reason}). Is `hybr serve` still running?"
        raise CloudUnavailableError(message, code="gateway_unreachable", retryable=True)


class Answer:
    """What a streamed answer has said so far, and its end."""

    def __init__(self, call: Call, provider: str, sent: int) -> None:
        self._model = call.model or ""
        self._think = call.think
        self._house = provider == "house"
        self._sent = sent
        self._finish = ""
        self._usage: Usage | None = None
        self._cost: float | None = None
        self._timings: dict[str, Any] = {}
        self._tools: dict[int, dict[str, Any]] = {}
        self.done = False

    def take(self, data: str, emit: Emit) -> None:
        """Read one event. Raises GatewayError for an error event or for what is no JSON object."""
        if data == "[DONE]":
            self.done = True
            return
        try:
            event = json.loads(data)
        except ValueError:
            raise _broken("The cloud's stream has an event that is not JSON.") from None
        if not isinstance(event, dict):
            raise _broken("The cloud's stream has an event that is not an object.")
        if "error" in event:
            raise _error(event, 502)
        self._model = event.get("model") or self._model
        try:
            text = self._read(event)
        except (AttributeError, TypeError, ValueError):
            raise _broken("The cloud's stream has an event of an unknown shape.") from None
        if text:
            emit(text)

    def _read(self, event: dict[str, Any]) -> str:
        """The event's text; all else is kept. Raises what its shape leads to."""
        said = ""
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            said += delta.get("content") or ""
            if (thought := delta.get("reasoning_content")) and self._think:
                self._think(str(thought))
            if delta.get("tool_calls"):
                self._merge(delta["tool_calls"])
            self._finish = choice.get("finish_reason") or self._finish
        if event.get("usage"):
            self._spent(event["usage"])
        self._timings = dict(event.get("timings") or self._timings)
        return said

    def final(self) -> Final:
        """The end. Raises GatewayError unless the stream came to one."""
        if not (self.done or self._finish):
            raise _broken("The cloud's answer broke off before its end.")
        if self._cost is None and self._house:
            self._cost = 0.0  # llama.cpp on the server's own machine
        return Final(
            model=self._model,
            finish_reason=self._finish or "stop",
            usage=self._usage,
            prefill_tps=self._timings.get("prompt_per_second"),
            decode_tps=self._timings.get("predicted_per_second"),
            cost=self._cost,
            bytes_sent=self._sent,
            tool_calls=tuple(self._tools[index] for index in sorted(self._tools)),
        )

    def _spent(self, usage: dict[str, Any]) -> None:
        self._usage = Usage(int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
        self._cost = stated(usage.get("cost"), self._cost)

    def _merge(self, pieces: list[dict[str, Any]]) -> None:
        """Tool calls come in pieces, by index: the name once, the arguments bit by bit."""
        for piece in pieces:
            call = self._tools.setdefault(
                int(piece.get("index") or 0), {"type": "function", "function": {"name": "", "arguments": ""}}
            )
            if piece.get("id"):
                call["id"] = piece["id"]
            function = piece.get("function") or {}
            call["function"]["name"] += function.get("name") or ""
            call["function"]["arguments"] += function.get("arguments") or ""


async def _read(response: Response, answer: Answer, emit: Emit) -> None:
    events = EventStream()
    try:
        async for piece in response.chunks():
            for data in events.feed(piece):
                answer.take(data, emit)
                if answer.done:
                    return
        for data in events.flush():
            answer.take(data, emit)
    except UnreachableError as error:
        raise _broken(f"The connection to the server broke off in the middle of the answer ({error}).") from None
    except ValueError as error:
        raise _broken(f"The cloud's stream cannot be read: {error}.") from None


def _body(call: Call) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": list(call.messages), "stream": True, "stream_options": {"include_usage": True}}
    if call.model:
        body["model"] = call.model
    return {**body, **call.options.sampling()}


def _broken(message: str) -> GatewayError:
    return GatewayError(message, code="stream_broken", phase="decode", retryable=True)


async def _refusal(response: Response, now: float) -> HybridError:
    try:
        body = await read_json(response)
    except (ValueError, UnreachableError):
        body = None
    error = _error(body, response.status)
    if isinstance(error, GatewayError) and error.retry_after is None:
        error.retry_after = seconds(response.headers.get("retry-after", ""), now)
    return error


def seconds(retry_after: str, now: float) -> float | None:
    """Seconds to wait by a Retry-After header in either of its forms (RFC 9110, 10.2.3); None where it says nothing."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(parsedate_to_datetime(text).timestamp() - now, 0.0)
    except ValueError:
        return None


def _error(body: object, status: int) -> HybridError:
    """The typed error of an envelope `{"error": {type, code, message, retryable, attempts}}`, or of none."""
    inner = body.get("error") if isinstance(body, dict) else None
    said: dict[str, Any] = inner if isinstance(inner, dict) else {}
    message = str(said.get("message") or f"The server answered {status} without saying why.")
    code = str(said.get("code") or f"http_{status}")
    if code in CONTEXT_CODES:
        return GatewayError(message, code="context_overflow", phase="prefill", kind="capability")
    if status in CALLER_STATUS:
        return CallerError(message, field=str(said.get("field") or ""), code=code)
    capability = status in {401, 402, 403} or code == "content_filter"
    error = GatewayError(message, code=code, kind="capability" if capability else "health", retryable=bool(said.get("retryable")))
    error.status = status
    error.attempts = int(said.get("attempts") or 0)
    if isinstance(wait := said.get("retry_after"), int | float) and wait >= 0:
        error.retry_after = float(wait)
    return error


def _priced(price: dict[str, Any]) -> bool:
    return all(isinstance(price.get(name), int | float) and price[name] >= 0 for name in ("input", "output"))


def _reason(body: object) -> str:
    if isinstance(body, dict):
        return str(body.get("reason") or body.get("message") or body.get("status") or "")
    return ""
