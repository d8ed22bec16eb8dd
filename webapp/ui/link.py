"""Carries the Bokeh document to the shell and changes both ways, as JSON text (static/js/panel.js is the other end).

Panel's own worker link converts each patch to JavaScript objects with a function it must evaluate; text is quicker, keeps
None as null, and needs no 'unsafe-eval'. Buffers go inline as base64: our views send none, Bokeh's plots may.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bokeh.core.serialization import Buffer, Serializer
from bokeh.document import Document
from bokeh.document.json import PatchJson
from bokeh.embed.util import standalone_docs_json_and_render_items
from bokeh.events import DocumentReady
from bokeh.settings import settings
from panel.io.state import state

if TYPE_CHECKING:
    from collections.abc import Mapping

SETTER = "js"


class Link:
    """One document and its road to the shell. `host.post(json)` sends."""

    def __init__(self, host: Any) -> None:
        settings.simple_ids.set_value(False)
        self.host = host
        self.document = Document()
        self.document.hold()  # until the shell has drawn it, changes are kept
        self._ids: list[dict[str, str]] = []

    def render(self, views: Mapping[str, Any]) -> None:
        """Put the views into the document as its roots and have the shell draw them, in this order."""
        with set_current(self.document):
            for name, view in views.items():
                view.server_doc(doc=self.document, location=False)
                self._ids.append({"id": self.document.roots[-1].ref["id"], "name": name})
        docs, items = standalone_docs_json_and_render_items(self.document.roots, suppress_callback_warning=True)
        self._post(op="render", docs=docs, items=[item.to_json() for item in items], roots=self._ids)

    def receive(self, message: dict[str, Any]) -> None:
        """Take one `panel` message of the shell."""
        if message.get("op") == "rendered":
            self._drawn()
        elif message.get("op") == "patch":
            with set_current(self.document):
                self.document.apply_json_patch(json.loads(message["patch"]), setter=SETTER)

    def _drawn(self) -> None:
        """The shell shows the document: let changes go to it, those that waited first."""
        state._loaded[self.document] = state._connected[self.document] = True  # noqa: SLF001  as Panel's own worker link does
        self.document.on_change(self._changed)
        self.document.unhold()
        self.document.callbacks.trigger_event(DocumentReady())

    def _changed(self, event: Any) -> None:
        if getattr(event, "setter", None) == SETTER:
            return
        serializer = Serializer(references=self.document.models.synced_references)
        patch = PatchJson(events=serializer.encode([event]))
        self.document.models.flush_synced(lambda model: not serializer.has_ref(model))
        self._post(op="patch", patch=json.dumps(patch, default=_inline))

    def _post(self, **message: Any) -> None:
        self.host.post(json.dumps({"kind": "panel", **message}, default=_inline))


def _inline(value: Any) -> Any:
    if isinstance(value, Buffer):
        return value.to_base64()
    raise TypeError(f"{type(value).__name__} cannot cross to the shell")


class set_current:  # noqa: N801  used as a statement
    """Make `document` the one that Panel's callbacks see."""

    def __init__(self, document: Document) -> None:
        self.document = document

    def __enter__(self) -> None:
        self.before = state.curdoc
        state.curdoc = self.document

    def __exit__(self, *_: object) -> None:
        state.curdoc = self.before
