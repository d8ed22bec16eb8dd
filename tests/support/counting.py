"""What a token costs a library, counted from its kernels: dispatches, and bytes read from the device's memory.

The module is looked at as the virtual machine will run it, each kernel scheduled. A kernel's loads from global memory are counted
as often as its loops, threads and workgroups come to them; conditions on these numbers are evaluated over all of them, those on
data count as true. The same load twice in a statement is one. A length that is no constant is 1, as a token's is.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hybr.mlc_build.compile import Profile
    from hybr.mlc_build.kernels.family import Family
    from hybr.mlc_build.model.config import ModelConfig

INSIDE = {"attention_with_fused_qkv": 3}
"""Dispatches within a builtin of the runtime: rotation, append and attention."""
SHAPES = {
    "smollm2-135m": (576, 30, 9, 3, 64, 1536, 49152),
    "llama-3.2-1b": (2048, 16, 32, 8, 64, 8192, 128256),
    "qwen2.5-1.5b": (1536, 28, 12, 2, 128, 8960, 151936),
    "llama-3.1-8b": (4096, 32, 32, 8, 128, 14336, 128256),
}
"""ModelConfig's first seven numbers."""
TOKEN = ("embed", "decode", "softmax_with_temperature", "argsort_probs", "sample_with_top_p")
"""The entry points that WebLLM calls for a token, in order."""
KEYS = {"pages", "flat", "k", "v", "flat_k", "flat_v"}
"""What attention kernels call keys and values, in pages and of new tokens."""
BINARY = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "FloorDiv": np.floor_divide, "FloorMod": np.mod, "Min": np.minimum,
    "Max": np.maximum, "LT": np.less, "LE": np.less_equal, "GT": np.greater, "GE": np.greater_equal, "EQ": np.equal,
    "NE": np.not_equal, "And": np.logical_and, "Or": np.logical_or,
}  # fmt: skip


@dataclass
class Cost:
    """Of one call of an entry point."""

    dispatches: int = 0
    read: int = 0


def lowered(config: ModelConfig, quantisation: str, profile: Profile, family: Family | None = None) -> Any:
    """Return the module that runs; `family` instead of the profile's kernels."""
    from hybr.mlc_build import kernels
    from hybr.mlc_build.compile import build_module
    from hybr.mlc_build.lower import device_target, pipeline

    target = device_target()
    chosen = family or kernels.family_of(profile)
    with mock.patch.object(kernels, "family_of", return_value=chosen):
        module, _ = build_module(config, quantisation, profile, target)
    with target:
        return pipeline(profile, target)(module)


def sampler(vocabulary: int, profile: Profile) -> Any:
    """Return the module between logits and token as it runs."""
    import tvm

    from hybr.mlc_build.lower import add_sampler, device_target, pipeline, sampler_threads

    target = device_target()
    with target:
        return pipeline(profile, target)(add_sampler(tvm.IRModule(), vocabulary, sampler_threads(profile, target)))


def shape(name: str) -> ModelConfig:
    """Return the numbers of one of SHAPES."""
    from hybr.mlc_build.model.config import ModelConfig

    qwen = name.startswith("qwen")
    return ModelConfig(
        *SHAPES[name], family="qwen2" if qwen else "llama", qkv_bias=qwen, tie_word_embeddings=name != "llama-3.1-8b"
    )


def token(config: ModelConfig, quantisation: str, family: Family | None = None) -> Cost:
    """Return what a whole token costs the gpu profile: its row of the embedding, every layer, head and draw, but not the pages.

    Layers are alike, so that two tell what each more costs.
    """
    one, two = (
        _summed(lowered(dataclasses.replace(config, num_hidden_layers=count), quantisation, "gpu", family)) for count in (1, 2)
    )
    more = config.num_hidden_layers - 1
    return Cost(one.dispatches + more * (two.dispatches - one.dispatches), one.read + more * (two.read - one.read))


def _summed(module: Any) -> Cost:
    calls = [cost(module, entry) for entry in TOKEN]
    return Cost(sum(call.dispatches for call in calls), sum(call.read for call in calls))


def pages(config: ModelConfig) -> int:
    """Return the bytes of keys and values that each token of context adds to what attention reads for the next."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4


def weights(config: ModelConfig, quantisation: str) -> int:
    """Return the bytes of a model's parameters that a token takes part in: of an embedding that is no head, nothing."""
    from hybr.mlc_build.quantise import specs

    seen = [one for one in specs(config, quantisation) if config.tie_word_embeddings or "embed_tokens" not in one.name]
    return sum(math.prod(spec.shape) * _bytes(spec.dtype) for spec in seen)


def cost(module: Any, entry: str) -> Cost:
    """Return what one call of an entry point costs, but for what attention reads of the pages."""
    from tvm import relax, tirx

    found, kernels = Cost(), {}
    calls: list[Any] = []
    relax.analysis.post_order_visit(module[entry].body, lambda node: calls.append(node) if isinstance(node, relax.Call) else None)
    for call in calls:
        name = getattr(call.op, "name_hint", "") or str(getattr(call.op, "global_symbol", ""))
        found.dispatches += sum(count for word, count in INSIDE.items() if name.endswith(word))
        if name and isinstance(kernel := _function(module, name), tirx.PrimFunc) and "blockIdx" in kernel.script():
            if name not in kernels:
                kernels[name] = kernel_cost(kernel)
            found.dispatches += kernels[name].dispatches
            found.read += kernels[name].read
    return found


def _function(module: Any, name: str) -> Any:
    return next((function for global_var, function in module.functions.items() if global_var.name_hint == name), None)


def kernel_cost(kernel: Any) -> Cost:
    """Return what one call of a scheduled kernel costs; it may be several dispatches."""
    found = Cost(dispatches=len(re.findall(r"^    for .*blockIdx\.x", kernel.script(), re.MULTILINE)))
    found.read = sum(size for _, size in _walk(kernel.body, [], [], {}))
    return found


def key_cost(kernel: Any, given: Mapping[str, Any] | None = None) -> int:
    """Return the bytes that an attention kernel reads of keys and values.

    `given` holds lengths by name and the numbers of tensors; what is in none of them counts as 1, so that it is a key's cost.
    """
    return sum(size for name, size in _walk(kernel.body, [], [], dict(given or {})) if name in KEYS)


def _walk(node: Any, loops: list[tuple[Any, int]], conditions: list[Any], bound: dict[Any, Any]) -> Iterator[tuple[str, int]]:
    """Yield the buffer and the bytes of each load below a statement, all its repetitions together."""
    from tvm import tirx

    kind = type(node).__name__
    if kind == "SeqStmt":
        for one in node.seq:
            yield from _walk(one, loops, conditions, bound)
    elif kind == "For":
        extents = _value(node.extent, _axes(loops), bound)  # one that data decide counts as one
        inside = tirx.LT(node.loop_var, node.extent) if extents.min() < extents.max() else None
        looped = [*loops, (node.loop_var, max(int(extents.max()), 1))]
        yield from _walk(node.body, looped, conditions if inside is None else [*conditions, inside], bound)
    elif kind == "SBlockRealize":
        inner = {**bound, **{it.var: value for it, value in zip(node.block.iter_vars, node.iter_values, strict=True)}}
        if node.block.init is not None:
            yield from _walk(node.block.init, loops, [*conditions, node.predicate], inner)
        yield from _walk(node.block.body, loops, [*conditions, node.predicate], inner)
    elif kind == "IfThenElse":
        yield from _loads([node.condition], loops, conditions, bound)
        yield from _walk(node.then_case, loops, [*conditions, node.condition], bound)
        if node.else_case is not None:
            yield from _walk(node.else_case, loops, [*conditions, tirx.Not(node.condition)], bound)
    elif kind == "Bind":
        bound[node.var] = node.value
    elif kind in {"AttrStmt", "While"}:
        yield from _walk(node.body, loops, conditions, bound)
    elif kind in {"BufferStore", "Evaluate"}:
        yield from _loads([node.value, *getattr(node, "indices", [])], loops, conditions, bound)


def _loads(
    expressions: list[Any], loops: list[tuple[Any, int]], conditions: list[Any], bound: dict[Any, Any]
) -> Iterator[tuple[str, int]]:
    """Yield the buffer and the bytes of the loads in some expressions."""
    seen: dict[str, Any] = {}
    waiting = list(expressions)
    while waiting:
        node = waiting.pop()
        kind = type(node).__name__
        if kind == "TensorLoad" and node.source.ty.storage_scope in {"", "global"}:
            seen[str(node)] = node
        for name in ("a", "b", "value", "args", "indices", "condition", "true_value", "false_value"):
            child = getattr(node, name, None) if kind not in {"Var", "IntImm", "FloatImm"} else None
            if child is not None and not isinstance(child, (int, float, str)):
                waiting.extend(child if hasattr(child, "__len__") else [child])
    times = _times(loops, conditions, bound) if seen else 0
    for node in seen.values():
        lanes = math.prod(int(getattr(index, "lanes", 1)) for index in node.indices)
        yield node.source.name, times * lanes * _bytes(str(node.source.ty.dtype))


def _bytes(dtype: str) -> int:
    bits, lanes = re.fullmatch(r"[a-z]+(\d+)(?:x(\d+))?", dtype).groups()  # type: ignore[union-attr]
    return int(bits) // 8 * int(lanes or 1)


def _times(loops: list[tuple[Any, int]], conditions: list[Any], bound: dict[Any, Any]) -> int:
    """Return how often a statement runs: the product of its loops, or how many of those the conditions let through."""
    axes = _axes(loops)
    allowed = reduce(np.logical_and, [_value(one, axes, bound) for one in conditions], np.array(True))
    share = allowed.mean() if allowed.size else 0.0
    return round(float(share) * math.prod(extent for _, extent in loops))


def _axes(loops: list[tuple[Any, int]]) -> dict[Any, Any]:
    """Return each loop's numbers along an axis of its own."""
    return {
        var: np.arange(extent).reshape([extent if i == place else 1 for i in range(len(loops))])
        for place, (var, extent) in enumerate(loops)
    }


def _value(node: Any, axes: dict[Any, Any], bound: dict[Any, Any]) -> Any:
    """Return an expression over the loops' numbers, as an array; 1 (and true) where it asks data that are not given."""
    kind = type(node).__name__
    if kind in {"IntImm", "FloatImm"}:
        return np.array(node.value)
    if kind in {"Var", "PrimVar"}:
        found = next((axis for var, axis in axes.items() if var.same_as(node)), None)
        if found is not None:
            return found
        meant = next((value for var, value in bound.items() if not isinstance(var, str) and var.same_as(node)), None)
        return np.array(bound.get(node.name, 1)) if meant is None else _value(meant, axes, bound)
    if kind == "TensorLoad" and node.source.name in bound:
        return np.asarray(bound[node.source.name])[tuple(_value(index, axes, bound) for index in node.indices)]
    if kind == "Select" or (kind == "Call" and getattr(node.op, "name", "") == "prim.if_then_else"):
        asked, yes, no = node.args if kind == "Call" else (node.condition, node.true_value, node.false_value)
        return np.where(_value(asked, axes, bound), _value(yes, axes, bound), _value(no, axes, bound))
    if kind in BINARY:
        return BINARY[kind](_value(node.a, axes, bound), _value(node.b, axes, bound))
    if kind == "Not":
        return np.logical_not(_value(node.a, axes, bound))
    if kind == "Cast":
        return _value(node.value, axes, bound)
    return np.array(1)
