"""From a model's numbers to a wasm object: the Relax graph, its kernels and the virtual machine's bytecode in one file.

The object holds host code for wasm32, the WGSL of every kernel, and the bytecode, registered as TVM's system library when it is
linked with the runtime (`mlc_build.link`). The same inputs give the same bytes.
"""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import CompileError

if TYPE_CHECKING:
    import tvm

    from .encoder.config import EncoderConfig
    from .memory import Planned
    from .model.config import ModelConfig
    from .validate import Validation

Profile = Literal["gpu", "subgroups", "software"]


@dataclass(frozen=True)
class CompiledLibrary:
    """What the linker needs, and what was measured.

    Attributes:
        objects: files to link with the runtime.
        kernels: WGSL entry points in the library, each compiled by the page's adapter at load.
        metadata: what `_metadata` returns in the page.
        seconds: time the compiler took.
        planned: graphics memory that calls need beside weights and cache.
        validated: what Chromium's validator, which every shader passed, was and saw.

    """

    objects: tuple[Path, ...]
    kernels: tuple[str, ...]
    metadata: dict[str, Any]
    seconds: float
    planned: Planned
    validated: Validation


def compile_library(config: ModelConfig | EncoderConfig, quantisation: str, profile: Profile, out: Path) -> CompiledLibrary:
    """Compile the model for the page and write `library.o` into the folder `out`.

    Args:
        config: the model's numbers.
        quantisation: one of `quantise.FORMS`.
        profile: `gpu` for real devices, `subgroups` for those with that feature, `software` for adapters that run on the CPU.
        out: folder for the object; made when missing.

    Raises:
        CompileError: a shader is no valid WebGPU, or asks more of a device than manifests do; the message names it.
        MissingTool: there is no validator to ask.

    """
    import tvm
    from tvm import relax

    from . import validate
    from .lower import device_target, pipeline, shader_pipeline
    from .manifest import FLOORS
    from .memory import Planned

    start = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    target = device_target()
    module, metadata = build_module(config, quantisation, profile, target)
    planned = Planned()
    with target, tvm.transform.PassContext(opt_level=3, config={"relax.backend.use_cuda_graph": False}):
        passes = {"relax_pipeline": pipeline(profile, target, planned), "tir_pipeline": shader_pipeline(profile)}
        executable = relax.build(module, target=target, **passes, system_lib=True)
    objects = write_objects(executable, out)
    validated = validate.check(validate.modules(shaders(executable)), FLOORS)
    return CompiledLibrary(objects, kernel_names(executable), metadata, time.monotonic() - start, planned, validated)


def write_objects(executable: Any, out: Path) -> tuple[Path, ...]:
    """Write the host code and the packed device code as WebAssembly objects; return them in link order."""

    def collect(_name: str, files: list[str], **_options: Any) -> tuple[Path, ...]:
        return tuple(Path(shutil.move(file, out / Path(file).name)) for file in files)

    collect.object_format = "o"  # type: ignore[attr-defined]
    collect.need_system_lib = True  # type: ignore[attr-defined]
    made: tuple[Path, ...] = executable.export_library("library.o", fcompile=collect)
    return made


def kernel_names(executable: Any) -> tuple[str, ...]:
    """Return the WGSL entry points of a built executable, in the order of the library."""
    return tuple(re.findall(r"@compute[^{]*?\bfn\s+(\w+)", shaders(executable)))


def shaders(executable: Any) -> str:
    """Return the WGSL of every kernel of a built executable."""
    waiting = [executable.mod]
    while waiting:
        module = waiting.pop()
        if module.kind == "webgpu":
            return str(module.inspect_source())
        waiting.extend(module.imports)
    raise CompileError("the compiler made no shaders: the target is not webgpu")


def build_module(
    config: ModelConfig | EncoderConfig, quantisation: str, profile: Profile, target: tvm.target.Target
) -> tuple[tvm.IRModule, dict[str, Any]]:
    """Return the Relax module with every entry point of a chat or embedding library, and its metadata."""
    from .encoder.config import EncoderConfig
    from .kernels import family_of
    from .lower import add_metadata, add_sampler, sampler_threads
    from .memory import LENGTH, bounded
    from .model.llama import Llama

    if isinstance(config, EncoderConfig):
        from .model import encoder

        return encoder.build_module(config, quantisation, profile)
    model = Llama(config, quantisation, family_of(profile))
    module, parameters = model.export_tvm(spec=model.get_default_spec())[:2]
    module = bounded(module, {LENGTH: config.prefill_chunk_size})
    metadata = describe(config, quantisation, profile, parameters)
    return add_metadata(add_sampler(module, config.vocab_size, sampler_threads(profile, target)), metadata), metadata


def describe(config: ModelConfig, quantisation: str, profile: Profile, parameters: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return what the page may ask the library about itself."""
    return {
        "model_type": config.family,
        "quantization": quantisation,
        "profile": profile,
        "context_window_size": config.context_window_size,
        "sliding_window_size": -1,
        "attention_sink_size": -1,
        "prefill_chunk_size": config.prefill_chunk_size,
        "max_batch_size": 1,
        "tensor_parallel_shards": 1,
        "kv_state_kind": "kv_cache",
        "memory_usage": {},
        "params": [{"name": name, "shape": [int(n) for n in p.shape], "dtype": str(p.dtype)} for name, p in parameters],
    }
