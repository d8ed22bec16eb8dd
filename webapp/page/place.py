"""Which document this is: `/`, where every mode can be had, or `/local`, whose browser lets nothing out (server/site.py).

What the person's own control decides leads from one to the other, and the open conversation goes along in the browser's own
storage, never through the server; another tab that follows a wish for local-only goes there too (startup.py). In `/` a script's
`set_mode('local-only')` takes effect at once and fails closed in the orchestrator, but does not move its own tab. In `/local` no
other mode can work, so asking for one leaves, whoever asks; the mode in force here stays local-only until the page is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.provider import HybridLLMProvider

CLOSED: Literal["local-only"] = "local-only"
Where = Literal["local", "main"]


class Stores(Protocol):
    """Where the preferred mode is kept for the next document."""

    def set(self, name: str, value: Any) -> None:
        """Store it."""
        ...


class Place:
    """See the module. `move` takes the person to the other document, with what is open."""

    def __init__(self, where: Where, hybrid: HybridLLMProvider, preferences: Stores, move: Callable[[Where], None]) -> None:
        self.where = where
        self._hybrid = hybrid
        self._preferences = preferences
        self._move = move
        if where == "local":
            hybrid.pin_mode(CLOSED)  # from the first moment, whatever was preferred and by whatever way another is asked for

    def set_mode(self, mode: object, *, manual: bool = True, remember: bool = True) -> bool:
        """As `HybridLLMProvider.set_mode`, whose table holds; `remember` marks the person's own control, which may move."""
        if self.where == "local" and mode != CLOSED:
            return self._leave(mode, remember=remember)
        done = self._hybrid.set_mode(mode, manual, remember=remember)
        if done and remember:
            self.settle()
        return done

    def settle(self) -> None:
        """Go where the mode in force belongs (it may have come from the stored preference)."""
        if self.where == "main" and self._hybrid.get_mode() == CLOSED:
            self._move("local")

    def _leave(self, mode: object, *, remember: bool) -> bool:
        """Any other mode is the other document's; one that could not be had there either changes nothing here."""
        possible = mode in self._hybrid.modes and (mode != "local" or remember or self._hybrid.is_local_available())
        if not possible:
            return self._hybrid.set_mode(mode, remember=False)
        self._preferences.set("mode", mode)
        self._move("main")
        return True
