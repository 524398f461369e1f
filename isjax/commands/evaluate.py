"""`isjax evaluate`: read a log, estimate, say what to think of it, and keep it if asked to."""

import dataclasses
import functools
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jax
import numpy as np
import tyro

from isjax.commands.evaluation_text import acted, interval_notes, mean_weights, print_ranking
from isjax.commands.running import run_checked
from isjax.errors import MUST, FieldError
from isjax.run.files import replacing, write_json
from isjax.run.store import versions

if TYPE_CHECKING:
    from isjax.ope.evaluation import Evaluation
    from isjax.ope.ranking import Ranking
    from isjax.types import LoggedEpisodes

_On = tyro.conf.FlagCreatePairsOff[bool]
_Several = tyro.conf.UseAppendAction[list[str]]
FORMATS = ("auto", "csv", "parquet", "npz", "jsonl", "vw", "cb", "cb_adf", "cb_eval", "dsjson")
FIGURES = (".png", ".svg")
MODEL_NOTE = "With columns q and v, the state after an episode's last row counts as terminal, with value 0."


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateFlags:
    """Estimate the value of a policy from a log of another one's episodes.

    Doubly robust estimates come too where the log holds a model's values, q and v.

    The state after an episode's last row then counts as terminal, its value as 0.
    """

    log: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="LOG")]
    """A .csv, .parquet, .npz, .jsonl file (.gz may follow), a row a step: reward, and log_pi and log_mu, the
    log-probabilities of the action under the policy to evaluate and under the one that acted. Optional: episode and
    step (from 0), without which each row is an episode; together, q and v, a model's values of the state and action,
    and of the state, under the policy to evaluate; state and action, from which the policy that acted is estimated
    where there is no log_mu. Several policies to evaluate are log_pi.NAME. Or Vowpal Wabbit's .vw or .dsjson."""
    discount: float
    """γ, in [0, 1]."""
    estimators: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint="(default: all that apply)")] = ()
    """Estimators, by the names of their functions in isjax.ope."""
    column: Annotated[_Several, tyro.conf.arg(metavar="ROLE=NAME", help_behavior_hint="(repeatable)")] = (
        dataclasses.field(default_factory=list)
    )
    """What a column is called: mu=propensity_score. Roles: episode, step, reward, pi, mu, q, v, state, action."""
    probabilities: Annotated[_On, tyro.conf.arg(help_behavior_hint="")] = False
    """pi and mu are probabilities, not logarithms; the usual columns are then called pi and mu."""
    target: Annotated[str, tyro.conf.arg(metavar="TARGET", help_behavior_hint="")] = ""
    """The policy to evaluate where no column tells of it: uniform, or the one action that it always takes."""
    format: Literal[tuple(FORMATS)] = "auto"  # type: ignore[valid-type]
    """What the file is, where its name does not tell."""
    json: Annotated[str, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = ""
    """Where to write every number."""
    figure: Annotated[str, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = ""
    """Where to draw the weights: a .png or .svg file."""
    page: Annotated[str, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = ""
    """Where to write a page with everything: an .html file."""
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
    from isjax.ope.logs import read_targets
    from isjax.ope.precision import in_float64
    from isjax.ope.ranking import evaluate_targets
    from isjax.randomness import Domain, stream

    _check_flags(flags)
    with in_float64():
        targets = read_targets(
            flags.log,
            columns=_columns(flags.column),
            probabilities=flags.probabilities,
            densities=flags.densities,
            target=flags.target,
            format="" if flags.format == "auto" else flags.format,
        )
    options = {"estimators": flags.estimators, "level": flags.level, "resamples": flags.resamples}
    key = stream(jax.random.key(flags.seed), Domain.LOG_BOOTSTRAP)
    ranking = evaluate_targets(targets.episodes, flags.discount, key=key, **options)
    has_model = next(iter(targets.episodes.values())).q_tm1 is not None
    first = ranking.evaluations[ranking.ranked[0].target]
    picture = figure(first, Path(flags.figure).suffix.lower()[1:]) if flags.figure else b""
    content = as_json(ranking, flags, targets.notes)
    said = [*targets.notes, *([MODEL_NOTE] if has_model else [])]
    if flags.json:
        write_json(Path(flags.json), content)
    if flags.figure:
        with replacing(Path(flags.figure)) as file:
            file.write(picture)
    if flags.page:
        from isjax.report.evaluation import write_evaluation

        notes = [acted(first), *mean_weights(first), *interval_notes(first, flags), *said]
        states = _states(targets.episodes[ranking.ranked[0].target], targets.states)
        write_evaluation(Path(flags.page), ranking, content, notes=notes, states=states)
    print_ranking(ranking, flags, said)


def _check_flags(flags: EvaluateFlags) -> None:
    """Raises `ValueError` for what is wrong whatever the log holds."""
    if not 0 <= flags.seed < 2**32:
        raise FieldError("seed", "at least 0 and less than 2^32", flags.seed)
    if flags.figure and Path(flags.figure).suffix.lower() not in FIGURES:
        raise FieldError("figure", f"end in {' or '.join(FIGURES)}", repr(flags.figure), MUST)
    written: dict[Path, str] = {}
    for name in ("json", "figure", "page"):
        place = getattr(flags, name)
        _check_place(name, place, flags.log)
        other = written.setdefault(Path(place).resolve(), name) if place else name
        if other != name:
            raise FieldError(name, f"another file than {other}", place, "{field} must be {rule}, but both are {value}.")


def _columns(texts: list[str]) -> dict[str, str]:
    """Names of columns by their roles."""
    found: dict[str, str] = {}
    for text in texts:
        role, equals, name = text.partition("=")
        if not equals:
            raise FieldError("column", "be ROLE=NAME", repr(text), MUST)
        if role in found and found[role] != name:
            raise FieldError("column", f"name one column for {role}", f"{found[role]} and {name}", MUST)
        found[role] = name
    return found


def as_json(ranking: "Ranking", flags: EvaluateFlags, notes: tuple[str, ...] = ()) -> dict[str, Any]:
    """Every number, the settings that they follow from, and the limits that verdicts go by."""
    from isjax.ope import verdicts as limits

    names = ("UNRELIABLE_K", "HEAVY_K", "FEWEST_EFFECTIVE", "FEW_EFFECTIVE", "FEWEST_EPISODES", "FARTHEST_MEAN")
    settings = ("log", "discount", "level", "resamples", "seed", "densities", "probabilities", "target")
    first = ranking.evaluations[ranking.ranked[0].target]
    several = {
        "ranked_by": ranking.estimator,
        "ranking": [of._asdict() for of in ranking.ranked],
        "targets": {name: {"estimates": _estimates(of)} for name, of in ranking.evaluations.items()},
    }
    return {
        **{name: getattr(flags, name) for name in settings},
        "columns": _columns(flags.column),
        "notes": list(notes),
        **{name: getattr(first, name) for name in ("episodes", "rows", "longest")},
        "behavior": {"value": first.behavior_value, "standard_error": first.behavior_standard_error},
        "estimates": _estimates(first),
        **(several if len(ranking.ranked) > 1 else {}),
        "effective_sample_size_by_step": first.effective_t.tolist(),
        "episodes_by_step": first.running_t.tolist(),
        "limits": {name.lower(): getattr(limits, name) for name in names},
        "versions": versions(),
    }


def _estimates(evaluation: "Evaluation") -> dict[str, Any]:
    return {name: judged._asdict() for name, judged in evaluation.estimates.items()}


def _states(log: "LoggedEpisodes", names: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """The share of steps in each state, under the policy that acted and as estimated under the target."""
    from isjax.ope.on_host import on_host
    from isjax.ope.state_ratios import state_ratios

    if not names:
        return {}
    ratios = functools.partial(state_ratios, num_states=len(names), self_normalized=True)
    found = on_host(ratios, log.log_rho_tm1, log.state_tm1, log.is_valid_t)
    ran, target = (np.sum(x, 0) / max(float(np.sum(x)), 1e-300) for x in (found.d_mu, found.d_pi))
    return {name: (float(x), float(y)) for name, x, y in zip(names, ran, target, strict=True)}


def figure(evaluation: "Evaluation", kind: str) -> bytes:
    """The weights of whole episodes: what share the heaviest carry, and how they are distributed."""
    from matplotlib.figure import Figure

    from isjax.ope.verdicts import CARRIED, cumulative_shares

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
