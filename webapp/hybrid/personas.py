"""Personas: named defaults of mode, model, privacy and options, a system prompt included.

    {"mode": "local", "model": "smollm2-135m", "private": true, "system": "You are a pirate.", "options": {"temperature": 1.2}}

One may be the page's current one, and a request may name another (`options.persona`). What a request says itself goes before what
its persona says; a system prompt of the conversation's own goes before the persona's. A persona's mode is put in force when it
becomes the current one; a request that names a persona is routed by the persona's mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid import schema, validate
from hybr.webapp.hybrid.errors import OptionError
from hybr.webapp.hybrid.types import MODES, Options

if TYPE_CHECKING:
    from hybr.webapp.hybrid.modes import Remembers
    from hybr.webapp.hybrid.types import Message

FIELDS = ("mode", "model", "private", "egress", "system", "options")
NOT_OPTIONS = frozenset({"mode", "model", "private", "egress", "request_id", "persona", "signal", "journal"})
MOST = 100
LONGEST = 20_000  # characters of a system prompt


class Personas:
    """See the module."""

    def __init__(self, preferences: Remembers) -> None:
        self._preferences = preferences

    def all(self) -> dict[str, dict[str, Any]]:
        """By name, in the order in which they were saved; a stored one that is none any more is left out."""
        stored = self._preferences.get("personas")
        found: dict[str, dict[str, Any]] = {}
        for name, persona in stored.items() if isinstance(stored, Mapping) else ():
            try:
                found[str(name)] = checked(persona)
            except OptionError:
                continue
        return found

    @property
    def current(self) -> str | None:
        """The name of the page's current persona, or None."""
        name = self._preferences.get("persona")
        return name if name in self.all() else None

    def find(self, name: str, field: str = "persona") -> dict[str, Any]:
        """The persona of that name. Raises OptionError naming those that there are."""
        found = self.all().get(name) if isinstance(name, str) else None
        if found is None:
            known = ", ".join(self.all()) or "none"
            raise OptionError(f"There is no persona {schema.said(name)}. There are: {known}.", field=field)
        return found

    def save(self, name: object, persona: object) -> dict[str, Any]:
        """Keep a persona under a name, in place of one of that name. Raises OptionError."""
        if not isinstance(name, str) or not name.strip() or len(name) > 80:
            raise OptionError("A persona's name must be a text of 1 to 80 characters.", field="persona.name")
        kept = {**self.all(), name: checked(persona)}
        if len(kept) > MOST:
            raise OptionError(f"There are {MOST} personas already: delete one first.", field="persona.name")
        self._preferences.set("personas", kept)
        return kept[name]

    def delete(self, name: str) -> bool:
        """Forget one; False if there was none."""
        kept = self.all()
        if not isinstance(name, str) or kept.pop(name, None) is None:
            return False
        self._preferences.set("personas", kept)
        if self._preferences.get("persona") == name:
            self._preferences.set("persona", None)
        return True

    def choose(self, name: str | None) -> dict[str, Any] | None:
        """Make one the current one, or none (None). Raises OptionError."""
        found = None if name is None else self.find(name)
        self._preferences.set("persona", name)
        return found

    def apply(self, messages: tuple[Message, ...], asked: Options) -> tuple[tuple[Message, ...], Options]:
        """Messages and options of a request under its persona. Raises OptionError."""
        name = asked.persona or self.current
        if name is None:
            return messages, asked
        persona = self.find(name, "options.persona")
        defaults = validate.options({**persona["options"], **{key: persona[key] for key in ("model", "egress") if persona[key]}})
        given = {field.name: getattr(defaults, field.name) for field in fields(Options) if unset(asked, field.name)}
        if asked.persona and asked.mode is None:
            given["mode"] = persona["mode"]
        asked = replace(asked, **{**given, "private": asked.private or persona["private"]})
        if persona["system"] and messages[0]["role"] != "system":
            messages = ({"role": "system", "content": persona["system"]}, *messages)
        return messages, asked


def unset(asked: Options, name: str) -> bool:
    """Whether the request leaves that option to others."""
    return name not in {"private", "request_id", "persona"} and getattr(asked, name) in (None, ())


def checked(value: object) -> dict[str, Any]:
    """A persona with all its fields. Raises OptionError naming the one at fault."""
    if not isinstance(value, Mapping):
        raise OptionError(f"A persona must be an object with some of {', '.join(FIELDS)}.", field="persona")
    if unknown := [name for name in value if name not in FIELDS]:
        raise OptionError(f"persona.{unknown[0]} is unknown. There are: {', '.join(FIELDS)}.", field=f"persona.{unknown[0]}")
    mode, system = value.get("mode"), value.get("system")
    if mode is not None and mode not in MODES:
        raise OptionError(f"persona.mode is {schema.said(mode)}; it must be one of {', '.join(MODES)}.", field="persona.mode")
    if system is not None and (not isinstance(system, str) or not system.strip() or len(system) > LONGEST):
        raise OptionError(f"persona.system must be a text of 1 to {LONGEST:,} characters.", field="persona.system")
    options = value.get("options") or {}
    if not isinstance(options, Mapping) or set(options) & NOT_OPTIONS:
        what = ", ".join(sorted(NOT_OPTIONS))
        raise OptionError(f"persona.options must be an object of options, without {what}.", field="persona.options")
    one = {name: value[name] for name in ("model", "private", "egress") if value.get(name) is not None}
    try:
        validate.options({**options, **one})
    except OptionError as error:
        field = error.field.replace("options.", "persona." if error.field.split(".")[-1] in one else "persona.options.")
        raise OptionError(error.message.replace(error.field, field), field=field) from None
    return {
        "mode": mode,
        "model": value.get("model"),
        "private": bool(value.get("private")),
        "egress": value.get("egress"),
        "system": system,
        "options": dict(options),
    }
