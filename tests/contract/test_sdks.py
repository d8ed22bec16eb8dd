"""The official SDKs of OpenAI and Anthropic, unchanged, as clients of our real server with the house and all fakes behind it."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anthropic as anthropic_sdk
import openai as openai_sdk
import pytest
from fakes import anthropic, gemini, openai
from fakes.gateway import parts_of
from fakes.wire import Asked, Script, answered, events, streamed, wired
from serving import listening, parts_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hybr.server.serve import Parts

QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
FAKES: dict[str, Any] = {"openai": openai, "anthropic": anthropic, "gemini": gemini}
MODELS = {
    "openai": "openai/gpt-5-mini",
    "anthropic": "anthropic/claude-haiku-4-5",
    "gemini": "gemini/gemini-flash-latest",
}
ALL = pytest.mark.parametrize("name", list(FAKES))
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}


@asynccontextmanager
async def openai_of(parts: Parts, **options: Any) -> AsyncIterator[openai_sdk.AsyncOpenAI]:
    """Give OpenAI's client against a server with these parts."""
    async with (
        listening(parts) as address,
        openai_sdk.AsyncOpenAI(base_url=f"{address}/v1", api_key="-", **{"max_retries": 0, **options}) as client,
    ):
        yield client


@asynccontextmanager
async def anthropic_of(parts: Parts, **options: Any) -> AsyncIterator[anthropic_sdk.AsyncAnthropic]:
    """Give Anthropic's client against a server with these parts."""
    async with (
        listening(parts) as address,
        anthropic_sdk.AsyncAnthropic(base_url=address, api_key="-", **{"max_retries": 0, **options}) as client,
    ):
        yield client


@ALL
async def test_openai_chat(tmp_path: Path, name: str) -> None:
    """OpenAI's client gets text, usage and finish from each provider, streamed and not."""
    async with wired(FAKES[name].answer) as wire, openai_of(parts_of(tmp_path, name, wire.address, FAKES[name].KEY)) as client:
        plain = await client.chat.completions.create(model=MODELS[name], messages=QUESTION)
        pieces = await client.chat.completions.create(
            model=MODELS[name], messages=QUESTION, stream=True, stream_options={"include_usage": True}, n=1
        )
        chunks = [chunk async for chunk in pieces]
        listed = [model.id async for model in client.models.list()]
        one = await client.models.retrieve(listed[0])
    assert plain.choices[0].message.content == "Paris é😀"
    assert plain.choices[0].finish_reason == "stop"
    assert plain.usage is not None
    assert plain.usage.prompt_tokens == 9
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Paris é😀"
    assert chunks[-1].usage == plain.usage
    assert MODELS[name] in listed
    assert one.id == listed[0]


@ALL
async def test_openai_tools_and_images(tmp_path: Path, name: str) -> None:
    """Tool calls come back from each provider as OpenAI's, and their results and pictures go there."""
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
    picture: Any = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    async with wired(FAKES[name].answer) as wire, openai_of(parts_of(tmp_path, name, wire.address, FAKES[name].KEY)) as client:
        ask: Any = [{"role": "user", "content": [{"type": "text", "text": "Weather here?"}, picture]}]
        first = await client.chat.completions.create(model=MODELS[name], messages=ask, tools=[tool])
        calls = first.choices[0].message.tool_calls or []
        told = first.choices[0].message.model_dump(exclude_none=True)
        results: Any = [{"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in calls]
        last = await client.chat.completions.create(model=MODELS[name], messages=[*ask, told, *results])
    assert [(call.type, call.function.name, json.loads(call.function.arguments)) for call in calls] == [  # type: ignore[union-attr]
        ("function", "weather", {"city": "Paris"}),
        ("function", "time", {}),
    ]
    assert first.choices[0].finish_reason == "tool_calls"
    assert last.choices[0].message.content == "Paris é😀"


@ALL
async def test_openai_schema(tmp_path: Path, name: str) -> None:
    """OpenAI's client asks each provider for JSON of a schema."""
    async with wired(FAKES[name].answer) as wire, openai_of(parts_of(tmp_path, name, wire.address, FAKES[name].KEY)) as client:
        wanted: Any = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": SCHEMA}}
        await client.chat.completions.create(model=MODELS[name], messages=QUESTION, response_format=wanted)
    asked = next(one.body for one in wire.asked if one.method == "POST")
    assert json.dumps(SCHEMA) in json.dumps(asked)


@ALL
async def test_anthropic_messages(tmp_path: Path, name: str) -> None:
    """Anthropic's client gets text, thoughts, usage and stop reason from each provider, streamed and not."""
    async with wired(FAKES[name].answer) as wire, anthropic_of(parts_of(tmp_path, name, wire.address, FAKES[name].KEY)) as client:
        plain = await client.messages.create(model=MODELS[name], max_tokens=50, system="Be brief.", messages=QUESTION)
        async with client.messages.stream(model=MODELS[name], max_tokens=50, messages=QUESTION) as stream:
            said = "".join([text async for text in stream.text_stream])
            final = await stream.get_final_message()
    texts = [block.text for block in plain.content if block.type == "text"]
    assert texts == [said] == ["Paris é😀"]
    assert (plain.stop_reason, plain.role, plain.type) == ("end_turn", "assistant", "message")
    assert (final.stop_reason, [block.type for block in final.content]) == ("end_turn", [block.type for block in plain.content])
    assert plain.usage.input_tokens + (plain.usage.cache_read_input_tokens or 0) == 9
    assert plain.usage.output_tokens == final.usage.output_tokens > 0
    assert ("thinking" in [block.type for block in plain.content]) is (name != "openai")
    body = next(one.body for one in wire.asked if one.method == "POST")
    assert "Be brief." in json.dumps(body)


@ALL
async def test_anthropic_tools(tmp_path: Path, name: str) -> None:
    """Tools go to each provider and its calls come back as blocks; the results, with a picture beside, go there again."""
    tool: Any = {"name": "weather", "description": "w", "input_schema": SCHEMA}
    fake = FAKES[name]
    async with wired(fake.answer) as wire, anthropic_of(parts_of(tmp_path, name, wire.address, fake.KEY)) as client:
        asked: Any = {"model": MODELS[name], "max_tokens": 50, "tools": [tool], "tool_choice": {"type": "any"}}
        first = await client.messages.create(**asked, messages=QUESTION)
        async with client.messages.stream(**asked, messages=QUESTION) as stream:
            final = await stream.get_final_message()
        uses = [block for block in first.content if block.type == "tool_use"]
        picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
        results: Any = [{"type": "tool_result", "tool_use_id": use.id, "content": "rain"} for use in uses]
        turns = [*QUESTION, {"role": "assistant", "content": first.content}, {"role": "user", "content": [*results, picture]}]
        last = await client.messages.create(model=MODELS[name], max_tokens=50, messages=turns)
    assert [(use.name, use.input) for use in uses] == [("weather", {"city": "Paris"}), ("time", {})]
    assert [(block.name, block.input) for block in final.content if block.type == "tool_use"] == [
        (use.name, use.input) for use in uses
    ]
    assert first.stop_reason == final.stop_reason == "tool_use"
    assert last.content[-1].type == "text"


async def test_anthropic_thinking(tmp_path: Path) -> None:
    """The thinking budget goes to Anthropic as it is, and a signed thought comes back and goes there again unchanged."""
    async with (
        wired(anthropic.answer) as wire,
        anthropic_of(parts_of(tmp_path, "anthropic", wire.address, anthropic.KEY)) as client,
    ):
        asked: Any = {"model": MODELS["anthropic"], "max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 2000}}
        first = await client.messages.create(**asked, messages=QUESTION)
        thought = first.content[0]
        assert thought.type == "thinking"
        await client.messages.create(**asked, messages=[*QUESTION, {"role": "assistant", "content": first.content}, *QUESTION])
    bodies = [one.body for one in wire.asked if one.method == "POST"]
    assert bodies[0]["thinking"] == asked["thinking"]
    assert bodies[1]["messages"][1]["content"][0] == {"type": "thinking", "thinking": "hm ", "signature": "x"}
    assert thought.signature == "x"


STATUSES = [
    (400, "BadRequestError", 400),
    (404, "NotFoundError", 404),
    (429, "RateLimitError", 429),
    (401, "InternalServerError", 502),  # the operator's key was refused: nothing that the caller's credential could mend
    (500, "InternalServerError", 502),
    (503, "InternalServerError", 503),
]


@pytest.mark.parametrize(("status", "kind", "ours"), STATUSES)
async def test_errors(tmp_path: Path, status: int, kind: str, ours: int) -> None:
    """Each failure is the SDKs' own exception for it, with our code, and is asked once: the gateway alone repeats."""

    def script(_: Asked) -> Script:
        return answered(status, {"error": {"message": "no", "type": "x"}})

    for opened, module in ((openai_of, openai_sdk), (anthropic_of, anthropic_sdk)):
        async with wired(script) as wire, opened(parts_of(tmp_path, "openai", wire.address, openai.KEY), max_retries=2) as client:
            expected = getattr(module, kind) if ours != 503 or module is openai_sdk else module.APIStatusError  # type: ignore[attr-defined]
            with pytest.raises(expected) as caught:
                await ask(client)
            assert caught.value.status_code == ours
            assert caught.value.body["error"]["code"] if "error" in caught.value.body else caught.value.body["code"]
            assert sum(one.method == "POST" for one in wire.asked) == 1


async def ask(client: Any, model: str = MODELS["openai"], **fields: Any) -> Any:
    """Ask a question with either client."""
    if isinstance(client, openai_sdk.AsyncOpenAI):
        return await client.chat.completions.create(model=model, messages=QUESTION, **fields)
    return await client.messages.create(model=model, max_tokens=9, messages=QUESTION, **fields)


async def test_the_callers_mistakes(tmp_path: Path) -> None:
    """What is wrong before anybody is asked is a BadRequestError that names the field."""
    async with openai_of(parts_in(tmp_path)) as client:
        with pytest.raises(openai_sdk.BadRequestError, match="temperature"):
            await client.chat.completions.create(model="smollm2-135m", messages=QUESTION, temperature=9)
        with pytest.raises(openai_sdk.NotFoundError, match="smollm2-135m"):
            await client.chat.completions.create(model="nobody", messages=QUESTION)
        with pytest.raises(openai_sdk.BadRequestError, match="embeddings"):
            await client.embeddings.create(model="smollm2-135m", input="Hi")
    async with anthropic_of(parts_in(tmp_path)) as client:
        with pytest.raises(anthropic_sdk.BadRequestError, match="messages") as caught:
            await client.messages.create(model="smollm2-135m", max_tokens=5, messages=[])
        assert caught.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]
        wrong: list[tuple[str, dict[str, Any]]] = [
            ("messages[0].content", {"system": "Be brief.", "messages": [{"role": "user", "content": ""}]}),
            ("messages[0].content", {"messages": [{"role": "user", "content": [{"type": "text", "text": " "}]}]}),
            ("output_config.effort", {"output_config": {"effort": "much"}}),
        ]
        for field, fields in wrong:  # as Anthropic's client wrote it, whatever it has become within
            with pytest.raises(anthropic_sdk.BadRequestError) as caught:
                await client.messages.create(**{"model": "smollm2-135m", "max_tokens": 5, "messages": QUESTION, **fields})
            assert caught.value.body["error"]["field"] == field  # type: ignore[index]


async def test_broken_streams(tmp_path: Path) -> None:
    """A stream that breaks off is an exception in both clients, never an end."""
    begun = events(openai.chunk({"content": "Hi"}))
    for opened, module in ((openai_of, openai_sdk), (anthropic_of, anthropic_sdk)):
        async with (
            wired(lambda _: streamed(begun)) as wire,
            opened(parts_of(tmp_path, "openai", wire.address, openai.KEY)) as client,
        ):
            pieces = await ask(client, stream=True)
            seen = []
            with pytest.raises(module.APIError):
                seen.extend([piece async for piece in pieces])


async def test_the_house(tmp_path: Path, gguf: Path) -> None:
    """Both clients are answered by the real llama.cpp behind the server, streamed and not."""
    async with openai_of(parts_in(tmp_path, weights=gguf)) as client:
        whole = await client.chat.completions.create(model="smollm2-135m", messages=QUESTION, temperature=0, max_tokens=32)
        assert whole.choices[0].message.content == "The capital of France is Paris."
    async with anthropic_of(parts_in(tmp_path, weights=gguf)) as client:
        asked: Any = {"model": "smollm2-135m", "max_tokens": 32, "extra_body": {"temperature": 0}, "messages": QUESTION}
        async with client.messages.stream(**asked) as stream:
            said = "".join([text async for text in stream.text_stream])
            final = await stream.get_final_message()
        plain = await client.messages.create(**asked)
        short = await client.messages.create(**{**asked, "max_tokens": 2})
    assert said == plain.content[0].text == "The capital of France is Paris."  # type: ignore[union-attr]
    assert (final.usage.output_tokens, final.stop_reason, short.stop_reason) == (8, "end_turn", "max_tokens")


@pytest.mark.parametrize(("name", "tokens"), [("anthropic", 2095), ("gemini", 31)])
async def test_counting(tmp_path: Path, name: str, tokens: int) -> None:
    """Anthropic's client learns a request's tokens, tools and system text in them, from whoever can count; that costs nothing."""
    tool: Any = {"name": "weather", "description": "w", "input_schema": SCHEMA}
    async with (
        wired(FAKES[name].answer) as wire,
        anthropic_of(parts_of(tmp_path, name, wire.address, FAKES[name].KEY)) as client,
    ):
        asked: Any = {"model": MODELS[name], "system": "Be brief.", "messages": QUESTION, "tools": [tool]}
        assert (await client.messages.count_tokens(**asked)).input_tokens == tokens
        assert (await client.messages.count_tokens(model=MODELS[name], messages=QUESTION)).input_tokens == tokens
        spent: Any = await client.get("/api/usage", cast_to=object)
    sent = json.dumps(next(one.body for one in wire.asked if one.method == "POST"))
    assert "Be brief." in sent
    assert "weather" in sent
    assert spent["total"]["cost"] == 0


async def test_counting_where_nobody_can(tmp_path: Path) -> None:
    """Who cannot count says so and asks nobody; a count that is none is the provider's failure."""
    async with (
        wired(openai.answer) as wire,
        anthropic_of(parts_of(tmp_path, "openai", wire.address, openai.KEY)) as client,
    ):
        for model in (MODELS["openai"], "smollm2-135m"):
            with pytest.raises(anthropic_sdk.BadRequestError, match="count"):
                await client.messages.count_tokens(model=model, messages=QUESTION)
        with pytest.raises(anthropic_sdk.BadRequestError, match="max_tokens: Extra"):
            await client.messages.count_tokens(model=MODELS["openai"], messages=QUESTION, extra_body={"max_tokens": 5})
    assert [one for one in wire.asked if one.method == "POST"] == []
    for body in ({"input_tokens": -1}, {"input_tokens": "9"}, {}, []):
        async with (
            wired(lambda _, body=body: answered(200, body)) as wire,
            anthropic_of(parts_of(tmp_path, "anthropic", wire.address, FAKES["anthropic"].KEY)) as client,
        ):
            with pytest.raises(anthropic_sdk.InternalServerError, match="cannot be read"):
                await client.messages.count_tokens(model=MODELS["anthropic"], messages=QUESTION)


async def test_embeddings(tmp_path: Path) -> None:
    """Vectors come from OpenAI-compatible providers and Gemini, as numbers and packed, in the order of the texts."""

    def script(asked: Asked) -> Script:
        if asked.target == "/v1/embeddings":
            assert asked.body["encoding_format"] == "float"
            data = [{"index": i, "embedding": [float(i), 0.5]} for i in reversed(range(len(asked.body["input"])))]
            return answered(200, {"object": "list", "data": data, "usage": {"prompt_tokens": 4, "total_tokens": 4}})
        if asked.target.endswith("text-9:batchEmbedContents"):
            return answered(200, {"embeddings": [{"values": [float(i), 0.5]} for i in range(len(asked.body["requests"]))]})
        return answered(404, {"error": {"message": "no", "type": "x"}})

    for name, model in (("openai", "openai/text-embedding-3-small"), ("gemini", "gemini/text-9"), ("box", "box/nomic")):
        async with wired(script) as wire, openai_of(parts_of(tmp_path, name, wire.address, openai.KEY)) as client:
            packed = await client.embeddings.create(model=model, input=["a", "b"])
            plain = await client.embeddings.create(model=model, input="a", encoding_format="float", dimensions=2)
        assert [one.embedding for one in packed.data] == [[0.0, 0.5], [1.0, 0.5]]
        assert plain.data[0].embedding == [0.0, 0.5]
        assert packed.usage.prompt_tokens == (2 if name == "gemini" else 4)
        assert packed.model == model


@pytest.mark.parametrize("body", [b'{"data": 5}', b"{", b'{"data": []}', b'{"data": [{"index": 0, "embedding": ["x"]}]}'])
async def test_embeddings_that_are_none(tmp_path: Path, body: bytes) -> None:
    """What is no list of vectors is the provider's failure."""
    async with (
        wired(lambda _: answered(200, body)) as wire,
        openai_of(parts_of(tmp_path, "openai", wire.address, openai.KEY)) as client,
    ):
        with pytest.raises(openai_sdk.InternalServerError, match="openai"):
            await client.embeddings.create(model="openai/e", input="Hi")


async def test_heartbeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a provider is silent both clients hear that we live, and do not take it for text; a late refusal is an exception."""
    monkeypatch.setattr("hybr.server.exchange.BEAT", 0.05)
    go = asyncio.Event()
    for opened, module in ((openai_of, openai_sdk), (anthropic_of, anthropic_sdk)):
        go.clear()
        script = [go, *streamed(events(*openai.told("Hi")))]
        refused = [0.4, *answered(429, {"error": {"message": "x", "type": "x"}})]
        answers = [script, refused]
        async with (
            wired(lambda one, left=answers: left.pop(0) if one.method == "POST" else []) as wire,
            opened(parts_of(tmp_path, "openai", wire.address, openai.KEY)) as client,
        ):
            pieces = await ask(client, stream=True)  # the head is here before the provider has said anything
            go.set()
            seen = [piece async for piece in pieces]
            assert "Hi" in str(seen)
            late = await ask(client, stream=True)
            with pytest.raises(module.APIError):
                assert not [piece async for piece in late if "delta" in str(piece)]
