"""The bench runner's vocabulary: a figure is worth its peer, measured in the same run on the same machine.

A bench is a function in `tests/bench/bench_*.py` decorated with `@bench`; it yields `Figure`s. `run.py` runs them and writes
`bench.json` in the cache. Absolute figures move with the machine, so each carries a peer or a limit and the ratio to it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Figure:
    """One measured value.

    Attributes:
        name: dotted, as `page.first_visit_bytes`.
        value: the measurement, in `unit`.
        unit: `s`, `ms`, `bytes`, `tokens/s`, ...
        peer: what it is compared with: another system measured in this run, or a stated limit (`limit: ...`).
        peer_value: the peer's value in the same unit, or None where there is none.
        conditions: what a reader needs to judge the figure (cold or warm, shape, adapter).

    """

    name: str
    value: float
    unit: str
    peer: str
    peer_value: float | None
    conditions: str = ""

    @property
    def ratio(self) -> float | None:
        """Value over peer, or None without a peer."""
        return self.value / self.peer_value if self.peer_value else None

    def row(self) -> dict[str, object]:
        """Return the figure in the schema of `bench.json`."""
        ratio = self.ratio
        return {**dataclasses.asdict(self), "ratio": None if ratio is None else round(ratio, 4)}


REGISTRY: dict[str, Callable[[], Iterator[Figure]]] = {}


def bench(work: Callable[[], Iterator[Figure]]) -> Callable[[], Iterator[Figure]]:
    """Register a bench under its function's name."""
    REGISTRY[work.__name__] = work
    return work


def machine() -> dict[str, object]:
    """Describe the machine; one-minute load tells how noisy the run was."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def write(path: Path, figures: list[Figure], failures: dict[str, str]) -> None:
    """Merge the figures into `bench.json`: a bench that did not run this time keeps its last rows."""
    rows: dict[str, dict[str, object]] = {}
    if path.exists():
        rows = {str(row["name"]): row for row in json.loads(path.read_text())["figures"]}
    stamp = machine()
    rows |= {figure.name: {**figure.row(), "machine": stamp} for figure in figures}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"schema": 1, "figures": list(rows.values()), "failures": failures}, indent=1)
    path.write_text(text + "\n")
