"""Logits to probabilities at a temperature, in one dispatch of one workgroup.

WebLLM's least temperature is 1e-6, so what is raised is the difference to the largest logit, and never the logit. Exponentials
are to the base 2: a device has that one, and makes the others of it.
"""

from __future__ import annotations

import math
from typing import Any

from tvm.script import tirx as T

LOG2E = math.log2(math.e)
LEAST = -3.0e38


def softmax(vocabulary: int, threads: int) -> Any:
    """Return the kernel (logits `(1, 1, vocabulary)`, temperature) -> probabilities.

    The largest logit and then the sum meet in the workgroup's memory; every exponential is taken once.
    """
    steps = (vocabulary + threads - 1) // threads

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        logits = T.match_buffer(a, (1, 1, vocabulary), "float32")
        temperature = T.match_buffer(b, (1,), "float32")
        probabilities = T.match_buffer(c, (1, 1, vocabulary), "float32")
        for _block in T.thread_binding(1, thread="blockIdx.x"):
            for thread in T.thread_binding(threads, thread="threadIdx.x"):
                with T.sblock("softmax"):
                    T.reads()
                    T.writes()
                    tops = T.sblock_alloc_buffer((threads,), "float32", scope="shared")
                    totals = T.sblock_alloc_buffer((threads,), "float32", scope="shared")
                    top = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    total = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    power = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    top[0] = T.float32(LEAST)
                    for step in T.serial(steps):
                        if step * threads + thread < vocabulary:
                            top[0] = T.max(top[0], logits[0, 0, step * threads + thread])
                    tops[thread] = top[0]
                    T.tvm_storage_sync("shared")
                    for i in T.serial(threads):
                        top[0] = T.max(top[0], tops[i])
                    total[0] = T.float32(0)
                    for step in T.serial(steps):
                        if step * threads + thread < vocabulary:
                            power[0] = T.exp2(
                                (logits[0, 0, step * threads + thread] - top[0]) * (T.float32(LOG2E) / temperature[0])
                            )
                            total[0] = total[0] + power[0]
                            probabilities[0, 0, step * threads + thread] = power[0]
                    totals[thread] = total[0]
                    T.tvm_storage_sync("shared")
                    total[0] = T.float32(0)
                    for i in T.serial(threads):
                        total[0] = total[0] + totals[i]
                    total[0] = T.float32(1) / total[0]
                    for step in T.serial(steps):
                        if step * threads + thread < vocabulary:
                            probabilities[0, 0, step * threads + thread] = probabilities[0, 0, step * threads + thread] * total[0]

    return kernel
