"""Debian's emscripten, as the one tool outside Python that a build needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import CompileError, DiskFull, MissingTool

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOM = 16 << 20
"""Bytes free below which a failed command is put down to the disk: a library takes 5 MB, its pieces twice that."""

REMEDY = "install it with: apt-get install emscripten"


def find() -> str:
    """Return emcc's path. Raises MissingTool with the line that installs it."""
    path = os.environ.get("EMCC") or shutil.which("emcc")
    if not path:
        raise MissingTool(f"emcc is not on the PATH; it links a model's library. {REMEDY} (or point EMCC at another emcc)")
    return path


@cache
def version(emcc: str) -> str:
    """Return the first line of `emcc --version`, which goes into the caches' keys."""
    return run([emcc, "--version"]).splitlines()[0]


def run(command: Sequence[str], cwd: Path | None = None) -> str:
    """Run one emscripten command and return what it printed.

    Raises MissingTool when it cannot be started, DiskFull when it fails for want of space (the linker then crashes without
    a word of it), and CompileError, with the tail of its output, when it fails otherwise.
    """
    try:
        done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except OSError as error:
        raise MissingTool(f"{command[0]} cannot be started ({error.strerror}); {REMEDY}") from error
    if done.returncode:
        _complain_of_space(command, cwd or Path())
        tail = "\n".join(done.stdout.strip().splitlines()[-20:])
        raise CompileError(f"{Path(command[0]).name} failed on {command[-1]} with status {done.returncode}:\n{tail}")
    return done.stdout


def _complain_of_space(command: Sequence[str], cwd: Path) -> None:
    """Raise DiskFull when the folder of the command's output, or that of temporary files, has no room for a library."""
    target = [(cwd / command[command.index("-o") + 1]).parent] if "-o" in command else []
    for folder in target:
        room(folder, "HYBR_HOME")
    room(Path(tempfile.gettempdir()), "TMPDIR")


def room(folder: Path, variable: str) -> None:
    """Raise DiskFull, naming the variable that moves it, when a folder's disk has no room for a library's pieces."""
    if shutil.disk_usage(folder).free < ROOM:
        raise DiskFull(f"no space left for {folder}: free some, or set {variable} to a folder on a larger disk")
