"""The models view: what there is to choose from, from which host, how much of it is here; and what a person does with a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybr.webapp.page import Context

Message = dict[str, Any]


def models(context: Context) -> dict[str, Any]:
    """The models to choose from, which of them is loaded or loading, and which to suggest.

    WebLLM's own list is not among them until some of it was taken: the view asks for it (`offers`).
    """
    now = context.local.get_status()
    entries = context.local.get_available_models()
    others = context.local.others
    return {
        "models": [model(entry) for entry in sorted(entries, key=lambda entry: bool(entry.get("test_only")))],
        "active": now.get("model"),
        "state": now["state"],
        "chosen": _chosen(context, entries),
        "hosts": others.allowed if others else [],
        "closed": others is None or others.closed,
        "checking": context.local.checking,
    }


def model(entry: dict[str, Any]) -> dict[str, Any]:
    """One entry; only what is shown crosses, not its list of files."""
    fits = entry.get("fits") or {}
    build = entry.get("progress") or {}
    return {
        "id": entry["id"],
        "name": entry.get("name") or entry["id"],
        "source": entry.get("source") or "server",
        "family": entry.get("family") or "",
        "quantisation": entry.get("quantisation") or "",
        "bytes": entry.get("bytes") or 0,
        "estimated": bool(entry.get("estimated")),
        "vramBytes": entry.get("vram_bytes") or 0,
        "context": entry.get("context") or 0,
        "licence": entry.get("licence") or "",
        "origin": entry.get("origin") or "",
        "hosts": entry.get("hosts") or [],
        "testOnly": bool(entry.get("test_only")),
        "state": entry.get("state", "missing"),
        "build": {
            "fraction": build.get("fraction"),
            "step": build.get("step") or "",
            "text": build.get("text") or build.get("step") or "",
            "etaS": build.get("eta_s"),
        },
        "error": (entry.get("error") or {}).get("message"),
        "fits": bool(fits.get("fits", True)),
        "reason": fits.get("reason") or "",
        "lacks": {"code": fits.get("code") or "", "args": fits.get("args") or {}},
        "cached": bool(entry.get("cached")),
        "begun": entry.get("begun"),
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


async def load(context: Context, message: Message) -> None:
    """Load a model; failures come as `local-llm:error`."""
    await context.local.init(str(message.get("model")))


async def pause(context: Context, _: Message) -> None:
    """Stop the load under way and keep what has come."""
    await context.local.pause()


async def cancel(context: Context, _: Message) -> None:
    """Stop the load under way and drop what has come of it."""
    await context.local.discard()


async def unload(context: Context, _: Message) -> None:
    """Free the model that is loaded."""
    await context.local.unload()


async def delete(context: Context, message: Message) -> None:
    """Remove a model's files from this browser."""
    await context.local.delete(str(message.get("model")))


async def verify(context: Context, message: Message) -> dict[str, Any]:
    """Check a model's files and repair them: `{files, damaged, repaired}`."""
    return await context.local.verify(str(message.get("model")))


async def offers(context: Context, _: Message) -> list[dict[str, Any]]:
    """WebLLM's own list."""
    return [model(entry) for entry in await context.local.get_offered_models()]


async def allow(context: Context, message: Message) -> None:
    """Let the engine ask these hosts as well; with `instead`, these alone."""
    hosts = [str(host) for host in message.get("hosts") or ()]
    await context.local.allow(hosts, instead=message.get("instead") is True)


async def add(context: Context, message: Message) -> dict[str, Any]:
    """Add a model by its address. `{hosts}` of those that must be allowed first, or `{id}` when it is there."""
    name, address, library = (message.get(field) for field in ("name", "address", "library"))
    missing = await context.local.unasked(name, address, library)
    if missing:
        return {"hosts": missing}
    return {"id": (await context.local.add(name, address, library))["id"]}


async def remove(context: Context, message: Message) -> None:
    """Take an added model off the list, and its files out of the browser."""
    await context.local.remove(str(message.get("model")))


async def storage(context: Context, message: Message) -> None:
    """What the browser says of its storage by now."""
    context.local.storage({name: message.get(name) for name in ("quota", "usage", "persisted")})


async def set_runtime(context: Context, message: Message) -> None:
    """Choose what computes the local model: `auto`, `webgpu` or `wasm`."""
    await context.local.set_runtime(message.get("runtime"))


ACTIONS = {
    "load": load,
    "pause": pause,
    "cancel": cancel,
    "unload": unload,
    "delete": delete,
    "verify": verify,
    "offers": offers,
    "allow": allow,
    "add-model": add,
    "remove-model": remove,
    "storage": storage,
    "set-runtime": set_runtime,
}
