"""What a checkpoint says of its licence, and that the manifest says the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from gguf import GGUFWriter

from hybr.mlc_build import licence

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("card", "told"),
    [
        ("---\nlicense: apache-2.0\ntags: [x]\n---\n# M", "Apache-2.0"),
        ("---\r\nlicense: 'mit'\r\n---\r\n", "MIT"),
        ("---\nlicense: other\nlicense_name: gemma\nlicense_link: https://x.invalid/t\n---\n", "gemma (https://x.invalid/t)"),
        ("---\nlicense: llama3.2\n---\n", "llama3.2"),
        ("---\nbase_model: x\n---\nlicense: mit", licence.UNSTATED),
        ("no front matter\nlicense: mit", licence.UNSTATED),
        ("---\nlicense: " + "x" * 500 + "\n---\n", "x" * licence.LONGEST),
        ("", licence.UNSTATED),
    ],
)
def test_cards(card: str, told: str) -> None:
    """The front matter's field, in the form people know; nothing else is taken for it."""
    assert licence.of_card(card) == told


def test_a_gguf(tmp_path: Path) -> None:
    """A GGUF's own fields; a file that states none is told so."""
    stated, silent = tmp_path / "a.gguf", tmp_path / "b.gguf"
    for path in (stated, silent):
        writer = GGUFWriter(path, "llama")
        if path == stated:
            writer.add_license("other")
            writer.add_license_name("Tongyi\n\x1b[31m")
        writer.add_uint32("llama.block_count", 1)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
    assert licence.of_source({"kind": "gguf", "path": str(stated)}) == "Tongyi [31m"
    assert licence.of_source({"kind": "gguf", "path": str(silent)}) == licence.UNSTATED


def test_a_folder(tmp_path: Path) -> None:
    """A folder's card, also when the source is one file in it; without a card nothing is claimed."""
    source = {"kind": "safetensors", "path": str(tmp_path / "model.safetensors")}
    assert licence.of_source(source) == licence.UNSTATED
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    assert licence.of_source(source) == licence.of_source({"kind": "safetensors", "path": str(tmp_path)}) == "MIT"


def test_the_catalogue_names_its_own() -> None:
    """A wheel's or the seeded model's licence is the catalogue's business."""
    assert licence.of_source({"kind": "seeded"}) is None
