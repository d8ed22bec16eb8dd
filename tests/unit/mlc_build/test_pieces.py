"""Tokenizers made of a GGUF's pieces against SentencePiece itself: a model trained here, every kind of text, both ways."""

from __future__ import annotations

import io
import json
import random
from typing import TYPE_CHECKING, Any

import pytest
import sentencepiece
from gguf import GGUFWriter
from hypothesis import given
from hypothesis import strategies as st
from prose import TEXT
from tokenizers import Tokenizer

from hybr.mlc_build import checkpoint, pieces, tokenizer
from hybr.mlc_build.errors import SourceError
from hybr.mlc_build.told import Told

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = [
    "Hello world",
    "  two  blanks, a tab\t and\n\nlines  ",
    "Grüße, naïve café — 日本語 한국어 🙂👩‍👩‍👧 \u00a0x",
    "1234567890 12.5%",
    "the lighthouse's keeper",
    "aaaaaaa" + " " * 7,
    " ",
    "",
    "\u2581 the mark itself\u2581",
    "def f(x):\n    return x[0] ** 2  # comment",
]


def train(*, prefix: bool) -> Any:
    """Train a byte-pair model with byte fallback on our prose."""
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines()),
        model_writer=made,
        model_type="bpe",
        vocab_size=700,
        byte_fallback=True,
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        split_digits=True,
        user_defined_symbols=["<turn>"],
        control_symbols=["<ctl>"],
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())


def listed(real: Any) -> tuple[list[str], list[float], list[int]]:
    """Return the lists that a GGUF has of a model: tokens, scores and types."""
    kinds = {real.is_unknown: pieces.UNKNOWN, real.is_control: pieces.CONTROL, real.is_byte: pieces.BYTE}

    def kind(i: int) -> int:
        usual = pieces.USER if real.id_to_piece(i) == "<turn>" else pieces.NORMAL
        return next((number for ask, number in kinds.items() if ask(i)), usual)

    ids = range(real.vocab_size())
    return [real.id_to_piece(i) for i in ids], [real.get_score(i) for i in ids], [kind(i) for i in ids]


@pytest.fixture(scope="module", params=[True, False], ids=["with a blank before", "without"])
def pair(request: pytest.FixtureRequest) -> tuple[Any, Tokenizer]:
    """SentencePiece's tokenizer and ours."""
    real = train(prefix=request.param)
    return real, Tokenizer.from_str(json.dumps(pieces.ready(*listed(real), prefix=request.param)))


def same(pair: tuple[Any, Tokenizer], text: str) -> None:
    """Assert that both give the same tokens, and the same text of them."""
    real, ours = pair
    ids = ours.encode(text, add_special_tokens=False).ids
    assert ids == real.encode(text), text
    assert ours.decode(ids, skip_special_tokens=False) == real.decode(ids)


@pytest.mark.parametrize("text", TEXTS)
def test_texts(pair: tuple[Any, Tokenizer], text: str) -> None:
    """Blanks, scripts, emoji, code, marks and nothing at all."""
    same(pair, text)


def test_parts_of_prose(pair: tuple[Any, Tokenizer]) -> None:
    """A thousand stretches of the text that the pieces were learnt from, cut anywhere."""
    source = random.Random(3)  # noqa: S311 - nothing secret
    for start in (source.randrange(len(TEXT)) for _ in range(1000)):
        same(pair, TEXT[start : start + source.randrange(1, 80)])


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60))
def test_any_text(pair: tuple[Any, Tokenizer], text: str) -> None:
    """Whatever can be written; what has no piece falls back to its bytes."""
    same(pair, text)


def test_marks_are_whole(pair: tuple[Any, Tokenizer]) -> None:
    """A mark is one token wherever it stands, and a text begins anew behind it, as llama.cpp has it."""
    real, ours = pair
    assert ours.encode("<turn>user\nHi<turn>", add_special_tokens=False).ids == [4, *real.encode("user\nHi"), 4]


def write(path: Path, real: Any, **changed: Any) -> dict[str, Any]:
    """Write a GGUF's tokenizer and return its fields as the compiler reads them."""
    from gguf import GGUFReader

    tokens, scores, kinds = listed(real)
    writer = GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(changed.get("scores", scores))
    writer.add_token_types(changed.get("kinds", kinds))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return {name: field.contents() for name, field in GGUFReader(path).fields.items()}


def test_out_of_a_gguf(tmp_path: Path) -> None:
    """What a GGUF's fields become: ids of its own for the marks, and what WebLLM must know to make text of tokens."""
    real = train(prefix=True)
    found = checkpoint._vocabulary(Told(write(tmp_path / "x.gguf", real), "a GGUF"))
    assert (found.bos, found.eos, found.unknown, found.opens) == (1, 2, 0, True)
    assert tokenizer.kind(found) == {
        "token_postproc_method": "byte_fallback",
        "prepend_space_in_encode": True,
        "strip_space_in_decode": True,
    }
    config = checkpoint.open_seeded().config
    tokenizer.write(checkpoint.Checkpoint(config, found, checkpoint.CHATML, {}), tmp_path)
    ours = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert all(isinstance(merge, str) for merge in json.loads((tmp_path / "tokenizer.json").read_text())["model"]["merges"])
    for text in TEXTS:
        same((real, ours), text)
    assert ours.encode("<s>hi</s>", add_special_tokens=False).ids == [1, *real.encode("hi"), 2]


def test_lists_that_do_not_fit(tmp_path: Path) -> None:
    """A list that is short, and a vocabulary without an unknown token, are refused."""
    real = train(prefix=True)
    tokens, scores, kinds = listed(real)
    with pytest.raises(SourceError, match="700 tokens, 699 scores and 700 types"):
        checkpoint._vocabulary(Told(write(tmp_path / "x.gguf", real, scores=scores[1:]), "a GGUF"))
    with pytest.raises(SourceError, match="the unknown token"):
        pieces.ready(tokens, scores, [1] * len(kinds), prefix=True)
