"""Checks what callers hand in, before any provider is touched. Each complaint names the field and says what would be right.

Nothing is repaired silently: a value that a model would misread is refused. The messages have `conversation` to themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal, cast

from hybr.webapp.hybrid import schema
from hybr.webapp.hybrid.conversation import MAX_BYTES, messages, whole
from hybr.webapp.hybrid.errors import MessageError, OptionError
from hybr.webapp.hybrid.types import MODES, Options

__all__ = ["CHECKS", "messages", "options", "prefix", "side", "together"]

KNOWN = tuple(sorted({f.name for f in fields(Options)} | {"signal"}))
# Names in use elsewhere (the blueprint's callers, OpenAI) that mean one of ours.
ALIASES = {"max_tokens": "max_output_tokens"}


def options(value: object) -> Options:
    """The options, checked. Raises OptionError; a name that is not one of ours is an error, not noise."""
    if value is None:
        return Options()
    if isinstance(value, Options):
        return _checked(value)
    if not isinstance(value, Mapping):
        raise OptionError("options must be an object.", field="options")
    given: dict[str, Any] = {}
    for name, item in value.items():
        known = ALIASES.get(name, name)
        if known not in KNOWN:
            spelt = name if isinstance(name, str) else schema.said(name)
            raise OptionError(f"options.{spelt} is not an option. There are: {', '.join(KNOWN)}.", field=f"options.{spelt}")
        if known != name and value.get(known) is not None:
            raise OptionError(f"options.{name} and options.{known} are the same: give one of them.", field=f"options.{name}")
        if item is not None:
            given[known] = CHECKS[known](item, f"options.{name}")
    given.pop("signal", None)
    return Options(**given)


def _checked(value: Options) -> Options:
    """Options that a program made itself, each looked at as any other."""
    for one in fields(value):
        item = getattr(value, one.name)
        if item is not None and item != one.default:
            CHECKS[one.name](item, f"options.{one.name}")
    return value


def together(asked: Options) -> Options:
    """The options as a whole, a persona's with them: what one of them says of another. Raises OptionError."""
    names = [tool["function"]["name"] for tool in asked.tools]
    if twice := [name for name in names if names.count(name) > 1]:
        raise OptionError(f"options.tools has {twice[0]!r:.80} twice: a name means one function.", field="options.tools")
    choice, field = asked.tool_choice, "options.tool_choice"
    if choice not in {None, "none", "auto"} if isinstance(choice, str) else choice is not None:
        wanted = choice["function"]["name"] if isinstance(choice, Mapping) else None
        if not names or wanted not in {None, *names}:
            raise OptionError(f"{field} wants a tool that is not in options.tools.", field=field)
    return asked


def _wrong(field: str, value: object, want: str) -> OptionError:
    return OptionError(f"{field} is {schema.said(value)}; it must be {want}.", field=field)


def _number(low: float, high: float) -> Any:
    def check(value: object, field: str) -> float:
        if not schema.finite(value) or not low <= value <= high:
            raise _wrong(field, value, f"a number from {low:g} to {high:g}")
        return value

    return check


def _share(value: object, field: str) -> float:
    """Of probability: a share of nothing leaves no token to choose from, and WebLLM refuses it."""
    if not schema.finite(value) or not 0 < value <= 1:
        raise _wrong(field, value, "a number above 0 and at most 1")
    return value


def _integer(low: int, high: int) -> Any:
    def check(value: object, field: str) -> int:
        if not schema.finite(value) or value != int(value) or not low <= value <= high:
            raise _wrong(field, value, f"a whole number from {low} to {high}")
        return int(value)

    return check


def _stop(value: object, field: str) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or len(texts) > 4 or not all(isinstance(text, str) and text for text in texts):
        raise _wrong(field, value, "a text or a list of at most four texts, none of them empty")
    _json(list(texts), field)
    return tuple(texts)


def _text(value: object, field: str) -> str:
    if not isinstance(value, str) or not value or len(value) > 200:
        raise _wrong(field, value, "a text of 1 to 200 characters")
    _json(value, field)
    return value


def _flag(value: object, field: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(field, value, "true or false")
    return value


def _format(value: object, field: str) -> dict[str, Any]:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind not in ("text", "json_object", "json_schema"):
        raise _wrong(field, value, "an object whose type is text, json_object or json_schema")
    form = dict(cast("Mapping[str, Any]", value))
    _json(form, field)
    named = form.get("json_schema")
    inner = form.get("schema") or (named.get("schema") if isinstance(named, Mapping) else None)
    if kind == "json_schema" and not isinstance(inner, Mapping):
        raise OptionError(f"{field} has no schema: give json_schema: {{name, schema}}.", field=f"{field}.json_schema")
    if inner is not None:
        _schema(inner, f"{field}.schema" if form.get("schema") else f"{field}.json_schema.schema")
    return form


def _json(value: object, field: str) -> None:
    """Raise unless it is JSON, and not too much of it."""
    if found := schema.unfit(value, field):
        raise OptionError(f"{found[0]} must be {found[1]}.", field=found[0])
    if (size := len(json.dumps(value))) > MAX_BYTES:
        raise OptionError(f"{field} holds {size:,} bytes; the limit is {MAX_BYTES:,}.", field=field)


def _schema(value: object, field: str) -> None:
    if found := schema.wrong(value, field):
        raise OptionError(f"{found[0]} must be {found[1]}: this is no JSON schema.", field=found[0])


def _tools(value: object, field: str) -> tuple[dict[str, Any], ...]:
    named = isinstance(value, Sequence) and not isinstance(value, str) and all(_is_function(tool) for tool in value)
    if not named:
        raise _wrong(field, value, "a list of {type: 'function', function: {name, ...}}")
    tools = tuple(dict(tool) for tool in cast("Sequence[Mapping[str, Any]]", value))
    for index, tool in enumerate(tools):
        _json(tool, f"{field}[{index}]")
        if (parameters := tool["function"].get("parameters")) is not None:
            _schema(parameters, f"{field}[{index}].function.parameters")
    return tools


def _is_function(tool: object) -> bool:
    function = tool.get("function") if isinstance(tool, Mapping) and tool.get("type") == "function" else None
    return isinstance(function, Mapping) and isinstance(function.get("name"), str)


def _choice(value: object, field: str) -> object:
    if value not in ("none", "auto", "required") and not _is_function(value):
        raise _wrong(field, value, "none, auto, required, or {type: 'function', function: {name}}")
    return value


def _egress(value: object, field: str) -> str:
    if value not in ("allow", "redact", "ask", "never"):
        raise _wrong(field, value, "allow, redact, ask or never")
    return str(value)


def _policy(value: object, field: str) -> str:
    if value not in ("continue", "restart", "stop"):
        raise _wrong(field, value, "continue, restart or stop")
    return str(value)


def _mode(value: object, field: str) -> str:
    if value not in MODES:
        raise _wrong(field, value, f"one of {', '.join(MODES)}")
    return str(value)


def side(value: object) -> Literal["local", "cloud"]:
    """On which side an answer is to be resumed. Raises OptionError."""
    if value not in ("local", "cloud"):
        raise OptionError(f"on is {schema.said(value)}; it must be 'local' or 'cloud'.", field="on")
    return value


def prefix(value: object) -> str:
    """Text that was shown before. Raises MessageError."""
    if not isinstance(value, str) or not value:
        raise MessageError("prefix must be the text that was shown; to begin anew use stream().", field="prefix")
    whole(value, "prefix")
    if len(value.encode()) > MAX_BYTES:
        raise MessageError(f"prefix is longer than {MAX_BYTES:,} bytes.", field="prefix")
    return value


def _signal(value: object, field: str) -> None:
    stopped = value.get("aborted") if isinstance(value, Mapping) else getattr(value, "aborted", None)
    if stopped is not False:
        raise OptionError(f"{field} is already aborted (or not an AbortSignal): pass a fresh one.", field=field)


CHECKS: dict[str, Any] = {
    "temperature": _number(0, 2),
    "top_p": _share,
    "max_output_tokens": _integer(1, 1_000_000),
    "stop": _stop,
    "seed": _integer(-(2**53), 2**53),
    "response_format": _format,
    "tools": _tools,
    "tool_choice": _choice,
    "model": _text,
    "private": _flag,
    "timeout_ms": _number(1, 86_400_000),
    "request_id": _text,
    "egress": _egress,
    "signal": _signal,
    "handover": _policy,
    "hedge": _flag,
    "trim": _flag,
    "persona": _text,
    "mode": _mode,
    "journal": _text,
    "make_room": _flag,  # of the page's settings (`recovery`), and no option
}
