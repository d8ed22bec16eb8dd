"""The page: its document, always checked for freshness, and its assets, which never change under their URL.

`/local` is the same document under a policy that lets neither it nor its workers talk to anything here but built files and models
(`security.local_policy`). A worker's policy is that of its script's answer, so the scripts are served a second time below
`/local/assets/` with that policy; what is no script and so cannot become a worker is sent on to its one address.

Until the bundle is built a short self-refreshing notice stands in, so that a person who is early sees what is going on.
The bundle lies in the cache, which may be deleted at any time: then it is asked for again, and the notice is back until it is.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
import time
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response

from hybr.server.errors import NotFoundError
from hybr.server.files import FOREVER, etag, not_modified, send_file
from hybr.server.security import local_policy, policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope, Send

INLINE = re.compile(r"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)
KEY = re.compile(r"[0-9a-f]{8,64}")
PLACE = 'name="place" content=""'  # in index.html; the page reads there which document it is
SCRIPTS = {".js", ".mjs"}  # what a worker can be begun from: nothing else has a script's type, and types are not guessed
USE_S = 60.0  # seconds between two marks that say the bundle is in use
SEGMENT = re.compile(r"[A-Za-z0-9_@+~-][A-Za-z0-9._@+~-]*")


class Site:
    """Serves one built bundle: `folder` holds index.html and assets/<hash>/. `folder` is None until it is built.

    `lost` is called once when the folder has gone away, and sees to it that there is one again.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.notice = "starting"
        self.lost: Callable[[], None] = lambda: None
        self._used = -USE_S

    def bundle(self) -> Path | None:
        """Return the bundle's folder, or None when it is not built yet, or not any more."""
        if self.folder and not (self.folder / "index.html").is_file():
            self.folder = None
            self.notice = "the page's files are gone from the cache and are made again"
            self._used = -USE_S
            self.lost()
        return self.folder

    def use(self) -> None:
        """Mark the bundle as in use, now and then, so that the building of others leaves it alone."""
        from hybr.server import page

        if self.folder and time.monotonic() - self._used >= USE_S:
            self._used = time.monotonic()
            page.use(self.folder)

    async def index(self, request: Request) -> Response:
        """Answer `/`: the document. Who asks for local-only in the address is sent to the document of that."""
        if request.query_params.get("mode") == "local-only":
            return RedirectResponse(f"/local?{request.url.query}", 307, {"cache-control": "no-store"})
        return self.document(request, policy)

    async def local(self, request: Request) -> Response:
        """Answer `/local`: the same document, which knows by its `place` what it is, under the policy that lets nothing out."""
        if request.query_params.get("mode", "local-only") != "local-only":
            return RedirectResponse(f"/?{request.url.query}", 307, {"cache-control": "no-store"})
        host = request.headers["host"]
        return self.document(request, lambda scripts: local_policy(host, scripts), place="local")

    def document(self, request: Request, policy_of: Callable[[list[str]], str], place: str = "") -> Response:
        """Answer with the document, or with what is being waited for."""
        folder = self.bundle()
        if folder is None:
            return waiting(self.notice)
        self.use()
        path = folder / "index.html"
        tag = etag(path.stat(), place and f"-{place}")
        text = path.read_text().replace(PLACE, f'name="place" content="{place}"')
        headers = {"cache-control": "no-cache", "etag": tag, "content-security-policy": policy_of(inline_hashes(text))}
        if not_modified(request.headers.get("if-none-match"), tag):
            return Response(status_code=304, headers=headers)
        return Response(text, media_type="text/html", headers=headers)

    async def assets(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `/assets/<hash>/...` from the bundle, or from an earlier one for a tab that was opened with it."""
        path = self.find(scope["path_params"]["path"])
        if path is None:
            raise NotFoundError("the bundle has no such file", code="no_such_asset")
        await send_file(path, scope, receive, send)

    async def local_assets(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `/local/assets/<hash>/...`: scripts themselves, under the strict policy; the rest from its one address.

        After a redirect CSP no longer looks at paths, so this one leads to files that exist below `/assets/` and nowhere else.
        """
        relative = scope["path_params"]["path"]
        path = self.find(relative)
        if path is None:
            raise NotFoundError("the bundle has no such file", code="no_such_asset")
        if path.suffix not in SCRIPTS:
            await RedirectResponse(f"/assets/{relative}", 308, {"cache-control": FOREVER})(scope, receive, send)
            return
        strict = local_policy(Headers(scope=scope)["host"])
        await send_file(path, scope, receive, with_policy(send, strict))

    def find(self, relative: str) -> Path | None:
        """Return the file at `<hash>/...`. Bundles lie side by side, each in a folder named by its hash."""
        folder = self.bundle()
        if folder is None:
            return None
        key = relative.split("/", 1)[0]
        earlier = folder.parent / key if KEY.fullmatch(key) else None
        return inside(folder / "assets", relative) or (inside(earlier / "assets", relative) if earlier else None)


def with_policy(send: Send, text: str) -> Send:
    """Return `send` with this Content-Security-Policy put on the answer."""

    async def dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"content-security-policy", text.encode())]}
        await send(message)

    return dressed


def inside(root: Path, relative: str) -> Path | None:
    """Return the regular file at `relative` under `root`, or None.

    Each segment must be a plain name: no `..`, no backslash, no NUL, nothing hidden. Links may not lead out.
    """
    segments = relative.split("/")
    if not all(SEGMENT.fullmatch(segment) for segment in segments):
        return None
    path = root.joinpath(*segments)
    if not path.is_file() or not path.resolve().is_relative_to(root.resolve()):
        return None
    return path


def inline_hashes(text: str) -> list[str]:
    """Return the policy's source for each inline script of the document, so that these and no others may run."""
    digests = (hashlib.sha256(body.encode()).digest() for body in INLINE.findall(text))
    return [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]


def waiting(notice: str) -> Response:
    """Return a page that says what is being prepared and looks again in a second."""
    text = (
        '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="1"><title>HYBR is getting ready</title>'
        "<style>body{font:16px system-ui;margin:20vh auto;max-width:32rem;padding:0 1rem}</style>"
        f"<h1>HYBR is getting ready</h1><p>{html.escape(notice)}</p>"
    )
    return Response(text, status_code=503, media_type="text/html", headers={"retry-after": "1", "cache-control": "no-store"})
