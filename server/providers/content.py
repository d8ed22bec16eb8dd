"""What OpenAI's messages hold, taken apart for providers that say it otherwise: texts, images, tools and their calls.

The checks of `hybr.server.chat` have passed; these are for what only a translation must understand. All raise RequestError.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING, Any

from hybr.server.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybr.server.providers.base import Call

DATA = re.compile(r"data:(image/(?:png|jpeg|webp|gif));base64,([A-Za-z0-9+/=]+)")


def parts(content: Any) -> list[dict[str, Any]]:
    """Return a content as its parts, a plain text as one; empty texts are left out, which no provider takes."""
    if content is None:
        return []
    given = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [part for part in given if part["type"] != "text" or part["text"]]


def spoken(message: dict[str, Any]) -> Any:
    """Return what a turn says: its content, or the refusal in its place."""
    content, refusal = message.get("content"), message.get("refusal")
    return refusal if not content and isinstance(refusal, str) else content


def plain(content: Any, where: str) -> str:
    """Return a content that must be text."""
    if any(part["type"] != "text" for part in parts(content)):
        raise RequestError(f"{where} may hold text only", code="unsupported", field=where)
    return "".join(part["text"] for part in parts(content))


def image(part: dict[str, Any], where: str) -> tuple[str, str] | str:
    """Return an image's type and base64, or its address."""
    url = part["image_url"].get("url")
    if isinstance(url, str) and url.startswith("https://"):
        return url
    found = DATA.fullmatch(url) if isinstance(url, str) else None
    if not found:
        raise RequestError(f"{where} must be a data: URL of a PNG, JPEG, WebP or GIF in base64", field=where)
    try:
        base64.b64decode(found[2], validate=True)
    except binascii.Error:
        raise RequestError(f"{where} is not base64", field=where) from None
    return found[1], found[2]


def check_images(call: Call, *, remote: bool) -> None:
    """Check every image; without `remote` none may be an address: who would fetch it stands in the operator's own network."""
    for index, message in enumerate(call.body["messages"]):
        content = message.get("content")
        for place, part in enumerate(() if isinstance(content, str) else parts(content)):
            where = f"messages[{index}].content[{place}].image_url.url"
            if part["type"] == "image_url" and isinstance(image(part, where), str) and not remote:
                raise RequestError(f"{where}: this provider gets images as data: URLs only", code="unsupported", field=where)


def functions(call: Call) -> list[dict[str, Any]]:
    """Return the tools' functions, each with its name."""
    found = []
    for index, tool in enumerate(call.body.get("tools") or ()):
        function = tool.get("function")
        if tool.get("type") != "function" or not isinstance(function, dict) or not isinstance(function.get("name"), str):
            where = f"tools[{index}]"
            raise RequestError(f"{where} must be a function with a name", code="unsupported", field=where)
        found.append(function)
    return found


def choice(call: Call) -> str | None:
    """Return `auto`, `none`, `required`, or `=NAME` for one function; None when nothing was said."""
    given = call.body.get("tool_choice")
    if given is None or given in ("auto", "none", "required"):
        return given
    name = (given.get("function") or {}).get("name") if isinstance(given, dict) else None
    if not isinstance(name, str):
        raise RequestError("tool_choice must be auto, none, required or a function", field="tool_choice")
    return f"={name}"


def calls(message: dict[str, Any], where: str) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """Yield id, name and arguments of the tools a turn called, and the call itself."""
    for index, call in enumerate(message.get("tool_calls") or ()):
        place = f"{where}.tool_calls[{index}]"
        try:
            name, raw, told = call["function"]["name"], call["function"].get("arguments") or "{}", call["id"]
            arguments = json.loads(raw)
        except (KeyError, TypeError, AttributeError, ValueError):
            raise RequestError(f"{place} must have id, function.name and arguments as JSON", field=place) from None
        if not (isinstance(name, str) and isinstance(told, str) and isinstance(arguments, dict)):
            raise RequestError(f"{place}: the arguments must be a JSON object", field=place)
        yield told, name, arguments, call


def dump(value: Any) -> str:
    """Return a tool's arguments as the text that OpenAI's clients read."""
    return json.dumps(value, ensure_ascii=False)


def schema(call: Call) -> tuple[str, dict[str, Any] | None]:
    """Return the wanted kind of output, and the schema of `json_schema`."""
    wanted = call.body.get("response_format") or {"type": "text"}
    if wanted["type"] != "json_schema":
        return wanted["type"], None
    found = wanted["json_schema"].get("schema")
    if not isinstance(found, dict):
        where = "response_format.json_schema.schema"
        raise RequestError(f"{where} must be an object", field=where)
    return "json_schema", found


def refuse(call: Call, provider: str, *names: str) -> None:
    """Refuse settings that this provider does not have, unless they ask for what happens anyway."""
    for name in names:
        if call.body.get(name) not in (None, 0, False, {}, "medium"):
            raise RequestError(f"{provider} has no {name}", code="unsupported", field=name)


def one_at_a_time(call: Call, provider: str) -> None:
    """Refuse the wish for one tool call at a time where nobody can be told of it."""
    if call.body.get("parallel_tool_calls") is False and call.body.get("tools"):
        text = f"{provider} may always call several tools at once: leave parallel_tool_calls out"
        raise RequestError(text, code="unsupported", field="parallel_tool_calls")


BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768}
"""Tokens for thinking that OpenAI's words stand for, with those who want a number."""


def effort(budget: int) -> str:
    """Return OpenAI's word for a budget of thinking tokens; 0 is as much as the model likes."""
    if not budget:
        return "medium"
    return "low" if budget <= 4096 else "medium" if budget <= 12288 else "high"


def most(call: Call) -> int | None:
    """Return the wanted most tokens, by either name."""
    found: int | None = call.body.get("max_completion_tokens", call.body.get("max_tokens"))
    return found


def stops(call: Call) -> list[str]:
    """Return the stop texts."""
    found = call.body.get("stop")
    return [found] if isinstance(found, str) else list(found or ())


def vector(given: Any) -> list[float]:
    """Return a vector that a provider sent. Raises TypeError for anything else."""
    if not isinstance(given, list) or not all(isinstance(number, int | float) for number in given):
        raise TypeError
    return given


def tokens(value: Any) -> int:
    """Return a provider's count of tokens. Raises ValueError for what is none: a guess of ours would look like its word."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(value)
    return value
