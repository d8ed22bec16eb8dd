"""The kinds of values a setting can have: how each is read from a text, from TOML or from Python, and what else to say.

Reading is idempotent, so that a value built in Python is checked by the same words as one that was typed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybr.server.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

OFF = ("off", "0", "no", "false")
ON = ("on", "1", "yes", "true")


@dataclass(frozen=True)
class Kind:
    """One kind: `read` returns the value or raises ValueError; `noun` completes "is not ...", `accepted` "Accepted: ..."."""

    read: Callable[[Any], Any]
    noun: str
    accepted: str
    secret: bool = False
    private: bool = False  # a secret that no file may hold which others can read
    switch: bool = False


def whole(least: int, most: int, noun: str = "such a number", accepted: str = "") -> Kind:
    """Return the kind of whole numbers from `least` to `most`."""

    def read(value: Any) -> int:
        number = int(value, 10) if isinstance(value, str) and value.isascii() and "_" not in value else value
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
            raise ValueError
        return number

    return Kind(read, noun, accepted or f"a whole number from {least} to {most}")


def seconds(least: float, most: float) -> Kind:
    """Return the kind of durations, fractions allowed."""

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError  # noqa: TRY004  one error says it all
        number = float(value)
        if not math.isfinite(number) or not least <= number <= most:
            raise ValueError
        return number

    return Kind(read, "such a time", f"seconds from {least:g} to {most:g}")


def word(*choices: str, aliases: dict[str, str] | None = None) -> Kind:
    """Return the kind of one of `choices`; `aliases` are other spellings of them."""
    spelt = {choice: choice for choice in choices} | (aliases or {})

    def read(value: Any) -> str:
        if isinstance(value, bool):  # TOML's `auth = false`
            value = "on" if value else "off"
        if not isinstance(value, str) or value.strip().lower() not in spelt:
            raise ValueError
        return spelt[value.strip().lower()]

    return Kind(read, "one of its words", ", ".join(choices))


def read_switch(value: Any) -> bool:
    """Return on or off. Raises ValueError for what is neither, because a misspelt "off" must not mean "on"."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ON + OFF:
        return value.strip().lower() in ON
    raise ValueError


def read_names(value: Any) -> tuple[str, ...]:
    """Return a list of names, from a list or from a text with commas."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise ValueError
    return tuple(part.strip() for part in parts if part.strip())


def read_path(value: Any) -> Path:
    """Return a path, with `~` for the person's own folder."""
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError
    return Path(value).expanduser()


def read_secret(value: Any) -> Secret | None:
    """Return a secret, None for an empty text."""
    if value is None or isinstance(value, Secret):
        return value
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError
    return Secret(value.strip()) if value.strip() else None


def read_text(value: Any) -> str:
    """Return a text of one line."""
    if not isinstance(value, str) or not (value == "" or value.isprintable()):
        raise ValueError
    return value.strip()


def read_keys(value: Any) -> Secret | None:
    """Return the words of a text, one blank between two, as one secret; None for an empty text."""
    return read_secret(" ".join(value.split()) if isinstance(value, str) else value)


SWITCH = Kind(read_switch, "on or off", "on or off", switch=True)
NAMES = Kind(read_names, "a list of names", "names with commas between, in TOML a list of texts")
PATH = Kind(read_path, "a path", "a path")
SECRET = Kind(read_secret, "one line of text", "one line of text", secret=True)
TEXT = Kind(read_text, "one line of text", "one line of text")
KEYS = Kind(read_keys, "a key", "base64 or hexadecimal, or the word keyring", secret=True, private=True)
PORT = whole(0, 65535, "a port", "1 to 65535, or 0 for any free one")
