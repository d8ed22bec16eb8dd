"""Whether a model fits this device, by what the preflight found, before a byte of it is downloaded.

56 of WebLLM's own f16 models do not say that they need `shader-f16`; people then download all and get a shader error. So the
quantisation's name is believed beside the declared features.
"""

from __future__ import annotations

import re
from typing import Any

MIB = 1024 * 1024
_F16 = re.compile(r"q\d+f16")


def blocker(preflight: dict[str, Any]) -> str:
    """Why no local model can run here, with what would change it; empty when one can, or while nothing is known."""
    if preflight.get("webgpu") != "no":
        return ""
    reason = str(preflight.get("reason") or "WebGPU is not available in this browser.")
    return f"{reason} {preflight.get('remedy') or ''}".strip()


def fits(entry: dict[str, Any], preflight: dict[str, Any], *, cached: bool = False) -> dict[str, Any]:
    """`{fits, reason}` for an entry of the model index. Unknown limits do not speak against a model."""
    reason = (
        blocker(preflight)
        or _features(entry, preflight)
        or _limits(entry, preflight)
        or ("" if cached else _room(entry, preflight))
    )
    return {"fits": not reason, "reason": reason}


def _features(entry: dict[str, Any], preflight: dict[str, Any]) -> str:
    have = preflight.get("features")
    if have is None:
        return ""
    need = set(entry.get("features") or ())
    if _F16.search(f"{entry.get('quantisation', '')} {entry['id']}"):
        need.add("shader-f16")
    missing = sorted(need - set(have))
    return f"This graphics adapter lacks {', '.join(missing)}: choose a q4f32 or q0f32 variant." if missing else ""


def _limits(entry: dict[str, Any], preflight: dict[str, Any]) -> str:
    have = preflight.get("limits") or {}
    for name, need in (entry.get("limits") or {}).items():
        if name in have and have[name] < need:
            return f"It needs {name} {need:,}; this graphics adapter has {have[name]:,}."
    return ""


def _room(entry: dict[str, Any], preflight: dict[str, Any]) -> str:
    storage = preflight.get("storage") or {}
    if not storage.get("quota"):
        return ""
    free, need = storage["quota"] - storage.get("usage", 0), entry.get("bytes") or 0
    if need <= free:
        return ""
    return f"It needs {need // MIB} MB; the browser has room for {free // MIB} MB. Delete another model or free disk space."
