"""Builds the orchestrator out of its parts at boot and hands each message of the shell to whom it concerns."""

from __future__ import annotations

import importlib.util
import json
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from hybr.webapp.hybrid.events import EventBus
from hybr.webapp.hybrid.local import LocalLLM
from hybr.webapp.hybrid.profile import DeviceProfile
from hybr.webapp.hybrid.provider import HybridLLMProvider
from hybr.webapp.page import convert
from hybr.webapp.page.caller import CallerClient
from hybr.webapp.page.chat import Chat
from hybr.webapp.page.engine import Engine
from hybr.webapp.page.journal import Journal
from hybr.webapp.page.place import Place, Where
from hybr.webapp.page.rpc import Rpc, chunk_to_wire
from hybr.webapp.page.shelf import PageShelf
from hybr.webapp.page.startup import Startup
from hybr.webapp.runtimes.catalogue import Catalogue
from hybr.webapp.runtimes.gateway import Gateway
from hybr.webapp.runtimes.others import Others
from hybr.webapp.runtimes.person import Person
from hybr.webapp.runtimes.webllm import WebLLM
from hybr.webapp.runtimes.wllama import Wllama
from hybr.webapp.state.preferences import Preferences
from hybr.webapp.state.series import Series
from hybr.webapp.state.telemetry import Telemetry, device_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.types import Chunk
    from hybr.webapp.page.engine import Client
    from hybr.webapp.runtimes.base import EngineBridge, Transport

log = logging.getLogger(__name__)

encode = json.JSONEncoder(ensure_ascii=False).encode  # a message is a string, not bytes
SAMPLES = 720  # of the memory: three hours, one each quarter of a minute
INTERNAL = frozenset(
    {"local-llm:models", "local-llm:checking", "hybrid-llm:status", "hybrid-llm:thought", "chat:changed"}
)  # for the views on this side; not part of the page's contract


class Host(Protocol):
    """python.worker.js, as far as this side calls it."""

    def post(self, message: str) -> None:
        """Send one message, as JSON, to the shell."""
        ...

    def delta(self, message_id: str, delta: str, provider: str, segment: int) -> None:
        """Send one delta of a message to the view."""
        ...


@dataclass
class Context:
    """What the Panel app may use. `preflight` is the shell's probe of the GPU, empty until it is known."""

    hybrid: HybridLLMProvider
    local: LocalLLM
    gateway: Gateway
    events: EventBus
    preferences: Preferences
    place: Place
    chat: Chat
    series: Series
    person: Person
    preflight: dict[str, Any] = field(default_factory=dict)
    memory: list[tuple[float, float, float]] = field(default_factory=list)  # (seconds, bytes of the page, bytes of Python)


class App:
    """All parts of the page's Python side, wired. The world comes in as `host`, `transport` and `client`."""

    def __init__(
        self, host: Host, config: dict[str, Any], transport: Transport, client: Client, bridge: EngineBridge | None = None
    ) -> None:
        self._host = host
        events = EventBus()
        self._storage = storage = HostStorage(self, config.get("stored") or {})
        preferences = Preferences(storage, transport)
        engine = bridge or Engine(client, lambda: self.post({"kind": "engine", "op": "restart"}))
        closed = config.get("place") == "local"
        others = Others(transport, preferences, f"{config.get('assets') or ''}/data/webllm.json", closed=closed)
        local = LocalLLM(
            WebLLM(engine), Catalogue(transport, others), events, preferences, DeviceProfile(storage), processor=Wllama(engine)
        )
        local.force((config.get("query") or {}).get("runtime"))
        gateway = Gateway(transport)
        hybrid = HybridLLMProvider(local, gateway, events, preferences, storage=storage)
        preferences.quiet = lambda: hybrid.get_mode() == "local-only"
        preferences.followed = self._followed
        self.shelf = PageShelf(self.post)
        self.chat = Chat(hybrid, self, Journal(self.post), self.shelf, lambda facts: events.emit("chat:changed", facts))
        place = Place("local" if config.get("place") == "local" else "main", hybrid, preferences, self._move)
        series, person = Series(storage, events), Person(transport)
        self.context = Context(hybrid, local, gateway, events, preferences, place, self.chat, series, person)
        runs = lambda: device_of(self.context.preflight, local.get_status()["runtime"])  # noqa: E731
        self.telemetry = Telemetry(events, preferences, transport, device=runs)
        self.caller = CallerClient(self.post)
        self.rpc = Rpc(hybrid, local, self, self.caller, place)
        self.startup = Startup(self.context, config.get("query") or {}, self._complain)
        events.tap(self._forward)
        events.on("hybrid-llm:fallback", self._tell_fallback)
        events.on("hybrid-llm:handover", self._tell_handover)
        events.on("local-llm:replaced", self._tell_replaced)
        events.on("local-llm:evicted", self._tell_evicted)
        events.on("hybrid-llm:thought", self.chat.thought)
        events.on("cost:budget", self._tell_budget)

    def receive(self, message: dict[str, Any]) -> None:
        """One message of the shell."""
        kind = message.get("kind")
        if kind == "rpc":
            self.rpc.receive(message)
        elif kind == "rpc-cancel":
            self.rpc.cancel(message["id"])
        elif kind == "ui" and message.get("event") == "leave-local":
            self.context.place.set_mode("local")
        elif kind == "ui" and message.get("event") == "set-mode":
            self.context.place.set_mode(message.get("mode"), manual=True)
        elif kind == "ui":
            self.chat.take(message)
        elif kind == "preflight":
            self.context.preflight.clear()
            self.context.preflight.update(message.get("result") or {})
            self.context.local.preflight(self.context.preflight)
        elif kind == "online":
            self.context.gateway.online(bool(message.get("value")))
            self.startup.look_at_gateway()
        elif kind == "visibility":
            self.context.hybrid.visibility(hidden=bool(message.get("hidden")), frozen_ms=float(message.get("frozenMs") or 0))
        elif kind == "memory":
            self._weigh(float(message.get("page") or 0), float(message.get("python") or 0))
        elif kind == "stored":
            self._storage.receive(message["key"], message["value"])
        elif kind == "restore":
            self.chat.opening.restore(message)
        elif kind in {"shelf-result", "shelf-error"}:
            self.shelf.receive(message)
        elif kind == "shelf-changed":
            self.chat.opening.heard(message)
        elif kind in {"cloud-result", "cloud-error"}:
            self.caller.receive(message)
        else:
            log.warning("unknown message of the shell: %r", kind)

    def _weigh(self, page: float, python: float) -> None:
        """Keep one sample of the memory in use; the last `SAMPLES` of this session."""
        self.context.memory.append((time.time(), page, python))
        del self.context.memory[:-SAMPLES]

    # -- towards the shell

    def post(self, message: dict[str, Any]) -> None:
        """Send one message; its names are already those of the wire."""
        self._host.post(json.dumps(message))

    def op(self, op: dict[str, Any]) -> None:
        """Draw one view op. A whole conversation's names are the wire's already, and a thousand messages are many."""
        self.post({"kind": "view", "op": op if op["type"] == "open" else convert.camel(op)})

    def delta(self, message_id: str, delta: str, provider: str, segment: int, *, restart: bool = False) -> None:
        """Append text to a message in the view; `restart` strikes what it has so far."""
        if restart:
            op = {"type": "delta", "id": message_id, "delta": delta, "provider": provider, "segment": segment, "restart": True}
            self.op(op)
        else:
            self._host.delta(message_id, delta, provider, segment)

    def chunk(self, call_id: str, chunk: Chunk) -> None:
        """Answer a streaming call with one chunk. Once per token: the JSON of a middle chunk is written directly."""
        if chunk.completion is not None:
            self.post({"kind": "rpc-chunk", "id": call_id, "chunk": chunk_to_wire(chunk)})
            return
        delta, provider, segment = encode(chunk.delta), chunk.provider, chunk.segment
        anew = ',"restart":true' if chunk.restart else ""
        self._host.post(
            f'{{"kind":"rpc-chunk","id":{encode(call_id)},"chunk":{{"delta":{delta},"done":false,"provider":"{provider}",'
            f'"segment":{segment}{anew}}}}}',
        )

    def _move(self, to: Where) -> None:
        """Take the person to the other document, with the open conversation."""
        self.post({"kind": "move", "to": to, "conversation": self.chat.opening.pack()})

    def _followed(self, changed: dict[str, Any]) -> None:
        """Another tab has changed preferences."""
        if "mode" in changed:
            self.context.hybrid.follow_mode(changed["mode"])
            self.startup.follow()
        self.context.events.emit("hybrid-llm:status", {})

    def _forward(self, name: str, detail: dict[str, Any]) -> None:
        if name == "hybrid-llm:stream-chunk":  # once per token
            delta, request_id = encode(detail["delta"]), encode(detail["request_id"])
            anew = ',"restart":true' if "restart" in detail else ""
            self._host.post(
                f'{{"kind":"event","name":"{name}","detail":{{"delta":{delta},"provider":"{detail["provider"]}",'
                f'"requestId":{request_id}{anew}}}}}',
            )
        elif name not in INTERNAL:
            self.post({"kind": "event", "name": name, "detail": convert.camel(detail)})

    def _complain(self, text: str) -> None:
        self.op({"type": "toast", "toast": "error", "text": text})

    def _tell(self, toast: str, say: str, **args: str) -> None:
        """Show a sentence of the page's catalogue (static/js/words), which is written in the person's language."""
        self.op({"type": "toast", "toast": toast, "say": say, "args": args})

    def _tell_fallback(self, detail: dict[str, Any]) -> None:
        self._tell("fallback", "fallback", **{"from": detail["from"]}, to=detail["to"], **_cause(detail))

    def _tell_handover(self, detail: dict[str, Any]) -> None:
        self._tell("handover", "handover", **{"from": detail["from"]}, to=detail["to"], **_cause(detail))

    def _tell_replaced(self, detail: dict[str, Any]) -> None:
        self._tell("warning", "replaced", model=detail["model"], instead=detail["instead"], **_cause(detail))

    def _tell_evicted(self, detail: dict[str, Any]) -> None:
        self._tell("info", "evicted", model=detail["model"], removed=", ".join(detail["removed"]))

    def _tell_budget(self, detail: dict[str, Any]) -> None:
        self._tell("warning", "budget", state=detail["state"], period=detail["period"], limit=f"{detail['limit']:.2f}")


def _cause(detail: dict[str, Any]) -> dict[str, str]:
    """Why, for a sentence: the catalogue may know the code."""
    return {"message": detail["error"]["message"], "code": str(detail["error"].get("code") or "")}


class HostStorage:
    """`Storage` over the shell's localStorage: read at boot, changed by message.

    The shell makes a change of names or numbers to what is stored by then, since other tabs write too (static/js/stored.js), and
    tells by `stored` what they have changed, and what a sum came to. `get` is for the boot: it knows what was read then.
    """

    def __init__(self, app: App, stored: dict[str, Any]) -> None:
        self._app = app
        self._stored = dict(stored)
        self._heard: dict[str, Callable[[dict[str, Any]], None]] = {}

    def get(self, key: str) -> str | None:
        """The stored text. The shell stores JSON, so what was stored as an object comes back as one."""
        value = self._stored.get(key)
        return value if value is None or isinstance(value, str) else json.dumps(value)

    def set(self, key: str, value: str) -> None:
        """Store it, here and in the browser."""
        self._stored[key] = value
        self._app.post({"kind": "store", "key": key, "value": json.loads(value)})

    def assign(self, key: str, change: dict[str, Any]) -> None:
        """Lay these names over the stored object."""
        self._app.post({"kind": "store", "key": key, "value": change, "how": "assign"})

    def add(self, key: str, change: dict[str, Any]) -> None:
        """Add these numbers to the stored ones."""
        self._app.post({"kind": "store", "key": key, "value": change, "how": "add"})

    def listen(self, key: str, heard: Callable[[dict[str, Any]], None]) -> None:
        """Who is told of changes."""
        self._heard[key] = heard

    def receive(self, key: str, changed: object) -> None:
        """The shell's word of what has changed."""
        if isinstance(changed, dict) and key in self._heard:
            self._heard[key](changed)


_app: list[App] = []  # the page's one App: Pyodide is one page


def boot(host: Any, config_json: str) -> None:
    """Build everything and start what the address bar and the stored preferences ask for."""
    from hybr.webapp.page.browser import EngineProxy, FetchTransport  # only here is there a browser

    config = json.loads(config_json)
    bridge, transport = lab(config, FetchTransport(host.origin))
    start(host, config, transport, EngineProxy(host.engine), bridge)


def lab(config: dict[str, Any], transport: Transport) -> tuple[EngineBridge | None, Transport]:
    """The fault lab's engine and transport, where `?faults=` asks for it and a test's server has served it (`webapp.faults`)."""
    script = (config.get("query") or {}).get("faults")
    if not script or importlib.util.find_spec("hybr.webapp.faults") is None:
        return None, transport
    from hybr.webapp.faults.page import parts

    return parts(str(script))


def start(host: Host, config: dict[str, Any], transport: Transport, client: Client, bridge: EngineBridge | None = None) -> App:
    """Build the App and begin; `boot` without the browser."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    app = App(host, config, transport, client, bridge)
    _app[:] = [app]
    app.startup.begin()
    return app


def receive(message: str) -> None:
    """Take one message of the shell, as JSON."""
    _app[0].receive(json.loads(message))


def context() -> Context:
    """The parts, for the Panel app; only after `boot`."""
    return _app[0].context
