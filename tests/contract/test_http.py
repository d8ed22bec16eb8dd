"""What a browser never sends: requests that two readers would cut apart differently, and plain nonsense (adverse, 25, 26)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from serving import listening, parts_in

if TYPE_CHECKING:
    from pathlib import Path

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GET = b"GET /v1/models HTTP/1.1\r\n"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
        (POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400),
        (POST + b"X-Folded: a\r\n  b\r\nContent-Length: 2\r\n\r\n{}", 400),
        (POST.replace(b"\r\n", b"\n") + b"Content-Length: 2\n\n{}", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length: -1\r\n\r\n{}", 400),
        (GET + b"\r\n", 400),
        (GET + b"Host: localhost\r\nHost: evil.example\r\n\r\n", 400),
        (GET + b"Host: localhost\r\n" + b"".join(b"X-%d: y\r\n" % index for index in range(10000)) + b"\r\n", 431),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /models/%zz/%ff/x HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"\x16\x03\x01\x00\xa5\r\n\r\n", 400),
    ],
)
async def test_nonsense(tmp_path: Path, raw: bytes, status: int) -> None:
    """Each is refused at once with a status of its own, and the server goes on."""
    async with listening(parts_in(tmp_path)) as address:
        port = int(address.rsplit(":", 1)[1])
        for request, wanted in ((raw, status), (GET + b"Host: localhost\r\n\r\n", 200)):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            line = await asyncio.wait_for(reader.readline(), 60)
            assert line.startswith(f"HTTP/1.1 {wanted} ".encode())
            writer.close()
            await writer.wait_closed()
