"""Google's Gemini: `streamGenerateContent?alt=sse`.

The assistant is called `model` here, a system turn stands apart, and a tool's result is the user's and goes by the tool's name.
The key is in a header, never in the address. A plain chat asks for plain text: JSON only when the caller wanted JSON. The stream
has no closing event: it is whole when it ended with a finish reason said.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hybr.server.errors import RequestError
from hybr.server.providers import content
from hybr.server.providers.base import Model
from hybr.server.providers.dialect import BrokenError, Question, Reader, count, spent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybr.server.providers.base import Call
    from hybr.server.secret import Secret
    from hybr.server.upstreams import Upstream

SEEDS = 2**31  # a signed 32-bit number
NAMES = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
BUDGETS = {**content.BUDGETS, "high": 24576, "xhigh": 24576, "max": 24576}  # the most that all of 2.5 take
LEVELS = {"none": "minimal", "xhigh": "high", "max": "high"}  # what 3 and later have no word for
LEVELLED = re.compile(r"gemini-([3-9]|\d\d)\b.*")
UNSIGNED = "skip_thought_signature_validator"  # Google's word for a call that another model made
FILTERED = {"SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY"}


class Gemini:
    """The dialect."""

    listing = "/models?pageSize=200"

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    def headers(self, key: Secret | None) -> dict[str, str]:
        """Return the key in its header."""
        return {"x-goog-api-key": key.reveal()} if key else {}

    def question(self, call: Call, model: str) -> Question:
        """Return the path, which names the model, and the body."""
        content.refuse(call, self.upstream.name, "logit_bias", "logprobs", "top_logprobs", "verbosity")
        content.one_at_a_time(call, self.upstream.name)
        content.check_images(call, remote=self.upstream.remote_images)
        body: dict[str, Any] = {"contents": turns(call, signed=bool(LEVELLED.fullmatch(model)))}
        if parts := list(systems(call)):
            body["systemInstruction"] = {"parts": parts}
        if settings := config(call, model):
            body["generationConfig"] = settings
        return Question(f"/models/{quote(model, safe='')}:streamGenerateContent?alt=sse", body | tooling(call))

    def reader(self, model: str) -> Reader:
        """Return a reader."""
        return Candidates(model)

    def embedding(self, call: Call, model: str) -> Question:
        """Return the path and one request for each text."""
        if not all(isinstance(text, str) for text in call.body["input"]):
            raise RequestError(f"{self.upstream.name} takes texts, not token ids", code="unsupported", field="input")
        size = {"outputDimensionality": call.body["dimensions"]} if "dimensions" in call.body else {}
        asked = [{"model": f"models/{model}", "content": {"parts": [{"text": text}]}, **size} for text in call.body["input"]]
        return Question(f"/models/{quote(model, safe='')}:batchEmbedContents", {"requests": asked})

    def embedded(self, body: Any) -> tuple[list[list[float]], int]:
        """Return the vectors."""
        spent = count((body.get("usageMetadata") or {}).get("promptTokenCount"))
        return [content.vector(entry["values"]) for entry in body["embeddings"]], spent

    def counting(self, call: Call, model: str) -> Question:
        """Return the path and the whole request, whose system turns and tools count too."""
        asked = {"model": f"models/{model}", **self.question(call, model).body}
        return Question(f"/models/{quote(model, safe='')}:countTokens", {"generateContentRequest": asked})

    def counted(self, body: Any) -> int:
        """Return the tokens."""
        return content.tokens(body["totalTokens"])

    def listed(self, body: Any) -> list[Model]:
        """Return the models that generate content."""
        entries = [entry for entry in body["models"] if "generateContent" in entry.get("supportedGenerationMethods", ())]
        return [self._model(entry, entry["name"].removeprefix("models/")) for entry in entries]

    def _model(self, entry: dict[str, Any], name: str) -> Model:
        shape = self.upstream
        context = count(entry.get("inputTokenLimit")) or shape.context
        title = str(entry.get("displayName") or name)[:100]
        able = {"tools": shape.tools, "images": shape.images, "prefill": bool(shape.prefill)}
        output = count(entry.get("outputTokenLimit"))
        return Model(f"{shape.name}/{name}", title, context, shape.name, output=output, **able)

    def model(self, name: str) -> Model:
        """Return a model of which nothing but the name is known."""
        return self._model({}, name)


def systems(call: Call) -> Iterator[dict[str, str]]:
    """Yield the system turns as parts."""
    for index, message in enumerate(call.body["messages"]):
        if message["role"] in {"system", "developer"} and (
            text := content.plain(message["content"], f"messages[{index}].content")
        ):
            yield {"text": text}


def turns(call: Call, *, signed: bool = False) -> list[dict[str, Any]]:
    """Return the conversation, turns of one role joined; `signed` for a model that refuses unsigned calls."""
    found: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for index, message in enumerate(call.body["messages"]):
        if message["role"] in {"system", "developer"}:
            continue
        role = "model" if message["role"] == "assistant" else "user"
        parts = list(parts_of(message, f"messages[{index}]", names))
        if signed:
            sign(parts)
        if found and found[-1]["role"] == role:
            found[-1]["parts"] += parts
        elif parts:
            found.append({"role": role, "parts": parts})
    if not found:
        raise RequestError("there is nothing to answer: add a user's message", code="empty_messages", field="messages")
    return found


def parts_of(message: dict[str, Any], where: str, names: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield one message's parts. `names` keeps what the calls' ids stand for: a result goes by its tool's name here."""
    if message["role"] == "tool":
        name = names.get(str(message.get("tool_call_id")))
        if name is None:
            field = f"{where}.tool_call_id"
            raise RequestError(f"{field} is the id of no tool call before it", field=field)
        result = content.plain(message["content"], f"{where}.content")
        yield {"functionResponse": {"name": name, "response": {"result": result}}}
        return
    for place, part in enumerate(content.parts(content.spoken(message))):
        if part["type"] == "text":
            yield {"text": part["text"]}
            continue
        field = f"{where}.content[{place}].image_url.url"
        image = content.image(part, field)
        if isinstance(image, str):
            raise RequestError(f"{field}: this provider gets images as data: URLs only", code="unsupported", field=field)
        yield {"inlineData": {"mimeType": image[0], "data": image[1]}}
    for told, name, arguments, call in content.calls(message, where):
        names[told] = name
        yield {"functionCall": {"name": name, "args": arguments}} | signature(call)


def signature(call: dict[str, Any]) -> dict[str, str]:
    """Return the thought's signature that came with a call: without it the newer models refuse their own call."""
    extra = call.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    found = google.get("thought_signature") if isinstance(google, dict) else None
    return {"thoughtSignature": found} if isinstance(found, str) else {}


def sign(parts: list[dict[str, Any]]) -> None:
    """Say of a turn's first call, where it has no signature, that it comes from elsewhere; the others beside it need none."""
    first = next((part for part in parts if "functionCall" in part), None)
    if first is not None and "thoughtSignature" not in first:
        first["thoughtSignature"] = UNSIGNED


def thinking(call: Call, model: str) -> dict[str, Any]:
    """Return how much to think: a level for 3 and later, tokens for those before."""
    effort, budget = call.body.get("reasoning_effort"), call.body.get("reasoning_budget")
    if effort is None and budget is None:
        return {}
    if LEVELLED.fullmatch(model):
        word = effort or (content.effort(budget) if budget else "")  # empty: as much as it likes
        level = {"thinkingLevel": LEVELS.get(word, word)} if word else {}
        return {"thinkingConfig": {**level, "includeThoughts": word != "none"}}
    tokens = (budget or -1) if budget is not None else BUDGETS[effort or "medium"]  # -1: as much as it likes
    return {"thinkingConfig": {"thinkingBudget": tokens, "includeThoughts": tokens != 0}}


def config(call: Call, model: str) -> dict[str, Any]:
    """Return the settings under their names here."""
    found = {there: call.body[here] for here, there in NAMES.items() if here in call.body}
    if most := content.most(call):
        found["maxOutputTokens"] = most
    if "seed" in call.body:
        found["seed"] = call.body["seed"] % SEEDS
    if stops := content.stops(call):
        found["stopSequences"] = stops
    found |= thinking(call, model)
    kind, schema = content.schema(call)
    if kind != "text":
        found["responseMimeType"] = "application/json"
    if schema is not None:
        found["responseJsonSchema"] = schema
    return found


def tooling(call: Call) -> dict[str, Any]:
    """Return the tools and which of them may be used."""
    tools = [
        {"name": one["name"]}
        | ({"description": one["description"]} if one.get("description") else {})
        | ({"parametersJsonSchema": one["parameters"]} if one.get("parameters") else {})
        for one in content.functions(call)
    ]
    if not tools:
        return {}
    choice = content.choice(call)
    body: dict[str, Any] = {"tools": [{"functionDeclarations": tools}]}
    if choice is not None:
        only = {"allowedFunctionNames": [choice[1:]]} if choice.startswith("=") else {}
        body["toolConfig"] = {"functionCallingConfig": {"mode": MODES.get(choice, "ANY"), **only}}
    return body


class Candidates(Reader):
    """Reads the stream of candidates, each event with any number of parts."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._calls = 0

    def read(self, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield what one event says."""
        if event.get("error"):
            raise BrokenError(event["error"].get("status", ""))
        if given := event.get("usageMetadata"):
            thoughts, cached = count(given.get("thoughtsTokenCount")), count(given.get("cachedContentTokenCount"))
            answer = count(given.get("candidatesTokenCount")) + thoughts
            self.usage = spent(count(given.get("promptTokenCount")), answer, cached, thoughts)
        if (event.get("promptFeedback") or {}).get("blockReason"):
            self.finish = "content_filter"
        for candidate in event.get("candidates") or ():
            if candidate.get("index", 0) != 0:
                continue
            for part in (candidate.get("content") or {}).get("parts") or ():
                yield from self._part(part)
            if reason := candidate.get("finishReason"):
                self.finish = self._end(reason)

    def _part(self, part: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if isinstance(part.get("text"), str):
            yield self.chunk({"reasoning_content" if part.get("thought") is True else "content": part["text"]})
        elif call := part.get("functionCall"):
            yield self.chunk({"tool_calls": [self._tool(call, part.get("thoughtSignature"))]})

    def _tool(self, call: dict[str, Any], signed: object) -> dict[str, Any]:
        function = {"name": str(call["name"]), "arguments": content.dump(call.get("args") or {})}
        told = str(call.get("id") or f"call_{secrets.token_hex(8)}")
        found: dict[str, Any] = {"index": self._calls, "id": told, "type": "function", "function": function}
        if isinstance(signed, str):
            found["extra_content"] = {"google": {"thought_signature": signed}}
        self._calls += 1
        return found

    def _end(self, reason: str) -> str:
        if reason == "STOP":
            return "tool_calls" if self._calls else "stop"
        if reason == "MAX_TOKENS":
            return "length"
        if reason in FILTERED:
            return "content_filter"
        raise BrokenError(reason)
