"""OpenAI's chat completions, as OpenAI and everybody who imitates it speak it.

What goes out is the checked request with the names that this upstream knows; what comes back is read and put together anew from
the fields we know, because an upstream's bytes are data: what a client might take for more than an answer ends here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hybr.server.errors import RequestError
from hybr.server.providers import content
from hybr.server.providers.base import Model
from hybr.server.providers.dialect import WORD, BrokenError, Question, Reader, count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hybr.server.providers.base import Call
    from hybr.server.secret import Secret
    from hybr.server.upstreams import Upstream

CHAT = re.compile(r"(gpt-|chatgpt-|o\d).*")
OTHER = re.compile(r".*(audio|realtime|image|tts|transcribe|search|embedding|moderation|instruct|codex|-pro\b|deep-research).*")
NO_TOP_K = {"openai", "azure", "groq", "mistral", "deepseek"}
FAILED = {"error", "insufficient_system_resource"}  # OpenRouter's and DeepSeek's words for an answer that broke off
ENDS = {"eos": "stop", "model_length": "length"}  # what Together and Mistral call OpenAI's


class OpenAI:
    """The dialect, with the upstream's peculiarities."""

    listing = "/models"

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    def headers(self, key: Secret | None) -> dict[str, str]:
        """Return the key as a bearer, or in the header the upstream wants."""
        if key is None:
            return {}
        return {self.upstream.auth: key.reveal()} if self.upstream.auth else {"authorization": f"Bearer {key.reveal()}"}

    def question(self, call: Call, model: str) -> Question:
        """Return the body with this upstream's names."""
        shape = self.upstream
        content.check_images(call, remote=shape.remote_images)
        if shape.name in NO_TOP_K:
            content.refuse(call, shape.name, "top_k")
        body = {**call.body, "model": model, "stream": True, "stream_options": {"include_usage": True}}
        most = [body.pop(name) for name in ("max_tokens", "max_completion_tokens") if name in body]
        if most:
            body[shape.limit] = most[-1]
        if (budget := body.pop("reasoning_budget", None)) is not None:
            body["reasoning_effort"] = content.effort(budget)
        body["messages"] = [plainer(message, elder=shape.name != "openai") for message in body["messages"]]
        beta = self.prefilled(body)
        for name in shape.drop:
            body.pop(name, None)
        if shape.rename:
            body = {shape.rename.get(name, name): value for name, value in body.items()}
        return Question("/chat/completions", body, beta)

    def prefilled(self, body: dict[str, Any]) -> bool:
        """Have an assistant's turn that comes last gone on from, in this upstream's way; returns whether that is its beta's."""
        last, way = body["messages"][-1], self.upstream.prefill
        if last["role"] != "assistant" or last.get("tool_calls"):
            return False
        if way in {"prefix", "beta"}:
            body["messages"][-1] = {**last, "prefix": True}
        elif way == "continue":
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        return way == "beta"

    def reader(self, model: str) -> Reader:
        """Return a reader."""
        return Chunks(model)

    def embedding(self, call: Call, model: str) -> Question:
        """Return the body. The vectors come as numbers, whatever the client wants of us."""
        return Question("/embeddings", {**call.body, "model": model, "encoding_format": "float"})

    def embedded(self, body: Any) -> tuple[list[list[float]], int]:
        """Return the vectors."""
        entries = sorted(body["data"], key=lambda entry: entry["index"])
        return [content.vector(entry["embedding"]) for entry in entries], count((body.get("usage") or {}).get("prompt_tokens"))

    def counting(self, call: Call, model: str) -> Question:  # noqa: ARG002
        """Refuse: this API counts only what it answers."""
        text = f"{self.upstream.name} cannot count tokens before an answer; ask with max_tokens 1 and read the usage"
        raise RequestError(text, code="unsupported", field="model")

    def counted(self, body: Any) -> int:
        """Return nothing: nothing was asked for."""
        raise TypeError(body)

    def listed(self, body: Any) -> list[Model]:
        """Return the models, with what OpenRouter and others add."""
        names = [entry for entry in body["data"] if self.upstream.fits(entry["id"])]
        if self.upstream.name == "openai":  # lists everything it has, and says of none what it is for
            names = [entry for entry in names if CHAT.fullmatch(entry["id"]) and not OTHER.fullmatch(entry["id"])]
        return [self._model(entry) for entry in names]

    def _model(self, entry: dict[str, Any]) -> Model:
        shape, name = self.upstream, entry["id"]
        context = next((count(entry.get(word)) for word in ("context_length", "max_model_len") if count(entry.get(word))), 0)
        takes = (entry.get("architecture") or {}).get("input_modalities") or ()
        able = entry.get("supported_parameters") or ()
        return Model(
            f"{shape.name}/{name}",
            str(entry.get("name") or name)[:100],
            context or shape.context,
            shape.name,
            prefill=bool(shape.prefill),
            tools=shape.tools or "tools" in able,
            images=shape.images or "image" in takes,
            created=count(entry.get("created")),
            output=count((entry.get("top_provider") or {}).get("max_completion_tokens")),
        )

    def model(self, name: str) -> Model:
        """Return a model of which nothing but the name is known."""
        return self._model({"id": name})


def plainer(message: dict[str, Any], *, elder: bool) -> dict[str, Any]:
    """Return the message without thoughts, which nobody takes back here, and with the `elder` name for `developer`."""
    if elder and message["role"] == "developer":
        message = {**message, "role": "system"}
    if "reasoning_content" in message or "reasoning_signature" in message:
        return {name: value for name, value in message.items() if name not in {"reasoning_content", "reasoning_signature"}}
    return message


class Chunks(Reader):
    """Reads chunks and makes them anew."""

    def read(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """Give the event's chunk when it says anything."""
        text = plain(event)
        return self._read(event) if text is None else (self.chunk({"content": text}),)

    def _read(self, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if event.get("error"):
            error = event["error"]
            raise BrokenError((error.get("type") or error.get("code")) if isinstance(error, dict) else "")
        if isinstance(event.get("usage"), dict):
            self.usage = usage(event["usage"])
        if isinstance(event.get("timings"), dict):  # llama.cpp's rates, which the page shows
            self.extra = {"timings": numbers(event["timings"])}
        for choice in event.get("choices") or ():
            if choice.get("index", 0) != 0:
                continue
            if finish := choice.get("finish_reason"):
                self._finish(str(finish))
            delta = clean(choice.get("delta") or {})
            logprobs = choice.get("logprobs")
            if delta or logprobs:
                yield self.chunk(delta) if not logprobs else self._with(delta, logprobs)

    def _with(self, delta: dict[str, Any], logprobs: Any) -> dict[str, Any]:
        chunk = self.chunk(delta)
        chunk["choices"][0]["logprobs"] = {"content": list(logprobs["content"] or ())}
        return chunk

    def _finish(self, finish: str) -> None:
        if finish in FAILED or not WORD.fullmatch(finish):
            raise BrokenError(finish)
        self.finish = ENDS.get(finish, finish)


def plain(event: dict[str, Any]) -> str | None:
    """Return the text of an event that says nothing but a piece of text, as nearly all do; None for any other."""
    choices = event.get("choices")
    if not choices or len(choices) != 1 or event.get("error") or event.get("usage") or event.get("timings"):
        return None
    choice = choices[0]
    delta = choice.get("delta")
    if not delta or len(delta) != 1 or choice.get("finish_reason") or choice.get("logprobs") or choice.get("index", 0) != 0:
        return None
    text = delta.get("content")
    return text if isinstance(text, str) else None


def clean(delta: dict[str, Any]) -> dict[str, Any]:
    """Return the delta's known fields."""
    found: dict[str, Any] = {}
    if delta.get("role") == "assistant":
        found["role"] = "assistant"
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
        found["tool_calls"] = [tool(piece, place) for place, piece in enumerate(delta["tool_calls"])]
    return found


def spoken(parts: list[Any]) -> dict[str, Any]:
    """Return the texts and thoughts of a content in parts."""
    texts = "".join(str(part["text"]) for part in parts if part.get("type") == "text")
    thoughts = [piece for part in parts if part.get("type") == "thinking" for piece in part["thinking"]]
    found = {"content": texts, "reasoning_content": "".join(str(piece.get("text") or "") for piece in thoughts)}
    return {name: value for name, value in found.items() if value}


def tool(piece: dict[str, Any], place: int) -> dict[str, Any]:
    """Return one piece of a tool call; who leaves the index out sends whole calls."""
    index = piece.get("index")
    function = piece.get("function") or {}
    said = {word: str(function[word]) for word in ("name", "arguments") if function.get(word) is not None}
    found: dict[str, Any] = {"index": index if isinstance(index, int) else place, "function": said}
    if piece.get("id"):
        found |= {"id": str(piece["id"]), "type": "function"}
    return found


def usage(given: dict[str, Any]) -> dict[str, Any]:
    """Return the counts, their details, and OpenRouter's cost in dollars."""
    words = ("prompt_tokens", "completion_tokens", "total_tokens")
    found: dict[str, Any] = {word: count(given.get(word)) for word in words}
    for word in ("prompt_tokens_details", "completion_tokens_details"):
        if isinstance(given.get(word), dict):
            found[word] = {name: value for name, value in given[word].items() if count(value)}
    cost = given.get("cost")
    return {**found, "cost": cost} if isinstance(cost, int | float) and not isinstance(cost, bool) and cost >= 0 else found


def numbers(given: dict[str, Any]) -> dict[str, float]:
    """Return what in `given` is a number."""
    return {name: value for name, value in given.items() if isinstance(value, int | float)}
