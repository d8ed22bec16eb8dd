"""The decoders: however a provider's bytes are cut, the same events come out (adverse list, 12, 13)."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from fakes import anthropic, gemini, openai
from fakes.wire import events
from hypothesis import given, settings
from hypothesis import strategies as st

from hybr.server import chat
from hybr.server.errors import RequestError
from hybr.server.providers import house, sse
from hybr.server.providers.dialect import Question, Stream
from hybr.server.providers.registry import dialect
from hybr.server.upstreams import Upstream

TEXTS = ("Pa", "ris ", "é😀\u2028", '"\\n')
RAW = {
    "openai": events(*openai.told(*TEXTS)) + b": bye\n\n",
    "anthropic": anthropic.framed(*anthropic.told(*TEXTS)),
    "gemini": gemini.framed(*gemini.told(*TEXTS), end=b"\n\n"),
}
TOOLS = {
    "openai": events(*openai.called(), openai.chunk({}, "tool_calls"), b"[DONE]"),
    "anthropic": anthropic.framed(*anthropic.called()),
    "gemini": gemini.framed(*gemini.called()),
}


def translated(kind: str, pieces: list[bytes]) -> tuple[list[Any], Stream]:
    """Return the chunks that a provider's bytes in these pieces make, ids and times left out."""
    stream = Stream(kind, dialect(Upstream(kind, "https://x", kind=kind)).reader("x/y"))
    chunks = [chunk for piece in pieces if not stream.over and not stream.failure for chunk in stream.feed(piece)]
    if not stream.over and not stream.failure:
        chunks += stream.end()
    chunks = [{**chunk, "id": "", "created": 0} for chunk in chunks]
    for chunk in chunks:
        for choice in chunk["choices"]:
            for call in choice["delta"].get("tool_calls", ()):
                call.pop("id", None)
    return chunks, stream


def cut(raw: bytes, cuts: list[int]) -> list[bytes]:
    """Return `raw` in pieces of these sizes, the rest last."""
    pieces, place = [], 0
    for size in cuts:
        pieces.append(raw[place : place + size])
        place += size
    return [*pieces, raw[place:]]


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(sorted(RAW)),
    st.booleans(),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.lists(st.integers(0, 90), max_size=60),
)
def test_12_any_split_gives_the_same_events(kind: str, tools: bool, end: bytes, cuts: list[int]) -> None:
    """Cut anywhere, with any line end, every provider's stream makes the same chunks."""
    raw = (TOOLS if tools else RAW)[kind].replace(b"\r\n", b"\n")
    wanted, whole = translated(kind, [raw])
    found, stream = translated(kind, cut(raw.replace(b"\n", end), cuts))
    assert found == wanted
    assert whole.over
    assert stream.over


@pytest.mark.parametrize("kind", sorted(RAW))
def test_12_one_byte_at_a_time(kind: str) -> None:
    """The same for single bytes, and the text is whole."""
    raw = RAW[kind]
    chunks, _ = translated(kind, [raw[place : place + 1] for place in range(len(raw))])
    said = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
    assert said == "".join(TEXTS)


@pytest.mark.parametrize("kind", sorted(RAW))
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_7_any_cut_is_an_error_or_the_whole(kind: str, data: st.DataObject) -> None:
    """A stream that ends early, anywhere, has failed or has said everything, and has no end that the provider did not say."""
    raw = RAW[kind]
    place = data.draw(st.integers(0, len(raw)))
    wanted, _ = translated(kind, [raw])
    found, stream = translated(kind, [raw[:place]])
    assert stream.over != (stream.failure is not None)
    assert found == (wanted if stream.over else wanted[: len(found)])


@pytest.mark.parametrize("kind", sorted(RAW))
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_10_any_event_is_read_or_a_failure(kind: str, data: st.DataObject) -> None:
    """Whatever JSON a provider sends, the outcome is chunks or a failure, never another exception, and the chunks are JSON."""
    known = [
        "type",
        "choices",
        "delta",
        "index",
        "error",
        "candidates",
        "content",
        "parts",
        "text",
        "usage",
        "message",
        "content_block",
        "tool_calls",
        "function",
        "functionCall",
        "finish_reason",
        "finishReason",
        "usageMetadata",
    ]
    words = st.sampled_from(
        ["text_delta", "content_block_delta", "content_block_start", "message_start", "tool_use", "stop", "STOP"]
    )
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | words
    values = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(known), inner, max_size=4),
        max_leaves=15,
    )
    raw = events(*data.draw(st.lists(values, max_size=4)))
    chunks, stream = translated(kind, [raw])
    assert stream.over != (stream.failure is not None)
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)


def test_13_as_the_standard_reads_them() -> None:
    """A byte order mark, comments, other fields, several data lines and a missing blank line at the end are read as meant."""
    raw = b"\xef\xbb\xbfdata: a\r\n\r\n: note\nevent: x\nid: 5\nretry: 9\ndata:b\ndata: c\n\n\n\ndata\n\nother: z\n\ndata: end"
    for pieces in ([raw], [raw[place : place + 1] for place in range(len(raw))]):
        decoder = sse.Decoder()
        found = [event for piece in pieces for event in decoder.feed(piece)]
        assert found + decoder.flush() == ["a", "b\nc", "end"]


def test_14_bounds() -> None:
    """An event's bytes are bounded, in one line, in many, and in many pieces."""
    for piece in (b"data: " + b"x" * 2000, b"data: xxxxxxxxx\n", b"x" * 5000):
        decoder = sse.Decoder()
        with pytest.raises(sse.OverflowingError):
            all(decoder.feed(piece) is not None for _ in range(300_000))


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 99)
    | st.sampled_from(["x", "", "text", "function", "auto", "data:,", "{}", "high"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "function", "name", "arguments", "id", "image_url", "url", "schema", "json_schema"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
NAMED = st.fixed_dictionaries({"name": st.just("f")}, optional={"description": ANY, "parameters": ANY})
TEXT = st.sampled_from(["a", "", "{}", "[]", "{", "5"])
CALL = st.fixed_dictionaries(
    {"id": st.sampled_from(["a", "call_1"]), "function": st.fixed_dictionaries({"name": st.just("f"), "arguments": TEXT})},
    optional={"type": ANY, "extra_content": st.fixed_dictionaries({"google": ANY}) | ANY},
)
PART = st.just({"type": "text", "text": "a"}) | st.fixed_dictionaries(
    {"type": st.just("image_url"), "image_url": st.fixed_dictionaries({"url": st.just("data:image/png;base64,aaaa") | ANY})}
)
SAID = {"content": st.just("a") | st.lists(PART, min_size=1, max_size=2)}
LOOSE = dict.fromkeys(("refusal", "reasoning_content", "reasoning_signature", "thoughts", "prefix", "audio"), ANY)
MESSAGE = (
    st.fixed_dictionaries({"role": st.sampled_from(["system", "developer", "user"]), **SAID}, optional=LOOSE)
    | st.fixed_dictionaries({"role": st.just("assistant"), **SAID, "tool_calls": st.lists(CALL, max_size=2)}, optional=LOOSE)
    | st.fixed_dictionaries({"role": st.just("tool"), **SAID}, optional={"tool_call_id": TEXT})
)
SET = {
    "tools": st.lists(st.fixed_dictionaries({"type": st.just("function"), "function": NAMED | ANY}), max_size=2),
    "tool_choice": st.sampled_from(["auto", "none", "x"]) | st.dictionaries(st.just("function"), st.just({"name": "f"}) | ANY),
    "response_format": st.fixed_dictionaries(
        {"type": st.just("json_schema"), "json_schema": st.fixed_dictionaries({"schema": st.just({}) | ANY})}
    ),
    "reasoning_effort": st.sampled_from(chat.EFFORTS),
    "verbosity": st.sampled_from(chat.VERBOSITIES),
    "parallel_tool_calls": st.booleans(),
}
UPSTREAMS = [
    ("anthropic", "anthropic"),
    ("gemini", "gemini"),
    *((name, "openai") for name in ("openai", "mistral", "deepseek", "vllm")),
]


@settings(deadline=None, max_examples=150)
@given(st.lists(MESSAGE, min_size=1, max_size=4), st.fixed_dictionaries({}, optional=SET))
def test_27_any_request_is_put_or_refused(messages: list[Any], fields: dict[str, Any]) -> None:
    """Whatever passed the checks is put in every provider's words or refused, never another exception: that would be a 500."""
    try:
        call = chat.checked({"messages": messages, "model": "m", **fields}, "")
    except RequestError:
        return
    for name, kind in UPSTREAMS:
        for model in ("gemini-3-pro", "m") if kind == "gemini" else ("claude-opus-5", "m"):
            with contextlib.suppress(RequestError):
                assert isinstance(dialect(Upstream(name, "https://x", kind=kind, prefill="yes")).question(call, model), Question)
    with contextlib.suppress(RequestError):
        assert house.translate(call)["stream"] is True
