"""Every estimate that a log allows, with its interval, and a verdict in words on whether to believe it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isjax._checks import check_fraction
from isjax.errors import FieldError
from isjax.ope.episodes import Estimate, Log, estimate
from isjax.ope.estimator import ESTIMATORS, Estimator, register
from isjax.ope.influence import mean_weight_of_states
from isjax.ope.intervals import student_interval
from isjax.ope.magic import MAGIC
from isjax.ope.model_assisted import DOUBLY_ROBUST, WEIGHTED_DOUBLY_ROBUST
from isjax.ope.on_host import on_host
from isjax.ope.per_decision import PER_DECISION_IS, WEIGHTED_PER_DECISION_IS, WEIGHTED_PER_DECISION_IS_RATIO_FORM
from isjax.ope.precision import rescaled, restored
from isjax.ope.resampling import Draws, mean_over_episodes, number_of_states, resampled_values
from isjax.ope.trajectory import (
    DISCOUNTING_AWARE_IS,
    ORDINARY_IS,
    TRUNCATED_IS,
    WEIGHTED_DISCOUNTING_AWARE_IS,
    WEIGHTED_IS,
    ordinary_is,
)
from isjax.ope.verdicts import CARRIED, FEW_EFFECTIVE, FEWEST_EFFECTIVE, Judged, cumulative_shares, is_better, judge
from isjax.ops.diagnostics import effective_sample_size
from isjax.ops.pareto import pareto_k
from isjax.stats import Interval, check_level
from isjax.types import Key, LoggedEpisodes

for _estimator in (
    ORDINARY_IS,
    WEIGHTED_IS,
    TRUNCATED_IS,
    PER_DECISION_IS,
    WEIGHTED_PER_DECISION_IS,
    DISCOUNTING_AWARE_IS,
    WEIGHTED_DISCOUNTING_AWARE_IS,
    DOUBLY_ROBUST,
    WEIGHTED_DOUBLY_ROBUST,
    MAGIC,
    WEIGHTED_PER_DECISION_IS_RATIO_FORM,
):
    register(_estimator)

AFFORDABLE_CELLS, AFFORDABLE_DRAWS = 2**34, 2**27
"""Above so many cells, T · N · resamples, or draws, N · resamples, intervals are Student's."""
BEHAVIOR = "the policy that acted"
"""What its mean return is called among the values of resamples."""


class Evaluation(NamedTuple):
    """What a log says about the target policy."""

    episodes: int
    rows: int
    longest: int
    behavior_value: float
    """The mean discounted return of the policy that acted."""
    behavior_standard_error: float
    estimates: dict[str, Judged]
    log_weight: np.ndarray
    """`[N]`, `log ρ_{0:T−1}` of each episode."""
    effective_t: np.ndarray
    """`[T]`, the effective sample size of the products of ratios `ρ_{0:t}`, over all episodes."""
    running_t: np.ndarray
    """`[T]`, how many episodes reach each step."""
    drawn: dict[str, np.ndarray]
    """`[resamples]`, the values of each estimator, and of the policy that acted, on the same resamples; empty where
    nothing was resampled."""
    contributions: dict[str, np.ndarray]
    """`[N]`, what each episode contributes to each estimate, and to the mean return of the policy that acted."""


def evaluate_log(
    log: LoggedEpisodes,
    discount: float,
    *,
    key: Key,
    estimators: tuple[str, ...] = (),
    level: float = 0.95,
    resamples: int = 1000,
) -> Evaluation:
    """Estimates the value of the target policy from a log in every way that it allows, and judges each.

    Everything is computed in float64, whatever the precision of the log. Intervals are percentile bootstrap over
    whole episodes. They are Student's for `magic`, whose blend makes resampling costly, where T · N · resamples
    exceeds `AFFORDABLE_CELLS`, and if `resamples` is 0.

    Args:
      log: the episodes, as `read_log` gives them.
      discount: γ in [0, 1].
      key: a typed key, `jax.random.key(seed)`, for the bootstrap.
      estimators: names of estimators, those added by `register` included; by default all that apply, except
        those that are not consistent.
      level: the coverage aimed at, in (0, 1).
      resamples: how many samples the bootstrap draws.

    Returns:
      An `Evaluation`.

    Raises:
      ValueError: an argument is out of range, the log holds no number where one counts, or an estimator is
        unknown or lacks its model.

    >>> log = LoggedEpisodes(jnp.zeros((1, 200)), jnp.ones((1, 200)), jnp.ones((1, 200), bool))
    >>> evaluate_log(log, 1.0, key=jax.random.key(0), estimators=("weighted_is",)).estimates["weighted_is"].verdict
    'trust'
    """
    names = chosen_estimators(estimators, has_model=log.q_tm1 is not None, has_states=log.state_tm1 is not None)
    check_fraction(discount=discount)
    check_level(level)
    if resamples < 0:
        raise FieldError("resamples", "at least 0", resamples)
    log, exponent = rescaled(log)
    chosen = tuple(ESTIMATORS[name] for name in names)
    num_states = number_of_states(log)
    episodes = log.r_t.shape[1]
    is_affordable = resamples * log.r_t.size <= AFFORDABLE_CELLS and resamples * episodes <= AFFORDABLE_DRAWS
    draws = Draws(key, log.r_t.shape, resamples) if resamples and is_affordable else None  # Begins to draw at once.
    answers = on_host(_answers, log, discount, static=(chosen, level, num_states))
    drawn: dict[str, np.ndarray] = {}
    if draws:
        resamplings = {of.name: of.resampling for of in chosen if of.resampling} | {BEHAVIOR: mean_over_episodes}
        drawn = resampled_values(draws, log, discount, answers.estimates | {BEHAVIOR: answers.behavior}, resamplings)
    valid_t = np.asarray(log.is_valid_t)
    lengths = np.sum(valid_t, 0)
    is_episode = lengths > 0
    contributions = {name: of.per_episode for name, of in answers.estimates.items()}
    contributions[BEHAVIOR] = answers.behavior.per_episode
    with np.errstate(over="ignore"):
        judged = {of.name: _judged(of, answers, drawn, level, exponent) for of in chosen}
        return Evaluation(
            episodes=int(np.sum(is_episode)),
            rows=int(lengths.sum()),
            longest=int(lengths.max()),
            behavior_value=restored(answers.behavior.value, exponent),
            behavior_standard_error=restored(answers.behavior.standard_error, exponent),
            estimates=judged,
            log_weight=answers.log_weight[is_episode],
            effective_t=answers.effective_t,
            running_t=np.sum(valid_t, 1),
            drawn={name: np.ldexp(x, exponent) for name, x in drawn.items()},
            contributions={name: np.ldexp(x[is_episode], exponent) for name, x in contributions.items()},
        )


def chosen_estimators(names: tuple[str, ...], *, has_model: bool, has_states: bool = False) -> tuple[str, ...]:
    """The estimators asked for, or all that apply.

    Raises:
      ValueError: one is unknown, or needs columns `q` and `v`, or `state`, that the log lacks.
    """
    with_states = [name for name, of in ESTIMATORS.items() if has_states or not of.needs_states]
    applicable = [name for name in with_states if has_model or not ESTIMATORS[name].needs_model]
    for name in names:
        if name not in ESTIMATORS:
            rule = f"among {', '.join(ESTIMATORS)}"
            raise FieldError("estimators", rule, repr(name), "{field} must be {rule}, but one is {value}.")
        if name not in with_states:
            rule = "do without states for a log without a column state"
            raise FieldError("estimators", rule, name, "{field} must {rule}, but {value} needs them.")
        if name not in applicable:
            rule = "do without a model for a log without q and v"
            raise FieldError("estimators", rule, name, "{field} must {rule}, but {value} needs one.")
    return tuple(dict.fromkeys(names)) or tuple(
        name for name in applicable if ESTIMATORS[name].is_consistent and ESTIMATORS[name].is_default
    )


class _Answers(NamedTuple):
    """What is computed in one program."""

    estimates: dict[str, Estimate]
    intervals: dict[str, Interval]
    """Student's."""
    differences: dict[str, Estimate]
    """From the mean return of the policy that acted, on the same episodes."""
    bounds: dict[str, Interval]
    """Student's, of the differences, each end from one side."""
    pareto_k: dict[str, jax.Array]
    mean_weights: dict[str, Estimate]
    """Of the family of each estimator."""
    steps_below: dict[str, jax.Array]
    """`[2]` each, shares of the discounted steps with an effective sample size below `FEWEST_` and
    `FEW_EFFECTIVE`."""
    behavior: Estimate
    log_weight: jax.Array
    effective_t: jax.Array


def _answers(
    chosen: tuple[Estimator, ...], level: float, num_states: int, log: LoggedEpisodes, discount: jax.Array
) -> _Answers:
    arrays = (log.log_rho_tm1, log.r_t, discount, log.is_valid_t)
    model: dict[str, Any] = {"v_tm1": log.v_tm1, "q_tm1": log.q_tm1}
    states: dict[str, Any] = {"state_tm1": log.state_tm1, "num_states": num_states}
    checked = Log.checked(*arrays)
    where = checked.is_episode
    log_products_t = jnp.where(where[None], checked.log_product_t, -jnp.inf)
    shared = {of.family: of.family.log_weights(checked, discount) for of in chosen if of.family.log_weights}
    shared_means = {family: _mean_weight(log_weights, where) for family, log_weights in shared.items()}
    estimates, weights, means, steps_below = {}, {}, {}, {}
    for of in chosen:
        takes = (model if of.needs_model else {}) | (states if of.needs_states else {})
        found = of.function(*arrays[:3], is_valid_t=log.is_valid_t, **takes)
        log_step_weight_t = log_products_t if found.log_step_weight_t is None else found.log_step_weight_t
        estimates[of.name] = found._replace(log_step_weight_t=None)
        weights[of.name] = shared.get(of.family, found.log_weight)
        means[of.name] = shared_means.get(of.family) or mean_weight_of_states(of, log, discount, num_states)
        steps_below[of.name] = _steps_below(checked, log_step_weight_t)
    tails = {of.name: weights[of.name] if of.is_truncated else estimates[of.name].log_weight for of in chosen}
    behavior = ordinary_is(jnp.zeros_like(log.log_rho_tm1), *arrays[1:])
    differences = {name: _difference(of, behavior) for name, of in estimates.items()}
    one_sided = 2.0 * level - 1.0 if level > 0.5 else level
    return _Answers(
        estimates,
        {name: student_interval(of, level=level) for name, of in estimates.items()},
        differences,
        {name: student_interval(of, level=one_sided) for name, of in differences.items()},
        {name: pareto_k(tail, where=where) for name, tail in tails.items()},
        means,
        steps_below,
        behavior,
        checked.log_weight,
        effective_sample_size(log_products_t, axis=1),
    )


def _difference(of: Estimate, behavior: Estimate) -> Estimate:
    """The estimate minus the mean return of the policy that acted, paired by episodes."""
    log_weight = jnp.where(of.is_episode, 0.0, -jnp.inf) if of.log_weight is None else of.log_weight
    return estimate(of.value - behavior.value, of.per_episode - behavior.per_episode, log_weight, of.is_episode)


def _steps_below(log: Log, log_step_weight_t: jax.Array) -> jax.Array:
    """A mean over whole episodes hides that late steps may rest on one of them."""
    effective_t = effective_sample_size(log_step_weight_t, axis=1)
    weight_t = jnp.where(jnp.any(log.is_valid_t, 1), jnp.exp(log.log_discount_t[:, 0]), 0.0)
    limits = jnp.array([FEWEST_EFFECTIVE, FEW_EFFECTIVE])
    is_below = effective_t[None, :] < limits[:, None]
    return jnp.sum(jnp.where(is_below, weight_t[None, :], 0.0), 1) / jnp.sum(weight_t)


def _mean_weight(log_weight: jax.Array, is_episode: jax.Array) -> Estimate:
    """The mean of weights, as what they estimate for a reward of 1."""
    ones = jnp.where(is_episode, 1.0, 0.0).astype(log_weight.dtype)[None]
    return ordinary_is(log_weight[None], ones, 1.0, is_episode[None])


def _judged(of: Estimator, answers: _Answers, drawn: dict[str, np.ndarray], level: float, exponent: int) -> Judged:
    """An estimate in the unit of the rewards."""
    found, mean = answers.estimates[of.name], answers.mean_weights[of.name]
    ends, bounds = answers.intervals[of.name], answers.bounds[of.name]
    if of.name in drawn and np.isfinite(found.standard_error):
        ends = np.quantile(drawn[of.name], [0.5 - 0.5 * level, 0.5 + 0.5 * level])
        low, high = np.quantile(drawn[of.name] - drawn[BEHAVIOR], [1.0 - max(level, 0.5), max(level, 0.5)])
        bounds = min(low, bounds[0]), max(high, bounds[1])
    n = int(np.sum(found.is_episode))
    cumulative = cumulative_shares(np.asarray(found.log_weight))
    carriers = min(int(np.searchsorted(cumulative, CARRIED)) + 1, n)
    steps_below = answers.steps_below[of.name] if of.family.is_per_step else np.zeros(2)
    judged = Judged(
        value=restored(found.value, exponent),
        standard_error=restored(found.standard_error, exponent),
        low=restored(ends[0], exponent),
        high=restored(ends[1], exponent),
        interval="percentile bootstrap" if of.name in drawn else "Student",
        effective_sample_size=float(found.effective_sample_size),
        pareto_k=float(answers.pareto_k[of.name]),
        largest_share=float(cumulative[0]),
        carriers=carriers,
        carried=float(cumulative[carriers - 1]),
        mean_weight=float(mean.value),
        steps_below_10=float(steps_below[0]),
        steps_below_100=float(steps_below[1]),
        trust="",
        verdict="",
        mean_weight_standard_error=float(mean.standard_error),
        difference=restored(answers.differences[of.name].value, exponent),
        difference_low=restored(bounds[0], exponent),
        difference_high=restored(bounds[1], exponent),
    )
    trust, verdict = judge(judged, n, judged.mean_weight_standard_error, caveat=of.caveat)
    judged = judged._replace(trust=trust, verdict=verdict)
    return judged._replace(better=is_better(judged))
