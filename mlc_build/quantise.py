"""Float tensors of a checkpoint in, the library's parameters out.

The checkpoint comes as `(name, float32 array)` in Hugging Face's Llama layout (`model.layers.0.self_attn.q_proj.weight`, shape
`(out, in)`). The library's parameters are fewer and larger: query, key and value are one matrix, gate and up another, so that
each block has four products instead of seven.

q4f32_1: along the input dimension 32 weights share one float32 scale; a weight is `(q - 7) * scale` with q in 0..15.
Eight q make one uint32, the first in the lowest four bits. The scale is searched for the least squared error, not just taken from
the largest magnitude, and it may be negative: the code range is -7..8, so its long side goes where the group's largest weight is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from .errors import SourceError
from .model.config import GROUP, ModelConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

QUANTISATIONS = ("q4f32_1", "q0f32")

F32 = npt.NDArray[np.float32]
PACK = 8
ZERO = 7
TINY = 1e-30
"""A group whose largest weight is below this is zero: its scale's inverse would overflow."""
# Candidate ranges: the group's extreme weight is put at one of these codes (away from the zero code), then the best one is kept.
STEPS = (-8.0, -7.5, -7.0, 7.0)


class QuantiseError(SourceError):
    """A checkpoint's tensors do not make this model; the message names the tensor."""


class Parameter(NamedTuple):
    """One array as the library wants it; `encoding` is the tensor cache's word for how it is stored."""

    name: str
    array: npt.NDArray[np.float32] | npt.NDArray[np.uint32]
    encoding: str = "raw"


class Spec(NamedTuple):
    """Name, shape and dtype of one library parameter."""

    name: str
    shape: tuple[int, ...]
    dtype: str


def matrices(config: ModelConfig) -> dict[str, tuple[tuple[str, ...], int, int]]:
    """Return the library's matrices: name -> (checkpoint tensors stacked along rows, rows, columns)."""
    h, f = config.hidden_size, config.intermediate_size
    found: dict[str, tuple[tuple[str, ...], int, int]] = {"model.embed_tokens": (("model.embed_tokens",), config.vocab_size, h)}
    for i in range(config.num_hidden_layers):
        p = f"model.layers.{i}"
        a, m = f"{p}.self_attn", f"{p}.mlp"
        found[f"{a}.qkv_proj"] = ((f"{a}.q_proj", f"{a}.k_proj", f"{a}.v_proj"), config.qkv_size, h)
        found[f"{a}.o_proj"] = ((f"{a}.o_proj",), h, config.attention_size)
        found[f"{m}.gate_up_proj"] = ((f"{m}.gate_proj", f"{m}.up_proj"), 2 * f, h)
        found[f"{m}.down_proj"] = ((f"{m}.down_proj",), h, f)
    if not config.tie_word_embeddings:
        found["lm_head"] = (("lm_head",), config.vocab_size, h)
    return found


def norms(config: ModelConfig) -> list[str]:
    """Return the names of the normalisation weights, each a vector of the hidden size."""
    found = []
    for i in range(config.num_hidden_layers):
        found += [f"model.layers.{i}.input_layernorm", f"model.layers.{i}.post_attention_layernorm"]
    return [*found, "model.norm"]


def specs(config: ModelConfig, quantisation: str) -> list[Spec]:
    """Return every parameter of the library, in the order of the shards."""
    _check(quantisation)
    found = []
    for name, (_, rows, columns) in matrices(config).items():
        if quantisation == "q0f32":
            found.append(Spec(f"{name}.weight", (rows, columns), "float32"))
        else:
            found.append(Spec(f"{name}.q_weight", (rows, columns // PACK), "uint32"))
            found.append(Spec(f"{name}.q_scale", (rows, columns // GROUP), "float32"))
    return found + [Spec(f"{name}.weight", (config.hidden_size,), "float32") for name in norms(config)]


def quantise(tensors: Iterable[tuple[str, F32]], config: ModelConfig, quantisation: str) -> Iterator[Parameter]:
    """Turn a checkpoint's tensors into the library's parameters, in the order of `specs`.

    Raises QuantiseError for a tensor that is missing, unknown, misshapen or not finite.
    """
    _check(quantisation)
    have = dict(tensors)
    _complain(have, config)
    for name, (parts, rows, columns) in matrices(config).items():
        weight = np.concatenate([have.pop(f"{part}.weight") for part in parts]).astype(np.float32, copy=False)
        if weight.shape != (rows, columns):
            raise QuantiseError(f"tensor(s) {', '.join(parts)} make {weight.shape}; the configuration needs {(rows, columns)}")
        if quantisation == "q0f32":
            yield Parameter(f"{name}.weight", weight)
        else:
            codes, scale = encode(weight)
            yield Parameter(f"{name}.q_weight", codes)
            yield Parameter(f"{name}.q_scale", scale)
    for name in norms(config):
        vector = have.pop(f"{name}.weight").astype(np.float32, copy=False).reshape(-1)
        if vector.shape != (config.hidden_size,):
            raise QuantiseError(f"tensor {name}.weight has {vector.shape}; the configuration needs ({config.hidden_size},)")
        yield Parameter(f"{name}.weight", vector)


def encode(weight: F32) -> tuple[npt.NDArray[np.uint32], F32]:
    """Quantise a matrix `(rows, columns)` to 4 bits.

    Returns the codes, `(rows, columns / 8)` uint32, and the scales, `(rows, columns / 32)` float32. Rows are taken in slices,
    so that the largest matrix needs a few hundred megabytes at most.
    """
    rows, columns = weight.shape
    codes = np.empty((rows, columns // PACK), np.uint32)
    scale = np.empty((rows, columns // GROUP), np.float32)
    step = max(1, (1 << 22) // columns)
    for start in range(0, rows, step):
        part = weight[start : start + step]
        codes[start : start + step], scale[start : start + step] = _encode(part)
    return codes, scale


def _encode(weight: F32) -> tuple[npt.NDArray[np.uint32], F32]:
    groups = weight.reshape(-1, GROUP)
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(1)[:, None], 1)
    extreme[np.abs(extreme) < TINY] = 0
    best = np.full(len(groups), np.inf, np.float32)
    scale = np.zeros((len(groups), 1), np.float32)
    code = np.zeros(groups.shape, np.float32)
    for step in STEPS:
        # -step codes away from zero lies the extreme weight: positive codes reach 8, negative ones 7.
        trial = extreme * np.float32(-1 / step)
        inverse = np.divide(np.float32(1), trial, out=np.zeros_like(trial), where=trial != 0)
        q = np.clip(np.rint(groups * inverse), -ZERO, ZERO + 1)
        # The least-squares scale for these codes; the codes themselves stay.
        fitted = _fit(groups, q, trial)
        residual = groups - q * fitted
        error = np.einsum("ij,ij->i", residual, residual)
        better = error < best
        best[better], scale[better], code[better] = error[better], fitted[better], q[better]
    shape = (weight.shape[0], -1, PACK)
    nibbles = (code + ZERO).astype(np.uint32).reshape(shape)
    shifts = np.arange(PACK, dtype=np.uint32) * np.uint32(4)
    packed: npt.NDArray[np.uint32] = np.bitwise_or.reduce(nibbles << shifts, axis=2)
    return packed, scale.reshape(weight.shape[0], -1)


def _fit(groups: F32, q: F32, trial: F32) -> F32:
    power = np.einsum("ij,ij->i", q, q)[:, None]
    product = np.einsum("ij,ij->i", groups, q)[:, None]
    fitted: F32 = np.divide(product, power, out=trial.copy(), where=power > 0)
    return fitted


def decode(codes: npt.NDArray[np.uint32], scale: F32) -> F32:
    """Undo `encode` exactly as the kernels do: `(q - 7) * scale` in float32."""
    shifts = np.arange(PACK, dtype=np.uint32) * np.uint32(4)
    nibbles = (codes[:, :, None] >> shifts) & np.uint32(15)
    q = nibbles.reshape(codes.shape[0], -1).astype(np.float32) - np.float32(ZERO)
    return q * np.repeat(scale, GROUP, axis=1)


def _check(quantisation: str) -> None:
    if quantisation not in QUANTISATIONS:
        raise QuantiseError(f"quantisation {quantisation!r} is not known; choose one of {', '.join(QUANTISATIONS)}")


def _complain(have: dict[str, F32], config: ModelConfig) -> None:
    names = [part for parts, _, _ in matrices(config).values() for part in parts] + norms(config)
    wanted = {f"{name}.weight" for name in names}
    if missing := sorted(wanted - set(have)):
        raise QuantiseError(f"the checkpoint lacks {len(missing)} tensor(s), first {missing[0]}")
    if extra := sorted(set(have) - wanted):
        raise QuantiseError(f"the checkpoint has {len(extra)} tensor(s) this model does not use, first {extra[0]}")
    for name, array in have.items():
        if not np.isfinite(array).all():
            raise QuantiseError(f"tensor {name} holds values that are not finite; the checkpoint is damaged")
