"""Sending files: MIME types we vouch for, byte ranges, precompressed variants, and validators.

Every file here is immutable under its URL, so a validator is its size and time. A `.br` sibling goes out when the browser
takes brotli and asks for no range: a range of the compressed form would be right by the letter and wrong to every reader.
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from starlette.types import Message, Receive, Scope, Send

FOREVER = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"

# Not mimetypes.guess_type: that reads the machine's tables, and one wrong entry there stops every module script.
TYPES = {
    ".bin": "application/octet-stream",
    ".css": "text/css; charset=utf-8",
    ".data": "application/octet-stream",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".md": "text/plain; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".whl": "application/zip",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".zip": "application/zip",
}
ONE_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{1,18})?|-\d{1,18})")


class Chunked(FileResponse):
    """Starlette's file response with fewer trips to the thread pool: weights are tens of megabytes.

    And nothing is sent before the file is open: raises FileNotFoundError when it was removed meanwhile.
    """

    chunk_size = 256 * 1024

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        start: list[Message] = []

        async def opened(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.append(message)
                return
            if start:
                await send(start.pop())
            await send(message)

        await super().__call__(scope, receive, opened)


async def send_file(path: Path, scope: Scope, receive: Receive, send: Send, *, cache: str = FOREVER) -> None:
    """Answer with the regular file at `path`, which the caller has already allowed.

    Raises FileNotFoundError when it is gone.
    """
    headers = Headers(scope=scope)
    chosen = path
    ranged = wanted_range(headers.get("range"))
    extra = {"cache-control": cache, "vary": "accept-encoding"}
    if ranged is None and takes_brotli(headers.get("accept-encoding", "")):
        packed = path.with_name(path.name + ".br")
        if packed.is_file():
            chosen = packed
            extra["content-encoding"] = "br"
    stat = chosen.stat()
    extra["etag"] = etag(stat, "-br" if chosen is not path else "")
    match = headers.get("if-none-match")
    if not_modified(match, extra["etag"]) or (match is None and not_newer(headers.get("if-modified-since"), stat)):
        await Response(status_code=304, headers=extra)(scope, receive, send)
        return
    if ranged is None:  # absent, or of a kind that RFC 9110 lets us ignore: several ranges, other units, nonsense
        scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"range"]}
    media = TYPES.get(path.suffix.lower(), "application/octet-stream")
    response = Chunked(chosen, headers=extra, stat_result=stat)
    response.headers["content-type"] = media
    await response(scope, receive, send)


def wanted_range(header: str | None) -> str | None:
    """Return the Range header when it is one well-formed byte range, else None."""
    match = ONE_RANGE.fullmatch(header.strip()) if header else None
    if match is None:
        return None
    first, last = match.groups()
    return None if first and last and int(last) < int(first) else header


def takes_brotli(accept: str) -> bool:
    """Say whether an Accept-Encoding header allows `br`."""
    for item in accept.lower().split(","):
        name, _, parameters = item.partition(";")
        if name.strip() == "br":
            return not re.fullmatch(r"\s*q=0(\.0*)?\s*", parameters)
    return False


def etag(stat: os.stat_result, suffix: str = "") -> str:
    """Return a strong validator from size and time."""
    return f'"{stat.st_mtime_ns:x}-{stat.st_size:x}{suffix}"'


def not_modified(header: str | None, tag: str) -> bool:
    """Say whether If-None-Match names `tag`."""
    if header is None:
        return False
    return header.strip() == "*" or tag in {item.strip().removeprefix("W/") for item in header.split(",")}


def not_newer(header: str | None, stat: os.stat_result) -> bool:
    """Say whether If-Modified-Since is the file's time or later, in whole seconds as HTTP dates are; no date says no.

    Only for requests without If-None-Match, which goes before (RFC 9110, 13.1.3).
    """
    if header is None:
        return False
    try:
        since = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return False
    return int(stat.st_mtime) <= (since if since.tzinfo else since.replace(tzinfo=UTC)).timestamp()
