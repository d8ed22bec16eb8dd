"""From bytes to a `Call`: everything that can be said against a chat request before anyone is asked.

Three kinds of fields: those with a check, which pass; those that other clients send and that change nothing here (`IGNORED`);
and all others, which are refused by name, because a setting that is silently dropped is a wrong answer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from hybr.server.body import decode
from hybr.server.errors import RequestError
from hybr.server.providers.base import Call

if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGES = 2048
ROLES = ("system", "developer", "user", "assistant", "tool")
IGNORED = {
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
}
VERBOSITIES = ("low", "medium", "high")
INNER = {"reasoning_budget"}  # what other surfaces say, and nobody here
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")  # the last is Anthropic's and DeepSeek's


def parse(raw: bytes, default_model: str) -> Call:
    """Return the checked request. Raises RequestError that names the field."""
    body = decode(raw)
    if not isinstance(body, dict):
        raise RequestError("the body must be a JSON object", code="invalid_json")
    if "reasoning_budget" in body:
        raise RequestError(
            "reasoning_budget is not a field here; use reasoning_effort", code="unknown_field", field="reasoning_budget"
        )
    return checked(body, default_model)


def checked(body: dict[str, Any], default_model: str) -> Call:
    """Return the request of a body that is an object. Raises RequestError that names the field."""
    for name in list(body):
        if name in IGNORED or body[name] is None:
            del body[name]
        elif name not in CHECKS:
            known = ", ".join(sorted(CHECKS.keys() - INNER))
            raise RequestError(f"this server has no field {name[:100]!r}; it has {known}", code="unknown_field", field=name[:100])
        else:
            CHECKS[name](name, body[name])
    if "messages" not in body:
        raise RequestError("messages is missing: a list of {role, content}", code="missing", field="messages")
    if "stream_options" in body and not body.get("stream"):
        raise RequestError("stream_options goes with stream: true only", field="stream_options")
    body.pop("modalities", None)  # it has said what happens anyway
    return Call(body.pop("model", default_model), bool(body.get("stream", False)), body)


def number(low: float, high: float) -> Callable[[str, Any], None]:
    """Return a check for a finite number from `low` to `high`."""

    def check(name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
            raise RequestError(f"{name} must be a number from {low:g} to {high:g}", field=name)

    return check


def integer(low: int, high: int) -> Callable[[str, Any], None]:
    """Return a check for a whole number from `low` to `high`."""

    def check(name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise RequestError(f"{name} must be a whole number from {low} to {high}", field=name)

    return check


def boolean(name: str, value: Any) -> None:
    """Check for true or false."""
    if not isinstance(value, bool):
        raise RequestError(f"{name} must be true or false", field=name)


def word(*known: str) -> Callable[[str, Any], None]:
    """Return a check for one of `known`."""

    def check(name: str, value: Any) -> None:
        if value not in known:
            raise RequestError(f"{name} must be one of {', '.join(known)}", field=name)

    return check


def text(name: str, value: Any) -> None:
    """Check for a short name."""
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise RequestError(f"{name} must be a text of 1 to 200 characters", field=name)


def stops(name: str, value: Any) -> None:
    """Check for one stop text or up to 16."""
    items = [value] if isinstance(value, str) else value
    fine = isinstance(items, list) and len(items) <= 16 and all(isinstance(item, str) and 0 < len(item) <= 500 for item in items)
    if not fine:
        raise RequestError(f"{name} must be a text or a list of up to 16 texts of 1 to 500 characters", field=name)


def biases(name: str, value: Any) -> None:
    """Check for a map from token id to bias."""
    if not isinstance(value, dict) or len(value) > 1024:
        raise RequestError(f"{name} must be an object of up to 1024 token ids", field=name)
    for token, bias in value.items():
        if not token.isdecimal():
            raise RequestError(f"{name} must have token ids as names", field=name)
        number(-100, 100)(f"{name}.{token[:20]}", bias)


def stream_options(name: str, value: Any) -> None:
    """Check for the options there are. Of obfuscation there is none in our streams, whatever is said of it."""
    known = ("include_usage", "include_obfuscation")
    if not isinstance(value, dict) or not set(value) <= set(known):
        raise RequestError(f"{name} has the fields {' and '.join(known)} only", field=name)
    for option in value:
        boolean(f"{name}.{option}", value[option])


def response_format(name: str, value: Any) -> None:
    """Check for a known kind of output."""
    kinds = ("text", "json_object", "json_schema")
    if not isinstance(value, dict) or value.get("type") not in kinds:
        raise RequestError(f"{name}.type must be one of {', '.join(kinds)}", field=f"{name}.type")
    if value["type"] == "json_schema" and not isinstance(value.get("json_schema"), dict):
        raise RequestError(f"{name}.json_schema must be an object", field=f"{name}.json_schema")


def tools(name: str, value: Any) -> None:
    """Check for a list; what is in it is the provider's to judge."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise RequestError(f"{name} must be a list of objects", field=name)


def tool_choice(name: str, value: Any) -> None:
    """Check for a word or an object."""
    if not isinstance(value, str | dict):
        raise RequestError(f"{name} must be a text or an object", field=name)


def messages(name: str, value: Any) -> None:
    """Check the conversation: not empty, known roles, something in it to answer."""
    if not isinstance(value, list) or not value:
        raise RequestError("messages must be a list with at least one message", code="empty_messages", field=name)
    if len(value) > MESSAGES:
        raise RequestError(f"messages holds {len(value)} messages, the most is {MESSAGES}", field=name)
    for index, message in enumerate(value):
        one_message(f"{name}[{index}]", message)


def one_message(where: str, message: Any) -> None:
    """Check one message."""
    if not isinstance(message, dict):
        raise RequestError(f"{where} must be an object with role and content", field=where)
    role = message.get("role")
    if role not in ROLES:
        raise RequestError(f"{where}.role must be one of {', '.join(ROLES)}", field=f"{where}.role")
    for name in ("name", "tool_call_id"):
        if not isinstance(message.get(name, ""), str | None):
            raise RequestError(f"{where}.{name} must be a text", field=f"{where}.{name}")
    if message.get("tool_calls") not in (None, []):
        tool_calls(f"{where}.tool_calls", message["tool_calls"], role)
    content = message.get("content")
    if content is None and role == "assistant" and (message.get("tool_calls") or isinstance(message.get("refusal"), str)):
        return
    words = content if isinstance(content, str) else parts(f"{where}.content", content)
    if role == "user" and not words.strip():
        raise RequestError(f"{where} is empty: write something first", code="empty_message", field=f"{where}.content")


def tool_calls(where: str, value: Any, role: str) -> None:
    """Check for a list of calls, which only the assistant's turns have."""
    if role != "assistant":
        raise RequestError(f"{where} belongs to an assistant's message", field=where)
    if not isinstance(value, list):
        raise RequestError(f"{where} must be a list of calls", field=where)
    for index, call in enumerate(value):
        if not named(call):
            place = f"{where}[{index}]"
            raise RequestError(f"{place} must have id, function.name and arguments as JSON in a text", field=place)


def named(call: Any) -> bool:
    """Say whether a tool's call has an id, a name, and its arguments as a text."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(call.get("id"), str):
        return False
    return isinstance(function.get("name"), str) and isinstance(function.get("arguments", ""), str)


def parts(where: str, content: Any) -> str:
    """Check a content given in parts and return its text; an image counts as something said."""
    if not isinstance(content, list) or not content:
        raise RequestError(f"{where} must be a text or a list of parts", field=where)
    said = ""
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            said += part["text"]
        elif kind == "image_url" and isinstance(part.get("image_url"), dict):
            said += "(image)"
        else:
            raise RequestError(f"{where}[{index}] must be a text or image_url part", field=f"{where}[{index}]")
    return said


def modalities(name: str, value: Any) -> None:
    """Check for text, the only form in which is answered."""
    if value != ["text"]:
        raise RequestError(f'{name} must be ["text"]', code="unsupported", field=name)


def only_one(name: str, value: Any) -> None:
    """Check for the only number of answers there is."""
    if isinstance(value, bool) or value != 1:
        raise RequestError(f"{name} must be 1", field=name)


CHECKS: dict[str, Callable[[str, Any], None]] = {
    "messages": messages,
    "model": text,
    "stream": boolean,
    "stream_options": stream_options,
    "temperature": number(0, 2),
    "top_p": number(0, 1),
    "presence_penalty": number(-2, 2),
    "frequency_penalty": number(-2, 2),
    "max_tokens": integer(1, 1_000_000),
    "max_completion_tokens": integer(1, 1_000_000),
    "seed": integer(-(2**63), 2**63 - 1),
    "stop": stops,
    "n": only_one,
    "logit_bias": biases,
    "logprobs": boolean,
    "top_logprobs": integer(0, 20),
    "response_format": response_format,
    "tools": tools,
    "tool_choice": tool_choice,
    "parallel_tool_calls": boolean,
    "verbosity": word(*VERBOSITIES),
    "modalities": modalities,
    "top_k": integer(0, 1_000_000),
    "reasoning_effort": word(*EFFORTS),
    "reasoning_budget": integer(0, 1_000_000),  # other surfaces say it in tokens
}
