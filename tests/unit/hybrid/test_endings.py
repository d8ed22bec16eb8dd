"""Ends that nobody foresaw, each with its one true end.

A runtime that cancels itself, a stop by a listener, two readers of one stream, a page that is closed in the middle of an answer,
half a character, a store that refuses, a stop sequence cut in two; and junk in every place of every method.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import ASK, Desk, MemoryStorage
from lab.engine import Die, Fail, Lost, Sleep
from lab.upstream import Cut, Refuse

from hybr.webapp.hybrid.errors import Aborted, CallerError, CloudError, HybridError, RefusedError

TEXT = "The capital of France is Paris."


async def ends(stream: Any) -> list[Any]:
    """The deltas that a reader gets, then `done` or the error; then what comes when they ask again."""
    seen: list[Any] = []
    for _ in range(2):
        try:
            while True:
                chunk = await anext(stream)
                seen.append("done" if chunk.done else chunk.delta)
        except StopAsyncIteration:
            continue
        except HybridError as error:
            seen.append(error)
    return seen


@pytest.mark.parametrize("how", [asyncio.CancelledError, GeneratorExit])
@pytest.mark.parametrize("streaming", [True, False])
def test_a_runtime_that_cancels_itself(how: type[BaseException], *, streaming: bool) -> None:
    """Nobody pressed stop: it is a failure of the provider, typed, with the text, and another may go on."""

    @virtual
    async def check() -> None:
        desk = await Desk().ready(mode="cloud-only")

        async def chat(call: Any, emit: Any) -> Any:
            emit("The ")
            raise how

        desk.gateway.chat = chat  # type: ignore[method-assign]
        if streaming:
            seen = await ends(desk.hybrid.stream(ASK))
            assert seen[0] == "The "
            error = seen[1]
            assert len(seen) == 2
        else:
            with pytest.raises(CloudError) as raised:
                await desk.hybrid.complete(ASK)
            error = raised.value
        assert (error.code, error.text, type(error)) == ("broke_off", "The ", CloudError)
        desk.hybrid.set_mode("cloud")
        assert (await desk.hybrid.complete(ASK)).handover["error"]["code"] == "broke_off"  # type: ignore[index]
        assert desk.free

    check()


@virtual
async def test_a_task_that_is_cancelled_from_outside() -> None:
    """Whoever ends our task (a loop that is closed), the reader is told."""
    desk = await Desk().ready()
    stream = desk.hybrid.stream(ASK)
    reader = asyncio.create_task(ends(stream))
    await asyncio.sleep(0.025)
    task = stream._run._task
    assert task is not None
    task.cancel()
    *shown, error = await reader
    assert isinstance(error, Aborted)
    assert error.text.startswith("".join(shown))
    await asyncio.sleep(1)
    assert desk.free


@pytest.mark.parametrize(
    ("name", "streaming"), [("cost:updated", True), ("cost:updated", False), ("hybrid-llm:stream-chunk", True)]
)
def test_a_stop_by_a_listener_at_the_very_end(name: str, *, streaming: bool) -> None:
    """Who stops when they hear the price, or the last word, gets the stop and no `done` beside it; it is booked once."""

    @virtual
    async def check() -> None:
        desk = await Desk().ready()
        desk.engine.scripts.append([TEXT])
        desk.events.on(name, lambda detail: desk.hybrid.abort(detail["request_id"]))
        if streaming:
            *shown, error = await ends(desk.hybrid.stream(ASK))
            assert set(shown) <= {TEXT}
            assert isinstance(error, Aborted)
        else:
            with pytest.raises(Aborted):
                await desk.hybrid.complete(ASK)
        assert desk.of("hybrid-llm:complete") == []
        assert desk.hybrid.get_usage_stats()["local"]["requests"] == 1
        await asyncio.sleep(1)
        assert desk.free

    check()


@virtual
async def test_a_stop_by_a_listener_to_the_last_held_back_words() -> None:
    """The end of a continuation is shown when its model is done; who stops then, stops."""
    desk = await Desk().ready()
    desk.engine.scripts.append(["The capital of ", Die()])
    desk.upstream.default = ["of"]  # the beginning of a repetition: held back to the end
    desk.events.on("hybrid-llm:stream-chunk", lambda told: desk.hybrid.abort() if told["provider"] == "cloud" else None)
    *shown, error = await ends(desk.hybrid.stream(ASK))
    assert shown == ["The capital of "]
    assert isinstance(error, Aborted)
    await asyncio.sleep(60)
    assert desk.free


@pytest.mark.parametrize("name", ["hybrid-llm:fallback", "hybrid-llm:handover", "local-llm:error", "local-llm:unloaded"])
@pytest.mark.parametrize("step", [Die(), Fail("Error", "failed to sample a valid token")])
def test_a_stop_by_a_listener_to_the_failure(name: str, step: Any) -> None:
    """Who stops when they hear of the failure, or of the change, is not answered by the cloud."""

    @virtual
    async def check() -> None:
        desk = await Desk().ready()
        desk.engine.scripts.append([step] if name == "hybrid-llm:fallback" else ["The ", step])
        desk.events.on(name, lambda _: desk.hybrid.abort())
        *_, error = await ends(desk.hybrid.stream(ASK))
        assert isinstance(error, Aborted)
        changes = len(desk.of("hybrid-llm:fallback")) + len(desk.of("hybrid-llm:handover"))
        assert changes == name.startswith("hybrid")
        await asyncio.sleep(60)
        assert desk.upstream.chats == []
        assert desk.hybrid.get_usage_stats()["cloud"]["requests"] == 0
        assert desk.free

    check()


@virtual
async def test_two_readers_of_one_stream() -> None:
    """Each piece goes to one of them, and both learn of the end."""
    desk = await Desk().ready()
    stream = desk.hybrid.stream(ASK)
    first, second = await asyncio.gather(ends(stream), ends(stream))
    assert len([*first, *second]) == 8
    assert [*first, *second].count("done") == 1


@virtual
async def test_half_a_character() -> None:
    """A runtime that cuts between the halves of a character: it is put together, also across a change of provider."""
    desk = await Desk().ready()
    desk.engine.scripts.append(["hi \ud83d", "\ude00", " there \ud83d", Die()])
    said = ["\\ude00 and \\ud83d", "more\\ud83d"]  # as JSON has them: no UTF-8 could
    desk.upstream.default = [f'data: {{"choices":[{{"delta":{{"content":"{one}"}}}}]}}\n\n'.encode() for one in said] + [
        b"data: [DONE]\n\n"
    ]
    chunks = await desk.read(desk.hybrid.stream(ASK))
    done = chunks[-1].completion
    assert done is not None
    assert done.text == "hi \U0001f600 there \ufffd and \ufffdmore\ufffd"
    assert done.handover is not None
    assert done.handover["at_chars"] == 12
    assert all("\ufffd" not in chunk.delta for chunk in chunks if chunk.provider == "local")
    await asyncio.sleep(60)


@virtual
async def test_what_a_listener_does_to_an_event_is_its_own() -> None:
    """The answer and the books keep what was told, whatever a listener makes of it."""
    desk = await Desk().ready()
    desk.engine.scripts.append([Die()])

    def spoil(detail: dict[str, Any]) -> None:
        detail["error"].clear()
        detail.clear()

    desk.events.on("hybrid-llm:fallback", spoil)
    done = await desk.hybrid.complete(ASK)
    assert done.fallback is not None
    assert done.fallback["error"]["code"] == "engine_died"
    assert desk.hybrid.get_usage_stats()["fallbacks"][0]["error"]["code"] == "engine_died"
    await asyncio.sleep(60)


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("how", ["mode", "policy"])
def test_closed_in_the_middle(how: str, *, shown: bool, streaming: bool) -> None:
    """The page becomes local-only, or lets nothing out, while an answer is under way: what fails then fails closed."""

    @virtual
    async def check() -> None:
        desk = await Desk().ready()
        desk.engine.scripts.append([*(["The "] if shown else []), Sleep(0.02), Fail()])

        def close() -> None:
            desk.hybrid.set_mode("local-only") if how == "mode" else desk.hybrid.set_egress_policy("never")

        asyncio.get_running_loop().call_later(0.005, close)
        asking = desk.read(desk.hybrid.stream(ASK)) if streaming else desk.hybrid.complete(ASK)
        with pytest.raises(RefusedError, match=r"Nothing was sent to the cloud: .*(local-only|never)") as error:
            await asking
        assert error.value.text == ("The " if shown else "")
        assert error.value.__cause__ is not None
        assert (desk.upstream.chats, desk.of("hybrid-llm:fallback"), desk.of("hybrid-llm:handover")) == ([], [], [])
        (told,) = desk.of("egress:refused")
        assert told["cause"] == ("handover" if shown else "fallback")
        assert desk.free

    check()


@virtual
async def test_closed_while_the_plan_was_made() -> None:
    """Between the plan and the call the page may be closed: the first leg is asked no more than a second."""
    desk = await Desk().ready(mode="cloud")
    task = asyncio.create_task(desk.hybrid.complete(ASK, {"model": "unheard-of"}))  # the index is looked at first
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    desk.hybrid.set_mode("local-only")
    with pytest.raises((RefusedError, CallerError)):
        await task
    assert desk.upstream.chats == []


class Full(MemoryStorage):
    """A store that takes nothing."""

    def refuse(self, *_: object) -> None:
        """As a browser does whose disk is full."""
        raise OSError("no space left")

    set = assign = add = refuse  # type: ignore[assignment]


@virtual
async def test_a_store_that_refuses() -> None:
    """It costs what would be remembered: loading, modes, answers and books go on for as long as the page lives."""
    desk = await Desk(storage=Full({"ledger": "{damaged"})).ready()
    assert (await desk.hybrid.complete(ASK)).provider == "local"
    desk.engine.scripts.append(["The ", Die()])
    assert (await desk.read(desk.hybrid.stream(ASK)))[-1].provider == "cloud"
    assert desk.hybrid.set_budget({"month": 5})["month"]["limit"] == 5
    assert desk.hybrid.get_usage_stats()["month"]["total"]["requests"] == 3
    await asyncio.sleep(60)


@pytest.mark.parametrize("now", [-5.0, 1e18, float("nan"), float("inf")])
def test_a_clock_that_shows_nonsense(now: float) -> None:
    """Whatever the wall clock says, an answer is an answer, and it is booked to some month."""

    @virtual
    async def check() -> None:
        desk = await Desk(now=lambda: now).ready()
        assert (await desk.hybrid.complete(ASK)).text == TEXT
        month = desk.hybrid.get_usage_stats()["month"]
        assert (month["name"], month["total"]["requests"]) == ("1970-01", 1)

    check()


KINDS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "plain": ([], {}),
    "handover": ([["The ", "cap", Die()]], {}),
    "restart": ([["The ", Die()]], {"response_format": {"type": "json_object"}}),
    "fallback": ([[Lost()]], {}),
    "once more": ([[Fail("ToolCallOutputParseError", "no")], ["a"]], {"response_format": {"type": "json_object"}}),
    "simpler": ([[Fail("GrammarMatcherInitError", "no")]], {"response_format": {"type": "json_object", "schema": {"not": {}}}}),
    "ask": ([["The ", Die()]], {"egress": "ask"}),
    "hedge": ([[Sleep(20), "x"]], {"hedge": True}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_at_every_turn_of_the_loop(kind: str) -> None:
    """Wherever a request stands when it is stopped, the stop is its one end, nothing follows it, and everything is free."""

    async def check(turns: int) -> None:
        desk = await Desk().ready()
        await desk.hybrid.complete(ASK)  # so that there is a profile, without which nothing is hedged
        scripts, more = KINDS[kind]
        desk.engine.scripts.extend(scripts)
        reader = asyncio.create_task(ends(desk.hybrid.stream(ASK, {"request_id": "r", **more})))
        for turn in range(turns):
            await asyncio.sleep(0 if turn < 40 else 0.05)
        stopped, before = desk.hybrid.abort("r"), len(desk.seen)
        seen = await reader
        *shown, end = seen
        assert all(isinstance(one, str) and one != "done" for one in shown)
        assert isinstance(end, Aborted) if stopped else end == "done"
        await asyncio.sleep(60)
        told = {name for name, _ in desk.seen[before:]}
        assert not stopped or not told & {"hybrid-llm:fallback", "hybrid-llm:handover", "hybrid-llm:stream-chunk", "egress:sent"}
        assert desk.free
        await desk.local.settled()

    for turns in range(0, 60, 2):
        virtual(check)(turns)


@pytest.mark.parametrize("streaming", [True, False])
def test_a_stop_sequence_in_two_halves(*, streaming: bool) -> None:
    """One model began the stop sequence and another ends it: there the answer ends, and the rest is neither shown nor made."""

    @virtual
    async def check() -> None:
        desk = await Desk().ready()
        desk.engine.scripts.append(["one two E", Die()])
        desk.upstream.default = ["one two E", "N", "D three", *[" more"] * 1000]
        asked = {"stop": ["END"]}
        if streaming:
            done = (await desk.read(desk.hybrid.stream(ASK, asked)))[-1].completion
            assert done is not None
        else:
            done = await desk.hybrid.complete(ASK, asked)
        assert (done.text, done.finish_reason, done.provider) == ("one two E", "stop", "cloud")
        assert done.usage.estimated
        await asyncio.sleep(1)
        assert desk.free  # the cloud's stream was closed, not read to its end
        await asyncio.sleep(60)

    check()


@virtual
async def test_a_handover_that_is_too_long_keeps_its_question() -> None:
    """Trimmed to the bone, a model that is to go on still gets the question, and the answer it is to go on with."""
    desk = await Desk().ready()
    old = [{"role": "user", "content": "q " * 200}, {"role": "assistant", "content": "a " * 200}] * 3
    desk.engine.scripts.append(["The capital ", Die()])
    desk.upstream.scripts.extend([[Refuse(400, "context_length_exceeded")]] * 2)
    desk.upstream.default = ["The capital of France."]
    done = await desk.hybrid.complete([*old, *ASK], {"trim": True})
    assert (done.text, done.trimmed) == ("The capital of France.", 6)
    assert [turn["content"][:12] for turn in desk.upstream.chats[-1]["messages"]] == [
        "What is the ",
        "The capital ",
        "Your last me",
    ]
    await asyncio.sleep(60)


@virtual
async def test_a_tool_call_cut_in_the_middle_of_its_json() -> None:
    """Half a call from the cloud is no call: the next model makes it anew, and nothing of the half is left."""
    desk = Desk(models=None)
    desk.upstream.files["/models/index.json"]["models"][0]["tools"] = True
    await desk.ready(mode="cloud")
    call = {"index": 0, "id": "1", "function": {"name": "f", "arguments": '{"x": 1'}}
    half = f"data: {json.dumps({'choices': [{'delta': {'tool_calls': [call]}}]})}\n\n".encode()
    desk.upstream.default = [half, Cut()]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    done = await desk.hybrid.complete(ASK, {"tools": [tool]})
    assert (done.provider, done.tool_calls) == ("local", ())
    assert done.fallback is not None
    assert done.text == TEXT


JUNK: list[Any] = [None, 5, "x", [], {}, float("nan"), True, b"x", object(), ["a"], {"a": 1}, 10**400, 10**5000, "\ud800"]
METHODS = {
    "set_mode": 1,
    "abort": 1,
    "resume": 4,
    "answer_egress": 2,
    "set_egress_policy": 1,
    "set_recovery": 1,
    "save_persona": 2,
    "delete_persona": 1,
    "set_persona": 1,
    "set_budget": 1,
    "set_rate_limits": 1,
    "set_auto_switch_config": 1,
    "sides_of": 1,
    "estimate": 2,
    "generate_with_model": 2,
    "init": 1,
    "complete": 2,
    "stream": 2,
}


@pytest.mark.parametrize("method", METHODS)
def test_junk_in_any_place(method: str) -> None:
    """Whatever is handed to whatever method, it answers, or raises one of our own errors: never a bug's."""

    @virtual
    async def check() -> None:
        desk = await Desk().ready()
        right = {"resume": [ASK, "shown"], "estimate": [ASK], "complete": [ASK], "stream": [ASK]}.get(method, [])
        right = [*right, *[None] * METHODS[method]][: METHODS[method]]
        codes: set[str] = set()
        for junk in JUNK:
            for place in range(METHODS[method]):
                args = [junk if index == place else one for index, one in enumerate(right)]
                try:
                    answer = getattr(desk.hybrid, method)(*args)
                    if hasattr(answer, "aclose"):
                        await answer.aclose()
                    elif asyncio.iscoroutine(answer):
                        await answer
                except HybridError as error:
                    codes.add(error.code)
            desk.hybrid.init()
        assert "internal" not in codes
        assert desk.free

    check()


SETTINGS: list[tuple[str, Any]] = [
    ("set_auto_switch_config", {"weights": {"speed": 10**400}}),
    ("set_auto_switch_config", {"weights": {5: 1}}),
    ("set_auto_switch_config", {"priority": [[], {}]}),
    ("set_auto_switch_config", {"priority": ["local", 5]}),
    ("set_auto_switch_config", {"max_wait_s": 10**5000}),
    ("set_auto_switch_config", {"budget": 10**400}),
    ("set_budget", {"month": 10**400}),
    ("set_budget", {"month": float("nan")}),
    ("set_rate_limits", {"cloud": 10**400}),
]


@pytest.mark.parametrize(("method", "change"), SETTINGS, ids=[str(number) for number in range(len(SETTINGS))])
def test_settings_that_no_arithmetic_bears(method: str, change: Any) -> None:
    """A number beyond a double's range is refused where it is set, and does not fail every later request."""
    desk = Desk()
    with pytest.raises(CallerError):
        getattr(desk.hybrid, method)(change)
    desk.hybrid.report()
