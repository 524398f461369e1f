"""Targets of action values against their definitions, their fixed points, rlax, and at every kind of end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isjax import ops
from tests import oracles_ope, oracles_q
from tests.peers import rlax

ROWS, STREAMS, ACTIONS = 6, 3, 4


def rows(seed):
    """Arrays by name, of unrolls with ends of both kinds; the value of a state reached is that of the next row."""
    rng = np.random.default_rng(seed)
    shape = (ROWS, STREAMS)
    q_tm1, q_reached = rng.normal(size=(2, *shape, ACTIONS))
    pi_tm1, pi_reached = rng.dirichlet(np.ones(ACTIONS), size=(2, *shape))
    mu = rng.dirichlet(np.ones(ACTIONS), size=shape)
    a_tm1 = rng.integers(0, ACTIONS, shape)
    terminated, truncated = rng.random((2, *shape)) < 0.2
    same_t = ~(terminated | truncated)

    def following(x, reached):
        return np.where(same_t[..., None], np.concatenate([x[1:], reached[-1:]]), reached)

    return {
        "q_tm1": q_tm1,
        "a_tm1": a_tm1,
        "q_t": following(q_tm1, q_reached),
        "log_pi_t": np.log(following(pi_tm1, pi_reached)),
        "a_t": rng.integers(0, ACTIONS, shape),
        "r_t": rng.normal(size=shape),
        "discount_t": np.where(terminated, 0.0, 0.9),
        "log_pi_tm1": np.log(np.take_along_axis(pi_tm1, a_tm1[..., None], -1)[..., 0]),
        "log_mu_tm1": np.log(np.take_along_axis(mu, a_tm1[..., None], -1)[..., 0]),
        "same_episode_t": same_t,
    }


def chosen(q, a):
    return np.take_along_axis(q, a[..., None], -1)[..., 0]


def sigma_rows(d):
    """Arguments of `q_sigma`."""
    v_t = np.sum(np.exp(d["log_pi_t"]) * d["q_t"], -1)
    names = ("r_t", "discount_t", "log_pi_tm1", "log_mu_tm1", "same_episode_t")
    return chosen(d["q_tm1"], d["a_tm1"]), v_t, *(d[name] for name in names)


q_sigma = jax.jit(ops.q_sigma, static_argnames="n")
next_action_value = jax.jit(ops.next_action_value)
q_learning_target = jax.jit(ops.q_learning_target, static_argnames="ties")
sarsa_target = jax.jit(ops.sarsa_target)
expected_sarsa_target = jax.jit(ops.expected_sarsa_target)


# One step


def test_one_step_targets_are_those_of_the_book(x64):
    d = rows(0)
    r, g, q = d["r_t"], d["discount_t"], d["q_t"]
    np.testing.assert_allclose(q_learning_target(q, r, g), r + g * q.max(-1), rtol=1e-12)
    np.testing.assert_allclose(sarsa_target(q, d["a_t"], r, g), r + g * chosen(q, d["a_t"]), rtol=1e-12)
    mean = np.sum(np.exp(d["log_pi_t"]) * q, -1)
    np.testing.assert_allclose(expected_sarsa_target(q, d["log_pi_t"], r, g), r + g * mean, rtol=1e-12)
    double = chosen(q, d["q_tm1"].argmax(-1))
    np.testing.assert_allclose(q_learning_target(q, r, g, selector_t=d["q_tm1"]), r + g * double, rtol=1e-12)


@pytest.mark.parametrize(
    ("theirs", "ours", "names"),
    [
        (rlax.q_learning, q_learning_target, ("q_t",)),
        (rlax.sarsa, sarsa_target, ("q_t", "a_t")),
        (rlax.expected_sarsa, expected_sarsa_target, ("q_t", "pi_t")),
        (rlax.double_q_learning, q_learning_target, ("q_t", "selector_t")),
    ],
    ids=["q-learning", "sarsa", "expected sarsa", "double"],
)
def test_td_errors_are_those_of_rlax(theirs, ours, names):
    d = {name: x.astype(np.float32) if x.dtype == float else x for name, x in rows(1).items()}
    d |= {"pi_t": np.exp(d["log_pi_t"]), "selector_t": d["q_tm1"][::-1].copy()}
    flat = lambda name: d[name].reshape(-1, *d[name].shape[2:])  # noqa: E731
    last = [flat(name) for name in names]
    error = jax.jit(jax.vmap(theirs))(*(flat(x) for x in ("q_tm1", "a_tm1", "r_t", "discount_t")), *last)
    options = {"selector_t": d["selector_t"]} if "selector_t" in names else {}
    between = [d["a_t"]] if "a_t" in names else [d["log_pi_t"]] if "pi_t" in names else []
    target = ours(d["q_t"], *between, d["r_t"], d["discount_t"], **options)
    found = target - chosen(d["q_tm1"], d["a_tm1"])
    np.testing.assert_allclose(found.reshape(-1), error, rtol=1e-5, atol=1e-6)


def test_ties_of_the_selector_are_shared_or_go_to_the_first():
    q, selector = jnp.array([[2.0, 4.0, 9.0]]), jnp.array([[1.0, 1.0, 0.0]])
    one, half = jnp.zeros(1), jnp.full(1, 0.5)
    assert q_learning_target(q, one, half, selector_t=selector)[0] == 1.5
    assert q_learning_target(q, one, half, selector_t=selector, ties="first")[0] == 1.0


def test_illegal_actions_are_not_the_best():
    q, mask = jnp.array([[9.0, 1.0], [jnp.nan, 2.0]]), jnp.array([[False, True], [False, True]])
    found, gradient = jax.value_and_grad(
        lambda q: jnp.sum(q_learning_target(q, jnp.zeros(2), jnp.ones(2), mask_t=mask))
    )(q)
    assert found == 3.0
    np.testing.assert_array_equal(gradient, [[0.0, 1.0], [0.0, 1.0]])


ONE_STEP = {
    "q-learning": lambda q, d, **o: q_learning_target(q, d["r_t"], d["discount_t"], **o),
    "double": lambda q, d, **o: q_learning_target(q, d["r_t"], d["discount_t"], selector_t=2.0 * q, **o),
    "sarsa": lambda q, d, **o: sarsa_target(q, d["a_t"], d["r_t"], d["discount_t"], **o),
    "expected sarsa": lambda q, d, **o: expected_sarsa_target(q, d["log_pi_t"], d["r_t"], d["discount_t"], **o),
}
POISONS = pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 1e30])


@POISONS
@pytest.mark.parametrize("target", ONE_STEP.values(), ids=list(ONE_STEP))
def test_what_stands_behind_a_terminal_state_is_inert_in_value_and_gradient(target, poison):
    d = rows(2)
    ends = d["discount_t"] == 0.0
    assert ends.any()
    results = []
    for fill in (0.0, np.float32(poison)):
        q = np.where(ends[..., None], np.float32(fill), d["q_t"].astype(np.float32))
        dirty = d | {"a_t": np.where(ends, 0 if fill == 0.0 else 99, d["a_t"])}
        weights = np.cos(np.arange(ends.size, dtype=np.float32)).reshape(ends.shape)
        results.append(jax.jit(jax.value_and_grad(lambda q, d, w: jnp.sum(w * target(q, d))))(q, dirty, weights))
    jax.tree.map(np.testing.assert_array_equal, *results)
    assert np.isfinite(results[1][0])
    assert np.all(np.isfinite(results[1][1]))


@POISONS
@pytest.mark.parametrize("target", ONE_STEP.values(), ids=list(ONE_STEP))
def test_padding_of_one_step_targets_gives_zero_whatever_it_holds(target, poison):
    d = rows(3)
    valid = np.arange(ROWS)[:, None] < np.array([6, 4, 1])
    spoil = {
        name: np.where(valid.reshape(valid.shape + (1,) * (x.ndim - 2)), x, poison).astype(np.float32)
        for name, x in d.items()
        if x.dtype == float
    }
    total = jax.jit(jax.value_and_grad(lambda q, d: jnp.sum(target(q, d, is_valid_t=valid))))
    found, gradient = total(spoil["q_t"], d | spoil)
    np.testing.assert_allclose(found, np.sum(np.where(valid, target(d["q_t"].astype(np.float32), d), 0.0)), rtol=1e-5)
    np.testing.assert_array_equal(gradient[~valid], 0.0)
    assert np.all(np.isfinite(gradient))


# SARSA's next action


def test_the_next_action_is_that_of_the_next_row_and_an_expectation_where_there_is_none(x64):
    d = rows(4)
    found = next_action_value(d["q_t"], d["a_tm1"], d["log_pi_t"], d["same_episode_t"])
    for t, i in np.ndindex(ROWS, STREAMS):
        if t + 1 < ROWS and d["same_episode_t"][t, i]:
            expected = d["q_t"][t, i, d["a_tm1"][t + 1, i]]
        else:
            expected = np.exp(d["log_pi_t"][t, i]) @ d["q_t"][t, i]
        np.testing.assert_allclose(found[t, i], expected, rtol=1e-12)


def test_sarsas_value_at_a_time_limit_sees_nothing_of_the_next_episode():
    d = rows(5)
    same_t = np.ones((ROWS, STREAMS), bool)
    same_t[2] = False
    other = d["a_tm1"].copy()
    other[3] = (other[3] + 1) % ACTIONS
    for flags, is_seen in ((same_t, False), (np.ones_like(same_t), True)):
        found = [next_action_value(d["q_t"], a, d["log_pi_t"], flags) for a in (d["a_tm1"], other)]
        np.testing.assert_array_equal(np.any(found[0] != found[1], axis=1), (np.arange(ROWS) == 2) & is_seen)


def test_sarsas_value_in_padding_is_zero_and_inert():
    d = rows(6)
    valid = np.arange(ROWS)[:, None] < np.array([6, 4, 1])
    q = np.where(valid[..., None], d["q_t"], np.nan)
    log_pi = np.where(valid[..., None], d["log_pi_t"], np.nan)

    def total(q, log_pi):
        found = next_action_value(q, d["a_tm1"], log_pi, d["same_episode_t"], is_valid_t=valid)
        return jnp.sum(found), found

    gradients, found = jax.jit(jax.grad(total, (0, 1), has_aux=True))(q, log_pi)
    np.testing.assert_array_equal(found[~valid], 0.0)
    assert all(np.all(np.isfinite(x)) for x in gradients)
    alone = next_action_value(d["q_t"][:4, 1], d["a_tm1"][:4, 1], d["log_pi_t"][:4, 1], d["same_episode_t"][:4, 1])
    np.testing.assert_allclose(found[:4, 1], alone, rtol=1e-6)


def test_with_it_lambda_returns_are_those_of_sarsa_lambda_on_policy(x64):
    """At λ = 1 nothing of the action values is left but at the end; at λ = 0 they are SARSA's one-step targets."""
    d = rows(7)
    v_t = next_action_value(d["q_t"], d["a_tm1"], d["log_pi_t"], d["same_episode_t"])
    one_step = ops.lambda_returns(v_t, d["r_t"], d["discount_t"], d["same_episode_t"], lambda_=0.0)
    np.testing.assert_allclose(one_step, d["r_t"] + d["discount_t"] * v_t, rtol=1e-12)
    shifted = next_action_value(d["q_t"] + 1.0, d["a_tm1"], d["log_pi_t"], np.ones((ROWS, STREAMS), bool))
    long = [ops.lambda_returns(v, d["r_t"], np.full((ROWS, STREAMS), 0.9)) for v in (shifted - 1.0, shifted)]
    np.testing.assert_allclose(long[1] - long[0], 0.9 ** np.arange(ROWS, 0, -1)[:, None] * np.ones(STREAMS), rtol=1e-9)


# Q(σ)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.sampled_from([None, 1, 2, 4, 9]),
    lambda_=st.sampled_from([0.0, 0.7, 1.0]),
    fixed=st.sampled_from([0.0, 0.3, 1.0, None]),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_q_sigma_is_its_definition(seed, n, lambda_, fixed):
    d = rows(seed)
    data = sigma_rows(d)
    sigma = np.random.default_rng(seed).random((ROWS, STREAMS)) if fixed is None else np.full((ROWS, STREAMS), fixed)
    with jax.enable_x64(True):
        found = q_sigma(*data, sigma=sigma, n=n, lambda_=lambda_)
    for i in range(STREAMS):
        expected = oracles_q.q_sigma(*(x[:, i] for x in data), sigma[:, i], lambda_, n)
        np.testing.assert_allclose(found[:, i], expected, rtol=1e-9, atol=1e-10)


def test_at_its_ends_q_sigma_is_tree_backup_and_importance_sampling(x64):
    data = sigma_rows(rows(8))
    q, v, r, g, log_pi, log_mu, same = data
    tree = ops.tree_backup(q, v, r, g, log_pi, same, lambda_=0.8)
    sampled = ops.importance_sampled_q(q, v, r, g, log_pi - log_mu, same, lambda_=0.8)
    np.testing.assert_allclose(q_sigma(*data, sigma=0.0, lambda_=0.8), tree, rtol=1e-12)
    np.testing.assert_allclose(q_sigma(*data, sigma=1.0, lambda_=0.8), sampled, rtol=1e-12)


def test_one_step_of_q_sigma_is_expected_sarsa(x64):
    d = rows(9)
    expected = expected_sarsa_target(d["q_t"], d["log_pi_t"], d["r_t"], d["discount_t"])
    np.testing.assert_allclose(q_sigma(*sigma_rows(d), sigma=0.5, n=1), expected, rtol=1e-12)


def test_a_horizon_beyond_the_unroll_is_none(x64):
    data = sigma_rows(rows(10))
    long, whole = (q_sigma(*data, sigma=0.5, n=n) for n in (50, None))
    np.testing.assert_allclose(long, whole, rtol=1e-12)


@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 2, None])
def test_the_exact_values_are_a_fixed_point_of_q_sigma_in_expectation(sigma, n, x64):
    process = oracles_ope.Mdp.random(1, horizon=3)
    v, q = (np.array(x) for x in zip(*(process.values(k) for k in range(4)), strict=True))
    episodes = []
    for _, states, actions, rewards in process.trajectories():
        togo = [process.horizon - t for t in range(len(actions))]
        q_tm1 = np.array([q[k, s, a] for k, s, a in zip(togo, states, actions, strict=False)])
        v_t = np.array([v[k - 1, s] for k, s in zip(togo, states[1:], strict=True)])
        log_pi, log_mu = (
            np.log([p[s, a] for s, a in zip(states, actions, strict=False)]) for p in (process.pi, process.mu)
        )
        episodes.append((q_tm1, v_t, np.array(rewards), np.full(len(actions), 0.9), log_pi, log_mu))
    *padded, is_valid = oracles_ope.pad(episodes, 3)
    found = q_sigma(*padded, None, sigma=sigma, n=n, is_valid_t=is_valid)
    np.testing.assert_allclose(process.mean_by_first_action(found[0]), q[3, 0], rtol=1e-10)


@pytest.mark.parametrize("n", [2, None])
def test_the_two_policies_and_sigma_get_the_gradients_of_a_hand_worked_return(n, x64):
    """Two rows: `G_0 = r_0 + γ (v_0 + (σ π / μ + (1 − σ) π) (r_1 + γ v_1 − q_1))`."""
    half = jnp.full(2, 0.5)
    log_pi, log_mu = jnp.log(half), jnp.log(jnp.array([0.5, 0.25]))
    q, v, r = jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0]), jnp.array([5.0, 6.0])

    def first(q, v, r, log_pi, log_mu, sigma):
        return q_sigma(q, v, r, half, log_pi, log_mu, sigma=sigma, n=n)[0]

    value, gradient = jax.jit(jax.value_and_grad(first, range(6)))(q, v, r, log_pi, log_mu, half)
    c, error = 0.5 * 2.0 + 0.5 * 0.5, 6.0 + 0.5 * 4.0 - 2.0
    assert value == pytest.approx(5.0 + 0.5 * (3.0 + c * error))
    expected = [
        [0.0, -0.5 * c],
        [0.5, 0.5 * c * 0.5],
        [1.0, 0.5 * c],
        [0.0, 0.5 * c * error],
        [0.0, -0.5 * 0.5 * 2.0 * error],
        [0.0, 0.5 * (2.0 - 0.5) * error],
    ]
    for found, by_hand in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(found, by_hand, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n", [3, None])
def test_extreme_ratios_give_finite_values_and_gradients(n):
    x = jnp.ones(5)
    log_pi = jnp.array([0.0, -1e3, -jnp.inf, -1.0, -jnp.inf])
    log_mu = jnp.array([0.0, -1.0, -1.0, -1e3, -jnp.inf])
    total = lambda p, m: jnp.sum(ops.q_sigma(x, x, x, 0.9 * x, p, m, sigma=0.5, n=n))  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(total, (0, 1)))(log_pi, log_mu)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(g)) for g in gradient)


def test_sigma_may_belong_to_rows():
    data = [jnp.asarray(x) for x in sigma_rows(rows(11))]
    by_time = jnp.linspace(0.0, 1.0, ROWS)
    whole = q_sigma(*data, sigma=jnp.broadcast_to(by_time[:, None], (ROWS, STREAMS)))
    np.testing.assert_allclose(q_sigma(*data, sigma=by_time), whole, rtol=1e-6)


X = jnp.ones(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.q_sigma(*[X] * 6, sigma=1.5), r"sigma must lie in \[0, 1\], but it is 1.5"),
        (lambda: ops.q_sigma(*[X] * 6, sigma=0.5, n=0), "n must be at least 1, but it is 0"),
        (lambda: ops.q_sigma(X, X, X[:2], X, X, X, sigma=0.5), r"r_t \[2\]"),
        (lambda: ops.q_sigma(*[X] * 6, sigma=jnp.ones(2)), r"sigma must be a scalar, \[T\] or \[3\]"),
        (lambda: ops.q_learning_target(X, X, X), r"q_t must be \[T, \*B, A\], here \[3, A\], but its shape is \[3\]"),
        (lambda: ops.q_learning_target(jnp.ones((2, 4)), X, X), r"here \[3, A\], but its shape is \[2, 4\]"),
        (lambda: ops.q_learning_target(jnp.ones((3, 2)), X, X, mask_t=jnp.ones((3, 4), bool)), r"mask_t \[3, 4\]"),
        (lambda: ops.q_learning_target(jnp.ones((3, 2)), X, X, ties="any"), "ties must be one of average, first"),
        (lambda: ops.sarsa_target(jnp.ones((3, 2)), jnp.zeros(2, int), X, X), r"r_t \[3\], a_t \[2\]"),
        (lambda: ops.expected_sarsa_target(jnp.ones((3, 2)), jnp.ones((3, 4)), X, X), r"q \[3, 2\], log_pi \[3, 4\]"),
    ],
)
def test_wrong_options_and_shapes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.sarsa_target(jnp.ones((3, 2)), X, X, X), "a_t must hold integers"),
        (lambda: ops.q_learning_target(jnp.ones((3, 2), int), X, X), "q_t must be floating"),
        (lambda: ops.q_sigma(*[X] * 6, X, sigma=0.5), "same_episode_t must be boolean"),
        (lambda: ops.q_sigma(*[X] * 6, sigma=0.5, n=2.0), "n must be an integer"),
        (lambda: ops.q_sigma(*[X] * 6, sigma=0.5, n=2, is_valid_t=X), "is_valid_t must be boolean"),
    ],
)
def test_wrong_types_are_named(call, message):
    with pytest.raises(TypeError, match=message):
        call()
