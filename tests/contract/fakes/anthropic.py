"""Anthropic's Messages API: checks the request as the reference has it, and answers in its events."""

from __future__ import annotations

from typing import Any

from fakes.wire import Asked, Script, answered, events, streamed

KEY = "sk-ant-test-0123456789abcdefghijklmnop"
FIELDS = {
    "model", "messages", "max_tokens", "system", "stream", "temperature", "top_p", "stop_sequences", "tools", "tool_choice",
    "output_config", "top_k", "thinking",
}  # fmt: skip
COUNTED = {"model", "messages", "system", "tools", "tool_choice", "thinking", "output_config"}
BLOCKS = {
    "user": {"text", "image", "tool_result"},
    "assistant": {"text", "tool_use", "thinking"},
}


def error(status: int, kind: str, message: str) -> Script:
    """Return a refusal."""
    return answered(status, {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})


def wrong(body: dict[str, Any]) -> str:
    """Return what the API would say against a body, empty for a good one."""
    if unknown := set(body) - FIELDS:
        return f"{min(unknown)}: Extra inputs are not permitted"
    if not isinstance(body.get("max_tokens"), int):
        return "max_tokens: Field required"
    if not 0 <= body.get("temperature", 1) <= 1:
        return "temperature: range: 0..1"
    if not body["messages"]:
        return "messages: at least one message is required"
    for message in body["messages"]:
        if message["role"] not in BLOCKS:
            return f"messages: Unexpected role {message['role']}"
        for block in message["content"]:
            if block["type"] not in BLOCKS[message["role"]]:
                return f"messages: {block['type']} not permitted in {message['role']}"
            if block["type"] == "text" and not block["text"]:
                return "messages: text content blocks must be non-empty"
    return ""


def answer(asked: Asked) -> Script:
    """Answer as Anthropic does."""
    if asked.headers.get("x-api-key") != KEY:
        return error(401, "authentication_error", f"invalid x-api-key {asked.headers.get('x-api-key')}")
    if asked.headers.get("anthropic-version") != "2023-06-01":
        return error(400, "invalid_request_error", "anthropic-version: header is required")
    if asked.target.startswith("/v1/models?"):
        shape = {"type": "model", "display_name": "Claude Haiku 4.5", "created_at": "2025-10-01T00:00:00Z"}
        names = ("claude-opus-5", "claude-haiku-4-5")
        return answered(200, {"data": [{"id": name, **shape} for name in names], "has_more": False})
    if (asked.method, asked.target) == ("POST", "/v1/messages/count_tokens"):
        if extra := set(asked.body) - COUNTED:
            return error(400, "invalid_request_error", f"{min(extra)}: Extra inputs are not permitted")
        return answered(200, {"input_tokens": 2095})
    if (asked.method, asked.target) != ("POST", "/v1/messages"):
        return error(404, "not_found_error", "Not found")
    if message := wrong(asked.body):
        return error(400, "invalid_request_error", message)
    if asked.body.get("tools"):
        return streamed(framed(*called()))
    return streamed(framed(*told("Pa", "ris ", "é😀")))


def framed(*items: Any, end: bytes = b"\n\n") -> bytes:
    """Return the events, each with its name as Anthropic sends them."""
    return events(*items, name=lambda item: str(item["type"]), end=end)


def start() -> dict[str, Any]:
    """Return a message's start."""
    usage = {"input_tokens": 5, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 1}
    shape = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5", "content": []}
    return {"type": "message_start", "message": {**shape, "stop_reason": None, "stop_sequence": None, "usage": usage}}


def delta(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    """Return a piece of a block."""
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def block(index: int, *pieces: dict[str, Any], **fields: Any) -> list[Any]:
    """Return a block's events."""
    begin = {"type": "content_block_start", "index": index, "content_block": fields}
    return [begin, *pieces, {"type": "content_block_stop", "index": index}]


def close(reason: str) -> list[Any]:
    """Return a message's end."""
    change = {"stop_reason": reason, "stop_sequence": None}
    return [{"type": "message_delta", "delta": change, "usage": {"output_tokens": 3}}, {"type": "message_stop"}]


def told(*texts: str, reason: str = "end_turn") -> list[Any]:
    """Return the events of an answer."""
    thinking = block(0, delta(0, "thinking_delta", thinking="hm "), delta(0, "signature_delta", signature="x"), type="thinking")
    said = block(1, *(delta(1, "text_delta", text=text) for text in texts), type="text", text="")
    return [start(), {"type": "ping"}, *thinking, *said, {"type": "what_comes_next_year"}, *close(reason)]


def called() -> list[Any]:
    """Return a sentence and two tool calls."""
    first = [delta(1, "input_json_delta", partial_json=piece) for piece in ("", '{"city":', '"Paris"}')]
    return [
        start(),
        *block(0, delta(0, "text_delta", text="Let me look."), type="text", text=""),
        *block(1, *first, type="tool_use", id="toolu_1", name="weather", input={}),
        *block(2, delta(2, "input_json_delta", partial_json="{}"), type="tool_use", id="toolu_2", name="time", input={}),
        *close("tool_use"),
    ]
