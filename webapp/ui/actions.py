"""What a person may ask for in the views. A message is `{action, ...}`; what it asks of the orchestrator is one call.

Each view's own are beside its facts. Nothing here fails loudly: a view that asked is told the error, the others show the state
that follows.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.errors import HybridError
from hybr.webapp.runtimes.person import ServerError
from hybr.webapp.ui import doctor, models, personas, settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from hybr.webapp.page import Context

    Actions = Mapping[str, Callable[[Context, dict[str, Any]], Awaitable[Any]]]

log = logging.getLogger(__name__)


async def set_mode(context: Context, message: dict[str, Any]) -> None:
    """Change the mode, by the person's own hand."""
    context.place.set_mode(message.get("mode"), manual=True)


async def set_egress(context: Context, message: dict[str, Any]) -> None:
    """Change what may leave the browser of the open conversation."""
    context.chat.set_egress(message.get("policy"))


async def set_policy(context: Context, message: dict[str, Any]) -> None:
    """Change what may leave the browser at all, whatever a conversation allows. Raises OptionError."""
    context.hybrid.set_egress_policy(message.get("policy"))


ACTIONS: Actions = {
    "set-mode": set_mode,
    "set-egress": set_egress,
    "set-policy": set_policy,
    **models.ACTIONS,
    **personas.ACTIONS,
    **settings.ACTIONS,
    **doctor.ACTIONS,
}


async def act(context: Context, message: Any, actions: Actions = ACTIONS) -> dict[str, Any]:
    """Do what `message` asks, of `actions`, and return `{value}`, or `{error: {message, field, code}}`.

    An unknown action is logged and ignored, so that either side can grow first.
    """
    work = actions.get(str(message.get("action"))) if isinstance(message, dict) else None
    if work is None:
        log.warning("the views asked for something unknown: %r", message)
        return {"error": {"message": "", "field": "", "code": "unknown_action"}}
    try:
        return {"value": await work(context, message)}
    except (HybridError, ServerError) as error:
        return {"error": {"message": error.message, "field": getattr(error, "field", ""), "code": error.code}}
    except Exception:
        log.exception("%s failed", message["action"])
        return {"error": {"message": "", "field": "", "code": "internal"}}
