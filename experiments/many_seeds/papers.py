"""Papers with few seeds, drawn from the returns of many: how often each says what is not so."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from isjax.stats import bootstrap_interval, interquartile_mean

LEVEL = 0.95


def draw_papers(rng: np.random.Generator, returns: np.ndarray, papers: int, seeds: int) -> np.ndarray:
    """`[papers, seeds]` returns, each paper's drawn with replacement from `[N]`."""
    return returns[rng.integers(len(returns), size=(papers, seeds))]


def estimates(papers: np.ndarray) -> dict[str, np.ndarray]:
    """`[papers]` of each statistic over the seeds of each paper."""
    return {"mean": papers.mean(1), "iqm": stats.trim_mean(papers, 0.25, axis=1)}


def truth(returns: np.ndarray) -> dict[str, float]:
    """Each statistic of all `[N]` returns."""
    return {name: float(x[0]) for name, x in estimates(returns[None]).items()}


def student_interval(papers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`[papers]` ends of Student's intervals of the mean."""
    n = papers.shape[1]
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * papers.std(1, ddof=1) / np.sqrt(n)
    return papers.mean(1) - half, papers.mean(1) + half


def bootstrapped(papers: np.ndarray, seed: int, resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """`[papers]` ends of percentile bootstrap intervals of the interquartile mean, as isjax's reports show them."""
    keys = jax.random.split(jax.random.key(seed), len(papers))
    interval = jax.vmap(lambda key, x: bootstrap_interval(key, x, interquartile_mean, level=LEVEL, resamples=resamples))
    low, high = interval(keys, jnp.asarray(papers, jnp.float32))
    return np.asarray(low), np.asarray(high)


def coverage(interval: tuple[np.ndarray, np.ndarray], truth: float) -> float:
    """The share of intervals that hold the true value, up to the rounding of float32."""
    low, high = interval
    slack = 1e-5 * abs(truth)
    return float(np.mean((low - slack <= truth) & (truth <= high + slack)))


def comparison(better: np.ndarray, worse: np.ndarray) -> dict[str, float]:
    """What papers `[papers, seeds]` say of two algorithms, of which one is better in truth.

    Returns:
      shares of papers: whose means stand in the wrong order; who call the better one better at the 5 % level of
      Welch's two-sided test; who call the worse one better.
    """
    moments = [y for x in (better, worse) for y in (x.mean(1), x.std(1, ddof=1), x.shape[1])]
    # Papers in which nothing varies have no test: a difference then is certain, and equality is nothing.
    with np.errstate(divide="ignore", invalid="ignore"):
        test = stats.ttest_ind_from_stats(*moments, equal_var=False)
    difference, certain = moments[0] - moments[3], (moments[1] == 0) & (moments[4] == 0)
    significant = np.where(certain, difference != 0, test.pvalue < 1 - LEVEL)
    return {
        "wrong_order": float(np.mean(difference < 0)),
        "found": float(np.mean(significant & (difference > 0))),
        "reversed": float(np.mean(significant & (difference < 0))),
    }
