"""Whether a runtime works here and whether a model fits, by what the preflight found, before a byte of it is downloaded.

56 of WebLLM's own f16 models do not say that they need `shader-f16`; people then download all and get a shader error. So the
quantisation's name is believed beside the declared features.
"""

from __future__ import annotations

import re
from typing import Any

MIB = 1024 * 1024
LONGEST = 2**31 - 1  # bytes of one file: the most that an ArrayBuffer holds in every browser
Lack = tuple[str, dict[str, Any], str]  # what is in the way: code and args for the page's words, and the English sentence
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
    """`{fits, reason, code, args}` for an entry of the model index. Unknown limits do not speak against a model.

    `reason` is English; `code` and `args` are what the page says it by in its language.
    """
    rules = (_gguf,) if runtime == "wasm" else (_features, _limits)
    found = _blocked(preflight, runtime) or next(filter(None, (rule(entry, preflight) for rule in rules)), None)
    if not found and not cached:
        found = _room(entry, preflight, runtime)
    code, args, reason = found or ("", {}, "")
    return {"fits": not found, "reason": reason, "code": code, "args": args}


def _blocked(preflight: dict[str, Any], runtime: str) -> Lack | None:
    reason = blocker(preflight, runtime)
    if not reason:
        return None
    if runtime == "wasm":
        return str(preflight.get("wasmCode") or ""), {}, reason
    return str(preflight.get("code") or ""), dict(preflight.get("args") or {}), reason


def _gguf(entry: dict[str, Any], preflight: dict[str, Any]) -> Lack | None:
    if (long := size(entry, "wasm")) > LONGEST:
        said = f"Its file of {long // MIB} MB is too long for the processor's runtime in a browser (2 GB)."
        return "too_long", {"size": f"{long // MIB} MB"}, said
    if entry.get("gguf") or entry.get("state", "built") != "built":  # what is not built yet may come to have one
        return None
    reason = "It runs on WebGPU only: there is no file of it for the processor (GGUF)."
    return "webgpu_only", {}, f"{reason} {blocker(preflight)}".strip()


def _features(entry: dict[str, Any], preflight: dict[str, Any]) -> Lack | None:
    have = preflight.get("features")
    if have is None:
        return None
    need = set(entry.get("features") or ())
    if _F16.search(f"{entry.get('quantisation', '')} {entry['id']}"):
        need.add("shader-f16")
    missing = ", ".join(sorted(need - set(have)))
    said = f"This graphics adapter lacks {missing}: choose a q4f32 or q0f32 variant."
    return ("features", {"missing": missing}, said) if missing else None


def _limits(entry: dict[str, Any], preflight: dict[str, Any]) -> Lack | None:
    have = preflight.get("limits") or {}
    for name, need in (entry.get("limits") or {}).items():
        if name in have and have[name] < need:
            args = {"name": name, "need": f"{need:,}", "have": f"{have[name]:,}"}
            return "limit", args, f"It needs {name} {need:,}; this graphics adapter has {have[name]:,}."
    return None


def _room(entry: dict[str, Any], preflight: dict[str, Any], runtime: str) -> Lack | None:
    storage = preflight.get("storage") or {}
    if not storage.get("quota"):
        return None
    free, need = storage["quota"] - storage.get("usage", 0), size(entry, runtime)
    if need <= free:
        return None
    args = {"need": f"{need // MIB} MB", "free": f"{free // MIB} MB"}
    said = f"It needs {args['need']}; the browser has room for {args['free']}. Delete another model or free disk space."
    return "room", args, said
