"""Checks a conversation that a caller hands in, before any provider is touched: roles, order, contents, tool calls and results.

Nothing is repaired silently, but for one thing that means nothing to anybody: an empty text beside tool calls is no text. Each
complaint names the field and says what would be right. The limit on size is the server's (4 MB a request), so that a prompt too
long for the cloud is refused at once and not after an upload.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from hybr.webapp.hybrid import schema
from hybr.webapp.hybrid.errors import MessageError

if TYPE_CHECKING:
    from hybr.webapp.hybrid.types import Message

FIELDS = ("role", "content", "name", "tool_calls", "tool_call_id")
ROLES = ("system", "user", "assistant", "tool")
PARTS = ("text", "image_url")
MAX_BYTES = 4_000_000


def messages(value: object) -> tuple[Message, ...]:
    """The messages, checked. Raises MessageError."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise MessageError("messages must be a list of {role, content}.", field="messages")
    if not value:
        raise MessageError("messages is empty: give at least one message of role 'user'.", field="messages")
    checked = tuple(_message(one, f"messages[{index}]") for index, one in enumerate(value))
    _order(checked)
    size = sum(_size(message) for message in checked)
    if size > MAX_BYTES:
        raise MessageError(f"messages hold {size:,} bytes of text; the limit is {MAX_BYTES:,}. Shorten them.", field="messages")
    return checked


def _message(value: object, field: str) -> Message:
    if not isinstance(value, Mapping):
        raise MessageError(f"{field} must be an object {{role, content}}.", field=field)
    role = value.get("role")
    if role not in ROLES:
        raise MessageError(f"{field}.role is {schema.said(role)}; it must be one of {', '.join(ROLES)}.", field=f"{field}.role")
    _fields(value, role, field)
    calls, content = value.get("tool_calls"), value.get("content")
    if role == "assistant" and calls and (content is None or content == ""):
        return {**value, "content": None}
    if role == "tool" and content == "":
        return dict(value)  # a tool may well have nothing to say
    return {**value, "content": _content(content, f"{field}.content")}


def _fields(value: Mapping[Any, Any], role: str, field: str) -> None:
    """All but role and content."""
    for name, more in value.items():
        where = f"{field}.{name if isinstance(name, str) else schema.said(name)}"
        if name not in FIELDS:
            raise MessageError(f"{where} is unknown. A message has {', '.join(FIELDS)}.", field=where)
        if name != "content" and (found := schema.unfit(more, where)):
            raise MessageError(f"{found[0]} must be {found[1]}.", field=found[0])
        if name in {"name", "tool_call_id"} and more is not None and not (isinstance(more, str) and more):
            raise MessageError(f"{where} is {schema.said(more)}; it must be a text.", field=where)
    _tool_calls(value.get("tool_calls"), role, f"{field}.tool_calls")
    has_id, wants_id = value.get("tool_call_id") is not None, role == "tool"
    if has_id is not wants_id:
        remedy = "give the id of the call that it answers" if wants_id else "only a tool's result has one"
        where = f"{field}.tool_call_id"
        raise MessageError(f"{where} {'is missing' if wants_id else 'stands in the wrong place'}: {remedy}.", field=where)


def _tool_calls(value: object, role: str, field: str) -> None:
    if value is None:
        return
    if role != "assistant":
        raise MessageError(f"{field} stands in a message of role {role!r}; only an assistant's has tool calls.", field=field)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise MessageError(f"{field} must be a list of {{id, type, function: {{name, arguments}}}}.", field=field)
    seen: set[str] = set()
    for index, call in enumerate(value):
        _tool_call(call, f"{field}[{index}]")
        if call["id"] in seen:
            raise MessageError(f"{field}[{index}].id is another call's too: each call has its own.", field=f"{field}[{index}].id")
        seen.add(call["id"])


def _tool_call(value: object, field: str) -> None:
    call = value if isinstance(value, Mapping) else {}
    function = call.get("function")
    inner = function if isinstance(function, Mapping) else {}
    for where, found in (("id", call.get("id")), ("function.name", inner.get("name"))):
        if not isinstance(found, str) or not found:
            raise MessageError(f"{field}.{where} must be a text: a call is {{id, type, function}}.", field=f"{field}.{where}")
    if not isinstance(inner.get("arguments"), str):
        where = f"{field}.function.arguments"
        raise MessageError(f"{where} must be JSON as text, as the model gave it.", field=where)


def _content(value: object, field: str) -> object:
    if isinstance(value, str):
        if not value.strip():
            raise MessageError(f"{field} is empty: write a message first.", field=field)
        whole(value, field)
        return value
    if isinstance(value, Sequence) and value:
        parts = [_part(part, f"{field}[{index}]") for index, part in enumerate(value)]
        if all(part["type"] == "text" and not part["text"].strip() for part in parts):
            raise MessageError(f"{field} is empty: write a message first.", field=field)
        return parts
    raise MessageError(f"{field} must be text, or a list of parts of type {' or '.join(PARTS)}.", field=field)


def _part(value: object, field: str) -> dict[str, Any]:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind not in PARTS:
        raise MessageError(f"{field}.type is {schema.said(kind)}; it must be one of {', '.join(PARTS)}.", field=f"{field}.type")
    part = dict(cast("Mapping[str, Any]", value))
    if kind == "text" and not isinstance(part.get("text"), str):
        raise MessageError(f"{field}.text must be text.", field=f"{field}.text")
    if kind == "image_url" and not _has_url(part.get("image_url")):
        raise MessageError(f"{field}.image_url must be an object with a url.", field=f"{field}.image_url")
    if found := schema.unfit(part, field):
        raise MessageError(f"{found[0]} must be {found[1]}.", field=found[0])
    return part


def _has_url(value: object) -> bool:
    url = value.get("url") if isinstance(value, Mapping) else None
    return isinstance(url, str) and bool(url)


def whole(text: str, field: str) -> None:
    """Raise MessageError where half a character stands in it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise MessageError(
            f"{field} has half a character (an unpaired surrogate) at position {error.start}: cut text between characters.",
            field=field,
        ) from None


def _order(checked: tuple[Message, ...]) -> None:
    open_calls: list[str] = []  # of the latest assistant's turn, without those that have their result
    answers = False  # whether a tool's result may stand here
    for index, message in enumerate(checked):
        role, field = message["role"], f"messages[{index}]"
        if role == "system" and index:
            raise MessageError(f"{field} is a system message; only the first may be one.", field=f"{field}.role")
        if role == "tool":
            if not answers:
                said = f"{field} is a tool's result with no call before it: give the assistant's turn with tool_calls too."
                raise MessageError(said, field=f"{field}.role")
            _answer(message, open_calls, field)
            continue
        if open_calls:
            said = f"{field} comes before the result of the tool call {open_calls[0]!r}: give each call's result first."
            raise MessageError(said, field=f"{field}.role")
        open_calls = [call["id"] for call in message.get("tool_calls") or ()]
        answers = bool(open_calls)
    _end(checked, open_calls)


def _answer(message: Message, open_calls: list[str], field: str) -> None:
    """One result of one call."""
    if message["tool_call_id"] not in open_calls:
        known = ", ".join(open_calls) or "none that is left"
        said = f"{field}.tool_call_id is {message['tool_call_id']!r:.80}; the calls before it without a result are: {known}."
        raise MessageError(said, field=f"{field}.tool_call_id")
    open_calls.remove(message["tool_call_id"])


def _end(checked: tuple[Message, ...], open_calls: list[str]) -> None:
    last = len(checked) - 1
    if checked[-1]["role"] not in {"user", "tool"}:
        raise MessageError(
            f"messages[{last}] is of role '{checked[-1]['role']}'; the last must be of role 'user' (or 'tool').",
            field=f"messages[{last}].role",
        )
    if open_calls:
        raise MessageError(f"messages end without the result of the tool call {open_calls[0]!r}: add it.", field="messages")


def _size(message: Message) -> int:
    """Bytes of what a message holds."""
    content, calls = message["content"], message.get("tool_calls")
    more = len(json.dumps(calls)) if calls else 0
    if isinstance(content, str):
        return more + len(content.encode())
    parts = cast("list[dict[str, Any]]", content or [])
    texts = (part["text"] if part["type"] == "text" else part["image_url"]["url"] for part in parts)
    return more + sum(len(text.encode()) for text in texts)
