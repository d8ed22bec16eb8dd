"""The shell as Python's side of the page meets it: its messages go in, what comes out is kept; the rest is the lab's."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

from lab.desk import YES, added, entry
from lab.engine import ScriptedEngine
from lab.upstream import ScriptedUpstream
from played_shelf import PlayedShelf, PlayedView

from hybr.webapp import page
from hybr.webapp.page import app as app_module
from hybr.webapp.page import convert
from hybr.webapp.runtimes.base import EngineCallError

HYBRID, LOCAL = "HybridLLMProvider", "LocalLLM"


class Shell:
    """The main thread: posts messages in, keeps what comes out. The engine client speaks JSON, as the real one does.

    `stored` is the browser's storage and `shelf` its conversations, which the shell changes as static/js/stored.js does; `beside`
    are the other tabs of that browser: they are told of changes.
    """

    def __init__(
        self,
        *,
        query: dict[str, str] | None = None,
        stored: dict[str, Any] | None = None,
        place: str = "main",
        beside: Shell | None = None,
        shelf: PlayedShelf | None = None,
    ) -> None:
        self.stored: dict[str, Any] = beside.stored if beside else stored if stored is not None else {}
        self.tabs: list[Shell] = beside.tabs if beside else []
        self.shelf: PlayedShelf = shelf or (beside.shelf if beside else PlayedShelf())
        self.view = PlayedView()
        self.out: list[dict[str, Any]] = []
        self.deltas: list[tuple[str, str, str, int]] = []
        self.upstream = ScriptedUpstream()
        self.upstream.files["/models/index.json"] = {"models": [entry("tiny", vram_bytes=1)]}
        self.scripted = ScriptedEngine()
        self._next = 0
        config = {
            "origin": "http://x",
            "assets": "/assets/x",
            "place": place,
            "query": query or {},
            "stored": copy.deepcopy(self.stored),
        }
        self.app = app_module.start(self, config, self.upstream, Client(self.scripted))
        self.tabs.append(self)
        self.send(kind="preflight", result=YES)

    # the host

    def post(self, message: str) -> None:
        """One message of Python's."""
        content = json.loads(message)
        self.out.append(content)
        if content["kind"] == "store":
            self._store(**content)
        elif content["kind"] == "shelf":
            self._shelved(content)
        elif content["kind"] == "view":
            self.view.op(content["op"])
        if content == {"kind": "engine", "op": "restart"}:
            self.scripted.restart()

    def _shelved(self, asked: dict[str, Any]) -> None:
        answer = self.shelf.answer(asked["op"], asked["args"])
        kind = "shelf-error" if "error" in answer else "shelf-result"
        asyncio.get_running_loop().call_soon(lambda: self.app.receive({"kind": kind, "id": asked["id"], **answer}))
        if asked["op"] == "write" and "error" not in answer:
            for tab in self.tabs:
                if tab is not self:
                    tab.app.receive(self.shelf.changed(asked["args"][0], "tab"))

    def _store(self, kind: str, key: str, value: Any, how: str = "") -> None:
        before = self.stored.get(key, {})
        self.stored[key] = {**before, **value} if how == "assign" else added(before, value) if how == "add" else value
        told = {"kind": "stored", "key": key, "value": {name: self.stored[key][name] for name in value}}
        for tab in self.tabs:
            if tab is not self or how == "add":
                tab.app.receive(copy.deepcopy(told))

    def delta(self, message_id: str, delta: str, provider: str, segment: int) -> None:
        """One delta for the view."""
        self.deltas.append((message_id, delta, provider, segment))
        self.view.delta(message_id, delta)

    # the test

    def send(self, **message: Any) -> None:
        """One message of the shell's, as JSON."""
        app_module._app[:] = [self.app]  # a page has one App; here several tabs are one process
        page.receive(json.dumps(message))

    def of(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """What was posted of that kind."""
        return [one for one in self.out if one["kind"] == kind and all(one.get(name) == value for name, value in fields.items())]

    def ops(self, kind: str) -> list[dict[str, Any]]:
        """View ops of that type."""
        return [one["op"] for one in self.of("view") if one["op"]["type"] == kind]

    async def call(self, module: str, method: str, *args: Any) -> Any:
        """One call from JavaScript: its value, or raises AssertionError with the error."""
        answer = await self.answer(self.begin(module, method, *args))
        assert answer["kind"] == "rpc-result", answer
        return answer["value"]

    def begin(self, module: str, method: str, *args: Any) -> str:
        """Begin a call; its id."""
        self._next += 1
        self.send(kind="rpc", id=f"js-{self._next}", module=module, method=method, args=list(args))
        return f"js-{self._next}"

    async def answer(self, call_id: str) -> dict[str, Any]:
        """The call's end."""
        for _ in range(3000):
            for one in self.out:
                if one.get("id") == call_id and one["kind"] in {"rpc-result", "rpc-error"}:
                    return one
            await asyncio.sleep(0.01)
        raise AssertionError(f"no answer to {call_id}")

    async def error(self, module: str, method: str, *args: Any) -> dict[str, Any]:
        """The error of a call that fails."""
        answer = await self.answer(self.begin(module, method, *args))
        assert answer["kind"] == "rpc-error", answer
        return dict(answer["error"])

    async def end(self) -> None:
        """Stop what goes on by itself."""
        self.app.startup.end()
        await self.app.context.local.unload()
        await self.app.context.preferences.flush()
        await asyncio.sleep(2)


class Client:
    """static/js/engine/client.js over the scripted engine: JSON both ways, rejects at once while there is no worker."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self._engine = engine

    async def call(self, op: str, args: str, on_event: Any) -> str:
        """One call."""
        if not self._engine._alive.is_set():
            raise EngineCallError("EngineDeadError", "The local engine has not been started.", "worker")
        event = None if on_event is None else (lambda content: on_event(json.dumps(convert.camel(content))))
        wire = json.loads(args)
        answer = await self._engine.call(op, {convert.snake_name(name): value for name, value in wire.items()}, event)
        return json.dumps(convert.camel(answer))

    def on_state(self, handler: Any) -> None:
        """Who is told what another tab does."""
        self._engine.on_state(lambda status: handler(json.dumps(status)))

    def on_gone(self, handler: Any) -> None:
        """Who is told of a death."""
        self._engine.on_death(
            lambda failure: handler(json.dumps({"name": failure.name, "message": failure.message, "phase": failure.phase})),
        )
