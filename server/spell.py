"""JSON as it leaves: compact, in ASCII only, so that no cut can hurt a character.

`json`'s encoder makes its C part anew for each value, which costs as much as the writing of an answer; here it is made once.
"""

from __future__ import annotations

import json
from json import encoder
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable


def unknown(value: object) -> NoReturn:
    """Refuse what JSON has no form for."""
    raise TypeError(f"JSON has no {type(value).__name__}")


def maker() -> Callable[[Any], str]:
    """Return the encoder: the C one where this Python has it."""
    c_make = getattr(encoder, "c_make_encoder", None)
    if c_make is None:
        return json.JSONEncoder(separators=(",", ":")).encode
    make = c_make(None, unknown, encoder.encode_basestring_ascii, None, ":", ",", False, False, True)
    return lambda value: "".join(make(value, 0))


written = maker()
"""Return a value as JSON."""


def spell(value: Any) -> bytes:
    """Return a value as JSON, in bytes."""
    return written(value).encode("ascii")
