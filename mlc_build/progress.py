"""A build's progress: for the person at the terminal and, through state.json, for the page.

The plan gives each step its usual seconds on a small machine. The fraction is by those seconds; the remaining time is theirs too,
stretched by how much longer than planned this machine has taken so far.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EVERY = 0.5
"""Seconds between two reports inside a step."""


class Progress:
    """Follow a plan, `{step: usual seconds}` in order; each report goes to `tell` as a dict and to `stream` as text."""

    def __init__(
        self,
        plan: Mapping[str, float],
        tell: Callable[[dict[str, Any]], None],
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan = dict(plan)
        self.tell = tell
        self.stream = stream if stream is not None else sys.stderr
        self.clock = clock
        self.seconds: dict[str, float] = {}  # what each finished step took
        self._began = self._entered = clock()
        self._step: str | None = None
        self._reported = self._printed = float("-inf")

    def step(self, name: str, text: str) -> None:
        """Enter a step of the plan; the one before it is finished, and those skipped count as done."""
        self._leave()
        self._step, self._entered = name, self.clock()
        self._report(0.0, text, force=True)

    def at(self, fraction: float, text: str) -> None:
        """Say how far the current step is, 0..1."""
        self._report(min(max(fraction, 0.0), 1.0), text, force=False)

    def note(self, text: str) -> None:
        """Say something for good, on a line of its own."""
        if self.stream.isatty():
            self.stream.write("\r\033[K")
        print(text, file=self.stream, flush=True)

    def done(self, text: str) -> None:
        """Finish the last step and say so."""
        self._leave()
        self._step = None
        self.note(text)

    def _leave(self) -> None:
        if self._step is not None:
            self.seconds[self._step] = self.clock() - self._entered

    def _report(self, within: float, text: str, *, force: bool) -> None:
        now = self.clock()
        if not force and now - self._reported < EVERY:
            return
        self._reported = now
        fraction, remaining = self._where(within, now)
        self.tell({"step": self._step, "fraction": round(fraction, 3), "text": text, "eta_s": round(remaining)})
        self._print(f"[{fraction:4.0%}] {text} (about {_span(remaining)} left)", now, force=force)

    def _where(self, within: float, now: float) -> tuple[float, float]:
        """Return the fraction of the whole and the seconds that remain."""
        names = list(self.plan)
        at = names.index(str(self._step))
        planned = sum(self.plan[name] for name in names[:at]) + within * self.plan[names[at]]
        total = sum(self.plan.values())
        # Steps whose result was there already take no time: they say nothing of the machine.
        worked = [name for name, took in self.seconds.items() if took > self.plan[name] * 0.1]
        expected = sum(self.plan[name] for name in worked) + within * self.plan[names[at]]
        spent = sum(self.seconds[name] for name in worked) + now - self._entered
        pace = spent / expected if expected > 1 else 1.0
        return planned / total, (total - planned) * min(max(pace, 0.3), 5.0)

    def _print(self, line: str, now: float, *, force: bool) -> None:
        if self.stream.isatty():
            self.stream.write(f"\r\033[K{line}")
            self.stream.flush()
        elif force or now - self._printed >= 5:  # a log gets a line a step, and a sign of life in long ones
            print(line, file=self.stream, flush=True)
            self._printed = now


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
