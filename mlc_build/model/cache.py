"""The paged KV cache: TVM's runtime keeps the pages, our kernels fill and read them.

The runtime asks for every kernel it could ever call. WebLLM neither forks sequences, nor copies pages, nor runs token trees, so
those places get a function that refuses its arguments: each kernel less is a shader less to compile when the page loads the
model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tvm
from tvm import relax as rx
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache, RopeMode
from tvm.script import tirx as T  # noqa: N812 - TVMScript's own name

from hybr.mlc_build.kernels import rotary

if TYPE_CHECKING:
    from hybr.mlc_build.kernels.family import Family

    from .config import ModelConfig

ATTENTION_KIND = 0  # multi-head with separate keys and values


def create_cache(config: ModelConfig, kernels: Family, window: tuple[Any, ...], kind: str) -> PagedKVCache:
    """Emit the call that makes the cache.

    Args:
        config: the model's numbers.
        kernels: gives the attention kernels.
        window: sequences, tokens, tokens a prefill, tokens a page, sliding window (0 or 1), as symbolic integers.
        kind: type of what is kept, `float32` or `float16`.

    """
    builder = rx.BlockBuilder.current()

    def add(name: str) -> rx.GlobalVar:
        return builder.add_func(kernels.attention_kernel(config, name, kind), name)

    def backend(name: str) -> rx.Tuple:
        return rx.Tuple([tvm.ir.StringImm("tirx"), add(name)])

    none = rx.Tuple([])
    unused = builder.add_func(_unused, "unused")
    c = config
    args = [
        rx.ShapeExpr(list(window)),
        rx.ShapeExpr([0, c.num_hidden_layers]),
        rx.prim_value(c.num_attention_heads),
        rx.prim_value(c.num_key_value_heads),
        rx.prim_value(c.head_dim),
        rx.prim_value(c.head_dim),
        rx.ShapeExpr([ATTENTION_KIND] * c.num_hidden_layers),
        rx.prim_value(False),
        rx.prim_value(int(RopeMode.NORMAL)),
        rx.prim_value(1),
        rx.prim_value(c.rope_theta),
        rx.const(rotary.frequencies(c)),  # where the runtime has room for a table of the rotation
        rx.op.zeros((), kind),
        add("append"),
        rx.prim_value(0),  # no latent attention
        backend("prefill_self"),
        backend("prefill_past"),
        backend("decode_past"),
        none,  # the two sliding-window kernels
        none,
        none,  # the two token-tree kernels
        none,
        none,  # latent attention
        rx.Tuple([add("merge")]),
        add("rotate"),
        unused,  # copy a page
        unused,  # read back for debugging
        unused,  # compact after a token tree
    ]
    return PagedKVCache(
        _expr=rx.call_pure_packed("vm.builtin.paged_attention_kv_cache_create", *args, ty_args=rx.AnyType()),
        _name="paged_kv_cache",
    )


@T.prim_func
def _unused():  # noqa: ANN202 - the parser reads annotations as TIR types
    """Take nothing, do nothing: whoever calls it with arguments is refused by its own signature check."""
    T.func_attr({"tirx.is_scheduled": True})
    T.evaluate(0)
