"""Weights as codes: the forms a library keeps its matrices in, and a checkpoint's own blocks taken over as they are.

What is shared is shared among 32 weights of a row (`GROUP`); codes are packed into words, the first in the lowest bits:

    float  the weights
    half   the weights, rounded to float16
    q4     4 bits and a float32 scale: (q - 7) * scale; the scale may be negative
    q4h    the same with a float16 scale
    q4m    4 bits, and scale and least weight as two halves of a word: q * scale + least
    q8     8 bits and a float32 scale: (q - 128) * scale
    q8h    the same with a float16 scale

q4m is 5 bits a weight like q4, but its sixteen steps lie between the group's own least and largest weight, and it is GGUF's
Q4_1: such blocks, and Q4_0's, go over code by code (`repack`), so nothing is rounded a second time. q8 and q8h do so for Q8_0,
q4 and q4h for Q4_0. A scale below 2^-14 is not used where it is a half: the kernels widen those of q4m by a multiplication, and a
device may take what is subnormal for zero.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from .model.config import GROUP

Encoding = Literal["float", "half", "q4", "q4h", "q4m", "q8", "q8h"]

F32 = npt.NDArray[np.float32]
F16 = npt.NDArray[np.float16]
U32 = npt.NDArray[np.uint32]

ZERO, MIDDLE = 7, 128
PER_WORD: dict[Encoding, int] = {"q4": 8, "q4h": 8, "q4m": 8, "q8": 4, "q8h": 4}
SHARED: dict[Encoding, str] = {"q4": "float32", "q4h": "float16", "q4m": "uint32", "q8": "float32", "q8h": "float16"}
"""Type of what a group shares."""
TINY = 1e-30
"""A group whose largest weight is below this is zero: its scale's inverse would overflow."""
SUBNORMAL = 2.0**-14
LARGEST = 65504.0
STEPS = (-8.0, -7.5, -7.0, 7.0)
"""Candidate ranges of q4: the group's extreme weight is put at one of these codes, then the best one is kept."""
SLICE = 1 << 16
"""Weights encoded at a time: what is made on the way is small, and stays in a processor's cache (twice as fast as 2^22)."""


class Blocks(NamedTuple):
    """A matrix as a checkpoint quantised it: `codes * scale + least`, both by groups of 32 columns.

    Attributes:
        bits: 4 (codes in 0..15) or 8 (codes in -128..127).
        codes: `(rows, columns)`.
        scale: `(rows, columns / 32)`.
        least: the same shape, or None where it is zero.

    """

    bits: int
    codes: npt.NDArray[np.int16]
    scale: F32
    least: F32 | None


class Coded(NamedTuple):
    """A matrix in one of the coded forms: words `(rows, columns / codes a word)` and what each group shares."""

    words: U32
    shared: F32 | F16 | U32


def encode(weight: F32, encoding: Encoding) -> Coded:
    """Round a matrix `(rows, columns)` to a coded form. Raises OverflowError for a group that halves cannot describe."""
    one = {"q4": _symmetric, "q4h": _symmetric, "q4m": _between, "q8": _bytes, "q8h": _bytes}[encoding]
    rows, columns = weight.shape
    words = np.empty((rows, columns // PER_WORD[encoding]), np.uint32)
    shared = np.empty((rows, columns // GROUP), SHARED[encoding])
    step = max(1, SLICE // columns)
    for start in range(0, rows, step):
        part = weight[start : start + step]
        codes, found = one(part.reshape(-1, GROUP))
        if SHARED[encoding] == "float16":
            codes, found = _halved(part.reshape(-1, GROUP), found.astype(np.float32, copy=False), encoding)
        words[start : start + step] = pack(codes.reshape(part.shape), encoding)
        shared[start : start + step] = found.reshape(len(part), -1)
    return Coded(words, shared)


def repack(blocks: Blocks, encoding: Encoding) -> Coded | None:
    """Take a checkpoint's blocks over without rounding, or return None where this form cannot hold them exactly."""
    codes, scale = blocks.codes, blocks.scale
    centred = blocks.bits == 4 and blocks.least is not None and bool((blocks.least == -8 * scale).all())
    shared = SHARED[encoding]
    if shared == "float16" and not _is_half(scale):
        return None
    if encoding in {"q8", "q8h"} and (blocks.bits == 8 and blocks.least is None):
        return Coded(pack(codes + MIDDLE, encoding), scale.astype(shared))
    if encoding in {"q8", "q8h"} and centred:
        return Coded(pack(codes - 8 + MIDDLE, encoding), scale.astype(shared))
    if encoding in {"q4", "q4h"} and centred:  # -8..7 times the scale is 8..-7 times its negative
        return Coded(pack(15 - codes, encoding), -scale.astype(shared))
    if encoding == "q4m" and blocks.bits == 4 and blocks.least is not None:
        fits = _is_half(scale) and _is_half(blocks.least)
        return Coded(pack(codes, encoding), join(scale, blocks.least)) if fits else None
    return None


def decode(coded: Coded, encoding: Encoding) -> F32:
    """Undo either, exactly as the kernels do."""
    codes = unpack(coded.words, encoding).astype(np.float32)
    if encoding == "q4m":
        scale, least = halves(coded.shared.astype(np.uint32, copy=False))
        return codes * np.repeat(scale, GROUP, axis=1) + np.repeat(least, GROUP, axis=1)
    middle = np.float32(ZERO if encoding in {"q4", "q4h"} else MIDDLE)
    return (codes - middle) * np.repeat(coded.shared.astype(np.float32, copy=False), GROUP, axis=1)


def pack(codes: npt.NDArray[np.integer] | F32, encoding: Encoding) -> U32:
    """Put the codes of each row, whole numbers from zero, into words."""
    per = PER_WORD[encoding]
    parts = codes.astype(np.uint32).reshape(codes.shape[0], -1, per)
    packed: U32 = np.bitwise_or.reduce(parts << _shifts(per), axis=2)
    return packed


def unpack(words: U32, encoding: Encoding) -> U32:
    """Return the codes of each row."""
    per = PER_WORD[encoding]
    found: U32 = ((words[:, :, None] >> _shifts(per)) & np.uint32((1 << 32 // per) - 1)).reshape(len(words), -1)
    return found


def join(scale: F32, least: F32) -> U32:
    """Put a scale and a least weight into a word each: the scale's half below, the other above."""
    low, high = (x.astype(np.float16).view(np.uint16).astype(np.uint32) for x in (scale, least))
    return low | high << np.uint32(16)


def halves(pairs: U32) -> tuple[F32, F32]:
    """Undo `join`."""
    low, high = pairs & np.uint32(0xFFFF), pairs >> np.uint32(16)
    widened = [half.astype(np.uint16).view(np.float16).astype(np.float32) for half in (low, high)]
    return widened[0], widened[1]


def _is_half(x: F32) -> bool:
    fits = (np.abs(x) <= LARGEST) & ((np.abs(x) >= SUBNORMAL) | (x == 0))
    return bool(fits.all()) and bool((x.astype(np.float16).astype(np.float32) == x).all())


def _half(x: F32) -> F32:
    """Round to the halves the kernels can read."""
    found = x.astype(np.float16).astype(np.float32)
    return np.where(np.abs(found) < SUBNORMAL, np.float32(0), found)


def _between(groups: F32) -> tuple[F32, U32]:
    """q4m: from the least to the largest weight, then the two numbers that fit these codes best."""
    lowest, highest = groups.min(1, keepdims=True), groups.max(1, keepdims=True)
    largest = max(highest.max(), -lowest.min())
    if largest > LARGEST / 2:
        raise OverflowError(f"a weight of {largest:.3g} does not fit half a word; build it with --quant q0f32")
    best = np.full((len(groups), 1), np.inf, np.float32)
    chosen = [np.zeros_like(lowest), np.zeros_like(lowest)]
    codes = np.zeros_like(groups)
    for shrink in (0.0, 0.03, 0.06):  # giving up a little of the extremes often gains more between them
        span = highest - lowest
        scale, least = _half(span * np.float32((1 - 2 * shrink) / 15)), _half(lowest + span * np.float32(shrink))
        for _ in range(2):
            q = np.clip(np.rint((groups - least) / np.where(scale > 0, scale, 1)), 0, 15)
            error = np.square(groups - (q * scale + least)).sum(1, keepdims=True)
            better = error < best
            best = np.where(better, error, best)
            codes = np.where(better, q, codes)
            chosen = [np.where(better, new, old) for new, old in zip((scale, least), chosen, strict=True)]
            scale, least = _line(groups, q, scale, least)
    return codes, join(chosen[0], chosen[1])


def _line(groups: F32, q: F32, scale: F32, least: F32) -> tuple[F32, F32]:
    """Return the least-squares line through (code, weight) of each group, as halves; where the codes are all one, what it was."""
    mean_q, mean = q.mean(1, keepdims=True), groups.mean(1, keepdims=True)
    spread = np.square(q - mean_q).sum(1, keepdims=True)
    slope = ((q - mean_q) * (groups - mean)).sum(1, keepdims=True) / np.where(spread > 0, spread, 1)
    fits = (spread > 0) & (slope > 0)
    return _half(np.where(fits, slope, scale)), _half(np.where(fits, mean - slope * mean_q, least))


def _symmetric(groups: F32) -> tuple[F32, F32]:
    """q4: the scale is searched for the least squared error; the longer side of -7..8 goes where the largest weight is."""
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(1)[:, None], 1)
    extreme[np.abs(extreme) < TINY] = 0
    best = np.full(len(groups), np.inf, np.float32)
    scale = np.zeros((len(groups), 1), np.float32)
    code = np.zeros(groups.shape, np.float32)
    for step in STEPS:
        # -step codes away from zero lies the extreme weight: positive codes reach 8, negative ones 7.
        trial = extreme * np.float32(-1 / step)
        inverse = np.divide(np.float32(1), trial, out=np.zeros_like(trial), where=trial != 0)
        q = np.clip(np.rint(groups * inverse), -ZERO, ZERO + 1)
        # The least-squares scale for these codes; the codes themselves stay.
        fitted = _fit(groups, q, trial)
        residual = groups - q * fitted
        error = np.einsum("ij,ij->i", residual, residual)
        better = error < best
        best[better], scale[better], code[better] = error[better], fitted[better], q[better]
    return code + ZERO, scale


def _halved(groups: F32, scale: F32, encoding: Encoding) -> tuple[F32, F32]:
    """Round the scales of q4 or q8 to halves, and the codes again to what those make of them."""
    if float(np.abs(scale).max(initial=0)) > LARGEST:
        raise OverflowError(f"a scale of {np.abs(scale).max():.3g} does not fit half a word; build it with --quant q4e8f32_1")
    least, middle, most = (0, ZERO, 15) if encoding == "q4h" else (0, MIDDLE, 255)
    rounded = _half(scale)
    inverse = np.divide(np.float32(1), rounded, out=np.zeros_like(rounded), where=rounded != 0)
    return np.clip(np.rint(groups * inverse) + middle, least, most), rounded


def _fit(groups: F32, q: F32, trial: F32) -> F32:
    power = np.einsum("ij,ij->i", q, q)[:, None]
    product = np.einsum("ij,ij->i", groups, q)[:, None]
    fitted: F32 = np.divide(product, power, out=trial.copy(), where=power > 0)
    return fitted


def _bytes(groups: F32) -> tuple[F32, F32]:
    """q8: the largest magnitude at 127."""
    scale = np.abs(groups).max(1, keepdims=True) / np.float32(127)
    scale[scale < TINY] = 0
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    return np.rint(groups * inverse) + MIDDLE, scale


def _shifts(per: int) -> U32:
    return np.arange(per, dtype=np.uint32) * np.uint32(32 // per)
