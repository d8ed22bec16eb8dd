"""From logits to one token: softmax, and a draw from the smallest set of tokens that holds `top_p` of the mass.

WebLLM asks for three steps (softmax, argsort, sample) and only passes the middle one's result on to the last, so nothing has to be
sorted: the draw needs the token at which the mass, summed from the largest probability down, passes an aim, and that is found by
bisection on the bits of the probability. Non-negative floats order like their bits, so with

    G(t) = sum of p[i] with bits(p[i]) >= t

the probability of the wanted token is the largest t with G(t) > aim: three bits a pass, ten passes, exact for any distribution,
with no array in sorted order. Equal probabilities are taken by rising token id, as a stable sort would.

The kernels are int32 and float32, use no atomics, and the vocabulary is a constant of the library.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

THREADS = 256
"""Partial maxima and sums of the softmax; each thread strides over the vocabulary."""

LEAST = -3.0e38


def softmax_partial(vocabulary: int) -> Any:
    """Each of 256 threads: the largest logit of its stride, and the sum of exponentials against it."""
    steps = (vocabulary + THREADS - 1) // THREADS

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        logits = T.match_buffer(a, (1, 1, vocabulary), "float32")
        temperature = T.match_buffer(b, (1,), "float32")
        partial = T.match_buffer(c, (2, THREADS), "float32")
        for block in T.thread_binding(THREADS // 64, thread="blockIdx.x"):
            for thread in T.thread_binding(64, thread="threadIdx.x"):
                with T.sblock("partial"):
                    T.reads()
                    T.writes()
                    top = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    total = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    top[0] = T.float32(LEAST)
                    total[0] = T.float32(0)
                    for step in range(steps):
                        if step * THREADS + block * 64 + thread < vocabulary:
                            top[0] = T.max(top[0], logits[0, 0, step * THREADS + block * 64 + thread])
                    for step in range(steps):
                        if step * THREADS + block * 64 + thread < vocabulary:
                            total[0] += T.exp((logits[0, 0, step * THREADS + block * 64 + thread] - top[0]) / temperature[0])
                    partial[0, block * 64 + thread] = top[0]
                    partial[1, block * 64 + thread] = total[0]

    return kernel


def softmax_normalise(vocabulary: int) -> Any:
    """Each thread joins all partial sums and writes the probabilities of its stride."""
    steps = (vocabulary + THREADS - 1) // THREADS

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle, d: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        logits = T.match_buffer(a, (1, 1, vocabulary), "float32")
        temperature = T.match_buffer(b, (1,), "float32")
        partial = T.match_buffer(c, (2, THREADS), "float32")
        probabilities = T.match_buffer(d, (1, 1, vocabulary), "float32")
        for block in T.thread_binding(THREADS // 64, thread="blockIdx.x"):
            for thread in T.thread_binding(64, thread="threadIdx.x"):
                with T.sblock("normalise"):
                    T.reads()
                    T.writes()
                    top = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    total = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    top[0] = T.float32(LEAST)
                    total[0] = T.float32(0)
                    for i in range(THREADS):
                        top[0] = T.max(top[0], partial[0, i])
                    for i in range(THREADS):
                        total[0] += partial[1, i] * T.exp((partial[0, i] - top[0]) / temperature[0])
                    for step in range(steps):
                        if step * THREADS + block * 64 + thread < vocabulary:
                            probabilities[0, 0, step * THREADS + block * 64 + thread] = (
                                T.exp((logits[0, 0, step * THREADS + block * 64 + thread] - top[0]) / temperature[0]) / total[0]
                            )

    return kernel


def draw(vocabulary: int) -> Any:
    """One thread finds the token; for adapters whose barriers cost more than the arithmetic."""

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle, d: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        p = T.match_buffer(a, (1, vocabulary), "float32")
        uniform = T.match_buffer(b, (1,), "float32")
        top_p = T.match_buffer(c, (1,), "float32")
        token = T.match_buffer(d, (1,), "int32")
        for _block in T.thread_binding(1, thread="blockIdx.x"):
            for _thread in T.thread_binding(1, thread="threadIdx.x"):
                with T.sblock("draw"):
                    T.reads()
                    T.writes()
                    mass = T.sblock_alloc_buffer((8,), "float32", scope="local")
                    above = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    aim = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    low = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    rank = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    bits = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    value = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    aim[0] = top_p[0]
                    # Turn 0 finds the mass that top_p keeps, turn 1 the token at the drawn part of that mass.
                    for turn in T.serial(2):
                        low[0] = 0
                        above[0] = T.float32(0)
                        for digit in T.serial(10):
                            for j in T.unroll(8):
                                mass[j] = T.float32(0)
                            for i in T.serial(vocabulary):
                                value[0] = p[0, i]
                                bits[0] = T.shift_right(T.reinterpret("int32", value[0]) - low[0], 27 - 3 * digit)
                                if bits[0] >= 0:
                                    for j in T.unroll(8):
                                        if bits[0] >= j:
                                            mass[j] += value[0]
                            # mass[j] = G(low + j digits); mass[0] is known to pass the aim, or all is kept.
                            rank[0] = 0
                            for j in T.unroll(7):
                                if T.if_then_else(turn == 0, mass[j + 1] >= aim[0], mass[j + 1] > aim[0]):
                                    rank[0] = j + 1
                            for j in T.unroll(7):
                                if rank[0] == j:
                                    above[0] = mass[j + 1]
                            low[0] = low[0] + T.shift_left(rank[0], 27 - 3 * digit)
                        value[0] = T.reinterpret("float32", low[0])
                        rank[0] = T.cast(T.floor((aim[0] - above[0]) / T.max(value[0], T.float32(1e-38))), "int32")
                        if turn == 0:
                            # Enough of the tokens that tie at the edge to reach top_p.
                            aim[0] = uniform[0] * (above[0] + T.max(T.ceil((aim[0] - above[0]) / T.max(value[0], T.float32(1e-38))), T.float32(1)) * value[0])
                    token[0] = -1
                    for i in T.serial(vocabulary):
                        if T.reinterpret("int32", p[0, i]) == low[0] and rank[0] >= 0:
                            token[0] = i
                            rank[0] = rank[0] - 1

    return kernel


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
                            if T.bitwise_and(T.shift_right(mask[sequence[row], (block * 64 + thread) // 32], (block * 64 + thread) % 32), 1) == 0:
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
