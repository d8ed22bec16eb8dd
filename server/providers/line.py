"""One POST over aiohttp's pool, parser and streams, without its session.

A session makes for each request a URL, two maps of headers, a payload, a request with a task that writes it, a response and its
cookies: a fifth of the relay's processor time, and the task held the bytes back for a turn of the loop. What of a request never
changes is a `Way` here, made once, and what goes out is two pieces of bytes. Connecting, TLS, the pool, reading and its
back-pressure are aiohttp's own; no redirect is followed, no cookie kept, nothing decompressed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from aiohttp.connector import Connection
    from yarl import URL

    from hybr.server.egress import Connector

SWITCHING = 101  # the one status below 200 that ends a head
UNFIT = re.compile(r"[\x00-\x20\x7f]")  # in a target, where a space would begin another word
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # in a header


class Way:
    """How to one address of an upstream: `url`, over the pool of `connector`, which waits for a connection as `timeout` says."""

    def __init__(self, connector: Connector, url: URL, timeout: aiohttp.ClientTimeout, loop: asyncio.AbstractEventLoop) -> None:
        if UNFIT.search(url.raw_path_qs):
            raise ValueError("a target with a space or a control character")
        self.connector = connector
        self.timeout = timeout
        self.where = aiohttp.ClientRequest("POST", url, loop=loop)  # never sent: it tells the pool where to connect to
        self.begin = (
            f"POST {url.raw_path_qs} HTTP/1.1\r\nHost: {url.host_port_subcomponent}\r\nAccept: */*\r\n"
            "Accept-Encoding: identity\r\nUser-Agent: hybr\r\nContent-Type: application/json\r\n"
        )

    def head(self, headers: Mapping[str, str], size: int) -> bytes:
        """Return the head of a request with a body of `size` bytes. Raises ValueError for headers that are none."""
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        if lines.count("\r\n") != len(headers) or CONTROL.search(lines.replace("\r\n", "")):
            raise ValueError("a header with a control character")
        return f"{self.begin}{lines}Content-Length: {size}\r\n\r\n".encode()

    async def connect(self) -> Reply:
        """Return the reply to come, on a connection of its own, kept or new. Raises aiohttp.ClientError, TimeoutError."""
        connection = await self.connector.connect(self.where, [], self.timeout)
        return Reply(connection, reused=self.connector.reused)


class Reply:
    """What is answered on one connection: `status`, `headers` and `content` once `ask` has returned.

    The connection goes back into the pool at the answer's end; `close` cuts it before. `reused` says that it had been used
    before: only then can it have died unseen.
    """

    __slots__ = ("connection", "content", "headers", "protocol", "reused", "status")

    def __init__(self, connection: Connection, *, reused: bool) -> None:
        assert connection.protocol is not None  # noqa: S101  for mypy: it is fresh out of the pool
        self.connection = connection
        self.protocol = connection.protocol
        self.reused = reused
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.content: aiohttp.StreamReader | None = None

    async def ask(self, head: bytes, body: bytes) -> None:
        """Send, and read the answer's head. Raises aiohttp.ClientError, OSError, or what `fail` was given."""
        protocol = self.protocol
        transport = protocol.transport
        if transport is None or transport.is_closing():
            self.connection.close()
            raise aiohttp.ServerDisconnectedError
        try:
            protocol.set_response_params(read_until_eof=True, auto_decompress=False, read_bufsize=64 * 1024)
            transport.writelines((head, body) if body else (head,))  # from 3.12 on asyncio never gets rid of an empty piece
            message, content = await protocol.read()
            while message.code < 200 and message.code != SWITCHING:
                message, content = await protocol.read()
        except HttpProcessingError as error:
            self.connection.close()
            raise aiohttp.ClientPayloadError(error.message) from None
        except BaseException:
            self.connection.close()
            raise
        self.status, self.headers, self.content = message.code, message.headers, content
        content.on_eof(self.over)

    def over(self) -> None:
        """Give the connection back, unless the upstream answered before it took the whole request."""
        transport = self.protocol.transport
        if transport is None or transport.get_write_buffer_size():
            self.connection.close()
        else:
            self.connection.release()

    def fail(self, error: Exception) -> None:
        """Have whoever waits for this answer get `error`."""
        if self.content is None:
            self.protocol.set_exception(error)
        else:
            self.content.set_exception(error)

    @property
    def whole(self) -> bool:
        """Whether all of the answer has been read."""
        return self.content is not None and self.content.at_eof()

    def close(self) -> None:
        """Cut the connection unless it has gone back."""
        self.connection.close()
