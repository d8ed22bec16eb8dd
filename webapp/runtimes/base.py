"""What the orchestrator asks of whoever runs a model, and of the world around: one Protocol each.

A runtime pushes: `chat` calls `emit(delta)` for each piece of text as it comes and returns a `Final`. Cancelling the
coroutine is the stop: a runtime then frees its engine or connection before it ends. So a request is one task, and ending the
task is ending all it held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from hybr.webapp.hybrid.errors import HybridError
    from hybr.webapp.hybrid.types import Call, Final

    Emit = Callable[[str], None]
    OnEvent = Callable[[dict[str, Any]], None]


class CloudRuntime(Protocol):
    """The cloud side as the orchestrator sees it: the server's gateway, or the client a script handed to `init`."""

    def available(self) -> bool:
        """Whether it could be asked now, by all that is known without asking."""
        ...

    def models(self) -> list[dict[str, Any]]:
        """What it can answer with, the default first; empty while that is unknown."""
        ...

    def offline(self) -> bool:
        """Whether asking it is certain to fail for want of a network."""
        ...

    async def knows(self, model: str) -> bool | None:
        """Whether it can answer with `model`; None when that cannot be found out."""
        ...

    def prefills(self, model: str | None) -> bool:
        """Whether the model goes on from an assistant's turn that comes last."""
        ...

    def price(self, model: str | None) -> dict[str, float] | None:
        """`{input, output}` in dollars a million tokens, of a model or of its default one; None where that is not known."""
        ...

    async def chat(self, call: Call, emit: Emit) -> Final:
        """Answer `call`. Raises CloudError, CallerError, and whatever cancellation brings."""
        ...


class LocalRuntime(Protocol):
    """What runs a model in the page. Errors are those of `hybrid.errors`. `pulse` grows with every piece of text it makes.

    `begun` has the downloads that are not whole, `{have, bytes}` by id, as of the last `cached`.
    """

    name: str
    pulse: int
    begun: dict[str, dict[str, int]]

    def on_death(self, handler: Callable[[HybridError], None]) -> None:
        """Call `handler(error)` when the loaded model is gone without having been asked to go."""
        ...

    def on_state(self, handler: Callable[[dict[str, Any]], None]) -> None:
        """Call `handler(status)` when another tab has done something about the model."""
        ...

    def restart(self) -> None:
        """Begin anew after a death; calls made meanwhile wait."""
        ...

    async def status(self) -> dict[str, Any]:
        """The engine's state, which other tabs may share: `{state, model, loading, profile, gpu, threads}`."""
        ...

    async def make_way(self, model_id: str) -> None:
        """Free whatever is loaded or loading, unless it is this model."""
        ...

    async def load(self, entry: dict[str, Any], on_progress: OnEvent) -> dict[str, Any]:
        """Load a model of the index; progress `{progress, loaded_bytes, total_bytes, eta_s, text}`."""
        ...

    async def cancel_load(self) -> None:
        """Stop the load under way."""
        ...

    async def unload(self) -> None:
        """Free the model."""
        ...

    async def delete(self, model_id: str) -> None:
        """Remove a model's files from the browser."""
        ...

    async def ping(self) -> None:
        """Return when the worker answers."""
        ...

    async def cached(self) -> set[str]:
        """Ids of the models whose files are all in the browser."""
        ...

    async def verify(self, model_id: str, entry: dict[str, Any] | None, on_progress: OnEvent) -> dict[str, Any]:
        """Check every file of a model, and with its entry repair it: `{files, damaged, repaired}`."""
        ...

    async def inspect(self, address: str, library: str | None) -> dict[str, Any]:
        """What lies at that address of another host. Raises LocalError when it is no model."""
        ...

    async def chat(self, call: Call, emit: Emit) -> Final:
        """Answer `call` with the loaded model."""
        ...


class EngineBridge(Protocol):
    """The engine's worker: one method, as in static/js/protocol.js. Every failure is an `EngineCallError`."""

    async def call(self, op: str, args: dict[str, Any], on_event: OnEvent | None = None) -> dict[str, Any]:
        """Run one operation of static/js/engine/wire.js: `load`, `chat`, `abort`, `cancel-load`, `unload`, `cached`, ..."""
        ...

    def on_death(self, handler: Callable[[EngineCallError], None]) -> None:
        """Call `handler(failure)` when the worker is gone, or the model in it (a lost device)."""
        ...

    def on_state(self, handler: Callable[[dict[str, Any]], None]) -> None:
        """Call `handler(status)` when another tab has done something about the model."""
        ...

    def restart(self) -> None:
        """Ask for a new worker; calls made before it is there wait for it."""
        ...


class EngineCallError(Exception):
    """A call the engine rejected: the raw `name`, `message` and `phase`, for `hybrid.taxonomy` to read."""

    def __init__(self, name: str, message: str, phase: str = "") -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message
        self.phase = phase


class Response(Protocol):
    """An HTTP answer whose body is read as it comes."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by lower-case name."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body, in the pieces in which it arrived."""
        ...

    async def close(self) -> None:
        """Free the connection, at whatever point."""
        ...


class UnreachableError(Exception):
    """No HTTP answer at all: refused, reset before the head, offline."""


class Transport(Protocol):
    """HTTP to our own origin only."""

    async def request(self, method: str, path: str, body: bytes | None = None) -> Response:
        """Send a JSON body or none; raises UnreachableError when no answer comes."""
        ...


class Storage(Protocol):
    """Small values that outlive the page, by key."""

    def get(self, key: str) -> str | None:
        """The stored text, or None."""
        ...

    def set(self, key: str, value: str) -> None:
        """Store it; to be durable at once."""
        ...

    def assign(self, key: str, change: dict[str, Any]) -> None:
        """Lay these names over the stored object, as it is by then: other tabs write it too."""
        ...

    def add(self, key: str, change: dict[str, Any]) -> None:
        """Add these numbers, at any depth, to those of the stored object, as it is by then."""
        ...

    def listen(self, key: str, heard: Callable[[dict[str, Any]], None]) -> None:
        """Tell `heard` which names of that object have changed in the browser, with their new values."""
        ...
