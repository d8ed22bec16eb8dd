"""What a person prefers when something goes wrong: three settings, each an option of a single request as well, and one of loads.

`handover` (continue, restart, stop) is what becomes of an answer whose model fails in the middle; it is continued by default.
`hedge` is whether the cloud may start beside a slow local model, and `trim` whether the oldest turns of a conversation that is
too long may be left out; neither by default. `make_room` is whether models that were used longest ago may be deleted from the
browser when it has no room for the one that is asked for; they may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid import validate
from hybr.webapp.hybrid.errors import OptionError

if TYPE_CHECKING:
    from hybr.webapp.hybrid.modes import Remembers
    from hybr.webapp.hybrid.types import Options

OF_A_REQUEST = ("handover", "hedge", "trim")
DEFAULTS: dict[str, Any] = {"handover": "continue", "hedge": False, "trim": False, "make_room": True}


class Recovery:
    """See the module."""

    def __init__(self, preferences: Remembers) -> None:
        self._preferences = preferences

    def to_dict(self) -> dict[str, Any]:
        """All four; what is stored and makes no sense is the default."""
        return {name: self._stored(name, default) for name, default in DEFAULTS.items()}

    def _stored(self, name: str, default: Any) -> Any:
        try:
            return validate.CHECKS[name](self._preferences.get(name, default), name)
        except OptionError:
            return default

    def change(self, change: object) -> dict[str, Any]:
        """Change some, and keep them. Raises OptionError, and then changes nothing."""
        if not isinstance(change, Mapping):
            raise OptionError("the recovery settings must be an object.", field="recovery")
        for name, value in change.items():
            if name not in DEFAULTS:
                raise OptionError(
                    f"recovery.{name} is not a setting. There are: {', '.join(DEFAULTS)}.", field=f"recovery.{name}"
                )
            validate.CHECKS[name](value, f"recovery.{name}")
        for name, value in change.items():
            self._preferences.set(name, value)
        return self.to_dict()

    def resolve(self, asked: Options) -> Options:
        """The options with the person's settings where the request has none of its own."""
        mine = self.to_dict()
        return replace(asked, **{name: mine[name] for name in OF_A_REQUEST if getattr(asked, name) is None})
