"""The page's document and its assets."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from serving import asking, parts_in

if TYPE_CHECKING:
    from pathlib import Path

    from hybr.server.serve import Parts

KEY = "abcdef0123456789"
SCRIPT = "\nconsole.log('früh');\n"


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """Parts with a small bundle."""
    folder = tmp_path / "bundle"
    (folder / "assets" / KEY / "js").mkdir(parents=True)
    text = f'<!doctype html><meta name="place" content=""><script src="/a.js"></script><script type="module">{SCRIPT}</script>'
    (folder / "index.html").write_text(text)
    (folder / "assets" / KEY / "js" / "shell.js").write_text("export {};")
    (folder / "assets" / KEY / "js" / "shell.js.br").write_bytes(b"packed")
    (folder / "assets" / KEY / "js" / ".hidden").write_text("secret")
    (tmp_path / "secret.js").write_text("secret")
    (folder / "assets" / KEY / "js" / "out.js").symlink_to(tmp_path / "secret.js")
    parts = parts_in(tmp_path)
    parts.site.folder = folder
    return parts


async def test_document(parts: Parts) -> None:
    """The document is always checked again, and its policy allows its own inline script and no other."""
    async with asking(parts) as client:
        answer = await client.get("/")
        again = await client.get("/", headers={"if-none-match": answer.headers["etag"]})
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert f"'sha256-{digest}'" in answer.headers["content-security-policy"]
    assert answer.headers["content-security-policy"].count("sha256-") == 1
    assert again.status_code == 304


async def test_asset(parts: Parts) -> None:
    """Assets are kept for ever, typed, and compressed for who takes it."""
    async with asking(parts) as client:
        packed = await client.head(f"/assets/{KEY}/js/shell.js", headers={"accept-encoding": "br"})
        plain = await client.get(f"/assets/{KEY}/js/shell.js", headers={"accept-encoding": "identity"})
    assert (packed.headers["content-encoding"], packed.headers["content-length"]) == ("br", "6")
    assert plain.text == "export {};"
    assert plain.headers["content-type"] == "text/javascript; charset=utf-8"
    assert plain.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "connect-src 'self' blob:" in plain.headers["content-security-policy"]  # a worker's policy is its script's


@pytest.mark.parametrize(
    "path",
    [
        "js/nothing.js",
        "js/.hidden",
        "js",
        "js/",
        "",
        "js/out.js",
        "js/../../../../secret.js",
        "..%2f..%2f..%2fsecret.js",
        "%2e%2e/%2e%2e/index.html",
        "js/shell.js%00",
        "js\\shell.js",
        "js//shell.js",
    ],
)
async def test_no_way_out(parts: Parts, path: str) -> None:
    """Nothing but the bundle's own plain files, and no error page that can be kept."""
    async with asking(parts) as client:
        answer = await client.get(f"/assets/{KEY}/{path}")
    assert answer.status_code == 404
    assert answer.headers["cache-control"] == "no-store"
    assert "secret" not in answer.text.replace("secret.js", "")


async def test_an_earlier_bundle(parts: Parts) -> None:
    """A tab that was opened before the last build still finds its files."""
    assert parts.site.folder is not None
    earlier = parts.site.folder.parent / "0000aaaa1111bbbb" / "assets" / "0000aaaa1111bbbb" / "js"
    earlier.mkdir(parents=True)
    (earlier / "late.js").write_text("export {};")
    async with asking(parts) as client:
        found = await client.get("/assets/0000aaaa1111bbbb/js/late.js")
        other = await client.get("/assets/0000aaaa1111bbbc/js/late.js")
    assert (found.status_code, other.status_code) == (200, 404)


async def test_before_the_bundle(tmp_path: Path) -> None:
    """Until it is built, a person reads what is going on, and the page looks again by itself."""
    parts = parts_in(tmp_path)
    parts.site.notice = "compressing <b>"
    async with asking(parts) as client:
        answer = await client.get("/")
        health = await client.get("/healthz")
    assert answer.status_code == 503
    assert "compressing &lt;b&gt;" in answer.text
    assert answer.headers["retry-after"] == "1"
    assert health.status_code == 503
    assert health.json()["reason"] == "compressing <b>"


async def test_a_used_bundle_is_marked(parts: Parts) -> None:
    """Asking for the document marks the bundle as in use, at most once a minute."""
    assert parts.site.folder is not None
    mark = parts.site.folder / "used"
    async with asking(parts) as client:
        await client.get("/")
        assert mark.exists()
        os.utime(mark, (0, 0))
        await client.get("/")
        assert mark.stat().st_mtime == 0
        parts.site._used -= 61
        await client.get("/")
    assert mark.stat().st_mtime > 0


@pytest.mark.parametrize("first", ["/", "/healthz", f"/assets/{KEY}/js/shell.js"])
async def test_a_bundle_that_went_away(parts: Parts, first: str) -> None:
    """When the cache is deleted under the server it says so, does not claim to be ready, and asks once for the page."""
    assert parts.site.folder is not None
    asked: list[bool] = []
    parts.site.lost = lambda: asked.append(True)
    shutil.rmtree(parts.site.folder)
    async with asking(parts) as client:
        await client.get(first)
        answer, health = await client.get("/"), await client.get("/healthz")
    assert (answer.status_code, health.status_code) == (503, 503)
    assert "gone from the cache" in answer.text
    assert health.json()["status"] == "starting"
    assert "gone from the cache" in health.json()["reason"]
    assert health.json()["page"]["state"] == "building"
    assert asked == [True]


STRICT = "connect-src 127.0.0.1/assets/ 127.0.0.1/local/assets/ 127.0.0.1/models/ blob:"


class TestLocal:
    """The local-only document and what its workers are begun from."""

    async def test_document(self, parts: Parts) -> None:
        """It knows what it is, and every directive that can make a request is scoped to built files and models."""
        async with asking(parts) as client:
            answer, usual = await client.get("/local"), await client.get("/")
        assert 'name="place" content="local"' in answer.text
        assert 'name="place" content=""' in usual.text
        directives = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert "'self'" not in answer.headers["content-security-policy"]
        assert f"connect-src {directives['connect-src']}" == STRICT
        assert directives["worker-src"] == "127.0.0.1/local/assets/ blob:"
        for name in ("script-src", "style-src", "font-src", "img-src", "manifest-src"):
            hosts = {source for source in directives[name].split() if source.startswith("127")}
            assert hosts == {"127.0.0.1/assets/", "127.0.0.1/local/assets/"}, name
        assert {directives[name] for name in ("default-src", "form-action", "base-uri", "frame-ancestors")} == {"'none'"}
        assert answer.headers["etag"] != usual.headers["etag"]

    async def test_scripts_carry_the_policy(self, parts: Parts) -> None:
        """A script, packed or not, fresh or not modified, has the strict policy and no other."""
        async with asking(parts) as client:
            answer = await client.get(f"/local/assets/{KEY}/js/shell.js")
            tag = {"if-none-match": answer.headers["etag"]}
            again = await client.get(f"/local/assets/{KEY}/js/shell.js", headers=tag)
        assert (answer.status_code, again.status_code) == (200, 304)
        for one in (answer, again):
            (policy,) = one.headers.get_list("content-security-policy")
            assert STRICT in policy

    async def test_the_rest_has_one_address(self, parts: Parts) -> None:
        """What cannot become a worker is sent on to where it lies, if it lies there."""
        assert parts.site.folder is not None
        (parts.site.folder / "assets" / KEY / "core.zip").write_bytes(b"zip")
        async with asking(parts) as client:
            answer = await client.get(f"/local/assets/{KEY}/core.zip")
            missing = [(await client.get(f"/local/assets/{path}")).status_code for path in (f"{KEY}/no.zip", "../v1/models", "")]
        assert (answer.status_code, answer.headers["location"]) == (308, f"/assets/{KEY}/core.zip")
        assert missing == [404, 404, 404]

    async def test_asked_for_in_the_address(self, parts: Parts) -> None:
        """`/?mode=local-only` leads there with the rest of the query and other modes lead away; both stay where they belong."""
        async with asking(parts) as client:
            answer = await client.get("/?model=tiny&mode=local-only&load=1")
            other = await client.get("/?mode=local")
            away = await client.get("/local?mode=cloud")
            stays = await client.get("/local?mode=local-only")
        assert (away.status_code, away.headers["location"], stays.status_code) == (307, "/?mode=cloud", 200)
        assert (answer.status_code, answer.headers["location"]) == (307, "/local?model=tiny&mode=local-only&load=1")
        assert other.status_code == 200

    async def test_a_host_that_csp_cannot_write(self, parts: Parts) -> None:
        """An IPv6 literal is refused with what to do, not served with a policy that a browser would drop."""
        async with asking(parts) as client:
            answer = await client.get("/local", headers={"host": "[::1]:8080"})
        assert answer.status_code == 400
        assert "localhost" in answer.json()["error"]["message"]
