"""A JSON schema that an engine's grammar cannot hold to, in the form that it can.

What bounds values (a pattern, a format, lengths, ranges) and what combines schemas by logic goes; the shape stays: types, names,
items, choices. Where there is nothing to leave out, any JSON object will have to do. What was left out is said to the caller, and
the answer is looked at afterwards: where it departs from the whole schema, that is said too.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.conform import departs
from hybr.webapp.hybrid.schema import LISTS, MAPS, ONE

if TYPE_CHECKING:
    from collections.abc import Mapping

# What every grammar engine knows.
SHAPE = frozenset(
    {"type", "properties", "required", "items", "prefixItems", "enum", "const", "anyOf", "additionalProperties"}
    | {"$ref", "$defs", "definitions", "title", "description"}
)


def form(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A response format to ask for in place of `given`; None where there is no simpler one."""
    if given is None or given["type"] == "text":
        return None
    whole = whole_of(given)
    if whole is None:
        return None  # any JSON object was asked for already
    plain = shape(whole)
    if plain == whole:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": plain}}


def shape(schema: Any) -> Any:
    """The schema without what only bounds its values."""
    if not isinstance(schema, dict):
        return schema
    plain: dict[str, Any] = {}
    for name, value in schema.items():
        known = "anyOf" if name == "oneOf" else name
        if known not in SHAPE:
            continue
        if known in MAPS:
            plain[known] = {key: shape(one) for key, one in value.items()}
        elif known in LISTS:
            plain[known] = [shape(one) for one in value]
        else:
            plain[known] = shape(value) if known in ONE else value
    return plain


def left_out(schema: Any) -> set[str]:
    """The names of what `shape` leaves out, at any depth."""
    if not isinstance(schema, dict):
        return set()
    found = set(schema) - SHAPE - {"oneOf"}
    inner = [value for name, value in schema.items() if name in ONE & SHAPE]
    inner += [one for name, value in schema.items() if name in MAPS & SHAPE for one in value.values()]
    inner += [one for name, value in schema.items() if name in LISTS & (SHAPE | {"oneOf"}) for one in value]
    return found.union(*map(left_out, inner))


def said(given: Mapping[str, Any] | None, instead: Mapping[str, Any]) -> str:
    """The one-line note of a completion."""
    if instead["type"] == "json_object":
        return "The local model could not hold to the schema: the answer is JSON, of whatever shape."
    names = ", ".join(sorted(left_out(whole_of(given or {}))))
    return f"The local model could not hold to the whole schema: the answer has its shape, and was not held to {names}."


def checked(text: str, given: Mapping[str, Any] | None) -> str:
    """What a look at the answer has shown, in one line: it holds to the whole schema, or where it departs from it."""
    try:
        found = departs(json.loads(text), whole_of(given or {}))
    except (ValueError, RecursionError):
        found = "it is no whole JSON document"
    return f"It departs from the schema: {found}." if found else "Looked at afterwards, it holds to the schema all the same."


def whole_of(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """The schema of a response format, wherever it stands; WebLLM's own form has it as text."""
    named = given.get("json_schema")
    found = given.get("schema") or (named.get("schema") if isinstance(named, dict) else None)
    return json.loads(found) if isinstance(found, str) else found
