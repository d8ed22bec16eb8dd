"""The values that pass between the orchestrator, its runtimes and its callers.

Immutable all; `Chunk` is a tuple because one is made per token. Times are milliseconds, rates tokens per second, money
US dollars.
In JavaScript the same fields are camelCase (`page.convert`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

Provider = Literal["local", "cloud"]
Mode = Literal["local", "cloud", "auto", "local-only", "cloud-only"]
MODES: tuple[Mode, ...] = ("local", "cloud", "auto", "local-only", "cloud-only")
Message = dict[str, Any]
Cause = Literal["mode", "fallback", "handover", "restart", "hedge", "resume"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens spent. `estimated` where no provider stated them (a stream that was cut): then one delta counts as one token."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.estimated or other.estimated,
        )

    def to_dict(self) -> dict[str, Any]:
        """`{prompt_tokens, completion_tokens, total_tokens}`, and `estimated` only when it is so."""
        tokens = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
        }
        return {**tokens, "estimated": True} if self.estimated else tokens


@dataclass(frozen=True, slots=True)
class Timings:
    """`ttft_ms` and `total_ms` as the caller saw them; the rates as the provider measured them, else None or derived."""

    ttft_ms: float | None = None
    total_ms: float = 0.0
    prefill_tps: float | None = None
    decode_tps: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """All four fields."""
        return {
            "ttft_ms": self.ttft_ms,
            "total_ms": self.total_ms,
            "prefill_tps": self.prefill_tps,
            "decode_tps": self.decode_tps,
        }


@dataclass(frozen=True, slots=True)
class Options:
    """What a request may ask for, checked (`validate.options`). None means the model's own default, or the person's preference.

    `handover`: what becomes of an answer whose model fails in the middle. `hedge`: whether the cloud may start beside a slow
    local model. `trim`: whether the oldest turns may be left out of a conversation that is too long. `journal`: the engine's name
    for a generation that it keeps while it is under way, and that `resume` takes up. `mode` routes this request in another mode
    than the page's, of which local-only stays closed.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    response_format: dict[str, Any] | None = None
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: Any = None
    model: str | None = None
    private: bool = False
    timeout_ms: float | None = None
    request_id: str = ""
    egress: Literal["allow", "redact", "ask", "never"] | None = None
    handover: Literal["continue", "restart", "stop"] | None = None
    hedge: bool | None = None
    trim: bool | None = None
    persona: str | None = None
    mode: Mode | None = None
    journal: str | None = None

    def sampling(self) -> dict[str, Any]:
        """The options a model sees, by their OpenAI names, without those left to its default."""
        named = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_output_tokens,
            "stop": list(self.stop) or None,
            "seed": self.seed,
            "response_format": self.response_format,
            "tools": list(self.tools) or None,
            "tool_choice": self.tool_choice,
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Call:
    """One request as one runtime gets it.

    `prefix` is the shown text it is to continue after a handover, else empty; `cause` is why this provider is asked. `journal`
    names a generation that the local engine is to keep, or with a `prefix` to take up itself. `think` takes what the model tells
    of its thinking beside the text, piece by piece.
    """

    request_id: str
    messages: tuple[Message, ...]
    options: Options
    model: str | None = None
    prefix: str = ""
    cause: Cause = "mode"
    journal: str = ""
    think: Callable[[str], None] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Final:
    """How a runtime ends a call that went well."""

    model: str
    finish_reason: str = "stop"
    usage: Usage | None = None
    prefill_tps: float | None = None
    decode_tps: float | None = None
    cost: float | None = None
    bytes_sent: int = 0
    tool_calls: tuple[dict[str, Any], ...] = ()
    egress: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Who wrote a segment of an answer, from where on (`start`, in UTF-16 units of the text) and why.

    A `struck` part was shown and then begun anew by another model; its text is kept here, since the answer's has it no more.
    """

    provider: Provider
    model: str | None
    start: int
    cause: Cause
    struck: bool = False
    text: str = ""

    def to_dict(self) -> dict[str, Any]:
        """All fields; `text` only of what was struck."""
        out = {"provider": self.provider, "model": self.model, "start": self.start, "cause": self.cause, "struck": self.struck}
        return {**out, "text": self.text} if self.struck else out


class Chunk(NamedTuple):
    """One piece of a stream. The last chunk is `done` and has a `completion`.

    `text` is all of the answer so far. A chunk marked `restart` begins it anew: what was shown before is struck, and is found in
    `completion.parts` (or in the error's).
    """

    delta: str
    text: str
    done: bool
    provider: Provider
    segment: int = 0
    completion: Completion | None = None
    restart: bool = False

    @property
    def usage(self) -> Usage | None:
        """The request's usage, on the last chunk."""
        return self.completion.usage if self.completion else None

    @property
    def timings(self) -> Timings | None:
        """The request's timings, on the last chunk."""
        return self.completion.timings if self.completion else None

    @property
    def cost(self) -> float | None:
        """What the request cost in US dollars, on the last chunk, where it is known."""
        return self.completion.cost if self.completion else None

    def to_dict(self) -> dict[str, Any]:
        """The chunk without its cumulative text, which the receiving side accumulates, and on the last all of the completion."""
        piece: dict[str, Any] = {"delta": self.delta, "done": self.done, "provider": self.provider, "segment": self.segment}
        if self.restart:
            piece["restart"] = True
        return {**piece, **self.completion.to_dict(), "done": True} if self.completion else piece


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished answer and its account. `provider` is who finished it; `segments` counts who wrote a part of it.

    `decision` is auto mode's choice and its reason, in one line. `parts` says who wrote what, struck ones included; `hedge` that
    two were asked and who won; `trimmed` how many of the oldest messages were left out. `note` says in a sentence or
    two how the model was asked otherwise than the caller wished: with less of the conversation, with a simpler schema, or both.
    """

    text: str
    provider: Provider
    model: str
    usage: Usage
    timings: Timings
    finish_reason: str = "stop"
    cost: float | None = None
    fallback: dict[str, Any] | None = None
    handover: dict[str, Any] | None = None
    egress: dict[str, Any] | None = None
    request_id: str = ""
    segments: int = 1
    tool_calls: tuple[dict[str, Any], ...] = field(default=())
    decision: str = ""
    parts: tuple[Part, ...] = ()
    hedge: dict[str, Any] | None = None
    trimmed: int = 0
    note: str = ""

    @property
    def tokens_per_second(self) -> float:
        """The decode rate; 0 when nothing was measured."""
        return self.timings.decode_tps or 0.0

    def to_dict(self) -> dict[str, Any]:
        """All fields, with `elapsed` (ms) and `tokens_per_second` for the blueprint's callers."""
        out: dict[str, Any] = {
            "text": self.text,
            "provider": self.provider,
            "model": self.model,
            "usage": self.usage.to_dict(),
            "finish_reason": self.finish_reason,
            "timings": self.timings.to_dict(),
            "fallback": self.fallback,
            "handover": self.handover,
            "cost": self.cost,
            "egress": self.egress,
            "request_id": self.request_id,
            "segments": self.segments,
            "parts": [part.to_dict() for part in self.parts],
            "trimmed": self.trimmed,
            "elapsed": self.timings.total_ms,
            "tokens_per_second": self.tokens_per_second,
        }
        if self.tool_calls:
            out["tool_calls"] = list(self.tool_calls)
        for name in ("decision", "hedge", "note"):
            if value := getattr(self, name):
                out[name] = value
        return out
