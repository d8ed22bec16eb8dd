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
        "lacks": {"code": info.get("code") or "", "args": info.get("args") or {}},
        "error": now.get("error"),
        "adapter": _adapter(info),
        "threads": info.get("threads") or 1,
        "wish": info.get("wish") or "auto",
        "why": info.get("why") or "webgpu",
        "progress": now.get("progress") or 0.0,
        "loadedBytes": now.get("loaded_bytes") or 0,
        "totalBytes": now.get("total_bytes") or 0,
        "etaS": now.get("eta_s"),
        "bytesPerSecond": now.get("bytes_per_second"),
        "phase": now.get("phase") or "",
        "step": now.get("step") or "",
        "text": now.get("text") or "",
        "shared": bool(now.get("shared")),
    }


def _adapter(info: dict[str, Any]) -> dict[str, Any]:
    gpu = info.get("gpu") or {}
    return {
        "vendor": gpu.get("vendor") or "",
        "architecture": gpu.get("architecture") or "",
        "description": gpu.get("description") or "",
        "software": info.get("profile") == "software",
    }


def egress(context: Context) -> dict[str, Any]:
    """The receipts of this session, newest first."""
    receipts = context.hybrid.get_egress_log()[:RECEIPTS]
    return {
        "policy": context.hybrid.get_egress_policy(),
        "receipts": [
            {
                "at": receipt["at"],
                "bytes": receipt["bytes"],
                "model": receipt.get("model") or "",
                "cause": receipt["cause"],
                "redacted": sum((receipt.get("redacted") or {}).values()),
            }
            for receipt in receipts
        ],
    }


def usage(context: Context) -> dict[str, Any]:
    """Requests, tokens, average time and errors of each provider, and the last changes from one to the other."""
    stats, status = context.hybrid.get_usage_stats(), context.hybrid.get_status()
    return {
        "mode": status["mode"],
        "available": {"local": bool(status.get("local_available")), "cloud": bool(status.get("cloud_available", True))},
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
    error = change.get("error") or {}
    return {
        "from": change.get("from"),
        "to": change.get("to"),
        "error": {"code": error.get("code"), "message": error.get("message") or ""},
    }


def _switch(switch: dict[str, Any]) -> dict[str, Any]:
    return {"from": switch.get("from"), "to": switch.get("to"), "manual": bool(switch.get("manual"))}


def _name(context: Context, model_id: Any) -> str:
    """A model's name for people; its id where the index does not know it."""
    return str((context.local.entry(model_id) or {}).get("name") or model_id or "")
