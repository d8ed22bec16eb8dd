"""A branch of the tree as a request: the messages that a model gets, and the options that the conversation asks for."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid import validate
from hybr.webapp.hybrid.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hybr.webapp.hybrid.types import Message
    from hybr.webapp.state.schema import Conversation
    from hybr.webapp.state.tree import Node

SETTINGS = ("temperature", "top_p", "max_output_tokens", "stop", "seed", "response_format", "system")


def messages_of(branch: Iterable[Node], system: str | None = None) -> list[Message]:
    """The branch, without what is empty. Neighbours of one role become one message: chat templates want roles to alternate."""
    turns = [(node.role, content_of(node)) for node in branch if node.text.strip() or node.attachments]
    merged = [
        {"role": role, "content": joined([content for _, content in group])}
        for role, group in itertools.groupby(turns, lambda turn: turn[0])
    ]
    return (
        [{"role": "system", "content": system}, *merged] if system and (merged[:1] or [{}])[0].get("role") != "system" else merged
    )


def content_of(node: Node) -> str | list[dict[str, Any]]:
    """The text, with its text files under their names; with images a list of parts, text first."""
    files = [
        f"{one.get('name') or 'file'}:\n{fenced(str(one.get('data') or ''))}"
        for one in node.attachments
        if one.get("kind") == "text"
    ]
    text = "\n\n".join(part for part in (*files, node.text) if part.strip())
    images = [{"type": "image_url", "image_url": {"url": url_of(one)}} for one in node.attachments if one.get("kind") == "image"]
    if not images:
        return text
    return [*([{"type": "text", "text": text}] if text else []), *images]


def joined(contents: list[str | list[dict[str, Any]]]) -> str | list[dict[str, Any]]:
    """Several messages' contents as one's."""
    if all(isinstance(content, str) for content in contents):
        return "\n\n".join(str(content) for content in contents)
    parts = ([{"type": "text", "text": content}] if isinstance(content, str) else content for content in contents)
    return list(itertools.chain.from_iterable(parts))


def fenced(text: str) -> str:
    """A text between fences that are longer than any in it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def url_of(attachment: Mapping[str, Any]) -> str:
    """An image as a data URL."""
    data = str(attachment.get("data") or "")
    return data if data.startswith("data:") else f"data:{attachment.get('mime') or 'image/png'};base64,{data}"


def options_of(conversation: Conversation) -> dict[str, Any]:
    """What the conversation's own policy, persona and settings ask of each of its requests."""
    settings = {name: value for name, value in conversation.settings.items() if name in SETTINGS and name != "system"}
    persona = {"persona": conversation.persona} if conversation.persona else {}
    return {**settings, **persona, "egress": conversation.egress or "allow"}


def checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Generation settings by their names here; None takes one away. Raises OptionError naming the one at fault."""
    for name, value in settings.items():
        if name not in SETTINGS:
            raise OptionError(f"settings.{name} is not a setting. There are: {', '.join(SETTINGS)}.", field=f"settings.{name}")
        if name == "system":
            if value is not None and not isinstance(value, str):
                raise OptionError("settings.system must be a text.", field="settings.system")
        elif value is not None:
            validate.CHECKS[name](value, f"settings.{name}")
    return dict(settings)
