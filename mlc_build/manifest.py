"""manifest.json: what a built model consists of, and what the page must know before it downloads a byte.

    {"schema": 1, "id", "rev", "files": [{"path", "bytes", "sha256", "sri"}], "bytes", "vram_bytes", "features", "limits",
     "repacked": true when none of the checkpoint's own blocks was rounded a second time, "partly", or false,
     "blocks": what became of them, in words; empty for a checkpoint of floats,
     "shaders": for each library its validation: {"validator": name and version, "modules", "most": taken of each limit by one},
     "mirrored": {"model", "library", "overrides"} for one that came from its publisher as it is (`hybr models mirror`),
     "compiler": for one that another made (`--compiler mlc-llm`),
     and the catalogue's fields: name, family, quantisation, context, licence, origin, test_only}

`rev` is a hash over the files' names and contents, so the manifest holds nothing of when or where it was built.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

from . import memory, store
from .errors import Damaged
from .model.config import width
from .store import MANIFEST, again

if TYPE_CHECKING:
    from pathlib import Path

    from .catalogue import Entry
    from .encoder.config import EncoderConfig
    from .model.config import ModelConfig

FLOAT = 4
PACKED = ".br"

# What WebLLM asks of every adapter.
FLOORS = {
    "maxStorageBuffersPerShaderStage": 10,
    "maxComputeWorkgroupStorageSize": 32768,
    "maxComputeInvocationsPerWorkgroup": 256,
}


def make(
    folder: Path,
    entry: Entry,
    config: ModelConfig | EncoderConfig,
    planned: int,
    *,
    largest: int = 0,
    shaders: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe the files in `folder` (compressed siblings are not files of their own) and write manifest.json there.

    `planned` is the graphics memory that calls need and `largest` the largest buffer of it, as the libraries' compilation found
    them, and `shaders` what that says of each library's validation.
    """
    files = [describe(file, folder) for file in sorted(folder.rglob("*")) if file.is_file() and file.suffix != PACKED]
    weights = sum(item["bytes"] for item in files if item["path"].endswith(".bin"))
    libraries = [item["bytes"] for item in files if item["path"].endswith(".wasm")]
    everything = sum(item["bytes"] for item in files if not item["path"].endswith(".gguf"))  # for another runtime
    kind = width(entry.quantisation)
    largest = max(largest, largest_buffer(folder, config, kind))
    found = {
        "schema": 1,
        "rev": revision(files),
        **entry.public(),
        "bytes": everything - sum(libraries) + max(libraries, default=0),  # a page loads one of the libraries
        "vram_bytes": memory.estimate(config, weights, planned, kind),
        "repacked": _index(folder)["metadata"]["Repacked"],
        "blocks": blocks(folder),
        "features": ["shader-f16"] if kind == "float16" else [],
        "limits": {"maxBufferSize": largest, "maxStorageBufferBindingSize": largest, **FLOORS},
        "shaders": shaders or {},
        "files": files,
    }
    (folder / MANIFEST).write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return found


def foreign(config: dict[str, Any], index: dict[str, Any]) -> dict[str, Any]:
    """Return what the files of a model that was not built here say of it: its `mlc-chat-config.json` and its index."""
    form, records = str(config.get("quantization", "")), index["records"]
    buffers = [_held(one) for shard in records for one in shard["records"]]
    cache, layers = _cache_of(config, 2 if "f16" in form else FLOAT)
    return {
        "family": str(config.get("model_type", "")),
        "quantisation": form,
        "context": int(config.get("context_window_size", 0)),
        "test_only": False,
        "kind": "chat",
        "vram_bytes": sum(buffers) + cache,
        "features": ["shader-f16"] if "f16" in form else [],
        "largest": max([cache // layers, *buffers]),
    }


def _held(record: dict[str, Any]) -> int:
    """Return the bytes that a parameter takes on the device: mlc_llm keeps the upper halves of floats, which tvmjs widens."""
    halved = record.get("format") == "f32-to-bf16" and record.get("dtype") == "float32"
    return int(record["nbytes"]) * (2 if halved else 1)


def _cache_of(config: dict[str, Any], size: int) -> tuple[int, int]:
    """Return the bytes of the KV cache that a configuration asks for, and its layers; 0 where it does not tell its shape."""
    told = config.get("model_config", {})
    names = ("num_hidden_layers", "num_key_value_heads", "head_dim")
    if not all(isinstance(told.get(name), int) for name in names):
        return 0, 1
    layers, heads, dim = (int(told[name]) for name in names)
    return int(config.get("context_window_size", 0)) * layers * 2 * heads * dim * size, max(layers, 1)


def mirrored(folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Describe a model that was not compiled here; `facts` are the fields besides the files, and `largest` its largest buffer."""
    files = [describe(file, folder) for file in sorted(folder.iterdir()) if file.suffix != PACKED]
    largest = facts.pop("largest")
    most = [library["most"] for library in facts.get("shaders", {}).values()]
    limits = {name: max(floor, *(one[name] for one in most)) if most else floor for name, floor in FLOORS.items()}
    found = {
        "schema": 1,
        "rev": revision(files),
        **facts,
        "bytes": sum(item["bytes"] for item in files),
        "repacked": False,
        "limits": {"maxBufferSize": largest, "maxStorageBufferBindingSize": largest, **limits},
        "files": files,
    }
    (folder / MANIFEST).write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return found


def describe(file: Path, folder: Path) -> dict[str, Any]:
    """Return one file's entry: path, size, sha256 in hex and as a subresource integrity string."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").digest()
    sri = f"sha256-{base64.b64encode(digest).decode()}"
    return {"path": file.relative_to(folder).as_posix(), "bytes": file.stat().st_size, "sha256": digest.hex(), "sri": sri}


def revision(files: list[dict[str, Any]]) -> str:
    """Return the revision's name: 16 hex digits over the files' paths and sums."""
    lines = sorted(f"{item['path']} {item['sha256']}\n" for item in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def whole(name: str) -> dict[str, Any]:
    """Return the manifest of the model on the shelf when every file is as that says: of the next one, if it came meanwhile.

    Raises UnknownModel when there is none, or none any longer, and Damaged as `verify` does.
    """
    while True:
        found = store.manifest(name)
        folder = store.root() / name / found["rev"]
        try:
            verify(folder, found)
        except Damaged:
            if store.current(name) == folder:
                raise
        else:
            return found


def verify(folder: Path, found: dict[str, Any]) -> None:
    """Compare every file with the manifest. Raises Damaged with the first that is missing, short or altered."""
    remedy = f"run: hybr models mirror {found['name']}" if "mirrored" in found else again(found["id"])
    remedy += ", --compiler mlc-llm among them" if "compiler" in found else ""
    for item in found["files"]:
        path = folder / item["path"]
        try:
            wrong = _wrong(path, item)
        except FileNotFoundError:
            wrong = f"{path} is missing"
        if wrong:
            raise Damaged(f"{wrong}; {remedy}")
    if revision(found["files"]) != folder.name:
        raise Damaged(f"{folder / MANIFEST} does not belong to revision {folder.name}; {remedy}")


def _wrong(path: Path, item: dict[str, Any]) -> str:
    """Return what is wrong with a file or its compressed sibling, nothing for nothing. Raises FileNotFoundError."""
    size = path.stat().st_size
    if size != item["bytes"]:
        return f"{path} has {size} bytes and should have {item['bytes']}"
    if describe(path, path.parent)["sha256"] != item["sha256"]:
        return f"{path} was altered or damaged (its sha256 differs from the manifest's)"
    packed = path.with_name(path.name + PACKED)
    if packed.is_file() and not _unpacks(packed, item["sha256"]):
        return f"{packed} was altered or damaged (it does not unpack to {path.name})"
    return ""


def _unpacks(packed: Path, wanted: str) -> bool:
    """Say whether a compressed sibling holds the bytes with this sha256."""
    import brotli

    try:
        return hashlib.sha256(brotli.decompress(packed.read_bytes())).hexdigest() == wanted
    except brotli.error:
        return False


def largest_buffer(folder: Path, config: ModelConfig | EncoderConfig, kind: str = "float32") -> int:
    """Return the size of the largest single buffer beside those of calls: a parameter, or one of the runtime's own."""
    index = _index(folder)
    parameters = [int(record["nbytes"]) for shard in index["records"] for record in shard["records"]]
    return max([*parameters, memory.largest(config, kind)])


FATES = {"repacked": "taken over as they were", "unpacked": "unpacked exactly", "rounded": "rounded a second time"}


def blocks(folder: Path) -> str:
    """Return in words what became of the checkpoint's quantised matrices (`quantise.account` in the index of a folder)."""
    told = _index(folder)["metadata"].get("Blocks", [])
    return "; ".join(f"{one['matrices']} in {one['packed']} {FATES[one['fate']]} ({one['encoding']})" for one in told)


def _index(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "tensor-cache.json").read_bytes())
    return found
