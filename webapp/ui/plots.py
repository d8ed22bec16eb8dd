"""The telemetry panel's plots: latency, TTFT and rate over time, changes of provider by cause, tokens and cost by day, memory.

Figures are made when the panel is opened first: a page whose panel stays closed does not pay for them. Each reads one
ColumnDataSource, so that showing newer figures is a change of data. Colours are those of the page's tokens, which the view reads
off the document and sends (`look`), again when the theme changes. A figure with nothing to draw is not shown: the view says so.

Bokeh draws every time as UTC: what it is given is ahead of that by as much as the person's clock is (`_ahead`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

from bokeh.models import (
    ColumnDataSource,
    DataRange1d,
    DatetimeTickFormatter,
    FixedTicker,
    Legend,
    LinearAxis,
    NumeralTickFormatter,
    Range1d,
)
from bokeh.plotting import figure

from hybr.webapp.state.series import DAY, SPANS

if TYPE_CHECKING:
    from hybr.webapp.state.series import Figures, Series

Measure = Literal["ttft", "total", "rate"]
SHARES = ((0.5, "solid"), (0.95, "dashed"))
HEIGHT = 210  # px
LOOK = {"text": "#1f1d1a", "muted": "#625e57", "line": "#e3e0da", "local": "#0f6b63", "cloud": "#4640c4", "warn": "#8a4b08"}
TICKS = {
    "milliseconds": "%H:%M:%S",
    "seconds": "%H:%M:%S",
    "minsec": "%H:%M:%S",
    "minutes": "%H:%M",
    "hourmin": "%H:%M",
    "hours": "%H:%M",
    "days": "%d.%m.",
    "months": "%d.%m.",
    "years": "%d.%m.",
}
TICKED = 6  # days that have their date below them
LEAST_MS = 60_000  # of memory over time: a moment is no course
DASHES = ("circle", "square", "triangle", "diamond", "inverted_triangle")  # models of one provider differ in their marks


class Plots:
    """Four figures over a `Series` and the memory samples `(seconds, page bytes, python bytes)`."""

    def __init__(self, series: Series, memory: list[tuple[float, float, float]], words: dict[str, str]) -> None:
        self._series = series
        self._memory = memory
        self._words = words
        self._look = dict(LOOK)
        self._lines: dict[tuple[str, str, float], ColumnDataSource] = {}
        self.time = self._figure(words["time"], x_axis_type="datetime", x_range=Range1d(0, 1))
        self.causes = self._figure(words["causes"], y_range=[""], x_range=DataRange1d(start=0), toolbar=False)
        self.spent = self._figure(words["spent"], x_axis_type="datetime", x_range=Range1d(0, 1))
        self.held = self._figure(words["memory"], x_axis_type="datetime", x_range=DataRange1d(min_interval=LEAST_MS))
        self._sources = {name: ColumnDataSource() for name in ("causes", "spent", "memory")}
        self._draw_causes()
        self._draw_spent()
        self._draw_memory()

    @property
    def figures(self) -> list[Any]:
        """In the order in which they are shown."""
        return [self.time, self.causes, self.spent, self.held]

    def show(self, measure: Measure, span: str) -> None:
        """Bring all figures up to date: `measure` over time, from `span` (day, week, month) ago."""
        back, width = SPANS.get(span, SPANS["day"])
        now = time.time()
        since, ahead = now - back, _ahead(now)
        self.time.x_range.start, self.time.x_range.end = _ms(since + ahead), _ms(now + width / 2 + ahead)
        first, today = (at + ahead - (at + ahead) % DAY for at in (since, now))  # whole days stand as bars
        self.spent.x_range.start, self.spent.x_range.end = _ms(first), _ms(today + DAY)
        self._show_time(measure, since, width, ahead)
        self._show_causes(since)
        self._show_spent(since, ahead)
        self._show_memory(ahead)

    def _show_memory(self, ahead: int) -> None:
        self._sources["memory"].data = {
            "at": [_ms(at + ahead) for at, _, _ in self._memory],
            "page": [page / 1e6 for _, page, _ in self._memory],
            "python": [python / 1e6 for _, _, python in self._memory],
        }
        self.held.visible = len(self._memory) > 1

    def look(self, colours: dict[str, str]) -> None:
        """Take the page's colours, by the names of `LOOK`."""
        self._look |= {name: str(colours[name]) for name in LOOK if colours.get(name)}
        for made in self.figures:
            self._paint(made)
        for (provider, *_), renderers in self._by_provider().items():
            for renderer in renderers:
                _colour(renderer.glyph, self._look[provider])
        drawn = ((self.causes, ["warn", "cloud"]), (self.spent, ["local", "cloud", "warn"]), (self.held, ["cloud", "local"]))
        for made, names in drawn:
            for renderer, name in zip(made.renderers, names, strict=False):
                _colour(renderer.glyph, self._look[name])

    # -- over time

    def _show_time(self, measure: Measure, since: float, width: int, ahead: int) -> None:
        self.time.yaxis.axis_label = self._words[measure]
        wanted: dict[tuple[str, str, float], dict[str, list[Any]]] = {}
        for start, models in self._series.stretches(since, width, ahead):
            for one in models:
                self._point(wanted, one, measure, start + ahead)
        for key in sorted({*wanted, *self._lines}):
            self._line(key).data = wanted.get(key) or {"at": [], "value": []}
        self.time.visible = bool(wanted)

    @staticmethod
    def _point(wanted: dict[tuple[str, str, float], dict[str, list[Any]]], one: Figures, measure: Measure, start: int) -> None:
        for share, _ in SHARES:
            value = one.of(measure, share)
            if value is not None:
                line = wanted.setdefault((one.provider, one.model, share), {"at": [], "value": []})
                line["at"].append(_ms(start))
                line["value"].append(value)

    def _line(self, key: tuple[str, str, float]) -> ColumnDataSource:
        """The data of one model's percentile; its line is drawn when it is met first."""
        if key not in self._lines:
            provider, model, share = key
            source = self._lines[key] = ColumnDataSource({"at": [], "value": []}, name="|".join((provider, model, str(share))))
            colour, dash = self._look.get(provider, self._look["text"]), dict(SHARES)[share]
            mark = DASHES[len({name for side, name, _ in self._lines if side == provider}) % len(DASHES)]
            named = {"legend_label": model} if share == SHARES[0][0] else {}
            drawn = {"source": source, "color": colour, **named}
            self.time.line("at", "value", line_dash=dash, line_width=2, **drawn)
            self.time.scatter("at", "value", marker=mark, size=6, fill_alpha=2 * (1 - share), **drawn)  # p95 is hollow
            self._paint(self.time)
        return self._lines[key]

    def _by_provider(self) -> dict[tuple[str, str, float], list[Any]]:
        owner = {source.id: key for key, source in self._lines.items()}
        found: dict[tuple[str, str, float], list[Any]] = {}
        for renderer in self.time.renderers:
            if renderer.data_source.id in owner:
                found.setdefault(owner[renderer.data_source.id], []).append(renderer)
        return found

    # -- causes, spending, memory

    def _draw_causes(self) -> None:
        self._sources["causes"].data = {"cause": [], "fallback": [], "handover": []}
        self.causes.hbar_stack(
            ["fallback", "handover"],
            y="cause",
            height=0.6,
            source=self._sources["causes"],
            color=[self._look["warn"], self._look["cloud"]],
            legend_label=[self._words["fallbacks"], self._words["handovers"]],
        )

    def _show_causes(self, since: float) -> None:
        counted: dict[str, dict[str, int]] = {}
        for name, count in self._series.counts("changes", since).items():
            kind, _, cause = name.partition(":")
            counted.setdefault(cause, {})[kind] = count
        causes = list(counted)[:8]
        self.causes.y_range.factors = causes[::-1] or [""]
        self.causes.visible = bool(causes)
        kinds = {kind: [counted[cause].get(kind, 0) for cause in causes] for kind in ("fallback", "handover")}
        self._sources["causes"].data = {"cause": causes, **kinds}

    def _draw_spent(self) -> None:
        self._sources["spent"].data = {"at": [], "local": [], "cloud": [], "cost": []}
        self.spent.vbar_stack(
            ["local", "cloud"],
            x="at",
            width=DAY * 800,
            source=self._sources["spent"],
            color=[self._look["local"], self._look["cloud"]],
            legend_label=[self._words["local"], self._words["cloud"]],
        )
        self.spent.xaxis[0].ticker = FixedTicker(ticks=[])
        self.spent.xaxis[0].formatter = DatetimeTickFormatter(**dict.fromkeys(TICKS, TICKS["days"]))
        self.spent.extra_y_ranges = {"cost": Range1d(0, 1)}
        axis = LinearAxis(y_range_name="cost", axis_label=self._words["cost"], formatter=NumeralTickFormatter(format="$0.0000"))
        self.spent.add_layout(axis, "right")
        self.spent.line("at", "cost", source=self._sources["spent"], y_range_name="cost", color=self._look["warn"], line_width=2)
        self.spent.yaxis[0].axis_label = self._words["tokens"]

    def _show_spent(self, since: float, ahead: int) -> None:
        days = [(start + ahead, models) for start, models in self._series.stretches(since, DAY, ahead) if models]
        tokens = {
            side: [sum(one.tokens for one in models if one.provider == side) for _, models in days] for side in ("local", "cloud")
        }
        cost = [sum(one.cost for one in models) for _, models in days]
        self.spent.extra_y_ranges["cost"].end = max([*cost, 0.0001]) * 1.1
        self.spent.right[0].visible = any(cost)
        self.spent.visible = bool(days)
        middles = [_ms(start + DAY / 2) for start, _ in days]
        self.spent.xaxis[0].ticker.ticks = middles[:: -(-len(middles) // TICKED)] if middles else []
        self._sources["spent"].data = {"at": middles, **tokens, "cost": cost}

    def _draw_memory(self) -> None:
        self._sources["memory"].data = {"at": [], "page": [], "python": []}
        for name, colour in (("page", "cloud"), ("python", "local")):
            self.held.line(
                "at", name, source=self._sources["memory"], color=self._look[colour], line_width=2, legend_label=self._words[name]
            )
        self.held.yaxis.axis_label = "MB"

    # -- how they look

    def _figure(self, title: str, *, toolbar: bool = True, **options: Any) -> Any:
        made = figure(
            **{"y_range": DataRange1d(start=0), **options},
            title=title,
            height=HEIGHT,
            sizing_mode="stretch_width",
            tools="pan,xwheel_zoom,reset,hover" if toolbar else "",
            toolbar_location=None,
            background_fill_alpha=0,
            border_fill_alpha=0,
            outline_line_color=None,
        )
        made.toolbar.logo = None
        made.xaxis.ticker.desired_num_ticks = 4
        made.add_layout(Legend(orientation="horizontal", ncols=2, margin=0, padding=0), "below")
        if options.get("x_axis_type") == "datetime":
            made.xaxis.formatter = DatetimeTickFormatter(**TICKS)
        self._paint(made)
        return made

    def _paint(self, made: Any) -> None:
        look = self._look
        made.title.text_color = look["text"]
        made.title.text_font_size = "13px"
        for axis in made.axis:
            axis.major_label_text_color = axis.axis_label_text_color = look["muted"]
            axis.axis_line_color = axis.major_tick_line_color = look["line"]
            axis.minor_tick_line_color = None
            axis.axis_label_text_font_size = "11px"
        made.grid.grid_line_color = look["line"]
        if made.legend:
            made.legend.background_fill_alpha = 0
            made.legend.border_line_color = None
            made.legend.label_text_color = look["muted"]
            made.legend.label_text_font_size = "10px"
            made.legend.location = "left"


def _ahead(at: float) -> int:
    """By how many seconds the person's clock is ahead of UTC then."""
    return time.localtime(at).tm_gmtoff


def _ms(seconds: float) -> float:
    """Bokeh's time."""
    return seconds * 1000


def _colour(glyph: Any, colour: str) -> None:
    """Give a glyph the colour, of its line and of what it fills."""
    for name in ("line_color", "fill_color"):
        if hasattr(glyph, name):
            setattr(glyph, name, colour)
