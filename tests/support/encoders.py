"""A small seeded encoder in the layout of sentence-transformers: BERT's shapes, a vocabulary of letters, any pooling."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from families import write_safetensors
from tokenizers import Tokenizer

from hybr.mlc_build.encoder.config import EncoderConfig
from hybr.mlc_build.encoder.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

F32 = npt.NDArray[np.float32]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIALS, *LETTERS, *(f"##{letter}" for letter in LETTERS), ".", "sea", "ship", "##s", "light"]
NUMBERS: dict[str, Any] = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "vocab_size": 64,
    "max_position_embeddings": 40,
    "layer_norm_eps": 1e-12,
}


def tensors(seed: int = 5) -> dict[str, F32]:
    """Return the tensors by their names in a checkpoint."""
    source = np.random.Generator(np.random.PCG64(seed))
    h, f = NUMBERS["hidden_size"], NUMBERS["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (NUMBERS["vocab_size"], h),
        "embeddings.position_embeddings.weight": (NUMBERS["max_position_embeddings"], h),
        "embeddings.token_type_embeddings.weight": (2, h),
        "embeddings.LayerNorm.weight": (h,),
        "embeddings.LayerNorm.bias": (h,),
    }
    for i in range(NUMBERS["num_hidden_layers"]):
        p = f"encoder.layer.{i}"
        modules = {f"attention.self.{one}": (h, h) for one in ("query", "key", "value")}
        modules |= {"attention.output.dense": (h, h), "intermediate.dense": (f, h), "output.dense": (h, f)}
        for module, shape in modules.items():
            shapes |= {f"{p}.{module}.weight": shape, f"{p}.{module}.bias": shape[:1]}
        for module in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{p}.{module}.weight": (h,), f"{p}.{module}.bias": (h,)}
    made = {}
    for name, shape in shapes.items():
        values = source.standard_normal(shape) / (np.sqrt(shape[-1]) if len(shape) > 1 else 4)
        made[name] = (values + 1 if name.endswith("LayerNorm.weight") else values).astype(np.float32)
    return made | {"pooler.dense.weight": np.zeros((h, h), np.float32), "pooler.dense.bias": np.zeros(h, np.float32)}


def write(
    folder: Path, held: dict[str, F32] | None = None, *, pooling: str = "mean_tokens", normalise: bool = True, **numbers: Any
) -> Path:
    """Write a checkpoint into `folder`; `numbers` go over config.json's."""
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", tensors() if held is None else held)
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalise else [])]
    texts = {
        "config.json": NUMBERS | numbers,
        "modules.json": [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds],
        "1_Pooling/config.json": {f"pooling_mode_{pooling}": True, "pooling_mode_max_tokens": False},
        "sentence_bert_config.json": {"max_seq_length": 32},
        "tokenizer_config.json": {"cls_token": "[CLS]", "sep_token": "[SEP]"},
        "tokenizer.json": _tokenizer(),
    }
    for name, content in texts.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def numpys(folder: Path) -> Callable[[str], F32]:
    """Return what makes a text's vector in numpy, of a built model's own files."""
    told = json.loads((folder / "mlc-chat-config.json").read_text())["model_config"]
    reference = Reference.open(folder, EncoderConfig(**told))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return lambda text: reference.vector(tokenizer.encode(text, add_special_tokens=False).ids)


def vectors(folder: Path, *texts: str) -> F32:
    """Return texts' vectors from numpy."""
    return np.stack([*map(numpys(folder), texts)])


def _tokenizer() -> dict[str, Any]:
    from tokenizers import AddedToken, models, normalizers, pre_tokenizers

    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in SPECIALS])
    made.enable_padding(length=16)
    made.enable_truncation(20)
    found: dict[str, Any] = json.loads(made.to_str())
    return found
