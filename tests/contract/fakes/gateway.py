"""Our server in front of one fake, set up as an operator would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybr.server.config import Settings
from hybr.server.providers.remote import Patience
from hybr.server.secret import Secret
from hybr.server.serve import assemble
from hybr.server.upstreams import PRESETS, Upstreams, make

if TYPE_CHECKING:
    from pathlib import Path

    from hybr.server.doors.doors import Mode
    from hybr.server.providers.remote import Remote
    from hybr.server.serve import Parts

QUICK = Patience(connect=30, first=30, idle=30, total=120, listing=30)  # no test waits for its end, however busy the machine


def parts_of(
    folder: Path,
    name: str,
    address: str,
    key: str | None,
    patience: Patience = QUICK,
    *,
    auth: Mode = "off",
    **fields: Any,
) -> Parts:
    """Return parts whose one remote provider is `name`, reached at `address`; it is asked once unless `retries` are given.

    `auth` is our own door's mode.
    """
    fields = {"retries": 0, **fields}
    base = PRESETS.get(name, {}).get("base_url", "https://x/v1")
    path = "/" + base.split("/", 3)[3]
    upstream = make(name, {"base_url": address + path, **fields}, Secret(key) if key else None)
    settings = Settings(
        home=folder / "home", data=folder / "data", build=False, warm=False, auth=auth, upstreams=Upstreams((upstream,))
    )
    parts = assemble(settings)
    for remote in parts.remotes:
        remote.patience = patience
    return parts


def remote_of(parts: Parts) -> Remote:
    """Return the one remote."""
    return parts.remotes[0]
