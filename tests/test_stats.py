"""The interquartile mean and the bootstrap, with SciPy as the witness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from isjax.stats import ELEMENTS_AT_ONCE, bootstrap_interval, interquartile_mean


@given(n=st.integers(1, 5), seed=st.integers(0, 2**32 - 1), axis=st.sampled_from([0, 1, -1, None]))
@settings(max_examples=25, deadline=None)
def test_interquartile_mean_is_the_trimmed_mean_of_scipy(n, seed, axis):
    x = np.random.default_rng(seed).normal(size=(n, 3))
    with jax.enable_x64(True):
        np.testing.assert_allclose(interquartile_mean(x, axis), scipy.stats.trim_mean(x, 0.25, axis), rtol=1e-12)


def test_interquartile_mean_of_a_diverged_learner_is_nan():
    assert np.isnan(interquartile_mean(jnp.array([1.0, 2.0, 3.0, jnp.nan])))


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_intervals_of_a_skewed_mean_are_those_of_scipy(method):
    x = np.random.default_rng(0).gamma(1.0, size=30).astype(np.float32)
    ours = bootstrap_interval(jax.random.key(0), x, jnp.mean, resamples=9999, method=method)
    theirs = scipy.stats.bootstrap((x,), np.mean, method=method, random_state=np.random.default_rng(0))
    np.testing.assert_allclose(ours, theirs.confidence_interval, rtol=0.03)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_intervals_of_the_interquartile_mean_cover_as_often_as_they_say(method):
    x = jax.random.normal(jax.random.key(1), (200, 32))
    low, high = jax.jit(
        jax.vmap(lambda key, x: bootstrap_interval(key, x, interquartile_mean, level=0.9, resamples=200, method=method))
    )(jax.random.split(jax.random.key(2), 200), x)
    assert 0.8 < float(np.mean((low < 0.0) & (high > 0.0))) < 0.95


def test_resampling_by_column_narrows_the_interval_of_a_mean_over_tasks():
    levels = jnp.arange(16.0)[:, None] * jnp.ones((1, 8))
    widths = []
    for stratified in (False, True):
        low, high = bootstrap_interval(jax.random.key(0), levels, jnp.mean, stratified=stratified)
        widths.append(float(high - low))
    # Columns that move together: rows drawn together keep all of the spread, drawn apart only 1/√8 of it.
    assert widths[1] == pytest.approx(widths[0] / np.sqrt(8), rel=0.15)


def test_the_key_alone_decides_and_chunks_do_not():
    x = jnp.arange(10.0)
    one, same, other = (bootstrap_interval(jax.random.key(seed), x, jnp.mean, resamples=500) for seed in (0, 0, 1))
    assert one == same
    assert one != other


def test_a_sample_larger_than_a_chunk_is_resampled_one_by_one():
    x = jnp.ones((ELEMENTS_AT_ONCE + 1,), jnp.int8)
    assert bootstrap_interval(jax.random.key(0), x, jnp.max, resamples=2) == (1, 1)


def test_rows_of_a_tree_are_drawn_together():
    x = {"a": jnp.arange(20.0), "b": -jnp.arange(20.0)}
    low, high = bootstrap_interval(jax.random.key(0), x, lambda x: jnp.sum(x["a"] + x["b"]), resamples=50)
    assert (float(low), float(high)) == (0.0, 0.0)


def test_statistics_may_have_any_shape():
    low, high = bootstrap_interval(jax.random.key(0), jnp.ones((5, 2, 3)), lambda x: jnp.mean(x, 0), method="bca")
    np.testing.assert_array_equal(low, jnp.ones((2, 3)))
    np.testing.assert_array_equal(high, jnp.ones((2, 3)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": jax.random.PRNGKey(0)}, "key must be a single typed key"),
        ({"key": 3}, "key must be a single typed key"),
        ({"level": 1.0}, r"level must lie in \(0, 1\)"),
        ({"resamples": 0}, "resamples must be at least 1"),
        ({"method": "normal"}, "method must be one of percentile, bca"),
        ({"x": jnp.array(1.0)}, r"x must be \[N, ...\]"),
        ({"x": jnp.ones((0, 2))}, r"x must be \[N, ...\]"),
        ({"x": (jnp.ones(3), jnp.ones(4))}, r"x\[0\] \[3\], x\[1\] \[4\]"),
        ({"x": ()}, "x must hold at least one array"),
        ({"stratified": True}, r"x must be \[N, M, ...\]"),
        ({"x": jnp.ones(1), "method": "bca"}, "method 'bca' needs"),
    ],
)
def test_wrong_input_is_refused_by_name(options, message):
    arguments = {"key": jax.random.key(0), "x": jnp.ones(3), "statistic": jnp.mean} | options
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(**arguments)


@pytest.mark.parametrize(("x", "axis"), [(jnp.ones(()), 0), (jnp.ones((0, 3)), 0), (jnp.ones(3), 1)])
def test_interquartile_means_of_nothing_are_refused(x, axis):
    with pytest.raises(ValueError, match="x must have numbers along axis"):
        interquartile_mean(x, axis)
