"""M24: the twelve tools of the blueprint: each answers `{success, ...}` and none raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import ASK, NO, Desk
from lab.engine import Die
from lab.upstream import Refuse

from hybr.webapp.hybrid.tools import NAMES, TOOLS, Tools

SEVEN = "route_request get_routing_strategy set_strategy get_provider_status force_provider get_usage_stats check_availability"
FIVE = "load_model unload_model list_loaded_models get_model_status infer"


def of(desk: Desk) -> Tools:
    """The tools over a desk."""
    return Tools(desk.hybrid, desk.local)


def test_m24_the_declarations() -> None:
    """Seven and five, by the blueprint's names, as closed JSON schemas that survive JSON."""
    assert list(NAMES) == [*SEVEN.split(), *FIVE.split()]
    for tool in json.loads(json.dumps(TOOLS)):
        function = tool["function"]
        schema = function["parameters"]
        assert (tool["type"], schema["type"], schema["additionalProperties"]) == ("function", "object", False)
        assert set(schema["required"]) <= set(schema["properties"])
        assert function["description"].endswith(".")


@virtual
async def test_m24_the_hybrid_tools() -> None:
    """Routing, its settings, forcing a side and back, status, stats and availability."""
    desk = await Desk().ready()
    tools = of(desk)
    done = await tools.call("route_request", {"prompt": "hi", "options": {"max_output_tokens": 2}})
    assert (done["success"], done["result"]["provider"], done["result"]["finish_reason"]) == (True, "local", "length")
    assert (await tools.call("route_request", {"messages": ASK}))["success"] is True
    told = await tools.call("set_strategy", {"mode": "auto", "auto": {"max_wait_s": 3}})
    assert (told["success"], told["mode"], told["auto"]["max_wait_s"]) == (True, "auto", 3)
    assert (await tools.call("get_routing_strategy"))["mode"] == "auto"
    assert await tools.call("force_provider", {"provider": "cloud"}) == {"success": True, "mode": "cloud-only", "forced": "cloud"}
    assert (await tools.call("force_provider", {"provider": "local"}))["mode"] == "local-only"
    assert (await tools.call("force_provider", {"provider": None}))["mode"] == "auto"
    assert (await tools.call("get_provider_status"))["status"] == desk.hybrid.get_status()
    assert (await tools.call("get_usage_stats"))["stats"]["local"]["requests"] == 2
    available = await tools.call("check_availability")
    assert (available["available"], available["providers"]) == (True, {"local": True, "cloud": True})
    assert (await tools.call("check_availability", {"provider": "cloud", "model": "tiny"}))["available"] is False
    assert (await tools.call("check_availability", {"provider": "local", "model": "tiny"}))["available"] is True
    assert (await tools.call("check_availability", {"model": "house-model"}))["providers"] == {"local": False, "cloud": True}


@virtual
async def test_m24_the_local_tools() -> None:
    """Load, look, infer, unload."""
    desk = Desk()
    tools = of(desk)
    assert (await tools.call("check_availability", {"provider": "local"}))["available"] is False
    loaded = await tools.call("load_model", {"model": "tiny"})
    assert (loaded["success"], loaded["model"], loaded["status"]["state"]) == (True, "tiny", "ready")
    listed = await tools.call("list_loaded_models")
    assert (listed["loaded"], [model["id"] for model in listed["models"]]) == (["tiny"], ["tiny", "smollm2-135m"])
    assert (await tools.call("get_model_status"))["status"]["model"] == "tiny"
    assert (await tools.call("get_model_status", {"model": "tiny"}))["status"]["loaded"] is True
    assert (await tools.call("infer", {"messages": ASK}))["result"]["provider"] == "local"
    assert (await tools.call("unload_model"))["unloaded"] is True
    assert (await tools.call("unload_model"))["unloaded"] is False


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("dance", {}, "invalid_option"),
        (None, None, "invalid_option"),
        ("infer", 3, "invalid_option"),
        ("infer", {}, "invalid_option"),
        ("infer", {"messages": ASK, "prompt": "x"}, "invalid_option"),
        ("infer", {"prompt": "x"}, "local_unavailable"),
        ("infer", {"prompt": "x", "loud": True}, "invalid_option"),
        ("route_request", {"messages": []}, "invalid_messages"),
        ("route_request", {"prompt": "x", "options": {"temperature": 9}}, "invalid_option"),
        ("route_request", {"prompt": "x"}, "no_model"),
        ("set_strategy", {}, "invalid_option"),
        ("set_strategy", {"mode": "junk"}, "invalid_option"),
        ("set_strategy", {"mode": "local"}, "invalid_option"),
        ("set_strategy", {"auto": {"x": 1}}, "invalid_option"),
        ("force_provider", {}, "invalid_option"),
        ("force_provider", {"provider": "moon"}, "invalid_option"),
        ("check_availability", {"provider": "moon"}, "invalid_option"),
        ("check_availability", {"model": "gpt-99"}, "unknown_model"),
        ("load_model", {"model": "gpt-99"}, "unknown_model"),
        ("get_model_status", {"model": "gpt-99"}, "invalid_option"),
        ("get_usage_stats", {"x": 1}, "invalid_option"),
    ],
)
def test_m24_no_tool_ever_raises(name: Any, arguments: Any, code: str) -> None:
    """Whatever is asked, the answer is an object that says what was wrong."""

    @virtual
    async def check() -> None:
        desk = Desk()
        desk.upstream.default = [Refuse()]
        told = await of(desk).call(name, arguments)
        assert (told["success"], told["error"]["code"]) == (False, code)
        assert told["error"]["message"]

    check()


@virtual
async def test_m24_failures_and_bugs_are_answers_too() -> None:
    """A load that fails, a device that cannot, and a bug of ours."""
    desk = Desk()
    desk.engine.loads.append([Die()])
    told = await of(desk).call("load_model", {"model": "tiny"})
    assert (told["success"], told["error"]["code"]) == (False, "engine_died")
    told = await of(Desk(preflight=NO)).call("set_strategy", {"mode": "local"})
    assert "WebGPU" in told["error"]["message"]
    told = await of(Desk()).call("force_provider", {"provider": None})
    assert told == {"success": True, "mode": "cloud", "forced": None}
    told = await of(Desk(preflight=NO)).call("load_model", {"model": "tiny"})
    assert told["error"]["code"] == "no_webgpu"
    desk.hybrid.get_usage_stats = None  # type: ignore[method-assign,assignment]
    told = await of(desk).call("get_usage_stats")
    assert (told["success"], told["error"]["code"]) == (False, "internal")
