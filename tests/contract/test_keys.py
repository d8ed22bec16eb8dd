"""`/api/keys` on the real server: a key goes in, pays for its owner's calls alone, comes out nowhere (adverse list, 2, 46)."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from fakes import openai
from fakes.gateway import parts_of, remote_of
from fakes.wire import Asked, Script, answered, wired
from people import browser, person, routes
from serving import listening, question

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

    from hybr.server.serve import Parts

ADAS, EVES = "sk-ada-0123456789-canary-abcdef", "sk-eve-9876543210-canary-fedcba"
ASK = question(model="openai/gpt-5-mini")
STANDING = {"provider": "openai", "set": True, "source": "operator", "suspect": False}


def answer(asked: Asked) -> Script:
    """Answer as OpenAI does to the operator's key, to Ada's and to Eve's, and tell nobody else's from nothing."""
    given = asked.headers.get("authorization", "").removeprefix("Bearer ")
    return openai.answer(asked, given if given in {openai.KEY, ADAS, EVES} else openai.KEY)


def keys_of(asked: list[Asked]) -> list[str]:
    """Return the keys of the chat calls, in order."""
    return [one.headers["authorization"].removeprefix("Bearer ") for one in asked if one.method == "POST"]


@contextlib.asynccontextmanager
async def two_people(parts: Parts) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Serve, and give Ada's and Eve's browsers, logged in."""
    async with listening(parts) as address:
        for name in ("ada", "eve"):
            await person(parts, name)
        async with browser(address, "ada") as ada, browser(address, "eve") as eve:
            yield ada, eve


async def test_a_persons_key(tmp_path: Path) -> None:
    """It is tried, kept and said to be there; it pays for its owner's calls, the operator's for everybody else's."""
    async with wired(answer) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, openai.KEY, auth="accounts")
        async with two_people(parts) as (ada, eve):
            assert (await ada.get("/api/keys/openai")).json() == STANDING
            put = await ada.put("/api/keys/openai", json={"key": ADAS})
            assert put.json() == {**STANDING, "source": "person", "checked": "valid"}
            assert (await ada.get("/api/keys/openai")).json() == {**STANDING, "source": "person"}
            assert STANDING in (await eve.get("/api/keys")).json()["data"]
            for client in (ada, eve):
                assert (await client.post("/v1/chat/completions", json=ASK)).status_code == 200
            assert keys_of(wire.asked) == [ADAS, openai.KEY]
            assert (await eve.delete("/api/keys/openai")).json() == STANDING
            assert (await ada.post("/v1/chat/completions", json=ASK)).status_code == 200
            assert keys_of(wire.asked)[-1] == ADAS, "another's deletion does not touch it"
            assert (await ada.delete("/api/keys/openai")).json() == STANDING
            assert (await ada.post("/v1/chat/completions", json=ASK)).status_code == 200
            assert keys_of(wire.asked)[-1] == openai.KEY


async def test_a_provider_without_an_operators_key(tmp_path: Path) -> None:
    """A provider that the operator has no key for becomes usable for whoever brings one, and for nobody else."""
    async with wired(answer) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, None, auth="accounts")
        remote = remote_of(parts)
        remote.upstream = replace(remote.upstream, wants_key=True)
        async with two_people(parts) as (ada, eve):
            assert (await ada.get("/api/keys/openai")).json() == {**STANDING, "set": False, "source": "none"}
            assert (await ada.put("/api/keys/openai", json={"key": ADAS})).status_code == 200
            assert (await ada.post("/v1/chat/completions", json=ASK)).status_code == 200
            assert (await eve.post("/v1/chat/completions", json=ASK)).status_code in {404, 503}
            assert keys_of(wire.asked) == [ADAS]


async def test_a_refused_key_is_not_kept(tmp_path: Path) -> None:
    """The provider says no at once: nothing is stored, and the answer does not repeat the key."""
    async with wired(answer) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, openai.KEY)
        async with listening(parts) as address, browser(address) as client:
            refused = await client.put("/api/keys/openai", json={"key": "sk-wrong-canary-0123456789"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "key_refused")
            assert "canary" not in refused.text
            assert (await client.get("/api/keys/openai")).json() == STANDING


async def test_a_provider_that_is_away(tmp_path: Path) -> None:
    """A key that cannot be tried is kept, and the answer says that it was not."""
    async with wired(lambda _: []) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, openai.KEY)
        async with listening(parts) as address, browser(address) as client:
            assert (await client.put("/api/keys/openai", json={"key": ADAS})).json()["checked"] == "unchecked"


async def test_2_a_key_that_is_refused_later(tmp_path: Path) -> None:
    """When the provider refuses a person's key in use, theirs is marked; the operator's provider stays as healthy as it was."""
    gone = False

    def then(asked: Asked) -> Script:
        given = asked.headers.get("authorization", "")
        return openai.error(401, f"Incorrect API key: {given}") if gone and ADAS in given else answer(asked)

    async with wired(then) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, openai.KEY, auth="accounts")
        async with two_people(parts) as (ada, eve):
            await ada.put("/api/keys/openai", json={"key": ADAS})
            gone = True
            refused = await ada.post("/v1/chat/completions", json=ASK)
            assert (refused.status_code, refused.json()["error"]["code"]) == (502, "key_refused")
            assert ADAS not in refused.text
            assert (await ada.get("/api/keys/openai")).json() == {**STANDING, "source": "person", "suspect": True}
            assert (await eve.get("/api/keys/openai")).json() == STANDING
            assert (await eve.post("/v1/chat/completions", json=ASK)).status_code == 200
            assert keys_of(wire.asked)[-2:] == [ADAS, openai.KEY], "the operator does not pay for a person's bad key"


@pytest.mark.parametrize(
    ("provider", "body", "status", "code"),
    [
        ("nobody", {"key": ADAS}, 404, "no_such_provider"),
        ("house", {"key": ADAS}, 404, "no_such_provider"),
        ("openai'--", {"key": ADAS}, 404, "no_such_provider"),
        ("openai", {}, 400, "invalid_value"),
        ("openai", {"key": ""}, 400, "invalid_value"),
        ("openai", {"key": "two words"}, 400, "invalid_value"),
        ("openai", {"key": "line\r\nx-evil: 1"}, 400, "invalid_value"),
        ("openai", {"key": "x" * 4097}, 400, "invalid_value"),
        ("openai", {"key": 5}, 400, "invalid_value"),
        ("openai", {"key": ADAS, "owner": "eve"}, 400, "invalid_value"),
        ("openai", {"key": ADAS, "base_url": "https://evil.example"}, 400, "invalid_value"),
        ("openai", [ADAS], 400, "invalid_value"),
    ],
)
async def test_what_is_no_key(tmp_path: Path, provider: str, body: Any, status: int, code: str) -> None:
    """What is no key of a known provider is refused by name, and nobody is asked with it."""
    async with wired(lambda _: answered(200, {"data": []})) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, openai.KEY)
        async with listening(parts) as address, browser(address) as client:
            refused = await client.put(f"/api/keys/{provider}", json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
            assert "canary" not in refused.text
    assert not any("canary" in str(one.headers) for one in wire.asked)


async def test_46_a_canary(tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    """The operator's key and a person's are in no answer of any route, no log at its most talkative, and no file of ours."""
    caplog.set_level(logging.DEBUG)
    faults = iter([401, 403, 429, 500])

    def scripted(asked: Asked) -> Script:
        if asked.method == "POST" and (status := next(faults, None)):
            return openai.error(status, f"{asked.headers['authorization']} is wrong, see https://x.example/?key={ADAS}")
        return answer(asked)

    async with wired(scripted) as wire:
        parts = parts_of(tmp_path, "openai", wire.address, openai.KEY, auth="accounts")
        async with listening(parts) as address:
            await person(parts, "ada", "admin")
            async with browser(address, "ada") as ada:
                seen = [await ada.put("/api/keys/openai", json={"key": ADAS})]
                seen += [await ada.post("/v1/chat/completions", json={**ASK, "stream": bool(turn % 2)}) for turn in range(6)]
                seen += [
                    await ada.put("/api/keys/openai", content=f'{{"key": "{ADAS}"', headers={"content-type": "application/json"})
                ]
                seen += [await ada.get(path) for method, path in routes(parts) if method == "GET"]
                standing = await ada.get("/api/keys/openai")
                assert standing.json() == {**STANDING, "source": "person", "suspect": True}
                said = "".join(answer.text + str(answer.headers) for answer in seen)
    out = capfd.readouterr()
    for key in (ADAS, openai.KEY):
        assert key not in said
        assert key not in caplog.text + out.out + out.err
        for file in files_under(tmp_path):
            assert key.encode() not in file.read_bytes(), file
    assert ADAS in keys_of(wire.asked), "the canary was sung"


def files_under(folder: Path) -> list[Path]:
    """Return every file of ours."""
    return [path for path in folder.rglob("*") if path.is_file()]
