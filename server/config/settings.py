"""Every setting, one line each, and the rules between them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from hybr.server import paths
from hybr.server.config.kinds import KEYS, NAMES, OFF, ON, PATH, PORT, SECRET, SWITCH, Kind, whole, word
from hybr.server.errors import ConfigError
from hybr.server.money.config import Money
from hybr.server.upstreams import Upstreams

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hybr.server.secret import Secret

HOST = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
TEXT_HOST = Kind(str, "a host", "an address or a name of this machine")
AUTH = word("token", "off", "accounts", aliases=dict.fromkeys(ON, "token") | dict.fromkeys(OFF, "off"))
MB = 1024 * 1024


def setting(default: Any, kind: Kind, text: str, *, key: str = "", toml: bool = True) -> Any:
    """Declare one setting (a dataclass field): its default or what makes it, its kind, its line of help.

    `key` is its name in the file, and with it those of flag and variable, where that is not the field's; `toml` is False for
    what must be known before the file is found.
    """
    metadata = {"kind": kind, "text": text, "key": key, "toml": toml}
    return field(default_factory=default, metadata=metadata) if callable(default) else field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Everything the server can be told."""

    host: str = setting("127.0.0.1", TEXT_HOST, "address to listen on")
    port: int = setting(8080, PORT, "port to listen on, 0 for any free one")
    auth: Literal["token", "off", "accounts"] = setting("token", AUTH, "who may come in: token, off, accounts")
    hosts: tuple[str, ...] = setting((), NAMES, "host names people type, besides this machine's own")
    build: bool = setting(True, SWITCH, "build models in the background")
    warm: bool = setting(True, SWITCH, "start the house model before the first question")
    drain: int = setting(3, whole(0, 600), "seconds that running answers may take to end at shutdown")
    database: Secret | None = setting(None, SECRET, "the store, where it is not SQLite in the data folder", key="database_url")  # noqa: RUF009
    master_key: Secret | None = setting(None, KEYS, "the key over the people's provider keys; none: a file in the data folder")  # noqa: RUF009
    log_level: str = setting("info", word("debug", "info", "warning", "error"), "the least serious line that is logged")
    log_format: str = setting("auto", word("auto", "json", "text"), "auto: text on a terminal, JSON elsewhere")
    log_requests: str = setting("errors", word("off", "errors", "all"), "which requests have a line in the log")
    blob_bytes: int = setting(4 * MB, whole(1, 1024 * MB), "bytes that one blob of the page's sync may have")
    blob_quota: int = setting(256 * MB, whole(1, 1024 * 1024 * MB), "bytes that one person's blobs may have together")
    blob_count: int = setting(2000, whole(1, 1_000_000), "blobs that one person may have")
    telemetry: bool = setting(True, SWITCH, "keep rows of how answers went, never of what they said")
    telemetry_days: int = setting(30, whole(1, 3650), "days that telemetry's rows are kept")
    metrics_token: Secret | None = setting(None, SECRET, "the bearer token that may read /metrics")  # noqa: RUF009
    home: Path = setting(paths.home, PATH, "the cache, which may be deleted at any time", toml=False)  # noqa: RUF009
    data: Path = setting(paths.data, PATH, "what cannot be made again: database, keys, hybr.toml", toml=False)  # noqa: RUF009
    upstreams: Upstreams = field(default_factory=Upstreams)
    money: Money = field(default_factory=Money)

    def __post_init__(self) -> None:
        for one in catalogue():
            object.__setattr__(self, one.field, one.read(getattr(self, one.field), one.key))
        check_doors(self)


class Setting(NamedTuple):
    """One setting's names and rule."""

    field: str
    key: str
    kind: Kind
    text: str
    toml: bool
    default: Callable[[], Any]

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return f"HYBR_{self.key.upper()}"

    @property
    def flag(self) -> str:
        """Its flag; a secret's names a file."""
        return f"--{self.key.replace('_', '-')}{'-file' if self.kind.secret else ''}"

    def read(self, value: Any, source: str) -> Any:
        """Return the value. Raises ConfigError that names the key, the source and what is accepted, and shows no secret."""
        try:
            return self.kind.read(value)
        except (ValueError, TypeError, OverflowError):
            shown = "what it says" if self.kind.secret else repr(value)[:100]
            where = source if source == self.key else f"{source} ({self.key})"
            message = f"{where}: {shown} is not {self.kind.noun}"
            raise ConfigError(message, field=self.key, remedy=f"Accepted: {self.kind.accepted}") from None


def catalogue() -> list[Setting]:
    """Return every setting, as declared."""
    found = []
    for one in fields(Settings):
        if told := one.metadata:
            make = one.default_factory if callable(one.default_factory) else lambda value=one.default: value
            found.append(Setting(one.name, told["key"] or one.name, told["kind"], told["text"], told["toml"], make))
    return found


def check_doors(told: Settings) -> None:
    """Raise ConfigError for an address that others reach without the doors that others need."""
    if not is_loopback(told.host):
        if told.auth != "accounts":
            raise ConfigError(
                f"{told.host!r} is not a loopback address, and without accounts this server is for one person here",
                field="host",
                remedy="Use --host 127.0.0.1, or set HYBR_AUTH=accounts and make people with `hybr users add`",
            )
        if not told.hosts:
            raise ConfigError(
                f"the server would listen on {told.host!r} and not know its own name",
                field="HYBR_HOSTS",
                remedy="Set HYBR_HOSTS to what people type, such as chat.example.org,chat.example.org:8443",
            )
    for name in told.hosts:
        if not HOST.fullmatch(name):
            remedy = "Write name or name:port, with commas between"
            raise ConfigError(f"HYBR_HOSTS: {name[:100]!r} is no host", field="HYBR_HOSTS", remedy=remedy)


def doors_notice(told: Settings) -> str:
    """Return what the operator of a server with accounts must see to, empty where only this machine reaches it.

    This server speaks plain HTTP, on which browsers drop the log-in's `__Host-` cookie under any name but this machine's.
    """
    if told.auth != "accounts" or (is_loopback(told.host) and not told.hosts):
        return ""
    names = ", ".join(told.hosts) or told.host
    return f"people log in over https only; put a proxy that speaks TLS before this server for {names}, and keep the Host header"


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
