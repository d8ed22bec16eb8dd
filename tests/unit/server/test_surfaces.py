"""The surfaces: whatever is asked is taken or refused in their own words, and chunks become whole events of theirs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybr.server.errors import RequestError, UpstreamError
from hybr.server.providers.dialect import Reader
from hybr.server.surfaces.chat import Chat
from hybr.server.surfaces.embeddings import Embeddings
from hybr.server.surfaces.messages import Messages

GOOD = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
WORDS = st.sampled_from(
    ["text", "image", "tool_use", "tool_result", "thinking", "user", "assistant", "system", "enabled", "json_schema"]
)
NAMES = st.sampled_from(
    [
        *("type", "text", "role", "content", "source", "media_type", "data", "id", "name", "input", "tool_use_id", "thinking"),
        *("signature", "budget_tokens", "format", "schema", "effort", "url", "is_error"),
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS
ANY = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=12)
FIELDS = ["messages", "system", "tools", "tool_choice", "thinking", "output_config", "stop_sequences", "temperature", "model"]


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(st.sampled_from(FIELDS), ANY, max_size=4), st.lists(ANY, max_size=3))
def test_27_any_message_is_taken_or_refused(fields: dict[str, Any], blocks: list[Any]) -> None:
    """Whatever JSON comes, Anthropic's surface gives a call or a refusal that names a field, never another exception."""
    turns = [{"role": "user", "content": blocks}, {"role": "assistant", "content": blocks}]
    for body in (fields, GOOD | fields, GOOD | {"messages": turns} | fields):
        try:
            call, _ = Messages().read(json.dumps(body).encode())
        except RequestError as refused:
            named = bool(refused.field) or refused.code in {"invalid_json", "too_deep"}
        else:
            named = bool(call.body["messages"])
        assert named


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.sampled_from(["input", "model", "encoding_format", "dimensions", "user", "x"]), ANY))
def test_27_any_embedding_is_taken_or_refused(body: dict[str, Any]) -> None:
    """The same of the embeddings."""
    try:
        call, _ = Embeddings().read(json.dumps(body).encode())
    except RequestError as refused:
        named = bool(refused.field)
    else:
        named = bool(call.body["input"])
    assert named


@pytest.mark.parametrize("given", ["", ["a", ""], [], [[]], [["a"]], None, 5, {"a": "b"}])
def test_27_nothing_to_embed(given: Any) -> None:
    """An empty text, alone or among others, is refused by the field's name and with what it may be."""
    with pytest.raises(RequestError, match="input must be a text, or a list of 1 to 2048 texts, none of them empty") as caught:
        Embeddings().read(json.dumps({"model": "m", "input": given}).encode())
    assert caught.value.field == "input"


@pytest.mark.parametrize("given", ["  ", "\n", "\N{WATER WAVE}", "a" * 100_000])
def test_27_odd_texts_to_embed(given: str) -> None:
    """Spaces, line ends, an emoji and a long text go to the provider as they are: what they mean is its model's business."""
    call, _ = Embeddings().read(json.dumps({"model": "m", "input": given}).encode())
    assert call.body["input"] == [given]


@pytest.mark.parametrize("surface", [Chat(), Messages(), Embeddings()], ids=["chat", "messages", "embeddings"])
@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"{", b"[]", b"5", b"null", b"NaN", b'{"model": NaN}', b'{"max_tokens": 1e999}', b'{"model": "a", "model": "b"}'),
        *(
            b"[" * 20_000,
            b'{"a":' * 20_000,
            b'{"model": "\\ud800"}',
            b'{"model": "a\x00"}',
            b'{"seed": ' + b"9" * 1_000_000 + b"}",
        ),
        *(b"\xff\xfe", b"-Infinity", b'{"messages": []}', b'{"input": []}'),
    ],
    ids=range(18),
)
def test_27_what_is_no_request(surface: Any, raw: bytes) -> None:
    """What is no JSON, or two readers would read differently, or too deep, is a refusal on every surface."""
    with pytest.raises(RequestError) as caught:
        surface.read(raw)
    assert caught.value.status == 400
    shown = surface.refusal(caught.value)
    assert shown["error"]["message"]


def ended(finish: str) -> Reader:
    """Return an answer's end."""
    reader = Reader("m")
    reader.finish = finish
    return reader


PIECES = st.sampled_from(
    [
        {"content": "a"},
        {"reasoning_content": "hm"},
        {"reasoning_signature": "x"},
        {"tool_calls": [{"index": 0, "id": "c0", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
        {"tool_calls": [{"index": 1, "id": "c1", "function": {"name": "g", "arguments": "{}"}}]},
        {"role": "assistant"},
        {},
    ]
)


@given(st.lists(st.lists(PIECES, max_size=4), max_size=6), st.sampled_from(["stop", "length", "tool_calls", None]))
def test_blocks_are_opened_and_closed(lots: list[list[dict[str, Any]]], finish: str | None) -> None:
    """However the chunks come, a message begins once, each block is opened and closed in order, and one end closes all."""
    reader = Reader("m")
    _, voice = Messages().read(json.dumps(GOOD).encode())
    raw = b"".join(voice.events([reader.chunk(delta) for delta in lot]) for lot in lots)
    raw += voice.closing(ended(finish), None) if finish else voice.failure(UpstreamError("no", code="x"))
    events = [json.loads(line.removeprefix("data: ")) for line in raw.decode().split("\n") if line.startswith("data: ")]
    kinds = [event["type"] for event in events]
    assert kinds.count("message_start") <= 1
    assert kinds[-1] == ("message_stop" if finish else "error")
    assert not finish or kinds[0] == "message_start"
    opened: list[int] = []
    closed: set[int] = set()
    for event in events:
        if event["type"] == "content_block_start":
            assert event["index"] == len(opened)
            assert set(opened) == closed
            opened.append(event["index"])
        elif event["type"] == "content_block_stop":
            closed.add(event["index"])
        elif event["type"] == "content_block_delta":
            assert event["index"] in opened
    assert not finish or closed == set(opened)
