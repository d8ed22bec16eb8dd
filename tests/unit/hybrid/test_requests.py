"""What a request does when all goes well and when it does not: the blueprint's checklist and the old defects D1 to D21."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import ASK, Desk, entry
from lab.engine import Die, End, Fail, Lost, Sleep, Stall
from lab.upstream import Cut, Refuse, Tail, Unreachable

from hybr.webapp.hybrid.errors import (
    Aborted,
    CallerError,
    CloudUnavailableError,
    EngineDiedError,
    GatewayError,
    HybridError,
    LocalError,
    LocalUnavailableError,
    OptionError,
    RefusedError,
    TimedOut,
    UnknownModelError,
)

LOCAL, CLOUD = "The capital of France is Paris.", "It is Paris."


@virtual
async def test_local_answers_whole() -> None:
    """A completion from the local model has text, usage, rates and model, and is announced once."""
    desk = await Desk().ready()
    done = await desk.hybrid.complete(ASK, {"request_id": "one"})
    assert (done.text, done.provider, done.model) == (LOCAL, "local", "tiny")
    assert done.usage.to_dict() == {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    assert done.timings.prefill_tps == 50.0
    assert done.tokens_per_second == pytest.approx(100)
    assert (done.cost, done.fallback, done.egress) == (0.0, None, None)
    (detail,) = desk.of("hybrid-llm:complete")
    assert {name: detail[name] for name in ("provider", "model", "request_id")} == {
        "provider": "local",
        "model": "tiny",
        "request_id": "one",
    }
    assert desk.free


@virtual
async def test_cloud_answers_whole() -> None:
    """A completion from the cloud has its usage, the house's cost of nothing, and a receipt of what left."""
    desk = Desk()
    done = await desk.hybrid.complete(ASK)
    assert (done.text, done.provider, done.model, done.cost) == (CLOUD, "cloud", "house-model", 0.0)
    assert done.usage.total_tokens == 12
    assert done.egress is not None
    assert done.egress["bytes"] > len(ASK[0]["content"])
    assert done.egress["cause"] == "mode"
    assert done.timings.ttft_ms is not None
    assert 0 < done.timings.ttft_ms < done.timings.total_ms
    assert done.to_dict()["elapsed"] == done.timings.total_ms


@virtual
async def test_d1_a_stream_falls_back_before_its_first_token() -> None:
    """D1: the engine dies before the first token; the stream goes on from the cloud with one fallback event."""
    desk = await Desk().ready()
    desk.engine.scripts.append([Sleep(0.1), Die()])
    chunks = await desk.read(desk.hybrid.stream(ASK, {"request_id": "d1"}))
    assert chunks[-1].text == CLOUD
    assert {chunk.provider for chunk in chunks} == {"cloud"}
    (detail,) = desk.of("hybrid-llm:fallback")
    assert (detail["from"], detail["to"], detail["request_id"]) == ("local", "cloud", "d1")
    assert detail["error"]["code"] == "engine_died"
    assert chunks[-1].completion is not None
    assert chunks[-1].completion.fallback == detail
    await desk.local.cancel_load()
    await desk.local.unload()


@pytest.mark.parametrize("mode", ["local", "cloud"])
def test_d2_the_last_chunk_has_usage_and_timings(mode: str) -> None:
    """D2: on both sides the stream ends with one chunk that is done and has usage, timings and cost."""

    @virtual
    async def check() -> None:
        desk = await Desk().ready(mode="local")
        desk.hybrid.set_mode(mode)
        chunks = await desk.read(desk.hybrid.stream(ASK))
        last = chunks[-1]
        assert last.provider == mode
        assert last.usage is not None
        assert last.usage.completion_tokens > 0
        assert last.timings is not None
        assert last.timings.ttft_ms is not None
        assert last.cost == 0.0
        assert all(chunk.usage is chunk.timings is chunk.cost is None for chunk in chunks[:-1])
        assert last.to_dict()["done"] is True
        assert chunks[0].to_dict() == {"delta": chunks[0].delta, "done": False, "provider": mode, "segment": 0}

    check()


@virtual
async def test_d4_a_fallback_is_booked_to_those_who_spent() -> None:
    """D4: after a fallback the tokens are the cloud's, the error is the local model's, and one fallback is counted."""
    desk = await Desk().ready()
    desk.engine.scripts.append([Fail("OperationError", "Device is lost")])
    await desk.hybrid.complete(ASK)
    stats = desk.hybrid.get_usage_stats()
    assert (stats["local"]["requests"], stats["local"]["errors"], stats["local"]["tokens"]) == (1, 1, 0)
    assert (stats["cloud"]["requests"], stats["cloud"]["errors"], stats["cloud"]["tokens"]) == (1, 0, 12)
    assert stats["fallback_count"] == 1
    assert stats["fallbacks"][0]["from"] == "local"
    await desk.local.unload()


@virtual
async def test_d6_temperature_zero_reaches_both_sides() -> None:
    """D6: an option of 0 is an option, locally and in the cloud."""
    desk = await Desk().ready()
    asked = {"temperature": 0, "max_output_tokens": 5, "top_p": 0.5, "seed": 0, "stop": "x"}
    want = {"temperature": 0, "max_tokens": 5, "top_p": 0.5, "seed": 0, "stop": ["x"]}
    await desk.hybrid.complete(ASK, asked)
    assert desk.engine.chats[0]["options"] == want
    await desk.hybrid.complete_cloud(ASK, asked)
    assert {name: desk.upstream.chats[0][name] for name in want} == want


@virtual
async def test_d7_the_account_is_filled_by_every_request() -> None:
    """D7: usage and cost come back from the cloud and reach event and account."""
    desk = Desk()
    desk.upstream.default = ["hi", Tail({"prompt_tokens": 10, "completion_tokens": 20, "cost": 0.25})]
    for _ in range(3):
        await desk.hybrid.complete(ASK)
    assert desk.hybrid.get_usage_stats()["cloud"]["cost"] == pytest.approx(0.75)
    assert desk.hybrid.get_usage_stats()["cloud"]["tokens"] == 90
    assert [detail["cost"] for detail in desk.of("cost:updated")] == [0.25] * 3
    assert len(desk.of("hybrid-llm:complete")) == 3


@virtual
async def test_d8_a_stop_never_falls_back() -> None:
    """D8: a stop while the local model is at work ends the request and asks nobody else."""
    desk = await Desk().ready()
    stream = desk.hybrid.stream(ASK, {"request_id": "s"})
    first = await anext(stream)
    assert desk.hybrid.abort("s") is True
    with pytest.raises(Aborted) as stop:
        await anext(stream)
    assert stop.value.text == first.text
    assert stop.value.usage is not None
    assert stop.value.usage.completion_tokens == 1
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    await asyncio.sleep(1)
    assert desk.upstream.chats == []
    assert desk.of("hybrid-llm:fallback") == []
    assert desk.free
    assert desk.hybrid.get_usage_stats()["local"]["stopped"] == 1


@virtual
async def test_d9_cloud_never_falls_back_to_cloud() -> None:
    """D9: with no local model a failing cloud is asked once and raises."""
    desk = Desk()
    desk.upstream.default = [Refuse(503, "no_model")]
    with pytest.raises(GatewayError) as error:
        await desk.hybrid.complete(ASK)
    assert (error.value.status, error.value.code, error.value.retryable, error.value.attempts) == (503, "no_model", True, 2)
    assert len(desk.upstream.chats) == 1
    assert desk.of("hybrid-llm:fallback") == []


@virtual
async def test_d9_what_would_have_gone_to_a_failed_local_model_says_so_once() -> None:
    """D9: the person wants local, its load failed: the first request tells of it by a fallback, the next ones just go out."""
    desk = Desk()
    desk.hybrid.set_mode("local")
    desk.engine.loads.append([Sleep(0.1), Die()])
    result = await desk.local.init("tiny")
    assert isinstance(result, dict)
    assert result["success"] is False
    assert [(await desk.hybrid.complete(ASK)).provider for _ in range(3)] == ["cloud"] * 3
    (detail,) = desk.of("hybrid-llm:fallback")
    assert (detail["from"], detail["to"], detail["error"]["code"]) == ("local", "cloud", "engine_died")
    assert desk.hybrid.get_usage_stats()["local"]["requests"] == 0


@virtual
async def test_d12_options_may_be_left_out() -> None:
    """D12: the simplest call works on both sides."""
    desk = await Desk().ready()
    assert (await desk.hybrid.complete(ASK)).text == LOCAL
    assert (await desk.hybrid.complete_local(ASK)).text == LOCAL
    assert (await desk.hybrid.complete_cloud(ASK)).text == CLOUD


@virtual
async def test_d15_ttft_prefill_and_decode_are_three_things() -> None:
    """D15: TTFT is measured here; the rates are the provider's own, or follow from the tokens after the first."""
    desk = Desk()
    desk.upstream.scripts.append([Sleep(2), "a", "b", "c", Tail({"prompt_tokens": 1, "completion_tokens": 3})])
    done = await desk.hybrid.complete(ASK)
    assert done.timings.ttft_ms == pytest.approx(2021)
    assert done.timings.total_ms == pytest.approx(2081)
    assert done.timings.decode_tps == pytest.approx(2 / 0.06)
    assert done.timings.prefill_tps is None


@virtual
async def test_d16_d20_concurrent_requests_do_not_meet() -> None:
    """D16, D20: of many requests at once each has its own text and stop, and they are counted, not flagged."""
    desk = await Desk().ready()
    tasks = [asyncio.create_task(desk.hybrid.complete(ASK, {"request_id": f"r{number}"})) for number in range(6)]
    tasks += [asyncio.create_task(desk.hybrid.complete_cloud(ASK, {"request_id": f"c{number}"})) for number in range(6)]
    await asyncio.sleep(0.05)
    assert desk.hybrid.get_status()["active"] == 12
    assert desk.hybrid.abort("r3")
    assert desk.hybrid.abort("c3")
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results].count(Aborted) == 2
    assert {result.text for result in results if not isinstance(result, BaseException)} == {LOCAL, CLOUD}
    await asyncio.sleep(1)
    assert desk.free


@virtual
async def test_d17_a_bug_is_not_a_failure_of_a_provider() -> None:
    """D17: an exception that no runtime may raise ends the request, is told as a bug, and asks nobody else."""
    desk = await Desk().ready()

    async def broken(call: object, emit: object) -> None:
        raise TypeError("a bug")

    desk.local.chat = broken  # type: ignore[assignment,method-assign]
    with pytest.raises(HybridError, match="broken") as error:
        await desk.hybrid.complete(ASK)
    assert error.value.code == "internal"
    assert desk.upstream.chats == []


@virtual
async def test_d17_one_change_a_request() -> None:
    """D17: when the rescue fails as well, the request ends with its error after one attempt each."""
    desk = await Desk().ready()
    desk.engine.scripts.append([Fail()])
    desk.upstream.scripts.append([Refuse()])
    with pytest.raises(GatewayError):
        await desk.hybrid.complete(ASK)
    assert (len(desk.engine.chats), len(desk.upstream.chats), len(desk.of("hybrid-llm:fallback"))) == (1, 1, 1)
    stats = desk.hybrid.get_usage_stats()
    assert (stats["local"]["errors"], stats["cloud"]["errors"]) == (1, 1)


@virtual
async def test_d21_images_reach_both_sides() -> None:
    """D21: parts of a message go along as they are."""
    parts = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]
    ask = [{"role": "user", "content": parts}]
    desk = await Desk(models=[entry("tiny", vision=True)]).ready()
    await desk.hybrid.complete(ask)
    await desk.hybrid.complete_cloud(ask)
    assert desk.engine.chats[0]["messages"][0]["content"] == parts
    assert desk.upstream.chats[0]["messages"][0]["content"] == parts


@virtual
async def test_no_system_turn_of_ours() -> None:
    """What the models get is what the caller gave."""
    desk = await Desk().ready()
    await desk.hybrid.complete(ASK)
    await desk.hybrid.complete_cloud(ASK)
    assert desk.engine.chats[0]["messages"] == ASK == desk.upstream.chats[0]["messages"]


# -- handover


@virtual
async def test_the_cloud_goes_on_where_the_engine_died() -> None:
    """A death after some tokens: the text shown stays, the cloud is asked to go on, and the joint is exact."""
    desk = await Desk().ready()
    desk.engine.scripts.append(["The ", "capital ", "of ", "France", Die()])
    desk.upstream.scripts.append(["capital of France", " is ", "Paris."])
    chunks = await desk.read(desk.hybrid.stream([{"role": "system", "content": "Be brief."}, *ASK], {"request_id": "h"}))
    assert chunks[-1].text == LOCAL
    assert [(chunk.provider, chunk.segment) for chunk in chunks if chunk.delta][-2:] == [("cloud", 1), ("cloud", 1)]
    (detail,) = desk.of("hybrid-llm:handover")
    assert (detail["from"], detail["to"], detail["cause"], detail["at_chars"]) == ("local", "cloud", "engine_died", 21)
    assert desk.of("hybrid-llm:fallback") == []
    sent = desk.upstream.chats[0]["messages"]
    assert sent[0] == {"role": "system", "content": "Be brief."}
    assert sent[1] == ASK[0]
    assert sent[2] == {"role": "assistant", "content": "The capital of France"}
    assert "capital of France" in sent[3]["content"]
    done = chunks[-1].completion
    assert done is not None
    assert (done.segments, done.provider, done.handover) == (2, "cloud", detail)
    assert done.usage.to_dict() == {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16, "estimated": True}
    await desk.local.unload()


@virtual
async def test_a_model_that_can_be_prefilled_is_prefilled() -> None:
    """Where /v1/models says so, the shown text goes last and nothing is trimmed."""
    desk = await Desk().ready()
    desk.upstream.files["/v1/models"] = {"data": [{"id": "m", "capabilities": {"prefill": True}}]}
    await desk.gateway.check()
    desk.engine.scripts.append(["ha ha ha ", Fail("OperationError", "x")])
    desk.upstream.scripts.append(["ha ha ha ", "end"])
    done = await desk.hybrid.complete(ASK)
    assert done.text == "ha ha ha ha ha ha end"
    assert desk.upstream.chats[0]["messages"] == [*ASK, {"role": "assistant", "content": "ha ha ha "}]
    await desk.local.unload()


@virtual
async def test_the_local_model_goes_on_where_the_connection_broke() -> None:
    """In mode cloud a stream that breaks off is finished by the local model that is ready."""
    desk = await Desk().ready(mode="cloud")
    desk.upstream.scripts.append(["Zürich 🙂 ", "is a city", Cut()])
    desk.engine.scripts.append([" in ", "Switzerland."])
    done = await desk.hybrid.complete(ASK)
    assert done.text == "Zürich 🙂 is a city in Switzerland."
    (detail,) = desk.of("hybrid-llm:handover")
    assert (detail["from"], detail["to"], detail["cause"], detail["at_chars"]) == ("cloud", "local", "stream_broken", 19)
    assert desk.free


@virtual
async def test_a_handover_asks_for_the_tokens_that_are_left() -> None:
    """`max_output_tokens` is for the answer, not for each who writes a part of it."""
    desk = await Desk().ready()
    desk.engine.scripts.append(["a ", "b ", "c ", Lost()])
    await desk.hybrid.complete(ASK, {"max_output_tokens": 10})
    assert desk.upstream.chats[0]["max_tokens"] == 7
    await desk.local.unload()


@virtual
async def test_half_a_document_may_be_left_at_that() -> None:
    """With the policy `stop` a typed error keeps the text, and nobody else is asked."""
    desk = await Desk().ready()
    desk.engine.scripts.append(['{"a": ', Fail("OperationError", "x")])
    stream = desk.hybrid.stream(ASK, {"response_format": {"type": "json_object"}, "handover": "stop"})
    await anext(stream)
    with pytest.raises(LocalError) as error:
        await anext(stream)
    assert error.value.text == '{"a": '
    assert desk.upstream.chats == []
    await desk.local.unload()


@virtual
async def test_a_document_that_nobody_has_seen_begins_anew() -> None:
    """LiteLLM's bug, not ours: tools and formats go along, and a whole answer is the second model's alone, so marked."""
    tool = {"type": "function", "function": {"name": "f"}}
    for options in ({"response_format": {"type": "json_object"}}, {"tools": [tool]}):
        desk = await Desk(models=[entry("tiny", tools=True)]).ready()
        desk.engine.scripts.append(['{"a": ', Fail("OperationError", "x")])
        desk.upstream.scripts.append(['{"b": 1}'])
        done = await desk.hybrid.complete(ASK, options)
        assert done.text == '{"b": 1}'
        assert done.fallback is not None
        assert done.fallback["restart"] is True
        assert {name: desk.upstream.chats[0][name] for name in options} == options
        assert desk.upstream.chats[0]["messages"] == ASK
        assert done.usage.completion_tokens == 6  # one of the local model's, five of the cloud's
        await desk.local.unload()


@virtual
async def test_plain_text_is_no_constraint() -> None:
    """`response_format: text` is continued like any text."""
    desk = await Desk().ready()
    desk.engine.scripts.append(["The ", Fail()])
    done = await desk.hybrid.complete(ASK, {"response_format": {"type": "text"}})
    assert done.handover is not None


@virtual
async def test_both_dead_keeps_the_text() -> None:
    """Local dies in mid-answer, the cloud refuses: one error, with all the text that was shown."""
    desk = await Desk().ready()
    desk.engine.scripts.append(["The ", "capital", Die()])
    desk.upstream.default = [Refuse()]
    stream = desk.hybrid.stream(ASK)
    shown = [(await anext(stream)).text, (await anext(stream)).text]
    with pytest.raises(GatewayError) as error:
        await anext(stream)
    assert error.value.text == shown[-1] == "The capital"
    assert len(desk.of("hybrid-llm:stream-error")) == 1
    await desk.local.unload()


# -- stops and walking away


@virtual
async def test_stop_all() -> None:
    """`abort()` without an id stops every request; with an unknown one, none."""
    desk = await Desk().ready()
    assert desk.hybrid.abort() is False
    assert desk.hybrid.abort("nobody") is False
    tasks = [asyncio.create_task(desk.hybrid.complete(ASK)) for _ in range(3)]
    await asyncio.sleep(0.03)
    assert desk.hybrid.abort() is True
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [Aborted] * 3
    assert results[0].text == "The capital "  # type: ignore[union-attr]
    await asyncio.sleep(0.1)
    assert desk.free


@virtual
async def test_stop_before_the_start() -> None:
    """A stream that was stopped before anybody read it asks nobody."""
    desk = await Desk().ready()
    stream = desk.hybrid.stream(ASK, {"request_id": "x"})
    assert stream.request_id == "x"
    assert desk.hybrid.abort("x") is True
    with pytest.raises(Aborted):
        await anext(stream)
    assert desk.engine.chats == []


@virtual
async def test_no_chunk_follows_a_stop() -> None:
    """Chunks that were made but not yet read are dropped by a stop; its text is what was read."""
    desk = await Desk().ready()
    stream = desk.hybrid.stream(ASK)
    first = await anext(stream)
    await asyncio.sleep(0.03)  # three more wait
    desk.hybrid.abort()
    with pytest.raises(Aborted) as stop:
        await anext(stream)
    assert stop.value.text == first.text
    assert stop.value.usage is not None
    assert stop.value.usage.completion_tokens > 1
    await asyncio.sleep(0.1)


@pytest.mark.parametrize("way", ["close", "forget", "cancel", "drop"])
@pytest.mark.parametrize("mode", ["local", "cloud"])
def test_walking_away_frees_everything(mode: str, way: str) -> None:
    """However a consumer leaves, the engine is free, the connection closed and the books are made."""

    @virtual
    async def check() -> None:
        desk = await Desk().ready(mode="local")
        desk.hybrid.set_mode(mode)
        stream: Any = desk.hybrid.stream(ASK)
        if way == "drop":
            del stream
            gc.collect()
            assert desk.free
            return
        await anext(stream)
        assert not desk.free
        if way == "close":
            await stream.aclose()
        elif way == "forget":
            del stream
            gc.collect()
            await asyncio.sleep(0.1)
        else:
            waiting = asyncio.create_task(anext(stream))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.sleep(0.1)
        assert desk.free
        assert desk.hybrid.get_usage_stats()[mode]["stopped"] == 1
        assert (await desk.hybrid.complete(ASK)).provider == mode

    check()


@virtual
async def test_a_cancelled_completion_frees_everything() -> None:
    """The task that awaits `complete` is cancelled: nothing goes on behind its back."""
    desk = await Desk().ready()
    task = asyncio.create_task(desk.hybrid.complete(ASK))
    await asyncio.sleep(0.03)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.1)
    assert desk.free


@virtual
async def test_the_time_limit_keeps_the_text() -> None:
    """`timeout_ms` ends a request with a typed error; it is nobody's failure and asks nobody else."""
    desk = await Desk().ready()
    desk.engine.scripts.append(["The ", Stall()])
    with pytest.raises(TimedOut, match="timeout_ms = 500") as error:
        await desk.hybrid.complete(ASK, {"timeout_ms": 500})
    assert error.value.text == "The "
    assert desk.upstream.chats == []
    await asyncio.sleep(1)
    assert desk.free


@virtual
async def test_a_finished_request_is_not_hit_by_its_time_limit() -> None:
    """The timer ends with the request."""
    desk = await Desk().ready()
    await desk.hybrid.complete(ASK, {"timeout_ms": 5000})
    await asyncio.sleep(10)
    assert desk.hybrid.get_usage_stats()["local"]["stopped"] == 0


# -- who is asked


@virtual
async def test_private_stays_in_the_browser() -> None:
    """A private request is answered by the local model in any mode, and fails closed when that fails or is not there."""
    desk = Desk()
    with pytest.raises(RefusedError, match="private"):
        await desk.hybrid.complete(ASK, {"private": True})
    await desk.ready(mode="cloud")
    assert (await desk.hybrid.complete(ASK, {"private": True})).provider == "local"
    with pytest.raises(RefusedError, match="use a local model"):
        await desk.hybrid.complete_cloud(ASK, {"private": True})
    desk.engine.scripts.append(["The ", Die()])
    with pytest.raises(EngineDiedError):
        await desk.hybrid.complete(ASK, {"private": True})
    assert desk.upstream.chats == []
    await desk.local.unload()


@virtual
async def test_the_browser_is_used_when_offline() -> None:
    """In mode cloud an offline browser is answered by the local model, announced; without one the error says why."""
    desk = await Desk().ready(mode="cloud")
    desk.gateway.online(False)
    done = await desk.hybrid.complete(ASK)
    assert done.provider == "local"
    assert done.fallback is not None
    assert done.fallback["error"]["code"] == "offline"
    assert desk.upstream.chats == []
    await desk.local.unload()
    with pytest.raises(CloudUnavailableError, match="offline"):
        await desk.hybrid.complete(ASK)
    desk.gateway.online(True)
    assert (await desk.hybrid.complete(ASK)).provider == "cloud"


@virtual
async def test_offline_leaves_a_local_failure_as_it_is() -> None:
    """With the browser offline there is no rescue to announce: the local model's own error is raised."""
    desk = await Desk().ready()
    desk.gateway.online(False)
    desk.engine.scripts.append([Fail("OperationError", "Device is lost")])
    with pytest.raises(LocalError):
        await desk.hybrid.complete(ASK)
    assert desk.of("hybrid-llm:fallback") == []
    await desk.local.unload()


@virtual
async def test_an_unreachable_server_falls_back_to_local() -> None:
    """The gateway is tried three times, then the local model that is ready answers."""
    desk = await Desk().ready(mode="cloud")
    desk.upstream.scripts.extend([[Unreachable()]] * 3)
    done = await desk.hybrid.complete(ASK)
    assert done.provider == "local"
    assert len(desk.upstream.chats) == 3
    assert done.fallback is not None
    assert done.fallback["error"]["code"] == "gateway_unreachable"


@virtual
async def test_no_cloud_at_all_says_what_to_do() -> None:
    """Blueprint, box 5: without a cloud client the error is helpful."""
    desk = Desk(cloud=False)
    with pytest.raises(CloudUnavailableError, match=r"init\(cloud_client\)"):
        await desk.hybrid.complete(ASK)
    status = desk.hybrid.get_status()
    assert (status["cloud_available"], "init(cloud_client)" in status["cloud_reason"]) == (False, True)
    await desk.ready()
    desk.engine.scripts.append([Fail()])
    with pytest.raises(LocalError):
        await desk.hybrid.complete(ASK)


@virtual
async def test_one_side_only() -> None:
    """`complete_local` and `complete_cloud` have no rescue, and say what is missing."""
    desk = Desk()
    with pytest.raises(LocalUnavailableError, match="load one first"):
        await desk.hybrid.complete_local(ASK)
    await desk.ready()
    desk.engine.scripts.append([Fail()])
    with pytest.raises(LocalError):
        await desk.hybrid.complete_local(ASK)
    desk.upstream.scripts.append([Refuse()])
    with pytest.raises(GatewayError):
        await desk.hybrid.complete_cloud(ASK)
    with pytest.raises(UnknownModelError, match="cloud side"):
        await desk.hybrid.complete_cloud(ASK, {"model": "tiny"})
    assert desk.of("hybrid-llm:fallback") == []


@virtual
async def test_a_named_model_is_the_one_that_answers() -> None:
    """`model` decides the side: the local one that is loaded, the cloud's own, or neither."""
    desk = await Desk().ready(mode="cloud")
    assert (await desk.hybrid.complete(ASK, {"model": "tiny"})).provider == "local"
    assert (await desk.hybrid.complete(ASK, {"model": "house-model"})).provider == "cloud"
    assert desk.upstream.chats[-1]["model"] == "house-model"
    with pytest.raises(UnknownModelError, match="tiny, smollm2-135m, house-model"):
        await desk.hybrid.complete(ASK, {"model": "gpt-9"})
    done = await desk.hybrid.complete(ASK, {"model": "smollm2-135m"})
    assert done.fallback is not None
    assert done.fallback["error"]["code"] == "local_not_loaded"
    with pytest.raises(LocalUnavailableError, match="smollm2-135m is not the local model"):
        await desk.hybrid.complete_local(ASK, {"model": "smollm2-135m"})


@virtual
async def test_a_model_on_both_sides_goes_by_mode() -> None:
    """A model that local and cloud both have is asked where the mode says."""
    desk = Desk()
    desk.upstream.files["/v1/models"] = {"data": [{"id": "tiny"}]}
    await desk.ready()
    assert (await desk.hybrid.complete(ASK, {"model": "tiny"})).provider == "local"
    desk.hybrid.set_mode("cloud")
    assert (await desk.hybrid.complete(ASK, {"model": "tiny"})).provider == "cloud"
    assert desk.upstream.chats[-1]["model"] == "tiny"


@virtual
async def test_with_no_lists_to_ask_the_cloud_decides() -> None:
    """While neither list can be read a named model is passed on, and the server's refusal is the caller's error."""
    desk = Desk()
    desk.upstream.files["/v1/models"] = (500, {})
    desk.upstream.files["/models/index.json"] = (500, {})
    desk.upstream.scripts.append([Refuse(404, "model_not_found", "no such model", retryable=False)])
    with pytest.raises(CallerError, match="no such model"):
        await desk.hybrid.complete(ASK, {"model": "gpt-9"})
    assert desk.upstream.chats[0]["model"] == "gpt-9"


@virtual
async def test_an_unknown_model_without_a_cloud() -> None:
    """With no cloud to ask the local index alone decides."""
    desk = Desk(cloud=False)
    with pytest.raises(UnknownModelError, match="tiny"):
        await desk.hybrid.complete(ASK, {"model": "gpt-9"})


@virtual
async def test_m25_generate_with_model() -> None:
    """M25: a prompt and a model's name, as the blueprint's callers have it."""
    desk = await Desk().ready()
    done = await desk.hybrid.generate_with_model("hi", {"model": "tiny", "temperature": 0.1, "max_tokens": 3})
    assert (done.provider, done.finish_reason) == ("local", "length")
    assert desk.engine.chats[0]["options"] == {"temperature": 0.1, "max_tokens": 3}
    with pytest.raises(CallerError, match="prompt"):
        await desk.hybrid.generate_with_model(None)


@virtual
async def test_a_callers_mistake_touches_nobody() -> None:
    """Bad input is raised before any provider is asked, and counts against none."""
    desk = await Desk().ready()
    for messages, options in [([], None), (ASK, {"temperature": float("nan")}), (ASK, {"nonsense": 1}), ("hi", None)]:
        with pytest.raises(CallerError) as error:
            await desk.hybrid.complete(messages, options)
        assert error.value.field
    with pytest.raises(CallerError):
        desk.hybrid.stream([])
    assert (desk.engine.chats, desk.upstream.chats) == ([], [])
    assert desk.hybrid.get_usage_stats()["local"]["requests"] == 0


@virtual
async def test_the_engines_word_on_the_callers_mistake_is_final() -> None:
    """A caller's error that only the engine notices goes to the caller and to no other provider."""
    desk = await Desk().ready()
    desk.engine.scripts.append([Fail("Error", "MessageOrderError: Last message should be from `user`", "validate")])
    with pytest.raises(CallerError, match="Last message"):
        await desk.hybrid.complete(ASK)
    assert desk.upstream.chats == []


@virtual
async def test_two_requests_cannot_share_an_id() -> None:
    """A request id in use is refused; afterwards it is free again."""
    desk = await Desk().ready()
    stream = desk.hybrid.stream(ASK, {"request_id": "x"})
    with pytest.raises(OptionError, match="in use"):
        await desk.hybrid.complete(ASK, {"request_id": "x"})
    await desk.read(stream)
    await desk.hybrid.complete(ASK, {"request_id": "x"})


@virtual
async def test_an_unloaded_model_hands_over() -> None:
    """The person unloads the model in mid-answer: the cloud finishes it."""
    desk = await Desk().ready()
    desk.engine.default = ["The ", "capital", Sleep(5), " is"]
    task = asyncio.create_task(desk.hybrid.complete(ASK))
    await asyncio.sleep(0.1)
    await desk.local.unload()
    done = await task
    assert done.text.startswith("The capital")
    assert desk.of("hybrid-llm:handover")[0]["cause"] == "interrupted"


@virtual
async def test_an_empty_answer_is_an_answer() -> None:
    """No token at all, properly ended: one last chunk, usage, no fallback."""
    desk = await Desk().ready()
    desk.engine.scripts.append([End("stop")])
    (chunk,) = await desk.read(desk.hybrid.stream(ASK))
    assert (chunk.text, chunk.done) == ("", True)
    assert desk.of("hybrid-llm:fallback") == []


@virtual
async def test_m9_stream_events() -> None:
    """M9: each piece is announced, then completion and end; an error is announced as such, a stop is not."""
    desk = await Desk().ready()
    await desk.read(desk.hybrid.stream(ASK))
    assert "".join(detail["delta"] for detail in desk.of("hybrid-llm:stream-chunk")) == LOCAL
    assert [name for name, _ in desk.seen][-2:] == ["hybrid-llm:complete", "hybrid-llm:stream-complete"]
    desk.seen.clear()
    stream = desk.hybrid.stream(ASK)
    await anext(stream)
    desk.hybrid.abort()
    assert desk.of("hybrid-llm:stream-error") == []
    await asyncio.sleep(0.1)


@virtual
async def test_the_end_of_a_short_continuation() -> None:
    """A continuation so short that it might have been a repetition comes out at the end."""
    desk = await Desk().ready()
    desk.engine.scripts.append(["It is on", Fail()])
    desk.upstream.scripts.append(["on"])
    assert (await desk.hybrid.complete(ASK)).text == "It is onon"


@virtual
async def test_ends_come_once() -> None:
    """A stop after the end is no stop; a stop from within the books' event ends once; an unread stream closes."""
    desk = await Desk().ready()
    stream = desk.hybrid.stream(ASK, {"request_id": "x"})
    run = stream._run
    await desk.read(stream)
    assert run.stop() is False
    unread = desk.hybrid.stream(ASK)
    await unread.aclose()
    desk.events.on("cost:updated", lambda detail: desk.hybrid.abort(detail["request_id"]))
    task = asyncio.create_task(desk.hybrid.complete(ASK, {"request_id": "y"}))
    await asyncio.sleep(0.03)
    desk.hybrid.abort("y")
    with pytest.raises(Aborted):
        await task
    await asyncio.sleep(0.1)
    assert desk.hybrid.get_usage_stats()["local"]["stopped"] == 1
    assert desk.free
