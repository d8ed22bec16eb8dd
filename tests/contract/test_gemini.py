"""Google's Gemini as an upstream, against a fake that checks what it is sent, with the blueprint's defects by their names."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from fakes import gemini
from fakes.gateway import parts_of, remote_of
from fakes.wire import Asked, streamed, wired
from serving import asking, listening, question, said, stream

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "gemini/gemini-flash-latest"
PNG = "data:image/png;base64,iVBORw0KGgo="
TOOL = {"type": "function", "function": {"name": "weather", "description": "W", "parameters": {"type": "object"}}}


async def chat(folder: Path, script: Any = gemini.answer, **fields: Any) -> tuple[Any, list[Asked]]:
    """Return the gateway's answer to one question, and what the provider was asked."""
    async with wired(script) as wire, asking(parts_of(folder, "gemini", wire.address, gemini.KEY)) as client:
        return await client.post("/v1/chat/completions", json=question(**{"model": MODEL, **fields})), wire.asked


def chunks(text: str) -> list[Any]:
    """Return a stream's events; the last must be the proper end."""
    *found, done = [piece.removeprefix("data: ") for piece in text.split("\n\n") if piece]
    assert done == "[DONE]", text
    return [json.loads(piece) for piece in found]


async def test_plain(tmp_path: Path) -> None:
    """A plain answer has all parts of all events, thoughts apart, finish reason and usage."""
    answer, asked = await chat(tmp_path)
    choice = answer.json()["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "Paris é😀", "reasoning_content": "hm "}
    assert choice["finish_reason"] == "stop"
    details = {"completion_tokens_details": {"reasoning_tokens": 1}}
    assert answer.json()["usage"] == {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, **details}
    assert asked[0].target == "/v1beta/models/gemini-flash-latest:streamGenerateContent?alt=sse"


async def test_d3_streams_truly(tmp_path: Path) -> None:
    """The first text is with the client before the provider has said the second (D3)."""
    go = asyncio.Event()
    first, second = gemini.framed(gemini.part({"text": "One"})), gemini.framed(gemini.part({"text": " two"}, finish="STOP"))
    async with wired(lambda _: streamed(first, go, second)) as wire:
        parts = parts_of(tmp_path, "gemini", wire.address, gemini.KEY)
        async with listening(parts) as address, aiohttp.ClientSession() as session:
            seen = []
            async for event in stream(session, address, question(model=MODEL)):
                seen.append(event)
                go.set()
    assert said(seen[:1]) == "One"
    assert said(seen[:-1]) == "One two"


async def test_d5_the_assistant_is_called_model(tmp_path: Path) -> None:
    """A conversation of several turns is accepted, the assistant's as `model`, the system's apart, and 0 stays 0 (D5, D6)."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": PNG}}]},
        {"role": "assistant", "content": "I see."},
        {"role": "user", "content": "And"},
        {"role": "user", "content": "now?"},
    ]
    answer, asked = await chat(tmp_path, messages=messages, stop="x", seed=-1, top_p=0.5)
    assert answer.status_code == 200, answer.text
    assert asked[0].body == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "See"}, {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}]},
            {"role": "model", "parts": [{"text": "I see."}]},
            {"role": "user", "parts": [{"text": "And"}, {"text": "now?"}]},
        ],
        "generationConfig": {"temperature": 0, "topP": 0.5, "maxOutputTokens": 32, "seed": 2**31 - 1, "stopSequences": ["x"]},
    }


async def test_d18_plain_chat_is_text(tmp_path: Path) -> None:
    """JSON is asked for when the caller wanted JSON, and only then (D18)."""
    _, asked = await chat(tmp_path)
    assert not any(name.startswith("response") for name in asked[0].body["generationConfig"])
    _, asked = await chat(tmp_path, response_format={"type": "json_object"})
    assert asked[0].body["generationConfig"]["responseMimeType"] == "application/json"
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    _, asked = await chat(tmp_path, response_format=wanted)
    assert asked[0].body["generationConfig"]["responseJsonSchema"] == {"type": "object"}


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
async def test_d19_every_part_every_line_end(tmp_path: Path, end: bytes) -> None:
    """Several parts, CRLF, characters cut in two and a last event without its line end lose nothing (D19)."""
    whole = gemini.framed(*gemini.told("a", "b é", "c 😀"), end=end).removesuffix(end)
    pieces = [whole[place : place + 1] for place in range(len(whole))]
    answer, _ = await chat(tmp_path, lambda _: streamed(*pieces), stream=True)
    assert said(chunks(answer.text)) == "ab éc 😀"


async def test_d22_one_path_and_no_key_in_it(tmp_path: Path) -> None:
    """A model's name opens no other path or parameter, no other path is forwarded, the key is in a header (D22)."""
    async with wired(gemini.answer) as wire:
        async with asking(parts_of(tmp_path, "gemini", wire.address, gemini.KEY)) as client:
            for name in ("../../v1/files", "x?key=1", "x#y", "x:y?alt=z", "a/../b", "x\r\ny"):
                answer = await client.post("/v1/chat/completions", json=question(model=f"gemini/{name}"))
                assert answer.status_code in {400, 404}, name
            for path in ("/v1beta/models", "/api/gemini/v1beta/models", "/v1/files", "/gemini/models"):
                assert (await client.get(path)).status_code == 404
            assert wire.asked == []
            await client.post("/v1/chat/completions", json=question(model="gemini/tuned/x:y"))
        assert wire.asked[0].target == "/v1beta/models/tuned%2Fx%3Ay:streamGenerateContent?alt=sse"
        assert gemini.KEY not in wire.asked[0].target
        assert wire.asked[0].headers["x-goog-api-key"] == gemini.KEY


async def test_tools(tmp_path: Path) -> None:
    """Calls come back as OpenAI's with ids; on the next turn their results go by name, and the signature goes back."""
    answer, asked = await chat(tmp_path, tools=[TOOL], tool_choice="required")
    message = answer.json()["choices"][0]["message"]
    assert answer.json()["choices"][0]["finish_reason"] == "tool_calls"
    assert [call["function"] for call in message["tool_calls"]] == [
        {"name": "weather", "arguments": '{"city": "Paris"}'},
        {"name": "time", "arguments": "{}"},
    ]
    assert asked[0].body["tools"] == [
        {"functionDeclarations": [{"name": "weather", "description": "W", "parametersJsonSchema": {"type": "object"}}]}
    ]
    assert asked[0].body["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}
    ids = [call["id"] for call in message["tool_calls"]]
    results = [{"role": "tool", "tool_call_id": told, "content": "Fine"} for told in ids]
    answer, asked = await chat(tmp_path, messages=[{"role": "user", "content": "Hi"}, message, *results])
    assert answer.status_code == 200, answer.text
    assert asked[0].body["contents"][1:] == [
        {
            "role": "model",
            "parts": [
                {"functionCall": {"name": "weather", "args": {"city": "Paris"}}, "thoughtSignature": "c2ln"},
                {"functionCall": {"name": "time", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": name, "response": {"result": "Fine"}}} for name in ("weather", "time")],
        },
    ]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"verbosity": "low"}, "verbosity"),
        ({"tools": [TOOL], "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "tool", "tool_call_id": "x", "content": "x"}]}, "messages[0].tool_call_id"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]}]},
            "messages[0].content[0].image_url.url",
        ),
    ],
)
async def test_refused_here(tmp_path: Path, fields: dict[str, Any], field: str) -> None:
    """What this API cannot say is the caller's to change, and is not sent."""
    answer, asked = await chat(tmp_path, **fields)
    assert (answer.status_code, answer.json()["error"]["field"], asked) == (400, field, [])


@pytest.mark.parametrize(
    ("reason", "finish"), [("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("SPII", "content_filter")]
)
async def test_ends(tmp_path: Path, reason: str, finish: str) -> None:
    """Each way to end has OpenAI's name."""
    answer, _ = await chat(tmp_path, lambda _: streamed(gemini.framed(*gemini.told("a", "b", finish=reason))))
    assert answer.json()["choices"][0]["finish_reason"] == finish


async def test_ends_that_are_failures(tmp_path: Path) -> None:
    """A call that the model botched is an error, not an end; a question that was blocked is an empty, filtered answer."""
    script = gemini.framed(*gemini.told("a", "b", finish="MALFORMED_FUNCTION_CALL"))
    answer, _ = await chat(tmp_path, lambda _: streamed(script), stream=True)
    assert "[DONE]" not in answer.text
    assert json.loads(answer.text.split("data: ")[-1])["error"]["code"] == "failed_midway"
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}
    answer, _ = await chat(tmp_path, lambda _: streamed(gemini.framed(blocked)))
    assert answer.json()["choices"][0]["finish_reason"] == "content_filter"


async def test_a_bad_key_is_no_400(tmp_path: Path) -> None:
    """Gemini says 400 to a bad key; here it is the operator's to mend, as with every other provider."""
    async with wired(gemini.answer) as wire:
        parts = parts_of(tmp_path, "gemini", wire.address, "AIzaWrong0123456789abcdefghijklmnopqrst")
        async with asking(parts) as client:
            answer = await client.post("/v1/chat/completions", json=question(model=MODEL))
    assert (answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["retryable"]) == (
        502,
        "key_refused",
        False,
    )
    assert remote_of(parts).suspect


async def test_models(tmp_path: Path) -> None:
    """The provider's own list counts once it was read, the default first, without what does not generate."""
    async with wired(gemini.answer) as wire:
        parts = parts_of(tmp_path, "gemini", wire.address, gemini.KEY)
        async with asking(parts) as client:
            assert await remote_of(parts).refresh()
            listed = (await client.get("/v1/models")).json()["data"]
    assert [entry["id"] for entry in listed] == [MODEL, "gemini/gemini-9-pro", "smollm2-135m"]
    assert listed[0]["context_length"] == 1000


@pytest.mark.parametrize(
    ("model", "effort", "wanted"),
    [
        ("gemini-2.5-flash", "high", {"thinkingBudget": 24576, "includeThoughts": True}),
        ("gemini-2.5-flash", "xhigh", {"thinkingBudget": 24576, "includeThoughts": True}),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0, "includeThoughts": False}),
        ("gemini-3-pro-preview", "xhigh", {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini-3.6-flash", "none", {"thinkingLevel": "minimal", "includeThoughts": False}),
    ],
)
async def test_how_much_to_think(tmp_path: Path, model: str, effort: str, wanted: dict[str, Any]) -> None:
    """It is a number of tokens that all models before 3 take, and a level from 3 on."""
    _, asked = await chat(tmp_path, model=f"gemini/{model}", reasoning_effort=effort)
    assert asked[0].body["generationConfig"]["thinkingConfig"] == wanted


@pytest.mark.parametrize(("model", "marked"), [("gemini-3.6-flash", True), ("gemini-2.5-flash", False)])
async def test_calls_of_another_model(tmp_path: Path, model: str, marked: bool) -> None:
    """A conversation whose calls another provider made goes on here: from 3 on an unsigned one is refused unless it says so."""
    names = ("weather", "time")
    calls = [{"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}} for name in names]
    results = [{"role": "tool", "tool_call_id": name, "content": "1"} for name in names]
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None, "tool_calls": calls}, *results]
    _, asked = await chat(tmp_path, model=f"gemini/{model}", messages=turns)
    parts = asked[0].body["contents"][1]["parts"]
    signs = [part.get("thoughtSignature") for part in parts]
    assert signs == (["skip_thought_signature_validator", None] if marked else [None, None])
    calls[0] |= {"extra_content": {"google": {"thought_signature": "c2ln"}}}
    _, asked = await chat(tmp_path, model=f"gemini/{model}", messages=turns)
    assert asked[0].body["contents"][1]["parts"][0]["thoughtSignature"] == "c2ln"


async def test_prefill_and_thinking(tmp_path: Path) -> None:
    """A beginning of the answer is the model's last turn, and how much to think is a budget with its thoughts shown."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well"}]
    answer, asked = await chat(tmp_path, messages=turns, reasoning_effort="low", top_k=3)
    assert answer.status_code == 200, answer.text
    assert asked[0].body["contents"][-1] == {"role": "model", "parts": [{"text": "Well"}]}
    settings = asked[0].body["generationConfig"]
    assert (settings["thinkingConfig"], settings["topK"]) == ({"thinkingBudget": 1024, "includeThoughts": True}, 3)
    assert answer.json()["choices"][0]["message"]["reasoning_content"] == "hm "
