"""State ratios and what they weigh, against the paper's sums, all paths of a small process, and each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import ope
from isjax.ope import evaluation
from isjax.types import LoggedEpisodes
from tests import oracles_states as oracle

BOTH = pytest.mark.parametrize("self_normalized", [False, True])
SEEDS = pytest.mark.parametrize("seed", range(6))


@functools.partial(jax.jit, static_argnames=("self_normalized", "num_states"))
def marginalized(state, log_rho, r, is_valid, discount, self_normalized=False, num_states=3):
    options = {"num_states": num_states, "self_normalized": self_normalized}
    return ope.marginalized_is(log_rho, r, discount, state, is_valid, **options)


@functools.partial(jax.jit, static_argnames=("self_normalized", "num_states"))
def ratios(state, log_rho, is_valid, self_normalized=False, num_states=3):
    return ope.state_ratios(log_rho, state, is_valid, num_states=num_states, self_normalized=self_normalized)


@functools.partial(jax.jit, static_argnames=("num_states",))
def doubly_robust(state, log_rho, r, v, q, is_valid, discount, num_states=3):
    return ope.marginalized_doubly_robust(
        log_rho, r, discount, state, is_valid, v_tm1=v, q_tm1=q, num_states=num_states
    )


@BOTH
@SEEDS
def test_ratios_are_those_of_the_definition_whatever_the_padding_holds(seed, self_normalized, x64):
    episodes = oracle.random_episodes(seed)
    state, log_rho, *_, is_valid = oracle.pad(episodes, 6)
    found = ratios(state, log_rho, is_valid, self_normalized)
    for t, (d_pi, d_mu) in enumerate(oracle.distributions(episodes, self_normalized)):
        for s in range(3):
            np.testing.assert_allclose(found.d_pi[t, s], d_pi.get(s, 0.0), rtol=1e-10, atol=1e-14)
            np.testing.assert_allclose(found.d_mu[t, s], d_mu.get(s, 0.0), rtol=1e-12)
            expected = d_pi[s] / d_mu[s] if s in d_mu else 0.0
            np.testing.assert_allclose(found.ratio[t, s], expected, rtol=1e-10)
    np.testing.assert_array_equal(found.log_ratio_tm1[~is_valid], 0.0)
    own = np.take_along_axis(np.asarray(found.ratio), np.where(is_valid, state, 0), 1)
    np.testing.assert_allclose(np.exp(found.log_ratio_tm1)[is_valid], own[is_valid], rtol=1e-12)


@BOTH
@SEEDS
@pytest.mark.parametrize("discount", [0.0, 0.7, 1.0])
def test_value_is_that_of_the_definition(seed, self_normalized, discount, x64):
    episodes = oracle.random_episodes(seed)
    state, log_rho, r, _, _, is_valid = oracle.pad(episodes, 6)
    found = marginalized(state, log_rho, r, is_valid, discount, self_normalized)
    expected = oracle.marginalized_is(episodes, discount, self_normalized)
    np.testing.assert_allclose(found.value, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(jnp.mean(found.per_episode), found.value, rtol=1e-9, atol=1e-12)


@SEEDS
def test_doubly_robust_value_is_that_of_the_definition(seed, x64):
    table = np.random.default_rng(seed).normal(size=(6, 3))  # A model's value belongs to a step and a state.
    episodes = [(*e[:3], table[np.arange(len(e[0])), e[0]], e[4]) for e in oracle.random_episodes(seed)]
    found = doubly_robust(*oracle.pad(episodes, 6), 0.7)
    np.testing.assert_allclose(found.value, oracle.marginalized_doubly_robust(episodes, 0.7), rtol=1e-10)


@SEEDS
def test_contributions_are_the_doubly_robust_ones_with_the_values_of_the_log(seed, x64):
    """The efficient influence function: what differentiating with respect to counts has to come to."""
    episodes = oracle.random_episodes(seed)
    state, log_rho, r, _, _, is_valid = oracle.pad(episodes, 6)
    found = marginalized(state, log_rho, r, is_valid, 0.7)
    np.testing.assert_allclose(found.per_episode, oracle.contributions(episodes, 0.7), rtol=1e-9, atol=1e-11)


@BOTH
@pytest.mark.parametrize("seed", range(3))
def test_over_all_paths_ratios_and_values_are_exact(seed, self_normalized, x64):
    process = oracle.Process.random(seed)
    state, log_rho, r, is_valid = oracle.pad(process.paths(), 3)
    assert state.shape[1] == 8**3
    found = ratios(state, log_rho, is_valid, self_normalized, num_states=2)
    d_pi, d_mu = process.distributions(process.pi), process.distributions(np.full((3, 2), 0.5))
    np.testing.assert_allclose(found.d_pi, d_pi, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(found.d_mu, d_mu, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.ratio, np.where(d_mu > 0, d_pi / np.where(d_mu > 0, d_mu, 1.0), 0.0), rtol=1e-10)
    estimate = marginalized(state, log_rho, r, is_valid, 0.9, self_normalized, num_states=2)
    np.testing.assert_allclose(estimate.value, process.value(0.9), rtol=1e-10)


def test_the_mean_product_of_ratios_over_the_paths_into_a_state_is_the_ratio_of_states(x64):
    process = oracle.Process.random(3)
    paths = process.paths()
    state, log_rho, _, is_valid = oracle.pad(paths, 3)
    found = ratios(state, log_rho, is_valid, num_states=2)
    for s in range(2):
        products = [np.exp(np.sum(e[1][:2])) for e in paths if oracle.state_at(e, 2) == s]
        if products:
            np.testing.assert_allclose(found.ratio[2, s], np.mean(products), rtol=1e-10)


def test_over_all_paths_the_doubly_robust_form_is_exact_whatever_the_model(x64):
    process = oracle.Process.random(1)
    state, log_rho, r, is_valid = oracle.pad(process.paths(), 3)
    rng = np.random.default_rng(0)
    q = rng.normal(size=(3, 2, 2))  # by step, state and action
    is_first = np.isclose(log_rho, np.log(process.pi[np.where(is_valid, state, 0), 0] / 0.5))
    action = np.where(is_first, 0, 1)
    v = np.sum(process.pi[None, :2] * q, -1)
    place = np.arange(3)[:, None], np.where(is_valid, state, 0)
    found = doubly_robust(state, log_rho, r, v[place], q[(*place, action)], is_valid, 0.9, num_states=2)
    np.testing.assert_allclose(found.value, process.value(0.9), rtol=1e-10)


def test_estimates_converge_at_the_rate_of_the_root_of_episodes():
    process = oracle.Process.random(2, horizon=5)
    d_pi, d_mu = process.distributions(process.pi), process.distributions(np.full((3, 2), 0.5))
    exact = np.where(d_mu > 0, d_pi / np.where(d_mu > 0, d_mu, 1.0), 0.0)
    errors = []
    for count in (100, 10_000):
        state, log_rho, _, is_valid = process.sample(np.random.default_rng(0), count)
        found = ratios(state, log_rho, is_valid, num_states=2)
        errors.append(np.sqrt(np.mean(np.square(found.ratio - exact)[d_mu > 0])))
    assert errors[1] < 0.3 * errors[0]
    assert errors[1] < 0.05


@BOTH
def test_standard_error_is_the_spread_of_the_estimate(self_normalized):
    process = oracle.Process.random(4, horizon=4)
    logs = process.sample(np.random.default_rng(0), 300 * 300)
    state, log_rho, r, is_valid = (np.stack(np.split(x, 300, axis=1)) for x in logs)

    def estimate(*x):
        return marginalized(*x, 0.9, self_normalized, 2)

    found = jax.jit(jax.vmap(estimate))(state, log_rho, r, is_valid)
    np.testing.assert_allclose(np.mean(found.standard_error), np.std(found.value), rtol=0.15)
    assert abs(np.mean(found.value) - process.value(0.9)) < 5 * np.std(found.value) / np.sqrt(300)


def test_its_error_is_smaller_than_that_of_products():
    process = oracle.Process.random(4, horizon=4)
    state, log_rho, r, is_valid = process.sample(np.random.default_rng(0), 2000)
    by_state = marginalized(state, log_rho, r, is_valid, 0.9, num_states=2)
    by_product = jax.jit(ope.per_decision_is)(log_rho, r, 0.9, is_valid)
    assert by_state.standard_error < 0.9 * by_product.standard_error


def test_where_every_state_has_a_single_path_it_is_per_decision(x64):
    rng = np.random.default_rng(0)
    log_rho, r = rng.normal(size=(2, 3, 5))
    state = np.arange(15).reshape(3, 5)
    found = marginalized(state, log_rho, r, r < np.inf, 0.9, num_states=15)
    plain = ope.per_decision_is(log_rho, r, 0.9)
    np.testing.assert_allclose(found.value, plain.value, rtol=1e-12)


def test_where_the_policies_agree_it_is_the_mean_return_and_every_ratio_is_one(x64):
    episodes = [(e[0], 0.0 * e[1], e[2]) for e in oracle.random_episodes(3)]
    state, log_rho, r, is_valid = oracle.pad(episodes, 6)
    found = marginalized(state, log_rho, r, is_valid, 0.7)
    g = [sum(0.7**t * x for t, x in enumerate(e[2])) for e in episodes]
    np.testing.assert_allclose(found.value, np.mean(g), rtol=1e-12)
    np.testing.assert_allclose(found.effective_sample_size, len(g), rtol=1e-12)
    table = ratios(state, log_rho, is_valid)
    np.testing.assert_allclose(table.ratio[table.d_mu > 0], 1.0, rtol=1e-12)


def test_an_action_that_the_target_never_takes_closes_its_path_and_no_other():
    log_rho = jnp.array([[-jnp.inf, jnp.log(2.0)], [0.0, 0.0]])
    found = ope.state_ratios(log_rho, jnp.array([[0, 0], [1, 2]]), num_states=3)
    np.testing.assert_allclose(found.ratio, [[1.0, 0.0, 0.0], [0.0, 0.0, 2.0]], rtol=1e-6)
    np.testing.assert_array_equal(found.log_ratio_tm1[1, 0], -np.inf)
    joined = ope.state_ratios(log_rho, jnp.array([[0, 0], [1, 1]]), num_states=3)
    np.testing.assert_allclose(joined.ratio[1], [0.0, 1.0, 0.0], rtol=1e-6)


@functools.partial(jax.jit, static_argnames="self_normalized")
def slopes(log_rho, r, state, is_valid, self_normalized):
    """`((value, estimate), gradients)` with respect to log-ratios and rewards."""

    def value(log_rho, r):
        options = {"num_states": 3, "self_normalized": self_normalized}
        found = ope.marginalized_is(log_rho, r, 0.9, state, is_valid, **options)
        return found.value, found

    return jax.value_and_grad(value, (0, 1), has_aux=True)(log_rho, r)


@pytest.mark.parametrize("log_ratio", [-1000.0, 1000.0, "mixed", -np.inf])
def test_extreme_ratios_leave_a_self_normalized_estimate_and_its_gradients_finite(log_ratio):
    state, log_rho, r, _, _, is_valid = oracle.pad(oracle.random_episodes(0), 6)
    extreme = np.resize([1000.0, -1000.0, 0.0], r.shape) if log_ratio == "mixed" else log_ratio
    log_rho, r = np.where(is_valid, extreme, np.nan).astype(np.float32), r.astype(np.float32)
    (value, found), gradients = slopes(log_rho, r, state, is_valid, True)
    assert np.isfinite(value)
    assert all(np.isfinite(x).all() for x in gradients)
    assert np.isfinite(found.per_episode).all()
    assert not np.isnan(found.standard_error)


def test_without_self_normalization_products_that_overflow_saturate():
    ones = jnp.ones((6, 7))
    (value, found), gradients = slopes(500.0 * ones, ones, jnp.zeros((6, 7), int), ones > 0, False)
    np.testing.assert_allclose(value, np.exp(80.0) * np.sum(0.9 ** np.arange(6)), rtol=1e-5)
    assert np.isfinite(found.per_episode).all()
    assert all(np.isfinite(x).all() for x in gradients)


@BOTH
def test_padding_and_empty_columns_are_inert_in_values_and_gradients(self_normalized):
    state, log_rho, r, _, _, is_valid = oracle.pad(oracle.random_episodes(1), 6)
    clean = [np.where(is_valid, x, 0.0).astype(np.float32) for x in (log_rho, r)]
    more = ((0, 2), (0, 3))
    wide = [
        np.pad(np.where(is_valid, x, np.nan), more, constant_values=np.inf).astype(np.float32) for x in (log_rho, r)
    ]
    one = slopes(*clean, np.where(is_valid, state, 0), is_valid, self_normalized)
    other = slopes(*wide, np.pad(state, more, constant_values=9**5), np.pad(is_valid, more), self_normalized)
    np.testing.assert_allclose(one[0][0], other[0][0], rtol=1e-5)
    np.testing.assert_allclose(one[0][1].standard_error, other[0][1].standard_error, rtol=1e-4)
    for x, y in zip(one[1], other[1], strict=True):
        np.testing.assert_allclose(np.pad(x, more), y, rtol=1e-4, atol=1e-6)


def test_one_episode_and_a_log_without_weight_have_an_answer():
    x = jnp.ones((3, 1))
    one = ope.marginalized_is(0.5 * x, x, 1.0, jnp.zeros((3, 1), int), num_states=1)
    np.testing.assert_allclose(one.value, np.sum(np.exp([0.5, 1.0, 1.5])), rtol=1e-5)
    assert one.standard_error == np.inf
    never = jnp.full((3, 2), -jnp.inf)
    none = ope.marginalized_is(never, jnp.ones((3, 2)), 1.0, jnp.zeros((3, 2), int), num_states=1)
    assert (none.value, none.effective_sample_size, none.standard_error) == (0.0, 0.0, np.inf)


def test_bfloat16_is_computed_in_float32():
    state, log_rho, r, _, _, is_valid = oracle.pad(oracle.random_episodes(1), 6)
    narrow = [jnp.asarray(x, jnp.bfloat16) for x in (log_rho, r)]
    found, wide = (marginalized(state, *x, is_valid, 0.9) for x in (narrow, [x.astype(jnp.float32) for x in narrow]))
    assert found.value.dtype == jnp.float32
    np.testing.assert_allclose(found.value, wide.value, rtol=1e-6)


X, S = jnp.ones((3, 2)), jnp.zeros((3, 2), int)


@pytest.mark.parametrize(
    ("state", "num_states", "error", "message"),
    [
        (S + 2, 2, ValueError, r"state_tm1 must be integers in 0 … num_states − 1, which is 1, but one is 2"),
        (S - 1, 2, ValueError, r"state_tm1 must be .* but one is -1"),
        (X, 2, TypeError, "state_tm1 must hold integers"),
        (S[:2], 2, ValueError, r"state_tm1 \[2, 2\]"),
        (S, 0, ValueError, "num_states must be at least 1"),
        (S, 1.5, TypeError, "num_states must be an integer"),
    ],
)
def test_wrong_states_are_refused_by_name(state, num_states, error, message):
    with pytest.raises(error, match=message):
        ope.marginalized_is(X, X, 0.9, state, num_states=num_states)
    with pytest.raises(error, match=message):
        ope.state_ratios(X, state, num_states=num_states)


def log(count=400, horizon=6, seed=4):
    process = oracle.Process.random(seed, horizon=horizon)
    state, log_rho, r, is_valid = process.sample(np.random.default_rng(1), count)
    arrays = (jnp.asarray(x, jnp.float32) for x in (log_rho, r))
    return process, LoggedEpisodes(*arrays, jnp.asarray(is_valid), state_tm1=jnp.asarray(state))


def test_a_log_with_states_is_evaluated_by_state_too_and_its_bootstrap_estimates_the_ratios_anew():
    process, logged = log()
    found = ope.evaluate_log(logged, 0.9, key=jax.random.key(0), estimators=("marginalized_is", "per_decision_is"))
    of, products = found.estimates["marginalized_is"], found.estimates["per_decision_is"]
    assert of.trust == "yes"
    assert of.interval == "percentile bootstrap"
    np.testing.assert_allclose((of.high - of.low) / (2 * 1.96), of.standard_error, rtol=0.15)
    assert of.low < process.value(0.9) < of.high
    assert of.effective_sample_size > products.effective_sample_size
    assert abs(of.mean_weight - 1.0) < 0.2


def test_by_default_estimators_by_state_are_used_where_the_log_has_states():
    names = evaluation.chosen_estimators((), has_model=False, has_states=True)
    assert "marginalized_is" in names
    assert "marginalized_doubly_robust" not in names
    assert "marginalized_is" not in evaluation.chosen_estimators((), has_model=True)
    with pytest.raises(ValueError, match="do without states for a log without a column state, but marginalized_is"):
        evaluation.chosen_estimators(("marginalized_is",), has_model=True)
