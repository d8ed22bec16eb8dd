"""The picker's sieve, in Node: which models are left by words and filters."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SIEVE = Path(__file__).parents[3] / "webapp/ui/sieve.js"
SCRIPT = """
const { all, count, kinds, sieve } = await import(process.argv[1]);
const [models, wanted] = JSON.parse(process.argv[2]);
const given = { ...all(), ...wanted };
console.log(JSON.stringify([sieve(models, given).map(({ id }) => id), count(given), kinds(models, 'family')]));
"""


def model(name: str, **more: Any) -> dict[str, Any]:
    """One entry."""
    plain = {"name": name, "family": "", "quantisation": "", "licence": "", "bytes": 0, "vramBytes": 0, "context": 0}
    return {"id": name.lower(), **plain, "fits": True, "cached": False, **more}


MODELS = [
    model("Llama-1B", family="Llama", quantisation="q4f32_1", bytes=600_000_000, vramBytes=1_100_000_000, context=4096),
    model(
        "Llama-8B", family="Llama", quantisation="q4f16_1", bytes=4_500_000_000, vramBytes=5_000_000_000, context=4096, fits=False
    ),
    model(
        "Qwen3-0.6B", family="Qwen3", quantisation="q4f32_1", bytes=340_000_000, vramBytes=900_000_000, context=32768, cached=True
    ),
    model("Mystery", licence="apache-2.0"),
]


@pytest.mark.parametrize(
    ("wanted", "left", "filters"),
    [
        ({}, ["llama-1b", "llama-8b", "qwen3-0.6b", "mystery"], 0),
        ({"text": "  LLAMA 8b "}, ["llama-8b"], 0),
        ({"text": "q4f32"}, ["llama-1b", "qwen3-0.6b"], 0),
        ({"text": "apache"}, ["mystery"], 0),
        ({"family": "Llama"}, ["llama-1b", "llama-8b"], 1),
        ({"family": "Llama", "quantisation": "q4f32_1"}, ["llama-1b"], 2),
        ({"size": 1e9}, ["llama-1b", "qwen3-0.6b"], 1),
        ({"vram": 1e9}, ["qwen3-0.6b"], 1),
        ({"context": 8192}, ["qwen3-0.6b"], 1),
        ({"fits": True, "family": "Llama"}, ["llama-1b"], 2),
        ({"cached": True}, ["qwen3-0.6b"], 1),
        ({"text": "nothing like this"}, [], 0),
    ],
)
def test_words_and_filters(wanted: dict[str, Any], left: list[str], filters: int) -> None:
    """Every word must be found; what states no size or need is left out where one is asked for; families come in order."""
    node = shutil.which("node") or "node"
    command = [node, "--input-type=module", "--eval", SCRIPT, SIEVE.as_uri(), json.dumps([MODELS, wanted])]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(result.stdout) == [left, filters, ["Llama", "Qwen3"]]
