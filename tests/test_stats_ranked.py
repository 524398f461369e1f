"""Bootstrap intervals from counts, with `isjax.stats` and SciPy as witnesses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from isjax.stats import bootstrap_interval, interquartile_mean, probability_of_improvement
from isjax.stats.ranked import improvement, interquartile_band
from isjax.stats.summaries import middle_weights


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 10])
def test_resampled_counts_weigh_as_the_trimmed_mean_of_the_resample(n):
    generator = np.random.default_rng(n)
    x = np.sort(generator.normal(size=n))
    counts = generator.multinomial(n, np.full(n, 1 / n), size=20)
    expected = [scipy.stats.trim_mean(np.repeat(x, row), 0.25) for row in counts]
    np.testing.assert_allclose(middle_weights(counts) @ x, expected, rtol=1e-12)


def test_intervals_of_curves_are_those_of_the_bootstrap_of_stats():
    x = np.random.default_rng(0).gamma(1.0, size=(40, 3)).astype(np.float32)
    middle, low, high = interquartile_band(np.random.default_rng(0), x)
    np.testing.assert_allclose(middle, interquartile_mean(jnp.asarray(x)), rtol=1e-5)
    theirs = bootstrap_interval(jax.random.key(0), jnp.asarray(x), interquartile_mean, resamples=4000)
    np.testing.assert_allclose([low, high], theirs, rtol=0.06)


def of_pair(pair):
    return probability_of_improvement(*pair)


def test_improvements_are_those_of_stats():
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 9, 30).astype(np.float32), generator.integers(0, 8, 20).astype(np.float32)
    found, pair = improvement(generator, x, y), (jnp.asarray(x), jnp.asarray(y))
    assert found.probability == pytest.approx(float(of_pair(pair)), rel=1e-5)
    ends = bootstrap_interval(jax.random.key(0), pair, of_pair, resamples=4000, independent=True)
    np.testing.assert_allclose(found[1:], ends, atol=0.02)
