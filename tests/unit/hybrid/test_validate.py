"""What callers hand in: every complaint is typed, names the field and comes before any provider is touched."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hybr.webapp.hybrid import validate
from hybr.webapp.hybrid.errors import MessageError, OptionError
from hybr.webapp.hybrid.types import Options

USER = {"role": "user", "content": "hi"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}

PARAMETERS = "tools[0].function.parameters"
DEEP: dict[str, Any] = {}
for _ in range(70):
    DEEP = {"items": DEEP}


def shaped(schema: dict[str, Any]) -> dict[str, Any]:
    """A response format with that schema."""
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}


BAD_MESSAGES: list[tuple[Any, str]] = [
    (None, "messages"),
    ("hi", "messages"),
    ({}, "messages"),
    ([], "messages"),
    (["hi"], "messages[0]"),
    ([{"content": "hi"}], "messages[0].role"),
    ([{"role": "robot", "content": "hi"}], "messages[0].role"),
    ([{"role": "user"}], "messages[0].content"),
    ([{"role": "user", "content": ""}], "messages[0].content"),
    ([{"role": "user", "content": "  \n"}], "messages[0].content"),
    ([{"role": "user", "content": 7}], "messages[0].content"),
    ([{"role": "user", "content": []}], "messages[0].content"),
    ([{"role": "user", "content": ["x"]}], "messages[0].content[0].type"),
    ([{"role": "user", "content": [{"type": "sound"}]}], "messages[0].content[0].type"),
    ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
    ([{"role": "user", "content": [{"type": "text", "text": "\udc00"}]}], "messages[0].content[0].text"),
    ([{"role": "user", "content": [{"type": "image_url", "image_url": "u"}]}], "messages[0].content[0].image_url"),
    ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "messages[0].content[0].image_url"),
    ([{"role": "user", "content": "half \ud83d"}], "messages[0].content"),
    ([USER, {"role": "system", "content": "x"}, USER], "messages[1].role"),
    ([USER, {"role": "assistant", "content": "x"}], "messages[1].role"),
    ([{"role": "system", "content": "x"}], "messages[0].role"),
    ([{"role": "user", "content": "x" * 10_000_000}], "messages"),
    ([{"role": "user", "content": "x", "colour": "red"}], "messages[0].colour"),
    ([{"role": "user", "content": "x", "name": "\ud83d"}], "messages[0].name"),
    ([{"role": "user", "content": "x", "tool_calls": [{}]}], "messages[0].tool_calls"),
    ([USER, {"role": "assistant", "content": None, "tool_calls": "f"}, USER], "messages[1].tool_calls"),
    ([USER, {**CALL, "tool_calls": [{"id": float("nan")}]}, USER], "messages[1].tool_calls[0].id"),
    ([USER, {"role": "assistant", "content": None}, USER], "messages[1].content"),
    ([USER, {"role": "tool", "content": "42", "tool_call_id": "1"}], "messages[1].role"),
    ([{"role": "tool", "content": "42", "tool_call_id": "1"}], "messages[0].role"),
    ([{"role": "user", "content": [{"type": "text", "text": "é" * 2_100_000}]}], "messages"),
]


@pytest.mark.parametrize(("value", "field"), BAD_MESSAGES, ids=[f"{number}" for number in range(len(BAD_MESSAGES))])
def test_bad_messages(value: object, field: str) -> None:
    """A malformed conversation is refused by name of the part at fault."""
    with pytest.raises(MessageError) as error:
        validate.messages(value)
    assert error.value.field == field
    assert error.value.code == "invalid_messages"
    assert error.value.to_dict()["field"] == field
    assert len(error.value.message) < 300


@pytest.mark.parametrize(
    "value",
    [
        [USER],
        ({"role": "system", "content": "x"}, USER),
        [USER, {"role": "assistant", "content": "x"}, USER],
        [USER, USER],
        [USER, CALL, {"role": "tool", "content": "42", "tool_call_id": "1"}],
        [
            USER,
            CALL,
            *[{"role": "tool", "content": "42", "tool_call_id": "1"}] * 2,
            {"role": "user", "content": "x", "name": "Ann"},
        ],
        [{"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]}],
        [{"role": "user", "content": "🙂 e\u0301 \u202e"}],
    ],
)
def test_good_messages(value: Any) -> None:
    """What a model could answer passes unchanged."""
    assert list(validate.messages(value)) == [dict(message) for message in value]


BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"temperature": float("nan")}, "temperature"),
    ({"temperature": float("inf")}, "temperature"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "1"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": 1.5}, "top_p"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": float("nan")}, "top_p"),
    ({"top_p": True}, "top_p"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"max_output_tokens": 1.5}, "max_output_tokens"),
    ({"max_output_tokens": float("nan")}, "max_output_tokens"),
    ({"max_output_tokens": True}, "max_output_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"stop": [""]}, "stop"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"stop": 3}, "stop"),
    ({"seed": "x"}, "seed"),
    ({"seed": 2**60}, "seed"),
    ({"response_format": {"type": "xml"}}, "response_format"),
    ({"response_format": "json"}, "response_format"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": "no"}}}, "response_format.json_schema"),
    ({"response_format": shaped({"type": "objekt"})}, "response_format.json_schema.schema.type"),
    ({"response_format": shaped({"properties": []})}, "response_format.json_schema.schema.properties"),
    ({"response_format": shaped({"properties": {"a": 3}})}, "response_format.json_schema.schema.properties.a"),
    ({"response_format": shaped({"required": "a"})}, "response_format.json_schema.schema.required"),
    ({"response_format": shaped({"items": {"enum": []}})}, "response_format.json_schema.schema.items.enum"),
    ({"response_format": shaped({"anyOf": [{"minLength": -1}]})}, "response_format.json_schema.schema.anyOf[0].minLength"),
    ({"response_format": shaped({"minimum": "1"})}, "response_format.json_schema.schema.minimum"),
    ({"response_format": shaped({"minimum": float("nan")})}, "response_format.json_schema.schema.minimum"),
    ({"response_format": shaped({"description": "\ud83d"})}, "response_format.json_schema.schema.description"),
    ({"response_format": shaped({"$ref": 3})}, "response_format.json_schema.schema.$ref"),
    ({"response_format": shaped({"oneOf": []})}, "response_format.json_schema.schema.oneOf"),
    ({"response_format": shaped(DEEP)}, "response_format.json_schema.schema" + ".items" * 65),
    ({"response_format": {"type": "json_object", "schema": {"type": 3}}}, "response_format.schema.type"),
    ({"response_format": {"type": "json_schema", "json_schema": "x"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_object", "schema": {"title": "x" * 5_000_000}}}, "response_format"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "tools[0].function.parameters"),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": 1}}}]},
        "tools[0].function.parameters.type",
    ),
    ({"tools": [{"type": "function", "function": {"name": "f", "x": {1: 2}}}]}, "tools[0].function.x"),
    ({"tools": [{"type": "function", "function": {"name": "f", "x": b"y"}}]}, "tools[0].function.x"),
    ({"stop": "\udc00"}, "stop[0]"),
    ({"model": "\udc00"}, "model"),
    ({"handover": "maybe"}, "handover"),
    ({"hedge": 1}, "hedge"),
    ({"trim": "yes"}, "trim"),
    ({"persona": ""}, "persona"),
    ({"mode": "fast"}, "mode"),
    ({"egress": "x"}, "egress"),
    ({"journal": 3}, "journal"),
    ({"tools": "x"}, "tools"),
    ({"tools": [{"type": "function"}]}, "tools"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools"),
    ({"tool_choice": "maybe"}, "tool_choice"),
    ({"model": ""}, "model"),
    ({"model": 3}, "model"),
    ({"model": "x" * 201}, "model"),
    ({"private": "yes"}, "private"),
    ({"timeout_ms": 0}, "timeout_ms"),
    ({"request_id": ""}, "request_id"),
    ({"signal": {"aborted": True}}, "signal"),
    ({"signal": SimpleNamespace(aborted=True)}, "signal"),
    ({"signal": "x"}, "signal"),
    ({"nonsense": 1}, "nonsense"),
    ({"streem": True}, "streem"),
]


@pytest.mark.parametrize(("value", "field"), BAD_OPTIONS)
def test_bad_options(value: dict[str, Any], field: str) -> None:
    """An option that no model could follow is refused by its name, with what would be right."""
    with pytest.raises(OptionError) as error:
        validate.options(value)
    assert error.value.field == f"options.{field}"
    assert field.split(".", maxsplit=1)[0] in error.value.message


GOOD_SCHEMAS: list[dict[str, Any]] = [
    {},
    {"type": ["string", "null"], "pattern": "^a+$", "minLength": 0},
    {"type": "object", "properties": {"a": True, "b": {"$ref": "#/$defs/b"}}, "required": ["a"], "additionalProperties": False},
    {"$defs": {"b": {"enum": [1, None, "x"]}}, "anyOf": [{"const": 3}, {"type": "array", "items": {}, "maxItems": 2.0}]},
    {"minimum": 0.5, "x-own": {"anything": [1]}},
]


@pytest.mark.parametrize("schema", GOOD_SCHEMAS)
def test_good_schemas(schema: dict[str, Any]) -> None:
    """What is a schema passes as it is."""
    got = validate.options({"response_format": shaped(schema)}).response_format
    assert got == shaped(schema)


def test_options_that_are_no_object() -> None:
    """Options are an object or nothing."""
    for value in (3, "x", [1]):
        with pytest.raises(OptionError):
            validate.options(value)


def test_good_options() -> None:
    """Everything that is an option arrives; None means not given; names used elsewhere are understood."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"a_b": 1}}}
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
    got = validate.options(
        {
            "temperature": 0,
            "top_p": 1,
            "max_tokens": 12.0,
            "stop": ["a", "b"],
            "seed": 7,
            "response_format": schema,
            "tools": [tool],
            "tool_choice": tool,
            "model": "tiny",
            "private": True,
            "timeout_ms": 1000,
            "request_id": "r",
            "signal": SimpleNamespace(aborted=False),
        },
    )
    assert got == Options(0, 1, 12, ("a", "b"), 7, schema, (tool,), tool, "tiny", True, 1000, "r")
    assert got.sampling()["max_tokens"] == 12
    assert validate.options(got) is got
    assert validate.options(None) == validate.options({}) == validate.options({"temperature": None}) == Options()
    assert validate.options(
        {"stop": "x", "tool_choice": "auto", "response_format": {"type": "json_object", "schema": {}}}
    ).stop == ("x",)
    assert Options().sampling() == {}
