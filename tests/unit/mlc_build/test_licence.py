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


@pytest.mark.parametrize(
    ("card", "told"),
    [
        ("---\nbase_model: Qwen/Qwen2.5-0.5B\nlicense: mit\n---\n", "made of Qwen/Qwen2.5-0.5B"),
        ("---\nbase_model:\n- 'a/One'\n- b/Two # merged\ntags:\n- x\n---\n", "made of a/One and b/Two"),
        ('---\nbase_model: ["a/One", b/Two]\n---\n', "made of a/One and b/Two"),
        ("---\nlicense: mit\n---\nbase_model: prose\n", ""),
        ("base_model: prose\n", ""),
    ],
)
def test_origins_in_cards(card: str, told: str) -> None:
    """What the front matter names as the base, one or a list; nothing else is taken for it."""
    assert licence.origin_of_card(card) == told


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"source.url": "https://hub.invalid/a/B", "base_model.0.repo_url": "x"}, "https://hub.invalid/a/B"),
        ({"base_model.0.repo_url": "https://hub.invalid/a/Base"}, "made of https://hub.invalid/a/Base"),
        ({"organization": "Someone", "name": "Small"}, "Someone, Small"),
        ({"name": "Small"}, ""),
    ],
)
def test_origins_in_a_gguf(fields: dict[str, str], told: str) -> None:
    """The address of the source, else the base model's, else who made it; a name alone is no origin."""
    assert licence.origin_of_gguf({f"general.{name}": value for name, value in fields.items()}) == told


def test_a_gguf(tmp_path: Path) -> None:
    """A GGUF's own fields; a file that states none is told so."""
    stated, silent = tmp_path / "a.gguf", tmp_path / "b.gguf"
    for path in (stated, silent):
        writer = GGUFWriter(path, "llama")
        if path == stated:
            writer.add_license("other")
            writer.add_license_name("Tongyi\n\x1b[31m")
            writer.add_source_url("https://hub.invalid/a\x07")
        writer.add_uint32("llama.block_count", 1)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
    assert licence.of_source({"kind": "gguf", "path": str(stated)}) == ("Tongyi [31m", "https://hub.invalid/a")
    assert licence.of_source({"kind": "gguf", "path": str(silent)}) == (licence.UNSTATED, "")


def test_a_folder(tmp_path: Path) -> None:
    """A folder's card, also when the source is one file in it; without a card nothing is claimed."""
    source = {"kind": "safetensors", "path": str(tmp_path / "model.safetensors")}
    assert licence.of_source(source) == (licence.UNSTATED, "")
    (tmp_path / "README.md").write_text("---\nlicense: mit\nbase_model: a/B\n---\n")
    assert licence.of_source(source) == ("MIT", "made of a/B")
    assert licence.of_source({"kind": "safetensors", "path": str(tmp_path)}) == ("MIT", "made of a/B")


def test_the_catalogue_names_its_own() -> None:
    """A wheel's or the seeded model's licence is the catalogue's business."""
    assert licence.of_source({"kind": "seeded"}) is None
