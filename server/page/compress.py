"""Brotli siblings: `file` gets `file.br`, made once for the same contents."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import brotli  # type: ignore[import-untyped]

from hybr.server import paths

if TYPE_CHECKING:
    from pathlib import Path

# Already compressed, or too small for it to matter.
SKIP = {".woff2", ".png", ".jpg", ".webp"}
SMALLEST = 512
# 9 costs 4 s for the whole bundle on one core; 11 would cost 60 s for 11 % less (measured), so it is left to `squeeze`.
FAST, BEST = 9, 11
WINDOW = 24


def store() -> Path:
    """Return the folder of compressed blobs."""
    return paths.home() / "page" / "blobs"


def blob(contents: bytes, quality: int) -> Path:
    """Return the file that holds `contents` compressed, making it when it is new; a better one is taken when there."""
    name = hashlib.sha256(contents).hexdigest()
    best = store() / f"{name}.{BEST}.br"
    path = best if best.exists() else store() / f"{name}.{quality}.br"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, brotli.compress(contents, quality=quality, lgwin=WINDOW))
    return path


def write(path: Path, contents: bytes) -> None:
    """Write a file so that nobody ever sees half of it."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.new")
    partial.write_bytes(contents)
    partial.replace(path)


def siblings(folder: Path, quality: int = FAST) -> None:
    """Give every file under `folder` that is worth it a `.br` sibling."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in SKIP | {".br"} and path.stat().st_size >= SMALLEST:
            link(blob(path.read_bytes(), quality), path.with_name(f"{path.name}.br"))


def link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source` (a hard link; a copy where the file system has none), atomically."""
    partial = target.with_name(f"{target.name}.{os.getpid()}.new")
    try:
        os.link(source, partial)
    except OSError:
        partial.write_bytes(source.read_bytes())
    partial.replace(target)
