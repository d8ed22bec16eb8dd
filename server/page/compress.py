"""Brotli siblings: `file` gets `file.br`, made once for the same contents."""

from __future__ import annotations

import hashlib
import os
from threading import get_ident
from typing import TYPE_CHECKING

import brotli

from hybr.server import paths

if TYPE_CHECKING:
    from pathlib import Path

# Already compressed, or too small for it to matter.
SKIP = {".woff2", ".png", ".jpg", ".webp"}
SMALLEST = 512
# 9 costs 5 s for the whole bundle on one core; 11 would cost 60 s for 11 % less (measured).
QUALITY = 9
WINDOW = 24


def store() -> Path:
    """Return the folder of compressed blobs."""
    return paths.home() / "page" / "blobs"


def blob(contents: bytes) -> Path:
    """Return the file that holds `contents` compressed, making it when it is new."""
    path = store() / f"{hashlib.sha256(contents).hexdigest()}.br"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, brotli.compress(contents, quality=QUALITY, lgwin=WINDOW))
    return path


def write(path: Path, contents: bytes) -> None:
    """Write a file so that nobody ever sees half of it."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.{get_ident()}.new")
    partial.write_bytes(contents)
    partial.replace(path)


def sibling(path: Path) -> None:
    """Give the file a `.br` sibling, if it is worth it."""
    if path.suffix not in SKIP and path.stat().st_size >= SMALLEST:
        link(blob(path.read_bytes()), path.with_name(f"{path.name}.br"))


def link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source` (a hard link; a copy where the file system has none), atomically."""
    partial = target.with_name(f"{target.name}.{os.getpid()}.{get_ident()}.new")
    try:
        os.link(source, partial)
    except OSError:
        partial.write_bytes(source.read_bytes())
    partial.replace(target)
