"""The wall: headers on every answer, hosts, other sites' requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from serving import asking, parts_in

from hybr.server.security import policy

if TYPE_CHECKING:
    from pathlib import Path

PUT = {"version": 0, "preferences": {}}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/healthz"),
        ("GET", "/assets/x/y.js"),
        ("GET", "/models/index.json"),
        ("GET", "/models/a/b/c"),
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/api/preferences"),
        ("GET", "/nothing/here"),
        ("DELETE", "/api/preferences"),
        ("GET", "/favicon.ico"),
    ],
)
async def test_every_answer_is_dressed(tmp_path: Path, method: str, path: str) -> None:
    """Whatever the route and the status, the isolation headers and a policy without eval go out."""
    async with asking(parts_in(tmp_path)) as client:
        headers = (await client.request(method, path)).headers
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-embedder-policy"] == "require-corp"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "connect-src 'self' blob:" in headers["content-security-policy"]
    assert "'unsafe-eval'" not in headers["content-security-policy"]
    assert headers["cache-control"] in {"no-store", "no-cache"}


async def test_a_crash_is_dressed_and_says_nothing(tmp_path: Path) -> None:
    """A defect of ours is an envelope with the headers and without a word of the exception."""
    parts = parts_in(tmp_path)
    parts.boot.health = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    async with asking(parts) as client:
        answer = await client.get("/healthz")
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert answer.headers["connection"] == "close"  # uvicorn closes it, and a client that were not told would ask on it again
    assert "division" not in answer.text
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:8080", 200),
        ("localhost:1", 200),
        ("LOCALHOST", 200),
        ("[::1]:8080", 200),
        ("evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("evil.example:8080@127.0.0.1", 400),
        ("user@127.0.0.1", 400),
        ("127.0.0.1/?x", 400),
        ("127.0.0.1:8080?x=/v1", 400),
        ("127.0.0.1:99999999", 400),
        ("127.1", 400),
        ("0x7f.1", 400),
        ("", 400),
    ],
)
async def test_hosts(tmp_path: Path, host: str, status: int) -> None:
    """We answer for the loopback's names only: a rebound foreign name is refused (adverse list, 31)."""
    async with asking(parts_in(tmp_path)) as client:
        assert (await client.get("/v1/models", headers={"host": host})).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1"}, 200),
        ({"origin": "http://127.0.0.1"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
    ],
)
async def test_other_sites_change_nothing(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    """A page of another site, or of another port, may not write; a form cannot pose as JSON (adverse list, 32)."""
    async with asking(parts_in(tmp_path)) as client:
        answer = await client.put("/api/preferences", json=PUT, headers=headers)
    assert answer.status_code == status


async def test_reading_is_not_held_up(tmp_path: Path) -> None:
    """A link from elsewhere to the page still opens it."""
    async with asking(parts_in(tmp_path)) as client:
        answer = await client.get("/v1/models", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 200


async def test_large_headers(tmp_path: Path) -> None:
    """More than 16 KiB of headers is 431 (adverse list, 25)."""
    async with asking(parts_in(tmp_path)) as client:
        answer = await client.get("/v1/models", headers={"x-large": "x" * 17000})
    assert answer.status_code == 431
    assert answer.json()["error"]["code"] == "headers_too_large"


def test_policy_can_be_narrowed() -> None:
    """The local-only page's policy lets nothing but its own assets and models be asked for."""
    narrow = policy(["'sha256-x'"], connect="http://a/assets/ http://a/models/")
    assert "connect-src http://a/assets/ http://a/models/ blob:;" in narrow
    assert "script-src 'self' 'wasm-unsafe-eval' blob: 'sha256-x';" in narrow
