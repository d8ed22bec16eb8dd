"""The settings: keys and the session on the server, what may be spent, what happens by itself, which hosts may be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.errors import OptionError

if TYPE_CHECKING:
    from hybr.webapp.page import Context

Message = dict[str, Any]
SWITCHES = ("load_at_start", "telemetry", "mermaid")
CHOICES = {"while_loading": ("cloud", "wait"), "enter": ("send", "newline")}


def settings(context: Context) -> dict[str, Any]:
    """What is chosen now. What the server keeps is asked for when the section is opened (`account`)."""
    preferences, others = context.preferences, context.local.others
    return {
        "place": context.place.where,
        "mode": context.hybrid.get_mode(),
        "budget": context.hybrid.get_budget(),
        "recovery": context.hybrid.get_recovery(),
        "whileLoading": preferences.get("while_loading", "cloud"),
        "loadAtStart": bool(preferences.get("load_at_start")),
        "telemetry": preferences.get("telemetry") is True,
        "mermaid": preferences.get("mermaid") is True,
        "enter": preferences.get("enter", "send"),
        "runtime": context.local.get_runtime_info().get("wish") or "auto",
        "hosts": others.allowed if others else [],
    }


async def prefer(context: Context, message: Message) -> None:
    """Change a preference of those that are a person's to change here. Raises OptionError for another, or another value."""
    name, value = str(message.get("name")), message.get("value")
    switched = name in SWITCHES and isinstance(value, bool)
    if not switched and value not in CHOICES.get(name, ()):
        raise OptionError(f"{name} cannot be {value!r}.", field=name)
    context.preferences.set(name, value)


async def set_budget(context: Context, message: Message) -> dict[str, Any]:
    """Change the budget of a month or of this session, in dollars; None for none. Raises OptionError."""
    return context.hybrid.set_budget(message.get("change"))


async def set_recovery(context: Context, message: Message) -> dict[str, Any]:
    """Change what happens when a model fails or is slow. Raises OptionError."""
    return context.hybrid.set_recovery(message.get("change"))


async def account(context: Context, _: Message) -> dict[str, Any]:
    """What the server keeps for the person: providers with their keys, and the session. Raises ServerError."""
    person = context.person
    session, keys, providers = await person.session(), await person.keys(), await person.providers()
    told = {str(one.get("name")): one for one in providers}
    return {
        "auth": session.get("auth"),
        "owner": session.get("owner"),
        "keys": [_key(one, told.get(str(one.get("provider"))) or {}) for one in keys],
    }


def _key(one: dict[str, Any], provider: dict[str, Any]) -> dict[str, Any]:
    told = {name: one.get(name) for name in ("provider", "set", "source", "suspect")}
    return {**told, "available": bool(provider.get("available")), "reason": provider.get("reason") or ""}


async def set_key(context: Context, message: Message) -> dict[str, Any]:
    """Give the server a key of the person's; the provider is asked once. Raises OptionError, ServerError."""
    told = await context.person.set_key(str(message.get("provider")), message.get("key"))
    await context.gateway.check()  # there are other models now
    return told


async def drop_key(context: Context, message: Message) -> dict[str, Any]:
    """Have the server forget one. Raises ServerError."""
    told = await context.person.drop_key(str(message.get("provider")))
    await context.gateway.check()
    return told


async def forget(context: Context, _: Message) -> dict[str, Any]:
    """Remove all that the server keeps of the person; what is in this browser stays. Raises ServerError.

    With the hosts that it no longer knows to be allowed, they are not allowed here either.
    """
    told = await context.person.forget()
    context.preferences.set("model_hosts", [])
    await context.gateway.check()
    return told


async def leave(context: Context, _: Message) -> None:
    """Log out. Raises ServerError."""
    await context.person.leave()


async def estimate(context: Context, message: Message) -> dict[str, Any]:
    """What the next message would take on each side: seconds and dollars. Raises CallerError."""
    text = str(message.get("text") or "")
    messages = [*context.chat.messages, {"role": "user", "content": text or "…"}]
    options = {name: value for name, value in context.chat.settings.items() if name == "max_output_tokens"}
    return context.hybrid.estimate(messages, options)


ACTIONS = {
    "prefer": prefer,
    "set-budget": set_budget,
    "set-recovery": set_recovery,
    "account": account,
    "set-key": set_key,
    "drop-key": drop_key,
    "forget-me": forget,
    "log-out": leave,
    "estimate": estimate,
}
