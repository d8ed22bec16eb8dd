"""What comes in: a JSON body of a bounded size in a bounded time, and the moment its sender leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, NoReturn

from hybr.server.errors import RequestError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import Receive, Scope

DEPTH = 64
BODY = 4 * 1024 * 1024
LEFT = "hybr.left"
"""The scope's extension in which our wire tells of the client's leaving; a `Presence`. Others tell it by `receive` only."""

BODY_SECONDS = 30.0  # a body that comes slower is no client of ours (uvicorn waits for ever)


def check_type(scope: Scope) -> None:
    """Raise unless the body is declared as JSON: a form of another site can send anything else without asking first."""
    for name, value in scope["headers"]:
        if name == b"content-type" and value.split(b";")[0].strip().lower() == b"application/json":
            return
    raise WrongTypeError("send Content-Type: application/json", code="wrong_type", field="Content-Type")


async def read_body(receive: Receive, limit: int = BODY) -> bytes:
    """Return the request's body. Raises TooLargeError, SlowBodyError or GoneError."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise GoneError("the client left before its request was whole", code="client_gone")
                body += message.get("body", b"")
                if len(body) > limit:
                    raise TooLargeError(f"the body is larger than {limit} bytes", code="body_too_large")
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise SlowBodyError(f"the body did not come within {BODY_SECONDS:g} s", code="slow_body") from None


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


@contextlib.contextmanager
def watched(scope: Scope, receive: Receive, tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` if the client goes while the block runs. Where the server does not say so, a task asks `receive`."""
    presence: Presence | None = scope.get("extensions", {}).get(LEFT)
    if presence is None:
        waiting = asyncio.create_task(left(receive))
        waiting.add_done_callback(lambda task: None if task.cancelled() else tell())
        try:
            yield
        finally:
            waiting.cancel()
        return
    presence.tell.add(tell)
    try:
        if presence.gone:
            tell()
        yield
    finally:
        presence.tell.discard(tell)


async def left(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def decode(raw: bytes) -> Any:
    """Return the JSON value. Raises RequestError for anything that two readers could read differently."""
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=no_constant, object_pairs_hook=unique)
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
