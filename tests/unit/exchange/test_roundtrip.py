"""Conversations leave the page and come back as they were, and come from elsewhere as they were there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from exchange_desk import archive, conversation
from exchange_trees import chatgpt, library, openwebui, trees
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from exchange_desk import ExchangeDesk

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(library())
def test_what_is_exported_comes_back_whole(desk: ExchangeDesk, conversations: list[dict[str, Any]]) -> None:
    """Rows, branches, attachments and fields of a later page are the same after export and import into an empty browser."""
    outcomes, shelf = desk.take(desk.write(conversations))
    assert outcomes == ["added"] * len(conversations)
    assert list(shelf.values()) == conversations


@quick
@given(library(most=3), st.integers(1, 64))
def test_a_file_that_comes_in_pieces_is_the_same_file(desk: ExchangeDesk, conversations: list[dict[str, Any]], step: int) -> None:
    """However the bytes are cut, even inside a letter."""
    text = desk.write(conversations)
    assert desk.read(text, step=step) == desk.read(text) == (conversations, [])


@quick
@given(library())
def test_importing_twice_changes_nothing(desk: ExchangeDesk, conversations: list[dict[str, Any]]) -> None:
    """The second time everything is here already."""
    text = desk.write(conversations)
    outcomes, shelf = desk.take(text, text)
    assert outcomes == ["added"] * len(conversations) + ["same"] * len(conversations)
    assert list(shelf.values()) == conversations


@quick
@given(trees(), st.data())
def test_nothing_that_is_there_is_lost_or_overwritten(desk: ExchangeDesk, mine: dict[str, Any], data: st.DataObject) -> None:
    """A file with another state of the same conversation: all that was here is here afterwards, word for word."""
    theirs = json.loads(json.dumps(mine))
    for node in theirs["nodes"]:
        node["text"] = data.draw(st.sampled_from([node["text"], node["text"] + "!"]))
    theirs["nodes"] += [{**theirs["nodes"][0], "id": "new-one", "parent": mine["nodes"][-1]["id"]}]
    outcomes, shelf = desk.take(desk.write([theirs]), before=[mine])
    changed = any(a["text"] != b["text"] for a, b in zip(mine["nodes"], theirs["nodes"], strict=False))
    assert outcomes == ["copied" if changed else "grown"]
    kept = shelf[mine["conversation"]["id"]]
    assert kept["conversation"] == mine["conversation"]
    assert [node for node in kept["nodes"] if node["id"] != "new-one"] == mine["nodes"]
    texts = sorted(node["text"] for one in shelf.values() for node in one["nodes"])
    assert all(node["text"] in texts for node in theirs["nodes"])
    assert desk.take(desk.write([theirs]), desk.write([theirs]), before=[mine])[0][1] == "same"


def test_what_was_deleted_comes_back(desk: ExchangeDesk) -> None:
    """An import of what waits to be removed for good restores it; its messages are as they were."""
    one = conversation("c", [("a", None, "user", "x")], deletedAt=1_700_000_000_000)
    outcomes, shelf = desk.take(desk.write([one]), before=[one])
    assert outcomes == ["restored"]
    assert shelf["c"]["conversation"]["deletedAt"] is None


def visible(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree as another product shows it: no system messages, no empty ones, roles that alternate."""
    nodes = []
    for index, node in enumerate(tree["nodes"]):
        role = "assistant" if node["parent"] and by(tree, node["parent"])["role"] == "user" else "user"
        node |= {"role": role, "text": node["text"].strip() or f"text {index}", "state": "done"}
        nodes.append(node)
    return {**tree, "nodes": nodes}


def by(tree: dict[str, Any], identity: str) -> dict[str, Any]:
    """The node of that id."""
    return next(node for node in tree["nodes"] if node["id"] == identity)


def shape(one: dict[str, Any]) -> tuple[Any, ...]:
    """What every product knows of a conversation."""
    row = one["conversation"]
    nodes = [(node["id"], node["parent"], node["role"], node["text"]) for node in one["nodes"]]
    return row["id"], row["title"], row["leaf"], sorted(nodes)


@quick
@given(trees())
def test_chatgpts_tree_comes_as_it_was(desk: ExchangeDesk, tree: dict[str, Any]) -> None:
    """Ids, branches, authors, texts, times and the branch that was shown; what was hidden is not there."""
    tree = visible(tree)
    found, notes = desk.read([chatgpt(tree)])
    assert [shape(one) for one in found] == [shape(tree)]
    assert notes == []
    times = {node["id"]: node["createdAt"] for node in found[0]["nodes"]}
    assert times == {node["id"]: node["createdAt"] for node in tree["nodes"]}


@quick
@given(trees())
def test_open_webuis_tree_comes_as_it_was(desk: ExchangeDesk, tree: dict[str, Any]) -> None:
    """Ids, branches, authors, texts, attachments and the branch that was shown."""
    found, notes = desk.read([openwebui(tree)])
    assert [shape(one) for one in found] == [shape(tree)]
    assert notes == []
    data = [[one["data"] for one in node.get("attachments", [])] for node in tree["nodes"]]
    assert [[one["data"] for one in node["attachments"]] for node in found[0]["nodes"]] == data


TRICKY = st.sampled_from([
    "## You", "\n\n# x <!-- hybr branch -->\n", "```\n## Assistant <!-- hybr user a 1 -->", "**f** <!-- hybr file text/plain -->",
    "\\\\## You <!-- hybr user b 2 start -->", "*p* <!-- hybr picture -->", "---", "\n", "", " <!-- hybr chat a 1 2 -->", "`````",
])  # fmt: skip


@quick
@given(trees(most=10), st.data())
def test_markdown_comes_back_as_the_same_tree(desk: ExchangeDesk, tree: dict[str, Any], data: st.DataObject) -> None:
    """Ids, branches, authors, texts, times, models and text files, word for word, whatever the texts look like."""
    for node in tree["nodes"]:
        node["text"] = "\n".join(data.draw(st.lists(st.one_of(TRICKY, st.just(node["text"])), max_size=4))).replace("\r", "")
        files = [one for one in node.get("attachments", []) if one["kind"] == "text"]
        node["attachments"] = [one | {"name": f"f{i}.txt", "data": one["data"].replace("\r", "")} for i, one in enumerate(files)]
        node["model"] = data.draw(st.sampled_from(["gpt-4", "a (b)"])) if node["role"] == "assistant" else None
    tree["conversation"] |= {"title": "A title", "pinned": False}
    found, notes = desk.read(desk.ask("markdown", one=tree, branches=True))
    assert notes == []
    assert shape(found[0]) == shape(tree)
    beside = [{name: node.get(name) for name in ("id", "createdAt", "model", "attachments")} for node in tree["nodes"]]
    came = {node["id"]: {name: node.get(name) for name in beside[0]} for node in found[0]["nodes"]}
    assert [came[one["id"]] for one in beside] == beside
    assert desk.take(desk.ask("markdown", one=tree, branches=True), before=[tree])[0] == ["same"]


def test_markdown_of_several_chats_and_of_one_branch(desk: ExchangeDesk) -> None:
    """A file of everything gives each chat; without the other branches, the one that was shown; pictures are told."""
    image = {"kind": "image", "name": "cat.png", "mime": "image/png", "data": "data:image/png;base64,AAAA"}
    one = conversation("one", [("a", None, "user", "x"), ("b", "a", "assistant", "y"), ("c", "a", "assistant", "z\n")], leaf="c")
    two = conversation("two", [("d", None, "user", "")])
    two["nodes"][0]["attachments"] = [image]
    text = "\n\n".join(desk.ask("markdown", one=each, branches=False) for each in (one, two))
    for content in (text, text.replace("\n", "\r\n")):
        found, notes = desk.read(content)
        assert [[(node["id"], node["parent"], node["text"]) for node in each["nodes"]] for each in found] == [
            [("a", None, "x"), ("c", "a", "z\n")],
            [("d", None, "")],
        ]
        assert [note["say"] for note in notes] == ["attachmentLost"]


def test_markdown_of_other_programs(desk: ExchangeDesk) -> None:
    """Headings or bold names that say who speaks; what stands in code is text; a second import finds it here already."""
    text = "# Cooking\n\n### USER\n\nHow long?\n```\n## You\n```\n\n### Assistant (llama3):\n\nTen minutes.\n\n**User:**\nThanks"
    found, notes = desk.read(text)
    assert notes == []
    assert (found[0]["conversation"]["title"], len(found)) == ("Cooking", 1)
    assert [(node["role"], node["text"]) for node in found[0]["nodes"]] == [
        ("user", "How long?\n```\n## You\n```"),
        ("assistant", "Ten minutes."),
        ("user", "Thanks"),
    ]
    assert found[0]["nodes"][1]["model"] == "llama3"
    assert desk.take(text, text)[0] == ["added", "same"]
    assert desk.read("# A recipe\n\nEggs.") == ([], [{"say": "notJson"}])


@quick
@given(trees(most=12))
def test_markdown_has_every_message_once(desk: ExchangeDesk, tree: dict[str, Any]) -> None:
    """With all branches each message is there once; without, those of the branch shown, in order."""
    for index, node in enumerate(tree["nodes"]):
        node |= {"text": f"message {index}.", "attachments": []}
    everything = desk.ask("markdown", one=tree, branches=True)
    lines = everything.splitlines()
    assert sorted(line for line in lines if line.startswith("message ")) == sorted(node["text"] for node in tree["nodes"])
    path = []
    at: str | None = tree["conversation"]["leaf"]
    while at:
        path.insert(0, by(tree, at)["text"])
        at = by(tree, at)["parent"]
    shown = desk.ask("markdown", one=tree, branches=False).splitlines()
    assert [line for line in shown if line.startswith("message ")] == path


def steps(*messages: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """ChatGPT's mapping of one branch: each message's id and what it has beside."""
    ids = ["root", *(identity for identity, _ in messages)]
    mapping: dict[str, Any] = {"root": {"id": "root", "parent": None, "children": ids[1:2], "message": None}}
    for index, (identity, message) in enumerate(messages, 1):
        content = (
            message["content"]
            if isinstance(message["content"], dict)
            else {"content_type": "text", "parts": [message["content"]]}
        )
        whole = {
            "author": {"role": message.get("role", "assistant")},
            "recipient": "all",
            "metadata": {},
            **message,
            "content": content,
        }
        mapping[identity] = {"id": identity, "parent": ids[index - 1], "children": ids[index + 1 : index + 2], "message": whole}
    return {"id": "real", "title": "New chat", "mapping": mapping, "current_node": ids[-1]}


def test_what_chatgpt_writes_beside_text(desk: ExchangeDesk) -> None:
    """Instructions stay out, reasoning is folded, the canvas' documents come as each change left them, sources are links."""
    create = json.dumps({"name": "poem", "type": "document", "content": "Roses are red."})
    literal = {"pattern": "red\\.", "multiple": False, "replacement": "blue."}
    change = json.dumps({"updates": [literal, {"pattern": "(a+)+$", "replacement": "no"}]})
    rewrite = json.dumps({"updates": [{"pattern": ".*", "multiple": False, "replacement": "All new $& text."}]})
    mark = "\ue200cite\ue202turn0search0\ue201"
    spoken = ["Write", {"content_type": "audio_transcription", "text": "a poem"}]
    files = [{"id": "file-Txt9", "name": "notes.txt"}, {"id": "file-Gone", "name": "x.pdf"}]
    sources = [{"matched_text": mark, "alt": "([Roses](https://r.example))"}, {"matched_text": " ", "alt": "!"}]
    answer = f"Here it is. {mark} And \ue200navlist\ue202x\ue201more【3†source】."
    tree = steps(
        ("me", {"role": "user", "content": {"content_type": "user_editable_context", "user_profile": "secret"}}),
        ("q", {"role": "user", "content": kind("multimodal_text", parts=spoken), "metadata": {"attachments": files}}),
        ("t", {"content": kind("thoughts", thoughts=[{"summary": "Rhyme", "content": "red, bed"}])}),
        ("s", {"content": kind("code", text="search('roses')"), "metadata": {"reasoning_status": "is_reasoning"}}),
        ("r", {"content": kind("reasoning_recap", content="Thought for 3s")}),
        ("c", {"content": kind("code", language="json", text=create), "recipient": "canmore.create_textdoc"}),
        ("ct", {"role": "tool", "content": "Successfully created text document"}),
        ("a", {"content": answer, "metadata": {"content_references": sources}}),
        ("q2", {"role": "user", "content": "Change it."}),
        ("u", {"content": change, "recipient": "canmore.update_textdoc"}),
        ("w", {"content": kind("code", text=rewrite), "recipient": "canmore.update_textdoc"}),
        ("p", {"content": kind("code", language="python", text="1"), "recipient": "python"}),
    )
    found, notes = desk.read(archive({"conversations.json": json.dumps([tree]), "file-Txt9-notes.txt": "Grüße"}))
    question, first, _, changed = found[0]["nodes"]
    assert (question["text"], question["attachments"]) == (
        "Write\n\na poem",
        [{"kind": "text", "name": "notes.txt", "mime": "text/plain", "data": "Grüße"}],
    )
    assert first["thought"] == "**Rhyme**\n\nred, bed"
    assert first["text"] == "**poem**\n\nRoses are red.\n\nHere it is. ([Roses](https://r.example)) And more."
    assert changed["text"] == "**poem**\n\nRoses are blue.\n\n**poem**\n\nAll new $& text.\n\n```python\n1\n```"
    assert (found[0]["conversation"]["titled"], found[0]["conversation"]["leaf"]) == (False, changed["id"])
    assert [(note["say"], note["count"]) for note in notes] == [("attachmentLost", 1)]
    assert "secret" not in json.dumps(found)


def kind(name: str, **more: Any) -> dict[str, Any]:
    """ChatGPT's content of a kind."""
    return {"content_type": name, **more}


def details(kind: str, attributes: str, summary: str, inner: str) -> str:
    """Open WebUI's block of something that is no answer."""
    return f'<details type="{kind}" {attributes}>\n<summary>{summary}</summary>\n{inner}</details>\n'


def test_what_open_webui_writes_beside_text(desk: ExchangeDesk) -> None:
    """Reasoning is folded and reads as it was thought, tools are named, the system prompt is kept, errors are told."""
    thought = details("reasoning", 'done="true" duration="3"', "Thought for 3 seconds", "&gt; a &lt; b\n> so\n")
    tool = details("tool_calls", 'done="true" name="clock" result="&quot;12&quot;"', "Tool Executed", "")
    messages = {
        "a": {
            "id": "a",
            "parentId": None,
            "role": "user",
            "content": '<details type="reasoning">mine</details>',
            "timestamp": 1700000000,
        },
        "b": {
            "id": "b",
            "parentId": "a",
            "role": "assistant",
            "content": f"{thought}{tool}Noon.",
            "model": "qwen3",
            "done": True,
        },
        "c": {
            "id": "c",
            "parentId": "a",
            "role": "assistant",
            "content": "",
            "error": {"content": "Connection refused"},
            "model": "x",
        },
    }
    chat = {"params": {"system": "Be brief."}, "history": {"messages": messages, "currentId": "b"}}
    found, notes = desk.read([{"id": "o", "title": "T", "chat": chat, "folder_id": None, "meta": {"tags": ["x"]}}])
    user, answer, failed = found[0]["nodes"]
    assert notes == []
    assert user["text"] == messages["a"]["content"]
    assert (answer["thought"], answer["text"]) == ("a < b\nso", "*Tool Executed*\n\nNoon.")
    assert (failed["state"], failed["error"]["message"]) == ("error", "Connection refused")
    assert found[0]["conversation"]["settings"] == {"system": "Be brief."}
    legacy = {"id": "l", "title": "Old", "messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]}
    found, _ = desk.read([legacy])
    assert [(node["parent"], node["text"]) for node in found[0]["nodes"]] == [(None, "1"), ("message-0", "2")]
