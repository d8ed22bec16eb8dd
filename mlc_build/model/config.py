"""The numbers of a Llama-shaped checkpoint, what its family does otherwise, and the shapes that follow.

Light on purpose (nothing but stdlib): the catalogue and the pipeline read it without the compiler. Every rule that a kernel or
the quantiser relies on is checked here, once, so that a bad checkpoint fails with the name of the field and not inside
generated code.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from hybr.mlc_build.errors import SourceError

GROUP = 32
"""Weights that share one scale in the 4-bit formats, along the input dimension."""

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma2", "gemma3_text")
"""Families that can be built, as Hugging Face's `model_type`. One graph serves them; their differences are options."""

ACTIVATIONS = ("silu", "gelu")

DEEPEST = 1000
"""Layers that a checkpoint may ask for: past any model's, and few enough to be listed by name."""

PAGE = 16
"""Tokens in a page of the KV cache; WebLLM asks for this number, and the attention kernels are built for it."""


class ConfigError(SourceError):
    """A model's numbers do not fit together; the message names the field and what would be right."""


@dataclass(frozen=True)
class ModelConfig:
    """Architecture and window of one model.

    Attributes:
        hidden_size: width of the residual stream.
        num_hidden_layers: transformer blocks.
        num_attention_heads: query heads.
        num_key_value_heads: key/value heads; divides the query heads.
        head_dim: width of one head, even.
        intermediate_size: width of the gated feed-forward layer.
        vocab_size: rows of the embedding.
        rope_theta: base of the rotary embedding.
        rms_norm_eps: added to the mean square before the root.
        tie_word_embeddings: the head is the embedding.
        context_window_size: tokens the KV cache holds.
        prefill_chunk_size: most tokens of one prefill call.
        family: `model_type` of the checkpoint, one of FAMILIES.
        qkv_bias: queries, keys and values have biases (Qwen2).
        qk_norm: each head's query and key are normalised before the rotation (Qwen3).
        rope_factors: what each rotary frequency is divided by, one a pair of a head; none for 1 (Llama 3, Phi-3's longrope).
        rope_magnitude: what rotated queries and keys are multiplied by (longrope).
        activation: of the gated layer, `silu` or `gelu` (the tanh approximation, Gemma).
        embedding_scale: what embedded tokens are multiplied by (Gemma: the root of the width).
        sandwich_norms: each half of a block is normalised after it too, before it joins the residual (Gemma).
        query_scalar: instead of head_dim, what the attention's scale is the inverse root of (Gemma); 0 for none.
        attention_cap: scores are kept within this by a tanh (Gemma 2); 0 for not.
        logit_cap: the same for logits.
        sliding_window: keys that a sliding layer's query sees, its own among them.
        sliding_layers: numbers of the layers that slide (all of Mistral's, every second of Gemma 2's).
        local_rope_theta: base of the rotary embedding in sliding layers, which take no factors (Gemma 3); 0 for the same.

    """

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True
    context_window_size: int = 2048
    prefill_chunk_size: int = 256
    family: str = "llama"
    qkv_bias: bool = False
    qk_norm: bool = False
    rope_factors: tuple[float, ...] = ()
    rope_magnitude: float = 1.0
    activation: str = "silu"
    embedding_scale: float = 1.0
    sandwich_norms: bool = False
    query_scalar: float = 0.0
    attention_cap: float = 0.0
    logit_cap: float = 0.0
    sliding_window: int = 0
    sliding_layers: tuple[int, ...] = ()
    local_rope_theta: float = 0.0

    def __post_init__(self) -> None:
        for field in ("hidden_size", "intermediate_size"):
            if getattr(self, field) % GROUP:
                raise ConfigError(f"{field} is {getattr(self, field)}; it must be a multiple of {GROUP}, the quantisation group")
        if self.attention_size % GROUP:
            raise ConfigError(f"num_attention_heads * head_dim is {self.attention_size}; it must be a multiple of {GROUP}")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"num_key_value_heads is {self.num_key_value_heads}; it must divide "
                f"num_attention_heads ({self.num_attention_heads})"
            )
        if self.head_dim % 4:
            raise ConfigError(f"head_dim is {self.head_dim}; it must be a multiple of 4")
        if self.rope_factors and len(self.rope_factors) != self.head_dim // 2:
            raise ConfigError(
                f"rope_factors has {len(self.rope_factors)} numbers; head_dim {self.head_dim} needs half as many as that"
            )
        if self.activation not in ACTIVATIONS:
            raise ConfigError(f"activation is {self.activation!r}; there can be built {' and '.join(ACTIVATIONS)}")
        if self.sliding_layers and self.sliding_window < 1:
            raise ConfigError(
                f"sliding_window is {self.sliding_window}, but {len(self.sliding_layers)} layers slide; it must be 1 at least"
            )
        for field in ("num_hidden_layers", "vocab_size", "context_window_size", "prefill_chunk_size"):
            if getattr(self, field) < 1:
                raise ConfigError(f"{field} is {getattr(self, field)}; it must be at least 1")

    @property
    def attention_size(self) -> int:
        """Width of all query heads together."""
        return self.num_attention_heads * self.head_dim

    @property
    def key_value_size(self) -> int:
        """Width of all key heads together."""
        return self.num_key_value_heads * self.head_dim

    @property
    def qkv_size(self) -> int:
        """Rows of the fused query/key/value projection."""
        return self.attention_size + 2 * self.key_value_size

    @property
    def attention_scale(self) -> float:
        """What a query's product with a key is multiplied by."""
        return float((self.query_scalar or self.head_dim) ** -0.5 * self.rope_magnitude**2)

    def slides(self, layer: int) -> bool:
        """Whether a layer's queries see no further than the sliding window."""
        return layer in self.sliding_layers

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as WebLLM's `model_config` spells them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Read the fields back, ignoring what is not ours."""
        names = {field.name for field in fields(cls)}
        found = {name: value for name, value in values.items() if name in names}
        lists = {name: tuple(found.get(name, ())) for name in ("rope_factors", "sliding_layers")}
        return cls(**{**found, **lists})


def sliding(context: int, width: int, layers: tuple[int, ...], local: float = 0.0) -> dict[str, Any]:
    """Return the options of layers that slide past `width` keys: none where the whole context lies within the window.

    Args:
        context: tokens the model is built for.
        width: keys that a sliding layer sees.
        layers: numbers of those layers.
        local: base of their own rotary embedding, or 0; they keep it however short the context is.

    """
    if not layers or not width or (context <= width and not local):
        return {}
    return {"sliding_window": width, "sliding_layers": layers, "local_rope_theta": local}


def gemma(width: int, query_scalar: float, attention_cap: float, logit_cap: float) -> dict[str, Any]:
    """Return the options that Gemma's second and third generation share."""
    return {
        "activation": "gelu",
        "embedding_scale": width**0.5,
        "sandwich_norms": True,
        "query_scalar": query_scalar,
        "attention_cap": attention_cap,
        "logit_cap": logit_cap,
    }


def width(quantisation: str) -> str:
    """Return the type of a library's KV cache, `float32` or `float16`; the latter needs a device with `shader-f16`."""
    return "float16" if "f16" in quantisation else "float32"
