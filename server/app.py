"""The ASGI application: every route, wired by hand to the objects that answer it."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hybr.server import faults
from hybr.server.access import Access
from hybr.server.doors.door import Door
from hybr.server.doors.routes import Sessions
from hybr.server.errors import HybrError, NotFoundError, RequestError
from hybr.server.hosts import Hosts
from hybr.server.keys.routes import Keys
from hybr.server.openapi.page import described, docs
from hybr.server.quick import Quick
from hybr.server.security import Guard
from hybr.server.surfaces.chat import Chat
from hybr.server.surfaces.counting import Counting
from hybr.server.surfaces.embeddings import Embeddings
from hybr.server.surfaces.messages import Messages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from hybr.server.serve import Parts
    from hybr.server.surfaces.base import Surface


class Raw:
    """A bound method as an ASGI application: Starlette takes bare methods for request-response views."""

    def __init__(self, call: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self.call(scope, receive, send)


def create(parts: Parts, address: str = "") -> ASGIApp:
    """Return the application over `parts`, whose life is its own; `address` is what a person opens."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # noqa: ARG001
        parts.start(address)
        try:
            yield
        finally:
            await parts.stop()

    parts.doors.port = urlsplit(address).port or 0
    sessions = Sessions(parts.doors)
    keys = Keys(parts.keyring, {remote.name: remote.upstream for remote in parts.remotes})
    spoken: dict[str, Surface] = {
        "/v1/chat/completions": Chat(),
        "/v1/messages": Messages(),
        "/v1/messages/count_tokens": Counting(),
        "/v1/embeddings": Embeddings(),
    }
    surfaces = {path: Raw(partial(parts.relay.answer, surface)) for path, surface in spoken.items()}
    routes = [
        *(Route(path, surface, methods=["POST"]) for path, surface in surfaces.items()),
        Route("/api/session", sessions.begin, methods=["POST"]),
        Route("/api/session", sessions.show, methods=["GET"]),
        Route("/api/session", sessions.end, methods=["DELETE"]),
        Route("/", parts.site.index, methods=["GET"]),
        Route("/favicon.ico", no_icon, methods=["GET"]),
        Route("/healthz", parts.probes.health, methods=["GET"]),
        Route("/readyz", parts.probes.ready, methods=["GET"]),
        Route("/local", parts.site.local, methods=["GET"]),
        Route("/local/assets/{path:path}", Raw(parts.site.local_assets), methods=["GET"]),
        Route("/assets/{path:path}", Raw(parts.site.assets), methods=["GET"]),
        Route("/remote/assets/{path:path}", Raw(Hosts(parts.site, parts.preferences).assets), methods=["GET"]),
        Route("/models/index.json", parts.models.index, methods=["GET"]),
        Route("/models/{id}/{rev}/{path:path}", Raw(parts.models.file), methods=["GET"]),
        Route("/v1/models", parts.relay.models, methods=["GET"]),
        Route("/v1/models/{id:path}", parts.relay.model, methods=["GET"]),
        Route("/api/keys", keys.index, methods=["GET"]),
        Route("/api/keys/{provider}", keys.read, methods=["GET"]),
        Route("/api/keys/{provider}", keys.write, methods=["PUT"]),
        Route("/api/keys/{provider}", keys.drop, methods=["DELETE"]),
        Route("/api/providers", parts.status.providers, methods=["GET"]),
        Route("/api/preferences", parts.preferences.read, methods=["GET"]),
        Route("/api/preferences", parts.preferences.write, methods=["PUT"]),
        Route("/openapi.json", described, methods=["GET"]),
        Route("/docs", docs, methods=["GET"]),
        *faults.routes(),
        *parts.blobs.routes(),
        *parts.office.routes(),
    ]
    handlers: dict[Any, Any] = {HybrError: envelope, HTTPException: http_error, FileNotFoundError: gone, Exception: crash}
    application = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    quick = Quick(application, surfaces, crash)
    return Access(Guard(Door(quick, parts.doors), parts.hosts, parts.doors.port), routes, parts.log_requests)


async def no_icon(request: Request) -> Response:  # noqa: ARG001
    """Answer the icon browsers ask for unasked; the page names its own."""
    return Response(status_code=204)


async def envelope(request: Request, error: HybrError) -> Response:  # noqa: ARG001
    """Answer with our own error."""
    return JSONResponse(error.envelope(), status_code=error.status, headers=error.headers())


async def http_error(request: Request, error: HTTPException) -> Response:
    """Answer with Starlette's (an unknown path, a method that a path does not have) in the same envelope."""
    path = request.scope["path"]
    if error.status_code == 404:
        ours: HybrError = NotFoundError(f"there is nothing at {path[:200]}", code="no_such_path")
    else:
        ours = RequestError(f"{request.method} {path[:200]}: {error.detail}", code="http_error")
    return JSONResponse(ours.envelope(), status_code=error.status_code, headers=error.headers)


async def gone(request: Request, error: FileNotFoundError) -> Response:  # noqa: ARG001
    """Answer for a file that went away between the look-up and the sending."""
    return await envelope(request, NotFoundError(f"{request.scope['path'][:200]} is gone", code="no_such_file"))


async def crash(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """Answer for a defect of ours without a word of its text, which can hold anything; the log has the traceback."""
    ours = HybrError("the server failed on this request; its log says why", code="internal_error")
    return JSONResponse(ours.envelope(), status_code=500, headers={"connection": "close"})  # for uvicorn closes it
