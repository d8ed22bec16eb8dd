"""Whether a WebAssembly module is there to its end: publishers state no sums of libraries, and a cut one begins like a whole one.

    00 61 73 6d 01 00 00 00                          magic and version
    kind (1 byte), size (LEB128), as many bytes      a section; then the next
(webassembly.github.io/spec, binary format, modules)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

HEAD = b"\0asm\1\0\0\0"
LAST = 13
"""The highest kind of section there is (tags, of exceptions)."""


def whole(file: Path) -> bool:
    """Say whether a file is WebAssembly whose last section ends where the file does."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        if opened.read(len(HEAD)) != HEAD:
            return False
        while kind := opened.read(1):
            end = _number(opened) + opened.tell()
            if kind[0] > LAST or end > size:
                return False
            opened.seek(end)
    return size > len(HEAD)


def _number(opened: BinaryIO) -> int:
    """Read a LEB128 of 32 bits, and where it is none a number that is larger than any file."""
    found = 0
    for shift in range(0, 35, 7):
        byte = opened.read(1)
        if not byte:
            break
        found |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return found
    return 1 << 62
