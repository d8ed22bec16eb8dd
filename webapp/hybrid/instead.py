"""Which model takes the place of one that cannot run here: its float32 twin, or the largest that is smaller.

Only models are considered that are built, fit this device by the preflight, and have not failed to load on it before. One whose
files are in the browser already goes first: what need not be downloaded is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

F32_FIRST = frozenset({"needs_f16", "bad_shader"})  # the adapter's kernels, not its memory, are what failed
UNFIT = frozenset({*F32_FIRST, "out_of_memory", "no_space"})  # failures of which a second try would be another


def choose(
    failed: dict[str, Any], code: str, entries: Iterable[dict[str, Any]], able: Callable[[dict[str, Any]], bool]
) -> str | None:
    """The id of the model to load in place of `failed`, or None. `able` says whether one may be tried here at all."""
    others = [one for one in entries if one["id"] != failed["id"] and one.get("state") == "built" and able(one)]
    others = [one for one in others if bool(one.get("test_only")) <= bool(failed.get("test_only"))]
    if code in F32_FIRST:
        plain = [one for one in others if "f16" not in f"{one.get('quantisation', '')} {one['id']}"]
        twins = [one for one in plain if one.get("family") == failed.get("family")]
        found = max(twins or _smaller(plain, failed), key=_rank, default=None)
    else:
        found = max(_smaller(others, failed), key=_rank, default=None)
    return str(found["id"]) if found else None


def _smaller(entries: list[dict[str, Any]], than: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in entries if 0 < _size(one) < _size(than)]


def _size(entry: dict[str, Any]) -> int:
    return int(entry.get("vram_bytes") or entry.get("bytes") or 0)


def _rank(entry: dict[str, Any]) -> tuple[bool, int]:
    return bool(entry.get("cached")), _size(entry)
