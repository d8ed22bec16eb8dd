"""The one person of a loopback server: a link that works once, and the cookie it gives.

The cookie is signed with a secret that lies beside the data (`$HYBR_DATA/door.key`, 0600), not stored in the database: a broken
database must not lock out the person whose machine it is. Deleting the file ends every such cookie at the next start. Those that
were logged out stand in `door.ended`, without their signatures, for as long as they would have lived.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import time
from typing import TYPE_CHECKING

from hybr.server.doors.link import Issued

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger("hybr.doors")

LONGEST = 200  # characters of a link's token
LIFE = 180 * 24 * 3600.0  # seconds until a browser must be let in anew


class Local:
    """The link and the cookies of one server; `clock` gives seconds since the epoch."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = folder / "door.key"
        self.clock = clock
        self.link = secrets.token_urlsafe(32)
        self.issued = Issued(clock)
        self.used = False
        self._secret = b""
        self.gone = folder / "door.ended"
        self._ended: set[str] | None = None

    def redeem(self, token: str) -> str | None:
        """Return a cookie for the printed link's token or one of `hybr link`, each the first time; None for anything else."""
        token = token[:LONGEST].encode("ascii", "replace").decode()  # a lone surrogate of a JSON body has no UTF-8
        if not self.used and hmac.compare_digest(token, self.link):
            self.used = True
            return self.cookie()
        return self.cookie() if self.issued.redeem(token) else None

    def cookie(self) -> str:
        """Return a fresh cookie: when it was made, a nonce, and the signature over both."""
        said = f"{int(self.clock())}.{secrets.token_urlsafe(12)}"
        return f"{said}.{self.sign(said)}"

    def expires(self, cookie: str) -> float | None:
        """Return when `cookie` ends, or None when it is none of ours or has ended."""
        said, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self.sign(said).encode()):
            return None
        end = ending(said)
        return end if self.clock() < end and said not in self.ended() else None

    def end(self, cookie: str) -> None:
        """Let this cookie in no more, after a restart neither; where nothing can be written, until the server's end."""
        self.ended().add(cookie.rpartition(".")[0])
        lasting = sorted(said for said in self.ended() if self.clock() < ending(said))
        try:
            write(self.gone, "\n".join(lasting).encode())
        except OSError as error:
            log.warning("%s: %s; this browser could be let in again after a restart", self.gone, error.strerror)

    def ended(self) -> set[str]:
        """Return the cookies that were logged out, without their signatures."""
        if self._ended is None:
            try:
                self._ended = {said for said in self.gone.read_text("ascii").split() if said.partition(".")[0].isdecimal()}
            except (OSError, UnicodeDecodeError):
                self._ended = set()
        return self._ended

    def sign(self, said: str) -> str:
        """Return the signature of `said`."""
        return hmac.digest(self.secret(), b"local-cookie/v1|" + said.encode(), "sha256").hex()

    def secret(self) -> bytes:
        """Return the file's secret, made at the first need; without a file that can be written, one that lasts until the end."""
        if not self._secret:
            try:
                self._secret = kept(self.path)
            except OSError as error:
                log.warning("%s: %s; browsers must be let in again after a restart", self.path, error.strerror)
                self._secret = secrets.token_bytes(32)
        return self._secret


def kept(path: Path) -> bytes:
    """Return the 32 bytes in the file, which is made with fresh ones when it is missing, damaged or readable by others."""
    try:
        if path.stat().st_mode & 0o077 == 0 and len(found := path.read_bytes()) == 32:
            return found
    except FileNotFoundError:
        pass
    fresh = secrets.token_bytes(32)
    write(path, fresh)
    return fresh


def write(path: Path, content: bytes) -> None:
    """Put a file in its place whole, for this user alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    beside.replace(path)


def ending(said: str) -> float:
    """Return when a cookie that says this ends, in seconds since the epoch."""
    return int(said.partition(".")[0]) + LIFE
