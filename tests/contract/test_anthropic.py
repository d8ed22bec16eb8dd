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
    ("model", "effort", "thinking", "told"),
    [
        ("claude-haiku-4-5", "low", {"type": "enabled", "budget_tokens": 1024}, (None, 1056)),
        ("claude-haiku-4-5", "none", None, (None, 32)),
        ("claude-sonnet-4-6", "xhigh", {"type": "adaptive"}, ("high", 32)),
        ("claude-opus-5", "minimal", {"type": "adaptive", "display": "summarized"}, ("low", 32)),
        ("claude-opus-4-8", "xhigh", {"type": "adaptive", "display": "summarized"}, ("xhigh", 32)),
        ("claude-opus-4-20250514", "high", {"type": "enabled", "budget_tokens": 16384}, (None, 16416)),
    ],
)
async def test_thinking(tmp_path: Path, model: str, effort: str, thinking: Any, told: tuple[str | None, int]) -> None:
    """OpenAI's word for how much to think is a budget beside the answer's for older models, and a word for newer ones.

    The newest keep their thoughts to themselves unless they are asked for them.
    """
    answer, asked = await chat(tmp_path, model=f"anthropic/{model}", temperature=None, reasoning_effort=effort)
    assert answer.status_code == 200, answer.text
    body = asked[0].body
    assert body.get("thinking") == thinking
    assert (body.get("output_config", {}).get("effort"), body["max_tokens"]) == told


async def test_one_call_at_a_time(tmp_path: Path) -> None:
    """The wish for one tool call at a time goes where this API wants it, by either surface's word, and only when it is said."""
    for choice, wanted in ((None, {"type": "auto"}), ("required", {"type": "any"})):
        _, asked = await chat(tmp_path, tools=[TOOL], tool_choice=choice, parallel_tool_calls=False)
        assert asked[0].body["tool_choice"] == {**wanted, "disable_parallel_tool_use": True}
    _, asked = await chat(tmp_path, tools=[TOOL], tool_choice="none", parallel_tool_calls=False)
    assert asked[0].body["tool_choice"] == {"type": "none"}
    _, asked = await chat(tmp_path, tools=[TOOL], parallel_tool_calls=True)
    assert "tool_choice" not in asked[0].body
    answer, asked = await chat(tmp_path, verbosity="low")
    assert (answer.status_code, answer.json()["error"]["field"], asked) == (400, "verbosity", [])


async def test_an_old_models_bound(tmp_path: Path) -> None:
    """A request without a bound asks no model for more than it can say."""
    answer, asked = await chat(tmp_path, model="anthropic/claude-3-haiku-20240307", max_tokens=None)
    assert (answer.status_code, asked[0].body["max_tokens"]) == (200, 4096)


async def test_a_thought_that_is_kept_back(tmp_path: Path) -> None:
    """A thought of which only the signature is told is a block all the same, and goes there again with its calls."""
    signed = anthropic.block(0, anthropic.delta(0, "signature_delta", signature="x"), type="thinking", thinking="")
    calls = [item for item in anthropic.called() if item.get("index") != 0]
    script = streamed(anthropic.framed(calls[0], *signed, *calls[1:]))
    body: dict[str, Any] = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    async with wired(lambda _: script) as wire, asking(parts_of(tmp_path, "anthropic", wire.address, anthropic.KEY)) as client:
        content = (await client.post("/v1/messages", json=body)).json()["content"]
        results = [{"type": "tool_result", "tool_use_id": one["id"], "content": "1"} for one in content[1:]]
        body["messages"] += [{"role": "assistant", "content": content}, {"role": "user", "content": results}]
        assert (await client.post("/v1/messages", json=body)).status_code == 200
    assert content[0] == {"type": "thinking", "thinking": "", "signature": "x"}
    assert wire.asked[1].body["messages"][1]["content"][0] == content[0]


async def test_a_call_without_arguments(tmp_path: Path) -> None:
    """A call for which nothing is said is one with an empty object: a client would fail to read an empty text."""
    call = anthropic.block(0, type="tool_use", id="toolu_1", name="time", input={})
    script = streamed(anthropic.framed(anthropic.start(), *call, *anthropic.close("tool_use")))
    answer, _ = await chat(tmp_path, lambda _: script, tools=[TOOL])
    (found,) = answer.json()["choices"][0]["message"]["tool_calls"]
    assert found["function"] == {"name": "time", "arguments": "{}"}


async def test_two_thoughts_are_two(tmp_path: Path) -> None:
    """Each thought keeps its own signature, streamed and whole, and goes there again with it: joined they would be refused."""
    pairs = [("one", "x"), ("two", "y")]
    blocks = [
        anthropic.block(
            index,
            anthropic.delta(index, "thinking_delta", thinking=text),
            anthropic.delta(index, "signature_delta", signature=sign),
            type="thinking",
        )
        for index, (text, sign) in enumerate(pairs)
    ]
    said = anthropic.block(2, anthropic.delta(2, "text_delta", text="Hi"), type="text", text="")
    script = streamed(anthropic.framed(anthropic.start(), *blocks[0], *blocks[1], *said, *anthropic.close("end_turn")))
    wanted = [{"type": "thinking", "thinking": text, "signature": sign} for text, sign in pairs]
    body: dict[str, Any] = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    async with wired(lambda _: script) as wire, asking(parts_of(tmp_path, "anthropic", wire.address, anthropic.KEY)) as client:
        live = (await client.post("/v1/messages", json={**body, "stream": True})).text
        content = (await client.post("/v1/messages", json=body)).json()["content"]
        body["messages"] += [{"role": "assistant", "content": content}, {"role": "user", "content": "So?"}]
        await client.post("/v1/messages", json=body)
    found = [json.loads(line[6:]) for line in live.split("\n") if line.startswith("data: ")]
    begun = [event["content_block"]["type"] for event in found if event["type"] == "content_block_start"]
    signs = [(event["index"], event["delta"]["signature"]) for event in found if "signature" in event.get("delta", {})]
    assert (begun, signs) == (["thinking", "thinking", "text"], [(0, "x"), (1, "y")])
    assert content == [*wanted, {"type": "text", "text": "Hi"}]
    assert wire.asked[2].body["messages"][1]["content"] == content


async def test_a_refusal_goes_back(tmp_path: Path) -> None:
    """A turn that OpenAI refused, whose content is null, is a turn of the conversation."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None, "refusal": "No."}]
    _, asked = await chat(tmp_path, messages=[*turns, {"role": "user", "content": "So?"}])
    assert asked[0].body["messages"][1] == {"role": "assistant", "content": [{"type": "text", "text": "No."}]}


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
