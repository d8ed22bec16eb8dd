"""Bytes that no browser sends, on the real server: too much, too slow, cut short, read two ways (adverse list, 24 to 28, 31)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

import pytest
from fakes import openai
from fakes.gateway import parts_of
from fakes.raw import GET, HOST, POST, dialled, goes_on
from fakes.wire import wired
from serving import listening, parts_in, question, soon

from hybr.server import body, wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    """A server with nothing behind it."""
    async with listening(parts_in(tmp_path)) as found:
        yield found


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a second."""
    monkeypatch.setattr(body, "BODY_SECONDS", 1.0)
    monkeypatch.setattr(wire, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(wire, "LINGER", 0.3)


@pytest.mark.usefixtures("hurry")
async def test_24_a_body_cut_short(address: str) -> None:
    """A body shorter than it said is waited for for a while and no longer: 408, and the connection is closed."""
    async with dialled(address) as line:
        await line.send(POST + b"Content-Length: 1000\r\n\r\n", b'{"messages": ')
        status, told = await line.answer()
        assert (status, told["error"]["code"]) == (408, "slow_body")
        assert await line.ended() == b""
    await goes_on(address)


@pytest.mark.usefixtures("hurry")
async def test_24_slow_headers(address: str) -> None:
    """Headers that drip in get 408 and a closed connection, the first request's and a later one's; silence is just closed."""
    async with dialled(address) as line:
        await line.send(GET, b"Host: local")
        status, told = await line.answer()
        assert (status, told["error"]["code"]) == (408, "slow_headers")
        assert await line.ended() == b""
    async with dialled(address) as line:
        await line.send(GET + HOST + b"\r\n")
        _, headers = await line.head()
        await line.reader.readexactly(int(headers["content-length"]))
        await line.send(b"GE")
        assert (await line.answer())[0] == 408
        assert await line.ended() == b""
    async with dialled(address) as line:
        assert await line.ended() == b""
    await goes_on(address)


async def test_24_many_slow_clients(address: str) -> None:
    """A hundred clients that never finish their headers hold up nobody."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(100):
            line = await stack.enter_async_context(dialled(address))
            await line.send(b"GET / HT")
        await goes_on(address)


@pytest.mark.parametrize("chunked", [True, False])
async def test_25_a_large_body(address: str, chunked: bool) -> None:
    """A body of 40 MiB is refused with 413 while it comes, and is not kept."""
    length = b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: 41943040\r\n\r\n"
    piece = b"10000\r\n" + b" " * 65536 + b"\r\n" if chunked else b" " * 65536
    async with dialled(address) as line:
        sending = asyncio.create_task(line.send(POST + length, *[piece] * 640))
        status, told = await line.answer()
        assert (status, told["error"]["code"]) == (413, "body_too_large")
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    await goes_on(address)


@pytest.mark.parametrize(
    "headers",
    [
        b"X-Long: " + b"x" * 65536 + b"\r\n",
        b"X-Long: " + b"x" * (8 << 20),  # and no end of the line
        b"".join(b"X-%d: y\r\n" % index for index in range(10000)),
        b"".join(b"X-%d: y\r\n" % index for index in range(200)),
    ],
)
async def test_25_large_headers(address: str, headers: bytes) -> None:
    """Headers of 64 KiB, 8 MiB in one line, ten thousand of them: 431, before they are all there."""
    async with dialled(address) as line:
        sending = asyncio.create_task(line.send(GET + HOST + headers, b"\r\n"))
        status, told = await line.answer()
        assert (status, told["error"]["code"]) == (431, "headers_too_large")
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    await goes_on(address)


@pytest.mark.parametrize(
    "raw",
    [
        POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        POST + b"Content-Length: 2, 2\r\n\r\n{}",
        POST + b"Content-Length: +2\r\n\r\n{}",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: identity, chunked, x\r\n\r\n{}",
        POST.replace(b"\r\n", b"\n") + b"Content-Length: 2\n\n{}",
        POST + b"X-Folded: a\r\n  b\r\nContent-Length: 2\r\n\r\n{}",
        POST + b"X-Nul: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
        POST + b"Content-Length : 2\r\n\r\n{}",
        b"GET http://evil.example/v1/models HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET //evil.example\\@x HTTP/9.9\r\n" + HOST + b"\r\n",
        b"GET v1/models HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET //evil.example/v1/models HTTP/1.1\r\n" + HOST + b"\r\n",
        GET + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
        GET + HOST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        GET + b"Host: localhost?x\r\n\r\n",
        GET + b"Host: localhost/x\r\n\r\n",
        GET + b"Host: evil@localhost\r\n\r\n",
        GET + b"Host: localhost:1\r\n\r\n",
        GET + b"Host: localhost\r\nHost: localhost\r\n\r\n",
    ],
)
async def test_26_31_read_two_ways(address: str, raw: bytes) -> None:
    """What two readers could read differently, another host's name or another protocol is a 400 in our envelope."""
    async with dialled(address) as line:
        await line.send(raw)
        assert (await line.answer())[0] == 400
    await goes_on(address)


async def test_16_a_body_that_unfolds(address: str) -> None:
    """A compressed body, which could unfold into gigabytes, is refused before it is looked at."""
    async with dialled(address) as line:
        await line.send(POST + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}")
        status, told = await line.answer()
    assert (status, told["error"]["code"]) == (415, "wrong_encoding")


async def test_26_smuggling(address: str) -> None:
    """What follows a request that was refused is not taken for a second one."""
    async with dialled(address) as line:
        await line.send(POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET + HOST + b"\r\n")
        assert (await line.answer())[0] == 400
        assert await line.ended() == b""


BODIES = [
    b"not json", b"", b"[]", b"0", b"null", b'"x"', b"NaN", b'{"temperature": NaN}', b'{"temperature": Infinity}',
    b'{"temperature": 1e400}', b'{"max_tokens": ' + b"9" * 1_000_000 + b"}", b'{"n": 1, "n": 2}', b"[" * 20_000,
    b'{"a":' * 20_000 + b"1" + b"}" * 20_000, b'{"model": "\\ud800"}', b'{"model": "\xff"}', b'{"model": "a\\u0000b"}',
    b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00",
]  # fmt: skip


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/messages", b"/v1/embeddings"])
async def test_27_bodies(address: str, path: bytes) -> None:
    """What is no JSON object of ours is a 400 at every surface, never a 500."""
    for raw in BODIES:
        async with dialled(address) as line:
            post = POST.replace(b"/v1/chat/completions", path)
            await line.send(post + b"Content-Length: %d\r\n\r\n" % len(raw), raw)
            status, told = await line.answer()
            assert status == 400, (raw[:40], told)


@pytest.mark.parametrize(
    "model",
    ["../../x", "openai/../../x", "openai/..%2f..%2fx", "openai/a\r\nx-evil: 1", "openai/a?key=1", "openai/a#b", "openai/a b",
     "openai/" + "a" * 300, "openai//etc/passwd", "openai/\u202ea", "openai/a\x00b", "http://evil.example/v1", "file:///etc/passwd"],
)  # fmt: skip
async def test_28_models_that_are_paths(tmp_path: Path, model: str) -> None:
    """A model's name that could leave its path or its line asks nobody."""
    async with (
        wired(openai.answer) as fake,
        listening(parts_of(tmp_path, "openai", fake.address, openai.KEY)) as found,
        dialled(found) as line,
    ):
        await soon(lambda: fake.asked)  # the list of models, at the start
        raw = json.dumps(question(model=model)).encode()
        await line.send(POST + b"Content-Length: %d\r\n\r\n" % len(raw), raw)
        assert (await line.answer())[0] in {400, 404}
        assert [one.target for one in fake.asked] == ["/v1/models"]
