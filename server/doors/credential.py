"""What a request brings to be let in: one extractor for every header, so that no way in is checked less than another.

CVE-2026-45339 was a rule that held for `Authorization` and not for `x-api-key`. Here both give the same `Credential`, and
a request that brings two is no better than one that brings none: which of them counts would be anybody's guess.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

Kind = Literal["none", "token", "cookie", "bad"]

TOKEN = re.compile(rb"hybr_[A-Za-z0-9_-]{43}")  # 256 random bits
COOKIE = re.compile(rb"[A-Za-z0-9_.-]{20,200}")


class Credential(NamedTuple):
    """`text` is the secret itself, and is not to be kept: `digest` is."""

    kind: Kind
    text: str = ""

    def __repr__(self) -> str:
        return f"Credential({self.kind})"

    def digest(self) -> str:
        """Return what is stored and looked up: SHA-256 is enough for what was drawn from 2^256."""
        return digest(self.text)


NONE, BAD = Credential("none"), Credential("bad")


def digest(text: str) -> str:
    """Return the SHA-256 of a secret of high entropy, as hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def extract(headers: Iterable[tuple[bytes, bytes]], cookie: bytes) -> Credential:
    """Return what the raw `headers` bring; `cookie` is the name of our cookie."""
    found = NONE
    crumbs = b""
    for name, value in headers:
        if name == b"authorization":
            found = bearer(value) if found is NONE else BAD
        elif name == b"x-api-key":
            found = token(value) if found is NONE else BAD
        elif name == b"cookie":
            crumbs += b";" + value
    return found if found is not NONE else baked(crumbs, cookie)


def bearer(value: bytes) -> Credential:
    """Return the credential of an Authorization header."""
    scheme, _, rest = value.partition(b" ")
    return token(rest.strip()) if scheme.lower() == b"bearer" else BAD


def token(value: bytes) -> Credential:
    """Return an API token, if it has the shape of one."""
    return Credential("token", value.decode("ascii")) if TOKEN.fullmatch(value) else BAD


def baked(crumbs: bytes, cookie: bytes) -> Credential:
    """Return the credential of our cookie; of two by one name neither counts (a neighbour host can plant a second)."""
    values = [value for name, _, value in (crumb.strip().partition(b"=") for crumb in crumbs.split(b";")) if name == cookie]
    if len(values) != 1:
        return BAD if values else NONE
    return Credential("cookie", values[0].decode("ascii")) if COOKIE.fullmatch(values[0]) else BAD
