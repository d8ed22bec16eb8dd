"""How an answer is put on the wire: what each ASGI message becomes, byte for byte, and what must never get there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from hybr.server.body import READY, read_body
from hybr.server.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Receive, Scope, Send

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
OK: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


class Pipe(asyncio.Transport):
    """A transport that keeps what is written to it, a piece for each write."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep a piece."""
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        """Say whether it was closed."""
        return self.closed

    def close(self) -> None:
        """Note it."""
        self.closed = True

    def pause_reading(self) -> None:
        """Do nothing."""

    def resume_reading(self) -> None:
        """Do nothing."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Know nothing."""
        return default


async def answered(app: Callable[[Scope, Receive, Send], Awaitable[None]], asked: bytes = GET) -> tuple[Pipe, Wire]:
    """Return the connection after `app` has answered what was asked."""
    config = uvicorn.Config(app, log_config=None, access_log=False, date_header=False, server_header=False)
    config.load()
    pipe, wire = Pipe(), Wire(config, ServerState(), {})
    wire.connection_made(pipe)
    wire.data_received(asked)
    await asyncio.gather(*wire.tasks)
    return pipe, wire


def sending(*messages: dict[str, Any]) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return an application that sends these messages."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def body(text: bytes, *, more: bool = False) -> dict[str, Any]:
    """Return a message with a piece of the body."""
    return {"type": "http.response.body", "body": text, "more_body": more}


async def test_head_and_first_bytes_go_together() -> None:
    """The head waits for the first piece and goes out in one write with it; each further piece goes at once."""
    pipe, wire = await answered(sending(OK, body(b"one", more=True), body(b"two", more=True), body(b"")))
    assert pipe.written == [
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n",
        b"3\r\ntwo\r\n",
        b"0\r\n\r\n",
    ]
    assert wire.cycle.response_complete
    assert not pipe.closed


async def test_a_body_of_a_known_length() -> None:
    """With a content-length nothing is put around the pieces."""
    sized = {**OK, "headers": [(b"content-length", b"6")]}
    pipe, _ = await answered(sending(sized, body(b"one", more=True), body(b"two")))
    assert pipe.written == [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\none", b"two"]


@pytest.mark.parametrize(("asked", "status"), [(GET.replace(b"GET", b"HEAD"), 200), (GET, 204), (GET, 304)])
async def test_answers_without_a_body(asked: bytes, status: int) -> None:
    """A HEAD's answer and those that have no body are a head alone, which promises none."""
    pipe, _ = await answered(sending({**OK, "status": status}, body(b"")), asked)
    assert len(pipe.written) == 1
    assert pipe.written[0].endswith(b"content-type: text/plain\r\n\r\n")


@pytest.mark.parametrize("asked", [GET.replace(b"1.1", b"1.0"), GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")])
async def test_who_wants_the_connection_closed(asked: bytes) -> None:
    """An old client's connection, or one that is to be closed, is closed after the answer, which says so."""
    pipe, _ = await answered(sending(OK, body(b"one")), asked)
    assert b"\r\nconnection: close\r\n" in pipe.written[0]
    assert pipe.closed


@pytest.mark.parametrize(
    "header",
    [
        (b"x-name", b"one\r\nset-cookie: a=b"),
        (b"x-name", b"one\ntwo"),
        (b"x-name", b"one\rtwo"),
        (b"x-name", b"one\0two"),
        (b"x-name", b"one\x1b[2J"),
        (b"x-name: a\r\nset-cookie", b"b"),
        (b"x name", b"b"),
        (b"X-Name", b"b"),
        (b"", b"b"),
    ],
)
async def test_what_no_header_may_hold(header: tuple[bytes, bytes]) -> None:
    """A header that would begin another, or that is none, is never written: the request ends as a defect."""
    pipe, _ = await answered(sending({**OK, "headers": [header]}, body(b"one")))
    sent = b"".join(pipe.written)
    assert b"set-cookie" not in sent
    assert b"x-name" not in sent.lower()
    assert not sent or sent.startswith(b"HTTP/1.1 500 ")
    assert pipe.closed


async def test_a_tab_in_a_header() -> None:
    """A tab is no control character to HTTP."""
    pipe, _ = await answered(sending({**OK, "headers": [(b"x-name", b"one\ttwo")]}, body(b"")))
    assert b"x-name: one\ttwo\r\n" in pipe.written[0]


@pytest.mark.parametrize(
    "messages",
    [
        [body(b"one")],
        [OK, OK],
        [{**OK, "headers": [(b"content-length", b"2")]}, body(b"one")],
        [{**OK, "headers": [(b"content-length", b"9")]}, body(b"one")],
        [OK, body(b"one"), body(b"two")],
    ],
)
async def test_messages_out_of_turn(messages: list[dict[str, Any]]) -> None:
    """A body before its head, two heads, a body of another length or after its end never look like a whole answer."""
    pipe, _ = await answered(sending(*messages))
    assert pipe.closed or pipe.written[-1].endswith(b"0\r\n\r\n")
    assert b"two" not in b"".join(pipe.written)


async def test_the_connection_waits_for_the_next_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """One timer a connection closes it when nothing was asked for long, and not while somebody asks."""
    pipe, wire = await answered(sending(OK, body(b"one")))
    timer = wire.keeper
    assert timer is not None
    wire.data_received(GET)
    await asyncio.gather(*wire.tasks)
    assert wire.keeper is timer, "an answer makes no timer of its own"
    wire.look()
    assert not pipe.closed, "something was asked just now"
    assert wire.keeper is not timer
    wire.data_received(GET)
    wire.look()
    assert wire.keeper is None, "the answer's end sets the timer again"
    await asyncio.gather(*wire.tasks)
    assert wire.keeper is not None
    monkeypatch.setattr(wire, "idle", wire.idle - wire.timeout_keep_alive)
    wire.look()
    assert pipe.closed


async def test_a_body_that_is_there_is_read_without_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came with the headers is read as it is; what is still coming is waited for with a limit."""
    read: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        read.append(await read_body(receive, scope=scope))
        await sending(OK, body(b""))(scope, receive, send)

    timed: list[float] = []
    timeout = asyncio.timeout
    monkeypatch.setattr("hybr.server.body.asyncio.timeout", lambda seconds: timed.append(seconds) or timeout(seconds))  # type: ignore[func-returns-value]
    asked = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n"
    _, wire = await answered(app, asked + b"four")
    assert (read, timed) == ([b"four"], [])
    wire.data_received(asked + b"ha")
    await asyncio.sleep(0)
    wire.data_received(b"lf")
    await asyncio.gather(*wire.tasks)
    assert (read, timed) == ([b"four", b"half"], [30.0])


async def test_what_comes_behind_a_body() -> None:
    """A trailer is no header of the request: who may come in was decided by those."""
    asked = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    asked += b"3\r\none\r\n0\r\nAuthorization: Bearer x\r\n\r\n"
    _, wire = await answered(sending(OK, body(b"")), asked)
    assert [name for name, _ in wire.scope["headers"]] == [b"host", b"transfer-encoding"]
    assert wire.whole


async def test_a_request_leaves_no_cycle() -> None:
    """What a request made is gone with it: a cycle of references would keep the collector busy and an answer in memory."""
    _, wire = await answered(sending(OK, body(b"one")))
    extensions: Any = wire.scope["extensions"]
    assert getattr(extensions[READY], "__self__", None) is not wire.cycle
