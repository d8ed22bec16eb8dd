"""Each family's library in Chromium, under WebLLM's own tvmjs, against the reference on the very weights the page loads.

The reference itself is held against transformers in tests/unit/mlc_build/test_families.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import library_desk
import numpy as np
import pytest
from families import CONFIGS, ENTRY, write_folder
from hybr_testing import until
from parity import PROMPT

from hybr.mlc_build import huggingface
from hybr.mlc_build.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

FAMILIES = (
    *("gemma2", "gemma3"),
    *(pytest.param(name, marks=pytest.mark.long) for name in CONFIGS if not name.startswith("gemma")),
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the page's models are put into."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def page(models: Path, chromium: Browser) -> Iterator[Page]:
    """One page for all models."""
    with library_desk.serve(models) as origin:
        page = chromium.new_page()
        page.goto(origin)
        until(lambda: page.evaluate("window.ready"), timeout=60, what="the page's module")
        yield page
        page.close()


@pytest.mark.models
@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_the_reference(name: str, models: Path, page: Page, tmp_path: Path) -> None:
    """Logits differ by no more than 2e-3 wherever a conversation can stand.

    Over a prompt that crosses prefill chunks (and where the family's attention slides, its window), 32 greedy tokens after it, a
    cache that is popped back into the window and goes on otherwise, and to the context's last token.
    """
    write_folder(tmp_path, name)
    opened = huggingface.open_folder(tmp_path, ENTRY)
    library_desk.make(opened, "q4e8f32_1", "software", models / name)
    library = library_desk.Library(page, name, ENTRY.prefill_chunk)
    reference = Reference.open(models / name, opened.config)

    def differ(tokens: list[int], chunk: int | None = None) -> tuple[float, int]:
        theirs = reference.forward(tokens)[-1]
        return float(np.abs(library.forward(tokens, chunk) - theirs).max()), int(theirs.argmax())

    off, token = differ(PROMPT)
    worst = [off]
    for _ in range(32):
        off, token = differ([token])
        worst.append(off)
    library.pop(45)
    reference.pop(45)
    worst += [differ(PROMPT[:50], chunk=7)[0], differ(PROMPT[50 : 50 + ENTRY.context - reference.length])[0]]
    assert reference.length == ENTRY.context
    print(f"{name}: {max(worst):.2e}")
    assert max(worst) < 2e-3
