"""A build's steps, each kept in a folder named by the hash of what went in.

A step writes into a folder of its own beside the final place and is renamed when it is whole, so what is there is complete:
a build that was interrupted goes on after its last finished step, and two builds may run side by side. What dead builds
left behind is swept at the next one. Beside a step's files lie their sums, and they are looked at before it is used again: the
shelf's files are links to them, so what was damaged there is damaged here too, and is made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import disk
from .lock import alive, hold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PREFIX = "tmp-"
LOCK = ".lock"
SUMS = ".sums"
"""What a step's files were when they were made: JSON, sha256 by name."""


def key(*parts: object) -> str:
    """Return 16 hex digits over the parts; a Path stands for the contents of that file or of the files below it."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for file in _files(part):
                digest.update(
                    f"{file.relative_to(part.parent).as_posix()}\0".encode() + hashlib.sha256(file.read_bytes()).digest()
                )
        else:
            digest.update(f"{part!r}\0".encode())
    return digest.hexdigest()[:16]


def once(final: Path, make: Callable[[Path], None]) -> Path:
    """Return `final`, a folder, letting `make` fill it when it is not there yet.

    `make` gets an empty folder on the same disk. Raises what it raises, and DiskFull; then nothing is left behind.
    """
    if not whole(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        # One at a time of each kind: two builds that want the same thing share it, and a small machine has no room for two.
        with disk(final.parent), hold(final.parent / LOCK), workspace(final.parent) as made:
            if not whole(final):
                make(made)
                dump(sums(made), made / SUMS)
                drop(final)
                publish(made, final)
    os.utime(final)  # in use: prune leaves it
    return final


def whole(folder: Path) -> bool:
    """Say whether a finished step is there, with the bytes that it was made with.

    One that an earlier compiler left, which noted no sums, is taken as it is, and noted.
    """
    if not folder.is_dir():
        return False
    if not (folder / SUMS).exists():
        noted = folder.with_name(f"{PREFIX}{os.getpid()}-{folder.name}")
        dump(sums(folder), noted)
        noted.replace(folder / SUMS)  # whole at once: another process may be looking
    try:
        return bool(json.loads((folder / SUMS).read_bytes()) == sums(folder))
    except ValueError:
        return False


def sums(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file of a step, by name."""
    found = {}
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.name != SUMS:
            with file.open("rb") as opened:
                found[file.name] = hashlib.file_digest(opened, "sha256").hexdigest()
    return found


def publish(made: Path, final: Path) -> None:
    """Rename a whole folder into place; when another process was faster, its equal result stays and ours is dropped."""
    final.parent.mkdir(parents=True, exist_ok=True)
    made.chmod(0o755)  # temporary folders are made for their owner alone
    try:
        made.replace(final)
    except OSError:
        if not final.is_dir():
            raise


class workspace:  # noqa: N801 - read as a word of the with statement
    """A temporary folder under `parent` that bears our process id, so that others know when it is nobody's."""

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        sweep(parent)
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def prune(parent: Path, days: float = 14) -> None:
    """Remove the results that no build has used for so many days."""
    oldest = time.time() - days * 86400
    for folder in parent.iterdir():
        with suppress(FileNotFoundError):  # another build's own, which it moves
            if folder.is_dir() and folder.stat().st_mtime < oldest:
                drop(folder)


def drop(folder: Path) -> None:
    """Remove a step, if it is there. It loses its name first: one that is removed half must not pass for a whole one."""
    with suppress(FileNotFoundError):
        gone = folder.replace(folder.with_name(f"{PREFIX}{os.getpid()}-{folder.name}"))
        shutil.rmtree(gone, ignore_errors=True)


def dump(content: object, file: Path) -> None:
    """Write JSON that is the same bytes for the same content."""
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def sweep(parent: Path) -> None:
    """Remove the temporary folders and files of processes that are gone."""
    for left in parent.glob(f"{PREFIX}*"):
        pid = left.name.removeprefix(PREFIX).split("-")[0]
        if not (pid.isdigit() and alive(int(pid))):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _files(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
