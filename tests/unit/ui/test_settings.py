"""The settings and the doctor: what is asked of the server, what is refused, and that a report tells nothing private."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from lab.desk import YES, Desk

from hybr.webapp.runtimes.others import Others, added
from hybr.webapp.runtimes.person import Person
from hybr.webapp.ui import doctor, settings
from hybr.webapp.ui.actions import act

KEYS = {
    "object": "list",
    "data": [
        {"provider": "toy", "set": True, "source": "person", "suspect": False},
        {"provider": "box", "set": False, "source": "none", "suspect": False},
    ],
}
PROVIDERS = {"object": "list", "data": [{"name": "toy", "kind": "openai", "available": True, "reason": None, "models": 2}]}
PROBE = {
    **YES,
    "profile": "gpu",
    "adapter": {"vendor": "acme", "architecture": "one", "description": "", "fallback": False},
    "features": ["shader-f16"],
    "limits": {"maxBufferSize": 1 << 30},
    "storage": {"quota": 5_000_000_000, "usage": 1_000_000_000, "persisted": True},
    "wasm": "yes",
    "wasmReason": None,
    "isolated": True,
    "sharedMemory": True,
}


@pytest.fixture
def context() -> Any:
    """A page's parts over a scripted server."""
    desk = Desk()
    desk.upstream.files |= {
        "/api/session": {"auth": "accounts", "owner": "u_1", "role": "user"},
        "/api/keys": KEYS,
        "/api/providers": PROVIDERS,
        "/api/me/data": {"forgotten": True},
    }
    others = Others(desk.upstream, desk.preferences)
    desk.local._catalogue.others = others
    desk.local.preflight(PROBE)
    chat = SimpleNamespace(messages=[{"role": "user", "content": "My secret is 1234."}], settings={})
    return SimpleNamespace(
        hybrid=desk.hybrid,
        local=desk.local,
        preferences=desk.preferences,
        person=Person(desk.upstream),
        gateway=desk.gateway,
        chat=chat,
        place=SimpleNamespace(where="main"),
        preflight=PROBE,
        desk=desk,
    )


async def asked(context: Any, action: str, **message: Any) -> Any:
    """Ask as a view does; an error comes as its dict."""
    came = await act(context, {"action": action, **message})
    return came.get("error") or came["value"]


async def test_what_the_server_keeps_is_told_without_a_key(context: Any) -> None:
    """Whether there is a key and whose, and whether that provider can answer; the session's kind, for the button to log out."""
    told = await asked(context, "account")
    assert told["auth"] == "accounts"
    assert [(one["provider"], one["set"], one["source"], one["available"]) for one in told["keys"]] == [
        ("toy", True, "person", True),
        ("box", False, "none", False),
    ]


@pytest.mark.parametrize("key", ["", "  ", "two words", "line\nbreak", "ä", "x" * 4097, None, 7])
async def test_what_is_no_key_never_leaves(context: Any, key: Any) -> None:
    """Refused here by its field, without a request."""
    error = await asked(context, "set-key", provider="toy", key=key)
    assert error["field"] == "key"
    assert not [one for one in context.desk.upstream.asked if one.startswith("PUT")]


async def test_a_key_is_given_once_and_a_refused_one_is_told(context: Any) -> None:
    """The provider's name is a part of a path and cannot leave it; the server's own words are told with their field."""
    seen: list[Any] = []

    def takes(method: str, body: Any) -> Any:
        seen.append((method, body))
        return {"provider": "toy", "set": True, "source": "person", "suspect": False, "checked": "valid"}

    def refuses(_method: str, _body: Any) -> Any:
        return 400, {"error": {"message": "toy refuses this key; it was not kept", "code": "key_refused", "field": "key"}}

    context.desk.upstream.files["/api/keys/toy"] = takes
    context.desk.upstream.files["/api/keys/..%2Fme"] = refuses
    assert (await asked(context, "set-key", provider="toy", key=" sk-1 "))["checked"] == "valid"
    assert seen == [("PUT", {"key": "sk-1"})]
    error = await asked(context, "set-key", provider="../me", key="sk-2")
    assert (error["field"], error["code"]) == ("key", "key_refused")
    await asked(context, "drop-key", provider="toy")
    assert seen[-1] == ("DELETE", None)


async def test_a_server_that_is_away_is_told(context: Any) -> None:
    """In words, and not as a defect."""
    context.desk.upstream.down = True
    for action in ("account", "forget-me", "log-out"):
        error = await asked(context, action)
        assert (error["code"], "cannot be reached" in error["message"]) == ("unreachable", True)


async def test_answers_that_are_none_are_told(context: Any) -> None:
    """HTML of a proxy, or an error without an envelope."""
    context.desk.upstream.files["/api/me/data"] = b"<html>"
    assert (await asked(context, "forget-me"))["code"] == "no_json"
    context.desk.upstream.files["/api/me/data"] = (502, [])
    assert "502" in (await asked(context, "forget-me"))["message"]


@pytest.mark.parametrize(
    ("name", "value", "good"),
    [
        ("while_loading", "wait", True),
        ("load_at_start", False, True),
        ("telemetry", True, True),
        ("enter", "newline", True),
        ("while_loading", "later", False),
        ("telemetry", "yes", False),
        ("model_hosts", ["https://a.example"], False),
        ("mode", "cloud", False),
    ],
)
async def test_only_a_persons_own_preferences_are_changed_here(context: Any, name: str, value: Any, good: bool) -> None:
    """What has a way of its own (hosts, the mode) or another value is refused by its name."""
    error = await asked(context, "prefer", name=name, value=value)
    assert (error is None) is good
    assert (context.preferences.get(name) == value) is good
    if not good:
        assert error["field"] == name


async def test_budget_and_recovery(context: Any) -> None:
    """Set, told, and refused in place."""
    assert (await asked(context, "set-budget", change={"month": 5}))["month"]["limit"] == 5
    assert (await asked(context, "set-budget", change={"month": "much"}))["field"] == "budget.month"
    assert (await asked(context, "set-recovery", change={"hedge": True}))["hedge"] is True
    told = settings.settings(context)
    assert (told["budget"]["month"]["limit"], told["recovery"]["hedge"], told["whileLoading"]) == (5, True, "cloud")


async def test_the_next_message_is_weighed_on_both_sides(context: Any) -> None:
    """With the conversation and the draft: tokens, and each side's seconds and dollars."""
    told = await asked(context, "estimate", text="A draft of eight words, or so it seems.")
    assert told["tokens"]["prompt_tokens"] > 10
    assert told["local"]["cost"] == 0.0
    assert "cost" in told["cloud"]


def levels(checks: list[dict[str, Any]]) -> dict[str, str]:
    """Name to level."""
    return {one["name"]: one["level"] for one in checks}


@pytest.mark.parametrize(
    ("change", "name", "level"),
    [
        ({}, "webgpu", "good"),
        ({"webgpu": "no", "reason": "None here.", "remedy": "Update."}, "webgpu", "bad"),
        ({"profile": "software"}, "webgpu", "note"),
        ({}, "half", "good"),
        ({"features": []}, "half", "note"),
        ({"wasm": "no", "wasmReason": "Too old."}, "processor", "bad"),
        ({"isolated": False}, "isolated", "note"),
        ({}, "storage", "good"),
        ({"storage": {"quota": 2_000_000_000, "usage": 1_900_000_000}}, "storage", "note"),
        ({"storage": None}, "storage", "bad"),
        ({"storage": {"quota": 5e9, "usage": 0, "persisted": False}}, "persisted", "note"),
        ({}, "engine", "note"),
        ({}, "models", "bad"),
    ],
)
def test_each_check_of_the_doctors(context: Any, change: dict[str, Any], name: str, level: str) -> None:
    """Good, worth knowing, in the way: by what the preflight found, and with the reason."""
    context.preflight = {**PROBE, **change}
    told = doctor.checks(context, doctor.fit(context))
    assert [one["name"] for one in told] == list(doctor.CHECKS)
    assert levels(told)[name] == level
    assert all(one["level"] in doctor.LEVELS for one in told)


async def test_the_report_tells_nothing_private(context: Any) -> None:
    """No message, no owner, no name or address of an added model; but adapter, limits, levels and the server's health."""
    context.local.others.keep(added("my-secret-project", {}, "https://secret.example/m", ["https://secret.example"]))
    context.desk.upstream.files["/healthz"] = {"status": "ok", "version": "1.2"}
    await context.local.refresh()
    found = await asked(context, "examine")
    text = json.dumps(found["report"])
    for word in ("secret", "1234", "u_1"):
        assert word not in text
    assert levels(found["checks"])["server"] == "good"
    assert (found["report"]["server"]["version"], found["report"]["webgpu"]["adapter"]["vendor"]) == ("1.2", "acme")
    assert found["report"]["models"] == {"tiny": True, "smollm2-135m": True}


async def test_the_doctor_asks_nothing_in_local_only(context: Any) -> None:
    """Not even the server's health."""
    assert context.hybrid.set_mode("local-only") is True
    context.desk.upstream.asked.clear()
    await asked(context, "examine")
    assert context.desk.upstream.asked == []


async def test_a_server_in_trouble_is_in_the_way(context: Any) -> None:
    """Away, or not well by its own word."""
    context.desk.upstream.files["/healthz"] = {"status": "failing"}
    assert levels((await asked(context, "examine"))["checks"])["server"] == "bad"
    context.desk.upstream.down = True
    assert levels((await asked(context, "examine"))["checks"])["server"] == "bad"
