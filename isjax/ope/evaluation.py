"""Every estimate that a log allows, with its interval, and a verdict in words on whether to believe it."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isjax._checks import check_fraction
from isjax.errors import FieldError
from isjax.ope.episodes import Estimate, Log
from isjax.ope.estimator import ESTIMATORS, Estimator, register
from isjax.ope.intervals import student_interval
from isjax.ope.magic import MAGIC
from isjax.ope.model_assisted import DOUBLY_ROBUST, WEIGHTED_DOUBLY_ROBUST
from isjax.ope.per_decision import PER_DECISION_IS, WEIGHTED_PER_DECISION_IS, WEIGHTED_PER_DECISION_IS_RATIO_FORM
from isjax.ope.precision import in_float64, rescaled, restored
from isjax.ope.resampling import number_of_states, resampled_values
from isjax.ope.trajectory import (
    DISCOUNTING_AWARE_IS,
    ORDINARY_IS,
    TRUNCATED_IS,
    WEIGHTED_DISCOUNTING_AWARE_IS,
    WEIGHTED_IS,
    ordinary_is,
)
from isjax.ops.diagnostics import effective_sample_size
from isjax.ops.pareto import pareto_k
from isjax.ops.ratios import MAX_LOG_RATIO
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

AFFORDABLE_CELLS = 2**34
"""Above so many cells, T · N · resamples, intervals are Student's."""
UNRELIABLE_K = 0.7
"""Above it an importance-weighted mean is not to be believed (Vehtari et al. 2024)."""
HEAVY_K = 0.5
"""Above it the variance of the weights is infinite."""
FEWEST_EFFECTIVE = 10.0
"""With a smaller effective sample size an estimate is not to be believed."""
FEW_EFFECTIVE = 100.0
"""With a smaller one it is to be taken with care."""
MANY_WITH_FEWEST, MANY_WITH_FEW = 0.1, 0.2
"""Shares of an episode's discounted steps: where more of them rest on a smaller effective sample size than 10, or
100, an estimate that weights each step on its own is not to be believed, or to be taken with care."""
FEWEST_EPISODES = 25
"""With fewer episodes neither the tail of the weights nor their mean can be judged."""
FARTHEST_MEAN = 4.0
"""How many standard errors the mean weight may lie from 1, which it is expected to be."""
SATURATED = math.exp(MAX_LOG_RATIO)
"""Where the weights in plain means saturate: such a mean is too small."""
CARRIED = 0.9
"""The verdict counts the episodes that carry this share of the weight."""


class Judged(NamedTuple):
    """One estimate, and what to think of it. Numbers are plain floats, infinite or NaN where they are."""

    value: float
    standard_error: float
    low: float
    high: float
    interval: str
    """How the interval was made: "percentile bootstrap" or "Student"."""
    effective_sample_size: float
    pareto_k: float
    """Of the weights that the estimate gives to episodes; for the truncated estimate, before truncation."""
    largest_share: float
    """Share of the weight that the heaviest episode carries."""
    carriers: int
    """The fewest episodes that carry 90 % of the weight."""
    carried: float
    """The share that they carry."""
    mean_weight: float
    """1 in expectation: what the weights of this family come to before any normalization or truncation."""
    steps_below_10: float
    """Share of the discounted steps at which the products of ratios so far have an effective sample size below 10;
    0 for estimates that do not weight each step on its own."""
    steps_below_100: float
    """The same for 100."""
    trust: str
    """One of "yes", "with care" and "no"."""
    verdict: str
    """In words, with the reasons."""


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
    with in_float64():
        answers = jax.device_get(_answers(chosen, log, discount, level, number_of_states(log)))
        drawn: dict[str, np.ndarray] = {}
        if 0 < resamples * log.r_t.size <= AFFORDABLE_CELLS:
            resamplings = {of.name: of.resampling for of in chosen if of.resampling is not None}
            drawn = resampled_values(key, log, discount, answers.estimates, resamplings, resamples=resamples)
    lengths = np.sum(np.asarray(log.is_valid_t), 0)
    return Evaluation(
        episodes=int(np.sum(lengths > 0)),
        rows=int(lengths.sum()),
        longest=int(lengths.max()),
        behavior_value=restored(answers.behavior.value, exponent),
        behavior_standard_error=restored(answers.behavior.standard_error, exponent),
        estimates={
            of.name: _judged(i, of, answers, drawn.get(of.name), level, exponent) for i, of in enumerate(chosen)
        },
        log_weight=answers.log_weight[lengths > 0],
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
    """What is computed on the device, in one program."""

    estimates: dict[str, Estimate]
    intervals: Interval
    """Student's, `[estimators]`."""
    pareto_k: jax.Array
    """`[estimators]`."""
    mean_weights: dict[str, Estimate]
    """Of the family of each estimator."""
    steps_below: dict[str, jax.Array]
    """`[2]` each, shares of the discounted steps with an effective sample size below `FEWEST_` and
    `FEW_EFFECTIVE`."""
    behavior: Estimate
    log_weight: jax.Array


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _answers(
    chosen: tuple[Estimator, ...], log: LoggedEpisodes, discount: float, level: float, num_states: int
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
        means[of.name] = shared_means.get(of.family) or _mean_reward_of_one(of, log, discount, num_states)
        steps_below[of.name] = _steps_below(checked, log_step_weight_t)
    tails = {of.name: weights[of.name] if of.is_truncated else estimates[of.name].log_weight for of in chosen}
    stacked = lambda trees: jax.tree.map(lambda *x: jnp.stack(x), *trees)  # noqa: E731
    return _Answers(
        estimates,
        stacked([student_interval(of, level=level) for of in estimates.values()]),
        stacked([pareto_k(tail, where=where) for tail in tails.values()]),
        means,
        steps_below,
        ordinary_is(jnp.zeros_like(log.log_rho_tm1), *arrays[1:]),
        checked.log_weight,
    )


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


def _mean_reward_of_one(of: Estimator, log: LoggedEpisodes, discount: float, num_states: int) -> Estimate:
    """The same of an estimator of the states' own weights: ended episodes stay where they are, and are rewarded too."""
    is_valid_t = jnp.asarray(log.is_valid_t)
    goes_on_t = jnp.any(is_valid_t, 1, keepdims=True) & jnp.any(is_valid_t, 0, keepdims=True)
    zeros = jnp.zeros_like(log.r_t)
    found = of.function(
        jnp.where(is_valid_t, log.log_rho_tm1, 0.0),
        zeros + 1.0,
        discount,
        is_valid_t=goes_on_t,
        state_tm1=jnp.where(is_valid_t, log.state_tm1, num_states),
        num_states=num_states + 1,
        **({"v_tm1": zeros, "q_tm1": zeros} if of.needs_model else {}),
    )
    length = jnp.sum(
        jnp.where(
            jnp.any(is_valid_t, 1), jnp.exp(Log.checked(zeros, zeros, discount, goes_on_t).log_discount_t[:, 0]), 0.0
        )
    )
    return found._replace(value=found.value / length, standard_error=found.standard_error / length)


def _judged(i: int, of: Estimator, answers: _Answers, drawn: np.ndarray | None, level: float, exponent: int) -> Judged:
    """The i-th estimate, in the unit of the rewards."""
    estimate, mean = answers.estimates[of.name], answers.mean_weights[of.name]
    ends = answers.intervals.low[i], answers.intervals.high[i]
    if drawn is not None and np.isfinite(estimate.standard_error):
        ends = np.quantile(drawn, [0.5 - 0.5 * level, 0.5 + 0.5 * level])
    n = int(np.sum(estimate.is_episode))
    cumulative = cumulative_shares(np.asarray(estimate.log_weight))
    carriers = min(int(np.searchsorted(cumulative, CARRIED)) + 1, n)
    steps_below = answers.steps_below[of.name] if of.family.is_per_step else np.zeros(2)
    judged = Judged(
        value=restored(estimate.value, exponent),
        standard_error=restored(estimate.standard_error, exponent),
        low=restored(ends[0], exponent),
        high=restored(ends[1], exponent),
        interval="Student" if drawn is None else "percentile bootstrap",
        effective_sample_size=float(estimate.effective_sample_size),
        pareto_k=float(answers.pareto_k[i]),
        largest_share=float(cumulative[0]),
        carriers=carriers,
        carried=float(cumulative[carriers - 1]),
        mean_weight=float(mean.value),
        steps_below_10=float(steps_below[0]),
        steps_below_100=float(steps_below[1]),
        trust="",
        verdict="",
    )
    trust, verdict = judge(judged, n, float(mean.standard_error), caveat=of.caveat)
    return judged._replace(trust=trust, verdict=verdict)


def cumulative_shares(log_weight: np.ndarray) -> np.ndarray:
    """`[N]`, the share of all weight that the heaviest, the two heaviest … episodes carry; zeros for no weight."""
    descending = np.sort(log_weight.astype(np.float64))[::-1]
    weight = np.exp(descending - (descending[0] if np.isfinite(descending[0]) else 0.0))
    return np.cumsum(weight) / max(weight.sum(), 1.0)


def judge(of: Judged, episodes: int, mean_standard_error: float, *, caveat: str = "") -> tuple[str, str]:
    """Whether an estimate is to be trusted, "yes", "with care" or "no", and the verdict in words.

    It is not where `k̂` is above 0.7, the effective sample size below 10, or the mean weight more than four
    standard errors away from 1, and where more than a tenth of the discounted steps rest on an effective sample
    size below 10. It is with care where `k̂` is above 0.5 or cannot be told, the effective sample size below 100,
    overall or at more than a fifth of the steps, or the estimator has a caveat, as `magic` does.
    """
    no: list[str] = []
    care = [caveat] if caveat else []
    if not np.isfinite(of.value):
        no.append("the estimate overflowed")
    if of.mean_weight * episodes > 0.99 * SATURATED:
        no.append("a weight is beyond exp(80), where plain means cut it off")
    if of.effective_sample_size == 0:
        no.append("no episode has any weight under the target policy")
    elif of.effective_sample_size < FEW_EFFECTIVE:
        reasons = no if of.effective_sample_size < FEWEST_EFFECTIVE else care
        reasons.append(_who_carries(of, episodes))
    if of.steps_below_10 > MANY_WITH_FEWEST:
        no.append(_thin(of.steps_below_10, FEWEST_EFFECTIVE))
    elif of.steps_below_100 > MANY_WITH_FEW and of.effective_sample_size >= FEW_EFFECTIVE:
        care.append(_thin(of.steps_below_100, FEW_EFFECTIVE))
    if episodes < FEWEST_EPISODES:
        care.append(f"{episodes} episodes are too few to judge the tail of the weights")
    elif of.effective_sample_size > 0:
        if not np.isfinite(of.pareto_k):
            care.append("the tail of the weights cannot be judged")
        elif of.pareto_k > HEAVY_K:
            is_worse = of.pareto_k > UNRELIABLE_K
            limit = UNRELIABLE_K if is_worse else HEAVY_K
            (no if is_worse else care).append(f"the weights have a heavy tail, Pareto k {of.pareto_k:.2f} > {limit}")
        if not abs(of.mean_weight - 1.0) <= FARTHEST_MEAN * mean_standard_error + 1e-3:
            no.append(f"the mean weight is {of.mean_weight:.2g}, not 1: the log misses what the target policy does")
    if no:
        return "no", f"do not trust: {'; '.join(no)}"
    return ("with care", f"trust with care: {'; '.join(care)}") if care else ("yes", "trust")


def _thin(share: float, limit: float) -> str:
    return f"{100.0 * share:.0f} % of the discounted steps rest on an effective sample size below {limit:g}"


def _who_carries(of: Judged, episodes: int) -> str:
    """How few episodes carry nearly all of the weight, or to how few they amount."""
    if of.carriers <= episodes / 2:
        verb = "carries" if of.carriers == 1 else "carry"
        return f"{of.carriers:,} of {episodes:,} episodes {verb} {100.0 * of.carried:.0f} % of the weight"
    return f"the effective sample size is {of.effective_sample_size:.1f}"
