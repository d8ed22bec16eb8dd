"""What every scripted provider is besides its script: there for all, with nothing to report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybr.server.providers.base import Model

if TYPE_CHECKING:
    from collections.abc import Sequence


class Standing:
    """The provider of the one model `m`."""

    name: str

    def models(self) -> Sequence[Model]:
        """Return the one model."""
        return [Model("m", "M", 100, self.name)]

    def takes(self, model: str) -> bool:
        """Take the one model."""
        return model == "m"

    def usable(self, key: object) -> bool:
        """Be there for all."""
        return True

    def report(self) -> dict[str, Any]:
        """Say nothing."""
        return {}
