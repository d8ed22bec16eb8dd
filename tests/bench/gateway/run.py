"""`make bench-gateway [ONLY=hybr,nginx]`: ours and its peers in turn, one core each, one scripted upstream, one load.

The gateway alone on core 0, load and upstream on core 1; closed loops with one and with fifty clients; paced streams of 16 x 10
ms (one client) and 32 x 20 ms (fifty); a burst of 256 chunks for ten clients; a reader that sleeps in a flood of 256 MiB. What is
told is the difference to asking the upstream directly, in the same run.

On a machine that others use, `HYBR_BENCH_REPEATS=5` measures everybody so often and takes each figure's best; the rows say so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "support")]

import stands  # noqa: E402  the paths are set up above
import uvloop  # noqa: E402
from harness import Figure, write  # noqa: E402
from hybr_testing import free_port  # noqa: E402
from load import closed_loop, percentile, starve  # noqa: E402

from hybr.server.paths import home  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stands import Stand

MS = 1000.0
LONG = "HYBR_BENCH_SECONDS"
SECONDS = float(os.environ.get(LONG, "4"))
REPEATS = int(os.environ.get("HYBR_BENCH_REPEATS", "1"))
MORE = {"rate", "burst"}  # better when larger
ONCE = {"idle", "boot", "flood", "loaded"}  # of the first time: a load leaves its traces
LIMITS = {  # ours only: the bar of facts and issue
    "added_p50": ("ms", 0.6),
    "added_p99": ("ms", 1.5),
    "added_first": ("ms", 1.0),
    "transit_p99": ("ms", 5.0),
    "cpu_chunk": ("us", 70.0),
    "idle": ("MB", 80.0),
    "boot": ("s", 1.0),
    "flood": ("MB", 16.0),
    "rate": ("requests/s", 3000.0),
}
Measured = dict[str, float]


async def measure(stand: Stand) -> Measured:
    """Return one gateway's figures."""
    target, found = stand.target, Measured(idle=stand.memory(), boot=stand.boot)
    plain, short = target.request("hello", stream=False), target.request("plan:16x10", stream=True)
    paced, burst = target.request("plan:32x20", stream=True), target.request("plan:256x0", stream=True)
    await closed_loop(target, plain, clients=1, seconds=SECONDS, most=200)  # warm
    await closed_loop(target, short, clients=1, seconds=SECONDS, most=3)
    one = [taken.whole * MS for taken in await closed_loop(target, plain, clients=1, seconds=SECONDS)]
    found |= {"p50": percentile(one, 0.5), "p99": percentile(one, 0.99)}
    cpu = stand.cpu()
    many = await closed_loop(target, plain, clients=50, seconds=SECONDS)
    found |= {"rate": len(many) / SECONDS, "cpu_request": (stand.cpu() - cpu) / len(many) * 1e6}
    found["p99_50"] = percentile([taken.whole * MS for taken in many], 0.99)
    alone = await closed_loop(target, short, clients=1, seconds=SECONDS)
    found["first"] = percentile([taken.first * MS for taken in alone], 0.5)
    cpu = stand.cpu()
    streams = await closed_loop(target, paced, clients=50, seconds=SECONDS)
    transits = [transit * MS for taken in streams for transit in taken.transits]
    found |= {"transit_p50": percentile(transits, 0.5), "transit_p99": percentile(transits, 0.99)}
    found["cpu_chunk"] = (stand.cpu() - cpu) / len(transits) * 1e6
    bursts = await closed_loop(target, burst, clients=10, seconds=SECONDS)
    found["burst"] = sum(len(taken.transits) for taken in bursts) / SECONDS
    if stand.process:
        before = stand.memory()
        await starve(target, target.request("flood:256", stream=True), 4)
        found |= {"flood": max(0.0, stand.memory() - before), "loaded": stand.memory()}
    return found


def figures(who: str, found: Measured, base: Measured, peer: Measured | None, peer_name: str) -> Iterator[Figure]:
    """Yield one gateway's rows: ours against the bar, and against the nearest peer where one ran."""
    told = {
        "added_p50": found["p50"] - base["p50"],
        "added_p99": found["p99"] - base["p99"],
        "added_first": found["first"] - base["first"],
        **{name: found[name] for name in ("rate", "p99_50", "transit_p50", "transit_p99", "cpu_request", "cpu_chunk", "burst")},
        **{name: found[name] for name in ("idle", "loaded", "boot", "flood") if name in found},
    }
    units = {"p99_50": "ms", "transit_p50": "ms", "cpu_request": "us", "burst": "chunks/s", "loaded": "MB"}
    for name, value in told.items():
        unit, bar = LIMITS.get(name, (units.get(name, ""), None))
        mine = who == "hybr" and bar is not None
        yield Figure(
            f"gateway.{who}.{name}",
            round(value, 4),
            unit,
            f"limit: {bar:g} {unit}" if mine and bar else "",
            bar if mine else None,
            CONDITIONS,
        )
        if who == "hybr" and peer:
            other = {
                **peer,
                "added_p50": peer["p50"] - base["p50"],
                "added_p99": peer["p99"] - base["p99"],
                "added_first": peer["first"] - base["first"],
            }
            if name in other:
                yield Figure(f"gateway.{who}.{name}.to_{peer_name}", round(value, 4), unit, peer_name, other[name], CONDITIONS)


CONDITIONS = f"one core, {SECONDS:g} s a figure; closed loops of 1 and 50; streams 16 x 10 and 32 x 20 ms; bursts of 256"
if REPEATS > 1:
    CONDITIONS += f"; best of {REPEATS} repeats"


def main(only: list[str]) -> int:
    """Measure, print a table, and add the rows to `bench.json`; return 1 if a gateway could not be measured."""
    wanted = set(",".join(only).split(",")) - {""}
    os.sched_setaffinity(0, {1})
    port = free_port()
    upstream = subprocess.Popen([sys.executable, str(HERE / "provider.py"), str(port)])
    found: dict[str, Measured] = {}
    failures: dict[str, str] = {}
    try:
        stands.listening(port, upstream)
        found["direct"] = run(stands.direct(port))
        for start in (stands.ours, *stands.PEERS):
            name = "hybr" if start is stands.ours else start.__name__
            if wanted and name not in wanted:
                continue
            print(f"== {name}", flush=True)
            try:
                with tempfile.TemporaryDirectory() as folder, start(port, Path(folder)) as stand:
                    found[name] = run(stand)
            except Exception as error:  # noqa: BLE001  one peer's failure must not lose the others' figures
                failures[f"gateway.{name}"] = repr(error)
                print(f"   failed: {error!r}", flush=True)
    finally:
        upstream.terminate()
        upstream.wait(10)
    base, rows = found.pop("direct"), []
    for who, measured in found.items():
        rows += figures(who, measured, base, found.get("litellm"), "litellm")
    write(home() / "bench.json", rows, failures)
    return 1 if failures else 0


def run(stand: Stand) -> Measured:
    """Measure one gateway and print its figures."""
    measured = uvloop.run(measure(stand))
    for _ in range(REPEATS - 1):
        for name, value in uvloop.run(measure(stand)).items():
            if name not in ONCE:
                measured[name] = (max if name in MORE else min)(measured[name], value)
    for name, value in measured.items():
        print(f"   {name:14} {value:12.3f}", flush=True)
    return measured


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
