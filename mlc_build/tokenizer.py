"""tokenizer.json and tokenizer_config.json, written from a checkpoint's vocabulary.

A checkpoint that brings its tokenizer.json keeps it. From a GGUF's lists one is made here: byte-level BPE, specials are cut out
first, then (SmolLM) digits stand alone, GPT-2's pattern or the model's own splits into words, bytes become printable characters
and merges join them. Merges are written as strings, the form that every version of the library in the
page reads; the newer pairs are not.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from .checkpoint import PATTERNS
from .errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path

    from .checkpoint import Checkpoint, Vocabulary

FILES = ("tokenizer.json", "tokenizer_config.json")


def make(vocabulary: Vocabulary) -> Tokenizer:
    """Return the tokenizer of a vocabulary. Raises SourceError for a merge of tokens that it does not have."""
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in vocabulary.merges)]
    for left, right in pairs:
        if not {left, right, left + right} <= ids.keys():
            raise SourceError(
                f"the tokenizer does not match: it merges {left!r} and {right!r}, but its tokens lack one of them or their join"
            )
    # Llama 3 takes a word that is a token as it is; Qwen composes letters and their accents first (their tokenizer.json).
    found = Tokenizer(models.BPE(vocab=ids, merges=pairs, ignore_merges=vocabulary.split == "llama-bpe"))
    if vocabulary.split == "qwen2":
        found.normalizer = normalizers.NFC()
    split: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if vocabulary.digits else []
    if vocabulary.split:
        split.append(pre_tokenizers.Split(Regex(PATTERNS[vocabulary.split]), "isolated"))
    found.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *split,
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=vocabulary.words and not vocabulary.split),
        ]
    )
    found.decoder = decoders.ByteLevel()
    found.post_processor = processors.ByteLevel(trim_offsets=True)
    found.add_special_tokens([AddedToken(vocabulary.tokens[i], special=True, normalized=False) for i in vocabulary.specials])
    found.add_tokens([AddedToken(vocabulary.tokens[i], special=False, normalized=False) for i in vocabulary.added])
    return found


def loads(content: dict[str, Any], where: str) -> None:
    """Raise SourceError where a tokenizer.json is none: the page would find out."""
    try:
        Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # the package raises nothing narrower
        raise SourceError(f"{where} is not a whole tokenizer ({error}); fetch it again") from error


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write both files into `folder`."""
    vocabulary = checkpoint.vocabulary
    content = vocabulary.ready or json.loads(make(vocabulary).to_str())
    merges = content["model"]["merges"] if vocabulary.ready else vocabulary.merges
    content["model"]["merges"] = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    text = json.dumps(content, ensure_ascii=False, indent=1)
    (folder / "tokenizer.json").write_text(text + "\n", encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": vocabulary.tokens[vocabulary.bos],
        "eos_token": vocabulary.tokens[vocabulary.eos],
        "pad_token": vocabulary.tokens[vocabulary.pad],
        "unk_token": vocabulary.tokens[vocabulary.unknown],
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": checkpoint.config.context_window_size,
        "chat_template": checkpoint.template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def kind(vocabulary: Vocabulary) -> dict[str, Any]:
    """Return what WebLLM must know to turn tokens back into bytes (`tokenizer_info`), read from the tokenizer's decoder."""
    decoder = json.dumps((vocabulary.ready or {}).get("decoder") or {"type": "ByteLevel"})
    spaced = "ByteFallback" in decoder  # SentencePiece's kind: blanks are marks, unknown bytes are tokens
    prepends = spaced and "Prepend" in json.dumps(vocabulary.ready)
    return {
        "token_postproc_method": "byte_fallback" if spaced else "byte_level",
        "prepend_space_in_encode": prepends,
        "strip_space_in_decode": prepends and "Strip" in decoder,
    }
