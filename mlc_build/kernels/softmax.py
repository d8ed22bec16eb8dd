"""Logits to probabilities at a temperature: two kernels without barriers, or one workgroup with them.

WebLLM's least temperature is 1e-6, so what is raised is the difference to the largest logit, and never the logit. Exponentials
are to the base 2: a device has that one, and makes the others of it.
"""

from __future__ import annotations

import math
from typing import Any

from tvm.script import tirx as T

LOG2E = math.log2(math.e)
LEAST = -3.0e38
PARTS = 64
"""Partial maxima and sums without barriers; each thread strides over the vocabulary, and each later joins all of them."""
GROUP = 16
WORKGROUP = 256


def partial(vocabulary: int) -> Any:
    """Each of 64 threads: the largest logit of its stride, and the sum of exponentials against it."""
    steps = (vocabulary + PARTS - 1) // PARTS

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        logits = T.match_buffer(a, (1, 1, vocabulary), "float32")
        temperature = T.match_buffer(b, (1,), "float32")
        partial = T.match_buffer(c, (2, PARTS), "float32")
        for block in T.thread_binding(PARTS // GROUP, thread="blockIdx.x"):
            for thread in T.thread_binding(GROUP, thread="threadIdx.x"):
                with T.sblock("partial"):
                    T.reads()
                    T.writes()
                    top = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    total = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    factor = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    top[0] = T.float32(LEAST)
                    total[0] = T.float32(0)
                    factor[0] = T.float32(LOG2E) / temperature[0]
                    for step in T.serial(steps):
                        if step * PARTS + block * GROUP + thread < vocabulary:
                            top[0] = T.max(top[0], logits[0, 0, step * PARTS + block * GROUP + thread])
                    for step in T.serial(steps):
                        if step * PARTS + block * GROUP + thread < vocabulary:
                            total[0] = total[0] + T.exp2(
                                (logits[0, 0, step * PARTS + block * GROUP + thread] - top[0]) * factor[0]
                            )
                    partial[0, block * GROUP + thread] = top[0]
                    partial[1, block * GROUP + thread] = total[0]

    return kernel


def normalise(vocabulary: int) -> Any:
    """Each thread joins all partial sums and writes the probabilities of its stride."""
    steps = (vocabulary + PARTS - 1) // PARTS

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle, d: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        logits = T.match_buffer(a, (1, 1, vocabulary), "float32")
        temperature = T.match_buffer(b, (1,), "float32")
        partial = T.match_buffer(c, (2, PARTS), "float32")
        probabilities = T.match_buffer(d, (1, 1, vocabulary), "float32")
        for block in T.thread_binding(PARTS // GROUP, thread="blockIdx.x"):
            for thread in T.thread_binding(GROUP, thread="threadIdx.x"):
                with T.sblock("normalise"):
                    T.reads()
                    T.writes()
                    top = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    total = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    factor = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    top[0] = T.float32(LEAST)
                    total[0] = T.float32(0)
                    factor[0] = T.float32(LOG2E) / temperature[0]
                    for i in T.serial(PARTS):
                        top[0] = T.max(top[0], partial[0, i])
                    for i in T.serial(PARTS):
                        total[0] = total[0] + partial[1, i] * T.exp2((partial[0, i] - top[0]) * factor[0])
                    total[0] = T.float32(1) / total[0]
                    for step in T.serial(steps):
                        if step * PARTS + block * GROUP + thread < vocabulary:
                            probabilities[0, 0, step * PARTS + block * GROUP + thread] = (
                                T.exp2((logits[0, 0, step * PARTS + block * GROUP + thread] - top[0]) * factor[0]) * total[0]
                            )

    return kernel


def whole(vocabulary: int) -> Any:
    """One workgroup does it all: the largest logit and then the sum meet in its memory, and every exponential is taken once."""
    steps = (vocabulary + WORKGROUP - 1) // WORKGROUP

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        logits = T.match_buffer(a, (1, 1, vocabulary), "float32")
        temperature = T.match_buffer(b, (1,), "float32")
        probabilities = T.match_buffer(c, (1, 1, vocabulary), "float32")
        for _block in T.thread_binding(1, thread="blockIdx.x"):
            for thread in T.thread_binding(WORKGROUP, thread="threadIdx.x"):
                with T.sblock("softmax"):
                    T.reads()
                    T.writes()
                    tops = T.sblock_alloc_buffer((WORKGROUP,), "float32", scope="shared")
                    totals = T.sblock_alloc_buffer((WORKGROUP,), "float32", scope="shared")
                    top = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    total = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    power = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    top[0] = T.float32(LEAST)
                    for step in T.serial(steps):
                        if step * WORKGROUP + thread < vocabulary:
                            top[0] = T.max(top[0], logits[0, 0, step * WORKGROUP + thread])
                    tops[thread] = top[0]
                    T.tvm_storage_sync("shared")
                    for i in T.serial(WORKGROUP):
                        top[0] = T.max(top[0], tops[i])
                    total[0] = T.float32(0)
                    for step in T.serial(steps):
                        if step * WORKGROUP + thread < vocabulary:
                            power[0] = T.exp2(
                                (logits[0, 0, step * WORKGROUP + thread] - top[0]) * (T.float32(LOG2E) / temperature[0])
                            )
                            total[0] = total[0] + power[0]
                            probabilities[0, 0, step * WORKGROUP + thread] = power[0]
                    totals[thread] = total[0]
                    T.tvm_storage_sync("shared")
                    total[0] = T.float32(0)
                    for i in T.serial(WORKGROUP):
                        total[0] = total[0] + totals[i]
                    total[0] = T.float32(1) / total[0]
                    for step in T.serial(steps):
                        if step * WORKGROUP + thread < vocabulary:
                            probabilities[0, 0, step * WORKGROUP + thread] = (
                                probabilities[0, 0, step * WORKGROUP + thread] * total[0]
                            )

    return kernel
