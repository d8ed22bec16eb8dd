"""Tokenizers written here: round trips, specials, SmolLM's digits, and llama.cpp's opinion."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from hybr.mlc_build import catalogue, checkpoint, sources, tokenizer
from hybr.mlc_build.errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path

SEEDED = checkpoint.open_seeded()
BYTES = tokenizer.make(SEEDED.vocabulary)

TEXTS = [
    "What is the capital of France?",
    "  two spaces, a tab\t and\n\nnew lines  ",
    "1234567890 12,345.67",
    "don't we'll I'M they've",
    "Grüße, naïve café — 日本語 한국어 🙂👩‍👩‍👧 \u00a0x",
    "def f(x):\n    return x[0] ** 2  # comment",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<repo_name>a/b<file_sep>",
    "",
]


@given(st.text())
def test_byte_vocabulary_round_trip(text: str) -> None:
    """The byte-level vocabulary gives back any text, one id a byte."""
    ids = BYTES.encode(text, add_special_tokens=False).ids
    assert BYTES.decode(ids, skip_special_tokens=False) == text
    assert len(ids) <= len(text.encode())


@given(st.binary(max_size=40))
def test_byte_ids(data: bytes) -> None:
    """Byte b is id 4 + b: the alphabet is GPT-2's, in the order of the bytes."""
    text = data.decode("utf-8", errors="ignore")
    if "<|" not in text:
        assert BYTES.encode(text, add_special_tokens=False).ids == [4 + byte for byte in text.encode()]


def test_specials_are_whole() -> None:
    """ChatML's marks are single ids in a text."""
    ids = BYTES.encode("<|im_start|>a<|im_end|>", add_special_tokens=False).ids
    assert ids == [1, 4 + ord("a"), 2]


def test_alphabet() -> None:
    """256 different printable characters, ASCII letters for themselves, the space as GPT-2 has it."""
    alphabet = checkpoint.byte_alphabet()
    assert len(set(alphabet)) == 256
    assert (alphabet[ord("a")], alphabet[32], alphabet[10]) == ("a", "Ġ", "Ċ")


def test_files(tmp_path: Path) -> None:
    """Both files load; merges are strings, which older readers need; the same vocabulary gives the same bytes."""
    tokenizer.write(SEEDED, tmp_path)
    first = {name: (tmp_path / name).read_bytes() for name in tokenizer.FILES}
    tokenizer.write(SEEDED, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in tokenizer.FILES} == first
    assert Tokenizer.from_file(str(tmp_path / "tokenizer.json")).get_vocab_size() == SEEDED.config.vocab_size
    config = json.loads(first["tokenizer_config.json"])
    assert (config["bos_token"], config["eos_token"]) == ("<|im_start|>", "<|im_end|>")


@pytest.mark.models
def test_smollm_as_built(smollm: Path) -> None:
    """The built tokenizer keeps every text, has the checkpoint's size, and gives digits an id each."""
    found = Tokenizer.from_file(str(smollm / "tokenizer.json"))
    assert found.get_vocab_size() == 49152
    for text in TEXTS:
        assert found.decode(found.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text
    assert len(found.encode("2026", add_special_tokens=False).ids) == 4
    assert all(isinstance(merge, str) for merge in json.loads((smollm / "tokenizer.json").read_text())["model"]["merges"])


@pytest.mark.models
def test_smollm_as_llama_cpp_has_it(smollm: Path) -> None:
    """llama.cpp counts the same prompt tokens for every text, so both split alike."""
    found = Tokenizer.from_file(str(smollm / "tokenizer.json"))
    from llamacpp import LlamaCpp

    llama = LlamaCpp(sources.fetch(catalogue.find("smollm2-135m").id))
    for text in TEXTS:
        if text:
            assert llama.tokens(text) == found.encode(text, add_special_tokens=False).ids


def test_merges_of_another_tokenizer_are_refused() -> None:
    """A merge whose tokens are not in the list is named."""
    with pytest.raises(SourceError, match="it merges 'a' and 'b'"):
        tokenizer.make(dataclasses.replace(SEEDED.vocabulary, merges=["a b"]))


@pytest.mark.parametrize(
    ("pre", "text", "words"),
    [
        (
            "llama-bpe",
            "I've 12345 (cats)  and\n\n x",
            ["I", "'ve", " ", "123", "45", " (", "cats", ")", " ", " and", "\n\n", " x"],
        ),
        ("qwen2", "I've 123 (cats)", ["I", "'ve", " ", "1", "2", "3", " (", "cats", ")"]),
        ("deepseek-r1-qwen", "I've 12", ["I", "'ve", " ", "1", "2"]),
    ],
)
def test_split_patterns(pre: str, text: str, words: list[str]) -> None:
    """Text is split into words as Llama 3 and Qwen split it: contractions, digits by threes or alone, blanks before a word."""
    made = tokenizer.make(dataclasses.replace(SEEDED.vocabulary, words=True, split=pre))
    split = made.pre_tokenizer.pre_tokenize_str(text)
    assert [text[start:end] for _, (start, end) in split] == words


def test_words_as_their_own_tokenizers_have_them() -> None:
    """Llama 3 takes a word that is a token as it is, whatever its merges; Qwen composes accents; others do neither."""
    tokens = [*SEEDED.vocabulary.tokens, "ab"]
    ids = {
        pre: tokenizer.make(dataclasses.replace(SEEDED.vocabulary, tokens=tokens, split=pre)).encode("ab e\u0301").ids
        for pre in ("llama-bpe", "qwen2", "")
    }
    apart = [4 + ord("a"), 4 + ord("b"), 4 + ord(" ")]
    assert ids["llama-bpe"] == [260, 4 + ord(" "), *(4 + byte for byte in "e\u0301".encode())]
    assert ids["qwen2"] == [*apart, *(4 + byte for byte in "\u00e9".encode())]
    assert ids[""] == [*apart, *(4 + byte for byte in "e\u0301".encode())]


def test_a_checkpoints_own_tokenizer_is_kept(tmp_path: Path) -> None:
    """tokenizer.json goes over as it is, merges as strings; how tokens become bytes is read from its decoder."""
    own = json.loads(tokenizer.make(SEEDED.vocabulary).to_str())
    own["model"] |= {"vocab": own["model"]["vocab"] | {"zz": 260}, "merges": [["z", "z"]]}
    vocabulary = dataclasses.replace(SEEDED.vocabulary, ready=own)
    tokenizer.write(dataclasses.replace(SEEDED, vocabulary=vocabulary), tmp_path)
    kept = json.loads((tmp_path / "tokenizer.json").read_text())
    assert kept["model"]["merges"] == ["z z"]
    assert kept["decoder"] == own["decoder"]
    assert tokenizer.kind(vocabulary)["token_postproc_method"] == "byte_level"
    spaced = {
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Strip"}]},
        "normalizer": {"type": "Prepend"},
    }
    assert tokenizer.kind(dataclasses.replace(vocabulary, ready=spaced)) == {
        "token_postproc_method": "byte_fallback", "prepend_space_in_encode": True, "strip_space_in_decode": True,
    }  # fmt: skip
