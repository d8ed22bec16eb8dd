"""`tiny` as a GGUF file: read back it is the same checkpoint, and llama.cpp computes from it what our reference does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from llamacpp import LlamaCpp

from hybr.mlc_build import checkpoint, rewrite, tiny

if TYPE_CHECKING:
    from pathlib import Path

    from hybr.mlc_build.checkpoint import F32


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    rewrite.write(checkpoint.open_seeded(), tiny.tensors(), path)
    return path


def test_the_file_is_the_same_each_time(written: Path, tmp_path: Path) -> None:
    """The same checkpoint gives the same bytes, so the same sum in the model list."""
    rewrite.write(checkpoint.open_seeded(), tiny.tensors(), tmp_path / "again.gguf")
    assert (tmp_path / "again.gguf").read_bytes() == written.read_bytes()


def test_every_tensor_is_there_under_llama_cpps_name(written: Path) -> None:
    """Read back and brought into Hugging Face's order, each tensor is bit for bit what was written."""
    from gguf import GGUFReader

    found: dict[str, F32] = {}
    for tensor in GGUFReader(written).tensors:
        name = checkpoint.hugging_face_name(tensor.name)
        array = np.asarray(tensor.data, dtype=np.float32).reshape([int(n) for n in reversed(tensor.shape)])
        heads = {"q_proj.weight": tiny.CONFIG.num_attention_heads, "k_proj.weight": tiny.CONFIG.num_key_value_heads}
        turned = [checkpoint.uninterleave(array, n) for end, n in heads.items() if name.endswith(end)]
        found[name] = turned[0] if turned else array
    wanted = tiny.tensors()
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        assert np.array_equal(found[name], array), name


def test_llama_cpp_splits_text_into_bytes(written: Path) -> None:
    """A token a byte, specials whole: the vocabulary of the WebGPU build."""
    text = "<|im_start|>user\né~<|im_end|>"
    first = len(tiny.SPECIALS)
    wanted = [tiny.BOS, *(first + byte for byte in "user\né~".encode()), tiny.EOS]
    # byte ids are those of the byte-level alphabet's order, which is the bytes' own
    assert LlamaCpp(written).tokens(text) == wanted
