"""Those who imitate OpenAI, each as its own reference has it: what they are asked, what they stream, list and refuse."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai as openai_sdk
import pytest
from fakes import openai
from fakes.gateway import parts_of, remote_of
from fakes.wire import Asked, Script, answered, events, streamed, wired
from serving import asking, listening, question

from hybr.server.providers.openai import Chunks

if TYPE_CHECKING:
    from pathlib import Path

TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("f", "g")]
CALLED = {"id": "call_00_abc", "type": "function", "function": {"name": "f", "arguments": "{}"}}
BOTH = [
    {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
    {"id": "call_b", "type": "function", "function": {"name": "g", "arguments": '{"b": 2}'}},
]
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


async def chat(folder: Path, name: str, script: Any = None, **fields: Any) -> tuple[Any, list[Asked]]:
    """Return the gateway's answer to one question, and what the provider was asked."""
    script = script or (lambda _: streamed(events(*openai.told("Hi"))))
    body = question(**{"model": f"{name}/m", "max_tokens": None, **fields})
    async with wired(script) as wire, asking(parts_of(folder, name, wire.address, openai.KEY)) as client:
        return await client.post("/v1/chat/completions", json=body), wire.asked


def piece(index: int | None, told: str | None, name: str | None, arguments: Any) -> dict[str, Any]:
    """Return a chunk with one piece of a tool call; what is None is left out."""
    given = {"index": index, "id": told, "function": {"name": name, "arguments": arguments}}
    return openai.chunk({"role": "assistant", "content": "", "tool_calls": [{k: v for k, v in given.items() if v is not None}]})


WAYS = {
    "ollama: each call is number 0": [piece(0, "call_a", "f", '{"a": 1}'), piece(0, "call_b", "g", '{"b": 2}')],
    "no numbers": [piece(None, "call_a", "f", '{"a": 1}'), piece(None, "call_b", "g", '{"b": 2}')],
    "no numbers, in pieces": [
        *(piece(None, "call_a", "f", '{"a"'), piece(None, None, None, ": 1}")),
        *(piece(None, "call_b", "g", '{"b"'), piece(None, "call_b", None, ": 2}")),
    ],
    "vllm of old: an id with each piece": [
        *(piece(0, "call_a", "f", ""), piece(0, "x1", None, '{"a": '), piece(0, "x2", None, "1}")),
        *(piece(1, "call_b", "g", ""), piece(1, "x3", None, '{"b": 2}')),
    ],
    "id and name with each piece": [
        *(piece(0, "call_a", "f", '{"a": '), piece(0, "call_a", "f", "1}")),
        piece(1, "call_b", "g", '{"b": 2}'),
    ],
    "arguments as an object": [piece(0, "call_a", "f", {"a": 1}), piece(1, "call_b", "g", {"b": 2})],
    "numbers from one": [piece(1, "call_a", "f", '{"a": 1}'), piece(2, "call_b", "g", '{"b": 2}')],
}


@pytest.mark.parametrize("way", list(WAYS))
async def test_tool_calls_come_apart(tmp_path: Path, way: str) -> None:
    """However an imitator numbers its calls, OpenAI's own client adds two calls up, streamed and not, and hears why it ended."""
    script = streamed(events(*WAYS[way], openai.chunk({}, "stop"), b"[DONE]"))
    async with (
        wired(lambda _: script) as wire,
        listening(parts_of(tmp_path, "ollama", wire.address, openai.KEY)) as address,
        openai_sdk.AsyncOpenAI(base_url=f"{address}/v1", api_key="-", max_retries=0) as client,
    ):
        asked: Any = {"model": "ollama/m", "messages": [{"role": "user", "content": "Hi"}], "tools": TOOLS}
        plain = await client.chat.completions.create(**asked)
        async with client.chat.completions.stream(**asked) as stream:
            live = await stream.get_final_completion()
    for choice in (plain.choices[0], live.choices[0]):
        calls = [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls or []]  # type: ignore[union-attr]
        assert calls == [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in BOTH]  # type: ignore[index]
        assert (choice.finish_reason, choice.message.role) == ("tool_calls", "assistant")


@pytest.mark.parametrize("arguments", [None, "", "{}"])
def test_a_call_has_an_id_and_arguments(arguments: str | None) -> None:
    """A client answers a call by its id and reads its arguments as JSON, so each has both, whatever was left out."""
    reader = Chunks("x/m")
    said = [chunk for event in (piece(0, None, "f", arguments), openai.chunk({}, "stop")) for chunk in reader.read(event)]
    pieces = [chunk["choices"][0]["delta"]["tool_calls"][0] for chunk in said]
    assert pieces[0]["id"].startswith("call_")
    assert "".join(one["function"].get("arguments", "") for one in pieces) == "{}"


@pytest.mark.parametrize("told", [[{"content": "a"}, {"content": "b"}], [{"role": "assistant", "content": x} for x in "ab"]])
async def test_the_role_is_said_once(tmp_path: Path, told: list[dict[str, Any]]) -> None:
    """Some say whose turn it is with each chunk, some never; here the first says it and no other."""
    script = streamed(events(*(openai.chunk(delta) for delta in told), openai.chunk({}, "stop")))
    answer, _ = await chat(tmp_path, "ollama", lambda _: script, stream=True)
    found = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line.startswith("data: {")]
    assert [chunk["choices"][0]["delta"].get("role") for chunk in found] == ["assistant", None, None]


@pytest.mark.parametrize(
    ("name", "last", "cached"),
    [
        ("groq", openai.chunk({}, "stop", x_groq={"id": "r", "usage": {**USAGE, "queue_time": 0.1}}), 0),
        ("deepseek", openai.chunk({}, "stop", usage={**USAGE, "prompt_cache_hit_tokens": 5, "prompt_cache_miss_tokens": 2}), 5),
    ],
)
async def test_usage_in_their_words(tmp_path: Path, name: str, last: Any, cached: int) -> None:
    """Groq tells its usage beside the last chunk, DeepSeek its cached tokens in words of its own."""
    answer, _ = await chat(tmp_path, name, lambda _: streamed(events(openai.chunk({"content": "Hi"}), last)))
    usage = answer.json()["usage"]
    assert {word: usage[word] for word in USAGE} == USAGE
    assert usage.get("prompt_tokens_details", {}).get("cached_tokens", 0) == cached


async def test_openrouter(tmp_path: Path) -> None:
    """Its comments are no text, and what it says an answer cost is booked, for no list of ours has its models."""
    usage = {**openai.chunk({"role": "assistant", "content": ""}), "usage": {**USAGE, "cost": 0.0123}}
    raw = b": OPENROUTER PROCESSING\n\n" * 3 + events(*openai.told("Hi")[:-2], usage, b"[DONE]")
    async with wired(lambda _: streamed(raw)) as wire:
        parts = parts_of(tmp_path, "openrouter", wire.address, openai.KEY)
        async with asking(parts) as client:
            answer = await client.post("/v1/chat/completions", json=question(model="openrouter/a/b"))
            booked = (await client.get("/api/usage")).json()
    assert answer.json()["choices"][0]["message"]["content"] == "Hi"
    assert answer.json()["usage"]["cost"] == 0.0123
    assert booked["total"]["cost"] == pytest.approx(0.0123)


@pytest.mark.parametrize(
    "last",
    [
        openai.chunk({}, x_groq={"id": "r", "error": "over capacity"}),
        {**openai.chunk({"content": ""}, "error"), "error": {"code": 502, "message": "Provider disconnected"}},
        {"object": "error", "message": "boom", "type": "InternalServerError", "code": 500},
        openai.chunk({}, "abort"),
    ],
    ids=["groq", "openrouter", "vllm", "vllm stopped"],
)
async def test_a_failure_in_their_words_is_no_end(tmp_path: Path, last: Any) -> None:
    """A stream that its provider gives up is an error, in whatever form it says so, also with an end right behind."""
    script = streamed(events(openai.chunk({"content": "Hi"}), last, openai.chunk({}, "stop"), b"[DONE]"))
    answer, _ = await chat(tmp_path, "groq", lambda _: script, stream=True)
    assert "[DONE]" not in answer.text
    assert json.loads(answer.text.split("data: ")[-1])["error"]["code"] == "failed_midway"


async def test_azure_says_what_it_filtered(tmp_path: Path) -> None:
    """Azure's chunks about its filter, without choices or without a delta, are no text and no harm."""
    verdict = {"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]}
    first = {"id": "", "object": "", "created": 0, "model": "", "choices": [], **verdict}
    late = {"id": "", "choices": [{"index": 0, "finish_reason": None, "content_filter_results": {}}]}
    start, text, end, usage, done = openai.told("Hi")
    answer, _ = await chat(tmp_path, "openai", lambda _: streamed(events(first, start, text, late, end, usage, done)))
    assert (answer.status_code, answer.json()["choices"][0]["message"]["content"]) == (200, "Hi")


async def test_logprobs_of_another_form(tmp_path: Path) -> None:
    """Log-probabilities that are not OpenAI's are left out, and take no text with them."""
    chunk = openai.chunk({"content": "Hi"})
    chunk["choices"][0]["logprobs"] = {"tokens": ["Hi"], "token_logprobs": [-0.1]}
    answer, _ = await chat(tmp_path, "vllm", lambda _: streamed(events(chunk, openai.chunk({}, "eos"))))
    choice = answer.json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"], "logprobs" in choice) == ("Hi", "stop", False)


def strict(fields: dict[str, set[str]]) -> Any:
    """Return a provider that refuses a message with a field it does not know, as Groq and Mistral do."""

    def script(asked: Asked) -> Script:
        for place, message in enumerate(asked.body["messages"]):
            if unknown := set(message) - fields[message["role"]]:
                return openai.error(400, f"'messages.{place}' : property '{min(unknown)}' is unsupported")
            parts = message["content"] if isinstance(message["content"], list) else []
            if any(set(part) - {"type", part["type"]} for part in parts):
                return openai.error(400, f"'messages.{place}.content' : property 'cache_control' is unsupported")
        return streamed(events(*openai.told("Hi")))

    return script


@pytest.mark.parametrize("name", ["groq", "mistral", "ollama", "openrouter"])
async def test_a_clients_own_message_goes_back(tmp_path: Path, name: str) -> None:
    """What an SDK got, with all its empty fields, a thought and a signature, can be sent back, to strict providers too."""
    got = {"role": "assistant", "content": None, "refusal": None, "annotations": None, "audio": None, "function_call": None}
    thought = {"reasoning_content": "hm", "reasoning_signature": "x"}
    signed = {**CALLED, "extra_content": {"google": {"thought_signature": "c2ln"}}}
    text = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}
    turns = [
        *({"role": "user", "content": [text], "name": "ada"}, {**got, **thought, "tool_calls": [signed]}),
        {"role": "tool", "tool_call_id": "call_00_abc", "content": "1"},
        *({**got, "refusal": "No."}, {"role": "user", "content": "So?"}),
    ]
    named = set() if name == "mistral" else {"name"}
    known = {"user": {"role", "content"} | named, "assistant": {"role", "content", "tool_calls"} | named}
    tool = {"role", "content", "tool_call_id", "name"}
    answer, asked = await chat(tmp_path, name, strict({**known, "tool": tool, "system": set()}), messages=turns)
    assert answer.status_code == 200, answer.text
    sent = asked[0].body["messages"]
    assert (sent[1]["content"], sent[3]["content"]) == (None, "No.")
    assert set(sent[1]["tool_calls"][0]) == {"id", "type", "function"}


async def test_mistral_ids(tmp_path: Path) -> None:
    """Mistral's ids have nine letters and digits: another provider's get such ones, the same for call and result."""
    other = {**CALLED, "id": "a1B2c3D4e"}
    turns = [
        *({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "", "tool_calls": [CALLED, other]}),
        *({"role": "tool", "tool_call_id": call["id"], "content": "1"} for call in (CALLED, other)),
    ]
    _, asked = await chat(tmp_path, "mistral", messages=turns)
    _, calls, *results = asked[0].body["messages"]
    ids = [call["id"] for call in calls["tool_calls"]]
    assert all(len(told) == 9 and told.isalnum() for told in ids)
    assert [result["tool_call_id"] for result in results] == ids
    assert ids[1] == "a1B2c3D4e"


async def test_deepseek_gets_its_thoughts_back(tmp_path: Path) -> None:
    """Where DeepSeek thinks it refuses a turn with calls that lacks its thought; another provider's has a blank one."""

    def script(asked: Asked) -> Script:
        called = [message for message in asked.body["messages"] if message.get("tool_calls")]
        if not all(message.get("reasoning_content") for message in called):
            return openai.error(400, "The `reasoning_content` in the thinking mode must be passed back to the API.")
        return streamed(events(*openai.told("Hi")))

    turn = {"role": "assistant", "content": None, "tool_calls": [CALLED]}
    result = {"role": "tool", "tool_call_id": CALLED["id"], "content": "1"}
    for thought in ({"reasoning_content": "hm"}, {}):
        turns = [{"role": "user", "content": "Hi"}, {**turn, **thought}, result]
        answer, asked = await chat(tmp_path, "deepseek", script, messages=turns)
        assert answer.status_code == 200, answer.text
        assert asked[0].body["messages"][1]["reasoning_content"] == thought.get("reasoning_content", " ")


@pytest.mark.parametrize(
    ("name", "effort", "wanted"),
    [
        ("deepseek", "none", {"thinking": {"type": "disabled"}}),
        ("deepseek", "medium", {"reasoning_effort": "high"}),
        ("deepseek", "xhigh", {"reasoning_effort": "max"}),
        ("mistral", "none", {"reasoning_effort": "none"}),
        ("mistral", "xhigh", {"reasoning_effort": "high"}),
        ("ollama", "minimal", {"reasoning_effort": "low"}),
        ("openrouter", "xhigh", {"reasoning_effort": "xhigh"}),
        ("openrouter", "max", {"reasoning_effort": "xhigh"}),
    ],
)
async def test_how_much_to_think(tmp_path: Path, name: str, effort: str, wanted: dict[str, Any]) -> None:
    """Each is told how much to think in the words it has; nobody is left untold."""
    answer, asked = await chat(tmp_path, name, reasoning_effort=effort)
    assert answer.status_code == 200
    assert {word: asked[0].body[word] for word in ("thinking", "reasoning_effort") if word in asked[0].body} == wanted


async def test_settings_are_never_dropped_unsaid(tmp_path: Path) -> None:
    """One call at a time, and how much to say, go to who has them and are refused where nobody can be told."""
    _, asked = await chat(tmp_path, "groq", tools=TOOLS, parallel_tool_calls=False)
    assert asked[0].body["parallel_tool_calls"] is False
    _, asked = await chat(tmp_path, "groq", parallel_tool_calls=False)
    assert "parallel_tool_calls" not in asked[0].body  # without tools OpenAI refuses the word
    _, asked = await chat(tmp_path, "openrouter", verbosity="low")
    assert asked[0].body["verbosity"] == "low"
    answer, asked = await chat(tmp_path, "groq", verbosity="low")
    assert (answer.status_code, answer.json()["error"]["field"], asked) == (400, "verbosity", [])
    answer, asked = await chat(tmp_path, "groq", verbosity="medium", modalities=["text"])
    assert answer.status_code == 200
    assert not {"verbosity", "modalities"} & set(asked[0].body)
    for fields, field in (({"verbosity": "loud"}, "verbosity"), ({"modalities": ["audio"]}, "modalities")):
        answer, _ = await chat(tmp_path, "groq", **fields)
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)
    answer, _ = await chat(tmp_path, "groq", stream=True, stream_options={"include_obfuscation": False})
    assert answer.status_code == 200


FLAGGED = {"error": {"code": 403, "message": "Your input was flagged", "metadata": {"reasons": ["violence"]}}}
FAULT = {"type": "extra_forbidden", "loc": ["body", "logit_bias"], "msg": "Extra inputs are not permitted"}
AZURE = {"error": {"message": "The prompt triggered the content management policy.", "code": "content_filter"}}


@pytest.mark.parametrize(
    ("status", "body", "code", "words"),
    [
        (403, FLAGGED, "content_filter", "Your input was flagged"),
        (400, AZURE, "content_filter", "content management policy"),
        (422, {"object": "error", "message": {"detail": [FAULT]}}, "refused_by_provider", "logit_bias: Extra inputs"),
        (422, {"detail": [FAULT]}, "refused_by_provider", "logit_bias: Extra inputs"),
        (498, {"error": {"message": "Flex tier capacity exceeded"}}, "overloaded", "overloaded"),
    ],
    ids=["openrouter", "azure", "mistral", "vllm", "groq"],
)
async def test_refusals_in_their_words(tmp_path: Path, status: int, body: Any, code: str, words: str) -> None:
    """What each refuses is told for what it is; what a filter holds back says nothing against the operator's key."""
    async with wired(lambda _: answered(status, body)) as wire:
        parts = parts_of(tmp_path, "groq", wire.address, openai.KEY)
        async with asking(parts) as client:
            answer = await client.post("/v1/chat/completions", json=question(model="groq/m"))
    error = answer.json()["error"]
    assert (error["code"], words in error["message"]) == (code, True), error
    assert error["retryable"] is (status == 498)
    assert not remote_of(parts).suspect


LISTS: dict[str, list[dict[str, Any]]] = {
    "groq": [
        {"id": "llama-x", "active": True, "context_window": 131072, "max_completion_tokens": 32768},
        {"id": "whisper-large-v3", "active": True, "context_window": 448},
        {"id": "gone", "active": False},
    ],
    "mistral": [
        {"id": "q", "capabilities": {"completion_chat": True, "vision": True}, "max_context_length": 131072},
        {"id": "voxtral-tts", "capabilities": {"completion_chat": False}},
        {"id": "mistral-ocr-latest", "capabilities": {"completion_chat": False}},
        {"id": "a-embed", "capabilities": {"completion_chat": False}, "max_context_length": 8192},
    ],
    "llamacpp": [{"id": "gemma", "meta": {"n_ctx_train": 8192}}],
    "lmstudio": [{"id": "text-embedding-nomic-embed-text-v1.5"}, {"id": "gemma"}],
    "vllm": [{"id": "q", "max_model_len": 4096}],
}
SHOWN: dict[str, list[tuple[Any, ...]]] = {
    "groq": [("llama-x", 131072, 32768, ["text"], ["text"])],
    "mistral": [("q", 131072, None, ["text", "image"], ["text"]), ("a-embed", 8192, None, ["text"], ["embedding"])],
    "llamacpp": [("gemma", 8192, None, ["text"], ["text"])],
    "lmstudio": [
        ("gemma", 0, None, ["text"], ["text"]),
        ("text-embedding-nomic-embed-text-v1.5", 0, None, ["text"], ["embedding"]),
    ],
    "vllm": [("q", 4096, None, ["text"], ["text"])],
}


@pytest.mark.parametrize("name", list(LISTS))
async def test_lists_in_their_words(tmp_path: Path, name: str) -> None:
    """Each one's list gives windows and modalities in words of its own; what neither answers nor embeds is not offered."""
    async with wired(lambda _: answered(200, {"data": LISTS[name]})) as wire:
        parts = parts_of(tmp_path, name, wire.address, openai.KEY)
        async with asking(parts) as client:
            assert await remote_of(parts).refresh()
            listed = (await client.get("/v1/models")).json()["data"]
    words = ("id", "context_length", "max_output_tokens", "input_modalities", "output_modalities")
    found = [tuple(entry[word] for word in words) for entry in listed if entry["owned_by"] == name]
    assert found == [(f"{name}/{told}", *rest) for told, *rest in SHOWN[name]]


async def test_who_has_no_list(tmp_path: Path) -> None:
    """Azure's deployments have no list: with models named in the table that is nothing to report, without it is said."""
    for models, reason in ((["m"], None), ([], "azure lists no models: name them in its table")):
        async with wired(lambda _: answered(404, {"error": {"code": "404", "message": "Resource not found"}})) as wire:
            fields = {"base_url": f"{wire.address}/openai/deployments/m", "models": models}
            parts = parts_of(tmp_path, "azure", "", openai.KEY, **fields)
            async with asking(parts) as client:
                assert await remote_of(parts).refresh() is bool(models)
                (shown,) = [one for one in (await client.get("/api/providers")).json()["data"] if one["name"] == "azure"]
        assert shown["reason"] == reason


async def test_mistral_embeds(tmp_path: Path) -> None:
    """Mistral has another word for how long a vector is to be."""
    script = answered(200, {"data": [{"index": 0, "embedding": [0.5, 1.0]}], "usage": USAGE})
    async with wired(lambda _: script) as wire, asking(parts_of(tmp_path, "mistral", wire.address, openai.KEY)) as client:
        body = {"model": "mistral/a-embed", "input": "x", "dimensions": 2}
        answer = await client.post("/v1/embeddings", json=body)
    assert answer.json()["data"][0]["embedding"] == [0.5, 1.0]
    assert (wire.asked[0].body["output_dimension"], "dimensions" in wire.asked[0].body) == (2, False)
