"""`/api/session`: POST lets a browser in, GET says as whom it is in, DELETE ends it.

In the mode `token` POST takes `{"token"}`, the link's; with accounts `{"name", "password"}`. Every POST that succeeds makes a new
session: an id that somebody planted before stays worthless (session fixation).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from hybr.server import caller
from hybr.server.body import check_type, decode, read_body
from hybr.server.doors.credential import extract
from hybr.server.doors.local import LIFE
from hybr.server.doors.store import LIFE as SESSION_LIFE
from hybr.server.errors import RefusedError, RequestError, UnauthorizedError
from hybr.server.security import LOOPBACK

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Scope

    from hybr.server.doors.doors import Doors

BODY = 8 * 1024
FIELDS = {"token": ("token",), "accounts": ("name", "password"), "off": ()}


class Sessions:
    """The route over `doors`."""

    def __init__(self, doors: Doors) -> None:
        self.doors = doors

    async def begin(self, request: Request) -> JSONResponse:
        """Answer POST. Raises UnauthorizedError for what does not let in, LimitError after too many of those."""
        check_type(request.scope)
        fields = checked(decode(await read_body(request.receive, BODY)), FIELDS[self.doors.mode])
        if self.doors.mode == "off":
            return JSONResponse({"auth": "off"})
        if self.doors.mode == "token":
            cookie, seconds = self.doors.local.redeem(fields["token"]), LIFE
        else:
            check_secure(request.scope)
            address = request.client.host if request.client else ""
            before = extract(request.scope["headers"], self.doors.cookie_name(request.scope))
            cookie, seconds = await self.doors.login(fields["name"], fields["password"], address), SESSION_LIFE
            if cookie:
                await self.doors.logout(before)
        if cookie is None:
            raise UnauthorizedError
        return JSONResponse({"auth": self.doors.mode}, headers={"set-cookie": self.doors.baked(request.scope, cookie, seconds)})

    async def show(self, request: Request) -> JSONResponse:
        """Answer GET."""
        who = caller.of(request.scope)
        return JSONResponse({"auth": self.doors.mode, "owner": who.owner, "role": who.role, "token": who.token})

    async def end(self, request: Request) -> JSONResponse:
        """Answer DELETE: the session ends here and on the server, with whatever runs on it."""
        response = JSONResponse({"ended": True}, headers={"set-cookie": self.doors.baked(request.scope, "", 0)})
        held = extract(request.scope["headers"], self.doors.cookie_name(request.scope))
        await self.doors.logout(held, request.scope["state"].get("visit"))
        return response


def check_secure(scope: Scope) -> None:
    """Raise for a log-in from a page that came over plain HTTP under a name: its browser would drop the cookie unseen."""
    origin = dict(scope["headers"]).get(b"origin", b"")
    if origin.startswith(b"http://") and not LOOPBACK.fullmatch(origin.removeprefix(b"http://")):
        text = "this page came over plain HTTP, where browsers do not keep a log-in; open it with https:// before its name"
        raise RefusedError(text, code="plain_http", field="Origin")


def checked(body: Any, fields: tuple[str, ...]) -> dict[str, str]:
    """Return the body's fields. Raises RequestError for others than these, for no field of a person is set by who asks."""
    if not isinstance(body, dict) or set(body) != set(fields):
        raise RequestError(f"send an object with exactly {' and '.join(fields) or 'nothing in it'}", field=(*fields, "body")[0])
    for name, value in body.items():
        if not isinstance(value, str) or not 0 < len(value) <= 1024:
            raise RequestError(f"{name} must be a text of 1 to 1024 characters", field=name)
    return body
