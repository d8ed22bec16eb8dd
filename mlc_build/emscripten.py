"""Debian's emscripten, as the one tool outside Python that a build needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import CompileError, MissingTool

if TYPE_CHECKING:
    from collections.abc import Sequence

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

    Raises MissingTool when it cannot be started and CompileError, with the tail of its output, when it fails.
    """
    try:
        done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except OSError as error:
        raise MissingTool(f"{command[0]} cannot be started ({error.strerror}); {REMEDY}") from error
    if done.returncode:
        tail = "\n".join(done.stdout.strip().splitlines()[-20:])
        raise CompileError(f"{Path(command[0]).name} failed on {command[-1]} with status {done.returncode}:\n{tail}")
    return done.stdout
