"""What the views are told, from the orchestrator's own answers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from hybr.webapp.ui import facts, models
from hybr.webapp.ui.app import DELAY_S, App

SMOL = {"id": "smol", "name": "SmolLM2", "bytes": 91, "quantisation": "q4f32_1", "state": "built", "files": [{"path": "a"}]}
TINY = {
    "id": "tiny",
    "name": "Tiny",
    "test_only": True,
    "state": "building",
    "progress": {"step": "compile", "fraction": 0.4, "eta_s": 9},
}


def context(**given: Any) -> Any:
    """A Context whose parts answer what is given, and idle otherwise."""
    local = {"state": "unloaded", "runtime": "webgpu", "webgpu": "yes", "model": None, **given.get("local", {})}
    hybrid = {"mode": "cloud", "preferred_mode": "cloud", **given.get("status", {})}
    entries = given.get("models", [TINY, SMOL])
    return SimpleNamespace(
        hybrid=SimpleNamespace(
            get_status=lambda: hybrid,
            get_auto_switch_config=lambda: {"modes": ["local", "cloud"]},
            get_usage_stats=lambda: given.get("usage", {}),
            get_egress_log=lambda: given.get("receipts", []),
            get_egress_policy=lambda: "allow",
        ),
        local=SimpleNamespace(
            get_status=lambda: local,
            get_runtime_info=lambda: given.get("info", {}),
            get_available_models=lambda: entries,
            entry=lambda model: next((one for one in entries if one["id"] == model), None),
            others=None,
            checking=None,
        ),
        preferences=given.get("preferences", {}),
        place=SimpleNamespace(where="main"),
        chat=SimpleNamespace(egress="allow"),
    )


def test_the_mode_in_force_and_the_wanted_one_are_told_apart() -> None:
    """While the model loads, the mode is still the server's; the control shows both, and the model's name."""
    told = facts.mode(context(status={"mode": "cloud", "preferred_mode": "local"}, local={"state": "loading", "model": "smol"}))
    assert (told["mode"], told["preferred"], told["modes"]) == ("cloud", "local", ["local", "cloud"])
    assert told["local"] == {"state": "loading", "reason": None, "name": "SmolLM2"}


def test_a_browser_without_webgpu_is_told_why() -> None:
    """The reason and the remedy come from the preflight, as two sentences."""
    told = facts.status(
        context(local={"state": "unsupported", "webgpu": "no"}, info={"reason": "No adapter.", "remedy": "Update the driver."})
    )
    assert (told["state"], told["webgpu"], told["reason"], told["remedy"]) == (
        "unsupported",
        "no",
        "No adapter.",
        "Update the driver.",
    )


def test_progress_carries_bytes_and_time_left() -> None:
    """What the progress bar needs is there, and a software adapter is named as one."""
    local = {
        "state": "loading",
        "model": "smol",
        "progress": 0.5,
        "loaded_bytes": 40,
        "total_bytes": 80,
        "eta_s": 3,
        "text": "Downloading",
    }
    told = facts.status(context(local=local, info={"gpu": {"vendor": "google"}, "profile": "software"}))
    assert (told["progress"], told["loadedBytes"], told["totalBytes"], told["etaS"]) == (0.5, 40, 80, 3)
    assert told["adapter"] == {"vendor": "google", "architecture": "", "description": "", "software": True}
    assert told["name"] == "SmolLM2"


def test_models_for_people_come_first_and_builds_show() -> None:
    """Test models come last; a build's progress crosses, a model's list of files does not."""
    told = models.models(context())
    assert [model["id"] for model in told["models"]] == ["smol", "tiny"]
    assert told["models"][1]["build"] == {"fraction": 0.4, "step": "compile", "text": "compile", "etaS": 9}
    assert "files" not in told["models"][0]


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({}, "smol"),
        ({"preferences": {"model": "tiny"}}, "tiny"),
        ({"preferences": {"model": "gone"}}, "smol"),
        ({"local": {"model": "tiny", "state": "ready"}, "preferences": {"model": "smol"}}, "tiny"),
        ({"models": [{**SMOL, "fits": {"fits": False, "reason": "too big"}}, TINY]}, "smol"),
        ({"models": []}, None),
    ],
)
def test_the_suggested_model(given: dict[str, Any], chosen: str | None) -> None:
    """The one in use, else the one used last, else the first that fits and is no test's, else the first."""
    assert models.models(context(**given))["chosen"] == chosen


def test_what_does_not_fit_says_why() -> None:
    """A model too big for the device crosses with the reason."""
    told = models.models(context(models=[{**SMOL, "fits": {"fits": False, "reason": "It needs 4 GB."}, "cached": True}]))
    assert (told["models"][0]["fits"], told["models"][0]["reason"], told["models"][0]["cached"]) == (
        False,
        "It needs 4 GB.",
        True,
    )


def test_usage_has_both_providers_and_the_last_fallbacks() -> None:
    """Requests, tokens, average and errors of each; no average where there was no request; five fallbacks at most."""
    spent = {"requests": 2, "tokens": 30, "average_time": 150.0, "errors": 1}
    fallback = {"from": "local", "to": "cloud", "error": {"code": "engine_died", "message": "The engine died."}}
    told = facts.usage(context(usage={"local": spent, "fallback_count": 9, "fallbacks": [fallback] * 9}))
    assert told["providers"]["local"] == {"requests": 2, "tokens": 30, "averageMs": 150.0, "errors": 1}
    assert told["providers"]["cloud"] == {"requests": 0, "tokens": 0, "averageMs": None, "errors": 0}
    assert told["fallbacks"] == 9
    assert (
        told["recent"]
        == [{"from": "local", "to": "cloud", "error": {"code": "engine_died", "message": "The engine died."}}] * facts.RECENT
    )


def test_receipts_say_how_much_left_and_why() -> None:
    """One line a receipt, the newest first, with how many things were taken out; the text is in none."""
    sent = {"at": 5.0, "bytes": 120, "model": "m", "cause": "handover", "redacted": {"EMAIL": 2, "IP": 1}, "request_id": "x"}
    told = facts.egress(context(receipts=[sent, {"at": 4.0, "bytes": 9, "model": None, "cause": "mode"}]))
    assert told["receipts"][0] == {"at": 5.0, "bytes": 120, "model": "m", "cause": "handover", "redacted": 3}
    assert (told["receipts"][1]["model"], told["receipts"][1]["redacted"]) == ("", 0)


async def test_no_token_draws_the_views() -> None:
    """What comes with every token (text, thoughts) leaves them alone; a change of what is so draws them, once for several."""
    drawn = 0

    class Counted(App):
        def __init__(self) -> None:  # no Panel here
            self._due = False

        def show(self) -> None:
            nonlocal drawn
            self._due = False
            drawn += 1

    app = Counted()
    app._heard("hybrid-llm:stream-chunk", {})
    app._heard("hybrid-llm:thought", {})
    await asyncio.sleep(DELAY_S * 2)
    assert drawn == 0
    app._heard("cost:updated", {})
    app._heard("chat:changed", {})
    await asyncio.sleep(DELAY_S * 2)
    assert drawn == 1
