"""The tensor cache on disk, as WebLLM's tvmjs reads it: `tensor-cache.json` and `params_shard_<n>.bin`.

A shard is the concatenation of its records' bytes (little endian, row major); the index says where each record lies. Encoding
`raw` stores the array as it is; `f32-to-bf16` stores the upper half of each float32. Nothing in the files depends on time or
place, so the same parameters give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .errors import Damaged
from .quantise import account, repacked

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from .quantise import Origin, Parameter

INDEX = "tensor-cache.json"
SHARD_BYTES = 32 << 20
"""Shards close at this size: small enough to resume a download by, large enough to keep requests few."""

Array = npt.NDArray[Any]
Raw = bytes | memoryview


class ShardError(Damaged):
    """The files on disk are not a whole tensor cache; the message names the file."""


def write(parameters: Iterable[Parameter], folder: Path) -> list[Path]:
    """Write the parameters into `folder` and return the files made, index first."""
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, Any]] = []
    files: list[Path] = []
    bytes_total = count = 0
    origins: list[Origin] = []
    pending: list[tuple[dict[str, Any], Raw]] = []

    def close() -> None:
        if pending:
            files.append(_close(folder, len(shards), pending, shards))
            pending.clear()

    offset = 0
    for parameter in parameters:
        data = _to_bytes(parameter)
        if pending and offset + len(data) > SHARD_BYTES:
            close()
            offset = 0
        pending.append((_record(parameter, len(data), offset), data))
        offset += len(data)
        bytes_total += len(data)
        count += int(parameter.array.size)
        origins += parameter.origins
    close()
    metadata = {
        "ParamSize": sum(len(shard["records"]) for shard in shards),
        "ParamBytes": bytes_total,
        "BitsPerParam": bytes_total * 8 / max(count, 1),
        "Repacked": repacked(origins),
        "Blocks": account(origins),
    }
    index = folder / INDEX
    index.write_text(json.dumps({"metadata": metadata, "records": shards}, indent=1) + "\n")
    return [index, *files]


def _record(parameter: Parameter, nbytes: int, offset: int) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "shape": list(parameter.array.shape),
        "dtype": str(parameter.array.dtype),
        "format": parameter.encoding,
        "nbytes": nbytes,
        "byteOffset": offset,
    }


def _close(folder: Path, number: int, pending: list[tuple[dict[str, Any], Raw]], shards: list[dict[str, Any]]) -> Path:
    path = folder / f"params_shard_{number}.bin"
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("wb") as file:
        for _, data in pending:
            digest.update(data)
            file.write(data)
    shards.append(
        {
            "dataPath": path.name,
            "format": "raw-shard",
            "nbytes": path.stat().st_size,
            "records": [record for record, _ in pending],
            "md5sum": digest.hexdigest(),
        }
    )
    return path


def _to_bytes(parameter: Parameter) -> Raw:
    array = np.ascontiguousarray(parameter.array)
    if parameter.encoding == "raw":  # no copy: the largest matrix is a good part of what a build may hold
        return array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8).data
    if parameter.encoding == "f32-to-bf16" and array.dtype == np.float32:
        whole = array.view(np.uint32)
        # Round to nearest, ties to even, on the sixteen bits that are dropped.
        rounded = whole + np.uint32(0x7FFF) + ((whole >> np.uint32(16)) & np.uint32(1))
        return (rounded >> np.uint32(16)).astype("<u2").tobytes()
    raise ShardError(f"parameter {parameter.name}: encoding {parameter.encoding!r} does not fit {array.dtype}")


def read(folder: Path) -> dict[str, Array]:
    """Read a tensor cache back into arrays, checking sizes and sums.

    Raises ShardError for a file that is missing, short or altered.
    """
    index = json.loads((folder / INDEX).read_text())
    found: dict[str, Array] = {}
    for shard in index["records"]:
        path = folder / shard["dataPath"]
        if not path.exists():
            raise ShardError(f"{path.name} is missing; build the model again")
        data = path.read_bytes()
        if len(data) != shard["nbytes"]:
            raise ShardError(f"{path.name} has {len(data)} bytes and should have {shard['nbytes']}; build the model again")
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != shard["md5sum"]:
            raise ShardError(f"{path.name} does not have the contents its index promises; build the model again")
        for record in shard["records"]:
            found[record["name"]] = _from_bytes(data[record["byteOffset"] : record["byteOffset"] + record["nbytes"]], record)
    return found


def _from_bytes(data: bytes, record: dict[str, Any]) -> Array:
    if record["format"] == "f32-to-bf16":
        half = np.frombuffer(data, "<u2").astype(np.uint32)
        return (half << np.uint32(16)).view(np.float32).reshape(record["shape"])
    return np.frombuffer(data, np.dtype(record["dtype"]).newbyteorder("<")).reshape(record["shape"])
