"""What to think of an estimate: whether to trust it, and whether the target policy is better than what ran."""

import math
from typing import NamedTuple

import numpy as np

from isjax.ops.ratios import MAX_LOG_RATIO

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
ROUNDING = 1e-9
"""Differences that are smaller, relative to the values, are none."""


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
    mean_weight_standard_error: float = math.nan
    difference: float = math.nan
    """The estimate minus the mean return of the policy that acted, on the same episodes."""
    difference_low: float = math.nan
    """A lower bound of the difference, at the level, from one side: of the bootstrap's quantile (paired: both values
    of the same resamples) and Student's bound the lower one."""
    difference_high: float = math.nan
    """An upper bound likewise, from the other side."""
    better: str = "unclear"
    """Whether the target policy is better than the one that acted, "yes", "no" or "unclear": "unclear" too where the
    estimate is not to be trusted."""


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
    """How few episodes carry most of the weight, or to how few they amount."""
    if of.largest_share > 0.5 and of.carriers > 10:
        return f"1 of {episodes:,} episodes carries {100.0 * of.largest_share:.0f} % of the weight"
    if of.carriers <= episodes / 2:
        verb = "carries" if of.carriers == 1 else "carry"
        return f"{of.carriers:,} of {episodes:,} episodes {verb} {100.0 * of.carried:.0f} % of the weight"
    return f"the effective sample size is {of.effective_sample_size:.1f}"


def is_better(of: Judged) -> str:
    """Whether the target policy is better than the one that acted: "yes", "no" or "unclear"."""
    if of.trust == "no":
        return "unclear"
    rounding = ROUNDING * max(abs(of.value), abs(of.value - of.difference))
    return "yes" if of.difference_low > rounding else "no" if of.difference_high < -rounding else "unclear"
