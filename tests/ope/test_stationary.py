"""Visits of all steps together, and ratios linear in features: against loops, exact values, and each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import ope
from tests import oracles_states as oracle


@functools.partial(jax.jit, static_argnames=("self_normalized", "horizon", "num_states"))
def stationary(state, log_rho, r, is_valid, truncated=None, self_normalized=True, horizon=None, num_states=3):
    options = {"num_states": num_states, "self_normalized": self_normalized, "horizon": horizon}
    return ope.stationary_is(log_rho, r, 0.7, state, is_valid, truncated_t=truncated, **options)


@functools.partial(jax.jit, static_argnames="ridge")
def linear(feature, log_rho, r, is_valid, truncated=None, ridge=0.0):
    return ope.linear_stationary_is(log_rho, r, 0.7, feature, is_valid, truncated_t=truncated, ridge=ridge)


@pytest.mark.parametrize("self_normalized", [False, True])
@pytest.mark.parametrize("horizon", [None, 4])
@pytest.mark.parametrize("seed", range(3))
def test_value_is_that_of_the_definition_whatever_the_padding_holds(seed, horizon, self_normalized, x64):
    episodes = [(e[0], 0.3 * e[1], e[2]) for e in oracle.random_episodes(seed)]
    state, log_rho, r, is_valid = oracle.pad(episodes, 6)
    found = stationary(state, log_rho, r, is_valid, None, self_normalized, horizon)
    expected = oracle.stationary_is(episodes, 0.7, 3, self_normalized=self_normalized, horizon=horizon)
    np.testing.assert_allclose(found.value, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(jnp.mean(found.per_episode), found.value, rtol=1e-9, atol=1e-12)


def test_what_was_cut_goes_on_as_the_visits_before_it_did(x64):
    """Two states in turn, rewards 1 and 0, cut after three steps: `1 + γ² + γ⁴ + …`; as an end, only two rewards."""
    state, r = np.array([[0], [1], [0]]), np.array([[1.0], [0.0], [1.0]])
    cut = np.array([[False], [False], [True]])
    found = stationary(state, 0.0 * r, r, r < np.inf, cut)
    np.testing.assert_allclose(found.value, 1 / (1 - 0.49), rtol=1e-12)
    ended = stationary(state, 0.0 * r, r, r < np.inf, ~cut & cut)
    np.testing.assert_allclose(ended.value, 1 / (1 - 0.49 / 2), rtol=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_over_all_paths_the_value_of_as_many_steps_is_exact(seed, x64):
    """Transitions of the last step are left out, since the list does not tell where they lead."""
    process = oracle.Process.random(seed)
    paths = process.paths()
    state, log_rho, r, is_valid = oracle.pad(paths, 3)
    cut = np.zeros(state.shape, bool)
    cut[2] = True
    found = ope.stationary_is(log_rho, r, 0.7, state, is_valid, num_states=2, truncated_t=cut, horizon=3)
    np.testing.assert_allclose(found.value, process.value(0.7), rtol=1e-9)


def one_hot(state, states=3):
    return np.eye(states)[np.clip(state, 0, states - 1)]


@pytest.mark.parametrize("seed", range(3))
def test_with_a_feature_a_state_the_linear_form_is_the_table(seed, x64):
    state, log_rho, r, _, _, is_valid = oracle.pad(oracle.random_episodes(seed), 6)
    log_rho = 0.3 * log_rho
    feature = np.where(is_valid[..., None], one_hot(state), np.nan)
    table = stationary(state, log_rho, r, is_valid, None, False)
    found = linear(feature, log_rho, r, is_valid)
    np.testing.assert_allclose(found.value, table.value, rtol=1e-9)
    np.testing.assert_allclose(found.standard_error, table.standard_error, rtol=1e-7)
    ratio = ope.linear_density_ratio(log_rho, 0.7, feature, is_valid)
    value = np.sum(np.where(is_valid, ratio.ratio_tm1 * np.exp(log_rho) * r, 0.0)) / is_valid.sum() / 0.3
    np.testing.assert_allclose(value, table.value, rtol=1e-9)
    np.testing.assert_array_equal(ratio.ratio_tm1[~is_valid], 0.0)


def test_the_linear_ratio_solves_its_equation_for_every_feature(x64):
    rng = np.random.default_rng(0)
    feature, log_rho = rng.normal(size=(5, 40, 3)), 0.3 * rng.normal(size=(5, 40))
    found = ope.linear_density_ratio(log_rho, 0.7, feature)
    following = np.concatenate([feature[1:], np.zeros((1, 40, 3))])
    difference = feature - 0.7 * np.exp(log_rho)[..., None] * following
    left = np.mean(np.asarray(found.ratio_tm1)[..., None] * difference, (0, 1))
    np.testing.assert_allclose(left, 0.3 * feature[0].mean(0), rtol=1e-9)


def test_its_value_is_that_of_least_squares_temporal_differences(x64):
    """Lagoudakis & Parr's fixed point for the same features: the primal of what is solved here."""
    rng = np.random.default_rng(1)
    feature, log_rho, r = rng.normal(size=(5, 40, 3)), 0.3 * rng.normal(size=(5, 40)), rng.normal(size=(5, 40))
    following = np.concatenate([feature[1:], np.zeros((1, 40, 3))])
    rho = np.exp(log_rho)[..., None]
    matrix = np.einsum("tni,tnj->ij", feature, feature - 0.7 * rho * following)
    weights = np.linalg.solve(matrix, np.einsum("tni,tn->i", feature, rho[..., 0] * r))
    found = linear(feature, log_rho, r, r < np.inf)
    np.testing.assert_allclose(found.value, np.mean(feature[0] @ weights), rtol=1e-9)


def test_redundant_features_and_a_ridge_have_an_answer(x64):
    rng = np.random.default_rng(2)
    feature, log_rho, r = rng.normal(size=(5, 40, 2)), 0.3 * rng.normal(size=(5, 40)), rng.normal(size=(5, 40))
    twice = np.concatenate([feature, feature], -1)
    one, other = (linear(x, log_rho, r, r < np.inf) for x in (feature, twice))
    np.testing.assert_allclose(one.value, other.value, rtol=1e-8)
    assert np.isfinite(linear(twice, log_rho, r, r < np.inf, None, 0.1).value)


def test_extreme_ratios_leave_a_self_normalized_estimate_finite():
    state, _, r, _, _, is_valid = oracle.pad(oracle.random_episodes(0), 6)
    extreme = np.where(is_valid, np.resize([1000.0, -1000.0, 0.0], r.shape), np.nan)
    found = stationary(state, extreme.astype(np.float32), r.astype(np.float32), is_valid)
    assert np.isfinite(found.value)
    assert np.isfinite(found.per_episode).all()


X = jnp.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ope.stationary_is(X, X, 1.0, X.astype(int), num_states=2), "discount must be below 1 .* it is 1.0"),
        (lambda: ope.stationary_is(X, X, 0.9, X.astype(int), num_states=9999), "num_states must be at most 4096"),
        (lambda: ope.stationary_is(X, X, 0.9, X.astype(int), num_states=2, horizon=0), "horizon must be at least 1"),
        (lambda: ope.stationary_is(X, X, 0.9, X.astype(int), num_states=1), "state_tm1 must be integers in"),
        (lambda: ope.linear_density_ratio(X, 0.9, X), r"feature_tm1 must be \[T, N, K\], but its shape is \[2, 3\]"),
        (lambda: ope.linear_density_ratio(X, 1.0, X[..., None]), "discount must be below 1"),
        (lambda: ope.linear_density_ratio(X, 0.9, X[..., None], ridge=-1.0), "ridge must be finite and at least 0"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
