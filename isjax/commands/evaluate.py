"""`isjax evaluate`: read a log, estimate, say what to think of it, and keep it if asked to."""

import dataclasses
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.measure import measure_renderables
from rich.table import Table

from isjax.commands.running import run_checked
from isjax.errors import MUST, FieldError, in_one_line
from isjax.run.files import replacing, write_json
from isjax.run.format import interval, number
from isjax.run.store import versions

if TYPE_CHECKING:
    from isjax.ope.evaluation import Evaluation

_On = tyro.conf.FlagCreatePairsOff[bool]
FIGURES = (".png", ".svg")
MODEL_NOTE = "With columns q and v, the state after an episode's last row counts as terminal, with value 0."


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateFlags:
    """Estimate the value of a policy from a log of another one's episodes.

    Doubly robust estimates come too where the log holds a model's values, q and v.

    The state after an episode's last row then counts as terminal, its value as 0.
    """

    log: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="LOG")]
    """A .parquet, .csv or .npz file, a row a step: episode, step (from 0), reward, and log_pi and log_mu, the
    log-probabilities of the action under the policy to evaluate and under the one that acted. Optional, together:
    q and v, a model's values of the state and action, and of the state, under the policy to evaluate."""
    discount: float
    """γ, in [0, 1]."""
    estimators: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint="(default: all that apply)")] = ()
    """Estimators, by the names of their functions in isjax.ope."""
    json: Annotated[str, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = ""
    """Where to write every number."""
    figure: Annotated[str, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = ""
    """Where to draw the weights: a .png or .svg file."""
    level: float = 0.95
    """The coverage that intervals aim at."""
    resamples: int = 1000
    """Samples that the bootstrap draws; 0 gives Student's intervals."""
    seed: int = 0
    """The bootstrap follows from it."""
    densities: Annotated[_On, tyro.conf.arg(help_behavior_hint="")] = False
    """log_pi and log_mu are log-densities of continuous actions, which may be positive."""


def main(argv: list[str]) -> int:
    """Runs `isjax evaluate`."""
    return run_checked(evaluate, EvaluateFlags, argv, prog="isjax evaluate")


def evaluate(flags: EvaluateFlags) -> None:
    """Prints the table, and writes what was asked for once everything is known.

    Raises:
      ValueError: the log or an argument is not what it has to be; nothing was written.
    """
    from isjax.learner.randomness import Domain, stream
    from isjax.ope.evaluation import evaluate_log
    from isjax.ope.logs import read_log
    from isjax.ope.precision import in_float64

    if not 0 <= flags.seed < 2**32:
        raise FieldError("seed", "at least 0 and less than 2^32", flags.seed)
    if flags.figure and Path(flags.figure).suffix.lower() not in FIGURES:
        raise FieldError("figure", f"end in {' or '.join(FIGURES)}", repr(flags.figure), MUST)
    for name in ("json", "figure"):
        _check_place(name, getattr(flags, name), flags.log)
    if flags.json and flags.figure and Path(flags.json).resolve() == Path(flags.figure).resolve():
        rule = "another file than json"
        raise FieldError("figure", rule, flags.figure, "{field} must be {rule}, but both are {value}.")
    with in_float64():
        log = read_log(flags.log, densities=flags.densities)
    evaluation = evaluate_log(
        log,
        flags.discount,
        key=stream(jax.random.key(flags.seed), Domain.LOG_BOOTSTRAP),
        estimators=flags.estimators,
        level=flags.level,
        resamples=flags.resamples,
    )
    picture = figure(evaluation, Path(flags.figure).suffix.lower()[1:]) if flags.figure else b""
    if flags.json:
        write_json(Path(flags.json), as_json(evaluation, flags))
    if flags.figure:
        with replacing(Path(flags.figure)) as file:
            file.write(picture)
    print_evaluation(evaluation, flags, has_model=log.q_tm1 is not None)


def as_json(evaluation: "Evaluation", flags: EvaluateFlags) -> dict[str, Any]:
    """Every number, the settings that they follow from, and the limits that verdicts go by."""
    from isjax.ope import evaluation as limits

    names = ("UNRELIABLE_K", "HEAVY_K", "FEWEST_EFFECTIVE", "FEW_EFFECTIVE", "FEWEST_EPISODES", "FARTHEST_MEAN")
    settings = ("log", "discount", "level", "resamples", "seed", "densities")
    return {
        **{name: getattr(flags, name) for name in settings},
        **{name: getattr(evaluation, name) for name in ("episodes", "rows", "longest")},
        "behavior": {"value": evaluation.behavior_value, "standard_error": evaluation.behavior_standard_error},
        "estimates": {name: judged._asdict() for name, judged in evaluation.estimates.items()},
        "limits": {name.lower(): getattr(limits, name) for name in names},
        "versions": versions(),
    }


def print_evaluation(evaluation: "Evaluation", flags: EvaluateFlags, *, has_model: bool) -> None:
    """The table on stdout, with verdicts below it: they need the width."""
    from isjax.ope.estimator import ESTIMATORS

    name = in_one_line(Path(flags.log).name)
    table = Table(title=f"{name}: {_size(evaluation)}, γ = {flags.discount:.12g}", title_justify="left")
    table.add_column("Estimator")
    for heading in ("Value", f"{flags.level * 100:.10g} % interval", "ESS", "Pareto k", "Trust"):
        table.add_column(heading, justify="left" if heading == "Trust" else "right", no_wrap=True)
    for name, of in evaluation.estimates.items():
        tail = f"{of.pareto_k:.2f}" if np.isfinite(of.pareto_k) else "—"
        ends, ess = interval((of.low, of.high)), number(of.effective_sample_size)
        table.add_row(ESTIMATORS[name].title, number(of.value), ends, ess, tail, of.trust)
    console = Console(highlight=False)
    console.width = max(console.width, _narrowest(table, console))
    console.print(table, markup=False)
    error = number(evaluation.behavior_standard_error)
    lines = [f"The policy that acted: {number(evaluation.behavior_value)} ± {error} (standard error)."]
    lines += _interval_notes(evaluation, flags)
    lines += [MODEL_NOTE] if has_model else []
    by_verdict: dict[str, list[str]] = {}
    for name, of in evaluation.estimates.items():
        by_verdict.setdefault(of.verdict, []).append(ESTIMATORS[name].title)
    lines += [f"{', '.join(names).capitalize()}: {verdict}." for verdict, names in by_verdict.items()]
    for line in lines:
        console.print(line, markup=False)


def _narrowest(table: Table, console: Console) -> int:
    """The width at which no cell that must not be wrapped is cut."""
    for column in table.columns:
        if column.no_wrap:
            column.min_width = max(len(str(cell)) for cell in (column.header, *column.cells))
    return measure_renderables(console, console.options.update(max_width=10_000), [table]).minimum


def figure(evaluation: "Evaluation", kind: str) -> bytes:
    """The weights of whole episodes: what share the heaviest carry, and how they are distributed."""
    from matplotlib.figure import Figure

    from isjax.ope.evaluation import CARRIED, cumulative_shares

    log_weight = evaluation.log_weight
    share = cumulative_shares(log_weight)
    finite = log_weight[np.isfinite(log_weight)]
    drawing = Figure(figsize=(9, 3.6), layout="constrained")
    shares, histogram = drawing.subplots(1, 2)
    shares.plot(np.arange(1, len(share) + 1), share, drawstyle="steps-post", marker="o" if len(share) < 3 else "")
    shares.set(xscale="log", ylim=(0, 1.03), xlabel="heaviest episodes", ylabel="share of all weight")
    carriers = min(int(np.searchsorted(share, CARRIED)) + 1, len(share))
    shares.set_title(
        f"{carriers:,} of {len(share):,} episodes carry {share[carriers - 1]:.0%} of the weight".replace("%", " %")
    )
    histogram.hist(finite, np.linspace(*_ends(finite), min(60, max(10, int(np.sqrt(len(finite))))) + 1))
    histogram.axvline(0.0, color="black", linewidth=0.8, linestyle="dashed")
    zeros = len(log_weight) - len(finite)
    histogram.set(xlabel="log-weight of an episode (dashed: π as likely as μ)", ylabel="episodes")
    histogram.set_title(f"{zeros:,} episodes have weight 0" if zeros else "No episode has weight 0")
    content = io.BytesIO()
    drawing.savefig(content, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return content.getvalue()


def _ends(x: np.ndarray) -> tuple[float, float]:
    """Where a histogram begins and ends: numbers that differ by rounding alone are one bar in its middle."""
    low, high = (float(x.min()), float(x.max())) if len(x) else (0.0, 0.0)
    margin = 0.0 if high - low > 1e-6 * max(1.0, abs(low), abs(high)) else 0.5 * max(1.0, 1e-6 * abs(high))
    return low - margin, high + margin


def _check_place(name: str, place: str, log: str) -> None:
    """Raises `ValueError` unless a file can be written there."""
    if not place:
        return
    path, sentence = Path(place), "{field} must be {rule}, but {value}."
    try:
        is_log = path.exists() and Path(log).exists() and path.samefile(log)
        if path.is_dir() or is_log:
            found = "LOG" if is_log else "a folder"
            raise FieldError(name, "a file of its own", f"{place} is {found}", sentence)
    except OSError as error:
        raise FieldError(name, "the name of a file", f"{place} is none: {error.strerror}", sentence) from error
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        value, rule = f"{path.parent} is none", "lie in a folder that can be written to"
        raise FieldError(name, rule, value, "{field} must {rule}, but {value}.")


def _interval_notes(evaluation: "Evaluation", flags: EvaluateFlags) -> list[str]:
    """How intervals were made."""
    from isjax.ope.estimator import ESTIMATORS

    by_kind: dict[str, list[str]] = {}
    for name, of in evaluation.estimates.items():
        by_kind.setdefault(of.interval, []).append(ESTIMATORS[name].title)
    how = {"percentile bootstrap": f"percentile bootstrap, {flags.resamples:,} resamples of whole episodes"}
    ranked = sorted(by_kind.items(), key=lambda item: -len(item[1]))
    first, rest = ranked[0], ranked[1:]
    also = "".join(f"; {how.get(kind, kind)} for {', '.join(names)}" for kind, names in rest)
    return [f"Intervals: {how.get(first[0], first[0])}{also}."]


def _size(evaluation: "Evaluation") -> str:
    return f"{evaluation.episodes:,} episodes, {evaluation.rows:,} steps"
