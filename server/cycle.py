"""One answer on the wire: ASGI messages into HTTP/1.1, in as few packets and looks as they can be.

uvicorn writes an answer's head and its first bytes apart, which costs each request a system call and its client a wake-up, and
searches each header twice for what must not be in it. Here the head waits for the first bytes, as ASGI asks of a server, and is
looked through once, as a whole. Reading, the queue of pipelined requests and a crash's end are uvicorn's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

NAME = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+")
CONTROL = bytes({*range(32), 127} - {*b"\t\r\n"})
NAMES: set[bytes] = set()  # that were looked at; a server has few
MOST = 500
BODILESS = (204, 304)
END = b"0\r\n\r\n"


class Cycle(RequestResponseCycle):
    """The answer to one request of `wire`.

    `event` is set when there is something to receive; `kept` says whether the connection may stay open afterwards.
    """

    def __init__(self, wire: HttpToolsProtocol, event: asyncio.Event, *, kept: bool) -> None:
        super().__init__(
            scope=wire.scope,
            transport=wire.transport,
            flow=wire.flow,
            logger=wire.logger,
            access_logger=wire.access_logger,
            access_log=False,
            default_headers=wire.server_state.default_headers,
            message_event=event,
            expect_100_continue=wire.expect_100_continue,
            keep_alive=kept,
            on_response=wire.on_response_complete,
        )
        self.head = b""  # what waits for the first bytes of the body
        self.bare = wire.scope["method"] == "HEAD"
        self.old = wire.scope["http_version"] == "1.0"  # it knows no chunks: a body without a length ends with the connection
        self.endless = False

    async def send(self, message: Any) -> None:
        """Take one message of the answer. Raises RuntimeError for one that is out of its turn or holds what no header may."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if not self.response_started:
            if kind != "http.response.start":
                raise RuntimeError(f"an answer begins with http.response.start, not {kind}")
            self.response_started, self.waiting_for_100_continue = True, False
            self.head = self.begin(message["status"], message.get("headers", ()))
        elif kind != "http.response.body" or self.response_complete:
            raise RuntimeError(f"{kind} after the answer's {'end' if self.response_complete else 'beginning'}")
        else:
            self.write(message.get("body", b""), more=message.get("more_body", False))

    def begin(self, status: int, given: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Return the head."""
        headers = [*self.default_headers, *given]
        found = dict(headers)
        if not NAMES.issuperset(found):
            learn(found)
        if (length := found.get(b"content-length")) is not None:
            self.expected_content_length, self.chunked_encoding = int(length), False
        elif found.get(b"transfer-encoding", b"").lower() == b"chunked":
            self.chunked_encoding = True
        elif self.old and not self.bare and status not in BODILESS:
            self.chunked_encoding, self.endless = False, True
        elif not self.bare and status not in BODILESS:
            self.chunked_encoding = True
            headers.append((b"transfer-encoding", b"chunked"))
        if b"close" in found.get(b"connection", b"").lower():
            self.keep_alive = False
        elif not self.keep_alive:
            headers.append((b"connection", b"close"))
        head = b"\r\n".join([STATUS_LINE[status][:-2], *map(b": ".join, headers), b"", b""])
        if len(head.translate(None, CONTROL)) != len(head) or not head.count(b"\r") == head.count(b"\n") == len(headers) + 2:
            raise RuntimeError("a header of the answer has a control character in it")
        return head

    def write(self, body: bytes, *, more: bool) -> None:
        """Write a piece of the body, behind the head if that has waited for it."""
        head, self.head = self.head, b""
        if self.bare:
            self.expected_content_length, body = 0, b""
        elif self.chunked_encoding:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else END)
        elif not self.endless:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0 or (self.expected_content_length and not more):
                raise RuntimeError("the body is not as long as its content-length says")
        if head or body:
            self.transport.write(head + body)
        if not more:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()


def learn(names: dict[bytes, bytes]) -> None:
    """Look at names of headers that were not seen before. Raises RuntimeError."""
    for name in names:
        if not NAME.fullmatch(name):
            raise RuntimeError("a header of the answer has no lower-case name")
    if len(NAMES) < MOST:
        NAMES.update(names)
