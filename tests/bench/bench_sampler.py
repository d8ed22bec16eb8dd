"""Sampling: softmax and the draw that sorts nothing, against softmax, a full sort and its draw, on the same adapter."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import library_desk
import numpy as np
import sampler_desk
from harness import Figure, bench
from hybr_testing import launch
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from hybr.mlc_build.compile import Profile

PROFILES: dict[Profile, str] = {"software": "sampler", "gpu": "sampler_gpu"}
AIM = 0.2
"""A fifth of the full sort's time, at most."""
DRAW = "([way, logits, u, times]) => window.draw(way, logits, 0.8, u, 0.95, times)"


@bench
def sampler() -> Iterator[Figure]:
    """Milliseconds from logits to token for three vocabularies in both profiles; for the same numbers the same tokens.

    The gpu profile's 256 threads are for devices where a barrier is cheap; here they share one core.
    """
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        for size in sampler_desk.SIZES:
            for profile in PROFILES:
                sampler_desk.make(size, profile, Path(folder) / f"{profile}-{size}")
        browser = launch(driver)
        with library_desk.desk(Path(folder), browser, sampler_desk.HTML) as page:
            for size in sampler_desk.SIZES:
                for profile, name in PROFILES.items():
                    page.evaluate("name => window.load(name)", f"{profile}-{size}")
                    yield _compared(page, name, profile, size)
        browser.close()


def _compared(page: Page, name: str, profile: Profile, size: int) -> Figure:
    uniforms = [float(u) for u in np.random.Generator(np.random.PCG64(1)).random(4)]
    logits = sampler_desk.logits(size)
    found = {way: page.evaluate(DRAW, [way, logits, uniforms, 3]) for way in ("ours", "full")}
    same = sum(a == b for a, b in zip(found["ours"]["tokens"], found["full"]["tokens"], strict=True))
    ours, full = (float(np.median(found[way]["ms"])) for way in ("ours", "full"))
    conditions = f"{profile} profile, {same} of {len(uniforms)} tokens the same; aim {AIM} of the sort's time"
    return Figure(f"{name}.{size}", ours, "ms", "bitonic sort of the vocabulary, then draw", full, conditions)
