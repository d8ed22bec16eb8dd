"""Reading safetensors and the folder around them: what is there comes back as it was, what is wrong is named."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from families import ENTRY, LLAMA3, LONG, config, tensors, told, write_folder, write_safetensors

from hybr.mlc_build import huggingface, safetensors
from hybr.mlc_build.errors import SourceError
from hybr.mlc_build.quantise import QuantiseError, quantise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(("dtype", "bits"), [("F32", 24), ("F16", 11), ("BF16", 7)])
@pytest.mark.parametrize("shards", [1, 3])
def test_round_trip(tmp_path: Path, dtype: str, bits: int, shards: int) -> None:
    """Names, shapes and numbers come back, to the bits that the type keeps, from one file or several."""
    made = write_folder(tmp_path, "llama", dtype=dtype, shards=shards)
    found = safetensors.read(tmp_path)
    assert set(found) == set(made)
    for name, array in made.items():
        assert found[name].shape == array.shape
        assert (np.abs(found[name].read() - array) <= np.abs(array) * 2.0**-bits + 1e-6 * (bits < 24)).all()
    assert len(safetensors.files(tmp_path)) == shards


def test_single_file_finds_its_folder(tmp_path: Path) -> None:
    """Given a file, the texts are those beside it."""
    write_folder(tmp_path, "qwen2")
    found = huggingface.open_folder(tmp_path / "model.safetensors", ENTRY)
    assert found.config == config("qwen2")
    assert (found.vocabulary.eos, found.vocabulary.stops, found.vocabulary.opens) == (2, (2,), False)


def rewrite(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a safetensors file's header."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: f.write_bytes(f.read_bytes()[:4]), "not a whole safetensors file"),
        (lambda f: f.write_bytes(b"\xff" * 100), "not a whole safetensors file"),
        (lambda f: f.write_bytes(f.read_bytes()[:-5]), "ends before tensor model.norm.weight"),
        (lambda f: f.write_bytes((8).to_bytes(8, "little") + b"not json"), "a header that cannot be read"),
        (
            lambda f: rewrite(f, lambda h: h["model.norm.weight"].update(dtype="I8")),
            r"model.norm.weight .* has dtype I8; .*, or a GGUF",
        ),
        (lambda f: rewrite(f, lambda h: h["model.norm.weight"].update(shape=[65])), r"256 bytes, which its shape \(65,\)"),
        (lambda f: rewrite(f, lambda h: h["model.norm.weight"].pop("shape")), "a header that cannot be read"),
        (lambda f: f.rename(f.with_name("other.safetensors")), "neither model.safetensors nor .*holds other.safetensors"),
        (
            lambda f: (f.with_name("adapter_config.json").write_text("{}"), f.rename(f.with_name("adapter_model.safetensors"))),
            r"it is an adapter \(LoRA\)",
        ),
        (lambda f: f.rename(f.with_name("pytorch_model.bin")), "its weights are PyTorch's .*save_pretrained"),
        (lambda f: f.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0"), "run git lfs pull"),
        (lambda f: f.write_bytes(f.read_bytes() + b"more"), "goes on for 4 bytes behind its last tensor"),
        (
            lambda f: rewrite(f, lambda h: h["model.norm.weight"].update(shape=[-1, -64])),
            r"model.norm.weight .* shape \(-1, -64\)",
        ),
        (lambda f: rewrite(f, lambda h: h["model.norm.weight"].update(data_offsets=[0, 256])), "overlaps model"),
    ],
    ids=[
        "cut header",
        "garbage",
        "cut data",
        "no json",
        "dtype",
        "shape",
        "no shape",
        "no file",
        "adapter",
        "pytorch",
        "pointer",
        "long",
        "negative",
        "overlap",
    ],
)
def test_damaged_files(tmp_path: Path, damage: Callable[[Path], None], words: str) -> None:
    """A file that is cut short, garbled or lies is refused by the tensor's or the file's name."""
    write_folder(tmp_path, "llama-tied")
    damage(tmp_path / "model.safetensors")
    with pytest.raises(SourceError, match=words):
        safetensors.read(tmp_path)


def test_missing_shard(tmp_path: Path) -> None:
    """A shard that the index names and the folder lacks is named, and so is a tensor that its shard lacks."""
    write_folder(tmp_path, "llama", shards=2)
    first, second = sorted(tmp_path.glob("model-*.safetensors"))
    rewrite(first, lambda header: header.update({"x": header.pop("model.norm.weight")}))
    with pytest.raises(SourceError, match=r"is not in model-00001-of-00002.safetensors"):
        safetensors.read(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    told = json.loads(index.read_text())
    write_safetensors(tmp_path.parent / "beside.safetensors", {"x": np.ones(3, np.float32)})
    index.write_text(json.dumps({"weight_map": {"x": "../beside.safetensors"}}))
    with pytest.raises(SourceError, match=r"beside.safetensors is missing; model.safetensors.index.json names it"):
        safetensors.read(tmp_path)
    index.write_text(json.dumps(told))
    second.unlink()
    with pytest.raises(SourceError, match=r"model-00002-of-00002.safetensors is missing"):
        safetensors.read(tmp_path)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model_type": "mamba"}, "model_type in config.json is 'mamba'"),
        ({"hidden_act": "gelu"}, "hidden_act .* 'gelu'"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "rope_type is 'yarn'"),
        ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0]}}, "lists 1 factors; a head of 16 needs 8"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"attention_bias": True}, "attention_bias"),
        ({"max_position_embeddings": 128}, "context of 256; the checkpoint has 128"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ({"model_type": "gemma2", "hidden_activation": "relu"}, "hidden_act .* only gelu_pytorch_tanh"),
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3; it must divide"),
        ({"hidden_size": 40}, "hidden_size is 40; it must be a multiple of 32"),
        ({"vocab_size": 100}, "vocab_size in config.json is 100: they are of two models"),
        ({"rms_norm_eps": None}, "rms_norm_eps is missing in config.json"),
        ({"hidden_size": "64"}, "hidden_size in config.json is '64'; it must be a whole number from 1"),
        ({"num_attention_heads": 0}, "num_attention_heads in config.json is 0; it must be a whole number from 1"),
        ({"num_hidden_layers": [2]}, r"num_hidden_layers in config.json is \[2\]"),
        ({"num_hidden_layers": 2**31 - 1}, "num_hidden_layers in config.json is 2147483647; it must be .* to 1000"),
        (
            {"num_hidden_layers": 2**31 - 1, "model_type": "gemma2", "sliding_window": 8, "hidden_act": "gelu_pytorch_tanh"},
            "num_hidden_layers in config.json is 2147483647",
        ),
        ({"vocab_size": 2600}, "tokenizer.json has 260 tokens up to 259, but vocab_size in config.json is 2600"),
        ({"rope_theta": float("nan")}, "rope_theta in config.json is nan; it must be a finite number above 0"),
        ({"rms_norm_eps": -1}, "rms_norm_eps in config.json is -1; it must be a finite number from 0"),
        ({"rope_scaling": "linear"}, "rope_scaling in config.json is 'linear'; it must be an object"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor is missing in rope_scaling of config.json"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor is missing in rope_scaling"),
        ({"rope_scaling": {**LLAMA3, "high_freq_factor": 1.0}}, "high_freq_factor is 1.0; it must be above low_freq_factor"),
        ({"rope_scaling": {**LONG, "long_factor": [0.0] * 8}}, "0 in long_factor of rope_scaling of config.json is 0.0"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config in config.json: its weights are packed"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings in config.json is 'false'; it must be true or false"),
        ({"model_type": "qwen2", "use_sliding_window": "false", "sliding_window": 8}, "use_sliding_window in .* 'false'"),
        ({"model_type": "mistral", "sliding_window": 8, "layer_types": ["full_attention"]}, "layer_types .* has 1, but num_hid"),
        ({"model_type": "gemma3_text", "layer_types": 3, "sliding_window": 8}, r"cannot be read \(TypeError"),
    ],
)
def test_configs_that_cannot_be_built(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    """Each is refused by the field's name before a tensor is read."""
    write_folder(tmp_path, "llama", **changed)
    with pytest.raises(SourceError, match=words):
        huggingface.open_folder(tmp_path, ENTRY)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.json", None, "has no config.json; fetch it with all files"),
        ("config.json", "{", "config.json is not JSON"),
        ("config.json", "[]", "config.json is not a JSON object"),
        ("config.json", "[" * 100_000, "config.json is not JSON"),
        ("tokenizer.json", None, "tokenizer.json is missing"),
        ("tokenizer.json", '{"model": {"type": "Unigram"}}', "not a BPE tokenizer"),
        ("tokenizer.json", '{"model": {"type": "BPE"}}', r"cannot be read \(KeyError: 'vocab'\)"),
        ("tokenizer.json", '{"model": {"type": "BPE", "vocab": {"a": "b"}}}', "cannot be read"),
        ("tokenizer_config.json", "{}", "has no chat_template"),
        (
            "tokenizer_config.json",
            '{"eos_token": "</s>", "chat_template": "x"}',
            "eos_token in tokenizer_config.json is '</s>', which",
        ),
        (
            "tokenizer_config.json",
            '{"bos_token": {"content": "<s>"}, "chat_template": "x"}',
            "bos_token in tokenizer_config.json is '<s>'",
        ),
        ("generation_config.json", '{"eos_token_id": [2, 7000]}', "its stop 7000 token is 7000, and it has 260 tokens"),
        ("generation_config.json", '{"eos_token_id": {}}', "eos_token_id in the checkpoint is {}; it must be a whole number"),
        ("generation_config.json", '{"eos_token_id": [2, 2.5]}', "eos_token_id in the checkpoint is 2.5"),
        ("generation_config.json", '{"eos_token_id": "2"}', "eos_token_id in the checkpoint is '2'"),
    ],
)
def test_texts_that_are_wrong(tmp_path: Path, name: str, content: str | None, words: str) -> None:
    """A missing or garbled text is named."""
    write_folder(tmp_path, "llama")
    (tmp_path / name).unlink(missing_ok=True)
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(SourceError, match=words):
        huggingface.open_folder(tmp_path, ENTRY)


def test_a_token_behind_the_last_row(tmp_path: Path) -> None:
    """Gemma 3's smaller models name a token for pictures without a row: it is left out, unless the template says it."""
    write_folder(tmp_path, "gemma3")
    file = tmp_path / "tokenizer.json"
    told = json.loads(file.read_text())
    last = max(token["id"] for token in told["added_tokens"])
    told["added_tokens"].append({**told["added_tokens"][0], "id": 260, "content": "<image_soft_token>"})
    file.write_text(json.dumps(told))
    assert [*huggingface.open_folder(tmp_path, ENTRY).vocabulary.specials][-1] == last
    words = tmp_path / "tokenizer_config.json"
    words.write_text(words.read_text().replace("{% for", "<image_soft_token>{% for", 1))
    with pytest.raises(SourceError, match=r"tokens up to 260, but vocab_size in config.json is 260"):
        huggingface.open_folder(tmp_path, ENTRY)


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ("model.Q8_0.gguf", "it holds model.Q8_0.gguf: give that file"),
        ("pytorch_model.bin", r"its weights are PyTorch's \(pytorch_model.bin\)"),
        ("adapter_config.json", r"it is an adapter \(LoRA\): merge it into its model first"),
        ("snapshots/abc/config.json", "snapshots/abc has them: give that folder"),
        ("smollm/config.json", "smollm has them: give that folder"),
    ],
)
def test_folders_that_are_no_checkpoint(tmp_path: Path, there: str, words: str) -> None:
    """A folder of something else is refused with what to do about just that."""
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_text("{}")
    with pytest.raises(SourceError, match=f"has no config.json; .*{words}"):
        huggingface.open_folder(tmp_path, ENTRY)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json"])
def test_pointers_that_git_left(tmp_path: Path, name: str) -> None:
    """Any file of which Git only has the pointer says how to fetch it."""
    write_folder(tmp_path, "llama", shards=2)
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0")
    with pytest.raises(SourceError, match=f"{name} is Git's pointer to a file, not the file: run git lfs pull"):
        huggingface.open_folder(tmp_path, ENTRY)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("model.layers.1.self_attn.q_proj.bias"), r"lacks 1 tensor\(s\), first model.layers.1.self_attn.q_proj"),
        (lambda t: t.update({"visual.weight": np.ones(3, np.float32)}), r"does not use, first visual.weight"),
        (lambda t: t.update({"model.layers.0.self_attn.k_proj.bias": np.ones(7, np.float32)}), r"k_proj.bias has \(7,\)"),
        (lambda t: t["model.layers.0.mlp.up_proj.weight"].__setitem__((0, 0), np.inf), "up_proj.weight holds values"),
    ],
)  # fmt: skip
def test_tensors_that_are_wrong(tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str) -> None:
    """A missing, unknown, misshapen or poisoned tensor is named."""
    write_folder(tmp_path, "qwen2")
    made = tensors(config("qwen2"))
    change(made)
    write_safetensors(tmp_path / "model.safetensors", made)
    found = huggingface.open_folder(tmp_path, ENTRY)
    with pytest.raises(QuantiseError, match=words):
        list(quantise(found.tensors, found.config, "q4f32_1"))


def test_memory_is_a_tensors_not_the_models(tmp_path: Path) -> None:
    """Quantising holds a few tensors at a time, whatever the number of layers."""

    def peak(layers: int) -> int:
        folder = tmp_path / str(layers)
        write_folder(folder, "llama-tied")
        made = huggingface.read_config({**told("llama-tied"), "num_hidden_layers": layers}, ENTRY)
        write_safetensors(folder / "model.safetensors", tensors(made))
        found = safetensors.read(folder)
        tracemalloc.start()
        for _ in quantise(found, made, "q4e8f32_1"):
            pass
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(1)  # imports and caches
    assert peak(16) < 1.5 * peak(2)
