"""What `isjax evaluate` prints: a table, and sentences below it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.measure import measure_renderables
from rich.table import Table

from isjax.errors import in_one_line
from isjax.run.format import interval, number

if TYPE_CHECKING:
    from isjax.ope.evaluation import Evaluation
    from isjax.ope.ranking import Ranking
    from isjax.ope.verdicts import Judged


def print_ranking(ranking: "Ranking", flags: Any, said: list[str]) -> None:
    """The table on stdout, with verdicts below it: they need the width. Of several targets a row each."""
    from isjax.ope.estimator import ESTIMATORS

    first = ranking.evaluations[ranking.ranked[0].target]
    name = in_one_line(Path(flags.log).name)
    table = Table(title=f"{name}: {_size(first)}, γ = {flags.discount:.12g}", title_justify="left")
    is_several = len(ranking.ranked) > 1
    table.add_column("Target" if is_several else "Estimator")
    headings = ["Value", f"{flags.level * 100:.10g} % interval", "ESS", "Pareto k", "Trust"]
    headings = [*headings[:3], "Trust", "Better", "Behind the first"] if is_several else headings
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("Trust", "Better") else "right", no_wrap=True)
    if is_several:
        for of in ranking.ranked:
            judged = ranking.evaluations[of.target].estimates[ranking.estimator]
            behind = interval((of.behind_low, of.behind_high)) if of.target != ranking.ranked[0].target else "—"
            table.add_row(in_one_line(of.target, most=24), *_cells(judged)[:3], judged.trust, judged.better, behind)
    else:
        for name, judged in first.estimates.items():
            tail = f"{judged.pareto_k:.2f}" if np.isfinite(judged.pareto_k) else "—"
            table.add_row(ESTIMATORS[name].title, *_cells(judged)[:3], tail, judged.trust)
    console = Console(highlight=False)
    console.width = max(console.width, _narrowest(table, console))
    console.print(table, markup=False)
    lines = _several_lines(ranking, flags, said) if is_several else all_notes(first, flags, said)
    for line in lines:
        console.print(line, markup=False)


def _cells(of: "Judged") -> tuple[str, str, str]:
    return number(of.value), interval((of.low, of.high)), number(of.effective_sample_size)


def _several_lines(ranking: "Ranking", flags: Any, said: list[str]) -> list[str]:
    """What stands below the table of several targets."""
    from isjax.ope.estimator import ESTIMATORS

    first = ranking.evaluations[ranking.ranked[0].target]
    title = ESTIMATORS[ranking.estimator].title
    others = "; --json has all estimators" if len(first.estimates) > 1 else ""
    lines = [f"Ranked by the estimator {title}{others}. Better: than the policy that acted, from one side."]
    lines += [acted(first), *interval_notes(first, flags), *said]
    for of in ranking.ranked:
        judged = ranking.evaluations[of.target].estimates[ranking.estimator]
        lines.append(f"{in_one_line(of.target, most=24)}: {judged.verdict}.")
    return lines


def all_notes(evaluation: "Evaluation", flags: Any, said: list[str]) -> list[str]:
    """What stands below the table of one target."""
    from isjax.ope.estimator import ESTIMATORS

    lines = [acted(evaluation), *_better(evaluation, flags.level), *mean_weights(evaluation)]
    lines += [*interval_notes(evaluation, flags), *said]
    by_verdict: dict[str, list[str]] = {}
    for name, of in evaluation.estimates.items():
        by_verdict.setdefault(of.verdict, []).append(ESTIMATORS[name].title)
    return lines + [f"{', '.join(names).capitalize()}: {verdict}." for verdict, names in by_verdict.items()]


def acted(evaluation: "Evaluation") -> str:
    """What the policy that acted got."""
    error = number(evaluation.behavior_standard_error)
    return f"The policy that acted: {number(evaluation.behavior_value)} ± {error} (standard error)."


def _better(evaluation: "Evaluation", level: float) -> list[str]:
    """Whether the target policy is better than what ran, estimators of one answer together."""
    from isjax.ope.estimator import ESTIMATORS

    answers: dict[str, list[str]] = {}
    for name, of in evaluation.estimates.items():
        answers.setdefault(of.better, []).append(ESTIMATORS[name].title)
    if len(answers) == 1:
        answer, found = next(iter(answers)), list(evaluation.estimates.values())
        by = f"the difference is {number(found[0].difference)}" if len(found) == 1 else "by all estimates"
        if all(of.trust == "no" for of in found):
            by = "no estimate can be trusted"
        return [f"Better than what ran: {answer} ({by}; {level * 100:.10g} %, from one side)."]
    parts = "; ".join(f"{answer} by {', '.join(names)}" for answer, names in answers.items())
    return [f"Better than what ran ({level * 100:.10g} %, from one side): {parts}."]


def mean_weights(evaluation: "Evaluation") -> list[str]:
    """The mean weights of estimators, which are 1 in expectation, those that are alike once."""
    found = {
        f"{number(of.mean_weight)} ± {number(of.mean_weight_standard_error)}": None
        for of in evaluation.estimates.values()
    }
    return [f"Mean weight, 1 if the probabilities are right: {', '.join(found)}."]


def _narrowest(table: Table, console: Console) -> int:
    """The width at which no cell that must not be wrapped is cut."""
    for column in table.columns:
        if column.no_wrap:
            column.min_width = max(len(str(cell)) for cell in (column.header, *column.cells))
    return measure_renderables(console, console.options.update(max_width=10_000), [table]).minimum


def interval_notes(evaluation: "Evaluation", flags: Any) -> list[str]:
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
