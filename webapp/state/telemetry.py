"""How answers went, for the server's summaries, where the person switched that on. Off by default; never what was said.

Listens to the orchestrator's events and keeps figures and words out of closed lists only (`server/telemetry/row.py` has the
lists). Nothing is kept of a private request, and in local-only mode nothing is kept at all, so nothing of that time can leave
later either. Sending is best effort, in batches: what the server does not take is dropped.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from hybr.webapp.runtimes.base import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.events import EventBus
    from hybr.webapp.runtimes.base import Transport
    from hybr.webapp.state.preferences import Preferences

log = logging.getLogger(__name__)

PATH = "/api/telemetry"
BATCH = 50  # events in one POST; the server takes 100
ROOM = 200  # events kept while the server cannot be reached


class Telemetry:
    """A buffer of events. `device` says what runs local models here."""

    def __init__(
        self,
        events: EventBus,
        preferences: Preferences,
        transport: Transport,
        *,
        device: Callable[[], str] = lambda: "unknown",
        delay_s: float = 10.0,
    ) -> None:
        self._preferences = preferences
        self._transport = transport
        self._device = device
        self._delay_s = delay_s
        self._waiting: list[dict[str, Any]] = []
        self._task: asyncio.Task[None] | None = None
        events.on("hybrid-llm:complete", self._complete)
        events.on("hybrid-llm:fallback", lambda detail: self._changed("fallback", detail))
        events.on("hybrid-llm:handover", lambda detail: self._changed("handover", detail))
        events.on("hybrid-llm:stream-error", self._failed)

    def wanted(self) -> bool:
        """Whether anything may be kept: the person said yes, and the mode is not one in which nothing leaves."""
        return self._preferences.get("telemetry") is True and not self._preferences.quiet()

    async def flush(self) -> None:
        """Wait until what is kept now has been sent or dropped."""
        if self._task:
            await asyncio.wait([self._task])

    def _complete(self, detail: dict[str, Any]) -> None:
        times, usage = detail["timings"], detail["usage"]
        self._keep(
            detail,
            event="complete",
            provider=detail["provider"],
            model=detail["model"],
            latency=times["total_ms"],
            ttft=times["ttft_ms"],
            rate=times["decode_tps"],
            prompt=usage["prompt_tokens"],
            completion=usage["completion_tokens"],
        )

    def _changed(self, event: str, detail: dict[str, Any]) -> None:
        self._keep(detail, event=event, provider=detail["from"], error=detail["error"]["code"])

    def _failed(self, detail: dict[str, Any]) -> None:
        self._keep(detail, event="error", error=detail["error"]["code"])

    def _keep(self, detail: dict[str, Any], **fields: Any) -> None:
        """Keep one event. Of `detail` only whether it is private is read here, so that no text can come along."""
        if detail.get("private") or not self.wanted():
            return
        told = {name: value for name, value in fields.items() if value is not None}
        self._waiting = [*self._waiting[-ROOM + 1 :], {"device": self._device(), **told}]
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        await asyncio.sleep(self._delay_s)
        while self._waiting:
            if not self.wanted():  # switched off meanwhile, or nothing may leave any more
                self._waiting = []
                return
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            try:
                response = await self._transport.request("POST", PATH, json.dumps({"events": batch}).encode())
            except UnreachableError as error:
                self._waiting = (batch + self._waiting)[-ROOM:]  # goes along with the next event
                log.info("telemetry waits: %s", error)
                return
            await response.close()
            if response.status != 202:
                log.info("the server did not take the telemetry (%d)", response.status)


def device_of(preflight: dict[str, Any], runtime: str) -> str:
    """The class of this device, out of the preflight: which kind of runtime local models have here."""
    if runtime == "wasm":
        return "wasm"
    if not preflight:
        return "unknown"
    if preflight.get("webgpu") == "yes":
        return "webgpu-software" if preflight.get("profile") == "software" else "webgpu"
    return "none"
