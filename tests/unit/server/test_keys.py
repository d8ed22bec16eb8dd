"""Keys at rest: sealing, the master key and where it is kept, the keyring over both databases (adverse list, 45, 46)."""

from __future__ import annotations

import argparse
import asyncio
import base64
import copy
import pickle
import re
import secrets
import traceback
from typing import TYPE_CHECKING, Any

import keyring.backend
import pytest

from hybr.server.config.sources import add_flags, load
from hybr.server.doors.store import run
from hybr.server.errors import ConfigError
from hybr.server.keys import command
from hybr.server.keys import keyring as keyrings
from hybr.server.keys.envelope import SealError, name, seal, unseal
from hybr.server.keys.keyring import Keyring
from hybr.server.keys.master import Custody, Master, generate
from hybr.server.secret import Secret, redact

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hybr.server.store.database import Database

TEXT = "sk-canary-9f8e7d6c5b4a3f2e1d0c"
ABOUT = "provider_keys|ada|openai|1"


def flips(sealed: str) -> Iterator[str]:
    """Yield the sealed text with every single bit of its bytes changed, and with every character of its head changed."""
    head, text = sealed.rsplit(":", 1)
    raw = base64.urlsafe_b64decode(text)
    for place in range(len(raw) * 8):
        bent = bytearray(raw)
        bent[place // 8] ^= 1 << place % 8
        yield f"{head}:{base64.urlsafe_b64encode(bent).decode()}"
    for place in range(len(head)):
        yield f"{head[:place]}{chr(ord(head[place]) ^ 1)}{head[place + 1 :]}:{text}"


def test_45_bits(tmp_path: Path) -> None:
    """What was sealed opens; with any bit changed, cut short, under another key or for another row it never does."""
    key = secrets.token_bytes(32)
    sealed = seal(key, TEXT.encode(), ABOUT)
    find = {name(key): key}.get
    assert re.fullmatch(r"v1:[0-9a-f]{12}:[\w-]+=*", sealed)
    assert unseal(sealed, ABOUT, find) == TEXT.encode()
    assert seal(key, TEXT.encode(), ABOUT) != sealed, "the nonce is fresh each time"
    for bent in (*flips(sealed), sealed[:-4], sealed[:20], "", "v1::", "v2" + sealed[2:], TEXT):
        with pytest.raises(SealError) as caught:
            unseal(bent, ABOUT, find)
        assert TEXT not in str(caught.value)
    for about in ("provider_keys|eve|openai|1", "provider_keys|ada|gemini|1", "provider_keys|ada|openai|2", "data_keys|ada|v1"):
        with pytest.raises(SealError):
            unseal(sealed, about, find)
    with pytest.raises(SealError):
        unseal(sealed, ABOUT, lambda _: secrets.token_bytes(32))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no key"),
        ("short", "base64|shorter"),
        ("change-me", "base64|shorter"),
        ("A" * 43, "not random"),
        ("00" * 32, "not random"),
        (base64.b64encode(b"changeme" * 4).decode(), "not random"),
        (base64.b64encode(b"hybr-default-key-hybr-default-key").decode(), "not random"),
        ("5f1d3c9ab7e2460853d1fa6c7e9b24d08c5a3f71e6b90d2487ac15fe39b6d4", "shorter"),
        ("not.base64.at.all!", "base64"),
    ],
)
def test_a_bad_master_key(tmp_path: Path, text: str, word: str) -> None:
    """A default, a word, a repeated or a short key is refused with the remedy and without its text."""
    custody = Custody(tmp_path, {"HYBR_MASTER_KEY": text or " "})
    if not text:
        file = tmp_path / "empty"
        file.touch(0o600)
        custody = Custody(tmp_path, {"HYBR_MASTER_KEY_FILE": str(file)})
    with pytest.raises(ConfigError, match=word) as caught:
        custody.master()
    assert "token_urlsafe" in str(caught.value.remedy)
    assert not text or text not in str(caught.value)


def test_the_master_key_in_a_file(tmp_path: Path) -> None:
    """It is made at the first need, for its owner alone, and found again; a file that others can read is refused."""
    custody = Custody(tmp_path / "data", {})
    made = custody.master()
    path = tmp_path / "data" / "master.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert Custody(tmp_path / "data", {}).master().newest == made.newest
    assert path.read_text().strip() not in repr(made) + str(vars(custody))
    assert list(path.parent.iterdir()) == [path]
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="read by others"):
        Custody(tmp_path / "data", {}).master()


def test_the_master_key_by_the_environment(tmp_path: Path) -> None:
    """By value, in hexadecimal too, or by a file; the first of several seals and all open; both ways at once are refused."""
    first, second = generate(), secrets.token_hex(32)
    both = Custody(tmp_path, {"HYBR_MASTER_KEY": f"{first} {second}"})
    alone = Custody(tmp_path, {"HYBR_MASTER_KEY": second}).master()
    assert both.master().newest != alone.newest
    assert both.find(name(alone.newest)) == alone.newest
    file = tmp_path / "key"
    file.touch(0o600)
    file.write_text(first + "\n")
    assert Custody(tmp_path, {"HYBR_MASTER_KEY_FILE": str(file)}).master().newest == both.master().newest
    with pytest.raises(ConfigError, match="both set"):
        Custody(tmp_path, {"HYBR_MASTER_KEY": first, "HYBR_MASTER_KEY_FILE": str(file)}).master()
    assert not (tmp_path / "master.key").exists()


class Desktop(keyring.backend.KeyringBackend):  # type: ignore[misc]
    """A keyring as the library's backends are, in memory: no desktop runs where the tests do."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        """Return what is kept."""
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep it."""
        self.kept[service, username] = password


def test_the_master_key_in_the_systems_keyring(tmp_path: Path) -> None:
    """It is made there and found there, and no file is written; a machine without a keyring says so."""
    before = keyring.get_keyring()
    try:
        keyring.set_keyring(Desktop())
        told = {"HYBR_MASTER_KEY": "keyring"}
        assert Custody(tmp_path, told).master().newest == Custody(tmp_path, told).master().newest
        assert not list(tmp_path.iterdir())
        from keyring.backends import fail

        keyring.set_keyring(fail.Keyring())
        with pytest.raises(ConfigError, match="no keyring"):
            Custody(tmp_path, told).master()
    finally:
        keyring.set_keyring(before)


async def test_a_key_is_kept(database: Database, tmp_path: Path) -> None:
    """A key is found by its owner and provider alone, also by another process, and is replaced and forgotten."""
    held = Keyring(database, Custody(tmp_path, {}))
    await held.put("ada", "openai", TEXT)
    found = held.find("ada", "openai")
    assert found is not None
    assert found.reveal() == TEXT
    for owner, provider in (("eve", "openai"), ("ada", "gemini"), ("", "openai"), ("ada", "")):
        assert held.find(owner, provider) is None
    other = Keyring(database, Custody(tmp_path, {}))
    await other.ready()
    assert other.find("ada", "openai").reveal() == TEXT  # type: ignore[union-attr]
    await held.put("ada", "openai", "another")
    await other.refresh()
    assert other.find("ada", "openai").reveal() == "another"  # type: ignore[union-attr]
    assert await held.drop("ada", "openai")
    assert not await held.drop("ada", "openai")
    await other.refresh()
    assert other.find("ada", "openai") is None


async def test_45_moved_rows(database: Database, tmp_path: Path) -> None:
    """A ciphertext that was moved to another person or provider, or brought back from earlier, does not open."""
    held = Keyring(database, Custody(tmp_path, {}))
    await held.put("ada", "openai", TEXT)
    old = held.find("ada", "openai").row  # type: ignore[union-attr]
    await held.put("ada", "openai", "newer")
    await held.put("ada", "gemini", "other")
    await held.put("eve", "openai", "eves")
    statement = "UPDATE provider_keys SET sealed = :sealed WHERE owner = :owner AND provider = :provider"
    for owner, provider in (("ada", "openai"), ("ada", "gemini"), ("eve", "openai")):
        async with database.begin() as connection:
            await run(connection, statement, sealed=old.sealed, owner=owner, provider=provider)
            wrapped = (await run(connection, "SELECT wrapped FROM data_keys WHERE owner = 'ada'")).scalar()
            if owner == "eve":  # with Ada's data key too it is still not Eve's
                await run(connection, "UPDATE data_keys SET wrapped = :wrapped WHERE owner = 'eve'", wrapped=wrapped)
        held._seen = -1
        await held.refresh()
        with pytest.raises(SealError):
            held.find(owner, provider).reveal()  # type: ignore[union-attr]


async def test_45_another_master_key(database: Database, tmp_path: Path) -> None:
    """Under another master key nothing opens, and a person gets on by deleting the key and setting it anew."""
    await Keyring(database, Custody(tmp_path / "a", {})).put("ada", "openai", TEXT)
    held = Keyring(database, Custody(tmp_path / "b", {}))
    await held.ready()
    with pytest.raises(SealError, match="cannot be opened"):
        held.find("ada", "openai").reveal()  # type: ignore[union-attr]
    assert not (tmp_path / "b" / "master.key").exists(), "who only reads makes no key"
    with pytest.raises(SealError):
        await held.put("ada", "openai", "fresh")
    await held.drop("ada", "openai")
    await held.put("ada", "openai", "fresh")
    assert held.find("ada", "openai").reveal() == "fresh"  # type: ignore[union-attr]


async def test_a_refused_key_is_marked(database: Database, tmp_path: Path) -> None:
    """A key that its provider refused is suspect until another is set; a late refusal of the former one does not count."""
    held = Keyring(database, Custody(tmp_path, {}))
    await held.put("ada", "openai", TEXT)
    first = held.find("ada", "openai")
    assert first is not None
    held.suspect(first)
    held.suspect(Secret("the operator's"))
    assert held.is_suspect("ada", "openai")
    await asyncio.gather(*held._tasks)
    other = Keyring(database, Custody(tmp_path, {}))
    await other.ready()
    assert other.is_suspect("ada", "openai")
    await held.put("ada", "openai", "another")
    held.suspect(first)
    assert not held.is_suspect("ada", "openai")


def told(verb: str, *, dry: bool = False) -> argparse.Namespace:
    """Return what `hybr keys` parses."""
    return argparse.Namespace(verb=verb, dry_run=dry)


async def test_45_rotation(database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A rehearsal changes nothing; a rotation keeps every key readable, also for a server that runs, and forgets the old one."""
    custody = Custody(tmp_path, {})
    held = Keyring(database, custody)
    for owner in ("ada", "eve"):
        await held.put(owner, "openai", f"{TEXT}-{owner}")
    before = (tmp_path / "master.key").read_text()
    rows = await stored(database)
    assert await command.told(database, Custody(tmp_path, {}), told("rotate", dry=True)) == 0
    assert "2 of 2 data keys would be" in capsys.readouterr().out
    assert ((tmp_path / "master.key").read_text(), await stored(database)) == (before, rows)
    assert await command.told(database, Custody(tmp_path, {}), told("rotate")) == 0
    assert "2 of 2 data keys were" in capsys.readouterr().out
    after = (tmp_path / "master.key").read_text()
    assert after != before
    assert len(after.split()) == 1
    await held.refresh()
    for owner in ("ada", "eve"):
        assert held.find(owner, "openai").reveal() == f"{TEXT}-{owner}"  # type: ignore[union-attr]
    await held.put("bob", "openai", "bobs")
    assert Master(after.split(), "").find((await stored(database))["bob"].split(":")[1])
    assert await command.told(database, Custody(tmp_path, {}), told("list")) == 0
    listed = capsys.readouterr().out
    assert "ada" in listed
    assert TEXT not in listed


async def test_45_a_key_stored_during_a_rotation(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who read the old master key just before a rotation and commits after its list was made does not lose the key."""
    held, custody = Keyring(database, Custody(tmp_path, {})), Custody(tmp_path, {})
    await held.put("ada", "openai", TEXT)
    read, go = asyncio.Event(), asyncio.Event()
    whole = held._data_key

    async def slow(connection: Any, owner: str) -> bytes:
        key = await whole(connection, owner)
        read.set()
        await go.wait()
        return key

    monkeypatch.setattr(held, "_data_key", slow)
    storing = asyncio.create_task(held.put("eve", "openai", "eves"))
    await read.wait()
    kept = asyncio.Event()
    keep = custody.keep
    monkeypatch.setattr(custody, "keep", lambda *held, **how: (keep(*held, **how), kept.set()))
    rotating = asyncio.create_task(command.rotate(database, custody, dry=False))
    await kept.wait()
    await asyncio.sleep(0.1)  # for a rotation that would not wait
    go.set()
    await storing
    assert await rotating == 0
    fresh = Keyring(database, Custody(tmp_path, {}))
    await fresh.ready()
    assert [fresh.find(owner, "openai").reveal() for owner in ("ada", "eve")] == [TEXT, "eves"]  # type: ignore[union-attr]


async def test_45_two_rotations_at_once(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is refused: each would forget the other's fresh key."""
    await Keyring(database, Custody(tmp_path, {})).put("ada", "openai", TEXT)
    refused: list[ConfigError] = []
    whole = command.rewrap

    async def meanwhile(*args: Any, **how: Any) -> int:
        with pytest.raises(ConfigError, match="another rotation") as caught:
            await command.told(database, Custody(tmp_path, {}), told("rotate"))
        refused.append(caught.value)
        return await whole(*args, **how)

    monkeypatch.setattr(command, "rewrap", meanwhile)
    assert await command.told(database, Custody(tmp_path, {}), told("rotate")) == 0
    assert len(refused) == 1


async def test_an_older_reading_comes_late(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading of the rows that began before a deletion and ends after it does not bring the key back."""
    held = Keyring(database, Custody(tmp_path, {}))
    await held.put("ada", "openai", TEXT)
    held._seen = -1
    began, go = asyncio.Event(), asyncio.Event()
    whole = keyrings.run

    async def slow(connection: Any, statement: str, **values: Any) -> Any:
        found = await whole(connection, statement, **values)
        if statement.startswith("SELECT owner, provider") and not began.is_set():
            found = list(found)
            began.set()
            await asyncio.wait({asyncio.create_task(go.wait())}, timeout=1)  # SQLite lets nobody in between
        return found

    monkeypatch.setattr(keyrings, "run", slow)
    reading = asyncio.create_task(held.refresh())
    await began.wait()
    dropping = asyncio.create_task(held.drop("ada", "openai"))
    dropping.add_done_callback(lambda _: go.set())
    await asyncio.gather(reading, dropping)
    assert held.find("ada", "openai") is None


def test_the_master_key_by_the_settings(tmp_path: Path) -> None:
    """It may stand in hybr.toml or behind a flag like any setting, in a file of one's own alone, and is in no repr."""
    first, second = generate(), generate()
    toml, file = tmp_path / "hybr.toml", tmp_path / "key"
    toml.touch(0o600)
    toml.write_text(f'master_key = "{first} {second}"')
    file.touch(0o600)
    file.write_text(f"{second}\n{first}\n")
    parser = argparse.ArgumentParser()
    add_flags(parser)
    environ = {"HYBR_DATA": str(tmp_path)}
    custody = Custody.of(load(None, environ).settings)
    assert custody.master().newest == Master([first], "").newest
    assert custody.find(name(Master([second], "").newest)), "the second opens"
    assert first not in repr(vars(custody))
    flag = load(parser.parse_args(["--master-key-file", str(file)]), environ)
    assert Custody.of(flag.settings).master().newest == Master([second], "").newest
    assert not (tmp_path / "master.key").exists()
    for path, args in ((toml, None), (file, parser.parse_args(["--master-key-file", str(file)]))):
        path.chmod(0o640)
        with pytest.raises(ConfigError, match="read by others"):
            load(args, environ)


async def test_45_a_rotation_broken_off(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed half-way, every key still opens, and the same command finishes what is left."""
    held = Keyring(database, Custody(tmp_path, {}))
    for owner in ("ada", "bob", "eve"):
        await held.put(owner, "openai", owner)
    whole = command.rewrap_one

    async def killed(database: Database, master: Master, owner: str, *, dry: bool) -> bool:
        if owner == "bob":
            raise KeyboardInterrupt
        return await whole(database, master, owner, dry=dry)

    monkeypatch.setattr(command, "rewrap_one", killed)
    with pytest.raises(KeyboardInterrupt):
        await command.told(database, Custody(tmp_path, {}), told("rotate"))
    monkeypatch.undo()
    assert len((tmp_path / "master.key").read_text().split()) == 2
    fresh = Keyring(database, Custody(tmp_path, {}))
    await fresh.ready()
    assert [fresh.find(owner, "openai").reveal() for owner in ("ada", "bob", "eve")] == ["ada", "bob", "eve"]  # type: ignore[union-attr]
    assert await command.told(database, Custody(tmp_path, {}), told("rewrap")) == 0
    newest = name(Custody(tmp_path, {}).master().newest)
    assert all(wrapped.split(":")[1] == newest for wrapped in (await stored(database)).values())


async def test_a_rehearsal_finds_what_is_broken(database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stored key that does not open is named before a rotation, by its owner, and the old master key is not forgotten."""
    held = Keyring(database, Custody(tmp_path, {}))
    await held.put("ada", "openai", TEXT)
    async with database.begin() as connection:
        await run(connection, "UPDATE provider_keys SET version = version + 1")
    assert await command.told(database, Custody(tmp_path, {}), told("rewrap", dry=True)) == 1
    assert "ada: a stored key does not open" in capsys.readouterr().out
    assert await command.told(database, Custody(tmp_path, {}), told("rotate")) == 1
    assert len((tmp_path / "master.key").read_text().split()) == 2


async def stored(database: Database) -> dict[str, str]:
    """Return every wrapped data key by its owner."""
    async with database.begin() as connection:
        return {row.owner: row.wrapped for row in await run(connection, "SELECT owner, wrapped FROM data_keys")}


async def test_46_a_key_is_not_printed(database: Database, tmp_path: Path) -> None:
    """`repr`, `str`, `vars`, `pickle`, `copy` and a traceback with its locals give no key; nor do the database's bytes."""
    custody = Custody(tmp_path, {})
    held = Keyring(database, custody)
    await held.put("ada", "openai", TEXT)
    found = held.find("ada", "openai")
    for shown in (repr(found), str(found), f"{found}", repr(held.__dict__), repr(custody.master()), repr([found])):
        assert TEXT not in shown
    with pytest.raises(TypeError):
        pickle.dumps(found)
    with pytest.raises(TypeError):
        copy.copy(found)
    master = (tmp_path / "master.key").read_text().strip()
    for report in (crash(found, TEXT), crash(found, "another")):
        assert "AttributeError" in report
        assert TEXT not in report
    assert master not in repr(custody.__dict__)
    for path in (tmp_path / "data").glob("hybr.sqlite3*"):
        assert TEXT.encode() not in path.read_bytes()


def crash(key: Any, quoted: str) -> str:
    """Return the report, with its locals, of a failure near a key whose provider quotes something."""
    try:
        redact(f"your key {quoted}", key).unknown  # type: ignore[attr-defined]  # noqa: B018
    except AttributeError as error:
        del quoted
        return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    return ""


def test_finding_runs_no_sql() -> None:
    """What the relay asks for every call needs no database and opens nothing."""
    held = Keyring(None, None)  # type: ignore[arg-type]  # whoever used either would fail
    row: Any = keyrings.Row("ada", "openai", 1, "v1:x:y", suspect=False)
    held._rows["ada", "openai"] = row
    assert held.find("ada", "openai") is not None
