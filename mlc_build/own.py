"""Models of a person's own: an entry made of a path, where the catalogue has one ready. Standard library only.

The id is the file's or folder's name with the quantisation, unless one is given; what the checkpoint says of itself (family,
window) is read when it is opened.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

from . import catalogue
from .catalogue import Entry
from .encoder.config import FORMS, is_encoder
from .errors import Taken, UnknownModel, UnknownQuantisation
from .store import ID
from .told import TORCH

if TYPE_CHECKING:
    from collections.abc import Sequence

QUANTISATIONS = ("q4f32_1", "q4e8f32_1", "q0f32", "q4f16_1", "q4e8f16_1", "q0f16")
DEFAULT = "q4e8f32_1"
PREFILL_CHUNK = 256
MOST_CHUNK = 65535
"""A token of a call is a row of workgroups: WebGPU's maxComputeWorkgroupsPerDimension."""
SAMPLING = {"temperature": 0.7, "top_p": 0.95}


def entry_of(
    source: str, quantisation: str | None = None, *, name: str | None = None, context: int | None = None, chunk: int | None = None
) -> Entry:
    """Return what to build for a catalogue id or a path.

    Args:
        source: a catalogue id, a GGUF file, a safetensors file, or a folder in Hugging Face's layout. An id goes first.
        quantisation: instead of the model's default.
        name: id of the built model, instead of the catalogue's or one made of the path.
        context: window in tokens, instead of the catalogue's or the checkpoint's.
        chunk: most tokens of one prefill call.

    Raises:
        UnknownModel: neither an id nor a checkpoint, or an id that cannot be a folder's name.
        UnknownQuantisation: none of those there are.
        Taken: the id is that of another model of the catalogue.

    """
    known = {entry.id: entry.base for entry in catalogue.everything()}
    path = Path(source)
    entry = catalogue.find(source, quantisation) if source in known or not path.exists() else _of(path, quantisation)
    if name is not None and not ID.fullmatch(name):
        raise UnknownModel(f"{name!r} cannot be an id: up to 64 of a-z, 0-9, '.', '_' and '-', the first a letter or digit")
    check_sizes(context, chunk)
    called = name or entry.id
    if called in known and ("path" in entry.source or known[called] != entry.base):
        raise Taken(f"{called} is a model of the catalogue; give this one another --id")
    return dataclasses.replace(
        entry,
        id=called,
        context=context or entry.context,
        prefill_chunk=min(chunk or entry.prefill_chunk, context or entry.context or PREFILL_CHUNK),
    )


def check_sizes(context: int | None, chunk: int | None) -> None:
    """Raise UnknownModel for a window or a call of so many tokens as none can have."""
    for option, value in {"--context": context, "--prefill-chunk": chunk}.items():
        if value is not None and value < 1:
            raise UnknownModel(f"{option} is {value}; it must be at least 1")
    if chunk and chunk > MOST_CHUNK:
        raise UnknownModel(f"--prefill-chunk is {chunk}; a device takes at most {MOST_CHUNK} tokens a call")


def origin_of(entry: Entry) -> str:
    """Return what an entry is built from: a path, or the catalogue's id. Two builds under one id must agree on it."""
    return str(entry.source.get("path") or entry.base)


def _of(path: Path, quantisation: str | None) -> Entry:
    kind = _kind(path)
    encodes = kind == "safetensors" and is_encoder(path if path.is_dir() else path.parent)
    known = tuple(FORMS) if encodes else QUANTISATIONS
    chosen = (known[0] if encodes else DEFAULT) if quantisation is None else quantisation
    if chosen not in known:
        raise UnknownQuantisation(f"there is no quantisation {chosen!r}; choose {_either(known)}")
    name = path.resolve().name if path.is_dir() else path.stem
    base = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")[:48] or "model"
    return Entry(
        id=f"{base}-{chosen.replace('_', '-')}",
        base=base,
        name=f"{name}, {chosen}",
        family="",
        quantisation=chosen,
        source={"kind": kind, "path": str(path.resolve())},
        licence="as its source says",
        origin=name,
        context=0,
        prefill_chunk=PREFILL_CHUNK,
        test_only=False,
        sampling=SAMPLING,
        template={},
        kind="embedding" if encodes else "chat",
    )


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    if path.is_file() and suffix == ".gguf":
        return "gguf"
    if path.is_dir() or suffix == ".safetensors":
        return "safetensors"
    if suffix in {".bin", ".pt", ".pth", ".ckpt"}:
        raise UnknownModel(f"{path} is in PyTorch's own format: {TORCH}")
    raise UnknownModel(f"{path} is neither a GGUF file (.gguf), a safetensors file nor a folder in Hugging Face's layout")


def _either(words: Sequence[str]) -> str:
    return " or ".join(words)
