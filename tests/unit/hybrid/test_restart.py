"""What becomes of an answer whose model fails in the middle: continue, restart, stop; and LiteLLM's three public bugs."""

from __future__ import annotations

from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import ASK, Desk, entry
from lab.engine import Fail
from lab.upstream import Cut, Event, Refuse, Tail

from hybr.webapp.hybrid.errors import GatewayError, HybridError, LocalError, OptionError
from hybr.webapp.hybrid.types import Part

SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
UNWELL = Fail("GrammarMatcherInitError", "no", "decode")  # no failure of health: the breaker stays closed
GONE = Fail("OperationError", "Device is lost")


async def able() -> Desk:
    """A desk whose local model takes all there is."""
    return await Desk(models=[entry("tiny", tools=True, vision=True)]).ready()


async def until_error(stream: Any) -> tuple[list[Any], Exception]:
    """The chunks, and the exception that ended them."""
    chunks: list[Any] = []
    try:
        while True:
            chunks.append(await anext(stream))
    except HybridError as error:
        return chunks, error


@virtual
async def test_half_a_document_begins_anew_and_says_so() -> None:
    """Constrained output: the second model's segment is marked, its text begins anew, and what was shown is kept, struck."""
    desk = await able()
    desk.engine.scripts.append(['{"a', '": ', GONE])
    desk.upstream.scripts.append(['{"b"', ": 1}"])
    chunks = await desk.read(desk.hybrid.stream(ASK, {"response_format": SCHEMA}))
    seen = [(chunk.delta, chunk.text, chunk.segment, chunk.restart, chunk.provider) for chunk in chunks]
    assert seen[:2] == [('{"a', '{"a', 0, False, "local"), ('": ', '{"a": ', 0, False, "local")]
    assert seen[2:] == [
        ('{"b"', '{"b"', 1, True, "cloud"),
        (": 1}", '{"b": 1}', 1, False, "cloud"),
        ("", '{"b": 1}', 1, False, "cloud"),
    ]
    done = chunks[-1].completion
    assert done.parts == (
        Part("local", "tiny", 0, "mode", struck=True, text='{"a": '),
        Part("cloud", "house-model", 0, "restart"),
    )
    (told,) = desk.of("hybrid-llm:handover")
    assert (told["restart"], told["cause"], told["at_chars"], done.segments) == (True, "device_lost", 6, 2)
    assert [detail.get("restart") for detail in desk.of("hybrid-llm:stream-chunk")] == [None, None, True, None]
    assert desk.upstream.chats[0]["messages"] == ASK
    await desk.local.unload()


NO_CALL = Fail("ToolCallOutputParseError", "Unexpected token in JSON", "decode")


@virtual
async def test_a_tool_call_that_is_none_is_asked_for_once_more() -> None:
    """The same model anew, marked as such, and no change of provider; what it spent in vain is booked as its error."""
    desk = await able()
    desk.engine.scripts.extend([['{"na', NO_CALL], ['{"name": ', '"f"}']])
    chunks = await desk.read(desk.hybrid.stream(ASK, {"tools": [TOOL]}))
    assert [(chunk.text, chunk.restart, chunk.provider) for chunk in chunks[:3]] == [
        ('{"na', False, "local"), ('{"name": ', True, "local"), ('{"name": "f"}', False, "local"),
    ]  # fmt: skip
    parts = [(part.provider, part.cause, part.struck, part.text) for part in chunks[-1].completion.parts]
    assert parts == [("local", "mode", True, '{"na'), ("local", "restart", False, "")]
    assert (desk.upstream.chats, desk.of("hybrid-llm:handover"), desk.of("hybrid-llm:fallback")) == ([], [], [])
    local = desk.hybrid.get_usage_stats()["local"]
    assert (local["requests"], local["errors"], local["fallbacks"]) == (2, 1, 0)
    assert desk.free


@pytest.mark.parametrize("shown", [True, False])
@virtual
async def test_it_is_asked_for_once_more_and_not_again(*, shown: bool) -> None:
    """Two in vain: the cloud answers, by the one change of provider; nobody who reads only the end sees any of it."""
    desk = await able()
    vain = ['{"na', NO_CALL] if shown else [NO_CALL]
    desk.engine.scripts.extend([vain, vain])
    done = await desk.hybrid.complete(ASK, {"tools": [TOOL]})
    assert (done.text, done.provider, len(desk.engine.chats), len(desk.upstream.chats)) == ("It is Paris.", "cloud", 2, 1)
    assert done.fallback is not None
    assert (done.fallback["error"]["code"], len(desk.of("hybrid-llm:fallback"))) == ("bad_tool_call", 1)
    assert [part.text for part in done.parts if part.struck] == ['{"na', '{"na'] * shown
    desk.engine.scripts.extend([vain, ["fine"]])
    assert (await desk.hybrid.complete(ASK, {"tools": [TOOL]})).text == "fine"
    assert desk.free


@virtual
async def test_plain_text_is_gone_on_with_and_not_asked_for_anew() -> None:
    """Where another model can go on from what was shown, nothing of it is taken back."""
    desk = await able()
    desk.engine.scripts.append(["It is", NO_CALL])
    desk.upstream.scripts.append(["It is Paris."])
    chunks = await desk.read(desk.hybrid.stream(ASK))
    assert (chunks[-1].text, len(desk.engine.chats), any(chunk.restart for chunk in chunks)) == ("It is Paris.", 1, False)


@virtual
async def test_a_restart_that_has_nothing_to_say() -> None:
    """The second model answers with a tool call and no text: the last chunk itself is the one that is marked."""
    desk = await able()
    desk.engine.scripts.append(["Let me ", GONE])
    call = {"index": 0, "id": "c1", "function": {"name": "look_up", "arguments": "{}"}}
    desk.upstream.scripts.append([Event({"choices": [{"delta": {"tool_calls": [call]}}]}), Tail(reason="tool_calls")])
    chunks = await desk.read(desk.hybrid.stream(ASK, {"tools": [TOOL]}))
    assert (chunks[-1].restart, chunks[-1].text, chunks[-1].done) == (True, "", True)
    assert chunks[-1].completion.tool_calls[0]["function"]["name"] == "look_up"
    assert chunks[-1].completion.parts[0].text == "Let me "
    await desk.local.unload()


@virtual
async def test_a_restart_that_fails_takes_nothing_back() -> None:
    """The second model fails before its first word: the error has what was shown, and nothing is struck."""
    desk = await able()
    desk.engine.scripts.append(['{"a": ', GONE])
    desk.upstream.scripts.append([Refuse()])
    chunks, error = await until_error(desk.hybrid.stream(ASK, {"response_format": SCHEMA}))
    assert isinstance(error, GatewayError)
    assert error.text == chunks[-1].text == '{"a": '
    assert [part.struck for part in error.parts] == [False]
    await desk.local.unload()


@virtual
async def test_a_restart_that_fails_late_keeps_both_texts() -> None:
    """The second model fails after some words: its text is the error's, the first one's is in the struck part."""
    desk = await able()
    desk.engine.scripts.append(['{"a": ', GONE])
    desk.upstream.scripts.append(['{"b"', Cut()])
    chunks, error = await until_error(desk.hybrid.stream(ASK, {"response_format": SCHEMA}))
    assert isinstance(error, GatewayError)
    assert error.text == chunks[-1].text == '{"b"'
    assert [(part.struck, part.text) for part in error.parts] == [(True, '{"a": '), (False, "")]
    await desk.local.unload()


@pytest.mark.parametrize("how", ["option", "preference"])
def test_restart_as_a_persons_wish(how: str) -> None:
    """`restart` holds for plain text too, for one request or for all; `stop` for one goes before it."""

    @virtual
    async def check() -> None:
        desk = await Desk().ready()
        if how == "preference":
            assert desk.hybrid.set_recovery({"handover": "restart"})["handover"] == "restart"
        options = {"handover": "restart"} if how == "option" else {}
        desk.engine.scripts.append(["The cap", UNWELL])
        chunks = await desk.read(desk.hybrid.stream(ASK, options))
        assert (chunks[-1].text, chunks[1].restart, chunks[1].text) == ("It is Paris.", True, "It ")
        desk.engine.scripts.append(["The cap", UNWELL])
        done = await desk.hybrid.complete(ASK, options)
        assert (done.text, done.fallback is not None and done.fallback["restart"]) == ("It is Paris.", True)
        assert [(part.struck, part.text) for part in done.parts] == [(True, "The cap"), (False, "")]
        desk.engine.scripts.append(["The cap", UNWELL])
        with pytest.raises(LocalError) as error:
            await desk.hybrid.complete(ASK, {"handover": "stop"})
        assert error.value.text == "The cap"

    check()


@virtual
async def test_stop_is_only_for_the_middle() -> None:
    """With `stop` an answer that has not begun falls back as ever."""
    desk = await Desk().ready()
    desk.engine.scripts.append([Fail()])
    assert (await desk.hybrid.complete(ASK, {"handover": "stop"})).provider == "cloud"


@virtual
async def test_litellm_bug_the_system_prompt_is_clobbered() -> None:
    """LiteLLM's mid-stream fallback replaced the system prompt by its continuation prompt: ours stays, first and unchanged."""
    desk = await Desk().ready()
    system = {"role": "system", "content": "Answer like a pirate."}
    desk.engine.scripts.append(["Arr, the ", Fail()])
    await desk.hybrid.complete([system, *ASK])
    sent = desk.upstream.chats[0]["messages"]
    assert sent[:2] == [system, *ASK]
    assert [message["role"] for message in sent].count("system") == 1


@virtual
async def test_litellm_bug_a_400_where_prefill_is_not_supported() -> None:
    """LiteLLM sent an assistant's turn last to models that refuse that: ours does so only where `/v1/models` says prefill."""
    for prefill in (True, False):
        desk = Desk()
        desk.upstream.files["/v1/models"] = {"data": [{"id": "m", "capabilities": {"prefill": prefill}}]}
        await desk.gateway.check()
        await desk.ready()
        desk.engine.scripts.append(["The ", Fail()])
        await desk.hybrid.complete(ASK)
        assert (desk.upstream.chats[0]["messages"][-1]["role"] == "assistant") is prefill


@virtual
async def test_litellm_bug_tool_calls_turn_into_prose() -> None:
    """LiteLLM dropped the tools of a continued request and got prose: ours sends them all, and begins anew."""
    desk = await able()
    desk.engine.scripts.append(["Calling ", Fail()])
    options = {"tools": [TOOL], "tool_choice": "required", "response_format": {"type": "json_object"}}
    chunks = await desk.read(desk.hybrid.stream(ASK, options))
    assert {name: desk.upstream.chats[0][name] for name in options} == options
    assert desk.upstream.chats[0]["messages"] == ASK
    assert chunks[1].restart


@virtual
async def test_the_settings() -> None:
    """They are kept; nonsense is refused by name and changes nothing; nonsense that was stored is the default."""
    desk = Desk()
    assert desk.hybrid.get_recovery() == {"handover": "continue", "hedge": False, "trim": False, "make_room": True}
    for change, field in [
        ({"handover": "x"}, "recovery.handover"),
        ({"hedge": 1}, "recovery.hedge"),
        ({"make_room": "no"}, "recovery.make_room"),
        ({"x": 1}, "recovery.x"),
    ]:
        with pytest.raises(OptionError) as error:
            desk.hybrid.set_recovery({"trim": True, **change})
        assert error.value.field == field
    with pytest.raises(OptionError):
        desk.hybrid.set_recovery(None)
    assert desk.hybrid.get_recovery()["trim"] is False
    desk.hybrid.set_recovery({"hedge": True})
    assert Desk(storage=desk.storage).hybrid.get_recovery()["hedge"] is True
    desk.preferences.set("handover", 3)
    assert desk.hybrid.get_recovery()["handover"] == "continue"
