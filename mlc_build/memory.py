"""Graphics memory: bounded when a library is compiled, and added up for the manifest.

What a call needs besides its arguments is planned when the library is compiled. Prompts have any length, and the runtime's pool
keeps a buffer of each size it was ever asked for, so without a bound every new length would cost memory for good. With it
(`bounded`) each entry point asks for the same sizes every time, those of its longest call, and what the pool ends up with can be
counted (`Planned`): of each size as many buffers as the greediest entry point holds at once.

The rest is the runtime's: the pages, the prefill's queries, keys, values and outputs, and its tables (vm/paged_kv_cache.cc).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from .encoder.config import BATCH, EncoderConfig
from .model.config import PAGE

if TYPE_CHECKING:
    import tvm

    from .model.config import ModelConfig

FLOAT = 4
WIDTHS = {"float32": 4, "float16": 2}
POOL_PAGE = 4096
"""The pool rounds sizes up to this (memory/pooled_allocator.h)."""
TREES = 2 * 256 * 256 * 4
"""The runtime's masks for trees of tokens, which WebLLM never grows, for two depths of the page table."""
SPLITS = 32
"""Workgroups that share a key head's keys, at most, each of which leaves a result of its own (kernels/split.py)."""
BOUND = "tir_var_upper_bound"
LENGTH = "seq_len"
"""What the graphs call the number of tokens of a call."""


def bounded(module: tvm.IRModule, longest: dict[str, int]) -> tvm.IRModule:
    """Tell the memory planner how long a call can be: the most of each symbolic number, in every function of the module."""
    from tvm import relax

    for name, function in list(module.functions.items()):
        if isinstance(function, relax.Function):
            module.update_func(name, function.with_attr(BOUND, longest))
    return module


def fixed(module: tvm.IRModule) -> tvm.IRModule:
    """Let results, which the planner leaves out, take the place of the longest one too; after LowerAllocTensor."""
    from tvm import relax, sym, tirx

    @relax.expr_functor.mutator
    class Fix(relax.PyExprMutator):  # type: ignore[misc]
        """Puts the longest call's length into the sizes that are asked for."""

        def __init__(self, longest: dict[str, int]) -> None:
            super().__init__()
            self.longest = longest

        def visit_call_(self, call: Any) -> Any:
            """Visit one call."""
            if getattr(call.op, "name", "") != "relax.memory.alloc_storage":
                return super().visit_call_(call)
            (size,) = call.args[0].values
            known = sym.Analyzer()
            for var in tirx.analysis.undefined_vars(size):
                if var.name in self.longest:
                    known.bind(var, tirx.IntImm("int64", self.longest[var.name]))
            return relax.Call(call.op, [relax.ShapeExpr([known.simplify(size)]), *call.args[1:]], call.attrs)

    for name, function in list(module.functions.items()):
        if isinstance(function, relax.Function) and BOUND in (function.attrs or {}):
            module.update_func(
                name, Fix({str(name): int(most) for name, most in function.attrs[BOUND].items()}).visit_expr(function)
            )
    return module


class Planned:
    """What the entry points of a module ask of the pool; `see` is called with the module when all sizes are fixed."""

    def __init__(self) -> None:
        self._largest: Counter[int] = Counter()

    def see(self, module: tvm.IRModule) -> None:
        """Read the planner's requests."""
        from tvm import relax

        for function in module.functions.values():
            if isinstance(function, relax.Function):
                self._largest |= Counter(_requests(function))

    @property
    def bytes(self) -> int:
        """Return what the pool holds once every entry point has run its longest call."""
        return sum(size * count for size, count in self._largest.items())

    @property
    def largest(self) -> int:
        """Return the size of the largest buffer among them."""
        return max(self._largest, default=0)


def _requests(function: Any) -> list[int]:
    """Return the sizes, as the pool rounds them, that a function's body asks for; one that stays unknown counts 0."""
    from tvm import relax, tirx

    found: list[int] = []

    def visit(node: Any) -> None:
        if isinstance(node, relax.Call) and getattr(node.op, "name", "") == "relax.memory.alloc_storage":
            size = node.args[0].values[0]
            found.append(-(-int(size) // POOL_PAGE) * POOL_PAGE if isinstance(size, tirx.IntImm) else 0)

    relax.analysis.post_order_visit(function.body, visit)
    return found


def estimate(config: ModelConfig | EncoderConfig, weights: int, planned: int, kind: str = "float32") -> int:
    """Return the bytes of graphics memory that a loaded model holds after its longest prompt.

    Args:
        config: the model's numbers.
        weights: bytes of its parameters.
        planned: bytes the pool ends up with (`Planned.bytes`).
        kind: type of the KV cache, `float32` or `float16`.

    """
    if isinstance(config, EncoderConfig):
        # A call's vectors stay until the next one's are there, and so does the buffer they are read through (where calls grow, up
        # to three smaller ones too).
        return weights + planned + 2 * BATCH * config.context_window_size * config.hidden_size * FLOAT
    heads, chunk = config.num_attention_heads, config.prefill_chunk_size
    attention = chunk * (2 * config.attention_size + 2 * config.key_value_size + 2 * heads)
    held = chunk * config.hidden_size + 2 * config.vocab_size  # one entry point's result while the next runs
    held += SPLITS * (config.attention_size + heads)
    return weights + cache_bytes(config, kind) + attention * WIDTHS[kind] + held * FLOAT + TREES + planned


def largest(config: ModelConfig | EncoderConfig, kind: str = "float32") -> int:
    """Return the size of the runtime's own largest buffer: one layer's keys and values, or what a prefill attends with."""
    if isinstance(config, EncoderConfig):
        return 0
    attention = config.prefill_chunk_size * config.attention_size * WIDTHS[kind]
    return max(cache_bytes(config, kind) // config.num_hidden_layers, attention)


def cache_bytes(config: ModelConfig | EncoderConfig, kind: str = "float32") -> int:
    """Return the size of the KV cache: keys and values of every layer over the whole window, and a page to spare."""
    if isinstance(config, EncoderConfig):
        return 0
    pages = -(-config.context_window_size // PAGE) + 1
    return pages * PAGE * config.num_hidden_layers * 2 * config.key_value_size * WIDTHS[kind]
