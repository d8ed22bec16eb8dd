"""The models on this machine's own shelf, as today's code builds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybr.mlc_build.build import build
from hybr.mlc_build.lock import hold
from hybr.server import paths

if TYPE_CHECKING:
    from pathlib import Path


def built(name: str) -> Path:
    """Return a model's folder: a second or three when it is there, minutes when it has to be made.

    One process of the tests at a time: a second build of a model would be refused while the first is under way.
    """
    with hold(paths.home() / "models" / f".{name}.tests.lock"):
        return build(name)
