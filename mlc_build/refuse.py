"""What a library refuses when a page asks for it: WebLLM's `sliding_window_size` with attention sinks.

That option has the runtime forget old keys, all but the first few, so that a conversation never fills its window. It is no way
for the libraries built here, and the library itself says so when it is loaded with that option:

- The runtime hands its kernels rotated keys with the positions they were read at, which grow for ever. Past the context that a
  checkpoint was trained for, it has never seen them: sinks want positions counted anew within the window (Xiao et al.,
  arXiv:2309.17453), which an artifact's keys, rotated before they are stored, cannot have.
- What has been forgotten cannot come back: WebLLM could no longer pop a conversation back to where a changed message begins, nor
  resume one.
- Families whose attention slides (Mistral, Gemma, Qwen with `use_sliding_window`) have their windows in the kernels
  (`kernels.attention`), exactly as they were trained, with every key kept.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax as rx

MAKER = "create_tir_paged_kv_cache"
EQUAL = 0
"""MatchShapeCode.kAssertEqualToImm of TVM's runtime (tvm/runtime/vm/builtin.h)."""
SENTENCE = (
    "This library keeps every key of its context_window_size: load it without sliding_window_size and attention_sink_size "
    "(a model whose attention slides does so inside its kernels)."
)


def sinks() -> tvm.transform.Pass:
    """Return the pass that has the maker of the KV cache check its last argument; to be run when shapes are lowered."""

    @tvm.transform.module_pass(opt_level=0, name="refuse_sinks")
    def run(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        for name, function in list(module.functions.items()):
            if name.name_hint == MAKER:
                module.update_func(name, _checked(function))
        return module

    return run


def _checked(function: Any) -> Any:
    *_, asked = function.params  # support_sliding_window, as a shape of one number
    arguments = [asked, *(rx.prim_value(n) for n in (0, 1, EQUAL, 0)), tvm.ir.StringImm(SENTENCE)]
    call = rx.Call(rx.ExternFunc("vm.builtin.match_shape"), arguments, None, [rx.TupleType([])])
    check = rx.BindingBlock([rx.VarBinding(rx.Var("asked", rx.TupleType([])), call)])
    body = rx.SeqExpr([check, *function.body.blocks], function.body.body)
    return rx.Function(function.params, body, function.ret_ty, function.is_pure, function.attrs)
