"""A cloud client of the caller's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import ASK

from hybr.webapp.hybrid.errors import CallerError, CloudError
from hybr.webapp.hybrid.types import Call, Options
from hybr.webapp.runtimes.client import ClientRuntime, as_runtime

CALL = Call("r", tuple(ASK), Options(temperature=0), "m")


class Client:
    """Answers what it was told to."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[Any, Any]] = []

    async def complete(self, messages: Any, options: Any) -> Any:
        """Answer."""
        self.asked.append((messages, options))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@virtual
async def test_m8_an_answer_in_pieces() -> None:
    """M8: 50 characters every 50 ms, as the blueprint has it; both can be tuned."""
    client = Client({"text": "x" * 120, "model": "gemini", "usage": {"prompt_tokens": 1, "completion_tokens": 2}, "cost": 0.1})
    said: list[tuple[float, int]] = []
    loop = asyncio.get_running_loop()
    final = await as_runtime(client).chat(CALL, lambda delta: said.append((round(loop.time(), 2), len(delta))))
    assert said == [(0.0, 50), (0.05, 50), (0.1, 20)]
    assert (final.model, final.cost, final.finish_reason) == ("gemini", 0.1, "stop")
    assert final.usage is not None
    assert final.usage.total_tokens == 3
    assert client.asked == [(ASK, {"temperature": 0, "request_id": "r", "model": "m"})]
    said.clear()
    await ClientRuntime(client, piece=100, pause_s=0).chat(CALL, lambda delta: said.append((0.0, len(delta))))
    assert said == [(0.0, 100), (0.0, 20)]


@virtual
async def test_what_else_it_may_answer() -> None:
    """A plain text is an answer; anything without text is an error; its exceptions are the cloud's failures."""
    runtime = as_runtime(Client("hi"))
    final = await runtime.chat(Call("r", tuple(ASK), Options()), lambda _: None)
    assert (final.model, final.usage) == ("client", None)
    for answer, code in [
        ({}, "bad_answer"),
        (3, "bad_answer"),
        (KeyError("x"), "client_failed"),
        (CloudError("no", code="own"), "own"),
    ]:
        with pytest.raises(CloudError) as error:
            await as_runtime(Client(answer)).chat(CALL, lambda _: None)
        assert error.value.code == code
    assert (runtime.available(), runtime.offline(), runtime.models(), await runtime.knows("x"), runtime.prefills(None)) == (
        True,
        False,
        [],
        None,
        False,
    )


def test_what_is_no_client() -> None:
    """`init` says what a client must have."""
    with pytest.raises(CallerError, match="complete"):
        as_runtime(object())
    runtime = ClientRuntime(Client(""))
    assert as_runtime(runtime) is runtime


@pytest.mark.parametrize("usage", [[1], "3", {"prompt_tokens": "many", "completion_tokens": -1}, {"prompt_tokens": float("nan")}])
def test_books_that_make_no_sense(usage: object) -> None:
    """A client's nonsense about tokens and money costs the books, not the answer."""

    @virtual
    async def check() -> None:
        final = await as_runtime(Client({"text": "hi", "usage": usage, "cost": "free"})).chat(CALL, lambda _: None)
        assert (final.usage, final.cost) == (None, None)

    check()
