"""What the page makes of the browser's own objects, with `js` and `pyodide.ffi` as far as it uses them."""

from __future__ import annotations

import asyncio
import importlib
import sys
import types
from typing import Any

import pytest

from hybr.webapp.runtimes.base import EngineCallError


class JsException(Exception):
    """An error of JavaScript's, with its fields."""

    name, message, phase = "AbortError", "The load was cancelled.", "load"


class Proxy:
    """A Python function as JavaScript holds it."""

    destroyed = False

    def destroy(self) -> None:
        """JavaScript lets go of it."""
        self.destroyed = True


class Client:
    """The engine client: each call is answered when the test says so."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.handler: Any = None

    async def call(self, _op: str, _args: str, handler: Any, _signal: None) -> str:
        """One call."""
        self.handler = handler
        return await self.answer


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`hybr.webapp.page.browser`, imported outside of a browser."""
    ffi: Any = types.ModuleType("pyodide.ffi")
    ffi.JsException, ffi.create_proxy, ffi.to_js = JsException, lambda _: Proxy(), None
    for name, module in {"js": types.ModuleType("js"), "pyodide": types.ModuleType("pyodide"), "pyodide.ffi": ffi}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "hybr.webapp.page.browser", raising=False)
    yield importlib.import_module("hybr.webapp.page.browser")
    sys.modules.pop("hybr.webapp.page.browser", None)


@pytest.mark.parametrize("listening", [True, False])
async def test_a_call_that_fails(browser: Any, listening: bool) -> None:
    """The failure reaches who waits, typed, and the event handler is let go."""
    client = Client()
    client.answer.set_exception(JsException())
    with pytest.raises(EngineCallError) as caught:
        await browser.EngineProxy(client).call("load", "{}", print if listening else None)
    assert (caught.value.name, caught.value.phase) == ("AbortError", "load")
    assert client.handler is None or client.handler.destroyed


async def test_a_failure_nobody_waits_for(browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A load that is cancelled fails later: no exception is left behind the shield (3.14 prints it); the handler lives on."""
    shielded: list[asyncio.Future[Any]] = []
    shield = asyncio.shield
    monkeypatch.setattr(asyncio, "shield", lambda work: (shielded.append(work), shield(work))[1])
    client = Client()
    call = asyncio.ensure_future(browser.EngineProxy(client).call("load", "{}", print))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not client.handler.destroyed
    client.answer.set_exception(JsException())
    for _ in range(5):
        await asyncio.sleep(0)
    assert client.handler.destroyed
    (work,) = shielded
    assert work.done()
    assert work.exception() is None
