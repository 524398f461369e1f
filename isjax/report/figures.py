"""Figures as plotly's JSON, which the page's script draws in the colors of the reader's scheme."""

import html
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from isjax.report.curves import Band

COLORS = ("#2f81e0", "#e0662f", "#2a9d72", "#b455c9", "#b98a12", "#d64f7f", "#5f8296", "#7a5fd0")
"""Of runs or kinds; all can be told from a white and from a black page."""
DASHES = ("solid", "dash", "dot", "dashdot")
"""Of runs beyond the number of colors."""
THIN = "rgba(128, 136, 148, 0.28)"
LINES = 64
"""Single learners drawn in a learning curve, at most."""
DECADES = 1.5
"""A scale is logarithmic where the extremes are so many decades above the median."""
FLOOR = 1e-4
"""Where a logarithmic scale of ratios ends: below, a row counts for nothing."""
SMALLEST_SHARE = 1e-4
"""Of a bin, that a histogram over time shows."""
STEPS = "environment steps a learner"

Trace = dict[str, Any]


def figure(
    traces: Sequence[Trace],
    *,
    x: str,
    y: str,
    height: int,
    title: str = "",
    note: str = "",
    log: bool = False,
    marks: Sequence[tuple[float, str]] = (),
    layout: dict[str, Any] | None = None,
) -> str:
    """One figure.

    Args:
      traces: what plotly draws.
      x: title of the axis.
      y: title of the axis.
      height: in pixels.
      title: above it, in words.
      note: below the title, in words.
      log: whether y is logarithmic.
      marks: heights at which a dashed line runs, with what it says.
      layout: what else plotly is told.
    """
    shapes = [
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": at, "y1": at, "line": {"dash": "dash", "width": 1}}
        for at, _ in marks
    ]
    places = [
        {"xref": "paper", "x": 1, "y": float(np.log10(at)) if log else at, "text": text, "showarrow": False}
        | {"xanchor": "right", "yanchor": "bottom", "font": {"size": 12}}
        for at, text in marks
    ]
    given: dict[str, Any] = {
        "height": height,
        "xaxis": {"title": {"text": x, "standoff": 8}, "automargin": True},
        "yaxis": {"title": {"text": y, "standoff": 8}, "automargin": True},
        "shapes": shapes,
        "annotations": places,
    }
    if log:
        heights = [height for trace in traces for height in trace["y"]]
        decades = float(np.log10(max(heights) / min(heights)))
        given["yaxis"] |= {"type": "log", "exponentformat": "power", "dtick": max(1, round(decades / 6))}
    for name, entry in (layout or {}).items():
        given[name] = given[name] | entry if isinstance(given.get(name), dict) else entry
    content = json.dumps({"data": list(traces), "layout": given}, separators=(",", ":"), allow_nan=False)
    content = content.replace("</", "<\\/")
    head = f"<h3>{html.escape(title)}</h3>" if title else ""
    below = f'<p class="soft small">{html.escape(note)}</p>' if note else ""
    return (
        f'<div class="figure">{head}{below}<div class="plot" style="height:{height}px">'
        f'<script type="application/json">{content}</script></div></div>'
    )


def line(
    x: np.ndarray, y: np.ndarray, name: str, *, color: str = COLORS[0], width: float = 2, dash: str = "solid"
) -> Trace:
    """A line that the legend names."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": short(x),
        "y": short(y),
        "name": name,
        "line": {"color": color, "width": width, "dash": dash},
        "hovertemplate": f"{_template(name)}: %{{y}}<extra></extra>",
    }


def ribbon(x: np.ndarray, low: np.ndarray, high: np.ndarray, *, color: str = COLORS[0], opacity: float = 0.25) -> Trace:
    """The area between two curves, without a place in the legend."""
    return {
        "type": "scatter",
        "mode": "none",
        "x": short(np.concatenate([x, x[::-1]])),
        "y": short(np.concatenate([low, high[::-1]])),
        "fill": "toself",
        "fillcolor": _see_through(color, opacity),
        "hoverinfo": "skip",
        "showlegend": False,
    }


def learner_lines(band: Band) -> list[Trace]:
    """The curves of single learners, thinned to `LINES` of them."""
    numbered = list(enumerate(band.learners))[:: -(-band.learners.size // LINES)]
    return [
        line(band.env_steps, band.scores[:, column], f"learner {learner}", color=THIN, width=1) | {"showlegend": False}
        for column, learner in numbered
    ]


def mean_lines(band: Band, name: str, number: int = 0) -> list[Trace]:
    """The interquartile mean with its interval, in the color of a number."""
    color, dash = COLORS[number % len(COLORS)], DASHES[number // len(COLORS) % len(DASHES)]
    group = {"legendgroup": str(number)}
    traces = [line(band.env_steps, band.middle, name, color=color, width=2.5, dash=dash) | group]
    if band.learners.size > 1:
        traces.insert(0, ribbon(band.env_steps, band.low, band.high, color=color) | group)
    return traces


def overlaid(traces: list[Trace]) -> tuple[str, str]:
    """Caption and figure of several `mean_lines` of episode returns, over each other."""
    for trace in traces:
        trace["showlegend"] = trace["mode"] == "lines"
    caption = (
        "Interquartile means of the learners alive with 95 % bootstrap intervals. A point is the mean return of the "
        "training episodes that ended since the row before, or the last such mean."
    )
    return caption, figure(traces, x=STEPS, y="episode return", height=460)


def spread(x: np.ndarray, steps: np.ndarray, *, name: str, unit: str, title: str, marks: Any = ()) -> str:
    """A metric of learners `[U, l]`: median, middle half, and the range from the lowest to the highest."""
    rows = np.isfinite(x).any(axis=1)
    x, steps = np.where(np.isfinite(x), x, np.nan)[rows], steps[rows]
    low, high = np.nanmin(x, axis=1), np.nanmax(x, axis=1)
    first, middle, third = np.nanpercentile(x, [25, 50, 75], axis=1)
    log = is_wide(low, middle, high)
    if log:
        floor = float(middle[middle > 0].min()) / 1e3
        low, first, middle = (np.maximum(each, floor) for each in (low, first, middle))
    traces = []
    if x.shape[1] > 1:
        traces = [ribbon(steps, low, high, opacity=0.16), ribbon(steps, first, third, opacity=0.3)]
    found = line(steps, middle, name) | {"showlegend": False}
    layout = {"yaxis": {"rangemode": "tozero"}} if low.min() >= 0 and not log else None
    if x.shape[1] > 1:
        found["customdata"] = [short(row) for row in np.stack([first, third, low, high], axis=1)]
        found["hovertemplate"] = (
            "median %{y}<br>half of the learners %{customdata[0]} to %{customdata[1]}<br>"
            "all of them %{customdata[2]} to %{customdata[3]}<extra></extra>"
        )
    return figure([*traces, found], x=STEPS, y=unit, height=260, title=title, log=log, marks=marks, layout=layout)


def kinds(
    columns: dict[str, np.ndarray], steps: np.ndarray, *, unit: str, title: str, log: bool = False, marks: Any = ()
) -> str:
    """Several metrics of learners `[U, l]`, by what the legend calls them: median, middle half and range."""
    traces, areas = [], []
    for number, (name, x) in enumerate(columns.items()):
        rows = np.isfinite(x).any(axis=1)
        kept = np.where(np.isfinite(x), x, np.nan)[rows]
        low, first, middle, third, high = np.maximum(
            np.nanpercentile(kept, [0, 25, 50, 75, 100], axis=1), FLOOR if log else -np.inf
        )
        color, group = COLORS[number % len(COLORS)], {"legendgroup": name}
        if x.shape[1] > 1:
            areas.append(ribbon(steps[rows], first, third, color=color, opacity=0.25) | group)
            areas.insert(0, ribbon(steps[rows], low, high, color=color, opacity=0.1) | group)
        dash = DASHES[number % len(DASHES)]
        traces.append(line(steps[rows], middle, name, color=color, dash=dash) | group | {"showlegend": True})
    smallest = min(float(np.nanmin(x)) for x in columns.values())
    note = f"What is below {FLOOR:g} is drawn there." if log and smallest < FLOOR else ""
    return figure([*areas, *traces], x=STEPS, y=unit, height=290, title=title, note=note, log=log, marks=marks)


def shares(
    x: np.ndarray,
    steps: np.ndarray,
    *,
    names: Sequence[str],
    ticks: dict[float, str],
    unit: str,
    title: str,
    note: str = "",
) -> str:
    """Shares of bins over time, `[U, K]`, the darker the larger, by decades.

    Args:
      x: the shares.
      steps: `[U]`.
      names: `[K]`, of the bins.
      ticks: what the axis says at which bin, counted from 0.
      unit: title of the axis.
      title: above it, in words.
      note: below the title, in words.
    """
    rows = np.isfinite(x).all(axis=1)
    x, steps = x[rows].T, steps[rows]
    shade = np.log10(np.maximum(x, SMALLEST_SHARE))
    decades = range(round(np.log10(SMALLEST_SHARE)), 1)
    bar = {"tickvals": list(decades), "ticktext": [f"{100 * 10.0**k:g} %" for k in decades], "thickness": 10}
    trace = {
        "type": "heatmap",
        "x": short(steps),
        "y": list(range(len(names))),
        "z": [short(row) for row in shade],
        "customdata": [[[name, *short([100 * share])] for share in row] for name, row in zip(names, x, strict=True)],
        "hovertemplate": "%{customdata[0]}: %{customdata[1]} % of the rows<extra></extra>",
        "colorscale": [[0, _see_through(COLORS[0], 0.0)], [1, COLORS[0]]],
        "zmin": decades[0],
        "zmax": 0,
        "colorbar": bar | {"outlinewidth": 0, "len": 1},
    }
    axis = {"tickvals": list(ticks), "ticktext": list(ticks.values()), "tickfont": {"size": 11}}
    return figure(
        [trace],
        x=STEPS,
        y=unit,
        height=290,
        title=title,
        note=note,
        layout={"yaxis": axis | {"showgrid": False, "zeroline": False}, "xaxis": {"showgrid": False}},
    )


def is_wide(low: np.ndarray, middle: np.ndarray, high: np.ndarray) -> bool:
    """Whether a few large values would press everything else to the ground, and nothing is below it."""
    usual = np.median(middle)
    return bool(usual > 0 and low.min() >= 0 and high.max() > 10**DECADES * usual)


def intervals(
    names: Sequence[str],
    middle: Sequence[float],
    ends: Sequence[Sequence[float] | None],
    *,
    x: str,
    title: str = "",
    numbers: Sequence[int] | None = None,
) -> str:
    """A dot and its interval for each name, one below the other, in the colors of their numbers."""
    traces = []
    for i, (name, at, interval) in enumerate(zip(names, middle, ends, strict=True)):
        low, high = interval or (at, at)
        color = COLORS[(numbers[i] if numbers else 0) % len(COLORS)]
        bars = {"type": "data", "symmetric": False, "array": short([high - at]), "arrayminus": short([at - low])}
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": short([at]),
                "y": [i],
                "error_x": bars | {"color": color, "thickness": 3, "width": 6},
                "marker": {"color": color, "size": 11},
                "hovertemplate": f"{_template(name)}: %{{x}}, {low:.4g} to {high:.4g}<extra></extra>",
                "showlegend": False,
            }
        )
    labels = [html.escape(name if len(name) <= 28 else name[:27] + "…") for name in names]
    axis = {"range": [len(names) - 0.5, -0.5], "tickvals": list(range(len(names))), "ticktext": labels}
    height = 90 + 34 * len(names)
    return figure(
        traces, x=x, y="", height=height, title=title, layout={"yaxis": axis | {"showgrid": False, "zeroline": False}}
    )


def short(x: Any) -> list[float]:
    """Five digits: what a screen shows, and a page can carry."""
    return [_whole(float(f"{value:.5g}")) for value in np.asarray(x, float).tolist()]


def _whole(x: float) -> float:
    return int(x) if x.is_integer() else x


def _see_through(color: str, opacity: float) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"


def _template(name: str) -> str:
    """A name as part of a hover template, whose own marks it must not hold."""
    return html.escape(name).replace("%{", "% {")
