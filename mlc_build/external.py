"""`--compiler mlc-llm`: a model built by the `mlc_llm` tool, where it is installed, for families that are not built here.

    mlc_llm convert_weight SOURCE --quantization Q -o FOLDER         weights, their index, the tokenizer
    mlc_llm gen_config SOURCE --quantization Q --conv-template T ...  mlc-chat-config.json
    mlc_llm compile FOLDER/mlc-chat-config.json --device webgpu -o FOLDER/model.wasm

The tool is in no package index, so it is found on the PATH (or named by MLC_LLM) and never required. What it makes is checked and
goes onto the shelf like a model of our own. It must be told one of its own conversation templates; unless a person names one, the
checkpoint's own is learnt afterwards and takes its place.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import catalogue, licence, manifest, own, steps, store, validate, wasm
from .errors import CompileError, DiskFull, MissingTool, Taken, UnknownModel, disk
from .progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

NEEDED = ("convert_weight", "gen_config", "compile")
CONFIG, INDEX, OLD_INDEX, LIBRARY = "mlc-chat-config.json", "tensor-cache.json", "ndarray-cache.json", "model.wasm"
DEFAULT = "q4f16_1"
ANY = "chatml"
"""The template that stands in until the checkpoint's own is learnt."""
USUAL = {"weights": 120.0, "library": 120.0, "publish": 2.0}


@dataclass(frozen=True)
class Order:
    """What to build: the tool, the checkpoint's folder, the id and form, further options, and the template's name or None."""

    tool: str
    source: Path
    id: str
    form: str
    options: Sequence[str]
    template: str | None


def find() -> str:
    """Return the tool's path. Raises MissingTool when it is not there, or has not the three commands that are needed."""
    tool = os.environ.get("MLC_LLM") or shutil.which("mlc_llm")
    if not tool:
        raise MissingTool(
            "mlc_llm is not on the PATH; install it as its own documentation says (or point MLC_LLM at it), "
            "or leave --compiler out for a family that is built here"
        )
    try:
        run = subprocess.run([tool, "--help"], capture_output=True, text=True, check=False, timeout=300)
    except OSError as error:
        raise MissingTool(f"{tool} cannot be run ({error.strerror}); install mlc_llm anew") from error
    words = set(re.findall(r"\w+", run.stdout))
    if run.returncode or not words.issuperset(NEEDED):
        lacks = ", ".join(command for command in NEEDED if command not in words)
        why = f"has no {lacks}" if not run.returncode else f"fails: {_last(run.stderr)}"
        raise MissingTool(f"{tool} {why}; this is another version than can be used here: install one of 2024 or later")
    return tool


def build(
    source: str, quantisation: str | None, name: str | None, context: int | None, chunk: int | None, *,
    template: str | None = None, stream: TextIO | None = None,
) -> Path:  # fmt: skip
    """Build the checkpoint in the folder `source` with mlc_llm and return its folder on the shelf.

    Raises BuildError: MissingTool without the tool, UnknownModel for what is no folder or cannot be an id or a size, Taken for an
    id of the catalogue's, CompileError when the tool fails or what it leaves is not whole.
    """
    folder, form = Path(source), quantisation or DEFAULT
    if not (folder / "config.json").is_file():
        raise UnknownModel(f"{source} is no folder in Hugging Face's layout (with a config.json), which mlc_llm builds from")
    called = name or re.sub(r"[^a-z0-9._-]+", "-", f"{folder.resolve().name}-{form.replace('_', '-')}".lower()).strip("-._")[:64]
    if not store.ID.fullmatch(called):
        raise UnknownModel(f"{called!r} cannot be an id: give one with --id")
    own.check_sizes(context, chunk)
    if called in {entry.id for entry in catalogue.everything()}:
        raise Taken(f"{called} is a model of the catalogue; give this one another --id")
    with disk(store.root()), store.building(called, str(folder.resolve())):
        try:
            progress = Progress(USUAL, lambda told: store.write(called, "building", progress=told), stream)
            sizes = {"--context-window-size": context, "--prefill-chunk-size": chunk}
            options = [word for option, size in sizes.items() if size for word in (option, str(size))]
            return _build(Order(find(), folder, called, form, options, template), progress)
        except Exception as error:
            store.fail(called, error)
            raise


def _build(order: Order, progress: Progress) -> Path:
    source, tool, form = order.source, order.tool, order.form
    with steps.workspace(store.workplace(order.id)) as folder:
        progress.step("weights", f"mlc_llm converts the weights to {form}")
        _run(tool, folder, "convert_weight", source, "--quantization", form, "-o", folder)
        chosen = ["--conv-template", order.template or ANY, *order.options]
        _run(tool, folder, "gen_config", source, "--quantization", form, *chosen, "--max-batch-size", "1", "-o", folder)
        if (folder / OLD_INDEX).is_file() and not (folder / INDEX).exists():
            (folder / OLD_INDEX).rename(folder / INDEX)
        if order.template is None:
            _teach(source, folder)
        progress.step("library", "mlc_llm compiles the library")
        _run(tool, folder, "compile", folder / CONFIG, "--device", "webgpu", "-o", folder / LIBRARY)
        progress.step("publish", "checking and publishing")
        final = _publish(order, folder)
    progress.done(f"{order.id} is built by mlc_llm, in {final}")
    return final


def _publish(order: Order, folder: Path) -> Path:
    from .build import compress

    config, index = _whole(folder)
    compress(folder)
    name = order.source.resolve().name
    stated, told = licence.of_source({"kind": "safetensors", "path": str(order.source)}) or (licence.UNSTATED, "")
    origin = f"{name}, {told}" if told else name
    validated = validate.check(validate.modules((folder / LIBRARY).read_bytes().decode("latin-1")), manifest.FLOORS)
    facts: dict[str, Any] = {"id": order.id, "name": f"{name}, {order.form}", "licence": stated, "origin": origin}
    facts |= {"compiler": "mlc-llm", "shaders": {LIBRARY: validated.to_dict()}}
    found = manifest.mirrored(folder, manifest.foreign(config, index) | facts)
    return store.put(order.id, folder, found["rev"], str(order.source.resolve()))


def _run(tool: str, folder: Path, command: str, *words: str | Path) -> None:
    """Run one of the tool's commands. Raises CompileError with what it said last, DiskFull where that is the reason."""
    run = subprocess.run([tool, command, *map(str, words)], capture_output=True, text=True, check=False)
    if run.returncode:
        if "No space left on device" in run.stderr + run.stdout:
            raise DiskFull(f"no space left for {folder}: free some, or set HYBR_HOME to a folder on a larger disk")
        raise CompileError(f"mlc_llm {command} failed (exit {run.returncode}): {_last(run.stderr or run.stdout)}")


def _last(text: str) -> str:
    """Return the last line that says something, as a person can print it."""
    lines = ["".join(char for char in line if char.isprintable()).strip() for line in text.splitlines()]
    return next((line for line in reversed(lines) if line), "it said nothing")[:300]


def _whole(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return configuration and index, and leave what they name.

    Raises CompileError naming the file that is missing or not what it should be.
    """
    try:
        config, index = (json.loads((folder / name).read_bytes()) for name in (CONFIG, INDEX))
        sizes = {shard["dataPath"]: shard["nbytes"] for shard in index["records"]}
        texts = list(config["tokenizer_files"])
        config["quantization"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CompileError(f"mlc_llm left no usable {CONFIG} and {INDEX} ({error!r}); it is of another version") from error
    wanted = {**sizes, **dict.fromkeys([*texts, CONFIG, INDEX, LIBRARY])}
    for file, size in wanted.items():
        path = folder / Path(file).name
        if not path.is_file() or (size is not None and path.stat().st_size != size):
            raise CompileError(f"mlc_llm left no whole {file}; it may be of another version, or was stopped")
    if not wasm.whole(folder / LIBRARY):
        raise CompileError(f"mlc_llm left no whole {LIBRARY}; it may be of another version, or was stopped")
    for file in folder.iterdir():
        if file.name not in wanted:  # a second index, of the same shards as bfloat16, which no page reads
            file.unlink()
    return config, index


def _teach(source: Path, folder: Path) -> None:
    """Put the checkpoint's own conversation template into the configuration. Raises SourceError where it brings none."""
    from . import huggingface, template

    path = folder / CONFIG
    if not path.is_file():
        return
    vocabulary, jinja = huggingface.words(source)
    learnt = template.conversation(vocabulary, jinja)
    template.check(learnt, jinja, own.entry_of(str(source.resolve())), vocabulary)
    config = json.loads(path.read_bytes())
    steps.dump({**config, "conv_template": learnt}, path)
