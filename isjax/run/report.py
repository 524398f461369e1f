"""The page of a run: one HTML file that needs nothing else, not even a network."""

import html
import importlib.resources
import string
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
from plotly.offline import get_plotlyjs

from isjax.run.progress import headline, number
from isjax.run.store import CONFIG, REPORT, SUMMARY, read_json, replacing
from isjax.run.table import read_metrics
from isjax.stats import bootstrap_interval, interquartile_mean

POINTS = 200
"""Points along a curve, at most; longer tables are thinned."""
LINES = 64
"""Single learners drawn in the learning curve, at most."""
RESAMPLES = 200
ACCENT, BAND, THIN = "#2f81e0", "rgba(47, 129, 224, 0.28)", "rgba(128, 136, 148, 0.28)"
_DIAGNOSTICS = {
    "ratio/ess_fraction": ("Effective sample size: 1 is on-policy", "share of rows"),
    "ratio/clipped_rho": ("Ratios clipped by ρ̄", "share of rows"),
    "ratio/kl_k3": ("KL of acting and learning policy (k3)", "nats"),
    "ratio/min": ("Smallest ratio, before clipping", "ratio"),
    "ratio/max": ("Largest ratio, before clipping", "ratio"),
    "loss/entropy": ("Entropy of the policy", "nats"),
}


class Curves(NamedTuple):
    """A run's table as arrays, by column."""

    update: np.ndarray
    """`[U]`."""
    env_steps: np.ndarray
    """`[U]`, of each learner that lives."""
    alive: np.ndarray
    """`[L]`, at the end."""
    columns: dict[str, np.ndarray]
    """`[U, L]` each, NaN where there was nothing."""


def write_report(folder: Path) -> Path:
    """Writes `report.html` from what the folder holds, also of a run that is not finished; returns its path.

    Raises:
      ValueError: the folder holds no run, or no rows yet.
    """
    settings = read_json(folder / CONFIG)
    summary = read_json(folder / SUMMARY) if (folder / SUMMARY).exists() else {}
    curves = read_curves(read_metrics(folder), settings)
    path = folder / REPORT
    with replacing(path) as file:
        file.write(page(settings, summary, curves).encode())
    return path


def read_curves(table: pa.Table, settings: dict[str, Any]) -> Curves:
    """The table in arrays, thinned to `POINTS` updates, the last one among them."""
    learners, config = settings["learners"], settings["config"]
    updates = np.unique(table["update"].to_numpy())
    kept = updates[np.unique(np.linspace(len(updates) - 1, 0, min(len(updates), POINTS)).round().astype(int))]
    table = table.filter(pa.array(np.isin(table["update"].to_numpy(), kept)))
    at = np.searchsorted(kept, table["update"].to_numpy()), table["learner"].to_numpy()

    def square(name: str, dtype: Any) -> np.ndarray:
        # Learners given up on the way have no rows any more: there is nothing to show of them, as of the dead.
        x = np.zeros((len(kept), learners), bool) if dtype is bool else np.full((len(kept), learners), np.nan)
        x[at] = table[name].to_numpy()
        return x

    columns = {name: square(name, float) for name in table.column_names if name not in ("alive", "update", "learner")}
    alive = square("alive", bool)
    env_steps = kept * (config["num_envs"] * config["unroll_length"])
    return Curves(kept, env_steps, alive[-1], columns | {"alive": alive})


def page(settings: dict[str, Any], summary: dict[str, Any], curves: Curves) -> str:
    """The whole page."""
    config = settings["config"]
    status = summary.get("status", "running, or stopped without an end")
    template = string.Template(importlib.resources.files("isjax.run").joinpath("report_page.html").read_text())
    sections = [
        _section("Learning curve", *learning_curve(curves)),
        _section("Final returns", *final_returns(summary)),
        _section("Off-policy diagnostics", _DIAGNOSTICS_CAPTION, _grid(diagnostics(curves))),
        _section("Who died", *died(summary, curves)),
        _section("Configuration", *configuration(settings)),
    ]
    return template.substitute(
        title=html.escape(f"{config['algorithm']} on {config['env']}"),
        subtitle=html.escape(
            f"{settings['learners']} learners, seed {settings['seed']}, started {settings['started']}: {status}."
        ),
        plotly=get_plotlyjs(),
        cards=_cards(settings, summary, curves),
        sections="\n".join(sections),
    )


def learning_curve(curves: Curves) -> tuple[str, str]:
    """Caption and figure: the interquartile mean with its interval, over single learners."""
    returns = _carried_forward(curves.columns["episode_return"])
    shown = np.flatnonzero(curves.alive & np.isfinite(returns[-1]))
    if not shown.size:
        return "No learner that is alive finished an episode.", ""
    start = int(np.argmax(np.isfinite(returns[:, shown]).all(axis=1)))
    steps, scores = curves.env_steps[start:], returns[start:, shown]
    figure = go.Figure()
    for column, learner in list(enumerate(shown))[:: -(-shown.size // LINES)]:
        figure.add_scatter(
            x=steps,
            y=_short(scores[:, column]),
            mode="lines",
            line_color=THIN,
            line_width=1,
            showlegend=False,
            hovertemplate=f"learner {learner}: %{{y}}<extra></extra>",
        )
    middle = np.asarray(interquartile_mean(jnp.asarray(scores.T)))
    if shown.size > 1:
        low, high = bootstrap_interval(
            jax.random.key(0), jnp.asarray(scores.T), interquartile_mean, resamples=RESAMPLES
        )
        band = np.concatenate([low, high[::-1]])
        figure.add_scatter(
            x=np.concatenate([steps, steps[::-1]]),
            y=_short(band),
            fill="toself",
            fillcolor=BAND,
            mode="none",
            name="95 % interval",
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=steps,
        y=_short(middle),
        mode="lines",
        line_color=ACCENT,
        line_width=2.5,
        name="IQM",
        hovertemplate="IQM: %{y}<extra></extra>",
    )
    caption = (
        f"Interquartile mean of {shown.size} learners with its 95 % bootstrap interval, over single learners. A point "
        "is the mean return of the training episodes that ended since the row before, or the last such mean; "
        "learners that died are left out."
    )
    return caption, _figure(figure, "environment steps a learner", "episode return", height=420)


def final_returns(summary: dict[str, Any]) -> tuple[str, str]:
    """Caption and histogram of the last evaluation."""
    scores = [x for x in summary.get("final_return", {}).get("per_learner", []) if x is not None]
    if not scores:
        return "There is no evaluation: the run did not reach its end, or no learner is alive.", ""
    if min(scores) == max(scores):
        return f"The same for all {len(scores)} learners alive: {number(scores[0])}.", ""
    figure = go.Figure()
    figure.add_histogram(x=_short(np.asarray(scores)), nbinsx=30, marker_color=ACCENT, name="learners")
    caption = (
        f"Mean return of each of the {len(scores)} learners alive, evaluated after the last update on keys of its own."
    )
    return caption, _figure(figure, "return", "learners", height=300)


def diagnostics(curves: Curves) -> list[str]:
    """Median over the learners alive, between the extremes."""
    figures = []
    for name, (title, unit) in _DIAGNOSTICS.items():
        x = curves.columns.get(name)
        if x is None or not (curves.alive.any() and np.isfinite(x[:, curves.alive]).any()):
            continue
        x = np.where(np.isfinite(x), x, np.nan)[:, curves.alive]
        rows = np.isfinite(x).any(axis=1)
        x, steps = x[rows], curves.env_steps[rows]
        low, middle, high = np.nanmin(x, axis=1), np.nanmedian(x, axis=1), np.nanmax(x, axis=1)
        figure = go.Figure()
        figure.add_scatter(
            x=np.concatenate([steps, steps[::-1]]),
            y=_short(np.concatenate([low, high[::-1]])),
            fill="toself",
            fillcolor=BAND,
            mode="none",
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_scatter(
            x=steps,
            y=_short(middle),
            mode="lines",
            line_color=ACCENT,
            line_width=2,
            showlegend=False,
            hovertemplate="%{y}<extra></extra>",
        )
        figures.append(_figure(figure, "environment steps a learner", unit, height=260, title=title))
    return figures


def died(summary: dict[str, Any], curves: Curves) -> tuple[str, str]:
    """Who, and at which update."""
    if "died" in summary:
        found = [(entry["learner"], entry["update"]) for entry in summary["died"]]
    else:
        found = [(int(i), int(x)) for i, x in enumerate(np.nanmax(curves.columns["died_at"], axis=0)) if x >= 0]
    if not found:
        return "Nobody: parameters and losses of every learner stayed finite.", ""
    rows = "".join(f"<tr><td>{learner}</td><td>{update}</td></tr>" for learner, update in found)
    caption = "Their parameters or loss stopped being finite at that update. They are frozen since, and count nowhere."
    return caption, f"<table><tr><th>Learner</th><th>Update</th></tr>{rows}</table>"


def configuration(settings: dict[str, Any]) -> tuple[str, str]:
    """The command, and every setting."""
    command = f"<pre>{html.escape(settings.get('command') or 'started from Python')}</pre>"
    tables = [
        _settings_table({name: settings[name] for name in ("learners", "seed", "log_every", "device")}),
        _settings_table(settings["config"]),
        _settings_table(settings["hyper"]),
        _settings_table(settings["versions"]),
    ]
    return "The command that repeats this run, and everything it came down to.", (
        f'{command}<div class="settings">{"".join(tables)}</div>'
    )


_DIAGNOSTICS_CAPTION = "Median over the learners that are alive, and the range from the lowest to the highest of them."


def _cards(settings: dict[str, Any], summary: dict[str, Any], curves: Curves) -> str:
    if summary:
        cards = [(name, *_split(text)) for name, text in headline(summary)]
    else:
        share = f"{curves.update[-1]} updates"
        cards = [("Trained", share, ""), ("Alive", f"{curves.alive.sum()} of {settings['learners']}", "")]
    return "".join(
        f'<div class="card"><span>{name}</span><b>{html.escape(big)}</b><span>{html.escape(small)}</span></div>'
        for name, big, small in cards
    )


def _split(text: str) -> tuple[str, str]:
    big, _, small = text.partition("   ")
    return big, small


def _section(title: str, caption: str, body: str) -> str:
    return f'<section><h2>{title}</h2><p class="soft">{html.escape(caption)}</p>{body}</section>'


def _grid(figures: list[str]) -> str:
    return f'<div class="figures">{"".join(f"<div>{figure}</div>" for figure in figures)}</div>'


def _settings_table(settings: dict[str, Any]) -> str:
    rows = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(str(x))}</td></tr>" for k, x in settings.items())
    return f"<table>{rows}</table>"


def _figure(figure: go.Figure, x: str, y: str, *, height: int, title: str = "") -> str:
    axes = {"automargin": True, "title_standoff": 8}
    figure.update_xaxes(title_text=x, **axes)
    figure.update_yaxes(title_text=y, **axes)
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 8, "r": 8, "t": 36, "b": 8},
        hovermode="closest",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        title={"text": title, "x": 0, "font_size": 15},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        bargap=0.05,
    )
    config = {"displayModeBar": False, "responsive": True}
    return figure.to_html(full_html=False, include_plotlyjs=False, include_mathjax=False, config=config)


def _carried_forward(x: np.ndarray) -> np.ndarray:
    """`[U, L]`, each gap filled with the last number before it."""
    row = np.where(np.isfinite(x), np.arange(len(x))[:, None], -1)
    last = np.maximum.accumulate(row, axis=0)
    return np.where(last >= 0, np.take_along_axis(x, np.maximum(last, 0), axis=0), np.nan)


def _short(x: np.ndarray) -> list[float]:
    """Five digits: what a screen shows, and a page can carry."""
    return [float(f"{value:.5g}") for value in x]
