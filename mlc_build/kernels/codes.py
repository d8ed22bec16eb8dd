"""How kernels read the forms of `mlc_build.blocks`: bits of codes and halves of words, as expressions.

Masked in place, code j of a word stands for q * 2^(bits * j), exact as a float, so a kernel may divide the activations instead of
shifting the weights. The top code would come out signed; with its sign bit flipped it is q less half its range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tvm.script import tirx as T

if TYPE_CHECKING:
    from hybr.mlc_build.blocks import Encoding

TOP = 1 << 31
WIDEN = 2.0**112
"""A half's exponent and fraction, put where a float's are, make this much too little."""


class Codes(NamedTuple):
    """What a product needs to know of a coded form.

    Attributes:
        per: codes in a word.
        zero: what a code counts from, but for the top one.
        top: the same for the top code, after its sign bit was flipped.
        shared: type of what a group shares.
        least: the group has a least weight of its own.

    """

    per: int
    zero: float
    top: float
    shared: str
    least: bool

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return 32 // self.per


FORMS: dict[Encoding, Codes] = {
    "q4": Codes(8, 7.0, -1.0, "float32", least=False),
    "q4m": Codes(8, 0.0, -8.0, "uint32", least=True),
    "q8": Codes(4, 128.0, 0.0, "float32", least=False),
    "q4h": Codes(8, 7.0, -1.0, "float16", least=False),
    "q8h": Codes(4, 128.0, 0.0, "float16", least=False),
}


def power(j: Any, bits: int) -> Any:
    """Return 2^(-bits * j) as a float, made of its bits so that it folds to a constant."""
    return T.reinterpret("float32", T.shift_left(127 - bits * j, 23))


def mask(j: Any, bits: int) -> Any:
    """Return the bits of code j."""
    return T.shift_left(T.uint32((1 << bits) - 1), T.cast(bits * j, "uint32"))


def scale(form: Codes, shared: Any) -> Any:
    """Return a group's scale: the number itself, or the lower half of its pair."""
    if not form.least:
        return T.cast(shared, "float32")
    return _widen(
        T.bitwise_and(shared, T.uint32(0x8000)) * T.uint32(1 << 16), T.bitwise_and(shared, T.uint32(0x7FFF)) * T.uint32(8192)
    )


def least(form: Codes, shared: Any) -> Any:
    """Return a group's least weight: the upper half of its pair, or zero."""
    if not form.least:
        return T.float32(0)
    size = T.shift_right(T.bitwise_and(shared, T.uint32(0x7FFF0000)), T.uint32(3))
    return _widen(T.bitwise_and(shared, T.uint32(TOP)), size)


def _widen(sign: Any, size: Any) -> Any:
    """Return the float of a half's sign, exponent and fraction, each where a float's are."""
    return T.reinterpret("float32", T.bitwise_or(sign, size)) * T.float32(WIDEN)


def value(form: Codes, word: Any, j: Any, shared: Any) -> Any:
    """Return one weight: code j of a word, with what its group shares."""
    code = T.bitwise_and(T.shift_right(word, T.cast(form.bits * j, "uint32")), T.uint32((1 << form.bits) - 1))
    return (T.cast(T.reinterpret("int32", code), "float32") - T.float32(form.zero)) * scale(form, shared) + least(form, shared)
