"""The page's Python side, driven by the shell's messages and seen through what it posts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import ASK, YES, entry
from lab.engine import Die, Fail, ScriptedEngine, Sleep
from lab.upstream import Cut, Refuse
from played_shell import HYBRID, LOCAL, Client, Shell

from hybr.webapp import page
from hybr.webapp.page import convert, startup
from hybr.webapp.page.engine import Engine
from hybr.webapp.runtimes.base import EngineCallError


@virtual
async def test_the_blueprints_snippet() -> None:
    """Init, set the mode, complete: as section 2 of the blueprint has it, over messages."""
    shell = Shell()
    assert await shell.call(HYBRID, "init", None) is True
    assert await shell.call(HYBRID, "setMode", "local") is False
    assert await shell.call(LOCAL, "init", "tiny") is True
    assert await shell.call(HYBRID, "getMode") == "cloud"  # a script was told False: the wish is not kept
    assert await shell.call(HYBRID, "setMode", "local") is True
    assert await shell.call(HYBRID, "isLocalAvailable") is True
    result = await shell.call(HYBRID, "complete", ASK, {"requestId": "a", "maxOutputTokens": 3})
    assert (result["text"], result["provider"], result["finishReason"]) == ("The capital of ", "local", "length")
    assert set(result["usage"]) == {"promptTokens", "completionTokens", "totalTokens"}
    assert {"ttftMs", "totalMs", "prefillTps", "decodeTps"} == set(result["timings"])
    assert result["elapsed"] == result["timings"]["totalMs"]
    assert result["tokensPerSecond"] > 0
    status = await shell.call(HYBRID, "getStatus")
    assert (status["mode"], status["localReady"], status["localModel"], status["cloudAvailable"]) == ("local", True, "tiny", True)
    assert (await shell.call(HYBRID, "getAutoSwitchConfig"))["fallbackToCloud"] is True
    assert (await shell.call(HYBRID, "getUsageStats"))["local"]["totalTime"] > 0
    assert (await shell.call(HYBRID, "generateWithModel", "hi", {"requestId": "g", "maxTokens": 2}))["usage"][
        "completionTokens"
    ] == 2
    assert (await shell.call(LOCAL, "getRuntimeInfo"))["webgpu"] == "yes"
    (model,) = await shell.call(LOCAL, "getAvailableModels")
    assert (model["vram_bytes"], model["cached"], model["fits"]["fits"]) == (1, True, True)  # the index's names stay the index's
    assert await shell.call(LOCAL, "isReady") is True
    assert await shell.call(LOCAL, "unload") is True
    await shell.end()


@virtual
async def test_a_stream_over_messages() -> None:
    """Chunks without text, the last one with the rest; then the result."""
    shell = Shell()
    call = shell.begin(HYBRID, "stream", ASK, {"requestId": "s"})
    assert (await shell.answer(call))["value"] is None
    chunks = [one["chunk"] for one in shell.of("rpc-chunk", id=call)]
    assert "".join(chunk["delta"] for chunk in chunks) == "It is Paris."
    assert chunks[0] == {"delta": "It ", "done": False, "provider": "cloud", "segment": 0}
    assert (chunks[-1]["done"], chunks[-1]["usage"]["totalTokens"], chunks[-1]["cost"]) == (True, 12, 0.0)
    await shell.end()


@virtual
async def test_rpc_cancel_is_a_stop() -> None:
    """Cancelling a request stops it and answers with `Aborted`, the text and the usage so far; a load is left alone."""
    shell = Shell()
    shell.upstream.default = ["a", "b", Sleep(50), "c"]
    for method in ("complete", "stream"):
        call = shell.begin(HYBRID, method, ASK, {"requestId": method})
        await asyncio.sleep(0.2)
        shell.send(kind="rpc-cancel", id=call)
        error = (await shell.answer(call))["error"]
        assert (error["name"], error["code"], error["text"], error["usage"]["completionTokens"]) == (
            "Aborted",
            "aborted",
            "ab",
            2,
        )
    call = shell.begin(LOCAL, "init", "tiny")
    await asyncio.sleep(0.05)
    shell.send(kind="rpc-cancel", id=call)
    shell.send(kind="rpc-cancel", id="nobody")
    await asyncio.sleep(2)
    assert shell.app.context.local.is_ready()
    await shell.end()


@virtual
async def test_errors_over_messages() -> None:
    """Every failure has name, message and code; a wrong method or wrong arguments are the caller's."""
    shell = Shell()
    assert (await shell.error(HYBRID, "complete", [], {}))["field"] == "messages"
    assert (await shell.error(HYBRID, "complete"))["name"] == "MessageError"
    assert (await shell.error(HYBRID, "complete", ASK, 3))["code"] == "invalid_option"
    refused = await shell.error(HYBRID, "complete", ASK, {"maxOutputTokens": 0})
    assert refused["field"] == "options.maxOutputTokens", "by the caller's own name"
    assert "maxOutputTokens" in refused["message"]
    assert "_" not in refused["message"]
    assert (await shell.error(HYBRID, "explode"))["code"] == "unknown_method"
    assert (await shell.error("Nonsense", "init"))["code"] == "unknown_method"
    assert "too many" in (await shell.error(HYBRID, "getMode", 1, 2))["message"]
    shell.upstream.default = [Refuse(503)]
    error = await shell.error(HYBRID, "complete", ASK, {"requestId": "x"})
    assert (error["code"], error["retryable"]) == ("no_model", True)
    shell.app.context.hybrid.get_status = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    shell.app.rpc._methods = shell.app.rpc._table()
    assert (await shell.error(HYBRID, "getStatus"))["code"] == "internal"
    await shell.end()


@virtual
async def test_tool_calls_keep_their_names() -> None:
    """What a model and its caller named is not renamed on the way."""
    shell = Shell()
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"properties": {"city_name": {}}}}}
    from lab.upstream import Event, Tail

    piece = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "get_weather", "arguments": '{"city_name":1}'}}]}
    shell.upstream.default = [Event({"choices": [{"delta": piece}]}), Tail(reason="tool_calls")]
    result = await shell.call(HYBRID, "complete", ASK, {"requestId": "t", "tools": [tool]})
    assert shell.upstream.chats[0]["tools"] == [tool]
    assert result["toolCalls"][0]["function"] == {"name": "get_weather", "arguments": '{"city_name":1}'}
    call = shell.begin(HYBRID, "stream", ASK, {"requestId": "t2"})
    await shell.answer(call)
    assert shell.of("rpc-chunk", id=call)[-1]["chunk"]["toolCalls"][0]["function"]["name"] == "get_weather"
    await shell.end()


@virtual
async def test_a_cloud_client_in_the_page() -> None:
    """`Hybrid.init(client)`: asked by `cloud-call`, answered by `cloud-result` or `cloud-error`, told of a stop."""
    shell = Shell()
    assert await shell.call(HYBRID, "init", {"kind": "caller"}) is True
    call = shell.begin(HYBRID, "complete", ASK, {"requestId": "c", "maxOutputTokens": 9})
    await asyncio.sleep(0.1)
    (asked,) = shell.of("cloud-call")
    assert (asked["messages"], asked["options"]["maxOutputTokens"]) == (ASK, 9)
    shell.send(kind="cloud-result", id="stranger", value={"text": "?"})
    shell.send(
        kind="cloud-result",
        id=asked["id"],
        value={"text": "mine", "model": "g", "usage": {"promptTokens": 1, "completionTokens": 2}},
    )
    shell.send(kind="cloud-result", id=asked["id"], value={"text": "twice"})
    value = (await shell.answer(call))["value"]
    assert (value["text"], value["model"], value["usage"]["totalTokens"]) == ("mine", "g", 3)
    call = shell.begin(HYBRID, "complete", ASK, {"requestId": "d"})
    await asyncio.sleep(0.1)
    shell.send(
        kind="cloud-error",
        id=shell.of("cloud-call")[-1]["id"],
        error={"name": "QuotaError", "message": "too much", "code": "quota"},
    )
    error = (await shell.answer(call))["error"]
    assert (error["name"], error["message"], error["code"]) == ("QuotaError", "too much", "quota")
    call = shell.begin(HYBRID, "complete", ASK, {"requestId": "e"})
    await asyncio.sleep(0.1)
    shell.send(kind="rpc-cancel", id=call)
    assert (await shell.answer(call))["error"]["code"] == "aborted"
    await asyncio.sleep(0.1)
    assert shell.of("cloud-abort") == [{"kind": "cloud-abort", "id": shell.of("cloud-call")[-1]["id"]}]
    call = shell.begin(HYBRID, "complete", ASK, {"requestId": "f"})
    await asyncio.sleep(0.1)
    shell.send(kind="cloud-result", id=shell.of("cloud-call")[-1]["id"], value="plain")
    assert (await shell.answer(call))["value"]["text"] == "plain"
    await shell.end()


@virtual
async def test_events_reach_the_shell() -> None:
    """Each event is posted with its name and a camelCase detail, but for those of the views on this side."""
    shell = Shell()
    await shell.call(LOCAL, "init", "tiny")
    names = [one["name"] for one in shell.of("event")]
    assert "local-llm:ready" in names
    assert "local-llm:models" not in names
    progress = shell.of("event", name="local-llm:progress")[0]["detail"]
    assert {"model", "progress", "loadedBytes", "totalBytes", "text"} <= set(progress)
    await shell.end()


# -- the conversation


async def chat(shell: Shell, text: str) -> dict[str, Any]:
    """Send one message and return its answer's `finish`."""
    before = len(shell.ops("finish"))
    shell.send(kind="ui", event="send", text=text)
    for _ in range(3000):
        await asyncio.sleep(0.01)
        if len(shell.ops("finish")) > before:
            return shell.ops("finish")[-1]
    raise AssertionError("no answer")


@virtual
async def test_a_conversation() -> None:
    """A message is drawn, the answer streams into the view and is finished with its figures; the next turn sends both."""
    shell = Shell()
    finish = await chat(shell, "What is the capital of France?")
    assert [op["role"] for op in shell.ops("message")] == ["user", "assistant"]
    assert "".join(delta for _, delta, _, _ in shell.deltas) == "It is Paris."
    assert (finish["state"], finish["provider"], finish["model"]) == ("done", "cloud", "house-model")
    assert (finish["stats"]["usage"]["totalTokens"], finish["id"]) == (12, shell.deltas[0][0])
    assert [op["value"] for op in shell.ops("busy")] == [True, False]
    await chat(shell, "And of Italy?")
    assert [message["role"] for message in shell.upstream.chats[-1]["messages"]] == ["user", "assistant", "user"]
    shell.send(kind="ui", event="send", text="   ")
    assert len(shell.app.chat.messages) == 4
    await shell.end()


@virtual
async def test_stop_in_the_page() -> None:
    """Stop: the message is `stopped`, what was shown stays and goes along; a second send meanwhile is told to wait."""
    shell = Shell()
    shell.upstream.default = ["It ", "is ", Sleep(50), "Paris"]
    shell.send(kind="ui", event="stop")
    shell.send(kind="ui", event="send", text="x")
    await asyncio.sleep(0.2)
    shell.send(kind="ui", event="send", text="y")
    assert shell.ops("toast")[0]["toast"] == "info"
    shell.send(kind="ui", event="stop")
    await asyncio.sleep(0.1)
    (finish,) = shell.ops("finish")
    assert (finish["state"], finish["provider"]) == ("stopped", "cloud")
    assert finish["stats"]["usage"]["completionTokens"] == 2
    assert [message["content"] for message in shell.app.chat.messages] == ["x", "It is "]
    assert shell.upstream.open == 0
    await shell.end()


@virtual
async def test_a_stop_before_the_first_token() -> None:
    """Nothing shown, nothing kept, no figures."""
    shell = Shell()
    shell.upstream.default = [Sleep(50)]
    shell.send(kind="ui", event="send", text="x")
    await asyncio.sleep(0.1)
    shell.send(kind="ui", event="stop")
    await asyncio.sleep(0.1)
    assert (shell.ops("finish")[0]["state"], shell.ops("finish")[0]["stats"]) == ("stopped", None)
    assert len(shell.app.chat.messages) == 1
    await shell.end()


@virtual
async def test_an_error_in_the_page() -> None:
    """A failed answer is an error in its place, the text so far kept; regenerate asks the question again."""
    shell = Shell()
    shell.send(kind="ui", event="regenerate", id="x")
    shell.upstream.scripts.append(["It ", Cut()])
    finish = await chat(shell, "x")
    assert (finish["state"], finish["error"]["code"]) == ("error", "stream_broken")
    assert len(shell.app.chat.messages) == 2
    shell.send(kind="ui", event="regenerate", id=finish["id"])
    await asyncio.sleep(1)
    assert shell.ops("finish")[-1]["state"] == "done"
    assert [message["content"] for message in shell.app.chat.messages] == ["x", "It is Paris."]
    await shell.end()


@virtual
async def test_a_new_conversation() -> None:
    """It clears the view at once, stops the answer under way, and nothing of that comes after."""
    shell = Shell()
    shell.upstream.default = ["It ", Sleep(50)]
    shell.send(kind="ui", event="send", text="x")
    await asyncio.sleep(0.1)
    shell.send(kind="ui", event="new-conversation")
    await asyncio.sleep(0.2)
    assert [one["op"]["type"] for one in shell.of("view")][-2:] == ["busy", "open"]
    assert (shell.view.shown, shell.ops("finish"), shell.app.chat.messages, shell.upstream.open) == ({}, [], [], 0)
    shell.upstream.default = ["new"]
    assert (await chat(shell, "y"))["state"] == "done"
    await shell.end()


@virtual
async def test_m21_a_fallback_is_toasted() -> None:
    """M21: one fallback, one toast; a handover has its own."""
    shell = Shell()
    await shell.call(LOCAL, "init", "tiny")
    await shell.call(HYBRID, "setMode", "local")
    shell.scripted.scripts.append([Die()])
    assert (await chat(shell, "x"))["provider"] == "cloud"
    (toast,) = shell.ops("toast")
    assert toast["toast"] == "fallback"
    assert (toast["say"], toast["args"]["from"], toast["args"]["to"]) == ("fallback", "local", "cloud")
    assert toast["args"]["message"]
    await asyncio.sleep(5)
    shell.scripted.scripts.append(["The capital ", Die()])
    finish = await chat(shell, "x")
    assert (finish["provider"], finish["stats"]["segments"]) == ("cloud", 2)
    assert [one["toast"] for one in shell.ops("toast")] == ["fallback", "handover"]
    await shell.end()


@virtual
async def test_a_model_that_gave_way_is_toasted() -> None:
    """No room for a model: which one was deleted for it is said."""
    shell = Shell()
    await shell.call(LOCAL, "init", "tiny")
    shell.upstream.files["/models/index.json"] = {"models": [entry("tiny", vram_bytes=1), entry("other", vram_bytes=1)]}
    shell.scripted.loads.append([Fail("QuotaExceededError", "Quota exceeded.", "download")])
    assert await shell.call(LOCAL, "init", "other") is True
    (toast,) = shell.ops("toast")
    assert (toast["toast"], toast["say"], toast["args"]) == ("info", "evicted", {"model": "other", "removed": "tiny"})
    await shell.end()


@virtual
async def test_a_spent_budget_is_toasted_once() -> None:
    """The answer that spends it is followed by one notice with the sum; the next one's is not."""
    shell = Shell()
    shell.app.context.hybrid.set_budget({"session": 0.0})
    for _ in range(2):
        await chat(shell, "x")
    told = [(toast["say"], toast["args"]) for toast in shell.ops("toast") if toast["toast"] == "warning"]
    assert told == [("budget", {"state": "exceeded", "period": "session", "limit": "0.00"})]
    await shell.end()


# -- what happens by itself


@virtual
async def test_the_address_bar() -> None:
    """`?model=ID&load=1&mode=local` is the person's wish: loaded, then in force."""
    shell = Shell(query={"model": "tiny", "load": "1", "mode": "local"})
    await asyncio.sleep(3)
    status = await shell.call(HYBRID, "getStatus")
    assert (status["mode"], status["localModel"]) == ("local", "tiny")
    assert shell.of("event", name="hybrid-llm:mode-changed")[0]["detail"]["manual"] is False
    await shell.end()


@virtual
async def test_an_address_bar_that_asks_too_much(caplog: pytest.LogCaptureFixture) -> None:
    """An unknown model is told the person with those there are, an unknown mode the log; the page works."""
    shell = Shell(query={"model": "nope", "load": "1", "mode": "turbo"})
    await asyncio.sleep(3)
    (toast,) = shell.ops("toast")
    assert (toast["toast"], toast["text"]) == ("error", "There is no local model 'nope'. There are: tiny.")
    assert "nope" in caplog.text
    assert "turbo" in caplog.text
    assert (await chat(shell, "x"))["state"] == "done"
    await shell.end()


@virtual
async def test_a_reload_finds_mode_and_model() -> None:
    """What the shell stored comes back with the boot: the model is loaded from the cache and the mode in force."""
    first = Shell()
    await first.call(LOCAL, "init", "tiny")
    await first.call(HYBRID, "setMode", "local")
    first.app.startup.end()
    second = Shell(stored=first.stored)
    second.scripted.cache = {"tiny"}
    await asyncio.sleep(3)
    status = await second.call(HYBRID, "getStatus")
    assert (status["mode"], status["preferredMode"], status["localModel"]) == ("local", "local", "tiny")
    await second.end()
    await first.end()


@virtual
async def test_a_new_browser_asks_the_server() -> None:
    """No stored preference: the server's copy of mode and model is taken up."""
    shell = Shell()
    shell.upstream.files["/api/preferences"] = {"version": 3, "preferences": {"mode": "local", "model": "tiny"}}
    await asyncio.sleep(3)
    assert shell.app.context.hybrid.preferred_mode == "local"
    assert shell.of("store")[0]["value"] == {"mode": "local", "model": "tiny"}
    assert page.context() is shell.app.context
    assert page.context().preflight == YES
    await shell.end()


@virtual
async def test_the_server_goes_and_comes() -> None:
    """The status follows the server without anybody asking, at once when the network changes."""
    shell = Shell()
    await asyncio.sleep(1)
    assert shell.app.context.gateway.available()
    shell.upstream.down = True
    await asyncio.sleep(startup.WELL_S + 1)
    assert not shell.app.context.gateway.available()
    shell.upstream.down = False
    await asyncio.sleep(startup.UNWELL_S + 1)
    assert shell.app.context.gateway.available()
    heard: list[str] = []
    shell.app.context.events.tap(lambda name, _: heard.append(name))
    for value in (False, True):
        shell.send(kind="online", value=value)
        assert shell.app.context.gateway.available() is value
        await asyncio.sleep(1)
        assert heard.count("hybrid-llm:status") == 1 + value, "the views are told, each time"
    await shell.end()


@virtual
async def test_local_only_asks_the_server_for_models_alone() -> None:
    """In local-only nothing but the models' own files and list is fetched, from the first moment of a reload on."""
    shell = Shell(stored={"preferences": {"mode": "local-only", "model": "tiny", "load_at_start": True}})
    shell.scripted.cache = {"tiny"}
    await asyncio.sleep(200)
    assert (await chat(shell, "x"))["provider"] == "local"
    assert set(shell.upstream.asked) == {"GET /models/index.json"}
    await shell.end()


@virtual
async def test_builds_are_watched() -> None:
    """While the server builds, the list is read every other second; afterwards now and then; a broken one is read again."""
    shell = Shell()
    shell.upstream.files["/models/index.json"] = {"models": [entry("tiny", "building")]}
    await asyncio.sleep(20)
    assert 8 <= shell.upstream.asked.count("GET /models/index.json") <= 12
    shell.upstream.files["/models/index.json"] = (500, {})
    await asyncio.sleep(5)
    shell.upstream.files["/models/index.json"] = {"models": [entry("tiny")]}
    await asyncio.sleep(5)
    before = shell.upstream.asked.count("GET /models/index.json")
    await asyncio.sleep(30)
    assert shell.upstream.asked.count("GET /models/index.json") == before
    await shell.end()


@virtual
async def test_a_background_task_that_fails_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A bug in what goes on by itself is in the log and takes nothing else along."""
    shell = Shell()

    async def broken() -> None:
        raise ValueError("a bug")

    shell.app.startup._keep(broken())
    await asyncio.sleep(1)
    assert "a bug" in caplog.text
    await shell.end()


@virtual
async def test_messages_that_nobody_knows(caplog: pytest.LogCaptureFixture) -> None:
    """An unknown message or event is said in the log, so that either side may grow first."""
    shell = Shell()
    shell.send(kind="strange")
    shell.send(kind="ui", event="dance")
    assert "strange" in caplog.text
    assert "dance" in caplog.text
    await shell.end()


# -- the engine's bridge


@virtual
async def test_calls_wait_for_the_new_worker() -> None:
    """After a death the shell is asked for a new worker, and calls made meanwhile are answered by it."""
    scripted = ScriptedEngine(restart_s=3)
    engine = Engine(Client(scripted), scripted.restart)
    deaths: list[EngineCallError] = []
    engine.on_death(deaths.append)
    scripted.die()
    engine.restart()
    start = asyncio.get_running_loop().time()
    assert await engine.call("cached", {}) == {"models": [], "partial": []}
    assert asyncio.get_running_loop().time() - start >= 3
    assert (deaths[0].name, deaths[0].phase) == ("EngineDeadError", "worker")


@virtual
async def test_a_worker_that_keeps_dying_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """Three new workers in a minute are enough: then an error, not a loop; and a worker that never comes is an error too."""
    scripted = ScriptedEngine(restart_s=1e6)
    engine = Engine(Client(scripted), scripted.restart)
    for _ in range(5):
        scripted._alive.clear()
        engine.restart()
    assert scripted.restarts == 3
    assert "not started again" in caplog.text
    with pytest.raises(EngineCallError, match="reload the page"):
        await engine.call("cached", {})
    for work in scripted._works:
        work.cancel()


def test_names_on_the_wire() -> None:
    """CamelCase there, snake_case here, both ways; what is not ours is not touched."""
    assert convert.camel({"prompt_tokens": [{"a_b": 1}], "text": "x_y"}) == {"promptTokens": [{"aB": 1}], "text": "x_y"}
    assert convert.snake({"promptTokens": [{"aB": 1}], "etaS": 1}) == {"prompt_tokens": [{"a_b": 1}], "eta_s": 1}
    assert convert.options({"maxOutputTokens": 1, "responseFormat": {"jsonSchema": 1}}) == {
        "max_output_tokens": 1,
        "response_format": {"jsonSchema": 1},
    }
    assert convert.options(None) is None


@virtual
async def test_a_load_that_fails_by_itself_is_told_once() -> None:
    """What `local-llm:error` tells, the panel shows: there is no toast beside it."""
    shell = Shell()
    shell.scripted.loads.append([Die()])
    await shell.app.startup._loaded(shell.app.context.local.init("tiny"))
    assert len(shell.of("event", name="local-llm:error")) == 1
    assert shell.ops("toast") == []
    await shell.end()


@virtual
async def test_a_stopgap_is_toasted_in_its_own_answer() -> None:
    """The engine dies while the address bar's model loads: the answer under way has the fallback, and one toast tells it."""
    shell = Shell(query={"model": "tiny", "load": "1", "mode": "local"})
    shell.scripted.loads.append([Sleep(60)])
    shell.upstream.default = ["It ", Sleep(1), "is Paris."]
    await asyncio.sleep(0.5)
    assert shell.of("event", name="local-llm:progress")
    call = shell.begin(HYBRID, "complete", ASK, {"requestId": "a"})
    await asyncio.sleep(0.005)
    shell.scripted.die()
    value = (await shell.answer(call))["value"]
    assert (value["provider"], value["fallback"]["requestId"]) == ("cloud", "a")
    assert [one["toast"] for one in shell.ops("toast")] == ["fallback"]
    assert len(shell.of("event", name="hybrid-llm:fallback")) == 1
    await shell.end()


@virtual
async def test_init_without_an_id_answers() -> None:
    """`LocalLLM.api.init()` from JavaScript: an error as its value, not an exception."""
    shell = Shell()
    value = await shell.call(LOCAL, "init")
    assert (value["success"], value["error"]["field"]) == (False, "model")
    await shell.end()
