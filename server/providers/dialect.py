"""A provider's language: how a call is put to it, and how what it streams becomes OpenAI's chunks.

A `Dialect` is pure: no socket, no clock but a chunk's `created`. A `Reader` gets one stream's decoded events in order and gives
chunks at once, never holding text back. It notes the finish reason and usage, which whoever tells the client says at the end, and
says only when the provider did: a stream without a finish reason was cut.
"""

from __future__ import annotations

import itertools
import json
import re
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from hybr.server.errors import UpstreamError
from hybr.server.providers.sse import Decoder, OverflowingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hybr.server.providers.base import Call, Model
    from hybr.server.secret import Secret

PROCESS = secrets.token_hex(8)  # drawn once: a system call for each answer's id would cost as much as reading its request
NUMBERS = itertools.count(1)
SHORT = 20  # characters, of which fewer may be the mark of an answer's end
WORD = re.compile(r"[A-Za-z][A-Za-z_]{0,39}")  # a provider's own name for what went wrong, harmless to show


def no_constant(name: str) -> NoReturn:
    """Refuse NaN and the infinities, which no JSON reader of a client takes."""
    raise ValueError(name)


DECODER = json.JSONDecoder(parse_constant=no_constant)


def decoded(data: str) -> Any:
    """Return the JSON value of an event. Raises ValueError. Blanks around it, which events do not have, are looked for last."""
    try:
        value, end = DECODER.raw_decode(data)
    except ValueError:
        return DECODER.decode(data)
    return value if end == len(data) else DECODER.decode(data)


@dataclass(frozen=True)
class Question:
    """What is sent: the path under the provider's base URL (or under `/beta` in the place of its `/v1`), and the JSON body."""

    path: str
    body: dict[str, Any]
    beta: bool = False


class Dialect(Protocol):
    """One wire format."""

    listing: str

    def headers(self, key: Secret | None) -> dict[str, str]:
        """Return the headers that every request of this provider carries. The key is here and never in a path."""

    def question(self, call: Call, model: str) -> Question:
        """Return `call` for the provider's `model`. Raises RequestError for what this format cannot say."""

    def reader(self, model: str) -> Reader:
        """Return a reader for one answer, whose chunks name `model`."""

    def embedding(self, call: Call, model: str) -> Question:
        """Return a call for vectors. Raises RequestError where there are none."""

    def embedded(self, body: Any) -> tuple[list[list[float]], int]:
        """Return the vectors in order and the tokens they took, 0 where nobody says. Raises as `listed` does."""

    def counting(self, call: Call, model: str) -> Question:
        """Return the question how many tokens `call` is. Raises RequestError where nobody can be asked that."""

    def counted(self, body: Any) -> int:
        """Return the tokens. Raises as `listed` does."""

    def model(self, name: str) -> Model:
        """Return a model of which nothing but the name is known."""

    def listed(self, body: Any) -> Sequence[Model]:
        """Return the chat models of the provider's own list. Raises KeyError, TypeError or ValueError for another shape."""


class Reader:
    """The state of one answer. `over` once the provider said that it is."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.id = f"chatcmpl-{PROCESS}{next(NUMBERS):010x}"
        self.created = int(time.time())
        self.finish: str | None = None
        self.usage: dict[str, Any] | None = None
        self.over = False
        self.begun = False
        self.extra: dict[str, Any] = {}  # what else the last chunk tells

    def read(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """Give the chunks that one event makes. Raises BrokenError, also while they are taken."""
        raise NotImplementedError

    def chunk(self, delta: dict[str, Any], finish: str | None = None, **fields: Any) -> dict[str, Any]:
        """Return one chunk. The first says whose turn it is, and no other: clients add up what they get."""
        if not self.begun:
            self.begun, delta = True, {"role": "assistant", **delta}
        return {**self.head(), "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **fields}

    def head(self) -> dict[str, Any]:
        """Return what every chunk of this answer has."""
        return {"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model}


class Stream:
    """One answer, from the provider's bytes to our chunks.

    After each `feed` and `end`: `over` when the answer is whole, `failure` when it never will be. The chunks returned with a
    failure came before it and still belong to the client. How the answer ended, and what it spent, is then in `reader`.
    """

    def __init__(self, name: str, reader: Reader) -> None:
        self.name = name
        self.reader = reader
        self.over = False
        self.failure: UpstreamError | None = None
        self._decoder = Decoder()

    def feed(self, piece: bytes) -> list[dict[str, Any]]:
        """Return the chunks that `piece` completes."""
        try:
            return self._take(self._decoder.feed(piece))
        except OverflowingError:
            self._fail("sent an event without an end", "bad_stream")
            return []

    def end(self) -> list[dict[str, Any]]:
        """Return the last chunks after the provider closed its stream, whose last event may lack its line end."""
        last = self._take(self._decoder.flush())
        if not self.over and not self.failure:
            self._close()
        return last

    def _take(self, events: list[str]) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        for data in events:
            try:
                self._read(data, out)
            except BrokenError as error:
                why = f" ({error.kind})" if WORD.fullmatch(error.kind) else ""
                self._fail(f"failed in mid-answer{why}", "failed_midway")
            except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
                self._fail("sent an event that cannot be read", "bad_stream")
            if self.failure or self.over:
                break
        return out

    def _read(self, data: str, out: list[dict[str, Any]]) -> None:
        if len(data) < SHORT and data.strip() == "[DONE]":
            self.reader.over = True
        else:
            event = decoded(data)
            if not isinstance(event, dict):
                raise TypeError
            out += self.reader.read(event)
        if self.reader.over:
            self._close()

    def _close(self) -> None:
        if self.reader.finish is None:
            self._fail("ended its answer before the end", "stream_cut")
        else:
            self.over = True

    def _fail(self, what: str, code: str) -> None:
        self.failure = UpstreamError(f"{self.name} {what}", code=code, attempts=1)


class BrokenError(Exception):
    """The provider said that it failed; `kind` is its word for it."""

    def __init__(self, kind: object = "") -> None:
        super().__init__()
        self.kind = str(kind)


def count(value: Any) -> int:
    """Return a token count that a provider gave, 0 where it gave none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def spent(prompt: int, completion: int, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    """Return OpenAI's usage object."""
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    if cached:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    if reasoning:
        usage["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return usage
