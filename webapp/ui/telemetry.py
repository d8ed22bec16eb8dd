"""The telemetry panel's Python side: what its table shows, its plots once it is opened, and what can be exported.

All of it comes from `state.series`, which never leaves the browser; whether the server is told anything is a setting elsewhere.
"""

from __future__ import annotations

import csv
import io
import json
import time
from itertools import count
from typing import TYPE_CHECKING, Any

from hybr.webapp.state.series import MEASURES, SPANS

if TYPE_CHECKING:
    from hybr.webapp.page import Context
    from hybr.webapp.ui.plots import Plots
    from hybr.webapp.ui.views import Telemetry as View


class Telemetry:
    """The panel's state: closed or open, which measure and how far back."""

    def __init__(self, context: Context, view: View) -> None:
        self._context = context
        self._view = view
        self._plots: Plots | None = None
        self._files = count(1)
        self._open = False
        self._measure, self._span = "ttft", "day"

    def facts(self, _: Context) -> dict[str, Any]:
        """What is shown; the plots are brought up to date with it. Closed, the panel costs nothing."""
        chosen = {"open": self._open, "measure": self._measure, "span": self._span}
        if not self._open:
            return chosen
        if self._plots:
            self._plots.show(self._measure, self._span)  # type: ignore[arg-type]  # act() lets only measures in
        return chosen | self._figures()

    def _figures(self) -> dict[str, Any]:
        """Every model's figures in this span, and how often each cause and error came."""
        series, since = self._context.series, time.time() - SPANS[self._span][0]
        return {
            "rows": [
                {
                    "provider": one.provider,
                    "model": one.model,
                    "requests": one.requests,
                    "tokens": one.tokens,
                    "cost": one.cost,
                    **{name: [one.of(name, 0.5), one.of(name, 0.95)] for name in MEASURES},
                }
                for one in series.totals(since)
            ],
            "changes": series.counts("changes", since),
            "errors": series.counts("errors", since),
        }

    async def act(self, _: Context, message: dict[str, Any]) -> None:
        """What a person does in the panel: `open`, `close`, `look`, `choose`, `export`, `clear`."""
        kind = message.get("do")
        if kind == "open":
            self._opened(message)
        elif kind == "close":
            self._open = False
        elif kind == "look" and self._plots:
            self._plots.look(message.get("look") or {})
        elif kind == "choose":
            self._measure = message["measure"] if message.get("measure") in MEASURES else self._measure
            self._span = message["span"] if message.get("span") in SPANS else self._span
        elif kind == "export":
            self._export("json" if message.get("format") == "json" else "csv")
        elif kind == "clear":
            self._context.series.clear()

    def _opened(self, message: dict[str, Any]) -> None:
        self._open = True
        if self._plots is None:
            from panel.pane import Bokeh

            from hybr.webapp.ui.plots import Plots

            self._plots = Plots(self._context.series, self._context.memory, message.get("words") or {})
            self._plots.look(message.get("look") or {})
            self._plots.show(self._measure, self._span)  # type: ignore[arg-type]  # as in facts()
            self._view.plots = [Bokeh(made, sizing_mode="stretch_width") for made in self._plots.figures]

    def _export(self, kind: str) -> None:
        """Hand the view a file: every hour of every model that is kept."""
        rows = self._context.series.rows()
        if kind == "json":
            text = json.dumps({"format": "hybr-telemetry", "version": 1, "rows": rows}, indent=1)
        else:
            out = io.StringIO()
            names = list(rows[0]) if rows else ["hour", "provider", "model"]
            writer = csv.DictWriter(out, names, lineterminator="\r\n")
            writer.writeheader()
            writer.writerows({name: _safe(value) for name, value in row.items()} for row in rows)
            text = out.getvalue()
        name = f"hybr-telemetry-{time.strftime('%Y-%m-%d')}.{kind}"
        mime = "application/json" if kind == "json" else "text/csv"
        self._view.file = json.dumps({"name": name, "mime": mime, "text": text, "number": next(self._files)})


def _safe(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula (CWE-1236): model names are somebody's text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" else value
