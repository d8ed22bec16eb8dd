"""The manifest: what it promises, and that a broken promise is found."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

import brotli
import pytest

from hybr.mlc_build import catalogue, manifest, memory
from hybr.mlc_build.errors import Damaged
from hybr.mlc_build.tiny import CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLANNED = 40960


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder like a build's, small."""
    tmp_path = tmp_path / "build"
    tmp_path.mkdir()
    records = [{"nbytes": 700}, {"nbytes": 300}]
    contents = {
        "tensor-cache.json": json.dumps({"metadata": {"Repacked": "partly"}, "records": [{"records": records}]}).encode(),
        "params_shard_0.bin": bytes(1000),
        "model.wasm": b"wasm" * 100,
        "model-software.wasm": b"wasm" * 50,
        "model.wasm.br": brotli.compress(b"wasm" * 100),
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_contents(folder: Path) -> None:
    """Every file but the compressed siblings is listed with its sums; sizes are what one page downloads and holds."""
    found = manifest.make(folder, catalogue.find("tiny"), CONFIG, PLANNED)
    files = {item["path"]: item for item in found["files"]}
    assert sorted(files) == ["model-software.wasm", "model.wasm", "params_shard_0.bin", "tensor-cache.json"]
    for name, item in files.items():
        digest = hashlib.sha256((folder / name).read_bytes()).digest()
        assert item["bytes"] == (folder / name).stat().st_size
        assert item["sha256"] == digest.hex()
        assert item["sri"] == "sha256-" + base64.b64encode(digest).decode()
    assert found["bytes"] == 1000 + 400 + files["tensor-cache.json"]["bytes"]
    # 1024 tokens and a page of 16 x 2 layers x key and value x 64 wide x 4 bytes
    assert memory.cache_bytes(CONFIG) == 1040 * 2 * 2 * 64 * 4
    assert found["vram_bytes"] == memory.estimate(CONFIG, 1000, PLANNED) > 1000 + PLANNED + memory.cache_bytes(CONFIG)
    assert found["limits"]["maxStorageBufferBindingSize"] == memory.cache_bytes(CONFIG) // 2
    assert manifest.make(folder, catalogue.find("tiny"), CONFIG, PLANNED, largest=2**30)["limits"]["maxBufferSize"] == 2**30
    (folder / "manifest.json").unlink()
    assert manifest.make(folder, catalogue.find("tiny"), CONFIG, PLANNED) == found
    assert (found["schema"], found["id"], found["features"], found["repacked"]) == (1, "tiny", [], "partly")
    assert json.loads((folder / "manifest.json").read_text()) == found


def test_revision(folder: Path) -> None:
    """The revision follows the contents of the listed files and nothing else."""
    entry = catalogue.find("tiny")
    first = manifest.make(folder, entry, CONFIG, PLANNED)
    (folder / "manifest.json").unlink()
    (folder / "model.wasm.br").write_bytes(b"packed better")
    assert manifest.make(folder, entry, CONFIG, PLANNED)["rev"] == first["rev"]
    (folder / "manifest.json").unlink()
    (folder / "params_shard_0.bin").write_bytes(bytes(999) + b"!")
    assert manifest.make(folder, entry, CONFIG, PLANNED)["rev"] != first["rev"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "params_shard_0.bin").unlink(), r"params_shard_0.bin is missing"),
        (lambda folder: (folder / "params_shard_0.bin").write_bytes(bytes(500)), r"has 500 bytes and should have 1000"),
        (lambda folder: (folder / "model.wasm").write_bytes(b"WASM" * 100), r"model.wasm was altered"),
        (lambda folder: (folder / "model.wasm.br").write_bytes(b"packed"), r"model.wasm.br was .* does not unpack to model.wasm"),
        (lambda folder: (folder / "model.wasm.br").write_bytes(brotli.compress(b"WASM" * 100)), r"model.wasm.br was altered"),
    ],
    ids=["missing", "truncated", "altered", "packed cut", "packed other"],
)
def test_verify(folder: Path, damage: Callable[[Path], None], words: str) -> None:
    """A file that is missing, short or altered is named with the remedy."""
    found = manifest.make(folder, catalogue.find("tiny"), CONFIG, PLANNED)
    whole = folder.rename(folder.with_name(found["rev"]))
    manifest.verify(whole, found)
    damage(whole)
    with pytest.raises(Damaged, match=words + r".*hybr models build tiny"):
        manifest.verify(whole, found)


def test_foreign_manifest(folder: Path) -> None:
    """A manifest that is consistent with the files but of another revision is refused."""
    found = manifest.make(folder, catalogue.find("tiny"), CONFIG, PLANNED)
    with pytest.raises(Damaged, match="does not belong to revision"):
        manifest.verify(folder, found)
