"""Anthropic's Messages API.

System turns move out of the conversation, tool results move into the user's turns, turns of one role are joined, and
`max_tokens`, which this API wants, is filled in. `seed` is left out: OpenAI calls it a best effort, and here there is none. What
else this API cannot say is refused by name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hybr.server.errors import RequestError
from hybr.server.providers import content
from hybr.server.providers.base import Model
from hybr.server.providers.dialect import BrokenError, Question, Reader, count, spent
from hybr.server.providers.known import facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybr.server.providers.base import Call
    from hybr.server.secret import Secret
    from hybr.server.upstreams import Upstream

VERSION = "2023-06-01"
VERSION_OF = re.compile(r"(\d+)(?:[-.](\d{1,2}))?(?!\d)")
MOST = 8192  # tokens of an answer whose caller set no bound: every model since Claude 3.5 gives so many
UNKNOWN = ("presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "verbosity")
COUNTED = {"model", "messages", "system", "tools", "tool_choice", "thinking", "output_config"}
ENDS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class Anthropic:
    """The dialect."""

    listing = "/models?limit=100"

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    def headers(self, key: Secret | None) -> dict[str, str]:
        """Return the key in its header, and the API's version."""
        return {"anthropic-version": VERSION} | ({"x-api-key": key.reveal()} if key else {})

    def question(self, call: Call, model: str) -> Question:
        """Return the body."""
        name = self.upstream.name
        content.refuse(call, name, *UNKNOWN)
        content.check_images(call, remote=self.upstream.remote_images)
        body: dict[str, Any] = {"model": model, "stream": True, "max_tokens": content.most(call) or most(name, model)}
        if system := "\n\n".join(filter(None, systems(call))):
            body["system"] = system
        body["messages"] = turns(call)
        body |= {word: call.body[word] for word in ("temperature", "top_p", "top_k") if word in call.body}
        if body.get("temperature", 0) > 1:
            raise RequestError(f"{name} takes a temperature from 0 to 1", code="unsupported", field="temperature")
        if stops := content.stops(call):
            body["stop_sequences"] = stops
        return Question("/messages", body | tooling(call) | output(call, name, model) | thinking(call, model, body["max_tokens"]))

    def reader(self, model: str) -> Reader:
        """Return a reader."""
        return Blocks(model)

    def embedding(self, call: Call, model: str) -> Question:  # noqa: ARG002
        """Refuse: Anthropic makes no vectors."""
        raise RequestError(f"{self.upstream.name} has no embeddings", code="unsupported", field="model")

    def embedded(self, body: Any) -> tuple[list[list[float]], int]:
        """Return nothing: nothing was asked for."""
        raise TypeError(body)

    def counting(self, call: Call, model: str) -> Question:
        """Return the path and what of the body is counted."""
        body = self.question(call, model).body
        return Question("/messages/count_tokens", {name: value for name, value in body.items() if name in COUNTED})

    def counted(self, body: Any) -> int:
        """Return the tokens."""
        return content.tokens(body["input_tokens"])

    def listed(self, body: Any) -> list[Model]:
        """Return the models; all of them chat."""
        return [self._model(entry) for entry in body["data"] if self.upstream.fits(entry["id"])]

    def _model(self, entry: dict[str, Any]) -> Model:
        shape = self.upstream
        title = str(entry.get("display_name") or entry["id"])[:100]
        context = count(entry.get("max_input_tokens")) or shape.context
        able = {"tools": shape.tools, "images": shape.images, "prefill": bool(shape.prefill) and not newer(entry["id"])}
        return Model(f"{shape.name}/{entry['id']}", title, context, shape.name, output=count(entry.get("max_tokens")), **able)

    def model(self, name: str) -> Model:
        """Return a model of which nothing but the name is known."""
        return self._model({"id": name})


def newer(model: str, since: tuple[int, int] = (4, 6)) -> bool:
    """Say whether a model is of `since` or later: from 4.6 on they continue no beginning of an answer, and think as they like."""
    found = VERSION_OF.search(model)
    return found is not None and (int(found[1]), int(found[2] or 0)) >= since


def most(name: str, model: str) -> int:
    """Return the tokens of an answer whose caller set no bound: no more than the model can say."""
    return min(MOST, int(facts(name, model).get("output", MOST)))


def thinking(call: Call, model: str, bound: int) -> dict[str, Any]:
    """Return how much to think: in the caller's tokens, or in those that OpenAI's word stands for, beside the answer's."""
    effort, budget = call.body.get("reasoning_effort"), call.body.get("reasoning_budget")
    if effort in {None, "none"} and budget is None:
        return {}
    if newer(model):
        return {"thinking": {"type": "adaptive", **({"display": "summarized"} if newer(model, (4, 7)) else {})}}
    if budget:
        return {"thinking": {"type": "enabled", "budget_tokens": budget}}
    tokens = content.BUDGETS[effort or "medium"]
    return {"thinking": {"type": "enabled", "budget_tokens": tokens}, "max_tokens": bound + tokens}


def deep(call: Call, model: str) -> dict[str, Any]:
    """Return the word for how much to think, where there is one: older models get a number (`thinking`)."""
    effort = call.body.get("reasoning_effort")
    if effort in {None, "none"} or not newer(model):
        return {}
    words = {"minimal": "low", **({} if newer(model, (4, 7)) else {"xhigh": "high"})}
    return {"effort": words.get(effort, effort)}


def systems(call: Call) -> Iterator[str]:
    """Yield the texts of the system turns."""
    for index, message in enumerate(call.body["messages"]):
        if message["role"] in {"system", "developer"}:
            yield content.plain(message["content"], f"messages[{index}].content")


def turns(call: Call) -> list[dict[str, Any]]:
    """Return the conversation, turns of one role joined: a tool's result is a part of the user's turn."""
    found: list[dict[str, Any]] = []
    for index, message in enumerate(call.body["messages"]):
        if message["role"] in {"system", "developer"}:
            continue
        role = "assistant" if message["role"] == "assistant" else "user"
        blocks = list(blocks_of(message, f"messages[{index}]"))
        if found and found[-1]["role"] == role:
            found[-1]["content"] += blocks
        elif blocks:
            found.append({"role": role, "content": blocks})
    if not found:
        raise RequestError("there is nothing to answer: add a user's message", code="empty_messages", field="messages")
    if found[-1]["role"] == "assistant" and found[-1]["content"][-1]["type"] == "text":
        last = found[-1]["content"][-1]
        last["text"] = last["text"].rstrip() or "."  # the API refuses an answer's beginning that ends with a blank
    return found


def blocks_of(message: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """Yield one message's content blocks."""
    if message["role"] == "tool":
        told = message.get("tool_call_id")
        if not isinstance(told, str):
            raise RequestError(f"{where}.tool_call_id is missing", code="missing", field=f"{where}.tool_call_id")
        yield {"type": "tool_result", "tool_use_id": told, "content": content.plain(message["content"], f"{where}.content")}
        return
    for thought, signature in thoughts(message):
        if signature:  # a thought goes back with the signature it came with, or not at all
            yield {"type": "thinking", "thinking": thought, "signature": signature}
    for place, part in enumerate(content.parts(content.spoken(message))):
        if part["type"] == "text":
            yield {"type": "text", "text": part["text"]}
        else:
            yield {"type": "image", "source": source(content.image(part, f"{where}.content[{place}].image_url.url"))}
    for told, name, arguments, _ in content.calls(message, where):
        yield {"type": "tool_use", "id": told, "name": name, "input": arguments}


def thoughts(message: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a turn's thoughts with their signatures. Pairs are our own surface's: from a client's JSON there are none."""
    found = message.get("thoughts")
    if isinstance(found, list) and found and all(isinstance(one, tuple) for one in found):
        return found
    return [(str(message.get("reasoning_content") or ""), str(message.get("reasoning_signature") or ""))]


def source(image: tuple[str, str] | str) -> dict[str, str]:
    """Return where an image comes from."""
    if isinstance(image, str):
        return {"type": "url", "url": image}
    return {"type": "base64", "media_type": image[0], "data": image[1]}


def tooling(call: Call) -> dict[str, Any]:
    """Return the tools and which of them may be used."""
    tools = [
        {"name": one["name"], "input_schema": one.get("parameters") or {"type": "object"}}
        | ({"description": one["description"]} if one.get("description") else {})
        for one in content.functions(call)
    ]
    if not tools:
        return {}
    choice = content.choice(call)
    words: dict[str, dict[str, str]] = {"auto": {"type": "auto"}, "none": {"type": "none"}, "required": {"type": "any"}}
    single = call.body.get("parallel_tool_calls") is False and choice != "none"
    if choice is None and not single:
        return {"tools": tools}
    chosen = words.get(choice or "auto") or {"type": "tool", "name": str(choice)[1:]}
    return {"tools": tools, "tool_choice": {**chosen, **({"disable_parallel_tool_use": True} if single else {})}}


def output(call: Call, name: str, model: str) -> dict[str, Any]:
    """Return the wanted form of the answer, and how much work it is worth."""
    kind, schema = content.schema(call)
    if kind == "json_object":
        text = f"{name} wants a schema for JSON: use response_format.type json_schema"
        raise RequestError(text, code="unsupported", field="response_format.type")
    found = deep(call, model) | ({"format": {"type": "json_schema", "schema": schema}} if schema is not None else {})
    return {"output_config": found} if found else {}


class Blocks(Reader):
    """Reads the stream of content blocks."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._tools: dict[int, int] = {}  # a block's index to its place among the tool calls
        self._mute: set[int] = set()  # the calls that have said no arguments yet
        self._given: dict[str, int] = {}

    def read(self, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield what one event says; kinds that came later than this code say nothing."""
        kind = event["type"]
        if kind == "error":
            raise BrokenError(event["error"]["type"])
        if kind == "message_start":
            self._count(event["message"].get("usage") or {})
            yield self.chunk({"role": "assistant", "content": ""})
        elif kind == "content_block_start":
            yield from self._start(event["index"], event["content_block"])
        elif kind == "content_block_delta":
            yield from self._delta(event["index"], event["delta"])
        elif kind == "content_block_stop" and event["index"] in self._mute:  # a call without arguments is one with none
            yield self._arguments(event["index"], "{}")
        elif kind == "message_delta":
            self._count(event.get("usage") or {})
            if reason := event["delta"].get("stop_reason"):
                if reason not in ENDS:
                    raise BrokenError(reason)
                self.finish = ENDS[reason]
                if reason == "stop_sequence" and isinstance(event["delta"].get("stop_sequence"), str):
                    self.extra = {"stop_sequence": event["delta"]["stop_sequence"]}
        elif kind == "message_stop":
            self.over = True

    def _start(self, index: int, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if block["type"] == "tool_use":
            place = self._tools.setdefault(index, len(self._tools))
            self._mute.add(index)
            function = {"name": str(block["name"]), "arguments": ""}
            yield self.chunk({"tool_calls": [{"index": place, "id": str(block["id"]), "type": "function", "function": function}]})
        elif block["type"] == "text" and block.get("text"):
            yield self.chunk({"content": str(block["text"])})

    def _delta(self, index: int, delta: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if delta["type"] == "text_delta":
            yield self.chunk({"content": str(delta["text"])})
        elif delta["type"] == "thinking_delta":
            yield self.chunk({"reasoning_content": str(delta["thinking"])})
        elif delta["type"] == "signature_delta":
            yield self.chunk({"reasoning_signature": str(delta["signature"])})
        elif delta["type"] == "input_json_delta" and index in self._tools and delta["partial_json"]:
            yield self._arguments(index, str(delta["partial_json"]))

    def _arguments(self, index: int, said: str) -> dict[str, Any]:
        self._mute.discard(index)
        return self.chunk({"tool_calls": [{"index": self._tools[index], "function": {"arguments": said}}]})

    def _count(self, given: dict[str, Any]) -> None:
        """Take counts: the last word on each is the total so far. Cached tokens stand beside the input's, in OpenAI's within."""
        self._given |= {name: count(value) for name, value in given.items() if count(value)}
        cached = self._given.get("cache_read_input_tokens", 0)
        prompt = self._given.get("input_tokens", 0) + self._given.get("cache_creation_input_tokens", 0) + cached
        self.usage = spent(prompt, self._given.get("output_tokens", 0), cached)
