"""An encoder's numbers, read from a folder in the layout of Hugging Face and sentence-transformers.

config.json                 the encoder
modules.json                what follows it: pooling, and a normalisation or none
1_Pooling/config.json       the mean over the tokens, or the first token's vector
sentence_bert_config.json   most tokens of a text; a longer one is cut
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from hybr.mlc_build.errors import SourceError
from hybr.mlc_build.model.config import DEEPEST, GROUP
from hybr.mlc_build.told import Told, readable

if TYPE_CHECKING:
    from pathlib import Path

    from hybr.mlc_build.blocks import Encoding

FAMILY = "bert"
BATCH = 4
"""Texts of one call: WebLLM pads them to the longest, so more would mostly compute padding."""
WINDOW = 512
FORMS: dict[str, Encoding] = {"q8f32_1": "q8", "q0f32": "float"}
"""The quantisations: eight bits is what vectors bear without other neighbours; four change the order of near ones."""
Pooling = Literal["mean", "cls"]
POOLINGS: dict[str, Pooling] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


@dataclass(frozen=True)
class EncoderConfig:
    """The numbers of one encoder.

    Attributes:
        hidden_size: width.
        num_hidden_layers: transformer blocks.
        num_attention_heads: heads, each of hidden_size / num_attention_heads.
        intermediate_size: width of the feed-forward layer.
        vocab_size: rows of the table of tokens.
        positions: rows of the table of positions.
        layer_norm_eps: added to the variance before the root.
        pooling: how a text's vector is made of its tokens'.
        normalise: the vector is brought to length 1.
        first: id of the token that opens a text ([CLS]).
        last: id of the token that ends it ([SEP]).
        context_window_size: most tokens of a text, these two among them.

    """

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    positions: int
    layer_norm_eps: float
    pooling: Pooling
    normalise: bool
    first: int
    last: int
    context_window_size: int

    family = FAMILY

    def __post_init__(self) -> None:
        for field in ("hidden_size", "intermediate_size"):
            if getattr(self, field) % GROUP:
                raise SourceError(f"{field} is {getattr(self, field)}; it must be a multiple of {GROUP}, the quantisation group")
        if self.hidden_size % self.num_attention_heads or self.head_dim % 4:
            raise SourceError(
                f"num_attention_heads is {self.num_attention_heads}; "
                f"it must divide hidden_size ({self.hidden_size}) into multiples of 4"
            )
        if not 3 <= self.context_window_size <= self.positions:
            raise SourceError(f"a text may have {self.context_window_size} tokens; the encoder has {self.positions} positions")

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def prefill_chunk_size(self) -> int:
        """Most tokens that one text of a call has; WebLLM wants it equal to the window."""
        return self.context_window_size

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as `model_config` of mlc-chat-config.json."""
        return asdict(self)


def read_json(file: Path, otherwise: Any = None) -> Any:
    """Return what a JSON file of the checkpoint says, of `otherwise`'s type (an object where that is None).

    Without the file it is `otherwise`, or where that is None SourceError.
    """
    if otherwise is not None and not file.is_file():
        return otherwise
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(
            f"{file} cannot be read ({error}); an encoder in Hugging Face's layout has it, fetch it again"
        ) from error
    if not isinstance(found, dict if otherwise is None else type(otherwise)):
        raise SourceError(f"{file} is not what an encoder in Hugging Face's layout has; fetch it again")
    return found


def is_encoder(folder: Path) -> bool:
    """Say whether a folder holds an encoder that can be built."""
    return (folder / "config.json").is_file() and read_json(folder / "config.json").get("model_type") == FAMILY


def read(folder: Path, context: int) -> EncoderConfig:
    """Return the numbers of a folder's encoder, with a window of `context` tokens (0: the checkpoint's). Raises SourceError."""
    told = Told(read_json(folder / "config.json"), "config.json")
    for field, wanted in {"hidden_act": "gelu", "position_embedding_type": "absolute"}.items():
        if told.get(field, wanted) != wanted:
            raise SourceError(f"{field} in config.json is {told.get(field)!r}; only {wanted} can be built")
    places, size = told.whole("max_position_embeddings"), told.whole("vocab_size")
    tokens = _tokens(folder, size)
    beside = Told(read_json(folder / "sentence_bert_config.json", {}), "sentence_bert_config.json")
    longest = beside.whole("max_seq_length", places)
    if context > longest:
        raise SourceError(f"--context is {context}; the encoder's texts have {longest} tokens at most")
    return EncoderConfig(
        hidden_size=told.whole("hidden_size"),
        num_hidden_layers=told.whole("num_hidden_layers", most=DEEPEST),
        num_attention_heads=told.whole("num_attention_heads"),
        intermediate_size=told.whole("intermediate_size"),
        vocab_size=size,
        positions=places,
        layer_norm_eps=told.real("layer_norm_eps", 1e-12),
        pooling=_pooling(folder),
        normalise=any(kind.endswith("Normalize") for kind in _modules(folder)),
        first=tokens["cls_token"],
        last=tokens["sep_token"],
        context_window_size=context or min(longest, WINDOW),
    )


def _modules(folder: Path) -> list[str]:
    """Return what makes a vector of a text, by kind; an encoder on its own gives the mean, as sentence-transformers has it."""
    found: list[dict[str, Any]] = read_json(folder / "modules.json", [])
    with readable(str(folder / "modules.json")):
        kinds = [str(module["type"]) for module in found]
    for kind in kinds:
        if kind.rpartition(".")[2] not in {"Transformer", "Pooling", "Normalize"}:
            raise SourceError(f"modules.json has a {kind}; there can be built Transformer, Pooling and Normalize")
    return kinds


def _pooling(folder: Path) -> Pooling:
    told = read_json(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    chosen = [field for field, on in told.items() if field.startswith("pooling_mode_") and on]
    if len(chosen) != 1 or chosen[0] not in POOLINGS:
        raise SourceError(
            f"1_Pooling/config.json asks for {' and '.join(chosen) or 'nothing'}; choose one of {', '.join(POOLINGS)}"
        )
    return POOLINGS[chosen[0]]


def _tokens(folder: Path, size: int) -> dict[str, int]:
    """Return the ids of the tokens that open and end a text; `size` is the number of rows in the table of tokens."""
    ready, words = read_json(folder / "tokenizer.json"), read_json(folder / "tokenizer_config.json", {})
    if ready.get("model", {}).get("type") != "WordPiece":
        raise SourceError(f"{folder / 'tokenizer.json'} is not a WordPiece tokenizer; no other kind of encoder can be built")
    with readable(str(folder / "tokenizer.json")):
        vocab, largest = ready["model"]["vocab"], max(ready["model"]["vocab"].values())
    if largest >= size:
        raise SourceError(
            f"tokenizer.json has a token {largest}, but vocab_size in config.json is {size}: they are of two models"
        )
    found = {}
    for field, usual in {"cls_token": "[CLS]", "sep_token": "[SEP]"}.items():
        token = words.get(field, usual)
        text = token["content"] if isinstance(token, dict) else token
        if text not in vocab:
            raise SourceError(f"{field} is {text!r}, which tokenizer.json does not have")
        found[field] = int(vocab[text])
    return found
