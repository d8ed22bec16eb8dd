"""The master key: from HYBR_MASTER_KEY, the file HYBR_MASTER_KEY_FILE names, the system's keyring, or `$HYBR_DATA/master.key`.

    HYBR_MASTER_KEY=<base64 or hex of 32 bytes or more>     several with blanks between: the first seals, all open
    HYBR_MASTER_KEY=keyring                                 kept in the desktop's keyring (needs the extra `keyring`)
    neither                                                 the file, made with 0600 at the first need

Like every setting it may stand in hybr.toml (`master_key`) or behind a flag (`--master-key-file`) instead.

Refused are texts that no random generator gives (a default, a word, a repeated one), short ones, and files that others can read.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from typing import TYPE_CHECKING, Any

from hybr.server.errors import ConfigError
from hybr.server.keys.envelope import KEY, name
from hybr.server.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hybr.server.config import Settings

VARIABLE = "HYBR_MASTER_KEY"
DISTINCT = 16  # of 32 random bytes fewer are distinct once in some 10^12 draws
SERVICE, ACCOUNT = "hybr", "master-key"


class Master:
    """The keys that wrap data keys: the first wraps, every one opens."""

    def __init__(self, texts: Sequence[str], where: str) -> None:
        """Raises ConfigError for a text that is no key, without a word of it."""
        if not texts:
            raise bad(where, "there is no key in it")
        self._keys = {name(key): key for key in (derived(decoded(text, where)) for text in texts)}

    @property
    def newest(self) -> bytes:
        """The key that wraps."""
        return next(iter(self._keys.values()))

    def find(self, named: str) -> bytes | None:
        """Return the key with this id, if it is one of ours."""
        return self._keys.get(named)

    def __repr__(self) -> str:
        return f"Master({', '.join(self._keys)})"


class Custody:
    """Where the master key is kept. Read at the first need, and again when a rotation has put another first."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._text, self._file = Secret(environ.get(VARIABLE, "").strip()), environ.get(f"{VARIABLE}_FILE", "").strip()
        self.path = folder / "master.key"
        self._master: Master | None = None

    @classmethod
    def of(cls, settings: Settings) -> Custody:
        """Return what the settings ask for; they have read the environment, and files with it."""
        return cls(settings.data, {VARIABLE: settings.master_key.reveal()} if settings.master_key else {})

    def master(self, *, fresh: bool = False) -> Master:
        """Return the master key, made when there is none yet; `fresh` reads it again. Raises ConfigError."""
        if self._master is None or fresh:
            self._master = self.read() or Master([self.make()], str(self.path))
        return self._master

    def find(self, named: str) -> bytes | None:
        """Return the wrapping key with this id, looking again where it is kept when it is not known."""
        if self._master and (key := self._master.find(named)):
            return key
        if not (held := self.read()):  # who reads makes none: it would open nothing
            return None
        self._master = held
        return held.find(named)

    @property
    def kind(self) -> str:
        """Who keeps it: `environment`, `keyring` or `file`."""
        value, path = self._text.reveal(), self._file
        if value and path:
            raise ConfigError(f"{VARIABLE} and {VARIABLE}_FILE are both set", field=VARIABLE, remedy="Unset one of them")
        return "keyring" if value == "keyring" else "environment" if value or path else "file"

    def read(self) -> Master | None:
        """Return what is kept, None when nothing is yet. Raises ConfigError."""
        kind = self.kind
        if kind == "keyring":
            held = keyring().get_password(SERVICE, ACCOUNT)
            return Master(held.split(), "the keyring") if held else None
        if kind == "file":
            return Master(texts(self.path, str(self.path)), str(self.path)) if self.path.exists() else None
        if path := self._file:
            from pathlib import Path

            return Master(texts(Path(path).expanduser(), f"{VARIABLE}_FILE"), f"{VARIABLE}_FILE")
        return Master(self._text.reveal().split(), VARIABLE)

    def make(self) -> str:
        """Return a fresh key's text, kept where it belongs."""
        text = generate()
        self.keep([text], first=True)
        return text

    def keep(self, held: Sequence[str], *, first: bool = False) -> None:
        """Write the keys' texts where they are kept; `first` leaves a file that another process has just made alone."""
        if self.kind == "keyring":
            keyring().set_password(SERVICE, ACCOUNT, " ".join(held))
            return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write("\n".join(held) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if first:
            try:
                os.link(beside, self.path)
            finally:
                beside.unlink()
        else:
            beside.replace(self.path)

    def texts(self) -> list[str]:
        """Return the texts of what is kept by us, for a rotation. Raises ConfigError where the operator keeps it."""
        if self.kind == "environment":
            raise ConfigError(
                "the master key is yours to keep, so it is yours to change",
                field=VARIABLE,
                remedy=f'Put a fresh key before the old one, {VARIABLE}="new old", restart, then run `hybr keys rewrap`',
            )
        if self.kind == "keyring":
            return (keyring().get_password(SERVICE, ACCOUNT) or "").split()
        return texts(self.path, str(self.path)) if self.path.exists() else []


def generate() -> str:
    """Return a fresh master key's text."""
    return base64.urlsafe_b64encode(secrets.token_bytes(KEY)).decode().rstrip("=")


def derived(master: bytes) -> bytes:
    """Return the key that wraps data keys: HKDF-SHA256 (RFC 5869), so that the master key itself seals nothing."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=KEY, salt=None, info=b"provider-keys/v1").derive(master)


def decoded(text: str, where: str) -> bytes:
    """Return the bytes of a key's text. Raises ConfigError for what no random generator gives."""
    raw = b""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        try:
            raw = base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
        except (ValueError, binascii.Error):
            raise bad(where, "it is neither base64 nor hexadecimal") from None
    if len(raw) < KEY:
        raise bad(where, f"it is shorter than {KEY} bytes")
    if len(set(raw)) < DISTINCT:
        raise bad(where, "it is not random")
    return raw


def texts(path: Path, where: str) -> list[str]:
    """Return the words of a key file. Raises ConfigError when others can read it."""
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path} can be read by others", field=where, remedy=f"chmod 600 {path}")
        return path.read_text("ascii").split()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path} cannot be read as a master key", field=where, remedy="Name a file with the key") from None


def keyring() -> Any:
    """Return the keyring library. Raises ConfigError when it is not installed or has nowhere to keep a thing."""
    try:
        import keyring as library
        from keyring.backends import fail
    except ImportError:
        raise ConfigError("no keyring library is installed", field=VARIABLE, remedy="pip install 'hybr[keyring]'") from None
    if isinstance(library.get_keyring(), fail.Keyring):
        raise ConfigError("this machine has no keyring", field=VARIABLE, remedy="Unset it, and the key is kept in a file")
    return library


def bad(where: str, message: str) -> ConfigError:
    """Return the error for a text that is no master key."""
    make = "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
    return ConfigError(f"the master key in {where} cannot be used: {message}", field=where, remedy=f"Make one: {make}")
