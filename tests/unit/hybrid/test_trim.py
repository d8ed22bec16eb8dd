"""A conversation that is longer than the window: trimmed and told, where that is allowed, else refused with both numbers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab.clock import virtual
from lab.desk import Desk, entry
from lab.engine import Fail, Sleep
from lab.upstream import Refuse

from hybr.webapp.hybrid import trim
from hybr.webapp.hybrid.errors import GatewayError, LocalError
from hybr.webapp.hybrid.profile import estimate_tokens

SYSTEM = {"role": "system", "content": "Be brief."}


def turn(role: str, number: int) -> dict[str, Any]:
    """A turn of about a hundred tokens."""
    return {"role": role, "content": f"#{number} " + "word " * 80}


TURNS = [turn(role, number) for number in range(6) for role in ("user", "assistant")]
LONG = [SYSTEM, *TURNS, {"role": "user", "content": "So?"}]


def engine_of(window: int) -> Any:
    """A script that says what WebLLM says when a prompt has more tokens (words, here) than the window holds."""

    def script(args: dict[str, Any]) -> list[Any]:
        tokens = sum(len(message["content"].split()) for message in args["messages"])
        said = f"number of prompt tokens: {tokens}; context window size: {window}\nConsider shortening"
        return ["ok"] if tokens <= window else [Fail("Error", f"ContextWindowSizeExceededError: {said}", "prefill")]

    return script


@virtual
async def test_the_oldest_turns_are_left_out_and_it_is_said() -> None:
    """Allowed: the same model is asked again with less; the completion says how much, the person's text is never cut."""
    desk = await Desk().ready()
    desk.engine.default = engine_of(300)
    done = await desk.hybrid.complete(LONG, {"trim": True})
    sent = desk.engine.chats[-1]["messages"]
    assert (done.text, done.provider, done.fallback) == ("ok", "local", None)
    assert sent[0] == SYSTEM
    assert sent[-1] == LONG[-1]
    assert sent[1:] == LONG[-len(sent) + 1 :]
    assert sent[1]["role"] == "user"
    assert done.trimmed == len(LONG) - len(sent) > 0
    assert done.note.startswith(f"The {done.trimmed} oldest messages were left out: the conversation has 975 tokens")
    assert desk.hybrid.get_usage_stats()["local"]["errors"] == 0
    assert desk.upstream.chats == []


@virtual
async def test_not_allowed_goes_to_the_cloud_or_names_both_numbers() -> None:
    """Without the wish the request goes to the cloud's larger window; where it may not, the error says how long and how large."""
    desk = await Desk().ready()
    desk.engine.default = engine_of(300)
    done = await desk.hybrid.complete(LONG)
    assert (done.provider, done.trimmed) == ("cloud", 0)
    assert done.fallback is not None
    assert done.fallback["error"]["code"] == "context_overflow"
    with pytest.raises(LocalError, match=r"has 975 tokens; the model's window holds 300.*trim") as error:
        await desk.hybrid.complete(LONG, {"private": True})
    assert (error.value.code, error.value.kind) == ("context_overflow", "capability")
    assert desk.hybrid.get_status()["breaker"]["local"] == "closed"


@virtual
async def test_a_question_that_is_too_long_by_itself() -> None:
    """The last question is never trimmed: with nothing else left the error names both numbers."""
    desk = await Desk().ready()
    desk.engine.default = engine_of(50)
    with pytest.raises(LocalError, match=r"window holds 50"):
        await desk.hybrid.complete_local([SYSTEM, turn("user", 1)], {"trim": True})
    with pytest.raises(LocalError, match=r"window holds 50"):
        await desk.hybrid.complete_local([*LONG[:-1], turn("user", 9)], {"trim": True})
    assert [len(chat["messages"]) for chat in desk.engine.chats] == [2, 14, 2]


@virtual
async def test_the_clouds_window_too() -> None:
    """The gateway's refusal is read alike; where it names no numbers our own estimate and the index speak."""
    desk = Desk()
    desk.upstream.scripts.append([Refuse(400, "context_overflow", "too long", retryable=False)])
    done = await desk.hybrid.complete(LONG, {"trim": True})
    assert (done.trimmed, done.note.count("left out")) == (8, 1)
    desk.upstream.scripts.append([Refuse(400, "context_overflow", "too long", retryable=False)])
    with pytest.raises(GatewayError, match=f"has {estimate_tokens(LONG):,} tokens; more than"):
        await desk.hybrid.complete(LONG)


@virtual
async def test_two_that_are_asked_at_once_each_say_their_own_numbers() -> None:
    """A hedged start whose both models find the conversation too long: the note is of the one whose text there is."""
    desk = await Desk().ready()
    await desk.hybrid.complete(LONG[-1:])  # measured, so that there may be a hedge
    long = [Fail("Error", f"number of prompt tokens: {have}; context window size: 300", "prefill") for have in (975, 400)]
    desk.engine.scripts.extend([[long[0]], [Sleep(90), long[1]], ["ok"]])
    desk.upstream.scripts.extend([[Refuse(400, "context_overflow", "too long", retryable=False)], [Sleep(100), "late"]])
    done = await desk.hybrid.complete(LONG, {"trim": True, "hedge": True})
    assert len(desk.upstream.chats) == 2
    assert (done.text, done.provider) == ("ok", "local")
    assert "the conversation has 975 tokens, the model's window holds 300" in done.note


@virtual
async def test_the_indexes_window_where_the_engine_names_none() -> None:
    """Wllama's message has no numbers: the model's entry has the window."""
    desk = await Desk(models=[entry("tiny", context=256)]).ready()
    desk.engine.scripts.append([Fail("ContextWindowSizeExceededError", "too much", "prefill")])
    with pytest.raises(LocalError, match="window holds 256"):
        await desk.hybrid.complete_local(LONG)


def test_tool_results_are_never_left_without_their_call() -> None:
    """An exchange goes as a whole."""
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    told = [turn("user", 1), call, {"role": "tool", "content": "x" * 400}, turn("assistant", 2), turn("user", 3)]
    assert trim.shorten((SYSTEM, *told), 300, 200, None) == (SYSTEM, told[-1])


@settings(max_examples=200, deadline=None)
@given(
    roles=st.lists(st.sampled_from(["user", "assistant", "tool"]), max_size=12),
    have=st.integers(1, 5000),
    window=st.integers(0, 4000),
    answer=st.none() | st.integers(1, 5000),
    system=st.booleans(),
)
def test_what_is_never_trimmed(roles: list[str], have: int, window: int, answer: int | None, *, system: bool) -> None:
    """Whatever the numbers: the system turn and the last question stay, order stays, and something goes if anything can."""
    messages = (*([SYSTEM] if system else []), *(turn(role, n) for n, role in enumerate(roles)), {"role": "user", "content": "?"})
    kept = trim.shorten(messages, have, window, answer)
    assert kept[-1] == messages[-1]
    assert not system or kept[0] == SYSTEM
    rest = kept[1:] if system else kept
    assert list(rest) == list(messages)[-len(rest) :]
    assert len(kept) < len(messages) or len(trim.exchanges(messages)) == 1
