"""The doors on the real server: the link, tokens, sessions and their end, in mid-stream too (adverse list, 29, 31 to 33)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fakes import openai
from fakes.gateway import parts_of
from fakes.wire import events, streamed, wired
from people import PASSWORD, browser, person, token
from serving import listening, parts_in, question, soon

from hybr.server import accounts, cli
from hybr.server.doors import link, registry, store
from hybr.server.doors.local import Local
from hybr.server.providers.remote import Patience

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hybr.server.serve import Parts

UNLIKE = {"date", "x-hybr-request"}  # in no two answers the same, whoever asks
JSON = {"content-type": "application/json"}
ASK = question(model="openai/gpt-5-mini", stream=True)


@contextlib.asynccontextmanager
async def endless(folder: Path, auth: Any) -> AsyncIterator[tuple[Parts, str, Any]]:
    """Give a server in front of a provider that begins an answer and never ends it, and the provider."""
    begun = events(openai.chunk({"role": "assistant", "content": "Hi"}))
    async with wired(lambda _: streamed(begun, asyncio.Event())) as wire:
        parts = parts_of(folder, "openai", wire.address, openai.KEY, Patience(), auth=auth, models=["gpt-5-mini"])
        async with listening(parts) as address:
            yield parts, address, wire


async def told(client: httpx.AsyncClient, begun: asyncio.Event, **headers: str) -> list[Any]:
    """Return what a stream says until it ends by itself; `begun` is set with its first event."""
    said = []
    async with client.stream("POST", "/v1/chat/completions", json=ASK, headers=headers) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                said.append(json.loads(line[6:]) if line != "data: [DONE]" else "[DONE]")
                begun.set()
    return said


def ended(said: list[Any], wire: Any) -> bool:
    """Say whether a stream ended in an error of the doors', without a made-up finish, and the provider was let go."""
    return "[DONE]" not in said and said[-1]["error"]["type"] == "authentication_error" and wire.gone == 1


async def test_the_link(tmp_path: Path) -> None:
    """The printed link gives a browser a strict cookie and a clean address, once; the cookie outlasts a restart."""
    parts = parts_in(tmp_path, "token")
    async with listening(parts) as address, browser(address) as client:
        printed = parts.doors.address(address)
        assert printed.startswith(f"{address}/?token=")
        assert (await client.get("/")).status_code == 401
        answer = await client.get(f"{printed}&mode=cloud&model=tiny")
        assert (answer.status_code, answer.headers["location"]) == (303, "/?mode=cloud&model=tiny")
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"hybr-{httpx.URL(address).port}=")
        for word in ("HttpOnly", "SameSite=Strict", "Path=/"):
            assert word in cookie
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/api/session")).json() == {"auth": "token", "owner": "local", "role": "admin", "token": None}
        assert (await client.get(printed)).status_code == 303, "the same browser may open it again"
        async with browser(address) as other:
            stale = await other.get(printed)
            assert stale.status_code == 401
            assert "used already" in stale.text
            assert "hybr link" in stale.text
    value = cookie.split(";")[0].split("=", 1)[1]
    again = parts_in(tmp_path, "token")
    async with listening(again) as address, browser(address) as client:
        name = f"hybr-{httpx.URL(address).port}"
        assert (await client.get("/", headers={"cookie": f"{name}={value}"})).status_code == 200
        bent = value[:-1] + ("0" if value[-1] != "0" else "1")
        assert (await client.get("/", headers={"cookie": f"{name}={bent}"})).status_code == 401
        assert (await client.get("/", headers={"cookie": f"{name}={value}; {name}={bent}"})).status_code == 401


async def test_the_pasted_link(tmp_path: Path) -> None:
    """The token may be sent as a field instead, and is used up by it."""
    parts = parts_in(tmp_path, "token")
    async with listening(parts) as address, browser(address) as client:
        body = {"token": parts.doors.local.link}
        assert (await client.post("/api/session", json={"token": "x" * 43})).status_code == 401
        assert (await client.post("/api/session", json=body)).status_code == 200
        assert (await client.get("/v1/models")).status_code == 200
        assert (await client.delete("/api/session")).status_code == 200
        assert (await client.get("/v1/models")).status_code == 401
        assert (await client.post("/api/session", json=body)).status_code == 401


async def test_looking_ahead_uses_nothing_up(tmp_path: Path) -> None:
    """Who asks for the link's head, or posts to it, leaves it usable for who opens it."""
    parts = parts_in(tmp_path, "token")
    async with listening(parts) as address, browser(address) as client:
        for method in ("HEAD", "POST", "OPTIONS"):
            answer = await client.request(method, parts.doors.address(address))
            assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
        assert (await client.get(parts.doors.address(address))).status_code == 303


async def test_a_fresh_link(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`hybr link` prints a link for the running server that works once, for a while, in this run alone."""
    monkeypatch.setenv("HYBR_DATA", str(tmp_path / "data"))
    parts = parts_in(tmp_path, "token")
    async with listening(parts) as address, browser(address) as client, browser(address) as other:
        (held,) = (tmp_path / "data" / "running").iterdir()
        assert held.stat().st_mode & 0o777 == 0o600
        await client.get(parts.doors.address(address))
        assert cli.main(["link"]) == 0
        fresh = capsys.readouterr().out.split()[-1]
        assert fresh.startswith(f"{address}/?token=")
        bent = fresh[:-1] + ("0" if fresh[-1] != "0" else "1")
        assert (await other.get(bent)).status_code == 401
        assert (await other.get(fresh)).status_code == 303
        assert (await other.get("/v1/models")).status_code == 200
        async with browser(address) as third:
            assert (await third.get(fresh)).status_code == 401, "once"
            for token in ("é", "\ud800", "x" * 1024, ".", "1.x."):
                assert (await third.post("/api/session", content=json.dumps({"token": token}), headers=JSON)).status_code in {
                    400,
                    401,
                }
        seed = parts.doors.local.issued.seed
        old = link.issue(seed, time.time() - link.LIFE - 1)
        assert not parts.doors.local.redeem(old)
        unused = link.issue(seed, time.time())
    assert not held.exists(), "a server that has ended is not offered"
    assert not parts_in(tmp_path, "token").doors.local.redeem(unused), "another run"
    assert cli.main(["link"]) != 0
    assert "no server" in capsys.readouterr().err


def test_links_of_the_dead_and_the_unreadable(tmp_path: Path) -> None:
    """A killed server's file is taken away, nonsense is passed over, and another server's file is left alone."""
    path = link.announce(tmp_path, "http://127.0.0.1:1", 1, b"s" * 32)
    assert path
    (path.parent / "2.json").write_text('{"pid": 4194305, "address": "x", "seed": ""}')
    (path.parent / "3.json").write_text("nonsense")
    assert [told["address"] for told in link.running(tmp_path)] == ["http://127.0.0.1:1"]
    assert not (path.parent / "2.json").exists()
    path.write_text('{"pid": 1}')
    link.withdraw(path)
    assert path.exists()
    (tmp_path / "file").write_text("")
    assert link.announce(tmp_path / "file", "http://127.0.0.1:1", 1, b"s" * 32) is None


async def test_33_a_browser_that_was_let_in_by_the_link_logs_out(tmp_path: Path) -> None:
    """Its cookie opens nothing any more, after a restart neither; its streams end, and another browser's go on."""
    async with endless(tmp_path, "token") as (parts, address, wire), browser(address) as client, browser(address) as other:
        await client.get(parts.doors.address(address))
        (name, value), *_ = client.cookies.items()
        await other.get(f"/?token={link.issue(parts.doors.local.issued.seed, time.time())}")
        begun = asyncio.Event()
        stream = asyncio.create_task(told(client, begun))
        await begun.wait()
        assert (await client.delete("/api/session")).status_code == 200
        said = await asyncio.wait_for(stream, 60)
        await soon(lambda: wire.gone == 1)
        assert ended(said, wire)
        replayed = {"cookie": f"{name}={value}"}
        assert (await other.get("/v1/models")).status_code == 200
        kept = {"cookie": f"{name}={other.cookies[name]}"}
        async with browser(address) as thief:
            assert (await thief.get("/v1/models", headers=replayed)).status_code == 401
    assert value.rpartition(".")[2] not in (tmp_path / "data" / "door.ended").read_text()
    again = parts_in(tmp_path, "token")
    async with listening(again) as address, browser(address) as client:
        fresh = f"hybr-{httpx.URL(address).port}="
        for crumb, status in ((replayed, 401), (kept, 200)):
            headers = {"cookie": fresh + crumb["cookie"].partition("=")[2]}
            assert (await client.get("/v1/models", headers=headers)).status_code == status


def test_the_cookies_life(tmp_path: Path) -> None:
    """A cookie ends after its time, and with the file that signs it; a file that others could read does not sign."""
    now = [1000.0]
    local = Local(tmp_path, lambda: now[0])
    cookie = local.cookie()
    assert local.expires(cookie)
    assert Local(tmp_path, lambda: now[0]).expires(cookie)
    now[0] += 181 * 24 * 3600
    assert local.expires(cookie) is None
    now[0] = 1000.0
    (tmp_path / "door.key").chmod(0o644)
    assert Local(tmp_path, lambda: now[0]).expires(cookie) is None
    assert (tmp_path / "door.key").stat().st_mode & 0o777 == 0o600


async def test_a_data_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """The person is let in even when nothing can be kept: the cookie then lasts until the server's end."""
    (tmp_path / "data").write_text("not a folder")
    parts = parts_in(tmp_path, "token")
    async with listening(parts) as address, browser(address) as client:
        assert (await client.get(parts.doors.address(address))).status_code == 303
        assert (await client.get("/v1/models")).status_code == 200


REFUSED = [
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": "Basic aHlicjpoeWJy"},
    {"authorization": "Bearer hybr_" + "A" * 43},
    {"authorization": "Bearer hybr_" + "A" * 42 + "'"},
    {"authorization": "Bearer ' OR 1=1 --"},
    {"x-api-key": ""},
    {"x-api-key": "hybr_" + "A" * 43},
    {"api-key": "hybr_" + "A" * 43},
    {"cookie": "hybr=x; hybr-0=y"},
    {"cookie": "__Host-hybr=" + "A" * 43},
]


@pytest.mark.parametrize("auth", ["token", "accounts"])
async def test_29_one_401_for_all(tmp_path: Path, auth: Any) -> None:
    """No credential, an empty or malformed one, a wrong scheme or header, two of them, a revoked one: one and the same 401."""
    parts = parts_in(tmp_path, auth)
    async with listening(parts) as address, browser(address) as client:
        owner = await person(parts, "ada") if auth == "accounts" else "local"
        public, good = await token(parts, owner)
        _, past = await token(parts, owner, expires=time.time() - 1)
        fine = {"authorization": f"Bearer {good}"}
        assert (await client.get("/v1/models", headers=fine)).status_code == 200
        assert (await client.get("/v1/models", headers={"x-api-key": good})).status_code == 200
        assert (await client.get("/v1/models", headers={"authorization": f"bearer {good}"})).status_code == 200
        twice: list[Any] = [
            [("authorization", f"Bearer {good}"), ("authorization", f"Bearer {good}")],
            [("authorization", f"Bearer {good}"), ("x-api-key", good)],
            [("authorization", "Bearer x"), ("x-api-key", good)],
        ]
        answers = [await client.get("/v1/models", headers=headers) for headers in [*REFUSED, *twice]]
        answers.append(await client.get("/v1/models", headers={"x-api-key": past}))
        answers.append(await client.get("/no/such/path"))
        async with parts.database.begin() as connection:
            assert await store.revoke_token(connection, public)
        parts.doors.registry.forget("token", store.digest(good))
        answers.append(await client.get("/v1/models", headers=fine))
    seen = {
        (one.status_code, one.content, tuple(sorted((k, v) for k, v in one.headers.items() if k not in UNLIKE)))
        for one in answers
    }
    assert len(seen) == 1
    assert answers[0].status_code == 401
    assert answers[0].headers["www-authenticate"] == "Bearer"


async def test_a_token_of_another_mode(tmp_path: Path) -> None:
    """The one person's token opens nothing once the server has accounts, nor does a person's once it has none."""
    hosted = parts_in(tmp_path, "accounts")
    async with listening(hosted) as address, browser(address) as client:
        _, local = await token(hosted)
        _, adas = await token(hosted, await person(hosted, "ada"))
        assert (await client.get("/v1/models", headers={"x-api-key": local})).status_code == 401
        assert (await client.get("/v1/models", headers={"x-api-key": adas})).status_code == 200
    single = parts_in(tmp_path, "token")
    async with listening(single) as address, browser(address) as client:
        assert (await client.get("/v1/models", headers={"x-api-key": local})).status_code == 200
        assert (await client.get("/v1/models", headers={"x-api-key": adas})).status_code == 401


async def test_a_revoked_token_ends_its_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process revokes the token: the running stream ends in an error within two looks, and the provider is let go."""
    monkeypatch.setattr(registry, "WATCH", 0.1)
    async with endless(tmp_path, "token") as (parts, address, wire), browser(address) as client:
        public, text = await token(parts)
        begun = asyncio.Event()
        stream = asyncio.create_task(told(client, begun, authorization=f"Bearer {text}"))
        await begun.wait()
        async with parts.database.begin() as connection:  # as `hybr tokens revoke` does: nothing tells this server
            await store.revoke_token(connection, public)
        said = await asyncio.wait_for(stream, 60)
        await soon(lambda: wire.gone == 1)
        assert ended(said, wire)


async def test_33_fixation_and_replay(tmp_path: Path) -> None:
    """An id planted before the login is worth nothing after it; one that was logged out is worth nothing any more."""
    parts = parts_in(tmp_path, "accounts")
    async with listening(parts) as address, browser(address) as client:
        await person(parts, "ada")
        name = f"hybr-{httpx.URL(address).port}"
        client.cookies.set(name, "planted-0123456789-planted")
        assert (await client.get("/api/preferences")).status_code == 401
        client.cookies.clear()
        first = await client.post("/api/session", json={"name": "ada", "password": PASSWORD})
        before = client.cookies[name]
        assert before != "planted-0123456789-planted"
        assert "Secure" not in first.headers["set-cookie"], "plain HTTP to this machine"
        await client.post("/api/session", json={"name": "ada", "password": PASSWORD})
        assert client.cookies[name] != before, "every login is a fresh session"
        async with browser(address) as thief:
            assert (await thief.get("/v1/models", headers={"cookie": f"{name}={before}"})).status_code == 401
        value = client.cookies[name]
        async with browser(address, "ada") as tab:
            assert (await client.delete("/api/session")).status_code == 200
            client.cookies.clear()
            assert (await client.get("/v1/models", headers={"cookie": f"{name}={value}"})).status_code == 401
            assert (await tab.get("/v1/models")).status_code == 200, "another session of the same person goes on"


async def test_the_cookie_of_a_hosted_server(tmp_path: Path) -> None:
    """Under a name of its own the cookie is `__Host-`, Secure, HttpOnly and strict; only exact hosts are answered (31)."""
    parts = parts_in(tmp_path, "accounts")
    parts.hosts = ("chat.example.org", "chat.example.org:8443")
    async with listening(parts) as address, browser(address) as client:
        await person(parts, "ada")
        body = {"name": "ada", "password": PASSWORD}
        answer = await client.post("/api/session", json=body, headers={"host": "chat.example.org"})
        cookie = answer.headers["set-cookie"]
        assert re.fullmatch(r"__Host-hybr=[\w-]{43}; Path=/; Max-Age=\d+; HttpOnly; SameSite=Strict; Secure", cookie)
        headers = {"cookie": cookie.split(";")[0]}
        for host, status in (("chat.example.org:8443", 200), ("CHAT.example.org", 200), ("chat.example.org:80", 400)):
            assert (await client.get("/v1/models", headers={**headers, "host": host})).status_code == status
        for host in ("www.chat.example.org", "chat.example.org.", "user@chat.example.org", "chat.example.org/?", "127.0.0.1:1"):
            assert (await client.get("/v1/models", headers={**headers, "host": host})).status_code == 400


@pytest.mark.parametrize(("origin", "status"), [("http://chat.example.org", 403), ("https://chat.example.org", 200), (None, 200)])
async def test_a_log_in_over_plain_http(tmp_path: Path, origin: str | None, status: int) -> None:
    """A page that came over plain HTTP under a name is told why nobody can log in there; its browser would drop the cookie."""
    parts = parts_in(tmp_path, "accounts")
    parts.hosts = ("chat.example.org",)
    async with listening(parts) as address, browser(address) as client:
        await person(parts, "ada")
        headers = {"host": "chat.example.org"} | ({"origin": origin} if origin else {})
        answer = await client.post("/api/session", json={"name": "ada", "password": PASSWORD}, headers=headers)
        assert answer.status_code == status
        if status == 403:
            assert answer.json()["error"]["code"] == "plain_http"
            assert "https://" in answer.json()["error"]["message"]
            assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("change", [{"role": "user"}, {"disabled": 1}, {"password": "quite another password"}])
async def test_33_a_change_ends_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]) -> None:
    """When a person's role, password or standing changes, their sessions and the streams on them end."""
    monkeypatch.setattr(registry, "WATCH", 0.1)
    async with endless(tmp_path, "accounts") as (parts, address, wire):
        await person(parts, "ada", "admin")
        async with browser(address, "ada") as client:
            begun = asyncio.Event()
            stream = asyncio.create_task(told(client, begun))
            await begun.wait()
            await accounts.change(parts.database, "ada", **change)
            said = await asyncio.wait_for(stream, 60)
            await soon(lambda: wire.gone == 1)
            assert ended(said, wire)
            assert (await client.get("/v1/models")).status_code == 401


async def test_33_logout_and_expiry_in_mid_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A logout in one tab ends the other tab's stream; so does the session's end by time."""
    monkeypatch.setattr(registry, "WATCH", 0.1)
    async with endless(tmp_path, "accounts") as (parts, address, wire):
        await person(parts, "ada")
        async with browser(address, "ada") as client:
            begun = asyncio.Event()
            stream = asyncio.create_task(told(client, begun))
            await begun.wait()
            await client.delete("/api/session")
            said = await asyncio.wait_for(stream, 60)
            await soon(lambda: wire.gone == 1)
            assert ended(said, wire)
        wire.gone = 0
        monkeypatch.setattr(store, "LIFE", 3.0)
        async with browser(address, "ada") as client:
            said = await asyncio.wait_for(told(client, asyncio.Event()), 60)
            await soon(lambda: wire.gone == 1)
            assert ended(said, wire)
            assert (await client.get("/v1/models")).status_code == 401


async def test_an_idle_session_ends(tmp_path: Path) -> None:
    """A session that nobody used for two weeks is over."""
    parts = parts_in(tmp_path, "accounts")
    async with listening(parts) as address:
        await person(parts, "ada")
        async with browser(address, "ada") as client:
            assert (await client.get("/v1/models")).status_code == 200
            async with parts.database.begin() as connection:
                await store.run(connection, "UPDATE sessions SET seen = seen - :idle", idle=store.IDLE + 1)
                await store.changed(connection, "doors")
            await parts.doors.registry.sweep()
            await parts.doors.registry.sweep()
            assert (await client.get("/v1/models")).status_code == 401


async def test_guessing(tmp_path: Path) -> None:
    """After some wrong passwords the account waits for this address, the right one too; an unknown name is no faster to fail."""
    parts = parts_in(tmp_path, "accounts")
    async with listening(parts) as address, browser(address) as client:
        await person(parts, "ada")
        for name in ("ada", "nobody"):
            wrong = [await client.post("/api/session", json={"name": name, "password": f"guess {n}"}) for n in range(6)]
            assert [one.status_code for one in wrong] == [401] * 5 + [429]
            assert wrong[0].json() == (await client.get("/v1/models")).json(), "it is not said what was wrong"
            assert int(wrong[-1].headers["retry-after"]) > 0
        right = await client.post("/api/session", json={"name": "ada", "password": PASSWORD})
        assert right.status_code == 429


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"sec-fetch-site": "same-origin"}, 200),
    ],
)
async def test_32_another_sites_post(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    """With a person's cookie another site's page changes nothing; a script's token, which no browser adds, is not held up."""
    parts = parts_in(tmp_path, "accounts")
    body = json.dumps({"version": 0, "preferences": {}})
    async with listening(parts) as address:
        _, text = await token(parts, await person(parts, "ada"))
        async with browser(address, "ada") as client:
            sent = {"content-type": "application/json", **headers}
            assert (await client.put("/api/preferences", content=body, headers=sent)).status_code == status
            both = {**sent, "authorization": f"Bearer {text}"}
            assert (await client.put("/api/preferences", content=body, headers=both)).status_code in {status, 409}
        async with browser(address) as script:
            answer = await script.put("/api/preferences", content=body, headers=both)
            assert answer.status_code in ({415} if status == 415 else {200, 409})


async def test_the_door_without_a_store(tmp_path: Path) -> None:
    """When the database does not answer, a token that is not known is a 503 and not a way in, and one that is known goes on."""
    parts = parts_in(tmp_path, "token")
    async with listening(parts) as address, browser(address) as client:
        _, known = await token(parts)
        assert (await client.get("/v1/models", headers={"x-api-key": known})).status_code == 200
        await parts.database.close()
        for path in (tmp_path / "data").glob("hybr.sqlite3*"):
            path.unlink()
        (tmp_path / "data" / "hybr.sqlite3").mkdir()
        entry = parts.doors.registry._known["token", store.digest(known)]
        entry.checked -= registry.STALE + 1
        assert (await client.get("/v1/models", headers={"x-api-key": known})).status_code == 200
        entry.checked -= registry.GRACE
        assert (await client.get("/v1/models", headers={"x-api-key": known})).status_code == 503
        assert (await client.get("/v1/models", headers={"x-api-key": "hybr_" + "B" * 43})).status_code == 503


async def test_the_relays_path_runs_no_sql(tmp_path: Path) -> None:
    """A known token or session is let in without a look into the database."""
    parts = parts_in(tmp_path, "accounts")
    async with listening(parts) as address:
        _, text = await token(parts, await person(parts, "ada"))
        async with browser(address, "ada") as client:
            for headers in ({}, {"x-api-key": text}):
                assert (await client.get("/api/session", headers=headers)).status_code == 200
                parts.doors.registry.look = None  # type: ignore[assignment]  # whoever looked would fail
                for _ in range(20):
                    assert (await client.get("/api/session", headers=headers)).status_code == 200
                parts.doors.registry.look = parts.doors.look
