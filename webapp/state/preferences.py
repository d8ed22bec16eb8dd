"""What a person prefers, kept across reloads."""

from __future__ import annotations

from typing import Any


class Preferences:
    """Signatures first: `get(name)`, `set(name, value)`."""

    def get(self, name: str, default: Any = None) -> Any:
        """The stored value."""
        raise NotImplementedError

    def set(self, name: str, value: Any) -> None:
        """Store now in the browser, soon on the server."""
        raise NotImplementedError
