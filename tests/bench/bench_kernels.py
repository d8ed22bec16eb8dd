"""A token's cost in the gpu profile, counted from SmolLM2's kernels: bytes against the weights', dispatches against stock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from counting import cost, lowered, weights
from harness import Figure, bench

from hybr.mlc_build import catalogue, checkpoint, sources
from hybr.mlc_build.kernels.stock import Stock
from hybr.mlc_build.lower import device_target

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "smollm2-135m"


@bench
def kernels_counted() -> Iterator[Figure]:
    """Count SmolLM2's decode in both four-bit forms."""
    opened = checkpoint.open_gguf(sources.fetch(MODEL), catalogue.find(MODEL))
    for form in ("q4e8f32_1", "q4f32_1"):
        ours = cost(lowered(opened.config, form, "gpu"), "decode")
        stock = cost(lowered(opened.config, form, "gpu", Stock(device_target())), "decode")
        conditions = f"{MODEL} {form}, gpu profile, decode but for the pages; aim 1.15 of the weights"
        yield Figure(f"kernels.{form}.read", ours.read, "bytes", "the weights", weights(opened.config, form), conditions)
        yield Figure(f"kernels.{form}.dispatches", ours.dispatches, "", "TVM's schedules", stock.dispatches, conditions)
