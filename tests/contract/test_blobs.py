"""`/api/blobs` on the wire, over both databases: bytes in, the same bytes out, nobody's write lost, nobody over the quota."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from serving import asking, parts_in
from sqlalchemy import text

from hybr.server.store import blobs as rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

    from hybr.server.secret import Secret

SMALL = {"blob_bytes": 1000, "blob_quota": 2500, "blob_count": 4}


@pytest.fixture
async def client(tmp_path: Path, database_url: Secret | None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server with small quotas, over each database."""
    async with asking(parts_in(tmp_path, told={"database": database_url, **SMALL})) as one:
        yield one


async def put(client: httpx.AsyncClient, name: str, content: Any, version: int = 0, **headers: str) -> httpx.Response:
    """Write over a version, 0 for a new blob."""
    start = {"if-match": f'"{version}"'} if version else {"if-none-match": "*"}
    sent = {"content-type": "application/octet-stream", **start, **headers}
    return await client.put(f"/api/blobs/{name}", content=content, headers=sent)


async def drop(client: httpx.AsyncClient, name: str, match: str = "*") -> httpx.Response:
    """Delete."""
    return await client.delete(f"/api/blobs/{name}", headers={"if-match": match})


def code(answer: httpx.Response) -> tuple[int, str]:
    """Return status and code of a refusal."""
    return answer.status_code, answer.json()["error"]["code"]


async def test_a_life(client: httpx.AsyncClient) -> None:
    """A blob is made, read, not sent again when known, replaced, listed and deleted, and every answer names its version."""
    content = bytes(range(256))
    made = await put(client, "conv.a-1", content)
    assert (made.status_code, made.json(), made.headers["etag"]) == (201, {"name": "conv.a-1", "version": 1, "bytes": 256}, '"1"')
    read = await client.get("/api/blobs/conv.a-1")
    assert (read.content, read.headers["etag"]) == (content, '"1"')
    assert (await client.get("/api/blobs/conv.a-1", headers={"if-none-match": '"1"'})).status_code == 304
    again = await put(client, "conv.a-1", b"", version=1)
    assert (again.status_code, again.headers["etag"]) == (200, '"2"')
    listed = (await client.get("/api/blobs")).json()
    assert [(one["name"], one["version"], one["bytes"], one["deleted"]) for one in listed["blobs"]] == [("conv.a-1", 2, 0, False)]
    assert listed["quota"] == {"blob": 1000, "bytes": 2500, "count": 4}
    gone = await drop(client, "conv.a-1", '"2"')
    assert gone.json() == {"name": "conv.a-1", "version": 3, "deleted": True}
    assert code(await client.get("/api/blobs/conv.a-1")) == (404, "no_such_blob")


async def test_never_interpreted(client: httpx.AsyncClient) -> None:
    """Whatever the bytes look like, they go out as bytes to save, under a policy that runs nothing."""
    page = b"<script>alert(1)</script>"
    await put(client, "page", page)
    answer = await client.get("/api/blobs/page")
    assert answer.content == page
    told = {name: answer.headers[name] for name in ("content-type", "x-content-type-options", "content-disposition")}
    assert told == {
        "content-type": "application/octet-stream",
        "x-content-type-options": "nosniff",
        "content-disposition": "attachment",
    }
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["cache-control"] == "no-store"


async def test_two_devices(client: httpx.AsyncClient) -> None:
    """Of two writes from one version one is stored; so it is with two creations, and with a write against a deletion."""
    made = await asyncio.gather(*(put(client, "a", bytes([number])) for number in range(4)))
    assert sorted(answer.status_code for answer in made) == [201, 412, 412, 412]
    version = next(answer.json()["version"] for answer in made if answer.status_code == 201)
    changed = await asyncio.gather(*(put(client, "a", bytes([number]), version) for number in range(4)))
    assert sorted(answer.status_code for answer in changed) == [200, 412, 412, 412]
    assert {code(answer)[1] for answer in changed if answer.status_code == 412} == {"version_conflict"}
    newest = next(answer.json()["version"] for answer in changed if answer.status_code == 200)
    assert (await drop(client, "a", f'"{version}"')).status_code == 412
    assert (await drop(client, "a", f'"{newest}"')).status_code == 200
    assert (await put(client, "a", b"x", newest)).status_code == 412


async def test_no_version_comes_twice(client: httpx.AsyncClient) -> None:
    """A blob made again under an old name cannot be taken for the old one."""
    first = (await put(client, "a", b"old")).json()["version"]
    await drop(client, "a")
    second = (await put(client, "a", b"new")).json()["version"]
    assert second > first
    assert code(await put(client, "a", b"x", first)) == (412, "version_conflict")


async def test_what_a_device_lacks(client: httpx.AsyncClient) -> None:
    """The list since a version has what was written and deleted after it, in pages, each once and in its newest state."""
    for name in "abc":
        await put(client, name, name.encode())
    known = (await client.get("/api/blobs")).json()["version"]
    assert known == 3
    await put(client, "a", b"aa", 1)
    await drop(client, "b")
    seen, since = [], known
    while True:
        page = (await client.get(f"/api/blobs?since={since}&limit=1")).json()
        seen += [(one["name"], one["deleted"]) for one in page["blobs"]]
        since = page["version"]
        if not page["more"]:
            break
    assert seen == [("a", False), ("b", True)]
    assert page["complete"]
    assert (await client.get(f"/api/blobs?since={since}")).json()["blobs"] == []
    assert not (await client.get("/api/blobs?since=999")).json()["complete"], "a version from another life of the store"


async def test_old_deletions_are_forgotten(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deletions do not pile up for ever, and a device that missed a forgotten one is told to compare."""
    monkeypatch.setattr(rows, "FORGET", 2)
    for name in "abcde":
        await put(client, name, b"")
        await drop(client, name)
    listed = (await client.get("/api/blobs")).json()
    assert [one["name"] for one in listed["blobs"]] == ["d", "e"]
    assert not (await client.get("/api/blobs?since=4")).json()["complete"]
    assert (await client.get("/api/blobs?since=6")).json()["complete"]


async def test_quotas(client: httpx.AsyncClient) -> None:
    """Too large a blob is a 413, too many bytes or blobs a 507, each with its numbers, and what is deleted counts no more."""
    large = await put(client, "a", b"x" * 1001)
    assert code(large) == (413, "blob_too_large")
    assert "1000" in large.json()["error"]["message"]
    for name in "abc":
        assert (await put(client, name, b"x" * 800)).status_code == 201
    full = await put(client, "d", b"x" * 200)
    assert code(full) == (507, "quota_bytes")
    assert "2600 bytes together, and 2500 are allowed" in full.json()["error"]["message"]
    assert not full.json()["error"]["retryable"]
    assert (await put(client, "c", b"x" * 900, 3)).status_code == 200
    assert (await put(client, "d", b"")).status_code == 201
    assert code(await put(client, "e", b"")) == (507, "quota_blobs")
    await drop(client, "a")
    assert (await put(client, "e", b"x" * 800)).status_code == 201
    listed = (await client.get("/api/blobs")).json()
    assert (listed["bytes"], listed["count"]) == (2500, 4)


async def test_the_quota_holds_among_many(client: httpx.AsyncClient) -> None:
    """Ten devices that write at once get no byte and no blob more than one would."""
    answers = await asyncio.gather(*(put(client, f"n{number}", b"x" * 900) for number in range(10)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, *[507] * 8]


async def test_a_body_without_length(client: httpx.AsyncClient) -> None:
    """A body that does not say its length is read to the bound and no further."""
    pulled = []

    async def flood() -> AsyncIterator[bytes]:
        for number in range(100):
            pulled.append(number)
            yield b"x" * 100

    answer = await put(client, "a", flood())
    assert code(answer) == (413, "blob_too_large")
    assert (await client.get("/api/blobs")).json()["count"] == 0


@pytest.mark.parametrize(
    "name", ["A", "..", ".a", "-a", "a/b", "a%2Fb", "a%00", "a%0d%0ax", "a b", "é", "a" * 129, "a%5cb", "~", "a;b", "a'b", ""]
)
async def test_names(client: httpx.AsyncClient, name: str, backend: str) -> None:
    """A name outside the closed alphabet is refused and stores nothing; no name leaves its place."""
    if backend != "sqlite":
        return
    answer = await put(client, name, b"x")
    assert answer.status_code in {400, 404, 405}
    assert (await client.get("/api/blobs")).json()["count"] == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 428),
        ({"if-match": '"1"', "if-none-match": "*"}, 428),
        ({"if-match": "*"}, 400),
        ({"if-match": "1"}, 400),
        ({"if-match": 'W/"1"'}, 400),
        ({"if-match": '"0"'}, 400),
        ({"if-match": '"1", "2"'}, 400),
        ({"if-none-match": '"1"'}, 400),
        ({"if-none-match": "*", "content-type": "text/plain"}, 415),
        ({"if-none-match": "*", "content-length": "-1"}, 413),
        ({"if-match": '"1"'}, 412),
    ],
)
async def test_conditions(client: httpx.AsyncClient, headers: dict[str, str], status: int) -> None:
    """A write that does not say from what it starts, or not as HTTP says it, is refused by name."""
    sent = {"content-type": "application/octet-stream", **headers}
    answer = await client.put("/api/blobs/a", content=b"x", headers=sent)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"]


@pytest.mark.parametrize("query", ["since=x", "since=-1", "limit=0", "limit=1001", "since=1e3", "since=٣", "since=" + "9" * 40])
async def test_queries(client: httpx.AsyncClient, query: str) -> None:
    """A question that is no number names its field."""
    answer = await client.get(f"/api/blobs?{query}")
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, query.partition("=")[0])


async def test_forgetting(tmp_path: Path, database_url: Secret | None) -> None:
    """What a person has deleted as a whole is gone, and an old device hears that its list is worth nothing."""
    parts = parts_in(tmp_path, told={"database": database_url})
    async with asking(parts) as client:
        for name in "ab":
            await put(client, name, b"x")
        await parts.blobs.forget("local")
        assert (await client.get("/api/blobs")).json()["count"] == 0
        assert not (await client.get("/api/blobs?since=2")).json()["complete"]
        assert (await put(client, "a", b"x")).json()["version"] == 4


async def test_owners_are_apart(tmp_path: Path, database_url: Secret | None) -> None:
    """One person's names, versions and sums are nothing to another's."""
    from hybr.server.store.database import Database

    quota = rows.Quota(100, 100, 1)
    database = Database(tmp_path / "data", database_url)
    for owner in ("ann", "bob"):
        async with database.begin() as connection:
            assert await rows.save(connection, owner, "same", owner.encode() * 20, expected=0, quota=quota) == 1
    async with database.begin() as connection:
        assert await rows.load(connection, "ann", "same") == (1, b"ann" * 20)
        assert await rows.summed(connection, "bob") == (1, 60, 1, 0)
        assert (await connection.execute(text("SELECT count(*) FROM blobs"))).scalar_one() == 2
    await database.close()
