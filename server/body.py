"""What comes in: a JSON body of a bounded size in a bounded time, and the moment its sender leaves."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NoReturn

from hybr.server.errors import RequestError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Message, Receive, Scope

JSON = b"application/json"
DEPTH = 64
BODY = 4 * 1024 * 1024
LEFT = "hybr.left"
"""The scope's extension in which our wire tells of the client's leaving; a `Presence`. Others tell it by `receive` only."""

READY = "hybr.ready"
"""The scope's extension in which our wire says whether `receive` will give something at once, so that it needs no timer."""

BODY_SECONDS = 30.0  # a body that comes slower is no client of ours (uvicorn waits for ever)


def check_type(scope: Scope) -> None:
    """Raise unless the body is declared as JSON: a form of another site can send anything else without asking first."""
    good = False
    for name, value in scope["headers"]:
        if name == b"content-type" and (value == JSON or value.split(b";")[0].strip().lower() == JSON):
            good = True
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            raise WrongTypeError("send the body as it is, not compressed", code="wrong_encoding", field="Content-Encoding")
    if not good:
        raise WrongTypeError("send Content-Type: application/json", code="wrong_type", field="Content-Type")


async def read_body(receive: Receive, limit: int = BODY, scope: Scope | None = None) -> bytes:
    """Return the request's body. Raises TooLargeError, SlowBodyError or GoneError."""
    body = bytearray()
    ready = scope and scope.get("extensions", {}).get(READY)
    if ready and ready() and taken(await receive(), body, limit):
        return bytes(body)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while not taken(await receive(), body, limit):
                pass
    except TimeoutError:
        raise SlowBodyError(f"the body did not come within {BODY_SECONDS:g} s", code="slow_body") from None
    return bytes(body)


def taken(message: Message, body: bytearray, limit: int) -> bool:
    """Add a piece to the body, and say whether it was the last. Raises TooLargeError, GoneError."""
    if message["type"] == "http.disconnect":
        raise GoneError("the client left before its request was whole", code="client_gone")
    body += message.get("body", b"")
    if len(body) > limit:
        raise TooLargeError(f"the body is larger than {limit} bytes", code="body_too_large")
    return not message.get("more_body", False)


class Presence:
    """Whether the client of one connection is still there, and whom to tell when it is not."""

    __slots__ = ("gone", "tell")

    def __init__(self) -> None:
        self.gone = False
        self.tell: set[Callable[[], None]] = set()

    def end(self) -> None:
        """Note that it has gone."""
        self.gone = True
        for tell in list(self.tell):
            tell()


class Watched:
    """A block that calls `tell` if the client goes while it runs. Where the server does not say so, a task asks `receive`."""

    __slots__ = ("presence", "tell", "waiting")

    def __init__(self, scope: Scope, receive: Receive, tell: Callable[[], None]) -> None:
        self.tell = tell
        self.waiting: asyncio.Task[None] | None = None
        self.presence: Presence | None = scope.get("extensions", {}).get(LEFT)
        if self.presence is None:
            self.waiting = asyncio.create_task(left(receive))

    def __enter__(self) -> None:
        if self.presence is not None:
            self.presence.tell.add(self.tell)
            if self.presence.gone:
                self.tell()
        elif self.waiting is not None:
            self.waiting.add_done_callback(lambda task: None if task.cancelled() else self.tell())

    def __exit__(self, *raised: object) -> None:
        if self.presence is not None:
            self.presence.tell.discard(self.tell)
        elif self.waiting is not None:
            self.waiting.cancel()


async def left(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def decode(raw: bytes) -> Any:
    """Return the JSON value. Raises RequestError for anything that two readers could read differently."""
    try:
        value = DECODER.decode(raw.decode("utf-8"))
    except RequestError:
        raise
    except RecursionError:
        raise RequestError(f"the JSON is nested deeper than {DEPTH}", code="too_deep") from None
    except ValueError as error:  # not UTF-8, not JSON, or an integer of thousands of digits
        raise RequestError(f"the body is not JSON: {str(error)[:200]}", code="invalid_json") from None
    if not flat(raw):
        check_depth(value)
    return value


def flat(raw: bytes) -> bool:
    """Say whether the JSON can be neither too deep nor hold half a surrogate: it has few brackets, and plain characters only."""
    return raw.count(b"[") + raw.count(b"{") <= DEPTH and b"\\u" not in raw and raw.isascii()


def no_constant(name: str) -> NoReturn:
    """Refuse NaN and the infinities, which JSON does not have."""
    raise RequestError(f"the body is not JSON: {name} is no number", code="invalid_json")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that occurs twice: which of the two counts is anybody's guess."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RequestError("a name occurs twice in one JSON object", code="invalid_json")
    return found


DECODER = json.JSONDecoder(parse_constant=no_constant, object_pairs_hook=unique)


def check_depth(value: Any) -> None:
    """Raise when `value` is nested deeper than DEPTH, or holds text that is no Unicode (a lone surrogate)."""
    level, depth = [value], 0
    while level:
        if depth > DEPTH:
            raise RequestError(f"the JSON is nested deeper than {DEPTH}", code="too_deep")
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += [*item.keys(), *item.values()]
            elif isinstance(item, list):
                inner += item
            elif isinstance(item, str) and not item.isascii():
                try:
                    item.encode()
                except UnicodeEncodeError:
                    raise RequestError("a text holds half of a surrogate pair", code="invalid_json") from None
        level, depth = inner, depth + 1


class WrongTypeError(RequestError):
    """A body that is not declared as JSON."""

    status = 415


class SlowBodyError(RequestError):
    """A body that does not arrive."""

    status = 408


class GoneError(RequestError):
    """Nobody is there to read this; the status is nginx's for the log."""

    status = 499
