"""The page of one run."""

from pathlib import Path
from typing import Any

import numpy as np

from isjax.report import diagnostics
from isjax.report.curves import Curves, learning_band, read_curves
from isjax.report.figures import COLORS, STEPS, figure, learner_lines, line, mean_lines, short
from isjax.report.page import Html, bullets, cards, command, film, grid, section, table, value, write_page
from isjax.run.files import FILMS, REPORT, Damaged
from isjax.run.films import films_of, title_of
from isjax.run.format import headline, number, rate
from isjax.run.integrity import SUMMARY_SHAPE, check_run, read_settings, read_summary

DIED_SHOWN = 50
"""Learners that are named in the list of the dead, at most."""
FILMS_SHOWN = 4


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Writes the page of a run from what its folder holds, also of one that is not finished; returns its path.

    Args:
      folder: of the run.
      out: the file; `report.html` in the folder if left out.

    Raises:
      ValueError: the folder holds no run, or no rows yet.
    """
    settings, summary = read_run(folder)
    curves = read_curves(folder, settings)
    config = settings["config"]
    off_policy = diagnostics.off_policy(curves, settings["hyper"])
    optimization = diagnostics.optimization(curves, settings["hyper"])
    sections = [
        section("Learning curve", *learning_curve(curves)),
        section("Final returns", *final_returns(summary)),
        *([section("Films", *films(folder))] if (folder / FILMS).is_dir() else []),
        section("Off-policy diagnostics", *_panels(diagnostics.OFF_POLICY, off_policy)),
        section("Optimization", *_panels(diagnostics.OPTIMIZATION, optimization)),
        section("Who died", *died(summary, curves)),
        section("Speed", *speed(summary)),
        section("Configuration", *configuration(settings)),
    ]
    status = summary.get("status", "running, or stopped without an end")
    return write_page(
        out or folder / REPORT,
        title=f"{config['algorithm']} on {config['env']}",
        subtitle=f"{settings['learners']:,} learners, seed {settings['seed']}, started {when(settings)}: {status}.",
        cards=_cards(settings, summary, curves),
        sections=sections,
    )


def read_run(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of a run, and its summary, which is empty while there is none.

    Raises:
      ValueError: the folder holds no run.
      Damaged: what it holds is not what was written.
    """
    settings, _, _ = read_settings(folder)
    summary = read_summary(folder, SUMMARY_SHAPE)
    if summary and summary["learners"] != settings["learners"]:
        raise Damaged(
            f"{folder} holds a summary of {summary['learners']} learners, but a run of {settings['learners']}."
        )
    check_run(folder)
    return settings, summary


def when(settings: dict[str, Any]) -> str:
    """The minute at which a run started."""
    return settings["started"].replace("T", " ")[:16] + " UTC"


def learning_curve(curves: Curves) -> tuple[str, str]:
    """Caption and figure: the interquartile mean with its interval, over single learners."""
    band = learning_band(curves)
    if band is None:
        return "No learner that is alive finished an episode.", ""
    caption = (
        f"Interquartile mean of {band.learners.size:,} learners with its 95 % bootstrap interval, over single "
        "learners. A point is the mean return of the training episodes that ended since the row before, or the last "
        "such mean; learners that died are left out."
    )
    traces = [*learner_lines(band), *mean_lines(band, "IQM and 95 % interval")]
    traces[-1]["showlegend"] = True
    return caption, figure(traces, x=STEPS, y="episode return", height=420)


def final_returns(summary: dict[str, Any]) -> tuple[str, str]:
    """Caption and histogram of the last evaluation."""
    scores = final_scores(summary)
    if not scores.size:
        return "There is no evaluation: the run did not reach its end, or no learner is alive.", ""
    if scores.min() == scores.max():
        return f"The same for all {scores.size:,} learners alive: {number(scores[0])}.", ""
    histogram = {
        "type": "histogram",
        "x": short(scores),
        "nbinsx": 30,
        "marker": {"color": COLORS[0]},
        "hovertemplate": "%{y} learners at %{x}<extra></extra>",
    }
    final = summary["final_return"]
    marks = {
        "shapes": [_upright(final["iqm"], "solid"), *(_upright(end, "dot") for end in final["ci95"] or ())],
    }
    caption = (
        f"Mean return of each of the {scores.size:,} learners alive, evaluated after the last update on keys of its "
        "own. The line is the interquartile mean, the dotted ones are the ends of its 95 % interval."
    )
    return caption, figure([histogram], x="return", y="learners", height=300, layout=marks)


def final_scores(summary: dict[str, Any]) -> np.ndarray:
    """The last evaluation of those that have one."""
    return np.array([x for x in summary.get("final_return", {}).get("per_learner", []) if x is not None], float)


def _upright(x: float, dash: str) -> dict[str, Any]:
    return {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": x, "x1": x, "line": {"dash": dash, "width": 2}}


def films(folder: Path) -> tuple[str, str]:
    """Caption and films of a run, from the first one to the last."""
    found = films_of(folder)
    if not found:
        return "There is none that a page can show.", ""
    shown = np.unique(np.linspace(0, len(found) - 1, FILMS_SHOWN).round().astype(int))
    caption = f"An episode of the learner that was best at the time; {FILMS}/ holds all {len(found):,}."
    return caption, grid([film(found[i], title_of(found[i])) for i in shown])


def died(summary: dict[str, Any], curves: Curves) -> tuple[str, str]:
    """Who, and at which update; and how many were left over time."""
    if "died" in summary:
        found = [(entry["learner"], entry["update"]) for entry in summary["died"]]
        causes = {entry["learner"]: f": {entry['cause']}" for entry in summary["died"] if "cause" in entry}
    else:
        causes = {}
        latest = np.nanmax(curves.columns["died_at"], axis=0, initial=-1.0)
        found = [(int(i), int(latest[i])) for i in np.flatnonzero(latest >= 0)]
    if not found:
        return "Nobody: parameters and losses of every learner stayed finite.", ""
    caption = (
        "Something they are made of stopped being finite at that update. They are frozen since, and count nowhere."
    )
    lost = np.searchsorted(np.sort([update for _, update in found]), curves.update, side="right")
    total = curves.alive.size
    left = line(curves.env_steps, total - lost, "not dead")
    left["line"]["shape"] = "hv"
    layout = {"yaxis": {"rangemode": "tozero"}}
    drawn = figure([left], x=STEPS, y="learners not dead", height=260, layout=layout)
    rows = sorted(found, key=lambda each: (each[1], each[0]))
    named = [f"learner {i} at update {update:,}{causes.get(i, '')}" for i, update in rows[:DIED_SHOWN]]
    named += [f"and {len(rows) - DIED_SHOWN:,} more"] if len(rows) > DIED_SHOWN else []
    return f"{len(found):,} of {total:,}. {caption}", drawn + bullets(named)


def speed(summary: dict[str, Any]) -> tuple[str, str]:
    """Steps per second, and where the time went."""
    if not summary:
        return "Known once the run has come to an end or a stop.", ""
    total, steps = summary["env_steps_per_s"], summary["env_steps_per_learner"]
    compiling, training = summary["compile_s"], summary["train_s"]
    rest = max(summary["wall_s"] - compiling - training, 0.0)
    parts = {"compiling": compiling, "training": training, "everything else": rest}
    bars = "".join(
        f'<div style="flex: {seconds:.4g} 0 0; background: {color}"></div>'
        for seconds, color in zip(parts.values(), COLORS, strict=False)
    )
    legend = [
        (Html.dotted(name, color), f"{seconds:.1f} s")
        for (name, seconds), color in zip(parts.items(), COLORS, strict=False)
    ]
    rows = [
        *legend,
        ("steps per second, all learners together", rate(total)),
        ("steps per second of a learner", rate(total / summary["learners"] if total else None)),
        ("updates per second", number(summary["updates"] / training if training > 0 else None)),
        ("steps of a learner", f"{steps:,}"),
        ("device", summary["device"]),
    ]
    caption = (
        "Training counts from the first chunk to the last, with the writing of rows and checkpoints. The table holds "
        "no clock: there is no speed over time."
    )
    return caption, f'<div class="share">{bars}</div>' + table(rows)


def configuration(settings: dict[str, Any]) -> tuple[str, str]:
    """The command, and every setting."""
    tables = "".join(table(part.items()) for part in settings_as_text(settings))
    body = command_of(settings) + f'<div class="settings">{tables}</div>'
    return "The command that repeats this run, and everything it came down to.", body


def settings_as_text(settings: dict[str, Any]) -> list[dict[str, str]]:
    """Everything that decides numbers, speed or versions: numbers of the run, config, hyper, versions."""
    numbers = {name: settings[name] for name in ("learners", "seed", "log_every", "device")}
    parts = (numbers, settings["config"], settings["hyper"], settings["versions"])
    return [{name: value(x) for name, x in part.items()} for part in parts]


def command_of(settings: dict[str, Any]) -> str:
    """The command line that repeats a run, to copy."""
    return command(settings.get("command") or "started from Python")


def _panels(caption: str, panels: diagnostics.Panels) -> tuple[str, str]:
    same = f"The same for all learners from the first row to the last: {'; '.join(panels.constant)}."
    if not panels.figures:
        return same if panels.constant else "There is nothing to show.", ""
    return caption, grid(panels.figures) + (f'<p class="soft small">{same}</p>' if panels.constant else "")


def _cards(settings: dict[str, Any], summary: dict[str, Any], curves: Curves) -> str:
    if summary:
        return cards(headline(summary))
    return cards(
        [("Trained", f"{curves.update[-1]:,} updates"), ("Alive", f"{curves.alive.sum()} of {settings['learners']}")]
    )
