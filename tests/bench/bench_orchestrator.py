"""What the orchestrator costs: chunks a second through Pyodide, the share of a paced stream it keeps, the gap of a handover."""

from __future__ import annotations

import json
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness import Figure, bench

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PYODIDE = ROOT / "static/node_modules/pyodide"
PARTS = ("hybrid", "runtimes", "state", "page")


def pack(archive: Path) -> Path:
    """Zip the page's Python as the bundle lays it out, without the Panel app."""
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("hybr/__init__.py", "")
        packed.write(ROOT / "webapp/__init__.py", "hybr/webapp/__init__.py")
        for part in PARTS:
            for path in sorted((ROOT / "webapp" / part).glob("*.py")):
                packed.write(path, f"hybr/webapp/{part}/{path.name}")
    return archive


@bench
def orchestrator() -> Iterator[Figure]:
    """A scripted engine through bridge, orchestrator and account, against the same engine read directly in JavaScript."""
    with tempfile.TemporaryDirectory() as folder:
        core = pack(Path(folder) / "core.zip")
        script = Path(__file__).with_name("orchestrator.mjs")
        done = subprocess.run(["node", script, PYODIDE, core], check=True, capture_output=True, text=True, timeout=300)
    got = json.loads(done.stdout.strip().splitlines()[-1])
    where = "Pyodide 314 in node, scripted engine"
    yield Figure("orchestrator.stream_chunks", got["stream"], "chunks/s", "limit: 2000", 2000.0, where)
    yield Figure("orchestrator.chat_chunks", got["chat"], "chunks/s", "limit: 2000", 2000.0, where)
    cost = 1e6 / got["stream"] - 1e6 / got["direct"]
    yield Figure("orchestrator.chunk_cost", cost, "us", "limit: 500", 500.0, where)
    yield Figure(
        "orchestrator.paced", got["paced"], "tokens/s", "the engine read directly", got["pacedDirect"], f"{where}, 100 tokens/s"
    )
    yield Figure(
        "orchestrator.handover_gap", got["handoverGapMs"], "ms", "limit: 30", 30.0, f"{where}, beyond the upstream's TTFT"
    )
