"""OpenAI's chat completions: checks the request as the reference has it, and answers in its chunks."""

from __future__ import annotations

from typing import Any

from fakes.wire import Asked, Script, answered, events, streamed

KEY = "sk-test-0123456789abcdefghijklmnop"
FIELDS = {
    "model", "messages", "stream", "stream_options", "temperature", "top_p", "presence_penalty", "frequency_penalty",
    "max_completion_tokens", "max_tokens", "seed", "stop", "n", "logit_bias", "logprobs", "top_logprobs", "response_format",
    "tools", "tool_choice", "reasoning_effort",
}  # fmt: skip
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 4}}
BILLED = {**USAGE, "cost": 7.35e-6}  # gpt-5-mini: five tokens at 0.25, four cached at 0.025, three of answer at 2 USD a million


def error(status: int, message: str, kind: str = "invalid_request_error", code: str | None = None) -> Script:
    """Return a refusal."""
    return answered(status, {"error": {"message": message, "type": kind, "param": None, "code": code}})


def chunk(delta: dict[str, Any], finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return one chunk, with the fields that OpenAI sends and nobody needs."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    shape = {"id": "chatcmpl-9", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5-mini-2025-08-07"}
    return {**shape, "service_tier": "default", "obfuscation": "x8", "choices": [choice], "usage": None, **fields}


def told(*texts: str, finish: str = "stop") -> list[Any]:
    """Return the events of an answer."""
    said = [chunk({"role": "assistant", "content": "", "refusal": None}), *(chunk({"content": text}) for text in texts)]
    return [*said, chunk({}, finish), {**chunk({}), "choices": [], "usage": USAGE}, b"[DONE]"]


def answer(asked: Asked, key: str = KEY, texts: tuple[str, ...] = ("Pa", "ris ", "é😀")) -> Script:
    """Answer as OpenAI does."""
    if asked.headers.get("authorization") != f"Bearer {key}":
        given = asked.headers.get("authorization", "")
        return error(401, f"Incorrect API key provided: {given}. You can find it at https://x.example.", code="invalid_api_key")
    if asked.target == "/v1/models":
        names = ("gpt-5-mini", "gpt-4.1", "text-embedding-3-small", "gpt-realtime", "dall-e-3")
        listed = [{"id": name, "object": "model", "created": 5, "owned_by": "openai"} for name in names]
        return answered(200, {"object": "list", "data": listed})
    if (asked.method, asked.target) != ("POST", "/v1/chat/completions"):
        return error(404, f"Unknown request URL: {asked.target}")
    if unknown := set(asked.body) - FIELDS:
        return error(400, f"Unrecognized request arguments: {sorted(unknown)}")
    if "max_tokens" in asked.body:
        return error(
            400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", code="unsupported_parameter"
        )
    if not asked.body["model"].startswith("gpt-"):
        return error(404, "The model does not exist", code="model_not_found")
    if asked.body.get("tools"):
        return streamed(events(*called(), chunk({}, "tool_calls"), b"[DONE]"))
    return streamed(events(*told(*texts)))


def called() -> list[Any]:
    """Return two tool calls in pieces, as they are streamed."""

    def piece(index: int, **fields: Any) -> dict[str, Any]:
        return chunk({"tool_calls": [{"index": index, **fields}]})

    return [
        piece(0, id="call_1", type="function", function={"name": "weather", "arguments": ""}),
        piece(0, function={"arguments": '{"city":'}),
        piece(0, function={"arguments": '"Paris"}'}),
        piece(1, id="call_2", type="function", function={"name": "time", "arguments": "{}"}),
    ]
