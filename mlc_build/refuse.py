"""What a library refuses when a page asks for it, by TVM's own check of shapes with a sentence of ours.

An embedding of texts without a token, spaces or line ends alone: WebLLM takes the vectors from the first token's row, which such
a call has not, and would hand out empty ones. Beside a text with tokens a blank one has a row, and gets the vector of nothing as
sentence-transformers gives it.

WebLLM's `sliding_window_size` with attention sinks. It has the runtime forget old keys, all but the first few, so that a
conversation never fills its window. It is no way for the libraries built here, and the library says so when it is loaded with it:

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
SINKS = (
    "This library keeps every key of its context_window_size: load it without sliding_window_size and attention_sink_size "
    "(a model whose attention slides does so inside its kernels)."
)
ENCODE, TOKENS = "prefill", "input_ids"
BLANK = "Texts without a token: input is blank (spaces, line ends, control characters). Leave blank texts out of input."


def asked() -> tvm.transform.Pass:
    """Return the pass that has entry points check what they are asked for; to be run before shapes are lowered."""

    @tvm.transform.module_pass(opt_level=0, name="refuse")
    def run(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        for name, function in list(module.functions.items()):
            if name.name_hint == MAKER:
                *_, slides = function.params  # support_sliding_window, as a shape of one number
                module.update_func(name, _checked(function, slides, 0, SINKS))
            elif name.name_hint == ENCODE and function.params[0].name == TOKENS:
                _, length = function.params[0].ty.shape
                module.update_func(name, _checked(function, rx.ShapeExpr([tvm.tirx.min(length, 1)]), 1, BLANK))
        return module

    return run


def _checked(function: Any, shape: Any, wanted: int, sentence: str) -> Any:
    """Put before a function's body that a shape of one number be the one that is wanted."""
    arguments = [shape, *(rx.prim_value(n) for n in (0, 1, EQUAL, wanted)), tvm.ir.StringImm(sentence)]
    call = rx.Call(rx.ExternFunc("vm.builtin.match_shape"), arguments, None, [rx.TupleType([])])
    check = rx.BindingBlock([rx.VarBinding(rx.Var("asked", rx.TupleType([])), call)])
    body = rx.SeqExpr([check, *function.body.blocks], function.body.body)
    return rx.Function(function.params, body, function.ret_ty, function.is_pure, function.attrs)
