"""Sampling: softmax and the draw that sorts nothing, against softmax, a full sort and its draw, on the same adapter."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import library_desk
import numpy as np
import sampler_desk
from harness import Figure, bench
from hybr_testing import launch, until
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

AIM = 0.2
"""A fifth of the full sort's time, at most."""
DRAW = "([way, logits, u, times]) => window.draw(way, logits, 0.8, u, 0.95, times)"


@bench
def sampler() -> Iterator[Figure]:
    """Milliseconds from logits to token for three vocabularies; the tokens must be the same for the same numbers."""
    uniforms = [float(u) for u in np.random.Generator(np.random.PCG64(1)).random(4)]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        for size in sampler_desk.SIZES:
            sampler_desk.make(size, "software", Path(folder) / str(size))
        browser = launch(driver)
        with library_desk.serve(Path(folder), sampler_desk.HTML) as origin:
            page = browser.new_page()
            page.set_default_timeout(0)
            page.goto(origin)
            until(lambda: page.evaluate("window.ready"), timeout=60, what="the page's module")
            for size in sampler_desk.SIZES:
                page.evaluate("name => window.load(name)", str(size))
                logits = sampler_desk.logits(size)
                found = {way: page.evaluate(DRAW, [way, logits, uniforms, 3]) for way in ("ours", "full")}
                same = sum(a == b for a, b in zip(found["ours"]["tokens"], found["full"]["tokens"], strict=True))
                ours, full = (float(np.median(found[way]["ms"])) for way in ("ours", "full"))
                conditions = f"software profile, {same} of {len(uniforms)} tokens the same; aim {AIM} of the sort's time"
                yield Figure(f"sampler.{size}", ours, "ms", "bitonic sort of the vocabulary, then draw", full, conditions)
        browser.close()
