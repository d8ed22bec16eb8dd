"""A streamed answer put together into the plain one.

The house model is always asked for a stream: llama.cpp notices that nobody listens only when it writes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hybr.server.errors import UpstreamError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def whole(chunks: AsyncIterator[bytes], attempts: int) -> AsyncIterator[bytes]:
    """Yield one OpenAI chat completion made of the events in `chunks`.

    Raises UpstreamError when they end before `[DONE]`, or hold an error.
    """
    answer: dict[str, Any] = {}
    rest, done = b"", False
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line == b"data: [DONE]":
                done = True
            elif line.startswith(b"data: "):
                add(answer, json.loads(line[6:]), attempts)
    if not done:
        raise UpstreamError("the model's answer ended before its end", code="stream_cut", attempts=attempts)
    yield json.dumps(finish(answer)).encode()


def add(answer: dict[str, Any], event: dict[str, Any], attempts: int) -> None:
    """Take one event into the answer so far."""
    if "error" in event:
        raise UpstreamError("the model failed in mid-answer", code="failed_midway", attempts=attempts)
    choices = answer.setdefault("choices", {})
    for choice in event["choices"]:
        start: dict[str, Any] = {"index": choice["index"], "message": {"role": "assistant", "content": ""}, "finish_reason": None}
        so_far = choices.setdefault(choice["index"], start)
        so_far["message"]["content"] += choice["delta"].get("content") or ""
        for name in ("reasoning_content", "refusal"):
            if said := choice["delta"].get(name):
                so_far["message"][name] = so_far["message"].get(name, "") + said
        for piece in choice["delta"].get("tool_calls") or ():
            add_tool(so_far["message"].setdefault("tool_calls", []), piece)
        so_far["finish_reason"] = choice["finish_reason"] or so_far["finish_reason"]
        if choice.get("logprobs"):
            so_far.setdefault("logprobs", {"content": []})["content"] += choice["logprobs"]["content"]
    answer.update({key: value for key, value in event.items() if key != "choices"})


def add_tool(calls: list[dict[str, Any]], piece: dict[str, Any]) -> None:
    """Take one piece of a tool call: the index says of which, the name comes once, the arguments bit by bit."""
    found = next((call for call in calls if call["index"] == piece["index"]), None)
    if found is None:
        found = {"index": piece["index"], "id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        calls.append(found)
    found.update({name: piece[name] for name in ("id", "extra_content") if name in piece})
    for name, said in piece["function"].items():
        found["function"][name] += said


def finish(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the answer in the plain form."""
    choices = [answer["choices"][index] for index in sorted(answer.get("choices", ()))]
    for call in (call for choice in choices for call in choice["message"].get("tool_calls", ())):
        del call["index"]  # only pieces have one
    return {**answer, "object": "chat.completion", "choices": choices}
