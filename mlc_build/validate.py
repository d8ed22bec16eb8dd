"""Every shader of a library through a real WebGPU validator: Chromium's own, Dawn, from the npm package `webgpu`.

It runs without graphics (Dawn's null backend) and has `shader-f16`, so libraries of halves are checked on machines that could not
run them. What a shader takes of the three limits that matter is counted (`needs`): one that takes more than the manifest asks of
a device is refused. A library's shaders take a second. Where Node or the package is missing (an installation from a wheel)
nothing is checked, and whoever builds is told.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import CompileError

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
SECTION = re.compile(r"// Function: (\w+)\n//-+\n((?:(?!// Function: )[\t\n -~])*\n}\n)")
"""A module with the heading TVM gives it, which a listing heads once more."""


def modules(shaders: str) -> dict[str, str]:
    """Return each WGSL module by its entry point, from `compile.shaders` or from the bytes of a linked library as latin-1.

    Raises CompileError where not every shader can be told apart, since what is not validated must not pass.
    """
    found = dict(SECTION.findall(shaders))
    if (entries := shaders.count("@compute")) != len(found):
        raise CompileError(f"the library has {entries} shaders, of which {len(found)} can be told apart to be validated")
    return found


def validator() -> Path | None:
    """Return the npm package's entry, or None where it or Node is not installed."""
    index = Path(__file__).parents[1] / "static" / "node_modules" / "webgpu" / "index.js"
    return index if index.is_file() and shutil.which("node") else None


def needs(code: str) -> dict[str, int]:
    """Return what a module takes of WebGPU's limits: storage buffers, bytes of workgroup memory, threads of a workgroup."""
    threads = re.search(r"@workgroup_size\((\d+), (\d+), (\d+)\)", code)
    shared = re.findall(r"var<workgroup> \w+ : array<(\w+), (\d+)>", code)
    return {
        "maxStorageBuffersPerShaderStage": len(re.findall(r"var<storage", code)),
        "maxComputeWorkgroupStorageSize": sum(int(n) * (2 if kind == "f16" else 4) for kind, n in shared),
        "maxComputeInvocationsPerWorkgroup": math.prod(int(n) for n in threads.groups()) if threads else 0,
    }


def check(found: Mapping[str, str], limits: Mapping[str, int]) -> bool:
    """Validate WGSL modules; return whether they were, which needs Node and the package.

    Args:
        found: modules by name.
        limits: of WebGPU, by name, that the manifest asks of a device.

    Raises:
        CompileError: one is refused, or takes more than that; the message names it and quotes the validator.

    """
    for name, code in found.items():
        for limit, taken in needs(code).items():
            if taken > limits[limit]:
                raise CompileError(f"the shader {name} takes {taken} of {limit}; the manifest asks a device for {limits[limit]}")
    index = validator()
    if index is None:
        return False
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
    return True


def _small(code: str) -> bool:
    return all(taken <= DEFAULTS[limit] for limit, taken in needs(code).items())
