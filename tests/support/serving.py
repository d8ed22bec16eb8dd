"""The server's own tests: the parts wired as `hybr serve` wires them, in the test's loop, over real sockets or none."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn

from hybr.mlc_build import maker
from hybr.server import app
from hybr.server.config import Settings
from hybr.server.serve import Parts, assemble, bind, draining
from hybr.server.wire import Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    import aiohttp

    from hybr.server.doors.doors import Mode

REV = "0123456789abcdef"


def parts_in(folder: Path, auth: Mode = "off", told: Mapping[str, Any] | None = None, **house: Any) -> Parts:
    """Return parts over an empty cache and data folder; `told` are further settings, `house` the house model's fields."""
    settings = Settings(home=folder / "home", data=folder / "data", build=False, warm=False, auth=auth, **(told or {}))
    parts = assemble(settings)
    for name, value in house.items():
        setattr(parts.house, name, value)
    return parts


@contextlib.asynccontextmanager
async def asking(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client that calls the application directly; the parts are stopped at the end."""
    transport = httpx.ASGITransport(app.create(parts), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        try:
            yield client
        finally:
            await parts.stop()


@contextlib.asynccontextmanager
async def listening(parts: Parts) -> AsyncIterator[str]:
    """Serve the parts with uvicorn on a free port, lifespan and all, and give the address."""
    if parts.site.folder is None:  # otherwise the boot would build the real bundle
        parts.site.folder = parts.models.root.parent / "page" / ("0" * 16)
        parts.site.folder.mkdir(parents=True, exist_ok=True)
        (parts.site.folder / "index.html").write_text("")
    socket = bind("127.0.0.1", 0)
    address = f"http://127.0.0.1:{socket.getsockname()[1]}"
    config = uvicorn.Config(
        app.create(parts, address),
        http=Wire,
        log_level="warning",
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=5,
        server_header=False,
    )
    server = draining(uvicorn.Server(config), parts.relay, 0.2)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]  # pytest keeps its own
    task = asyncio.create_task(server.serve(sockets=[socket]))
    try:
        while not server.started:
            assert not task.done()
            await asyncio.sleep(0.01)
        yield address
    finally:
        server.should_exit = True
        await task


async def soon(check: Callable[[], Any | Awaitable[Any]], seconds: float = 60.0) -> None:
    """Wait until `check()`, or what it gives to await, is true; a machine may be very busy. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            found = check()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.01)


def shelve(home: Path, name: str, files: dict[str, bytes], **fields: Any) -> Path:
    """Put a finished build of model `name` on the shelf, as the compiler would, and return its folder."""
    folder = home / "models" / name / REV
    folder.mkdir(parents=True)
    for path, content in files.items():
        (folder / path).write_bytes(content)
    listed = [{"path": path, "bytes": len(content), "sha256": "0" * 64, "sri": ""} for path, content in files.items()]
    (folder / "manifest.json").write_text(json.dumps({"schema": 1, "id": name, "rev": REV, "files": listed, **fields}))
    state(home, name, state="built", rev=REV, made_by=maker.fingerprint())
    return folder


def state(home: Path, name: str, **fields: Any) -> None:
    """Write a model's state.json."""
    folder = home / "models" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state.json").write_text(json.dumps({"progress": None, "error": None, "rev": None, "pid": 1, **fields}))


def question(text: str = "What is the capital of France?", **fields: Any) -> dict[str, Any]:
    """Return a chat request at temperature 0."""
    return {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 32, **fields}


def said(events: list[dict[str, Any]]) -> str:
    """Return the text of a stream's events."""
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event.get("choices", []))


async def stream(session: aiohttp.ClientSession, address: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any] | str]:
    """Yield the events of a streamed chat, decoded, and the closing `[DONE]` as text."""
    async with session.post(f"{address}/v1/chat/completions", json={**body, "stream": True}) as answer:
        assert answer.status == 200, await answer.text()
        async for line in answer.content:
            if line.startswith(b"data: "):
                data = line[6:].strip()
                yield "[DONE]" if data == b"[DONE]" else json.loads(data)
