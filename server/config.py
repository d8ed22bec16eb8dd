"""What `hybr serve` was told: flag over environment over default, checked once, in one typed object."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hybr.server import paths
from hybr.server.errors import ConfigError
from hybr.server.upstreams import Upstreams

if TYPE_CHECKING:
    from pathlib import Path

OFF = {"0", "off", "no", "false"}
ON = {"1", "on", "yes", "true"}


@dataclass(frozen=True)
class Settings:
    """Everything the server can be told.

    `build` starts the model builds in the background; `warm` starts llama.cpp as soon as its weights are there instead
    of at the first request; `upstreams` are the providers behind a network; `drain` is how long, in seconds, running answers
    may take to end at shutdown.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    build: bool = True
    warm: bool = True
    drain: int = 3
    upstreams: Upstreams = field(default_factory=Upstreams)
    home: Path = field(default_factory=paths.home)
    data: Path = field(default_factory=paths.data)

    def __post_init__(self) -> None:
        if not is_loopback(self.host):
            raise ConfigError(
                f"this version serves the machine it runs on only, and {self.host!r} is not a loopback address",
                field="host",
                remedy="Use --host 127.0.0.1 (accounts, which other machines need, are not built yet)",
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
