"""Prices: whose holds, from when, and what an answer costs to the nano-dollar."""

from __future__ import annotations

import datetime as dt
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybr.server import upstreams
from hybr.server.errors import ConfigError
from hybr.server.money import config, prices
from hybr.server.money.prices import FREE, Price

TODAY = "2026-11-22"


def test_the_default_models_have_prices() -> None:
    """What a provider answers with when nobody chose a model costs what its price list says."""
    found = prices.shipped()
    for name, preset in upstreams.PRESETS.items():
        if name in {"openai", "anthropic"}:
            assert found.find(f"{name}/{preset['default']}", TODAY), name
    assert found.find("openai/gpt-5-mini-2025-08-07", TODAY) == Price(250_000_000, 2_000_000_000, 25_000_000, "2025-08-07")


UNPRICED = {
    "gemini/gemini-flash-latest",  # a name that moves from model to model
}


def test_every_model_offered_by_itself_has_a_price_or_is_known_to_have_none() -> None:
    """A preset's default, and what it lists, costs something known; who has no price is named here, on purpose."""
    named = {
        f"{name}/{model}"
        for name, preset in upstreams.PRESETS.items()
        for model in (*preset.get("models", ()), *filter(None, [preset.get("default")]))
    }
    assert {model for model in named if prices.shipped().find(model, TODAY) is None} == UNPRICED & named == UNPRICED


def test_the_list_is_sane() -> None:
    """Of each price: a day that has been, one price a day, a cached token no dearer than another, an answer's not cheaper."""
    for pattern, entries in prices.shipped()._table.items():
        provider = pattern.partition("/")[0]
        assert provider in upstreams.PRESETS or provider == "vllm", pattern
        days = [one.begins for one in entries]
        assert len(set(days)) == len(days), pattern
        for one in entries:
            assert one.begins <= prices.shipped().version, pattern
            assert 0 <= one.cached_input <= one.input <= 100 * prices.NANO, pattern
            assert one.output >= one.input or "embedding" in pattern, pattern
            assert (one.begins == "1970-01-01") == (one.input == one.output == 0), f"{pattern}: a price has a day"


def test_a_pattern_takes_no_neighbour() -> None:
    """A family's price is not its dearer member's."""
    assert prices.shipped().find("openai/gpt-5.5-pro", TODAY) is None
    assert prices.shipped().find("openai/gpt-5-pro", TODAY) is None


def test_the_house_is_free_and_a_stranger_unknown() -> None:
    """A model without a provider before it is the house's; an unknown one has no price, which is not 0."""
    assert prices.shipped().find("smollm2-135m", TODAY) == FREE
    assert prices.shipped().find("ollama/anything:8b", TODAY).cost(10**6, 10**6, 0) == 0  # type: ignore[union-attr]
    assert prices.shipped().find("elsewhere/model", TODAY) is None


def test_a_price_holds_from_its_day() -> None:
    """The newest price that has begun counts, and before the first there is none."""
    found = prices.shipped()
    assert found.find("openai/o3", "2025-04-15") is None
    assert found.find("openai/o3", "2025-06-09").input == 10_000_000_000  # type: ignore[union-attr]
    assert found.find("openai/o3", "2025-06-10").input == 2_000_000_000  # type: ignore[union-attr]


def test_the_operator_goes_over() -> None:
    """The operator's price replaces the shipped one of the same pattern, and the longest pattern that fits wins."""
    own = {
        "openai/gpt-5-mini*": {"input": Decimal("0.1"), "output": 1},
        "box/*": {"input": 1, "output": 1},
        "box/qwen*": {"input": 2, "output": 2, "from": dt.date(2026, 1, 1)},
    }
    found = prices.over(own)
    assert found.find("openai/gpt-5-mini", TODAY) == Price(100_000_000, 1_000_000_000, 100_000_000)
    assert found.find("box/llama", TODAY).input == 1_000_000_000  # type: ignore[union-attr]
    assert found.find("box/qwen3:8b", TODAY).input == 2_000_000_000  # type: ignore[union-attr]
    assert found.find("box/qwen3:8b", "2025-12-31").input == 1_000_000_000  # type: ignore[union-attr]
    assert found.version != prices.shipped().version


@pytest.mark.parametrize(
    ("pattern", "entry", "field"),
    [
        ("a/b", {"input": 1}, 'prices."a/b"'),
        ("a/b", {"input": -1, "output": 1}, 'prices."a/b".input'),
        ("a/b", {"input": Decimal("NaN"), "output": 1}, 'prices."a/b".input'),
        ("a/b", {"input": True, "output": 1}, 'prices."a/b".input'),
        ("a/b", {"input": Decimal("0.0000000001"), "output": 1}, 'prices."a/b".input'),
        ("a/b", {"input": 1, "output": 1, "from": "2026-01-01"}, 'prices."a/b".from'),
        ("a*b", {"input": 1, "output": 1}, 'prices."a*b"'),
        ("a/b", {"input": 1, "output": 1, "currency": "EUR"}, 'prices."a/b"'),
    ],
)
def test_a_mistake_names_its_place(pattern: str, entry: dict[str, Any], field: str) -> None:
    """A price that cannot be meant is refused at the start."""
    with pytest.raises(ConfigError) as caught:
        prices.over({pattern: entry})
    assert caught.value.field == field
    assert caught.value.remedy


counts = st.integers(0, 10**7)


@given(counts, counts, st.data(), st.tuples(*[st.decimals(0, 1000, places=9)] * 3))
def test_the_cost_equals_a_calculation_by_hand(
    prompt: int, completion: int, data: st.DataObject, fees: tuple[Decimal, ...]
) -> None:
    """An answer costs tokens times price, to the nearest nano-dollar; halves are rounded up."""
    cached = data.draw(st.integers(0, prompt))
    price = Price(*(prices.nano("x", fee) for fee in fees))
    dollars = ((prompt - cached) * Fraction(fees[0]) + completion * Fraction(fees[1]) + cached * Fraction(fees[2])) / 1_000_000
    exact = dollars * 1_000_000_000
    by_hand = (Decimal(exact.numerator) / Decimal(exact.denominator)).quantize(Decimal(1), ROUND_HALF_UP)
    assert abs(price.cost(prompt, completion, cached) - exact) <= Fraction(1, 2)
    assert price.cost(prompt, completion, cached) == int(by_hand)


def test_the_file_says_all(tmp_path: Any) -> None:
    """Limits, exceptions and prices come out of one TOML, money in exact nano-dollars."""
    path = tmp_path / "limits.toml"
    path.write_text(
        'unknown_price = "allow"\n[limits]\nrequests_per_minute = 60\nspend_day = 0.1\n[limits.token]\nstreams = 2\n'
        '[limits.users.alice]\nspend_day = 5\n[limits.keys.k1]\nstreams = 1\n[prices."box/m"]\ninput = 0.1\noutput = 0.3\n'
    )
    money = config.read({"HYBR_LIMITS": str(path)})
    assert money.policy.unknown_price == "allow"
    assert money.policy.everybody.spend_day == 100_000_000
    assert (money.policy.users["alice"].spend_day, money.policy.users["alice"].requests_per_minute) == (5_000_000_000, 60)
    assert (money.policy.tokens.streams, money.policy.keys["k1"].streams) == (2, 1)
    assert money.prices.find("box/m", TODAY).output == 300_000_000  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[limit]", "limit"),
        ('unknown_price = "ignore"', "unknown_price"),
        ("[limits]\nrequests = 3", "limits.requests"),
        ("[limits]\nstreams = 0", "limits.streams"),
        ("[limits]\nspend_day = -1", "limits.spend_day"),
        ('[limits.users]\nann = "5"', "limits.users.ann"),
        ("[", "HYBR_LIMITS"),
    ],
)
def test_a_bad_file_names_its_place(tmp_path: Any, text: str, field: str) -> None:
    """A misspelt limit must not mean no limit."""
    path = tmp_path / "limits.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.read({"HYBR_LIMITS": str(path)})
    assert caught.value.field == field


def test_no_file_is_no_limit_and_a_missing_one_an_error(tmp_path: Any) -> None:
    """Without the variable nothing is limited; a path that leads nowhere is a mistake."""
    assert config.read({}).policy == config.Policy()
    with pytest.raises(ConfigError):
        config.read({"HYBR_LIMITS": str(tmp_path / "none.toml")})
