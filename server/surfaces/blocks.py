"""Anthropic's conversation as OpenAI's: system texts, turns of content blocks, tools and results. All raise RequestError."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from hybr.server.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator


def wrong(where: str, message: str, code: str = "invalid_value") -> NoReturn:
    """Refuse."""
    raise RequestError(f"{where} {message}", code=code, field=where)


def system(given: Any) -> Iterator[dict[str, Any]]:
    """Yield the system turn, if there is one."""
    if text := texts(given, "system") if given else "":
        yield {"role": "system", "content": text}


def texts(content: Any, where: str) -> str:
    """Return a content that must be text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        wrong(where, "must be a text or a list of blocks")
    found = []
    for index, block in enumerate(content):
        if not isinstance(block, dict) or block.get("type") != "text" or not isinstance(block.get("text"), str):
            wrong(f"{where}[{index}]", "must be a text block", "unsupported")
        found.append(block["text"])
    return "\n".join(found)


def turns(given: Any) -> Iterator[dict[str, Any]]:
    """Yield the turns; a user's turn with tool results becomes several."""
    if not isinstance(given, list) or not given:
        wrong("messages", "must be a list with at least one message", "empty_messages")
    for index, message in enumerate(given):
        where = f"messages[{index}]"
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant", "system"):
            wrong(f"{where}.role", "must be user or assistant")
        content = message.get("content")
        if isinstance(content, str):
            if message["role"] == "user" and not content.strip():
                wrong(f"{where}.content", "is empty: write something first", "empty_message")
            yield {"role": message["role"], "content": content}
        elif not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
            wrong(f"{where}.content", "must be a text or a list of blocks")
        elif message["role"] == "system":
            yield {"role": "system", "content": texts(content, f"{where}.content")}
        else:
            yield from (assistant if message["role"] == "assistant" else user)(content, f"{where}.content")


def user(content: list[dict[str, Any]], where: str) -> Iterator[dict[str, Any]]:
    """Yield the results of tools, then what else the user said."""
    parts = []
    for index, block in enumerate(content):
        place = f"{where}[{index}]"
        if block.get("type") == "tool_result":
            if not isinstance(block.get("tool_use_id"), str):
                wrong(f"{place}.tool_use_id", "is missing", "missing")
            yield {"role": "tool", "tool_call_id": block["tool_use_id"], "content": result(block, place)}
        else:
            parts.append(part(block, place))
    if not content or (parts and not any(part["type"] != "text" or part["text"].strip() for part in parts)):
        wrong(where, "is empty: write something first", "empty_message")
    if parts:
        yield {"role": "user", "content": parts}


def result(block: dict[str, Any], where: str) -> str:
    """Return a tool's result as text."""
    said = texts(block["content"], f"{where}.content") if block.get("content") else ""
    return f"Error: {said}" if block.get("is_error") is True else said


def part(block: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a text or an image."""
    kind = block.get("type")
    if kind == "text" and isinstance(block.get("text"), str):
        return {"type": "text", "text": block["text"]}
    source = block.get("source")
    if kind != "image" or not isinstance(source, dict):
        wrong(where, "must be a text, image or tool_result block", "unsupported")
    if source.get("type") == "url" and isinstance(source.get("url"), str):
        return {"type": "image_url", "image_url": {"url": source["url"]}}
    if source.get("type") != "base64" or not all(isinstance(source.get(name), str) for name in ("media_type", "data")):
        wrong(f"{where}.source", "must be base64 with media_type and data, or a url")
    return {"type": "image_url", "image_url": {"url": f"data:{source['media_type']};base64,{source['data']}"}}


def assistant(content: list[dict[str, Any]], where: str) -> Iterator[dict[str, Any]]:
    """Yield the assistant's turn: texts, thoughts with their signature, tool calls."""
    said, thoughts, calls = "", [], []
    for index, block in enumerate(content):
        place, kind = f"{where}[{index}]", block.get("type")
        if kind == "text" and isinstance(block.get("text"), str):
            said += block["text"]
        elif kind == "thinking" and isinstance(block.get("thinking"), str):
            thoughts.append((block["thinking"], str(block.get("signature") or "")))
        elif kind == "tool_use" and isinstance(block.get("id"), str) and isinstance(block.get("name"), str):
            function = {"name": block["name"], "arguments": json.dumps(block.get("input") or {}, ensure_ascii=False)}
            calls.append({"id": block["id"], "type": "function", "function": function})
        elif kind != "redacted_thinking":
            wrong(place, "must be a text, thinking or tool_use block", "unsupported")
    turn: dict[str, Any] = {"role": "assistant", "content": said or None if calls else said}
    if calls:
        turn["tool_calls"] = calls
    if any(map(any, thoughts)):
        turn["reasoning_content"] = "".join(thought for thought, _ in thoughts)
        turn["thoughts"] = thoughts  # each with its own signature, for who gave them
    yield turn
