"""camelCase on the JavaScript side, snake_case on ours: the one place where names are changed.

Only names that are ours are converted. What belongs to others passes untouched: a caller's messages, JSON schemas and tools in
the options, the entries of the model index. Names of events are values, not names of fields.
"""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

from hybr.webapp.hybrid.types import Options
from hybr.webapp.state.names import camel, camel_name, snake, snake_name

_OPTIONS = re.compile(r"\b(" + "|".join(field.name for field in fields(Options) if "_" in field.name) + r")\b")

__all__ = [
    "camel",
    "camel_name",
    "option_names",
    "options",
    "persona",
    "persona_to_wire",
    "personas_to_wire",
    "snake",
    "snake_name",
]


def option_names(text: str) -> str:
    """A sentence or a field's path with our options' names as JavaScript writes them; every other word stays."""
    return _OPTIONS.sub(lambda found: camel_name(found.group()), text)


def options(value: Any) -> Any:
    """A caller's options: their names converted, their values (schemas, tools) left as they are."""
    return {snake_name(name): item for name, item in value.items()} if isinstance(value, dict) else value


def persona(value: Any) -> Any:
    """A persona from JavaScript: only its options' names are converted."""
    return {**value, "options": options(value["options"])} if isinstance(value, dict) and "options" in value else value


def persona_to_wire(value: dict[str, Any]) -> dict[str, Any]:
    """A persona for JavaScript; what its options hold (schemas, tools) is left as it is."""
    return {**value, "options": {camel_name(name): item for name, item in value["options"].items()}}


def personas_to_wire(value: dict[str, Any]) -> dict[str, Any]:
    """All personas, by the names that the person gave them."""
    return {**value, "personas": {name: persona_to_wire(one) for name, one in value["personas"].items()}}
