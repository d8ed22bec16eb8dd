"""Each family's library in Chromium, under WebLLM's own tvmjs: its logits and its greedy answers are transformers'.

That a compiled model is faithful is shown link by link, all on the weights that the library computes with, quantised and back:

1. What transformers says of them in float32 is written down in tests/unit/mlc_build/transformers.json (tests/support/parity.py
   writes it): logits along a walk over chunks, 32 steps, windows, a cache popped back and a full context, a sixteenth of the
   vocabulary at each place and another one at the next; the likeliest token at every place of a context; greedy answers.
2. Here Chromium is held against that directly: logits within 2e-3, and each token of the answers.
3. The rest of the vocabulary, and the forms and sizes that nothing is written down for, go by the reference in numpy. It is
   within 4e-4 of transformers (tests/unit/mlc_build/test_families.py), Chromium within 1e-3 of it: 1.4e-3 at most.
4. tests/e2e/test_torch.py, in the long run, has no link between: torch and Chromium side by side over every logit, for these
   families and for SmolLM2 whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import library_desk
import parity
import pytest
from families import CONFIGS, ENTRY, write_folder
from playwright.sync_api import Error
from walk import walk

from hybr.mlc_build import huggingface
from hybr.mlc_build.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from hybr.mlc_build.checkpoint import Checkpoint
    from hybr.mlc_build.model.config import ModelConfig

pytestmark = pytest.mark.models

VARIANTS = ("llama-tied", "linear", "mistral", "qwen2-slides", "phi3-long")
"""Of families that are there already; their graphs are compared natively in make test (test_families.py)."""
FAMILIES = tuple(pytest.param(name, marks=pytest.mark.long) if name in VARIANTS else name for name in CONFIGS)
OTHERS = [
    pytest.param(name, form, marks=() if (name, form) == ("gemma3", "q4f32_1") else pytest.mark.long)
    for name in CONFIGS
    for form in ("q4f32_1", "q0f32")
]
"""In these forms too each family is compared in the long run, and in make test the one with most options."""


@dataclass(frozen=True)
class Opened:
    """A family's model in the page and the folder of what the page loaded."""

    name: str
    library: library_desk.Library
    config: ModelConfig
    folder: Path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the page's models are put into."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def page(models: Path, chromium: Browser) -> Iterator[Page]:
    """One page for all models."""
    with library_desk.desk(models, chromium) as page:
        yield page


@pytest.fixture(scope="module", params=FAMILIES)
def opened(request: pytest.FixtureRequest, models: Path, page: Page, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """A family's small model, loaded; its library is compiled once in the life of the compiler's code."""
    name = str(request.param)
    found = made(name, models, tmp_path_factory.mktemp("source"))
    return Opened(name, library_desk.Library(page, name, ENTRY.prefill_chunk), found.config, models / name)


def made(name: str, models: Path, source: Path, form: str = parity.FORM) -> Checkpoint:
    """Put a family's small model where the page finds it."""
    write_folder(source, name)
    found = huggingface.open_folder(source, ENTRY)
    library_desk.make(found, form, "software", models / name)
    return found


def test_logits_are_transformers(opened: Opened) -> None:
    """On the whole walk: chunks, 32 steps, the window, a cache popped back, a full context; the reference's too, every one."""
    kept = parity.kept(opened.name)
    taken = walk(opened.library, parity.PROMPT, ENTRY.context, kept["steps"])
    far = parity.off(kept, taken.logits)
    off = taken.off(taken.read_by(Reference.open(opened.folder, opened.config)))
    print(f"{opened.name}: {far:.1e} from transformers, {off:.1e} from the reference")
    assert len(taken.sequences[1]) == ENTRY.context
    assert far <= 2e-3
    assert off <= 1e-3


@pytest.mark.parametrize(("name", "form"), OTHERS)
def test_other_forms(name: str, form: str, models: Path, page: Page, tmp_path: Path) -> None:
    """Four bits throughout, and floats: the reference's logits on the whole walk."""
    found = made(name, models / form, tmp_path, form)
    taken = walk(library_desk.Library(page, f"{form}/{name}", ENTRY.prefill_chunk), parity.PROMPT, ENTRY.context)
    off = taken.off(taken.read_by(Reference.open(models / form / name, found.config)))
    print(f"{name} in {form}: {off:.1e}")
    assert off <= 1e-3


def test_greedy_tokens_are_transformers(opened: Opened) -> None:
    """Twenty prompts, sixty-four tokens each: after every beginning of transformers' answer its next token is the library's."""
    kept = parity.kept(opened.name)
    answers = [opened.library.follow(asked, answer) for asked, answer in zip(kept["prompts"], kept["answers"], strict=True)]
    assert answers == kept["answers"]
    assert sum(map(len, answers)) == 20 * 64
    assert len({token for answer in answers for token in answer}) > 60, "a model that repeats itself proves little"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"sliding_window_size": 64}, "Only one of context_window_size and sliding_window_size"),
        ({"sliding_window_size": 64, "context_window_size": -1, "attention_sink_size": 4}, "keeps every key of its context_wind"),
    ],
    ids=["webllm says it", "the library says it"],
)
def test_sinks_are_refused(asked: dict[str, int], words: str, models: Path, page: Page, tmp_path: Path) -> None:
    """A page that asks a library of ours to forget old keys is told why not when it loads it (mlc_build/refuse.py)."""
    name = "sinks/mistral-slides"
    if not (models / name).exists():
        assert made("mistral-slides", models / "sinks", tmp_path).config.slides(0)
    with pytest.raises(Error, match=words):
        page.evaluate("([name, asked]) => window.load(name, asked)", [name, asked])
