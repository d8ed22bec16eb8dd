"""The orchestrator on a scripted engine and a scripted upstream, with every event on record."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.events import EventBus
from hybr.webapp.hybrid.local import LocalLLM
from hybr.webapp.hybrid.provider import HybridLLMProvider
from hybr.webapp.runtimes.catalogue import Catalogue
from hybr.webapp.runtimes.gateway import Gateway
from hybr.webapp.runtimes.webllm import WebLLM
from hybr.webapp.state.preferences import Preferences
from lab.engine import ScriptedEngine
from lab.upstream import ScriptedUpstream

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.types import Chunk

ASK = [{"role": "user", "content": "What is the capital of France?"}]
YES = {"webgpu": "yes", "features": [], "limits": {}, "storage": {"quota": 10**9, "usage": 0}}
NO = {"webgpu": "no", "reason": "This browser has no WebGPU.", "remedy": "Use another.", "features": [], "limits": {}}


def entry(model_id: str, state: str = "built", **more: Any) -> dict[str, Any]:
    """One model of the index."""
    return {"id": model_id, "state": state, "quantisation": "q4f32_1", "bytes": 1000, "files": [], "base": "/m/", **more}


class MemoryStorage:
    """A browser's store, of one tab; `played_shell` plays several."""

    def __init__(self, values: dict[str, str] | None = None) -> None:
        self.values = values if values is not None else {}
        self.heard: dict[str, Callable[[dict[str, Any]], None]] = {}

    def get(self, key: str) -> str | None:
        """The stored text."""
        return self.values.get(key)

    def set(self, key: str, value: str) -> None:
        """Store it."""
        self.values[key] = value

    def assign(self, key: str, change: dict[str, Any]) -> None:
        """Lay names over the stored ones."""
        self.values[key] = json.dumps({**self._object(key), **change})

    def add(self, key: str, change: dict[str, Any]) -> None:
        """Add numbers to the stored ones."""
        self.values[key] = json.dumps(added(self._object(key), change))

    def listen(self, key: str, heard: Callable[[dict[str, Any]], None]) -> None:
        """Who would be told of another tab's changes."""
        self.heard[key] = heard

    def _object(self, key: str) -> dict[str, Any]:
        try:
            stored = json.loads(self.values.get(key, "{}"))
        except ValueError:
            return {}
        return stored if isinstance(stored, dict) else {}


def added(sums: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """The numbers of both, at any depth (static/js/stored.js)."""
    more = {
        name: added(sums.get(name, {}), value) if isinstance(value, dict) else sums.get(name, 0) + value
        for name, value in change.items()
    }
    return {**sums, **more}


class Desk:
    """All of it. `seen` are the events in order, as (name, detail)."""

    def __init__(
        self,
        *,
        cloud: bool = True,
        storage: MemoryStorage | None = None,
        preflight: dict[str, Any] | None = None,
        models: list[dict[str, Any]] | None = None,
        now: Callable[[], float] = lambda: 1000.0,
    ) -> None:
        self.engine = ScriptedEngine()
        self.upstream = ScriptedUpstream()
        self.upstream.files["/models/index.json"] = {"schema": 1, "models": models or [entry("tiny"), entry("smollm2-135m")]}
        self.events = EventBus()
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.events.tap(lambda name, detail: self.seen.append((name, detail)))
        self.storage = storage or MemoryStorage()
        self.preferences = Preferences(self.storage)
        self.local = LocalLLM(WebLLM(self.engine), Catalogue(self.upstream), self.events, self.preferences)
        self.gateway = Gateway(self.upstream, jitter=lambda: 1.0)
        self.hybrid = HybridLLMProvider(
            self.local, self.gateway if cloud else None, self.events, self.preferences, storage=self.storage, now=now
        )
        self.hybrid.init()
        self.local.preflight(preflight or YES)

    def of(self, name: str) -> list[dict[str, Any]]:
        """The details of all events of that name, in order."""
        return [detail for seen, detail in self.seen if seen == name]

    async def ready(self, model: str = "tiny", mode: str = "local") -> Desk:
        """A model loaded and a mode in force; the record starts here."""
        assert await self.local.init(model) is True
        assert self.hybrid.set_mode(mode) is True
        self.seen.clear()
        return self

    async def read(self, stream: Any) -> list[Chunk]:
        """All chunks, each checked against the contract of a stream: deltas since a restart are the text, one is the last."""
        chunks: list[Chunk] = []
        text = ""
        async for chunk in stream:
            text = chunk.delta if chunk.restart else text + chunk.delta
            assert chunk.text == text
            assert not any(earlier.done for earlier in chunks)
            chunks.append(chunk)
        assert chunks[-1].done
        return chunks

    @property
    def free(self) -> bool:
        """Whether nothing of any request is held."""
        return not self.engine.held and self.upstream.open == 0 and self.hybrid.get_status()["active"] == 0
