"""What a person prefers: at once in the browser's own store, a moment later on the server, so that it survives both.

The browser's copy decides; the server's is read only where the browser has none (a new browser, a cleared one). Writing to the
server is best effort: it must never hold up or fail what the person does. Several changes within `delay_s` are one PUT; a
version conflict (another tab wrote) reads the newest and lays our changes over it.

The tabs of a browser share one copy: each writes only the names that it changes, and takes what the others change. Only an egress
policy that is less strict than this tab's own is left for the next visit: nobody said so here.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.gate import POLICIES
from hybr.webapp.hybrid.kept import kept
from hybr.webapp.runtimes.base import UnreachableError
from hybr.webapp.runtimes.http import read_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.runtimes.base import Storage, Transport

log = logging.getLogger(__name__)

PATH = "/api/preferences"
KEYS = ("mode", "model", "cloud_model", "while_loading", "load_at_start", "runtime", "theme", "telemetry", "model_hosts")
ATTEMPTS = 3


class Preferences:
    """Values by name, over a `storage` that is immediate and a `transport` that may not be there."""

    def __init__(self, storage: Storage, transport: Transport | None = None, *, delay_s: float = 1.0) -> None:
        self._storage = storage
        self._transport = transport
        self._delay_s = delay_s
        self._version = 0
        self._dirty: set[str] = set()
        self._refused: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._values = self._stored()
        storage.listen("preferences", self._heard)
        self.quiet: Callable[[], bool] = lambda: False  # whether nothing may leave the browser now (local-only)
        self.followed: Callable[[dict[str, Any]], object] = lambda _: None  # told of what another tab has changed

    def get(self, name: str, default: Any = None) -> Any:
        """The preference, or `default`."""
        return self._values.get(name, default)

    def set(self, name: str, value: Any) -> None:
        """Store now in the browser, soon on the server."""
        if self._values.get(name) == value:
            return
        self._values[name] = value
        kept(self._storage.assign, "preferences", {name: value})
        if self._transport is not None and name in KEYS:
            self._dirty.add(name)
            self._schedule()

    def to_dict(self) -> dict[str, Any]:
        """All preferences."""
        return dict(self._values)

    async def restore(self) -> bool:
        """Take the server's copy where the browser has none. True if that changed anything."""
        theirs = await self._read()
        missing = {name: value for name, value in theirs.items() if name in KEYS and name not in self._values}
        if missing:
            self._values |= missing
            kept(self._storage.assign, "preferences", missing)
        return bool(missing)

    async def settled(self, name: str) -> bool:
        """Wait for the writing under way; whether the server has what is preferred now, as far as it takes that name at all."""
        await self.flush()
        return self._transport is not None and name in KEYS and name not in self._dirty and name not in self._refused

    async def flush(self) -> None:
        """Wait until the server has what it can have."""
        if self._task:
            await asyncio.wait([self._task])

    def _heard(self, changed: dict[str, Any]) -> None:
        """What another tab has stored."""
        mine, theirs = self._values.get("egress"), changed.get("egress")
        if mine in POLICIES and (theirs not in POLICIES or POLICIES.index(theirs) < POLICIES.index(mine)):
            changed = {name: value for name, value in changed.items() if name != "egress"}
        self._values |= changed
        self.followed(changed)

    def _stored(self) -> dict[str, Any]:
        try:
            values = json.loads(self._storage.get("preferences") or "{}")
        except ValueError:
            values = None
        if not isinstance(values, dict):
            log.warning("the stored preferences cannot be read; starting from the defaults")
            return {}
        return values

    def _schedule(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._push())

    async def _push(self) -> None:
        await asyncio.sleep(self._delay_s)
        for _ in range(ATTEMPTS):
            if not self._dirty or self.quiet() or await self._write():
                return  # what stays dirty goes along with the next change

    async def _write(self) -> bool:
        """One PUT. True when there is nothing more to do for it: done, or no use."""
        assert self._transport is not None  # noqa: S101 - for mypy: only scheduled with one
        sent = set(self._dirty)
        chosen = {**await self._read(), **{name: self._values[name] for name in sent if self._values[name] is not None}}
        body = json.dumps({"version": self._version, "preferences": chosen}).encode()
        try:
            response = await self._transport.request("PUT", PATH, body)
            answer = await read_json(response)
        except (UnreachableError, ValueError) as error:
            log.info("preferences stay in the browser only for now: %s", error)
            return True
        if response.status == 409:
            return False
        self._dirty -= sent
        self._refused = sent if response.status != 200 else self._refused - sent
        if response.status != 200 or not _whole(answer):
            log.warning("the server did not take the preferences: %s", answer)
            return not self._dirty
        self._version = answer["version"]
        return not self._dirty

    async def _read(self) -> dict[str, Any]:
        """The server's copy; empty if there is none to be had."""
        if self._transport is None or self.quiet():
            return {}
        try:
            response = await self._transport.request("GET", PATH)
            answer = await read_json(response)
        except (UnreachableError, ValueError) as error:
            log.info("no preferences from the server: %s", error)
            return {}
        if response.status != 200 or not _whole(answer):
            return {}
        self._version = answer["version"]
        return dict(answer["preferences"])


def _whole(answer: object) -> bool:
    """Whether this is the server's answer as it is meant to be."""
    return isinstance(answer, dict) and isinstance(answer.get("version"), int) and isinstance(answer.get("preferences"), dict)
