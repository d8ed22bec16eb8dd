"""Every shader of a library through a real WebGPU validator: Chromium's own, Dawn, from the npm package `webgpu`.

It runs without graphics (Dawn's null backend) and has `shader-f16`, so libraries of halves are checked on machines that could not
run them. What a shader takes of the three limits that matter is counted (`needs`): one that takes more than the manifest asks of
a device is refused. A library's shaders take a second. A module that was not validated counts as failed: without the package,
which comes with the page's own, nothing is built. What was validated, and by what, goes into the manifest (`Validation`).
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybr.server.errors import BuildError

from .errors import CompileError, MissingTool

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDS = 120
SCRIPT = Path(__file__).with_name("validate.mjs")
DEFAULTS = {
    "maxStorageBuffersPerShaderStage": 8,
    "maxComputeWorkgroupStorageSize": 16384,
    "maxComputeInvocationsPerWorkgroup": 256,
}
"""What every WebGPU device has (the specification's table of limits)."""
BUFFERS = {"maxBufferSize": 2**28, "maxStorageBufferBindingSize": 2**27}
"""And of a buffer's bytes, of which only the whole model can tell."""
SECTION = re.compile(r"// Function: (\w+)\n//-+\n((?:(?!// Function: )[\t\n -~])*\n}\n)")
"""A module with the heading TVM gives it, which a listing heads once more."""


@dataclass(frozen=True)
class Validation:
    """What the manifest says of a library's shaders.

    Attributes:
        validator: name and version of what accepted every one of them.
        modules: how many there are.
        most: the most that one of them takes of each limit of WebGPU in DEFAULTS.

    """

    validator: str
    modules: int
    most: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return it as the manifest spells it."""
        return asdict(self)


def modules(shaders: str) -> dict[str, str]:
    """Return each WGSL module by its entry point, from `compile.shaders` or from the bytes of a linked library as latin-1.

    Raises CompileError where not every shader can be told apart, since what is not validated must not pass.
    """
    found = dict(SECTION.findall(shaders))
    if (entries := shaders.count("@compute")) != len(found):
        raise CompileError(f"the library has {entries} shaders, of which {len(found)} can be told apart to be validated")
    return found


def validator() -> tuple[Path, str]:
    """Return the npm package's entry, and its name and version. Raises MissingTool where it or Node cannot be had."""
    from hybr.server.page import npm

    try:
        package = npm.folder() / "webgpu"
    except BuildError as error:
        raise MissingTool(f"the library's shaders cannot be validated: {error}") from error
    if not shutil.which("node") or not (package / "index.js").is_file():
        raise MissingTool("the library's shaders cannot be validated: that needs Node (nodejs) and its npm on the PATH")
    return package / "index.js", f"Dawn (npm webgpu {json.loads((package / 'package.json').read_bytes())['version']})"


def needs(code: str) -> dict[str, int]:
    """Return what a module takes of WebGPU's limits: storage buffers, bytes of workgroup memory, threads of a workgroup.

    Raises CompileError where it is written in a way that cannot be counted.
    """
    threads = re.search(r"@workgroup_size\((\d+), (\d+), (\d+)\)", code)
    shared = re.findall(r"var<workgroup> \w+ : array<(?:vec(\d)<)?(\w+)>?, (\d+)>", code)
    if not threads or len(shared) != code.count("var<workgroup>"):
        raise CompileError(f"what a shader takes of a device cannot be counted: {code[:200]!r}")
    return {
        "maxStorageBuffersPerShaderStage": len(re.findall(r"var<storage", code)),
        "maxComputeWorkgroupStorageSize": sum(_bytes(int(lanes or 1), kind) * int(n) for lanes, kind, n in shared),
        "maxComputeInvocationsPerWorkgroup": math.prod(int(n) for n in threads.groups()),
    }


def _bytes(lanes: int, kind: str) -> int:
    """Return the size of a vector in memory, where one of three lanes takes the room of four."""
    return (4 if lanes == 3 else lanes) * (2 if kind == "f16" else 4)


def past(limits: Mapping[str, int]) -> list[str]:
    """Return in words which of these are larger than what every device has."""
    return [f"{limit} {limits[limit]} of {most}" for limit, most in (DEFAULTS | BUFFERS).items() if limits.get(limit, 0) > most]


def check(found: Mapping[str, str], limits: Mapping[str, int]) -> Validation:
    """Validate WGSL modules and return what can be said of them.

    Args:
        found: modules by name.
        limits: of WebGPU, by name, that the manifest asks of a device.

    Raises:
        CompileError: one is refused, or takes more than that, or there is none; the message names it and quotes the validator.
        MissingTool: the validator cannot be run here.

    """
    if not found:
        raise CompileError("the library has no shader that can be told apart and validated")
    most = dict.fromkeys(DEFAULTS, 0)
    for name, code in found.items():
        for limit, taken in needs(code).items():
            most[limit] = max(most[limit], taken)
            if taken > limits[limit]:
                raise CompileError(f"the shader {name} takes {taken} of {limit}; the manifest asks a device for {limits[limit]}")
    index, called = validator()
    _validate(found, index)
    return Validation(called, len(found), most)


def _validate(found: Mapping[str, str], index: Path) -> None:
    asked = json.dumps([{"name": name, "code": code, "small": _small(code)} for name, code in found.items()])
    try:
        done = subprocess.run(
            ["node", str(SCRIPT), str(index)], input=asked, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CompileError(f"the WebGPU validator did not finish within {SECONDS} s; run the command again") from error
    if done.returncode:
        raise CompileError(f"the WebGPU validator failed: {done.stderr.strip()[:400] or 'it said nothing'}")
    refused = json.loads(done.stdout)
    if refused:
        first = refused[0]
        raise CompileError(
            f"the shader {first['name']} is not valid WebGPU, and {len(refused) - 1} more: {first['message']}. "
            "This is a defect of the compiler; please report it with the model's name"
        )


def _small(code: str) -> bool:
    return all(taken <= DEFAULTS[limit] for limit, taken in needs(code).items())
