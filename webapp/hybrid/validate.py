"""Checks what callers hand in, before any provider is touched. Each complaint names the field and says what would be right.

Nothing is repaired silently: a value that a model would misread is refused. The limit on size is the server's (4 MB a request),
so that a prompt too long for the cloud is refused at once and not after an upload.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, cast

from hybr.webapp.hybrid import schema
from hybr.webapp.hybrid.errors import MessageError, OptionError
from hybr.webapp.hybrid.types import MODES, Options

if TYPE_CHECKING:
    from hybr.webapp.hybrid.types import Message

FIELDS = ("role", "content", "name", "tool_calls", "tool_call_id")
ROLES = ("system", "user", "assistant", "tool")
PARTS = ("text", "image_url")
MAX_BYTES = 4_000_000
KNOWN = tuple(sorted({f.name for f in fields(Options)} | {"signal"}))
# Names in use elsewhere (the blueprint's callers, OpenAI) that mean one of ours.
ALIASES = {"max_tokens": "max_output_tokens"}


def messages(value: object) -> tuple[Message, ...]:
    """The messages, checked. Raises MessageError."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise MessageError("messages must be a list of {role, content}.", field="messages")
    if not value:
        raise MessageError("messages is empty: give at least one message of role 'user'.", field="messages")
    checked = tuple(_message(one, f"messages[{index}]") for index, one in enumerate(value))
    _order(checked)
    size = sum(_size(message["content"]) for message in checked)
    if size > MAX_BYTES:
        raise MessageError(f"messages hold {size:,} bytes of text; the limit is {MAX_BYTES:,}. Shorten them.", field="messages")
    return checked


def _message(value: object, field: str) -> Message:
    if not isinstance(value, Mapping):
        raise MessageError(f"{field} must be an object {{role, content}}.", field=field)
    role = value.get("role")
    if role not in ROLES:
        raise MessageError(f"{field}.role is {role!r}; it must be one of {', '.join(ROLES)}.", field=f"{field}.role")
    for name, more in value.items():
        if name not in FIELDS:
            raise MessageError(f"{field}.{name} is unknown. A message has {', '.join(FIELDS)}.", field=f"{field}.{name}")
        if name != "content" and (found := schema.unfit(more, f"{field}.{name}")):
            raise MessageError(f"{found[0]} must be {found[1]}.", field=found[0])
    _tool_calls(value.get("tool_calls"), role, f"{field}.tool_calls")
    content = value.get("content")
    if content is None and role == "assistant" and value.get("tool_calls"):
        return {**value, "content": None}
    return {**value, "content": _content(content, f"{field}.content")}


def _tool_calls(value: object, role: object, field: str) -> None:
    if value is None:
        return
    if role != "assistant":
        raise MessageError(f"{field} stands in a message of role {role!r}; only an assistant's has tool calls.", field=field)
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(one, Mapping) for one in value):
        raise MessageError(f"{field} must be a list of {{id, type, function: {{name, arguments}}}}.", field=field)


def _content(value: object, field: str) -> object:
    if isinstance(value, str):
        if not value.strip():
            raise MessageError(f"{field} is empty: write a message first.", field=field)
        _unicode(value, field)
        return value
    if isinstance(value, Sequence) and value:
        return [_part(part, f"{field}[{index}]") for index, part in enumerate(value)]
    raise MessageError(f"{field} must be text, or a list of parts of type {' or '.join(PARTS)}.", field=field)


def _part(value: object, field: str) -> dict[str, Any]:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind not in PARTS:
        raise MessageError(f"{field}.type is {kind!r}; it must be one of {', '.join(PARTS)}.", field=f"{field}.type")
    part = dict(cast("Mapping[str, Any]", value))
    if kind == "text":
        if not isinstance(part.get("text"), str):
            raise MessageError(f"{field}.text must be text.", field=f"{field}.text")
        _unicode(part["text"], f"{field}.text")
    elif not isinstance(part.get("image_url"), Mapping) or not isinstance(part["image_url"].get("url"), str):
        raise MessageError(f"{field}.image_url must be an object with a url.", field=f"{field}.image_url")
    return part


def _unicode(text: str, field: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise MessageError(
            f"{field} has half a character (an unpaired surrogate) at position {error.start}: cut text between characters.",
            field=field,
        ) from None


def _order(checked: tuple[Message, ...]) -> None:
    for index, message in enumerate(checked):
        if message["role"] == "system" and index:
            raise MessageError(
                f"messages[{index}] is a system message; only the first may be one.", field=f"messages[{index}].role"
            )
        if message["role"] == "tool" and not _answers_a_call(checked[:index]):
            where = f"messages[{index}].role"
            said = f"messages[{index}] is a tool's result with no call before it: give the assistant's turn with tool_calls too."
            raise MessageError(said, field=where)
    if checked[-1]["role"] not in {"user", "tool"}:
        last = len(checked) - 1
        raise MessageError(
            f"messages[{last}] is of role '{checked[-1]['role']}'; the last must be of role 'user' (or 'tool').",
            field=f"messages[{last}].role",
        )


def _answers_a_call(before: tuple[Message, ...]) -> bool:
    last = next((message for message in reversed(before) if message["role"] != "tool"), None)
    return last is not None and bool(last.get("tool_calls"))


def _size(content: object) -> int:
    if isinstance(content, str):
        return len(content.encode())
    parts = cast("list[dict[str, Any]]", content or [])
    return sum(len((part.get("text") or part["image_url"]["url"]).encode()) for part in parts)


def options(value: object) -> Options:
    """The options, checked. Raises OptionError; a name that is not one of ours is an error, not noise."""
    if value is None:
        return Options()
    if isinstance(value, Options):
        return value
    if not isinstance(value, Mapping):
        raise OptionError("options must be an object.", field="options")
    given: dict[str, Any] = {}
    for name, item in value.items():
        known = ALIASES.get(name, name)
        if known not in KNOWN:
            raise OptionError(f"options.{name} is not an option. There are: {', '.join(KNOWN)}.", field=f"options.{name}")
        if item is not None:
            given[known] = CHECKS[known](item, f"options.{name}")
    given.pop("signal", None)
    return Options(**given)


def _wrong(field: str, value: object, want: str) -> OptionError:
    return OptionError(f"{field} is {value!r:.80}; it must be {want}.", field=field)


def _number(low: float, high: float) -> Any:
    def check(value: object, field: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
            raise _wrong(field, value, f"a number from {low:g} to {high:g}")
        return value

    return check


def _share(value: object, field: str) -> float:
    """Of probability: a share of nothing leaves no token to choose from, and WebLLM refuses it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise _wrong(field, value, "a number above 0 and at most 1")
    return value


def _integer(low: int, high: int) -> Any:
    def check(value: object, field: str) -> int:
        whole = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value == int(value)
        if not whole or not low <= cast("float", value) <= high:
            raise _wrong(field, value, f"a whole number from {low} to {high}")
        return int(cast("float", value))

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
    if value not in {"local", "cloud"}:
        raise OptionError(f"on is {value!r}; it must be 'local' or 'cloud'.", field="on")
    return value


def prefix(value: object) -> str:
    """Text that was shown before. Raises MessageError."""
    if not isinstance(value, str) or not value:
        raise MessageError("prefix must be the text that was shown; to begin anew use stream().", field="prefix")
    _unicode(value, "prefix")
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
}
