"""The life of the house model's process: started by whoever needs it first, shared, replaced when it died, ended with us."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybr.server.children import Child
from hybr.server.errors import HybrError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

MODULE = "hybr.server.providers.housechild"
START = 600.0  # seconds for a start: the first one may fetch 93 MB


@dataclass(frozen=True)
class Endpoint:
    """Where a child serves, and the key it wants."""

    address: str
    key: str
    child: Child


class Llama:
    """Keeps one child; `task` tells it what to load (see `housechild`).

    `state` is `idle`, `starting` (the weights may still have to come), `loading` (half a second away), `ready` or `failed`;
    `notice` says in words what is going on or what went wrong.
    """

    def __init__(self, task: Callable[[], dict[str, Any]]) -> None:
        self.task = task
        self.state = "idle"
        self.notice = ""
        self._endpoint: Endpoint | None = None
        self._starting: asyncio.Task[Endpoint] | None = None
        self._child: Child | None = None

    @property
    def running(self) -> Endpoint | None:
        """Where the child serves now, None when there is none or it died."""
        return self._endpoint if self._endpoint and self._endpoint.child.running else None

    async def endpoint(self) -> Endpoint:
        """Return where a live child serves, starting one when there is none; all callers wait for the same start.

        Raises UnavailableError when it cannot start. A caller that leaves does not stop the start for the others.
        """
        if found := self.running:
            return found
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._starting)

    async def stop(self) -> None:
        """End the child, also one that is still starting."""
        if self._starting:
            self._starting.cancel()
            with suppress(asyncio.CancelledError, HybrError):
                await self._starting
        if self._child:
            await self._child.stop()
        self.state = "idle"

    async def settle(self, child: Child) -> None:
        """Give a dying child the moment it needs to be seen as dead, so that the next `endpoint` starts a new one."""
        with suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), 0.5)

    async def _start(self) -> Endpoint:
        self.state, self.notice = "starting", "starting"
        try:
            if self._child:
                await self._child.stop()
            child = self._child = await Child.start(MODULE, [json.dumps(self.task())])
            async with asyncio.timeout(START):
                news = await self._news(child)
        except Exception as error:
            failure = error if isinstance(error, HybrError) else unavailable("the house model did not start")
            self.state, self.notice = "failed", failure.message
            if self._child:
                await self._child.stop()
            raise failure from error
        self._endpoint = Endpoint(news["address"], news["key"], child)
        self.state, self.notice = "ready", ""
        return self._endpoint

    async def _news(self, child: Child) -> dict[str, Any]:
        """Follow the child's lines until it serves. Raises UnavailableError when it gives up or dies."""
        while line := await child.line():
            news: dict[str, Any] = json.loads(line)
            if "address" in news:
                return news
            if "error" in news:
                raise unavailable(f"the house model cannot start: {news['error']}", news.get("remedy"))
            self.state, self.notice = news.get("state", self.state), str(news["progress"])
        code = await child.wait()
        raise unavailable(f"the house model's process ended at its start (exit code {code})")


def unavailable(message: str, remedy: str | None = None) -> UnavailableError:
    """Return the error for a house model that is not there."""
    return UnavailableError(message, code="house_unavailable", remedy=remedy)
