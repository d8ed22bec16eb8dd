"""`hybr models serve`: the shelf over HTTP, for a page or a WebLLM app of another origin on this machine.

    /models/index.json                       what there is, as the page's own server tells it
    /models/<id>/<rev>/[resolve/main/]<file> the files, with ranges and validators (server/files.py)
    /webllm.json                             the same as a `model_list` for WebLLM's AppConfig, addresses ready

Loopback only, reading only. Any origin may read (the weights are public and no request carries a right): a page from the outer
net is let in through CORS and private network access alike. A Host that is not this machine's is refused: DNS rebinding has one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hybr.server import paths
from hybr.server.errors import HybrError, NotFoundError
from hybr.server.models import Models
from hybr.server.security import Guard

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"accept-ranges, content-length, content-range, etag"),
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"timing-allow-origin", b"*"),
]
PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, HEAD"),
    (b"access-control-allow-headers", b"range, if-range, if-none-match, cache-control"),
    (b"access-control-allow-private-network", b"true"),
    (b"access-control-max-age", b"86400"),
    (b"vary", b"origin"),
]


class Shared:
    """Answers preflights itself and opens every other answer to all origins."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def opened(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *OPEN]}
            await send(message)

        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            response = Response(status_code=204)
            response.raw_headers.extend(PREFLIGHT)
            await response(scope, receive, opened)
        else:
            await self.app(scope, receive, opened)


class File:
    """`Models.file` as an ASGI application."""

    def __init__(self, models: Models) -> None:
        self.models = models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self.models.file(scope, receive, send)


def create(port: int) -> ASGIApp:
    """Return the application; `port` is the one it will be asked at."""
    models = Models(paths.home() / "models", list)

    async def webllm(request: Request) -> Response:
        host = request.headers["host"]
        return JSONResponse({"model_list": records(models, f"http://{host}")})

    async def failed(request: Request, error: Exception) -> Response:
        gone = NotFoundError(f"{request.url.path} was removed just now", code="no_such_file")  # FileNotFoundError
        told = error if isinstance(error, HybrError) else gone
        return JSONResponse(told.envelope(), status_code=told.status, headers=told.headers())

    routes = [
        Route("/models/index.json", models.index, methods=["GET"]),
        Route("/models/{id}/{rev}/{path:path}", File(models), methods=["GET", "HEAD"]),
        Route("/webllm.json", webllm, methods=["GET"]),
    ]
    app = Starlette(routes=routes, exception_handlers={HybrError: failed, FileNotFoundError: failed})
    app.router.redirect_slashes = False  # `/models/` is no other name of anything
    return Guard(Shared(app), port=port)


def records(models: Models, origin: str) -> list[dict[str, Any]]:
    """Return the shelf as WebLLM's `model_list`, once for each library: the software one as `<id>-software`."""
    found = []
    for entry in models.entries():
        for kind, path in entry["libraries"].items():
            found.append(
                {
                    "model_id": entry["id"] if kind == "gpu" else f"{entry['id']}-{kind}",
                    "model": f"{origin}{entry['base']}",
                    "model_lib": f"{origin}{entry['base']}{path}",
                    "vram_required_MB": entry["vram_bytes"] / 1e6,
                    "required_features": [*entry["features"], *(["subgroups"] if kind == "subgroups" else [])],
                    "model_type": 1 if entry["kind"] == "embedding" else 2 if entry.get("vision") else 0,  # WebLLM's ModelType
                    "overrides": {"context_window_size": entry["context"]},
                }
            )
    return found


def listen(port: int) -> None:
    """Serve on 127.0.0.1 until SIGINT or SIGTERM. Raises PortTakenError."""
    import uvicorn

    from hybr.server.serve import bind

    listener = bind("127.0.0.1", port)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    print(f"models at {address}/models/index.json, for WebLLM's AppConfig at {address}/webllm.json", flush=True)
    config = uvicorn.Config(
        create(listener.getsockname()[1]), log_level="warning", access_log=False, server_header=False, lifespan="off"
    )
    uvicorn.Server(config).run(sockets=[listener])
