"""What a run says while it goes on, and at its end."""

import contextlib
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from isjax.run.scores import over_learners

LONGEST_WORD = 30
"""In a table, what is longer, such as a path, may go on in the next line."""
PLAIN_SECONDS = 10.0
"""Where there is no terminal, a line is written about so often."""


class Glance(Protocol):
    """Shows how far a run is."""

    def note(self, text: str) -> None:
        """Says one thing, on a line of its own."""
        ...

    def start(self, update: int, updates: int) -> None:
        """Training begins, at `update` of `updates`."""
        ...

    def show(self, update: int, steps_per_s: float, metrics: dict[str, np.ndarray]) -> None:
        """`metrics` of the last chunk, which ended at `update`."""
        ...

    def stop(self) -> None:
        """Nothing more to show."""
        ...


class Silent:
    """Says nothing."""

    def note(self, text: str) -> None:
        """Drops it."""

    def start(self, update: int, updates: int) -> None:
        """Drops it."""

    def show(self, update: int, steps_per_s: float, metrics: dict[str, np.ndarray]) -> None:
        """Drops it."""

    def stop(self) -> None:
        """Nothing to do."""


class Lines:
    """Plain lines for a file or a pipe."""

    def __init__(self) -> None:
        self._updates = 0
        self._last = -np.inf

    def note(self, text: str) -> None:
        """Writes the line, if there is anyone to read it: a run does not end because nobody looks."""
        with contextlib.suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)

    def start(self, update: int, updates: int) -> None:
        """Remembers how far it will go."""
        self._updates = updates

    def show(self, update: int, steps_per_s: float, metrics: dict[str, np.ndarray]) -> None:
        """Writes a line if the last one is old enough, or this is the end."""
        now = time.monotonic()
        if now - self._last >= PLAIN_SECONDS or update == self._updates:
            self._last = now
            share = f"{update / self._updates:4.0%}"
            self.note(f"{share}  update {update} of {self._updates}  {describe(steps_per_s, metrics)}")

    def stop(self) -> None:
        """Nothing to do."""


class Bar:
    """A bar with rate, time left, return so far and who is alive."""

    def __init__(self, console: Console) -> None:
        columns = (
            TaskProgressColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.description}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
        )
        self._progress = Progress(*columns, console=console, expand=True)
        self._console = console
        self._task: TaskID | None = None

    def note(self, text: str) -> None:
        """Prints above the bar."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def start(self, update: int, updates: int) -> None:
        """Draws the bar, or begins it again for the next part."""
        if self._task is None:
            self._task = self._progress.add_task("", total=updates, completed=update)
            self._progress.start()
        else:
            self._progress.reset(self._task, total=updates, completed=update, description="")

    def show(self, update: int, steps_per_s: float, metrics: dict[str, np.ndarray]) -> None:
        """Moves the bar."""
        assert self._task is not None
        self._progress.update(self._task, completed=update, description=describe(steps_per_s, metrics))

    def stop(self) -> None:
        """Leaves the bar as it is."""
        self._progress.stop()


def glance(quiet: bool) -> Glance:
    """A bar on a terminal, lines elsewhere, or nothing; on stderr."""
    if quiet:
        return Silent()
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else Lines()


def describe(steps_per_s: float, metrics: dict[str, np.ndarray]) -> str:
    """One line about a chunk: return, who is alive, rate."""
    alive, mean = metrics["alive"], over_learners(metrics).get("episode_return")
    return f"return {number(mean)}  alive {alive.sum()}/{alive.size}  {rate(steps_per_s)} steps/s"


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


def headline(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """The numbers that a summary comes down to, named."""
    final = summary["final_return"]
    scores = [x for x in final["per_learner"] if x is not None]
    low, high = final["ci95"] or (None, None)
    left_out = summary["learners"] - len(scores) if final["per_learner"] else 0
    interval = f"   95 % interval {number(low)} to {number(high)}" if low is not None else ""
    extremes = f"{number(min(scores))} / {number(max(scores))}" if scores else "—"
    alive = f"{summary['alive']} of {summary['learners']} learners"
    stuck = sum("cause" in entry for entry in summary.get("died", []))
    given_up = summary.get("episodes_given_up", 0)
    unfinished = [("Given up", f"{given_up:,} evaluated episodes without an end, their returns as far as they came")]
    return [
        ("IQM return", f"{number(final['iqm'])}{interval}"),
        ("Worst / best learner", extremes),
        ("Alive", alive + (f"   {left_out} left out of the above" if left_out else "")),
        *([("No legal action", f"{stuck:,} of the dead came to a state without any")] if stuck else []),
        *(unfinished if given_up else []),
        ("Steps per second", f"{rate(summary['env_steps_per_s'])}   all learners together"),
        ("Compiling", f"{summary['compile_s']:.1f} s"),
        ("Wall time", f"{summary['wall_s']:.1f} s"),
    ]


def print_summary(summary: dict[str, Any], folder: Path) -> None:
    """The table at the end, on stdout."""
    title = f"{summary['algorithm']} on {summary['environment']}, {summary['env_steps_per_learner']:,} steps a learner"
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for row in headline(summary):
        table.add_row(*row)
    table.add_row("Run folder", str(folder))
    print_whole(table)


def print_whole(table: Table) -> None:
    """Prints a table, wider than the terminal where a number or a word would have to be cut otherwise."""
    for column in table.columns:
        cells = [str(cell) for cell in (column.header, *column.cells)]
        words = cells if column.no_wrap else [word for cell in cells for word in cell.split()]
        column.min_width = min(LONGEST_WORD, max(map(len, words), default=0))
    console = Console()
    console.width = max(console.width, sum((column.min_width or 0) + 3 for column in table.columns) + 1)
    console.print(table, highlight=False, markup=False)
