"""What the page's JavaScript reaches beyond the blueprint's first functions: resume, personas, tools, money, restarts."""

from __future__ import annotations

from typing import Any

from lab.clock import virtual
from lab.desk import ASK
from lab.engine import Die, Fail
from played_shell import HYBRID, LOCAL, Shell

JSON = {"responseFormat": {"type": "json_object"}}


@virtual
async def test_resume_over_messages() -> None:
    """Messages, the shown text, options and the side; chunks as `stream` has them, the first with what was shown."""
    shell = Shell()
    shell.upstream.scripts.append(["of France is ", "Paris."])
    call = shell.begin(HYBRID, "resume", ASK, "The capital of France", {"requestId": "r", "maxOutputTokens": 9}, "cloud")
    assert (await shell.answer(call))["value"] is None
    chunks = [one["chunk"] for one in shell.of("rpc-chunk", id=call)]
    assert chunks[0] == {"delta": "The capital of France", "done": False, "provider": "local", "segment": 0}
    assert "".join(chunk["delta"] for chunk in chunks) == "The capital of France is Paris."
    assert [part["cause"] for part in chunks[-1]["parts"]] == ["resume", "resume"]
    assert (await shell.error(HYBRID, "resume", ASK, "", {}, "cloud"))["field"] == "prefix"
    assert (await shell.error(HYBRID, "resume", ASK, "x", {}, "moon"))["field"] == "on"
    assert (await shell.error(HYBRID, "resume"))["name"] == "MessageError"
    await shell.end()


@virtual
async def test_a_restart_over_messages() -> None:
    """The chunk and the event that begin anew are marked, and the last chunk keeps what was struck; so does an error."""
    shell = Shell()
    await shell.call(LOCAL, "init", "tiny")
    await shell.call(HYBRID, "setMode", "local")
    shell.scripted.scripts.append(['{"a', Die()])
    shell.upstream.scripts.append(['{"b":', "1}"])
    call = shell.begin(HYBRID, "stream", ASK, {"requestId": "j", **JSON})
    await shell.answer(call)
    chunks = [one["chunk"] for one in shell.of("rpc-chunk", id=call)]
    assert [chunk.get("restart") for chunk in chunks] == [None, True, None, None]
    assert (chunks[-1]["parts"][0]["text"], chunks[-1]["parts"][0]["struck"]) == ('{"a', True)
    deltas = [one["detail"] for one in shell.of("event", name="hybrid-llm:stream-chunk")]
    assert [detail.get("restart") for detail in deltas] == [None, True, None]
    assert (await shell.call(HYBRID, "setRecovery", {"handover": "stop"}))["handover"] == "stop"
    assert (await shell.call(HYBRID, "getRecovery")) == {"handover": "stop", "hedge": False, "trim": False, "makeRoom": True}
    await shell.end()


@virtual
async def test_personas_over_messages() -> None:
    """Options are camelCase for JavaScript; the names that a person gave stay as they are."""
    shell = Shell()
    persona = {"system": "Be brief.", "options": {"maxOutputTokens": 7, "responseFormat": {"type": "json_object"}}}
    saved = await shell.call(HYBRID, "savePersona", "my_brief_one", persona)
    assert saved["options"] == persona["options"]
    assert await shell.call(HYBRID, "setPersona", "my_brief_one") is True
    listed = await shell.call(HYBRID, "listPersonas")
    assert (listed["current"], list(listed["personas"])) == ("my_brief_one", ["my_brief_one"])
    assert listed["personas"]["my_brief_one"]["options"]["maxOutputTokens"] == 7
    await shell.call(HYBRID, "complete", ASK, {"requestId": "p"})
    assert shell.upstream.chats[0]["max_tokens"] == 7
    assert (await shell.error(HYBRID, "savePersona", "x", {"mode": "fast"}))["field"] == "persona.mode"
    assert (await shell.error(HYBRID, "savePersona"))["code"] == "invalid_option"
    assert await shell.call(HYBRID, "deletePersona", "my_brief_one") is True
    await shell.end()


@virtual
async def test_tools_over_messages() -> None:
    """The declarations as they are; calls answer objects, options by their JavaScript names, and never an error."""
    shell = Shell()
    tools: list[dict[str, Any]] = await shell.call(HYBRID, "tools")
    assert [tool["function"]["name"] for tool in tools][:2] == ["route_request", "get_routing_strategy"]
    assert tools[0]["function"]["parameters"]["additionalProperties"] is False
    told = await shell.call(HYBRID, "callTool", "route_request", {"prompt": "hi", "options": {"maxOutputTokens": 2}})
    assert (told["success"], told["result"]["finishReason"]) == (True, "stop")
    assert shell.upstream.chats[0]["max_tokens"] == 2
    told = await shell.call(HYBRID, "callTool", "set_strategy", {"mode": "auto", "auto": {"maxWaitS": 4}})
    assert (told["mode"], told["auto"]["maxWaitS"]) == ("auto", 4)
    assert (await shell.call(HYBRID, "callTool"))["success"] is False
    assert (await shell.call(HYBRID, "callTool", "load_model", {"model": "tiny"}))["success"] is True
    await shell.end()


@virtual
async def test_money_over_messages() -> None:
    """Estimate, budget, limits, report."""
    shell = Shell()
    told = await shell.call(HYBRID, "estimate", ASK, {"maxOutputTokens": 10})
    assert told["tokens"]["completionTokens"] == 10
    assert (await shell.call(HYBRID, "setBudget", {"month": 2}))["month"]["limit"] == 2
    assert (await shell.call(HYBRID, "getBudget"))["month"]["state"] == "within"
    assert (await shell.call(HYBRID, "setRateLimits", {"cloud": 5}))["cloud"] == 5
    await shell.call(HYBRID, "complete", ASK, {"requestId": "m"})
    assert "cloud: 1 requests, 12 tokens" in await shell.call(HYBRID, "report")
    stats = await shell.call(HYBRID, "getUsageStats")
    assert (stats["month"]["total"]["promptTokens"], stats["rateLimits"]["cloud"]["asked"]) == (7, 1)
    assert any(one["key"] == "ledger" for one in shell.of("store"))
    await shell.end()


@virtual
async def test_a_model_that_is_replaced_is_told() -> None:
    """The toast names both and the reason."""
    shell = Shell()
    entries = shell.upstream.files["/models/index.json"]["models"]
    entries.append({**entries[0], "id": "mini", "vram_bytes": 0, "bytes": entries[0]["bytes"] // 2})
    entries[0]["vram_bytes"] = 0
    shell.scripted.loads.append([Fail("Error", "DeviceLostError: The WebGPU device was lost.", "load")])
    await shell.call(LOCAL, "init", "tiny")
    await shell.app.context.local.settled()
    toasts = [one["op"] for one in shell.of("view") if one["op"].get("toast") == "warning"]
    assert [(one["say"], one["args"]["model"], one["args"]["instead"]) for one in toasts] == [("replaced", "tiny", "mini")]
    await shell.end()
