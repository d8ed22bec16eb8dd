"""TIR kernels, one module a family: what a library runs on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm.target import Target

    from hybr.mlc_build.compile import Profile

    from .family import Family


def family_of(profile: Profile, target: Target) -> Family:
    """Return the kernels of a library profile."""
    from .gpu import Gpu
    from .software import Software

    return Software(target) if profile == "software" else Gpu(target, subgroups=profile == "subgroups")
