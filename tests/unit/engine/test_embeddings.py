"""Embedding models in WebLLM's own engine: its vectors against numpy on the page's own weights, and what search needs of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import encoders
import numpy as np
import pytest
from engine_desk import Model
from playwright.sync_api import Error
from shelf import built

from hybr.mlc_build import own, store
from hybr.mlc_build.build import LIBRARIES, build_entry

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
    page.evaluate("async () => { await import('/pages/weigh.js'); window.embedder = await import('/pages/embed.js'); }")
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


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A built small encoder, which does not stay on this machine's shelf."""
    yield build_entry(own.entry_of(str(encoders.write(tmp_path)), name="small-encoder"))
    store.remove("small-encoder")


@pytest.mark.parametrize("profile", ["software", "gpu"])
def test_a_small_encoder(page: Page, load: Callable[[Path, str], None], profile: str, small: Path) -> None:
    """Texts past the window, as many as a call takes, and five, in both profiles; specials typed by hand; its memory."""
    load(small, LIBRARIES[profile])
    long = ["the sea " * 40] * 4
    assert np.abs(vectors(page, *long) - encoders.vectors(small, *long)).max() < 2e-5
    assert np.abs(vectors(page, *SMALL) - encoders.vectors(small, *SMALL)).max() < 2e-5
    assert np.abs(vectors(page, "[CLS] the sea [SEP]") - encoders.vectors(small, "the sea")).max() < 2e-5
    if profile == "software":  # which needs more than the other; test_halves.py weighs that by itself
        weigh(page, small)
    odd(page, small)


def weigh(page: Page, folder: Path) -> None:
    """Check the manifest's estimate of graphics memory: within a tenth, once a call was as long as one can be."""
    weighed, told = page.evaluate("weighed()"), store.manifest(folder.parent.name)
    print(f"{weighed['live']} bytes of graphics memory, {told['vram_bytes']} promised")
    assert weighed["live"] == pytest.approx(told["vram_bytes"], rel=0.1), weighed
    assert weighed["largest"] <= told["limits"]["maxBufferSize"]


def odd(page: Page, folder: Path) -> None:
    """Check texts that hardly are any: each has numpy's vector, or is refused by name, and the next is answered as before."""
    for texts in (["\N{WATER WAVE}"], ["the\nsea\r\n"], ["the sea", "  ", "\n", "\0"], ["\N{WATER WAVE}" * 400]):
        assert np.abs(vectors(page, *texts) - encoders.vectors(folder, *texts)).max() < 2e-5
    for blank in ("  ", "\n", "\0"):
        with pytest.raises(Error, match="input is blank"):
            vectors(page, blank)
    with pytest.raises(Error, match="Embedding input cannot be empty string"):
        vectors(page, "")
    with pytest.raises(Error, match="only supports up to 32 context size"):  # tokens of one's own, which no tokenizer cuts
        page.evaluate("tokens => embedder.embed([tokens])", [7] * 33)
    assert np.abs(vectors(page, "the sea") - encoders.vectors(folder, "the sea")).max() < 2e-5


def test_search_with_minilm(page: Page, load: Callable[[Path, str], None]) -> None:
    """all-MiniLM's vectors are numpy's within 2e-3, and each question finds its answer among the four."""
    folder = built("all-minilm-l6-v2")
    load(folder, LIBRARIES["software"])
    questions, answers = vectors(page, *SEARCH), vectors(page, *SEARCH.values())
    assert np.abs(questions - encoders.vectors(folder, *SEARCH)).max() < 2e-3
    assert (questions @ answers.T).argmax(1).tolist() == [0, 1, 2, 3]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_memory_of_minilm(page: Page, load: Callable[[Path, str], None]) -> None:
    """Two calls of four texts past the window, half a minute each on a busy machine."""
    folder = built("all-minilm-l6-v2")
    load(folder, LIBRARIES["software"])
    for _ in range(2):
        vectors(page, *["the sea " * 200] * 4)
    weigh(page, folder)
