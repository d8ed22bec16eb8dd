#!/usr/bin/env python3
"""Stands for the `mlc_llm` tool: its three commands with the options they have, leaving the files they leave.

Written after mlc_llm's own command line (python/mlc_llm/cli). What it is to do wrong stands in FAKE_MLC: `old` leaves the index
under its old name; `fail` ends convert_weight with an error, `short` cuts a shard, `nothing` compiles nothing, `half` half a
library, `ancient` has not the commands. The weights are noise and the library is one section with a shader in it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

FAULT = os.environ.get("FAKE_MLC", "")
REAL = os.environ.get("FAKE_MLC_FROM", "")
"""Folder of a model that was built here, to be given out in the tool's layout: one that a page can load."""
COMMANDS = {"chat"} if FAULT == "ancient" else {"compile", "convert_weight", "gen_config", "chat", "serve", "package"}
FORMS = ["q0f16", "q0f32", "q4f16_0", "q4f16_1", "q4f32_1"]

SHADER = """//----------------------------------------
// Function: twice_kernel
//----------------------------------------
@group(0) @binding(0) var<storage, read_write> x : array<f32>;
@compute @workgroup_size(64, 1, 1)
fn twice_kernel(@builtin(global_invocation_id) at : vec3<u32>) {
  x[at.x] = 2.0 * x[at.x];
}
"""


def config_of(path: str) -> Path:
    """Return config.json of a model's folder, as the tool detects it."""
    found = Path(path)
    return found if found.is_file() else found / "config.json"


def convert_weight(argv: list[str]) -> None:
    """Write two shards, their index, and where floats were cut a second index, of the same bytes as bfloat16."""
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=config_of)
    parser.add_argument("--quantization", required=True, choices=FORMS)
    parser.add_argument("--output", "-o", type=Path, required=True)
    told = parser.parse_args(argv)
    if FAULT == "fail":
        print("Traceback (most recent call last):\n  ...\nKeyError: 'model.layers.0.weird.weight'\n", file=sys.stderr)
        sys.exit(1)
    if REAL:
        real_weights(told.output)
        return
    records = []
    for number in range(2):
        data = bytes([number]) * 4096
        (told.output / f"params_shard_{number}.bin").write_bytes(data[:-1] if FAULT == "short" and number else data)
        one = {
            "name": f"p{number}",
            "shape": [2048],
            "dtype": "float32",
            "format": "f32-to-bf16",
            "nbytes": 4096,
            "byteOffset": 0,
        }
        records.append({"dataPath": f"params_shard_{number}.bin", "format": "raw-shard", "nbytes": 4096, "records": [one]})
    index(told.output, "ndarray-cache" if FAULT == "old" else "tensor-cache", {"ParamSize": 2}, records)


def index(out: Path, name: str, metadata: dict[str, object], records: list[dict[str, Any]]) -> None:
    """Write both indices."""
    (out / f"{name}.json").write_text(json.dumps({"metadata": metadata, "records": records}))
    for one in [one for shard in records for one in shard["records"] if one["format"] == "f32-to-bf16"]:
        one |= {"dtype": "bfloat16", "format": "raw"}
    (out / f"{name}-b16.json").write_text(json.dumps({"metadata": metadata, "records": records}))


def real_weights(out: Path) -> None:
    """Write a built model's weights as the tool does: floats kept as the upper halves of theirs, the index under its old name."""
    from hybr.mlc_build import shards
    from hybr.mlc_build.quantise import Parameter

    held = shards.read(Path(REAL))
    shards.write(
        (Parameter(name, array, "f32-to-bf16" if array.dtype == "float32" else "raw") for name, array in held.items()), out
    )
    ours = json.loads((out / "tensor-cache.json").read_text())
    metadata = {name: ours["metadata"][name] for name in ("ParamSize", "ParamBytes", "BitsPerParam")}
    index(out, "ndarray-cache", metadata, ours["records"])
    (out / "tensor-cache.json").unlink()


def gen_config(argv: list[str]) -> None:
    """Write mlc-chat-config.json and bring the tokenizer along."""
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=config_of)
    parser.add_argument("--quantization", required=True, choices=FORMS)
    parser.add_argument("--conv-template", required=True, choices=["chatml", "gemma_instruction", "phi-3"])
    for option in ("--context-window-size", "--prefill-chunk-size", "--sliding-window-size"):
        parser.add_argument(option, type=int)
    parser.add_argument("--max-batch-size", type=int, default=128)
    parser.add_argument("--output", "-o", type=Path, required=True)
    told = parser.parse_args(argv)
    model = json.loads(told.config.read_text())
    files = [name for name in ("tokenizer.json", "tokenizer_config.json") if (told.config.parent / name).is_file()]
    for name in files:
        shutil.copyfile(told.config.parent / name, told.output / name)
    shape = {name: model.get(name) for name in ("num_hidden_layers", "num_key_value_heads", "head_dim", "vocab_size")}
    content = {
        "version": "0.1.0",
        "model_type": model["model_type"],
        "quantization": told.quantization,
        "model_config": shape,
        "context_window_size": told.context_window_size or model["max_position_embeddings"],
        "sliding_window_size": -1,
        "prefill_chunk_size": told.prefill_chunk_size or 2048,
        "attention_sink_size": -1,
        "tensor_parallel_shards": 1,
        "pipeline_parallel_stages": 1,
        "disaggregation": False,
        "active_vocab_size": model.get("vocab_size"),
        "temperature": 0.6,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "top_p": 0.9,
        "max_batch_size": told.max_batch_size,
        "tokenizer_files": files,
        "tokenizer_info": {
            "token_postproc_method": "byte_level",
            "prepend_space_in_encode": False,
            "strip_space_in_decode": False,
        },
        "conv_template": {"name": told.conv_template},
        "pad_token_id": model.get("pad_token_id", 0),
        "bos_token_id": model.get("bos_token_id", 1),
        "eos_token_id": model.get("eos_token_id", 2),
    }
    (told.output / "mlc-chat-config.json").write_text(json.dumps(content))


def compile(argv: list[str]) -> None:  # noqa: A001 - the command's name
    """Write a library."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--device", required=True, choices=["webgpu"])
    parser.add_argument("--output", "-o", type=Path, required=True)
    told = parser.parse_args(argv)
    json.loads(told.model.read_text())
    if REAL:
        shutil.copyfile(Path(REAL) / "model-software.wasm", told.output)
    elif FAULT != "nothing":
        body = b"\4wgsl" + bytes(51) + SHADER.encode() + b"\0"
        library = b"\0asm\1\0\0\0\0" + bytes([len(body) & 127 | 128, len(body) >> 7]) + body
        told.output.write_bytes(library[: len(library) // 2] if FAULT == "half" else library)


def main() -> None:
    """Run one command."""
    if len(sys.argv) < 2 or sys.argv[1] in {"-h", "--help"}:
        print(f"usage: MLC LLM Command Line Interface. [-h] {{{','.join(sorted(COMMANDS))}}}")
        return
    if sys.argv[1] not in COMMANDS:
        sys.exit(2)
    {"convert_weight": convert_weight, "gen_config": gen_config, "compile": compile}[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    main()
