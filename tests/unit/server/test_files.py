"""Sending files: ranges, validators, compressed forms, types."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from serving import REV, asking, parts_in, shelve

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = bytes(range(256)) * 1200  # 300 KiB: more than one chunk of sending
SIZE = len(WEIGHTS)
BASE = f"/models/tiny/{REV}/resolve/main"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A cache with one built model, whose library has a compressed sibling."""
    files = {"params_shard_0.bin": WEIGHTS, "model.wasm": b"\0asm" + bytes(9000), "mlc-chat-config.json": b"{}", "empty.bin": b""}
    folder = shelve(tmp_path / "home", "tiny", files)
    (folder / "model.wasm.br").write_bytes(b"packed")
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "status", "first", "last"),
    [
        ("bytes=0-0", 206, 0, 0),
        ("bytes=0-99", 206, 0, 99),
        ("bytes=100-", 206, 100, SIZE - 1),
        ("bytes=-5", 206, SIZE - 5, SIZE - 1),
        ("bytes=-999999999", 206, 0, SIZE - 1),
        (f"bytes={SIZE - 1}-{SIZE + 50}", 206, SIZE - 1, SIZE - 1),
        (f"bytes=0-{SIZE - 1}", 206, 0, SIZE - 1),
        ("bytes=5-2", 200, 0, SIZE - 1),
        ("bytes=0-1,5-6", 200, 0, SIZE - 1),
        ("bytes=a-b", 200, 0, SIZE - 1),
        ("bytes=", 200, 0, SIZE - 1),
        ("items=0-5", 200, 0, SIZE - 1),
        ("bytes=0-" + "9" * 5000, 200, 0, SIZE - 1),
    ],
)
async def test_ranges(home: Path, asked: str, status: int, first: int, last: int) -> None:
    """One well-formed range is answered with exactly those bytes; any other Range header is as if it were not there."""
    async with asking(parts_in(home)) as client:
        answer = await client.get(f"{BASE}/params_shard_0.bin", headers={"range": asked})
    assert answer.status_code == status
    assert answer.content == WEIGHTS[first : last + 1]
    assert answer.headers["content-length"] == str(last + 1 - first)
    assert answer.headers.get("content-range") == (f"bytes {first}-{last}/{SIZE}" if status == 206 else None)
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(("path", "asked"), [("params_shard_0.bin", f"bytes={SIZE}-"), ("empty.bin", "bytes=0-0")])
async def test_range_beyond_the_end(home: Path, path: str, asked: str) -> None:
    """A range that starts after the last byte is 416 and says how long the file is."""
    async with asking(parts_in(home)) as client:
        answer = await client.get(f"{BASE}/{path}", headers={"range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{SIZE if path.startswith('params') else 0}"


async def test_if_range(home: Path) -> None:
    """A range is honoured only for the very file it was started on, so a resumed download never joins two files."""
    async with asking(parts_in(home)) as client:
        tag = (await client.head(f"{BASE}/params_shard_0.bin")).headers["etag"]
        same = await client.get(f"{BASE}/params_shard_0.bin", headers={"range": "bytes=9-", "if-range": tag})
        other = await client.get(f"{BASE}/params_shard_0.bin", headers={"range": "bytes=9-", "if-range": '"else"'})
        weak = await client.get(f"{BASE}/params_shard_0.bin", headers={"range": "bytes=9-", "if-range": f"W/{tag}"})
    assert (same.status_code, other.status_code, weak.status_code) == (206, 200, 200)


async def test_validators(home: Path) -> None:
    """A known file is not sent again, and a HEAD has the headers of the GET and no body."""
    async with asking(parts_in(home)) as client:
        first = await client.get(f"{BASE}/params_shard_0.bin")
        again = await client.get(f"{BASE}/params_shard_0.bin", headers={"if-none-match": f'"x", {first.headers["etag"]}'})
        head = await client.head(f"{BASE}/params_shard_0.bin")
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == first.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert head.content == b""
    assert head.headers["content-length"] == str(SIZE)


@pytest.mark.parametrize(
    ("since", "status"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 304),
        ("Sun, 06 Nov 1994 08:49:38 GMT", 304),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 304),
        ("Sun Nov  6 08:49:37 1994", 304),
        ("Sun, 06 Nov 1994 08:49:36 GMT", 200),
        ("yesterday", 200),
        ("", 200),
        ("Sun, 99 Nov 1994 08:49:37 GMT", 200),
        ("Sun, 06 Nov 99999999999999999999 08:49:37 GMT", 200),
        ("Sun, 06 Nov 1994 08:49:37 +99999999999999999999", 200),
    ],
)
async def test_if_modified_since(home: Path, since: str, status: int) -> None:
    """A file that is no newer than the date asked about is not sent again; what is no date is as if it were not there."""
    path = home / "home" / "models" / "tiny" / REV / "params_shard_0.bin"
    os.utime(path, ns=(0, 784111777_900_000_000))  # 1994-11-06 08:49:37.9: HTTP dates have whole seconds
    async with asking(parts_in(home)) as client:
        answer = await client.get(f"{BASE}/params_shard_0.bin", headers={"if-modified-since": since})
    assert answer.status_code == status
    assert answer.content == (b"" if status == 304 else WEIGHTS)


async def test_the_tag_goes_before_the_date(home: Path) -> None:
    """With If-None-Match the date counts for nothing (RFC 9110, 13.1.3); the server's own date is good for a 304."""
    async with asking(parts_in(home)) as client:
        date = (await client.head(f"{BASE}/params_shard_0.bin")).headers["last-modified"]
        alone = await client.get(f"{BASE}/params_shard_0.bin", headers={"if-modified-since": date})
        other = await client.get(f"{BASE}/params_shard_0.bin", headers={"if-modified-since": date, "if-none-match": '"x"'})
    assert (alone.status_code, other.status_code) == (304, 200)


@pytest.mark.parametrize(
    ("accept", "packed"),
    [
        ("br", True),
        ("gzip, deflate, br, zstd", True),
        ("BR;q=0.5", True),
        ("br;q=0", False),
        ("br;q=0.0", False),
        ("gzip", False),
    ],
)
async def test_compressed_sibling(home: Path, accept: str, packed: bool) -> None:
    """The .br sibling goes to those who take brotli, under the original's type and a validator of its own."""
    async with asking(parts_in(home)) as client:
        answer = await client.get(f"{BASE}/model.wasm", headers={"accept-encoding": accept, "x-raw": "1"})
        plain = await client.get(f"{BASE}/model.wasm", headers={"accept-encoding": "identity"})
    assert answer.headers.get("content-encoding") == ("br" if packed else None)
    assert answer.headers["content-type"] == "application/wasm"
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.headers["content-length"] == ("6" if packed else "9004")
    assert (answer.headers["etag"] == plain.headers["etag"]) is not packed


async def test_a_range_is_of_the_plain_form(home: Path) -> None:
    """Who asks for bytes gets those of the file itself, whatever encodings it takes."""
    async with asking(parts_in(home)) as client:
        answer = await client.get(f"{BASE}/model.wasm", headers={"accept-encoding": "br", "range": "bytes=0-3"})
    assert (answer.content, answer.headers.get("content-encoding")) == (b"\0asm", None)


@pytest.mark.parametrize(
    ("path", "media"),
    [
        ("model.wasm", "application/wasm"),
        ("mlc-chat-config.json", "application/json"),
        ("params_shard_0.bin", "application/octet-stream"),
        ("manifest.json", "application/json"),
    ],
)
async def test_types(home: Path, path: str, media: str) -> None:
    """Types are ours, not the machine's, and never sniffed."""
    async with asking(parts_in(home)) as client:
        answer = await client.get(f"{BASE}/{path}", headers={"accept-encoding": "identity"})
    assert answer.headers["content-type"] == media
    assert answer.headers["x-content-type-options"] == "nosniff"
