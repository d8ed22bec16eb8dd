"""WebLLM in its worker as the local runtime: the engine's operations over a bridge, each failure read by `taxonomy`.

The engine runs one generation at a time and queues the rest. A cancelled chat sends `abort` and waits, for a bounded time, until
the worker says that it is over, so that when `chat` ends the engine is free. After the worker's death the calls that come wait
for the new one (`restart`), and nothing of the old one is believed any more.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.errors import Aborted, HybridError, LocalError
from hybr.webapp.hybrid.taxonomy import classify
from hybr.webapp.hybrid.types import Final, Usage
from hybr.webapp.runtimes.base import EngineCallError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.types import Call
    from hybr.webapp.runtimes.base import Emit, EngineBridge, OnEvent

log = logging.getLogger(__name__)

ABORT_S = 30.0  # a software adapter may need seconds for the token it is at


class WebLLM:
    """The local runtime on WebGPU."""

    name = "webgpu"

    def __init__(self, bridge: EngineBridge) -> None:
        self._bridge = bridge
        self._died: Callable[[HybridError], None] = lambda _: None
        self.pulse = 0
        self.begun: dict[str, dict[str, int]] = {}

    def on_death(self, handler: Callable[[HybridError], None]) -> None:
        """Call `handler(error)` when the worker, or the model in it, is gone."""
        self._died = handler
        self._bridge.on_death(lambda failure: handler(_typed(failure)))

    def on_state(self, handler: Callable[[dict[str, Any]], None]) -> None:
        """Call `handler(status)` when another tab has done something about the model."""
        self._bridge.on_state(handler)

    def restart(self) -> None:
        """Ask for a new worker."""
        self._bridge.restart()

    async def load(self, entry: dict[str, Any], on_progress: OnEvent) -> dict[str, Any]:
        """Download what is missing of a model and load it. Returns the engine's account of it (profile, gpu, times)."""
        return await self._call("load", {"model": entry, "runtime": self.name}, on_progress)

    async def cancel_load(self) -> None:
        """Stop the load under way, if any."""
        await self._call("cancel-load", {})

    async def unload(self) -> None:
        """Free the model and its memory."""
        await self._call("unload", {})

    async def status(self) -> dict[str, Any]:
        """The engine's state, which other tabs may share: `{state, model, loading, profile, gpu, threads}`."""
        return await self._call("status", {})

    async def make_way(self, model_id: str) -> None:
        """Free whatever is loaded or loading, unless it is this model in this runtime."""
        await self._call("unload", {"unless": model_id, "runtime": self.name})

    async def delete(self, model_id: str) -> None:
        """Remove a model's files from the browser."""
        await self._call("delete", {"id": model_id})

    async def ping(self) -> None:
        """Return when the worker answers: it lives, whatever its generation does."""
        await self._call("ping", {})

    async def cached(self) -> set[str]:
        """Which models are whole in this browser."""
        answer = await self._call("cached", {"runtime": self.name})
        begun = answer.get("partial") or ()
        self.begun = {str(one["id"]): {"have": int(one["have"]), "bytes": int(one["bytes"])} for one in begun}
        return {str(model["id"]) for model in answer.get("models", ())}

    async def verify(self, model_id: str, entry: dict[str, Any] | None, on_progress: OnEvent) -> dict[str, Any]:
        """Sum every kept file of a model anew; with `entry`, what is damaged is fetched again. Raises LocalError."""
        return await self._call("verify", {"id": model_id, "model": entry}, on_progress)

    async def inspect(self, address: str, library: str | None) -> dict[str, Any]:
        """What lies at that address of another host. Raises LocalError when it is no model, or cannot be asked."""
        return await self._call("inspect", {"model": address, "library": library})

    async def chat(self, call: Call, emit: Emit) -> Final:
        """Answer `call`. Raises LocalError, CallerError."""
        said: list[str] = []

        def on_event(event: dict[str, Any]) -> None:
            delta = event.get("delta")
            if isinstance(delta, str):
                self.pulse += 1
                said.append(delta)
                emit(delta)

        args: dict[str, Any] = {
            "request_id": call.request_id,
            "messages": list(call.messages),
            "options": call.options.sampling(),
        }
        if call.journal:
            args["journal"] = {"session": call.journal, "prefix": call.prefix or None}
        work = asyncio.ensure_future(self._bridge.call("chat", args, on_event))
        try:
            answer = await asyncio.shield(work)
        except asyncio.CancelledError:
            await self._abort(call.request_id, work)
            raise
        except EngineCallError as failure:
            raise _interrupted(_typed(failure)) from failure
        if answer.get("finish_reason") == "abort":
            raise LocalError("The local model was unloaded in the middle of the answer.", code="interrupted", kind="capability")
        text, shown = str(answer.get("text") or ""), "".join(said)
        if text.startswith(shown):
            emit(text[len(shown) :])  # what was lost on its way, if anything
        return _final(call, answer)

    async def _abort(self, request_id: str, work: asyncio.Future[dict[str, Any]]) -> None:
        """Tell the engine to stop, and wait until it has."""
        stop = asyncio.ensure_future(self._bridge.call("abort", {"request_id": request_id}))
        _, late = await asyncio.wait({stop, work}, timeout=ABORT_S)
        for task in (stop, work):
            if task in late:
                log.warning("the engine did not stop within %g s", ABORT_S)
                task.cancel()
            elif not task.cancelled():
                task.exception()  # seen, and of no interest any more
        if stop in late:  # not even that was answered: the worker is gone without a word
            error = LocalError(f"The local engine has not answered for {ABORT_S:g} s.", name="StalledError", code="stalled")
            error.reactions = ("worker", "reload", "cloud")
            self._died(error)

    async def _call(self, op: str, args: dict[str, Any], on_event: OnEvent | None = None) -> dict[str, Any]:
        try:
            return await self._bridge.call(op, args, on_event)
        except EngineCallError as failure:
            raise _typed(failure) from failure


def _typed(failure: EngineCallError) -> HybridError:
    return classify(failure.name, failure.message, failure.phase)


def _interrupted(error: HybridError) -> HybridError:
    """A stop that nobody here asked for is a failure of the engine's, not a person's."""
    if isinstance(error, Aborted):
        return LocalError(error.message, name="AbortError", code="interrupted", phase="decode", kind="capability")
    return error


def _final(call: Call, answer: dict[str, Any]) -> Final:
    usage, timings = answer.get("usage") or {}, answer.get("timings") or {}
    return Final(
        model=call.model or "local",
        finish_reason=str(answer.get("finish_reason") or "stop"),
        usage=Usage(int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)) if usage else None,
        prefill_tps=timings.get("prefill_tps"),
        decode_tps=timings.get("decode_tps"),
        cost=0.0,
        tool_calls=tuple(answer.get("tool_calls") or ()),
    )
