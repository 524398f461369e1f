"""Returns of state-action pairs against their definitions, their fixed point, and each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isjax import ops
from tests import oracles_ope
from tests.peers import rlax

ROWS = 6
TRACES = ("retrace", "importance_sampled_q", "tree_backup", "q_lambda", "general_off_policy_q", "rbis")


def rows(seed, streams=3):
    """Random `(q_tm1, v_t, r_t, discount_t, log_ratio_tm1, same_episode_t)`, with ends of both kinds."""
    rng = np.random.default_rng(seed)
    q_tm1, v_t, r_t, log_rho = rng.normal(size=(4, ROWS, streams))
    terminated, truncated = rng.random((2, ROWS, streams)) < 0.2
    return q_tm1, v_t, r_t, np.where(terminated, 0.0, 0.9), log_rho, ~(terminated | truncated)


def call(name, q_tm1, v_t, r_t, discount_t, log_rho, same_t, **options):
    if name == "tree_backup":  # Probabilities are at most 1.
        log_rho = -abs(log_rho)
    arguments = (q_tm1, v_t, r_t, discount_t) + (() if name == "q_lambda" else (log_rho,))
    return getattr(ops, name)(*arguments, same_t, **options)


compiled = functools.partial(jax.jit, static_argnums=0)(call)


def trace(name, log_rho, lambda_, s, t):
    """`β_{s,t}`, by its definition."""
    rho = np.exp(log_rho)
    factors = {
        "retrace": lambda k: lambda_ * min(1.0, rho[k]),
        "importance_sampled_q": lambda k: lambda_ * rho[k],
        "tree_backup": lambda k: lambda_ * np.exp(-abs(log_rho[k])),
        "q_lambda": lambda k: lambda_,
        "general_off_policy_q": lambda k: lambda_ * log_rho[k],  # Any number at all.
    }
    if name != "rbis":
        return np.prod([factors[name](k) for k in range(s + 1, t + 1)])
    beta = 1.0
    for k in range(s + 1, t + 1):
        beta = min(lambda_ ** (k - s), rho[k] * beta)
    return beta


def definition(name, q_tm1, v_t, r_t, discount_t, log_rho, same_t, lambda_):
    result = np.array(q_tm1)
    td = r_t + discount_t * v_t - q_tm1
    for s, i in np.ndindex(q_tm1.shape):
        for t in range(s, ROWS):
            if np.all(same_t[s:t, i]):
                result[s, i] += np.prod(discount_t[s:t, i]) * trace(name, log_rho[:, i], lambda_, s, t) * td[t, i]
    return result


@given(seed=st.integers(0, 2**32 - 1), lambda_=st.sampled_from([0.0, 0.7, 1.0]))
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("name", TRACES)
def test_returns_are_those_of_the_definition(name, seed, lambda_):
    data = rows(seed)
    with jax.enable_x64(True):
        found = compiled(name, *data, lambda_=lambda_)
    np.testing.assert_allclose(found, definition(name, *data, lambda_), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", TRACES)
def test_the_exact_values_are_a_fixed_point_in_expectation(name, x64):
    process = oracles_ope.Mdp.random(1, horizon=3)
    v, q = (np.array(x) for x in zip(*(process.values(k) for k in range(4)), strict=True))
    episodes = []
    for _, states, actions, rewards in process.trajectories():
        togo = [process.horizon - t for t in range(len(actions))]
        q_tm1 = np.array([q[k, s, a] for k, s, a in zip(togo, states, actions, strict=False)])
        v_t = np.array([v[k - 1, s] for k, s in zip(togo, states[1:], strict=True)])
        discount = np.full(len(actions), 0.9)
        episodes.append((q_tm1, v_t, np.array(rewards), discount, process.log_rho(states, actions)))
    *padded, is_valid = oracles_ope.pad(episodes, 3)
    found = compiled(name, *padded, None, is_valid_t=is_valid)
    np.testing.assert_allclose(process.mean_by_first_action(found[0]), q[3, 0], rtol=1e-10)


def test_importance_sampling_is_unbiased_for_any_action_values_that_agree_with_their_means(x64):
    process = oracles_ope.Mdp.random(2, horizon=3)
    guess = np.random.default_rng(0).normal(size=(3, 2))
    guess[-1] = 0.0
    mean = np.sum(process.pi * guess, -1)
    episodes = []
    for _, states, actions, rewards in process.trajectories():
        q_tm1, v_t = guess[list(states[:-1]), list(actions)], mean[list(states[1:])]
        discount = np.where(np.arange(1, len(actions) + 1) == process.horizon, 0.0, 0.9)
        episodes.append((q_tm1, v_t, np.array(rewards), discount, process.log_rho(states, actions)))
    *padded, is_valid = oracles_ope.pad(episodes, 3)
    found = compiled("importance_sampled_q", *padded, None, is_valid_t=is_valid)
    np.testing.assert_allclose(process.mean_by_first_action(found[0]), process.values(3)[1][0], rtol=1e-10)


def test_retrace_is_that_of_rlax_without_time_limits(x64):
    rng = np.random.default_rng(3)
    q = rng.normal(size=(ROWS + 1, 4))
    a = rng.integers(0, 4, ROWS + 1)
    pi, mu = rng.dirichlet(np.ones(4), size=(2, ROWS + 1))
    r_t, discount_t = rng.normal(size=ROWS), np.where(rng.random(ROWS) < 0.2, 0.0, 0.9)
    row = np.arange(ROWS + 1)
    log_rho = np.log(pi[row, a] / mu[row, a])
    v = np.sum(pi * q, -1)
    ours = ops.retrace(q[row, a][:-1], v[1:], r_t, discount_t, log_rho[:-1], lambda_=0.8)
    theirs = rlax.retrace(q[:-1], q[1:], a[:-1], a[1:], r_t, discount_t, pi[1:], mu[row, a][1:], 0.8)
    np.testing.assert_allclose(ours - q[row, a][:-1], theirs, rtol=1e-5)


def test_on_policy_all_that_know_the_ratio_alone_are_the_same(x64):
    q_tm1, v_t, r_t, discount_t, log_rho, same_t = rows(4)
    found = [
        compiled(name, q_tm1, v_t, r_t, discount_t, 0.0 * log_rho, same_t, lambda_=0.7)
        for name in TRACES
        if name not in ("tree_backup", "general_off_policy_q")
    ]
    for x in found[1:]:
        np.testing.assert_allclose(x, found[0], rtol=1e-10)


def test_the_general_operator_given_a_trace_factor_is_the_one_that_has_it(x64):
    q_tm1, v_t, r_t, discount_t, log_rho, same_t = rows(8)
    factors = {"retrace": np.minimum(1.0, np.exp(log_rho)), "tree_backup": np.exp(-abs(log_rho))}
    factors |= {"importance_sampled_q": np.exp(log_rho), "q_lambda": np.ones_like(log_rho)}
    for name, c in factors.items():
        general = compiled("general_off_policy_q", q_tm1, v_t, r_t, discount_t, c, same_t, lambda_=0.7)
        special = compiled(name, q_tm1, v_t, r_t, discount_t, log_rho, same_t, lambda_=0.7)
        np.testing.assert_allclose(general, special, rtol=1e-12)


@pytest.mark.parametrize("name", TRACES)
def test_without_a_trace_it_is_the_one_step_target(name, x64):
    data = rows(5)
    found = compiled(name, *data, lambda_=0.0)
    np.testing.assert_allclose(found, data[2] + data[3] * data[1], rtol=1e-10)


@pytest.mark.parametrize("name", TRACES)
def test_an_episode_cut_by_a_time_limit_sees_nothing_of_the_next(name, x64):
    *floats, same_t = rows(6)
    same_t[:] = True
    same_t[2] = False
    whole = compiled(name, *floats, same_t)
    parts = [compiled(name, *(x[part] for x in (*floats, same_t))) for part in (slice(3), slice(3, None))]
    np.testing.assert_allclose(whole, np.concatenate(parts), rtol=1e-9)


@pytest.mark.parametrize("name", TRACES)
def test_padding_is_inert_in_values_and_gradients(name, x64):
    *floats, same_t = rows(7)
    valid_t = np.arange(ROWS)[:, None] < np.array([6, 4, 1])
    garbage = [np.where(valid_t, x, np.nan) for x in floats]

    def total(floats):
        found = call(name, *floats, same_t, is_valid_t=jnp.asarray(valid_t))
        return jnp.sum(found), found

    gradient, found = jax.jit(jax.grad(total, has_aux=True))(garbage)
    np.testing.assert_array_equal(found[~valid_t], 0.0)
    for x in gradient:
        assert np.isfinite(x).all()
        np.testing.assert_array_equal(x[~valid_t], 0.0)
    alone = compiled(name, *(x[:4, 1] for x in (*floats, same_t)))
    np.testing.assert_allclose(found[:4, 1], alone, rtol=1e-9)


@pytest.mark.parametrize("name", ["retrace", "rbis"])
def test_extreme_ratios_give_finite_values_and_gradients(name):
    x = jnp.ones(4)
    log_rho = jnp.array([0.0, 1000.0, -1000.0, -jnp.inf])
    value, gradient = jax.value_and_grad(lambda ell: jnp.sum(call(name, x, x, x, 0.9 * x, ell, None)))(log_rho)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_a_trace_that_was_cut_comes_back_in_rbis_alone():
    x = jnp.zeros(3)
    r, log_rho = jnp.array([0.0, 0.0, 1.0]), jnp.log(jnp.array([1.0, 0.1, 10.0]))
    assert float(ops.retrace(x, x, r, x + 1.0, log_rho)[0]) == pytest.approx(0.1)
    assert float(ops.rbis(x, x, r, x + 1.0, log_rho)[0]) == pytest.approx(1.0)


@pytest.mark.parametrize("name", TRACES)
def test_wrong_input_is_refused_by_name(name):
    x = jnp.ones(3)
    with pytest.raises(ValueError, match=r"r_t \[2\]"):
        call(name, x, x, x[:2], x, x, None)
    with pytest.raises(TypeError, match="same_episode_t must be boolean"):
        call(name, x, x, x, x, x, x)
    with pytest.raises(ValueError, match="lambda_ must lie in"):
        call(name, x, x, x, x, x, None, lambda_=-0.1)


def test_rbis_refuses_a_bound_per_row():
    x = jnp.ones(3)
    with pytest.raises(ValueError, match="lambda_ must be a scalar"):
        ops.rbis(x, x, x, x, x, lambda_=x)
