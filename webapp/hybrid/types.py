"""The values that pass between the orchestrator, its runtimes and its callers.

Immutable all; `Chunk` is a tuple because one is made per token. Times are milliseconds, rates tokens per second, money
US dollars.
In JavaScript the same fields are camelCase (`page.convert`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Provider = Literal["local", "cloud"]
Mode = Literal["local", "cloud", "auto", "local-only", "cloud-only"]
Message = dict[str, Any]


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
    """What a request may ask for, checked (`validate.options`). None means "the model's own default"."""

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

    `prefix` is the shown text it is to continue after a handover, else empty; `cause` is why this provider is asked.
    """

    request_id: str
    messages: tuple[Message, ...]
    options: Options
    model: str | None = None
    prefix: str = ""
    cause: Literal["mode", "fallback", "handover"] = "mode"


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


class Chunk(NamedTuple):
    """One piece of a stream. `text` is all of the answer so far; the last chunk is `done` and has the fields after `segment`."""

    delta: str
    text: str
    done: bool
    provider: Provider
    segment: int = 0
    completion: Completion | None = None

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
        piece = {"delta": self.delta, "done": self.done, "provider": self.provider, "segment": self.segment}
        return {**piece, **self.completion.to_dict(), "done": True} if self.completion else piece


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished answer and its account. `provider` is who finished it; `segments` counts who wrote a part of it.

    `decision` is auto mode's choice and its reason, in one line.
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
            "elapsed": self.timings.total_ms,
            "tokens_per_second": self.tokens_per_second,
        }
        if self.tool_calls:
            out["tool_calls"] = list(self.tool_calls)
        if self.decision:
            out["decision"] = self.decision
        return out
