"""Anthropic's Messages API as an upstream, against a fake that checks what it is sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from fakes import anthropic
from fakes.gateway import parts_of, remote_of
from fakes.wire import Asked, streamed, wired
from serving import asking, question, said

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "anthropic/claude-haiku-4-5"
PNG = "data:image/png;base64,iVBORw0KGgo="
TOOL = {"type": "function", "function": {"name": "weather", "description": "W", "parameters": {"type": "object"}}}
CALLED = {"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}


async def chat(folder: Path, script: Any = anthropic.answer, **fields: Any) -> tuple[Any, list[Asked]]:
    """Return the gateway's answer to one question, and what the provider was asked."""
    async with wired(script) as wire, asking(parts_of(folder, "anthropic", wire.address, anthropic.KEY)) as client:
        return await client.post("/v1/chat/completions", json=question(**{"model": MODEL, **fields})), wire.asked


async def test_plain(tmp_path: Path) -> None:
    """A plain answer has text, thoughts apart, finish reason and usage."""
    answer, asked = await chat(tmp_path)
    choice = answer.json()["choices"][0]
    assert choice["message"] == {
        "role": "assistant",
        "content": "Paris é😀",
        "reasoning_content": "hm ",
        "reasoning_signature": "x",
    }
    assert choice["finish_reason"] == "stop"
    details = {"prompt_tokens_details": {"cached_tokens": 4}}
    usage = answer.json()["usage"]
    cost = usage.pop("cost")  # 5 tokens at 1 dollar a million, 4 cached ones at 0.1, 3 said at 5
    assert usage == {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, **details}
    assert cost == pytest.approx((5 * 1 + 4 * 0.1 + 3 * 5) / 1e6)
    assert (answer.json()["model"], answer.headers["x-hybr-provider"]) == (MODEL, "anthropic")
    assert asked[0].target == "/v1/messages"


async def test_streamed(tmp_path: Path) -> None:
    """A stream's texts come in order and it ends properly."""
    answer, _ = await chat(tmp_path, stream=True, stream_options={"include_usage": True})
    *found, done = [piece.removeprefix("data: ") for piece in answer.text.split("\n\n") if piece]
    events = [json.loads(piece) for piece in found]
    assert (said(events), done) == ("Paris é😀", "[DONE]")
    assert events[-1]["usage"]["total_tokens"] == 12


async def test_request(tmp_path: Path) -> None:
    """System turns stand apart, turns of one role are joined, tools, images and results are in their blocks, 0 stays 0 (D6)."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": PNG}}]},
        {"role": "assistant", "content": None, "tool_calls": [CALLED]},
        {"role": "tool", "tool_call_id": "toolu_1", "content": "Sunny"},
        {"role": "developer", "content": "And polite."},
        {"role": "user", "content": "So?"},
    ]
    choice = {"type": "function", "function": {"name": "weather"}}
    answer, asked = await chat(tmp_path, messages=messages, tools=[TOOL], tool_choice=choice, stop="x", seed=1)
    assert answer.status_code == 200, answer.text
    assert asked[0].body == {
        "model": "claude-haiku-4-5",
        "stream": True,
        "max_tokens": 32,
        "temperature": 0,
        "stop_sequences": ["x"],
        "system": "Be brief.\n\nAnd polite.",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "See"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
                ],
            },
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Sunny"},
                    {"type": "text", "text": "So?"},
                ],
            },
        ],
        "tools": [{"name": "weather", "description": "W", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "weather"},
    }


async def test_tools(tmp_path: Path) -> None:
    """The tools that it calls come back as OpenAI's."""
    answer, _ = await chat(tmp_path, tools=[TOOL])
    choice = answer.json()["choices"][0]
    second = {"id": "toolu_2", "type": "function", "function": {"name": "time", "arguments": "{}"}}
    assert choice["message"] == {"role": "assistant", "content": "Let me look.", "tool_calls": [CALLED, second]}
    assert choice["finish_reason"] == "tool_calls"


async def test_schema(tmp_path: Path) -> None:
    """A schema for the answer goes where this API wants it; without a bound, the answer gets a generous one."""
    schema = {"type": "object"}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    _, asked = await chat(tmp_path, response_format=wanted, max_tokens=None)
    assert asked[0].body["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    assert asked[0].body["max_tokens"] == 8192


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"temperature": 1.5}, "temperature"),
        ({"logprobs": True}, "logprobs"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"tools": [{"type": "what"}]}, "tools[0]"),
        ({"tools": [TOOL], "tool_choice": "what"}, "tool_choice"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "x"}]}]}, "messages[0].tool_calls[0]"),
    ],
)
async def test_refused_here(tmp_path: Path, fields: dict[str, Any], field: str) -> None:
    """What this API cannot say is the caller's to change, and is not sent."""
    answer, asked = await chat(tmp_path, **fields)
    assert (answer.status_code, answer.json()["error"]["field"], asked) == (400, field, [])


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("max_tokens", "length"),
        ("stop_sequence", "stop"),
        ("refusal", "content_filter"),
        ("model_context_window_exceeded", "length"),
    ],
)
async def test_ends(tmp_path: Path, reason: str, finish: str) -> None:
    """Each way to end has OpenAI's name."""
    answer, _ = await chat(tmp_path, lambda _: streamed(anthropic.framed(*anthropic.told("Hi", reason=reason))))
    assert answer.json()["choices"][0]["finish_reason"] == finish


async def test_models(tmp_path: Path) -> None:
    """The provider's own list counts once it was read, the default first."""
    async with wired(anthropic.answer) as wire:
        parts = parts_of(tmp_path, "anthropic", wire.address, anthropic.KEY)
        async with asking(parts) as client:
            assert await remote_of(parts).refresh()
            listed = (await client.get("/v1/models")).json()["data"]
    assert [entry["id"] for entry in listed] == [MODEL, "anthropic/claude-opus-5", "smollm2-135m"]
    assert (listed[0]["name"], listed[0]["context_length"]) == ("Claude Haiku 4.5", 200_000)


@pytest.mark.parametrize(
    ("model", "given", "thinking", "most"),
    [
        ("claude-haiku-4-5", {"reasoning_effort": "low"}, {"type": "enabled", "budget_tokens": 1024}, 1056),
        ("claude-haiku-4-5", {"reasoning_effort": "none"}, None, 32),
        ("claude-opus-5", {"reasoning_effort": "high"}, {"type": "adaptive"}, 32),
        ("claude-opus-4-20250514", {"reasoning_effort": "high"}, {"type": "enabled", "budget_tokens": 16384}, 16416),
    ],
)
async def test_thinking(tmp_path: Path, model: str, given: dict[str, Any], thinking: Any, most: int) -> None:
    """OpenAI's word for how much to think is a budget beside the answer's for older models, and left to the newer ones."""
    answer, asked = await chat(tmp_path, model=f"anthropic/{model}", temperature=None, **given)
    assert answer.status_code == 200, answer.text
    assert (asked[0].body.get("thinking"), asked[0].body["max_tokens"]) == (thinking, most)


async def test_prefill(tmp_path: Path) -> None:
    """A beginning of the answer is the last turn, without the blank at its end that the API refuses; newer models have none."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well, "}]
    answer, asked = await chat(tmp_path, messages=turns)
    assert answer.status_code == 200
    assert asked[0].body["messages"][-1] == {"role": "assistant", "content": [{"type": "text", "text": "Well,"}]}
    async with wired(anthropic.answer) as wire:
        parts = parts_of(tmp_path, "anthropic", wire.address, anthropic.KEY)
        async with asking(parts) as client:
            assert await remote_of(parts).refresh()
            listed = (await client.get("/v1/models")).json()["data"]
    assert {entry["id"]: entry["capabilities"]["prefill"] for entry in listed[:2]} == {
        "anthropic/claude-haiku-4-5": True,
        "anthropic/claude-opus-5": False,
    }


async def test_stop_sequence(tmp_path: Path) -> None:
    """Which stop text ended the answer is told to Anthropic's clients."""
    script = anthropic.told("Hi", reason="stop_sequence")
    script[-2]["delta"]["stop_sequence"] = "x"
    async with wired(lambda _: streamed(anthropic.framed(*script))) as wire:
        parts = parts_of(tmp_path, "anthropic", wire.address, anthropic.KEY)
        async with asking(parts) as client:
            body = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], "stop_sequences": ["x"]}
            answer = (await client.post("/v1/messages", json=body)).json()
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", "x")
