"""`/metrics`: Prometheus can read it, its labels are bounded, and only those may who should."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx
import pytest
from accounts import ADA, PRICES, Clock, NoTill, call, policy
from people import person, token
from serving import listening, parts_in

from hybr.server import metrics as metrics_module
from hybr.server.config import Settings
from hybr.server.errors import LimitError
from hybr.server.metrics import Metrics
from hybr.server.money.meter import Meter
from hybr.server.secret import Secret
from hybr.server.serve import assemble

if TYPE_CHECKING:
    from pathlib import Path

LINE = re.compile(r'(# (HELP|TYPE) \w+ .*|\w+(\{\w+="([^"\\\n]|\\.)*"(,\w+="([^"\\\n]|\\.)*")*\})? [0-9.e+-]+)')


def read(text: str) -> dict[str, float]:
    """Return the samples. Every line must be one that Prometheus takes."""
    lines = text.splitlines()
    assert all(LINE.fullmatch(line) for line in lines), [line for line in lines if not LINE.fullmatch(line)]
    found = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    assert len({name for name, _, _ in found}) == len(found)
    return {name: float(value) for name, _, value in found}


def counted(clock: Clock) -> tuple[Meter, Metrics]:
    """Return a meter that counts."""
    counters = Metrics(lambda model: model == "p/m")
    return Meter(policy(requests_per_minute=3), PRICES, NoTill(), [counters.take], [counters.refuse], clock=clock), counters


def test_what_is_counted() -> None:
    """Answers, tokens, cost, times, retries, errors and refusals."""
    clock = Clock()
    meter, counters = counted(clock)
    with meter.admit(ADA, call(), "p") as booking:
        clock.now += 0.2
        booking.answered("p", "p/m", 3)
        booking.first()
        clock.now += 1
        booking.usage(100, 50, 40)
    with meter.admit(ADA, call(model='p/"\n\\'), "p") as booking:
        booking.failed("timeout")
    meter.admit(ADA, call()).close()
    with pytest.raises(LimitError):
        meter.admit(ADA, call())
    found = read(counters.text({"hybr_in_flight": meter.running}, {"p": "open", "q": "closed"}))
    assert found['hybr_requests_total{provider="p",model="p/m",outcome="ok"}'] == 1
    assert found['hybr_requests_total{provider="p",model="other",outcome="error"}'] == 1
    assert found['hybr_errors_total{provider="p",code="timeout"}'] == 1
    assert found['hybr_tokens_total{provider="p",kind="prompt"}'] == 60
    assert found['hybr_tokens_total{provider="p",kind="cached"}'] == 40
    assert found['hybr_tokens_total{provider="p",kind="completion"}'] == 50
    assert found['hybr_cost_usd_total{provider="p"}'] == pytest.approx(60e-6 + 4e-6 + 50e-6)
    assert found['hybr_retries_total{provider="p"}'] == 2
    assert found['hybr_limits_refused_total{limit="limit_requests"}'] == 1
    assert found['hybr_breaker_state{provider="p"}'] == 2
    assert found['hybr_first_token_seconds_bucket{provider="p",le="0.1"}'] == 0
    assert found['hybr_first_token_seconds_bucket{provider="p",le="0.25"}'] == 1
    assert found['hybr_request_seconds_count{provider="p"}'] == 2
    assert found['hybr_request_seconds_sum{provider="p"}'] == pytest.approx(1.2)
    assert found["hybr_in_flight"] == 0


def test_labels_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names come by, so many are told apart."""
    monkeypatch.setattr(metrics_module, "MOST", 5)
    clock = Clock()
    meter, counters = counted(clock)
    for number in range(50):
        clock.now += 60
        with meter.admit(ADA, call(model=f"p/{number}"), f"p{number}") as booking:
            booking.failed(f"code{number}")
    assert len(counters.answers) <= 6
    assert len(counters.errors) <= 6
    assert len(counters.latency.counts) <= 6


async def asked(address: str, bearer: str = "") -> int:
    """Return the status of a scrape."""
    headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.get(f"{address}/metrics", headers=headers)
    if answer.status_code == 200:
        read(answer.text)
    return answer.status_code


async def test_who_may_read_alone(tmp_path: Path) -> None:
    """On a server for one person any program of the machine may; a wrong token is refused all the same."""
    async with listening(parts_in(tmp_path, "token")) as address:
        assert [await asked(address), await asked(address, "wrong")] == [200, 401]


async def test_who_may_read_with_accounts(tmp_path: Path) -> None:
    """With accounts only the metrics token and an administrator may: a proxy makes everybody look like this machine."""
    settings = Settings(
        home=tmp_path / "home", data=tmp_path / "data", build=False, warm=False, auth="accounts", metrics_token=Secret("m" * 32)
    )
    parts = assemble(settings)
    async with listening(parts) as address:
        ann, bob = await person(parts, "ann", "admin"), await person(parts, "bob")
        (_, admin), (_, user) = await token(parts, ann, "admin"), await token(parts, bob)
        found = [await asked(address, bearer) for bearer in ("", "wrong", user, admin, "m" * 32)]
    assert found == [401, 401, 401, 200, 200]
