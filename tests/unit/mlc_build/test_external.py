"""`--compiler mlc-llm`, with an imitation of the tool: what it leaves goes onto the shelf, its faults are told."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from families import write_folder

from hybr.mlc_build import cli, external, manifest, share, store
from hybr.mlc_build.errors import CompileError, MissingTool, SourceError, Taken, UnknownModel
from hybr.server.models import Models

TOOL = Path(__file__).parents[2] / "support" / "fake_mlc_llm.py"


@pytest.fixture
def source(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of a family that is not built here, and the tool."""
    monkeypatch.setenv("MLC_LLM", str(TOOL))
    folder = tmp_path / "Weird 1B"
    folder.mkdir()
    write_folder(folder, "llama")
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "weird", "head_dim": 16}))
    (folder / "README.md").write_text("---\nlicense: mit\nbase_model: some/Base\n---\n")
    return folder


def run(*words: str) -> int:
    """Run `hybr models build ... --compiler mlc-llm` and return its exit status."""
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers())
    args = parser.parse_args(["models", "build", *words, "--compiler", "mlc-llm"])
    return int(args.run(args))


@pytest.mark.parametrize("fault", ["", "old"])
def test_build(source: Path, home: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of the tool's is on the shelf as one of ours: whole, listed, with the checkpoint's own template and licence."""
    monkeypatch.setenv("FAKE_MLC", fault)
    assert run(str(source), "--context", "256", "--prefill-chunk", "64") == 0
    name = "weird-1b-q4f16-1"
    folder, found = store.current(name), store.manifest(name)
    assert folder is not None
    manifest.verify(folder, found)
    assert (found["family"], found["quantisation"], found["context"], found["licence"]) == ("weird", "q4f16_1", 256, "MIT")
    assert found["origin"] == "Weird 1B, made of some/Base"
    assert (found["compiler"], found["features"]) == ("mlc-llm", ["shader-f16"])
    assert found["shaders"]["model.wasm"]["modules"] == 1
    assert (
        found["vram_bytes"] == 2 * 8192 + 256 * 2 * 2 * 2 * 16 * 2
    )  # weights, widened; window, layers, keys and values, heads, width, halves
    assert found["limits"]["maxBufferSize"] == 256 * 2 * 2 * 16 * 2  # a layer of that cache, larger than any matrix
    config = json.loads((folder / "mlc-chat-config.json").read_text())
    assert config["conv_template"]["roles"]["user"]
    assert (config["prefill_chunk_size"], config["max_batch_size"]) == (64, 1)
    assert sorted(item["path"] for item in found["files"]) == sorted([
        "mlc-chat-config.json", "tensor-cache.json", "params_shard_0.bin", "params_shard_1.bin", "tokenizer.json",
        "tokenizer_config.json", "model.wasm",
    ])  # fmt: skip
    models = Models(home / "models", list)
    (entry,) = models.entries()
    assert (entry["state"], entry["libraries"], entry["kind"]) == ("built", {"gpu": "model.wasm"}, "chat")
    assert share.records(models, "http://x.invalid")[0]["required_features"] == ["shader-f16"]


def test_a_template_of_the_tools(source: Path) -> None:
    """A person may name one of the tool's templates; one that it has not is its error, told in its words."""
    folder = external.build(str(source), None, "mine", None, None, template="phi-3")
    assert json.loads((folder / "mlc-chat-config.json").read_text())["conv_template"] == {"name": "phi-3"}
    with pytest.raises(CompileError, match=r"gen_config failed \(exit 2\).*invalid choice: 'nonesuch'"):
        external.build(str(source), None, "mine", None, None, template="nonesuch")


@pytest.mark.parametrize(
    ("fault", "error", "told"),
    [
        ("fail", CompileError, r"convert_weight failed \(exit 1\): KeyError: 'model.layers.0.weird.weight'"),
        ("short", CompileError, "no whole params_shard_1.bin"),
        ("nothing", CompileError, "no whole model.wasm"),
        ("half", CompileError, "no whole model.wasm"),
        ("ancient", MissingTool, "has no convert_weight, gen_config, compile; this is another version"),
    ],
)
def test_faults(source: Path, fault: str, error: type[Exception], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tool does wrong is told, stands in the state, and leaves nothing that passes for a model."""
    monkeypatch.setenv("FAKE_MLC", fault)
    with pytest.raises(error, match=told):
        external.build(str(source), "q4f32_1", "mine", None, None)
    assert store.current("mine") is None
    assert store.read("mine")["state"] == "failed"
    assert not [path for path in store.workplace("mine").iterdir() if path.is_dir()]


def test_without_the_tool(source: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the tool, or with one that cannot run, it is one line that says what to do."""
    monkeypatch.delenv("MLC_LLM")
    monkeypatch.setenv("PATH", str(home))
    assert run(str(source)) == 1
    assert "mlc_llm is not on the PATH" in capsys.readouterr().err
    monkeypatch.setenv("MLC_LLM", str(source / "config.json"))
    with pytest.raises(MissingTool, match="cannot be run"):
        external.find()


def test_what_it_cannot_be_given(source: Path) -> None:
    """A catalogue id, a folder without a config, and a checkpoint without a template to learn are refused in words."""
    with pytest.raises(UnknownModel, match="no folder in Hugging Face's layout"):
        external.build("tiny", None, None, None, None)
    with pytest.raises(UnknownModel, match="cannot be an id"):
        external.build(str(source), None, "../x", None, None)
    with pytest.raises(UnknownModel, match="--context is -4; it must be at least 1"):
        external.build(str(source), None, "mine", -4, None)
    with pytest.raises(Taken, match="smollm2-135m is a model of the catalogue"):
        external.build(str(source), None, "smollm2-135m", None, None)
    words = source / "tokenizer_config.json"
    words.write_text(json.dumps({key: value for key, value in json.loads(words.read_text()).items() if key != "chat_template"}))
    with pytest.raises(SourceError, match="chat_template"):
        external.build(str(source), None, "mine", None, None)
