"""What can be said against a chat request before anyone is asked."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybr.server.chat import CHECKS, parse
from hybr.server.errors import RequestError

USER = {"role": "user", "content": "Hello"}


def parsed(**fields: Any) -> Any:
    """Return the call for a small request with `fields`."""
    return parse(json.dumps({"messages": [USER], **fields}).encode(), "default")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": [USER] * 2049}, "messages"),
        ({"messages": ["Hello"]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "root", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
        ({"messages": [USER, {"role": "user"}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": " \n\t"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": " "}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{**USER, "tool_calls": 5}]}, "messages[0].tool_calls"),
        ({"messages": [{**USER, "tool_calls": [{}]}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "content": "a", "tool_calls": "x"}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "function": {}}]}]}, "messages[0].tool_calls[0]"),
        ({"messages": [{**USER, "name": 5}]}, "messages[0].name"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": []}]}, "messages[0].tool_call_id"),
        ({"verbosity": "loud"}, "verbosity"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"reasoning_budget": 5}, "reasoning_budget"),
        ({"model": ""}, "model"),
        ({"model": 5}, "model"),
        ({"model": "x" * 201}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"other": 1}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": [1]}, "temperature"),
        ({"top_p": 1.01}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 10**9}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": [5]}, "stop"),
        ({"stop": {"a": 1}}, "stop"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": []}, "logit_bias"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"response_format": "json"}, "response_format.type"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"tools": {}}, "tools"),
        ({"tool_choice": 5}, "tool_choice"),
        ({"api_base": "http://evil.example"}, "api_base"),
        ({"api_key": "x"}, "api_key"),
        ({"headers": {}}, "headers"),
        ({"n_predict": -1}, "n_predict"),
        ({"slot_id": 1}, "slot_id"),
    ],
)
def test_named(fields: dict[str, Any], field: str) -> None:
    """Each mistake is refused and its field named."""
    with pytest.raises(RequestError) as caught:
        parsed(**fields)
    assert caught.value.field == field
    assert caught.value.envelope()["error"]["retryable"] is False


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"null",
        b"5",
        b'"x"',
        b"[]",
        b"\xff\xfe",
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": Infinity}',
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": 1e400}',
        b'{"messages": [{"role": "user", "content": "x"}], "seed": ' + b"9" * 1_000_000 + b"}",
        b'{"messages": [{"role": "user", "content": "x"}], "messages": []}',
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "x"}], "tools": [' + b'{"a":' * 70 + b"1" + b"}" * 70 + b"]}",
        b"[" * 20_000,
        b'{"a":' * 20_000,
        b'{"messages": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    ],
)
def test_not_json_as_we_read_it(raw: bytes) -> None:
    """What two readers could read differently, or what no reader survives, is refused (adverse list, 27)."""
    with pytest.raises(RequestError):
        parse(raw, "default")


def test_passes() -> None:
    """A good request keeps its fields; null counts as absent; what other clients send for themselves is dropped."""
    call = parsed(
        temperature=0, stop=["a"], stream=True, stream_options={"include_usage": True}, user="me", metadata={}, seed=None
    )
    assert (call.model, call.stream) == ("default", True)
    assert call.body == {
        "messages": [USER],
        "temperature": 0,
        "stop": ["a"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert parsed(model="other").model == "other"


def test_parts_and_prefill() -> None:
    """Content in parts, a NUL, an emoji and a conversation that ends with the assistant's turn are all fine."""
    content = [{"type": "text", "text": "a\0"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    parsed(messages=[{"role": "user", "content": content}, {"role": "assistant", "content": "It is 😀"}])


def test_the_message_lists_what_there_is() -> None:
    """Who misspells a field reads the right names."""
    with pytest.raises(RequestError, match="max_tokens"):
        parsed(max_token=5)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first text drawn builds Unicode's tables
@given(st.dictionaries(st.sampled_from(sorted(CHECKS)), json_values))
def test_any_json_is_taken_or_refused(body: dict[str, Any]) -> None:
    """Whatever is sent, the answer is a call or a refusal, never another exception."""
    raw = json.dumps({"messages": [USER], **body}).encode("utf-8", "surrogatepass")
    with contextlib.suppress(RequestError):
        assert parse(raw, "default").body["messages"]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(raw: bytes) -> None:
    """The same for bytes."""
    with pytest.raises(RequestError):
        parse(raw, "default")
