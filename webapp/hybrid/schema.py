"""Whether something is a JSON schema that a model could be held to, and whether a value is JSON at all.

This is not a validator of schemas in full (JSON Schema 2020-12 has a meta-schema for that): it finds what engines and providers
trip over, at the place where it stands, before anybody is asked.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

TYPES = ("null", "boolean", "object", "array", "number", "string", "integer")
DEEPEST = 64
ONE = frozenset(
    {"items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "unevaluatedProperties"}
)
LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
COUNTS = frozenset({"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"})
TEXTS = frozenset({"$ref", "$id", "$schema", "title", "description", "pattern", "format"})


def wrong(schema: object, path: str, depth: int = 0) -> tuple[str, str] | None:
    """Where it is no schema, and what it should be there; None if it is one."""
    if isinstance(schema, bool) and depth:
        return None
    if not isinstance(schema, Mapping):
        return path, "a JSON schema (an object)"
    if depth > DEEPEST:
        return path, f"a schema of at most {DEEPEST} levels"
    for name, value in schema.items():
        if found := _keyword(str(name), value, f"{path}.{name}", depth):
            return found
    return None


def _keyword(name: str, value: Any, path: str, depth: int) -> tuple[str, str] | None:
    if name == "type":
        types = [value] if isinstance(value, str) else value
        right = _list(types) and types and all(one in TYPES for one in types)
        return None if right else (path, f"one of {', '.join(TYPES)}, or a list of them")
    if name in ONE:
        return wrong(value, path, depth + 1)
    if name in LISTS:
        if not _list(value) or not value:
            return path, "a list of schemas, not empty"
        return next(filter(None, (wrong(one, f"{path}[{index}]", depth + 1) for index, one in enumerate(value))), None)
    if name in MAPS:
        if not isinstance(value, Mapping):
            return path, "an object of schemas"
        return next(filter(None, (wrong(one, f"{path}.{key}", depth + 1) for key, one in value.items())), None)
    return _plain(name, value, path)


def _plain(name: str, value: Any, path: str) -> tuple[str, str] | None:
    if name == "required" and not (_list(value) and all(isinstance(one, str) for one in value)):
        return path, "a list of names"
    if name == "enum" and not (_list(value) and value):
        return path, "a list of values, not empty"
    if name in NUMBERS and not finite(value):
        return path, "a number"
    if name in COUNTS and (not finite(value) or value < 0 or value != int(value)):
        return path, "a whole number, not below 0"
    if name in TEXTS and not isinstance(value, str):
        return path, "a text"
    return None


def _list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def unfit(value: object, path: str, depth: int = 0) -> tuple[str, str] | None:
    """Where a value is not JSON, and why; None if it is. NaN, infinities and half characters are none."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return None if finite(value) else (path, "a finite number")
    if isinstance(value, str):
        return None if _whole(value) else (path, "text without half characters (unpaired surrogates)")
    if depth > DEEPEST * 2:
        return path, f"a value of at most {DEEPEST * 2} levels"
    if isinstance(value, Mapping):
        if odd := [key for key in value if not isinstance(key, str) or not _whole(key)]:
            return path, f"an object whose names are texts (not {said(odd[0], 40)})"
        pairs = [(f"{path}.{key}", one) for key, one in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        pairs = [(f"{path}[{index}]", one) for index, one in enumerate(value)]
    else:
        return path, "a value that JSON has"
    return next(filter(None, (unfit(one, where, depth + 1) for where, one in pairs)), None)


def finite(value: object) -> TypeGuard[float]:
    """Whether it is a number that every JSON reader holds: no NaN, no infinity, no whole number beyond a double's range."""
    most = sys.float_info.max
    return isinstance(value, int | float) and not isinstance(value, bool) and -most <= value <= most


def said(value: object, most: int = 80) -> str:
    """A value as a complaint shows it; Python writes no number of more than 4,300 digits, and others' objects may fail too."""
    try:
        return f"{value!r:.{most}}"
    except Exception:  # noqa: BLE001 - whatever a stranger's __repr__ raises
        return f"something of type {type(value).__name__} that cannot be shown"


def _whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
