"""The relay's own way over aiohttp's pool: heads, what must not get into one, and when a connection is kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from yarl import URL

from hybr.server import egress
from hybr.server.errors import SlowUpstreamError
from hybr.server.providers.dialect import Stream
from hybr.server.providers.line import Way
from hybr.server.providers.openai import Chunks
from hybr.server.providers.reading import Clock, Reading
from hybr.server.providers.remote import Patience
from hybr.server.spell import spell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextlib.asynccontextmanager
async def way_to(*answers: bytes, read: bool = True) -> AsyncIterator[tuple[Way, list[bytes]]]:
    """Give the way to a server that sends these answers on each connection, and the heads that it got."""
    heads: list[bytes] = []
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            head = await reader.readuntil(b"\r\n\r\n")
            heads.append(head)
            if read:
                await reader.readexactly(int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0]))
            writer.write(answer)
        await done.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    connector = egress.connector(address)
    try:
        yield Way(connector, URL(f"{address}/v1/x?a=b"), aiohttp.ClientTimeout(connect=5), asyncio.get_running_loop()), heads
    finally:
        await connector.close()
        done.set()
        server.close()


async def test_a_head_as_it_goes_out() -> None:
    """The request has its target, host, headers and length, and the next one goes over the same connection."""
    async with way_to(EMPTY, EMPTY) as (way, heads):
        for turn in range(2):
            reply = await way.connect()
            await reply.ask(way.head({"authorization": "Bearer k"}, 4), b"body")
            assert reply.content is not None
            assert (reply.status, await reply.content.read(), reply.reused) == (200, b"ok", turn == 1)
    assert heads[0] == heads[1]
    line, *lines = heads[0].decode().strip().split("\r\n")
    assert line == "POST /v1/x?a=b HTTP/1.1"
    assert {"authorization: Bearer k", "Content-Length: 4", "Accept-Encoding: identity", "User-Agent: hybr"} < set(lines)
    assert [one for one in lines if one.startswith("Host: 127.0.0.1:")]


async def test_what_is_said_before_the_answer() -> None:
    """Early hints and a 100 that nobody asked for are not the answer."""
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with way_to(hints + EMPTY) as (way, _):
        reply = await way.connect()
        await reply.ask(way.head({}, 0), b"")
        assert reply.status == 200


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\nb", "a\rb", "a\0b", "a\x7f"])
async def test_what_no_header_may_hold(value: str) -> None:
    """A key with a line end in it, as a file can give one, begins no header of its own: nothing is sent."""
    async with way_to() as (way, _):
        with pytest.raises(ValueError, match="control character"):
            way.head({"authorization": value}, 0)


@pytest.mark.parametrize("target", ["/v1/a b", "/v1/a\r\nx: y"])
async def test_what_no_target_may_hold(target: str) -> None:
    """A target is one word of the request's line."""
    connector = egress.connector("http://127.0.0.1:1")
    url = URL.build(scheme="http", host="127.0.0.1", port=1, path=target, encoded=True)
    with pytest.raises(ValueError, match="space or a control"):
        Way(connector, url, aiohttp.ClientTimeout(), asyncio.get_running_loop())
    await connector.close()


async def test_no_http_at_all() -> None:
    """Nonsense is a failure of the answer, in aiohttp's tree, and its connection is not kept."""
    async with way_to(b"SSH-2.0-OpenSSH_9.2\r\n\r\n") as (way, _):
        reply = await way.connect()
        with pytest.raises(aiohttp.ClientError):
            await reply.ask(way.head({}, 0), b"")
        assert reply.connection.closed


async def test_an_answer_before_the_request_was_taken() -> None:
    """A connection on which a part of the request still waits to be sent is not used for the next one."""
    large = b"x" * (16 << 20)
    async with way_to(EMPTY, read=False) as (way, _):
        reply = await way.connect()
        transport: Any = reply.protocol.transport
        await reply.ask(way.head({}, len(large)), large)
        assert transport.get_write_buffer_size(), "else this shows nothing"
        assert reply.content is not None
        await reply.content.read()
        assert transport.is_closing()


def reading(clock: Clock, **patience: float) -> Reading:
    """Return a reading without a reply."""
    return Reading(Stream("p", Chunks("m")), Patience(**patience), clock)


class Never:
    """A reply that never comes; `failed` is set by the one who gave up."""

    whole = True  # nothing is there to be cut

    def __init__(self) -> None:
        self.failed = asyncio.Event()

    def fail(self, error: Exception) -> None:
        """Take the failure."""
        assert isinstance(error, TimeoutError)
        self.failed.set()


async def test_one_clock_for_many_waits() -> None:
    """Each answer's wait ends at its own time, whichever began first, and who has left is left alone."""
    clock = Clock()
    patience = [30.0, 0.01, 0.02, 30.0]
    all_ = [reading(clock, first=seconds) for seconds in patience]
    replies = [Never() for _ in all_]
    for one, reply in zip(all_, replies, strict=True):
        one.reply = reply  # type: ignore[assignment]
    all_[1].part()
    await asyncio.wait_for(replies[2].failed.wait(), 10)
    assert [reply.failed.is_set() for reply in replies] == [False, False, True, False]
    clock.stop()


def test_json_as_it_leaves() -> None:
    """It is what `json` writes without blanks, in ASCII; what JSON has no form for is refused."""
    value = {"a": [1, 2.5, True, None, 'ä\ud83d\u2028"\\'], "b": {"c": 10**30}}
    assert spell(value) == json.dumps(value, separators=(",", ":")).encode()
    with pytest.raises(TypeError, match="set"):
        spell({"a": {1}})


async def test_the_words_of_a_wait_that_was_too_long() -> None:
    """The network's timeout is told as the provider's silence, by its name."""
    clock = Clock()
    one = reading(clock)
    with pytest.raises(SlowUpstreamError, match="p did not answer in time"), one:
        raise TimeoutError
    one.part()
    assert not clock.running
    clock.stop()
