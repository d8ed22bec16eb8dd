"""What each view shows, as plain values: the views' only input. Names are camelCase, for they are read in JavaScript.

One function a view, each from the Context of hybr.webapp.page. Sentences are the views' own business (words.js); what is
here is only what is so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybr.webapp.page import Context

RECEIPTS = 50  # the newest, in the egress log
RECENT = 5  # fallbacks and switches that the usage view lists


def mode(context: Context) -> dict[str, Any]:
    """The mode in force, the one the person wants, what may be chosen, and who would answer."""
    status = context.hybrid.get_status()
    local = context.local.get_status()
    return {
        "mode": status["mode"],
        "place": context.place.where,
        "egress": context.chat.egress,
        "preferred": status.get("preferred_mode", status["mode"]),
        "modes": context.hybrid.get_auto_switch_config().get("modes", ["local", "cloud"]),
        "local": {"state": local["state"], "reason": local.get("reason"), "name": _name(context, local.get("model"))},
        "cloud": {"available": status.get("cloud_available", True), "reason": status.get("cloud_reason") or ""},
    }


def status(context: Context) -> dict[str, Any]:
    """The local runtime's state, with progress while it loads and the reason where it cannot run."""
    now = context.local.get_status()
    info = context.local.get_runtime_info()
    return {
        "state": now["state"],
        "runtime": now.get("runtime"),
        "webgpu": now.get("webgpu"),
        "model": now.get("model"),
        "name": _name(context, now.get("model")),
        "reason": info.get("reason"),
        "remedy": info.get("remedy"),
        "error": now.get("error"),
        "adapter": _adapter(info),
        "threads": info.get("threads") or 1,
        "wish": info.get("wish") or "auto",
        "why": info.get("why") or "webgpu",
        "progress": now.get("progress") or 0.0,
        "loadedBytes": now.get("loaded_bytes") or 0,
        "totalBytes": now.get("total_bytes") or 0,
        "etaS": now.get("eta_s"),
        "text": now.get("text") or "",
    }


def _adapter(info: dict[str, Any]) -> dict[str, Any]:
    gpu = info.get("gpu") or {}
    return {
        "vendor": gpu.get("vendor") or "",
        "architecture": gpu.get("architecture") or "",
        "description": gpu.get("description") or "",
        "software": info.get("profile") == "software",
    }


def models(context: Context) -> dict[str, Any]:
    """The models to choose from, which of them is loaded or loading, and which to suggest."""
    now = context.local.get_status()
    entries = context.local.get_available_models()
    return {
        "models": [_model(entry) for entry in sorted(entries, key=lambda entry: bool(entry.get("test_only")))],
        "active": now.get("model"),
        "state": now["state"],
        "chosen": _chosen(context, entries),
    }


def _model(entry: dict[str, Any]) -> dict[str, Any]:
    """One entry; only what is shown crosses, not its list of files."""
    fits = entry.get("fits") or {}
    build = entry.get("progress") or {}
    return {
        "id": entry["id"],
        "name": entry.get("name") or entry["id"],
        "quantisation": entry.get("quantisation") or "",
        "bytes": entry.get("bytes") or 0,
        "vramBytes": entry.get("vram_bytes") or 0,
        "context": entry.get("context") or 0,
        "licence": entry.get("licence") or "",
        "origin": entry.get("origin") or "",
        "testOnly": bool(entry.get("test_only")),
        "state": entry.get("state", "missing"),
        "build": {
            "fraction": build.get("fraction"),
            "text": build.get("text") or build.get("step") or "",
            "etaS": build.get("eta_s"),
        },
        "error": (entry.get("error") or {}).get("message"),
        "fits": bool(fits.get("fits", True)),
        "reason": fits.get("reason") or "",
        "cached": bool(entry.get("cached")),
    }


def _chosen(context: Context, entries: list[dict[str, Any]]) -> str | None:
    """The model to have selected at first: the one in use, the one used last, else the first that fits and is no test's."""
    ids = {entry["id"] for entry in entries}
    for wanted in (context.local.get_status().get("model"), context.preferences.get("model")):
        if wanted in ids:
            return str(wanted)
    real = [entry for entry in entries if not entry.get("test_only")]
    good = [entry for entry in real if (entry.get("fits") or {}).get("fits", True)]
    return next((str(entry["id"]) for entry in [*good, *real, *entries]), None)


def egress(context: Context) -> dict[str, Any]:
    """The receipts of this session, newest first."""
    receipts = context.hybrid.get_egress_log()[:RECEIPTS]
    return {
        "receipts": [
            {
                "at": receipt["at"],
                "bytes": receipt["bytes"],
                "model": receipt.get("model") or "",
                "cause": receipt["cause"],
                "redacted": sum((receipt.get("redacted") or {}).values()),
            }
            for receipt in receipts
        ]
    }


def usage(context: Context) -> dict[str, Any]:
    """Requests, tokens, average time and errors of each provider, and the last changes from one to the other."""
    stats = context.hybrid.get_usage_stats()
    return {
        "providers": {name: _spent(stats.get(name) or {}) for name in ("local", "cloud")},
        "fallbacks": stats.get("fallback_count", 0),
        "handovers": stats.get("handover_count", 0),
        "recent": [_change(change) for change in (stats.get("fallbacks") or [])[:RECENT]],
        "switches": [_switch(switch) for switch in (stats.get("switch_history") or [])[:RECENT]],
    }


def _spent(totals: dict[str, Any]) -> dict[str, Any]:
    requests = totals.get("requests") or 0
    average = totals.get("average_time") if requests else None
    return {"requests": requests, "tokens": totals.get("tokens") or 0, "averageMs": average, "errors": totals.get("errors") or 0}


def _change(change: dict[str, Any]) -> dict[str, Any]:
    return {"from": change.get("from"), "to": change.get("to"), "reason": (change.get("error") or {}).get("message") or ""}


def _switch(switch: dict[str, Any]) -> dict[str, Any]:
    return {"from": switch.get("from"), "to": switch.get("to"), "manual": bool(switch.get("manual"))}


def _name(context: Context, model_id: Any) -> str:
    """A model's name for people; its id where the index does not know it."""
    entries = context.local.get_available_models()
    return next((str(entry.get("name") or model_id) for entry in entries if entry["id"] == model_id), str(model_id or ""))
