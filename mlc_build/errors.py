"""What can go wrong while a model is built, in words for the person who asked for it.

    BuildError
    +-- UnknownModel          no such id in the catalogue
    +-- UnknownQuantisation   no such quantisation, or not one of this model's
    +-- MissingTool           emcc or the compiler's packages are not installed
    +-- Busy                  another process builds this model
    +-- Taken                 the id is another model's
    +-- DiskFull              no space left where the cache lives
    +-- SourceError           the weights could not be had, or are not what was promised
    +-- CompileError          a compiler refused its input: a fault of ours or of the toolchain's version
    +-- Damaged               files of a built model are missing or altered

`code` is stable and goes into state.json, manifests and JSON answers; the message names the thing and the remedy.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class BuildError(Exception):
    """Root of the tree."""

    code = "build-failed"


class UnknownModel(BuildError):
    """The id is not in the catalogue."""

    code = "unknown-model"


class UnknownQuantisation(BuildError):
    """The quantisation is not one this model is built in."""

    code = "unknown-quantisation"


class MissingTool(BuildError):
    """A program or package the build needs is not installed."""

    code = "missing-tool"


class Busy(BuildError):
    """Another process holds the build's lock."""

    code = "busy"


class Taken(BuildError):
    """The id is that of a model from another source."""

    code = "taken"


class DiskFull(BuildError):
    """No space left on the device that holds the cache."""

    code = "disk-full"


class SourceError(BuildError):
    """The weights are unobtainable, truncated or not the pinned bytes."""

    code = "source"


class CompileError(BuildError):
    """A compiler or linker refused its input."""

    code = "compile"


class Damaged(BuildError):
    """A built model's files are not what its manifest says."""

    code = "damaged"


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    """Turn a full disk or quota inside the block into DiskFull, naming the folder."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull(f"no space left for {folder}: free some, or set HYBR_HOME to a folder on a larger disk") from error
        raise
