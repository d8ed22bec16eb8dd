"""Limits and budgets on the wire: the server as it is, a provider that is asked only for what may be asked."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
from accounts import budget, figures, policy
from fakes import openai
from fakes.gateway import parts_of
from fakes.wire import Asked, Script, events, streamed, wired
from people import browser, person, token
from serving import asking, listening, question, soon

from hybr.server.money.limits import Limits, Policy
from hybr.server.money.till import day_of
from hybr.server.store.database import Database

if TYPE_CHECKING:
    from pathlib import Path

    from hybr.server.serve import Parts

MODEL = "openai/gpt-5-mini"
CHAT = "/v1/chat/completions"
ONE = 7350  # nano-dollars of one answer of the fake


def limited(folder: Path, address: str, limits: Policy, **fields: Any) -> Parts:
    """Return parts with these limits in front of a fake OpenAI."""
    parts = parts_of(folder, "openai", address, openai.KEY, **fields)
    parts.office.meter.policy = limits
    return parts


async def test_the_429_says_when(tmp_path: Path) -> None:
    """The refusal is in our envelope with true headers, the provider is not asked, and a good answer says what is left."""
    async with wired(openai.answer) as wire, asking(limited(tmp_path, wire.address, policy(requests_per_minute=2))) as client:
        answers = [await client.post(CHAT, json=question(model=MODEL)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit-policy"] == '"requests";q=2;w=60'
    assert answers[0].headers["ratelimit"].startswith('"requests";r=1;t=')
    refused = answers[2]
    error = refused.json()["error"]
    assert (error["type"], error["code"], error["retryable"]) == ("rate_limit_error", "limit_requests", True)
    assert 10 <= int(refused.headers["retry-after"]) <= 30
    assert refused.headers["ratelimit"].startswith('"requests";r=0;t=')
    assert len([asked for asked in wire.asked if asked.method == "POST"]) == 2


async def test_the_cost_comes_with_the_answer(tmp_path: Path) -> None:
    """`usage.cost` is USD by the price list, plain and streamed, and 0 for the house's own model."""
    async with wired(openai.answer) as wire, asking(limited(tmp_path, wire.address, policy())) as client:
        plain = await client.post(CHAT, json=question(model=MODEL))
        asked = question(model=MODEL, stream=True, stream_options={"include_usage": True})
        streamed_answer = await client.post(CHAT, json=asked)
    last = json.loads(streamed_answer.text.split("\n\n")[-3].removeprefix("data: "))
    assert plain.json()["usage"]["cost"] == last["usage"]["cost"] == ONE / 1e9


async def test_36_five_hundred_against_a_budget_for_ten(tmp_path: Path) -> None:
    """Through the relay: ten answers are paid for, the provider is asked ten times, and after a restart it is the same (36)."""
    reserved = 12_000  # nano-dollars kept for one: 32 tokens of prompt at 0.25 and 2 of answer at 2 dollars a million
    body = question("x" * 69, model=MODEL, max_tokens=2)

    async def storm(client: httpx.AsyncClient, count: int) -> list[int]:
        answers = await asyncio.gather(*(client.post(CHAT, json=body) for _ in range(count)))
        return [answer.status_code for answer in answers]

    def script(asked: Asked) -> Script:
        usage = {**openai.USAGE, "prompt_tokens": 32, "completion_tokens": 2, "prompt_tokens_details": {}}
        told = [openai.chunk({"content": "Hi"}, "stop"), {**openai.chunk({}), "choices": [], "usage": usage}, b"[DONE]"]
        return streamed(events(*told)) if asked.method == "POST" else openai.answer(asked)

    limits = policy(spend_day=10 * reserved)
    async with wired(script) as wire:
        async with asking(limited(tmp_path, wire.address, limits)) as client:
            found = await storm(client, 500)
            usage = (await client.get("/api/usage")).json()["total"]
        assert (found.count(200), found.count(429)) == (10, 490)
        assert (usage["requests"], usage["cost_nano"]) == (10, 10 * reserved)
        async with asking(limited(tmp_path, wire.address, limits)) as client:
            assert await storm(client, 20) == [429] * 20
            assert (await client.get("/api/usage")).json()["total"] == usage
    assert len([asked for asked in wire.asked if asked.method == "POST"]) == 10


async def test_leaving_gives_everything_back(tmp_path: Path) -> None:
    """A client that leaves before or in the middle frees its stream, its tokens and its money; the middle is paid (21, 22)."""
    never = asyncio.Event()
    piece = events(openai.chunk({"content": "Pa"}))

    def script(asked: Asked) -> Script:
        if asked.method != "POST":
            return openai.answer(asked)
        return [never] if "silent" in str(asked.body) else streamed(piece, never)

    limits = policy(streams=2, tokens_per_minute=5000, spend_day=1_000_000_000)
    async with wired(script) as wire:
        parts = limited(tmp_path, wire.address, limits)
        meter, till = parts.office.meter, parts.office.till
        async with listening(parts) as address, aiohttp.ClientSession() as session:
            for text in ("silent", "talking"):
                asked = asyncio.create_task(session.post(f"{address}{CHAT}", json=question(text, model=MODEL, stream=True)))
                await soon(lambda: meter.running == 1)
                if text == "talking":
                    answer = await asked
                    await answer.content.readline()
                    answer.close()
                else:
                    await soon(lambda: any("silent" in str(one.body) for one in wire.asked))
                    asked.cancel()
                await soon(lambda: meter.running == 0)
            (account,) = meter._accounts["local", None]
            assert account.running == 0
            assert account.tokens is not None
            assert account.tokens.level(meter.clock()) > 5000 - 40
            (purse,) = till.purses.values()
            assert purse.reserved == 0
            async with session.get(f"{address}/api/usage") as answer:
                total = (await answer.json())["total"]
    assert (total["requests"], total["errors"], total["completion_tokens"]) == (2, 2, 1)
    assert 0 < total["cost_nano"] < 10_000


async def test_concurrent_streams(tmp_path: Path) -> None:
    """The stream over the limit is refused while the others run, and let in when one has ended."""
    never = asyncio.Event()

    def script(asked: Asked) -> Script:
        return streamed(events(openai.chunk({"content": "Pa"})), never, events(*openai.told("ris")))

    async with (
        wired(script) as wire,
        listening(limited(tmp_path, wire.address, policy(streams=1))) as address,
        aiohttp.ClientSession() as session,
    ):
        first = await session.post(f"{address}{CHAT}", json=question(model=MODEL, stream=True))
        await first.content.readline()
        async with session.post(f"{address}{CHAT}", json=question(model=MODEL, stream=True)) as second:
            assert (second.status, (await second.json())["error"]["code"]) == (429, "limit_streams")
        never.set()
        await first.read()
        async with session.post(f"{address}{CHAT}", json=question(model=MODEL, stream=True)) as third:
            assert third.status == 200
            await third.read()


async def test_per_person_and_per_token(tmp_path: Path) -> None:
    """With accounts each person has limits of their own, and each of their tokens too."""
    async with wired(openai.answer) as wire:
        limits = Policy(Limits(requests_per_minute=3), tokens=Limits(requests_per_minute=2))
        parts = limited(tmp_path, wire.address, limits, auth="accounts")
        async with listening(parts) as address:
            ann, bob = await person(parts, "ann"), await person(parts, "bob")
            bearers = [(await token(parts, owner))[1] for owner in (ann, ann, bob)]
            async with httpx.AsyncClient(base_url=address, timeout=60) as client:

                async def status(which: int) -> int:
                    headers = {"authorization": f"Bearer {bearers[which]}"}
                    return (await client.post(CHAT, json=question(model=MODEL), headers=headers)).status_code

                assert [await status(which) for which in (0, 0, 0, 1, 1, 2)] == [200, 200, 429, 200, 429, 200]


async def test_two_servers_share_one_budget(tmp_path: Path) -> None:
    """Two servers over one store together give out what there is."""
    async with wired(openai.answer) as wire:
        limits = policy(spend_day=40 * 12_000)
        async with (
            asking(limited(tmp_path, wire.address, limits)) as one,
            asking(limited(tmp_path, wire.address, limits)) as two,
        ):
            answers = await asyncio.gather(
                *(client.post(CHAT, json=question("Hi", model=MODEL, max_tokens=4)) for client in (one, two) * 60)
            )
            found = [answer.status_code for answer in answers]
            totals = [(await client.get("/api/usage")).json()["total"] for client in (one, two)]
    assert set(found) == {200, 429}
    assert totals[1]["requests"] == found.count(200)
    assert totals[1]["cost_nano"] == found.count(200) * ONE <= 40 * 12_000


async def test_a_broken_store_costs_no_unlimited_answer(tmp_path: Path) -> None:
    """Without a limit on spending a dead disk changes nothing for who asks; with one, money fails closed and says so (40)."""
    (tmp_path / "data").write_text("no folder")
    async with wired(openai.answer) as wire:
        parts = limited(tmp_path, wire.address, policy(requests_per_minute=100))
        async with asking(parts) as client:
            assert (await client.post(CHAT, json=question(model=MODEL))).status_code == 200
            assert (await client.get("/api/usage")).status_code == 503
            parts.office.meter.policy = policy(spend_day=10**9)
            parts.office.meter._accounts.clear()
            refused = await client.post(CHAT, json=question(model=MODEL))
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "budget_unavailable")
            assert refused.headers["retry-after"] == "5"


async def test_an_answer_without_a_bound_gets_one_where_money_is_limited(tmp_path: Path) -> None:
    """The provider may say no more than what was reserved for it; who has no budget, or a bound of their own, keeps theirs."""
    boundless = {name: value for name, value in question(model=MODEL).items() if name != "max_tokens"}
    async with wired(openai.answer) as wire:
        for limits, bound in ((policy(spend_day=10**9), {}), (policy(), {}), (policy(spend_day=10**9), {"max_tokens": 7})):
            async with asking(limited(tmp_path, wire.address, limits)) as client:
                assert (await client.post(CHAT, json=boundless | bound)).status_code == 200
    bodies = [asked.body for asked in wire.asked if asked.method == "POST"]
    assert [body.get("max_completion_tokens") for body in bodies] == [4096, None, 7]


async def test_a_persons_own_key_is_within_the_budget(tmp_path: Path) -> None:
    """What a person's own key pays for is booked and bounded as all else is, and the operator can give them a larger budget."""
    small, large = Limits(spend_day=100), Limits(spend_day=10**9)
    async with wired(openai.answer) as wire:
        parts = limited(tmp_path, wire.address, Policy(small), auth="accounts")
        async with listening(parts) as address:
            ada = await person(parts, "ada")
            async with browser(address, "ada") as client:
                assert (await client.put("/api/keys/openai", json={"key": openai.KEY})).json()["source"] == "person"
                refused = await client.post(CHAT, json=question(model=MODEL))
                assert (refused.status_code, refused.json()["error"]["code"]) == (429, "spend_day")
                assert [one for one in wire.asked if one.method == "POST"] == []
                parts.office.meter.policy = Policy(small, users={ada: large})
                parts.office.meter._accounts.clear()
                assert (await client.post(CHAT, json=question(model=MODEL))).status_code == 200
                assert (await client.get("/api/usage")).json()["total"]["cost"] > 0


async def test_a_fallback_that_the_budget_does_not_hold_is_not_asked(tmp_path: Path) -> None:
    """What a free model cannot answer goes on to one that costs only where the caller has the money for it."""
    answers = []
    async with wired(openai.answer) as wire:
        for dollars in (100, 10**9):
            parts = limited(tmp_path, wire.address, policy(spend_day=dollars))
            parts.house.breaker.opened, parts.house.breaker.until = 1, parts.house.breaker.clock() + 3600
            parts.relay.fallbacks = {"house": [MODEL]}
            async with asking(parts) as client:
                answers.append(await client.post(CHAT, json=question(model=parts.house.id)))
    assert [answer.status_code for answer in answers] == [503, 200]
    assert answers[0].json()["error"]["code"] == "breaker_open"
    assert answers[1].headers["x-hybr-provider"] == "openai"
    assert len([asked for asked in wire.asked if asked.method == "POST"]) == 1


async def test_48_fifty_streams_at_the_servers_end(tmp_path: Path) -> None:
    """Each of fifty live streams ends in an error event, never in a finish; all are in the books, and no lease is kept."""
    never = asyncio.Event()

    def script(asked: Asked) -> Script:
        return streamed(events(openai.chunk({"content": "Pa"})), never) if asked.method == "POST" else openai.answer(asked)

    async with wired(script) as wire, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        parts = limited(tmp_path, wire.address, policy(spend_day=10**9))
        async with listening(parts) as address:
            ask = [session.post(f"{address}{CHAT}", json=question(model=MODEL, stream=True)) for _ in range(50)]
            answers = await asyncio.gather(*ask)
            for answer in answers:
                assert b"Pa" in await answer.content.readline()
        bodies = [await answer.text() for answer in answers]
    for body in bodies:
        assert json.loads(body.strip().removeprefix("data: "))["error"]["code"] == "server_stopping"
    assert (parts.office.meter.running, parts.office.till.standing()) == (0, {"leases": 0, "leased": 0, "waiting": 0})
    store = Database(tmp_path / "data")
    requests, cost = await figures(store, "local")
    assert requests == 50
    assert await budget(store, "user:local", day_of(parts.office.meter.wall())) == (cost, 0)
    await store.close()
