"""What building a model takes: each step from an empty cache, a link alone, a rebuild, and the bytes that come out."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness import Figure, bench
from prose import TEXT

from hybr.mlc_build import catalogue, checkpoint, sources, store
from hybr.mlc_build.build import LIBRARIES, build
from hybr.mlc_build.compile import compile_library
from hybr.mlc_build.link import link
from hybr.mlc_build.perplexity import perplexity
from hybr.mlc_build.quantise import quantise
from hybr.mlc_build.reference import Reference, dequantised
from hybr.mlc_build.tokenizer import make
from hybr.server import paths

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "smollm2-135m"
LINK_LIMIT_S, REBUILD_LIMIT_S, LIBRARY_LIMIT = 30.0, 60.0, 1_200_000


@bench
def model_build() -> Iterator[Figure]:
    """Build SmolLM2 from an empty cache (the weights are on the disk already), then again."""
    weights = sources.fetch(MODEL).parent.parent
    before = os.environ.get("HYBR_HOME")
    with tempfile.TemporaryDirectory(dir=paths.home()) as folder:
        (Path(folder) / "sources").symlink_to(weights)
        os.environ["HYBR_HOME"] = folder
        try:
            yield from _build_twice(Path(folder))
        finally:
            os.environ.pop("HYBR_HOME")
            if before is not None:
                os.environ["HYBR_HOME"] = before


def _build_twice(folder: Path) -> Iterator[Figure]:
    seconds: dict[str, float] = {}
    made = build(MODEL, stream=io.StringIO(), seconds=seconds)
    for step in ("runtime", "weights", *LIBRARIES, "publish"):
        yield Figure(f"build.{step}", seconds[step], "s", "", None, f"{MODEL}, once a machine" if step == "runtime" else MODEL)
    yield Figure("build.cold", sum(seconds.values()), "s", "", None, "everything but the download")
    began = time.monotonic()
    build(MODEL, stream=io.StringIO())
    yield Figure("build.again", time.monotonic() - began, "s", "limit: 60 s", REBUILD_LIMIT_S, "nothing changed")
    shutil.rmtree(folder / "steps/libraries")  # what a change of one kernel makes again; weights and runtime are kept
    began = time.monotonic()
    again = build(MODEL, stream=io.StringIO())
    spent = time.monotonic() - began
    if again != made:
        raise RuntimeError(f"the rebuild gave another revision: {again.name}, not {made.name}")
    yield Figure(
        "build.rebuild", spent, "s", "limit: 60 s", REBUILD_LIMIT_S, "a kernel changed: all three libraries and publishing"
    )
    yield _link(folder)
    for name in (f"{library}.br" for library in LIBRARIES.values()):
        yield Figure(f"build.{name}", (made / name).stat().st_size, "bytes", "limit: 1.2 MB", LIBRARY_LIMIT, "brotli 9")
    yield Figure(
        "build.bytes", store.manifest(MODEL)["bytes"], "bytes", "the GGUF", sources.fetch(MODEL).stat().st_size, "q4e8f32_1"
    )


@bench
def model_quality() -> Iterator[Figure]:
    """Perplexity of SmolLM2 over a text of ours in each quantisation, against the checkpoint's own numbers."""
    floats = catalogue.find(f"{MODEL}-q0f32")
    opened = checkpoint.open_gguf(sources.fetch(MODEL), floats)
    tokens = make(opened.vocabulary).encode(TEXT, add_special_tokens=False).ids
    found: dict[str, float] = {}
    for quantisation in ("q0f32", "q4e8f32_1", "q4f32_1"):
        made = {p.name: p.array for p in quantise(opened.tensors, opened.config, quantisation)}
        found[quantisation] = perplexity(Reference(opened.config, dequantised(made)), tokens)
    for quantisation in ("q4e8f32_1", "q4f32_1"):
        row = f"build.perplexity.{quantisation}"
        yield Figure(row, found[quantisation], "", "q0f32", found["q0f32"], f"{MODEL}, {len(tokens)} tokens of prose")


def _link(folder: Path) -> Figure:
    entry = catalogue.find(MODEL)
    config = checkpoint.open_gguf(sources.fetch(MODEL), entry).config
    compiled = compile_library(config, entry.quantisation, "gpu", folder / "objects")
    began = time.monotonic()
    link(compiled.objects, folder / "model.wasm")
    return Figure("build.link", time.monotonic() - began, "s", "limit: 30 s", LINK_LIMIT_S, "gpu profile")
