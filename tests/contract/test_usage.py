"""`/api/usage` and `/api/prices`: the ledger equals a calculation by hand, and everybody sees their own."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from accounts import NOON, Clock, call, metered, policy
from fakes import openai
from fakes.gateway import parts_of
from fakes.wire import wired
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from people import person, token
from serving import asking, listening, parts_in, question

from hybr.server.caller import Caller
from hybr.server.money.prices import Price, Prices
from hybr.server.money.usage import Question, figures_of, grouped

if TYPE_CHECKING:
    from pathlib import Path

    from hybr.server.store.database import Database

CHAT = "/v1/chat/completions"
MODELS = {"a/x": ("0.25", "2", "0.025"), "a/y": ("3", "15", "0.3"), "b/z": ("0.1", "0.4", "0.1")}
PRICES = Prices({name: (Price(*(int(Fraction(fee) * 10**9) for fee in fees)),) for name, fees in MODELS.items()}, "test")
EXAMPLES = itertools.count()

answers = st.tuples(
    st.sampled_from([*MODELS, "c/unpriced"]),
    st.sampled_from(["ada", "bob"]),
    st.integers(0, 3),  # days later
    st.integers(0, 200_000),
    st.integers(0, 50_000),
    st.floats(0, 1),
    st.booleans(),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_answers=st.lists(answers, max_size=25), stops=st.integers(1, 9))
async def test_the_ledger_equals_a_calculation_by_hand(database: Database, given_answers: list[Any], stops: int) -> None:
    """For any answers of any people on any days, settled whenever: each sum is exact, by day, provider and model."""
    owner = f"o{next(EXAMPLES)}"  # rows of earlier examples are other people's
    wall = Clock(NOON)
    expected: dict[tuple[str, ...], list[Fraction]] = {}
    async with metered(database, policy(), wall=wall) as meter:
        meter.prices = PRICES
        for number, (model, name, later, prompt, completion, share, fails) in enumerate(given_answers):
            wall.now = NOON + later * 86_400
            provider, cached = model.split("/")[0], int(prompt * share)
            with await meter.book(Caller(owner + name, "user"), call(model=model), provider) as booking:
                booking.answered(provider, model, 1)
                booking.usage(prompt, completion, cached)
                if fails:
                    booking.failed("stream_cut")
            cost = Fraction(0)
            if model in MODELS:
                fees = [Fraction(fee) for fee in MODELS[model]]
                exact = ((prompt - cached) * fees[0] + completion * fees[1] + cached * fees[2]) * 1000
                cost = Fraction((exact + Fraction(1, 2)).__floor__())
            if name == "ada":
                day = f"2026-11-{23 + later}"
                figures = [1, prompt, cached, completion, cost, int(model not in MODELS), int(fails)]
                for key in ((day,), (provider,), (provider, model)):
                    old = expected.setdefault(key, [Fraction(0)] * 7)
                    expected[key] = [one + Fraction(more) for one, more in zip(old, figures, strict=True)]
            if number % stops == 0:
                await meter.till.settle()  # type: ignore[attr-defined]
    found: dict[tuple[str, ...], list[int]] = {}
    async with database.begin() as connection:
        for columns in (("day",), ("provider",), ("provider", "model")):
            question_ = Question(owner + "ada", "2026-11-23", "2026-11-26", columns[-1])
            for row in await grouped(connection, question_, columns):
                found[row[: len(columns)]] = list(row[len(columns) :])
    assert found == expected
    assert all(isinstance(figure, int) for row in found.values() for figure in row)


def test_dollars_are_made_at_the_edge() -> None:
    """A row's cost is whole nano-dollars, and once in dollars to read."""
    assert figures_of([2, 3, 1, 5, 1_500_000_001, 0, 1]) == {
        "requests": 2,
        "prompt_tokens": 3,
        "cached_tokens": 1,
        "completion_tokens": 5,
        "cost_nano": 1_500_000_001,
        "unpriced": 0,
        "errors": 1,
        "cost": 1.500000001,
    }


async def test_what_was_just_answered_is_there(tmp_path: Path) -> None:
    """After an answer the usage has it, by model, with what it cost and which limits hold."""
    days = [dt.datetime.now(dt.UTC).date()]
    async with wired(openai.answer) as wire, asking(parts_of(tmp_path, "openai", wire.address, openai.KEY)) as client:
        for _ in range(2):
            await client.post(CHAT, json=question(model="openai/gpt-5-mini"))
        await client.post(CHAT, json=question(model="openai/unheard-of"))  # the fake refuses it
        found = (await client.get("/api/usage?group=model")).json()
    days.append(dt.datetime.now(dt.UTC).date())  # it may be midnight in between
    assert (found["from"], found["to"]) in [(day.replace(day=1).isoformat(), day.isoformat()) for day in days]
    assert found["currency"] == "USD"
    rows = {row["model"]: row for row in found["data"]}
    assert set(rows) == {"openai/gpt-5-mini", "openai/other"}
    good = rows["openai/gpt-5-mini"]
    assert (good["provider"], good["requests"], good["prompt_tokens"], good["cached_tokens"]) == ("openai", 2, 18, 8)
    assert (good["cost_nano"], good["cost"], good["errors"]) == (14_700, 14.7e-6, 0)
    assert (rows["openai/other"]["errors"], rows["openai/other"]["cost_nano"]) == (1, 0)
    assert found["total"]["requests"] == 3
    assert found["limits"][0]["spend_day"] is None


async def test_everybody_sees_their_own(tmp_path: Path) -> None:
    """Who is no administrator sees nobody else's usage; an administrator sees one person's or all."""
    async with wired(openai.answer) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, openai.KEY, auth="accounts")
        async with listening(parts) as address, httpx.AsyncClient(base_url=address, timeout=60) as client:
            people = {name: await person(parts, name, "admin" if name == "root" else "user") for name in ("ann", "bob", "root")}
            keys = {name: (await token(parts, owner, "admin"))[1] for name, owner in people.items()}

            async def ask(name: str, method: str, path: str, **fields: Any) -> httpx.Response:
                return await client.request(method, path, headers={"authorization": f"Bearer {keys[name]}"}, **fields)

            await asyncio.gather(*(ask("ann", "POST", CHAT, json=question(model="openai/gpt-5-mini")) for _ in range(3)))
            await ask("bob", "POST", CHAT, json=question(model="openai/gpt-5-mini"))
            count = {name: (await ask(name, "GET", "/api/usage")).json()["total"]["requests"] for name in people}
            assert count == {"ann": 3, "bob": 1, "root": 0}
            for owner in (people["ann"], "*"):
                refused = await ask("bob", "GET", f"/api/usage?owner={owner}")
                assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_admin")
            assert (await ask("root", "GET", f"/api/usage?owner={people['ann']}")).json()["total"]["requests"] == 3
            assert (await ask("root", "GET", "/api/usage?owner=*")).json()["total"]["requests"] == 4


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=2026-13-01", "from"),
        ("from=20261101", "from"),
        ("to=yesterday", "to"),
        ("from=2026-11-02&to=2026-11-01", "from"),
        ("from=2020-01-01&to=2026-11-01", "from"),
        ("group=owner", "group"),
        ("group=day;drop table ledger", "group"),
        ("user=bob", "user"),
    ],
)
async def test_a_question_that_is_none(tmp_path: Path, query: str, field: str) -> None:
    """A question that cannot be answered is refused by the name of its field."""
    async with asking(parts_in(tmp_path)) as client:
        answer = await client.get(f"/api/usage?{query}")
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


async def test_the_prices_of_what_is_offered(tmp_path: Path) -> None:
    """`/api/prices` names the models of now whose price is known, in dollars for a million tokens, from a day on."""
    async with wired(openai.answer) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, openai.KEY)
        async with asking(parts) as client:
            await parts.remotes[0].refresh()
            found = (await client.get("/api/prices")).json()
            offered = {model["id"] for model in (await client.get("/v1/models")).json()["data"]}
    assert found["currency"] == "USD"
    assert set(found["models"]) <= offered
    assert found["models"]["openai/gpt-5-mini"] == {"input": 0.25, "output": 2.0, "cached_input": 0.025, "from": "2025-08-07"}
    assert found["models"]["smollm2-135m"]["output"] == 0
