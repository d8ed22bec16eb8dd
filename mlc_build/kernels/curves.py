"""Activations as expressions, of exponentials alone: what WGSL promises of `tanh` is little, and nothing for large arguments."""

from __future__ import annotations

import math
from typing import Any

from tvm.script import tirx as T

ROOT = 2 * math.sqrt(2 / math.pi)
CUBIC = 0.044715
MOST = 40.0
"""Where a tanh is 1 to the last bit, and the exponential in it far from overflow."""


def tanh(x: Any) -> Any:
    """Return 1 - 2 / (exp(2x) + 1); its error is a unit of the last place of 1, near zero too."""
    return T.float32(1) - T.float32(2) / (T.exp(T.min(x, T.float32(MOST)) * T.float32(2)) + T.float32(1))


def activate(name: str, x: Any) -> Any:
    """Return `silu`, x / (1 + exp(-x)), or `gelu` in its tanh form (arXiv:1606.08415), which is x / (1 + exp(-2u))."""
    power = x if name == "silu" else (x + T.float32(CUBIC) * x * x * x) * T.float32(ROOT)
    return x / (T.float32(1) + T.exp(-power))
