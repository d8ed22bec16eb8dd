"""The Panel components: each shows one of `facts` and reports what a person does to `on_action`.

A component's JavaScript is a module of the bundle (js/ui/<name>.js), so it is cached, typed and shares helpers with its
siblings; what Panel is given is one line that re-exports it. State crosses as JSON text: Bokeh would turn dicts into Maps.

A state may be on its way while a person changes something that it does not know of yet. So messages are numbered, and each state
says which it has heard and which of these are still being done: a control keeps what the person gave it until then (dom.js).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import param
from panel.custom import Children, JSComponent

if TYPE_CHECKING:
    from collections.abc import Callable


class View(JSComponent):  # type: ignore[misc]
    """A view with its state (JSON text, set from Python) and messages (from JavaScript)."""

    state = param.String(default="{}", doc="What is shown, as JSON text.")
    answer = param.String(
        default="", doc="The newest answer to what the view asked: JSON of its number, and a value or an error."
    )

    on_action: Callable[[Any, View], None]

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self._heard = 0  # the number of the newest message
        self._doing: set[int] = set()  # those of which nothing has come yet

    def show(self, facts: dict[str, Any]) -> None:
        """Show these facts, and how new they are; nothing crosses when they are the ones already shown."""
        told = {**facts, "heard": self._heard, "doing": sorted(self._doing)}
        self.state = json.dumps(told, separators=(",", ":"), sort_keys=True)

    def done(self, message: Any) -> None:
        """What the message asked for has been done or refused: facts from here on are newer than it."""
        self._doing.discard(number(message))

    def _handle_msg(self, data: Any) -> None:
        if sent := number(data):
            self._heard = sent
            self._doing.add(sent)
        self.on_action(data, self)


def number(message: Any) -> int:
    """Which of the view's messages it is, from 1; 0 for one without a number."""
    sent = message.get("sent") if isinstance(message, dict) else None
    return sent if isinstance(sent, int) else 0


class Mode(View):
    """Who answers: the mode control, and the line that says what leaves the browser."""


class Status(View):
    """The local runtime: its state, its progress, why it cannot run."""


class Persona(View):
    """Who the model is to be in this conversation."""


class Models(View):
    """The models: choosing, downloading, loading, checking, deleting."""


class Generation(View):
    """How the open conversation's answers are made."""


class Usage(View):
    """What each provider did and cost."""


class Telemetry(View):
    """How answers went over time: a table of its own, Bokeh's plots as children, and the file that was asked for."""

    _render_policy = "manual"  # else Panel would draw the whole view anew when the plots come, and close it

    plots = Children(default=[], doc="Panes, once the panel has been opened.")
    file = param.String(default="", doc="The newest export: JSON of name, mime, text and number.")


class Egress(View):
    """What left the browser."""


class Settings(View):
    """Keys, spending, what happens by itself, looks, other hosts, the person's data."""


class Doctor(View):
    """What works here, what does not, and what would help."""


VIEWS: dict[str, type[View]] = {
    "mode": Mode,
    "persona": Persona,
    "status": Status,
    "models": Models,
    "generation": Generation,
    "usage": Usage,
    "telemetry": Telemetry,
    "egress": Egress,
    "settings": Settings,
    "doctor": Doctor,
}


def make(address: str, on_action: Callable[[Any, View], None]) -> dict[str, View]:
    """Make one of each, in the order in which they stand; `address` is the absolute URL of the bundle's js/ui folder."""
    made: dict[str, View] = {}
    for name, kind in VIEWS.items():
        kind._esm = f'export {{ render }} from "{address}/{name}.js";'  # noqa: SLF001  Panel's name for the module's text
        made[name] = kind(sizing_mode="stretch_width", name=name)
        made[name].on_action = on_action
    return made
