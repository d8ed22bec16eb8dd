"""Preferences: at once in the browser, soon on the server, and never in anybody's way."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import MemoryStorage
from lab.upstream import ScriptedUpstream

from hybr.webapp.state.preferences import Preferences


class Server:
    """`/api/preferences` as the server has it."""

    def __init__(self) -> None:
        self.version = 0
        self.stored: dict[str, Any] = {}
        self.puts: list[dict[str, Any]] = []
        self.conflicts = 0
        self.upstream = ScriptedUpstream()
        self.upstream.files["/api/preferences"] = self.answer

    def answer(self, method: str, body: dict[str, Any] | None) -> Any:
        """GET or PUT."""
        if method == "PUT":
            assert body is not None
            if self.conflicts or body["version"] != self.version:
                self.conflicts -= 1
                self.version += 1
                self.stored["theme"] = "dark"
                return 409, {"error": {}}
            self.puts.append(body["preferences"])
            self.version, self.stored = self.version + 1, body["preferences"]
        return {"version": self.version, "preferences": self.stored}


@virtual
async def test_several_changes_are_one_put() -> None:
    """The browser has each change at once; the server gets them together, without what is not the server's."""
    server, storage = Server(), MemoryStorage()
    preferences = Preferences(storage, server.upstream)
    preferences.set("mode", "local")
    preferences.set("model", "tiny")
    preferences.set("model", "tiny")
    preferences.set("draft", "x")
    assert json.loads(storage.values["preferences"]) == {"mode": "local", "model": "tiny", "draft": "x"} == preferences.to_dict()
    await preferences.flush()
    assert server.puts == [{"mode": "local", "model": "tiny"}]
    preferences.set("mode", "cloud")
    await preferences.flush()
    assert server.puts[-1] == {"mode": "cloud", "model": "tiny"}
    await Preferences(storage).flush()


@virtual
async def test_a_conflict_lays_ours_over_theirs() -> None:
    """Another tab wrote: read again, then write; after three times it is given up until the next change."""
    server = Server()
    server.conflicts = 1
    preferences = Preferences(MemoryStorage(), server.upstream)
    preferences.set("mode", "local")
    await preferences.flush()
    assert server.stored == {"theme": "dark", "mode": "local"}
    server.conflicts = 99
    preferences.set("mode", "cloud")
    await preferences.flush()
    assert len(server.puts) == 1
    server.conflicts = 0
    preferences.set("load_at_start", True)
    await preferences.flush()
    assert server.stored == {"theme": "dark", "mode": "cloud", "load_at_start": True}


@virtual
async def test_a_change_during_the_put_is_sent_too() -> None:
    """What changes while a PUT is under way goes with the next one."""
    server = Server()
    preferences = Preferences(MemoryStorage(), server.upstream, delay_s=0.1)
    preferences.set("mode", "local")
    await asyncio.sleep(0.1015)  # the PUT has been composed
    preferences.set("model", "tiny")
    await preferences.flush()
    assert server.stored == {"mode": "local", "model": "tiny"}


@virtual
async def test_no_server() -> None:
    """An unreachable server, one that refuses, one that talks nonsense: the browser's copy serves."""
    server = Server()
    preferences = Preferences(MemoryStorage(), server.upstream)
    server.upstream.down = True
    preferences.set("mode", "local")
    await preferences.flush()
    assert await preferences.restore() is False
    server.upstream.down = False
    for broken in ((500, {}), b"nonsense", [], {"preferences": 3}):
        server.upstream.files["/api/preferences"] = broken
        preferences.set("model", str(broken))
        await preferences.flush()
        assert await preferences.restore() is False
    assert preferences.get("mode") == "local"


@virtual
async def test_restore_where_the_browser_has_none() -> None:
    """A new browser takes the server's copy; what the browser knows itself stays; no server, nothing to take."""
    server, storage = Server(), MemoryStorage()
    server.stored = {"mode": "local", "model": "tiny", "strange": 1}
    preferences = Preferences(storage, server.upstream)
    preferences._values["mode"] = "cloud"
    assert await preferences.restore() is True
    assert preferences.to_dict() == {"mode": "cloud", "model": "tiny"}
    assert await preferences.restore() is False
    assert await Preferences(MemoryStorage()).restore() is False


@virtual
async def test_nothing_leaves_in_local_only() -> None:
    """While nothing may leave the browser the server is neither asked nor told; what changed goes along later."""
    server = Server()
    preferences = Preferences(MemoryStorage(), server.upstream)
    preferences.quiet = lambda: preferences.get("mode") == "local-only"
    preferences.set("mode", "local-only")
    preferences.set("theme", "dark")
    await preferences.flush()
    assert await preferences.restore() is False
    assert server.upstream.asked == []
    preferences.set("mode", "cloud")
    await preferences.flush()
    assert server.stored == {"mode": "cloud", "theme": "dark"}


@pytest.mark.parametrize("text", ["{", "[]", "3", "null"])
def test_damaged_storage(text: str) -> None:
    """What cannot be read is as if it were not there."""
    assert Preferences(MemoryStorage({"preferences": text})).to_dict() == {}
