"""What a request needs of a model (images, tools, a schema, a long window), and which of the models that may be asked have it.

A local model has what the index says of it (`vision`, `tools`; a schema every engine here can hold to unless `schema` is false).
One of which nothing is said about tools can be told of them in words (`prompted`), where nobody else may be asked.
A cloud model has what `/v1/models` says under `capabilities`; what is not said is tried, and the provider's refusal is the
answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.errors import LocalError, UnsupportedError
from hybr.webapp.hybrid.profile import has_images

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hybr.webapp.hybrid.types import Message, Options

NAMES = {"images": "read images", "tools": "call tools", "schema": "hold to a JSON schema"}


def wanted(asked: Options, messages: Iterable[Message]) -> frozenset[str]:
    """What the request needs."""
    messages = tuple(messages)
    form = asked.response_format
    calls = any(message["role"] == "tool" or message.get("tool_calls") for message in messages)
    needs = {
        "images": has_images(messages),
        "tools": calls or (bool(asked.tools) and asked.tool_choice != "none"),
        "schema": form is not None and form["type"] == "json_schema",
    }
    return frozenset(name for name, need in needs.items() if need)


def local(entry: Mapping[str, Any] | None) -> frozenset[str]:
    """What a model of the index can do."""
    found = entry or {}
    has = {"images": found.get("vision"), "tools": found.get("tools") is True, "schema": found.get("schema", True)}
    return frozenset(name for name, able in has.items() if able)


def promptable(entry: Mapping[str, Any] | None) -> bool:
    """Whether a local model may be told of tools in words: unless the index says that it is no good at them."""
    return (entry or {}).get("tools") is not False


def cloud(entry: Mapping[str, Any] | None) -> frozenset[str]:
    """What a model of the gateway can do, or may."""
    able = (entry or {}).get("capabilities") or {}
    return frozenset(name for name in NAMES if able.get(name, True))


def answers(entry: Mapping[str, Any]) -> bool:
    """Whether a model of the gateway writes text at all; some only make vectors."""
    return "text" in entry.get("output_modalities", ("text",))


def spelt(what: Iterable[str]) -> str:
    """In words."""
    return " and ".join(NAMES[name] for name in sorted(what))


def lacking(model: str | None, missing: Iterable[str]) -> LocalError:
    """Why the local model is passed over, as the failure of its leg."""
    what = spelt(missing)
    return LocalError(f"{model} cannot {what}.", name="UnsupportedError", code="unsupported", kind="capability")


def refusal(missing: Iterable[str], who: str, others: Iterable[str]) -> UnsupportedError:
    """No model that may be asked can do it; `others` are those that could."""
    what, able = spelt(missing), ", ".join(others)
    remedy = f"These could: {able}." if able else "Leave it out, or add a model that can."
    return UnsupportedError(f"{who} cannot {what}. {remedy}", what=" ".join(sorted(missing)))
