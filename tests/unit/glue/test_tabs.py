"""Two tabs over one browser's storage: neither undoes what the other stored, and each sees it."""

from __future__ import annotations

import asyncio
import json

import pytest
from lab.clock import virtual
from lab.desk import ASK
from lab.engine import Sleep
from lab.upstream import Tail
from played_shell import HYBRID, Shell

PAID = ["x", Tail({"prompt_tokens": 10, "completion_tokens": 20, "cost": 0.25})]


def tabs(**preferences: str) -> tuple[Shell, Shell]:
    """Two tabs, both opened before either stores anything; an answer of the cloud costs a quarter of a dollar."""
    first = Shell(stored={"preferences": preferences})
    second = Shell(beside=first)
    for tab in (first, second):
        tab.upstream.default = PAID
    return first, second


async def ended(*shells: Shell) -> None:
    """Both tabs are closed."""
    for shell in shells:
        await shell.end()


async def month(shell: Shell) -> tuple[float, int]:
    """What a tab knows of this month: dollars and requests."""
    total = (await shell.call(HYBRID, "getUsageStats"))["month"]["total"]
    return total["cost"], total["requests"]


@virtual
async def test_the_months_add_up() -> None:
    """What both spent is stored and counts against both tabs' budget; a third tab, opened later, knows it too."""
    first, second = tabs()
    for tab in (first, second, second):
        await tab.call(HYBRID, "complete", ASK)
    third = Shell(beside=first)
    assert [await month(tab) for tab in (first, second, third)] == [(0.75, 3)] * 3
    assert (await first.call(HYBRID, "getUsageStats"))["cloud"]["requests"] == 1, "the session's are its own"
    await first.call(HYBRID, "setBudget", {"month": 0.7})
    assert (await second.call(HYBRID, "getBudget"))["month"]["state"] == "exceeded"
    await ended(first, second, third)


@virtual
async def test_a_sum_that_comes_late_takes_nothing_back() -> None:
    """Another tab's write that does not hold this tab's booking yet, or is nonsense, lessens nothing."""
    first, second = tabs()
    await first.call(HYBRID, "complete", ASK)
    late = json.loads(json.dumps(first.stored["ledger"]).replace("0.25", "0.125"))
    first.send(kind="stored", key="ledger", value=late)
    first.send(kind="stored", key="ledger", value={"2026-11": 3})
    first.send(kind="stored", key="strange", value=None)
    assert await month(first) == (0.25, 1)
    await ended(first, second)


@virtual
async def test_preferences_follow() -> None:
    """Each tab's change stays, and the other reads it."""
    first, second = tabs()
    await first.call(HYBRID, "setRecovery", {"handover": "stop"})
    await second.call(HYBRID, "setBudget", {"session": 3})
    for tab in (first, second):
        assert (await tab.call(HYBRID, "getRecovery"))["handover"] == "stop"
        assert (await tab.call(HYBRID, "getBudget"))["session"]["limit"] == 3
    assert {"handover", "budget"} <= set(first.stored["preferences"])
    await ended(first, second)


@virtual
async def test_the_device_profile_is_shared() -> None:
    """Rows of two models, measured in two tabs, are both stored and known in both."""
    first, second = tabs()
    first.app.context.local.profile.failed("one", "stall")
    second.app.context.local.profile.failed("two", "stall")
    assert set(first.stored["profile"]) == {"one", "two"}
    assert first.app.context.local.profile.to_dict() == second.app.context.local.profile.to_dict() == first.stored["profile"]
    await ended(first, second)


@virtual
async def test_a_wish_for_local_only_is_not_undone() -> None:
    """A tab that stores something else keeps it stored; one without a wish of its own follows; none leaves it for another."""
    first, second = tabs()
    await first.call(HYBRID, "setMode", "local-only")
    await second.call(HYBRID, "setBudget", {"session": 3})
    assert first.stored["preferences"]["mode"] == "local-only"
    assert await second.call(HYBRID, "getMode") == "local-only"
    third = Shell(beside=first)
    await third.call(HYBRID, "setMode", "cloud")
    assert [tab.app.context.hybrid.preferred_mode for tab in (first, second)] == ["local-only"] * 2
    assert await second.call(HYBRID, "getMode") == "local-only"
    await ended(first, second, third)


@virtual
async def test_a_tab_that_follows_into_local_only_goes_there() -> None:
    """Closed at once, and moved with its conversation when no answer is under way: it does not stay here, mute."""
    first, second = tabs()
    second.upstream.default = ["It is ", Sleep(20), "Paris."]
    second.send(kind="ui", event="send", text="Capital?")
    await asyncio.sleep(1)
    assert first.app.context.place.set_mode("local-only") is True
    assert await second.call(HYBRID, "getMode") == "local-only"
    assert (await second.error(HYBRID, "complete", ASK))["code"] == "refused"
    assert second.of("move") == [], "an answer is being written"
    await asyncio.sleep(30)
    (move,) = second.of("move")
    assert move["to"] == "local"
    turns = [(turn["role"], turn["text"], turn.get("state")) for turn in move["conversation"]["nodes"]]
    assert turns == [("user", "Capital?", "done"), ("assistant", "It is Paris.", "done")]
    assert [one["to"] for one in first.of("move")] == ["local"]
    await ended(first, second)


@pytest.mark.parametrize(
    ("stored", "theirs", "own", "follows"),
    [("cloud", "auto", None, True), ("auto", "cloud", None, False), ("cloud", "auto", "cloud-only", False)],
)
@virtual
async def test_which_wish_is_followed(stored: str, theirs: str, own: str | None, follows: bool) -> None:
    """What is no less private, and only where this tab has wished for nothing itself."""
    first, second = tabs(mode=stored)
    if own:
        await second.call(HYBRID, "setMode", own)
    await first.call(HYBRID, "setMode", theirs)
    before = own or stored
    assert second.app.context.hybrid.preferred_mode == (theirs if follows else before)
    assert await second.call(HYBRID, "getMode") == (theirs if follows else before)
    await ended(first, second)


@virtual
async def test_an_egress_policy_only_becomes_stricter() -> None:
    """Another tab's `never` holds here too; its `allow` does not lift what holds here."""
    first, second = tabs()
    await first.call(HYBRID, "setEgressPolicy", "never")
    assert await second.call(HYBRID, "getEgressPolicy") == "never"
    await first.call(HYBRID, "setEgressPolicy", "allow")
    assert await second.call(HYBRID, "getEgressPolicy") == "never"
    await ended(first, second)
