"""What the page computes against a reference of ours in numpy, on the very weights that the page downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tokenizers import Tokenizer

from hybr.mlc_build.reference import Reference
from hybr.mlc_build.tiny import CONFIG, EOS
from hybr.server.paths import home

if TYPE_CHECKING:
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


@pytest.fixture(scope="module")
def sheet(served: Served) -> tuple[Reference, Tokenizer]:
    """The reference and the tokenizer, read from the artifacts that the server serves."""
    entry = served.wait_built("tiny")
    folder = home() / "models" / "tiny" / entry["base"].rstrip("/").rpartition("/")[2]
    return Reference.open(folder, CONFIG), Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.mark.models
@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt[:12].strip())
def test_greedy_tokens_equal_the_reference(
    prompt: str, tiny_page: tuple[Page, Watch], sheet: tuple[Reference, Tokenizer]
) -> None:
    """32 greedy tokens of `tiny` in the page are the reference's: its vocabulary makes a token a character."""
    reference, tokenizer = sheet
    turn = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    expected = reference.greedy(tokenizer.encode(turn, add_special_tokens=False).ids, 32, frozenset({EOS}))
    page, _ = tiny_page
    answer = page.evaluate(ANSWER, prompt)
    assert answer["provider"] == "local"
    assert answer["text"] == tokenizer.decode(expected)
    assert answer["tokens"] == len(expected) == 32
    assert len(set(expected)) > 8, "a model that repeats itself proves little"
