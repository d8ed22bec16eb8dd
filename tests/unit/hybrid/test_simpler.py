"""A schema that the engine cannot hold to: a simpler one, and it is said; then the cloud with the whole."""

from __future__ import annotations

from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import ASK, Desk
from lab.engine import Fail

from hybr.webapp.hybrid import simpler

NO = Fail("Error", "GrammarMatcherInitError: pattern is not supported", "validate")
WHOLE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": "^a+$", "minLength": 2},
        "tags": {"type": "array", "items": {"oneOf": [{"type": "integer", "minimum": 1}, {"const": None}]}, "maxItems": 3},
        "pattern": {"$ref": "#/$defs/b"},  # a name, and no keyword
    },
    "required": ["id"],
    "additionalProperties": {"type": "number", "format": "float"},
    "$defs": {"b": {"enum": ["x"], "if": True}},
}
PLAIN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "tags": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"const": None}]}},
        "pattern": {"$ref": "#/$defs/b"},
    },
    "required": ["id"],
    "additionalProperties": {"type": "number"},
    "$defs": {"b": {"enum": ["x"]}},
}


def asked(schema: Any) -> dict[str, Any]:
    """A response format of it."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


@pytest.mark.parametrize(
    ("given", "want"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, None),
        (asked(WHOLE), asked(PLAIN)),
        (asked(PLAIN), {"type": "json_object"}),
        ({"type": "json_object", "schema": WHOLE}, asked(PLAIN)),
        ({"type": "json_object", "schema": '{"type": "string", "pattern": "a"}'}, asked({"type": "string"})),
    ],
)
def test_the_form(given: Any, want: Any) -> None:
    """The shape stays and the bounds go; where there are none, any JSON; where that was asked for, nothing is simpler."""
    assert simpler.form(given) == want


def test_what_is_left_out_is_said() -> None:
    """By its names, wherever it stood."""
    assert simpler.left_out(WHOLE) == {"pattern", "minLength", "minimum", "maxItems", "format", "if"}
    assert simpler.said(asked(WHOLE), asked(PLAIN)).endswith("was not held to format, if, maxItems, minLength, minimum, pattern.")
    assert "whatever shape" in simpler.said(asked(PLAIN), {"type": "json_object"})


@virtual
async def test_the_engine_is_asked_for_the_shape() -> None:
    """Once more, with no change of provider and no loss of health; the completion says what the answer was not held to."""
    desk = await Desk().ready()
    desk.engine.scripts.extend([[NO], ['{"id": "a"}']])
    done = await desk.hybrid.complete(ASK, {"response_format": asked(WHOLE)})
    assert (done.text, done.provider, done.fallback) == ('{"id": "a"}', "local", None)
    assert desk.engine.chats[1]["options"]["response_format"] == asked(PLAIN)
    assert "was not held to" in done.note
    assert done.note.endswith("It departs from the schema: answer.id is 'a'; it must be at least 2 characters long.")
    assert desk.upstream.chats == []
    assert desk.hybrid.get_usage_stats()["local"]["errors"] == 0


@virtual
@pytest.mark.parametrize(
    ("text", "end"),
    [
        ('{"id": "aa"}', "Looked at afterwards, it holds to the schema all the same."),
        ('{"id": "aa", "tags": [0]}', "answer.tags[0] is 0: none of what it may be, and must be exactly one."),
        ('{"id": "a', "it is no whole JSON document."),
    ],
)
async def test_the_answer_is_looked_at_afterwards(text: str, end: str) -> None:
    """What the model was not held to it may have done all the same; what it has not done is named, with its place."""
    desk = await Desk().ready()
    desk.engine.scripts.extend([[NO], [text]])
    done = await desk.hybrid.complete(ASK, {"response_format": asked(WHOLE)})
    assert done.note.endswith(end)


@virtual
async def test_with_a_shorter_conversation_too() -> None:
    """A request that was made shorter and simpler says both, whichever came first."""
    long = [{"role": role, "content": "word " * 80} for role in ("user", "assistant") * 3] + ASK
    much = Fail("Error", "ContextWindowSizeExceededError: number of prompt tokens: 500; context window size: 300", "prefill")
    for refusals in ([[NO], [much]], [[much], [NO]]):
        desk = await Desk().ready()
        desk.engine.scripts.extend([*refusals, ['{"id": "aa"}']])
        done = await desk.hybrid.complete(long, {"response_format": asked(WHOLE), "trim": True})
        assert done.trimmed > 0
        assert f"The {done.trimmed} oldest messages were left out" in done.note
        assert "was not held to format" in done.note


@virtual
async def test_then_the_cloud_with_the_whole() -> None:
    """An engine that can hold to no form of it: the cloud gets the schema as it was, and nothing is said of a simpler one."""
    desk = await Desk().ready()
    desk.engine.default = [NO]
    done = await desk.hybrid.complete(ASK, {"response_format": asked(WHOLE)})
    assert (done.provider, len(desk.engine.chats), done.note) == ("cloud", 3, "")
    assert desk.upstream.chats[0]["response_format"] == asked(WHOLE)
    assert done.fallback is not None
    assert done.fallback["error"]["code"] == "bad_schema"


@virtual
async def test_without_a_schema_there_is_nothing_simpler() -> None:
    """The error of a plain request goes to the cloud as it is."""
    desk = await Desk().ready()
    desk.engine.scripts.append([NO])
    done = await desk.hybrid.complete(ASK)
    assert (done.provider, len(desk.engine.chats)) == ("cloud", 1)
