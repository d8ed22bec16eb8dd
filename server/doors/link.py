"""`hybr link`: a fresh link for a server that runs, when the printed one was used or has scrolled away.

A server that lets in by a link writes `$HYBR_DATA/running/PORT.json` (0600): its address and a seed of this run. Whoever can read
that file could read the person's keys too. The command signs a link with the seed; the server knows it by the signature, once and
for LIFE seconds. A restart has another seed, so no link outlives the memory of its use.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import os
import secrets
import time
from typing import TYPE_CHECKING, Any

from hybr.server.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger("hybr.doors")

FOLDER = "running"
LIFE = 600  # seconds in which a fresh link can be opened


def issue(seed: bytes, now: float) -> str:
    """Return a token that the server of this `seed` takes once, within LIFE seconds from `now` (since the epoch)."""
    said = f"{int(now) + LIFE}.{secrets.token_urlsafe(12)}"
    return f"{said}.{sign(seed, said)}"


def sign(seed: bytes, said: str) -> str:
    """Return the signature of `said`."""
    return hmac.digest(seed, b"local-link/v1|" + said.encode(), "sha256").hex()


class Issued:
    """The links that were made for one run of a server; `clock` gives seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.seed = secrets.token_bytes(32)
        self.clock = clock
        self._used: dict[str, int] = {}

    def redeem(self, token: str) -> bool:
        """Say whether the token lets in, and let it do so no second time."""
        said, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), sign(self.seed, said).encode()):
            return False
        now, end = self.clock(), int(said.partition(".")[0])
        self._used = {name: until for name, until in self._used.items() if until > now}
        if end <= now or said in self._used:
            return False
        self._used[said] = end
        return True


def announce(folder: Path, address: str, port: int, seed: bytes) -> Path | None:
    """Write where and how to ask for links, for this user alone, and return the file; None where nothing can be written."""
    path = folder / FOLDER / f"{port}.json"
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"address": address, "pid": os.getpid(), "seed": seed.hex()}, file)
        beside.replace(path)
    except OSError as error:
        log.warning("%s: %s; `hybr link` will not find this server", path, error.strerror)
        return None
    return path


def withdraw(path: Path | None) -> None:
    """Take the file away at the server's end, unless another server has put its own there."""
    if path is None:
        return
    with contextlib.suppress(OSError, ValueError):
        if json.loads(path.read_text())["pid"] == os.getpid():
            path.unlink()


def running(folder: Path) -> list[dict[str, Any]]:
    """Return what the servers that run with this data folder have announced; files of dead ones are taken away."""
    from hybr.mlc_build.lock import alive

    found = []
    for path in sorted((folder / FOLDER).glob("*.json")):
        with contextlib.suppress(OSError, ValueError):
            told = json.loads(path.read_text())
            if alive(told["pid"]):
                found.append(told)
            else:
                path.unlink()
    return found


def add_parser(subparsers: Any) -> None:
    """Add `link` to the frame."""
    from hybr.server.config.sources import add_flags

    link = subparsers.add_parser("link", help="print a fresh link into a server that runs here")
    add_flags(link)  # as `hybr serve`'s, so that the same words find the same data
    link.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print a link for each server that runs. Raises ConfigError when none does."""
    from hybr.server.config import load

    data = load(args).settings.data
    found = running(data)
    if not found:
        text = f"no server that is opened by a link runs with the data in {data}"
        raise ConfigError(text, field="data", remedy="Start one with `hybr serve`, or name its data folder with --data")
    for told in found:
        print(f"{told['address']}/?token={issue(bytes.fromhex(told['seed']), time.time())}")
    return 0
