"""TIR kernels, one module a family: what a library runs on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybr.mlc_build.compile import Profile

    from .family import Family


def family_of(profile: Profile) -> Family:
    """Return the kernels of a library profile."""
    from .gpu import Gpu
    from .software import Software

    return Software() if profile == "software" else Gpu(subgroups=profile == "subgroups")
