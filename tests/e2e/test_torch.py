"""SmolLM2 as built here, in Chromium under WebLLM's tvmjs, against torch on the same dequantised weights.

torch lives in an environment of its own in the cache, outside our lock, made here once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import library_desk
import numpy as np
import pytest
from hybr_testing import until
from tokenizers import Tokenizer

from hybr.mlc_build import build, shards
from hybr.mlc_build.model.config import ModelConfig
from hybr.mlc_build.reference import dequantised
from hybr.server.paths import home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

TORCH, TRANSFORMERS = "2.13.0", "5.23.0"
SCRIPT = library_desk.HERE / "torch_llama.py"
TOKENS = 64
NEAR = 1e-3
"""Two logits this close may change places between two ways to sum."""
CHUNK = 256
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

pytestmark = [pytest.mark.long, pytest.mark.models, pytest.mark.timeout(3000)]


@pytest.fixture(scope="module")
def python() -> Path:
    """An interpreter that has torch, installed on first use."""
    place = home() / "bench" / f"torch-{TORCH}"
    if not (place / "whole").exists():
        wanted = [f"torch=={TORCH}", f"transformers=={TRANSFORMERS}"]
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(place)],
            [str(place / "bin/python"), "-m", "pip", "install", "-q", *wanted],
        ):
            subprocess.run(command, check=True)
        (place / "whole").touch()
    return place / "bin/python"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built model, its software library under the name that the page asks for."""
    built, models = build.build("smollm2-135m"), tmp_path_factory.mktemp("models")
    (models / "smollm").mkdir()
    for file in built.iterdir():
        name = "library.wasm" if file.name == build.LIBRARIES["software"] else file.name
        (models / "smollm" / name).symlink_to(file)
    return models / "smollm"


@pytest.fixture(scope="module")
def library(folder: Path, chromium: Browser) -> Iterator[library_desk.Library]:
    """It, loaded."""
    with library_desk.serve(folder.parent) as origin:
        page = chromium.new_page()
        page.set_default_timeout(600_000)
        page.goto(origin)
        until(lambda: page.evaluate("window.ready"), timeout=60, what="the page's module")
        yield library_desk.Library(page, "smollm", CHUNK)
        page.close()


def asked(folder: Path) -> list[list[int]]:
    """Return the prompts as tokens, each a user's turn."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    turns = (f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n" for prompt in PROMPTS)
    return [tokenizer.encode(turn, add_special_tokens=False).ids for turn in turns]


def hugging_face(config: ModelConfig, weights: dict[str, Any]) -> dict[str, Any]:
    """Return the weights under transformers' names, the stacked ones apart."""
    found = {}
    for name, array in weights.items():
        stem = name.removesuffix(".weight")
        if stem.endswith("qkv_proj"):
            cuts = [config.attention_size, config.attention_size + config.key_value_size]
            parts = zip("qkv", np.split(array, cuts), strict=True)
            found |= {name.replace("qkv_proj", f"{letter}_proj"): part for letter, part in parts}
        elif stem.endswith("gate_up_proj"):
            halves = zip(("gate", "up"), np.split(array, 2), strict=True)
            found |= {name.replace("gate_up_proj", f"{word}_proj"): part for word, part in halves}
        else:
            found[name] = array
    return found


def torch_says(python: Path, folder: Path, place: Path, sequences: list[list[int]]) -> tuple[list[list[float]], Any]:
    """Return how far each next token lies behind the largest logit, and the first sequence's logits."""
    config = ModelConfig.from_dict(json.loads((folder / "mlc-chat-config.json").read_text())["model_config"])
    fields = (
        *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size"),
        *("head_dim", "rms_norm_eps", "rope_theta", "tie_word_embeddings"),
    )
    told = {field: getattr(config, field) for field in fields} | {"max_position_embeddings": 2048}
    (place / "config.json").write_text(json.dumps(told))
    (place / "sequences.json").write_text(json.dumps(sequences))
    np.savez(place / "weights.npz", **hugging_face(config, dequantised(shards.read(folder))))
    subprocess.run([str(python), str(SCRIPT), str(place)], check=True)
    return json.loads((place / "behind.json").read_text()), np.load(place / "logits.npy")


def test_torch_agrees(python: Path, folder: Path, library: library_desk.Library, tmp_path: Path) -> None:
    """Twenty prompts of sixty-four greedy tokens are torch's but for near-ties; logits over prefill and 32 steps within 2e-3."""
    prompts = asked(folder)
    assert len(prompts) == 20
    assert len(prompts[0]) > CHUNK
    answers = [library.greedy(prompt, TOKENS) for prompt in prompts]
    library.reset()
    ours = [library.forward(prompts[0])]
    ours += [library.forward([token]) for token in answers[0][:32]]
    sequences = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    behind, logits = torch_says(python, folder, tmp_path, sequences)
    start = len(prompts[0]) - 1
    differences = [float(np.abs(mine - logits[start + i]).max()) for i, mine in enumerate(ours)]
    gaps = [gap for prompt, row in zip(prompts, behind, strict=True) for gap in row[len(prompt) - 1 :]]
    print(f"largest difference {max(differences):.1e}; {sum(gap > 0 for gap in gaps)} of {len(gaps)} tokens are not torch's own")
    assert max(differences) <= 2e-3
    assert len(gaps) == 20 * TOKENS
    assert max(gaps) <= NEAR
    assert len({token for answer in answers for token in answer}) > 100, "a model that repeats itself proves little"
