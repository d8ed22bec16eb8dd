"""What quantising costs SmolLM2, in perplexity over a text of our own and in capitals."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from prose import TEXT
from tokenizers import Tokenizer

from hybr.mlc_build import catalogue, checkpoint, sources, tiny
from hybr.mlc_build.perplexity import perplexity
from hybr.mlc_build.quantise import quantise
from hybr.mlc_build.reference import Reference, dequantised
from hybr.mlc_build.tokenizer import make

if TYPE_CHECKING:
    from pathlib import Path


@cache
def opened() -> tuple[checkpoint.Checkpoint, list[int]]:
    """The checkpoint and the text's tokens."""
    found = checkpoint.open_gguf(sources.fetch("smollm2-135m"), catalogue.find("smollm2-135m"))
    return found, make(found.vocabulary).encode(TEXT, add_special_tokens=False).ids


@cache
def of(quantisation: str) -> float:
    """Perplexity of SmolLM2 in a quantisation, over the text."""
    found, tokens = opened()
    made = {p.name: p.array for p in quantise(found.tensors, found.config, quantisation)}
    return perplexity(Reference(found.config, dequantised(made)), tokens)


def test_certainty_and_chance() -> None:
    """A model of equal logits is as surprised as its vocabulary is large; the measure is that of its definition."""
    made = {p.name: p.array for p in quantise(tiny.tensors(), tiny.CONFIG, "q0f32")}
    model = Reference(tiny.CONFIG, dequantised(made))
    tokens = [4 + byte for byte in b"any text at all"]
    plain = 0.0
    for at in range(1, len(tokens)):
        model.reset()
        logits = model.forward(tokens[:at])[-1].astype(np.float64)
        plain -= logits[tokens[at]] - np.logaddexp.reduce(logits)
    assert perplexity(model, tokens) == pytest.approx(np.exp(plain / (len(tokens) - 1)), rel=1e-4)
    model.parameters["model.embed_tokens.weight"] = np.zeros_like(model.parameters["model.embed_tokens.weight"])
    assert perplexity(model, tokens) == pytest.approx(tiny.CONFIG.vocab_size)


@pytest.mark.models
def test_the_default_loses_nothing_of_its_source(smollm: Path) -> None:
    """The built default is the GGUF's own numbers, code by code: the weights equal the float build's, and so the perplexity."""
    found, tokens = opened()
    built = Reference.open(smollm, found.config)
    whole = dequantised({p.name: p.array for p in quantise(found.tensors, found.config, "q0f32")})
    for name, array in whole.items():
        np.testing.assert_array_equal(built.parameters[name], array, name)
    assert json.loads((smollm / "manifest.json").read_text())["repacked"] is True
    assert perplexity(built, tokens) == pytest.approx(of("q0f32"), rel=1e-5)


@pytest.mark.models
def test_capitals(smollm: Path) -> None:
    """What a person asks first is answered right."""
    model, tokenizer = Reference.open(smollm, opened()[0].config), Tokenizer.from_file(str(smollm / "tokenizer.json"))
    for country, capital in {"France": "Paris", "Spain": "Madrid", "Italy": "Rome"}.items():
        turn = f"<|im_start|>user\nWhat is the capital of {country}?<|im_end|>\n<|im_start|>assistant\n"
        answer = model.greedy(tokenizer.encode(turn, add_special_tokens=False).ids, 10, frozenset({2}))
        assert capital in tokenizer.decode(answer)


@pytest.mark.models
@pytest.mark.long
def test_rounding_twice_costs(capsys: pytest.CaptureFixture[str]) -> None:
    """q4f32_1 of the same blocks rounds a second time, embedding included, and the text is less expected; it is printed."""
    with capsys.disabled():
        told = ", ".join(f"{name} {of(name):.3f}" for name in ("q0f32", "q4e8f32_1", "q4f32_1"))
        print(f"\nperplexity of SmolLM2 over {len(opened()[1])} tokens of prose: {told}")
    assert of("q4e8f32_1") == pytest.approx(of("q0f32"), rel=1e-5)
    assert of("q0f32") < of("q4f32_1") < 1.5 * of("q0f32")
