"""The shelf of built models: `$HYBR_HOME/models/<id>/<rev>/` and, beside the revisions, `state.json`. Standard library only.

A revision's name is a hash of its contents, so its URLs never change meaning. A folder with such a name is whole: it was renamed
into place after its last byte. state.json is what the page shows while a build runs, in whichever process:

    {"state": "building|built|failed", "progress": {"step", "fraction", "text", "eta_s"} | null,
     "error": {"code", "message"} | null, "rev": "<16 hex>" | null, "made_by": "<maker.fingerprint of rev>" | null,
     "manifest": "<sha256 of rev's manifest.json>" | null, "source": "<what rev was built from>" | null,
     "pid": 123, "updated": <unix seconds>}
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import re
import shutil
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybr.server import paths

from . import maker
from .errors import BuildError, Busy, Damaged, Taken, UnknownModel
from .lock import alive, hold
from .steps import PREFIX, drop, publish

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

STATE = "state.json"
USED = ".kept"
"""Held, shared, by whoever builds: no kept step goes meanwhile."""
MANIFEST = "manifest.json"
REV = re.compile(r"[0-9a-f]{16}")
ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""What a model may be called: it is a folder's name and a part of URLs."""


def root() -> Path:
    """Return the shelf's folder."""
    return paths.home() / "models"


def read(name: str) -> dict[str, Any]:
    """Return a model's state; `missing` when nothing was built, or when the builder died."""
    state = _state(name)
    if not state:
        return {"state": "missing", "progress": None, "error": None, "rev": None}
    dead = state.get("state") == "building" and not alive(state.get("pid"))
    if dead or state.get("state") == "built":
        return {**state, "state": "built" if _folder(name, state) else "missing", "progress": None}
    return state


def write(name: str, state: str, *, progress: dict[str, Any] | None = None, error: dict[str, str] | None = None) -> None:
    """Write a model's state; the revision that is there stays in it, so that a rebuild does not hide the last build."""
    folder, before = root() / name, _state(name)
    folder.mkdir(parents=True, exist_ok=True)
    kept = {key: before.get(key) for key in ("rev", "made_by", "manifest", "source")}
    _replace(folder / STATE, {"state": state, "progress": progress, "error": error, **kept})


def fail(name: str, error: Exception) -> None:
    """Leave the reason where the page finds it; on a full disk the exception under way says it all."""
    code = error.code if isinstance(error, BuildError) else "internal"
    with suppress(OSError):
        write(name, "failed", error={"code": code, "message": str(error) or type(error).__name__})


def put(name: str, made: Path, rev: str, source: str | None = None) -> Path:
    """Move a whole build of `source` into place as revision `rev`, name it in state.json and return its folder.

    The revision before it stays until the next build: a page may be downloading it. Earlier ones are dropped.
    """
    final, before = root() / name / rev, _state(name)
    publish(made, final)
    if made.is_dir():  # the same revision was there
        unsure = {"state": "building", "progress": None, "error": None, **before, "manifest": None}
        _replace(final.parent / STATE, unsure)  # its manifest may become another, which would look like damage
        _renew(made, final)
    found = {
        "state": "built", "progress": None, "error": None, "rev": rev, "made_by": maker.fingerprint(),
        "manifest": hashlib.sha256((final / MANIFEST).read_bytes()).hexdigest() if (final / MANIFEST).is_file() else None,
        "source": source,
    }  # fmt: skip
    _replace(final.parent / STATE, found)
    for other in final.parent.iterdir():
        if other.name not in {rev, before.get("rev")} and REV.fullmatch(other.name):
            drop(other)
    return final


def _renew(made: Path, final: Path) -> None:
    """Put a build's files over those of the same revision, one by one: what was damaged there is whole again.

    The manifest goes last; a newer compiler may have more to say in it of the same files.
    """
    for file in sorted(made.iterdir(), key=lambda file: file.name == MANIFEST):
        there = final / file.name
        if not (there.is_file() and (there.samefile(file) or filecmp.cmp(there, file, shallow=False))):
            file.replace(there)


def current(name: str) -> Path | None:
    """Return the folder of the model's built revision, or None."""
    return _folder(name, _state(name))


def manifest(name: str) -> dict[str, Any]:
    """Return the manifest of a built model: the one before or the next one, where a build publishes meanwhile.

    Raises UnknownModel when there is none, Damaged when it was altered.
    """
    while True:
        state = _state(name)
        try:
            return _manifest(name, state)
        except (UnknownModel, Damaged):
            now = _state(name)
            if [now.get(key) for key in ("rev", "manifest")] == [state.get(key) for key in ("rev", "manifest")]:
                raise


def _manifest(name: str, state: dict[str, Any]) -> dict[str, Any]:
    folder = _folder(name, state)
    if folder is None:
        if (now := read(name))["state"] == "building":
            raise UnknownModel(f"{name} is not built yet: process {now['pid']} builds it; wait for it")
        raise UnknownModel(f"{name} is not built; {again(name)}")
    try:
        raw = (folder / MANIFEST).read_bytes()
        found: dict[str, Any] = json.loads(raw)
    except (OSError, ValueError) as error:
        raise Damaged(f"{folder / MANIFEST} cannot be read ({error}); {again(name)}") from error
    if state.get("manifest") not in {None, hashlib.sha256(raw).hexdigest()}:  # None: nobody noted it
        raise Damaged(f"{folder / MANIFEST} was altered or damaged since it was published; {again(name)}")
    return found


def again(name: str) -> str:
    """Return what builds or mirrors a model again, for a person."""
    source = str(read(name).get("source") or "")
    if "://" in source:
        return f"run: hybr models mirror {source} --id {name}, with the options it was mirrored with"
    own = f"{source} --id {name}, with the options it was built with" if source.startswith("/") else name
    return f"run: hybr models build {own}"


def names() -> list[str]:
    """Return the ids that have a state, sorted."""
    return sorted(path.parent.name for path in root().glob(f"*/{STATE}"))


def remove(name: str) -> dict[tuple[int, int], int]:
    """Delete a model's builds, and what a mirror of it has fetched; return the sizes of its files by device and inode.

    Raises UnknownModel for none, Busy while one is made.
    """
    folder = _known(name)
    with building(name, doing="removed"):
        _known(name)  # another may have removed it
        sizes = {(file.st_dev, file.st_ino): file.st_size for file in map(os.stat, folder.glob("*/*"))}
        (folder / STATE).unlink(missing_ok=True)  # first: what is removed half must not pass for built
        for rev in sorted(folder.iterdir()):
            if REV.fullmatch(rev.name):
                drop(rev)  # whole at once: nor must it be served
        shutil.rmtree(folder)
        shutil.rmtree(paths.home() / "mirrors" / name, ignore_errors=True)
    return sizes


def _known(name: str) -> Path:
    """Return a model's folder, built or not. Raises UnknownModel where it has none; `..` is a folder too."""
    folder = root() / name
    if not ID.fullmatch(name) or not folder.is_dir():
        raise UnknownModel(f"{name} is not built; there are {', '.join(names()) or 'none'}")
    return folder


def discard(name: str) -> tuple[int, int]:
    """Remove a model, and the kept steps that were its alone; return the bytes that are free now, and those that stay.

    A model's weights and libraries are links to its steps' files. A step stays that another model consists of; and all stay while
    a build runs, since it may be about to take them. Raises what `remove` raises.
    """
    sizes = remove(name)
    with suppress(BlockingIOError), hold(root() / USED, wait=False):
        for step in {file.parent for file in _kept(sizes)}:
            if all(file.stat().st_nlink == 1 for file in step.iterdir()):
                drop(step)
    stays = sum(_kept(sizes).values())
    return sum(sizes.values()) - stays, stays


def _kept(linked: Container[tuple[int, int]]) -> dict[Path, int]:
    """Return the files of kept steps that have one of these devices and inodes, with their sizes."""
    found = dict[Path, int]()
    for folder, _, files in os.walk(paths.home() / "steps"):  # not glob: a build that runs moves its own
        for file in map(Path(folder).joinpath, files):
            with suppress(FileNotFoundError):
                stat = file.stat()
                found |= {file: stat.st_size} if (stat.st_dev, stat.st_ino) in linked else {}
    return found


@contextmanager
def building(name: str, source: str | None = None, *, doing: str = "built") -> Iterator[None]:
    """Be the one process that has this model in hand: builds it, from `source`, or whatever else is `doing` to it.

    Raises Busy, saying what another does to it and its process id, and Taken where a model of another source has this id.
    """
    lock = root() / f".{name}.lock"
    try:
        with hold(lock, wait=False), hold(root() / USED, shared=True):
            with suppress(OSError):  # a full disk, where a removal is what helps
                lock.write_text(f"{doing} by process {os.getpid()}", encoding="utf-8")
            before = read(name).get("source") if current(name) else None
            if before and source and before != source:
                raise Taken(f"{name} is built from {before}; give this one another --id, or remove that: hybr models rm {name}")
            yield
    except BlockingIOError as error:
        told = lock.read_text(encoding="utf-8")
        known = re.fullmatch(r"\w+ by process (\d+)", told)
        doing = f"being {told}" if known and alive(int(known[1])) else "in the hands of another process"  # it comes, or goes
        raise Busy(f"{name} is {doing} already; wait for it, or stop it") from error


def workplace(name: str) -> Path:
    """Return the folder under which a build's temporary folder goes: the same disk as the shelf, and swept by the next build."""
    folder = root() / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _state(name: str) -> dict[str, Any]:
    """Return what state.json says; empty where there is none, or none that can be read."""
    try:
        found = json.loads((root() / name / STATE).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _folder(name: str, state: dict[str, Any]) -> Path | None:
    """Return the folder of the revision that a state names, where it is one and is there."""
    rev = state.get("rev")
    if not (ID.fullmatch(name) and isinstance(rev, str) and REV.fullmatch(rev)):
        return None
    folder = root() / name / rev
    return folder if (folder / MANIFEST).is_file() else None


def _replace(path: Path, content: dict[str, Any]) -> None:
    fresh = path.with_name(f"{PREFIX}{os.getpid()}-{path.name}")
    try:
        fresh.write_text(json.dumps({**content, "pid": os.getpid(), "updated": int(time.time())}) + "\n", encoding="utf-8")
        fresh.replace(path)
    except OSError:  # a full disk
        fresh.unlink(missing_ok=True)
        raise
