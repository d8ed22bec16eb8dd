"""HTTP/1.1 as uvicorn reads it, with the bounds that uvicorn does not set.

uvicorn waits for ever for headers, takes a header line of any length, follows an absolute-form target's path, overlooks an
Upgrade, and answers nonsense in plain text. Here headers have a size and a time, what two readers could read differently is a
400, every refusal is our JSON envelope, and a connection whose request body never ends is closed once it has been answered.

How an answer is written is in `hybr.server.cycle`. One timer a connection waits for the next request, instead of one an answer.
"""

from __future__ import annotations

import asyncio
import json
from typing import NoReturn
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from hybr.server.body import LEFT, READY, Presence, SlowBodyError
from hybr.server.cycle import Cycle
from hybr.server.errors import RequestError
from hybr.server.security import FIXED, HEADER_BYTES, HeadersTooLargeError

HEAD_SECONDS = 10.0  # from a request's first byte, or a connection's beginning, to the end of its headers
LINGER = 2.0  # seconds for which a refused client is still read, so that it sees why instead of a reset
HEADERS = 128  # lines


class Wire(HttpToolsProtocol):
    """One connection."""

    head = 0  # bytes of the headers so far, of what is read now
    size = 0  # bytes of the headers that were taken
    reading = True  # whether headers are awaited or under way
    whole = True  # whether the last request's body has come to its end
    spare = 0  # bytes within a request's body since the last that belonged to it: a chunk's extension, a trailer
    refused = False
    refusal: RequestError | None = None
    presence: Presence
    timer: asyncio.TimerHandle | None = None
    idle = 0.0  # when the last answer ended
    keeper: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first headers."""
        self.presence = Presence()
        super().connection_made(transport)
        self.wait(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more, and tell whoever wanted to know that the client has gone."""
        self.wait(None)
        if self.keeper:
            self.keeper.cancel()
        super().connection_lost(exc)
        self.presence.end()

    def data_received(self, data: bytes) -> None:
        """Read; what comes after a refusal is thrown away."""
        if self.refused:
            return
        if self.reading:
            self.head += len(data)
        elif not self.whole:
            self.spare += len(data)
        super().data_received(data)
        if self.spare > HEADER_BYTES and not self.refused and not self.whole:
            self.refuse(too_large())
        if self.reading and not self.refused:
            if self.head > HEADER_BYTES:
                self.refuse(too_large())
            elif self.timer is None:  # set here, for headers that come in one piece need none
                self.wait(HEAD_SECONDS)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self.reading, self.whole = True, False
        self.head, self.size = self.head or 1, 0
        if self.timer:
            self.wait(None)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header. What comes behind a body (a trailer) is nobody's."""
        if not self.reading:
            return
        self.size += len(name) + len(value)
        if len(self.headers) >= HEADERS or self.size > HEADER_BYTES:
            self.fail(too_large())
        name = name.lower()
        if name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the headers as a whole. What asks for another host or another protocol is nothing that we do."""
        if self.timer:
            self.wait(None)
        if self.size + len(self.url) > HEADER_BYTES:  # a target, too, can come whole in one piece
            self.fail(too_large())
        self.reading, self.head, self.spare = False, 0, 0
        # What begins with two slashes names another host to some readers and a path to others.
        if (not self.url.startswith(b"/") and self.url != b"*") or self.url.startswith(b"//"):
            self.fail(RequestError("the request's target must be a path", code="bad_request"))
        if self.parser.should_upgrade():
            self.fail(RequestError("this server speaks HTTP/1.1 and upgrades to nothing", code="bad_request", field="Upgrade"))
        self.begin()

    def begin(self) -> None:
        """Have the request answered, or queued behind the one before it."""
        parser, url = self.parser, httptools.parse_url(self.url)
        version = parser.get_http_version()
        path = url.path.decode("ascii")
        event = asyncio.Event()
        self.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "method": parser.get_method().decode("ascii"),
            "root_path": self.root_path,
            "path": unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
            "headers": self.headers,
            "state": self.app_state.copy(),
            "extensions": {LEFT: self.presence, READY: event.is_set},  # type: ignore[dict-item]  # our own
        }
        before, self.cycle = self.cycle, Cycle(self, event, kept=version != "1.0" and parser.should_keep_alive())
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """Take a piece of a request's body."""
        cycle = self.cycle
        self.spare = 0
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Note the end of a request's body."""
        self.whole = True
        if not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        """After an answer: the next request's turn, and a body that was not waited for gets a moment to end."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self.idle = self.loop.time()
            if self.keeper is None:
                self.keeper = self.loop.call_later(self.timeout_keep_alive, self.look)
        if not self.whole:
            self.wait(LINGER)

    def look(self) -> None:
        """Close a connection on which nothing was asked for long; who is being answered now is looked at after that."""
        self.keeper = None
        if self.transport.is_closing() or not self.cycle.response_complete:
            return
        left = self.idle + self.timeout_keep_alive - self.loop.time()
        if left > 0 or self.head:
            self.keeper = self.loop.call_later(max(left, 1.0), self.look)
        else:
            self.transport.close()

    def wait(self, seconds: float | None) -> None:
        """Set the one timer, or stop it."""
        if self.timer:
            self.timer.cancel()
        self.timer = None if seconds is None else self.loop.call_later(seconds, self.late)

    def late(self) -> None:
        """End a connection whose headers or whose body did not come."""
        self.timer = None
        if not self.reading:
            if not self.whole:
                self.transport.close()
        elif (
            not self.head
        ):  # a browser that connected ahead of time and asked nothing: an answer would be one to its next question
            self.transport.close()
        elif self.cycle is None or self.cycle.response_complete:
            self.refuse(SlowBodyError(f"the headers did not come within {HEAD_SECONDS:g} s", code="slow_headers"))
        else:  # the next request's headers, while an answer still runs
            self.wait(HEAD_SECONDS)

    def fail(self, error: RequestError) -> NoReturn:
        """Stop the parser; uvicorn then asks for a 400, which `send_400_response` makes into the error."""
        self.refusal = error
        raise ValueError(error.code)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Refuse in our own words."""
        self.refuse(self.refusal or RequestError("this is no HTTP/1.1 request", code="bad_request"))

    def refuse(self, error: RequestError) -> None:
        """Send the error and close, reading on for a moment: a reset would take the answer from a client that still sends."""
        self.refused = True
        self.wait(None)
        if self.speaking():
            self.transport.close()
            return
        body = json.dumps(error.envelope()).encode()
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), (b"connection", b"close"), *FIXED]
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in [*head, (b"cache-control", b"no-store")])
        self.transport.write(STATUS_LINE[error.status] + lines + b"\r\n" + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER, self.transport.close)

    def speaking(self) -> bool:
        """Say whether a refusal would come within an earlier request's answer, before it, or behind its own request's."""
        cycle = self.cycle
        if cycle is None:
            return False
        own = not self.reading and not self.whole  # the fault is in the body of the request that `cycle` answers
        return bool(self.pipeline) or (cycle.response_started if own else not cycle.response_complete)


def too_large() -> HeadersTooLargeError:
    """Return the error for too much before a body."""
    text = f"the headers are larger than {HEADER_BYTES} bytes or more than {HEADERS} lines"
    return HeadersTooLargeError(text, code="headers_too_large")
