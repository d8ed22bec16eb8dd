"""A Llama, or one of its kin, as a Relax module: what WebLLM calls, in the order it calls it.

`embed` turns tokens into vectors, `prefill` reads several of them, `decode` one; both return the last position's logits and the
cache. The graph says what is computed; how is the business of the kernels object (`mlc_build.kernels`), so that one graph
serves every library profile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm.relax.frontend import nn
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache

from hybr.mlc_build.kernels import rotary
from hybr.mlc_build.kernels.attention import layer_scale
from hybr.mlc_build.quantise import form, layout

from .cache import create_cache
from .config import width

if TYPE_CHECKING:
    from hybr.mlc_build.kernels.family import Family

    from .config import ModelConfig


class Matrix(nn.Module):
    """A weight matrix `(rows, columns)` in one of the forms of `mlc_build.blocks`."""

    def __init__(self, rows: int, columns: int, quantisation: str, *, table: bool = False) -> None:
        self.rows, self.columns = rows, columns
        self.encoding = form(quantisation, "lm_head" if table else "")
        for spec in layout("", rows, columns, self.encoding):
            setattr(self, spec.name.removeprefix("."), nn.Parameter(spec.shape, spec.dtype))

    @property
    def held(self) -> list[nn.Parameter]:
        """Return what the kernels take, in their order."""
        return [getattr(self, spec.name.removeprefix(".")) for spec in layout("", self.rows, self.columns, self.encoding)]


class Norm(nn.Module):
    """The weight of a root-mean-square normalisation."""

    def __init__(self, size: int, eps: float) -> None:
        self.eps = eps
        self.weight = nn.Parameter((size,), "float32")


class Attention(nn.Module):
    """Grouped-query attention over the paged cache, which also rotates queries and keys."""

    def __init__(self, config: ModelConfig, quantisation: str, kernels: Family) -> None:
        self.config, self.kernels, self.kind = config, kernels, width(quantisation)
        self.qkv_proj = Matrix(config.qkv_size, config.hidden_size, quantisation)
        self.o_proj = Matrix(config.hidden_size, config.attention_size, quantisation)
        if config.qkv_bias:
            self.qkv_proj.bias = nn.Parameter((config.qkv_size,), "float32")
        if config.qk_norm:
            self.q_norm = Norm(config.head_dim, config.rms_norm_eps)
            self.k_norm = Norm(config.head_dim, config.rms_norm_eps)

    def forward(self, x: nn.Tensor, residual: nn.Tensor | None, cache: PagedKVCache, layer: int) -> nn.Tensor:
        """Return residual + attention(x)."""
        c = self.config
        batch, length, _ = x.shape
        heads = c.num_attention_heads + 2 * c.num_key_value_heads
        if c.qkv_bias and length == 1:  # a row of its own, which the product adds in the same dispatch
            flat = self.kernels.linear(x, self.qkv_proj, nn.op.reshape(self.qkv_proj.bias, (1, 1, c.qkv_size)))
        else:
            flat = self.kernels.linear(x, self.qkv_proj)
            flat = self.kernels.biased(flat, self.qkv_proj.bias) if c.qkv_bias else flat
        qkv = nn.op.reshape(flat, (batch, length, heads, c.head_dim))
        if c.qk_norm:
            qkv = self.kernels.head_norm(qkv, self.q_norm, self.k_norm, c)
        if c.local_rope_theta:
            table = rotary.frequencies(c, local=c.slides(layer))
            qkv = self.kernels.turn(qkv, cache.get_query_positions(batch * length), table, c)
        scale = layer_scale(c, layer)
        mixed = cache.attention_with_fused_qkv(layer, qkv.astype(self.kind), c.num_attention_heads, scale).astype("float32")
        return self.kernels.linear(nn.op.reshape(mixed, (batch, length, c.attention_size)), self.o_proj, residual)


class FeedForward(nn.Module):
    """The gated layer: down(activation(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig, quantisation: str, kernels: Family) -> None:
        self.kernels, self.activation = kernels, config.activation
        self.gate_up_proj = Matrix(2 * config.intermediate_size, config.hidden_size, quantisation)
        self.down_proj = Matrix(config.hidden_size, config.intermediate_size, quantisation)

    def forward(self, x: nn.Tensor, residual: nn.Tensor | None) -> nn.Tensor:
        """Return residual + feed_forward(x)."""
        return self.kernels.linear(self.kernels.gated(x, self.gate_up_proj, self.activation), self.down_proj, residual)


class Layer(nn.Module):
    """One transformer block."""

    def __init__(self, config: ModelConfig, quantisation: str, kernels: Family) -> None:
        self.kernels, self.sandwich = kernels, config.sandwich_norms
        self.self_attn = Attention(config, quantisation, kernels)
        self.mlp = FeedForward(config, quantisation, kernels)
        self.input_layernorm = Norm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = Norm(config.hidden_size, config.rms_norm_eps)
        if self.sandwich:
            self.pre_feedforward_layernorm = Norm(config.hidden_size, config.rms_norm_eps)
            self.post_feedforward_layernorm = Norm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: nn.Tensor, cache: PagedKVCache, layer: int) -> nn.Tensor:
        """Run the block on the residual stream."""
        if self.sandwich:  # a norm before each half and one after it
            made = self.self_attn(self.kernels.norm(x, self.input_layernorm), None, cache, layer)
            x = x + self.kernels.norm(made, self.post_attention_layernorm)
            made = self.mlp(self.kernels.norm(x, self.pre_feedforward_layernorm), None)
            return x + self.kernels.norm(made, self.post_feedforward_layernorm)
        x = self.self_attn(self.kernels.norm(x, self.input_layernorm), x, cache, layer)
        return self.mlp(self.kernels.norm(x, self.post_attention_layernorm), x)


class Body(nn.Module):
    """Embedding, blocks and the last normalisation: the part of a checkpoint named `model`."""

    def __init__(self, config: ModelConfig, quantisation: str, kernels: Family) -> None:
        self.embed_tokens = Matrix(config.vocab_size, config.hidden_size, quantisation, table=True)
        self.layers = nn.ModuleList([Layer(config, quantisation, kernels) for _ in range(config.num_hidden_layers)])
        self.norm = Norm(config.hidden_size, config.rms_norm_eps)


class Llama(nn.Module):
    """The whole model, with the entry points of a WebLLM chat library."""

    def __init__(self, config: ModelConfig, quantisation: str, kernels: Family) -> None:
        self.config, self.kernels, self.kind = config, kernels, width(quantisation)
        self.model = Body(config, quantisation, kernels)
        if not config.tie_word_embeddings:
            self.lm_head = Matrix(config.vocab_size, config.hidden_size, quantisation, table=True)

    def embed(self, input_ids: nn.Tensor) -> nn.Tensor:
        """Tokens `(n,)` to vectors `(n, hidden)`."""
        found = self.kernels.embed(input_ids, self.model.embed_tokens)
        scale = self.config.embedding_scale
        return found if scale == 1 else self.kernels.scaled(found, scale)

    def prefill(self, input_embed: nn.Tensor, cache: PagedKVCache) -> tuple[nn.Tensor, PagedKVCache]:
        """Read `(1, n, hidden)`; return the last position's logits, `(1, 1, vocab)`, and the cache."""
        return self._head(self.kernels.last(self._body(input_embed, cache))), cache

    def decode(self, input_embed: nn.Tensor, cache: PagedKVCache) -> tuple[nn.Tensor, PagedKVCache]:
        """Read `(1, 1, hidden)`; return the logits and the cache."""
        return self._head(self._body(input_embed, cache)), cache

    def create_tir_paged_kv_cache(
        self, max_batch_size: int, max_total_seq_len: int, prefill_chunk_size: int, page_size: int, support_sliding_window: int
    ) -> PagedKVCache:
        """Make an empty cache; the sizes are WebLLM's, known only when the page loads the model."""
        window = (max_batch_size, max_total_seq_len, prefill_chunk_size, page_size, support_sliding_window)
        return create_cache(self.config, self.kernels, window, self.kind)

    def _body(self, x: nn.Tensor, cache: PagedKVCache) -> nn.Tensor:
        for number, layer in enumerate(self.model.layers):
            x = layer(x, cache, number)
        return x

    def _head(self, x: nn.Tensor) -> nn.Tensor:
        head = self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head
        logits = self.kernels.linear(self.kernels.norm(x, self.model.norm), head)
        return self.kernels.capped(logits, self.config.logit_cap) if self.config.logit_cap else logits

    def get_default_spec(self) -> nn.spec.ModuleSpec:
        """Name the entry points and their arguments' shapes."""
        hidden = self.config.hidden_size
        packed = {"param_mode": "packed", "effect_mode": "none"}
        return nn.spec.ModuleSpec.from_raw(
            {
                "embed": {"input_ids": nn.spec.Tensor(["seq_len"], "int32"), "$": packed},
                "prefill": {
                    "input_embed": nn.spec.Tensor([1, "seq_len", hidden], "float32"),
                    "cache": nn.spec.Object(object_type=PagedKVCache),
                    "$": packed,
                },
                "decode": {
                    "input_embed": nn.spec.Tensor([1, 1, hidden], "float32"),
                    "cache": nn.spec.Object(object_type=PagedKVCache),
                    "$": packed,
                },
                "create_tir_paged_kv_cache": {
                    "max_batch_size": int,
                    "max_total_seq_len": int,
                    "prefill_chunk_size": int,
                    "page_size": int,
                    "support_sliding_window": int,
                    "$": {"param_mode": "none", "effect_mode": "none"},
                },
            },
            self,
        )
