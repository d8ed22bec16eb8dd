"""Tensors from safetensors files: a length, a JSON header, and raw bytes, which are mapped and read when they are wanted.

    8 bytes   N, little endian
    N bytes   {"name": {"dtype", "shape", "data_offsets": [start, end]}, "__metadata__": {...}}
    the rest  data

(github.com/huggingface/safetensors, README.) The header is checked before anything is believed: every tensor of the size its
shape says, one behind the other without a gap or an overlap up to the file's end. A sharded checkpoint has
`model.safetensors.index.json`, which names the file of each tensor.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .errors import SourceError
from .told import TORCH, fetched

if TYPE_CHECKING:
    from pathlib import Path

    from .quantise import F32

INDEX = "model.safetensors.index.json"
LONGEST_HEADER = 100 << 20
SHARD = re.compile(r"-\d{5}-of-(\d{5})\.safetensors")
WIDTHS = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}
"""Whole numbers are no weights, but encoders of before 2023 list their positions."""


@dataclass(frozen=True)
class RawTensor:
    """One tensor of a safetensors file; see quantise.Tensor."""

    file: Path
    start: int
    dtype: str
    shape: tuple[int, ...]
    packed = ""

    @property
    def end(self) -> int:
        """Where its bytes end."""
        return self.start + math.prod(self.shape) * WIDTHS[self.dtype]

    def read(self) -> F32:
        """See quantise.Tensor."""
        kind = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8"}[self.dtype]
        with self.file.open("rb") as opened:
            opened.seek(self.start)
            found: npt.NDArray[Any] = np.fromfile(opened, kind, math.prod(self.shape)).reshape(self.shape)
        return (found.astype(np.uint32) << np.uint32(16)).view(np.float32) if self.dtype == "BF16" else found.astype(np.float32)

    def blocks(self) -> None:
        """See quantise.Tensor: safetensors hold floats."""

    def part(self, rows: slice) -> RawTensor:
        """See quantise.Tensor."""
        first, last, _ = rows.indices(self.shape[0])
        shape = (last - first, *self.shape[1:])
        return RawTensor(self.file, self.start + first * math.prod(shape[1:]) * WIDTHS[self.dtype], self.dtype, shape)


def read(path: Path) -> dict[str, RawTensor]:
    """Return the tensors of a file, or of a folder with one file or with shards and their index.

    Raises SourceError, naming the file and tensor, for what is missing, cut short or of a type that is not known.
    """
    if path.is_file():
        if (shard := SHARD.search(path.name)) and int(shard[1]) > 1:
            raise SourceError(f"{path.name} is one of {int(shard[1])} files that make the model; give the folder they lie in")
        return _header(path)
    index = path / INDEX
    if not index.is_file():
        whole = path / "model.safetensors"
        if not whole.is_file():
            raise SourceError(f"{path} has neither model.safetensors nor {INDEX}; {_instead(path)}")
        return _header(whole)
    try:
        named: dict[str, str] = json.loads(fetched(index).read_bytes())["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SourceError(f"{index} has no weight_map; fetch it again") from error
    if not isinstance(named, dict) or not all(isinstance(shard, str) for shard in named.values()):
        raise SourceError(f"weight_map in {index} does not name a file for each tensor; fetch it again")
    return _sharded(path, named)


def instead(folder: Path) -> str:
    """Return what to do about a folder that lacks what a checkpoint in Hugging Face's layout has, by what else lies there."""
    if other := _first(folder, "*.gguf"):
        return f"it holds {other.name}: give that file"
    if other := _first(folder, "*.bin", "*.pt", "*.pth"):
        return f"its weights are PyTorch's ({other.name}): {TORCH}"
    if _first(folder, "adapter_config.json"):
        return "it is an adapter (LoRA): merge it into its model first"
    if other := _first(folder, "*/config.json", "snapshots/*/config.json"):
        return f"{other.parent} has them: give that folder"
    return "fetch it with all files of the model"


def _instead(folder: Path) -> str:
    if (other := _first(folder, "*.safetensors")) and not other.name.startswith("adapter"):
        return "fetch the latter too" if SHARD.search(other.name) else f"it holds {other.name}: give that file"
    return instead(folder)


def _first(folder: Path, *patterns: str) -> Path | None:
    return next((file for pattern in patterns for file in sorted(folder.glob(pattern))), None)


def files(path: Path) -> list[Path]:
    """Return the files that a checkpoint's tensors lie in."""
    return sorted({tensor.file for tensor in read(path).values()})


def _sharded(folder: Path, named: dict[str, str]) -> dict[str, RawTensor]:
    headers: dict[str, dict[str, RawTensor]] = {}
    for shard in sorted(set(named.values())):
        if "/" in shard or not (folder / shard).is_file():
            raise SourceError(f"{folder / shard} is missing; {INDEX} names it, so fetch it too")
        headers[shard] = _header(folder / shard)
    for name, shard in named.items():
        if name not in headers[shard]:
            raise SourceError(f"tensor {name} is not in {shard}, where {INDEX} says it is; fetch both again")
    return {name: headers[shard][name] for name, shard in named.items()}


def _header(file: Path) -> dict[str, RawTensor]:
    size = file.stat().st_size
    with fetched(file).open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            raise SourceError(f"{file} is not a whole safetensors file: its header would have {length} bytes; fetch it again")
        try:
            told = json.loads(opened.read(length))
            found = {name: _tensor(file, name, it, 8 + length, size) for name, it in told.items() if name != "__metadata__"}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SourceError(f"{file} has a header that cannot be read ({error}); fetch it again") from error
    _adjoining(file, found, 8 + length, size)
    return found


def _tensor(file: Path, name: str, told: dict[str, Any], base: int, size: int) -> RawTensor:
    kind, shape, (start, end) = told["dtype"], tuple(told["shape"]), told["data_offsets"]
    if kind not in WIDTHS:
        raise SourceError(
            f"tensor {name} in {file.name} has dtype {kind}; only {', '.join(WIDTHS)} can be read: take it unquantised, or a GGUF"
        )
    if not all(type(n) is int and n >= 0 for n in (*shape, start, end)):
        raise SourceError(f"tensor {name} in {file.name} has shape {shape} at {start} to {end}, which cannot be; fetch it again")
    if end - start != math.prod(shape) * WIDTHS[kind]:
        raise SourceError(f"tensor {name} in {file.name} has {end - start} bytes, which its shape {shape} does not make")
    if end > size - base:
        raise SourceError(f"{file} ends before tensor {name}: it is cut short; fetch it again")
    return RawTensor(file, base + start, kind, shape)


def _adjoining(file: Path, tensors: dict[str, RawTensor], base: int, size: int) -> None:
    """Raise SourceError where tensors share bytes, or bytes are no tensor's: such a header is not this data's."""
    at, before = base, "its header"
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if tensor.start != at:
            how = "overlaps" if tensor.start < at else "leaves a gap behind"
            raise SourceError(f"tensor {name} in {file.name} {how} {before}; the file is damaged, fetch it again")
        at, before = tensor.end, name
    if at != size:
        raise SourceError(f"{file} goes on for {size - at} bytes behind its last tensor; it is damaged, fetch it again")
