"""`make bench [ONLY=name]`: run the benches one after the other and write `bench.json` in the cache."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

from harness import REGISTRY, Figure, write  # noqa: E402  the path is set up above

from hybr.server.paths import home  # noqa: E402


def main(only: list[str]) -> int:
    """Run all benches, or those whose name contains one of `only`; return 1 if any failed."""
    for path in sorted(HERE.glob("bench_*.py")):
        importlib.import_module(path.stem)
    figures: list[Figure] = []
    failures: dict[str, str] = {}
    for name, work in REGISTRY.items():
        if only and not any(word in name for word in only):
            continue
        print(f"== {name}", flush=True)
        try:
            for figure in work():
                figures.append(figure)
                ratio = "" if figure.ratio is None else f"  = {figure.ratio:.3g} x {figure.peer} ({figure.peer_value:g})"
                print(f"   {figure.name:44} {figure.value:12.4g} {figure.unit:9}{ratio}  {figure.conditions}", flush=True)
        except Exception as error:  # noqa: BLE001  one bench's failure must not lose the others' figures
            failures[name] = repr(error)
            traceback.print_exc()
    target = home() / "bench.json"
    write(target, figures, failures)
    print(f"{len(figures)} figures, {len(failures)} failed benches -> {target}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
