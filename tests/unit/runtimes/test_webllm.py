"""The engine's runtime: stops that wait for the engine, answers that are whole."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import ASK
from lab.engine import Fail, ScriptedEngine, Stall

from hybr.webapp.hybrid.errors import EngineDiedError, HybridError, LocalError
from hybr.webapp.hybrid.types import Call, Options
from hybr.webapp.runtimes import webllm
from hybr.webapp.runtimes.webllm import WebLLM

CALL = Call("r", tuple(ASK), Options(), "tiny")


async def loaded() -> tuple[ScriptedEngine, WebLLM]:
    """A runtime with a model."""
    engine = ScriptedEngine()
    runtime = WebLLM(engine)
    await runtime.load({"id": "tiny"}, lambda _: None)
    return engine, runtime


@virtual
async def test_a_stop_ends_when_the_engine_is_free() -> None:
    """Cancelling the chat sends `abort`, and the chat ends only when the engine does."""
    engine, runtime = await loaded()
    task = asyncio.create_task(runtime.chat(CALL, lambda _: None))
    await asyncio.sleep(0.03)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.ops[-1] == "abort"
    assert not engine.held


@virtual
async def test_an_engine_that_does_not_stop(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The wait for the engine's end is bounded."""
    monkeypatch.setattr(webllm, "ABORT_S", 3.0)
    engine, runtime = await loaded()

    async def deaf(*_: object) -> Any:
        await asyncio.sleep(1e6)

    engine._chat = deaf  # type: ignore[method-assign]
    task = asyncio.create_task(runtime.chat(CALL, lambda _: None))
    await asyncio.sleep(0.1)
    start = asyncio.get_running_loop().time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.get_running_loop().time() - start == pytest.approx(3)
    assert "did not stop" in caplog.text
    engine.restart()
    await asyncio.sleep(1)


@virtual
async def test_a_stop_of_a_dead_engine() -> None:
    """The engine dies while it is being stopped: the stop ends all the same."""
    engine, runtime = await loaded()
    engine.scripts.append(["a", Stall()])
    task = asyncio.create_task(runtime.chat(CALL, lambda _: None))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.sleep(0)
    engine.die()
    engine.restart()
    with pytest.raises(asyncio.CancelledError):
        await task


@virtual
async def test_lost_deltas_come_with_the_result() -> None:
    """What the result has beyond the deltas is given out; a result that says something else is not."""
    engine, runtime = await loaded()
    for text, want in [("abc", "abc"), ("xyz", "a"), ("", "a")]:

        async def generate(args: object, tell: Any, stop: object, text: str = text) -> dict[str, Any]:
            tell({"type": "delta", "delta": "a"})
            tell({"type": "other"})
            return {"text": text, "finish_reason": "stop"}

        engine._generate = generate  # type: ignore[method-assign,assignment]
        said: list[str] = []
        final = await runtime.chat(CALL, said.append)
        assert "".join(said) == want
        assert (final.model, final.usage, final.cost) == ("tiny", None, 0.0)


@virtual
async def test_an_abort_that_nobody_asked_for() -> None:
    """The engine says AbortError by itself: a failure of the local side, not a person's stop."""
    engine, runtime = await loaded()
    engine.scripts.append([Fail("AbortError", "gone", "decode")])
    with pytest.raises(LocalError) as error:
        await runtime.chat(CALL, lambda _: None)
    assert (error.value.code, error.value.kind) == ("interrupted", "capability")


@virtual
async def test_operations() -> None:
    """Each operation reaches the engine under its name; a death is told as a typed error."""
    engine, runtime = await loaded()
    dead: list[HybridError] = []
    runtime.on_death(dead.append)
    engine.cache = {"tiny", "b"}
    assert await runtime.cached() == {"tiny", "b"}
    await runtime.delete("b")
    await runtime.unload()
    await runtime.cancel_load()
    assert engine.ops == ["load", "cached", "delete", "unload", "cancel-load"]
    engine.die()
    runtime.restart()
    assert type(dead[0]) is EngineDiedError
