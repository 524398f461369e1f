"""The page of several runs next to each other."""

import html
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isjax.randomness import Domain, generator
from isjax.report.curves import Band, learning_band, read_curves
from isjax.report.figures import COLORS, DASHES, figure, intervals, line, mean_lines, overlaid
from isjax.report.page import Html, cards, details, grid, section, table, write_page
from isjax.report.run import command_of, final_scores, read_run, settings_as_text
from isjax.run.format import interval, number, rate, with_interval
from isjax.stats.ranked import improvement

COMPARISON = Path("comparison.html")
MOST_RUNS = 32
"""Compared on one page; beyond, no figure can be read."""


class Compared(NamedTuple):
    """One of the runs."""

    name: str
    settings: dict[str, Any]
    summary: dict[str, Any]
    band: Band | None
    """Its learning curve, if anyone finished an episode."""
    scores: np.ndarray
    """`[l]`, the last evaluation of those alive; empty while there is none."""


def write_comparison(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Writes a page about several runs, finished or not; returns its path.

    Args:
      folders: of the runs.
      out: the file; `comparison.html` in the current folder if left out.

    Raises:
      ValueError: a folder holds no run or no rows yet, or one is there twice, or there are too many.
    """
    if len(folders) > MOST_RUNS:
        raise ValueError(f"{len(folders)} runs are too many to compare on one page; {MOST_RUNS} are the most.")
    resolved = [folder.resolve() for folder in folders]
    twice = next((folder for folder, place in zip(folders, resolved, strict=True) if resolved.count(place) > 1), None)
    if twice:
        raise ValueError(f"{twice} is there twice.")
    runs = [_read(folder, name) for folder, name in zip(folders, names_of(resolved), strict=True)]
    algorithms = list(dict.fromkeys(run.settings["config"]["algorithm"] for run in runs))
    environments = list(dict.fromkeys(run.settings["config"]["env"] for run in runs))
    warning = "" if len(environments) == 1 else " Returns of different environments say nothing about each other."
    sections = [
        section("Learning curves", *curves(runs)),
        section("Final returns", *final_returns(runs)),
        section("Probability of improvement", *improvements(runs)),
        section("Differences", *differences(runs)),
        section("Commands", "What repeats each run.", "".join(_again(run) for run in runs)),
    ]
    return write_page(
        out or COMPARISON,
        title=f"{len(runs)} runs of {', '.join(algorithms)} on {', '.join(environments)}",
        subtitle=f"{', '.join(run.name for run in runs)}.{warning}",
        cards=cards(_headline(runs)),
        sections=sections,
    )


def names_of(folders: Sequence[Path]) -> list[str]:
    """What tells the folders apart: their names, or their paths from where they part.

    >>> names_of([Path("/runs/first"), Path("/runs/second")]), names_of([Path("/a/x/run"), Path("/a/y/run")])
    (['first', 'second'], ['x/run', 'y/run'])
    """
    names = [folder.name for folder in folders]
    if len(set(names)) == len(names):
        return names
    shared = os.path.commonpath(folders)
    return [os.path.relpath(folder, shared) for folder in folders]


def curves(runs: Sequence[Compared]) -> tuple[str, str]:
    """Caption and figure: interquartile means over each other."""
    traces = [trace for i, run in enumerate(runs) if run.band for trace in mean_lines(run.band, run.name, i)]
    if not traces:
        return "No learner that is alive finished an episode.", ""
    return overlaid(traces)


def final_returns(runs: Sequence[Compared]) -> tuple[str, str]:
    """Caption, table and figures of the last evaluations."""
    evaluated = [(i, run) for i, run in enumerate(runs) if run.scores.size]
    head = ("Run", "IQM", "95 % interval", "Mean", "Worst", "Best", "Alive", "Steps a learner", "Steps/s", "Status")
    body = table([_row(i, run) for i, run in enumerate(runs)], head, kind="wide")
    if not evaluated:
        return "No run has an evaluation yet: it comes after the last update.", body
    ends = [run.summary["final_return"]["ci95"] for _, run in evaluated]
    middles = [run.summary["final_return"]["iqm"] for _, run in evaluated]
    names, numbers = [run.name for _, run in evaluated], [i for i, _ in evaluated]
    means = intervals(names, middles, ends, x="return", numbers=numbers, title="IQM and 95 % interval")
    caption = (
        "Mean returns of each learner alive, evaluated after the last update: how many learners reach a return, and "
        "what the middle half of them comes to."
    )
    return caption, body + grid([means, profiles(evaluated)])


def profiles(evaluated: Sequence[tuple[int, Compared]]) -> str:
    """The share of learners that reach a return, for all returns."""
    traces = []
    for i, run in evaluated:
        x = np.sort(run.scores)
        kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), 400)).round().astype(int))
        share = 1 - kept / len(x)
        color, dash = COLORS[i % len(COLORS)], DASHES[i // len(COLORS) % len(DASHES)]
        trace = line(np.append(x[kept], x[-1]), np.append(share, 0.0), run.name, color=color, dash=dash)
        trace["line"]["shape"] = "vh"
        trace["hovertemplate"] = "%{y:.0%} reach %{x}" + trace["hovertemplate"].replace("%{y}", "")
        traces.append(trace | {"showlegend": True})
    layout = {"yaxis": {"tickformat": ".0%", "range": [0, 1.02]}}
    height = max(300, 90 + 34 * len(evaluated))
    return figure(traces, x="return", y="learners that reach it", height=height, title="Distribution", layout=layout)


def improvements(runs: Sequence[Compared]) -> tuple[str, str]:
    """Caption and table: how often a learner of a row's run beats one of a column's."""
    known = [(i, run) for i, run in enumerate(runs) if run.scores.size]
    if len(known) < 2:
        return "At least two runs must have come to their end.", ""
    cells: dict[tuple[int, int], Html] = {}
    for (i, x), (k, y) in itertools.combinations(known, 2):
        found, low, high = improvement(generator(0, Domain.REPORT_IMPROVEMENT), x.scores, y.scores)
        cells[i, k], cells[k, i] = _pair(found, low, high), _pair(1 - found, 1 - high, 1 - low)
    rows = [[_label(i, x), *(cells.get((i, k), "") for k, _ in known)] for i, x in known]
    caption = (
        "How likely a learner of the run in the row has a higher final return than one of the run in the column, ties "
        "counting half, with its 95 % bootstrap interval; the learners of either run are drawn on their own. Colored "
        "where the interval leaves out one half: green is better than the column, orange is worse. "
        "Agarwal et al. 2021, section 4.3."
    )
    return caption, table(rows, ("", *(_label(k, run) for k, run in known)), kind="pairs wide")


def differences(runs: Sequence[Compared]) -> tuple[str, str]:
    """Caption and tables: the settings in which runs differ, and the others at a click."""
    flat = [{name: x for part in settings_as_text(run.settings) for name, x in part.items()} for run in runs]
    names = list(dict.fromkeys(name for settings in flat for name in settings))
    rows = {name: [settings.get(name, "—") for settings in flat] for name in names}
    same = [(name, values[0]) for name, values in rows.items() if len(set(values)) == 1]
    different = [(name, *values) for name, values in rows.items() if len(set(values)) > 1]
    shared = details(f"{len(same)} settings that they share", f'<div class="settings">{table(same)}</div>')
    if not different:
        return "There are none: the runs were started with the same settings.", shared
    head = ("Setting", *(_label(i, run) for i, run in enumerate(runs)))
    return "Settings in which at least two of the runs differ.", table(different, head, kind="wide") + shared


def _read(folder: Path, name: str) -> Compared:
    settings, summary = read_run(folder)
    band = learning_band(read_curves(folder, settings, ["episode_return"]))
    return Compared(name, settings, summary, band, final_scores(summary))


def _pair(found: float, low: float, high: float) -> Html:
    kind = "more" if low > 0.5 else "less" if high < 0.5 else ""
    return Html(f'<b>{found:.2f}</b><br><span class="soft small">{low:.2f} to {high:.2f}</span>', kind)


def _label(number: int, run: Compared) -> Html:
    return Html.dotted(run.name, COLORS[number % len(COLORS)])


def _row(number_of_run: int, run: Compared) -> list[Any]:
    summary, final = run.summary, run.summary.get("final_return", {})
    worst, best = (run.scores.min(), run.scores.max()) if run.scores.size else (None, None)
    steps = summary.get("env_steps_per_learner")
    return [
        _label(number_of_run, run),
        number(final.get("iqm")),
        interval(final.get("ci95")),
        number(final.get("mean")),
        number(worst),
        number(best),
        f"{summary['alive']:,} of {summary['learners']:,}" if summary else "—",
        f"{steps:,}" if steps is not None else "—",
        rate(summary.get("env_steps_per_s")),
        summary.get("status", "running, or stopped"),
    ]


def _headline(runs: Sequence[Compared]) -> list[tuple[str, str]]:
    """The run that came out best, if one did."""
    found = [("Runs", str(len(runs))), ("Learners", f"{sum(run.settings['learners'] for run in runs):,}")]
    evaluated = [run for run in runs if run.scores.size]
    if not evaluated:
        return found
    best = max(evaluated, key=lambda run: run.summary["final_return"]["iqm"])
    final = best.summary["final_return"]
    return [("Highest IQM", best.name), ("Its IQM return", with_interval(final["iqm"], final["ci95"])), *found]


def _again(run: Compared) -> str:
    return f"<h3>{html.escape(run.name)}</h3>" + command_of(run.settings)
