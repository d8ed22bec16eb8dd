"""Which compiler made a model: a hash over its sources and its tools, so that a newer one knows what to make again.

Standard library only and a few milliseconds: the server asks at every start. Making again is cheap where nothing that
matters changed, since the steps are kept by their own inputs (`steps.once`).
"""

from __future__ import annotations

import importlib.metadata
from functools import cache
from pathlib import Path

from . import steps

TOOLS = ("apache-tvm", "apache-tvm-ffi", "gguf", "numpy", "tokenizers")


@cache
def fingerprint() -> str:
    """Return 16 hex digits for this compiler, as it was when the process first asked."""
    return steps.key(Path(__file__).parent, [f"{tool}={_version(tool)}" for tool in TOOLS])


def _version(tool: str) -> str:
    try:
        return importlib.metadata.version(tool)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
