"""What the imitators of OpenAI stream, made into what OpenAI streams: deltas, tool calls, usage.

Each of them says some of it in a way of its own. A client's library adds up what it gets by OpenAI's rules (a role or an id that
comes twice is written twice, two calls of one number become one), so all of it is put right here and not left to the client.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

from hybr.server.providers.dialect import count


class Calls:
    """Which call each piece belongs to, numbered as they begin.

    Ollama gave every call of an answer the number 0, others give none or a new id with each piece: a call begins with a piece
    whose number is new, or whose id is another one and that names a function.
    """

    def __init__(self) -> None:
        self._begun: list[tuple[str, str]] = []  # id and name, by our number
        self._theirs: dict[int, int] = {}  # the upstream's number to ours
        self._mute: set[int] = set()  # those that have said no arguments yet

    @property
    def any(self) -> bool:
        """Whether a call has begun."""
        return bool(self._begun)

    def piece(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return a piece under our number: id and name come once, and the arguments as a text."""
        function = given.get("function") or {}
        told, name = str(given.get("id") or ""), str(function.get("name") or "")
        arguments = function.get("arguments")
        said = {} if arguments is None else {"arguments": arguments if isinstance(arguments, str) else json.dumps(arguments)}
        theirs = given.get("index")
        index = theirs if isinstance(theirs, int) and not isinstance(theirs, bool) else None
        if (ours := self._place(index, told, name)) is not None:
            if said.get("arguments"):
                self._mute.discard(ours)
            known = self._begun[ours]
            if name and not known[1]:
                self._begun[ours] = (known[0], name)
                said = {"name": name, **said}
            return {"index": ours, "function": said}
        ours = len(self._begun)
        told = told or f"call_{secrets.token_hex(8)}"
        self._begun.append((told, name))
        if not said.get("arguments"):
            self._mute.add(ours)
        if index is not None:
            self._theirs[index] = ours
        return {"index": ours, "id": told, "type": "function", "function": {"name": name, **said}}

    def rest(self) -> list[dict[str, Any]]:
        """Return what calls without arguments lack at the end: an empty text is no JSON, and clients read it as such."""
        silent, self._mute = sorted(self._mute), set()
        return [{"index": ours, "function": {"arguments": "{}"}} for ours in silent]

    def _place(self, index: int | None, told: str, name: str) -> int | None:
        """Return our number of the call that a piece goes on with, None for a piece that begins one."""
        if index is not None:
            ours = self._theirs.get(index)
        elif told:
            ours = next((place for place, (known, _) in enumerate(self._begun) if known == told), None)
        else:
            ours = len(self._begun) - 1 if self._begun and not name else None
        if ours is not None and told and name and told != self._begun[ours][0]:
            return None
        return ours


def clean(delta: dict[str, Any], calls: Calls) -> dict[str, Any]:
    """Return the delta's known fields but the role, which whoever makes the chunk says once."""
    found: dict[str, Any] = {}
    said = delta.get("content")
    if isinstance(said, str):
        found["content"] = said
    elif isinstance(said, list):  # Mistral's thinking models speak in parts
        found |= spoken(said)
    if isinstance(delta.get("refusal"), str):
        found["refusal"] = delta["refusal"]
    thought = delta.get("reasoning_content") or delta.get("reasoning")  # DeepSeek's and vLLM's name, OpenRouter's and Groq's
    if isinstance(thought, str):
        found["reasoning_content"] = thought
    if delta.get("tool_calls"):
        found["tool_calls"] = [calls.piece(piece) for piece in delta["tool_calls"]]
    return found


def spoken(parts: list[Any]) -> dict[str, Any]:
    """Return the texts and thoughts of a content in parts."""
    texts = "".join(str(part["text"]) for part in parts if part.get("type") == "text")
    thoughts = [piece for part in parts if part.get("type") == "thinking" for piece in part["thinking"]]
    found = {"content": texts, "reasoning_content": "".join(str(piece.get("text") or "") for piece in thoughts)}
    return {name: value for name, value in found.items() if value}


def usage(given: dict[str, Any]) -> dict[str, Any]:
    """Return the counts, their details, and OpenRouter's cost in dollars."""
    words = ("prompt_tokens", "completion_tokens", "total_tokens")
    found: dict[str, Any] = {word: count(given.get(word)) for word in words}
    for word in ("prompt_tokens_details", "completion_tokens_details"):
        if isinstance(given.get(word), dict):
            found[word] = {name: value for name, value in given[word].items() if count(value)}
    if hit := count(given.get("prompt_cache_hit_tokens")):  # DeepSeek's word
        found["prompt_tokens_details"] = {"cached_tokens": hit, **found.get("prompt_tokens_details", {})}
    cost = given.get("cost")
    return {**found, "cost": cost} if isinstance(cost, int | float) and not isinstance(cost, bool) and cost >= 0 else found


def numbers(given: dict[str, Any]) -> dict[str, float]:
    """Return what in `given` is a number."""
    return {name: value for name, value in given.items() if isinstance(value, int | float)}
