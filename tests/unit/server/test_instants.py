"""What happens at one instant: a repetition, the client's leaving, a time-out, a revoked session (adverse list, 39)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from serving import question
from standing import Standing

from hybr.server.body import LEFT, Presence
from hybr.server.caller import Caller
from hybr.server.errors import SlowUpstreamError, UpstreamError
from hybr.server.money import prices
from hybr.server.money.limits import Limits, Policy
from hybr.server.money.meter import Meter
from hybr.server.providers.base import Answer
from hybr.server.providers.breaker import Breaker
from hybr.server.providers.dialect import Reader
from hybr.server.relay import Relay
from hybr.server.surfaces.chat import Chat
from hybr.server.tries import Tries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from hybr.server.providers.base import Call

HI = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]}
CHUNK = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", **HI}


class Timeless(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer as soon as nothing is left to do: instants are exact and nothing waits."""

    now = 0.0

    def time(self) -> float:
        """Return the clock."""
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]  # asyncio's own, as every loop of its kind has
            self.now = max(self.now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


@dataclass
class Timed(Standing):
    """A provider whose calls each follow the next of `plays`: wait so long, then fail so, or give chunks so far apart."""

    plays: list[tuple[float, str, int]]
    name: str = "timed"
    retries: int = 2
    opened: int = 0
    released: int = 0
    breaker: Breaker = field(default_factory=Breaker)

    @contextlib.asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[Answer]:
        """Begin, and note the end."""
        wait, end, chunks = self.plays[min(self.opened, len(self.plays) - 1)]
        self.opened += 1
        try:
            await asyncio.sleep(wait)
            if not chunks:
                self.fail(end)
            reader = Reader("m")
            reader.finish = "stop"
            yield Answer(self.chunks(wait, end, chunks), reader)
        finally:
            self.released += 1

    async def chunks(self, wait: float, end: str, chunks: int) -> AsyncIterator[list[dict[str, Any]]]:
        """Give them."""
        for _ in range(chunks):
            yield [CHUNK]
            await asyncio.sleep(wait)
        self.fail(end)

    def fail(self, end: str) -> None:
        """Fail, unless it ends well."""
        if end == "slow":
            raise SlowUpstreamError("slow", code="timeout", attempts=1)
        if end == "cut":
            raise UpstreamError("cut", code="stream_cut", attempts=1)


class Valid:
    """The sessions: the caller's ends at `moment`."""

    def __init__(self, moment: float) -> None:
        self.moment = moment

    def watch(self, scope: Any) -> Callable[[], bool]:
        """Return whether it stands."""
        loop = asyncio.get_running_loop()
        return lambda: loop.time() < self.moment


class Client:
    """Asks, notes what it gets, and leaves at `moment`, as our wire tells it or as any server does."""

    def __init__(self, moment: float, *, ours: bool, stream: bool) -> None:
        self.moment = moment
        self.presence = Presence()
        self.raw = json.dumps(question(model="m", stream=stream)).encode()
        self.got: list[dict[str, Any]] = []
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "headers": [(b"content-type", b"application/json")],
            "state": {"request": "r", "caller": Caller("ada", "user")},
            "extensions": {LEFT: self.presence} if ours else {},
        }

    async def receive(self) -> dict[str, Any]:
        """Give the body, then the leaving."""
        if self.raw:
            raw, self.raw = self.raw, b""
            return {"type": "http.request", "body": raw, "more_body": False}
        await asyncio.sleep(self.moment - asyncio.get_running_loop().time())
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Take a piece, in a turn of the loop of its own."""
        self.got.append(message)
        await asyncio.sleep(0)


class NoTill:
    """Books of which nobody asks anything."""

    def book(self, *given: Any) -> None:
        """Note nothing."""


INSTANTS = st.integers(0, 8).map(lambda beats: beats * 0.5)
NEVER = 1000.0
PLAYS = st.tuples(INSTANTS, st.sampled_from(["well", "slow", "cut"]), st.integers(0, 3))


async def answered(provider: Timed, client: Client, revoked: float) -> Meter:
    """Have one question answered, and return the books."""
    loop = asyncio.get_running_loop()
    provider.breaker.clock = loop.time
    relay = Relay([provider])
    relay.tries = Tries(jitter=lambda: 1.25)  # so that repetitions come at the half seconds too: 0.5, 1.0
    meter = Meter(Policy(Limits(streams=4, requests_per_minute=60)), prices.shipped(), NoTill(), clock=loop.time)  # type: ignore[arg-type]
    relay.meter, relay.sessions = meter, Valid(revoked)
    loop.call_at(client.moment, client.presence.end)
    await relay.answer(Chat(), client.scope, client.receive, client.send)  # type: ignore[arg-type]
    assert provider.opened == provider.released  # now, and not when the loop ends
    assert not relay.pulse.running
    return meter


@settings(max_examples=300, deadline=None)
@given(
    plays=st.lists(PLAYS, min_size=1, max_size=3),
    leaves=INSTANTS | st.just(NEVER),
    revoked=INSTANTS | st.just(NEVER),
    ours=st.booleans(),
    stream=st.booleans(),
)
def test_39_at_one_instant(
    plays: list[tuple[float, str, int]], leaves: float, revoked: float, *, ours: bool, stream: bool
) -> None:
    """In whatever order one instant's events come: each call is released, each booking ended once, each answer has one end."""
    provider, client = Timed(plays), Client(leaves, ours=ours, stream=stream)
    with asyncio.Runner(loop_factory=Timeless) as runner:
        meter = runner.run(answered(provider, client, revoked))
    assert meter.running == 0
    assert all(account.running == 0 for accounts in meter._accounts.values() for account in accounts)
    check(client, gone=leaves)


def check(client: Client, gone: float) -> None:
    """One head at most; the end once and last, and no good end behind an error; only who left gets none."""
    kinds = [message["type"] for message in client.got]
    assert kinds[:1] in ([], ["http.response.start"])
    assert kinds.count("http.response.start") <= 1
    bodies = [message for message in client.got if message["type"] == "http.response.body"]
    ends = [not message.get("more_body", False) for message in bodies]
    assert ends.count(True) <= 1
    assert True not in ends[:-1]
    text = b"".join(message.get("body", b"") for message in bodies)
    assert not (b"[DONE]" in text and b'"error":' in text)
    if not ends or not ends[-1]:
        assert gone < NEVER, "nobody left, and the answer has no end"
