"""Hashes that name things: the same contents have the same name, on every machine."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LENGTH = 16
IGNORED = {"__pycache__", "node_modules", ".mypy_cache", ".ruff_cache"}


def of(*parts: bytes | str) -> str:
    """Return 16 hex digits over the parts; the boundaries between them count."""
    total = hashlib.sha256()
    for part in parts:
        contents = part.encode() if isinstance(part, str) else part
        total.update(len(contents).to_bytes(8, "little"))
        total.update(contents)
    return total.hexdigest()[:LENGTH]


def files(root: Path) -> Iterable[Path]:
    """Yield every source file under `root`, sorted, without caches and installed packages."""
    for path in sorted(root.iterdir()):
        if path.name in IGNORED or path.name.startswith(".") or path.suffix == ".pyc":
            continue
        if path.is_dir():
            yield from files(path)
        else:
            yield path


def tree(root: Path) -> str:
    """Return the hash of a folder's file names and contents."""
    return of(*(part for path in files(root) for part in (path.relative_to(root).as_posix(), path.read_bytes())))
