"""A checkpoint's tensors in, the library's parameters out.

The checkpoint comes as a mapping from Hugging Face's names (`model.layers.0.self_attn.q_proj.weight`, shape `(out, in)`) to
tensors that are read when they are wanted, so the largest matrix is what a build holds, never the whole model. The library's
parameters are fewer and larger: query, key and value are one matrix, gate and up another, so that each block has four products
instead of seven.

A quantisation names two forms of `mlc_build.blocks`, of the layers' matrices and of embedding and head:

    q4f32_1    4 bits throughout
    q4e8f32_1  4 bits with a least weight of their own, 8 bits for embedding and head, where rounding is heard most: a tied
               embedding is what a small model knows its words by
    q0f32      floats
    q4f16_1, q4e8f16_1, q0f16
               the same with halves for what is a float32 there, and a KV cache of halves; sums stay float32. For devices that
               have `shader-f16`
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .blocks import LARGEST, PER_WORD, SHARED, Coded, Encoding, encode, repack
from .errors import SourceError
from .model.config import GROUP, ModelConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from .blocks import Blocks

FORMS: dict[str, tuple[Encoding, Encoding]] = {
    "q4f32_1": ("q4", "q4"),
    "q4e8f32_1": ("q4m", "q8"),
    "q0f32": ("float", "float"),
    "q4f16_1": ("q4h", "q4h"),
    "q4e8f16_1": ("q4m", "q8h"),
    "q0f16": ("half", "half"),
}
QUANTISATIONS = tuple(FORMS)
TABLES = frozenset({"model.embed_tokens", "lm_head"})
PART = 1 << 21
"""Weights of a matrix that are worked on at a time."""

F32 = npt.NDArray[np.float32]


class QuantiseError(SourceError):
    """A checkpoint's tensors do not make this model; the message names the tensor."""


class Tensor(Protocol):
    """One tensor of a checkpoint, not yet read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns, or the one length."""
        ...

    @property
    def packed(self) -> str:
        """Name of the blocks it is quantised in (GGUF's: Q4_0, Q6_K ...), empty for floats."""
        ...

    def read(self) -> F32:
        """Return it as floats."""
        ...

    def blocks(self) -> Blocks | None:
        """Return it as the checkpoint quantised it, or None when it did not, or not in blocks that are known here."""
        ...

    def part(self, rows: slice) -> Tensor:
        """Return some of its rows."""
        ...


class Whole:
    """A tensor that is there as floats."""

    packed = ""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array = array
        self.shape: tuple[int, ...] = array.shape

    def read(self) -> F32:
        """See Tensor."""
        return self.array.astype(np.float32, copy=False)

    def blocks(self) -> None:
        """See Tensor."""

    def part(self, rows: slice) -> Whole:
        """See Tensor."""
        return Whole(self.array[rows])


class Origin(NamedTuple):
    """What became of one of the checkpoint's quantised matrices.

    `fate` is `repacked` (code by code), `unpacked` (to the floats that its blocks stand for) or `rounded` (a second time);
    `packed` names its blocks and `encoding` our form.
    """

    fate: str
    packed: str
    encoding: str


class Parameter(NamedTuple):
    """One array as the library wants it; `encoding` is the tensor cache's word for how it is stored.

    `origins` says what became of the quantised matrices that it was made of, and is empty where there were none.
    """

    name: str
    array: npt.NDArray[np.float32] | npt.NDArray[np.float16] | npt.NDArray[np.uint32]
    encoding: str = "raw"
    origins: tuple[Origin, ...] = ()


class Spec(NamedTuple):
    """Name, shape and dtype of one library parameter."""

    name: str
    shape: tuple[int, ...]
    dtype: str


def form(quantisation: str, matrix: str) -> Encoding:
    """Return the form in which a quantisation keeps a matrix."""
    layers, tables = FORMS[quantisation]
    return tables if matrix in TABLES else layers


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


def vectors(config: ModelConfig) -> dict[str, tuple[tuple[str, ...], int]]:
    """Return the library's vectors: name -> (checkpoint tensors one after the other, length)."""
    h = config.hidden_size
    found: dict[str, tuple[tuple[str, ...], int]] = {}

    def add(name: str, length: int) -> None:
        found[name] = ((name,), length)

    for i in range(config.num_hidden_layers):
        p = f"model.layers.{i}"
        a = f"{p}.self_attn"
        add(f"{p}.input_layernorm.weight", h)
        add(f"{p}.post_attention_layernorm.weight", h)
        if config.sandwich_norms:
            add(f"{p}.pre_feedforward_layernorm.weight", h)
            add(f"{p}.post_feedforward_layernorm.weight", h)
        if config.qkv_bias:
            found[f"{a}.qkv_proj.bias"] = (tuple(f"{a}.{one}_proj.bias" for one in "qkv"), config.qkv_size)
        if config.qk_norm:
            add(f"{a}.q_norm.weight", config.head_dim)
            add(f"{a}.k_norm.weight", config.head_dim)
    add("model.norm.weight", h)
    return found


def specs(config: ModelConfig, quantisation: str) -> list[Spec]:
    """Return every parameter of the library, in the order of the shards."""
    _check(quantisation)
    found = [
        spec
        for name, (_, rows, columns) in matrices(config).items()
        for spec in layout(name, rows, columns, form(quantisation, name))
    ]
    return found + [Spec(name, (length,), "float32") for name, (_, length) in vectors(config).items()]


def layout(name: str, rows: int, columns: int, encoding: Encoding) -> list[Spec]:
    """Return the parameters that hold one matrix."""
    if encoding in {"float", "half"}:
        return [Spec(f"{name}.weight", (rows, columns), "float32" if encoding == "float" else "float16")]
    words = Spec(f"{name}.q_weight", (rows, columns // PER_WORD[encoding]), "uint32")
    return [words, Spec(f"{name}.{'q_pair' if encoding == 'q4m' else 'q_scale'}", (rows, columns // GROUP), SHARED[encoding])]


def quantise(
    tensors: Mapping[str, Tensor | npt.NDArray[Any]], config: ModelConfig, quantisation: str, called: Callable[[str], str] = str
) -> Iterator[Parameter]:
    """Turn a checkpoint's tensors into the library's parameters, in the order of `specs`.

    Raises QuantiseError for a tensor that is missing, unknown, misshapen or not finite; `called` is what the file calls it.
    """
    _check(quantisation)
    have = {name: Whole(found) if isinstance(found, np.ndarray) else found for name, found in tensors.items()}
    check(have, shapes(config, have), called)
    for name, (stacked, rows, columns) in matrices(config).items():
        found = {called(f"{part}.weight"): have[f"{part}.weight"] for part in _parts(name, stacked, have)}
        yield from _matrix(layout(name, rows, columns, form(quantisation, name)), found, form(quantisation, name))
    for name, (parts, _) in vectors(config).items():
        yield Parameter(name, np.concatenate([read(called(part), have[part]) for part in parts]))


def repacked(origins: Iterable[Origin]) -> bool | str:
    """Return what a manifest says of a checkpoint's own blocks: True when none was rounded again, `partly`, or False."""
    rounded = [origin.fate == "rounded" for origin in origins]
    return "partly" if any(rounded) and not all(rounded) else bool(rounded) and not any(rounded)


def account(origins: Iterable[Origin]) -> list[dict[str, Any]]:
    """Return how many matrices met each fate, sorted: for the index, so that a person can be told."""
    return [{**origin._asdict(), "matrices": count} for origin, count in sorted(Counter(origins).items())]


def shapes(config: ModelConfig, have: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that a checkpoint must have, which may bring some stacked (`have`)."""
    sizes = {"q_proj": config.attention_size, "k_proj": config.key_value_size, "v_proj": config.key_value_size}
    found: dict[str, tuple[int, ...]] = {}
    for name, (stacked, rows, columns) in matrices(config).items():
        parts = _parts(name, stacked, have)
        found |= {f"{part}.weight": (sizes.get(part.rpartition(".")[2], rows // len(parts)), columns) for part in parts}
    for parts, length in vectors(config).values():
        found |= {part: (sizes.get(part.split(".")[-2], length),) for part in parts}
    return found


def check(have: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], called: Callable[[str], str] = str) -> None:
    """Raise QuantiseError, naming the tensor, where one is missing, unknown or misshapen; nothing is read for it."""
    if missing := sorted(set(wanted) - set(have)):
        raise QuantiseError(
            f"the checkpoint lacks {len(missing)} tensor(s), first {called(missing[0])}; "
            "it is not whole: fetch it again; or its configuration is another model's"
        )
    if extra := sorted(set(have) - set(wanted)):
        raise QuantiseError(
            f"the checkpoint has {len(extra)} tensor(s) this model does not use, first {called(extra[0])}; "
            "it is of another family, or has parts that cannot be built"
        )
    for name, shape in wanted.items():
        if have[name].shape != shape:
            raise QuantiseError(
                f"tensor {called(name)} has {have[name].shape}; the configuration needs {shape}: "
                "they are of two models, fetch both again"
            )


def _parts(name: str, stacked: tuple[str, ...], have: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the checkpoint's tensors of a matrix: its parts, or the one that is stacked already (Phi-3)."""
    return (name,) if f"{name}.weight" in have else stacked


def _matrix(wanted: list[Spec], tensors: Mapping[str, Tensor], encoding: Encoding) -> Iterator[Parameter]:
    """Yield the parameters of one matrix, its rows taken some at a time: what stands in memory is the result and little else."""
    arrays = [np.empty(spec.shape, spec.dtype) for spec in wanted]
    origins: list[Origin] = []
    at = 0
    for name, tensor in tensors.items():
        fate = _fill(name, tensor, encoding, [array[at : at + tensor.shape[0]] for array in arrays])
        origins += [Origin(fate, tensor.packed, encoding)] if tensor.packed else []
        at += tensor.shape[0]
    for spec, array in zip(wanted, arrays, strict=True):
        yield Parameter(spec.name, array, origins=tuple(origins) if spec is wanted[0] else ())


def _fill(name: str, tensor: Tensor, encoding: Encoding, out: list[npt.NDArray[Any]]) -> str:
    """Write a tensor's form into `out` and return what became of its blocks; all of them are taken over, or none."""
    if encoding in {"float", "half"}:
        _each(tensor, out, lambda part: [_floats(name, part, str(out[0].dtype))])
        return "unpacked" if encoding == "float" else "rounded"
    if _each(tensor, out, lambda part: _taken(name, part, encoding)):
        return "repacked"
    try:
        _each(tensor, out, lambda part: encode(read(name, part), encoding))
    except OverflowError as error:
        raise QuantiseError(f"tensor {name}: {error}") from error
    return "rounded"


def _each(tensor: Tensor, out: list[npt.NDArray[Any]], make: Callable[[Tensor], Sequence[npt.NDArray[Any]] | None]) -> bool:
    """Fill `out` with what is made of some rows after others; False at the first that nothing can be made of."""
    rows, columns = tensor.shape
    step = max(1, PART // columns)
    for at in range(0, rows, step):
        made = make(tensor.part(slice(at, at + step)))
        if made is None:
            return False
        for array, rows_made in zip(out, made, strict=True):
            array[at : at + step] = rows_made
    return True


def _taken(name: str, tensor: Tensor, encoding: Encoding) -> Coded | None:
    blocks = tensor.blocks()
    if blocks is None:
        return None
    _finite(name, blocks.scale, blocks.least)
    return repack(blocks, encoding)


def _floats(name: str, tensor: Tensor, kind: str) -> npt.NDArray[Any]:
    found = read(name, tensor)
    if kind == "float16" and float(np.abs(found).max(initial=0)) > LARGEST:
        raise QuantiseError(
            f"tensor {name}: a weight of {np.abs(found).max():.3g} does not fit a half; build it with --quant q0f32"
        )
    return found.astype(kind, copy=False)


def read(name: str, tensor: Tensor) -> F32:
    """Return a tensor's floats. Raises QuantiseError, naming it, where one is not finite."""
    found = tensor.read()
    _finite(name, found)
    return found


def _finite(name: str, *arrays: F32 | None) -> None:
    if not all(array is None or np.isfinite(array).all() for array in arrays):
        raise QuantiseError(f"tensor {name} holds values that are not finite; the checkpoint is damaged: fetch it again")


def _check(quantisation: str) -> None:
    if quantisation not in QUANTISATIONS:
        raise QuantiseError(f"quantisation {quantisation!r} is not known; choose one of {', '.join(QUANTISATIONS)}")
