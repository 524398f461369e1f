"""The page of `isjax evaluate`: estimates with their intervals, verdicts, and the weights that they rest on."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from isjax.report.figures import COLORS, figure, intervals, line, short
from isjax.report.page import Html, bullets, cards, grid, section, table, write_page
from isjax.run.format import interval, number

POINTS = 400
"""Of a curve, at most."""
BARS, MOST_STATES = 60, 40
ANSWERS = {"yes": "Yes", "no": "No", "unclear": "Unclear"}


def write_evaluation(
    path: Path,
    ranking: Any,
    content: dict[str, Any],
    *,
    notes: Sequence[str],
    states: dict[str, tuple[float, float]] | None = None,
) -> Path:
    """Writes the page; returns its path.

    Args:
      path: the file.
      ranking: a `Ranking` of one target policy or several, as `isjax.ope.evaluate_targets` gives it.
      content: what `isjax evaluate --json` writes about it.
      notes: sentences about how it was made.
      states: by the name of a state, the share of steps in it under the policy that acted and, as estimated, under the
        first target; nothing if states are not known.

    Raises:
      ValueError: the path is a folder, or lies in none.
    """
    best = ranking.ranked[0].target
    of_best = ranking.evaluations[best]
    is_several = len(ranking.ranked) > 1
    name = Path(content["log"]).name
    size = f"{content['episodes']:,} episodes, {content['rows']:,} steps, γ = {content['discount']:.12g}"
    about = f" of {best}" if is_several else ""
    sections = [
        *([section("Targets, ranked", *_targets(ranking, content))] if is_several else []),
        section("Better than what ran?", *_better(of_best, content, about)),
        section(f"Estimates{about}", *_estimates(of_best, content)),
        section(f"Weights{about}", *_weights(of_best)),
        *([section("Effective sample size by step", *_steps(of_best))] if content["longest"] > 1 else []),
        *([section(f"States{about}", *_states(states))] if states else []),
        section("How it was made", "What was read, assumed and drawn.", bullets(notes)),
    ]
    return write_page(
        path, title=f"Evaluation of {name}", subtitle=f"{size}.", cards=_cards(ranking), sections=sections
    )


def _main(ranking: Any) -> Any:
    return ranking.evaluations[ranking.ranked[0].target].estimates[ranking.estimator]


def _cards(ranking: Any) -> str:
    evaluation, of = ranking.evaluations[ranking.ranked[0].target], _main(ranking)
    title = _title(ranking.estimator)
    trust = {"yes": "Trust it", "with care": "With care", "no": "Do not trust"}[of.trust]
    ran = f"{number(evaluation.behavior_value)}   ± {number(evaluation.behavior_standard_error)}, standard error"
    mean = f"{number(of.mean_weight)}   ± {number(of.mean_weight_standard_error)}; 1 expected"
    return cards(
        [
            ("Value of the target policy", f"{number(of.value)}   {interval((of.low, of.high))}, {title}"),
            ("Value of what ran", ran),
            ("Better than what ran", f"{ANSWERS[of.better]}   difference {number(of.difference)}"),
            ("Is it to be believed?", f"{trust}   Pareto k {number(of.pareto_k)}"),
            ("Effective sample size", f"{number(of.effective_sample_size)}   of {evaluation.episodes:,} episodes"),
            ("Mean weight", mean),
        ]
    )


def _ends(low: float, high: float) -> tuple[float, float] | None:
    return (low, high) if np.isfinite(low) and np.isfinite(high) else None


def _colored(of: Any) -> int:
    """The number of a color: blue for what can be trusted, another with care, another for what cannot be."""
    return {"yes": 0, "with care": 4, "no": 1}[of.trust]


def _targets(ranking: Any, content: dict[str, Any]) -> tuple[str, str]:
    level = f"{100 * content['level']:.10g} %"
    caption = (
        f"By the estimator {_title(ranking.estimator)}. Behind the first: the difference and its {level} "
        "interval, paired on the same resamples. What cannot be trusted comes last."
    )
    rows = []
    for of in ranking.ranked:
        judged = ranking.evaluations[of.target].estimates[ranking.estimator]
        behind = f"{number(of.behind)} ({interval((of.behind_low, of.behind_high))})" if rows else "—"
        ends = interval((judged.low, judged.high))
        numbers = (
            number(judged.value),
            ends,
            number(judged.effective_sample_size),
            judged.trust,
            judged.better,
            behind,
        )
        rows.append((Html.dotted(of.target, COLORS[_colored(judged)]), *numbers))
    head = ("Target", "Value", f"{level} interval", "ESS", "Trust", "Better than what ran", "Behind the first")
    chosen = [(of.target, ranking.evaluations[of.target].estimates[ranking.estimator]) for of in ranking.ranked]
    return caption, _dots(chosen) + table(rows, head, kind="wide")


def _dots(named: Sequence[tuple[str, Any]]) -> str:
    shown = [(name, of) for name, of in named if np.isfinite(of.value)]
    if not shown:
        return ""
    names, found = zip(*shown, strict=True)
    ends = [_ends(of.low, of.high) for of in found]
    return intervals(names, [of.value for of in found], ends, x="value", numbers=[_colored(of) for of in found])


def _title(name: str) -> str:
    """The name of an estimator for people."""
    return name.removesuffix("_is").replace("_", " ")


def _better(evaluation: Any, content: dict[str, Any], about: str) -> tuple[str, str]:
    level = f"{100 * content['level']:.10g} %"
    caption = (
        f"The value{about} minus the mean return of the policy that acted, of the same episodes and resamples, with "
        f"bounds of {level} from one side each. Unclear, too, where the estimate is not to be trusted."
    )
    rows = [
        (
            _title(name),
            ANSWERS[of.better],
            number(of.difference),
            f"at least {number(of.difference_low)}, at most {number(of.difference_high)}",
        )
        for name, of in evaluation.estimates.items()
    ]
    return caption, table(rows, ("Estimator", "Better?", "Difference", f"Bounds, {level} each"), kind="wide")


def _estimates(evaluation: Any, content: dict[str, Any]) -> tuple[str, str]:
    level = f"{100 * content['level']:.10g} %"
    rows = [
        (
            Html.dotted(_title(name), COLORS[_colored(of)]),
            number(of.value),
            interval((of.low, of.high)),
            number(of.effective_sample_size),
            number(of.pareto_k),
            of.trust,
        )
        for name, of in evaluation.estimates.items()
    ]
    head = ("Estimator", "Value", f"{level} interval", "ESS", "Pareto k", "Trust")
    caption = "Blue: to be trusted. Ocher: with care. Orange: not to be trusted; the verdict says why."
    dots = _dots([(_title(name), of) for name, of in evaluation.estimates.items()])
    verdicts: dict[str, list[str]] = {}
    for name, of in evaluation.estimates.items():
        verdicts.setdefault(of.verdict, []).append(_title(name))
    said = "".join(
        f"<p><b>{escape(', '.join(names).capitalize())}:</b> {escape(verdict)}.</p>"
        for verdict, names in verdicts.items()
    )
    return caption, dots + table(rows, head, kind="wide") + said


def _weights(evaluation: Any) -> tuple[str, str]:
    log_weight = np.asarray(evaluation.log_weight, np.float64)
    finite = log_weight[np.isfinite(log_weight)]
    zeros = len(log_weight) - len(finite)
    caption = "Products of the ratios of whole episodes. " + (
        f"{zeros:,} of {len(log_weight):,} episodes have weight 0." if zeros else "No episode has weight 0."
    )
    if not len(finite):
        return caption, ""
    share = np.cumsum(np.sort(np.exp(finite - finite.max()))[::-1])
    share = share / share[-1]
    at = np.unique(np.round(np.geomspace(1, len(share), min(POINTS, len(share)))).astype(int)) - 1
    curve = line(at + 1, share[at], "share of all weight") | {"showlegend": False}
    if len(at) < 3:
        curve["mode"] = "lines+markers"
    heaviest = figure(
        [curve],
        x="heaviest episodes",
        y="share of all weight",
        height=290,
        title="How few episodes carry the weight",
        layout={"xaxis": {"type": "log", "dtick": 1}, "yaxis": {"range": [0, 1.03]}},
    )
    return caption, grid([heaviest, _histogram(finite)])


def _histogram(log_weight: np.ndarray) -> str:
    low, high = float(log_weight.min()), float(log_weight.max())
    margin = 0.0 if high - low > 1e-6 * max(1.0, abs(low), abs(high)) else 0.5
    counts, edges = np.histogram(
        log_weight, min(BARS, max(10, int(np.sqrt(len(log_weight))))), (low - margin, high + margin)
    )
    bars = {
        "type": "bar",
        "x": short(0.5 * (edges[1:] + edges[:-1])),
        "y": counts.tolist(),
        "width": short(np.diff(edges)),
        "marker": {"color": COLORS[0]},
        "hovertemplate": "log-weight about %{x}: %{y} episodes<extra></extra>",
        "showlegend": False,
    }
    title, note = "Log-weights of episodes", "0: the target policy does what was done as often as the one that acted."
    return figure([bars], x="log-weight", y="episodes", height=290, title=title, note=note)


def _states(states: dict[str, tuple[float, float]]) -> tuple[str, str]:
    """The states visited most by either policy."""
    shown = sorted(states, key=lambda name: -max(states[name]))[:MOST_STATES]
    ran, target = (short([states[name][i] for name in shown]) for i in (0, 1))
    bars = [
        {"type": "bar", "x": [escape(name) for name in shown], "y": y, "name": called, "marker": {"color": color}}
        for y, called, color in ((ran, "the policy that acted", COLORS[6]), (target, "the target policy", COLORS[0]))
    ]
    caption = (
        "The share of steps in each state, under the policy that acted and, from the ratios of states at each step, "
        "under the target policy: where it would go that the log has seldom been, estimates rest on little."
    )
    more = f" The {len(shown)} most visited of {len(states):,}." if len(shown) < len(states) else ""
    layout = {"xaxis": {"type": "category"}, "barmode": "group"}
    return caption + more, figure(bars, x="state", y="share of steps", height=320, layout=layout)


def _steps(evaluation: Any) -> tuple[str, str]:
    effective, running = np.asarray(evaluation.effective_t), np.asarray(evaluation.running_t, np.float64)
    step = np.arange(len(running))
    at = np.unique(np.round(np.linspace(0, len(step) - 1, min(POINTS, len(step)))).astype(int))
    traces = [
        line(step[at], np.maximum(effective[at], 0.1), "effective sample size of the products of ratios"),
        line(step[at], np.maximum(running[at], 0.1), "episodes that are running", color=COLORS[6], dash="dot"),
    ]
    marks = ((10.0, "10: not to be trusted below"), (100.0, "100: with care below"))
    shown = tuple(mark for mark in marks if mark[0] < evaluation.episodes)
    caption = "The product of ratios so far, over all episodes; those that ended keep the product they ended with."
    return caption, figure(
        traces, x="step", y="episodes", height=320, log=True, marks=shown, layout={"xaxis": {"rangemode": "tozero"}}
    )
