"""What is built here, in Chromium under WebLLM's tvmjs, against transformers in float32 on the same dequantised weights.

SmolLM2 whole, and each family's small model. transformers lives in an environment of its own (`parity.interpreter`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import families
import library_desk
import parity
import pytest
from tokenizers import Tokenizer
from walk import walk

from hybr.mlc_build import build, huggingface, shards
from hybr.mlc_build.model.config import ModelConfig
from hybr.mlc_build.reference import dequantised

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

CHUNK, CONTEXT = 256, 2048
LONG = "The ship sailed north for eleven days, and every evening the cook counted what was left in the barrels. "
PROMPTS = [
    f"Tell me the story again: {LONG * 14}",  # more than one prefill chunk
    *(f"What is the capital of {land}?" for land in ("France", "Spain", "Italy", "Japan", "Egypt", "Peru")),
    *(f"Explain {thing} in one sentence." for thing in ("gravity", "photosynthesis", "a mortgage", "recursion", "the tides")),
    *(f"Write a short poem about {thing}." for thing in ("rain", "an old bridge", "winter", "a lost key")),
    "def fibonacci(n):",
    "List three fruits and their colours.",
    "Translate to German: good morning",
    "~",
]
FIELDS = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size"),
    *("head_dim", "rms_norm_eps", "rope_theta", "tie_word_embeddings"),
)

pytestmark = [pytest.mark.long, pytest.mark.models, pytest.mark.timeout(3000)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the page's models."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def built(models: Path) -> Path:
    """SmolLM2 in it, its software library under the name that the page asks for."""
    (models / "smollm").mkdir()
    for file in build.build("smollm2-135m").iterdir():
        name = "library.wasm" if file.name == build.LIBRARIES["software"] else file.name
        (models / "smollm" / name).symlink_to(file)
    return models / "smollm"


@pytest.fixture(scope="module")
def page(models: Path, chromium: Browser) -> Iterator[Page]:
    """One page for all models."""
    with library_desk.desk(models, chromium) as page:
        yield page


@pytest.fixture(scope="module")
def checkpoint(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 as its library computes with it, for transformers."""
    config, place = told(built), tmp_path_factory.mktemp("checkpoint")
    fields: dict[str, Any] = {field: getattr(config, field) for field in FIELDS}
    fields |= {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": CONTEXT}
    parity.write(place, fields, config, dequantised(shards.read(built)))
    return place


@pytest.fixture(scope="module")
def smollm(built: Path, page: Page) -> library_desk.Library:
    """SmolLM2 in the page."""
    return library_desk.Library(page, built.name, CHUNK)


def told(folder: Path) -> ModelConfig:
    """Return the numbers that a built model states."""
    return ModelConfig.from_dict(json.loads((folder / "mlc-chat-config.json").read_text())["model_config"])


def asked(folder: Path) -> list[list[int]]:
    """Return the prompts as tokens, each a user's turn."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    turns = (f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n" for prompt in PROMPTS)
    return [tokenizer.encode(turn, add_special_tokens=False).ids for turn in turns]


@pytest.mark.parametrize("part", range(4))
def test_greedy_tokens_are_torchs(part: int, built: Path, smollm: library_desk.Library, checkpoint: Path) -> None:
    """Twenty prompts in four parts, sixty-four tokens each: no token lies under torch's first choice by more than a near-tie."""
    prompts = asked(built)[part::4]
    assert len(prompts) == 5
    answers = [smollm.greedy(prompt, parity.COUNT) for prompt in prompts]
    parity.put(checkpoint, [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)], [[0]] * 5)
    (said,) = parity.ask(checkpoint)
    gaps = [gap for prompt, row in zip(prompts, said.behind, strict=True) for gap in row[len(prompt) - 1 :]]
    print(f"{sum(gap > 0 for gap in gaps)} of {len(gaps)} tokens are not torch's own, by {max(gaps):.1e} at most")
    assert len(gaps) == 5 * parity.COUNT
    assert max(gaps) <= parity.NEAR
    assert len({token for answer in answers for token in answer}) > 50, "a model that repeats itself proves little"


def test_logits_are_torchs(built: Path, smollm: library_desk.Library, checkpoint: Path) -> None:
    """SmolLM2's logits within 2e-3 of torch's: over chunks, 32 steps, a cache popped back, and the whole context of 2048."""
    prompt = asked(built)[0]
    assert len(prompt) > CHUNK
    taken = walk(smollm, prompt, CONTEXT)
    parity.put(checkpoint, taken.sequences, taken.positions)
    (said,) = parity.ask(checkpoint)
    print(f"SmolLM2: {taken.off(said.logits):.1e}")
    assert len(taken.sequences[1]) == CONTEXT
    assert taken.off(said.logits) <= 2e-3


def test_families(models: Path, page: Page, tmp_path: Path) -> None:
    """Each small model's logits within 2e-3 of torch's, on the whole walk."""
    walks = {}
    for name in families.CONFIGS:
        parity.small(name, tmp_path / name)
        opened = huggingface.open_folder(tmp_path / name / "source", families.ENTRY)
        library_desk.make(opened, parity.FORM, "software", models / name)
        library = library_desk.Library(page, name, families.ENTRY.prefill_chunk)
        taken = walks[name] = walk(library, parity.PROMPT, families.ENTRY.context)
        parity.put(tmp_path / name, taken.sequences, taken.positions)
    said = parity.ask(*(tmp_path / name for name in walks))
    off = {name: taken.off(one.logits) for (name, taken), one in zip(walks.items(), said, strict=True)}
    print(", ".join(f"{name} {far:.1e}" for name, far in off.items()))
    assert max(off.values()) <= 2e-3
