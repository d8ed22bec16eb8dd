"""Auto mode and what it knows: rules in order, a score, one readable reason; the device profile."""

from __future__ import annotations

import json

import pytest
from lab.clock import virtual
from lab.desk import ASK, Desk, MemoryStorage, entry
from lab.engine import Fail
from lab.upstream import Tail

from hybr.webapp.hybrid.auto import AutoConfig, Side, Wants, configure, decide
from hybr.webapp.hybrid.errors import OptionError
from hybr.webapp.hybrid.profile import UNKNOWN, DeviceProfile, estimate_tokens, has_images
from hybr.webapp.hybrid.types import Final

HERE = Side("tiny", seconds=5.0, context=2000)
THERE = Side("gpt", seconds=2.0, cost=0.001, context=8000, images=True, tools=True)
PLAIN = AutoConfig()


@pytest.mark.parametrize(
    ("local", "cloud", "wants", "config", "more", "first", "said"),
    [
        (Side(ready=False), THERE, Wants(), PLAIN, {}, "cloud", "no local model is ready"),
        (Side(ready=False), THERE, Wants(), PLAIN, {"offline": True}, "cloud", "no local model"),
        (HERE, THERE, Wants(), PLAIN, {"offline": True}, "local", "offline"),
        (HERE, Side(ready=False), Wants(), PLAIN, {}, "local", "cannot be asked"),
        (HERE, THERE, Wants(images=True), PLAIN, {}, "cloud", "takes images"),
        (HERE, THERE, Wants(tools=True), PLAIN, {}, "cloud", "takes tools"),
        (Side("v", images=True), Side("c"), Wants(images=True), PLAIN, {}, "local", "only the local model takes images"),
        (HERE, THERE, Wants(3000), PLAIN, {}, "cloud", "window of 2000"),
        (Side("l"), Side("c", context=100), Wants(3000), PLAIN, {}, "local", "window of 100"),
        (HERE, THERE, Wants(), AutoConfig(budget=1.0), {"spent": 1.0}, "local", "budget of $1.00"),
        (HERE, THERE, Wants(), AutoConfig(max_wait_s=3), {}, "cloud", "about 5 s"),
        (HERE, Side("c", seconds=9), Wants(), AutoConfig(max_wait_s=3, weights={"privacy": 1}), {}, "local", "scores 1.00"),
        (HERE, THERE, Wants(), AutoConfig(weights={"quality": 1.0}), {}, "cloud", "cloud scores 0.70 against 0.50 for local"),
        (HERE, THERE, Wants(), AutoConfig(weights={"quality": 1}, quality={"tiny": 0.9, "cloud": 0.2}), {}, "local", "0.90"),
        (HERE, THERE, Wants(), AutoConfig(weights={"cost": 1.0}), {}, "local", "local scores 1.00"),
        (HERE, THERE, Wants(), AutoConfig(weights={"speed": 1.0}), {}, "cloud", "0.83 against 0.67"),
        (
            Side("a"),
            Side("b"),
            Wants(),
            AutoConfig(weights={"speed": 1.0}, priority=("cloud", "local")),
            {},
            "cloud",
            "is preferred",
        ),
        (Side("a"), Side("b"), Wants(), AutoConfig(weights={}), {}, "local", "is preferred"),
    ],
)
def test_decisions(  # noqa: PLR0917 - a table has its columns
    local: Side,
    cloud: Side,
    wants: Wants,
    config: AutoConfig,
    more: dict[str, object],
    first: str,
    said: str,
) -> None:
    """The first rule that speaks decides, then the score; the reason is one line."""
    decision = decide(local, cloud, wants, config, **more)  # type: ignore[arg-type]
    assert decision.first == first
    assert said in decision.reason
    assert "\n" not in decision.reason


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (3, "auto"),
        ({"nonsense": 1}, "auto.nonsense"),
        ({"weights": {"beauty": 1}}, "auto.weights"),
        ({"weights": {"speed": -1}}, "auto.weights"),
        ({"weights": 1}, "auto.weights"),
        ({"quality": {"x": float("nan")}}, "auto.quality"),
        ({"priority": ["local"]}, "auto.priority"),
        ({"priority": "local"}, "auto.priority"),
        ({"upstreams": "openai"}, "auto.upstreams"),
        ({"upstreams": [""]}, "auto.upstreams"),
        ({"max_wait_s": None}, "auto.max_wait_s"),
        ({"max_wait_s": True}, "auto.max_wait_s"),
        ({"budget": "much"}, "auto.budget"),
    ],
)
def test_bad_settings(change: object, field: str) -> None:
    """A setting that is none is refused by name."""
    with pytest.raises(OptionError) as error:
        configure(PLAIN, change)
    assert error.value.field == field


BROKEN_RULES: list[tuple[str, dict[str, object], str]] = [  # each request breaks this rule and all that come after it
    ("nothing to choose", {"local": Side("l", ready=False, seconds=99, context=10)}, "no local model is ready"),
    ("offline", {"offline": True}, "offline"),
    ("modality", {}, "takes images"),
    ("schema", {"wants": Wants(3000, schema=True)}, "takes a JSON schema"),
    ("context", {"wants": Wants(3000)}, "window of 10"),
    ("budget", {"wants": Wants(1)}, "the budget is spent"),
    ("auto's own budget", {"wants": Wants(1), "broke": False}, "budget of $0.50"),
    ("time", {"wants": Wants(1), "broke": False, "spent": 0.0}, "about 99 s"),
    ("score", {"wants": Wants(1), "broke": False, "spent": 0.0, "local": Side("l", seconds=1)}, "scores"),
]


@pytest.mark.parametrize(("change", "said"), [rule[1:] for rule in BROKEN_RULES], ids=[rule[0] for rule in BROKEN_RULES])
def test_the_rules_come_in_order(change: dict[str, object], said: str) -> None:
    """Of several rules that would speak the first one does."""
    case: dict[str, object] = {
        "local": Side("l", seconds=99, context=10, schema=False),
        "cloud": Side("c", seconds=1, cost=0.1, images=True, tools=True),
        "wants": Wants(3000, images=True, tools=True, schema=True),
        "config": AutoConfig(budget=0.5),
        "spent": 1.0,
        "broke": True,
        **change,
    }
    assert said in decide(**case).reason  # type: ignore[arg-type]


@virtual
async def test_a_private_request_has_no_choice() -> None:
    """Auto mode is not asked about what may not leave: no decision is made, and none is told."""
    desk = await Desk().ready(mode="auto")
    done = await desk.hybrid.complete(ASK, {"private": True})
    assert (done.provider, done.decision) == ("local", "")
    assert desk.hybrid.get_auto_switch_config()["last_decision"] is None


def test_settings_change_alone() -> None:
    """What is not named stays."""
    config = configure(PLAIN, {"weights": {"speed": 2}, "budget": 5, "priority": ["cloud", "local"]})
    assert (config.weights["speed"], config.weights["quality"], config.budget, config.priority) == (2, 1.0, 5, ("cloud", "local"))
    assert configure(config, {"budget": None}).budget is None
    assert configure(PLAIN, config.to_dict()) == config


@virtual
async def test_auto_mode() -> None:
    """Each request goes where the decision says, with the reason on the answer; the other side rescues."""
    desk = Desk()
    assert desk.hybrid.set_mode("auto") is True
    done = await desk.hybrid.complete(ASK)
    assert (done.provider, done.decision) == ("cloud", "cloud: no local model is ready")
    await desk.local.init("tiny")
    assert desk.hybrid.get_mode() == "auto"
    desk.hybrid.set_auto_switch_config({"weights": {"privacy": 9}})
    done = await desk.hybrid.complete(ASK)
    assert done.provider == "local"
    assert done.to_dict()["decision"].startswith("local: local scores")
    config = desk.hybrid.get_auto_switch_config()
    assert (config["enabled"], config["weights"]["privacy"], config["last_decision"]["first"]) == (True, 9, "local")
    desk.engine.scripts.append([Fail()])
    done = await desk.hybrid.complete(ASK)
    assert (done.provider, done.fallback is not None) == ("cloud", True)
    desk.gateway.online(False)
    assert (await desk.hybrid.complete(ASK)).decision == "local: the browser is offline"


@virtual
async def test_auto_minds_the_time() -> None:
    """What this device has shown says how long an answer would take here."""
    desk = await Desk().ready(mode="auto")
    await desk.hybrid.complete_local(ASK)
    done = await desk.hybrid.complete(ASK, {"max_output_tokens": 5000})
    assert done.decision == "cloud: here it would take about 50 s, longer than 30 s"


@virtual
async def test_auto_knows_windows_and_abilities() -> None:
    """The index's window and the cloud's abilities reach the decision."""
    desk = Desk()
    desk.upstream.files["/models/index.json"] = {"models": [entry("tiny", context=300)]}
    desk.upstream.files["/v1/models"] = {"data": [{"id": "c", "context_length": 9999, "capabilities": {"images": True}}]}
    desk.hybrid.set_mode("auto")
    desk.hybrid.set_auto_switch_config({"weights": {"privacy": 99}})
    await desk.gateway.check()
    await desk.local.init("tiny")
    long = [{"role": "user", "content": "word " * 400}]
    assert "window of 300" in (await desk.hybrid.complete(long)).decision
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    assert "images" in (await desk.hybrid.complete(image)).decision
    assert (await desk.hybrid.complete(ASK)).provider == "local"


@virtual
async def test_auto_minds_the_budget() -> None:
    """A cloud that costs is not asked any more once the budget is spent."""
    desk = await Desk().ready(mode="auto")
    desk.hybrid.set_auto_switch_config({"weights": {"speed": 0, "cost": 0, "privacy": 0}, "budget": 0.5})
    desk.upstream.default = ["x", Tail({"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.3})]
    said = [(await desk.hybrid.complete(ASK)).decision for _ in range(3)]
    assert said[0].startswith("cloud")
    assert said[2] == "local: the budget of $0.50 is spent"


@virtual
async def test_auto_settings_are_kept() -> None:
    """Settings survive a reload; damaged ones are left aside."""
    storage = MemoryStorage()
    Desk(storage=storage).hybrid.set_auto_switch_config({"max_wait_s": 7})
    assert Desk(storage=storage).hybrid.get_auto_switch_config()["max_wait_s"] == 7
    broken = MemoryStorage({"preferences": json.dumps({"auto": {"max_wait_s": "x"}})})
    assert Desk(storage=broken).hybrid.get_auto_switch_config()["max_wait_s"] == 30


def test_the_device_profile() -> None:
    """Rates are means that follow; predictions and patience come from both; failures are counted; all of it is kept."""
    storage = MemoryStorage()
    profile = DeviceProfile(storage)
    assert profile.predict_s("m", 100, 100) is None
    assert profile.patience("m", 100) == UNKNOWN
    profile.learn("m", Final("m", prefill_tps=100.0, decode_tps=10.0))
    assert profile.predict_s("m", 100, 50) == pytest.approx(6)
    profile.learn("m", Final("m", prefill_tps=200.0, decode_tps=None))
    assert profile.of("m").prefill_tps == pytest.approx(130)
    assert profile.of("m").decode_tps == 10
    assert profile.patience("m", 10) == (30, 20)
    assert profile.patience("m", 10, software=True) == UNKNOWN
    profile.learn("slow", Final("m", prefill_tps=1.0, decode_tps=0.5))
    assert profile.patience("slow", 100) == (1020, 60)
    assert profile.patience("slow", 100, software=True) == (1020, 120)
    profile.failed("m", "device_lost")
    profile.failed("m", "device_lost")
    again = DeviceProfile(storage)
    assert again.to_dict() == profile.to_dict()
    assert again.of("m").failures == {"device_lost": 2}
    assert again.of("m").requests == 2
    for text in ("{", "[]", '{"m": 3}', '{"m": {"strange": 1}}'):
        assert DeviceProfile(MemoryStorage({"profile": text})).to_dict() == {}


@pytest.mark.parametrize(
    "row",
    [
        {"prefill_tps": "fast"},
        {"decode_tps": -1},
        {"decode_tps": True},
        {"requests": "3"},
        {"failures": 3},
        {"failures": {"stall": "x"}},
        {"failures": ["stall"]},
    ],
)
def test_a_damaged_row_of_the_profile(row: dict[str, object]) -> None:
    """It is dropped at reading, its neighbours stay, and what is learned next is sound."""
    whole = {"prefill_tps": 10.0, "decode_tps": 5.0, "requests": 1, "failures": {"stall": 1}}
    profile = DeviceProfile(MemoryStorage({"profile": json.dumps({"bad": row, "good": whole})}))
    assert profile.to_dict() == {"good": whole}
    profile.failed("bad", "stall")
    assert (profile.predict_s("bad", 1, 1), profile.of("bad").failures) == (None, {"stall": 1})


def test_estimates() -> None:
    """About four characters a token; images have their own weight."""
    image = {"role": "user", "content": [{"type": "text", "text": "x" * 40}, {"type": "image_url", "image_url": {"url": "u"}}]}
    assert estimate_tokens([{"role": "user", "content": "x" * 400}]) == 104
    assert estimate_tokens([image, {"role": "assistant", "content": None}]) == 618
    assert has_images([image])
    assert not has_images(ASK)


@virtual
async def test_the_profile_learns_from_requests() -> None:
    """A local answer teaches its rates, a death is counted."""
    desk = await Desk().ready()
    await desk.hybrid.complete(ASK)
    assert desk.local.profile.of("tiny").prefill_tps == 50.0
    desk.engine.die()
    assert desk.local.profile.of("tiny").failures == {"engine_died": 1}
    await desk.local.unload()
