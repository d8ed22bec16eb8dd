"""An imitation of the place where WebLLM's models are published: a folder of files behind a web server that can misbehave."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import defaultdict
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from hybr.mlc_build.prebuilt import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHARDS = [bytes(range(256)) * 1200, bytes(reversed(range(256))) * 700]
LIBRARY = "/libraries/tiny-webgpu.wasm"
BASE = "/someone/Tiny-q4f16_1-MLC"


def files(shards: list[bytes] | None = None) -> dict[str, bytes]:
    """Return what the hub has, by path: a small model's files in WebLLM's layout."""
    weights = shards or SHARDS
    records = [
        {
            "dataPath": f"params_shard_{number}.bin",
            "nbytes": len(content),
            "md5sum": hashlib.md5(content, usedforsecurity=False).hexdigest(),
            "records": [{"name": f"layer.{number}", "nbytes": len(content)}],
        }
        for number, content in enumerate(weights)
    ]
    config = {
        "model_type": "llama",
        "quantization": "q4f16_1",
        "context_window_size": 2048,
        "tokenizer_files": ["tokenizer.json"],
    }
    told = {
        "mlc-chat-config.json": json.dumps(config).encode(),
        "tensor-cache.json": json.dumps({"metadata": {}, "records": records}).encode(),
        "tokenizer.json": b'{"model": {}}',
        "README.md": b"---\nlicense: apache-2.0\nbase_model: x\n---\n# Tiny\n",
    } | {record["dataPath"]: content for record, content in zip(records, weights, strict=True)}
    return {f"{BASE}/resolve/main/{name}": content for name, content in told.items()} | {LIBRARY: library(90_000)}


def library(size: int, byte: bytes = b"\1") -> bytes:
    """Return WebAssembly of one section of so many bytes."""
    return b"\0asm\1\0\0\0\0" + bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14]) + byte * size


class Hub:
    """The hub's state. `faults[path]` is a list of things to do to the next requests for that path, one each, then none."""

    def __init__(self) -> None:
        self.files = files()
        self.faults: dict[str, list[Callable[[Handler], bool]]] = defaultdict(list)
        self.asked: list[tuple[str, str | None]] = []
        self.sent = 0
        self.origin = ""
        self.tags = True

    def record(self) -> Record:
        """Return the model as WebLLM's catalogue would name it."""
        overrides = {"context_window_size": 1024}
        return Record("Tiny-q4f16_1-MLC", self.origin + BASE, self.origin + LIBRARY, 5_000_000, (), overrides)

    def path(self, name: str) -> str:
        """Return the path of one of the model's files."""
        return LIBRARY if name == "model.wasm" else f"{BASE}/resolve/main/{name}"


class Handler(BaseHTTPRequestHandler):
    """Answers a GET from the hub's files, with ranges as a real one does."""

    hub: Hub

    def do_GET(self) -> None:
        """Answer one request."""
        path = self.path.removeprefix("/cdn")
        self.hub.asked.append((self.path, self.headers.get("range")))
        todo = self.hub.faults[self.path]
        if todo and todo.pop(0)(self):
            return
        if path not in self.hub.files:
            self.status(404)
            return
        self.give(self.hub.files[path])

    def give(
        self, content: bytes, *, cut: int | None = None, span: str | None = None, more: dict[str, str] | None = None
    ) -> bool:
        """Send a file or its wanted range, or `span` in its place.

        `cut` closes the connection after so many bytes; `more` are headers, and those to leave out with nothing in them.
        """
        tag = f'"{hashlib.sha256(content).hexdigest()[:12]}"'
        span = self.headers.get("range", "") if span is None else span
        start = int(span.removeprefix("bytes=").removesuffix("-")) if span and self.headers.get("if-range") == tag else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("content-range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        for name, value in ({"content-length": str(len(content) - start)} | (more or {})).items():
            if value:
                self.send_header(name, value)
        if self.hub.tags:
            self.send_header("etag", tag)
        self.end_headers()
        body = content[start:] if cut is None else content[start : start + cut]
        self.hub.sent += len(body)
        self.wfile.write(body)
        if cut is not None:
            self.close_connection = True
        return True

    def status(self, code: int, **headers: str) -> bool:
        """Answer with a status and no body."""
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", "0")
        self.end_headers()
        return True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub on loopback."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.origin = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
