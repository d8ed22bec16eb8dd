"""The doctor: what works here, what does not, and what would help; as facts, for the page to say and for a report to carry.

The report holds nothing that a person wrote, no name, no key and no address: words of closed lists and figures. So it may be
pasted where others read it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybr.webapp.runtimes.person import ServerError

if TYPE_CHECKING:
    from hybr.webapp.page import Context

Check = dict[str, Any]
LEVELS = ("good", "note", "bad")
VERDICT = ("fits", "reason", "code", "args")
LOW = 1_000_000_000  # bytes of room below which models become a question
CHECKS = ("webgpu", "half", "processor", "isolated", "storage", "persisted", "engine", "server", "models")


def doctor(context: Context) -> dict[str, Any]:
    """The checks that need nobody to be asked, and how the models fit."""
    models = fit(context)
    return {"checks": checks(context, models), "models": models, "known": bool(context.preflight)}


def checks(context: Context, models: list[dict[str, Any]], server: Check | None = None) -> list[Check]:
    """Each `{name, level, args}`: the page has a sentence for every name and level, and a remedy for what is not good.

    `models` as `fit` tells them; `server` where it was asked.
    """
    probe = context.preflight
    made = {
        "webgpu": _webgpu(probe),
        "half": _half(probe),
        "processor": _level(probe.get("wasm") == "yes", "bad", reason=probe.get("wasmReason"), code=probe.get("wasmCode")),
        "isolated": _level(bool(probe.get("isolated")) and bool(probe.get("sharedMemory")), "note"),
        "storage": _storage(probe.get("storage") or {}),
        "persisted": _level(bool((probe.get("storage") or {}).get("persisted")), "note"),
        "engine": _engine(context),
        "server": server or _server(context),
        "models": _models(models),
    }
    return [{"name": name, **made[name]} for name in CHECKS]


def _level(fine: object, otherwise: str, **args: Any) -> Check:
    return {"level": "good" if fine else otherwise, "args": {name: value for name, value in args.items() if value}}


def _webgpu(probe: dict[str, Any]) -> Check:
    adapter = probe.get("adapter") or {}
    name = adapter.get("description") or " ".join(filter(None, (adapter.get("vendor"), adapter.get("architecture"))))
    if probe.get("webgpu") == "yes":
        software = probe.get("profile") == "software"
        return {"level": "note" if software else "good", "args": {"adapter": name, "software": software}}
    told = {name: probe.get(name) or "" for name in ("reason", "remedy", "code")}
    return {"level": "bad", "args": {**told, "lacks": probe.get("args") or {}}}


def _half(probe: dict[str, Any]) -> Check:
    return _level("shader-f16" in (probe.get("features") or ()), "note")


def _storage(storage: dict[str, Any]) -> Check:
    quota, usage = storage.get("quota") or 0, storage.get("usage") or 0
    return {"level": "good" if quota - usage >= LOW else "note" if quota else "bad", "args": {"quota": quota, "usage": usage}}


def _engine(context: Context) -> Check:
    now = context.local.get_status()
    error = now.get("error") or {}
    level = {"ready": "good", "error": "bad", "unsupported": "bad"}.get(now["state"], "note")
    return {
        "level": level,
        "args": {
            "state": now["state"],
            "model": now.get("model") or "",
            "message": error.get("message") or "",
            "code": error.get("code"),
        },
    }


def _server(context: Context) -> Check:
    status = context.hybrid.get_status()
    return _level(status.get("cloud_available", True), "bad", reason=status.get("cloud_reason"))


def _models(models: list[dict[str, Any]]) -> Check:
    good = [one for one in models if one["fits"]]
    return {"level": "good" if good else "bad", "args": {"fitting": len(good), "all": len(models)}}


def fit(context: Context) -> list[dict[str, Any]]:
    """Which models fit, and of the others why not."""
    return [
        {"id": entry["id"], "name": entry.get("name") or entry["id"], **{name: verdict[name] for name in VERDICT}}
        for entry in context.local.get_available_models()
        if (verdict := {"fits": True, "reason": "", "code": "", "args": {}, **(entry.get("fits") or {})})
    ]


async def examine(context: Context, _: dict[str, Any]) -> dict[str, Any]:
    """Ask the server how it is, but in local-only mode, in which nothing is asked; `{checks, models, report}`."""
    found: Check | None = None
    parts: dict[str, Any] = {}
    if context.hybrid.get_mode() != "local-only":
        try:
            parts = await context.person.health()
            found = {"level": "good" if parts.get("status") == "ok" else "bad", "args": {}}
        except ServerError as error:
            found = {"level": "bad", "args": {"reason": error.message, "code": error.code}}
    models = fit(context)
    told = checks(context, models, found)
    return {"checks": told, "models": models, "report": report(context, told, models, parts)}


def report(context: Context, told: list[Check], models: list[dict[str, Any]], server: dict[str, Any]) -> dict[str, Any]:
    """What may be shown to anybody: see the module."""
    probe, now, status = context.preflight, context.local.get_status(), context.hybrid.get_status()
    info = context.local.get_runtime_info()
    return {
        "checks": {one["name"]: one["level"] for one in told},
        "webgpu": {name: probe.get(name) for name in ("webgpu", "profile", "adapter", "features", "limits")},
        "processor": {name: probe.get(name) for name in ("wasm", "memory64", "isolated", "sharedMemory")},
        "storage": probe.get("storage"),
        "engine": {
            **{name: now.get(name) for name in ("state", "runtime")},
            "model": "own" if _private(context, str(now.get("model"))) else now.get("model"),
            "error": (now.get("error") or {}).get("code"),
            **{name: info.get(name) for name in ("wish", "why", "threads")},
        },
        "mode": {name: status.get(name) for name in ("mode", "preferred_mode", "cloud_available")},
        "models": {one["id"]: one["fits"] for one in models if not _private(context, one["id"])},
        "server": {name: value for name, value in server.items() if isinstance(value, str | int | float | bool)},
    }


def _private(context: Context, model: str) -> bool:
    """A model that a person added has a name and an address of theirs."""
    others = context.local.others
    return bool(others and any(one["id"] == model and one.get("source") == "own" for one in others.kept()))


ACTIONS = {"examine": examine}
