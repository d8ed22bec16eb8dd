"""What a person prefers when something goes wrong in a request: three settings, each an option of a single request as well.

`handover` (continue, restart, stop) is what becomes of an answer whose model fails in the middle; it is continued by default.
`hedge` is whether the cloud may start beside a slow local model, and `trim` whether the oldest turns of a conversation that is
too long may be left out; neither by default.
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

DEFAULTS: dict[str, Any] = {"handover": "continue", "hedge": False, "trim": False}


class Recovery:
    """See the module."""

    def __init__(self, preferences: Remembers) -> None:
        self._preferences = preferences

    def to_dict(self) -> dict[str, Any]:
        """All three; what is stored and makes no sense is the default."""
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
        mine = {name: value for name, value in self.to_dict().items() if getattr(asked, name) is None}
        return replace(asked, **mine)
