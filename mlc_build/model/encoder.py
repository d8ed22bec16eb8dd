"""An encoder as a Relax module with the one entry point of a WebLLM embedding library, `prefill(tokens, mask, weights)`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tvm.relax.frontend import nn

from hybr.mlc_build.encoder.config import BATCH, FORMS
from hybr.mlc_build.kernels import encode, family_of
from hybr.mlc_build.memory import LENGTH, bounded
from hybr.mlc_build.quantise import layout

from .llama import Matrix

if TYPE_CHECKING:
    import tvm

    from hybr.mlc_build.blocks import Encoding
    from hybr.mlc_build.encoder.config import EncoderConfig
    from hybr.mlc_build.kernels.family import Family

ROWS = "batch"


class Weight(Matrix):
    """A matrix in a form that is given, with a bias beside it where it has one."""

    def __init__(self, rows: int, columns: int, encoding: Encoding, *, bias: bool = True) -> None:
        self.rows, self.columns, self.encoding = rows, columns, encoding
        for spec in layout("", rows, columns, encoding):
            setattr(self, spec.name.removeprefix("."), nn.Parameter(spec.shape, spec.dtype))
        if bias:
            self.bias = nn.Parameter((rows,), "float32")


class LayerNorm(nn.Module):
    """Weight and shift of a layer normalisation."""

    def __init__(self, size: int, eps: float) -> None:
        self.eps = eps
        self.weight = nn.Parameter((size,), "float32")
        self.bias = nn.Parameter((size,), "float32")

    def after(self, x: nn.Tensor, bias: nn.Tensor) -> nn.Tensor:
        """Return the normalisation of x + bias."""
        made = partial(encode.biased_norm, eps=self.eps)
        return nn.op.tensor_expr_op(made, "biased_norm", [x, bias, self.weight, self.bias])


class Layer(nn.Module):
    """One block: attention and feed-forward, each joined to its input and normalised after that."""

    def __init__(self, config: EncoderConfig, encoding: Encoding, family: Family) -> None:
        h, f = config.hidden_size, config.intermediate_size
        self.config, self.family = config, family
        self.qkv, self.out = Weight(3 * h, h, encoding), Weight(h, h, encoding)
        self.up, self.down = Weight(f, h, encoding), Weight(h, f, encoding)
        self.norm_out, self.norm_down = LayerNorm(h, config.layer_norm_eps), LayerNorm(h, config.layer_norm_eps)

    def forward(self, x: nn.Tensor, length: nn.Tensor) -> nn.Tensor:
        """Run the block."""
        qkv = nn.op.tensor_expr_op(encode.biased, "biased", [self.family.linear(x, self.qkv), self.qkv.bias])
        like = nn.Tensor.placeholder(x.shape, "float32")
        mixed = nn.op.tensor_ir_op(encode.attend(self.config), "attend", [qkv, length], like)
        x = self.norm_out.after(self.family.linear(mixed, self.out, x), self.out.bias)
        up = nn.op.tensor_expr_op(encode.biased_gelu, "biased_gelu", [self.family.linear(x, self.up), self.up.bias])
        return self.norm_down.after(self.family.linear(up, self.down, x), self.down.bias)


class Encoder(nn.Module):
    """The whole encoder."""

    def __init__(self, config: EncoderConfig, quantisation: str, family: Family) -> None:
        encoding = FORMS[quantisation]
        self.config, self.family = config, family
        self.words = Weight(config.vocab_size, config.hidden_size, encoding, bias=False)
        self.positions = nn.Parameter((config.positions, config.hidden_size), "float32")
        self.norm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.layers = nn.ModuleList([Layer(config, encoding, family) for _ in range(config.num_hidden_layers)])

    def prefill(self, input_ids: nn.Tensor, mask: nn.Tensor) -> nn.Tensor:
        """Tokens `(batch, n)`, and 1 where there is one; the texts' vectors in row 0 of `(batch, n, hidden)`."""
        c, expression = self.config, nn.op.tensor_expr_op
        length = expression(partial(encode.lengths, config=c), "lengths", [input_ids, mask])
        tokens = expression(partial(encode.place, config=c), "place", [input_ids, length])
        x = expression(encode.add_positions, "add_positions", [self.family.embed(tokens, self.words), self.positions, input_ids])
        x = self.norm.after(x, nn.op.zeros((c.hidden_size,), "float32"))
        for layer in self.layers:
            x = layer(x, length)
        return expression(partial(encode.pool, config=c), "pool", [x, length, input_ids])

    def get_default_spec(self) -> nn.spec.ModuleSpec:
        """Name the entry point and its arguments' shapes."""
        text = nn.spec.Tensor([ROWS, LENGTH], "int32")
        packed = {"param_mode": "packed", "effect_mode": "none"}
        return nn.spec.ModuleSpec.from_raw({"prefill": {"input_ids": text, "mask": text, "$": packed}}, self)


def build_module(config: EncoderConfig, quantisation: str, profile: Any) -> tuple[tvm.IRModule, dict[str, Any]]:
    """Return the Relax module of an embedding library, and its metadata."""
    from hybr.mlc_build.lower import add_metadata

    model = Encoder(config, quantisation, family_of(profile))
    module, held = model.export_tvm(spec=model.get_default_spec())[:2]
    metadata = {
        "model_type": config.family,
        "quantization": quantisation,
        "profile": profile,
        "context_window_size": config.context_window_size,
        "prefill_chunk_size": config.context_window_size,
        "max_batch_size": BATCH,
        "memory_usage": {},
        "params": [{"name": name, "shape": [int(n) for n in p.shape], "dtype": str(p.dtype)} for name, p in held],
    }
    return add_metadata(bounded(module, {LENGTH: config.context_window_size, ROWS: BATCH}), metadata), metadata
