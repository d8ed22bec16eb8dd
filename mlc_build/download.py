"""One file from a web server to this disk: resumable, bounded and checked. Nothing but the standard library.

What has arrived lies beside the file as `<name>.part`, and in `<name>.part.json` whose bytes those are (address and validator).
A next try asks for the rest with Range and If-Range, so a file that changed meanwhile comes whole. `<name>` itself appears by a
rename after the last byte was checked. Waiting is what the other side asks for (Retry-After), else doubles; bytes that arrive
begin the count of tries anew, so a bad line costs time and not the download.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BLOCK = 1 << 18
TRIES = 6
LONGEST_WAIT = 120.0
STALL = 30.0
"""Seconds after which a connection counts as cut that brought nothing meanwhile, or less than LEAST."""
LEAST = 1 << 10
"""Bytes: a host that gives one now and then would hold us for ever."""
LARGEST = 8 << 30


class NotThere(SourceError):
    """The server says that the address holds nothing."""

    code = "source-missing"


class _Again(Exception):
    """A fault that may pass. `wait` is what the server asked for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Want:
    """A file to have: where from, and what is known of it before.

    Attributes:
        url: its address, http or https.
        bytes: its size; None when nobody said.
        md5: its md5 in hex; None when nobody said.
        most: bytes after which it cannot be what we want.

    """

    url: str
    bytes: int | None = None
    md5: str | None = None
    most: int = LARGEST


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Follow to another address of the same or a safer kind only: not from https to http, nor to a file."""

    def redirect_request(  # noqa: PLR0917 - the standard library's signature
        self, request: Any, fp: Any, code: int, text: str, headers: Any, url: str
    ) -> Any:
        """Return the next request, or raise SourceError."""
        schemes = {"https"} if urlsplit(request.full_url).scheme == "https" else {"http", "https"}
        if urlsplit(url).scheme not in schemes:
            raise SourceError(
                f"{request.full_url} sends us on to {url}, which is not {' or '.join(sorted(schemes))}; not followed"
            )
        return super().redirect_request(request, fp, code, text, headers, url)


class Line:
    """A way to fetch; `sleep` and `stall` (seconds) are for tests."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep, stall: float = STALL) -> None:
        self.sleep = sleep
        self.stall = stall
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _Redirect(),
        ):
            self._opener.add_handler(handler)

    def fetch(self, want: Want, path: Path, hear: Callable[[int], None] = lambda _have: None) -> Path:
        """Return `path` once it holds the wanted bytes. `hear` is told how many are here.

        Raises SourceError (gone, refused, wrong bytes twice, too many tries), NotThere for a 404, OSError of the disk.
        """
        if urlsplit(want.url).scheme not in {"http", "https"}:
            raise SourceError(f"{want.url!r} is not an http or https address")
        part, left, wrong = _Part(path, want), TRIES, 0
        while not path.is_file():
            before = part.size()
            try:
                self._receive(want, part, hear)
                part.finish(want, path)
            except _Again as reason:
                left = TRIES if part.size() >= before + LEAST else left - 1
                if left == 0:
                    text = f"{want.url}: {reason}; gave up after {TRIES} tries. What arrived is kept: run the command again"
                    raise SourceError(text) from reason
                self.sleep(_pause(reason.wait, TRIES - left))
            except _Wrong as error:
                part.drop()
                wrong += 1
                if wrong == 2:
                    raise SourceError(f"{want.url}: {error}, twice; nothing of it was kept") from error
        hear(path.stat().st_size)
        return path

    def _receive(self, want: Want, part: _Part, hear: Callable[[int], None]) -> None:
        """Bring the rest into `part`, to the end of the answer."""
        have = part.size() if part.tag else 0
        if have and have == part.total:
            return
        headers = {"accept-encoding": "identity", "user-agent": "hybr"}
        request = urllib.request.Request(want.url, headers=headers)  # noqa: S310 - `fetch` has looked at the scheme
        if have:
            request.add_header("range", f"bytes={have}-")
            request.add_header("if-range", part.tag)
        try:
            with self._opener.open(request, timeout=self.stall) as answer:
                part.begin(answer, have)
                since, at = time.monotonic(), part.size()
                while block := _read(answer):
                    part.add(block)
                    hear(part.size())
                    if time.monotonic() > since + self.stall:
                        if part.size() < at + LEAST:
                            raise _Again(f"it sent {part.size() - at} bytes in {self.stall:g} s")
                        since, at = time.monotonic(), part.size()
                    if part.size() > min(want.most, want.bytes if want.bytes is not None else want.most):
                        raise _Wrong(f"it is larger than the {want.bytes or want.most} bytes it should have")
        except urllib.error.HTTPError as error:
            _refused(want.url, error, part)
        except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
            raise _Again(f"the connection failed ({getattr(error, 'reason', None) or error or type(error).__name__})") from error
        finally:
            part.close()
        if part.total is not None and part.size() < part.total:
            raise _Again(f"the connection was cut after {part.size()} of {part.total} bytes")


class _Wrong(Exception):
    """What arrived is not the wanted file."""


class _Part:
    """What has arrived of a file, and whose bytes they are."""

    def __init__(self, path: Path, want: Want) -> None:
        self.path = path.with_name(path.name + ".part")
        self.note = path.with_name(path.name + ".part.json")
        self.url = want.url
        self.tag, self.total = "", None
        self._out: Any = None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads(self.note.read_bytes())
            if told["url"] == want.url:
                self.tag, self.total = str(told["tag"]), told["total"]
        if not self.tag:
            self.drop()  # without a validator nobody can say whether the rest would belong to it

    def size(self) -> int:
        """Return how many bytes are here."""
        if self._out is not None:
            return int(self._out.tell())
        return self.path.stat().st_size if self.path.is_file() else 0

    def begin(self, answer: Any, have: int) -> None:
        """Make ready for an answer's body: after what is here for a fitting 206, else from the start. May raise."""
        if (packed := answer.headers.get("content-encoding", "identity")) != "identity":
            raise SourceError(f"{self.url} comes packed ({packed}), and plain bytes were asked for; try another --from")
        span = answer.headers.get("content-range", "")
        goes_on = answer.status == 206 and span.startswith(f"bytes {have}-")
        if answer.status == 206 and not goes_on:
            self.drop()
            raise _Again(f"it answered the range {span!r}, and {have}- was asked for")
        length = answer.headers.get("content-length")
        self.total = (have if goes_on else 0) + int(length) if length and length.isdigit() else None
        tag = answer.headers.get("etag", "")
        self.tag = tag if tag and not tag.startswith("W/") else answer.headers.get("last-modified", "")
        self._out = self.path.open("ab" if goes_on else "wb")
        self.note.write_text(json.dumps({"url": self.url, "tag": self.tag, "total": self.total}), encoding="utf-8")

    def add(self, block: bytes) -> None:
        """Write what has come."""
        self._out.write(block)

    def close(self) -> None:
        """Leave what is here on the disk."""
        out, self._out = self._out, None
        if out is not None:
            out.close()

    def drop(self) -> None:
        """Forget what is here."""
        self.close()
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
        self.tag, self.total = "", None

    def finish(self, want: Want, path: Path) -> None:
        """Check the whole and give it its name. Raises _Wrong."""
        if not fits(self.path, want):
            text = f"{want.bytes} bytes" if want.md5 is None else f"{want.bytes} bytes with md5 {want.md5}"
            raise _Wrong(f"it came with {self.size()} bytes, and is not the {text} that were promised")
        self.path.replace(path)
        self.note.unlink(missing_ok=True)


def fits(path: Path, want: Want) -> bool:
    """Say whether a file has the size and the sum that were promised."""
    if want.bytes is not None and path.stat().st_size != want.bytes:
        return False
    if want.md5 is None:
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest() == want.md5


def _read(answer: Any) -> bytes:
    try:
        return bytes(answer.read1(BLOCK))
    except (http.client.HTTPException, OSError) as error:
        raise _Again(f"the connection was cut ({error or type(error).__name__})") from error


def _refused(url: str, error: urllib.error.HTTPError, part: _Part) -> None:
    """Raise what a status means."""
    error.close()
    if error.code in {404, 410}:
        raise NotThere(f"there is nothing at {url} (HTTP {error.code}); check the id, or --from") from None
    if error.code == 416:
        part.drop()
        raise _Again("it no longer has as many bytes as have arrived") from None
    if error.code in {408, 425, 429} or error.code >= 500:
        raise _Again(f"HTTP {error.code}", _asked(error.headers.get("retry-after"))) from None
    if 300 <= error.code < 400:  # urllib itself refuses to leave the web, and to go round in circles
        to = error.headers.get("location")
        raise SourceError(f"{url} sends us on to {to} (HTTP {error.code}), which is not followed; try another --from") from None
    raise SourceError(f"{url} is refused (HTTP {error.code} {error.reason}); it may need an account there, or another --from")


def _asked(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header, in either form; None when it has none."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    return None


def _pause(asked: float | None, failures: int) -> float:
    """Return how long to wait before the next try, in seconds."""
    return min(asked if asked is not None else 0.5 * 2.0**failures, LONGEST_WAIT)
