"""What callers hand in: every complaint is typed, names the field and comes before any provider is touched."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hybr.webapp.hybrid import validate
from hybr.webapp.hybrid.errors import MessageError, OptionError
from hybr.webapp.hybrid.types import Options

USER = {"role": "user", "content": "hi"}
ONE = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALL = {"role": "assistant", "content": None, "tool_calls": [ONE]}
RESULT = {"role": "tool", "content": "42", "tool_call_id": "1"}
HUGE = 10**5000  # Python has it and cannot write it


def called(**change: Any) -> list[dict[str, Any]]:
    """A conversation whose tool call differs from a right one by that."""
    return [USER, {**CALL, "tool_calls": [{**ONE, **change}]}, RESULT]


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
    ([{"role": "user", "content": [{"type": "text", "text": " "}]}], "messages[0].content"),
    ([{"role": "user", "content": [{"type": "text", "text": "x", "more": float("nan")}]}], "messages[0].content[0].more"),
    ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": ""}}]}], "messages[0].content[0].image_url"),
    (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:\ud800"}}]}],
        "messages[0].content[0].image_url.url",
    ),
    ([{"role": "user", "content": "x", "name": 5}], "messages[0].name"),
    ([{"role": "user", "content": "x", "tool_call_id": "1"}], "messages[0].tool_call_id"),
    ([USER, {**CALL, "tool_calls": [{}]}, RESULT], "messages[1].tool_calls[0].id"),
    ([USER, {**CALL, "tool_calls": ["f"]}, RESULT], "messages[1].tool_calls[0].id"),
    ([USER, {**CALL, "tool_calls": [ONE, ONE]}, RESULT, RESULT], "messages[1].tool_calls[1].id"),
    (called(function={"name": "", "arguments": "{}"}), "messages[1].tool_calls[0].function.name"),
    (called(function={"name": "f", "arguments": {}}), "messages[1].tool_calls[0].function.arguments"),
    (called(function={"name": "f", "arguments": "x" * 5_000_000}), "messages"),
    ([USER, CALL, {"role": "tool", "content": "42"}], "messages[2].tool_call_id"),
    ([USER, CALL, {**RESULT, "tool_call_id": 1}], "messages[2].tool_call_id"),
    ([USER, CALL, {**RESULT, "tool_call_id": "2"}], "messages[2].tool_call_id"),
    ([USER, CALL, RESULT, RESULT], "messages[3].tool_call_id"),
    ([USER, CALL, USER], "messages[2].role"),
    ([USER, {**CALL, "tool_calls": [ONE, {**ONE, "id": "2"}]}, RESULT], "messages"),
    ([{"role": HUGE, "content": "x"}], "messages[0].role"),
    ([{"role": "user", "content": [{"type": HUGE}]}], "messages[0].content[0].type"),
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
        [USER, CALL, RESULT],
        [USER, CALL, RESULT, {**CALL, "content": "Once more."}, {**RESULT, "content": ""}],
        [
            USER,
            {**CALL, "tool_calls": [ONE, {**ONE, "id": "2"}]},
            {**RESULT, "tool_call_id": "2"},
            RESULT,
            {"role": "user", "content": "x", "name": "Ann"},
        ],
        [{"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]}],
        [{"role": "user", "content": "🙂 e\u0301 \u202e"}],
    ],
)
def test_good_messages(value: Any) -> None:
    """What a model could answer passes unchanged."""
    assert list(validate.messages(value)) == [dict(message) for message in value]


def test_no_text_beside_tool_calls() -> None:
    """An empty text beside tool calls says as much as none, and providers want none."""
    assert validate.messages([USER, {**CALL, "content": ""}, RESULT])[1] == CALL


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
    ({"temperature": 10**400}, "temperature"),
    ({"temperature": HUGE}, "temperature"),
    ({"seed": HUGE}, "seed"),
    ({"timeout_ms": HUGE}, "timeout_ms"),
    ({"stop": [HUGE]}, "stop"),
    ({"response_format": shaped({"minLength": HUGE})}, "response_format.json_schema.schema.minLength"),
    ({"tools": [{"type": "function", "function": {"name": "f", "x": HUGE}}]}, "tools[0].function.x"),
    ({"max_tokens": 1, "max_output_tokens": 2}, "max_tokens"),
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
    with pytest.raises(OptionError) as error:
        validate.options(Options(temperature=float("nan")))
    assert error.value.field == "options.temperature"
    with pytest.raises(OptionError, match="is not an option"):
        validate.options({HUGE: 1})
    assert validate.options(None) == validate.options({}) == validate.options({"temperature": None}) == Options()
    assert validate.options(
        {"stop": "x", "tool_choice": "auto", "response_format": {"type": "json_object", "schema": {}}}
    ).stop == ("x",)
    assert Options().sampling() == {}


TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (Options(tools=(TOOL, TOOL)), "options.tools"),
        (Options(tool_choice="required"), "options.tool_choice"),
        (Options(tools=(TOOL,), tool_choice={"type": "function", "function": {"name": "g"}}), "options.tool_choice"),
    ],
)
def test_options_that_contradict_each_other(asked: Options, field: str) -> None:
    """A choice among tools that are not there is the caller's mistake, and so are two of one name."""
    with pytest.raises(OptionError) as error:
        validate.together(asked)
    assert error.value.field == field


@pytest.mark.parametrize("choice", [None, "none", "auto", "required", TOOL])
def test_choices_among_tools(choice: Any) -> None:
    """Whatever chooses among tools that are there is right; `none` and `auto` are right without any."""
    asked = Options(tools=(TOOL,), tool_choice=choice)
    assert validate.together(asked) is asked
    if choice in (None, "none", "auto"):
        validate.together(Options(tool_choice=choice))
