"""An answer that an earlier page had begun is finished: here, or in the cloud, with nothing shown lost or repeated."""

from __future__ import annotations

import pytest
from lab.clock import virtual
from lab.desk import ASK, Desk
from lab.engine import Die, Fail
from lab.upstream import Cut

from hybr.webapp.hybrid.errors import (
    EngineDiedError,
    GatewayError,
    LocalError,
    LocalUnavailableError,
    MessageError,
    OptionError,
    RefusedError,
)

SHOWN = "The capital of France"


@virtual
async def test_in_the_cloud() -> None:
    """The first chunk is what was shown; the cloud is asked to go on, through the gate, and the parts say who wrote what."""
    desk = Desk()
    desk.upstream.scripts.append(["of France is ", "Paris."])
    chunks = await desk.read(desk.hybrid.resume(ASK, SHOWN, {"request_id": "r"}, "cloud"))
    assert (chunks[0].delta, chunks[0].text, chunks[0].provider, chunks[0].segment) == (SHOWN, SHOWN, "local", 0)
    done = chunks[-1].completion
    assert (done.text, done.segments) == ("The capital of France is Paris.", 2)
    assert [(part.provider, part.start, part.cause) for part in done.parts] == [("local", 0, "resume"), ("cloud", 21, "resume")]
    assert desk.upstream.chats[0]["messages"][1] == {"role": "assistant", "content": SHOWN}
    assert desk.of("egress:sent")[0]["cause"] == "resume"
    assert done.usage.completion_tokens == 5  # the cloud's own
    assert desk.free


@virtual
async def test_here() -> None:
    """The local model goes on, by an instructed continuation; the side that had written is told when it was the cloud."""
    desk = await Desk().ready()
    desk.engine.scripts.append(["capital of France", " is Paris."])
    chunks = await desk.read(desk.hybrid.resume(ASK, SHOWN, None, "local", by="cloud"))
    assert (chunks[0].provider, chunks[-1].text, chunks[-1].provider) == ("cloud", "The capital of France is Paris.", "local")
    assert desk.engine.chats[0]["messages"][:2] == [*ASK, {"role": "assistant", "content": SHOWN}]
    assert "journal" not in desk.engine.chats[0]
    assert desk.upstream.chats == []


@virtual
async def test_from_the_engines_journal() -> None:
    """With a journal's name the engine takes up its own generation: it is asked the same, and gives what comes after the text."""
    desk = await Desk().ready()
    desk.engine.scripts.append([" of France", " is Paris."])  # no joint is looked for: the first words may be those shown last
    chunks = await desk.read(desk.hybrid.resume(ASK, SHOWN, {"journal": "j1"}, "local"))
    assert chunks[-1].text == "The capital of France of France is Paris."
    asked = desk.engine.chats[0]
    assert (asked["messages"], asked["journal"]) == (ASK, {"session": "j1", "prefix": SHOWN})
    desk.upstream.scripts.append(["x"])
    await desk.read(desk.hybrid.resume(ASK, SHOWN, {"journal": "j1"}, "cloud"))
    assert "journal" not in desk.upstream.chats[0]


@virtual
async def test_a_journal_that_is_gone() -> None:
    """The engine has it no more, or of another model: the text is continued as without one, booked once."""
    desk = await Desk().ready()
    desk.engine.scripts.extend([[Fail("SessionGoneError", "not found", "prefill")], ["capital of France", " is Paris."]])
    chunks = await desk.read(desk.hybrid.resume(ASK, SHOWN, {"journal": "j1"}, "local"))
    assert chunks[-1].text == "The capital of France is Paris."
    assert [chat.get("journal") for chat in desk.engine.chats] == [{"session": "j1", "prefix": SHOWN}, None]
    assert desk.engine.chats[1]["messages"][:2] == [*ASK, {"role": "assistant", "content": SHOWN}]
    assert len(desk.of("cost:updated")) == 1
    assert desk.free


@virtual
async def test_a_journal_that_is_gone_and_a_stop_across_the_seam() -> None:
    """What is continued without its journal ends at a stop sequence that began in the text that was shown."""
    desk = await Desk().ready()
    desk.engine.scripts.extend([[Fail("SessionGoneError", "not found", "prefill")], ["capital of France", " is Paris."]])
    chunks = await desk.read(desk.hybrid.resume(ASK, SHOWN, {"journal": "j1", "stop": ["France is"]}, "local"))
    assert (chunks[-1].text, chunks[-1].completion.finish_reason) == (SHOWN, "stop")
    assert desk.free


@virtual
async def test_a_journal_that_fails_otherwise() -> None:
    """Only a session that is gone is gone on with otherwise: another failure is told."""
    desk = await Desk().ready()
    desk.engine.scripts.append([" is", Fail("SessionGoneError", "too late", "decode")])
    with pytest.raises(LocalError) as error:
        await desk.read(desk.hybrid.resume(ASK, SHOWN, {"journal": "j1"}, "local"))
    assert (error.value.text, len(desk.engine.chats)) == (SHOWN + " is", 1)


@virtual
async def test_a_journal_is_kept_of_a_local_answer() -> None:
    """A new local answer is kept under the name it was given; without one nothing is."""
    desk = await Desk().ready()
    await desk.read(desk.hybrid.stream(ASK, {"journal": "j1"}))
    await desk.read(desk.hybrid.stream(ASK))
    assert [chat.get("journal") for chat in desk.engine.chats] == [{"session": "j1", "prefix": None}, None]


@virtual
async def test_it_goes_where_the_person_said_and_nowhere_else() -> None:
    """A failure ends it with all of the text; private text does not leave; without a model the error says what to do."""
    desk = Desk()
    with pytest.raises(LocalUnavailableError, match="load one first"):
        await desk.read(desk.hybrid.resume(ASK, SHOWN, None, "local"))
    with pytest.raises(RefusedError):
        await desk.read(desk.hybrid.resume(ASK, SHOWN, {"private": True}, "cloud"))
    desk.upstream.scripts.append([" is ", Cut()])
    with pytest.raises(GatewayError) as error:
        await desk.read(desk.hybrid.resume(ASK, SHOWN, None, "cloud"))
    assert error.value.text == "The capital of France is "
    await desk.ready()
    desk.engine.scripts.append([" is ", Die()])
    with pytest.raises(EngineDiedError) as died:
        await desk.read(desk.hybrid.resume(ASK, SHOWN, None, "local"))
    assert died.value.text == "The capital of France is "
    assert len(desk.upstream.chats) == 1
    await desk.local.unload()


def test_bad_input() -> None:
    """No prefix, half a character, a side that is none: refused before anybody is asked."""
    desk = Desk()
    for prefix in (None, "", 3, "\ud800", "x" * 4_000_001):
        with pytest.raises(MessageError) as error:
            desk.hybrid.resume(ASK, prefix)
        assert error.value.field == "prefix"
    with pytest.raises(OptionError) as option:
        desk.hybrid.resume(ASK, SHOWN, None, "moon")
    assert option.value.field == "on"
    assert desk.hybrid.get_status()["active"] == 0
