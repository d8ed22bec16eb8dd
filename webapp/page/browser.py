"""The browser itself: fetch as a Transport, the engine client as a `Client`. The only module here that imports js and pyodide."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import js
from pyodide.ffi import JsException, create_proxy, to_js

from hybr.webapp.runtimes.base import EngineCallError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class FetchTransport:
    """`Transport` over the browser's fetch, to our own origin only. The body is read as it comes; `close` stops it."""

    def __init__(self, origin: str) -> None:
        self._origin = origin

    async def request(self, method: str, path: str, body: bytes | None = None) -> FetchResponse:
        """Send. Raises UnreachableError when there is no answer."""
        controller = js.AbortController.new()
        options: dict[str, Any] = {
            "method": method,
            "signal": controller.signal,
            "cache": "no-cache",
            "credentials": "same-origin",
        }
        if body is not None:
            options |= {"body": body.decode(), "headers": {"content-type": "application/json"}}
        try:
            response = await js.fetch(self._origin + path, to_js(options, dict_converter=js.Object.fromEntries))
        except JsException as error:
            raise UnreachableError(_message(error)) from None
        except asyncio.CancelledError:
            controller.abort()
            raise
        return FetchResponse(response, controller)


class FetchResponse:
    """`Response` over a fetch Response."""

    def __init__(self, response: Any, controller: Any) -> None:
        self._response = response
        self._controller = controller
        self._ended = False
        self.status = int(response.status)
        self.headers = {str(pair[0]): str(pair[1]) for pair in js.Array.from_(response.headers.entries())}

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises UnreachableError when the connection breaks."""
        body = self._response.body
        if body is None:
            self._ended = True
            return
        reader = body.getReader()
        while not self._ended:
            try:
                piece = await reader.read()
            except JsException as error:
                self._ended = True
                raise UnreachableError(_message(error)) from None
            if piece.done:
                self._ended = True
            else:
                yield piece.value.to_bytes()

    async def close(self) -> None:
        """Stop what is still coming."""
        if not self._ended:
            self._ended = True
            self._controller.abort()


class EngineProxy:
    """`engine.Client` over the JavaScript engine client."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._kept: list[Any] = []

    async def call(self, op: str, args: str, on_event: Callable[[str], None] | None) -> str:
        """One call. The event handler lives until the engine has answered, even when nobody waits for the answer any more.

        Raises EngineCallError.
        """
        handler = create_proxy(on_event) if on_event is not None else None
        work = asyncio.ensure_future(self._answer(op, args, handler))
        answer = await (asyncio.shield(work) if handler is not None else work)
        if isinstance(answer, EngineCallError):
            raise answer
        return answer

    async def _answer(self, op: str, args: str, handler: Any) -> str | EngineCallError:
        """The answer or the failure, as a value: asyncio complains of an exception that nobody waits for behind a shield."""
        try:
            return str(await self._client.call(op, args, handler, None))
        except JsException as error:
            name, phase = str(getattr(error, "name", "Error")), str(getattr(error, "phase", "worker"))
            return EngineCallError(name, _message(error), phase)
        finally:
            if handler is not None:
                handler.destroy()

    def on_gone(self, handler: Callable[[str], None]) -> None:
        """Be told of a dead worker, or of a lost model."""
        proxy = create_proxy(handler)
        self._kept.append(proxy)
        self._client.onDeath = proxy
        self._client.onLost = proxy

    def on_state(self, handler: Callable[[str], None]) -> None:
        """Be told what another tab has done about the model."""
        proxy = create_proxy(handler)
        self._kept.append(proxy)
        self._client.onState = proxy


def _message(error: Any) -> str:
    return str(getattr(error, "message", "") or error)
