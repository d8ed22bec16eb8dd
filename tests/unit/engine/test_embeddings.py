"""Embedding models in WebLLM's own engine: its vectors against numpy on the page's own weights, and what search needs of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import encoders
import numpy as np
import pytest
from engine_desk import Model
from shelf import built
from tokenizers import Tokenizer

from hybr.mlc_build import own, store
from hybr.mlc_build.build import LIBRARIES, build_entry
from hybr.mlc_build.encoder.config import EncoderConfig
from hybr.mlc_build.encoder.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from engine_desk import Desk
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.models

SMALL = ["the sea", "a light", "ships. lights. ships.", "zzz", "the ship"]
SEARCH = {
    "How do I make pancakes?": "Mix flour, milk and eggs and fry thin cakes in butter.",
    "Who painted the Mona Lisa?": "Leonardo da Vinci's portrait hangs in the Louvre.",
    "Why does it rain?": "Water vapour rises, cools into clouds and falls as drops.",
    "My laptop battery is empty": "Plug the charger into the computer to restore its power.",
}


@pytest.fixture(scope="module")
def page(desk_server: tuple[Desk, str], engine_browser: Browser) -> Iterator[Page]:
    """One page with WebLLM."""
    context = engine_browser.new_context()
    page = context.new_page()
    page.goto(desk_server[1] + "/pages/blank.html")
    page.evaluate("async () => { window.embedder = await import('/pages/embed.js'); }")
    yield page
    context.close()


@pytest.fixture
def load(page: Page, desk: Desk) -> Callable[[Path, str], None]:
    """Load a built model with one of its libraries."""

    def load(folder: Path, library: str) -> None:
        model = Model(folder.parent.name, {file.name: file.read_bytes() for file in folder.iterdir()}, folder.name)
        desk.add(model)
        page.evaluate("([base, library]) => embedder.load(base, library)", [model.base, library])

    return load


def vectors(page: Page, *texts: str) -> Any:
    """Return the texts' vectors, through the API that WebLLM shares with OpenAI."""
    answer = page.evaluate("(texts) => embedder.embed(texts)", list(texts))
    return np.array(answer["vectors"], np.float32)


def wanted(folder: Path, *texts: str) -> Any:
    """Return the same vectors from numpy, on the built model's own files."""
    told = json.loads((folder / "mlc-chat-config.json").read_text())["model_config"]
    reference = Reference.open(folder, EncoderConfig(**told))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return np.stack([reference.vector(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts])


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A built small encoder, which does not stay on this machine's shelf."""
    yield build_entry(own.entry_of(str(encoders.write(tmp_path)), name="small-encoder"))
    store.remove("small-encoder")


# The gpu library's products take a software adapter minutes to compile.
@pytest.mark.parametrize("profile", ["software", pytest.param("gpu", marks=pytest.mark.long)])
def test_a_small_encoder(page: Page, load: Callable[[Path, str], None], profile: str, small: Path) -> None:
    """Five texts, which is more than a batch, in both profiles; specials typed by hand and a text past the window as well."""
    load(small, LIBRARIES[profile])
    assert np.abs(vectors(page, *SMALL) - wanted(small, *SMALL)).max() < 2e-5
    assert np.abs(vectors(page, "[CLS] the sea [SEP]") - wanted(small, "the sea")).max() < 2e-5
    long = "the sea " * 40
    assert np.abs(vectors(page, long) - wanted(small, long)).max() < 2e-5


def test_search_with_minilm(page: Page, load: Callable[[Path, str], None]) -> None:
    """all-MiniLM's vectors are numpy's within 2e-3, and each question finds its answer among the four."""
    folder = built("all-minilm-l6-v2")
    load(folder, LIBRARIES["software"])
    questions, answers = vectors(page, *SEARCH), vectors(page, *SEARCH.values())
    assert np.abs(questions - wanted(folder, *SEARCH)).max() < 2e-3
    assert (questions @ answers.T).argmax(1).tolist() == [0, 1, 2, 3]
