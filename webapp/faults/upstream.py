"""A scripted gateway behind a `Transport`: streams, and fails in every way a server can.

A script is a list of steps for one chat request: a text is a delta; bytes go out as they are; and
    Sleep(s)                     silence
    Refuse(status, code, ...)    an error envelope instead of an answer (first step only)
    Unreachable(times)           no answer at all (first step only)
    Cut()                        the connection breaks here
    Event(dict)                  any event
    Tail(usage, reason)          finish reason, usage, [DONE]; every script that does not end by a fault gets one
`open` is the number of answers that nobody has closed yet.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hybr.webapp.faults.engine import Sleep
from hybr.webapp.runtimes.base import UnreachableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(frozen=True)
class Refuse:
    """An error envelope."""

    status: int = 503
    code: str = "no_model"
    message: str = "no model can answer"
    retryable: bool = True
    attempts: int = 2
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Unreachable:
    """Nobody answers."""


@dataclass(frozen=True)
class Cut:
    """The connection is gone."""


@dataclass(frozen=True)
class Event:
    """One event of any content."""

    content: dict[str, Any]


@dataclass(frozen=True)
class Tail:
    """A proper end."""

    usage: dict[str, Any] | None = field(default_factory=lambda: {"prompt_tokens": 7, "completion_tokens": 5})
    reason: str = "stop"
    done: bool = True


Step = str | bytes | Sleep | Refuse | Unreachable | Cut | Event | Tail
Script = list[Step] | Callable[[dict[str, Any]], list[Step]]  # or made from the request's body
ANSWER: list[Step] = ["It ", "is ", "Paris", "."]


class Answer:
    """A `Response`."""

    def __init__(self, upstream: ScriptedUpstream, status: int, headers: dict[str, str], pieces: AsyncIterator[bytes]) -> None:
        self._upstream = upstream
        self._pieces = pieces
        self._closed = False
        self.status = status
        self.headers = headers
        upstream.open += 1

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, in pieces of `upstream.cut` bytes where that is set."""
        size = self._upstream.cut
        async for piece in self._pieces:
            for start in range(0, len(piece), size or len(piece)):
                yield piece[start : start + (size or len(piece))]

    async def close(self) -> None:
        """Free it."""
        if not self._closed:
            self._closed = True
            self._upstream.open -= 1


class ScriptedUpstream:
    """See the module."""

    def __init__(self, *, pace: float = 0.02, cut: int = 0) -> None:
        self.pace = pace
        self.cut = cut
        self.default: Script = list(ANSWER)
        self.scripts: deque[Script] = deque()
        self.headers = {"x-hybr-provider": "house"}
        self.files: dict[str, Any] = {
            "/healthz": {"status": "ok"},
            "/v1/models": {"object": "list", "data": [{"id": "house-model", "owned_by": "house"}]},
            "/models/index.json": {"schema": 1, "models": []},
            "/api/preferences": {"version": 0, "preferences": {}},
        }
        self.down = False
        self.open = 0
        self.chats: list[dict[str, Any]] = []
        self.asked: list[str] = []

    async def request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """One request."""
        await asyncio.sleep(0.001)
        self.asked.append(f"{method} {path}")
        if self.down:
            raise UnreachableError("connection refused")
        if path != "/v1/chat/completions":
            return self._file(method, path, body)
        self.chats.append(json.loads(body or b"{}"))
        chosen = self.scripts.popleft() if self.scripts else self.default
        script = chosen(self.chats[-1]) if callable(chosen) else list(chosen)
        if script and isinstance(script[0], Unreachable):
            raise UnreachableError("connection reset")
        if script and isinstance(script[0], Refuse):
            return self._refusal(script[0])
        return Answer(self, 200, self.headers, self._stream(script))

    def _file(self, method: str, path: str, body: bytes | None) -> Answer:
        answer = self.files.get(path, {})
        if callable(answer):
            answer = answer(method, json.loads(body) if body else None)
        status, content = answer if isinstance(answer, tuple) else (200, answer)
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        return Answer(self, status, {}, _once(raw))

    def _refusal(self, step: Refuse) -> Answer:
        envelope = {
            "error": {
                "type": "t",
                "code": step.code,
                "message": step.message,
                "retryable": step.retryable,
                "attempts": step.attempts,
            }
        }
        return Answer(
            self, step.status, step.headers, _once(step.body if step.body is not None else json.dumps(envelope).encode())
        )

    async def _stream(self, script: list[Step]) -> AsyncIterator[bytes]:
        if not script or not isinstance(script[-1], Cut | Tail | bytes):
            script = [*script, Tail()]
        for step in script:
            if isinstance(step, Sleep):
                await asyncio.sleep(step.s)
                continue
            await asyncio.sleep(self.pace)
            if isinstance(step, Cut) or self.down:
                raise UnreachableError("the connection was reset")
            yield _bytes(step)


def _bytes(step: Step) -> bytes:
    if isinstance(step, bytes):
        return step
    if isinstance(step, str):
        return _event({"model": "house-model", "choices": [{"index": 0, "delta": {"content": step}}]})
    if isinstance(step, Event):
        return _event(step.content)
    if not isinstance(step, Tail):
        raise TypeError(f"{step!r} is no step of a stream")
    out = _event({"model": "house-model", "choices": [{"index": 0, "delta": {}, "finish_reason": step.reason}]})
    if step.usage is not None:
        out += _event({"model": "house-model", "choices": [], "usage": step.usage})
    return out + (b"data: [DONE]\n\n" if step.done else b"")


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"


async def _once(raw: bytes) -> AsyncIterator[bytes]:
    yield raw
