"""The runtime that every library carries, compiled once to WebAssembly objects.

The C++ sources come out of the installed apache-tvm and apache-tvm-ffi wheels; what those lack (seven headers) and what a page
needs instead of the wheel's remote-procedure-call server lies in `runtime/`, laid out like the wheel, and goes on top. Sources
that WebLLM never calls are replaced by empty files. Objects, not bitcode: the optimiser then runs once here instead of at every
link, which makes a link take under a second instead of two minutes.

Objects are kept in `$HYBR_HOME/runtime/<key>/`; the key covers everything that decides their bytes.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from hybr.server import paths

from . import emscripten, steps
from .errors import MissingTool

if TYPE_CHECKING:
    from collections.abc import Callable

UNITS = ("page_support", "webgpu_runtime", "wasm_runtime")
"""Sources under web/emcc, the quick ones first; wasm_runtime.cc includes all the others."""

EXCEPTIONS = "-fwasm-exceptions"
"""A failed check in the runtime becomes an Error in the page. Without it (the stock libraries) it traps, the message is lost and
the instance is left half-way through whatever it did. Costs 70 kB after brotli."""

FLAGS = ("-O3", "-std=c++17", EXCEPTIONS, "-Wno-ignored-attributes")
INCLUDES = ("-I.", "-Iinclude", "-I3rdparty/tvm-ffi/include", "-I3rdparty/tvm-ffi/3rdparty/dlpack/include")

UNUSED = (
    *(f"src/runtime/rpc/rpc_{part}.cc" for part in ("channel", "endpoint", "event_impl", "local_session", "module", "session")),
    "src/runtime/extra/contrib/sort/sort.cc",
    "src/runtime/timer.cc",
    "src/runtime/vm/rnn_state.cc",
    "3rdparty/tvm-ffi/src/ffi/testing/testing.cc",
)
"""Parts of wasm_runtime.cc that no chat library calls: the rpc server, host-side sort, timers, recurrent state, self-tests."""

OVERLAY = Path(__file__).parent / "runtime"


def objects(progress: Callable[[float, str], None] | None = None) -> list[Path]:
    """Return the runtime's objects, compiling them when this machine has not yet (about 40 s, once).

    `progress` hears a fraction in 0..1 and a line of text. Raises MissingTool without emcc or the wheels, CompileError when
    the sources do not compile, DiskFull.
    """
    emcc = emscripten.find()
    hear = progress or (lambda _fraction, _text: None)
    final = steps.once(paths.home() / "runtime" / key(emcc), lambda folder: _compile(emcc, folder, hear))
    return [final / f"{unit}.o" for unit in UNITS]


def present() -> bool:
    """Say whether this machine has the objects."""
    return (paths.home() / "runtime" / key(emscripten.find())).is_dir()


def key(emcc: str) -> str:
    """Return 16 hex digits over the wheels' versions, our overlay, the flags, what is left out and the emcc in use."""
    wheels = [_version(wheel) for wheel in ("apache-tvm", "apache-tvm-ffi")]
    return steps.key(FLAGS, INCLUDES, UNUSED, UNITS, emscripten.version(emcc), wheels, OVERLAY)


def _compile(emcc: str, out: Path, progress: Callable[[float, str], None]) -> None:
    with steps.workspace(out.parent) as stage:
        _stage(stage)
        for done, unit in enumerate(UNITS):
            progress(done / len(UNITS), f"compiling the runtime: {unit}")
            # Relative names throughout: they end up in the objects' messages, and the same inputs must give the same bytes.
            command = [emcc, *INCLUDES, *FLAGS, "-c", "-o", f"../{out.name}/{unit}.o", f"web/emcc/{unit}.cc"]
            emscripten.run(command, cwd=stage)


def _stage(stage: Path) -> None:
    """Lay the wheels' sources and our overlay out as the one tree that the sources expect."""
    tvm, ffi = _package("tvm"), _package("tvm_ffi")
    for part in ("src", "web/emcc", "include"):
        shutil.copytree(tvm / part, stage / part)
    for part in ("src", "include", "3rdparty/dlpack"):
        shutil.copytree(ffi / part, stage / "3rdparty/tvm-ffi" / part)
    shutil.copytree(OVERLAY, stage, dirs_exist_ok=True)
    for name in UNUSED:
        (stage / name).write_text("")


def installed(package: str) -> bool:
    """Say whether a Python package is there, without importing it: the compiler's library is 250 MB."""
    return importlib.util.find_spec(package) is not None


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise MissingTool(f"the Python package {name} is not installed; install the build extra: pip install 'hybr[build]'")
    return Path(spec.origin).parent


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingTool(f"{distribution} is not installed; install the build extra: pip install 'hybr[build]'") from error
