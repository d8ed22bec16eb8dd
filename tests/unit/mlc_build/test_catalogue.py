"""The catalogue: ids, variants, and what is said of an unknown one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hybr.mlc_build import catalogue, own
from hybr.mlc_build.encoder.config import FORMS
from hybr.mlc_build.errors import UnknownModel, UnknownQuantisation
from hybr.mlc_build.quantise import QUANTISATIONS


def test_ids() -> None:
    """A model's default bears its id, the other quantisations their name beside it, and no id occurs twice."""
    ids = [entry.id for entry in catalogue.everything()]
    assert ids == [
        "tiny", "tiny-q4e8f32_1", "tiny-q0f32", "smollm2-135m", "smollm2-135m-q4f32_1", "smollm2-135m-q0f32",
        "all-minilm-l6-v2", "all-minilm-l6-v2-q0f32",
    ]  # fmt: skip
    assert [entry["id"] for entry in catalogue.entries()] == ["tiny", "smollm2-135m", "all-minilm-l6-v2"]


@pytest.mark.parametrize(
    ("name", "quantisation", "found"),
    [
        ("tiny", None, "tiny"),
        ("tiny", "q4f32_1", "tiny"),
        ("tiny", "q0f32", "tiny-q0f32"),
        ("tiny-q0f32", None, "tiny-q0f32"),
        ("smollm2-135m-q0f32", "q4e8f32_1", "smollm2-135m"),
    ],
)
def test_find(name: str, quantisation: str | None, found: str) -> None:
    """An id finds itself; an id with a quantisation finds that variant of the same model."""
    assert catalogue.find(name, quantisation).id == found


def test_unknown() -> None:
    """Unknown names are refused with the names there are."""
    with pytest.raises(UnknownModel, match=r"'gpt-9'.*smollm2-135m"):
        catalogue.find("gpt-9")
    with pytest.raises(UnknownQuantisation, match=r"'q9'.*q4f32_1 or q4e8f32_1 or q0f32"):
        catalogue.find("tiny", "q9")


def test_public_fields() -> None:
    """What goes into the index names the licence and the origin of the weights."""
    for entry in catalogue.everything():
        public = entry.public()
        assert public["licence"]
        assert public["origin"]
        assert public["quantisation"] in {"chat": QUANTISATIONS, "embedding": tuple(FORMS)}[entry.kind]


def test_forms_are_named_alike() -> None:
    """What a person's own checkpoint can be built in, listed without numpy, is what the quantiser knows."""
    assert own.QUANTISATIONS == QUANTISATIONS


def test_light() -> None:
    """The modules the server imports bring neither numpy nor the compiler with them."""
    code = (
        "import sys; from hybr.mlc_build import catalogue, cli, own, sources, store; "
        "sys.exit(bool({'numpy', 'tvm', 'tvm_ffi', 'gguf', 'tokenizers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
