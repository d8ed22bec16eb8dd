"""How answers are made in the open conversation: its persona, and its settings of the generation, with a person's own presets.

A preset is a named set of settings, kept in this browser. What is wrong is refused by the orchestrator's own check, which names
the field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.errors import OptionError
from hybr.webapp.page import request

if TYPE_CHECKING:
    from hybr.webapp.page import Context

Message = dict[str, Any]
PRESETS = "presets"
MOST, LONGEST = 50, 80  # presets, and characters of a name


def persona(context: Context) -> dict[str, Any]:
    """The personas, the page's current one, and the conversation's own choice."""
    told = context.hybrid.list_personas()
    return {
        "personas": [{"name": name, **one} for name, one in told["personas"].items()],
        "current": told["current"],
        "chosen": context.chat.persona,
        "models": [entry["id"] for entry in context.local.get_available_models()],
    }


def generation(context: Context) -> dict[str, Any]:
    """The conversation's settings, and the presets."""
    facts = context.chat.facts
    return {"conversation": facts["id"], "settings": facts["settings"], "presets": presets(context)}


def presets(context: Context) -> dict[str, dict[str, Any]]:
    """By name; what is stored and is no preset any more is left out."""
    stored = context.preferences.get(PRESETS)
    found: dict[str, dict[str, Any]] = {}
    for name, settings in stored.items() if isinstance(stored, dict) else ():
        try:
            found[name] = request.checked(settings)
        except (OptionError, AttributeError, TypeError):
            continue
    return found


async def choose_persona(context: Context, message: Message) -> None:
    """Use a persona in the open conversation; none: the page's current one."""
    name = message.get("name") or None
    if name is not None and name not in context.hybrid.list_personas()["personas"]:
        raise OptionError(f"There is no persona {name!r}.", field="persona")
    context.chat.set_persona(name)


async def default_persona(context: Context, message: Message) -> None:
    """Make a persona the page's current one, for all conversations that chose none; or none at all."""
    context.hybrid.set_persona(message.get("name") or None)


async def save_persona(context: Context, message: Message) -> dict[str, Any]:
    """Keep a persona, under its new name if it has one. Raises OptionError naming the field."""
    name, before = message.get("name"), message.get("before")
    if name != before and name in context.hybrid.list_personas()["personas"]:
        raise OptionError(f"There is a persona {name!r} already: choose another name.", field="persona.name")
    saved = context.hybrid.save_persona(name, message.get("persona"))
    if before and before != name:
        current = context.hybrid.list_personas()["current"] == before
        context.hybrid.delete_persona(str(before))
        if current:
            context.hybrid.set_persona(str(name))
        if context.chat.persona == before:
            context.chat.set_persona(str(name))
    return saved


async def delete_persona(context: Context, message: Message) -> None:
    """Forget a persona; the open conversation no longer has it."""
    name = str(message.get("name"))
    context.hybrid.delete_persona(name)
    if context.chat.persona == name:
        context.chat.set_persona(None)


async def set_settings(context: Context, message: Message) -> dict[str, Any]:
    """Change settings of the open conversation; None takes one away. Raises OptionError naming the field."""
    change = dict(message.get("change") or {})
    return context.chat.set_settings(change)


async def use_preset(context: Context, message: Message) -> dict[str, Any]:
    """Give the open conversation a preset's settings, and no others."""
    found = presets(context).get(str(message.get("name")))
    if found is None:
        raise OptionError(f"There is no preset {message.get('name')!r}.", field="preset")
    return context.chat.set_settings({**dict.fromkeys(request.SETTINGS), **found})


async def save_preset(context: Context, message: Message) -> None:
    """Keep the open conversation's settings under a name, in place of a preset of that name."""
    name = str(message.get("name") or "").strip()
    if not name or len(name) > LONGEST:
        raise OptionError(f"A preset's name has 1 to {LONGEST} characters.", field="preset.name")
    kept = {**presets(context), name: context.chat.settings}
    if len(kept) > MOST:
        raise OptionError(f"There are {MOST} presets already: delete one first.", field="preset.name")
    context.preferences.set(PRESETS, kept)


async def delete_preset(context: Context, message: Message) -> None:
    """Forget a preset."""
    context.preferences.set(PRESETS, {name: one for name, one in presets(context).items() if name != message.get("name")})


ACTIONS = {
    "choose-persona": choose_persona,
    "default-persona": default_persona,
    "save-persona": save_persona,
    "delete-persona": delete_persona,
    "set-settings": set_settings,
    "use-preset": use_preset,
    "save-preset": save_preset,
    "delete-preset": delete_preset,
}
