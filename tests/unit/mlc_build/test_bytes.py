"""The same checkpoint makes the same bytes: in every form, from both formats, for chat and for vectors, in any process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import encoders
from families import write_folder, write_gguf

from hybr.mlc_build import own
from hybr.mlc_build.encoder.config import FORMS

PROBE = Path(__file__).parents[2] / "support" / "bytes_probe.py"


def test_every_form_repeats(tmp_path: Path) -> None:
    """Weights, tokenizers and configurations of two processes whose sets and dictionaries are in another order are equal."""
    source = tmp_path / "source"
    write_folder(source / "gemma3", "gemma3", dtype="BF16", shards=2)
    encoders.write(source / "encoder")
    write_gguf(source / "pieces.gguf", "mistral", pieces=True)
    words = [sys.executable, str(PROBE), str(source)]
    first, second = (
        json.loads(
            subprocess.run(
                [*words, str(tmp_path / seed)],
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for seed in ("1", "2")
    )
    assert first == second
    assert {name.rsplit("/", 1)[0] for name in first} == {
        *(f"encoder/{form}" for form in FORMS),
        *(f"{name}/{form}" for name in ("gemma3", "pieces.gguf") for form in own.QUANTISATIONS),
    }
    assert {name.rsplit("/", 1)[1] for name in first} >= {
        "params_shard_0.bin", "tensor-cache.json", "tokenizer.json", "tokenizer_config.json", "mlc-chat-config.json",
    }  # fmt: skip
