"""The full sort's kernels: pairs (probability, id), a compare-exchange step of a bitonic network, a draw from what is sorted."""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T  # noqa: N812 - TVMScript's own name

GROUP = 64


def begin(vocabulary: int, size: int) -> Any:
    """Probabilities with their ids, filled up with what sorts last."""

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle):  # noqa: ANN202 - TVMScript
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        p = T.match_buffer(a, (1, vocabulary), "float32")
        value = T.match_buffer(b, (size,), "float32")
        index = T.match_buffer(c, (size,), "int32")
        for block in T.thread_binding(size // GROUP, thread="blockIdx.x"):
            for thread in T.thread_binding(GROUP, thread="threadIdx.x"):
                with T.sblock("begin"):
                    T.reads()
                    T.writes()
                    index[block * GROUP + thread] = block * GROUP + thread
                    if block * GROUP + thread < vocabulary:
                        value[block * GROUP + thread] = p[0, block * GROUP + thread]
                    else:
                        value[block * GROUP + thread] = T.float32(-1)

    return kernel


def step(size: int) -> Any:
    """Element i and its partner i xor j, put in order: the greater first where i has not bit k; ties by id."""

    @T.prim_func(private=True, s_tir=True)
    def kernel(  # noqa: ANN202, PLR0917 - TVMScript
        a: T.handle, b: T.handle, k: T.int64, j: T.int64, c: T.handle, d: T.handle
    ):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        value = T.match_buffer(a, (size,), "float32")
        index = T.match_buffer(b, (size,), "int32")
        new_value = T.match_buffer(c, (size,), "float32")
        new_index = T.match_buffer(d, (size,), "int32")
        for block in T.thread_binding(size // GROUP // 2, thread="blockIdx.x"):
            for thread in T.thread_binding(GROUP, thread="threadIdx.x"):
                with T.sblock("step"):
                    T.reads()
                    T.writes()
                    first = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    mine = T.sblock_alloc_buffer((2,), "float32", scope="local")
                    name = T.sblock_alloc_buffer((2,), "int32", scope="local")
                    swap = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    first[0] = (block * GROUP + thread) // j * (2 * j) + (block * GROUP + thread) % j
                    mine[0] = value[first[0]]
                    mine[1] = value[first[0] + j]
                    name[0] = index[first[0]]
                    name[1] = index[first[0] + j]
                    swap[0] = T.if_then_else(mine[1] > mine[0] or (mine[1] == mine[0] and name[1] < name[0]), 1, 0)
                    if T.bitwise_and(first[0], k) != 0:
                        swap[0] = 1 - swap[0]
                    new_value[first[0]] = T.if_then_else(swap[0] == 1, mine[1], mine[0])
                    new_index[first[0]] = T.if_then_else(swap[0] == 1, name[1], name[0])
                    new_value[first[0] + j] = T.if_then_else(swap[0] == 1, mine[0], mine[1])
                    new_index[first[0] + j] = T.if_then_else(swap[0] == 1, name[0], name[1])

    return kernel


def draw(vocabulary: int, size: int) -> Any:
    """The token in which the drawn part of top_p's mass falls."""

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle, d: T.handle, e: T.handle):  # noqa: ANN202 - TVMScript
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        value = T.match_buffer(a, (size,), "float32")
        index = T.match_buffer(b, (size,), "int32")
        uniform = T.match_buffer(c, (1,), "float32")
        top_p = T.match_buffer(d, (1,), "float32")
        token = T.match_buffer(e, (1,), "int32")
        for _block in T.thread_binding(1, thread="blockIdx.x"):
            for _thread in T.thread_binding(1, thread="threadIdx.x"):
                with T.sblock("draw"):
                    T.reads()
                    T.writes()
                    mass = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    at = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    mass[0] = T.float32(0)
                    at[0] = 0
                    while mass[0] < top_p[0] and at[0] < vocabulary:
                        mass[0] = mass[0] + value[at[0]]
                        at[0] = at[0] + 1
                    mass[0] = mass[0] * uniform[0]
                    at[0] = 0
                    while mass[0] >= value[at[0]] and at[0] < vocabulary - 1:
                        mass[0] = mass[0] - value[at[0]]
                        at[0] = at[0] + 1
                    token[0] = index[at[0]]

    return kernel
