"""What leaves the browser: redaction, measured; the gate's policies, receipts and events."""

from __future__ import annotations

import asyncio

import pytest
from lab.clock import virtual
from lab.desk import ASK, Desk, MemoryStorage
from lab.engine import Fail, Sleep
from lab.upstream import Refuse

from hybr.webapp.hybrid import redact
from hybr.webapp.hybrid.errors import Aborted, OptionError, RefusedError
from hybr.webapp.hybrid.redact import Redactor

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N"
# What must be found, with its kind. Built from parts where a scanner of repositories would take it for a real key.
LABELLED: list[tuple[str, str, str]] = [
    ("write to ada.lovelace+x@example.co.uk today", "ada.lovelace+x@example.co.uk", "EMAIL"),
    ("<bob@mail.example>", "bob@mail.example", "EMAIL"),
    ("o'brien@example.ie is me", "o'brien@example.ie", "EMAIL"),
    ("call +49 30 901820 now", "+49 30 901820", "PHONE"),
    ("call +1 (415) 555-2671.", "+1 (415) 555-2671", "PHONE"),
    ("tel. 030/901820-12", "030/901820-12", "PHONE"),
    ("0044 20 7946 0958", "0044 20 7946 0958", "PHONE"),
    ("415-555-2671", "415-555-2671", "PHONE"),
    ("(030) 9018200", "(030) 9018200", "PHONE"),
    ("card 4111 1111 1111 1111 exp 12/29", "4111 1111 1111 1111", "CARD"),
    ("5500-0000-0000-0004", "5500-0000-0000-0004", "CARD"),
    ("378282246310005", "378282246310005", "CARD"),
    ("IBAN DE89 3704 0044 0532 0130 00 please", "DE89 3704 0044 0532 0130 00", "IBAN"),
    ("GB82WEST12345698765432", "GB82WEST12345698765432", "IBAN"),
    ("NO93 8601 1117 947", "NO93 8601 1117 947", "IBAN"),
    ("from 192.168.178.23 to", "192.168.178.23", "IP"),
    ("at 2001:db8::ff00:42:8329, ok", "2001:db8::ff00:42:8329", "IP"),
    ("[::1]", "::1", "IP"),
    ("key " + "sk-" + "abcDEF1234567890abcd", "sk-" + "abcDEF1234567890abcd", "KEY"),
    ("gh" + "p_" + "a" * 36, "gh" + "p_" + "a" * 36, "KEY"),
    ("AKIA" + "IOSFODNN7EXAMPLE", "AKIA" + "IOSFODNN7EXAMPLE", "KEY"),
    (f"Authorization: Bearer {JWT}", JWT, "KEY"),
    ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA==", "KEY"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----", "MII", "KEY"),
    ("password: hunter2!x", "hunter2!x", "SECRET"),
    ('{"api_key": "zzz-111-yyy"}', "zzz-111-yyy", "SECRET"),
    ("my password is correcthorse ok", "correcthorse", "SECRET"),
]
# What must be left alone.
HARMLESS = [
    "It happened on 2024-11-22 and 22.11.2024.",
    "pi is 3.14159265358979",
    "version 1.2.3 of the paper, pages 100-120",
    "12345678 tokens in 30 s",
    "the order 4111 1111 1111 1112 is no card",
    "DE00 1234 is no account",
    "a ratio of 16:9 at 12:30:45",
    "999.999.999.999",
    "def f(x): return x[1:2]",
    "the word bearer alone",
    "0000000000000000",
    "see [EMAIL_1] above",
    "1 000 000 people",
    "std::vector and a::b",
]


def out(text: str) -> str:
    """The text as it would leave."""
    (message,) = Redactor().messages(({"role": "user", "content": text},))
    return str(message["content"])


@pytest.mark.parametrize(("text", "value", "kind"), LABELLED)
def test_what_is_found(text: str, value: str, kind: str) -> None:
    """Each labelled value is taken out, under its kind, and the rest of the text stays."""
    left = out(text)
    assert value not in left
    assert f"[{kind}_1]" in left


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_left(text: str) -> None:
    """Dates, versions, numbers and code are no personal data."""
    assert out(text) == text


def test_what_it_misses_is_known() -> None:
    """The documented limits, measured: forms that it does not know go out. A change of this list is a change of the promise."""
    missed = [
        "Ada Lovelace",
        "12 St James's Square, London",
        "born on 10 December 1815",
        "my pin is 4711",
        "ada (at) example (dot) org",
    ]
    assert [text for text in missed if out(text) != text] == []
    found = sum(value not in out(text) for text, value, _ in LABELLED)
    assert found / (found + len(missed)) > 0.8


def test_the_answer_gets_it_back() -> None:
    """Placeholders become the values again, cut anywhere; the same value has one placeholder; others' brackets stay."""
    redactor = Redactor()
    text = "a@b.example, c@d.example, a@b.example and [EMAIL_1]"
    (message,) = redactor.messages(({"role": "user", "content": text},))
    assert message["content"] == "[EMAIL_2], [EMAIL_3], [EMAIL_2] and [EMAIL_1]"
    assert redactor.counts == {"EMAIL": 2}
    answer = "Write to [EMAIL_2] or [EMAIL_3], not [EMAIL_1] [x] [EMAIL"
    for size in (1, 3, 7, 100):
        pieces = [answer[start : start + size] for start in range(0, len(answer), size)]
        back = "".join(redactor.restore(piece) for piece in pieces) + redactor.flush()
        assert back == "Write to a@b.example or c@d.example, not [EMAIL_1] [x] [EMAIL"


def test_parts_and_empty_turns() -> None:
    """Parts of text are searched, pictures and empty turns are left."""
    image = {"type": "image_url", "image_url": {"url": "data:,a@b.example"}}
    messages = (
        {"role": "user", "content": [{"type": "text", "text": "a@b.example"}, image]},
        {"role": "assistant", "content": None, "tool_calls": []},
    )
    first, second = Redactor().messages(messages)
    assert first["content"] == [{"type": "text", "text": "[EMAIL_1]"}, image]
    assert second["content"] is None


def test_the_checks() -> None:
    """Luhn, IBAN and telephone checks say no to what only looks alike."""
    assert not redact.luhn("1234")
    assert not redact.iban("DE89")
    assert not redact.phone("2024-11-22")


@virtual
async def test_the_default_is_allow() -> None:
    """Nothing set: requests go out, each with a receipt and an event."""
    desk = Desk()
    assert desk.hybrid.get_egress_policy() == "allow"
    done = await desk.hybrid.complete(ASK, {"request_id": "r"})
    (receipt,) = desk.hybrid.get_egress_log()
    assert done.egress == receipt
    assert (receipt["request_id"], receipt["cause"], receipt["model"]) == ("r", "mode", "house-model")
    assert desk.of("egress:sent") == [receipt]


@virtual
async def test_a_receipt_for_what_left_in_vain() -> None:
    """What was sent has left, even when no answer came back; local answers leave no receipt."""
    desk = await Desk().ready()
    await desk.hybrid.complete(ASK)
    assert desk.hybrid.get_egress_log() == []
    desk.engine.scripts.append([Fail()])
    desk.upstream.scripts.append([Refuse()])
    with pytest.raises(Exception, match="no model"):
        await desk.hybrid.complete(ASK)
    assert [receipt["cause"] for receipt in desk.hybrid.get_egress_log()] == ["fallback"]
    desk.engine.scripts.append(["The ", Fail()])
    await desk.hybrid.complete(ASK)
    assert desk.hybrid.get_egress_log()[0]["cause"] == "handover"


@virtual
async def test_never() -> None:
    """`never` is private for all: the local model or nobody."""
    desk = Desk()
    desk.hybrid.set_egress_policy("never")
    with pytest.raises(RefusedError, match="egress policy is 'never'"):
        await desk.hybrid.complete(ASK)
    await desk.ready(mode="cloud")
    assert (await desk.hybrid.complete(ASK)).provider == "local"
    assert desk.upstream.chats == []


@virtual
async def test_redact() -> None:
    """The cloud sees placeholders, the person the values; the receipt says how many were taken out."""
    desk = Desk()
    desk.hybrid.set_egress_policy("redact")
    desk.upstream.default = ["Mail ", "[EM", "AIL_1", "] and [EMAIL_9] ["]
    done = await desk.hybrid.complete([{"role": "user", "content": "I am a@b.example"}])
    assert "a@b.example" not in str(desk.upstream.chats)
    assert done.text == "Mail a@b.example and [EMAIL_9] ["
    assert done.egress is not None
    assert done.egress["redacted"] == {"EMAIL": 1}
    desk.upstream.default = ["[", "EMAIL_1]"]
    assert (await desk.hybrid.complete([{"role": "user", "content": "I am a@b.example"}])).text == "a@b.example"


@virtual
async def test_ask() -> None:
    """`ask` waits for the person: yes sends, no and silence refuse; one answer counts."""
    desk = Desk()
    desk.hybrid.set_egress_policy("ask")
    for allow in (True, False, None):
        task = asyncio.create_task(desk.hybrid.complete(ASK, {"request_id": "q"}))
        await asyncio.sleep(0.1)
        assert desk.of("egress:asked")[-1]["request_id"] == "q"
        assert (desk.of("egress:asked")[-1]["cause"], desk.hybrid.answer_egress("x", allow=True)) == ("mode", False)
        if allow is not None:
            assert desk.hybrid.answer_egress("q", allow=allow) is True
            assert desk.hybrid.answer_egress("q", allow=not allow) is False
        if allow:
            assert (await task).provider == "cloud"
        else:
            with pytest.raises(RefusedError, match="did not allow"):
                await task
    assert len(desk.upstream.chats) == 1
    assert [detail["reason"] for detail in desk.of("egress:refused")] == ["the person did not allow it"] * 2
    stats = desk.hybrid.get_usage_stats()
    assert (stats["refusals"], stats["cloud"]["requests"], stats["cloud"]["errors"]) == (2, 1, 0)
    assert [model["requests"] for model in stats["month"]["models"]] == [1], "the ledger too has only what was sent"
    assert asyncio.get_running_loop().time() > 30


@virtual
async def test_ask_answered_with_redact() -> None:
    """The question says what would leave and what can be taken out of it; "redact" sends the rest and the answer gets it back."""
    desk = Desk()
    desk.upstream.default = ["Hello [EMAIL_1]"]
    task = asyncio.create_task(
        desk.hybrid.complete([{"role": "user", "content": "I am a@b.example"}], {"request_id": "q", "egress": "ask"})
    )
    await asyncio.sleep(0.1)
    (asked,) = desk.of("egress:asked")
    assert (asked["messages"], asked["found"], asked["cause"], asked["provider"]) == (1, {"email": 1}, "mode", "cloud")
    assert asked["bytes"] > len("I am a@b.example")
    assert desk.hybrid.answer_egress("q", allow="redact") is True
    assert (await task).text == "Hello a@b.example"
    assert desk.upstream.chats[0]["messages"][0]["content"] == "I am [EMAIL_1]"
    assert desk.hybrid.get_egress_log()[0]["redacted"] == {"EMAIL": 1}


@virtual
async def test_the_stricter_policy_holds() -> None:
    """A message may be stricter than the page, never laxer."""
    desk = await Desk().ready(mode="cloud")
    assert (await desk.hybrid.complete(ASK, {"egress": "never"})).provider == "local"
    desk.hybrid.set_egress_policy("never")
    assert (await desk.hybrid.complete(ASK, {"egress": "allow"})).provider == "local"
    with pytest.raises(OptionError):
        desk.hybrid.set_egress_policy("sometimes")
    with pytest.raises(OptionError):
        await desk.hybrid.complete(ASK, {"egress": "sometimes"})
    assert Desk(storage=MemoryStorage({"preferences": '{"egress": "sometimes"}'})).hybrid.get_egress_policy() == "allow"


@virtual
async def test_the_gate_itself_refuses() -> None:
    """Were the cloud asked all the same, because the policy changed meanwhile, the gate keeps it closed."""
    desk = await Desk().ready()
    task = asyncio.create_task(desk.hybrid.complete(ASK))
    desk.engine.scripts.append(["The ", Fail()])
    await asyncio.sleep(0.005)
    desk.hybrid.set_egress_policy("never")
    with pytest.raises(RefusedError, match="'never'") as error:
        await task
    assert error.value.text == "The "
    assert desk.upstream.chats == []
    assert len(desk.of("egress:refused")) == 1


@virtual
async def test_who_is_still_being_asked_pays_nothing() -> None:
    """A stop, or a local model that wins a race, while the gate's question is open: nothing has left, so nothing is booked."""
    desk = Desk()
    desk.upstream.files["/v1/models"] = {"data": [{"id": "m", "owned_by": "box"}]}
    desk.upstream.files["/api/prices"] = {
        "version": "1",
        "currency": "USD",
        "models": {"box/m": {"input": 10**6, "output": 10**6}},
    }
    await desk.gateway.check()
    task = asyncio.create_task(desk.hybrid.complete(ASK, {"request_id": "q", "egress": "ask"}))
    await asyncio.sleep(1)
    assert desk.hybrid.abort("q")
    with pytest.raises(Aborted):
        await task
    await desk.ready()
    await desk.hybrid.complete(ASK)
    desk.engine.scripts.append([Sleep(3.0), "here"])
    done = await desk.hybrid.complete(ASK, {"hedge": True, "egress": "ask"})
    assert (done.text, done.cost, done.hedge and done.hedge["winner"]) == ("here", 0.0, "local")
    assert [detail["reason"] for detail in desk.of("egress:refused")] == ["the request is over"]
    cloud = desk.hybrid.get_usage_stats()["cloud"]
    assert (cloud["requests"], cloud["cost"], desk.upstream.chats) == (0, 0.0, [])
