"""What a person may ask for in the views. A message is `{action, ...}`; what it asks of the orchestrator is one call.

Nothing here fails loudly: the orchestrator answers a refusal with an event, and the views show the state that follows.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hybr.webapp.page import Context

log = logging.getLogger(__name__)


async def set_mode(context: Context, message: dict[str, Any]) -> None:
    """Change the mode, by the person's own hand."""
    context.place.set_mode(message.get("mode"), manual=True)


async def set_egress(context: Context, message: dict[str, Any]) -> None:
    """Change what may leave the browser of the open conversation."""
    context.chat.set_egress(message.get("policy"))


async def load(context: Context, message: dict[str, Any]) -> None:
    """Load a model; failures come as `local-llm:error`."""
    await context.local.init(str(message.get("model")))


async def cancel(context: Context, _: dict[str, Any]) -> None:
    """Stop the load under way."""
    await context.local.cancel_load()


async def unload(context: Context, _: dict[str, Any]) -> None:
    """Free the model that is loaded."""
    await context.local.unload()


async def delete(context: Context, message: dict[str, Any]) -> None:
    """Remove a model's files from this browser."""
    await context.local.delete(str(message.get("model")))


async def set_runtime(context: Context, message: dict[str, Any]) -> None:
    """Choose what computes the local model: `auto`, `webgpu` or `wasm`."""
    await context.local.set_runtime(message.get("runtime"))


ACTIONS: dict[str, Callable[[Context, dict[str, Any]], Awaitable[None]]] = {
    "set-mode": set_mode,
    "set-egress": set_egress,
    "load": load,
    "cancel": cancel,
    "unload": unload,
    "delete": delete,
    "set-runtime": set_runtime,
}


async def act(context: Context, message: Any) -> None:
    """Do what `message` asks; an unknown action is logged and ignored, so that either side can grow first."""
    work = ACTIONS.get(str(message.get("action"))) if isinstance(message, dict) else None
    if work is None:
        log.warning("the views asked for something unknown: %r", message)
        return
    try:
        await work(context, message)
    except Exception:
        log.exception("%s failed", message["action"])
