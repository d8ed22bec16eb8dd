"""tokenizer.json and tokenizer_config.json, written from a checkpoint's vocabulary.

Byte-level BPE: specials are cut out first, then (SmolLM) digits stand alone, GPT-2's pattern splits into words, bytes become
printable characters and merges join them. Merges are written as strings, the form that every version of the library in the
page reads; the newer pairs are not.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

if TYPE_CHECKING:
    from pathlib import Path

    from .checkpoint import Checkpoint, Vocabulary

FILES = ("tokenizer.json", "tokenizer_config.json")


def make(vocabulary: Vocabulary) -> Tokenizer:
    """Return the tokenizer of a vocabulary."""
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in vocabulary.merges)]
    found = Tokenizer(models.BPE(vocab=ids, merges=pairs))
    split: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if vocabulary.digits else []
    found.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *split,
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=vocabulary.words),
        ]
    )
    found.decoder = decoders.ByteLevel()
    found.post_processor = processors.ByteLevel(trim_offsets=True)
    found.add_special_tokens([AddedToken(vocabulary.tokens[i], special=True, normalized=False) for i in vocabulary.specials])
    return found


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write both files into `folder`."""
    vocabulary = checkpoint.vocabulary
    content = json.loads(make(vocabulary).to_str())
    content["model"]["merges"] = vocabulary.merges
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
