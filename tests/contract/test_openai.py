"""OpenAI and its imitators as upstreams, against a fake of the wire format and against a real llama.cpp."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from fakes import openai
from fakes.gateway import parts_of, remote_of
from fakes.wire import Asked, Script, answered, events, head, streamed, wired
from serving import asking, listening, parts_in, question, said, stream

from hybr.server.providers.registry import remote
from hybr.server.secret import Secret
from hybr.server.upstreams import Upstream

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "openai/gpt-5-mini"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


async def chat(folder: Path, script: Any = openai.answer, name: str = "openai", **fields: Any) -> tuple[Any, list[Asked]]:
    """Return the gateway's answer to one question, and what the provider was asked."""
    async with wired(script) as wire, asking(parts_of(folder, name, wire.address, openai.KEY)) as client:
        answer = await client.post("/v1/chat/completions", json=question(**{"model": MODEL, **fields}))
        return answer, wire.asked


def chunks(text: str) -> list[Any]:
    """Return a stream's events; the last must be the proper end."""
    found = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert found.pop() == "[DONE]"
    return [json.loads(piece) for piece in found]


async def test_plain(tmp_path: Path) -> None:
    """A plain answer has text, finish reason and usage, and the headers say who answered."""
    answer, asked = await chat(tmp_path)
    body = answer.json()
    assert body["choices"] == [{"index": 0, "message": {"role": "assistant", "content": "Paris é😀"}, "finish_reason": "stop"}]
    assert body["usage"] == openai.BILLED
    assert (body["model"], body["object"]) == (MODEL, "chat.completion")
    assert answer.headers["x-hybr-provider"] == "openai"
    assert asked[0].headers["authorization"] == f"Bearer {openai.KEY}"


@pytest.mark.parametrize("usage", [True, False])
async def test_streamed(tmp_path: Path, usage: bool) -> None:
    """A stream's texts come one by one; its usage comes when it was asked for, and never otherwise."""
    answer, _ = await chat(tmp_path, stream=True, stream_options={"include_usage": usage})
    found = chunks(answer.text)
    assert said(found) == "Paris é😀"
    assert [chunk["choices"][0]["finish_reason"] for chunk in found if chunk["choices"]][-1] == "stop"
    assert [chunk["usage"] for chunk in found if "usage" in chunk] == ([openai.BILLED] if usage else [])
    assert not {"obfuscation", "service_tier"} & set().union(*found)


async def test_d6_options_arrive(tmp_path: Path) -> None:
    """Temperature 0 and the other settings reach the provider under the names it knows (D6)."""
    given = {"temperature": 0, "top_p": 0.5, "seed": 7, "stop": ["x"], "presence_penalty": 1, "max_tokens": 5}
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    answer, asked = await chat(tmp_path, **given, response_format=schema, user="me")
    assert answer.status_code == 200
    del given["max_tokens"]
    assert asked[0].body == {
        **given,
        "max_completion_tokens": 5,
        "response_format": schema,
        "messages": question()["messages"],
        "model": "gpt-5-mini",
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_tools(tmp_path: Path) -> None:
    """Tool calls come in pieces in a stream, and whole in a plain answer."""
    answer, asked = await chat(tmp_path, tools=[TOOL], tool_choice="auto")
    choice = answer.json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}},
        {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
    ]
    assert (asked[0].body["tools"], asked[0].body["tool_choice"]) == ([TOOL], "auto")
    answer, _ = await chat(tmp_path, tools=[TOOL], stream=True)
    pieces = [chunk["choices"][0]["delta"]["tool_calls"][0] for chunk in chunks(answer.text)[:-1]]
    assert "".join(piece["function"]["arguments"] for piece in pieces if piece["index"] == 0) == '{"city":"Paris"}'


async def test_images(tmp_path: Path) -> None:
    """A picture passes as it is; a picture's address passes only to a provider that stands outside the operator's network."""
    inside = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    outside = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
    for part, own, status in ((inside, False, 200), (outside, False, 200), (inside, True, 200), (outside, True, 400)):
        name, fields = ("box", {"model": "box/gpt-x"}) if own else ("openai", {})
        answer, asked = await chat(tmp_path, name=name, messages=[{"role": "user", "content": [part]}], max_tokens=None, **fields)
        assert answer.status_code == status, answer.text
        assert not asked or asked[0].body["messages"][0]["content"] == [part]


async def test_imitators(tmp_path: Path) -> None:
    """Groq, Mistral and their like get the names they know: Mistral its seed, all the older field for the most tokens."""

    def script(asked: Asked) -> Script:
        return streamed(events(*openai.told("Hi")))

    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    fields: dict[str, Any] = {"model": "mistral/mistral-small", "seed": 7, "messages": messages, "max_completion_tokens": 9}
    answer, asked = await chat(tmp_path, script, "mistral", **fields)
    assert answer.status_code == 200
    body = asked[0].body
    assert (body["random_seed"], body["max_tokens"], body["messages"][0]["role"]) == (7, 9, "system")
    assert not {"seed", "stream_options", "max_completion_tokens"} & set(body)


async def test_azure(tmp_path: Path) -> None:
    """Azure is configuration: its key in a header of its own, the deployment in the path, the API's version behind it."""
    key = openai.KEY

    def script(asked: Asked) -> Script:
        good = asked.headers.get("api-key") == key and "authorization" not in asked.headers
        return streamed(events(*openai.told("Hi"))) if good else openai.error(401, "no")

    async with wired(script) as wire:
        address = f"{wire.address}/openai/deployments/mine"
        fields: Any = {"query": "api-version=2024-10-21", "models": ["mine"], "base_url": address}
        async with asking(parts_of(tmp_path, "azure", "", key, **fields)) as client:
            answer = await client.post("/v1/chat/completions", json=question(model="azure/mine", max_tokens=5))
    assert answer.status_code == 200
    assert wire.asked[0].body["max_completion_tokens"] == 5  # by the older name its reasoning models refuse it
    assert wire.asked[0].target == "/openai/deployments/mine/chat/completions?api-version=2024-10-21"


@pytest.mark.parametrize(
    ("name", "target", "last"),
    [
        ("mistral", "/v1/chat/completions", {"prefix": True}),
        ("deepseek", "/beta/chat/completions", {"prefix": True}),
        ("vllm", "/v1/chat/completions", {}),
        ("llamacpp", "/v1/chat/completions", {}),
        ("openrouter", "/api/v1/chat/completions", {}),
    ],
)
async def test_prefill(tmp_path: Path, name: str, target: str, last: dict[str, Any]) -> None:
    """A beginning of the answer is gone on from in each imitator's own way, and the list of models says that it is."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Wel"}]

    def script(_: Asked) -> Script:
        return streamed(events(*openai.told("come")))

    async with wired(script) as wire, asking(parts_of(tmp_path, name, wire.address, openai.KEY, models=["m"])) as client:
        answer = await client.post("/v1/chat/completions", json=question(model=f"{name}/m", messages=turns))
        listed = (await client.get("/v1/models")).json()["data"][0]
    asked = wire.asked[0]
    assert answer.status_code == 200
    assert (asked.target, asked.body["messages"][-1]) == (target, {**turns[-1], **last})
    assert (asked.body.get("continue_final_message"), asked.body.get("add_generation_prompt")) == (
        (True, False) if name == "vllm" else (None, None)
    )
    assert listed["capabilities"]["prefill"] is True


async def test_effort(tmp_path: Path) -> None:
    """How much to think reaches OpenAI in its word; what it cannot be told is refused by name."""
    answer, asked = await chat(tmp_path, reasoning_effort="high")
    assert (answer.status_code, asked[0].body["reasoning_effort"]) == (200, "high")
    for fields, field in (({"reasoning_effort": "much"}, "reasoning_effort"), ({"top_k": 5}, "top_k")):
        answer, asked = await chat(tmp_path, **fields)
        assert (answer.status_code, answer.json()["error"]["field"], asked) == (400, field, [])


async def test_thoughts_in_parts(tmp_path: Path) -> None:
    """Mistral's thinking models speak in parts: thoughts and text come apart under the usual names."""
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "Hi"}]
    said = [openai.chunk({"content": parts}), openai.chunk({}, "stop")]
    answer, _ = await chat(tmp_path, lambda _: streamed(events(*said)), "mistral", model="mistral/magistral", max_tokens=None)
    message = answer.json()["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Hi", "hm")


async def test_reasoning(tmp_path: Path) -> None:
    """Thoughts come beside the text, under one name whatever the upstream calls them."""
    said = [openai.chunk({name: "hm "}) for name in ("reasoning_content", "reasoning")]
    answer, _ = await chat(tmp_path, lambda _: streamed(events(*said, *openai.told("Hi"))))
    message = answer.json()["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("hm hm ", "Hi")


async def test_models(tmp_path: Path) -> None:
    """Before the provider was asked for its list, its default model stands first and the house after it."""
    async with asking(parts_of(tmp_path, "openai", "http://127.0.0.1:9", openai.KEY)) as client:
        listed = (await client.get("/v1/models")).json()["data"]
    assert [entry["id"] for entry in listed] == [MODEL, "smollm2-135m"]


async def test_models_as_listed(tmp_path: Path) -> None:
    """Once the provider was asked, its own list counts, without what is no chat model."""
    async with wired(openai.answer) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, openai.KEY)
        async with asking(parts) as client:
            assert await remote_of(parts).refresh()
            listed = (await client.get("/v1/models")).json()["data"]
    assert [entry["id"] for entry in listed] == [MODEL, "openai/gpt-4.1", "smollm2-135m"]
    assert listed[0]["capabilities"] == {"prefill": False, "tools": True, "images": True}
    assert (listed[0]["context_length"], listed[0]["max_output_tokens"]) == (400_000, 128_000)
    assert listed[0]["input_modalities"] == ["text", "image"]
    assert listed[0]["pricing"]["input"] == 0.25


async def test_default_goes_to_the_cloud(tmp_path: Path) -> None:
    """With a key, a request that names no model goes to the provider."""
    answer, asked = await chat(tmp_path, model=None)
    assert (answer.status_code, asked[0].body["model"]) == (200, "gpt-5-mini")


async def test_d3_streams_truly(tmp_path: Path) -> None:
    """The first text is with the client before the provider has said the second (D3)."""
    go = asyncio.Event()
    first, second = events(openai.chunk({"content": "One"})), events(*openai.told(" two"))
    async with wired(lambda _: streamed(first, go, second)) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, openai.KEY)
        async with listening(parts) as address, aiohttp.ClientSession() as session:
            seen = []
            async for event in stream(session, address, question(model=MODEL)):
                seen.append(event)
                go.set()  # only now may the provider go on: were anything held back, this would never be reached
    assert said(seen[:1]) == "One"
    assert said(seen[:-1]) == "One two"


async def test_real_llamacpp(tmp_path: Path, gguf: Path) -> None:
    """A real llama.cpp as an OpenAI-compatible upstream with a key answers streamed and plain, and lists its model."""
    house = parts_in(tmp_path, weights=gguf).house
    endpoint = await house.llama.endpoint()
    upstream = Upstream("llamacpp", f"{endpoint.address}/v1", key=Secret(endpoint.key))
    parts = parts_in(tmp_path, weights=gguf)
    parts.remotes = [remote(upstream)]
    parts.relay.providers = [*parts.remotes, parts.house]
    try:
        async with asking(parts) as client:
            assert await parts.remotes[0].refresh()
            ids = [entry["id"] for entry in (await client.get("/v1/models")).json()["data"]]
            plain = await client.post("/v1/chat/completions", json=question(model=ids[0]))
            live = await client.post("/v1/chat/completions", json=question(model=ids[0], stream=True))
    finally:
        await house.stop()
    assert ids == ["llamacpp/smollm2-135m", "smollm2-135m"]
    assert plain.json()["choices"][0]["message"]["content"] == "The capital of France is Paris."
    assert plain.json()["usage"]["total_tokens"] == 24
    assert said(chunks(live.text)) == "The capital of France is Paris."


async def test_refusal_in_words(tmp_path: Path) -> None:
    """What the caller must change is said in the provider's words; a full window has the code it has everywhere."""
    for message, code in (
        ("Unsupported value: 'temperature'", "refused_by_provider"),
        ("maximum context length is 9", "context"),
    ):
        answer, _ = await chat(tmp_path, lambda _, text=message: openai.error(400, text))
        error = answer.json()["error"]
        assert (answer.status_code, error["retryable"]) == (400, False)
        assert error["code"].startswith(code)
        assert message in error["message"]


async def test_unknown_model(tmp_path: Path) -> None:
    """A model that the provider does not have is a 404 about the field `model`."""
    answer, _ = await chat(tmp_path, model="openai/what")
    assert (answer.status_code, answer.json()["error"]["field"]) == (404, "model")


async def test_answered_headers(tmp_path: Path) -> None:
    """A plain JSON answer with status 200 to a request for a stream is no answer (adverse list, 9)."""
    answer, _ = await chat(tmp_path, lambda _: answered(200, {"choices": []}))
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "bad_answer")
    answer, _ = await chat(tmp_path, lambda _: [head(kind="application/json"), b'{"choices": ['])
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "bad_answer")
