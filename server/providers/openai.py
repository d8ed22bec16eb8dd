"""OpenAI's chat completions, as OpenAI and everybody who imitates it speak it.

What goes out is the checked request with the names that this upstream knows; what comes back is read and put together anew from
the fields we know, because an upstream's bytes are data: what a client might take for more than an answer ends here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hybr.server.errors import RequestError
from hybr.server.providers import content, manners
from hybr.server.providers.base import Model
from hybr.server.providers.dialect import WORD, BrokenError, Question, Reader, count
from hybr.server.providers.pieces import Calls, clean, numbers, usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hybr.server.providers.base import Call
    from hybr.server.secret import Secret
    from hybr.server.upstreams import Upstream

CHAT = re.compile(r"(gpt-|chatgpt-|o\d).*")
OTHER = re.compile(r".*(audio|realtime|image|tts|transcribe|search|embedding|moderation|instruct|codex|-pro\b|deep-research).*")
NO_TOP_K = {"openai", "azure", "groq", "mistral", "deepseek"}
DEAF = re.compile(r"(.*/)?(distil-)?whisper-.*|(.*[/-])?(tts|ocr|moderation|transcribe)(-.*)?")
WINDOWS = ("context_length", "max_model_len", "context_window", "max_context_length", "n_ctx", "n_ctx_train")
TALKS = {"openai", "azure", "openrouter"}  # who can be told to be brief
FAILED = {"error", "insufficient_system_resource", "abort"}  # OpenRouter's, DeepSeek's and vLLM's words for what broke off
ENDS = {"eos": "stop", "eos_token": "stop", "stop_sequence": "stop", "model_length": "length"}  # what others call OpenAI's


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
        manners.effort(body, shape.name)
        body["messages"] = [manners.message(message, shape.name) for message in body["messages"]]
        if not body.get("tools"):
            body.pop("parallel_tool_calls", None)  # OpenAI refuses it without tools
        if shape.name not in TALKS:
            content.refuse(call, shape.name, "verbosity")
            body.pop("verbosity", None)
        beta = self.prefilled(body)
        for name in shape.drop:
            body.pop(name, None)
        return Question("/chat/completions", self.renamed(body), beta)

    def renamed(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a body under this upstream's names."""
        return {self.upstream.rename.get(name, name): value for name, value in body.items()}

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
        return Question("/embeddings", self.renamed({**call.body, "model": model, "encoding_format": "float"}))

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
        names = [entry for entry in body["data"] if self.upstream.fits(entry["id"]) and speaks(entry)]
        if self.upstream.name == "openai":  # lists everything it has, and says of none what it is for
            names = [entry for entry in names if CHAT.fullmatch(entry["id"]) and not OTHER.fullmatch(entry["id"])]
        return [self._model(entry) for entry in names]

    def _model(self, entry: dict[str, Any]) -> Model:
        shape, name = self.upstream, entry["id"]
        told = {**(entry.get("meta") or {}), **entry}  # llama.cpp says it there
        context = next((count(told.get(word)) for word in WINDOWS if count(told.get(word))), 0)
        takes = (entry.get("architecture") or {}).get("input_modalities") or ()
        able = entry.get("supported_parameters") or ()
        words = entry.get("capabilities") or {}  # Mistral's, by name; others' are a list of words
        can = {word for word, good in words.items() if good is True} if isinstance(words, dict) else set(map(str, words))
        return Model(
            f"{shape.name}/{name}",
            str(entry.get("name") or name)[:100],
            context or shape.context,
            shape.name,
            prefill=bool(shape.prefill),
            tools=shape.tools or "tools" in able or "function_calling" in can,
            images=shape.images or "image" in takes or "vision" in can,
            created=count(entry.get("created")),
            output=count((entry.get("top_provider") or entry).get("max_completion_tokens")),
            embeds="embed" in name,
        )

    def model(self, name: str) -> Model:
        """Return a model of which nothing but the name is known."""
        return self._model({"id": name})


def speaks(entry: dict[str, Any]) -> bool:
    """Say whether a listed model answers or makes vectors, and does not listen, draw or judge only."""
    able = entry.get("capabilities")
    silent = isinstance(able, dict) and able.get("completion_chat") is False and "embed" not in entry["id"]
    return entry.get("active") is not False and not silent and not DEAF.fullmatch(entry["id"])


class Chunks(Reader):
    """Reads chunks and makes them anew."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._calls = Calls()

    def read(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """Give the event's chunk when it says anything."""
        text = plain(event)
        return self._read(event) if text is None else (self.chunk({"content": text}),)

    def _read(self, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
        groq = event.get("x_groq") or {}  # which tells its usage and its failures here
        if error := event.get("error") or groq.get("error") or (event.get("object") == "error" and event):  # the last is vLLM's
            raise BrokenError((error.get("type") or error.get("code")) if isinstance(error, dict) else "")
        for given in (groq.get("usage"), event.get("usage")):
            if isinstance(given, dict):
                self.usage = usage(given)
        if isinstance(event.get("timings"), dict):  # llama.cpp's rates, which the page shows
            self.extra = {"timings": numbers(event["timings"])}
        for choice in event.get("choices") or ():
            if choice.get("index", 0) != 0:
                continue
            raw = choice.get("delta") or {}
            delta = clean(raw, self._calls)
            logprobs = (choice.get("logprobs") or {}).get("content")  # others than OpenAI's are nothing a client can read
            if delta or logprobs or (raw.get("role") and not self.begun):
                yield self.chunk(delta) if not logprobs else self._with(delta, logprobs)
            if finish := choice.get("finish_reason"):  # behind the delta, whose calls make the end another
                self._finish(str(finish))
                if rest := self._calls.rest():
                    yield self.chunk({"tool_calls": rest})

    def _with(self, delta: dict[str, Any], logprobs: Any) -> dict[str, Any]:
        chunk = self.chunk(delta)
        chunk["choices"][0]["logprobs"] = {"content": list(logprobs)}
        return chunk

    def _finish(self, finish: str) -> None:
        if finish in FAILED or not WORD.fullmatch(finish):
            raise BrokenError(finish)
        self.finish = "tool_calls" if finish == "stop" and self._calls.any else ENDS.get(finish, finish)


def plain(event: dict[str, Any]) -> str | None:
    """Return the text of an event that says nothing but a piece of text, as nearly all do; None for any other."""
    choices = event.get("choices")
    if not choices or len(choices) != 1 or event.get("error") or event.get("usage"):
        return None
    if event.get("timings") or event.get("x_groq"):
        return None
    choice = choices[0]
    delta = choice.get("delta")
    if not delta or len(delta) != 1 or choice.get("finish_reason") or choice.get("logprobs") or choice.get("index", 0) != 0:
        return None
    text = delta.get("content")
    return text if isinstance(text, str) else None
