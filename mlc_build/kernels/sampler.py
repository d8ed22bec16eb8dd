"""What WebLLM does to logits before it draws: a grammar's mask, penalties, the caller's bias, each in place."""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

LEAST = -3.0e38


def apply_bitmask(vocabulary: int) -> Any:
    """Logits whose bit is 0 in the grammar's mask become the least float."""
    words = (vocabulary + 31) // 32

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        batch, count = T.int32(), T.int32()
        logits = T.match_buffer(a, (batch, vocabulary), "float32")
        sequence = T.match_buffer(b, (count,), "int32")
        mask = T.match_buffer(c, (batch, words), "int32")
        for row in T.thread_binding(count, thread="blockIdx.y"):
            for block in T.thread_binding((vocabulary + 63) // 64, thread="blockIdx.x"):
                for thread in T.thread_binding(64, thread="threadIdx.x"):
                    with T.sblock("mask"):
                        T.reads()
                        T.writes()
                        if block * 64 + thread < vocabulary:
                            if (
                                T.bitwise_and(
                                    T.shift_right(mask[sequence[row], (block * 64 + thread) // 32], (block * 64 + thread) % 32), 1
                                )
                                == 0
                            ):
                                logits[sequence[row], block * 64 + thread] = T.float32(LEAST)

    return kernel


def apply_penalty(vocabulary: int) -> Any:
    """Presence, frequency and repetition penalty for the tokens that have appeared."""

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle, d: T.handle, e: T.handle, f: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        batch, sequences, count = T.int32(), T.int32(), T.int32()
        logits = T.match_buffer(a, (batch, vocabulary), "float32")
        sequence = T.match_buffer(b, (sequences,), "int32")
        place = T.match_buffer(c, (count,), "int32")
        token = T.match_buffer(d, (count,), "int32")
        times = T.match_buffer(e, (count,), "int32")
        penalty = T.match_buffer(f, (sequences, 3), "float32")
        for block in T.thread_binding((count + 63) // 64, thread="blockIdx.x"):
            for thread in T.thread_binding(64, thread="threadIdx.x"):
                with T.sblock("penalise"):
                    T.reads()
                    T.writes()
                    value = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    if block * 64 + thread < count:
                        value[0] = logits[sequence[place[block * 64 + thread]], token[block * 64 + thread]] - (
                            penalty[place[block * 64 + thread], 0]
                            + T.cast(times[block * 64 + thread], "float32") * penalty[place[block * 64 + thread], 1]
                        )
                        logits[sequence[place[block * 64 + thread]], token[block * 64 + thread]] = T.if_then_else(
                            value[0] > T.float32(0),
                            value[0] / penalty[place[block * 64 + thread], 2],
                            value[0] * penalty[place[block * 64 + thread], 2],
                        )

    return kernel


def apply_bias(vocabulary: int) -> Any:
    """Add the caller's bias to the logits of the tokens named."""

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle, d: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        batch, count = T.int32(), T.int32()
        logits = T.match_buffer(a, (batch, vocabulary), "float32")
        place = T.match_buffer(b, (count,), "int32")
        token = T.match_buffer(c, (count,), "int32")
        bias = T.match_buffer(d, (count,), "float32")
        for block in T.thread_binding((count + 63) // 64, thread="blockIdx.x"):
            for thread in T.thread_binding(64, thread="threadIdx.x"):
                with T.sblock("bias"):
                    T.reads()
                    T.writes()
                    if block * 64 + thread < count:
                        logits[place[block * 64 + thread], token[block * 64 + thread]] += bias[block * 64 + thread]

    return kernel
