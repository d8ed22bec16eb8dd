"""The page's telemetry: only when the person said so, never in local-only, nothing of a private request, no text ever."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import ASK, Desk
from lab.engine import Die
from lab.upstream import Refuse

from hybr.server.telemetry.row import DEVICES, from_page
from hybr.webapp.hybrid.errors import HybridError
from hybr.webapp.state.telemetry import ROOM, Telemetry, device_of

SECRET = "xyzzy-canary-3141"


class Watched:
    """A desk whose telemetry is switched on, and what the server got of it."""

    def __init__(self, *, on: bool | None = True, status: int = 202) -> None:
        self.desk = Desk()
        self.got: list[dict[str, Any]] = []
        self.status = status
        self.desk.upstream.files["/api/telemetry"] = self.take
        if on is not None:
            self.desk.preferences.set("telemetry", on)
        self.desk.preferences.quiet = lambda: self.desk.hybrid.get_mode() == "local-only"
        parts = self.desk.events, self.desk.preferences, self.desk.upstream
        self.telemetry = Telemetry(*parts, device=lambda: "webgpu", delay_s=1)

    def take(self, method: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Answer POST as the server does: what it would refuse fails the test."""
        assert method == "POST"
        for event in body["events"]:
            from_page("event", event, "ada", 0.0, {"local", "cloud", "tiny"})
        self.got += body["events"]
        return self.status, {}

    async def ask(self, **options: Any) -> None:
        """Have one answer, good or not."""
        with contextlib.suppress(HybridError):
            await self.desk.hybrid.complete([{"role": "user", "content": SECRET}], options)


@virtual
async def test_an_answer_is_one_event() -> None:
    """An answer of the local model is told by figures, and the server takes them."""
    watched = Watched()
    await watched.desk.ready()
    await watched.desk.hybrid.complete(ASK)
    await watched.telemetry.flush()
    (event,) = watched.got
    assert {name: event[name] for name in ("event", "provider", "model", "device")} == {
        "event": "complete",
        "provider": "local",
        "model": "tiny",
        "device": "webgpu",
    }
    assert (event["prompt"], event["completion"]) == (11, 7)
    assert event["latency"] > 0


@pytest.mark.parametrize("on", [None, False])
@virtual
async def test_off_by_default(on: bool | None) -> None:
    """Who has not said yes is not asked again and sends nothing."""
    watched = Watched(on=on)
    await watched.desk.ready()
    await watched.ask()
    await watched.telemetry.flush()
    assert "POST /api/telemetry" not in watched.desk.upstream.asked


@virtual
async def test_local_only_keeps_nothing() -> None:
    """Nothing of local-only's time is kept, so nothing of it leaves when the mode changes; what waited before goes too."""
    watched = Watched()
    await watched.desk.ready()
    await watched.ask()
    watched.desk.hybrid.set_mode("local-only")
    await watched.ask()
    await watched.telemetry.flush()
    watched.desk.hybrid.set_mode("cloud")
    await watched.ask()
    await watched.telemetry.flush()
    assert [event["provider"] for event in watched.got] == ["cloud"]


@virtual
async def test_private_requests_are_not_in_it() -> None:
    """A request labelled private leaves no trace in telemetry."""
    watched = Watched()
    await watched.desk.ready()
    await watched.ask(private=True)
    await watched.telemetry.flush()
    assert watched.got == []


@virtual
async def test_fallbacks_and_errors_are_codes() -> None:
    """A fallback and a failed stream are told by their codes; no text of an error, a question or an answer is in what is sent."""
    watched = Watched()
    await watched.desk.ready()
    watched.desk.engine.scripts.append([Die()])
    await watched.ask()
    watched.desk.upstream.scripts.append([Refuse(502, code="provider_failed")])
    watched.desk.hybrid.set_mode("cloud-only")
    with pytest.raises(HybridError):
        async for _ in watched.desk.hybrid.stream([{"role": "user", "content": SECRET}], {}):
            pass
    await watched.telemetry.flush()
    assert [event["event"] for event in watched.got] == ["fallback", "complete", "error"]
    assert watched.got[0]["error"]
    assert watched.got[2]["error"] == "provider_failed"
    assert SECRET not in json.dumps(watched.got)
    await asyncio.sleep(60)  # the model in the browser comes back


@virtual
async def test_a_server_that_is_away_costs_nothing() -> None:
    """While the server cannot be reached so many events wait and no more, and go along later; a refusal drops them."""
    watched = Watched()
    await watched.desk.ready()
    watched.desk.upstream.down = True
    for number in range(ROOM + 20):
        watched.telemetry._keep({}, event="error", error=f"e{number}")
    await watched.telemetry.flush()
    assert len(watched.telemetry._waiting) == ROOM
    watched.desk.upstream.down = False
    watched.telemetry._keep({}, event="error", error="last")
    await watched.telemetry.flush()
    assert (len(watched.got), watched.got[-1]["error"]) == (ROOM, "last")
    watched.status = 500
    watched.telemetry._keep({}, event="error", error="lost")
    await watched.telemetry.flush()
    assert watched.telemetry._waiting == []


def test_the_device_is_a_class() -> None:
    """What is told of the device is one of a few words, whatever the adapter is called."""
    yes: dict[str, Any] = {"webgpu": "yes", "profile": "gpu", "adapter": {"description": SECRET}}
    found = [
        device_of({}, "webgpu"),
        device_of(yes, "webgpu"),
        device_of({**yes, "profile": "software"}, "webgpu"),
        device_of({"webgpu": "no"}, "webgpu"),
        device_of({"webgpu": "no"}, "wasm"),
    ]
    assert found == ["unknown", "webgpu", "webgpu-software", "none", "wasm"]
    assert set(found) <= set(DEVICES)
