"""Every shader of every library here, through Chromium's own validator: a module that was not validated counts as failed."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import encoders
import pytest
from families import config

from hybr.mlc_build import build, catalogue, cli, validate
from hybr.mlc_build import compile as compiler
from hybr.mlc_build.encoder import weights
from hybr.mlc_build.encoder.config import FORMS
from hybr.mlc_build.errors import CompileError, MissingTool, UnknownQuantisation
from hybr.mlc_build.manifest import FLOORS
from hybr.server.errors import BuildError as PageError

if TYPE_CHECKING:
    from pathlib import Path

    from hybr.mlc_build.compile import Profile

GOOD = """@group(0) @binding(0) var<storage, read_write> x : array<f32>;
@compute @workgroup_size(64, 1, 1)
fn twice(@builtin(global_invocation_id) at : vec3<u32>) { x[at.x] = 2.0 * x[at.x]; }
"""
HALVES = "enable f16;\n" + GOOD.replace("array<f32>", "array<f16>").replace("2.0", "2.0h")
UNIFORM = GOOD.replace("{ x", "{ if (x[0] > 0.0) { workgroupBarrier(); } x")


def test_sound_modules_pass() -> None:
    """Floats and halves alike; the validator is installed here, so nothing passes unseen."""
    found = validate.check({"twice": GOOD, "halves": HALVES}, FLOORS)
    assert found.modules == 2
    assert found.validator.startswith("Dawn (npm webgpu 0.")
    assert found.most == {
        "maxStorageBuffersPerShaderStage": 1,
        "maxComputeWorkgroupStorageSize": 0,
        "maxComputeInvocationsPerWorkgroup": 64,
    }


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (GOOD.replace("2.0 *", "2.0h *"), "the shader twice is not valid WebGPU.* 'f16' extension"),
        (HALVES.removeprefix("enable f16;\n"), "'f16' type used without 'f16' extension"),
        (UNIFORM, "must only be called from uniform control flow"),
        (GOOD.replace("64, 1, 1", "16, 32, 1"), "twice takes 512 of maxComputeInvocationsPerWorkgroup; .* asks a device for 256"),
        ("var<workgroup> w : array<f32, 9000>;\n" + GOOD, "36000 of maxComputeWorkgroupStorageSize"),
        ("var<workgroup> w : array<vec4<f16>, 9000>;\n" + GOOD, "72000 of maxComputeWorkgroupStorageSize"),
        ("var<workgroup> w : mat4x4<f32>;\n" + GOOD, "cannot be counted"),
        (GOOD.replace("@group(0) @binding(0)", "@group(9) @binding(0)"), "the shader twice is not valid"),
    ],
    ids=["literal", "type", "barrier", "threads", "memory", "vectors", "matrix", "binding"],
)
def test_unsound_modules_are_refused(code: str, words: str) -> None:
    """By the module's name, with the validator's words, or with the limit that the manifest does not ask for."""
    with pytest.raises(CompileError, match=words):
        validate.check({"twice": code}, FLOORS)


def test_a_module_that_cannot_be_told_apart_is_an_error() -> None:
    """Else it would pass unseen."""
    with pytest.raises(CompileError, match="1 shaders, of which 0"):
        validate.modules(GOOD)


def test_what_was_not_validated_counts_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Node nothing is built, and the message says what is missing; limits are counted before."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingTool, match="cannot be validated: that needs Node"):
        validate.check({"twice": GOOD}, FLOORS)
    with pytest.raises(CompileError, match="takes 512"):
        validate.check({"twice": GOOD.replace("64, 1, 1", "16, 32, 1")}, FLOORS)
    with pytest.raises(CompileError, match="no shader"):
        validate.check({}, FLOORS)


def test_an_installed_wheel_gets_the_validator_with_the_pages_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they cannot be fetched the reason is said, as of any tool that is missing."""

    def refuse() -> Path:
        raise PageError("npm could not fetch the page's packages: no network")

    monkeypatch.setattr("hybr.server.page.npm.folder", refuse)
    with pytest.raises(MissingTool, match="cannot be validated: npm could not fetch"):
        validate.validator()


def counted(folder: Path) -> dict[str, dict[str, int]]:
    """Return, for each library of a built model, its modules and the most that one takes of each limit, counted here."""
    found = {}
    for name in build.LIBRARIES.values():
        shaders = validate.modules((folder / name).read_bytes().decode("latin-1"))
        taken = [validate.needs(code) for code in shaders.values()]
        found[name] = {"modules": len(shaders)} | {limit: max(one[limit] for one in taken) for limit in validate.DEFAULTS}
    return found


@pytest.mark.models
def test_the_manifest_says_what_was_validated(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each library's modules, the validator and its version, and what goes past WebGPU's defaults; `inspect` prints it."""
    told = json.loads((tiny / "manifest.json").read_bytes())
    shaders = counted(tiny)
    assert {name: {"modules": one["modules"], **one["most"]} for name, one in told["shaders"].items()} == shaders
    for limit in validate.DEFAULTS:
        assert all(one[limit] <= told["limits"][limit] for one in shaders.values())
    cli.inspect_model(argparse.Namespace(id="tiny", json=False))
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("shaders"))
    assert f"{shaders['model.wasm']['modules']} of model.wasm" in line
    assert "valid by Dawn (npm webgpu 0." in line
    past = [limit for limit, default in validate.DEFAULTS.items() if any(one[limit] > default for one in shaders.values())]
    assert all(limit in line for limit in past)
    assert ("within WebGPU's defaults" in line) == (not past)


@pytest.mark.parametrize(
    ("most", "words"),
    [(9, "past WebGPU's defaults: maxStorageBuffersPerShaderStage 9 of 8"), (8, "within WebGPU's defaults")],
)
def test_what_a_person_reads(most: int, words: str) -> None:
    """Past the defaults is said with the number; a model that was never validated here (a mirrored one) says that."""
    one = validate.Validation("Dawn", 3, validate.DEFAULTS | {"maxStorageBuffersPerShaderStage": most})
    assert cli._shaders({"model.wasm": one.to_dict()}) == f"3 of model.wasm valid by Dawn; {words}"
    assert cli._shaders({}) == "not validated here"


@pytest.mark.models
def test_built_libraries(tiny: Path, smollm: Path) -> None:
    """All modules of the libraries as they were linked, both profiles."""
    seen = 0
    for file in (folder / name for folder in (tiny, smollm) for name in build.LIBRARIES.values()):
        found = validate.modules(file.read_bytes().decode("latin-1"))
        seen += validate.check(found, FLOORS).modules
    print(f"{seen} modules validated")
    assert seen > 80


@pytest.mark.parametrize(
    ("sound", "broken", "words"),
    [
        (") {\n", ") {\n  let oops : u32 = 1.5;\n", r"the shader \w+_kernel is not valid WebGPU.* 'u32'"),
        ("@workgroup_size(", "@workgroup_size(1024, 1, 1) // (", r"the shader \w+_kernel takes 1024 of .*PerWorkgroup"),
    ],
    ids=["code", "limit"],
)
def test_one_broken_shader_fails_the_build(
    sound: str, broken: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library of which a single module is refused is not linked: the error names the module."""
    real = compiler.shaders

    def spoilt(executable: Any) -> str:
        before, kernel, after = real(executable).rpartition("@compute")
        assert sound in after
        return before + kernel + after.replace(sound, broken, 1)

    monkeypatch.setattr(compiler, "shaders", spoilt)
    with pytest.raises(CompileError, match=words):
        compiler.compile_library(config("llama-tied"), "q0f32", "software", tmp_path)


@pytest.mark.parametrize("profile", ["gpu", "software"])
@pytest.mark.parametrize("form", FORMS)
def test_libraries_of_encoders(form: str, profile: Profile, tmp_path: Path) -> None:
    """An embedding model's modules too, in each of its quantisations."""
    encoders.write(tmp_path / "source")
    config = weights.open_folder(tmp_path / "source", 32).config
    made = compiler.compile_library(config, form, profile, tmp_path / "made")
    assert made.validated.modules == len(made.kernels) > 8


def test_past_the_defaults_in_words() -> None:
    """Buffers of a large vocabulary's table go past what every device has, and `inspect` says so."""
    large = FLOORS | {"maxBufferSize": 622_329_856, "maxStorageBufferBindingSize": 622_329_856}
    assert cli._limits(large).endswith(
        "; past WebGPU's defaults: maxBufferSize 622329856 of 268435456, maxStorageBufferBindingSize 622329856 of 134217728"
    )
    assert "past" not in cli._limits(FLOORS | dict.fromkeys(validate.BUFFERS, 2**27))


@pytest.mark.parametrize(
    ("family", "form"),
    [
        ("gemma3", "q4f16_1"),
        ("llama3", "q0f16"),
        *(
            pytest.param(family, form, marks=pytest.mark.long)
            for family in ("llama3", "qwen2-slides", "qwen3", "phi3-long", "gemma2", "gemma3")
            for form in ("q4f16_1", "q4e8f16_1", "q0f16", "q4e8f32_1")
            if (family, form) not in {("gemma3", "q4f16_1"), ("llama3", "q0f16")}
        ),
    ],
)
def test_libraries_of_halves(family: str, form: str, tmp_path: Path) -> None:
    """What no adapter here can run is at least sound, shader by shader."""
    made = compiler.compile_library(config(family), form, "gpu", tmp_path)
    assert made.validated.modules == len(made.kernels) > 25
    print(f"{family} {form}: {len(made.kernels)} modules validated")


def test_software_adapters_get_no_halves() -> None:
    """Asked for all profiles the build makes those that can run; asked for the other it says what to choose."""
    entry = dataclasses.replace(catalogue.find("tiny"), quantisation="q4f16_1")
    assert build.suited(entry, tuple(build.LIBRARIES)) == ["gpu", "subgroups"]
    with pytest.raises(UnknownQuantisation, match="choose q4f32_1, or --profile gpu"):
        build.suited(entry, ("software",))
