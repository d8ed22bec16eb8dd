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
from .errors import SourceError
from .ggml import KNOWN_BLOCKS
from .model.config import DEEPEST, ModelConfig, gemma, sliding
from .told import Told, fetched, readable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from .blocks import Blocks
    from .catalogue import Entry
    from .quantise import Tensor

F32 = npt.NDArray[np.float32]
CONTROL, USER = 3, 4
"""GGUF's token types for specials, and for what is matched whole without being one."""

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

FLOATS = frozenset({"F64", "F32", "F16", "BF16", "I8", "I16", "I32", "I64"})
"""GGUF's types that are no blocks."""

PATTERNS = {
    "llama-bpe": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "qwen2": (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
}
"""How the tokenizers of Llama 3 and Qwen split text into words, by GGUF's name for it (from their tokenizer.json)."""
PATTERNS["deepseek-r1-qwen"] = PATTERNS["qwen2"]  # Qwens that DeepSeek taught; llama.cpp splits alike


@dataclass(frozen=True)
class Vocabulary:
    """A byte-level vocabulary.

    Attributes:
        tokens: text of each id, in the byte-level alphabet but for the specials.
        merges: pairs of tokens joined by a space, the first to be merged first.
        specials: ids that are matched whole in the text and never split.
        added: ids that are matched whole as well, but are no specials (`<think>`).
        digits: each digit is a token of its own (SmolLM's rule), before words are split.
        words: text is first split into words by GPT-2's pattern.
        bos: id of the token that opens a text.
        eos: id of the token that ends an answer.
        pad: id of the token that fills.
        unknown: id of the token for what has none.
        stops: every id that ends an answer, `eos` among them.
        opens: there is a `bos`; whether a text begins with it is for the template to say.
        split: what splits text into words instead of GPT-2's pattern, by its name in PATTERNS.
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
    split: str = ""
    ready: dict[str, Any] | None = None
    added: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Raise SourceError for an id that is no token's."""
        ids = {"bos": self.bos, "eos": self.eos, "pad": self.pad, "unknown": self.unknown}
        ids |= {f"stop {i}": i for i in self.stops} | {f"special {i}": i for i in self.specials}
        for role, at in ids.items():
            if not 0 <= at < len(self.tokens):
                raise SourceError(f"the tokenizer does not match: its {role} token is {at}, and it has {len(self.tokens)} tokens")


@dataclass(frozen=True)
class Checkpoint:
    """What a build needs to know of a model.

    Attributes:
        config: the model's numbers, with the catalogue's window.
        vocabulary: its tokens.
        template: its conversation template, in Jinja.
        tensors: by Hugging Face's name, each read when it is wanted.
        called: what the file calls a tensor of that name, for messages.

    """

    config: ModelConfig
    vocabulary: Vocabulary
    template: str
    tensors: Mapping[str, Tensor | F32]
    called: Callable[[str], str] = str


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
    try:
        reader = open_reader(fetched(path))
    except (ValueError, IndexError, KeyError) as error:
        if "GGMLQuantizationType" in str(error):
            raise SourceError(
                f"{path} has a tensor of a type that is not known here ({error}); take one in Q8_0 or F16"
            ) from error
        if "version" in str(error):
            raise SourceError(f"{path} is a GGUF of another version ({error}); take a newer file of the model") from error
        raise SourceError(f"{path} is not a whole GGUF file ({error}); fetch it again") from error
    if reader.byte_order != "I":
        raise SourceError(f"{path} is of the other byte order (big endian); convert it with gguf-convert-endian")
    with readable(str(path)):
        return _opened(reader, entry)


def open_reader(path: Path) -> Any:
    """Return a GGUFReader that stops at the end of its file; the package's own goes on through all that the header promised."""
    from gguf import GGUFReader

    class Reader(GGUFReader):  # type: ignore[misc]
        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
            if int(offset) + int(count) * np.dtype(dtype).itemsize > len(self.data):
                raise ValueError(f"it ends at {len(self.data)} bytes, before what its header promises")
            return super()._get(offset, dtype, count, override_order)

    return Reader(path)


def _opened(reader: Any, entry: Entry) -> Checkpoint:
    told = Told({name: field.contents() for name, field in reader.fields.items()}, "the checkpoint")
    if (parts := told.whole("split.count", 1, least=0)) > 1:
        raise SourceError(f"split.count is {parts}: this is one part of several; join them with llama-gguf-split --merge")
    if (kind := told.get("general.type", "model")) != "model":
        raise SourceError(
            f"general.type is {kind!r}: that goes with a model and is none; give the model's own file "
            "(an adapter is merged into it first, with llama-export-lora)"
        )
    config = _config(told, reader, entry)
    family = str(told.need("general.architecture"))
    tensors = {
        hugging_face_name(tensor.name, family): tensor
        for tensor in reader.tensors
        if tensor.name.removesuffix(".weight") not in ROPE_TABLES
    }
    found = {name: GgufTensor(tensor, _order(name, config)) for name, tensor in tensors.items()}
    vocabulary, table = _vocabulary(told), found.get("model.embed_tokens.weight")
    if table is not None and table.shape[0] != len(vocabulary.tokens):
        raise SourceError(
            f"the tokenizer does not match: tokenizer.ggml.tokens has {len(vocabulary.tokens)}, and token_embd.weight "
            f"{table.shape[0]} rows; they are of two models"
        )
    if (said := told.get("tokenizer.chat_template")) is None:
        raise SourceError(
            "tokenizer.chat_template is missing in the checkpoint: it is no chat model; take its instruct or chat version"
        )
    return Checkpoint(config, vocabulary, str(said), found, lambda name: gguf_name(name, family))


class GgufTensor:
    """A tensor of a GGUF file, which is mapped into memory and read when asked; `order` brings its rows into another order."""

    def __init__(self, tensor: Any, order: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None = None) -> None:
        self.tensor = tensor
        self.packed = "" if tensor.tensor_type.name in FLOATS else str(tensor.tensor_type.name)
        rows = np.arange(int(tensor.shape[-1]))
        self.rows = rows if order is None else order(rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """See quantise.Tensor."""
        return (len(self.rows), *(int(n) for n in reversed(self.tensor.shape[:-1])))

    def part(self, rows: slice) -> GgufTensor:
        """See quantise.Tensor."""
        part = GgufTensor(self.tensor)
        part.rows = self.rows[rows]
        return part

    def read(self) -> F32:
        """See quantise.Tensor."""
        from gguf.quants import dequantize

        try:
            floats = dequantize(self.tensor.data[self.rows], self.tensor.tensor_type)
        except NotImplementedError as error:
            kind = self.tensor.tensor_type.name
            raise SourceError(
                f"tensor {self.tensor.name} is in {kind}, which cannot be read here; take one in Q8_0 or F16"
            ) from error
        return np.ascontiguousarray(floats, dtype=np.float32).reshape(self.shape)

    def blocks(self) -> Blocks | None:
        """See quantise.Tensor: Q4_0, Q4_1 and Q8_0 are known."""
        read = KNOWN_BLOCKS.get(self.tensor.tensor_type.name)
        return None if read is None else read(self.tensor.data[self.rows])


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


def gguf_name(name: str, family: str) -> str:
    """Translate a name back: a person with a GGUF looks for what that calls a tensor."""
    stem, _, kind = name.rpartition(".")
    whole, layer = ({theirs: ours for ours, theirs in names.items()} for names in (WHOLE, LAYERS[family]))
    if stem in whole:
        return f"{whole[stem]}.{kind}"
    number, _, part = stem.removeprefix("model.layers.").partition(".")
    return f"blk.{number}.{layer.get(part, part)}.{kind}"


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
        raise SourceError(
            f"{entry.id} is to have a context of {entry.context}; the checkpoint has {longest}: give --context {longest} or less"
        )
    return entry.context or min(longest, 4096)


def _config(whole: Told, reader: Any, entry: Entry) -> ModelConfig:
    family = whole.need("general.architecture")
    if family not in LAYERS:
        other = "; an embedding model is built from its safetensors" if "bert" in str(family) else ""
        raise SourceError(f"general.architecture is {family!r}; there can be built {', '.join(LAYERS)}{other}")
    told = whole.under(f"{family}.")
    if told.whole("expert_count", 0, least=0):
        raise SourceError(f"{family}.expert_count is {told.get('expert_count')}; a mixture of experts cannot be built")
    heads, width = told.whole("attention.head_count"), told.whole("embedding_length")
    layers = told.whole("block_count", most=DEEPEST)
    head_dim = told.whole("attention.key_length", max(width // heads, 1))
    for name, what in {"rope.dimension_count": "turn", "attention.value_length": "be values"}.items():
        if told.whole(name, head_dim) != head_dim:
            raise SourceError(f"{family}.{name} is {told.get(name)}; only whole heads of {head_dim} can {what}")
    kind = told.get("rope.scaling.type", "linear")
    if kind not in {"none", "linear", "longrope"}:
        raise SourceError(f"{family}.rope.scaling.type is {kind!r}; there can be built none, linear and longrope")
    context = window(entry, told.whole("context_length"))
    factors, magnitude = _rope(reader, told, head_dim, context)
    sizes = {"width": width, "heads": heads, "head_dim": head_dim, "layers": layers}
    return ModelConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=told.whole("attention.head_count_kv", heads),
        head_dim=head_dim,
        intermediate_size=told.whole("feed_forward_length"),
        vocab_size=len(whole.need("tokenizer.ggml.tokens")),
        rope_theta=told.real("rope.freq_base", 1e6 if family == "gemma3" else 10000.0),
        # Stored as float32: 1e-5 comes back as 9.999999747378752e-06, which is the same float32.
        rms_norm_eps=told.real("attention.layer_norm_rms_epsilon", zero=True),
        tie_word_embeddings=all(tensor.name != "output.weight" for tensor in reader.tensors),
        context_window_size=context,
        prefill_chunk_size=min(entry.prefill_chunk, context),
        family="gemma3_text" if family == "gemma3" else family,
        qkv_bias=any(tensor.name == "blk.0.attn_q.bias" for tensor in reader.tensors),
        qk_norm=any(tensor.name == "blk.0.attn_q_norm.weight" for tensor in reader.tensors),
        rope_factors=factors,
        rope_magnitude=magnitude,
        **_sliding(family, told, layers, context),
        **(_gemma(told, sizes, second=family == "gemma2") if family in {"gemma2", "gemma3"} else {}),
    )


def _sliding(family: str, told: Told, layers: int, context: int) -> dict[str, Any]:
    """Return the options of layers that slide; which ones, a GGUF leaves to the reader (llama.cpp's set_swa_pattern)."""
    usual = 4096 if family == "gemma2" else 0  # the first converters of Gemma 2 did not write it
    width, name = told.whole("attention.sliding_window", usual, least=0), "attention.sliding_window_pattern"
    if isinstance(listed := told.get(name), list):  # one by one
        slide = tuple(i for i, yes in enumerate(listed[:layers]) if yes)
    else:
        every = told.whole(name, {"gemma2": 2, "gemma3": 6}.get(family, 0), least=0)
        slide = tuple(i for i in range(layers) if not every or (i + 1) % every)
    local = told.real("rope.freq_base_swa", 10000.0) if family == "gemma3" else 0.0
    return sliding(context, width, slide, local)


def _gemma(told: Told, c: dict[str, int], *, second: bool) -> dict[str, Any]:
    """Return Gemma's options.

    A GGUF does not tell query_pre_attn_scalar: it is head_dim but in the largest model of each generation (llama.cpp's rule).
    Only the second generation caps scores.
    """
    largest = c["layers"] == (46 if second else 62)
    return gemma(
        c["width"],
        float(c["width"] // c["heads"] if largest else c["head_dim"]),
        told.real("attn_logit_softcapping", 50.0, zero=True) if second else 0.0,
        told.real("final_logit_softcapping", 30.0 if second else 0.0, zero=True),
    )


def _rope(reader: Any, told: Told, head_dim: int, context: int) -> tuple[tuple[float, ...], float]:
    """Return the divisors of the rotary frequencies, a table among the tensors or one number, and the factor on what turns."""
    tables = {tensor.name.removesuffix(".weight"): tensor for tensor in reader.tensors}
    original = told.whole("rope.scaling.original_context_length", 0, least=0) or told.whole("context_length")
    name = "rope_freqs" if "rope_freqs" in tables else "rope_factors_long" if context > original else "rope_factors_short"
    if name in tables:
        table = Told({name: [float(x) for x in tables[name].data]}, "the checkpoint")
        return table.reals(name, head_dim // 2), told.real("rope.scaling.attn_factor", 1.0)
    factor = told.real("rope.scaling.factor", told.real("rope.scale_linear", 1.0))  # the latter in files of before September 2023
    if told.get("rope.scaling.type", "linear") == "linear" and factor != 1:
        return (factor,) * (head_dim // 2), 1.0
    return (), 1.0


def _vocabulary(told: Told) -> Vocabulary:
    ggml = told.under("tokenizer.ggml.")
    # Files of before May 2024 do not say how text is split into words, and `default` is llama.cpp's word for not knowing.
    model, split = ggml.need("model"), ggml.get("pre", "default")
    if model not in {"gpt2", "llama"} or (model == "gpt2" and split not in {"smollm", "gpt-2", *PATTERNS}):
        raise SourceError(
            f"tokenizer.ggml.model is {model!r}, split by {split!r}; there can be built llama, and gpt2 split by smollm, gpt-2, "
            f"{' or '.join(PATTERNS)}. Build it from the same model's safetensors, which bring their tokenizer.json"
        )
    eos = ggml.whole("eos_token_id", least=0)
    tokens, kinds = list(ggml.need("tokens")), list(ggml.need("token_type"))
    merges = [] if model == "llama" else list(ggml.need("merges"))
    for name, listed, kind in (("tokens", tokens, str), ("merges", merges, str), ("token_type", kinds, int)):
        if wrong := next((one for one in listed if not isinstance(one, kind)), None):
            raise SourceError(
                f"the tokenizer does not match: tokenizer.ggml.{name} has {wrong!r}; the file is damaged, fetch it again"
            )
    ready = None
    if model == "llama":
        ready = pieces.ready(tokens, ggml.need("scores"), kinds, prefix=bool(ggml.get("add_space_prefix", True)))
    elif len(kinds) != len(tokens) or len(set(tokens)) != len(tokens):
        raise SourceError(
            f"the tokenizer does not match: tokenizer.ggml has {len(tokens)} tokens, {len(set(tokens))} of them different, "
            f"and {len(kinds)} types"
        )
    return Vocabulary(
        tokens=tokens,
        merges=merges,
        specials=[i for i, kind in enumerate(kinds) if kind == CONTROL],
        digits=split == "smollm",
        words=True,
        bos=ggml.whole("bos_token_id", eos, least=0),
        eos=eos,
        pad=ggml.whole("padding_token_id", eos, least=0),
        unknown=ggml.whole("unknown_token_id", eos, least=0),
        stops=tuple(dict.fromkeys([eos, ggml.whole("eot_token_id", eos, least=0)])),
        opens=ggml.get("bos_token_id") is not None,
        split=split if split in PATTERNS else "",
        ready=ready,
        added=tuple(i for i, kind in enumerate(kinds) if kind == USER),
    )
