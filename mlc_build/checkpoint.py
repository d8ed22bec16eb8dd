"""A checkpoint as the compiler wants it: numbers, float tensors in Hugging Face's layout, vocabulary, conversation template.

Here are GGUF files and the seeded `tiny`; `huggingface.py` reads the third kind. llama.cpp's converter interleaves the rows of a
Llama's query and key projections for its own rotary embedding; reading undoes that.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import pieces, tiny
from .blocks import Blocks
from .errors import SourceError
from .model.config import ModelConfig, gemma, sliding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from .catalogue import Entry
    from .quantise import Tensor

F32 = npt.NDArray[np.float32]
CONTROL = 3
"""GGUF's token type for specials."""

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

# GGUF's name of a tensor -> Hugging Face's; `{}` is the layer.
WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
GEMMA = {
    **LAYER,
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
LAYERS = {
    "llama": LAYER,
    "qwen2": LAYER,
    "qwen3": {**LAYER, "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"},
    "phi3": {**LAYER, "attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"},
    "gemma2": GEMMA,
    "gemma3": {**GEMMA, "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"},
}
"""Of each `general.architecture` that can be built. Mistral's GGUF calls itself llama."""

ROPE_TABLES = frozenset({"rope_freqs", "rope_factors_long", "rope_factors_short"})

PATTERNS = {
    "llama-bpe": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "qwen2": (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
}
"""How the tokenizers of Llama 3 and Qwen split text into words, by GGUF's name for it (from their tokenizer.json)."""


@dataclass(frozen=True)
class Vocabulary:
    """A byte-level vocabulary.

    Attributes:
        tokens: text of each id, in the byte-level alphabet but for the specials.
        merges: pairs of tokens joined by a space, the first to be merged first.
        specials: ids that are matched whole in the text and never split.
        digits: each digit is a token of its own (SmolLM's rule), before words are split.
        words: text is first split into words by GPT-2's pattern.
        bos: id of the token that opens a text.
        eos: id of the token that ends an answer.
        pad: id of the token that fills.
        unknown: id of the token for what has none.
        stops: every id that ends an answer, `eos` among them.
        opens: there is a `bos`; whether a text begins with it is for the template to say.
        pattern: what splits text into words instead of GPT-2's pattern.
        ready: the checkpoint's own tokenizer.json, where it brings one, or one made of SentencePiece's pieces.

    """

    tokens: list[str]
    merges: list[str]
    specials: list[int]
    digits: bool
    words: bool
    bos: int
    eos: int
    pad: int
    unknown: int
    stops: tuple[int, ...] = ()
    opens: bool = False
    pattern: str | None = None
    ready: dict[str, Any] | None = None


@dataclass(frozen=True)
class Checkpoint:
    """What a build needs to know of a model.

    Attributes:
        config: the model's numbers, with the catalogue's window.
        vocabulary: its tokens.
        template: its conversation template, in Jinja.
        tensors: by Hugging Face's name, each read when it is wanted.

    """

    config: ModelConfig
    vocabulary: Vocabulary
    template: str
    tensors: Mapping[str, Tensor | F32]


def open_seeded(entry: Entry | None = None) -> Checkpoint:
    """Return `tiny`, with the window of `entry`."""
    words = [*tiny.SPECIALS, *byte_alphabet()]
    specials = list(range(len(tiny.SPECIALS)))
    vocabulary = Vocabulary(words, [], specials, digits=False, words=False, bos=tiny.BOS, eos=tiny.EOS, pad=3, unknown=0)
    config = tiny.CONFIG
    if entry is not None:
        config = dataclasses.replace(config, context_window_size=entry.context, prefill_chunk_size=entry.prefill_chunk)
    return Checkpoint(config, vocabulary, CHATML, tiny.tensors())


def open_gguf(path: Path, entry: Entry) -> Checkpoint:
    """Read a GGUF file's header now and its tensors when they are iterated.

    Raises SourceError for a file that is cut short, is not GGUF, or holds a model that cannot be built; it names the field.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
    except (ValueError, OSError, IndexError) as error:
        raise SourceError(f"{path} is not a whole GGUF file ({error}); remove it and run the command again") from error
    fields = {name: field.contents() for name, field in reader.fields.items()}
    config = _config(fields, reader, entry)
    family = str(fields["general.architecture"])
    tensors = {
        hugging_face_name(tensor.name, family): tensor
        for tensor in reader.tensors
        if tensor.name.removesuffix(".weight") not in ROPE_TABLES
    }
    found = {name: GgufTensor(tensor, _order(name, config)) for name, tensor in tensors.items()}
    return Checkpoint(config, _vocabulary(fields), str(_need(fields, "tokenizer.chat_template")), found)


class GgufTensor:
    """A tensor of a GGUF file, which is mapped into memory and read when asked."""

    def __init__(self, tensor: Any, order: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None) -> None:
        self.tensor = tensor
        self.order = order
        self.shape = tuple(int(n) for n in reversed(tensor.shape))

    def read(self) -> F32:
        """See quantise.Tensor."""
        from gguf.quants import dequantize

        array = np.ascontiguousarray(dequantize(self.tensor.data, self.tensor.tensor_type), dtype=np.float32).reshape(self.shape)
        return array if self.order is None else self.order(array)

    def blocks(self) -> Blocks | None:
        """See quantise.Tensor: Q4_0, Q4_1 and Q8_0 are known."""
        read = KNOWN_BLOCKS.get(self.tensor.tensor_type.name)
        if read is None:
            return None
        found = read(np.ascontiguousarray(self.tensor.data))
        return found if self.order is None else found.rows(self.order)


def _numbers(raw: npt.NDArray[np.uint8], size: int, halves: int) -> tuple[npt.NDArray[np.uint8], list[F32]]:
    """Split rows of blocks into their codes, `(rows, blocks, bytes)`, and the halves before them, each `(rows, blocks)`."""
    blocks = raw.reshape(len(raw), -1, size)
    numbers = np.ascontiguousarray(blocks[:, :, : 2 * halves]).view("<f2").astype(np.float32)
    return blocks[:, :, 2 * halves :], [np.ascontiguousarray(numbers[:, :, i]) for i in range(halves)]


def _nibbles(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """Unpack: the low nibbles are a block's first half, the high ones its second."""
    return np.concatenate([codes & 15, codes >> 4], axis=2).astype(np.int16).reshape(len(codes), -1)


def _q4_0(raw: npt.NDArray[np.uint8]) -> Blocks:
    codes, (scale,) = _numbers(raw, 18, 1)
    return Blocks(4, _nibbles(codes), scale, -8 * scale)


def _q4_1(raw: npt.NDArray[np.uint8]) -> Blocks:
    codes, (scale, least) = _numbers(raw, 20, 2)
    return Blocks(4, _nibbles(codes), scale, least)


def _q8_0(raw: npt.NDArray[np.uint8]) -> Blocks:
    codes, (scale,) = _numbers(raw, 34, 1)
    return Blocks(8, codes.reshape(len(raw), -1).view(np.int8).astype(np.int16), scale, None)


KNOWN_BLOCKS = {"Q4_0": _q4_0, "Q4_1": _q4_1, "Q8_0": _q8_0}
"""GGUF's block types whose groups are ours, with their readers (ggml-common.h's block_q4_0, block_q4_1, block_q8_0)."""


def uninterleave(weight: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """Bring a projection's rows from llama.cpp's order (rotary pairs adjacent) into Hugging Face's (halves of a head)."""
    pairs = weight.reshape(heads, len(weight) // heads // 2, 2, *weight.shape[1:])
    return pairs.swapaxes(1, 2).reshape(weight.shape)


def _order(name: str, config: ModelConfig) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None:
    """Return what brings a tensor's rows into Hugging Face's order, or None where they are: only Llamas are interleaved."""
    if config.family != "llama":
        return None
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    return None if heads is None else lambda rows: uninterleave(rows, heads)


def hugging_face_name(name: str, family: str = "llama") -> str:
    """Translate a GGUF tensor's name. Raises SourceError for one that the family does not have."""
    stem, _, kind = name.rpartition(".")
    if stem in WHOLE:
        return f"{WHOLE[stem]}.{kind}"
    parts = stem.split(".")
    if len(parts) == 3 and parts[0] == "blk" and parts[1].isdigit() and parts[2] in LAYERS[family]:
        return f"model.layers.{parts[1]}.{LAYERS[family][parts[2]]}.{kind}"
    raise SourceError(f"tensor {name} has no place in a {family} model; this checkpoint is of another family")


def byte_alphabet() -> list[str]:
    """Return the printable character that stands for each byte in byte-level vocabularies (GPT-2's table).

    Printable Latin-1 stands for itself; the others take characters from 256 on, in order.
    """
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(spare)) for byte in range(256)]


def window(entry: Entry, longest: int) -> int:
    """Return the window in tokens: the entry's, or where it names none (0) what the checkpoint has, 4096 at most.

    Raises SourceError for one past the checkpoint's.
    """
    if entry.context > longest:
        raise SourceError(f"{entry.id} is to have a context of {entry.context}; the checkpoint has {longest}")
    return entry.context or min(longest, 4096)


def _config(fields: dict[str, Any], reader: Any, entry: Entry) -> ModelConfig:
    family = _need(fields, "general.architecture")
    if family not in LAYERS:
        raise SourceError(f"general.architecture is {family!r}; there can be built {', '.join(LAYERS)}")

    def need(name: str) -> Any:
        return _need(fields, f"{family}.{name}")

    def have(name: str, otherwise: Any) -> Any:
        return fields.get(f"{family}.{name}", otherwise)

    heads, width, layers = int(need("attention.head_count")), int(need("embedding_length")), int(need("block_count"))
    head_dim = int(have("attention.key_length", have("rope.dimension_count", width // heads)))
    if int(have("rope.dimension_count", head_dim)) != head_dim:
        raise SourceError(
            f"{family}.rope.dimension_count is {have('rope.dimension_count', 0)}; only whole heads of {head_dim} can turn"
        )
    if have("rope.scaling.type", "none") not in {"none", "linear", "longrope"}:
        raise SourceError(
            f"{family}.rope.scaling.type is {have('rope.scaling.type', '')!r}; there can be built none, linear and longrope"
        )
    context = window(entry, int(need("context_length")))
    factors, magnitude = _rope(reader, have, head_dim, context)
    sizes = {"width": width, "heads": heads, "head_dim": head_dim, "layers": layers}
    return ModelConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=int(have("attention.head_count_kv", heads)),
        head_dim=head_dim,
        intermediate_size=int(need("feed_forward_length")),
        vocab_size=len(_need(fields, "tokenizer.ggml.tokens")),
        rope_theta=float(have("rope.freq_base", 1e6 if family == "gemma3" else 10000.0)),
        # Stored as float32: 1e-5 comes back as 9.999999747378752e-06, which is the same float32.
        rms_norm_eps=float(need("attention.layer_norm_rms_epsilon")),
        tie_word_embeddings=all(tensor.name != "output.weight" for tensor in reader.tensors),
        context_window_size=context,
        prefill_chunk_size=min(entry.prefill_chunk, context),
        family="gemma3_text" if family == "gemma3" else family,
        qkv_bias=any(tensor.name == "blk.0.attn_q.bias" for tensor in reader.tensors),
        qk_norm=any(tensor.name == "blk.0.attn_q_norm.weight" for tensor in reader.tensors),
        rope_factors=factors,
        rope_magnitude=magnitude,
        **_sliding(family, have, layers, context),
        **(_gemma(have, sizes, second=family == "gemma2") if family in {"gemma2", "gemma3"} else {}),
    )


def _sliding(family: str, have: Callable[[str, Any], Any], layers: int, context: int) -> dict[str, Any]:
    """Return the options of layers that slide; which ones, a GGUF leaves to the reader (llama.cpp's set_swa_pattern)."""
    width = int(have("attention.sliding_window", 0))
    told = have("attention.sliding_window_pattern", {"gemma2": 2, "gemma3": 6}.get(family, 0))
    if isinstance(told, list):  # one by one
        slide = tuple(i for i, yes in enumerate(told) if yes)
    else:
        slide = tuple(i for i in range(layers) if not told or (i + 1) % int(told))
    local = float(have("rope.freq_base_swa", 10000.0)) if family == "gemma3" else 0.0
    return sliding(context, width, slide, local)


def _gemma(have: Callable[[str, Any], Any], c: dict[str, int], *, second: bool) -> dict[str, Any]:
    """Return Gemma's options.

    A GGUF does not tell query_pre_attn_scalar: it is head_dim but in the largest model of each generation (llama.cpp's rule).
    Only the second generation caps scores.
    """
    largest = c["layers"] == (46 if second else 62)
    return gemma(
        c["width"],
        float(c["width"] // c["heads"] if largest else c["head_dim"]),
        float(have("attn_logit_softcapping", 50.0)) if second else 0.0,
        float(have("final_logit_softcapping", 30.0 if second else 0.0)),
    )


def _rope(reader: Any, have: Callable[[str, Any], Any], head_dim: int, context: int) -> tuple[tuple[float, ...], float]:
    """Return the divisors of the rotary frequencies, a table among the tensors or one number, and the factor on what turns."""
    tables = {tensor.name.removesuffix(".weight"): tensor for tensor in reader.tensors}
    original = int(have("rope.scaling.original_context_length", 0)) or int(have("context_length", 0))
    name = "rope_freqs" if "rope_freqs" in tables else "rope_factors_long" if context > original else "rope_factors_short"
    if name in tables:
        return tuple(float(x) for x in tables[name].data), float(have("rope.scaling.attn_factor", 1.0))
    if have("rope.scaling.type", "none") == "linear":
        return (float(have("rope.scaling.factor", 1.0)),) * (head_dim // 2), 1.0
    return (), 1.0


def _vocabulary(fields: dict[str, Any]) -> Vocabulary:
    model, split = _need(fields, "tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre", "default")
    if model not in {"gpt2", "llama"} or (model == "gpt2" and split not in {"smollm", "gpt-2", "default", *PATTERNS}):
        raise SourceError(
            f"tokenizer.ggml.model is {model!r}, split by {split!r}; there can be built llama, and gpt2 split by smollm, gpt-2, "
            f"{' or '.join(PATTERNS)}. Build it from the same model's safetensors, which bring their tokenizer.json"
        )
    eos = int(_need(fields, "tokenizer.ggml.eos_token_id"))
    tokens, kinds = list(_need(fields, "tokenizer.ggml.tokens")), list(_need(fields, "tokenizer.ggml.token_type"))
    ready = None
    if model == "llama":
        prefix = bool(fields.get("tokenizer.ggml.add_space_prefix", True))
        ready = pieces.ready(tokens, _need(fields, "tokenizer.ggml.scores"), kinds, prefix=prefix)
    return Vocabulary(
        tokens=tokens,
        merges=[] if ready else list(_need(fields, "tokenizer.ggml.merges")),
        specials=[i for i, kind in enumerate(kinds) if kind == CONTROL],
        digits=split == "smollm",
        words=True,
        bos=int(fields.get("tokenizer.ggml.bos_token_id", eos)),
        eos=eos,
        pad=int(fields.get("tokenizer.ggml.padding_token_id", eos)),
        unknown=int(fields.get("tokenizer.ggml.unknown_token_id", eos)),
        stops=tuple(dict.fromkeys([eos, int(fields.get("tokenizer.ggml.eot_token_id", eos))])),
        opens="tokenizer.ggml.bos_token_id" in fields,
        pattern=PATTERNS.get(split),
        ready=ready,
    )


def _need(fields: dict[str, Any], name: str) -> Any:
    if name not in fields:
        raise SourceError(f"the checkpoint's field {name} is missing; it is damaged or of another family")
    return fields[name]
