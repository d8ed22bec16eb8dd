"""What goes to those who imitate OpenAI: the request in the words that each of them takes.

Strict ones refuse what they do not know. An SDK's client sends back the message it got, with every field of it (`annotations`,
`audio`, a thought), and a conversation can come from another provider, whose ids and thoughts are not this one's: so a message
goes out with the fields that the API has, and nothing else.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from hybr.server.providers.content import spoken

OWN = {"openai", "azure"}  # who speaks the language itself
FIELDS = ("role", "name", "tool_calls", "tool_call_id")
NINE = re.compile(r"[a-zA-Z0-9]{9}")
STRICT = {"minimal": "low", "xhigh": "high", "max": "high"}  # words that these do not have
EFFORTS: dict[str, dict[str, str]] = {
    "openai": {"max": "xhigh"},
    "azure": {"max": "xhigh"},
    "openrouter": {"max": "xhigh"},
    "mistral": STRICT,
    "ollama": STRICT,
    "vllm": STRICT,
    "groq": STRICT,
    "deepseek": {"minimal": "low", "medium": "high", "xhigh": "max"},
}


def message(given: dict[str, Any], name: str) -> dict[str, Any]:
    """Return one message as the upstream of this name takes it."""
    found = {word: given[word] for word in FIELDS if given.get(word) is not None}
    if name != "openai" and found["role"] == "developer":
        found["role"] = "system"
    said = given.get("content") if name in OWN else spoken(given)
    if said is not None or "content" in given:
        found["content"] = [part(one) for one in said] if isinstance(said, list) else said
    if name in OWN and isinstance(given.get("refusal"), str):
        found["refusal"] = given["refusal"]
    if calls := found.pop("tool_calls", None):  # an empty list is refused
        found["tool_calls"] = [called(call) for call in calls]
    if name == "deepseek":
        thoughtful(found, given)
    return nine(found) if name == "mistral" else found


def part(given: dict[str, Any]) -> dict[str, Any]:
    """Return a part of a content with OpenAI's fields, without others' (`cache_control`)."""
    if given["type"] == "text":
        return {"type": "text", "text": given["text"]}
    image = {word: given["image_url"][word] for word in ("url", "detail") if word in given["image_url"]}
    return {"type": "image_url", "image_url": image}


def called(call: dict[str, Any]) -> dict[str, Any]:
    """Return a tool's call with OpenAI's fields."""
    function = {word: call["function"][word] for word in ("name", "arguments") if word in call["function"]}
    return {**{word: call[word] for word in ("id", "type") if word in call}, "function": function}


def thoughtful(found: dict[str, Any], given: dict[str, Any]) -> None:
    """Give DeepSeek its thoughts back: where it thinks, it refuses a turn with calls that lacks them.

    Another provider's turn has none, and gets a blank one.
    """
    if found["role"] != "assistant":
        return
    thought = given.get("reasoning_content")
    if isinstance(thought, str) and thought:
        found["reasoning_content"] = thought
    elif found.get("tool_calls"):
        found["reasoning_content"] = " "


def nine(found: dict[str, Any]) -> dict[str, Any]:
    """Return a message with ids as Mistral wants them, nine letters or digits, and names for its tools' results only."""
    if found["role"] != "tool":
        found.pop("name", None)
    if "tool_call_id" in found:
        found["tool_call_id"] = short(found["tool_call_id"])
    if "tool_calls" in found:
        found["tool_calls"] = [{**call, "id": short(call["id"])} for call in found["tool_calls"]]
    return found


def short(told: str) -> str:
    """Return an id of nine letters and digits: itself, or the same one for the same id each time."""
    return told if NINE.fullmatch(told) else hashlib.sha256(told.encode()).hexdigest()[:9]


def effort(body: dict[str, Any], name: str) -> None:
    """Put the wish how much to think in the upstream's word."""
    word = body.get("reasoning_effort")
    if word is None:
        return
    if name == "deepseek" and word == "none":
        del body["reasoning_effort"]
        body["thinking"] = {"type": "disabled"}
    else:
        body["reasoning_effort"] = EFFORTS.get(name, {}).get(word, word)
