"""The tensor cache: what is written is what is read, and nothing half-written is taken for whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from hybr.mlc_build import shards, tiny
from hybr.mlc_build.quantise import Parameter, quantise

if TYPE_CHECKING:
    from pathlib import Path


def parameters() -> list[Parameter]:
    """`tiny` as quantised."""
    return list(quantise(tiny.tensors(), tiny.CONFIG, "q4f32_1"))


def test_round_trip(tmp_path: Path) -> None:
    """Every array comes back equal, with its dtype."""
    shards.write(parameters(), tmp_path)
    found = shards.read(tmp_path)
    assert list(found) == [p.name for p in parameters()]
    for p in parameters():
        assert found[p.name].dtype == p.array.dtype
        assert (found[p.name] == p.array).all()


def test_shards_close_at_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shard passes the limit but one that holds a single larger tensor; offsets start anew in each."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 50_000)
    files = shards.write(parameters(), tmp_path)
    index = json.loads(files[0].read_text())
    assert len(files) == 1 + len(index["records"]) > 4
    for shard in index["records"]:
        assert shard["nbytes"] <= 50_000 or len(shard["records"]) == 1
        assert [r["byteOffset"] for r in shard["records"]] == [
            sum(r["nbytes"] for r in shard["records"][:i]) for i in range(len(shard["records"]))
        ]
    assert (shards.read(tmp_path)["model.norm.weight"] == parameters()[-1].array).all()


def test_same_bytes_twice(tmp_path: Path) -> None:
    """Index and shards hold no time and no path."""
    for name in ("a", "b"):
        shards.write(parameters(), tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_bfloat_halves_keep_eight_bits(tmp_path: Path) -> None:
    """`f32-to-bf16` stores two bytes an element, rounded to nearest even."""
    values = np.array([[1.0, -2.5, 3.14159265, 1.00390625, 1e30]], np.float32)
    shards.write([Parameter("x", values, "f32-to-bf16")], tmp_path)
    found = shards.read(tmp_path)["x"]
    assert found.shape == values.shape
    assert np.abs(found / values - 1).max() < 2**-8
    assert found[0, 3] == 1.0
    assert (tmp_path / "params_shard_0.bin").stat().st_size == 10


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.unlink(), "params_shard_0.bin is missing"),
        (lambda f: f.write_bytes(f.read_bytes()[:-1]), "has .* bytes and should have"),
        (lambda f: f.write_bytes(bytes([f.read_bytes()[0] ^ 1]) + f.read_bytes()[1:]), "does not have the contents"),
    ],
)
def test_damage_is_noticed(tmp_path: Path, damage: object, message: str) -> None:
    """A missing, short or altered shard is named with its remedy."""
    shards.write(parameters(), tmp_path)
    damage(tmp_path / "params_shard_0.bin")  # type: ignore[operator]
    with pytest.raises(shards.ShardError, match=message):
        shards.read(tmp_path)
