"""Put the bundle together: `$HYBR_HOME/page/<hash>/` with `index.html` and `assets/<hash>/...`.

The hash is that of every input (our static/ and webapp/, this builder, the two locks), so "is it built?" is one look at
the disk, an edited source gives a new address, and what lies under an address never changes. A build goes to a folder of its
own and is renamed when whole and when the inputs are still those its name promises; two builds at once end with the same
bytes and one of them is dropped. What a server uses is marked, so that building another bundle does not take it away.
"""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hybr.server import paths
from hybr.server.errors import BuildError

from . import archive, compiler, compress, digest, npm, parts, wheels

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS = 2  # pieces made at a time; each is one core's work
STALE_S = 3600  # what a killed build left is no build under way any more
KEPT = 4  # bundles that stay on disk: open tabs still ask for the last ones
USED_S = 7 * 24 * 3600  # so long after a server last used it a bundle stays, however many are newer
MARK = "used"  # the file in a bundle whose time says when a server last used it
ATTEMPTS = 3  # builds begun because a source was edited during the last one


class Progress(Protocol):
    """Takes a line for the person and how far the build is, 0 to 1."""

    def __call__(self, text: str, fraction: float | None = None, /) -> None:
        """Show it."""


def quiet(text: str, fraction: float | None = None, /) -> None:
    """Show nothing."""


def key() -> str:
    """Return the hash of every input."""
    static, here = paths.package("static"), Path(__file__).parent
    ours = [digest.tree(static / "js"), digest.tree(static / "css"), digest.tree(paths.package("webapp")), digest.tree(here)]
    return digest.of(*ours, (static / "index.html").read_bytes(), (static / "package-lock.json").read_bytes())


def current() -> Path | None:
    """Return the folder of the bundle that matches the sources as they are now, or None when it is not built."""
    folder = paths.home() / "page" / key()
    return folder if whole(folder) else None


def whole(folder: Path) -> bool:
    """Say whether a bundle lies there; its document is written last, and the folder renamed after that."""
    return (folder / "index.html").is_file()


def use(folder: Path) -> None:
    """Mark the bundle as used now. Where that cannot be written down, or it is gone, nothing happens."""
    with suppress(OSError):
        (folder / MARK).touch()


def build(progress: Progress = quiet) -> Path:
    """Return the bundle's folder, building it when it is not there (at most 30 s on two cores, downloads included).

    Sources edited during the build make it start over. Raises BuildError with the reason and the remedy; a failed build
    leaves nothing behind that could be taken for whole.
    """
    for _ in range(ATTEMPTS):
        if found := current():
            os.utime(found)
            return found
        if made := attempt(key(), progress):
            prune(made)
            return made
        progress("the sources were edited meanwhile: starting over", 0.0)
    raise BuildError(f"the page's sources were edited during each of {ATTEMPTS} builds: try again when they are at rest")


def attempt(name: str, progress: Progress) -> Path | None:
    """Build the bundle that the inputs hash to `name`; return None when they are others by the end, and keep nothing of it."""
    folder = paths.home() / "page" / name
    partial = folder.with_name(f"{name}.{os.getpid()}.new")
    try:
        assemble(partial, name, progress)
        if key() != name:
            return None
        publish(partial, folder)
    except OSError as error:
        raise BuildError(f"the page's bundle could not be written to {folder.parent}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def publish(partial: Path, folder: Path) -> None:
    """Give the finished bundle its name, unless another build was quicker; what is left of a half-removed one makes way."""
    if not whole(folder):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        partial.rename(folder)
    except OSError:
        if not whole(folder):
            raise


def assemble(folder: Path, name: str, progress: Progress) -> None:
    """Write the whole bundle into `folder`: fetch, then make its pieces side by side (Node and Brotli run outside our lock)."""
    progress("npm packages", 0.0)
    modules = npm.folder()
    progress(f"Python packages: {', '.join(wheels.names())}", 0.05)
    fetched = wheels.fetch()
    jobs = pieces(folder / "assets" / name, modules, fetched)
    done = 0
    with ThreadPoolExecutor(WORKERS) as pool:
        for future in as_completed([pool.submit(work, text) for text, work in jobs.items()]):
            done += 1
            progress(future.result(), 0.3 + 0.7 * done / len(jobs))
    page = (paths.package("static") / "index.html").read_text(encoding="utf-8").replace("{{assets}}", f"/assets/{name}")
    (folder / "index.html").write_text(page, encoding="utf-8")


def pieces(assets: Path, modules: Path, fetched: list[Path]) -> dict[str, Callable[[str], str]]:
    """Return what is to be made: a name for people, and the work, which returns that name when it is done."""
    pyodide = modules / "pyodide"

    def python(target: str, entries: parts.Entries, **options: Any) -> Callable[[str], str]:
        def work(text: str) -> str:
            archive.write(assets / target, compiler.compiled(entries, pyodide, **options))
            compress.sibling(assets / target)
            return text

        return work

    def files(text: str) -> str:
        for path, contents in [*parts.shell(), *parts.vendored(modules), *parts.data(modules), *parts.browser_side(fetched)]:
            target = assets / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(contents)
            compress.sibling(target)
        return text

    stdlib = python("vendor/pyodide/python_stdlib.zip", parts.python_stdlib(modules), prefix="/lib/python/", optimize=2)
    return {
        "Panel, compiled and compressed": python("py/panel.zip", parts.python_panel(fetched)),
        "Python's standard library, compiled and compressed": stdlib,
        "JavaScript and styles, compressed": files,
        "the orchestrator, compiled and compressed": python("py/core.zip", parts.python_core()),
    }


def bundles() -> list[Path]:
    """Return the whole bundles on disk, the last used first."""
    found = [path for path in (paths.home() / "page").glob("*") if len(path.name) == digest.LENGTH and whole(path)]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def in_use(folder: Path) -> bool:
    """Say whether a server used the bundle in the last days."""
    mark = folder / MARK
    return mark.is_file() and mark.stat().st_mtime > time.time() - USED_S


def prune(keep: Path) -> None:
    """Remove bundles beyond the last few that no server uses, leavings of killed builds, and blobs that no bundle uses."""
    for old in [path for path in bundles() if path != keep][KEPT - 1 :]:
        if not in_use(old):
            shutil.rmtree(old, ignore_errors=True)
    before = time.time() - STALE_S
    for leaving in (paths.home() / "page").glob("*.new"):
        if leaving.stat().st_mtime < before:
            shutil.rmtree(leaving, ignore_errors=True)
    for blob in compress.store().glob("*.br"):
        status = blob.stat()
        if status.st_nlink == 1 and status.st_mtime < before:
            blob.unlink(missing_ok=True)
