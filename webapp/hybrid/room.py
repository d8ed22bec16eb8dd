"""Which models give way when the browser has no room for another one: those used longest ago, and no more than are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


def choose(need: int, free: int, sizes: Mapping[str, int], recent: Sequence[str], keep: Collection[str]) -> list[str]:
    """The ids to delete for `need` bytes, in order; empty where it would not be enough, so that none is lost for nothing.

    `free` bytes are left by the browser's own estimate, which it has just belied: one model goes in any case. `sizes` are the
    bytes of the models that are in the browser, `recent` their ids, the one used last first; `keep` stays.
    """
    age = {model: place for place, model in enumerate(recent)}
    oldest = sorted((one for one in sizes if one not in keep), key=lambda one: age.get(one, len(age)), reverse=True)
    if free + sum(sizes[one] for one in oldest) < need:
        return []
    gone: list[str] = []
    for model in oldest:
        if gone and free >= need:
            break
        gone.append(model)
        free += sizes[model]
    return gone
