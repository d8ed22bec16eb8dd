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

from . import memory
from .kernels import draw, sampler

if TYPE_CHECKING:
    from .compile import Profile
    from .memory import Planned

HOST = {"kind": "llvm", "mtriple": "wasm32-unknown-unknown-wasm", "vector-width": 128}  # the width it would warn about


def device_target() -> tvm.target.Target:
    """WebGPU's floor, with wasm32 as the host."""
    return tvm.target.Target({"kind": "webgpu", "max_num_threads": 256}, host=tvm.target.Target(HOST))


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
        schedules = {
            "gpu": [
                dlight.gpu.Matmul(),
                dlight.gpu.GEMV(),
                dlight.gpu.Reduction(),
                dlight.gpu.GeneralReduction(),
                dlight.gpu.Fallback(),
            ],
            "software": [dlight.gpu.Fallback()],
        }[profile]
        passes.append(dlight.ApplyDefaultSchedule(*schedules))
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


def add_sampler(module: tvm.IRModule, v: int, profile: Profile = "software") -> tvm.IRModule:
    """Give the module the functions between logits and token for a vocabulary of `v`, as WebLLM calls them."""
    builder = rx.BlockBuilder(module)

    def tensor(name: str, shape: tuple[Any, ...], dtype: str) -> rx.Var:
        return rx.Var(name, rx.TensorType(shape, dtype))

    def var(name: str) -> Any:
        return tvm.tirx.Var(name, "int64")

    def call(kernel: Any, name: str, args: list[Any], shape: tuple[Any, ...]) -> Any:
        return _call(builder, kernel, name, args, (shape, "float32"))

    def inplace(function: str, kernel: Any, name: str, params: list[rx.Var]) -> None:
        with builder.function(function, params=params):
            with builder.dataflow():
                gv = builder.add_func(kernel, name)
                out = builder.emit_output(rx.call_tir_inplace(gv, params, 0, params[0].ty))
            builder.emit_func_output(out)

    logits, temperature = tensor("logits", (1, 1, v), "float32"), tensor("temperature", (1,), "float32")
    with builder.function("softmax_with_temperature", params=[logits, temperature]):
        with builder.dataflow():
            partial = call(sampler.softmax_partial(v), "softmax_partial", [logits, temperature], (2, sampler.THREADS))
            full = call(sampler.softmax_normalise(v), "softmax_normalise", [logits, temperature, partial], (1, 1, v))
            out = builder.emit_output(full)
        builder.emit_func_output(out)

    # Nothing is sorted (see kernels/sampler.py): both results are the probabilities, and only the draw reads them.
    p = tensor("probabilities", (1, v), "float32")
    with builder.function("argsort_probs", params=[p]):
        builder.emit_func_output(rx.Tuple([p, p]))

    p, ids = tensor("probabilities", (1, v), "float32"), tensor("also", (1, v), "float32")
    uniform, rows, top_p = tensor("uniform", (1,), "float32"), tensor("rows", (1,), "int32"), tensor("top_p", (1,), "float32")
    with builder.function("sample_with_top_p", params=[p, ids, uniform, rows, top_p]):
        with builder.dataflow():
            if profile == "gpu":
                out = builder.emit_output(_call(builder, draw.draw(v), "draw", [p, uniform, top_p], ((1,), "int32")))
            else:
                out = builder.emit_output(_draw(builder, v, p, uniform, top_p))
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


def _call(builder: rx.BlockBuilder, kernel: Any, name: str, args: list[Any], *outs: tuple[tuple[Any, ...], str]) -> Any:
    made = [rx.TensorType(shape, dtype) for shape, dtype in outs]
    return builder.emit(rx.call_tir(builder.add_func(kernel, name), args, made if len(made) > 1 else made[0]))


def _draw(builder: rx.BlockBuilder, v: int, p: Any, uniform: Any, top_p: Any) -> Any:
    """Emit the search for top_p's mass and then for the token."""
    state = (((4,), "int32"), ((4,), "float32"))
    begin, weigh, narrow = sampler.begin(), sampler.weigh(v), sampler.narrow()
    place, mass = _pair(builder, _call(builder, begin, "begin", [top_p], *state))
    for _ in range(2 * sampler.ROUNDS):
        weights = _call(builder, weigh, "weigh", [p, place], ((sampler.PARTS, sampler.DIGITS), "float32"))
        place, mass = _pair(builder, _call(builder, narrow, "narrow", [weights, place, mass, uniform], *state))
    count = _call(builder, sampler.find(v), "find", [p, place], ((sampler.PARTS,), "int32"))
    return _call(builder, sampler.pick(v), "pick", [p, place, mass, count], ((1,), "int32"))


def _pair(builder: rx.BlockBuilder, both: Any) -> tuple[Any, Any]:
    return builder.emit(rx.TupleGetItem(both, 0)), builder.emit(rx.TupleGetItem(both, 1))
