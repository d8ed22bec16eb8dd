"""Which mode is in force, which one the person wants, and how the first follows the second (architecture.md's truth table).

| set_mode | a local model is ready | loading or unloaded | none can run here |
|---|---|---|---|
| local | True | False and a warning; from the person's control it is remembered and applied when ready | False and a warning |
| local-only | True | True: requests wait for the load or fail closed | True: requests fail closed with the reason |
| auto, cloud, cloud-only | True | True | True |
| anything else | False, nothing changes | | |
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from hybr.webapp.hybrid.account import DEPTH
from hybr.webapp.hybrid.schema import said
from hybr.webapp.hybrid.types import MODES

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.events import EventBus
    from hybr.webapp.hybrid.types import Mode

log = logging.getLogger(__name__)


PRIVACY = {"cloud-only": 0, "cloud": 0, "auto": 1, "local": 2, "local-only": 3}


class Remembers(Protocol):
    """What keeps the preference (`state.preferences.Preferences`)."""

    def get(self, name: str, default: Any = None) -> Any:
        """The stored value."""
        ...

    def set(self, name: str, value: Any) -> None:
        """Store it."""
        ...


class Modes:
    """The mode in force and the one preferred. `local` answers `is_ready()` and `blocker()` (why nothing can run here)."""

    def __init__(self, events: EventBus, preferences: Remembers, local: Any, now: Callable[[], float] = time.time) -> None:
        self._events = events
        self._preferences = preferences
        self._local = local
        self._now = now
        self._pinned: Mode | None = None
        self._own = False  # whether a mode was wished for in this tab, in this session
        self.history: deque[dict[str, Any]] = deque(maxlen=DEPTH)
        stored = preferences.get("mode")
        self.preferred: Mode = stored if stored in MODES else "cloud"
        # A stored local-only must hold from the first moment; local follows when its model is ready.
        self.mode: Mode = "cloud" if self.preferred == "local" else self.preferred
        events.on("local-llm:ready", lambda _: self.settle())
        events.on("local-llm:unloaded", lambda _: self.settle())

    @property
    def pending(self) -> bool:
        """Whether the person wants another mode than the one in force: it follows when the model is ready."""
        return self.preferred != self.mode

    def set(self, mode: object, *, manual: bool, remember: bool) -> bool:
        """Put `mode` in force if it can be. `remember`: keep the wish even if it cannot be granted yet."""
        if mode not in MODES:
            log.warning("set_mode(%s): there is no such mode; there are: %s", said(mode), ", ".join(MODES))
            return False
        if self._pinned not in {None, mode}:
            log.warning("set_mode(%r): the mode of this document is '%s' and stays so", mode, self._pinned)
            return False
        wanted = mode
        if wanted == "local" and not self._local.is_ready():
            self._refuse(remember=remember)
            return False
        self._prefer(wanted)
        self._switch(wanted, manual=manual)
        return True

    def pin(self, mode: Mode) -> None:
        """Put `mode` in force until the page is gone; whoever asks for another is told False."""
        self.set(mode, manual=False, remember=True)
        self._pinned = mode

    def _refuse(self, *, remember: bool) -> None:
        blocker = self._local.blocker()
        if blocker:
            log.warning("set_mode('local'): no local model can run here: %s", blocker)
            return
        log.warning("set_mode('local'): no local model is ready; the mode stays '%s' until one is loaded", self.mode)
        if remember:
            self._prefer("local")

    def settle(self) -> None:
        """Make the mode in force what is preferred, as far as the local model's state allows."""
        if self.mode == "local" and not self._local.is_ready():
            self._switch("cloud", manual=False)
        elif self.preferred != "local" or self._local.is_ready():
            self._switch(self.preferred, manual=False)

    def restore(self, mode: object) -> None:
        """Take up a preference that was stored elsewhere (the server's copy)."""
        if mode in MODES and self._pinned is None:
            self.preferred = mode
            self.settle()

    def follow(self, mode: object) -> None:
        """Take up what another tab wishes, where this one has no wish of its own and its requests go out no more than before."""
        if mode not in MODES or self._pinned is not None or self._own:
            return
        if PRIVACY[mode] >= max(PRIVACY[self.mode], PRIVACY[self.preferred]):
            self.preferred = mode
            self.settle()

    def _prefer(self, mode: Mode) -> None:
        self._own = True
        if mode != self.preferred or self._preferences.get("mode") != mode:
            self.preferred = mode
            self._preferences.set("mode", mode)

    def _switch(self, mode: Mode, *, manual: bool) -> None:
        if mode == self.mode:
            return
        before, self.mode = self.mode, mode
        self.history.appendleft({"from": before, "to": mode, "timestamp": self._now(), "manual": manual})
        self._events.emit("hybrid-llm:mode-changed", {"from": before, "to": mode, "mode": mode, "manual": manual})
