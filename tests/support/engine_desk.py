"""A small model server with faults on order, and the hands of a page that holds an engine worker.

The worker, the downloader and the client in that page are the real ones; WebLLM itself may be the scripted one of
tests/unit/engine/pages/scripted.worker.js.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybr_testing import Watch
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "tests/unit/engine/pages"
# What the page's own server sends (contracts): the engine must live under it.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval' blob:; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline' blob:; font-src 'self' data:; img-src 'self' data: blob:; "
    "connect-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
FOLDERS = {
    "/js/": ROOT / "static/js",
    "/vendor/web-llm/": ROOT / "static/node_modules/@mlc-ai/web-llm/lib",
    "/vendor/wllama/wllama.wasm": ROOT / "static/node_modules/@wllama/wllama/esm/wasm/wllama.wasm",
    "/vendor/wllama/": ROOT / "static/node_modules/@wllama/wllama/esm",
    "/vendor/wllama-compat/": ROOT / "static/node_modules/@wllama/wllama-compat/wasm",
    "/pages/": PAGES,
}


@dataclass
class Model:
    """A model made of bytes: enough for the downloader and for the scripted WebLLM, which reads its script from the config."""

    id: str
    files: dict[str, bytes]
    rev: str = "0123456789abcdef"
    lies: dict[str, dict[str, Any]] = field(default_factory=dict)
    gguf: str | None = None

    @property
    def base(self) -> str:
        """The URL path of this revision."""
        return f"/models/{self.id}/{self.rev}/"

    def entry(self) -> dict[str, Any]:
        """The model list's entry, true but for `lies`."""
        files = [
            {"path": path, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest(), **self.lies.get(path, {})}
            for path, body in self.files.items()
        ]
        libraries = {"gpu": "model.wasm", "software": "model-software.wasm"}
        entry = {"id": self.id, "state": "built", "base": self.base, "libraries": libraries, "files": files, "features": []}
        return entry | {"gguf": next((file for file in files if file["path"] == self.gguf), None)}


def model(name: str = "toy", *, shards: int = 3, shard_bytes: int = 40_000, **script: Any) -> Model:
    """Return a small model; `script` is what the scripted WebLLM does with it."""
    files = {
        "mlc-chat-config.json": json.dumps({"script": script}).encode(),
        "tensor-cache.json": json.dumps({"records": [{"dataPath": f"params_shard_{i}.bin"} for i in range(shards)]}).encode(),
        "tokenizer.json": b"{}",
        "tokenizer_config.json": b"{}",
        "model.wasm": b"\0asm gpu",
        "model-software.wasm": b"\0asm software",
        "manifest.json": b"{}",
    }
    files |= {f"params_shard_{i}.bin": bytes([i % 251 + 1]) * shard_bytes for i in range(shards)}
    return Model(name, files)


class Desk:
    """What the server serves, what it does wrong, and what it was asked."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget models, faults and requests."""
        self.models: dict[str, Model] = {}
        self.faults: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.ranges: list[str] = []  # of those requests that had one
        self.release = threading.Event()
        self.isolated = True  # whether pages are cross-origin isolated

    def add(self, item: Model) -> dict[str, Any]:
        """Serve a model and return its entry."""
        self.models[item.base] = item
        return item.entry()

    def fault(self, path: str, *kinds: str) -> None:
        """Answer the next requests for file `path` wrongly, one kind each; the last one for ever when it ends in '*'."""
        self.faults[path] = list(kinds)

    def next_fault(self, path: str) -> str:
        """Return how to answer this request for `path`."""
        kinds = self.faults.get(path) or [""]
        return kinds[0][:-1] if kinds[0].endswith("*") else kinds.pop(0)

    def downloads(self) -> list[str]:
        """Return the model files asked for, in order."""
        return [path.rsplit("/", 1)[1] for path in self.asked if "/resolve/main/" in path]


class Handler(BaseHTTPRequestHandler):
    """Static files under the page's policy; models with faults."""

    protocol_version = "HTTP/1.1"
    desk: Desk

    def do_GET(self) -> None:
        """Answer one file."""
        path = self.path.split("?")[0]
        self.desk.asked.append(path)
        if "/resolve/main/" in path:
            self._model(path)
            return
        for prefix, folder in FOLDERS.items():
            source = folder / path.removeprefix(prefix) if path != prefix else folder
            if path.startswith(prefix) and source.is_file():
                self._send(200, source.read_bytes(), mimetypes.guess_type(source.name)[0] or "application/octet-stream")
                return
        self._send(404, b"no such file")

    def _model(self, path: str) -> None:
        base, name = path.split("resolve/main/")
        served = self.desk.models.get(base)
        body = served.files.get(name) if served else None
        if body is None:
            self._send(404, b"no such model file")
            return
        wanted = self.headers.get("Range")
        if wanted:
            self.desk.ranges.append(wanted)
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            body = body[int(first) : int(last) + 1 if last else None]
        kind = self.desk.next_fault(name)
        if kind == "stall":
            self.desk.release.wait(60)
            kind = ""
        if kind.isdigit():
            self._send(int(kind), b"not now")
        elif kind == "short":
            self._send(200, body[:-100])
        elif kind == "long":
            self._send(200, body + b"more")
        elif kind == "flip":
            self._send(200, body[:-1] + bytes([body[-1] ^ 1]))
        elif kind == "cut":
            self._head(200, len(body))
            self.wfile.write(body[: len(body) // 2])
            self._reset()
        else:
            self._send(206 if wanted else 200, body)

    def _head(self, status: int, length: int, kind: str = "application/octet-stream") -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(length),
            "Content-Security-Policy": POLICY,
            **(ISOLATED if self.desk.isolated else {}),
            "Cross-Origin-Resource-Policy": "same-origin",
        }.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, status: int, body: bytes, kind: str = "application/octet-stream") -> None:
        self._head(status, len(body), kind)
        self.wfile.write(body)

    def _reset(self) -> None:
        """Cut the connection, as a dying network does."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def handle(self) -> None:
        """Serve until the browser hangs up, which it may do at any time."""
        try:
            super().handle()
        except (ConnectionError, ValueError):  # ValueError: we closed the connection ourselves
            return

    def finish(self) -> None:
        """Close what is still open."""
        try:
            super().finish()
        except (ConnectionError, OSError, ValueError):
            return

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Keep quiet."""


class Bench:
    """A page with one engine worker and its client in `window.engine` (pages/bench.js)."""

    def __init__(self, page: Page, watch: Watch) -> None:
        self.page = page
        self.watch = watch

    def call(self, op: str, args: dict[str, Any] | None = None) -> Any:
        """Run one operation to its end and return its result; a failure is returned as `{"failed": {...}}`."""
        return self.page.evaluate("([op, args]) => bench.call(op, args)", [op, args or {}])

    def start(self, name: str, op: str, args: dict[str, Any] | None = None) -> None:
        """Begin an operation and go on."""
        self.page.evaluate("([name, op, args]) => { bench.start(name, op, args); }", [name, op, args or {}])

    def end(self, name: str) -> Any:
        """Wait for the operation begun as `name`."""
        return self.page.evaluate("(name) => bench.end(name)", name)

    def events(self, name: str = "last") -> list[dict[str, Any]]:
        """Return the events of the operation begun as `name` (`last`: of the last `call`)."""
        found: list[dict[str, Any]] = self.page.evaluate("(name) => bench.events[name] ?? []", name)
        return found

    def chat(self, request_id: str, script: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Return the arguments of a chat whose only message is a script for the scripted WebLLM."""
        return {"requestId": request_id, "messages": [{"role": "user", "content": json.dumps(script)}], "options": options}
