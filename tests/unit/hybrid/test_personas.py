"""Personas: named defaults, kept, applied to a request or to all; nonsense is a clear error."""

from __future__ import annotations

from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import ASK, Desk

from hybr.webapp.hybrid.errors import OptionError, RefusedError, UnknownModelError

PIRATE = {"system": "You are a pirate.", "options": {"temperature": 1.2, "max_output_tokens": 5}}


@virtual
async def test_a_persona_for_one_request() -> None:
    """Its system prompt and options hold where the request has none; the page's other requests know nothing of it."""
    desk = await Desk().ready()
    assert desk.hybrid.save_persona("pirate", PIRATE)["system"] == "You are a pirate."
    await desk.hybrid.complete(ASK, {"persona": "pirate", "temperature": 0})
    assert desk.engine.chats[0]["messages"] == [{"role": "system", "content": "You are a pirate."}, *ASK]
    assert desk.engine.chats[0]["options"] == {"temperature": 0, "max_tokens": 5}
    own = [{"role": "system", "content": "Mine."}, *ASK]
    await desk.hybrid.complete(own, {"persona": "pirate"})
    assert desk.engine.chats[1]["messages"] == own
    await desk.hybrid.complete(ASK)
    assert (desk.engine.chats[2]["messages"], desk.engine.chats[2]["options"]) == (ASK, {})


@virtual
async def test_the_current_persona() -> None:
    """It holds for all requests and puts its mode in force; it and the others survive a reload; without it all is as before."""
    desk = await Desk().ready()
    desk.hybrid.save_persona("cloudy", {**PIRATE, "mode": "cloud-only", "model": "house-model", "egress": "redact"})
    assert desk.hybrid.set_persona("cloudy") is True
    assert desk.hybrid.get_mode() == "cloud-only"
    done = await desk.hybrid.complete([{"role": "user", "content": "I am a@b.example"}])
    assert done.provider == "cloud"
    assert "a@b.example" not in str(desk.upstream.chats)
    assert desk.upstream.chats[0]["model"] == "house-model"
    again = Desk(storage=desk.storage)
    told = again.hybrid.list_personas()
    assert (told["current"], list(told["personas"])) == ("cloudy", ["cloudy"])
    assert again.hybrid.set_persona(None) is True
    assert again.hybrid.list_personas()["current"] is None
    assert again.hybrid.delete_persona("cloudy") is True
    assert again.hybrid.delete_persona("cloudy") is False
    assert again.hybrid.list_personas() == {"current": None, "personas": {}}


@virtual
async def test_a_private_persona_never_leaves() -> None:
    """Privacy is a default that a request cannot take back; a persona's closed mode holds for the request that names it."""
    desk = Desk()
    desk.hybrid.save_persona("diary", {"private": True})
    desk.hybrid.save_persona("home", {"mode": "local-only"})
    for options in ({"persona": "diary"}, {"persona": "diary", "private": False}, {"persona": "home"}):
        with pytest.raises(RefusedError):
            await desk.hybrid.complete(ASK, options)
    desk.hybrid.set_persona("diary")
    with pytest.raises(RefusedError):
        await desk.hybrid.complete(ASK)
    assert desk.upstream.chats == []
    desk.hybrid.delete_persona("diary")
    assert (await desk.hybrid.complete(ASK)).provider == "cloud"


@virtual
async def test_a_mode_for_one_request() -> None:
    """`options.mode` routes one request; what is closed stays closed."""
    desk = await Desk().ready()
    assert (await desk.hybrid.complete(ASK, {"mode": "cloud"})).provider == "cloud"
    assert (await desk.hybrid.complete(ASK)).provider == "local"
    desk.hybrid.set_mode("cloud")
    assert (await desk.hybrid.complete(ASK, {"mode": "local"})).provider == "local"
    desk.hybrid.set_mode("local-only")
    assert (await desk.hybrid.complete(ASK, {"mode": "cloud-only"})).provider == "local"
    assert len(desk.upstream.chats) == 1


@pytest.mark.parametrize(
    ("persona", "field"),
    [
        (3, "persona"),
        ({"nonsense": 1}, "persona.nonsense"),
        ({"mode": "fast"}, "persona.mode"),
        ({"model": 3}, "persona.model"),
        ({"private": "yes"}, "persona.private"),
        ({"egress": "maybe"}, "persona.egress"),
        ({"system": " "}, "persona.system"),
        ({"options": []}, "persona.options"),
        ({"options": [3]}, "persona.options"),
        ({"options": {"persona": "x"}}, "persona.options"),
        ({"options": {"temperature": 9}}, "persona.options.temperature"),
        ({"options": {"nonsense": 9}}, "persona.options.nonsense"),
    ],
)
def test_an_invalid_persona(persona: Any, field: str) -> None:
    """The field at fault is named, and nothing is kept."""
    desk = Desk()
    if persona == {"options": []}:
        assert desk.hybrid.save_persona("x", persona)["options"] == {}  # nothing is a list of no options too
        return
    with pytest.raises(OptionError) as error:
        desk.hybrid.save_persona("x", persona)
    assert error.value.field == field
    assert field.rsplit(".", maxsplit=1)[-1] in error.value.message
    assert desk.hybrid.list_personas()["personas"] == {}


def test_unknown_and_unnamed() -> None:
    """A name that is none is told with those that are; a stored persona that is none any more is left out."""
    desk = Desk()
    desk.hybrid.save_persona("a", {})
    for call in (lambda: desk.hybrid.set_persona("b"), lambda: desk.hybrid.stream(ASK, {"persona": "b"})):
        with pytest.raises(OptionError, match=r"no persona 'b'. There are: a"):
            call()
    for name in ("", " ", 3, "x" * 81):
        with pytest.raises(OptionError, match="name"):
            desk.hybrid.save_persona(name, {})
    for number in range(99):
        desk.hybrid.save_persona(str(number), {})
    with pytest.raises(OptionError, match="delete one first"):
        desk.hybrid.save_persona("one more", {})
    desk.preferences.set("personas", {"a": {"mode": "gone"}, "b": {}})
    assert list(desk.hybrid.list_personas()["personas"]) == ["b"]
    desk.preferences.set("personas", 3)
    assert desk.hybrid.list_personas()["personas"] == {}


@virtual
async def test_a_persona_whose_model_is_gone() -> None:
    """The request is not blamed for a model that it did not name: the persona is named, with what can be done."""
    desk = await Desk().ready()
    desk.hybrid.save_persona("old", {"model": "gone-7b"})
    desk.hybrid.set_persona("old")
    with pytest.raises(UnknownModelError, match=r"'gone-7b'\. There are: tiny.* The persona 'old' asks for it") as error:
        await desk.hybrid.complete(ASK)
    assert (error.value.field, desk.engine.chats, desk.upstream.chats) == ("persona.model", [], [])
    with pytest.raises(UnknownModelError) as error:
        await desk.hybrid.complete(ASK, {"model": "mine"})
    assert error.value.field == "options.model"
    assert (await desk.hybrid.complete(ASK, {"model": "tiny"})).text
