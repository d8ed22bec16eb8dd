"""`/api/blobs`: bytes that the page has encrypted, kept for a person's other devices. Nothing here reads them.

    GET    /api/blobs?since=VERSION&limit=N     what was written and deleted after a version, sizes, sums and quotas
    GET    /api/blobs/{name}                    the bytes; ETag is the version, If-None-Match answers 304
    PUT    /api/blobs/{name}                    If-Match: "VERSION" over that version, If-None-Match: * as a new one
    DELETE /api/blobs/{name}                    If-Match: "VERSION", or * for any

A write without a condition is a 428 and one from an old version a 412, so two devices never silently undo each other. Versions
grow with each write of a person: `since` the `version` of the last list gives all that a device lacks, deletions included.
Where `complete` is false in that answer, some deletions are forgotten by now, and the device compares with the list since 0.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hybr.server import caller
from hybr.server.body import WrongTypeError, read_body
from hybr.server.errors import RequestError, TooLargeError
from hybr.server.files import not_modified
from hybr.server.store.blobs import ABSENT, ANY, Quota, clear, drop, listed, load, save, summed

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.requests import Request

    from hybr.server.store.database import Database

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
TAG = re.compile(r'"(\d{1,18})"')
BYTES = "application/octet-stream"
LISTED = 1000  # lines of one list
WALLS = {
    "content-disposition": "attachment",
    "content-security-policy": "default-src 'none'; sandbox",
    "x-content-type-options": "nosniff",
}


class Blobs:
    """The routes over `database`, within `quota` for each person."""

    def __init__(self, database: Database, quota: Quota) -> None:
        self.database = database
        self.quota = quota

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = "/api/blobs/{name:path}"  # path: a name with a slash is refused by its name, not by silence
        return [
            Route("/api/blobs", self.index, methods=["GET"]),
            Route(one, self.read, methods=["GET"]),
            Route(one, self.write, methods=["PUT"]),
            Route(one, self.drop, methods=["DELETE"]),
        ]

    async def index(self, request: Request) -> Response:
        """Answer the list."""
        owner = caller.of(request.scope).owner
        since = number(request, "since", 0, 0, 2**62)
        limit = number(request, "limit", LISTED, 1, LISTED)
        async with self.database.begin() as connection:
            clock, total, count, floor = await summed(connection, owner)
            # Up to that clock: what another device writes between these two queries comes with the next list, not never.
            found = await listed(connection, owner, since, clock, limit + 1)
        more = len(found) > limit
        found = found[:limit]
        body = {
            "blobs": [asdict(one) for one in found],
            "version": found[-1].version if more else clock,
            "more": more,
            "complete": since == 0 or floor <= since <= clock,
            "bytes": total,
            "count": count,
            "quota": {"blob": self.quota.blob, "bytes": self.quota.total, "count": self.quota.count},
        }
        return JSONResponse(body)

    async def read(self, request: Request) -> Response:
        """Answer one blob's bytes."""
        name = named(request)
        async with self.database.begin() as connection:
            version, content = await load(connection, caller.of(request.scope).owner, name)
        headers = {**WALLS, "etag": f'"{version}"'}
        if not_modified(request.headers.get("if-none-match"), headers["etag"]):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=BYTES, headers=headers)

    async def write(self, request: Request) -> Response:
        """Store one blob."""
        owner, name, expected = caller.of(request.scope).owner, named(request), condition(request.headers)
        if expected == ANY:
            raise RequestError("write over a version that you have read", code="invalid_value", field="If-Match")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != BYTES:
            raise WrongTypeError(f"send Content-Type: {BYTES}", code="wrong_type", field="Content-Type")
        content = await self.body(request)
        async with self.database.begin() as connection:
            version = await save(connection, owner, name, content, expected=expected, quota=self.quota)
        status = 200 if expected else 201
        body = {"name": name, "version": version, "bytes": len(content)}
        return JSONResponse(body, status_code=status, headers={"etag": f'"{version}"'})

    async def body(self, request: Request) -> bytes:
        """Return the bytes. Raises TooLargeError: at once where the length is said, at the bound where it is not."""
        most = self.quota.blob
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > most:
            text = f"the blob has {length[:20]} bytes, and one may have {most}"
            raise TooLargeError(text, code="blob_too_large", field="Content-Length")
        try:
            return await read_body(request.receive, most)
        except TooLargeError:
            raise TooLargeError(f"one blob may have {most} bytes", code="blob_too_large") from None

    async def drop(self, request: Request) -> Response:
        """Delete one blob."""
        owner, name, expected = caller.of(request.scope).owner, named(request), condition(request.headers)
        async with self.database.begin() as connection:
            version = await drop(connection, owner, name, expected=expected)
        return JSONResponse({"name": name, "version": version, "deleted": True})

    async def forget(self, owner: str) -> None:
        """Remove all that a person keeps here."""
        async with self.database.begin() as connection:
            await clear(connection, owner)


class UnconditionalError(RequestError):
    """A write that does not say what it starts from."""

    status = 428


def named(request: Request) -> str:
    """Return the blob's name. Raises RequestError for one that could mean anything to a file system, a shell or a log."""
    name: str = request.path_params["name"]
    if not NAME.fullmatch(name):
        text = "a blob's name is 1 to 128 of a-z, 0-9, dot, hyphen and underscore, and begins with a letter or digit"
        raise RequestError(text, code="bad_name", field="name")
    return name


def condition(headers: Headers) -> int:
    """Return the version from which a write starts, ABSENT or ANY. Raises UnconditionalError and RequestError."""
    match, none = headers.get("if-match"), headers.get("if-none-match")
    if (match is None) == (none is None):
        text = 'say what the change starts from: If-Match: "VERSION", or If-None-Match: * for a new blob'
        raise UnconditionalError(text, code="no_condition", field="If-Match")
    if none is not None:
        if none.strip() != "*":
            raise RequestError("If-None-Match of a write is *", field="If-None-Match")
        return ABSENT
    if (match or "").strip() == "*":
        return ANY
    tag = TAG.fullmatch((match or "").strip())
    if tag is None or int(tag[1]) == ABSENT:
        raise RequestError("If-Match is the ETag that a GET answered, in its quotes", field="If-Match")
    return int(tag[1])


def number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """Return a whole number of the query. Raises RequestError that names it."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
        raise RequestError(f"{name} is a whole number from {least} to {most}", field=name)
    return int(text)
