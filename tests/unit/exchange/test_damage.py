"""Files that are damaged, huge, of another kind or made to do harm: what can be read is, the rest is named, nothing breaks."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from exchange_desk import archive, conversation
from exchange_trees import chatgpt, library, trees
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from exchange_desk import ExchangeDesk

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
GOOD = conversation("good", [("a", None, "user", "hello"), ("b", "a", "assistant", "hi")])


def says(notes: list[dict[str, Any]]) -> list[str]:
    """The notes' keys."""
    return [note["say"] for note in notes]


def own(*elements: Any, **more: Any) -> dict[str, Any]:
    """Our file with these elements."""
    return {"format": "hybr", "version": 1, "conversations": list(elements), **more}


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("", "notJson"),
        ("hello", "notJson"),
        (b"\x89PNG\r\n", "notJson"),
        ("\ufffd\x00", "notJson"),
        ("[", "cutAfter"),
        ("{", "damaged"),
        ("{}", "notAConversation"),
        ("[1, null, []]", "notAConversation"),
        (own(format="hybr", version=2), "newerFile"),
        (own({"conversation": {"v": 2, "id": "x"}, "nodes": []}), "newerRow"),
        (own({"conversation": {"id": "x"}, "nodes": {}}), "notAConversation"),
        (b"PK\x03\x04garbage", "badZip"),
    ],
)
def test_what_is_no_file_of_ours_is_named(desk: ExchangeDesk, content: Any, note: str) -> None:
    """Nothing is found, and the note says which kind of wrong it is."""
    found, notes = desk.read(content)
    assert found == []
    assert note in says(notes)


@quick
@given(JSON)
def test_any_json_is_read_without_breaking(desk: ExchangeDesk, value: Any) -> None:
    """Whatever stands in a file, an import gives conversations that can be stored, or says why not."""
    found, notes = desk.read([value, {"mapping": value}, {"chat": {"history": {"messages": value}}}, own(value)])
    assert found or notes
    for one in found:
        ids = {node["id"] for node in one["nodes"]}
        assert all(node["parent"] is None or node["parent"] in ids for node in one["nodes"])
        assert all(isinstance(node["text"], str) for node in one["nodes"])


@quick
@given(trees(), st.data())
def test_any_field_of_any_type_is_mended(desk: ExchangeDesk, tree: dict[str, Any], data: st.DataObject) -> None:
    """One field of a row or a message is replaced by anything: the conversation comes, with the types that the page relies on."""
    target = data.draw(st.sampled_from([tree["conversation"], *tree["nodes"]]))
    target[data.draw(st.sampled_from([*target, "provider", "stats", "segments", "attachments"]))] = data.draw(JSON)
    found, notes = desk.read(own(tree))
    if not found:
        assert says(notes) == ["newerRow"]
        return
    row = found[0]["conversation"]
    assert [type(row[name]) for name in ("id", "title", "titled", "pinned", "settings")] == [str, str, bool, bool, dict]
    assert row["folder"] is None or row["folder"]
    for node in found[0]["nodes"]:
        assert node["role"] in {"user", "assistant", "system"}
        assert node["state"] in {"done", "stopped", "error"}
        assert isinstance(node.get("segments", []), list)
        assert all(one["kind"] in {"image", "text"} for one in node.get("attachments", []))


@quick
@given(library(most=3), st.data())
def test_a_file_cut_anywhere_gives_all_that_is_whole(
    desk: ExchangeDesk, conversations: list[dict[str, Any]], data: st.DataObject
) -> None:
    """A download that broke off: the conversations before the cut are the same as without it."""
    text = desk.write(conversations)
    cut = data.draw(st.integers(0, len(text) - 4))
    found, notes = desk.read(text[:cut])
    assert found == conversations[: len(found)]
    assert notes
    whole = sum(text[:cut].count(f'{{"conversation":{{"id":"{one["conversation"]["id"]}"') for one in conversations)
    assert len(found) >= whole - 1


def test_one_damaged_conversation_costs_only_itself(desk: ExchangeDesk) -> None:
    """The one between two good ones is named by its place."""
    good = json.dumps(GOOD)
    other = json.dumps(conversation("other", [("a", None, "user", "x")]))
    for bad in ('{"conversation": nonsense}', '{"conversation": {"id": "x"}, "nodes": []}}', '"text"'):
        found, notes = desk.read(f'{{"format":"hybr","version":1,"conversations":[{good}, {bad}, {other}]}}')
        assert [one["conversation"]["id"] for one in found] == ["good", "other"], bad
        assert [note["at"] for note in notes] == [2], bad


def test_missing_parents_and_circles_are_opened(desk: ExchangeDesk) -> None:
    """Messages that hang nowhere begin a branch, a circle is opened, and every text is still there."""
    one = conversation(
        "c",
        [
            ("a", "b", "user", "1"),
            ("b", "a", "assistant", "2"),
            ("c", "gone", "user", "3"),
            ("d", "d", "user", "4"),
            ("e", "b", "user", "5"),
        ],
    )
    found, notes = desk.read(own(one))
    nodes = {node["id"]: node for node in found[0]["nodes"]}
    assert {node["text"] for node in nodes.values()} == {"1", "2", "3", "4", "5"}
    assert nodes["c"]["parent"] is None
    assert nodes["d"]["parent"] is None
    for identity in nodes:
        seen: set[str] = set()
        at: str | None = identity
        while at is not None:
            assert at not in seen
            seen.add(at)
            at = nodes[at]["parent"]
    assert {note["say"]: note["count"] for note in notes} == {"noParent": 1, "circle": 2}
    mapping = chatgpt(one)["mapping"]
    mapping["a"]["parent"], mapping["d"]["parent"] = "b", "d"
    found, notes = desk.read([{"title": "t", "mapping": mapping}])
    assert "".join(sorted(node["text"] for node in found[0]["nodes"])).replace("\n", "") == "12345"
    assert "circle" in says(notes)


def test_messages_under_one_id_are_all_kept(desk: ExchangeDesk) -> None:
    """The same message twice is one; another under the same id gets an id of its own, the same one each time."""
    one = conversation("c", [("a", None, "user", "1"), ("a", None, "user", "2")])
    one["nodes"].append(dict(one["nodes"][0]))
    found, notes = desk.read(own(one))
    assert sorted(node["text"] for node in found[0]["nodes"]) == ["1", "2"]
    assert says(notes) == ["sameId"]
    assert desk.read(own(one)) == (found, notes)


@pytest.mark.parametrize(
    "data",
    [
        "https://evil.example/pixel.png",
        "javascript:alert(1)",
        "data:image/svg+xml;base64,PHN2Zz4=",
        "data:text/html;base64,PHNjcmlwdD4=",
        'data:image/png;base64,AAAA" onerror="x',
        None,
        7,
    ],
)
def test_pictures_are_data_or_nothing(desk: ExchangeDesk, data: Any) -> None:
    """A picture that is an address, a script or a document is left out: looking at it would be a request, or worse."""
    one = conversation("c", [("a", None, "user", "look")])
    one["nodes"][0]["attachments"] = [{"kind": "image", "name": "x", "mime": "image/png", "data": data}]
    found, notes = desk.read(own(one))
    assert found[0]["nodes"][0]["attachments"] == []
    assert says(notes) == ["attachmentLost"]


def test_ids_that_are_no_ids_are_replaced(desk: ExchangeDesk) -> None:
    """An id with quotes, a path or markup never reaches an attribute or a key; parents follow; it is the same each time."""
    evil = '"><img src=x onerror=alert(1)>'
    one = conversation("../../x", [(evil, None, "user", "1"), ("b", evil, "assistant", "2")])
    found, _ = desk.read(own(one))
    nodes = found[0]["nodes"]
    assert all(len(identity) == 36 for identity in (found[0]["conversation"]["id"], nodes[0]["id"]))
    assert nodes[1]["parent"] == nodes[0]["id"]
    assert desk.read(own(one))[0] == found


def test_what_is_too_large_is_refused_before_it_costs_memory(desk: ExchangeDesk) -> None:
    """A file, a conversation and a number of messages over the limit; what is within it comes."""
    assert says(desk.read(own(GOOD), limits={"file": 100})[1]) == ["fileTooLarge"]
    long = conversation("long", [("a", None, "user", "x" * 5000)])
    found, notes = desk.read(own(long, GOOD), limits={"conversation": 2000})
    assert [one["conversation"]["id"] for one in found] == ["good"]
    assert says(notes) == ["tooLarge"]
    found, notes = desk.read(own(GOOD), limits={"messages": 1})
    assert (found, says(notes)) == ([], ["tooManyMessages"])


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_chatgpts_archive_comes_with_its_pictures(desk: ExchangeDesk, compression: int) -> None:
    """The list is found in it, in several parts too, and a picture of a message is attached to it."""
    tree = chatgpt(conversation("one", [("a", None, "user", "look"), ("b", "a", "assistant", "a cat")]))
    pointer = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-Abc1"}
    tree["mapping"]["a"]["message"]["content"] = {"content_type": "multimodal_text", "parts": [pointer, "look"]}
    other = chatgpt(conversation("two", [("a", None, "user", "x")]))
    files = {"user.json": "{}", "conversations-000.json": json.dumps([tree]), "conversations-001.json": json.dumps([other])}
    content = archive({**files, "file-Abc1-cat.png": b"\x89PNG picture", "chat.html": "<html>"}, compression)
    found, notes = desk.read(content)
    assert [one["conversation"]["id"] for one in found] == ["one", "two"]
    assert found[0]["nodes"][0]["text"] == "look"
    assert [(one["name"], one["data"]) for one in found[0]["nodes"][0]["attachments"]] == [
        ("file-Abc1-cat.png", "data:image/png;base64,iVBORyBwaWN0dXJl")
    ]
    assert notes == []


def test_archives_that_are_damaged_or_made_to_harm(desk: ExchangeDesk) -> None:
    """No list in it, cut short, its list damaged, and one that inflates to more than it may."""
    assert says(desk.read(archive({"readme.txt": "x"}))[1]) == ["emptyZip"]
    whole = archive({"conversations.json": json.dumps([chatgpt(GOOD)])})
    assert says(desk.read(whole[:-30])[1]) == ["badZip"]
    spoiled = bytearray(whole)
    spoiled[40:60] = b"\xff" * 20
    found, notes = desk.read(bytes(spoiled))
    assert found == []
    assert notes
    bomb = archive({"conversations.json": "[" + " " * 5_000_000})
    assert len(bomb) < 10_000
    assert "fileTooLarge" in says(desk.read(bomb, limits={"file": 1_000_000})[1])


def test_what_an_assistant_said_in_pieces_is_one_message(desk: ExchangeDesk) -> None:
    """Code for a tool, its output and the text after it were one answer on ChatGPT's screen; reasoning is folded away."""

    def step(identity: str, parent: str, role: str, content: dict[str, Any], **more: Any) -> dict[str, Any]:
        message = {"author": {"role": role}, "content": content, "recipient": "all", **more}
        return {identity: {"id": identity, "parent": parent, "children": [], "message": message}}

    mapping = {"root": {"id": "root", "parent": None, "children": ["q"], "message": None}}
    mapping |= step("q", "root", "user", {"content_type": "text", "parts": ["2+2?"]})
    mapping |= step("t", "q", "assistant", {"content_type": "thoughts", "thoughts": [{"content": "hm"}]})
    mapping |= step("c", "t", "assistant", {"content_type": "code", "text": "print(2+2)"}, recipient="python")
    mapping |= step("o", "c", "tool", {"content_type": "execution_output", "text": "4"})
    mapping |= step("x", "o", "assistant", {"content_type": "text", "parts": ["It is 4."]})
    found, _ = desk.read([{"id": "i", "title": None, "mapping": mapping, "current_node": "x"}])
    question, answer = found[0]["nodes"]
    assert (question["text"], answer["text"]) == ("2+2?", "```\nprint(2+2)\n```\n\n```\n4\n```\n\nIt is 4.")
    assert answer["thought"] == "hm"
    assert found[0]["conversation"]["leaf"] == answer["id"]
    assert found[0]["conversation"]["titled"] is False
