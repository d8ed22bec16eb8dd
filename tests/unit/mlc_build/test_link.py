"""The runtime pack and the linker: what a library imports and exports, that bytes repeat, and that tools missing are named."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hybr.mlc_build import emscripten, pack, steps
from hybr.mlc_build.build import LIBRARIES
from hybr.mlc_build.errors import CompileError, MissingTool
from hybr.mlc_build.link import link

# What WebLLM 0.2.86's tvmjs looks up by name, and what it can give a library.
EXPORTS = {
    "memory", "_initialize", "__indirect_function_table", "TVMWasmAllocSpace", "TVMWasmFreeSpace", "TVMFFIWasmFunctionCreate",
    "TVMFFIWasmGetLastError", "TVMFFIFunctionCall", "TVMFFIFunctionGetGlobal", "TVMFFIFunctionSetGlobal", "TVMFFIObjectDecRef",
    "TVMFFIObjectIncRef", "TVMFFIAnyViewToOwnedAny", "TVMFFITypeKeyToIndex", "TVMFFIGetTypeInfo", "TVMFFIErrorSetRaisedFromCStr",
    "TVMFFIDataTypeToString",
}  # fmt: skip
IMPORTS = {
    "env.TVMFFIWasmSafeCall", "env.TVMFFIWasmFunctionDeleter", "env.emscripten_notify_memory_growth", "env.__cxa_thread_atexit",
    *(f"wasi_snapshot_preview1.{name}" for name in (
        "proc_exit", "fd_write", "fd_read", "fd_close", "fd_seek", "environ_get", "environ_sizes_get", "clock_time_get",
    )),
}  # fmt: skip
ASK = (
    "const m = new WebAssembly.Module(require('fs').readFileSync(process.argv[1]));"
    "console.log(JSON.stringify({imports: WebAssembly.Module.imports(m).map(x => x.module + '.' + x.name),"
    " exports: WebAssembly.Module.exports(m).map(x => x.name)}))"
)
# A WebAssembly object is a module with a linking section; this is the smallest module there is, and no object.
NO_OBJECT = base64.b64decode("AGFzbQEAAAA=")


@pytest.mark.models
def test_surface(tiny: Path) -> None:
    """A built library asks the page for nothing the page has not, and has everything the page looks up."""
    for name in LIBRARIES.values():
        told = json.loads(subprocess.run(["node", "-e", ASK, tiny / name], capture_output=True, check=True).stdout)
        assert set(told["imports"]) <= IMPORTS
        assert set(told["exports"]) >= EXPORTS


@pytest.mark.models
def test_small(tiny: Path, smollm: Path) -> None:
    """A library is a fraction of a megabyte on the wire: what WebLLM never calls is not in it."""
    for folder in (tiny, smollm):
        for name in LIBRARIES.values():
            assert (folder / f"{name}.br").stat().st_size < 1_200_000


@pytest.mark.models
def test_objects_repeat(tmp_path: Path, real_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small units of the runtime, compiled anew elsewhere, are the same bytes as those in the cache."""
    kept = {path.name: path.read_bytes() for path in pack.objects()}
    monkeypatch.setattr(pack, "UNITS", ("page_support", "webgpu_runtime"))
    monkeypatch.setenv("HYBR_HOME", str(tmp_path))
    for path in pack.objects():
        assert path.read_bytes() == kept[path.name]
    assert [item for item in (tmp_path / "runtime").iterdir() if item.name.startswith(steps.PREFIX)] == []


def test_overlay_is_ours() -> None:
    """Our headers bear no other project's licence: they were written for this runtime."""
    files = [path for path in pack.OVERLAY.rglob("*") if path.is_file()]
    assert len(files) == 7
    for path in files:
        assert "Licensed to the Apache" not in path.read_text()


def test_key_follows_what_decides_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another flag, another list of units left out or another emcc makes another cache entry."""
    emcc = emscripten.find()
    first = pack.key(emcc)
    assert pack.key(emcc) == first
    monkeypatch.setattr(pack, "FLAGS", (*pack.FLAGS, "-g"))
    assert pack.key(emcc) != first


def test_no_emcc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without emcc the error gives the line that installs it; so does an EMCC that is no program."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("EMCC", raising=False)
    with pytest.raises(MissingTool, match="apt-get install emscripten"):
        link([], tmp_path / "a.wasm")
    monkeypatch.setenv("EMCC", str(tmp_path / "nothing"))
    with pytest.raises(MissingTool, match="apt-get install emscripten"):
        link([], tmp_path / "a.wasm")


def test_command_fails(tmp_path: Path) -> None:
    """A command that fails is reported with the end of what it said."""
    with pytest.raises(CompileError, match=r"status 3:\nlast words"):
        emscripten.run([sys.executable, "-c", "print('last words'); raise SystemExit(3)"], cwd=tmp_path)


@pytest.mark.models
def test_not_an_object(tmp_path: Path) -> None:
    """A file that is no object is refused, with the linker's reason."""
    bad = tmp_path / "bad.o"
    bad.write_bytes(NO_OBJECT)
    with pytest.raises(CompileError, match=r"bad\.o"):
        link([bad], tmp_path / "a.wasm")


def test_missing_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Python without the compiler is told which extra brings it."""
    code = "from hybr.mlc_build import pack; pack._package('tvm_that_is_not_there')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'hybr[build]'" in done.stderr
    assert not pack.installed("tvm_that_is_not_there")
    assert Path(pack.OVERLAY, "include/tvm/support/io.h").is_file()
