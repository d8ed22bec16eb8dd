"""How the Relax graph becomes a program: targets, passes, and the entry points that are not part of the model.

The passes are TVM's own; the order is TVM's default for GPUs with our choice of schedules. Names of kernels are made short and
unique, because they are the shaders' entry points.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import tvm
from tvm import relax as rx
from tvm.s_tir import dlight
from tvm.tirx.compilation_pipeline import get_tir_pipeline, register_tir_pipeline

from . import memory, refuse
from .kernels import draw, sampler, softmax

if TYPE_CHECKING:
    from .compile import Profile
    from .memory import Planned

DEVICE = {"kind": "webgpu", "max_num_threads": 256}
SUBGROUPS = "hybr_subgroups"
HOST = {"kind": "llvm", "mtriple": "wasm32-unknown-unknown-wasm", "vector-width": 128}  # the width it would warn about


def device_target() -> tvm.target.Target:
    """WebGPU's floor, with wasm32 as the host."""
    return tvm.target.Target(DEVICE, host=tvm.target.Target(HOST))


def shader_pipeline(profile: Profile) -> str:
    """Return the name of the passes from kernels to shaders, as `relax.build` takes it.

    For `subgroups` each shader asks the device for that feature, but only our own kernels use it: of a target that has it TVM
    takes a warp of 32 for granted and shuffles in its reductions, which is wrong where a subgroup has 4 or 64. So its passes see
    the target without the feature, and the code generator the one with it.
    """
    if profile != "subgroups":
        return "default"
    register_tir_pipeline(SUBGROUPS, _with_subgroups)
    return SUBGROUPS


def _with_subgroups() -> tuple[tvm.transform.Pass, Any, Any]:
    lowered, host, device = get_tir_pipeline("default")
    target = tvm.target.Target({**DEVICE, "supports_subgroups": True}, host=tvm.target.Target(HOST))

    @tvm.transform.module_pass(opt_level=0, name="with_subgroups")
    def run(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        module = lowered(module)
        for name, function in list(module.functions.items()):
            if function.attrs["target"].kind.name == DEVICE["kind"]:
                module.update_func(name, function.with_attr("target", target))
        return module

    return run, host, device


def native_target() -> tvm.target.Target:
    """Return the processor of this machine, to check a graph without a page."""
    return tvm.target.Target({"kind": "llvm", "num-cores": 2})


def pipeline(profile: Profile, target: tvm.target.Target, planned: Planned | None = None) -> tvm.transform.Pass:
    """Return the passes from the exported module to what the virtual machine runs; `planned` sees what memory that needs."""
    t = rx.transform
    native = target.kind.name == "llvm"
    passes: list[Any] = [
        t.LegalizeOps(),
        t.RewriteDataflowReshape(),  # while a reshape is still one: a view costs no kernel
        t.AnnotateTIROpPattern(),
        t.FoldConstant(),
        t.FuseOps(),
        t.FuseTIR(),
        t.DeadCodeElimination(),
    ]
    if not native:
        gpu = dlight.gpu
        parallel = [gpu.Matmul(), gpu.GEMV(), gpu.Reduction(), gpu.GeneralReduction()]
        passes.append(dlight.ApplyDefaultSchedule(*([] if profile == "software" else parallel), gpu.Fallback()))
    passes += [
        t.ToNonDataflow(),
        t.RemovePurityChecking(),
        t.CallTIRRewrite(),
        t.StaticPlanBlockMemory(),
        t.LowerAllocTensor(),
        fixed_memory(planned),
        t.KillAfterLastUse(),
        t.LowerRuntimeBuiltin(),
        t.ComputePrimValue(),
        refuse.asked(),
        t.VMShapeLower(),
        order_shape_functions(),
        t.AttachGlobalSymbol(),
    ]

    @tvm.transform.module_pass(opt_level=0, name="hybr_pipeline")
    def run(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        with target:
            return tvm.transform.Sequential(passes)(module)

    return run


def fixed_memory(planned: Planned | None) -> tvm.transform.Pass:
    """Give every call of an entry point the memory of its longest, and tell `planned`."""

    @tvm.transform.module_pass(opt_level=0, name="fixed_memory")
    def run(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        module = memory.fixed(module)
        if planned is not None:
            planned.see(module)
        return module

    return run


def order_shape_functions() -> tvm.transform.Pass:
    """Sort the stores of the functions that compute shapes.

    They fill independent slots, and VMShapeLower emits them in the order of a map keyed by address: without this the same model
    now and then gives other bytes.
    """

    @tvm.transform.module_pass(opt_level=0, name="order_shape_functions")
    def run(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        for name, function in list(module.functions.items()):
            if name.name_hint.startswith("shape_func") and isinstance(function.body, tvm.tirx.SeqStmt):
                module.update_func(name, function.with_body(tvm.tirx.SeqStmt(sorted(function.body.seq, key=str))))
        return module

    return run


def add_metadata(module: tvm.IRModule, metadata: dict[str, Any]) -> tvm.IRModule:
    """Give the module a function that returns its metadata as a JSON text."""
    builder = rx.BlockBuilder(module)
    with builder.function("_metadata", params=[]):
        builder.emit_func_output(tvm.ir.StringImm(json.dumps(metadata, separators=(",", ":"), sort_keys=True)))
    return builder.finalize()


def sampler_threads(profile: Profile, target: tvm.target.Target) -> int:
    """Return the threads of the one workgroup that draws: shaders on a processor pay for each at every barrier, devices little.

    Natively it is one, which needs no barriers.
    """
    if target.kind.name == "llvm":
        return 1
    return 16 if profile == "software" else 256


def add_sampler(module: tvm.IRModule, v: int, threads: int) -> tvm.IRModule:
    """Give the module the functions between logits and token for a vocabulary of `v`, as WebLLM calls them."""
    builder = rx.BlockBuilder(module)

    def tensor(name: str, shape: tuple[Any, ...], dtype: str) -> rx.Var:
        return rx.Var(name, rx.TensorType(shape, dtype))

    def var(name: str) -> Any:
        return tvm.tirx.Var(name, "int64")

    def inplace(function: str, kernel: Any, name: str, params: list[rx.Var]) -> None:
        with builder.function(function, params=params):
            with builder.dataflow():
                gv = builder.add_func(kernel, name)
                out = builder.emit_output(rx.call_tir_inplace(gv, params, 0, params[0].ty))
            builder.emit_func_output(out)

    logits, temperature = tensor("logits", (1, 1, v), "float32"), tensor("temperature", (1,), "float32")
    with builder.function("softmax_with_temperature", params=[logits, temperature]):
        with builder.dataflow():
            made = rx.call_tir(
                builder.add_func(softmax.softmax(v, threads), "softmax"),
                [logits, temperature],
                rx.TensorType((1, 1, v), "float32"),
            )
            out = builder.emit_output(made)
        builder.emit_func_output(out)

    # Nothing is sorted: both results are the probabilities, which only the draw reads.
    p = tensor("probabilities", (1, v), "float32")
    with builder.function("argsort_probs", params=[p]):
        builder.emit_func_output(rx.Tuple([p, p]))
    p, also = tensor("probabilities", (1, v), "float32"), tensor("also", (1, v), "float32")
    uniform, rows, top_p = tensor("uniform", (1,), "float32"), tensor("rows", (1,), "int32"), tensor("top_p", (1,), "float32")
    with builder.function("sample_with_top_p", params=[p, also, uniform, rows, top_p]):
        with builder.dataflow():
            out = builder.emit_output(
                rx.call_tir(builder.add_func(draw.draw(v, threads), "draw"), [p, uniform, top_p], rx.TensorType((1,), "int32"))
            )
        builder.emit_func_output(out)

    b, n, m = var("batch"), var("sequences"), var("masks")
    inplace(
        "apply_bitmask_inplace",
        sampler.apply_bitmask(v),
        "bitmask",
        [tensor("logits", (b, v), "float32"), tensor("sequences", (n,), "int32"), tensor("mask", (b, (v + 31) // 32), "int32")],
    )
    b, n, m = var("batch"), var("sequences"), var("tokens")
    inplace(
        "apply_penalty_inplace",
        sampler.apply_penalty(v),
        "penalty",
        [
            tensor("logits", (b, v), "float32"),
            tensor("sequences", (n,), "int32"),
            tensor("place", (m,), "int32"),
            tensor("token", (m,), "int32"),
            tensor("times", (m,), "int32"),
            tensor("penalties", (n, 3), "float32"),
        ],
    )
    b, m = var("batch"), var("tokens")
    inplace(
        "apply_logit_bias_inplace",
        sampler.apply_bias(v),
        "bias",
        [
            tensor("logits", (b, v), "float32"),
            tensor("place", (m,), "int32"),
            tensor("token", (m,), "int32"),
            tensor("bias", (m,), "float32"),
        ],
    )
    return builder.finalize()
