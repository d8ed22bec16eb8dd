"""Repetitions, fallbacks, breaker, timeouts and heartbeats over real sockets (issue 4, item 4)."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from fakes import anthropic, openai
from fakes.gateway import QUICK, parts_of, remote_of
from fakes.wire import NEVER, Asked, Script, answered, events, head, streamed, wired
from serving import asking, listening, question, said, soon, stream

from hybr.server.providers.breaker import FAILURES
from hybr.server.providers.registry import remote
from hybr.server.secret import Secret
from hybr.server.tries import Tries
from hybr.server.upstreams import make, read

if TYPE_CHECKING:
    from pathlib import Path

    from hybr.server.serve import Parts

MODEL = "openai/gpt-5-mini"
GOOD = events(*openai.told("Hi"))


def quick(parts: Parts) -> list[float]:
    """Let repetitions wait for nothing, and return what they would have waited."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    parts.relay.tries = Tries(sleep, lambda: 1.0)
    return waits


def busy(wait: str = "", **headers: str) -> Script:
    """Return a 503."""
    told = {"retry_after": wait} if wait else {}
    return answered(503, {"error": {"message": "x", "type": "x"}}, **told, **headers)


async def test_3_until_it_answers(tmp_path: Path) -> None:
    """Two 503 and an answer are an answer, which says that it took three tries."""
    scripts = [busy(), busy(), streamed(GOOD)]
    async with wired(lambda _: scripts.pop(0)) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, openai.KEY, retries=2)
        waits = quick(parts)
        async with asking(parts) as client:
            answer = await client.post("/v1/chat/completions", json=question(model=MODEL))
    assert (answer.status_code, answer.headers["x-hybr-attempts"], len(wire.asked), len(waits)) == (200, "3", 3, 2)
    assert answer.headers["x-hybr-request"]


@pytest.mark.parametrize("form", ["seconds", "date", "date by its own clock"])
async def test_3_retry_after(tmp_path: Path, form: str) -> None:
    """A Retry-After in seconds or as a date is waited for, the date by the provider's own clock where it gives one."""
    asked: list[Asked] = []

    def script(one: Asked) -> Script:
        asked.append(one)
        if len(asked) > 1:
            return streamed(GOOD)
        now = datetime.now(UTC) + timedelta(hours=2 if form == "date by its own clock" else 0)
        wait = "5" if form == "seconds" else format_datetime(now + timedelta(seconds=5), usegmt=True)
        return busy(wait, **({"date": format_datetime(now, usegmt=True)} if form == "date by its own clock" else {}))

    async with wired(script) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, openai.KEY, retries=1)
        waits = quick(parts)
        async with asking(parts) as client:
            answer = await client.post("/v1/chat/completions", json=question(model=MODEL))
    assert answer.status_code == 200
    assert 3 <= waits[0] <= 6


async def test_never_after_the_first_byte(tmp_path: Path) -> None:
    """A stream that broke off is not begun again: it ends in an error event, and the provider was asked once."""
    begun = streamed(events(openai.chunk({"content": "Hi"})))
    async with wired(lambda _: begun) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, openai.KEY, retries=2)
        quick(parts)
        async with asking(parts) as client:
            answer = await client.post("/v1/chat/completions", json=question(model=MODEL, stream=True))
    error = json.loads(answer.text.rstrip("\n").rsplit("\n\n", 1)[-1].removeprefix("data: "))["error"]
    assert (error["code"], error["attempts"], error["provider"], len(wire.asked)) == ("stream_cut", 1, "openai", 1)


async def test_fallback(tmp_path: Path) -> None:
    """Where the operator said so, another provider answers when the first cannot, and the headers say who did."""
    async with wired(lambda _: busy()) as ill, wired(anthropic.answer) as well:
        parts = parts_of(tmp_path, "openai", ill.address, openai.KEY)
        upstream = make("anthropic", {"base_url": f"{well.address}/v1"}, Secret(anthropic.KEY))
        other = remote(upstream)
        parts.remotes.append(other)
        parts.relay.providers = [*parts.relay.providers, other]
        async with asking(parts) as client:
            alone = await client.post("/v1/chat/completions", json=question(model=MODEL))
            parts.relay.fallbacks = {"openai": ["anthropic/claude-haiku-4-5"]}
            helped = await client.post("/v1/chat/completions", json=question(model=MODEL))
    assert (alone.status_code, alone.json()["error"]["provider"]) == (503, "openai")
    assert (helped.status_code, helped.json()["model"]) == (200, "anthropic/claude-haiku-4-5")
    assert (helped.headers["x-hybr-provider"], helped.headers["x-hybr-attempts"]) == ("anthropic", "2")


async def test_breaker(tmp_path: Path) -> None:
    """After several failures a provider is left alone a while; `/api/providers` and the error say so; then one try mends it."""
    scripts = [busy() for _ in range(FAILURES)] + [streamed(GOOD)]
    async with wired(lambda _: scripts.pop(0)) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, openai.KEY)
        async with asking(parts) as client:
            for _ in range(FAILURES):
                await client.post("/v1/chat/completions", json=question(model=MODEL))
            refused = await client.post("/v1/chat/completions", json=question(model=MODEL))
            report = (await client.get("/api/providers")).json()["data"][0]
            asked = len(wire.asked)
            remote_of(parts).breaker.until = 0.0  # its time has come
            mended = await client.post("/v1/chat/completions", json=question(model=MODEL))
            after = (await client.get("/api/providers")).json()["data"][0]
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["breaker"], asked) == (503, "breaker_open", "open", FAILURES)
    assert int(refused.headers["retry-after"]) == error["retry_after"] > 0
    assert (report["breaker"], mended.status_code, after["breaker"]) == ("open", 200, "closed")


@pytest.mark.parametrize(
    ("script", "times", "code"),
    [
        ([NEVER], {"first": 0.2}, "timeout"),
        ([head(), events(openai.chunk({"content": "Hi"})), NEVER], {"idle": 0.2}, "stream_stalled"),
        ([head(), *([events(openai.chunk({"content": "Hi"})), 0.05] * 600)], {"total": 1.5}, "stream_stalled"),
    ],
)
async def test_times(tmp_path: Path, script: Script, times: dict[str, float], code: str) -> None:
    """The times of one upstream are the operator's: first byte, silence between two, and the whole."""
    async with wired(lambda _: script) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, openai.KEY, timeouts=times)
        remote_of(parts).patience = type(QUICK)(**times)
        async with asking(parts) as client:
            answer = await client.post("/v1/chat/completions", json=question(model=MODEL, stream=True))
    last = answer.text.rstrip("\n").rsplit("\n\n", 1)[-1].removeprefix("data: ")
    assert json.loads(last)["error"]["code"] == code


def test_times_are_configured(tmp_path: Path) -> None:
    """Times, repetitions and fallbacks come from the operator's file into what is used."""
    path = tmp_path / "up.toml"
    path.write_text(
        '[upstreams.box]\nbase_url = "http://127.0.0.1:9/v1"\nretries = 0\ntimeouts = {first = 7, idle = 3.5}\n'
        '[fallbacks]\nbox = ["house"]\n"box/big" = ["box/small"]\n'
    )
    told = read({"HYBR_UPSTREAMS": str(path)})
    box = remote(told.configured[0])
    assert (box.retries, box.patience.first, box.patience.idle, box.patience.connect) == (0, 7, 3.5, 10)
    assert told.fallbacks == {"box": ("house",), "box/big": ("box/small",)}


async def test_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first byte and between two, a silent provider's client gets comments, and then its answer whole."""
    monkeypatch.setattr("hybr.server.exchange.BEAT", 0.1)
    first, second = asyncio.Event(), asyncio.Event()
    script = [first, head(), events(openai.chunk({"content": "One"})), second, events(*openai.told(" two"))]
    async with wired(lambda _: script) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, openai.KEY)
        async with listening(parts) as address, aiohttp.ClientSession() as session:
            body = {**question(model=MODEL), "stream": True}
            async with session.post(f"{address}/v1/chat/completions", json=body) as answer:
                assert await answer.content.readline() == b": waiting\n"
                first.set()
                line = b""
                while b"One" not in line:
                    line = await answer.content.readline()
                while not line.startswith(b": waiting"):
                    line = await answer.content.readline()
                second.set()
                rest = (await answer.read()).decode()
    assert " two" in rest
    assert rest.endswith("data: [DONE]\n\n")


async def test_d22_nothing_but_what_was_asked(tmp_path: Path) -> None:
    """A wait between two tries ends with the client: nobody is asked for somebody who has left."""
    asked: list[Asked] = []

    def script(one: Asked) -> Script:
        asked.append(one)
        return busy("9")

    async with wired(script) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, openai.KEY, retries=5)
        async with listening(parts) as address, aiohttp.ClientSession() as session:
            leaving = asyncio.create_task(session.post(f"{address}/v1/chat/completions", json=question(model=MODEL)))
            await soon(lambda: any(one.method == "POST" for one in asked))
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            await soon(lambda: not parts.relay.pulse.running)
    assert sum(one.method == "POST" for one in asked) == 1


async def test_cost_and_who(tmp_path: Path) -> None:
    """A stream says in its head who answers, and at its end what was used and what it cost."""
    async with wired(openai.answer) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, openai.KEY)
        async with listening(parts) as address, aiohttp.ClientSession() as session:
            body: dict[str, Any] = question(model=MODEL, stream_options={"include_usage": True})
            found = [event async for event in stream(session, address, body)]
    usage = found[-2]["usage"]  # type: ignore[index]
    # gpt-5-mini: 0.25 dollars a million tokens in, 0.025 cached, 2 out; 5 + 4 cached in, 3 out
    assert usage["cost"] == pytest.approx((5 * 0.25 + 4 * 0.025 + 3 * 2) / 1e6)
    assert said(found[:-1]) == "Paris é😀"  # type: ignore[arg-type]
