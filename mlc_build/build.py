"""From a catalogue entry to a folder that WebLLM loads.

    fetch -> weights (read, quantise, tokenizer) -> runtime -> library per profile (compile, link) -> config -> publish

Weights and libraries are steps of their own (`steps.once`): keyed by what goes into them, kept, and reused by the next build.
The same inputs give the same bytes, so the same revision.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import brotli

from hybr.server import paths

from . import checkpoint, emscripten, licence, manifest, own, pack, rewrite, sources, steps, store, template, tiny
from .errors import MissingTool, UnknownQuantisation, disk
from .model.config import width
from .progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO

    from .catalogue import Entry
    from .checkpoint import Checkpoint
    from .compile import Profile
    from .encoder.weights import Encoder
    from .model.config import ModelConfig

HERE = Path(__file__).parent
LIBRARIES: dict[Profile, str] = {"gpu": "model.wasm", "subgroups": "model-subgroups.wasm", "software": "model-software.wasm"}
PLANNED, VALIDATED = "planned.txt", "validated.json"
"""What a library's step keeps beside it, for the manifest."""

BOTH = ("encoder", "quantise.py", "blocks.py")
CODE = {
    "weights": (
        *BOTH,
        "shards.py",
        "checkpoint.py",
        "ggml.py",
        "told.py",
        "pieces.py",
        "huggingface.py",
        "safetensors.py",
        "tokenizer.py",
    ),
    "library": (*BOTH, "compile.py", "lower.py", "memory.py", "refuse.py", "validate.py", "model", "kernels"),
}
"""What each kept step is made by."""

# Usual seconds of each step on two slow cores, for the estimate of what remains.
FETCH, RUNTIME, PUBLISH = 30.0, 60.0, 1.0
WEIGHTS_PER_MILLION = {"q4f32_1": 0.1, "q4e8f32_1": 0.05, "q0f32": 0.02}
LIBRARY = 20.0

BROTLI_QUALITY = 9
"""A library: 503 kB in 0.4 s; quality 11 makes it 439 kB in 22 s (measured)."""


def build(
    name: str,
    quantisation: str | None = None,
    profiles: Sequence[Profile] = tuple(LIBRARIES),
    stream: TextIO | None = None,
    seconds: dict[str, float] | None = None,
) -> Path:
    """Build a model of the catalogue, or the checkpoint at a path; see `build_entry`."""
    return build_entry(own.entry_of(name, quantisation), profiles, stream, seconds)


def build_entry(
    entry: Entry,
    profiles: Sequence[Profile] = tuple(LIBRARIES),
    stream: TextIO | None = None,
    seconds: dict[str, float] | None = None,
) -> Path:
    """Build an entry and return its folder. Does little more than read when the same build is there.

    Progress goes to `stream` (default standard error); `seconds` is filled with what each step took. Raises BuildError;
    state.json then says `failed`, with the error's code and message, unless the model is unknown or another process builds it.
    """
    profiles = suited(entry, profiles)
    with disk(store.root()), store.building(entry.id, own.origin_of(entry)):
        try:
            _check_tools()
            progress = Progress(plan(entry, profiles), lambda told: store.write(entry.id, "building", progress=told), stream)
            final = _build(entry, profiles, progress)
        except Exception as error:  # an interruption is no failure: the state names a dead process, and the next build goes on
            store.fail(entry.id, error)
            raise
        if seconds is not None:
            seconds.update(progress.seconds)
        return final


def suited(entry: Entry, profiles: Sequence[Profile]) -> Sequence[Profile]:
    """Return the profiles that can be built: an embedding model decodes nothing, which is what subgroups are for.

    Software adapters have no halves. Raises UnknownQuantisation where none is left.
    """
    profiles = [profile for profile in profiles if profile != "subgroups" or entry.kind != "embedding"]
    if width(entry.quantisation) == "float32":
        return profiles
    if "gpu" not in profiles:
        raise UnknownQuantisation(
            f"adapters that run on the processor have no shader-f16, which {entry.quantisation} needs: "
            f"choose {entry.quantisation.replace('f16', 'f32')}, or --profile gpu"
        )
    return [profile for profile in profiles if profile != "software"]


def plan(entry: Entry, profiles: Sequence[Profile]) -> dict[str, float]:
    """Return the steps of a build and their usual seconds; what is here already takes none."""
    millions = sources.size(entry.source) / 0.7e6  # a Q4_1 weight takes 0.6 to 0.7 bytes
    found = {
        "fetch": 0.0 if sources.present(entry.source) else FETCH,
        "weights": 1 + millions * WEIGHTS_PER_MILLION.get(entry.quantisation, 0.1),
    }
    return found | {"runtime": 0.0 if pack.present() else RUNTIME} | dict.fromkeys(profiles, LIBRARY) | {"publish": PUBLISH}


def _build(entry: Entry, profiles: Sequence[Profile], progress: Progress) -> Path:
    for step in CODE:
        _code(step)
    opened, digest = _open(entry, progress)
    conversation = conversation_of(entry, opened)  # refused before the minutes that weights and libraries take
    progress.step("weights", f"quantising the weights to {entry.quantisation}")
    weights = _weights(entry, opened, digest, progress)
    if said := manifest.blocks(weights):
        progress.note(f"the checkpoint's own blocks: {said}")
    progress.step("runtime", "preparing the runtime")
    pack.objects(progress.at)
    planned, largest, shaders = 0, 0, {}
    with steps.workspace(store.workplace(entry.id)) as folder:
        _place(weights, folder)
        if entry.source["kind"] == "seeded" and isinstance(opened, checkpoint.Checkpoint):
            rewrite.write(opened, tiny.tensors(), folder / f"{entry.base}.gguf")
        for profile in profiles:
            progress.step(profile, f"compiling the library for {profile} adapters")
            made = _library(entry, opened, profile, progress)
            _place(made, folder)
            total, single = map(int, (made / PLANNED).read_text().split())
            planned, largest = max(planned, total), max(largest, single)
            shaders[LIBRARIES[profile]] = json.loads((made / VALIDATED).read_bytes())
        progress.step("publish", "checking and publishing")
        write_config(entry, opened, conversation, folder)
        c = opened.config
        stated, origin = licence.of_source(entry.source) or (entry.licence, "")
        told = dataclasses.replace(
            entry, context=c.context_window_size, family=c.family, licence=stated, origin=_origin(entry, origin)
        )
        found = manifest.make(folder, told, c, planned, largest=largest, shaders=shaders)
        final = store.put(entry.id, folder, found["rev"], own.origin_of(entry))
    for kept in ("steps/weights", "steps/libraries", "runtime"):
        steps.prune(paths.home() / kept)
    progress.done(f"{entry.id} is built: {found['bytes'] / 1e6:.1f} MB in {final}")
    return final


def _origin(entry: Entry, told: str) -> str:
    """Return what a person reads of where the weights come from: their file's or folder's name, and what that says of itself."""
    return f"{entry.origin}, {told}" if told and told != entry.origin else entry.origin


def _check_tools() -> None:
    """Fail before the download, not after it."""
    emscripten.find()
    for package, distribution in {"tvm": "apache-tvm", "gguf": "gguf", "tokenizers": "tokenizers", "jinja2": "jinja2"}.items():
        if not pack.installed(package):
            raise MissingTool(f"{distribution} is not installed; install the build extra: pip install 'hybr[build]'")


def _open(entry: Entry, progress: Progress) -> tuple[Checkpoint | Encoder, str]:
    """Return the checkpoint and a string that stands for its contents."""
    progress.step("fetch", "looking for the weights")
    if entry.source["kind"] == "seeded":
        return checkpoint.open_seeded(entry), steps.key(HERE / "tiny.py")

    def hear(done: int, total: int) -> None:
        progress.at(done / total, f"downloading the weights: {done / 1e6:.0f} of {total / 1e6:.0f} MB")

    if entry.source["kind"] == "safetensors":
        return _open_folder(entry)
    if entry.source["kind"] == "gguf":
        path = Path(entry.source["path"])
        return checkpoint.open_gguf(path, entry), sources.sha256(path)
    path = sources.fetch(entry.base, hear)
    sources.check(path, entry.source)
    if entry.kind == "embedding":
        return _open_encoder(path.parent, entry)
    return checkpoint.open_gguf(path, entry), str(entry.source["member_sha256"])


def _open_folder(entry: Entry) -> tuple[Checkpoint | Encoder, str]:
    from . import huggingface, safetensors

    path = Path(entry.source["path"])
    if entry.kind == "embedding":
        return _open_encoder(huggingface.folder_of(path), entry)
    opened = huggingface.open_folder(path, entry)
    texts = (huggingface.folder_of(path) / name for name in huggingface.TEXTS)
    found = [*safetensors.files(path), *(file for file in texts if file.is_file())]
    return opened, steps.key(*((file.name, sources.sha256(file)) for file in found))


def _open_encoder(folder: Path, entry: Entry) -> tuple[Encoder, str]:
    from . import safetensors
    from .encoder import artifact, weights

    opened = weights.open_folder(folder, entry.context)
    found = [*safetensors.files(folder), *(folder / name for name in artifact.TEXTS if (folder / name).is_file())]
    return opened, steps.key(*((file.relative_to(folder).as_posix(), sources.sha256(file)) for file in found))


def _weights(entry: Entry, opened: Checkpoint | Encoder, digest: str, progress: Progress) -> Path:
    """Return a folder with shards, index and tokenizer; `digest` stands for the checkpoint's contents."""
    from . import quantise, shards, tokenizer
    from .encoder import artifact

    def heard(made: Iterator[quantise.Parameter], config: ModelConfig) -> Iterator[quantise.Parameter]:
        wanted = quantise.specs(config, entry.quantisation)
        total, done = sum(math.prod(spec.shape) for spec in wanted), 0
        for parameter in made:
            done += parameter.array.size
            progress.at(done / total, f"quantising the weights to {entry.quantisation}: {parameter.name}")
            yield parameter

    def make(folder: Path) -> None:
        if not isinstance(opened, checkpoint.Checkpoint):
            artifact.write(opened, entry.quantisation, folder)
        else:
            made = quantise.quantise(opened.tensors, opened.config, entry.quantisation, opened.called)
            shards.write(heard(made, opened.config), folder)
            tokenizer.write(opened, folder)
        compress(folder)

    made_by = _versions("gguf", "numpy", "tokenizers")
    name = steps.key(digest, entry.quantisation, opened.config, made_by, BROTLI_QUALITY, _code("weights"))
    return steps.once(paths.home() / "steps" / "weights" / name, make)


def _library(entry: Entry, opened: Checkpoint | Encoder, profile: Profile, progress: Progress) -> Path:
    """Return a folder with one profile's library, and beside it the graphics memory planned with it and its validation."""
    from .compile import compile_library
    from .link import FLAGS, link

    def make(folder: Path) -> None:
        emscripten.room(Path(tempfile.gettempdir()), "TMPDIR")  # LLVM ends the process when its file cannot be written
        with steps.workspace(folder.parent) as scratch:
            compiled = compile_library(opened.config, entry.quantisation, profile, scratch)
            progress.at(0.9, f"linking {LIBRARIES[profile]}")
            link(compiled.objects, folder / LIBRARIES[profile])
            (folder / PLANNED).write_text(f"{compiled.planned.bytes} {compiled.planned.largest}\n")
            steps.dump(compiled.validated.to_dict(), folder / VALIDATED)
        compress(folder)

    made_by = [*_versions("apache-tvm", "apache-tvm-ffi"), pack.objects()[0].parent.name, FLAGS]
    name = steps.key(opened.config, entry.quantisation, profile, made_by, BROTLI_QUALITY, _code("library"))
    return steps.once(paths.home() / "steps" / "libraries" / name, make)


def conversation_of(entry: Entry, opened: Checkpoint | Encoder) -> dict[str, Any]:
    """Return the conversation template, checked against the checkpoint's own; none for what does not converse."""
    if not isinstance(opened, checkpoint.Checkpoint):
        return {}
    dropped = bool(entry.template.get("drop_default_system"))
    found = template.conversation(opened.vocabulary, opened.template, drop_system=dropped)
    template.check(found, opened.template, entry, opened.vocabulary)
    return found


def write_config(entry: Entry, opened: Checkpoint | Encoder, conversation: dict[str, Any], folder: Path) -> None:
    """Write mlc-chat-config.json."""
    from . import tokenizer
    from .encoder import artifact

    if not isinstance(opened, checkpoint.Checkpoint):
        steps.dump(artifact.config(opened, entry.quantisation), folder / "mlc-chat-config.json")
        compress(folder)
        return
    vocabulary, config = opened.vocabulary, opened.config
    content = {
        "version": "0.1.0",
        "model_type": config.family,
        "quantization": entry.quantisation,
        "model_config": config.to_dict(),
        "vocab_size": config.vocab_size,
        "context_window_size": config.context_window_size,
        "sliding_window_size": -1,
        "attention_sink_size": -1,
        "prefill_chunk_size": config.prefill_chunk_size,
        "tensor_parallel_shards": 1,
        **entry.sampling,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "pad_token_id": vocabulary.pad,
        "bos_token_id": vocabulary.bos,
        "eos_token_id": conversation["stop_token_ids"],
        "tokenizer_files": ["tokenizer.json", "tokenizer_config.json"],
        "tokenizer_info": tokenizer.kind(vocabulary),
        "conv_template": conversation,
    }
    steps.dump(content, folder / "mlc-chat-config.json")
    compress(folder)


def compress(folder: Path) -> None:
    """Write the `.br` sibling that a library or JSON file lacks. Shards of weights do not shrink."""
    for file in sorted(folder.iterdir()):
        packed = file.with_name(file.name + ".br")
        if file.suffix in {".wasm", ".json"} and not packed.exists():
            packed.write_bytes(brotli.compress(file.read_bytes(), quality=BROTLI_QUALITY))


def _place(made: Path, folder: Path) -> None:
    """Put a step's files into the build: as links where the disk can, so that weights lie on it once."""
    for file in made.iterdir():
        if file.name.removesuffix(".br") in {PLANNED, VALIDATED, steps.SUMS}:
            continue
        try:
            os.link(file, folder / file.name)
        except OSError:
            shutil.copyfile(file, folder / file.name)


@cache
def _code(step: str) -> str:
    """Return a hash of the sources that decide a step's result, as they are when a process first asks.

    `build` asks before it loads them: code edited later must not be taken for the code that runs.
    """
    return steps.key(*(HERE / name for name in CODE[step]))


def _versions(*distributions: str) -> list[str]:
    return [f"{name}={importlib.metadata.version(name)}" for name in distributions]
