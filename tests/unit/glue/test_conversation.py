"""What becomes of a conversation: carried to another document, cut off and gone on with, kept where it may not leave."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lab.clock import virtual
from lab.engine import Sleep
from lab.upstream import Cut as Break
from lab.upstream import Event
from played_shell import HYBRID, LOCAL, Shell

ASKED = {"id": "user-1", "conversation": "c", "parent": None, "role": "user", "text": "Capital?", "createdAt": 1, "v": 1}
RECORD: dict[str, Any] = {
    "conversation": {"conversation": {"id": "c", "v": 1, "egress": "redact"}, "nodes": [ASKED], "drop": []},
    "options": {"egress": "redact"},
    "text": "It is ",
    "provider": "cloud",
    "segment": 0,
    "closed": False,
}


def closed(**query: str) -> Shell:
    """A shell of the local-only document."""
    return Shell(query=query, place="local")


async def said(shell: Shell, state: str) -> dict[str, Any]:
    """Wait for the last answer's end."""
    for _ in range(1000):
        if not shell.app.chat.busy and (ends := shell.ops("finish")):
            assert ends[-1]["state"] == state, ends[-1]
            return dict(ends[-1])
        await asyncio.sleep(0.01)
    raise AssertionError("no end")


class TestPlace:
    """The two documents."""

    @virtual
    async def test_the_open_document(self) -> None:
        """A script's local-only holds here and moves nobody; the person's own control moves, with the conversation."""
        shell = Shell()
        assert await shell.call(HYBRID, "setMode", "local-only") is True
        assert await shell.call(HYBRID, "getMode") == "local-only"
        assert shell.of("move") == []
        assert await shell.call(HYBRID, "setMode", "cloud") is True
        shell.send(kind="ui", event="send", text="x")
        await said(shell, "done")
        assert shell.app.context.place.set_mode("local-only") is True
        (move,) = shell.of("move")
        assert move["to"] == "local"
        told = [(turn["role"], turn["text"]) for turn in move["conversation"]["nodes"]]
        assert told == [("user", "x"), ("assistant", "It is Paris.")]
        await shell.end()

    @virtual
    async def test_the_closed_document(self) -> None:
        """It is local-only from the first moment; what cannot be had changes nothing; another mode is stored and left for."""
        shell = closed()
        assert await shell.call(HYBRID, "getMode") == "local-only"
        assert await shell.call(HYBRID, "setMode", "nonsense") is False
        assert await shell.call(HYBRID, "setMode", "local") is False, "no model is ready, and a script was told so"
        assert await shell.call(HYBRID, "setMode", "local-only") is True
        assert shell.of("move") == []
        assert await shell.call(HYBRID, "setMode", "auto") is True
        assert await shell.call(HYBRID, "getMode") == "local-only", "until the page is gone nothing may leave it"
        assert shell.of("store")[-1]["value"]["mode"] == "auto"
        assert [move["to"] for move in shell.of("move")] == ["main"]
        assert shell.upstream.chats == []
        await shell.end()

    @virtual
    async def test_no_other_way_changes_its_mode(self) -> None:
        """A tool, a persona, the address bar, a preference that comes late: none changes the mode, and each is told."""
        shell = closed(mode="cloud")
        assert [move["to"] for move in shell.of("move")] == ["main"], "the address bar is the person's: it leads out"
        forced = await shell.call(HYBRID, "callTool", "force_provider", {"provider": "cloud"})
        assert (forced["success"], "cloud-only" in forced["error"]["message"]) == (False, True)
        await shell.call(HYBRID, "savePersona", "open", {"mode": "cloud"})
        assert await shell.call(HYBRID, "setPersona", "open") is False
        shell.app.context.hybrid.restore_mode("auto")
        assert await shell.call(HYBRID, "getMode") == "local-only"
        assert shell.upstream.chats == []
        await shell.end()

    @virtual
    async def test_the_way_out(self) -> None:
        """The banner's button is the person's: this browser first, whether or not a model is ready."""
        shell = closed()
        shell.send(kind="ui", event="leave-local")
        assert shell.of("store")[-1]["value"]["mode"] == "local"
        assert len(shell.of("move")) == 1
        await shell.end()

    @virtual
    async def test_what_is_under_way_goes_along(self) -> None:
        """An answer that is being written is stopped and carried as far as it came; the journal has no second copy of it."""
        shell = Shell()
        shell.upstream.default = ["a", "b", Sleep(50), "c"]
        shell.send(kind="ui", event="send", text="x")
        await asyncio.sleep(0.5)
        shell.app.context.place.set_mode("local-only")
        (move,) = shell.of("move")
        last = move["conversation"]["nodes"][-1]
        assert (last["text"], last["state"]) == ("ab", "stopped")
        assert shell.shelf.nodes[move["conversation"]["conversation"]["id"]][last["id"]] == last
        begun, ended = shell.of("journal", op="begin"), shell.of("journal", op="end")
        assert {one["id"] for one in begun} == {one["id"] for one in ended}
        await asyncio.sleep(0.1)
        await shell.end()

    @virtual
    @pytest.mark.parametrize("temporary", [False, True])
    async def test_carried(self, temporary: bool) -> None:
        """The other document's turns are drawn as they were and go along with the next question; stored only if they may be."""
        shell = Shell()
        answer = {"id": "a", "role": "assistant", "text": "hi", "state": "done", "provider": "local"}
        nodes = [{"id": "u", "role": "user", "text": "hello"}, {**answer, "parent": "u", "stats": {"usage": {"totalTokens": 3}}}]
        shell.send(
            kind="restore", conversation={"conversation": {"id": "c", "egress": "ask"}, "nodes": nodes, "temporary": temporary}
        )
        assert shell.view.texts == ["hello", "hi"]
        finish = shell.view.shown["a"]
        assert (finish["provider"], finish["stats"]["usage"]["totalTokens"]) == ("local", 3)
        assert shell.app.chat.egress == "ask"
        shell.app.chat.set_egress("allow")
        shell.send(kind="ui", event="send", text="more")
        await said(shell, "done")
        assert [message["content"] for message in shell.upstream.chats[0]["messages"]] == ["hello", "hi", "more"]
        assert (len(shell.shelf.nodes.get("c", {})), len(shell.of("journal", op="begin"))) == ((0, 0) if temporary else (4, 1))
        await shell.end()


class TestCut:
    """Answers that a reload or a crash cut off."""

    @virtual
    async def test_the_journal_of_an_answer(self) -> None:
        """Begun before anything is asked, with the turns and the options; dropped at the end."""
        shell = Shell()
        shell.send(kind="ui", event="send", text="x")
        (begun,) = shell.of("journal")
        assert (begun["op"], begun["record"]["text"], begun["record"]["closed"]) == ("begin", "", False)
        assert begun["record"]["conversation"]["nodes"][0]["text"] == "x"
        await said(shell, "done")
        assert shell.of("journal")[-1] == {"kind": "journal", "op": "end", "id": begun["id"]}
        await shell.end()

    @virtual
    async def test_finished_in_the_cloud(self) -> None:
        """What was shown is the beginning of the whole, drawn once; the continuation is a segment of its own."""
        shell = Shell()
        shell.upstream.default = ["It is ", "Paris."]
        shell.send(kind="restore", id="cut-1", record=RECORD)
        await asyncio.sleep(0.01)
        assert shell.ops("interrupted") == [{"type": "interrupted", "id": "cut-1", "cloud": True}]
        assert shell.view.shown["cut-1"]["state"] == "stopped"
        shell.send(kind="ui", event="resume", id="cut-1", on="cloud")
        await said(shell, "done")
        assert "".join(delta for _, delta, _, _ in shell.deltas) == "Paris."
        assert {segment for *_, segment in shell.deltas} == {1}
        assert shell.app.chat.messages[-1] == {"role": "assistant", "content": "It is Paris."}
        assert shell.of("journal")[-1]["op"] == "end"
        await shell.end()

    @virtual
    async def test_gone_on_with_here(self) -> None:
        """The local model goes on, and nothing is asked of the cloud."""
        shell = Shell()
        assert await shell.call(LOCAL, "init", "tiny") is True
        shell.send(kind="restore", id="cut-1", record={**RECORD, "provider": "local"})
        await asyncio.sleep(0.01)
        shell.send(kind="ui", event="resume", id="cut-1", on="local")
        finish = await said(shell, "done")
        assert finish["provider"] == "local"
        assert shell.upstream.chats == []
        assert shell.scripted.chats[0]["journal"] == {"session": "cut-1", "prefix": "It is "}, "the engine's own, if it has it"
        assert shell.app.chat.messages[-1]["content"].startswith("It is ")
        assert await shell.call(HYBRID, "setMode", "local") is True
        shell.send(kind="ui", event="send", text="and Spain?")
        await said(shell, "done")
        begun = shell.of("journal", op="begin")[-1]
        assert shell.scripted.chats[1]["journal"] == {"session": begun["id"], "prefix": None}, "the next one is kept as its own"
        await shell.end()

    @virtual
    async def test_writing_on_keeps_it(self) -> None:
        """Who writes on without a word has kept it as it is: a turn like any other."""
        shell = Shell()
        shell.send(kind="restore", id="cut-1", record=RECORD)
        await asyncio.sleep(0.01)
        shell.app.chat.set_egress("allow")
        shell.send(kind="ui", event="send", text="and Spain?")
        await said(shell, "done")
        assert [message["content"] for message in shell.upstream.chats[0]["messages"]] == ["Capital?", "It is ", "and Spain?"]
        assert {"kind": "journal", "op": "end", "id": "cut-1"} in shell.of("journal")
        await shell.end()

    @virtual
    @pytest.mark.parametrize("how", ["closed", "never", "local-only"])
    async def test_what_may_not_leave(self, how: str) -> None:
        """A closed answer is not offered to the cloud, and not sent there were it asked for all the same."""
        shell = Shell()
        if how == "closed":
            shell.send(kind="restore", id="cut-1", record={**RECORD, "closed": True})
            await asyncio.sleep(0.01)
            assert shell.ops("interrupted")[-1]["cloud"] is False
            shell.send(kind="ui", event="resume", id="cut-1", on="cloud")
            await asyncio.sleep(1)
        else:
            shell.app.chat.set_egress("never" if how == "never" else "allow")
            if how == "local-only":
                await shell.call(HYBRID, "setMode", "local-only")
            shell.send(kind="ui", event="send", text="x")
            assert shell.of("journal")[0]["record"]["closed"] is True
            await said(shell, "error")
        assert shell.upstream.chats == []
        await shell.end()

    @virtual
    async def test_a_failure_in_the_middle_is_asked_about(self) -> None:
        """Both sides are dead: what was shown stays, its journal too, and the person may go on with it later."""
        shell = Shell()
        shell.upstream.scripts.append(["It ", Break()])
        shell.send(kind="ui", event="send", text="x")
        finish = await said(shell, "error")
        assert shell.ops("interrupted") == [{"type": "interrupted", "id": finish["id"], "cloud": True}]
        assert [one["op"] for one in shell.of("journal")] == ["begin"]
        shell.upstream.default = ["It ", "is Paris."]
        shell.send(kind="ui", event="resume", id=finish["id"], on="cloud")
        await said(shell, "done")
        assert shell.app.chat.messages[-1]["content"].startswith("It ")
        assert shell.of("journal")[-1]["op"] == "end"
        await shell.end()

    @virtual
    @pytest.mark.parametrize(
        "record", [{}, {"conversation": {}}, {"conversation": {"conversation": {}, "nodes": []}}, {"conversation": 3}]
    )
    async def test_a_damaged_record(self, record: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
        """It is left aside with a word in the log, and the page goes on."""
        shell = Shell()
        shell.send(kind="restore", id="cut-1", record={"junk": 1, **record})
        assert "cannot be read" in caplog.text
        shell.send(kind="ui", event="send", text="x")
        await said(shell, "done")
        await shell.end()


def thought(text: str) -> Event:
    """A piece of what the cloud's model thinks."""
    return Event({"choices": [{"delta": {"reasoning_content": text}}]})


class TestThoughts:
    """What a model thinks."""

    @virtual
    async def test_they_are_shown_and_kept_beside_the_answer(self) -> None:
        """Each piece goes to the view at once; the answer's text has none of it, nor has what is sent with the next turn."""
        shell = Shell()
        shell.upstream.scripts.append([thought("Let me "), thought("see."), "It is ", "Paris."])
        shell.send(kind="ui", event="send", text="x")
        await said(shell, "done")
        told = [op for op in shell.ops("delta") if "thought" in op]
        assert [op["thought"] for op in told] == ["Let me ", "see."]
        assert {(op["delta"], op["provider"]) for op in told} == {("", "cloud")}
        node = shell.app.chat.tree.nodes[told[0]["id"]]
        assert (node.text, node.extra["thought"]) == ("It is Paris.", "Let me see.")
        assert not shell.of("event", name="hybrid-llm:thought"), "no script is told"
        shell.send(kind="ui", event="send", text="and now?")
        await said(shell, "done")
        assert "Let me" not in str(shell.upstream.chats[-1])
        await shell.end()

    @virtual
    async def test_a_model_that_thinks_long_has_not_stalled(self) -> None:
        """Four minutes of thoughts and no word: patience ends with silence, and this is none."""
        shell = Shell()
        thinking: list[Any] = [step for _ in range(5) for step in (thought("hm "), Sleep(90))]
        shell.upstream.scripts.append([*thinking, "Paris."])
        shell.send(kind="ui", event="send", text="x")
        for _ in range(100):
            if not shell.app.chat.busy:
                break
            await asyncio.sleep(10)
        assert shell.ops("finish")[-1]["state"] == "done"
        await shell.end()


@virtual
async def test_the_status_says_who_sees_pictures() -> None:
    """The local model by its entry, the cloud by what it says of its models; a cloud that says nothing may."""
    shell = Shell()
    assert (await shell.call(HYBRID, "getStatus"))["sees"] == {"local": False, "cloud": True}
    shell.upstream.files["/v1/models"] = {"data": [{"id": "blind", "capabilities": {"images": False}}]}
    await shell.app.context.gateway.check()
    assert (await shell.call(HYBRID, "getStatus"))["sees"] == {"local": False, "cloud": False}
    await shell.end()
