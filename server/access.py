"""The outermost wall: every request gets an id of ours, and some get a line in the log.

Pure ASGI, a few microseconds. The id is made here and taken from no client; it is in the answer's `x-hybr-request`, in every
log line and in every error of the relay. Which requests have a line: `log_requests` off, errors (refused, failed, or broken
off in the stream) or all. A line knows method, route (its template, never the path), status, milliseconds, who by a hash,
provider, attempts and the error's code.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
import re
import secrets
import time
from typing import TYPE_CHECKING, Any

from hybr.server.caller import LOCAL
from hybr.server.logs import REQUEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("hybr.access")
HEADER = b"x-hybr-request"
PROCESS = secrets.token_hex(4)  # ids name requests and open nothing: they need to differ, not to be unguessable
COUNT = itertools.count(1)
CODE = re.compile(rb'"code": ?"([a-z_0-9]{1,60})"')
FAILED = 400
BROKEN = 500
GONE = 499


class Access:
    """Names and logs the requests of `app`; `routes` are those whose templates may be told."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute] = (), which: str = "errors") -> None:
        self.app = app
        self.which = which
        self.templates = {endpoint: route.path for route in routes if (endpoint := getattr(route, "endpoint", None))}  # type: ignore[attr-defined]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["request"] = request = f"{PROCESS}{next(COUNT):08x}"
        REQUEST.set(request)
        seen = Seen(send, request.encode())
        try:
            await self.app(scope, receive, seen)
        finally:
            booking = state.get("booking")
            if self.which != "off" and (self.which == "all" or seen.status >= FAILED or (booking and booking.kind)):
                self.write(scope, seen, booking)

    def write(self, scope: Scope, seen: Seen, booking: Any) -> None:
        """Write the line."""
        caller = scope["state"].get("caller")
        fields = {
            "method": scope["method"],
            "route": self.templates.get(scope.get("endpoint"), "none"),
            "status": seen.status,
            "ms": round((time.perf_counter() - seen.began) * 1000, 1),
            "owner": hashed(caller.owner) if caller else None,
            "provider": booking.provider if booking else None,
            "attempts": booking.attempts if booking else None,
            "code": (booking.kind if booking else None) or seen.code,
        }
        told = {name: value for name, value in fields.items() if value not in {None, ""}}
        level = logging.WARNING if seen.status >= BROKEN or (booking and booking.kind) else logging.INFO
        text = f"{fields['method']} {fields['route']} {fields['status']}"
        log.log(level, text, extra={"fields": told, "request": scope["state"]["request"]})


class Seen:
    """`send` that notes the answer's status and its error's code, and adds the id."""

    __slots__ = ("began", "code", "id", "send", "status")

    def __init__(self, send: Send, request: bytes) -> None:
        self.send = send
        self.id = request
        self.began = time.perf_counter()
        self.status = GONE  # until something is sent
        self.code: str | None = None

    async def __call__(self, message: Message) -> None:
        """Pass one message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message.get("headers", ())
            if HEADER not in dict(headers):
                message = {**message, "headers": [*headers, (HEADER, self.id)]}
        elif self.status >= FAILED and self.code is None and (found := CODE.search(message.get("body", b""))):
            self.code = found[1].decode()
        await self.send(message)


@functools.lru_cache(1000)
def hashed(owner: str) -> str:
    """Return a short name for an owner that leads to nobody without the database."""
    return owner if owner == LOCAL else hashlib.sha256(owner.encode()).hexdigest()[:10]
