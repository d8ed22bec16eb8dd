"""A model's objects and the runtime's, linked to one library that WebLLM loads.

The page gives the library its imports (WASI, two callbacks, a notice of memory growth) and looks its functions up by name. `-O1`
at this stage means no whole-program pass: every object was optimised when it was compiled, the kernels run on the GPU, and
-O3 here buys 20 kB after brotli for twenty seconds a link (measured).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import emscripten, pack

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FLAGS = (
    "-O1",
    pack.EXCEPTIONS,
    "--no-entry",
    "-sSTANDALONE_WASM=1",
    "-sWASM_BIGINT=1",  # 64-bit arguments cross as BigInt, as tvmjs expects
    "-sALLOW_MEMORY_GROWTH=1",
    "-sINITIAL_MEMORY=33554432",
    "-sERROR_ON_UNDEFINED_SYMBOLS=0",  # the page's two callbacks
    "-Wl,--strip-all",
)


def link(objects: Sequence[Path], out: Path) -> Path:
    """Link a model's WebAssembly objects with the runtime into `out`.

    Raises MissingTool without emcc, CompileError when the linker refuses.
    """
    emcc = emscripten.find()
    runtime = pack.objects()
    emscripten.run([emcc, *FLAGS, "-o", str(out), *map(str, runtime), *map(str, objects)])
    out.chmod(0o644)
    return out
