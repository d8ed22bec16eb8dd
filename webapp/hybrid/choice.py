"""Which runtime runs the page's local model, and why: the person's wish, the preflight, how WebGPU has fared, what was measured.

WebLLM comes first wherever WebGPU works. In its place comes llama.cpp on the processor
 - where there is no WebGPU;
 - where WebGPU has failed FAILURES times within WINDOW_S, for as long as the page lives;
 - where the adapter is a software one, so that both compute on the processor anyway, and the device profile has measured
   llama.cpp to be FASTER times as fast with the model in use.
A wish (`?runtime=`, or the preference) goes before all that.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

from hybr.webapp.hybrid.profile import key
from hybr.webapp.hybrid.schema import said

if TYPE_CHECKING:
    from hybr.webapp.hybrid.modes import Remembers
    from hybr.webapp.hybrid.profile import DeviceProfile
    from hybr.webapp.runtimes.base import LocalRuntime

log = logging.getLogger(__name__)

RUNTIMES = ("webgpu", "wasm")
WISHES = ("auto", *RUNTIMES)
FAILURES = 2
WINDOW_S = 300.0
FASTER = 2.0

Why = Literal["wished", "webgpu", "no_webgpu", "failing", "faster"]


class Choice:
    """See the module. `preflight` is what the shell's probe found, empty until it has."""

    def __init__(
        self, graphics: LocalRuntime, processor: LocalRuntime | None, preferences: Remembers, profile: DeviceProfile
    ) -> None:
        self.preflight: dict[str, Any] = {}
        self.all = {each.name: each for each in (graphics, processor) if each}
        self._preferences = preferences
        self._profile = profile
        self._first = graphics
        self._forced: str | None = None
        self._failures: list[float] = []
        self._failing = False

    @property
    def wish(self) -> str:
        """`auto`, `webgpu` or `wasm`."""
        wish = self._forced or self._preferences.get("runtime")
        return str(wish) if wish in WISHES else "auto"

    def force(self, wish: object) -> None:
        """Wish for as long as the page lives; nonsense is ignored."""
        if wish in WISHES:
            self._forced = str(wish)
        elif wish is not None:
            log.warning("?runtime=%s: there is no such runtime; there are: %s", wish, ", ".join(WISHES))

    def prefer(self, wish: object) -> bool:
        """Wish now and on later visits; WebGPU's failures are forgiven. False for nonsense."""
        if wish not in WISHES:
            log.warning("set_runtime(%s): there are: %s", said(wish), ", ".join(WISHES))
            return False
        self._forced, self._failures, self._failing = None, [], False
        self._preferences.set("runtime", wish)
        return True

    def failed(self, now: float) -> bool:
        """Note a failure of WebGPU's at `now` (s, any clock). True when that makes llama.cpp take its place."""
        self._failures = [*(then for then in self._failures if now - then < WINDOW_S), now]
        if len(self._failures) < FAILURES or self.made()[0] != "webgpu" or self.wish != "auto":
            return False
        self._failing = "wasm" in self.all and self.preflight.get("wasm") == "yes"
        return self._failing

    def runtime(self) -> LocalRuntime:
        """The runtime to use."""
        return self.all.get(self.made()[0], self._first)

    def made(self) -> tuple[str, Why]:
        """The runtime's name, and what decided."""
        if self.wish != "auto":
            return self.wish, "wished"
        if self.preflight.get("wasm") == "yes" and (why := self._against_webgpu()):
            return "wasm", why
        return "webgpu", "webgpu"

    def _against_webgpu(self) -> Why | None:
        if self.preflight.get("webgpu") == "no":
            return "no_webgpu"
        if self._failing:
            return "failing"
        return "faster" if self.preflight.get("profile") == "software" and self._is_faster() else None

    def _is_faster(self) -> bool:
        model = str(self._preferences.get("model") or "")
        ours, theirs = (self._profile.of(key(model, name)).decode_tps for name in ("wasm", "webgpu"))
        return bool(ours and theirs and ours >= FASTER * theirs)
