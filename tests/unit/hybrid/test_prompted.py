"""Tools told in words to a model that knows none: the calls are read out of its text, and what is no call is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import ASK, Desk, entry
from lab.engine import Fail

from hybr.webapp.hybrid import prompted
from hybr.webapp.hybrid.errors import LocalError, UnsupportedError
from hybr.webapp.hybrid.types import Call, Options

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"town": {"type": "string"}}}},
}
TIME: dict[str, Any] = {"type": "function", "function": {"name": "time"}}
TOOLS = {"tools": [WEATHER, TIME]}
TAGGED = '<tool_call>{"name": "weather", "arguments": {"town": "Köln"}}</tool_call>'
KNOWS_NONE = Fail("Error", "UnsupportedModelIdError: tiny is not supported for ChatCompletionRequest.tools", "validate")


def read(text: str, size: int, **options: Any) -> tuple[str, list[tuple[str, Any]]]:
    """What is shown of an answer that comes in pieces of `size`, and the calls in it."""
    reader = prompted.Reader(Options(tools=(WEATHER, TIME), **options), "r")
    shown = "".join(reader.feed(text[start : start + size]) for start in range(0, len(text), size))
    rest, calls = reader.end()
    return shown + rest, [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]


KOELN = ("weather", {"town": "Köln"})


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(
    ("text", "shown", "calls"),
    [
        ("It is four o'clock.", "It is four o'clock.", []),
        (TAGGED, "", [KOELN]),
        ("I look.\n" + TAGGED, "I look.\n", [KOELN]),
        (TAGGED + "\n" + TAGGED.replace("weather", "time"), "", [KOELN, ("time", {"town": "Köln"})]),
        (TAGGED.removesuffix("</tool_call>"), "", [KOELN]),  # stopped at the tag
        (TAGGED + " and so on", "", [KOELN]),  # what it makes up as a result
        ('{"name": "weather", "parameters": {"town": "Köln"}}', "", [KOELN]),  # small models leave the tag away
        ('```json\n{"name": "time", "arguments": {}}\n```', "", [("time", {})]),
        ('{"name": "time", "arguments": "now"}', "", [("time", {})]),
        ('{"answer": 4}', '{"answer": 4}', []),  # JSON, but no call
        ("``", "``", []),
        ("a < b <tool", "a < b <tool", []),
        ('He wrote {"name": "time"}', 'He wrote {"name": "time"}', []),  # in the middle of a text it is a text
        ("", "", []),
    ],
)
def test_what_is_a_call(text: str, shown: str, calls: list[Any], size: int) -> None:
    """With the tag, without it, in a fence, several, in whichever pieces: a call is a call and the rest is text."""
    assert read(text, size) == (shown, calls)


@pytest.mark.parametrize("text", ["<tool_call>no", '<tool_call>{"name": "strange", "arguments": {}}</tool_call>', "<tool_call>{"])
def test_a_call_that_is_none(text: str) -> None:
    """A call that was begun and is none is of no use to anybody: once more, or elsewhere."""
    with pytest.raises(LocalError) as error:
        read(text, 3)
    assert (error.value.code, error.value.kind, error.value.reactions) == ("bad_tool_call", "capability", ("retry", "cloud"))


def test_a_call_that_was_demanded() -> None:
    """Then text is no answer, whatever it says; and only the tool that was named counts."""
    with pytest.raises(LocalError):
        read("It is four o'clock.", 3, tool_choice="required")
    with pytest.raises(LocalError):
        read(TAGGED, 3, tool_choice=TIME)
    assert read(TAGGED, 3, tool_choice=WEATHER) == ("", [KOELN])


def test_what_the_model_is_told() -> None:
    """The functions and the form of a call stand in the system turn; calls and results of the conversation become text."""
    called = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Köln"}'}}
    messages: tuple[dict[str, Any], ...] = (
        {"role": "system", "content": "Be brief."},
        *ASK,
        {"role": "assistant", "content": "I look.", "tool_calls": [called, {**called, "id": "2"}]},
        {"role": "tool", "tool_call_id": "1", "content": "rain"},
        {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "sun"}]},
        {"role": "user", "content": "So?", "name": "Ann"},
    )
    told = prompted.told(Call("r", messages, Options(tools=(WEATHER, TIME), temperature=0.0), "tiny"))
    system, *turns = told.messages
    assert system["content"].startswith("Be brief.\n\nYou can call these functions:\n<tools>\n")
    assert all(json.dumps(tool["function"], ensure_ascii=False) in system["content"] for tool in (WEATHER, TIME))
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[1]["content"] == f"I look.\n{TAGGED}\n{TAGGED}"
    assert turns[2]["content"].count("<tool_response>") == 2
    assert '{"name": "weather", "content": "sun"}' in turns[2]["content"]
    assert turns[2]["content"].endswith("</tool_response>\nSo?")
    assert (told.options.tools, told.options.tool_choice, told.options.temperature) == ((), None, 0.0)
    assert told.options.response_format is None


def test_the_engine_holds_a_demanded_call_to_its_form() -> None:
    """Where a call is demanded the grammar makes it: of the tool that was named, or of any of them."""
    one = prompted.told(
        Call("r", tuple(ASK), Options(tools=(WEATHER, TIME), tool_choice=WEATHER), "tiny")
    ).options.response_format
    assert one is not None
    schema = one["json_schema"]["schema"]
    assert schema["properties"] == {"name": {"enum": ["weather"]}, "arguments": WEATHER["function"]["parameters"]}
    each = prompted.told(Call("r", tuple(ASK), Options(tools=(WEATHER, TIME), tool_choice="required"), "tiny")).options
    assert each.response_format is not None
    assert len(each.response_format["json_schema"]["schema"]["anyOf"]) == 2


async def desk_with(**able: Any) -> Desk:
    """A model of which the index says that of its tools, and a cloud."""
    return await Desk(models=[entry("tiny", **able)]).ready()


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("closed", [{"private": True}, {"egress": "never"}])
def test_where_nobody_else_may_be_asked(closed: dict[str, Any], *, streaming: bool) -> None:
    """A private request with tools: the local model is told of them in words, and its call comes back as any other."""

    @virtual
    async def check() -> None:
        desk = await desk_with()
        desk.engine.scripts.append(["I ", "look. ", *TAGGED])
        asked = {**TOOLS, **closed, "request_id": "r"}
        if streaming:
            chunks = await desk.read(desk.hybrid.stream(ASK, asked))
            done = chunks[-1].completion
            assert done is not None
        else:
            done = await desk.hybrid.complete(ASK, asked)
        assert (done.text, done.provider, done.finish_reason) == ("I look. ", "local", "tool_calls")
        assert done.tool_calls == (
            {"id": "call-r-0", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Köln"}'}},
        )
        assert "tools" not in desk.engine.chats[0]["options"]
        assert (desk.upstream.chats, desk.free) == ([], True)

    check()


@virtual
async def test_a_whole_round() -> None:
    """Call, result, answer: the result goes back to the same model in words, and its text is the answer."""
    desk = await desk_with()
    desk.engine.scripts.extend([[TAGGED], ["It rains in Köln."]])
    asked = {**TOOLS, "private": True}
    first = await desk.hybrid.complete(ASK, asked)
    (call,) = first.tool_calls
    turn = {"role": "assistant", "content": first.text, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": call["id"], "content": "rain"}
    second = await desk.hybrid.complete([*ASK, turn, result], asked)
    assert (second.text, second.tool_calls) == ("It rains in Köln.", ())
    assert desk.engine.chats[1]["messages"][-1]["content"] == (
        '<tool_response>\n{"name": "weather", "content": "rain"}\n</tool_response>'
    )


@virtual
async def test_who_can_goes_first() -> None:
    """A cloud that may be asked is asked, and a model that is said to be no good at tools is not told of them."""
    desk = await desk_with()
    assert (await desk.hybrid.complete(ASK, TOOLS)).provider == "cloud"
    assert desk.engine.chats == []
    desk = await desk_with(tools=False)
    with pytest.raises(UnsupportedError):
        await desk.hybrid.complete(ASK, {**TOOLS, "private": True})


@virtual
async def test_an_engine_that_knows_none_after_all() -> None:
    """The index said that it can, its engine says no: once more in words, with no change of provider; then the cloud."""
    desk = await desk_with(tools=True)
    desk.engine.scripts.extend([[KNOWS_NONE], [TAGGED]])
    done = await desk.hybrid.complete(ASK, TOOLS)
    assert (done.provider, done.fallback, len(done.tool_calls), len(desk.engine.chats)) == ("local", None, 1, 2)
    desk.engine.default = [KNOWS_NONE]
    done = await desk.hybrid.complete(ASK, TOOLS)
    assert (done.provider, len(desk.engine.chats)) == ("cloud", 4)
    assert desk.hybrid.get_status()["breaker"]["local"] == "closed"


@virtual
async def test_no_call_twice_goes_to_the_cloud() -> None:
    """A demanded call that is none: once more, then the cloud makes it, and nothing of the text is left."""
    desk = await desk_with(tools=True)
    desk.engine.scripts.extend([[KNOWS_NONE], ["no"], [KNOWS_NONE], ["no"]])
    desk.upstream.default = ["Paris."]
    done = await desk.hybrid.complete(ASK, {**TOOLS, "tool_choice": "required"})
    assert done.fallback is not None
    assert (done.provider, done.fallback["error"]["code"], len(desk.engine.chats)) == ("cloud", "bad_tool_call", 4)
    assert done.text == "Paris."
    assert desk.free
