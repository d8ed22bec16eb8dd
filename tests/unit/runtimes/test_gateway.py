"""The gateway as seen from the page: what it streams, how it fails, whether it is there."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import ASK, entry
from lab.engine import Sleep
from lab.upstream import Cut, Event, Refuse, ScriptedUpstream, Tail, Unreachable

from hybr.webapp.hybrid.errors import CallerError, CloudUnavailableError, GatewayError, HybridError, LocalError
from hybr.webapp.hybrid.types import Call, Final, Options
from hybr.webapp.runtimes.catalogue import Catalogue
from hybr.webapp.runtimes.gateway import Gateway


class Asked:
    """A gateway over a scripted upstream, and one question."""

    def __init__(self, *steps: object, cut: int = 0, **gateway: Any) -> None:
        self.upstream = ScriptedUpstream(cut=cut)
        self.upstream.scripts.append(list(steps))  # type: ignore[arg-type]
        self.gateway = Gateway(self.upstream, jitter=lambda: 1.0, **gateway)
        self.deltas: list[str] = []

    async def ask(self, options: Options | None = None, model: str | None = None) -> Final:
        """Ask it."""
        return await self.gateway.chat(Call("r", tuple(ASK), options or Options(), model), self.deltas.append)

    async def fails(self, kind: type[HybridError]) -> HybridError:
        """Ask it and return the error; the connection must be closed."""
        with pytest.raises(kind) as error:
            await self.ask()
        assert self.upstream.open == 0
        return error.value


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 7])
def test_a_stream_in_any_pieces(cut: int) -> None:
    """Deltas, usage and finish reason arrive however the bytes are cut."""

    @virtual
    async def check() -> None:
        asked = Asked("Zür", "ich 🙂", Tail({"prompt_tokens": 3, "completion_tokens": 2}, "length"), cut=cut)
        final = await asked.ask()
        assert "".join(asked.deltas) == "Zürich 🙂"
        assert (final.model, final.finish_reason, final.cost) == ("house-model", "length", 0.0)
        assert final.usage is not None
        assert final.usage.total_tokens == 5
        assert asked.upstream.open == 0

    check()


@virtual
async def test_what_is_sent() -> None:
    """The OpenAI shape, streamed with usage; the bytes are counted."""
    asked = Asked("x")
    final = await asked.ask(Options(temperature=0, stop=("a",)), "m")
    assert asked.upstream.chats == [
        {
            "messages": ASK,
            "stream": True,
            "stream_options": {"include_usage": True},
            "model": "m",
            "temperature": 0,
            "stop": ["a"],
        },
    ]
    assert final.bytes_sent == len(json.dumps(asked.upstream.chats[0], ensure_ascii=False))


@virtual
async def test_the_cost_is_what_was_stated() -> None:
    """A stated cost counts; without one the house costs nothing and others are unknown."""
    asked = Asked("x", Tail({"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.5}))
    assert (await asked.ask()).cost == 0.5
    asked.upstream.headers = {"x-hybr-provider": "openai"}
    assert (await asked.ask()).cost is None


@virtual
async def test_rates_where_llama_cpp_tells_them() -> None:
    """llama.cpp's timings become the rates."""
    asked = Asked("x", Event({"choices": [], "timings": {"prompt_per_second": 9.0, "predicted_per_second": 3.0}}), Tail(None))
    final = await asked.ask()
    assert (final.prefill_tps, final.decode_tps, final.usage) == (9.0, 3.0, None)


@virtual
async def test_tool_calls_are_put_together() -> None:
    """Tool calls come in pieces by index; the arguments stay text."""
    first = {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a'}}]}
    second = {
        "tool_calls": [{"index": 0, "function": {"arguments": '_b": 1}'}}, {"index": 1, "id": "c2", "function": {"name": "g"}}]
    }
    asked = Asked(Event({"choices": [{"delta": first}]}), Event({"choices": [{"delta": second}]}), Tail(reason="tool_calls"))
    final = await asked.ask()
    assert [call["id"] for call in final.tool_calls] == ["c1", "c2"]
    assert final.tool_calls[0]["function"] == {"name": "f", "arguments": '{"a_b": 1}'}


@virtual
async def test_ends_that_are_ends() -> None:
    """[DONE] without a finish reason, or a finish reason without [DONE], is a whole answer."""
    assert (await Asked("x", b"data: [DONE]\n\n").ask()).finish_reason == "stop"
    assert (await Asked("x", Tail(done=False)).ask()).finish_reason == "stop"
    assert (await Asked("x", b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}').ask()).finish_reason == "stop"


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (Cut(), "broke off in the middle"),
        (b": nothing more\n\n", "before its end"),
        (b"data: {oops\n\n", "not JSON"),
        (b"data: 3\n\n", "not an object"),
        (b"data: " + b"x" * 1_100_000, "cannot be read"),
        (b'data: {"error": {"code": "failed_midway", "message": "the model failed"}}\n\n', "the model failed"),
        (b'data: {"error": "text"}\n\n', "without saying why"),
    ],
)
def test_streams_that_break(step: object, said: str) -> None:
    """A cut connection, half an event, an error event: a typed error after the text, and nothing is left open."""

    @virtual
    async def check() -> None:
        asked = Asked("half", step)
        error = await asked.fails(GatewayError)
        assert said in error.message
        assert asked.deltas == ["half"]

    check()


@pytest.mark.parametrize(
    ("refusal", "kind", "code", "trust"),
    [
        (Refuse(503), GatewayError, "no_model", "health"),
        (Refuse(500, body=b"<html>"), GatewayError, "http_500", "health"),
        (Refuse(429, "rate_limited"), GatewayError, "rate_limited", "health"),
        (Refuse(401, "bad_key"), GatewayError, "bad_key", "capability"),
        (Refuse(400, "context_length_exceeded"), GatewayError, "context_overflow", "capability"),
        (Refuse(400, "invalid_value"), CallerError, "invalid_value", "caller"),
        (Refuse(413, "body_too_large"), CallerError, "body_too_large", "caller"),
    ],
)
def test_refusals(refusal: Refuse, kind: type[HybridError], code: str, trust: str) -> None:
    """The error envelope, or what comes instead of one, becomes a typed error; the caller's fault is the caller's."""

    @virtual
    async def check() -> None:
        error = await Asked(refusal).fails(kind)
        assert (error.code, error.kind) == (code, trust)

    check()


@virtual
async def test_only_an_unreachable_gateway_is_asked_again() -> None:
    """Twice, with growing waits; then a typed, retryable error. An answer of any kind is never asked for again."""
    asked = Asked(Unreachable())
    assert (await asked.ask()).finish_reason == "stop"
    asked.upstream.down = True
    start = asyncio.get_running_loop().time()
    error = await asked.fails(CloudUnavailableError)
    assert asyncio.get_running_loop().time() - start == pytest.approx(0.75, abs=0.01)
    assert (error.code, error.retryable) == ("gateway_unreachable", True)
    assert "hybr serve" in error.message
    assert asked.gateway.available() is False
    before = len(asked.upstream.asked)
    asked.upstream.down = False
    asked.upstream.scripts.append([Refuse(503)])
    await asked.fails(GatewayError)
    assert len(asked.upstream.asked) == before + 1
    assert asked.gateway.available() is True


@virtual
async def test_a_proxy_in_the_gateways_place() -> None:
    """A 502 without our envelope was never at the gateway: it is repeated, at last raised, and its Retry-After is kept."""
    for wait, seconds in [("3", 3.0), ("Thu, 01 Jan 1970 00:16:45 GMT", 5.0), ("", 0.25), ("soon", 0.25)]:
        asked = Asked(Refuse(502, body=b"<html>", headers={"retry-after": wait}), now=lambda: 1000.0)
        start = asyncio.get_running_loop().time()
        assert (await asked.ask()).finish_reason == "stop"
        assert asyncio.get_running_loop().time() - start == pytest.approx(seconds, abs=0.15)
        assert len(asked.upstream.asked) == 2
    asked = Asked(Refuse(503, body=b"{}"))
    asked.upstream.scripts.extend([[Refuse(503, body=b"{}")]] * 2)
    error = await asked.fails(GatewayError)
    assert (error.code, error.kind, len(asked.upstream.asked)) == ("http_503", "health", 3)
    asked = Asked(Refuse(503, body=b"{}", headers={"retry-after": "600"}))
    error = await asked.fails(GatewayError)
    assert (error.retry_after, len(asked.upstream.asked)) == (600.0, 1)
    assert asked.upstream.open == 0


@virtual
async def test_how_long_to_wait_is_said() -> None:
    """The envelope's `retry_after` goes before the header's; both reach the error."""
    body = b'{"error": {"code": "rate_limited", "message": "slow down", "retry_after": 7}}'
    error = await Asked(Refuse(429, body=body, headers={"retry-after": "9"})).fails(GatewayError)
    assert error.retry_after == 7.0
    error = await Asked(Refuse(429, headers={"retry-after": "9"})).fails(GatewayError)
    assert error.retry_after == 9.0


@virtual
async def test_prices() -> None:
    """The house costs nothing; a model is found by name, or by owner and name; nonsense is no price."""
    upstream = ScriptedUpstream()
    listed = [{"id": "h", "owned_by": "house"}, {"id": "m", "owned_by": "box"}, {"id": "box/n"}]
    upstream.files["/v1/models"] = {"data": listed}
    gateway = Gateway(upstream)
    assert gateway.price(None) is None
    upstream.files["/api/prices"] = {"currency": "EUR", "models": {"box/m": {"input": 1, "output": 1}}}
    await gateway.check()
    assert (gateway.price("h"), gateway.price("m")) == ({"input": 0.0, "output": 0.0}, None)
    upstream.files["/api/prices"] = b"<html>"
    await gateway.check()
    models = {
        "box/m": {"input": 1, "output": 2, "from": "1970-01-01"},
        "box/n": {"input": 3, "output": 4},
        "bad": {"input": -1},
        "worse": 3,
    }
    upstream.files["/api/prices"] = {"currency": "USD", "models": models}
    await gateway.check()
    assert (gateway.price("m"), gateway.price("box/n")) == ({"input": 1.0, "output": 2.0}, models["box/n"])
    assert [gateway.price(name) for name in ("bad", "worse", "?")] == [None] * 3
    assert gateway.price(None) == {"input": 0.0, "output": 0.0}
    upstream.files["/api/prices"] = b"<html>"
    await gateway.check()
    assert gateway.price("m") == {"input": 1.0, "output": 2.0}  # the last one that could be read


@virtual
async def test_offline_asks_nobody() -> None:
    """An offline browser is told at once."""
    asked = Asked("x")
    asked.gateway.online(False)
    error = await asked.fails(CloudUnavailableError)
    assert (error.code, asked.upstream.asked, asked.gateway.offline()) == ("offline", [], True)
    assert asked.gateway.reason == "The browser is offline."


@virtual
async def test_d11_health_is_asked_for() -> None:
    """D11: whether the cloud is there is what the server says, not what the page was configured with."""
    upstream = ScriptedUpstream()
    gateway = Gateway(upstream)
    assert gateway.available() is True
    assert await gateway.check() is True
    assert gateway.models() == [{"id": "house-model", "owned_by": "house"}]
    upstream.files["/healthz"] = (503, {"reason": "the page is being built"})
    assert await gateway.check() is False
    assert gateway.reason == "the page is being built"
    upstream.files["/healthz"] = (503, b"<html>")
    assert await gateway.check() is False
    assert "503" in gateway.reason
    upstream.files["/healthz"] = (503, [])
    assert await gateway.check() is False
    assert gateway.reason == "The server is not ready."
    upstream.down = True
    assert await gateway.check() is False
    assert "cannot be reached" in gateway.reason
    upstream.down = False
    upstream.files["/healthz"] = {}
    upstream.files["/v1/models"] = b"no json"
    assert await gateway.check() is True
    assert len(gateway.models()) == 1


@virtual
async def test_what_models_it_knows() -> None:
    """`knows` asks once, and says None when it cannot find out; `prefills` is what the list says."""
    upstream = ScriptedUpstream()
    gateway = Gateway(upstream)
    upstream.files["/v1/models"] = (500, {})
    assert await gateway.knows("a") is None
    assert gateway.prefills(None) is False
    upstream.files["/v1/models"] = {"data": [{"id": "a", "capabilities": {"prefill": True}}, {"id": "b"}, 3]}
    assert await gateway.knows("a") is True
    assert await gateway.knows("x") is False
    assert (gateway.prefills(None), gateway.prefills("a"), gateway.prefills("b"), gateway.prefills("x")) == (
        True,
        True,
        False,
        False,
    )


@virtual
async def test_a_stop_closes_the_connection() -> None:
    """Cancelling the call, in whichever wait, leaves no connection open."""
    for wait in (0.0005, 0.01, 0.03, 0.2):
        asked = Asked("a", "b", Sleep(5), "c")
        task = asyncio.create_task(asked.ask())
        await asyncio.sleep(wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asked.upstream.open == 0


@virtual
async def test_the_catalogue() -> None:
    """The model index: entries as they came, damaged and embedding ones left out; when it cannot be read the old list stays."""
    upstream = ScriptedUpstream()
    catalogue = Catalogue(upstream)
    upstream.files["/models/index.json"] = {"models": [entry("tiny"), 3, {"id": 4}, entry("finder", kind="embedding")]}
    assert await catalogue.refresh() == [entry("tiny")]
    assert (catalogue.ids(), catalogue.find("tiny"), catalogue.find("x")) == (["tiny"], entry("tiny"), None)
    for broken in ((500, {}), {}, [], b"oops"):
        upstream.files["/models/index.json"] = broken
        with pytest.raises(LocalError) as error:
            await catalogue.refresh()
        assert error.value.code == "no_index"
    assert catalogue.ids() == ["tiny"]


@pytest.mark.parametrize(
    "event",
    [
        {"choices": [None]},
        {"choices": 5},
        {"choices": [{"delta": "x"}]},
        {"choices": [{"delta": {"content": ["x"]}}]},
        {"choices": [{"delta": {"tool_calls": [None]}}]},
        {"choices": [], "usage": [1]},
        {"choices": [], "usage": {"prompt_tokens": "many"}},
        {"choices": [], "timings": 3},
    ],
)
def test_events_of_another_shape(event: dict[str, Any]) -> None:
    """JSON that is no completion's is the cloud's failure, after the text so far, not a bug of ours: the other side helps."""

    @virtual
    async def check() -> None:
        asked = Asked("half", Event(event))
        error = await asked.fails(GatewayError)
        assert (error.code, error.kind) == ("stream_broken", "health")

    check()
