"""GGUF's block types whose groups are ours, read as they are: so a checkpoint's own codes can be taken over.

Layouts: ggml-common.h's block_q4_0, block_q4_1, block_q8_0. Every other type is dequantised by the package
`gguf` and rounded anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .blocks import Blocks

if TYPE_CHECKING:
    from .blocks import F32


def _numbers(raw: npt.NDArray[np.uint8], size: int, halves: int) -> tuple[npt.NDArray[np.uint8], list[F32]]:
    """Split rows of blocks into their codes, `(rows, blocks, bytes)`, and the halves before them, each `(rows, blocks)`."""
    blocks = raw.reshape(len(raw), -1, size)
    numbers = np.ascontiguousarray(blocks[:, :, : 2 * halves]).view("<f2").astype(np.float32)
    return blocks[:, :, 2 * halves :], [np.ascontiguousarray(numbers[:, :, i]) for i in range(halves)]


def _nibbles(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """Unpack: the low nibbles are a block's first half, the high ones its second."""
    return np.concatenate([codes & 15, codes >> 4], axis=2).astype(np.int16).reshape(len(codes), -1)


def _q4_0(raw: npt.NDArray[np.uint8]) -> Blocks:
    codes, (scale,) = _numbers(raw, 18, 1)
    return Blocks(4, _nibbles(codes), scale, -8 * scale)


def _q4_1(raw: npt.NDArray[np.uint8]) -> Blocks:
    codes, (scale, least) = _numbers(raw, 20, 2)
    return Blocks(4, _nibbles(codes), scale, least)


def _q8_0(raw: npt.NDArray[np.uint8]) -> Blocks:
    codes, (scale,) = _numbers(raw, 34, 1)
    return Blocks(8, codes.reshape(len(raw), -1).view(np.int8).astype(np.int16), scale, None)


KNOWN_BLOCKS = {"Q4_0": _q4_0, "Q4_1": _q4_1, "Q8_0": _q8_0}
"""Their readers, by GGUF's name."""
