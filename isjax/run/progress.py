"""What a run says while it goes on."""

import contextlib
import sys
import time

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from isjax.run.format import number, rate
from isjax.run.scores import over_learners

PLAIN_SECONDS = 10.0
"""Where there is no terminal, a line is written about so often."""


class ProgressReporter:
    """Shows how far a run is; this one says nothing."""

    def note(self, text: str) -> None:
        """Says one thing, on a line of its own."""

    def start(self, update: int, updates: int) -> None:
        """Training begins, at `update` of `updates`."""

    def show(self, update: int, steps_per_s: float, metrics: dict[str, np.ndarray]) -> None:
        """`metrics` of the last chunk, which ended at `update`."""

    def stop(self) -> None:
        """Nothing more to show."""


class Lines(ProgressReporter):
    """Plain lines for a file or a pipe."""

    def __init__(self) -> None:
        self._start = self._updates = 0
        self._began = 0.0
        self._last = -np.inf

    def note(self, text: str) -> None:
        """Writes the line, if there is anyone to read it: a run does not end because nobody looks."""
        with contextlib.suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)

    def start(self, update: int, updates: int) -> None:
        """Remembers where and when it begins, and how far it will go."""
        self._start, self._updates = update, updates
        self._began = time.monotonic()

    def show(self, update: int, steps_per_s: float, metrics: dict[str, np.ndarray]) -> None:
        """Writes a line if the last one is old enough, or this is the end."""
        now = time.monotonic()
        if now - self._last >= PLAIN_SECONDS or update == self._updates:
            self._last = now
            left = (now - self._began) * (self._updates - update) / (update - self._start)
            share = f"{update / self._updates:4.0%}"
            said = f"{share}  update {update} of {self._updates}  {describe(steps_per_s, metrics)}"
            self.note(f"{said}  {left:.0f} s left" if left else said)


class Bar(ProgressReporter):
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
        """Draws the bar, or begins it again for the next group."""
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


def progress_reporter(quiet: bool) -> ProgressReporter:
    """A bar on a terminal, lines elsewhere, or nothing; on stderr."""
    if quiet:
        return ProgressReporter()
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else Lines()


def describe(steps_per_s: float, metrics: dict[str, np.ndarray]) -> str:
    """One line about a chunk: return, who is alive, rate."""
    alive, mean = metrics["alive"], over_learners(metrics).get("episode_return")
    return f"return {number(mean)}  alive {alive.sum()}/{alive.size}  {rate(steps_per_s)} steps/s"
