"""The page of a sweep: its ranking, what each varied field does, and the curves of the best settings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isjax.report.curves import Curves, learning_band, read_curves
from isjax.report.figures import COLORS, DASHES, figure, intervals, line, mean_lines, overlaid, short
from isjax.report.page import Html, cards, command, grid, section, table, write_page
from isjax.run.files import REPORT, SUMMARY, SWEEP, Damaged, read_json
from isjax.run.format import interval, number, rate, with_interval
from isjax.run.integrity import SWEEP_SHAPE, check_run, read_settings, read_summary
from isjax.run.settings import Group
from isjax.run.sweep import group_folder, read_sweep

BEST = 5
"""Settings whose curves are drawn."""
COMPARED = 15
"""Settings whose intervals are drawn."""
ROWS = 200
"""Settings in the table, at most."""
GRID = 12
"""Values of a field, at most, that get a place each; more are a scale."""

Row = dict[str, Any]
"""A setting of the ranking, as `summary.json` has it."""


def write_sweep_report(folder: Path, out: Path | None = None) -> Path:
    """Writes the page of a sweep that has come to its end; returns its path.

    Args:
      folder: of the sweep.
      out: the file; `report.html` in the folder if left out.

    Raises:
      ValueError: the folder holds no sweep, or one that is not finished.
    """
    groups = read_sweep(folder)[1]
    summary, saved = read_summary(folder, SWEEP_SHAPE), read_json(folder / SWEEP)
    if summary.get("status") != "finished":
        raise ValueError(
            f"{folder} must be a sweep that has come to its end; its groups are runs: {group_folder(folder, 0)}."
        )
    ranked = summary["settings"]
    numbers = sorted(number for group in groups for number in group.settings)
    if sorted(row["setting"] for row in ranked) != numbers or len({tuple(row["values"]) for row in ranked}) > 1:
        raise Damaged(f"{folder / SUMMARY} is damaged: its settings are not those of {SWEEP}.")
    program = groups[0].plan.config
    path = out or folder / REPORT
    sections = [
        section("Ranking", *ranking(ranked, path.resolve().parent == folder.resolve(), groups)),
        section("Best settings", *best_curves(folder, ranked, groups)),
        section("What each field does", *effects(ranked)),
        section("Commands", "What repeats the sweep, and the best setting alone.", _commands(saved, ranked)),
    ]
    varied = ", ".join(ranked[0]["values"])
    return write_page(
        path,
        title=f"Sweep over {varied}",
        subtitle=f"{_starting_point(program, ranked[0])}: {len(ranked):,} settings of "
        f"{ranked[0]['learners']:,} learners, {len(groups):,} programs, {summary['device']}.",
        cards=cards(_headline(summary)),
        sections=sections,
    )


def ranking(ranked: Sequence[Row], linked: bool, groups: Sequence[Group]) -> tuple[str, str]:
    """Caption, intervals of the first, and the table; `linked` if the page lies beside the groups' folders."""
    names = list(ranked[0]["values"])
    place = {setting: i for i, group in enumerate(groups) for setting in group.settings}
    rows = []
    for row in ranked[:ROWS]:
        run = f'<a href="group-{place[row["setting"]]}/{REPORT}">group {place[row["setting"]]}</a>'
        rows.append(
            [
                row["rank"],
                *(row["values"][name] for name in names),
                number(row["iqm"]),
                interval(row["ci95"]),
                f"{row['alive']:,} of {row['learners']:,}",
                f"given up at update {row['updates']:,}" if row["given_up"] else "to the end",
                *([Html(run)] if linked else []),
            ]
        )
    head = ("Rank", *names, "IQM", "95 % interval", "Alive", "Trained", *(["Run"] if linked else []))
    first = [row for row in ranked[:COMPARED] if row["iqm"] is not None]
    middles, ends = [row["iqm"] for row in first], [row["ci95"] for row in first]
    labels = [f"{row['rank']}: {', '.join(row['values'].values())}" for row in first]
    title = f"The best, by {', '.join(names)}"
    drawn = intervals(labels, middles, ends, x="IQM return and 95 % interval", title=title) if first else ""
    left_out = f" The table holds the first {ROWS} of {len(ranked):,}." if len(ranked) > ROWS else ""
    caption = (
        "By the interquartile mean of the final returns, a learner that died counting as the worst; settings given up "
        "on the way come last. Means and their 95 % intervals are over the learners alive. Being chosen flatters the "
        f"first: for what it is worth, add another seed.{left_out}"
    )
    return caption, drawn + table(rows, head, kind="wide")


def best_curves(folder: Path, ranked: Sequence[Row], groups: Sequence[Group]) -> tuple[str, str]:
    """Caption and figure: the learning curves of the first settings."""
    place = {setting: (i, at) for i, group in enumerate(groups) for at, setting in enumerate(group.settings)}
    read: dict[int, Curves] = {}
    traces = []
    for i, row in enumerate(ranked[:BEST]):
        group, at = place[row["setting"]]
        if group not in read:
            run = group_folder(folder, group)
            check_run(run)
            read[group] = read_curves(run, read_settings(run)[0], ["episode_return"])
        learners = at * row["learners"] + np.arange(row["learners"])
        band = learning_band(read[group], learners)
        if band is not None:
            added = mean_lines(band, f"{row['rank']}: {describe(row)}", i)
            added[-1]["line"]["dash"] = DASHES[i % len(DASHES)]  # settings that make no difference share a curve
            traces += added
    if not traces:
        return "No learner of the best settings that is alive finished an episode.", ""
    return overlaid(traces)


def effects(ranked: Sequence[Row]) -> tuple[str, str]:
    """Caption and a figure for each varied field."""
    shown = [row for row in ranked if row["iqm"] is not None]
    figures = [effect(name, shown) for name in ranked[0]["values"]] if shown else []
    if not figures:
        return "No setting has a learner that is alive.", ""
    caption = (
        "A point is a setting, by its value of the field; the line joins the means over all settings that share a "
        "value, or nearly share one, whatever their other fields. Settings given up on the way are hollow: they had "
        "less training."
    )
    return caption, grid(figures)


def effect(name: str, rows: Sequence[Row]) -> str:
    """The interquartile means of settings by one field, and their mean at each value."""
    texts = [row["values"][name] for row in rows]
    y = np.array([row["iqm"] for row in rows])
    at, axis = positions(texts)
    edges = np.unique(at) if len(set(texts)) <= GRID else np.quantile(at, np.linspace(0, 1, 9))[:-1]
    bins = np.searchsorted(edges, at, side="right")
    places, means = (np.array([x[bins == b].mean() for b in np.unique(bins)]) for x in (at, y))
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": short(at),
        "y": short(y),
        "text": [describe(row) for row in rows],
        "marker": {
            "color": COLORS[0],
            "size": 8,
            "opacity": 0.65,
            "symbol": ["circle-open" if row["given_up"] else "circle" for row in rows],
        },
        "hovertemplate": "%{text}: %{y}<extra></extra>",
        "showlegend": False,
    }
    mean = line(places, means, "mean of the settings", color=COLORS[1])
    traces = [mean | {"showlegend": False}, points] if len(means) > 1 else [points]
    return figure(traces, x=name, y="IQM return", height=300, title=name, layout={"xaxis": axis})


def positions(texts: Sequence[str]) -> tuple[np.ndarray, dict[str, Any]]:
    """Where the values of a field lie, and the axis: a place each for a few, else a scale, by what they span."""
    numbers = np.array([_float(text) for text in texts])
    different = list(dict.fromkeys(texts))
    if len(different) > GRID and np.isfinite(numbers).all():
        if numbers.min() > 0 and numbers.max() >= 30 * numbers.min():
            return numbers, {"type": "log"}
        return numbers, {}
    if np.isfinite(numbers).all():
        different.sort(key=float)
    ticks = {"tickvals": list(range(len(different))), "ticktext": different}
    return np.array([different.index(text) for text in texts], float), ticks | {"range": [-0.5, len(different) - 0.5]}


def describe(row: Row) -> str:
    """The values of a setting in one line."""
    return ", ".join(f"{name} {x}" for name, x in row["values"].items())


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _starting_point(program: Any, row: Row) -> str:
    """Algorithm and environment, as far as they do not vary."""
    algorithm = "several algorithms" if "algorithm" in row["values"] else program.algorithm
    return f"{algorithm} on {'several environments' if 'env' in row['values'] else program.env}"


def _headline(summary: dict[str, Any]) -> list[tuple[str, str]]:
    best = summary["settings"][0]
    return [
        ("Best setting", f"{', '.join(best['values'].values())}   {', '.join(best['values'])}"),
        ("Its IQM return", with_interval(best["iqm"], best["ci95"])),
        ("Settings", f"{len(summary['settings']):,}"),
        ("Alive", f"{summary['alive']:,} of {summary['learners']:,}   learners"),
        ("Steps per second", f"{rate(summary['env_steps_per_s'])}   all learners together"),
        ("Wall time", f"{summary['wall_s']:.1f} s   compiling {summary['compile_s']:.1f} s"),
    ]


def _commands(saved: dict[str, Any], ranked: Sequence[Row]) -> str:
    return command(saved.get("command") or "started from Python") + command(ranked[0]["train"])
