"""`hybr serve`: bind, build what is missing, answer, and leave nothing running behind."""

from __future__ import annotations

import contextlib
import errno
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybr.server.config import Settings, switch
from hybr.server.errors import PortTakenError

if TYPE_CHECKING:
    import argparse

    from hybr.server.models import Models
    from hybr.server.site import Site


def add_parser(subparsers: Any) -> None:
    """Add `serve` to the frame."""
    serve = subparsers.add_parser("serve", help="serve the page, the models and the gateway")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8080, help="port to listen on, 0 for any free one (default 8080)")
    serve.add_argument("--no-build", action="store_true", help="do not build models in the background (also HYBR_BUILD=off)")
    serve.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    switch("HYBR_AUTH", default=True)  # loopback only in this version, so "off" is allowed and changes nothing yet
    build = not args.no_build and switch("HYBR_BUILD", default=True)
    settings = Settings(host=args.host, port=args.port, build=build)
    return listen(settings)


def listen(settings: Settings) -> int:
    """Run the server on the settings' address."""
    import uvicorn

    from hybr.server import app

    listener = bind(settings.host, settings.port)
    parts = assemble(settings)
    parts.site.folder = find_page()
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        app.create(parts), log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=3
    )
    print(f"HYBR is at http://{settings.host}:{port}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
    return 0


@dataclass
class Parts:
    """What the routes answer from."""

    settings: Settings
    site: Site
    models: Models

    def health(self) -> dict[str, Any]:
        """Return what /healthz says."""
        return {"status": "ok" if self.site.folder else "starting", "page": bool(self.site.folder)}


def assemble(settings: Settings) -> Parts:
    """Make the parts; nothing runs yet."""
    from hybr.server.models import Models
    from hybr.server.site import Site

    return Parts(settings, Site(), Models(settings.home / "models", list))


def find_page() -> Any:
    """Return the built bundle, building it when there is none."""
    from hybr.server import page

    if not hasattr(page, "build"):
        return None
    return page.current() or page.build(print)


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket.

    Raises PortTakenError when another program listens there. SO_REUSEADDR lets a restart follow at once on a stop; on
    Linux it does not let two programs share the port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
        listener.listen(2048)  # a second bind is only refused once the first listens
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTakenError(host, port) from error
        raise
    return listener
