"""A scripted engine: an `EngineBridge` that plays WebLLM's worker, faults and all.

A script is a list of steps for one chat: a text is a delta (each takes `pace` seconds), and
    Sleep(s)                       the model thinks
    Fail(name, message, phase)     the call is rejected
    Die(reason)                    the worker is gone: every pending call is rejected, and nobody is left to answer
    Lost()                         the device is lost: the worker lives, the model does not
    Stall()                        nothing more, for ever
    Silent()                       the worker is dead and nobody is told: it answers nothing any more, not even a ping
    End(reason)                    the answer ends with this finish reason
It generates one answer at a time, as the real one does; `held` and `waiting` tell whether anything was left behind.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybr.webapp.runtimes.base import EngineCallError

if TYPE_CHECKING:
    from hybr.webapp.runtimes.base import OnEvent


@dataclass(frozen=True)
class Sleep:
    """Nothing for `s` seconds."""

    s: float


@dataclass(frozen=True)
class Fail:
    """The call is rejected."""

    name: str = "Error"
    message: str = "it broke"
    phase: str = "decode"


@dataclass(frozen=True)
class Die:
    """The worker ends."""

    reason: str = "The local engine has ended."


@dataclass(frozen=True)
class Lost:
    """The graphics device is lost."""


@dataclass(frozen=True)
class Stall:
    """No sign of life any more."""


@dataclass(frozen=True)
class Silent:
    """The worker answers nothing any more."""


@dataclass(frozen=True)
class End:
    """The finish reason."""

    reason: str = "stop"


Step = str | Sleep | Fail | Die | Lost | Stall | Silent | End
Script = list[Step] | Callable[[dict[str, Any]], list[Step]]  # or made from the call's arguments
ANSWER: list[Step] = ["The ", "capital ", "of ", "France ", "is ", "Paris", "."]


class ScriptedEngine:
    """See the module. `scripts` are used up one a chat, then `default` again and again; `loads` likewise for loads."""

    def __init__(self, *, pace: float = 0.01, restart_s: float = 0.2) -> None:
        self.pace = pace
        self.restart_s = restart_s
        self.default: Script = list(ANSWER)
        self.scripts: deque[Script] = deque()
        self.loads: deque[list[Step]] = deque()
        self.cache: set[str] = set()
        self.begun: dict[str, tuple[int, int]] = {}  # bytes here, and in all, of downloads that are not whole
        self.damaged: set[str] = set()  # models of which a check finds a file damaged
        self.shelf: dict[str, dict[str, Any]] = {}  # what lies at the addresses of other hosts
        self.profile = "gpu"  # which of a model's libraries the adapter is said to need
        self.model: str | None = None
        self.chats: list[dict[str, Any]] = []
        self.ops: list[str] = []
        self.restarts = 0
        self.silent = False
        self._gate = asyncio.Lock()
        self._alive = asyncio.Event()
        self._alive.set()
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._aborted: dict[str, asyncio.Event] = {}
        self._handler: Callable[[EngineCallError], None] = lambda _: None
        self.tell_state: Callable[[dict[str, Any]], None] = lambda _: None
        self._next = 0
        self._works: set[asyncio.Task[Any]] = set()
        self._loading: asyncio.Event | None = None

    # -- EngineBridge

    async def call(self, op: str, args: dict[str, Any], on_event: OnEvent | None = None) -> dict[str, Any]:
        """One operation."""
        await self._alive.wait()
        self.ops.append(op)
        self._next += 1
        number, answer = self._next, asyncio.get_running_loop().create_future()
        self._pending[number] = answer
        work = asyncio.ensure_future(self._do(op, args, on_event or (lambda _: None)))
        self._works.add(work)
        work.add_done_callback(self._works.discard)
        work.add_done_callback(lambda done: self._settle(answer, done))
        try:
            result: dict[str, Any] = await answer
        finally:
            self._pending.pop(number, None)
        return result

    def on_death(self, handler: Callable[[EngineCallError], None]) -> None:
        """Who is told."""
        self._handler = handler

    def on_state(self, handler: Callable[[dict[str, Any]], None]) -> None:
        """Who is told what another tab does: `tell_state` plays that tab."""
        self.tell_state = handler

    def restart(self) -> None:
        """A new worker, after a while."""
        self.restarts += 1
        self._alive.clear()
        self.silent = False
        self.model = None
        for work in self._works:
            work.cancel()
        self._gate = asyncio.Lock()
        asyncio.get_running_loop().call_later(self.restart_s, self._alive.set)

    # -- what the world does to it

    def die(self, reason: str = "The local engine has ended.") -> None:
        """The worker is gone at once, with all that it did."""
        failure = EngineCallError("EngineDeadError", reason, "worker")
        self.model = None
        self._alive.clear()
        for answer in list(self._pending.values()):
            if not answer.done():
                answer.set_exception(failure)
        for work in self._works:
            work.cancel()
        self._handler(failure)

    def lose(self) -> None:
        """The device is lost; calls under way fail as disposed objects do."""
        self.model = None
        failure = EngineCallError("Error", "Object has already been disposed", "decode")
        for answer in list(self._pending.values()):
            if not answer.done():
                answer.set_exception(failure)
        self._handler(EngineCallError("DeviceLostError", "The WebGPU device was lost.", "decode"))

    @property
    def held(self) -> bool:
        """Whether a generation is under way or anybody is waiting for one."""
        if self.silent:  # what a dead worker holds is of no use to anybody; calls to it that nobody has given up are
            return bool(self._pending)
        return self._gate.locked() or bool(self._aborted)

    # -- the worker

    @staticmethod
    def _settle(answer: asyncio.Future[Any], work: asyncio.Task[Any]) -> None:
        error = None if work.cancelled() else work.exception()
        if answer.done():
            return
        if work.cancelled():
            answer.set_exception(EngineCallError("EngineDeadError", "The local engine was started anew.", "worker"))
        elif error:
            answer.set_exception(error)
        else:
            answer.set_result(work.result())

    async def _do(self, op: str, args: dict[str, Any], tell: OnEvent) -> dict[str, Any]:
        await asyncio.sleep(0.001)  # the hop between the threads
        if self.silent:
            await asyncio.sleep(1e9)
        if op == "chat":
            return await self._chat(args, tell)
        if op in {"load", "unload", "cancel-load"} and self._loading is not None:
            self._loading.set()  # whatever is loading ends
        if op == "load":
            return await self._load(args["model"], tell)
        if op == "abort":
            return {"aborted": self._abort(args["request_id"])}
        if op == "status":
            return {"state": "ready" if self.model else "empty", "model": self.model}
        if op == "unload":
            self.model = None
            for event in self._aborted.values():
                event.set()
        if op == "delete":
            self.cache.discard(args["id"])
            self.begun.pop(args["id"], None)
        return self._kept(op, args, tell)

    def _kept(self, op: str, args: dict[str, Any], tell: OnEvent) -> dict[str, Any]:
        """What is asked of the browser's copy, and of other hosts."""
        if op == "cached":
            partial = [{"id": one, "have": have, "bytes": whole} for one, (have, whole) in self.begun.items()]
            return {"models": [{"id": one} for one in sorted(self.cache)], "partial": partial}
        if op == "verify":
            if args["id"] not in self.cache:
                raise EngineCallError("ModelNotCachedError", f"Nothing of {args['id']} is whole.", "validate")
            tell({"type": "progress", "phase": "load", "step": "checking", "progress": 0.5})
            damaged = ["params_shard_0.bin"] if args["id"] in self.damaged else []
            self.damaged.discard(args["id"])
            return {"files": 7, "damaged": damaged, "repaired": bool(damaged and args.get("model"))}
        if op == "inspect":
            if args["model"] not in self.shelf:
                raise EngineCallError("AddressError", f"No model can be had from {args['model']}.", "validate")
            return {**self.shelf[args["model"]], "library": args["library"]}
        return {}

    def _abort(self, request_id: str) -> bool:
        event = self._aborted.get(request_id)
        if event:
            event.set()
        return event is not None

    async def _load(self, entry: dict[str, Any], tell: OnEvent) -> dict[str, Any]:
        script = self.loads.popleft() if self.loads else [Sleep(0.5)]
        stop = self._loading = asyncio.Event()
        for number, step in enumerate(script):
            if stop.is_set():
                raise EngineCallError("AbortError", "The load was cancelled.", "load")
            tell(
                {
                    "type": "progress",
                    "phase": "download",
                    "progress": number / len(script),
                    "loaded_bytes": number,
                    "total_bytes": 9,
                }
            )
            await self._step(step, stop)
        if stop.is_set():
            raise EngineCallError("AbortError", "The load was cancelled.", "load")
        self.model = entry["id"]
        self.cache.add(entry["id"])
        return {"model": entry["id"], "profile": self.profile, "gpu": {"vendor": "scripted"}}

    async def _chat(self, args: dict[str, Any], tell: OnEvent) -> dict[str, Any]:
        stop = self._aborted[args["request_id"]] = asyncio.Event()
        try:
            async with self._gate:
                if self.model is None:
                    raise EngineCallError("Error", "ModelNotLoadedError: no model is loaded", "prefill")
                self.chats.append(args)
                return await self._generate(args, tell, stop)
        finally:
            self._aborted.pop(args["request_id"], None)

    async def _generate(self, args: dict[str, Any], tell: OnEvent, stop: asyncio.Event) -> dict[str, Any]:
        text, tokens, reason = "", 0, "stop"
        limit = args["options"].get("max_tokens", 10_000)
        script = self.scripts.popleft() if self.scripts else self.default
        for step in script(args) if callable(script) else list(script):
            if not stop.is_set():
                await self._pause(self.pace if isinstance(step, str) else 0.0, stop)
            if stop.is_set() or tokens >= limit:
                reason = "abort" if stop.is_set() else "length"
                break
            if isinstance(step, str):
                text, tokens = text + step, tokens + 1
                tell({"type": "delta", "delta": step})
            elif isinstance(step, End):
                reason = step.reason
            else:
                await self._step(step, stop)
        usage = {"prompt_tokens": 11, "completion_tokens": tokens, "total_tokens": 11 + tokens}
        timings = {"prefill_tps": 50.0, "decode_tps": 1 / self.pace if self.pace else None}
        return {"text": text, "finish_reason": reason, "usage": usage, "timings": timings}

    async def _step(self, step: Step, stop: asyncio.Event | None = None) -> None:
        if isinstance(step, Sleep):
            await self._pause(step.s, stop)
        elif isinstance(step, Fail):
            raise EngineCallError(step.name, step.message, step.phase)
        elif isinstance(step, Die):
            asyncio.get_running_loop().call_soon(self.die, step.reason)
            await asyncio.sleep(3600)
        elif isinstance(step, Lost):
            asyncio.get_running_loop().call_soon(self.lose)
            await self._pause(3600, stop)
        elif isinstance(step, Stall):
            await self._pause(1e9, stop)
        elif isinstance(step, Silent):
            self.silent = True
            await asyncio.sleep(1e9)

    @staticmethod
    async def _pause(seconds: float, stop: asyncio.Event | None) -> None:
        if stop is None:
            await asyncio.sleep(seconds)
            return
        try:
            await asyncio.wait_for(stop.wait(), seconds)
        except TimeoutError:
            return
