"""From started to useful: the page's bundle, the house model, then the models' builds, with as little waiting as can be.

The server answers from the first moment; /healthz says 200 once the page and the cloud side can be used. The bundle
and the house model are prepared side by side, and the builds, which take minutes and all the cores there are, begin only after
both, one after the other. Nothing that fails here ends the server: it is said, and the rest goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybr.server.children import Child
from hybr.server.errors import BuildError, HybrError
from hybr.server.models import read_state

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hybr.server.models import Models
    from hybr.server.providers.house import House
    from hybr.server.site import Site

log = logging.getLogger("hybr.boot")

BUILDS = ("tiny", "smollm2-135m")
PATIENCE = 25.0  # seconds after which /healthz no longer waits for the house model: the page can say what is missing
SOON = 3.0  # seconds after which the address is said, ready or not; without a page, which takes minutes to build, at once
COMMAND = "hybr.server.cli"


class Boot:
    """Prepares `site`, `house` and `models`; `say` prints a line for the person who started the server."""

    def __init__(self, site: Site, house: House, models: Models, *, build: bool, warm: bool, say: Callable[[str], None]) -> None:
        self.site = site
        self.house = house
        self.models = models
        self.build = build
        self.warm = warm
        self.say = say
        self.begin = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []
        self._children: list[Child] = []
        site.lost = self.restore

    def start(self, address: Callable[[], str]) -> None:
        """Begin, in the background; `address` says what the person opens, which is another once a link was used."""
        if self.build:
            self.models.queued.update(BUILDS)
        self._tasks.append(asyncio.create_task(self._run(address)))

    async def stop(self) -> None:
        """End whatever still runs, and its processes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for child in self._children:
            await child.stop()

    def restore(self) -> None:
        """Make the page's bundle again: it was there, and has gone from the cache."""
        self.say("The page's files are gone from the cache")
        self._tasks.append(asyncio.create_task(self._page()))

    def health(self) -> dict[str, Any]:
        """Return what /healthz says: ready, or what is being waited for.

        A house model that is loading can be asked: the question waits the half second with it.
        """
        page = self.site.bundle()
        house = self.house.llama.state
        waited = time.monotonic() - self.begin > PATIENCE
        cloud = house in {"loading", "ready", "failed"} or not self.warm or waited
        report: dict[str, Any] = {"status": "ok" if page and cloud else "starting"}
        if report["status"] != "ok":
            report["reason"] = self.site.notice if not page else f"the house model: {self.house.llama.notice}"
        report["page"] = {"state": "ready"} if page else {"state": "building", "notice": self.site.notice}
        report["house"] = {"state": house, "notice": self.house.llama.notice}
        return report

    async def _run(self, address: Callable[[], str]) -> None:
        warming = asyncio.create_task(self._warm())
        self._tasks.append(warming)
        self.site.folder = self.site.folder or await asyncio.to_thread(find_page)
        greeting = asyncio.create_task(self._greet(address, SOON if self.site.folder else 0))
        self._tasks.append(greeting)
        await asyncio.sleep(0)  # the greeting before what the building of the page says
        await self._page()
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(warming), max(0, PATIENCE - (time.monotonic() - self.begin)))
        greeting.cancel()
        if self.site.folder:
            self.say(f"HYBR is ready at {address()}")
        await warming
        if self.build:
            await self._builds()

    async def _greet(self, address: Callable[[], str], seconds: float) -> None:
        """Say the address before all is ready: the page at it shows what is being waited for."""
        if seconds:
            await asyncio.sleep(seconds)
        self.say(f"HYBR is starting: {address()} can be opened already")

    async def _warm(self) -> None:
        if not self.warm:
            return
        try:
            await self.house.llama.endpoint()
        except HybrError as error:
            self.say(f"The house model cannot answer: {error.message}")

    async def _page(self) -> None:
        self.site.folder = self.site.folder or await asyncio.to_thread(find_page)
        if self.site.folder:
            self.site.use()
            return
        self.say("Building the page (once) ...")
        self.site.notice = "building the page"
        try:
            self.site.folder = await self._build_page()
            self.site.use()
        except HybrError as error:
            self.site.notice = f"{error.message}. {error.remedy}"
            self.say(self.site.notice)

    async def _build_page(self) -> Path:
        """Build in a child: the compressor's memory is not the server's, nor is its share of the interpreter.

        Its last line is the bundle's folder. (Not `find_page` again: a source edited meanwhile would make it look elsewhere.)
        """
        child = await self._begin(["page", "build"])
        last = ""
        while line := await child.line():
            last = self.site.notice = line.decode(errors="replace").strip()
            self.say(last)
        code = await child.wait()
        if code:
            raise BuildError(f"the page could not be built (exit code {code})")
        return Path(last)

    async def _begin(self, arguments: list[str], nice: int = 0) -> Child:
        """Start a child that `stop` ends. Two can run at once: a page that is made again, and a model."""
        child = await Child.start(COMMAND, arguments, nice=nice)
        self._children = [*(other for other in self._children if other.running), child]
        return child

    async def _builds(self) -> None:
        todo = await asyncio.to_thread(missing, self.models, BUILDS)
        self.models.queued &= set(todo)
        for name in todo:
            child = await self._begin(["models", "build", name], nice=10)
            self.say(f"Building {name} in the background (once); the page shows its progress")
            while line := await child.line():
                log.info("%s: %s", name, line.decode(errors="replace").rstrip())
            code = await child.wait()
            self.models.queued.discard(name)
            self.say(f"{name} is built" if code == 0 else f"{name} could not be built (exit code {code}); the page says why")


def missing(models: Models, wanted: Sequence[str]) -> list[str]:
    """Return those of `wanted` that nobody is building and that are not built, or built by an earlier compiler.

    A model that is made again stays in use until the new revision is whole.
    """
    from hybr.mlc_build import maker

    def wanting(name: str) -> bool:
        state = read_state(models.root / name / "state.json")
        whole = models.entry({"id": name})["state"] == "built" and state.get("made_by") == maker.fingerprint()
        return state["state"] != "building" and not whole

    return [name for name in wanted if wanting(name)]


def find_page() -> Path | None:
    """Return the newest bundle, or None when it must be built first."""
    from hybr.server import page

    return page.current()
