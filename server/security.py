"""The wall around every answer: which hosts we answer for, who may change things, and what a browser is told.

Pure ASGI, outermost, so that even a crash's 500 carries the headers, and nothing hides a client's leaving from the relay
(BaseHTTPMiddleware would). Decisions use `scope["path"]` and raw headers, never a URL rebuilt from Host (CVE-2026-48710).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from hybr.server.errors import HybrError, RefusedError, RequestError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# DNS rebinding gives a foreign page our address but not our name; these names are always ours, others by configuration.
LOOPBACK = re.compile(rb"(?:localhost|127\.0\.0\.1|\[::1\])(?::(\d{1,5}))?", re.IGNORECASE)
NAMED = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?")  # what CSP can write of a host
SAFE = {"GET", "HEAD", "OPTIONS"}
HEADER_BYTES = 16 * 1024  # uvicorn and httptools set no bound of their own

KNOWN = 100  # spellings of our hosts that are remembered

FIXED = [
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-embedder-policy", b"require-corp"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
]


def policy(scripts: Sequence[str] = (), own: str = "'self'", connect: str = "'self'") -> str:
    """Return the Content-Security-Policy of the page and of its workers.

    `scripts` are the hashes of inline scripts (`'sha256-...'`). `own` is where scripts, styles and pictures may come from,
    `connect` where the page may talk to: `local_policy` narrows both. Without 'unsafe-eval': the bundle has no eval left.
    """
    allowed = " ".join([own, "'wasm-unsafe-eval'", "blob:", *scripts])
    return (
        f"default-src 'none'; script-src {allowed}; worker-src {own} blob:; style-src {own} 'unsafe-inline' blob:; "
        f"font-src {own} data:; img-src {own} data: blob:; connect-src {connect} blob:; "
        f"manifest-src {own}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def local_policy(host: str, scripts: Sequence[str] = ()) -> str:
    """Return the policy of the local-only document and of its workers: of this server they reach built files and models alone.

    Every directive that makes a request is scoped, for a question can leave in a picture's address as well as in a `fetch`.
    Workers may only be begun from `/local/assets/`, whose scripts carry this very policy: those of `/assets/` bring the open one.
    Raises RequestError for an IPv6 literal, which CSP has no way to write.
    """
    if not NAMED.fullmatch(host):
        text = "a browser cannot be told to keep to an IPv6 address: open the local-only page by a name, such as localhost"
        raise RequestError(text, code="bad_host", field="Host")
    assets, strict, models = f"{host}/assets/", f"{host}/local/assets/", f"{host}/models/"
    whole = policy(scripts, own=f"{assets} {strict}", connect=f"{assets} {strict} {models}")
    return whole.replace(f"worker-src {assets} {strict}", f"worker-src {strict}")


class Guard:
    """Refuse what must not come in, and add the headers that must go out."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str] = (), port: int = 0) -> None:
        """`hosts` are the names, with their ports, that we answer for besides this machine's own at `port` (0: at any)."""
        self.app = app
        self.hosts = frozenset(host.lower().encode() for host in hosts)
        self.port = b"%d" % port if port else b""
        self.wall = (*FIXED, (b"content-security-policy", policy().encode()), (b"cache-control", b"no-store"))
        self.known: set[bytes] = set()  # hosts that were found to be ours

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": self.dress(list(message.get("headers", ())))}
            await send(message)

        try:
            self.check(scope["method"], scope["headers"])
        except HybrError as error:
            await answer(dressed, error)
            return
        await self.app(scope, receive, dressed)

    def check(self, method: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Raise for a request that is too large in its headers, not for us, or made by another site's page."""
        size, hosts = 0, []
        for name, value in headers:
            size += len(name) + len(value)
            if name == b"host":
                hosts.append(value)
        if size > HEADER_BYTES:
            raise HeadersTooLargeError(f"the headers are larger than {HEADER_BYTES} bytes", code="headers_too_large")
        if len(hosts) != 1 or not (hosts[0] in self.known or self.is_ours(hosts[0])):
            text = "this server does not answer for that host: open it as localhost, or name the host in HYBR_HOSTS"
            raise RequestError(text, code="bad_host", field="Host")
        if method not in SAFE:
            check_origin(dict(headers), hosts[0])

    def is_ours(self, host: bytes) -> bool:
        """Say whether we answer for `host`: exactly as configured, or this machine's own name without a port or with ours."""
        found = LOOPBACK.fullmatch(host)
        local = found is not None and (found[1] is None or not self.port or found[1] == self.port)
        if (ours := local or host.lower() in self.hosts) and len(self.known) < KNOWN:
            self.known.add(host)
        return ours

    def dress(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return `headers` with the wall's own added where the route set none; what no route says to keep, nobody keeps."""
        names = dict(headers)
        return headers + [pair for pair in self.wall if pair[0] not in names]


def check_origin(headers: dict[bytes, bytes], host: bytes) -> None:
    """Raise when an unsafe request comes from another site: Go's http.CrossOriginProtection, `same-site` refused too.

    A client that sends neither header is no browser, and so carries nobody's ambient rights; nor does one that brings a token and
    no cookie.
    """
    if b"cookie" not in headers and (b"authorization" in headers or b"x-api-key" in headers):
        return
    site = headers.get(b"sec-fetch-site")
    origin = headers.get(b"origin")
    if site is not None:
        if site in {b"same-origin", b"none"}:
            return
    elif origin is None or origin in {b"http://" + host, b"https://" + host}:
        return
    raise RefusedError("a page of another site may not do this", code="cross_site", field="Origin")


class HeadersTooLargeError(TooLargeError):
    """More header bytes than the server takes."""

    status = 431


async def answer(send: Send, error: HybrError, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """Send the error's envelope as the whole answer."""
    body = json.dumps(error.envelope()).encode()
    own = [(name.encode(), value.encode()) for name, value in error.headers().items()]
    sized = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *own, *headers]
    await send({"type": "http.response.start", "status": error.status, "headers": sized})
    await send({"type": "http.response.body", "body": body})
