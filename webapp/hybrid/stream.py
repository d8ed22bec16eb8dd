"""The consumer's end of a streaming request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybr.webapp.hybrid.run import Run
    from hybr.webapp.hybrid.types import Chunk


class ChunkStream:
    """The consumer's handle on a streaming run: iterate it, `aclose()` it to walk away."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def request_id(self) -> str:
        """By which `abort` knows it."""
        return self._run.id

    def __aiter__(self) -> ChunkStream:
        return self

    async def __anext__(self) -> Chunk:
        run = self._run
        run.start()
        try:
            chunk = await run.next()
        except asyncio.CancelledError:
            run.abandon()
            raise
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Walk away: everything the request holds is freed when this returns."""
        self._run.abandon()
        await self._run.settled()

    def __del__(self) -> None:
        # A stream that was forgotten must not keep a model generating. No loop, no task: then there is nothing to end.
        run = getattr(self, "_run", None)
        if run is not None and not run.over:
            run.abandon()
