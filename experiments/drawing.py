"""One look for the figures of all experiments."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, PURPLE, BROWN = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#9467bd", "#8c564b"
BLACK, GRAY = "#222222", "#888888"


def panels(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, np.ndarray]:
    """A figure of `size` inches, and its axes `[rows, columns]`."""
    drawing = Figure(figsize=size, layout="constrained")
    axes = drawing.subplots(rows, columns, squeeze=False)
    for each in axes.flat:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(alpha=0.25, linewidth=0.6)
        each.set_axisbelow(True)
    return drawing, axes


def title(axes: Axes, text: str) -> None:
    """What a panel shows, above it on the left."""
    axes.set_title(text, loc="left", fontsize=10, fontweight="bold")


def band(axes: Axes, x: Sequence[float], summary: dict[str, Any], **look: Any) -> None:
    """A line with its interval, as `experiment.summary` gives them."""
    (line,) = axes.plot(x, summary["value"], **({"marker": "o", "markersize": 3.5, "linewidth": 1.5} | look))
    axes.fill_between(x, summary["low"], summary["high"], color=line.get_color(), alpha=0.18, linewidth=0)


def exact(axes: Axes, x: Sequence[float], y: Sequence[float], label: str, **look: Any) -> None:
    """What is known without sampling, dashed."""
    axes.plot(x, y, **({"color": BLACK, "linewidth": 1.0, "linestyle": "dashed", "label": label} | look))


def legend(axes: Axes, **options: Any) -> None:
    """Without a frame, small."""
    axes.legend(**({"frameon": False, "fontsize": 8} | options))
