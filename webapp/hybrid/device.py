"""Whether a runtime works here and whether a model fits, by what the preflight found, before a byte of it is downloaded.

56 of WebLLM's own f16 models do not say that they need `shader-f16`; people then download all and get a shader error. So the
quantisation's name is believed beside the declared features.
"""

from __future__ import annotations

import re
from typing import Any

MIB = 1024 * 1024
LONGEST = 2**31 - 1  # bytes of one file: the most that an ArrayBuffer holds in every browser
_F16 = re.compile(r"q\d+f16")


def blocker(preflight: dict[str, Any], runtime: str = "webgpu") -> str:
    """Why no local model can run here, with what would change it; empty when one can, or while nothing is known."""
    if runtime == "wasm":
        return str(preflight.get("wasm_reason") or "") if preflight.get("wasm") == "no" else ""
    if preflight.get("webgpu") != "no":
        return ""
    reason = str(preflight.get("reason") or "WebGPU is not available in this browser.")
    return f"{reason} {preflight.get('remedy') or ''}".strip()


def size(entry: dict[str, Any], runtime: str) -> int:
    """Bytes to download of an entry for that runtime."""
    return int(((entry.get("gguf") if runtime == "wasm" else None) or entry).get("bytes") or 0)


def fits(entry: dict[str, Any], preflight: dict[str, Any], *, cached: bool = False, runtime: str = "webgpu") -> dict[str, Any]:
    """`{fits, reason}` for an entry of the model index. Unknown limits do not speak against a model."""
    if runtime == "wasm":
        reason = blocker(preflight, runtime) or _gguf(entry, preflight) or ("" if cached else _room(entry, preflight, runtime))
        return {"fits": not reason, "reason": reason}
    reason = (
        blocker(preflight)
        or _features(entry, preflight)
        or _limits(entry, preflight)
        or ("" if cached else _room(entry, preflight))
    )
    return {"fits": not reason, "reason": reason}


def _gguf(entry: dict[str, Any], preflight: dict[str, Any]) -> str:
    if size(entry, "wasm") > LONGEST:
        return f"Its file of {size(entry, 'wasm') // MIB} MB is too long for the processor's runtime in a browser (2 GB)."
    if entry.get("gguf") or entry.get("state", "built") != "built":  # what is not built yet may come to have one
        return ""
    reason = "It runs on WebGPU only: there is no file of it for the processor (GGUF)."
    return f"{reason} {blocker(preflight)}".strip()


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


def _room(entry: dict[str, Any], preflight: dict[str, Any], runtime: str = "webgpu") -> str:
    storage = preflight.get("storage") or {}
    if not storage.get("quota"):
        return ""
    free, need = storage["quota"] - storage.get("usage", 0), size(entry, runtime)
    if need <= free:
        return ""
    return f"It needs {need // MIB} MB; the browser has room for {free // MIB} MB. Delete another model or free disk space."
