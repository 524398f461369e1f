"""Numbers as people read them: on a terminal, and on a page."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def number(x: float | None) -> str:
    """Four digits or so; a dash for nothing."""
    if x is None or not np.isfinite(x):
        return "—"
    return f"{x:.1f}" if 10 <= abs(x) < 1e5 else f"{x:.3g}"


def rate(steps_per_s: float | None) -> str:
    """1.02 M, 340 k."""
    if steps_per_s is None or not np.isfinite(steps_per_s):
        return "—"
    if steps_per_s >= 1e6:
        return f"{steps_per_s / 1e6:.2f} M"
    return f"{steps_per_s / 1e3:.0f} k" if steps_per_s >= 1e4 else f"{steps_per_s:.0f}"


def size(count: float) -> str:
    """340 MB, 1.2 GB."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def interval(ends: Sequence[float] | None) -> str:
    """1 to 3; a dash for none."""
    return f"{number(ends[0])} to {number(ends[1])}" if ends else "—"


def with_interval(middle: float | None, ends: Sequence[float] | None) -> str:
    """A number, and its interval where there is one."""
    return number(middle) + (f"   95 % interval {interval(ends)}" if ends else "")


def headline(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """The numbers that a summary comes down to, named."""
    final = summary["final_return"]
    scores = [x for x in final["per_learner"] if x is not None]
    left_out = summary["learners"] - len(scores) if final["per_learner"] else 0
    extremes = f"{number(min(scores))} / {number(max(scores))}" if scores else "—"
    alive = f"{summary['alive']} of {summary['learners']} learners"
    stuck = sum("cause" in entry for entry in summary.get("died", []))
    given_up = summary.get("episodes_given_up", 0)
    unfinished = [("Given up", f"{given_up:,} evaluated episodes without an end, their returns as far as they came")]
    return [
        ("IQM return", with_interval(final["iqm"], final["ci95"])),
        ("Worst / best learner", extremes),
        ("Alive", alive + (f"   {left_out} left out of the above" if left_out else "")),
        *([("No legal action", f"{stuck:,} of the dead came to a state without any")] if stuck else []),
        *(unfinished if given_up else []),
        ("Steps per second", f"{rate(summary['env_steps_per_s'])}   all learners together"),
        ("Compiling", f"{summary['compile_s']:.1f} s"),
        ("Wall time", f"{summary['wall_s']:.1f} s"),
    ]
