"""Personas and settings of the generation as the views ask for them, over the real orchestrator and the real conversation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from lab.desk import Desk

from hybr.webapp.page import request
from hybr.webapp.ui import personas
from hybr.webapp.ui.actions import act


class Conversation:
    """What the views use of `page.chat.Chat`: its settings are checked by the real `request.checked`."""

    def __init__(self) -> None:
        self.persona: str | None = None
        self.settings: dict[str, Any] = {}

    @property
    def facts(self) -> dict[str, Any]:
        """As Chat's."""
        return {"id": "c1", "settings": self.settings}

    def set_persona(self, name: str | None) -> bool:
        """As Chat's."""
        self.persona = name
        return True

    def set_settings(self, change: dict[str, Any]) -> dict[str, Any]:
        """As Chat's."""
        changed = {**self.settings, **request.checked(change)}
        self.settings = {name: value for name, value in changed.items() if value is not None}
        return self.settings


@pytest.fixture
def context() -> Any:
    """A page's parts, without a browser."""
    desk = Desk()
    return SimpleNamespace(hybrid=desk.hybrid, local=desk.local, preferences=desk.preferences, chat=Conversation())


async def asked(context: Any, action: str, **message: Any) -> Any:
    """Ask as a view does; an error comes as its dict."""
    came = await act(context, {"action": action, **message})
    return came.get("error") or came["value"]


PIRATE = {"system": "You are a pirate.", "options": {"temperature": 1.2}}


async def test_a_persona_is_made_chosen_renamed_and_deleted(context: Any) -> None:
    """A new name takes the old one's place, in the conversation and as the page's own; deleted, the conversation has none."""
    await asked(context, "save-persona", name="pirate", before=None, persona=PIRATE)
    await asked(context, "choose-persona", name="pirate")
    await asked(context, "default-persona", name="pirate")
    told = personas.persona(context)
    assert (told["chosen"], told["current"]) == ("pirate", "pirate")
    assert told["personas"][0]["options"] == {"temperature": 1.2}
    await asked(context, "save-persona", name="captain", before="pirate", persona=PIRATE)
    told = personas.persona(context)
    assert ([one["name"] for one in told["personas"]], told["chosen"], told["current"]) == (["captain"], "captain", "captain")
    await asked(context, "delete-persona", name="captain")
    told = personas.persona(context)
    assert (told["personas"], told["chosen"], told["current"]) == ([], None, None)


@pytest.mark.parametrize(
    ("name", "persona", "field"),
    [
        ("", PIRATE, "persona.name"),
        ("x" * 81, PIRATE, "persona.name"),
        ("taken", PIRATE, "persona.name"),
        ("p", {"system": ""}, "persona.system"),
        ("p", {"mode": "sideways"}, "persona.mode"),
        ("p", {"options": {"temperature": 9}}, "persona.options.temperature"),
        ("p", {"options": {"temperature": "warm"}}, "persona.options.temperature"),
        ("p", {"options": {"max_output_tokens": 0}}, "persona.options.max_output_tokens"),
    ],
)
async def test_a_wrong_persona_is_refused_by_its_field(context: Any, name: str, persona: dict[str, Any], field: str) -> None:
    """The orchestrator's own check speaks, and nothing is kept; a name that is taken is not overwritten."""
    await asked(context, "save-persona", name="taken", before=None, persona=PIRATE)
    error = await asked(context, "save-persona", name=name, before=None, persona=persona)
    assert error["field"] == field
    assert error["message"]
    assert list(context.hybrid.list_personas()["personas"]) == ["taken"]


async def test_a_persona_that_is_none_cannot_be_chosen(context: Any) -> None:
    """One that another tab deleted meanwhile is told, and the conversation keeps what it had; none is always there."""
    assert (await asked(context, "choose-persona", name="gone"))["field"] == "persona"
    assert await asked(context, "choose-persona", name="") is None
    assert context.chat.persona is None


async def test_settings_and_presets(context: Any) -> None:
    """A preset takes the place of all settings, so that none of the ones before lingers; damaged ones are left out."""
    await asked(context, "set-settings", change={"temperature": 0.2, "stop": ["END"]})
    await asked(context, "save-preset", name=" careful ")
    await asked(context, "set-settings", change={"stop": None, "seed": 7})
    assert personas.generation(context)["settings"] == {"temperature": 0.2, "seed": 7}
    await asked(context, "use-preset", name="careful")
    assert context.chat.settings == {"temperature": 0.2, "stop": ["END"]}
    stored = {**context.preferences.get("presets"), "damaged": {"temperature": 9}, "worse": 7}
    context.preferences.set("presets", stored)
    assert list(personas.presets(context)) == ["careful"]
    await asked(context, "delete-preset", name="careful")
    assert personas.presets(context) == {}
    assert (await asked(context, "use-preset", name="careful"))["field"] == "preset"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"temperature": 3}, "settings.temperature"),
        ({"top_p": 0}, "settings.top_p"),
        ({"max_output_tokens": 1.5}, "settings.max_output_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "settings.stop"),
        ({"seed": "x"}, "settings.seed"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "colour"}}}}, "type"),
        ({"colour": "red"}, "settings.colour"),
    ],
)
async def test_a_wrong_setting_is_refused_by_its_field(context: Any, change: dict[str, Any], field: str) -> None:
    """And changes nothing."""
    error = await asked(context, "set-settings", change=change)
    assert field in error["field"]
    assert context.chat.settings == {}


@pytest.mark.parametrize("name", ["", "   ", "x" * 81, None])
async def test_a_preset_wants_a_name(context: Any, name: Any) -> None:
    """Of 1 to 80 characters."""
    assert (await asked(context, "save-preset", name=name))["field"] == "preset.name"


async def test_presets_are_not_without_end(context: Any) -> None:
    """The fifty-first is refused; one of the fifty can still be changed."""
    for number in range(personas.MOST):
        await asked(context, "save-preset", name=f"p{number}")
    assert (await asked(context, "save-preset", name="one more"))["field"] == "preset.name"
    assert await asked(context, "save-preset", name="p0") is None
