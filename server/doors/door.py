"""The wall behind the guard: nobody reaches a route without a caller, unless the route is public.

Pure ASGI. What is public is listed here and nowhere else, and everything that is not listed is closed, paths that do not
exist included. A missing, empty, malformed, doubled or revoked credential gets one and the same 401. When a credential ends while
a stream runs on it, the request's task is cancelled, which releases the upstream, and the stream ends with an error event.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from hybr.server.caller import PERSON
from hybr.server.doors.credential import extract
from hybr.server.doors.registry import Visit
from hybr.server.errors import HybrError, UnauthorizedError
from hybr.server.security import answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from hybr.server.doors.doors import Doors

PUBLIC = {"/healthz", "/readyz", "/favicon.ico", "/models/index.json", "/metrics"}  # the last asks for its own credential
PUBLIC_UNDER = ("/assets/", "/local/assets/", "/models/")
PAGES = {"/", "/local"}
SESSION = "/api/session"  # its POST lets in, and so cannot ask


def is_public(method: str, path: str) -> bool:
    """Say whether anybody may ask: built files, probes, and the way in. None of them knows of persons."""
    if path in PUBLIC or path.startswith(PUBLIC_UNDER):
        return method in {"GET", "HEAD"}
    return path == SESSION and method == "POST"


class Door:
    """Lets requests through to `app` with their caller in `scope["state"]`."""

    def __init__(self, app: ASGIApp, doors: Doors) -> None:
        self.app = app
        self.doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or is_public(scope["method"], scope["path"]):
            await self.app(scope, receive, send)
        elif self.doors.mode == "off":
            scope.setdefault("state", {})["caller"] = PERSON
            await self.app(scope, receive, send)
        else:
            await self.check(scope, receive, send)

    async def check(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in who brings what holds, and nobody else."""
        if scope["path"] in PAGES and (page := await self.doors.page(scope)):
            await page(scope, receive, send)
            return
        credential = extract(scope["headers"], self.doors.cookie_name(scope))
        try:
            entry = await self.doors.find(credential)
        except HybrError as error:
            await answer(send, error)
            return
        if entry is None:
            await answer(send, UnauthorizedError())
            return
        visit = Visit()
        scope.setdefault("state", {}).update(caller=entry.held.caller, visit=visit)
        entry.visits.add(visit)
        sent = Sent(send)
        try:
            await self.app(scope, receive, sent)
        except asyncio.CancelledError:
            if not visit.ended:
                raise
            if visit.task:
                visit.task.uncancel()
            await sent.finish()
        finally:
            entry.visits.discard(visit)


class Sent:
    """A `send` that remembers how far the answer has come."""

    __slots__ = ("over", "send", "start")

    def __init__(self, send: Send) -> None:
        self.send = send
        self.start: Message | None = None
        self.over = False

    async def __call__(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            self.start = message
        elif not message.get("more_body", False):
            self.over = True
        await self.send(message)

    async def finish(self) -> None:
        """Say that the session has ended, as far as the answer so far allows it; an unfinished body of bytes is just cut."""
        if self.start is None:
            await answer(self.send, UnauthorizedError())
        elif not self.over and any(value.startswith(b"text/event-stream") for _, value in self.start["headers"]):
            body = b"data: " + json.dumps(UnauthorizedError().envelope()).encode() + b"\n\n"
            await self.send({"type": "http.response.body", "body": body})
