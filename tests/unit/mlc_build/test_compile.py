"""What the compiler writes: deterministic objects, and shaders within WebGPU's floor."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from hybr.mlc_build import tiny, validate
from hybr.mlc_build.compile import CompiledLibrary, build_module, compile_library, shaders
from hybr.mlc_build.quantise import specs

if TYPE_CHECKING:
    from pathlib import Path

PROFILES = ("gpu", "subgroups", "software")


@pytest.fixture(scope="module", params=PROFILES)
def profile(request: pytest.FixtureRequest) -> Any:
    """Each library profile."""
    return request.param


@pytest.fixture(scope="module")
def library(profile: Any, tmp_path_factory: pytest.TempPathFactory) -> CompiledLibrary:
    """`tiny` compiled for the page."""
    return compile_library(tiny.CONFIG, "q4f32_1", profile, tmp_path_factory.mktemp(profile))


@pytest.fixture(scope="module")
def wgsl(profile: Any) -> str:
    """All shaders of the library."""
    import tvm
    from tvm import relax

    from hybr.mlc_build.lower import device_target, pipeline, shader_pipeline

    target = device_target()
    module, _ = build_module(tiny.CONFIG, "q4f32_1", profile, target)
    with target, tvm.transform.PassContext(opt_level=3):
        passes = {"relax_pipeline": pipeline(profile, target), "tir_pipeline": shader_pipeline(profile)}
        return shaders(relax.build(module, target=target, **passes, system_lib=True))


def test_same_bytes_twice(library: CompiledLibrary, profile: Any, tmp_path: Path) -> None:
    """A second compilation gives the same objects, so the same revision."""
    again = compile_library(tiny.CONFIG, "q4f32_1", profile, tmp_path)
    assert [p.name for p in again.objects] == [p.name for p in library.objects]
    assert [p.read_bytes() for p in again.objects] == [p.read_bytes() for p in library.objects]


def test_metadata_declares_the_parameters(library: CompiledLibrary) -> None:
    """WebLLM loads by these names and sizes; they are the quantiser's."""
    declared = {(p["name"], tuple(p["shape"]), p["dtype"]) for p in library.metadata["params"]}
    assert declared == {tuple(spec) for spec in specs(tiny.CONFIG, "q4f32_1")}
    assert library.metadata["prefill_chunk_size"] == tiny.CONFIG.prefill_chunk_size


def test_the_largest_buffer_of_a_call_is_known(library: CompiledLibrary) -> None:
    """What a prefill of a whole chunk computes between two layers is asked of a device as well."""
    assert library.planned.bytes >= library.planned.largest >= tiny.CONFIG.prefill_chunk_size * tiny.CONFIG.intermediate_size * 4


def test_objects_are_webassembly(library: CompiledLibrary) -> None:
    """Host code and packed shaders, both ready to link."""
    assert [path.read_bytes()[:4] for path in library.objects] == [b"\0asm"] * 2


def test_shaders_keep_to_the_floor(wgsl: str) -> None:
    """At most ten storage buffers, 256 invocations, 32 kB of workgroup memory, and no 64-bit integers."""
    for source in re.split(r"// Function: ", wgsl)[1:]:
        assert source.count("var<storage") <= 10
        assert not re.search(r"\bi64\b|\bu64\b", source)
        for size in re.findall(r"@workgroup_size\((\d+), (\d+), (\d+)\)", source):
            assert int(size[0]) * int(size[1]) * int(size[2]) <= 256
        shared = re.findall(r"var<workgroup> \w+ : array<(\w+), (\d+)>", source)
        assert sum(4 * int(count) for _, count in shared) <= 32768


def test_software_profile_has_hardly_a_barrier(wgsl: str, profile: Any, library: CompiledLibrary) -> None:
    """Its promise: few shaders, and no barrier or workgroup memory but of the sixteen threads from logits to token."""
    if profile == "software":
        waiting = {name: code for name, code in validate.modules(wgsl).items() if "Barrier" in code or "var<workgroup>" in code}
        assert set(waiting) == {"softmax_kernel", "draw_kernel"}
        assert all("@workgroup_size(16, 1, 1)" in code for code in waiting.values())
        assert len(library.kernels) <= 26
    assert len(library.kernels) == len(set(library.kernels)) == wgsl.count("@compute")


def test_subgroups_join_the_sums_of_a_row(wgsl: str, profile: Any, library: CompiledLibrary) -> None:
    """Where the device has them a product's sums meet without a barrier; TVM's own reductions, made for 32, never shuffle."""
    found = validate.modules(wgsl)
    products = {name for name in found if name.startswith("vector_")}
    assert {name for name, code in found.items() if "subgroupShuffleXor" in code} == (
        products if profile == "subgroups" else set()
    )
    assert {"enable subgroups;" in code for code in found.values()} == {profile == "subgroups"}
    barriers = {found[name].count("workgroupBarrier()") for name in products}
    assert barriers == {"gpu": {4}, "subgroups": {2}, "software": set()}[profile]
    assert library.validated
