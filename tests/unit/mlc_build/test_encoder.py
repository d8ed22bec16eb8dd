"""Embedding models: what is read, what is refused, and the compiled encoder against numpy and the published one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import encoders
import numpy as np
import pytest
from native_model import unbound
from tokenizers import Tokenizer

from hybr.mlc_build import catalogue, own, sources
from hybr.mlc_build.encoder import weights
from hybr.mlc_build.encoder.config import FORMS, is_encoder
from hybr.mlc_build.encoder.reference import Reference
from hybr.mlc_build.errors import SourceError, UnknownQuantisation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hybr.mlc_build.encoder.weights import Encoder

TEXTS = (
    "the sea",
    "a",
    "lights. ships. lights. ships. a ship",
    "zzz",
    " ".join(encoders.LETTERS * 2),
)


class Native:
    """The library's entry point on this machine's processor."""

    def __init__(self, encoder: Encoder, quantisation: str) -> None:
        import tvm
        from tvm import relax

        from hybr.mlc_build.compile import build_module
        from hybr.mlc_build.lower import native_target, pipeline

        self.tvm = tvm
        self.held = {p.name: p.array for p in weights.parameters(encoder, quantisation)}
        target = native_target()
        module, metadata = build_module(encoder.config, quantisation, "software", target)
        with target:
            built = relax.build(unbound(module), target=target, relax_pipeline=pipeline("software", target))
        self.machine = relax.VirtualMachine(built, tvm.cpu())
        self.parameters = [self._tensor(self.held[p["name"]]) for p in metadata["params"]]

    def _tensor(self, array: Any) -> Any:
        return self.tvm.runtime.tensor(np.ascontiguousarray(array), self.tvm.cpu())

    def vectors(self, texts: list[list[int]]) -> Any:
        """Pad and mask as WebLLM does, and take what it takes: row 0 of each text."""
        longest = max(len(text) for text in texts)
        ids, mask = np.zeros((2, len(texts), longest), np.int32)
        for row, text in enumerate(texts):
            ids[row, : len(text)], mask[row, : len(text)] = text, 1
        made = self.machine["prefill"](self._tensor(ids), self._tensor(mask), self.parameters).numpy()
        assert made.shape == (len(texts), longest, 64)
        return made[:, 0]


def tokens(encoder: Encoder, *texts: str) -> list[list[int]]:
    """Tokens as WebLLM gets them: with our tokenizer.json, and nothing added."""
    tokenizer = Tokenizer.from_str(json.dumps(weights.tokenizer(encoder)))
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


@pytest.mark.parametrize("quantisation", FORMS)
@pytest.mark.parametrize(("pooling", "normalise"), [("mean_tokens", True), ("cls_token", False), ("mean_tokens", False)])
def test_compiled_equals_numpy(tmp_path: Path, quantisation: str, pooling: str, normalise: bool) -> None:
    """A batch of texts of different lengths gives each the vector it has alone; specials typed by hand change nothing."""
    encoder = weights.open_folder(encoders.write(tmp_path, pooling=pooling, normalise=normalise))
    native = Native(encoder, quantisation)
    reference = Reference(encoder.config, native.held)
    found = tokens(encoder, *TEXTS)
    assert len(found[-1]) == encoder.config.context_window_size - 2  # cut, and not padded
    for batch in (found[:4], found[4:], found[:1], [[2, *found[0], 3], *found[1:2]]):
        made = native.vectors(batch)
        for row, text in zip(made, batch, strict=True):
            wanted = reference.vector([token for token in text if token not in {2, 3}])
            assert np.abs(row - wanted).max() < 2e-5
            if normalise:
                assert np.linalg.norm(row) == pytest.approx(1, abs=1e-5)


@pytest.mark.models
def test_the_published_vector() -> None:
    """all-MiniLM gives "This is an example sentence" the vector that its authors print; eight bits keep the direction."""
    path = sources.fetch("all-minilm-l6-v2")
    encoder = weights.open_folder(path.parent)
    (text,) = tokens(encoder, "This is an example sentence")
    found = {form: Reference(encoder.config, _held(encoder, form)).vector(text) for form in FORMS}
    np.testing.assert_allclose(found["q0f32"][:5], [0.0676569, 0.0634959, 0.0487131, 0.0793050, 0.0374480], atol=2e-6)
    assert found["q0f32"] @ found["q8f32_1"] > 0.9995


def _held(encoder: Encoder, form: str) -> dict[str, Any]:
    return {p.name: p.array for p in weights.parameters(encoder, form)}


def test_the_window_and_the_quantisation_may_be_chosen(tmp_path: Path) -> None:
    """A folder of one's own becomes an entry of an embedding model, in the forms that one has."""
    encoders.write(tmp_path)
    entry = own.entry_of(str(tmp_path), context=20)
    assert (entry.kind, entry.quantisation, entry.context) == ("embedding", "q8f32_1", 20)
    assert weights.open_folder(tmp_path, 20).config.context_window_size == 20
    assert own.entry_of(str(tmp_path), "q0f32").quantisation == "q0f32"
    with pytest.raises(UnknownQuantisation, match="q8f32_1 or q0f32"):
        own.entry_of(str(tmp_path), "q4f32_1")
    with pytest.raises(SourceError, match="32 tokens at most"):
        weights.open_folder(tmp_path, 33)
    assert catalogue.find("all-minilm-l6-v2").kind == "embedding"
    assert not is_encoder(tmp_path / "1_Pooling")


def change(folder: Path, name: str, **fields: Any) -> None:
    """Change fields of a JSON file."""
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def held_without(name: str) -> dict[str, Any]:
    """Return the tensors without one."""
    return {key: array for key, array in encoders.tensors().items() if key != name}


KEY = "encoder.layer.0.attention.self.key.weight"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda f: change(f, "config.json", hidden_act="relu"), "hidden_act in config.json is 'relu'"),
        (lambda f: change(f, "config.json", position_embedding_type="rotary"), "position_embedding_type"),
        (lambda f: change(f, "config.json", hidden_size=60), "hidden_size is 60"),
        (lambda f: change(f, "config.json", num_attention_heads=5), "num_attention_heads is 5"),
        (lambda f: change(f, "config.json", intermediate_size=128), r"layer.0.intermediate.dense.weight .*needs \(128, 64\)"),
        (lambda f: change(f, "config.json", vocab_size=70), r"word_embeddings.weight has \(64, 64\)"),
        (lambda f: change(f, "config.json", vocab_size=50), "has a token 61, but vocab_size in config.json is 50"),
        (lambda f: change(f, "config.json", num_attention_heads=0), "num_attention_heads in config.json is 0"),
        (lambda f: change(f, "config.json", hidden_size="wide"), "hidden_size in config.json is 'wide'"),
        (lambda f: (f / "config.json").write_text("[1]"), "config.json is not what an encoder"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "config.json cannot be read"),
        (lambda f: (f / "modules.json").write_text("[3]"), "modules.json cannot be read"),
        (lambda f: change(f, "tokenizer.json", model={"type": "WordPiece"}), "tokenizer.json cannot be read"),
        (
            lambda f: encoders.write(f, encoders.tensors() | {KEY: np.zeros((64, 32), np.float32)}),
            r"key.weight has \(64, 32\)",
        ),
        (lambda f: (f / "config.json").write_text("<html>"), "config.json cannot be read"),
        (
            lambda f: change(f, "1_Pooling/config.json", pooling_mode_mean_tokens=False, pooling_mode_max_tokens=True),
            "max_tokens",
        ),
        (lambda f: (f / "modules.json").write_text('[{"type": "a.Dense"}]'), "modules.json has a a.Dense"),
        (lambda f: change(f, "tokenizer.json", model={"type": "Unigram"}), "not a WordPiece tokenizer"),
        (lambda f: change(f, "tokenizer_config.json", cls_token="<s>"), "cls_token is '<s>'"),
        (lambda f: encoders.write(f, held_without("encoder.layer.1.output.dense.bias")), "lacks 1 .*layer.1.output.dense.bias"),
        (lambda f: encoders.write(f, encoders.tensors() | {"x": np.zeros(3, np.float32)}), "does not use, first x"),
        (
            lambda f: encoders.write(f, encoders.tensors() | {"embeddings.LayerNorm.bias": np.full(64, np.nan, np.float32)}),
            "finite",
        ),
        (lambda f: encoders.write(f, encoders.tensors() | {"embeddings.LayerNorm.bias": np.zeros(9, np.float32)}), r"\(9,\)"),
    ],
)
def test_bad_input(tmp_path: Path, damage: Callable[[Path], object], told: str) -> None:
    """What cannot be built is refused by the name of the field or tensor."""
    encoders.write(tmp_path)
    damage(tmp_path)
    with pytest.raises(SourceError, match=told):
        _held(weights.open_folder(tmp_path), "q8f32_1")
