"""What `hybr serve` was told: flag over environment over default, checked once, in one typed object."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from hybr.server import paths
from hybr.server.errors import ConfigError
from hybr.server.money.config import Money
from hybr.server.upstreams import Upstreams

if TYPE_CHECKING:
    from pathlib import Path

    from hybr.server.secret import Secret

AUTH = ("token", "off", "accounts")
HOST = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
OFF = {"0", "off", "no", "false"}
ON = {"1", "on", "yes", "true"}


@dataclass(frozen=True)
class Settings:
    """Everything the server can be told.

    `build` starts the model builds in the background; `warm` starts llama.cpp as soon as its weights are there instead
    of at the first request; `upstreams` are the providers behind a network; `drain` is how long, in seconds, running answers
    may take to end at shutdown;
    `database` is the store's URL where it is not SQLite in `data`; `money` limits and prices.
    """

    auth: Literal["token", "off", "accounts"] = "token"
    hosts: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8080
    build: bool = True
    warm: bool = True
    drain: int = 3
    upstreams: Upstreams = field(default_factory=Upstreams)
    database: Secret | None = None
    money: Money = field(default_factory=Money)
    home: Path = field(default_factory=paths.home)
    data: Path = field(default_factory=paths.data)

    def __post_init__(self) -> None:
        if self.auth not in AUTH:
            raise ConfigError(f"HYBR_AUTH={self.auth!r} is none", field="HYBR_AUTH", remedy=f"Use one of {', '.join(AUTH)}")
        if not is_loopback(self.host):
            if self.auth != "accounts":
                raise ConfigError(
                    f"{self.host!r} is not a loopback address, and without accounts this server is for one person here",
                    field="host",
                    remedy="Use --host 127.0.0.1, or set HYBR_AUTH=accounts and make people with `hybr users add`",
                )
            if not self.hosts:
                raise ConfigError(
                    f"the server would listen on {self.host!r} and not know its own name",
                    field="HYBR_HOSTS",
                    remedy="Set HYBR_HOSTS to what people type, such as chat.example.org,chat.example.org:8443",
                )
        for name in self.hosts:
            if not HOST.fullmatch(name):
                raise ConfigError(
                    f"{name[:100]!r} is no host", field="HYBR_HOSTS", remedy="Write name or name:port, with commas between"
                )
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"{self.port} is not a port", field="port", remedy="Use 1 to 65535, or 0 for any free one")


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def auth(word: str) -> Literal["token", "off", "accounts"]:
    """Read HYBR_AUTH: a mode by its name, or on and off. Raises ConfigError, because a misspelt "accounts" must not mean less."""
    word = word.strip().lower()
    if word in {"", "token"} | ON:
        return "token"
    if word in OFF:
        return "off"
    if word == "accounts":
        return "accounts"
    raise ConfigError(f"HYBR_AUTH={word!r} is none of its words", field="HYBR_AUTH", remedy=f"Use one of {', '.join(AUTH)}")


def switch(name: str, *, default: bool) -> bool:
    """Read an on/off variable.

    Raises ConfigError for a value that is neither, because a misspelt "off" must not mean "on".
    """
    value = os.environ.get(name, "").strip().lower()
    if not value:
        return default
    if value in ON | OFF:
        return value in ON
    raise ConfigError(f"{name}={value!r} is neither on nor off", field=name, remedy=f"Set {name}=on or {name}=off")
