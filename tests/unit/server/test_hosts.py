"""Which other hosts the engine may fetch models from: as its person allowed, for them, and for nothing else of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from serving import asking, parts_in

from hybr.server.hosts import MOST, model_hosts

if TYPE_CHECKING:
    from pathlib import Path

    from hybr.server.serve import Parts

KEY = "abcdef0123456789"
ENGINE = f"/remote/assets/{KEY}/js/engine/engine.worker.js"
HOSTS = ["https://models.example.org", "https://*.example.net"]


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """Parts with a bundle of two scripts."""
    folder = tmp_path / "bundle"
    (folder / "assets" / KEY / "js" / "engine").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>")
    for name in ("engine.worker.js", "host.js"):
        (folder / "assets" / KEY / "js" / "engine" / name).write_text("export {};")
    parts = parts_in(tmp_path)
    parts.site.folder = folder
    return parts


@pytest.mark.parametrize(
    "value",
    [
        [],
        HOSTS,
        ["https://models.example.org:8443"],
        ["http://127.0.0.1:8123", "http://localhost:9"],
    ],
)
def test_hosts_that_a_policy_may_name(value: list[str]) -> None:
    """Names over https, names below a name, and this machine over http."""
    assert model_hosts(value) is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        "https://models.example.org",
        [7],
        ["*"],
        ["https://*"],
        ["https://*.org"],
        ["https:"],
        ["http://models.example.org"],
        ["https://models.example.org/path"],
        ["https://models.example.org; script-src *"],
        ["https://models.example.org 'unsafe-inline'"],
        ["https://MODELS.example.org"],
        ["https://192.168.1.1"],
        ["https://models.example.org\n"],
        ["ws://127.0.0.1:80"],
        ["https://" + "a." * 120 + "org"],
        ["https://a.example.org"] * (MOST + 1),
    ],
)
def test_what_no_policy_may_name(value: object) -> None:
    """Nothing can be slipped into the policy, and nobody can allow everybody."""
    assert "hosts" in str(model_hosts(value))


async def test_the_engine_may_ask_whom_its_person_allowed(parts: Parts) -> None:
    """Only connect-src grows, only by the stored hosts, and no cache keeps the answer; the rest of the page stays closed."""
    async with asking(parts) as client:
        closed = await client.get(ENGINE)
        told = {"version": 0, "preferences": {"model_hosts": HOSTS}}
        assert (await client.put("/api/preferences", json=told)).status_code == 200
        opened = await client.get(ENGINE, headers={"if-none-match": closed.headers["etag"]})
        page = await client.get("/")
        plain = await client.get(f"/assets/{KEY}/js/engine/engine.worker.js")
    assert "connect-src 'self' blob:" in closed.headers["content-security-policy"]
    assert (opened.status_code, opened.text, opened.headers["cache-control"]) == (200, "export {};", "no-store")
    grown = opened.headers["content-security-policy"]
    assert grown == closed.headers["content-security-policy"].replace(
        "'self' blob:; manifest", f"'self' {' '.join(HOSTS)} blob:; manifest"
    )
    for other in (page, plain):
        assert "example" not in other.headers["content-security-policy"]


async def test_everything_else_comes_from_its_one_address(parts: Parts) -> None:
    """What the worker imports is sent on to where it is kept for ever; what is not there is not there."""
    async with asking(parts) as client:
        other = await client.get(f"/remote/assets/{KEY}/js/engine/host.js", follow_redirects=False)
        missing = await client.get(f"/remote/assets/{KEY}/js/engine/none.js")
        outside = await client.get("/remote/assets/../../../etc/passwd")
    assert (other.status_code, other.headers["location"]) == (308, f"/assets/{KEY}/js/engine/host.js")
    assert (missing.status_code, outside.status_code) == (404, 404)


async def test_a_damaged_list_allows_nobody(parts: Parts) -> None:
    """Were something else in the store, it would not reach the header."""
    async with asking(parts) as client:
        refused = await client.put("/api/preferences", json={"version": 0, "preferences": {"model_hosts": ["https://*"]}})
    assert refused.status_code == 400
    assert refused.json()["error"]["field"] == "preferences.model_hosts"
