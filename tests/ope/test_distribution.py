"""The distribution of returns: against sorting by hand, known distributions, and bands that hold."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from isjax import ope
from tests import oracles_ope as oracle

NAMES = ("quantile_is", "cvar_is", "variance_is")


@functools.partial(jax.jit, static_argnames=("name", "probability"))
def estimated(name, log_rho, r, is_valid=None, probability=None):
    options = {} if probability is None else {"probability": probability}
    return getattr(ope, name)(log_rho, r, 0.9, is_valid, **options)


def weights_and_returns(episodes):
    w = np.array([oracle.whole(e) for e in episodes])
    return w / w.sum(), np.array([oracle.returns(e, 0.9) for e in episodes])


def by_definition(name, w, g, probability):
    order = np.argsort(g)
    w, g = w[order], g[order]
    if name == "variance_is":
        return np.sum(w * (g - np.sum(w * g)) ** 2)
    if name == "quantile_is":
        return g[np.searchsorted(np.cumsum(w), probability - 1e-12)]
    # The mean of the worst share, the last return counting in part.
    taken = np.minimum(np.cumsum(w), probability) - np.minimum(np.cumsum(w) - w, probability)
    return np.sum(taken * g) / probability


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("probability", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_value_is_that_of_the_definition_whatever_the_padding_holds(name, probability, seed, x64):
    episodes = oracle.random_episodes(seed, count=9)
    log_rho, r, _, _, is_valid = oracle.pad(episodes, 6)
    found = estimated(name, log_rho, r, is_valid, None if name == "variance_is" else probability)
    expected = by_definition(name, *weights_and_returns(episodes), probability)
    np.testing.assert_allclose(found.value, expected, rtol=1e-9, atol=1e-12)


def test_cvar_of_everything_is_the_weighted_mean(x64):
    log_rho, r, _, _, is_valid = oracle.pad(oracle.random_episodes(0), 6)
    found, mean = estimated("cvar_is", log_rho, r, is_valid, 1.0), ope.weighted_is(log_rho, r, 0.9, is_valid)
    np.testing.assert_allclose(found.value, mean.value, rtol=1e-12)
    np.testing.assert_allclose(found.standard_error, mean.standard_error, rtol=1e-9)


def gaussians(rng, count, gap=0.5):
    """One step: μ draws rewards from N(0, 1), π from N(gap, 1)."""
    x = rng.normal(size=(1, count))
    return gap * x - gap**2 / 2, x


KNOWN = {"quantile_is": 0.5 - 1.2816, "cvar_is": 0.5 - 1.7550, "variance_is": 1.0}
"""Of N(0.5, 1): its 10 % quantile, the mean below it, its variance."""


@pytest.mark.parametrize("name", NAMES)
def test_estimates_are_right_and_their_standard_errors_are_their_spread(name):
    log_rho, r = (x.reshape(200, 1, 500) for x in gaussians(np.random.default_rng(0), 100_000))
    probability = None if name == "variance_is" else 0.1
    found = jax.jit(jax.vmap(lambda *x: estimated(name, *x, None, probability)))(log_rho, r)
    spread = np.std(found.value)
    assert abs(np.mean(found.value) - KNOWN[name]) < 5 * spread / np.sqrt(200) + 0.02
    np.testing.assert_allclose(np.mean(found.standard_error), spread, rtol=0.25 if name == "quantile_is" else 0.15)


@functools.partial(jax.jit, static_argnames="resamples")
def distribution(key, log_rho, r, is_valid=None, resamples=200):
    return ope.return_distribution(log_rho, r, 0.9, is_valid, key=key, resamples=resamples)


def test_the_function_is_the_running_sum_of_the_weights_of_sorted_returns(x64):
    episodes = oracle.random_episodes(1, count=9)
    log_rho, r, _, _, is_valid = oracle.pad(episodes, 6)
    wide = [
        np.pad(x, ((0, 0), (0, 2)), constant_values=fill) for x, fill in ((log_rho, 1.0), (r, -9.0), (is_valid, False))
    ]
    found = distribution(jax.random.key(0), *wide)
    w, g = weights_and_returns(episodes)
    np.testing.assert_allclose(found.returns, [*np.sort(g), np.inf, np.inf], rtol=1e-9)
    np.testing.assert_allclose(found.cdf, [*np.cumsum(w[np.argsort(g)]), 1.0, 1.0], rtol=1e-9)
    assert np.all((found.low <= found.cdf) & (found.cdf <= found.high))
    assert found.cdf[-1] == 1.0


def test_the_band_holds_the_true_function_as_a_whole_in_most_logs():
    log_rho, r = (x.reshape(100, 1, 300) for x in gaussians(np.random.default_rng(1), 30_000))
    found = jax.jit(jax.vmap(lambda *x: ope.return_distribution(*x[1:], 0.9, key=x[0], resamples=200)))(
        jax.random.split(jax.random.key(0), 100), log_rho, r
    )
    true = norm.cdf(np.asarray(found.returns), 0.5)
    slack = 1e-3  # The ends, where the band has no width yet.
    holds = np.all((found.low - slack <= true) & (true <= found.high + slack), axis=1)
    assert 0.85 <= holds.mean() <= 1.0


def test_quantiles_and_their_intervals_follow_from_the_band():
    log_rho, r = gaussians(np.random.default_rng(2), 500)
    found = distribution(jax.random.key(0), log_rho, r)
    low, high = found.quantile_interval(0.5)
    assert low < found.quantile(0.5) < high
    assert low < 0.5 < high
    assert found.quantile(0.5) == estimated("quantile_is", log_rho, r, None, 0.5).value
    assert found.quantile_interval(0.0).low == -np.inf


@pytest.mark.parametrize("name", NAMES)
def test_an_episode_without_weight_is_silent_and_a_log_without_any_has_an_answer(name):
    log_rho, r = (jnp.asarray(x, jnp.float32) for x in np.random.default_rng(3).normal(size=(2, 1, 6)))
    silent = log_rho.at[0, 2].set(-jnp.inf)
    one, other = (estimated(name, silent, r.at[0, 2].set(x)) for x in (jnp.nan, 0.0))
    for x, y in zip(one[:3], other[:3], strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5)
    none = estimated(name, jnp.full((1, 6), -jnp.inf), r)
    assert (none.value, none.effective_sample_size, none.standard_error) == (0.0, 0.0, np.inf)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("quantile_is", {"probability": 1.5}, r"probability must lie in \[0, 1\], but it is 1.5"),
        ("cvar_is", {"probability": 0.0}, "probability must be above 0 and at most 1, but it is 0"),
        ("return_distribution", {"key": None, "level": 1.0}, r"level must lie in \(0, 1\), but it is 1"),
    ],
)
def test_wrong_options_are_named(name, options, message):
    x = jnp.zeros((1, 4))
    with pytest.raises(ValueError, match=message):
        getattr(ope, name)(x, x, 0.9, **options)
