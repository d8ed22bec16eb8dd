"""What the page computes against a reference of ours in numpy, on the very weights that the page downloaded."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from hybr_testing import HYBR, wait_local
from tokenizers import Tokenizer

from hybr.mlc_build.reference import Reference
from hybr.mlc_build.tiny import CONFIG, EOS
from hybr.server.paths import home

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr_testing import Served, Watch
    from playwright.sync_api import Page

PROMPTS = [
    "Hello",
    "What is the capital of France?",
    "one two three four five six seven eight nine ten " * 4,  # more than one prefill chunk of 128
    "def f(x): return x + 1",
    "~",
]

ANSWER = """async (prompt) => { const H = await ModuleLoader.getModule('HybridLLMProvider');
  const answer = await H.api.completeLocal([{role: 'user', content: prompt}], {temperature: 0, maxOutputTokens: 32});
  return {text: answer.text, provider: answer.provider, tokens: answer.usage.completionTokens}; }"""


def answer_sheet(served: Served, model: str) -> tuple[Reference, Tokenizer]:
    """Return the reference and the tokenizer, read from the artifacts that the server serves."""
    folder = home() / served.wait_built(model)["base"].strip("/")
    return Reference.open(folder, CONFIG), Tokenizer.from_file(str(folder / "tokenizer.json"))


def check(page: Page, prompt: str, sheet: tuple[Reference, Tokenizer]) -> None:
    """Assert that the page's 32 greedy tokens are the reference's: `tiny`'s vocabulary makes a token a character."""
    reference, tokenizer = sheet
    turn = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    expected = reference.greedy(tokenizer.encode(turn, add_special_tokens=False).ids, 32, frozenset({EOS}))
    answer = page.evaluate(ANSWER, prompt)
    assert answer["provider"] == "local"
    assert answer["text"] == tokenizer.decode(expected)
    assert answer["tokens"] == len(expected) == 32
    assert len(set(expected)) > 8, "a model that repeats itself proves little"


@pytest.fixture(scope="module")
def sheet(served: Served) -> tuple[Reference, Tokenizer]:
    """The answer sheet of `tiny`."""
    return answer_sheet(served, "tiny")


@pytest.mark.models
@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt[:12].strip())
def test_greedy_tokens_equal_the_reference(
    prompt: str, tiny_page: tuple[Page, Watch], sheet: tuple[Reference, Tokenizer]
) -> None:
    """32 greedy tokens of `tiny` (q4f32_1) in the page are the reference's."""
    check(tiny_page[0], prompt, sheet)


@pytest.mark.models
def test_float_weights_too(served: Served, visit: Callable[..., tuple[Page, Watch]]) -> None:
    """`hybr models build tiny --quant q0f32` gives a model of its own that the page loads, and its tokens are the reference's."""
    subprocess.run([str(HYBR), "models", "build", "tiny", "--quant", "q0f32"], check=True, capture_output=True)
    page, _ = visit("/?model=tiny-q0f32&load=1&mode=local")
    wait_local(page)
    sheet = answer_sheet(served, "tiny-q0f32")
    for prompt in PROMPTS[:2]:
        check(page, prompt, sheet)
