"""Getting one model into the engine: wait for the server's build, download and load, and once more where that can help."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.errors import HybridError, LocalError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hybr.webapp.runtimes.base import LocalRuntime
    from hybr.webapp.runtimes.catalogue import Catalogue

    Report = Callable[[float, dict[str, Any]], None]  # progress 0..1 over everything, and what the engine or the build tells

log = logging.getLogger(__name__)

POLL_S = 1.0
POLL_FAILURES = 30
DOWNLOAD_PAUSES = (1.0, 4.0)  # s
BUILD_SHARE = 0.5  # of the progress bar, for a model that the server still has to build


class Loader:
    """See the module."""

    def __init__(
        self, runtime: Callable[[], LocalRuntime], catalogue: Catalogue, make_room: Callable[[str], Awaitable[bool]]
    ) -> None:
        self._runtime = runtime
        self._catalogue = catalogue
        self._make_room = make_room

    async def load(self, model: str, report: Report) -> dict[str, Any]:
        """Load `model` in place of whatever is loaded; returns the engine's account of it. Raises LocalError, Aborted.

        A damaged copy is cleared away, an old index read anew, and room made where there is none, once; a download that broke off
        is gone on with after each of DOWNLOAD_PAUSES, since the files that are whole are kept.
        """
        await self._runtime().make_way(model)  # one model at a time in graphics memory
        for pause in DOWNLOAD_PAUSES:
            try:
                return await self._once(model, report)
            except LocalError as error:
                if error.code != "download_failed":
                    return await self._again(model, report, error)
                log.warning("%s was not downloaded whole (%s); once more in %g s", model, error.message, pause)
            await asyncio.sleep(pause)
        return await self._once(model, report)

    async def _again(self, model: str, report: Report, error: LocalError) -> dict[str, Any]:
        """Once more, with this model's files cleared away, the index read anew or others gone, where that helps; else raises."""
        if "evict" in error.reactions and await self._make_room(model):
            return await self._once(model, report)
        if not {"clear", "refresh"} & set(error.reactions):
            raise error
        log.warning("%s did not load (%s); once more", model, error.message)
        if "clear" in error.reactions:
            await self._runtime().delete(model)
        await self._catalogue.refresh()
        try:
            return await self._once(model, report)
        except LocalError as second:
            if second.code != "damaged_copy":
                raise
            raise tampered(second) from second

    async def _once(self, model: str, report: Report) -> dict[str, Any]:
        base = await self._built(model, report)
        entry = self._catalogue.find(model) or {}

        def progress(event: dict[str, Any]) -> None:
            report(base + (1 - base) * float(event.get("progress") or 0.0), event)

        return await self._runtime().load(entry, progress)

    async def _built(self, model: str, report: Report) -> float:
        """Wait until the server has built the model; returns the part of the bar that took. Raises LocalError if it will not."""
        base, failures = 0.0, 0
        while True:
            entry = self._catalogue.find(model) or {}
            if entry.get("state") == "built":
                return base
            if entry.get("state") != "building":
                raise _unbuilt(model, entry)
            base = BUILD_SHARE
            build = entry.get("progress") or {}
            text = f"The server is still building this model: {build.get('text') or build.get('step') or 'please wait'}"
            report(float(build.get("fraction") or 0.0) * BUILD_SHARE, {"text": text, "eta_s": build.get("eta_s")})
            await asyncio.sleep(POLL_S)
            try:
                await self._catalogue.refresh()
                failures = 0
            except HybridError:
                failures += 1
                if failures >= POLL_FAILURES:
                    raise


def tampered(error: LocalError) -> LocalError:
    """A fresh copy that is not what the index promises either: that is no damage any more, and nothing is tried again."""
    message = f"{error.message.rstrip('. ')}. A fresh copy differs as well: somebody may have changed it. Build the model again."
    return LocalError(message, name=error.name, code="tampered", phase=error.phase, kind="capability")


def _unbuilt(model: str, entry: dict[str, Any]) -> LocalError:
    if entry.get("state") == "failed":
        why = (entry.get("error") or {}).get("message") or "the server does not say why"
        message = f"The server could not build {model}: {why} Try `hybr models build {model}`."
        return LocalError(message, code="build_failed", kind="capability")
    message = f"{model} has not been built on the server yet: run `hybr models build {model}`, then load it again."
    return LocalError(message, code="not_built", kind="capability")
