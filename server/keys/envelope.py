"""AES-256-GCM under a named key: `v1:<id of the key>:<base64url of nonce and ciphertext>`.

The nonce is 12 random bytes: one data key seals a handful of texts in its life, far from the 2^32 at which random nonces become
unsafe (NIST SP 800-38D, 8.3). `about` is the additional authenticated data: what the text is and whose.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from typing import TYPE_CHECKING

from hybr.server.errors import HybrError

if TYPE_CHECKING:
    from collections.abc import Callable

NONCE = 12
KEY = 32
FORMAT = "v1"


def seal(key: bytes, plain: bytes, about: str) -> str:
    """Return `plain` sealed under `key` (32 bytes) and bound to `about`."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(NONCE)
    closed = AESGCM(key).encrypt(nonce, plain, about.encode())
    return f"{FORMAT}:{name(key)}:{base64.urlsafe_b64encode(nonce + closed).decode()}"


def unseal(sealed: str, about: str, find: Callable[[str], bytes | None]) -> bytes:
    """Return what was sealed; `find` gives the key of an id.

    Raises SealError for another format, an unknown key, and for whatever is not, to the bit, what was sealed about this.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    named, _, text = sealed.removeprefix(f"{FORMAT}:").partition(":")
    key = find(named) if sealed.startswith(f"{FORMAT}:") else None
    if key is None:
        raise SealError
    try:
        raw = base64.b64decode(text, altchars=b"-_", validate=True)
        if base64.urlsafe_b64encode(raw).decode() != text:  # bits that no byte owns could be flipped unseen
            raise SealError
        return AESGCM(key).decrypt(raw[:NONCE], raw[NONCE:], about.encode())
    except (InvalidTag, ValueError, binascii.Error):
        raise SealError from None


def name(key: bytes) -> str:
    """Return the public id of a random key: a digest that says nothing of it."""
    return hashlib.sha256(b"hybr key id v1|" + key).hexdigest()[:12]


class SealError(HybrError):
    """A stored key that does not open: another master key, or changed bytes."""

    status = 503
    type = "unavailable_error"

    def __init__(self) -> None:
        remedy = "Start the server with the master key it was stored under, or delete the key and set it anew"
        super().__init__("a stored provider key cannot be opened", code="key_sealed", remedy=remedy)
