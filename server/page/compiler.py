"""Python source to the page's own bytecode, by Pyodide in Node (compile.mjs), remembered by contents."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from hybr.server import paths
from hybr.server.errors import BuildError

from . import archive, digest

SCRIPT = Path(__file__).with_name("compile.mjs")

Entries = list[tuple[str, bytes]]


def compiled(entries: Entries, pyodide: Path, *, prefix: str = "/app/", optimize: int = 0) -> Entries:
    """Return the entries with each `.py` replaced by its `.pyc`; anything else stays as it is.

    `pyodide` is the npm package's folder; `prefix` is the path under which tracebacks name the files; `optimize` is
    Python's own level (2 leaves docstrings and asserts out). The result is kept in the cache under the hash of the
    sources and of Pyodide, so an unchanged part costs one read. Raises BuildError when Node is missing or a file has a
    syntax error.
    """
    sources = sorted(entry for entry in entries if entry[0].endswith(".py"))
    if not sources:
        return entries
    key = digest.of(
        SCRIPT.read_bytes(),
        (pyodide / "package.json").read_bytes(),
        prefix,
        str(optimize),
        *(part for entry in sources for part in entry),
    )
    kept = paths.home() / "page" / "compiled" / f"{key}.zip"
    if not kept.exists():
        with tempfile.TemporaryDirectory() as work:
            partial = Path(work) / "compiled.zip"
            archive.write(partial, run(sources, pyodide, Path(work), [prefix, str(optimize)]))
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(partial, kept.with_suffix(f".{os.getpid()}.new"))
            kept.with_suffix(f".{os.getpid()}.new").rename(kept)
    return [entry for entry in entries if not entry[0].endswith(".py")] + archive.read(kept)


def run(sources: Entries, pyodide: Path, work: Path, options: list[str]) -> Entries:
    """Compile the sources in the scratch folder `work`."""
    source, target = work / "source", work / "target"
    target.mkdir()
    for name, contents in sources:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)
    if not (node := shutil.which("node")):
        raise BuildError("Node 20 or newer is needed to compile the page's Python, and there is no `node` on the PATH")
    result = subprocess.run(
        [node, str(SCRIPT), str(pyodide), str(source), str(target), *options], capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise BuildError(f"the page's Python does not compile: {result.stderr.strip()[-600:]}")
    return [(path.relative_to(target).as_posix(), path.read_bytes()) for path in sorted(target.rglob("*.pyc"))]
