"""The conversation template against Jinja's rendering of the checkpoint's own."""

from __future__ import annotations

import dataclasses

import pytest

from hybr.mlc_build import catalogue, checkpoint, template
from hybr.mlc_build.errors import SourceError

WITH_DEFAULT = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
VOCABULARY = checkpoint.open_seeded().vocabulary
ENTRY = catalogue.find("tiny")
DROPPING = dataclasses.replace(ENTRY, template={"drop_default_system": True})


def test_text() -> None:
    """A question alone becomes one turn and an open answer: no system turn appears from nowhere."""
    text = template.render(template.conversation(VOCABULARY), ({"role": "user", "content": "Hi"},))
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_same_as_chatml() -> None:
    """Over all samples, plain ChatML renders the same both ways."""
    template.check(template.conversation(VOCABULARY), checkpoint.CHATML, ENTRY)


def test_default_system_turn_needs_the_catalogues_word() -> None:
    """A checkpoint that adds a system turn of its own passes only where the catalogue drops it."""
    with pytest.raises(SourceError, match=r"tiny: on .*You are a helpful"):
        template.check(template.conversation(VOCABULARY), WITH_DEFAULT, ENTRY)
    template.check(template.conversation(VOCABULARY), WITH_DEFAULT, DROPPING)


@pytest.mark.parametrize(
    "other",
    [
        checkpoint.CHATML.replace("<|im_end|>", "<|end|>"),
        checkpoint.CHATML.replace("'\\n' + message['content']", "message['content']"),
        checkpoint.CHATML.replace("message['content']", "message['content'] | trim"),
        checkpoint.CHATML + "<think>",
        "[INST]{{ messages[0]['content'] }}[/INST]",
    ],
    ids=["mark", "newline", "trimmed", "suffix", "another"],
)
def test_differences_are_found(other: str) -> None:
    """A template that differs by a mark, a newline, trimming or a suffix is refused, even where a system turn may go."""
    with pytest.raises(SourceError, match="our conversation template gives"):
        template.check(template.conversation(VOCABULARY), other, DROPPING)


def test_vocabulary_without_marks() -> None:
    """A vocabulary without ChatML's marks is refused by the mark's name."""
    bare = dataclasses.replace(VOCABULARY, tokens=[token.replace("im_start", "x") for token in VOCABULARY.tokens])
    with pytest.raises(SourceError, match=r"no <\|im_start\|>"):
        template.conversation(bare)
