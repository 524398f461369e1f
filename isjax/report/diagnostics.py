"""What the metrics of a run show over time: how far off-policy it was, and how it was optimized."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from isjax.learner.metrics import METRICS, metric_of
from isjax.ops import RATIO_EDGES
from isjax.report.curves import Curves
from isjax.report.figures import kinds, shares, spread

TOGETHER = {
    "Ratios: smallest, mean and largest": {"ratio/max": "largest", "ratio/mean": "mean", "ratio/min": "smallest"},
    "KL of the acting from the learning policy": {"ratio/kl_k3": "estimate k3", "ratio/kl_k1": "estimate k1"},
    "Share of ratios that were clipped": {
        "ratio/clipped_rho": "above ρ̄",
        "ratio/clipped_c": "above c̄",
        "ratio/clipped": "by the loss",
    },
}
"""Metrics that share a figure, and what the legend calls them."""
_UNITS = dict(zip(TOGETHER, ("ratio", "nats", "share of rows"), strict=True))
_HISTOGRAM = "ratio/histogram"
_NOT_SHOWN = ("env_steps", "episode_return", "episodes", "alive", "died_at", _HISTOGRAM)
OFF_POLICY = (
    "Medians over the learners that are alive. Darker: the middle half of them; lighter: from the lowest to the "
    "highest. Ratios are those between two rows of the table, before clipping."
)
OPTIMIZATION = "Medians over the learners that are alive, the middle half of them, and all of them."


class Panels(NamedTuple):
    """Figures as HTML, and what did not need one."""

    figures: list[str]
    constant: list[str]
    """In words: what was the same for everyone, all along."""


def off_policy(curves: Curves, hyper: dict[str, Any]) -> Panels:
    """Effective sample size, ratios, clipping, KL and lag."""
    left = _shown(curves, "ratio/")
    panels = Panels([], [])
    _each(panels, {name: left.pop(name) for name in ("ratio/ess_fraction",) if name in left}, curves, hyper)
    for title, names in TOGETHER.items():
        found = {names[name]: left.pop(name) for name in names if name in left}
        _several(panels, title, _merged(found), curves, hyper)
    if _HISTOGRAM in curves.columns and curves.alive.any():
        panels.figures.insert(1, _histogram(curves))
    _each(panels, left, curves, hyper)
    return panels


def _histogram(curves: Curves) -> str:
    """How the ratios were spread, row by row of the table."""
    bounds = [f"{edge:.3g}" for edge in RATIO_EDGES]
    names = [f"below {bounds[0]}", *(f"{low} to {high}" for low, high in pairwise(bounds)), f"above {bounds[-1]}"]
    # An edge lies half a bin below the bin of its number; those nearest to 1 would write over each other.
    ticks = {place + 0.5: text for place, text in enumerate(bounds) if not 0.81 < float(text) < 1.24}
    return shares(
        np.mean(curves.columns[_HISTOGRAM][:, curves.alive], axis=1),
        curves.env_steps,
        names=names,
        ticks=ticks | {len(bounds) / 2: "1"},
        unit="ratio",
        title="Histogram of the ratios over time",
        note="Mean over the learners that are alive.",
    )


def optimization(curves: Curves, hyper: dict[str, Any]) -> Panels:
    """Losses, entropy, the gradient's norm, and whatever else an objective tells."""
    left = _shown(curves, "")
    panels = Panels([], [])
    known = {name: left[name] for name in METRICS if name in left}
    others = {name: x for name, x in left.items() if name not in known}
    _each(panels, {name: x for name, x in (known | others).items() if not name.startswith("ratio/")}, curves, hyper)
    return panels


def _shown(curves: Curves, prefix: str) -> dict[str, np.ndarray]:
    """The metrics of those alive, where there are any numbers."""
    names = [name for name in curves.columns if name.startswith(prefix) and name not in _NOT_SHOWN]
    found = {name: curves.columns[name][:, curves.alive] for name in names}
    return {name: x for name, x in found.items() if np.isfinite(x).any()}


def _each(panels: Panels, metrics: dict[str, np.ndarray], curves: Curves, hyper: dict[str, Any]) -> None:
    for name, x in metrics.items():
        called = metric_of(name)
        if is_constant(x):
            panels.constant.append(f"{_lower(called.title.partition(':')[0])} {_the_one(x):g}")
            continue
        marks = _mark(hyper, "max_grad_norm", x, "clipped above {}") if name == "loss/grad_norm" else ()
        figure = spread(x, curves.env_steps, name=called.title, unit=called.unit, title=called.title, marks=marks)
        panels.figures.append(figure)


def _several(panels: Panels, title: str, found: dict[str, np.ndarray], curves: Curves, hyper: dict[str, Any]) -> None:
    if not found:
        return
    if all(is_constant(x) for x in found.values()):
        values = ", ".join(dict.fromkeys(f"{_the_one(x):g}" for x in found.values()))
        panels.constant.append(f"{_lower(title.partition(':')[0])} {values}")
        return
    is_ratio = _UNITS[title] == "ratio"
    log = is_ratio and max(np.nanmax(x) for x in found.values()) > 30 * min(np.nanmin(x) for x in found.values())
    marks = _mark(hyper, "clip_rho", found.get("largest"), "ρ̄ = {}") if is_ratio else ()
    panels.figures.append(kinds(found, curves.env_steps, unit=_UNITS[title], title=title, log=log, marks=marks))


def _merged(metrics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those that are the same, as they are where two bounds are, under one name."""
    found: dict[str, np.ndarray] = {}
    for name, x in metrics.items():
        same = next((other for other, y in found.items() if np.array_equal(x, y, equal_nan=True)), None)
        found = {f"{k} and {name}" if k == same else k: y for k, y in found.items()} if same else found | {name: x}
    return found


def is_constant(x: np.ndarray) -> bool:
    """Whether all finite numbers are the same, up to rounding."""
    finite = x[np.isfinite(x)]
    return bool(np.ptp(finite) <= 1e-6 * max(1.0, float(abs(finite[0]))))


def _the_one(x: np.ndarray) -> float:
    return round(float(x[np.isfinite(x)][0]), 6)


def _mark(hyper: dict[str, Any], name: str, x: np.ndarray | None, text: str) -> tuple[tuple[float, str], ...]:
    """A line at a bound that all learners share, if they came near it."""
    bound = hyper.get(name)
    if x is None or not isinstance(bound, int | float) or not 0 < bound <= 2 * np.nanmax(x):
        return ()
    return ((float(bound), text.format(f"{bound:g}")),)


def _lower(text: str) -> str:
    return text if text[:2].isupper() else text[:1].lower() + text[1:]
