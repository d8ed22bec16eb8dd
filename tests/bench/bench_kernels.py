"""A token's cost, counted from the gpu profile's kernels for four shapes, and SmolLM2's timed kernel by kernel in software."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from counting import SHAPES, pages, shape, token, weights
from harness import Figure, bench
from timing_desk import Timed, spent, timed

from hybr.mlc_build.build import LIBRARIES
from hybr.mlc_build.kernels.stock import Stock
from hybr.server.paths import home

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "smollm2-135m"
PROMPT, TOKENS = 64, 8
SHARE = 0.01
"""Kernels that take less of the whole are told together."""


@bench
def kernels_counted() -> Iterator[Figure]:
    """Count a whole token of four shapes in both four-bit forms: embedding's row, layers, head and draw, the pages apart."""
    for name in SHAPES:
        config = shape(name)
        for form in ("q4e8f32_1", "q4f32_1"):
            ours, stock = token(config, form), token(config, form, Stock())
            conditions = f"{name} {form}, gpu profile, a whole token but for the pages; aim 1.15 of the weights"
            yield Figure(f"kernels.{name}.{form}.read", ours.read, "bytes", "the weights", weights(config, form), conditions)
            yield Figure(
                f"kernels.{name}.{form}.dispatches", ours.dispatches, "", "TVM's schedules", stock.dispatches, conditions
            )
        yield Figure(f"kernels.{name}.pages", pages(config), "bytes", "", None, "keys and values, for each token of the context")


@bench
def kernels_timed() -> Iterator[Figure]:
    """What each kernel of a prefill and of a decode step takes, by timestamp queries: milliseconds, and its share."""
    folder = home() / "models" / MODEL
    state = folder / "state.json"
    if not state.exists() or json.loads(state.read_text())["state"] != "built":
        print(f"   {MODEL} is not built: skipped")
        return
    with timed(folder / json.loads(state.read_text())["rev"], LIBRARIES["software"], chunk=256) as page:
        yield from _shares("prefill", [_prefill(page) for _ in range(2)], f"{MODEL}, software profile, {PROMPT} tokens at once")
        page.library.reset()
        page.step(range(100, 100 + PROMPT))
        steps = [page.step([200 + i]) for i in range(TOKENS)]
        yield from _shares("decode", steps, f"{MODEL}, software profile, a token after {PROMPT}")


def _prefill(page: Timed) -> list[dict[str, Any]]:
    page.library.reset()
    return page.step(range(100, 100 + PROMPT))


def _shares(name: str, runs: list[list[dict[str, Any]]], conditions: str) -> Iterator[Figure]:
    """Tell the quickest of the runs, dispatch by dispatch: what is more than that was another process's."""
    best = [{**first, "ns": min(run[i]["ns"] for run in runs)} for i, first in enumerate(runs[0])]
    whole = sum(one["ns"] for one in best) / 1e6
    yield Figure(f"kernels.time.{name}", whole, "ms", "", None, f"{conditions}, {len(best)} dispatches, best of {len(runs)}")
    rest = 0.0
    for one in spent(best):
        if one.ms < SHARE * whole:
            rest += one.ms
            continue
        shape = f"{one.count} of {one.grid} workgroups, largest buffer {one.bytes:,} bytes"
        yield Figure(f"kernels.time.{name}.{one.kernel}.{one.bytes}", one.ms, "ms", "all kernels", whole, shape)
    yield Figure(f"kernels.time.{name}.rest", rest, "ms", "all kernels", whole, "each below a hundredth")
