"""Where the server connects to: certificates of every kind of wrong, names that come to mean the inside (adverse, 15, 19, 20)."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from aiohttp.abc import AbstractResolver
from fakes import openai
from fakes.gateway import parts_of, remote_of
from fakes.wire import wired
from serving import asking, question

from hybr.server import egress
from hybr.server.egress import Resolver, is_public, names_itself

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ASK = question(model="openai/gpt-5-mini")

ANYWHERE = "0.0.0.0"  # noqa: S104  to be refused
PRIVATE = [
    "127.0.0.1", "127.1.2.3", ANYWHERE, "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1", "192.88.99.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::ffff:0:0", "fe80::1", "fe80::1%eth0", "fc00::1",
    "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1",
    "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:7f00:1::", "2001:0:4136:e378:8000:63bf:80ff:fffe", "::5efe:7f00:1",
    "2606:4700::200:5efe:10.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "localhost", "",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]


@pytest.mark.parametrize("address", PRIVATE)
def test_20_the_inside(address: str) -> None:
    """No address that leads inside passes, in whatever form a resolver gives it."""
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_the_outside(address: str) -> None:
    """Public addresses pass, also inside of a form whose other addresses do not."""
    assert is_public(address)


@pytest.mark.parametrize(
    ("url", "itself"),
    [
        ("http://127.0.0.1:1/v1", True),
        ("http://[::1]/v1", True),
        ("http://10.1.2.3/v1", True),
        ("http://localhost:8080", True),
        ("https://api.example.com/v1", False),
        ("https://localhost.example.com", False),
        ("http://2130706433/", False),
    ],
)
def test_an_operators_address(url: str, itself: bool) -> None:
    """An address or this machine's name in the configuration says itself where it leads; any other name is looked at."""
    assert names_itself(url) is itself


class Names(AbstractResolver):
    """A resolver whose answers the test decides, and may change."""

    def __init__(self, *hosts: str) -> None:
        self.hosts = list(hosts)
        self.asked = 0

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[Any]:
        """Answer with the addresses."""
        self.asked += 1
        shape = {"hostname": host, "port": port, "family": socket.AF_INET, "proto": 0, "flags": socket.AI_NUMERICHOST}
        return [{**shape, "host": one} for one in self.hosts]

    async def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize(
    "hosts", [["127.0.0.1"], ["1.1.1.1", "127.0.0.1"], ["::ffff:a9fe:a9fe"], [ANYWHERE], ["64:ff9b::7f00:1"]]
)
async def test_20_rebinding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hosts: list[str]) -> None:
    """A name that leads inside, by one of its addresses even, is not connected to; a redirect is no way around (15)."""
    async with wired(openai.answer) as fake:
        port = fake.address.rsplit(":", 1)[1]
        names = Names(*hosts)
        made = egress.connector
        monkeypatch.setattr(egress, "connector", lambda url, **fields: made(url, inner=names, **fields))
        parts = parts_of(tmp_path, "openai", f"https://provider.example:{port}", openai.KEY)
        async with asking(parts) as client:
            answer = await client.post("/v1/chat/completions", json=ASK)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["retryable"]) == (502, "private_address", False)
        assert not [one for one in hosts if one in answer.text]
        assert names.asked
        assert not fake.asked


async def test_20_a_name_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was public when the server started is looked at again when it is connected to."""
    names = Names("1.1.1.1")
    resolver = Resolver(names)
    assert await resolver.resolve("provider.example", 443)
    names.hosts = ["127.0.0.1"]
    with pytest.raises(egress.PrivateAddressError):
        await resolver.resolve("provider.example", 443)


class Mute(Names):
    """A resolver that answers nobody, as the system's does without a network."""

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[Any]:
        """Say what the system says."""
        self.asked += 1
        raise OSError(socket.EAI_AGAIN, "Temporary failure in name resolution")


async def test_48_no_names_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While DNS is down an upstream is unreachable, without its name being told; once it is back the next call is answered."""
    async with wired(openai.answer) as fake:
        port = fake.address.rsplit(":", 1)[1]
        names, made = Mute(), egress.connector
        monkeypatch.setattr(egress, "connector", lambda url, **fields: made(url, inner=names, **fields))
        parts = parts_of(tmp_path, "vllm", f"http://box.internal:{port}", None, private=True, models=["gpt-x"])
        async with asking(parts) as client:
            refused = await client.post("/v1/chat/completions", json=question(model="vllm/gpt-x"))
            asked = names.asked
            monkeypatch.setattr(names, "resolve", Names("127.0.0.1").resolve)
            answer = await client.post("/v1/chat/completions", json=question(model="vllm/gpt-x"))
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["retryable"]) == (502, "unreachable", True)
    assert "box.internal" not in refused.text
    assert asked
    assert answer.json().get("error", {}).get("code") != "unreachable"
    assert [one for one in fake.asked if one.method == "POST"], "the fake refuses a call without a key, but it is asked"


async def test_a_private_upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upstream of the operator's own network is reached by its name when it is marked as private."""
    async with wired(openai.answer) as fake:
        port = fake.address.rsplit(":", 1)[1]
        made = egress.connector
        monkeypatch.setattr(egress, "connector", lambda url, **fields: made(url, inner=Names("127.0.0.1"), **fields))
        for private in (False, True):
            parts = parts_of(tmp_path, "vllm", f"http://box.internal:{port}", None, private=private, models=["gpt-x"])
            async with asking(parts) as client:
                answer = await client.post("/v1/chat/completions", json=question(model="vllm/gpt-x"))
            posted = [one for one in fake.asked if one.method == "POST"]
            assert bool(posted) == private, "the fake refuses a call without a key, but it is asked"
            assert (answer.json()["error"]["code"] == "private_address") != private


NOW = dt.datetime.now(dt.UTC)
OUR_CA, OTHER_CA = trustme.CA(), trustme.CA()
CERTIFICATES = {
    "good": OUR_CA.issue_cert("localhost"),
    "expired": OUR_CA.issue_cert("localhost", not_before=NOW - dt.timedelta(days=9), not_after=NOW - dt.timedelta(days=1)),
    "not yet": OUR_CA.issue_cert("localhost", not_before=NOW + dt.timedelta(days=1), not_after=NOW + dt.timedelta(days=9)),
    "wrong host": OUR_CA.issue_cert("other.example"),
    "unknown authority": OTHER_CA.issue_cert("localhost"),
}


@contextlib.asynccontextmanager
async def secured(name: str) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve TLS with one of the certificates; give the address and what was asked over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CERTIFICATES[name].configure_cert(context)
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            got.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 503 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}", got
    finally:
        server.close()


@pytest.mark.parametrize("name", list(CERTIFICATES))
async def test_19_certificates(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """Expired, not yet valid, for another host, by nobody we know: refused before the key is sent, logged, asked once."""
    bundle = tmp_path / "ca.pem"
    OUR_CA.cert_pem.write_to_path(bundle)
    caplog.set_level(logging.WARNING)
    async with secured(name) as (address, got):
        parts = parts_of(tmp_path, "openai", address, openai.KEY, retries=2)
        if name != "unknown authority":  # that one meets what the server uses, unchanged
            remote_of(parts)._http().connector._ssl = trusting(bundle)  # type: ignore[union-attr]
        async with asking(parts) as client:
            answer = await client.post("/v1/chat/completions", json=ASK)
    error = answer.json()["error"]
    if name == "good":
        assert got, "the same server with a good certificate is asked"
        assert error["code"] != "bad_certificate"
    else:
        assert (answer.status_code, error["code"], error["retryable"], error["attempts"]) == (502, "bad_certificate", False, 1)
        assert "bad_certificate" in caplog.text
        assert not got, "no byte of the request, and so no key, went to it"


def trusting(bundle: Path) -> ssl.SSLContext:
    """Return what aiohttp uses by default, trusting the tests' own authority instead of the system's."""
    return ssl.create_default_context(cafile=str(bundle))


def test_19_nothing_turns_verification_off() -> None:
    """No line of the server has a word for it."""
    from hybr.server.paths import package

    for path in package("server").rglob("*.py"):
        text = path.read_text()
        for word in ("ssl=False", "verify=False", "CERT_NONE", "check_hostname", "_create_unverified"):
            assert word not in text, path
