"""How the bundle is made: the same bytes again, nothing half-written, failures that name the remedy."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import brotli
import pytest

from hybr.server import page
from hybr.server.errors import BuildError
from hybr.server.page import archive, build, compiler, compress, digest, npm, parts, wheels

if TYPE_CHECKING:
    from pathlib import Path


builder = sys.modules["hybr.server.page.build"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("HYBR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_archives_come_out_the_same(tmp_path: Path) -> None:
    """Order and time of day do not show in an archive."""
    entries = [("b/two.py", b"2"), ("a.py", b"1")]
    archive.write(tmp_path / "one.zip", entries)
    archive.write(tmp_path / "two.zip", reversed(entries))
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert archive.read(tmp_path / "one.zip") == sorted(entries)


def test_compiling_twice_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two empty caches, the same sources: the same bytecode, and none of the sources."""
    modules = npm.folder()
    results = []
    for name in ("one", "two"):
        monkeypatch.setenv("HYBR_HOME", str(tmp_path / name))
        results.append(compiler.compiled(parts.python_core(), modules / "pyodide"))
    assert results[0] == results[1]
    assert all(name.endswith(".pyc") for name, _ in results[0])


def test_a_syntax_error_names_the_file(home: Path) -> None:
    """A module that does not compile fails the build, and nothing is remembered of it."""
    with pytest.raises(BuildError, match=r"broken\.py"):
        compiler.compiled([("hybr/broken.py", b"def ("), ("hybr/fine.py", b"a = 1")], npm.folder() / "pyodide")
    assert not list(home.rglob("*.zip"))


def test_no_node_is_a_clear_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Node on the PATH the message says what is needed."""
    modules = npm.folder()
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(BuildError, match="Node 20"):
        compiler.compiled([("a.py", b"a = 1")], modules / "pyodide")


def test_a_wrong_hash_is_refused(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel whose bytes are not the locked ones ends the build, and nothing of it stays."""
    lock = tmp_path / "requirements.lock"
    lock.write_text("mdurl==0.1.2 --hash=sha256:" + "0" * 64 + "\n")
    monkeypatch.setattr(wheels, "LOCK", lock)
    with pytest.raises(BuildError, match=r"mdurl==0\.1\.2"):
        wheels.fetch()
    assert not list((home / "page" / "wheels").iterdir())


def test_compressed_siblings_hold_the_same_bytes(home: Path) -> None:
    """`file.br` decompresses to `file`; small files and those already compressed get none."""
    folder = home / "some"
    folder.mkdir(parents=True)
    text = b"export const answer = 42;\n" * 100
    for name, contents in {"a.js": text, "b.js": text, "c.woff2": text, "d.js": b"x"}.items():
        (folder / name).write_bytes(contents)
        compress.sibling(folder / name)
    assert brotli.decompress((folder / "a.js.br").read_bytes()) == text
    assert (folder / "a.js.br").stat().st_ino == (folder / "b.js.br").stat().st_ino
    assert sorted(path.name for path in folder.glob("*.br")) == ["a.js.br", "b.js.br"]


def test_the_hash_follows_every_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A changed or added source makes another key; caches and installed packages do not."""
    source = tmp_path / "part"
    (source / "__pycache__").mkdir(parents=True)
    (source / "a.py").write_text("1")
    first = digest.tree(source)
    (source / "__pycache__" / "a.pyc").write_text("x")
    assert digest.tree(source) == first
    (source / "b.py").write_text("")
    second = digest.tree(source)
    (source / "a.py").write_text("2")
    assert len({first, second, digest.tree(source)}) == 3


def test_a_failed_build_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a piece fails, there is no bundle, nothing half-written, and the next build starts afresh."""

    def fails(folder: Path, name: str, progress: object) -> None:
        (folder / "assets" / name).mkdir(parents=True)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(builder, "assemble", fails)
    with pytest.raises(BuildError, match="No space left"):
        build()
    assert page.current() is None
    assert not [path for path in (home / "page").iterdir() if path.name.endswith(".new")]


def test_two_builds_at_once_end_with_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slower of two builds finds the folder there and takes it."""

    def other_was_quicker(folder: Path, name: str, progress: object) -> None:
        for place in (folder, folder.parent / name):
            place.mkdir(parents=True, exist_ok=True)
            (place / "index.html").write_text("same")

    monkeypatch.setattr(builder, "assemble", other_was_quicker)
    assert (build() / "index.html").read_text() == "same"
    assert len(list((home / "page").iterdir())) == 1


def test_old_bundles_go(home: Path) -> None:
    """The last few stay, for tabs that still ask for them; older ones, and blobs nobody uses, are removed."""
    folders = []
    for number in range(6):
        folder = home / "page" / f"{number:016x}"
        folder.mkdir(parents=True)
        (folder / "index.html").write_text("")
        os.utime(folder, (number, number))
        folders.append(folder)
    blob = compress.blob(b"x" * 1000)
    os.utime(blob, (0, 0))
    builder.prune(folders[0])
    left = {path.name for path in (home / "page").iterdir() if len(path.name) == digest.LENGTH}
    assert left == {folders[0].name, *(folder.name for folder in folders[-3:])}
    assert not blob.exists()


def test_a_bundle_in_use_stays(home: Path) -> None:
    """What a server used in the last days outlives any number of newer bundles; what it left long ago does not."""
    folders = []
    for number in range(8):
        folder = home / "page" / f"{number:016x}"
        folder.mkdir(parents=True)
        (folder / "index.html").write_text("")
        folders.append(folder)
    page.use(folders[0])
    page.use(folders[1])
    os.utime(folders[1] / builder.MARK, (0, 0))
    for number, folder in enumerate(folders):
        os.utime(folder, (number, number))
    builder.prune(folders[-1])
    assert [folder.is_dir() for folder in folders] == [True, False, False, False, True, True, True, True]


@pytest.fixture
def edited(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source of its own, which the key follows and which a build copies into the bundle's document."""
    source = tmp_path / "source"
    source.write_text("0")

    def copies(folder: Path, name: str, progress: object) -> None:
        folder.mkdir(parents=True)
        (folder / "index.html").write_text(source.read_text())

    monkeypatch.setattr(builder, "key", lambda: digest.of(source.read_bytes()))
    monkeypatch.setattr(builder, "assemble", copies)
    return source


def test_an_edit_during_the_build_starts_it_over(edited: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle holds what its name promises, even when a source changed after the name was taken."""
    copies = builder.assemble

    def edits_once(folder: Path, name: str, progress: object) -> None:
        edited.write_text("1")
        copies(folder, name, progress)

    monkeypatch.setattr(builder, "assemble", edits_once)
    folder = build()
    assert folder.name == digest.of(b"1")
    assert (folder / "index.html").read_text() == "1"
    assert [path.name for path in (home / "page").iterdir()] == [folder.name]


def test_edits_without_end_are_an_error(edited: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After three builds that were each overtaken by an edit the person is told so, and nothing stays."""
    copies = builder.assemble
    begun: list[str] = []

    def edits(folder: Path, name: str, progress: object) -> None:
        copies(folder, name, progress)
        begun.append(name)
        edited.write_text(str(len(begun)))

    monkeypatch.setattr(builder, "assemble", edits)
    with pytest.raises(BuildError, match="edited during each of 3 builds"):
        build()
    assert len(begun) == 3
    assert not list((home / "page").iterdir())


def test_a_half_removed_bundle_makes_way(edited: Path, home: Path) -> None:
    """A folder without its document is no bundle: it is built again in its place."""
    folder = home / "page" / builder.key()
    (folder / "assets").mkdir(parents=True)
    assert page.current() is None
    assert build() == folder
    assert (folder / "index.html").read_text() == "0"
    assert not (folder / "assets").exists()


@pytest.mark.long
def test_the_whole_bundle_twice_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two builds from nothing, with the same wheels: every file is equal, byte for byte."""
    fetched = wheels.fetch()
    trees = []
    for name in ("one", "two"):
        monkeypatch.setenv("HYBR_HOME", str(tmp_path / name))
        target = tmp_path / name / "page" / "wheels" / digest.of(wheels.LOCK.read_bytes())
        shutil.copytree(fetched[0].parent, target)
        folder = build()
        trees.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert trees[0] == trees[1]
