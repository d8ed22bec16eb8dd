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

ANSWER = """async ([messages, most]) => { const H = await ModuleLoader.getModule('HybridLLMProvider');
  const answer = await H.api.completeLocal(messages, {temperature: 0, maxOutputTokens: most});
  return {text: answer.text, provider: answer.provider, tokens: answer.usage.completionTokens, reason: answer.finishReason}; }"""


def answer_sheet(served: Served, model: str) -> tuple[Reference, Tokenizer]:
    """Return the reference and the tokenizer, read from the artifacts that the server serves."""
    folder = home() / served.wait_built(model)["base"].strip("/")
    return Reference.open(folder, CONFIG), Tokenizer.from_file(str(folder / "tokenizer.json"))


def check(page: Page, sheet: tuple[Reference, Tokenizer], *turns: str, most: int = 32, system: str = "") -> str:
    """Assert that the page's greedy tokens are the reference's, and return them: `tiny`'s vocabulary makes a token a character.

    `turns` are the person's and the model's by turns. An answer ends for its length: at `most` tokens, or where the context does.
    """
    reference, tokenizer = sheet
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]
    said = "".join(f"<|im_start|>{one['role']}\n{one['content']}<|im_end|>\n" for one in messages)
    prompt = tokenizer.encode(f"{said}<|im_start|>assistant\n", add_special_tokens=False).ids
    expected = reference.greedy(prompt, min(most, CONFIG.context_window_size - len(prompt) + 1), frozenset({EOS}))
    answer = page.evaluate(ANSWER, [messages, most])
    assert answer["provider"] == "local"
    assert answer["text"] == tokenizer.decode(expected)
    assert (answer["tokens"], answer["reason"]) == (len(expected), "length")
    assert len(set(expected)) > 8, "a model that repeats itself proves little"
    return str(answer["text"])


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
    assert len(check(tiny_page[0], sheet, prompt)) == 32


@pytest.mark.models
def test_a_conversation_goes_on_and_back(tiny_page: tuple[Page, Watch], sheet: tuple[Reference, Tokenizer]) -> None:
    """A second turn, the same one asked for again, and one after an edit of the first: each answer is that to what now stands."""
    page = tiny_page[0]
    first = check(page, sheet, PROMPTS[0])
    second = check(page, sheet, PROMPTS[0], first, PROMPTS[1])
    assert check(page, sheet, PROMPTS[0], first, PROMPTS[1]) == second
    assert check(page, sheet, PROMPTS[3], first, PROMPTS[1]) != second


@pytest.mark.models
def test_dollars_are_dollars(tiny_page: tuple[Page, Watch], sheet: tuple[Reference, Tokenizer]) -> None:
    """Formulas and prices reach the model as they were written: WebLLM fills templates in with JavaScript's `replace`."""
    said = "cost $$5, $& or `$`, it's $'$1"
    check(tiny_page[0], sheet, said, "$$x$$", said, system=said)


@pytest.mark.models
def test_the_context_is_filled_to_its_last_token(tiny_page: tuple[Page, Watch], sheet: tuple[Reference, Tokenizer]) -> None:
    """An answer that has no more room ends as one of full length, right to its last token; so the next one is again."""
    around = len(sheet[1].encode("<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False).ids)
    prompt = (PROMPTS[2] * 10)[: CONFIG.context_window_size - around - 20]
    assert len(check(tiny_page[0], sheet, prompt, most=900)) == 21
    check(tiny_page[0], sheet, PROMPTS[0])


@pytest.mark.models
def test_float_weights_too(served: Served, visit: Callable[..., tuple[Page, Watch]]) -> None:
    """`hybr models build tiny --quant q0f32` gives a model of its own that the page loads, and its tokens are the reference's."""
    subprocess.run([str(HYBR), "models", "build", "tiny", "--quant", "q0f32"], check=True, capture_output=True)
    page, _ = visit("/?model=tiny-q0f32&load=1&mode=local")
    wait_local(page)
    sheet = answer_sheet(served, "tiny-q0f32")
    for prompt in PROMPTS[:2]:
        assert len(check(page, sheet, prompt)) == 32
