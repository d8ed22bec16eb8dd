"""The Panel app's beginning: views are drawn, then shown anew whenever an event says that something changed.

    start(host, context) -> App       draws; `host` is python.worker.js's object, `context` hybr.webapp.page's
    App.receive(json)                 takes each `panel` message of the shell

Nothing is polled but one thing that has no event: while the server builds a model, its index is read every few seconds.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from typing import TYPE_CHECKING, Any

from hybr.webapp.ui import doctor, facts, models, personas, settings
from hybr.webapp.ui.actions import ACTIONS, act
from hybr.webapp.ui.telemetry import Telemetry

if TYPE_CHECKING:
    from hybr.webapp.page import Context
    from hybr.webapp.ui.views import View

log = logging.getLogger(__name__)

FACTS = {
    "mode": facts.mode,
    "persona": personas.persona,
    "status": facts.status,
    "models": models.models,
    "generation": personas.generation,
    "usage": facts.usage,
    "egress": facts.egress,
    "settings": settings.settings,
    "doctor": doctor.doctor,
}
DELAY_S = 0.04  # several events in a row are one change of what is shown
# After these a caller's own answer follows ("loaded", "switched"): who hears it must find the page saying the same.
AT_ONCE = {"local-llm:ready", "local-llm:error", "local-llm:unloaded", "hybrid-llm:mode-changed"}
# Once per token, and nothing that a view shows is another after it.
PER_TOKEN = {"hybrid-llm:stream-chunk", "hybrid-llm:thought"}
BUILDING_S, WAITING_S = 2.0, 10.0  # how often the index is read while a model is built, or still to be built


class App:
    """The views, their link to the shell and what keeps them true."""

    def __init__(self, host: Any, context: Context) -> None:
        # Panel reads this when it is imported; were it to ask for a style or script of its own, it would find it in the bundle.
        os.environ["PANEL_CDN_ROOT"] = f"{host.assets}/vendor/panel/"
        from hybr.webapp.ui import link, views

        self.context = context
        self.views = views.make(f"{host.origin}{host.assets}/js/ui", self.asked)
        telemetry = Telemetry(context, self.views["telemetry"])
        self.facts = {**FACTS, "telemetry": telemetry.facts}
        self.actions = {**ACTIONS, "telemetry": telemetry.act}
        self.link = link.Link(host)
        self._tasks: set[asyncio.Task[None]] = set()
        self._due = False

    def start(self) -> None:
        """Draw, and begin to listen."""
        self.show()
        self.link.render(self.views)
        self.context.events.tap(self._heard)
        self._run(self._follow_builds())

    def receive(self, message: str) -> None:
        """Take one `panel` message of the shell."""
        self.link.receive(json.loads(message))

    def asked(self, message: Any, view: View) -> None:
        """Do what a person asked for in a view, then show what came of it; a view that waits for an answer gets it."""
        self._run(self._act(message, view))
        self._soon()

    async def _act(self, message: Any, view: View) -> None:
        try:
            came = await act(self.context, message, self.actions)
        finally:
            view.done(message)
        if isinstance(message, dict) and message.get("ask"):
            view.answer = json.dumps({"ask": message.get("sent"), **came})
        self._soon()

    def _heard(self, name: str, _: dict[str, Any]) -> None:
        if name in AT_ONCE:
            self.show()
        elif name not in PER_TOKEN:
            self._soon()

    def _soon(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(DELAY_S, self.show)

    def show(self) -> None:
        """Bring every view up to date; one that fails must not take the others along."""
        self._due = False
        for name, view in self.views.items():
            try:
                view.show(self.facts[name](self.context))
            except Exception:
                log.exception("the %s view cannot be shown", name)

    async def _follow_builds(self) -> None:
        """Read the index until every model is built or has failed."""
        while True:
            try:
                states = {entry.get("state") for entry in await self.context.local.refresh()}
            except Exception as error:  # noqa: BLE001  the server may be restarting: the next reading tells
                log.info("the index of models cannot be read: %s", error)
                states = {"missing"}
            if "building" in states:
                await asyncio.sleep(BUILDING_S)
            elif "missing" in states:
                await asyncio.sleep(WAITING_S)
            else:
                return

    def _run(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._tasks.discard)


def start(host: Any, context: Context) -> App:
    """Draw the app and return it."""
    app = App(host, context)
    app.start()
    return app
