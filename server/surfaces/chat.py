"""OpenAI's chat completions: our own inner form, so that chunks pass as they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hybr.server import chat
from hybr.server.spell import spell

if TYPE_CHECKING:
    from hybr.server.errors import HybrError
    from hybr.server.providers.base import Call, Ending

DONE = b"data: [DONE]\n\n"


QUOTE = json.encoder.encode_basestring_ascii
PLAIN = 5  # members of a chunk that `Reader.chunk` makes: id, object, created, model, choices
PLAIN_CHOICE = 3  # index, delta, finish_reason


def frame(value: Any) -> bytes:
    """Return a JSON value as an event."""
    return b"data: %b\n\n" % spell(value)


def text(chunk: dict[str, Any]) -> bytes | None:
    """Return a chunk of nothing but text as an event, None for any other; what nearly every chunk is, at a third of the cost."""
    choices = chunk["choices"]
    choice = choices[0]
    delta = choice["delta"]
    if (
        len(choices) != 1
        or len(chunk) != PLAIN
        or len(choice) != PLAIN_CHOICE
        or len(delta) != 1
        or "content" not in delta
        or choice["finish_reason"]
    ):
        return None
    return (
        f'data: {{"id":{QUOTE(chunk["id"])},"object":"chat.completion.chunk","created":{chunk["created"]},'
        f'"model":{QUOTE(chunk["model"])},"choices":[{{"index":0,"delta":{{"content":{QUOTE(delta["content"])}}},'
        '"finish_reason":null}]}\n\n'
    ).encode()


class Chat:
    """The surface."""

    def read(self, raw: bytes) -> tuple[Call, Told]:
        """Return the checked request and its voice."""
        call = chat.parse(raw, "")
        return call, Told(usage=bool((call.body.get("stream_options") or {}).get("include_usage")))

    def refusal(self, error: HybrError) -> dict[str, Any]:
        """Return the envelope."""
        return error.envelope()


class Told:
    """The voice. `usage` says whether a stream's client wants the usage at its end."""

    beat = b": waiting\n\n"

    def __init__(self, *, usage: bool) -> None:
        self.usage = usage

    def events(self, chunks: list[dict[str, Any]]) -> bytes:
        """Return chunks as events."""
        return b"".join([text(chunk) or frame(chunk) for chunk in chunks])

    def closing(self, ending: Ending, usage: dict[str, Any] | None) -> bytes:
        """Return the finish reason, the usage, and `[DONE]`."""
        head = ending.head()
        last = frame({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": ending.finish}]})
        if self.usage and usage is not None:
            last += frame({**head, "choices": [], "usage": usage, **ending.extra})
        return last + DONE

    def failure(self, error: HybrError) -> bytes:
        """Return the error event. No `[DONE]` follows it."""
        return frame(error.envelope())

    def plain(self, chunks: list[dict[str, Any]], ending: Ending, usage: dict[str, Any] | None) -> dict[str, Any]:
        """Return the chat completion that the chunks make."""
        message, logprobs = together(chunks)
        choice = {"index": 0, "message": message, "finish_reason": ending.finish}
        if logprobs:
            choice["logprobs"] = {"content": logprobs}
        return {
            **ending.head(),
            "object": "chat.completion",
            "choices": [choice],
            **({"usage": usage} if usage is not None else {}),
            **ending.extra,
        }


def together(chunks: list[dict[str, Any]]) -> tuple[dict[str, Any], list[Any]]:
    """Return the message that chunks make, and its log-probabilities."""
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    texts: dict[str, list[str]] = {"content": []}
    tools: dict[int, dict[str, Any]] = {}
    logprobs: list[Any] = []
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        delta = choice["delta"]
        for name in ("content", "reasoning_content", "reasoning_signature", "refusal"):
            if said := delta.get(name):
                texts.setdefault(name, []).append(said)
        for piece in delta.get("tool_calls") or ():
            add_tool(tools, piece)
        if choice.get("logprobs"):
            logprobs += choice["logprobs"]["content"]
    message |= {name: "".join(said) for name, said in texts.items()}
    if tools:
        message["tool_calls"] = [tools[index] for index in sorted(tools)]
    return message, logprobs


def add_tool(tools: dict[int, dict[str, Any]], piece: dict[str, Any]) -> None:
    """Take one piece of a tool call: the index says of which, the name comes once, the arguments bit by bit."""
    empty = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
    found = tools.setdefault(piece["index"], empty)
    found.update({name: piece[name] for name in ("id", "extra_content") if name in piece})
    for name, said in piece["function"].items():
        found["function"][name] += said
