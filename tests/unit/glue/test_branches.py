"""What a person does with a conversation's tree, from the shell's events to the view, the shelf and the request."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import pytest
from lab.clock import virtual
from lab.engine import Sleep
from lab.upstream import Cut as Break
from lab.upstream import Tail
from played_shelf import PlayedShelf
from played_shell import HYBRID, LOCAL, Shell

from hybr.webapp.hybrid.errors import OptionError
from hybr.webapp.state.tree import Node


async def settled(shell: Shell) -> None:
    """Wait until no answer is under way and what was written is."""
    await asyncio.sleep(0.02)
    for _ in range(1000):
        if not shell.app.chat.busy:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("an answer does not end")


async def say(shell: Shell, text: str, answer: list[Any] | None = None, **more: Any) -> None:
    """Send a message and wait for its answer."""
    shell.upstream.default = answer or [f"re {text}"]
    shell.send(kind="ui", event="send", text=text, **more)
    await settled(shell)


async def do(shell: Shell, event: str, at: int | str, **more: Any) -> None:
    """An event on the message at that place of the branch shown."""
    name = list(shell.view.shown)[at] if isinstance(at, int) else at
    shell.send(kind="ui", event=event, id=name, **more)
    await settled(shell)


def asked(shell: Shell) -> list[str]:
    """What the last request sent."""
    return [message["content"] for message in shell.upstream.chats[-1]["messages"]]


def alike(shell: Shell) -> None:
    """What is shown is the tree's branch, and what is stored is the tree."""
    chat = shell.app.chat
    assert list(shell.view.shown) == [node.id for node in chat.tree.path]
    assert shell.view.places == [f"{index + 1}/{count}" for index, count in map(chat.tree.place, shell.view.shown)]
    stored = shell.shelf.nodes.get(chat.library.conversation.id, {})
    assert {name: row["text"] for name, row in stored.items()} == {name: node.text for name, node in chat.tree.nodes.items()}
    assert {name: row["parent"] for name, row in stored.items()} == {name: chat.tree.parent(name) for name in chat.tree.nodes}


@virtual
async def test_an_edited_message_is_a_branch() -> None:
    """The new version is answered beside the old one; only the branch shown is sent; stepping shows each with its answers."""
    shell = Shell()
    await say(shell, "a")
    await say(shell, "b")
    await do(shell, "edit", 2, text="B")
    assert (shell.view.texts, shell.view.places) == (["a", "re a", "B", "re b"], ["1/1", "1/1", "2/2", "1/1"])
    assert asked(shell) == ["a", "re a", "B"]
    await do(shell, "branch", 2, step=-1)
    assert (shell.view.texts, shell.view.places[2]) == (["a", "re a", "b", "re b"], "1/2")
    await say(shell, "c")
    assert asked(shell) == ["a", "re a", "b", "re b", "c"]
    await do(shell, "edit", 0, text="  ")
    assert shell.view.texts[0] == "a"
    alike(shell)
    await shell.end()


@virtual
async def test_another_answer() -> None:
    """A sibling of the answer; one that failed before its first word is replaced; a question alone is answered."""
    shell = Shell()
    await say(shell, "a", ["one"])
    shell.upstream.default = ["two"]
    await do(shell, "regenerate", 1)
    assert (shell.view.texts, shell.view.places) == (["a", "two"], ["1/1", "2/2"])
    assert asked(shell) == ["a"]
    shell.upstream.default = [Break()]
    await do(shell, "regenerate", 1)
    assert (shell.view.shown[list(shell.view.shown)[1]]["state"], shell.view.places[1]) == ("error", "3/3")
    shell.upstream.default = ["three"]
    await do(shell, "regenerate", 1)
    assert (shell.view.texts, shell.view.places) == (["a", "three"], ["1/1", "3/3"])
    await do(shell, "delete", 1, what="message")
    assert shell.view.texts == ["a", "two"], "the neighbour is shown"
    await do(shell, "delete", 1, what="message")
    await do(shell, "delete", 1, what="message")
    assert shell.view.texts == ["a"]
    shell.upstream.default = ["four"]
    await do(shell, "regenerate", 0)
    assert (shell.view.texts, shell.view.places) == (["a", "four"], ["1/1", "1/1"])
    alike(shell)
    await shell.end()


@virtual
async def test_an_edited_answer() -> None:
    """A sibling with the person's text, marked so, not asked for; it goes along with the next question."""
    shell = Shell()
    await say(shell, "a")
    before = len(shell.upstream.chats)
    await do(shell, "edit", 1, text="better")
    assert (shell.view.texts, shell.view.places, len(shell.upstream.chats)) == (["a", "better"], ["1/1", "2/2"], before)
    assert list(shell.view.shown.values())[1]["edited"] is True
    await say(shell, "b")
    assert asked(shell) == ["a", "better", "b"]
    alike(shell)
    await shell.end()


@virtual
async def test_going_on() -> None:
    """A stopped answer, and one that ended by its length, go on in place; with messages under it, in a copy beside it."""
    shell = Shell()
    shell.upstream.default = ["It ", "is ", Sleep(50), "never"]
    shell.send(kind="ui", event="send", text="a")
    await asyncio.sleep(0.5)
    shell.send(kind="ui", event="stop")
    await settled(shell)
    assert list(shell.view.shown.values())[1]["state"] == "stopped"
    shell.upstream.default = ["It is ", "Paris", Tail(reason="length")]
    await do(shell, "continue", 1)
    last = list(shell.view.shown.values())[1]
    assert (last["text"], last["state"], last["stats"]["finishReason"]) == ("It is Paris", "done", "length")
    shell.upstream.default = ["It is Paris", "."]
    await do(shell, "continue", 1)
    assert (shell.view.texts, shell.view.places) == (["a", "It is Paris."], ["1/1", "1/1"])
    alike(shell)
    await say(shell, "b")
    shell.upstream.default = ["It is Paris.", " Indeed."]
    await do(shell, "continue", 1)
    assert (shell.view.texts, shell.view.places) == (["a", "It is Paris. Indeed."], ["1/1", "2/2"])
    await do(shell, "branch", 1, step=-1)
    assert shell.view.texts == ["a", "It is Paris.", "b", "re b"]
    alike(shell)
    await shell.end()


@virtual
async def test_deleting_and_undoing() -> None:
    """One message, what follows stays; a branch; each is undone by its token, once, also when another conversation is open."""
    shell = Shell()
    for text in "abc":
        await say(shell, text)
    whole = shell.view.texts
    await do(shell, "delete", 2, what="message")
    assert shell.view.texts == ["a", "re a", "re b", "c", "re c"]
    alike(shell)
    await do(shell, "delete", 1, what="branch")
    assert shell.view.texts == ["a"]
    one, branch = shell.ops("toast")[-2:]
    assert (one["say"], branch["say"], branch["args"]["count"]) == ("messageDeleted", "branchDeleted", 4)
    first = shell.app.chat.library.conversation.id
    shell.send(kind="ui", event="new-conversation")
    await say(shell, "elsewhere")
    shell.send(kind="ui", event="undo", token=branch["undo"])
    await settled(shell)
    assert shell.view.texts == ["elsewhere", "re elsewhere"]
    shell.send(kind="ui", event="open-conversation", id=first)
    await settled(shell)
    assert shell.view.texts == ["a", "re a", "re b", "c", "re c"]
    shell.send(kind="ui", event="undo", token=one["undo"])
    await settled(shell)
    assert shell.view.texts == whole
    alike(shell)
    shell.send(kind="ui", event="undo", token=one["undo"])
    await settled(shell)
    assert shell.view.texts == whole
    await shell.end()


@virtual
async def test_deleting_what_is_being_written() -> None:
    """The answer is stopped and gone, its journal too; the page is free at once."""
    shell = Shell()
    shell.upstream.default = ["It ", Sleep(50)]
    shell.send(kind="ui", event="send", text="a")
    await asyncio.sleep(0.5)
    await do(shell, "delete", 1, what="message")
    assert (shell.view.texts, shell.upstream.open) == (["a"], 0)
    assert shell.of("journal")[-1]["op"] == "end"
    await do(shell, "delete", 0, what="branch")
    assert shell.view.texts == []
    await say(shell, "b")
    assert shell.view.texts == ["b", "re b"]
    alike(shell)
    await shell.end()


@virtual
async def test_a_reload() -> None:
    """A new page opens the conversation that the address names, as it was: branch, versions, figures, policy and settings."""
    shell = Shell()
    await say(shell, "What is the capital of France, and why?\nsecond line")
    await do(shell, "edit", 1, text="better")
    await do(shell, "branch", 1, step=-1)
    shell.app.chat.set_egress("redact")
    shell.app.chat.set_settings({"temperature": 0.5, "response_format": {"type": "json_schema", "json_schema": {"schema": {}}}})
    await settled(shell)
    name, texts, places = shell.view.conversation["id"], shell.view.texts, shell.view.places
    assert shell.view.conversation == {
        "id": name,
        "title": "What is the capital of France, and why?",
        "temporary": False,
        "stored": True,
    }
    again = Shell(shelf=shell.shelf)
    again.send(kind="restore", open=name)
    await settled(again)
    assert (again.view.texts, again.view.places, again.view.conversation["id"]) == (texts, places, name)
    assert list(again.view.shown.values())[1]["stats"]["usage"]["totalTokens"] == 12
    assert again.app.chat.facts["egress"] == "redact"
    assert again.app.chat.settings == shell.app.chat.settings
    assert shell.shelf.rows[name]["settings"]["responseFormat"]["json_schema"] == {"schema": {}}
    alike(again)
    await again.end()
    await shell.end()


@virtual
async def test_what_a_conversation_asks_for() -> None:
    """Its policy, persona and settings go with each of its requests and with no other conversation's; bad ones are refused."""
    shell = Shell()
    told: list[dict[str, Any]] = []
    shell.app.context.events.on("chat:changed", told.append)
    chat = shell.app.chat
    await shell.call(HYBRID, "savePersona", "brief", {"system": "Be brief.", "options": {"seed": 7}})
    assert chat.set_settings({"temperature": 0.1, "max_output_tokens": 5, "stop": ["."]})["temperature"] == 0.1
    chat.set_persona("brief")
    chat.set_settings({"stop": None})
    assert told[-1] == chat.facts
    with pytest.raises(OptionError, match=r"settings\.top_p"):
        chat.set_settings({"temperature": 0.9, "top_p": 7})
    with pytest.raises(OptionError, match="There are"):
        chat.set_settings({"model": "x"})
    assert chat.settings == {"temperature": 0.1, "max_output_tokens": 5}
    await say(shell, "a")
    sent = shell.upstream.chats[-1]
    assert (sent["temperature"], sent["max_tokens"], sent["seed"]) == (0.1, 5, 7)
    assert asked(shell) == ["Be brief.", "a"]
    chat.set_settings({"system": "Be long."})
    await say(shell, "b")
    assert asked(shell)[0] == "Be long.", "the conversation's own comes before the persona's"
    shell.send(kind="ui", event="new-conversation")
    await say(shell, "c")
    assert asked(shell) == ["c"]
    assert "temperature" not in shell.upstream.chats[-1]
    await shell.end()


@virtual
async def test_what_hangs_on_a_message() -> None:
    """Text files go before the text, images as parts of their own; an edited message keeps them; what is neither is left out."""
    shell = Shell()
    picture = {"kind": "image", "name": "a.png", "mime": "image/png", "data": "iVBORw0KGgo="}
    text = {"kind": "text", "name": "n.txt", "mime": "text/plain", "data": "``` x"}
    await say(shell, "look", attachments=[picture, text, {"kind": "video"}])
    message = shell.upstream.chats[-1]["messages"][0]["content"]
    assert [part["type"] for part in message] == ["text", "image_url"]
    assert message[0]["text"] == "n.txt:\n````\n``` x\n````\n\nlook"
    assert message[1]["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgo="
    assert [one["name"] for one in next(iter(shell.view.shown.values()))["attachments"]] == ["a.png", "n.txt"]
    await do(shell, "edit", 0, text="look again")
    assert [one["name"] for one in next(iter(shell.view.shown.values()))["attachments"]] == ["a.png", "n.txt"]
    alike(shell)
    await shell.call(HYBRID, "setMode", "local-only")
    await shell.call(LOCAL, "init", "tiny")
    await do(shell, "regenerate", 1)
    refused = list(shell.view.shown.values())[1]
    assert (refused["state"], refused["error"]["name"], "read images" in refused["error"]["message"]) == (
        "error",
        "UnsupportedError",
        True,
    )
    await shell.call(HYBRID, "setMode", "cloud")
    shell.send(kind="ui", event="new-conversation")
    await say(shell, "", attachments=[text])
    assert (shell.view.conversation["title"], shell.app.chat.messages[0]["content"]) == ("n.txt", "n.txt:\n````\n``` x\n````")
    await shell.end()


@virtual
async def test_a_temporary_conversation() -> None:
    """Nothing of it is written, journaled or kept by the engine; the next conversation is an ordinary one."""
    shell = Shell()
    shell.send(kind="ui", event="new-conversation", temporary=True)
    await say(shell, "a")
    await do(shell, "edit", 0, text="A")
    await do(shell, "delete", 1, what="message")
    shell.app.chat.set_egress("redact")
    assert (shell.view.texts, shell.view.conversation["temporary"], shell.view.conversation["stored"]) == (["A"], True, False)
    assert (shell.shelf.rows, shell.shelf.writes) == ({}, 0)
    assert shell.of("journal", op="begin") == []
    shell.send(kind="ui", event="new-conversation")
    await say(shell, "b")
    assert [row["title"] for row in shell.shelf.rows.values()] == ["b"]
    await shell.end()


@virtual
async def test_two_tabs_in_one_conversation() -> None:
    """Both write at the same place: the messages of both are kept, as siblings, and each sees the other's."""
    one = Shell()
    await say(one, "a")
    two = Shell(beside=one)
    two.send(kind="restore", open=one.view.conversation["id"])
    await settled(two)
    for shell in (one, two):
        shell.upstream.default = [f"re {'one' if shell is one else 'two'}", Sleep(1)]
    one.send(kind="ui", event="send", text="from one")
    two.send(kind="ui", event="send", text="from two")
    await settled(one)
    await settled(two)
    alike(one)
    assert sorted(one.app.chat.tree.nodes) == sorted(two.app.chat.tree.nodes)
    assert len(one.app.chat.tree) == 6
    assert (one.view.texts[2], two.view.texts[2]) == ("from one", "from two")
    assert {one.view.places[2], two.view.places[2]} == {"1/2", "2/2"}
    await do(one, "branch", 2, step=1 if one.view.places[2] == "1/2" else -1)
    assert one.view.texts == ["a", "re a", "from two", "re two"]
    await say(one, "on")
    assert two.view.texts == [*one.view.texts[:4], "on", "re on"], "an idle tab follows"
    two.app.chat.set_egress("never")
    assert one.app.chat.egress == "never"
    one.app.chat.set_egress("allow")
    assert two.app.chat.egress == "never", "a stricter policy is not lifted by another tab"
    await one.end()
    await two.end()


@virtual
async def test_removed_or_deleted_elsewhere() -> None:
    """Removed by another tab it stays on the screen, and comes back whole with the next change; deleted, a new one is open."""
    shell = Shell()
    await say(shell, "a")
    name = shell.view.conversation["id"]
    del shell.shelf.rows[name], shell.shelf.nodes[name]
    shell.send(kind="shelf-changed", change="removed", conversation=name, by="tab")
    assert shell.view.texts == ["a", "re a"]
    await say(shell, "b")
    alike(shell)
    assert shell.shelf.rows[name]["title"] == "a"
    row = {**shell.shelf.rows[name], "title": "Named", "titled": True}
    shell.send(kind="shelf-changed", change="written", conversation=name, by="page", row=row, nodes=[], drop=[])
    await say(shell, "c")
    assert shell.view.conversation["title"] == "Named", "named by the person, it keeps that name"
    row["deletedAt"] = 5
    shell.send(kind="shelf-changed", change="written", conversation=name, by="page", row=row, nodes=[], drop=[])
    assert (shell.view.texts, shell.view.conversation["stored"]) == ([], False)
    shell.send(kind="shelf-changed", change="written", conversation="another", by="tab", row={"id": "another", "v": 1})
    shell.send(
        kind="shelf-changed", change="written", conversation=shell.view.conversation["id"], by="tab", row={"v": 99, "id": "x"}
    )
    await shell.end()


@virtual
async def test_no_room() -> None:
    """It is said once, the text stays on the screen, and what is written later is stored again."""
    shell = Shell()
    shell.shelf.failing = "storage_full"
    await say(shell, "a")
    await say(shell, "b")
    assert [op["text"] for op in shell.ops("toast")] == ["no: storage_full"]
    assert shell.view.texts == ["a", "re a", "b", "re b"]
    shell.shelf.failing = ""
    await say(shell, "c")
    shell.shelf.failing = "storage_full"
    await say(shell, "d")
    assert len(shell.ops("toast")) == 2
    await shell.end()


@virtual
async def test_what_cannot_be_opened() -> None:
    """Not there, or of a later version: the person is told, what is open stays open; what they do meanwhile waits its turn."""
    shell = Shell()
    await say(shell, "a")
    name = shell.view.conversation["id"]
    shell.shelf.rows["future"] = {"id": "future", "v": 2}
    for other in ("gone", "future"):
        shell.send(kind="ui", event="open-conversation", id=other)
        await settled(shell)
        assert (shell.view.texts, shell.view.conversation["id"]) == (["a", "re a"], name)
    assert [op["toast"] for op in shell.ops("toast")] == ["error", "error"]
    assert shell.shelf.rows["future"] == {"id": "future", "v": 2}
    shell.send(kind="ui", event="new-conversation")
    shell.send(kind="ui", event="open-conversation", id=name, node=next(iter(shell.shelf.nodes[name])), find="a")
    shell.send(kind="ui", event="send", text="b")
    await settled(shell)
    assert shell.view.texts[:3] == ["a", "re a", "b"]
    assert shell.ops("reveal") == [{"type": "reveal", "id": next(iter(shell.shelf.nodes[name])), "find": "a"}]
    await shell.end()


@virtual
async def test_looking_within_the_open_conversation() -> None:
    """A place in the conversation that is open is shown without stopping the answer under way, and the text goes on there."""
    shell = Shell()
    await say(shell, "a")
    shell.upstream.default = ["It ", Sleep(2), "is."]
    shell.send(kind="ui", event="send", text="b")
    await asyncio.sleep(0.5)
    first = next(iter(shell.view.shown))
    shell.send(kind="ui", event="open-conversation", id=shell.view.conversation["id"], node=first)
    await asyncio.sleep(0.1)
    assert (shell.app.chat.busy, shell.view.texts[-1]) == (True, "It ")
    await settled(shell)
    await asyncio.sleep(3)
    assert shell.view.texts == ["a", "re a", "b", "It is."]
    alike(shell)
    await shell.end()


@virtual
async def test_a_database_that_does_not_answer() -> None:
    """Who waits for it is told after a while, and goes on."""
    shell = Shell()
    shell._shelved = lambda _: None  # type: ignore[method-assign]
    shell.send(kind="restore", open="c")
    shell.send(kind="ui", event="send", text="a")
    assert shell.view.texts == []
    await asyncio.sleep(15)
    await settled(shell)
    assert "does not answer" in shell.ops("toast")[0]["text"]
    assert shell.view.texts == ["a", "It is Paris."]
    for task in list(shell.app.chat.library._tasks):
        task.cancel()
    await shell.end()


@virtual
async def test_a_cut_answer_and_its_conversation() -> None:
    """After a crash the conversation comes from the shelf, the cut answer under its question; kept, it is a message like any."""
    shell = Shell()
    await say(shell, "a")
    shell.upstream.default = ["It ", Sleep(50)]
    shell.send(kind="ui", event="send", text="b")
    await asyncio.sleep(0.5)
    (*_, begun) = shell.of("journal", op="begin")
    record = {**begun["record"], "text": "It ", "provider": "cloud"}
    again = Shell(shelf=shell.shelf)
    again.send(kind="restore", open=shell.view.conversation["id"])
    again.send(kind="restore", id=begun["id"], record=record)
    await settled(again)
    assert (again.view.texts, again.view.asked) == (["a", "re a", "b", "It "], {begun["id"]})
    await do(again, "regenerate", 3)
    assert (again.view.asked, again.view.places[3]) == (set(), "2/2")
    third = Shell(shelf=shell.shelf)
    third.send(kind="restore", id=begun["id"], record=record)
    await settled(third)
    assert (third.view.texts[:3], third.view.asked) == (["a", "re a", "b"], {begun["id"]}), "without an address it opens too"
    shell.shelf.rows.clear()
    fourth = Shell(shelf=shell.shelf)
    fourth.send(kind="restore", id=begun["id"], record=record)
    await settled(fourth)
    assert fourth.view.texts == ["b", "It "], "what the shelf has not, the journal has"
    quick = Shell(shelf=again.shelf)
    quick.send(kind="restore", open=fourth.view.conversation["id"])
    await settled(quick)
    await do(quick, "delete", begun["id"], what="message")
    await say(quick, "on")
    quick.send(kind="restore", id=begun["id"], record=record)
    await settled(quick)
    assert (quick.view.texts[-2:], quick.view.asked) == (["on", "re on"], set()), "who has gone on is not taken back"
    assert quick.app.chat.tree.nodes[begun["id"]].text == "It ", "and it is not lost"
    alike(quick)
    for one in (again, third, fourth, quick):
        await one.end()
    shell.send(kind="ui", event="stop")
    await settled(shell)
    await shell.end()


@virtual
async def test_a_thousand_messages() -> None:
    """They are opened by one op."""
    shelf = PlayedShelf()
    nodes = [
        {"id": f"n{n}", "parent": f"n{n - 1}" if n else None, "role": "user" if n % 2 == 0 else "assistant", "text": f"text {n}"}
        for n in range(1000)
    ]
    shelf.write({"conversation": {"id": "c"}, "nodes": [{**node, "createdAt": n} for n, node in enumerate(nodes)], "drop": []})
    shell = Shell(shelf=shelf)
    begun = time.process_time()
    shell.send(kind="restore", open="c")
    await settled(shell)
    assert len(shell.view.shown) == 1000
    assert len(shell.of("view")) == 1
    assert time.process_time() - begun < 5
    await shell.end()


@virtual
async def test_a_hundred_conversations_in_turn() -> None:
    """Only the open one's messages are in memory."""
    shelf = PlayedShelf()
    for number in range(100):
        made = [{"id": f"{number}-{n}", "parent": None, "role": "user", "text": "x" * 1000, "createdAt": n} for n in range(10)]
        shelf.write({"conversation": {"id": f"c{number}"}, "nodes": made, "drop": []})
    shell = Shell(shelf=shelf)
    for number in range(100):
        shell.send(kind="ui", event="open-conversation", id=f"c{number}")
        await settled(shell)
        shell.out.clear()
    gc.collect()
    alive = [one for one in gc.get_objects() if isinstance(one, Node) and one.id.split("-")[0].isdigit()]
    assert {node.id.split("-")[0] for node in alive} == {"99"}
    assert len(alive) == 10
    assert len(shell.app.shelf._waiting) == 0
    await shell.end()
