"""Returns of states against their definitions, at episode ends, and against each other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isjax import ops
from tests import oracles_ope

ROWS = 6
n_step = jax.jit(ops.n_step_off_policy, static_argnames=("n", "kind"))
control_variate = jax.jit(ops.per_decision_control_variate)
lambda_returns, gae = jax.jit(ops.lambda_returns), jax.jit(ops.gae)


def rows(seed, streams=3):
    """Random `(v_tm1, v_t, r_t, discount_t, log_rho_tm1, same_episode_t)`, with ends of both kinds."""
    rng = np.random.default_rng(seed)
    v_tm1, v_t, r_t, log_rho = rng.normal(size=(4, ROWS, streams))
    terminated, truncated = rng.random((2, ROWS, streams)) < 0.2
    same_t = ~(terminated | truncated)
    v_t = np.where(same_t, np.concatenate([v_tm1[1:], v_t[-1:]]), v_t)
    return v_tm1, v_t, r_t, np.where(terminated, 0.0, 0.9), log_rho, same_t


def last_row(same_t, t, n=ROWS):
    """The last of the n rows from t on that belong to the episode and the unroll."""
    k = t
    while k < min(t + n, ROWS) - 1 and same_t[k]:
        k += 1
    return k


def n_step_return(v_t, r_t, discount_t, same_t, t, n):
    last = last_row(same_t, t, n)
    total = sum(np.prod(discount_t[t:k]) * r_t[k] for k in range(t, last + 1))
    return total + np.prod(discount_t[t : last + 1]) * v_t[last]


def n_step_ratios(log_rho, same_t, t, n, kind):
    """Rows whose ratios count: t … t+n−1, t+1 … t+n, or t+1 … t+n−1, as far as the episode goes."""
    end = last_row(same_t, t)
    first, last = {"state": (t, t + n - 1), "sarsa": (t + 1, t + n), "expected_sarsa": (t + 1, t + n - 1)}[kind]
    return sum(log_rho[k] for k in range(first, min(last, end) + 1))


def by_stream(function, *arrays):
    return np.array([[function(*(x[:, i] for x in arrays), t) for i in range(3)] for t in range(ROWS)])


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("kind", ["state", "sarsa", "expected_sarsa"])
@pytest.mark.parametrize("n", [1, 3, 9])
def test_n_step_returns_and_their_ratios_are_those_of_the_definition(n, kind, seed):
    _, v_t, r_t, discount_t, log_rho, same_t = rows(seed)
    with jax.enable_x64(True):
        found = n_step(v_t, r_t, discount_t, log_rho, same_t, n=n, kind=kind)
    expected = by_stream(lambda *x: n_step_return(*x, n), v_t, r_t, discount_t, same_t)
    np.testing.assert_allclose(found.return_tm1, expected, rtol=1e-10)
    weight = by_stream(lambda *x: n_step_ratios(*x, n, kind), log_rho, same_t)
    np.testing.assert_allclose(found.log_weight_tm1, weight, rtol=1e-10, atol=1e-12)


def test_left_out_episode_ends_are_where_the_discount_is_zero(x64):
    _, v_t, r_t, discount_t, log_rho, _ = rows(0)
    one = n_step(v_t, r_t, discount_t, log_rho, n=3)
    other = n_step(v_t, r_t, discount_t, log_rho, discount_t > 0, n=3)
    np.testing.assert_array_equal(one, other)


def test_an_impossible_action_after_the_episode_is_not_in_its_weight():
    x = jnp.ones(2)
    found = ops.n_step_off_policy(x, x, x, jnp.array([0.5, -jnp.inf]), jnp.array([False, True]), n=2)
    np.testing.assert_array_equal(found.log_weight_tm1, [0.5, -np.inf])


@pytest.mark.parametrize("kind", ["state", "sarsa", "expected_sarsa"])
def test_weighted_n_step_returns_are_unbiased(kind, x64):
    process = oracles_ope.Mdp.random(3, horizon=3)
    v, q = (np.array(x) for x in zip(*(process.values(k) for k in range(4)), strict=True))
    episodes = []
    for _, states, actions, rewards in process.trajectories():
        reached = [(process.horizon - t, state) for t, state in enumerate(states[1:], 1)]
        v_t = np.array([v[k, s] for k, s in reached])
        if kind == "sarsa":
            v_t[:-1] = [q[k, s, a] for (k, s), a in zip(reached[:-1], actions[1:], strict=True)]
        episodes.append((v_t, np.array(rewards), np.full(len(actions), 0.9), process.log_rho(states, actions)))
    *padded, is_valid = oracles_ope.pad(episodes, 3)
    found = n_step(*padded, n=2, kind=kind, is_valid_t=is_valid)
    by_action = process.mean_by_first_action(np.exp(found.log_weight_tm1[0]) * found.return_tm1[0])
    if kind == "state":
        np.testing.assert_allclose(process.mu[0] @ by_action, v[3, 0], rtol=1e-10)
    else:
        np.testing.assert_allclose(by_action, q[3, 0], rtol=1e-10)


def control_variate_return(v_tm1, v_t, r_t, discount_t, log_rho, same_t, t, lambda_=1.0):
    """`V + Σ_k (Π γ λ ρ) ρ_k δ_k`, the sum that equation 7.13 unrolls to."""
    rho, td = np.exp(log_rho), r_t + discount_t * v_t - v_tm1
    reach = range(t, last_row(same_t, t) + 1)
    return v_tm1[t] + sum(np.prod(lambda_ * discount_t[t:k] * rho[t:k]) * rho[k] * td[k] for k in reach)


@given(seed=st.integers(0, 2**32 - 1), lambda_=st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=20, deadline=None)
def test_control_variate_returns_are_those_of_the_definition(seed, lambda_):
    data = rows(seed)
    with jax.enable_x64(True):
        found = control_variate(*data, lambda_=lambda_)
    expected = by_stream(lambda *x: control_variate_return(*x, lambda_), *data)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


def test_control_variate_returns_are_unclipped_vtrace(x64):
    data = rows(1)
    unclipped = ops.vtrace(*data, clip_rho=np.inf, clip_c=np.inf).target_tm1
    np.testing.assert_allclose(ops.per_decision_control_variate(*data), unclipped, rtol=1e-12)


def lambda_return(v_t, r_t, discount_t, same_t, t, lambda_):
    """The mixture `(1 − λ) Σ_n λ^{n−1} G_{t:t+n}`, the longest return taking what is left."""
    longest = last_row(same_t, t) - t + 1
    mixture = [(1 - lambda_) * lambda_ ** (n - 1) for n in range(1, longest)] + [lambda_ ** (longest - 1)]
    return sum(w * n_step_return(v_t, r_t, discount_t, same_t, t, n) for n, w in enumerate(mixture, 1))


@given(seed=st.integers(0, 2**32 - 1), lambda_=st.sampled_from([0.0, 0.7, 1.0]))
@settings(max_examples=20, deadline=None)
def test_lambda_returns_are_mixtures_of_n_step_returns_and_gae_is_their_advantage(seed, lambda_):
    v_tm1, v_t, r_t, discount_t, _, same_t = rows(seed)
    with jax.enable_x64(True):
        found = lambda_returns(v_t, r_t, discount_t, same_t, lambda_=lambda_)
        advantage = gae(v_tm1, v_t, r_t, discount_t, same_t, lambda_=lambda_)
    expected = by_stream(lambda *x: lambda_return(*x, lambda_), v_t, r_t, discount_t, same_t)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(advantage, expected - v_tm1, rtol=1e-9, atol=1e-10)


def test_gae_is_the_advantage_of_vtrace_on_policy(x64):
    v_tm1, v_t, r_t, discount_t, log_rho, same_t = rows(2)
    vtrace = ops.vtrace(v_tm1, v_t, r_t, discount_t, 0.0 * log_rho, same_t, lambda_=0.7)
    np.testing.assert_allclose(
        ops.gae(v_tm1, v_t, r_t, discount_t, same_t, lambda_=0.7), vtrace.advantage_tm1, rtol=1e-10
    )


OPERATORS = {
    "n_step": lambda v_tm1, *x, **options: n_step(*x, n=3, kind="sarsa", **options),
    "control_variate": control_variate,
    "lambda_returns": lambda v_tm1, v, r, d, ell, same, **o: lambda_returns(v, r, d, same, lambda_=0.7, **o),
    "gae": lambda v_tm1, v, r, d, ell, same, **o: gae(v_tm1, v, r, d, same, lambda_=0.7, **o),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_episode_cut_by_a_time_limit_sees_nothing_of_the_next(name, x64):
    *floats, same_t = rows(4)
    same_t[:] = True
    same_t[2] = False
    whole = OPERATORS[name](*floats, same_t)
    parts = [OPERATORS[name](*(x[part] for x in (*floats, same_t))) for part in (slice(3), slice(3, None))]
    for x, *halves in zip(*(jax.tree.leaves(y) for y in (whole, *parts)), strict=True):
        np.testing.assert_allclose(x, np.concatenate(halves), rtol=1e-12)


@pytest.mark.parametrize("name", OPERATORS)
def test_padding_is_inert_in_values_and_gradients(name, x64):
    *floats, same_t = rows(5)
    valid_t = np.arange(ROWS)[:, None] < np.array([6, 4, 1])
    garbage = [np.where(valid_t, x, np.nan) for x in floats]
    zeros = [np.where(valid_t, x, 0.0) for x in floats]

    def total(floats, same_t):
        out = OPERATORS[name](*floats, same_t, is_valid_t=jnp.asarray(valid_t))
        return sum(jnp.sum(x) for x in jax.tree.leaves(out)), out

    run = jax.jit(jax.grad(total, has_aux=True))
    (gradient, found), (_, expected) = (run(x, same_t) for x in (garbage, zeros))
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(x, y)
        np.testing.assert_array_equal(np.asarray(x)[~valid_t], 0.0)
    for x in gradient:
        assert np.isfinite(x).all()
        np.testing.assert_array_equal(x[~valid_t], 0.0)
    alone = OPERATORS[name](*(x[:4, 1] for x in (*floats, same_t)))
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(x[:4, 1], y, rtol=1e-12)


@pytest.mark.parametrize("name", OPERATORS)
def test_batched_streams_are_the_same_as_one_by_one(name):
    data = rows(6)
    together = OPERATORS[name](*data)
    alone = jax.jit(jax.vmap(OPERATORS[name], 1, 1))(*data)
    for x, y in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5)


@pytest.mark.parametrize("log_rho", [-1000.0, 1000.0])
def test_control_variate_returns_of_extreme_ratios_have_finite_gradients(log_rho):
    x = jnp.ones(2)
    gradient = jax.grad(lambda ell: ops.per_decision_control_variate(x, x, x, x, ell)[1])(log_rho * x)
    assert np.isfinite(gradient).all()


def test_wrong_input_is_refused_by_name():
    x = jnp.ones(3)
    with pytest.raises(ValueError, match="n must be at least 1"):
        ops.n_step_off_policy(x, x, x, x, n=0)
    with pytest.raises(ValueError, match="kind must be one of state, sarsa, expected_sarsa"):
        ops.n_step_off_policy(x, x, x, x, n=1, kind="q")
    with pytest.raises(TypeError, match="same_episode_t must be boolean"):
        ops.gae(x, x, x, x, x)
    with pytest.raises(ValueError, match=r"r_t \[2\]"):
        ops.lambda_returns(x, x[:2], x)
    with pytest.raises(ValueError, match="lambda_ must lie in"):
        ops.gae(x, x, x, x, lambda_=1.5)
    with pytest.raises(ValueError, match=r"same_episode_t \[2\]"):
        ops.per_decision_control_variate(x, x, x, x, x, jnp.ones(2, bool))


def test_every_kind_of_end_at_once_is_a_termination():
    x = jnp.ones(2)
    for terminated, truncated in itertools.product([True], [False, True]):
        discount_t, same_t = ops.endings(jnp.array([terminated, False]), jnp.array([truncated, False]), 0.9)
        assert float(ops.gae(0.0 * x, 7.0 * x, x, discount_t, same_t)[0]) == 1.0
