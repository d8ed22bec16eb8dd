"""Where the server connects to: the configuration's addresses, and not what a name has been made to mean since.

A base URL with an address in it, or with `localhost`, says itself where it leads, and so does an upstream that is marked
`private = true`. Any other name must resolve to public addresses only, looked at when it is connected to, so that a name moved to
this machine, to its network or to a cloud's metadata service (DNS rebinding, CVE-2026-31943) leads nowhere. All addresses of a
name are looked at, not only the one that would be tried first, and the addresses inside of IPv6 forms too.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import weakref
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult
    from aiohttp.connector import Connection

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Addresses that Python calls public and that lead to the inside: a cloud's services and the rooms between networks.
INSIDE = [
    ipaddress.ip_network(text)
    for text in (
        "168.63.129.16/32",
        "192.0.0.0/24",
        "100.64.0.0/10",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "fec0::/10",
        "64:ff9b:1::/48",
    )
]
NAT64 = ipaddress.ip_network("64:ff9b::/96")
ISATAP = (0x0000_5EFE, 0x0200_5EFE)  # RFC 5214: the upper half of an interface's id whose lower half is an IPv4 address


class PrivateAddressError(OSError):
    """A name that leads inside. An OSError, so that aiohttp takes it for a failed connection; its text names no address."""


class Resolver(AbstractResolver):
    """Resolves as `inner` does (the system, unless a test says otherwise), and gives public addresses only."""

    def __init__(self, inner: AbstractResolver | None = None) -> None:
        self.inner = inner or aiohttp.ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        """Return the name's addresses. Raises PrivateAddressError when one of them leads inside."""
        found = await self.inner.resolve(host, port, family)
        for one in found:
            if not is_public(one["host"]):
                raise PrivateAddressError(None, "this name leads to a private address")
        return found

    async def close(self) -> None:
        """Close the inner one."""
        await self.inner.close()


def connector(base_url: str, *, private: bool = False, inner: AbstractResolver | None = None) -> Connector:
    """Return what connects to the upstream at `base_url`. Certificates are verified in any case."""
    free = private or names_itself(base_url)
    return Connector(limit=0, resolver=inner if free else Resolver(inner))


class Protocol(ResponseHandler):
    """One connection, which is told to go on reading only when it had stopped.

    aiohttp tells it after every piece that somebody took, and each time the parser is given nothing to parse.
    """

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on."""
        if self._reading_paused:
            super().resume_reading(resume_parser)


class Connector(aiohttp.TCPConnector):
    """Remembers its connections: only one that was used before can have died unseen.

    `reused` says it of the connection that `connect` gave last, to be read at once. aiohttp's own tracing tells that too, for ten
    times the cost.
    """

    reused = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(Protocol, loop=self._loop)  # type: ignore[assignment]  # a kind of what it was
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    async def connect(self, *arguments: Any, **named: Any) -> Connection:
        """Return a connection, kept or new; no kept one on which something came that nobody had asked for.

        aiohttp would take that for the answer to the next request, which is another caller's.
        """
        while True:
            connection = await super().connect(*arguments, **named)
            protocol = connection.protocol
            self.reused = protocol in self._seen
            if not self.reused:
                self._seen.add(protocol)
            elif protocol is not None and protocol.should_close:
                connection.close()
                continue
            return connection


def names_itself(base_url: str) -> bool:
    """Say whether the operator wrote an address, or this machine's name: then what it leads to is what they meant."""
    from urllib.parse import urlsplit

    host = urlsplit(base_url).hostname or ""
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_public(text: str) -> bool:
    """Say whether an address, as a resolver gives it, is one of the open Internet, whatever it is wrapped in."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return all(is_open(one) for one in (address, *inside(address)))


def is_open(address: Address) -> bool:
    """Say whether this address itself, without what it may hold, is public."""
    if address in NAT64 or is_wrapper(address):
        return True  # judged by what is inside
    if any(address.version == network.version and address in network for network in INSIDE):
        return False
    return address.is_global and not address.is_multicast


def is_wrapper(address: Address) -> bool:
    """Say whether the address only stands for an IPv4 address: mapped, 6to4 or Teredo."""
    return isinstance(address, ipaddress.IPv6Address) and bool(address.ipv4_mapped or address.sixtofour or address.teredo)


def inside(address: Address) -> list[Address]:
    """Return the IPv4 addresses that an IPv6 address holds: mapped, compatible, 6to4, Teredo's both, NAT64, ISATAP."""
    if not isinstance(address, ipaddress.IPv6Address):
        return []
    low = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    found: list[Address | None] = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in NAT64 or int(address) >> 32 == 0 or (int(address) >> 32) & 0xFFFF_FFFF in ISATAP:
        found.append(low)
    return [one for one in found if one is not None]
