"""The interquartile mean and the bootstrap, with SciPy as the witness."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from isjax.stats import bootstrap_interval, interquartile_mean, probability_of_improvement
from isjax.stats.bootstrap import ELEMENTS_AT_ONCE


@given(n=st.integers(1, 5), seed=st.integers(0, 2**32 - 1), axis=st.sampled_from([0, 1, -1, None]))
@settings(max_examples=25, deadline=None)
def test_interquartile_mean_is_the_trimmed_mean_of_scipy(n, seed, axis):
    x = np.random.default_rng(seed).normal(size=(n, 3))
    with jax.enable_x64(True):
        found = jax.jit(interquartile_mean, static_argnums=1)(x, axis)
        np.testing.assert_allclose(found, scipy.stats.trim_mean(x, 0.25, axis), rtol=1e-12)


def test_interquartile_mean_of_a_diverged_learner_is_nan():
    assert np.isnan(interquartile_mean(jnp.array([1.0, 2.0, 3.0, jnp.nan])))


@given(n=st.integers(1, 6), k=st.integers(1, 6), tasks=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_probability_of_improvement_counts_every_pair_and_ties_by_half(n, k, tasks, seed):
    generator = np.random.default_rng(seed)
    x, y = generator.integers(0, 4, (n, tasks)).astype(float), generator.integers(0, 4, (k, tasks)).astype(float)
    pairs = [
        np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a in x[:, task] for b in y[:, task]])
        for task in range(tasks)
    ]
    with jax.enable_x64(True):
        compiled = jax.jit(probability_of_improvement)
        np.testing.assert_allclose(compiled(x, y), np.mean(pairs), rtol=1e-12)
        np.testing.assert_allclose(compiled(y, x), 1 - np.mean(pairs), rtol=1e-10, atol=1e-12)


def test_probability_of_improvement_of_one_task_needs_no_axis_for_it():
    x, y = jnp.array([1.0, 5.0]), jnp.array([0.0, 2.0, 7.0])
    assert probability_of_improvement(x, y) == probability_of_improvement(x[:, None], y[:, None]) == pytest.approx(0.5)


@pytest.mark.parametrize("place", [0, 1])
def test_probability_of_improvement_with_a_diverged_run_is_nan(place):
    pair = [jnp.array([1.0, 2.0]), jnp.array([0.0, 1.0, 3.0])]
    pair[place] = pair[place].at[0].set(jnp.nan)
    assert np.isnan(probability_of_improvement(*pair))


@pytest.mark.parametrize(("x", "y"), [((3,), (3, 1)), ((3, 2), (3, 1)), ((0,), (3,)), ((3,), (0,)), ((), ())])
def test_probability_of_improvement_refuses_shapes_that_make_no_pairs(x, y):
    with pytest.raises(ValueError, match=r"x and y must be \[N\] and \[K\]"):
        probability_of_improvement(jnp.ones(x), jnp.ones(y))


def improvement(pair):
    return probability_of_improvement(*pair)


def test_the_interval_of_an_improvement_is_that_of_every_possible_resample():
    x, y = np.array([0.0, 3.0]), np.array([1.0, 2.0, 4.0])
    every = [
        np.mean([[a > b for b in drawn_y] for a in drawn_x])
        for drawn_x in itertools.product(x, repeat=2)
        for drawn_y in itertools.product(y, repeat=3)
    ]
    found = bootstrap_interval(
        jax.random.key(0), (jnp.array(x), jnp.array(y)), improvement, level=0.6, resamples=20_000, independent=True
    )
    np.testing.assert_allclose(found, np.quantile(every, [0.2, 0.8]), atol=1e-6)


def test_independent_samples_are_drawn_apart_and_stratified_by_task():
    x = jax.random.normal(jax.random.key(1), (20, 4))
    widths = []
    for independent in (False, True):
        low, high = bootstrap_interval(
            jax.random.key(0), (x, x + 1.0), lambda pair: jnp.mean(pair[0]) - jnp.mean(pair[1]),
            stratified=True, independent=independent,
        )  # fmt: skip
        widths.append(float(high - low))
    assert widths[0] == pytest.approx(0.0, abs=1e-5)
    assert widths[1] == pytest.approx(2 * 1.96 * np.sqrt(2 / 80), rel=0.3)


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
        ({"x": (jnp.ones(3), jnp.ones(0)), "independent": True}, r"x must be \[N, ...\]"),
        ({"independent": True, "method": "bca"}, "method must be 'percentile' for independent samples"),
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


@pytest.mark.parametrize("count", [1, 3, 7, 1001])
def test_the_interquartile_mean_of_equal_numbers_is_that_number_and_so_is_its_interval(count):
    x = jnp.full(count, 0.1)
    assert interquartile_mean(x) == x[0]
    for method in ("percentile", "bca")[:count]:
        assert bootstrap_interval(jax.random.key(0), x, interquartile_mean, resamples=50, method=method) == (x[0], x[0])


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_infinite_numbers_give_infinite_ends_and_no_nan(method):
    """With 41 resamples, both ends lie on one of them: nothing is interpolated."""
    options = {"resamples": 41, "method": method}
    one = bootstrap_interval(jax.random.key(0), jnp.array([1.0, 2.0, jnp.inf]), interquartile_mean, **options)
    assert np.isfinite(one.low)
    assert one.high == np.inf
    assert bootstrap_interval(jax.random.key(0), jnp.full(3, jnp.inf), interquartile_mean, **options) == (
        np.inf,
        np.inf,
    )


def test_an_interval_of_what_is_unknown_is_unknown():
    for method in ("percentile", "bca"):
        assert np.all(
            np.isnan(bootstrap_interval(jax.random.key(0), jnp.array([1.0, jnp.nan]), jnp.mean, method=method))
        )


@pytest.mark.parametrize("level", [0.5, 0.9, 0.999])
def test_quantiles_of_resamples_are_those_of_numpy(level):
    x = jax.random.normal(jax.random.key(0), (9, 2))
    kept = bootstrap_interval(jax.random.key(1), x, lambda x: jnp.mean(x, 0), level=level, resamples=33)
    keys = jax.random.split(jax.random.key(1), 33)
    means = np.array([np.mean(x[jax.random.randint(key, (9,), 0, 9)], 0) for key in keys])
    np.testing.assert_allclose(kept, np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0), rtol=1e-5)


def test_a_number_of_resamples_that_is_no_integer_is_refused():
    with pytest.raises(TypeError, match=r"resamples must be an integer, but it is 2\.5"):
        bootstrap_interval(jax.random.key(0), jnp.ones(3), jnp.mean, resamples=2.5)
