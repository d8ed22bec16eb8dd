"""The doors' parts by themselves: what a request brings, guessing, passwords, the registry's clock, the commands."""

from __future__ import annotations

import asyncio
import io
import re
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybr.server import accounts, cli
from hybr.server.caller import PERSON
from hybr.server.config import load
from hybr.server.doors import registry, store
from hybr.server.doors.credential import BAD, NONE, Credential, extract
from hybr.server.doors.door import is_public
from hybr.server.doors.registry import Pass, Registry
from hybr.server.doors.throttle import EVERYWHERE, FREE, LONGEST, MOST, Throttle
from hybr.server.errors import ConfigError, LimitError, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from hybr.server.store.database import Database

GOOD = "hybr_" + "aZ_-0" * 8 + "xyz"
COOKIE = b"hybr-80"
TOKEN = Credential("token", GOOD)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], NONE),
        ([(b"authorization", f"Bearer {GOOD}".encode())], TOKEN),
        ([(b"authorization", f"bEARER   {GOOD} ".encode())], TOKEN),
        ([(b"x-api-key", GOOD.encode())], TOKEN),
        ([(b"authorization", b"Bearer ")], BAD),
        ([(b"authorization", b"")], BAD),
        ([(b"authorization", GOOD.encode())], BAD),
        ([(b"authorization", f"Token {GOOD}".encode())], BAD),
        ([(b"authorization", f"Bearer {GOOD}x".encode())], BAD),
        ([(b"authorization", f"Bearer {GOOD}\xe9".encode("latin-1"))], BAD),
        ([(b"authorization", f"Bearer {GOOD}, Bearer {GOOD}".encode())], BAD),
        ([(b"authorization", f"Bearer {GOOD}".encode())] * 2, BAD),
        ([(b"x-api-key", GOOD.encode())] * 2, BAD),
        ([(b"x-api-key", GOOD.encode()), (b"authorization", f"Bearer {GOOD}".encode())], BAD),
        ([(b"cookie", b"a=1; hybr-80=" + b"c" * 43)], Credential("cookie", "c" * 43)),
        ([(b"cookie", b"a=1"), (b"cookie", b"hybr-80=" + b"c" * 43)], Credential("cookie", "c" * 43)),
        ([(b"cookie", b"hybr-8080=" + b"c" * 43 + b"; xhybr-80=" + b"c" * 43)], NONE),
        ([(b"cookie", b"hybr-80=" + b"c" * 43 + b";hybr-80=" + b"d" * 43)], BAD),
        ([(b"cookie", b"hybr-80=' OR 1=1")], BAD),
        ([(b"cookie", b"hybr-80=" + b"c" * 43), (b"authorization", b"Basic x")], BAD),
        ([(b"authorization", f"Bearer {GOOD}".encode()), (b"cookie", b"hybr-80=" + b"c" * 43)], TOKEN),
    ],
)
def test_what_a_request_brings(headers: list[tuple[bytes, bytes]], found: Credential) -> None:
    """One extractor for every header; two credentials are none, and a bad one is not made good by a cookie beside it."""
    assert extract(headers, COOKIE) == found
    assert GOOD not in repr(found)


@given(
    st.lists(st.tuples(st.sampled_from([b"authorization", b"x-api-key", b"cookie", b"x"]), st.binary(max_size=80)), max_size=4)
)
def test_any_headers(headers: list[tuple[bytes, bytes]]) -> None:
    """Whatever the bytes, something is found and nothing is raised."""
    assert extract(headers, COOKIE).kind in {"none", "bad", "token", "cookie"}


@given(
    st.sampled_from(["/api/x", "/v1/models", "/", "/local", "/api/session", "/docs"]),
    st.sampled_from(["", "/", "/..", "//", "%2f"]),
)
def test_public_is_listed(path: str, more: str) -> None:
    """Only what is listed is public, by its exact path; the one write among it lets in."""
    assert not is_public("GET", path + more)
    assert not is_public("POST", "/assets/x.js")
    assert is_public("POST", "/api/session")


def test_guessing_waits_longer_each_time() -> None:
    """The first attempts are free, then the wait doubles up to a quarter of an hour; other addresses and names do not wait."""
    now = [0.0]
    throttle = Throttle(lambda: now[0])
    waits: list[float] = []
    for _ in range(FREE + 12):
        throttle.attempt("ada", "1.2.3.4")
        waits.append(throttle._left(("ada", "1.2.3.4")))
        now[0] += waits[-1]
    assert waits == sorted(waits)
    assert waits[FREE - 2 : FREE + 2] == [0, 4, 8, 16]
    assert waits[-1] == LONGEST
    throttle.attempt("ada", "5.6.7.8")
    throttle.attempt("eve", "1.2.3.4")
    throttle.passed("ada", "1.2.3.4")
    throttle.attempt("ada", "1.2.3.4")


def test_guessing_from_everywhere() -> None:
    """One account tried from very many addresses waits too, and the memory of attempts is bounded."""
    throttle = Throttle(lambda: 0.0)
    for turn in range(EVERYWHERE):
        throttle.attempt("ada", f"10.0.0.{turn}")
    with pytest.raises(LimitError):
        throttle.attempt("ada", "10.0.1.1")
    for turn in range(MOST + 100):
        throttle.attempt(f"name{turn}", "1.2.3.4")
    assert len(throttle._tried) <= MOST


def test_passwords() -> None:
    """Argon2id with a salt of its own each time; the hash holds its costs, and a wrong password does not pass."""
    first, second = accounts.scramble("a long password"), accounts.scramble("a long password")
    assert first != second
    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert accounts.verify("a long password", first)
    assert not accounts.verify("another password", first)
    assert not accounts.verify("a long password", accounts.NOBODY)


async def test_people(database: Database) -> None:
    """A name is taken once, a short password is refused, and a name that is made again inherits nothing."""
    first = await accounts.add(database, "ada", "a long password", "user")
    with pytest.raises(ConfigError, match="ada already"):
        await accounts.add(database, "ada", "a long password", "user")
    for name, password in (("eve", "short"), ("Eve", "a long password"), ("eve\n", "a long password"), ("", "a long password")):
        with pytest.raises(ConfigError):
            await accounts.add(database, name, password, "user")
    people = accounts.Accounts(database)
    assert await people.check("ada", "a long password") == first
    assert await people.check("ada", "a wrong password") is None
    assert await people.check("nobody", "a long password") is None
    await accounts.change(database, "ada", disabled=1)
    assert await people.check("ada", "a long password") is None
    with pytest.raises(ConfigError, match="no nobody"):
        await accounts.change(database, "nobody", role="admin")


@pytest.mark.parametrize("name", ["\0", "a\0b", "ADA", "", "é", "' OR 1=1 --", "x" * 1024])
async def test_what_is_nobodys_name(database: Database, name: str) -> None:
    """A name that nobody can have lets nobody in, and troubles neither database."""
    assert await accounts.Accounts(database).check(name, "four unrelated small words") is None


async def test_tokens_and_sessions_are_stored_hashed(database: Database) -> None:
    """No token and no session id is in the database; a token has no more rights than its owner."""
    owner = await accounts.add(database, "ada", "a long password", "user")
    async with database.begin() as connection:
        public, text = await store.create_token(connection, owner, "test", "admin", None)
        session = await store.begin_session(connection, owner, time.time())
        rows = [*await store.run(connection, "SELECT * FROM api_tokens"), *await store.run(connection, "SELECT * FROM sessions")]
        held = await store.token(connection, store.digest(text), hosted=True)
        assert await store.token(connection, store.digest(text), hosted=False) is None
        assert (await store.session(connection, store.digest(session))) is not None
    assert re.fullmatch(r"hybr_[\w-]{43}", text)
    assert text not in str(rows)
    assert session not in str(rows)
    assert held is not None
    assert (held.caller.owner, held.caller.role, held.caller.token) == (owner, "user", public)


async def test_the_registry_looks_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """A known credential is looked up once; when it grows old, behind the request's back; when it is stale, before it."""
    looked: list[str] = []
    held: list[Pass | None] = [Pass(PERSON)]

    async def look(kind: str, digest: str) -> Pass | None:
        looked.append(digest)
        return held[0]

    async def changes() -> int:
        return 0

    doors = Registry(look, changes)
    for _ in range(100):
        entry = await doors.find("token", "x")
    assert looked == ["x"]
    assert entry
    entry.checked -= registry.FRESH + 1
    for _ in range(100):
        assert await doors.find("token", "x")
    assert looked == ["x"], "the look is under way behind"
    await asyncio.gather(entry.looking)
    assert looked == ["x"] * 2
    held[0] = None
    entry.checked -= registry.STALE + 1
    assert await doors.find("token", "x") is None
    assert await doors.find("token", "x") is None
    assert len(looked) == 4, "what did not hold is not remembered"
    held[0] = Pass(PERSON, time.time() - 1)
    assert await doors.find("token", "x") is None
    monkeypatch.setattr(registry, "MOST", 10)
    held[0] = Pass(PERSON)
    for turn in range(50):
        await doors.find("token", str(turn))
    assert len(doors._known) == 10
    await doors.stop()


async def test_a_revocation_while_the_store_stumbles() -> None:
    """A sweep that could not look everything up is done again: what runs on a revoked token asks no more by itself."""
    held: list[Pass | None] = [Pass(PERSON)]
    away = [False]
    number = [1]

    async def look(kind: str, digest: str) -> Pass | None:
        if away[0]:
            raise UnavailableError("away", code="store_unavailable")
        return held[0]

    async def changes() -> int:
        return number[0]

    doors = Registry(look, changes)
    entry = await doors.find("token", "x")
    await doors.sweep()
    assert entry
    visit = registry.Visit()
    visit.task = None
    entry.visits.add(visit)
    held[0], number[0], away[0] = None, 2, True
    with pytest.raises(UnavailableError):
        await doors.sweep()
    assert not visit.ended
    away[0] = False
    await doors.sweep()
    assert visit.ended
    await doors.stop()


async def test_a_revocation_during_a_look() -> None:
    """What was read just before a revocation and is learnt just after the sweep for it does not let in."""
    held: list[Pass | None] = [Pass(PERSON)]
    number, go, looking = [1], asyncio.Event(), asyncio.Event()

    async def look(kind: str, digest: str) -> Pass | None:
        found = held[0]
        if digest == "x":
            looking.set()
            await go.wait()
        return found

    async def changes() -> int:
        return number[0]

    doors = Registry(look, changes)
    assert await doors.find("token", "other")
    await doors.sweep()
    finding = asyncio.create_task(doors.find("token", "x"))
    await looking.wait()
    held[0], number[0] = None, 2
    await doors.sweep()
    go.set()
    assert await finding is None
    await doors.stop()


async def test_the_registry_without_a_store() -> None:
    """While nobody can look anything up, what was known counts for a while and what was not does not."""

    async def look(kind: str, digest: str) -> Pass | None:
        raise UnavailableError("away", code="store_unavailable")

    async def changes() -> int:
        raise UnavailableError("away", code="store_unavailable")

    doors = Registry(look, changes)
    doors._known["token", "x"] = registry.Entry(Pass(PERSON), time.monotonic() - registry.STALE - 1, 0)
    assert await doors.find("token", "x")
    with pytest.raises(UnavailableError):
        await doors.find("token", "y")
    doors._known["token", "x"].checked -= registry.GRACE
    with pytest.raises(UnavailableError):
        await doors.find("token", "x")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own for commands."""
    monkeypatch.setenv("HYBR_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("HYBR_DATABASE_URL", raising=False)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Run `hybr` and return its exit code and what it said."""
    code = cli.main(words)
    out = capsys.readouterr()
    return code, out.out + out.err


def test_the_tokens_command(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A token is shown once, listed without its text, revoked by its id, and then no more to be revoked."""
    code, out = told(capsys, "tokens", "create", "backup script", "--days", "30")
    assert code == 0
    text = out.split()[0]
    assert re.fullmatch(r"hybr_[\w-]{43}", text)
    code, out = told(capsys, "tokens", "list")
    assert "backup script" in out
    assert "until 20" in out
    assert text not in out
    public = out.split()[0]
    assert told(capsys, "tokens", "revoke", public)[0] == 0
    assert "revoked" in told(capsys, "tokens", "list")[1]
    assert told(capsys, "tokens", "revoke", public)[0] == 2
    assert told(capsys, "tokens", "create", "x", "--user", "nobody")[0] == 2


def test_the_users_command(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """People are made, listed and changed; the password comes from standard input, never from the command line."""
    monkeypatch.setattr("sys.stdin", io.StringIO("a long password\n"))
    assert told(capsys, "users", "add", "ada", "--role", "admin", "--stdin")[0] == 0
    assert "ada" in told(capsys, "users", "list")[1]
    assert told(capsys, "users", "role", "ada", "user")[0] == 0
    assert told(capsys, "users", "disable", "ada")[0] == 0
    shown = told(capsys, "users", "list")[1]
    assert "user" in shown
    assert "disabled" in shown
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    code, said = told(capsys, "users", "passwd", "ada", "--stdin")
    assert code == 2
    assert "12" in said
    assert told(capsys, "keys", "rotate", "--dry-run")[0] == 0


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({"HYBR_AUTH": "off", "HYBR_HOST": "0.0.0.0"}, "loopback"),  # noqa: S104
        ({"HYBR_AUTH": "token", "HYBR_HOST": "0.0.0.0"}, "loopback"),  # noqa: S104
        ({"HYBR_AUTH": "accounts", "HYBR_HOST": "0.0.0.0"}, "HYBR_HOSTS"),  # noqa: S104
        ({"HYBR_AUTH": "account"}, "HYBR_AUTH"),
        ({"HYBR_AUTH": "accounts", "HYBR_HOSTS": "chat.example.org/x"}, "HYBR_HOSTS"),
    ],
)
def test_open_doors_are_refused(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], word: str
) -> None:
    """Without accounts the server is for this machine alone, and one for others must know its names: else it does not start."""
    host = environment.get("HYBR_HOST", "127.0.0.1")
    for name, value in environment.items() - {("HYBR_HOST", host)}:
        monkeypatch.setenv(name, value)
    code, said = told(capsys, "serve", "--host", host, "--port", "0")
    assert code == 2
    assert word in said


def test_a_hosted_server_may_listen_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With accounts and names, any address may be listened on."""
    monkeypatch.setenv("HYBR_AUTH", "accounts")
    monkeypatch.setenv("HYBR_HOSTS", "chat.example.org, chat.example.org:8443")
    assert load().settings.hosts == ("chat.example.org", "chat.example.org:8443")
