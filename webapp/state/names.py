"""Names as JavaScript and the store write them, camelCase, and as Python does, snake_case: at every depth of a value of ours."""

from __future__ import annotations

import re
from typing import Any

BY_MODEL = frozenset({"quality"})  # objects whose keys are models' names
_UPPER = re.compile(r"(?<=[a-z0-9])([A-Z])")
_UNDER = re.compile(r"(?<=[a-zA-Z0-9])_([a-z0-9])")
_names: dict[str, str] = {}


def camel_name(name: str) -> str:
    """`prompt_tokens` -> `promptTokens`. Remembered: there are few names and many chunks."""
    known = _names.get(name)
    if known is None:
        known = _names[name] = _UNDER.sub(lambda found: found.group(1).upper(), name)
    return known


def snake_name(name: str) -> str:
    """`maxOutputTokens` -> `max_output_tokens`."""
    return _UPPER.sub(lambda found: "_" + found.group(1).lower(), name)


def camel(value: Any) -> Any:
    """A value of ours for JavaScript: dict keys at every depth, but for objects whose keys are models' names."""
    if isinstance(value, dict):
        return {camel_name(str(name)): item if name in BY_MODEL else camel(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [camel(item) for item in value]
    return value


def snake(value: Any) -> Any:
    """A value of ours from JavaScript: dict keys at every depth."""
    if isinstance(value, dict):
        return {snake_name(name): snake(item) for name, item in value.items()}
    if isinstance(value, list):
        return [snake(item) for item in value]
    return value
