"""Attention of many new tokens for real GPUs, against the pages and among themselves, by tiles (`tile`).

What differs between the two is where a key stands, and which keys a query sees. The runtime's arguments that are taken and left
are those of `attention`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tvm.script import tirx as T

from hybr.mlc_build.model.config import PAGE

from .attention import first_seen, held, row_of
from .tile import body

if TYPE_CHECKING:
    from hybr.mlc_build.model.config import ModelConfig


class Pages(NamedTuple):
    """What the pages hold, all of which lies before the new tokens."""

    config: ModelConfig
    scale: Any
    first: Any
    table: Any
    last: Any
    position: Any

    def begin(self, token: Any) -> Any:
        """Return the first key that a token sees."""
        return first_seen(self.config, self.scale, self.position[token])

    def end(self, _token: Any) -> Any:
        """Return the key after the last that it sees."""
        return held(self.first, self.last)

    def row(self, key: Any, head: Any, half: int) -> Any:
        """Return which of the rows of elements is the key (half 0) or the value (1)."""
        return row_of(self.config, self.table, self.first, key, head, half)


class Own(NamedTuple):
    """The new tokens themselves, of which each sees itself and those before it."""

    config: ModelConfig
    scale: Any

    def begin(self, token: Any) -> Any:
        """See Pages."""
        return first_seen(self.config, self.scale, token)

    def end(self, token: Any) -> Any:
        """See Pages."""
        return token + 1

    def row(self, key: Any, head: Any, _half: int) -> Any:
        """See Pages; keys and values are each in a tensor of their own."""
        return key * self.config.num_key_value_heads + head


def own(config: ModelConfig, kind: str) -> Any:
    """Return the cache's kernel for the new tokens among themselves."""
    queries, heads, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    attend = body(config, kind)

    @T.prim_func(private=True, s_tir=True)
    def kernel(
        a: T.handle, b: T.handle, c: T.handle, d: T.handle, e: T.handle, f: T.handle, g: T.handle, h: T.handle, l: T.handle,
        causal: T.int32, rotary: T.int32, rope_scale: T.float32, rope_theta: T.float32, scale: T.float32,
    ):  # fmt: skip
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        length, keys, batch = T.int32(), T.int32(), T.int32()
        o1, o2, o3, o4 = T.int32(), T.int32(), T.int32(), T.int32()
        q = T.match_buffer(a, (length, queries, dim), kind)
        _q_start = T.match_buffer(b, (batch + 1,), "int32", elem_offset=o1)
        k = T.match_buffer(c, (keys, heads, dim), kind)
        v = T.match_buffer(d, (keys, heads, dim), kind)
        _k_start = T.match_buffer(e, (batch + 1,), "int32", elem_offset=o2)
        _q_position = T.match_buffer(f, (length,), "int32", elem_offset=o3)
        _k_position = T.match_buffer(g, (batch,), "int32", elem_offset=o4)
        output = T.match_buffer(h, (length, queries, dim), kind)
        lse = T.match_buffer(l, (length, queries), "float32")
        asks = T.decl_buffer((length * (queries * dim),), kind, data=q.data)
        flat_k = T.decl_buffer((keys * (heads * dim),), kind, data=k.data)
        flat_v = T.decl_buffer((keys * (heads * dim),), kind, data=v.data)
        made = T.decl_buffer((length * (queries * dim),), kind, data=output.data)
        attend(asks, flat_k, flat_v, made, lse, scale, Own(config, scale))

    return kernel


def past(config: ModelConfig, kind: str) -> Any:
    """Return the cache's kernel for the new tokens against the pages, whose table begins at position 0."""
    queries, heads, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    attend = body(config, kind)

    @T.prim_func(private=True, s_tir=True)
    def kernel(
        a: T.handle, b: T.handle, c: T.handle, d: T.handle, e: T.handle, f: T.handle, g: T.handle, h: T.handle, l: T.handle,
        m: T.handle, causal: T.int32, rotary: T.int32, rope_scale: T.float32, rope_theta: T.float32, scale: T.float32,
    ):  # fmt: skip
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        length, batch, used, count = T.int32(), T.int32(), T.int32(), T.int32()
        o1, o2, o3, o4, o5, o6 = T.int32(), T.int32(), T.int32(), T.int32(), T.int32(), T.int32()
        q = T.match_buffer(a, (length, queries, dim), kind)
        _q_start = T.match_buffer(b, (batch + 1,), "int32", elem_offset=o1)
        pages = T.match_buffer(c, (count, 2, heads, PAGE, dim), kind)
        first = T.match_buffer(d, (batch + 1,), "int32", elem_offset=o2)
        table = T.match_buffer(e, (used,), "int32", elem_offset=o3)
        last = T.match_buffer(f, (batch,), "int32", elem_offset=o4)
        _k_position = T.match_buffer(g, (batch,), "int32", elem_offset=o5)
        position = T.match_buffer(h, (length,), "int32", elem_offset=o6)
        output = T.match_buffer(l, (length, queries, dim), kind)
        lse = T.match_buffer(m, (length, queries), "float32")
        asks = T.decl_buffer((length * (queries * dim),), kind, data=q.data)
        flat = T.decl_buffer((count * (2 * heads * PAGE * dim),), kind, data=pages.data)
        made = T.decl_buffer((length * (queries * dim),), kind, data=output.data)
        attend(asks, flat, flat, made, lse, scale, Pages(config, scale, first, table, last, position))

    return kernel
