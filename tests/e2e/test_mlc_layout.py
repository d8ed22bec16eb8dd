"""An artifact in mlc_llm's own layout, off our shelf into a page, under WebLLM's own loader.

The tool is in no package index; its imitation (tests/support/fake_mlc_llm.py) leaves files of the same names and fields, holding
`tiny`: the index under its old name, scales as the upper halves of their floats, its configuration's list of numbers.
"""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import library_desk
import pytest
from hybr_testing import get_json, shelf

from hybr.mlc_build import external, manifest, shards, store, tiny
from hybr.mlc_build.build import build
from hybr.mlc_build.reference import Reference, dequantised

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.models

TOOL = Path(__file__).parents[1] / "support" / "fake_mlc_llm.py"
PROMPT = [1, *(4 + byte for byte in b"user\nWhat do you see?"), 2]


def test_it_loads_like_one_of_ours(tmp_path: Path, chromium: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published by `--compiler mlc-llm`, whole on the shelf, its greedy tokens in the page are the reference's.

    The page is of another origin and loads it as any WebLLM app does: from `hybr models serve`, by the AppConfig that this gives.
    """
    ours = build("tiny", stream=io.StringIO())
    source = tmp_path / "source"
    source.mkdir()
    numbers = dataclasses.asdict(tiny.CONFIG) | {"model_type": "llama", "max_position_embeddings": 1024, "eos_token_id": 2}
    (source / "config.json").write_text(json.dumps(numbers))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(ours / name, source / name)
    monkeypatch.setenv("HYBR_HOME", str(tmp_path / "home"))
    tool = tmp_path / "mlc_llm"
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{TOOL}" "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("MLC_LLM", str(tool))
    monkeypatch.setenv("FAKE_MLC_FROM", str(ours))
    folder = external.build(str(source), "q4f32_1", "foreign", 512, 64, stream=io.StringIO())
    manifest.verify(folder, store.manifest("foreign"))
    formats = {record["format"] for shard in json.loads((folder / "tensor-cache.json").read_text())["records"]
               for record in shard["records"] if record["dtype"] == "float32"}  # fmt: skip
    assert formats == {"f32-to-bf16"}
    config = dataclasses.replace(tiny.CONFIG, context_window_size=512, prefill_chunk_size=64)
    reference = Reference(config, dequantised(shards.read(folder)))
    wanted = [int(reference.forward(PROMPT)[-1].argmax())]
    for _ in range(15):
        wanted.append(int(reference.forward([wanted[-1]])[-1].argmax()))
    with shelf() as (origin, _), library_desk.desk(tmp_path, chromium) as page:
        (record,) = get_json(f"{origin}/webllm.json")["model_list"]
        assert library_desk.Library(page, "foreign", 64, record).greedy(PROMPT, 16) == wanted
