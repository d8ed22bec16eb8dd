"""Progress: fractions and estimates that make sense, for a terminal and for the page."""

from __future__ import annotations

import io
from typing import Any

from hybr.mlc_build.progress import Progress

PLAN = {"fetch": 10.0, "weights": 30.0, "link": 60.0}


class Clock:
    """Time that passes when told."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def follow() -> tuple[Progress, Clock, list[dict[str, Any]], io.StringIO]:
    """Return a progress under a clock of ours, and where its reports go."""
    clock, told, stream = Clock(), list[dict[str, Any]](), io.StringIO()
    return Progress(PLAN, told.append, stream, clock), clock, told, stream


def test_on_plan() -> None:
    """On a machine as quick as the plan the fraction is the share of the time and the rest is what remains."""
    progress, clock, told, _ = follow()
    progress.step("fetch", "fetching")
    clock.now = 10
    progress.step("weights", "quantising")
    clock.now = 25
    progress.at(0.5, "half")
    assert told[-1] == {"step": "weights", "fraction": 0.25, "text": "half", "eta_s": 75}


def test_slow_machine() -> None:
    """A machine that takes twice as long is given twice the time."""
    progress, clock, told, _ = follow()
    progress.step("fetch", "fetching")
    clock.now = 20
    progress.step("weights", "quantising")
    clock.now = 80
    progress.step("link", "linking")
    assert (told[-1]["fraction"], told[-1]["eta_s"]) == (0.4, 120)


def test_cached_steps_say_nothing_of_the_machine() -> None:
    """Steps that were there already move the fraction and leave the estimate as planned."""
    progress, clock, told, _ = follow()
    progress.step("fetch", "a")
    progress.step("weights", "b")
    clock.now = 0.01
    progress.step("link", "c")
    assert (told[-1]["fraction"], told[-1]["eta_s"]) == (0.4, 60)


def test_fraction_never_falls_and_reports_are_few() -> None:
    """Whatever the steps report, the fraction rises from 0 towards 1, and the disk is not written a thousand times a second."""
    progress, clock, told, _ = follow()
    for step in PLAN:
        progress.step(step, step)
        for tick in range(1000):
            clock.now += 0.01
            progress.at(tick / 900, step)
    fractions = [report["fraction"] for report in told]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert fractions[-1] <= 1
    assert len(told) <= 3 * (1000 * 0.01 / 0.5 + 2)


class Terminal(io.StringIO):
    """A stream that says it is a person's."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_terminal() -> None:
    """On a terminal one line is drawn over and over, as often as there is news, and the last word stands alone."""
    clock, stream = Clock(), Terminal()
    progress = Progress(PLAN, lambda _told: None, stream, clock)
    progress.step("fetch", "fetching")
    for _ in range(3):
        clock.now += 1
        progress.at(0.5, "still fetching")
    progress.done("built")
    drawn = stream.getvalue().split("\r\033[K")
    assert [line.split("] ")[-1].split(" (")[0] for line in drawn] == ["", "fetching", *["still fetching"] * 3, "built\n"]
    assert stream.getvalue().count("\n") == 1


def test_log() -> None:
    """Into a file goes a line for each step and a sign of life in a long one, each whole."""
    progress, clock, _, stream = follow()
    progress.step("fetch", "fetching")
    for _ in range(12):
        clock.now += 1
        progress.at(0.5, "still fetching")
    progress.step("link", "linking")
    progress.done("built")
    lines = stream.getvalue().splitlines()
    assert [line.split("] ")[-1].split(" (")[0] for line in lines] == [
        "fetching", "still fetching", "still fetching", "linking", "built",
    ]  # fmt: skip
    assert progress.seconds["fetch"] == 12
