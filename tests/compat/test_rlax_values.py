"""compat.rlax's functions of values against their definitions, an exact dynamic program and rlax; ratios of logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import ops
from isjax.compat import rlax as ours
from tests.compat.test_rlax_returns import assert_close, random_data, with_gradients
from tests.peers import rlax

# Returns of n steps


def n_step_return(d, t, n, lambda_t):
    """From its definition: an expectation over after which row the return bootstraps."""
    total, weight = 0.0, 1.0
    for k in range(t, min(t + n, len(d.r_t))):
        total = total + weight * d.r_t[k]
        weight = weight * d.discount_t[k]
        ends = k == min(t + n, len(d.r_t)) - 1 or not d.same_episode_t[k]
        total = total + weight * (1.0 if ends else 1.0 - lambda_t[k]) * d.v_t[k]
        if ends:
            return total
        weight = weight * lambda_t[k]
    raise AssertionError


def episodes(seed, *batch):
    """Six rows: an episode that a time limit cut after two, one that terminated after two more, and a third."""
    d = random_data(seed, 6, *batch)
    d.same_episode_t[1], d.same_episode_t[3], d.discount_t[3] = False, False, 0.0
    d.v_t[1] += 1.0  # Not the value of the first state after the reset.
    return d


@pytest.mark.parametrize("n", [1, 2, 3, 6, 9])
def test_n_step_returns_are_what_they_are_defined_as(x64, n):
    d, lambda_t = episodes(0), np.linspace(0.2, 1.7, 6)
    arguments = (d.r_t, d.discount_t, d.v_t, n, lambda_t)
    expected = [n_step_return(d, t, n, lambda_t) for t in range(6)]
    actual = ours.n_step_bootstrapped_returns(*arguments, same_episode_t=d.same_episode_t)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
    assert not np.allclose(ours.n_step_bootstrapped_returns(*arguments), expected) or n == 1


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 20])
@pytest.mark.parametrize("stop", [False, True])
def test_n_step_returns_and_their_gradients_are_those_of_rlax(x64, n, stop):
    d, lambda_t = random_data(1, 6), np.linspace(0.2, 1.7, 6)

    def result(module, d, lambda_t):
        return module.n_step_bootstrapped_returns(d.r_t, d.discount_t, d.v_t, n, lambda_t, stop)

    mine, theirs = (with_gradients(functools.partial(result, m), d, lambda_t) for m in (ours, rlax))
    assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_n_step_returns_of_many_streams_are_those_of_each():
    d = episodes(2, 3)
    whole = ours.n_step_bootstrapped_returns(d.r_t, d.discount_t, d.v_t, 2, 0.5, same_episode_t=d.same_episode_t)
    one = functools.partial(ours.n_step_bootstrapped_returns, n=2, lambda_t=0.5)
    mapped = jax.vmap(lambda r, g, v, s: one(r, g, v, same_episode_t=s), 1, 1)
    np.testing.assert_allclose(whole, mapped(d.r_t, d.discount_t, d.v_t, d.same_episode_t), rtol=1e-6)


@pytest.mark.parametrize("n", [0, -1])
def test_a_return_of_no_steps_is_refused(n):
    one = jnp.ones(2)
    with pytest.raises(ValueError, match=f"n must be at least 1, but it is {n}"):
        ours.n_step_bootstrapped_returns(one, one, one, n)


def test_a_number_of_steps_that_is_no_integer_is_refused():
    one = jnp.ones(2)
    with pytest.raises(TypeError, match=r"n must be an integer, but it is 2\.0"):
        ours.n_step_bootstrapped_returns(one, one, one, 2.0)


def test_discounted_returns_take_one_last_value_or_one_of_each_row(x64):
    d = random_data(3, 4)
    for v in (2.0, np.float64(2.0), d.v_t):
        actual, expected = (m.discounted_returns(d.r_t, d.discount_t, v) for m in (ours, rlax))
        np.testing.assert_allclose(actual, expected, rtol=1e-12)
    d.same_episode_t[1] = False
    told = ours.discounted_returns(d.r_t, d.discount_t, d.v_t, same_episode_t=d.same_episode_t)
    alone = [rlax.discounted_returns(x.r_t, x.discount_t, x.v_t) for x in (d.where(slice(2)), d.where(slice(2, 4)))]
    np.testing.assert_allclose(told, np.concatenate(alone), rtol=1e-12)
    with pytest.raises(ValueError, match=r"v_t must be .* where same_episode_t is given, but it is a scalar"):
        ours.discounted_returns(d.r_t, d.discount_t, 2.0, same_episode_t=d.same_episode_t)


@pytest.mark.parametrize("name", ["lambda_returns", "n_step_bootstrapped_returns", "discounted_returns"])
def test_values_that_do_not_count_may_be_anything(name):
    d = episodes(4)
    d.v_t[3] = np.nan  # Of a terminal state.
    more = {"n": 3} if name.startswith("n_step") else {}

    def total(v_t):
        same = jnp.asarray(d.same_episode_t)
        return jnp.sum(getattr(ours, name)(d.r_t, d.discount_t, v_t, **more, same_episode_t=same))

    value, gradient = jax.value_and_grad(total)(jnp.asarray(d.v_t, jnp.float32))
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))
    assert gradient[3] == 0.0


# An exact dynamic program: a walk over four states in a circle, right with 0.7, no ending, reward of the state left


DISCOUNT, CHANCE = 0.9, np.array([0.3, 0.7])
REWARD = np.array([1.0, -2.0, 0.5, 3.0])
AFTER = np.array([[(s - 1) % 4, (s + 1) % 4] for s in range(4)])
V = np.linalg.solve(np.eye(4) - DISCOUNT * sum(p * np.eye(4)[AFTER[:, a]] for a, p in enumerate(CHANCE)), REWARD)
Q = REWARD[:, None] + DISCOUNT * V[AFTER]
"""Values and action values are known, so that no expected error is left, whatever the operator."""


def walk(seed, rows):
    """One stream that a time limit cuts after every third row, to start in state 0 again."""
    rng, state, out = np.random.default_rng(seed), 0, []
    for t in range(rows):
        action = int(rng.random() < CHANCE[1])
        reached = AFTER[state, action]
        cut = t % 3 == 2
        out.append((state, action, reached, not cut))
        state = 0 if cut else reached
    return (np.array(x) for x in zip(*out, strict=True))


def errors_on_walk(name, same_t, state, action, reached):
    r, discount = REWARD[state], np.full(len(state), DISCOUNT)
    v_t, q_tm1, q_t = V[reached], Q[state], Q[reached]
    a_t, pi = np.append(action[1:], 0), np.tile(CHANCE, (len(state), 1))
    told = {} if same_t is None else {"same_episode_t": same_t}
    if name == "retrace":
        return ours.retrace(q_tm1, q_t, action, a_t, r, discount, pi, CHANCE[a_t], 1.0, **told)
    if name == "tree backup":
        c_t = CHANCE[a_t]
        returns = ours.general_off_policy_returns_from_action_values(q_t, a_t, r, discount, c_t, pi, **told)
        return returns - q_tm1[np.arange(len(action)), action]
    if name == "td_lambda":  # Of one-step errors that action values make certain.
        return ours.td_lambda(q_tm1[np.arange(len(action)), action], r, discount, v_t, 0.0, **told)
    raise AssertionError(name)


@pytest.mark.parametrize("name", ["retrace", "tree backup", "td_lambda"])
def test_right_action_values_leave_no_error_at_time_limits(x64, name):
    state, action, reached, same = walk(0, 30)
    np.testing.assert_allclose(errors_on_walk(name, same, state, action, reached), 0.0, atol=1e-12)
    if name != "td_lambda":  # At λ = 0 no row sees another.
        assert np.max(np.abs(errors_on_walk(name, None, state, action, reached))) > 0.1


def test_expected_n_step_returns_are_the_values_that_are_known(x64):
    """Over all paths of four rows, cut after the second: the mean return of each row is the value of its state."""
    paths = np.array(np.meshgrid(*[[0, 1]] * 4)).reshape(4, -1)
    weight = np.prod(CHANCE[paths], axis=0)
    states = [np.zeros(16, int)]
    for t, action in enumerate(paths):
        reached = AFTER[states[-1], action]
        states.append(np.zeros(16, int) if t == 1 else reached)
    state = np.array(states[:-1])
    reached = np.array([AFTER[s, a] for s, a in zip(state, paths, strict=True)])
    same = np.ones((4, 16), bool)
    same[1] = False
    arguments = (REWARD[state], np.full((4, 16), DISCOUNT), V[reached], 3)
    for t in (0, 2):  # From state 0, whatever came before.
        told, not_told = (
            ours.n_step_bootstrapped_returns(*arguments, same_episode_t=x)[t] @ weight for x in (same, None)
        )
        np.testing.assert_allclose(told, V[0], rtol=1e-12)
        assert t == 2 or abs(not_told - V[0]) > 0.05


# Targets


def test_targets_of_retrace_are_the_operator_that_takes_log_ratios(x64):
    d = episodes(5, 2)
    d = d._replace(q_tm1=np.concatenate([d.q_tm1[:1], d.q_t[:-1]]), a_tm1=np.concatenate([d.a_tm1[:1], d.a_t[:-1]]))
    pi_tm1, mu_tm1 = (np.concatenate([x[:1], x[:-1]]) for x in (d.pi_t, d.mu_t))
    q_tm1, pi_a = (np.take_along_axis(x, d.a_tm1[..., None], -1)[..., 0] for x in (d.q_tm1, pi_tm1))
    expected = ops.retrace(
        q_tm1, (d.pi_t * d.q_t).sum(-1), d.r_t, d.discount_t, np.log(pi_a / mu_tm1), d.same_episode_t, lambda_=0.7
    )
    targets = ours.retrace_targets(
        d.q_t, d.a_t, d.r_t, d.discount_t, d.pi_t, d.mu_t, 0.7, 0.0, same_episode_t=d.same_episode_t
    )
    np.testing.assert_allclose(targets, expected, rtol=1e-10)
    errors = ours.retrace(
        d.q_tm1, d.q_t, d.a_tm1, d.a_t, d.r_t, d.discount_t, d.pi_t, d.mu_t, 0.7, 0.0, same_episode_t=d.same_episode_t
    )
    np.testing.assert_allclose(errors, targets - q_tm1, rtol=1e-12)


def test_targets_of_q_lambda_are_lambda_returns_of_the_greatest_values(x64):
    d = episodes(6)
    targets = ours.q_lambda_targets(d.r_t, d.discount_t, d.q_t, 0.6, same_episode_t=d.same_episode_t)
    d = d._replace(v_t=d.q_t.max(-1))
    np.testing.assert_allclose(targets, [n_step_return(d, t, 6, np.full(6, 0.6)) for t in range(6)], rtol=1e-12)


@pytest.mark.parametrize("stop", [True, False])
def test_targets_are_constants_unless_asked_otherwise(stop):
    d = random_data(7, 4)
    for function in (
        lambda q: ours.q_lambda_targets(d.r_t, d.discount_t, q, 0.5, stop),
        lambda q: ours.retrace_targets(q, d.a_t, d.r_t, d.discount_t, d.pi_t, d.mu_t, 0.5, 1e-8, stop),
    ):
        gradient = jax.grad(lambda q, f=function: jnp.sum(f(q)))(d.q_t)
        assert np.any(gradient != 0.0) != stop


# One step


def test_persistent_errors_and_gradients_are_those_of_rlax_and_a_time_limit_changes_nothing(x64):
    d = random_data(8, 5)

    def result(m, d, scale, **told):
        one = lambda *x: m.persistent_q_learning(*x, scale, **told)  # noqa: E731
        return jax.vmap(one)(d.q_tm1, d.a_tm1, d.r_t, d.discount_t, d.q_t)

    mine, theirs = (with_gradients(functools.partial(result, m), d, 0.3) for m in (ours, rlax))
    assert_close(mine, theirs, rtol=1e-12, atol=1e-14)
    whole = ours.persistent_q_learning(
        d.q_tm1, d.a_tm1, d.r_t, d.discount_t, d.q_t, 0.3, same_episode_t=np.arange(5) < 2
    )
    np.testing.assert_allclose(whole, theirs[0], rtol=1e-12)


def test_action_values_of_a_terminal_state_do_not_enter_persistent_errors():
    q, a = jnp.array([1.0, 3.0]), jnp.array(0)

    def error(q_t):
        return ours.persistent_q_learning(q, a, jnp.array(2.0), jnp.array(0.0), q_t, 0.5, False)

    value, gradient = jax.value_and_grad(error)(jnp.array([jnp.nan, jnp.inf]))
    assert value == 1.0
    np.testing.assert_array_equal(gradient, [0.0, 0.0])


# Transformed values

TRANSFORMED = {
    "transformed_lambda_returns": lambda d, tx: ((tx, d.r_t, d.discount_t, d.v_t, 0.7), {}),
    "transformed_n_step_returns": lambda d, tx: ((tx, d.r_t, d.discount_t, d.v_t), {"n": 2}),
    "transformed_general_off_policy_returns_from_action_values": lambda d, tx: (
        (tx, d.q_t, d.a_t, d.r_t, d.discount_t, d.c_t, d.pi_t),
        {},
    ),
    "transformed_q_lambda": lambda d, tx: ((d.q_tm1, d.a_tm1, d.r_t, d.discount_t, d.q_t, 0.7), {"tx_pair": tx}),
    "transformed_retrace": lambda d, tx: (
        (d.q_tm1, d.q_t, d.a_tm1, d.a_t, d.r_t, d.discount_t, d.pi_t, d.mu_t, 0.7),
        {"tx_pair": tx},
    ),
    "transformed_n_step_q_learning": lambda d, tx: (
        (d.q_tm1, d.a_tm1, d.q_t, d.a_t, d.r_t, d.discount_t, 2),
        {"tx_pair": tx},
    ),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_transformed_values_are_those_of_rlax_and_of_each_episode_at_a_time_limit(x64, name):
    def result(m, d, **told):
        arguments, options = TRANSFORMED[name](d, rlax.SIGNED_HYPERBOLIC_PAIR)
        return getattr(m, name)(*arguments, **options, **told)

    d = random_data(9, 5)
    mine, theirs = (with_gradients(functools.partial(result, m), d) for m in (ours, rlax))
    assert_close(mine, theirs, rtol=1e-9, atol=1e-11)
    d.same_episode_t[2] = False
    alone = np.concatenate([result(rlax, d.where(slice(3))), result(rlax, d.where(slice(3, 5)))])
    told = result(ours, d, same_episode_t=d.same_episode_t)
    np.testing.assert_allclose(told, alone, rtol=1e-9)
    assert not np.allclose(told, mine[0])


def test_a_pair_that_makes_vectors_of_values_is_taken_and_values_may_come_by_name(x64):
    pair, d = rlax.muzero_pair(-3.0, 3.0, 13, rlax.SIGNED_HYPERBOLIC_PAIR), random_data(10, 4)
    v_t = pair.apply(d.v_t)
    mine = ours.transformed_lambda_returns(pair, r_t=d.r_t, discount_t=d.discount_t, v_t=v_t, lambda_=0.5)
    theirs = rlax.transformed_lambda_returns(pair, d.r_t, d.discount_t, v_t, lambda_=0.5)
    assert mine.shape == (4, 13)
    np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", TRANSFORMED)
def test_what_a_terminal_state_is_worth_does_not_enter_transformed_values(name):
    d = random_data(11, 4)
    d.discount_t[1] = 0.0

    def total(v_t, q_t):
        arguments, options = TRANSFORMED[name](d._replace(v_t=v_t, q_t=q_t), rlax.SIGNED_HYPERBOLIC_PAIR)
        options |= {"stop_target_gradients": False}
        return jnp.sum(getattr(ours, name)(*arguments, **options))

    value, gradients = jax.value_and_grad(total, (0, 1))(*(jnp.asarray(x).at[1].set(jnp.nan) for x in (d.v_t, d.q_t)))
    assert all(np.all(np.isfinite(x)) for x in (value, *gradients))


# Ratios of logits


def ratios(pi, mu, a):
    return ours.categorical_importance_sampling_ratios(jnp.asarray(pi), jnp.asarray(mu), jnp.asarray(a))


def test_ratios_of_logits_and_their_gradients_are_those_of_rlax(x64):
    rng = np.random.default_rng(11)
    pi, mu, a = *rng.normal(size=(2, 4, 3, 5)), rng.integers(0, 5, (4, 3))
    pi[..., 4], mu[0, :, 0] = -np.inf, -np.inf
    a = np.where(a == 4, 1, a)
    a[0] = np.where(a[0] == 0, 2, a[0])

    def total(m, pi, mu):
        return jnp.sum(jnp.cos(jnp.arange(12.0)).reshape(4, 3) * m.categorical_importance_sampling_ratios(pi, mu, a))

    with pytest.warns(PendingDeprecationWarning):
        theirs = jax.value_and_grad(total, (1, 2))(rlax, pi, mu)
    assert_close(jax.value_and_grad(total, (1, 2))(ours, pi, mu), theirs, rtol=1e-10, atol=1e-14)


INF = np.inf
EXCLUDED = [
    ([0.0, -INF], [0.0, -INF], 1, 1.0),  # By both policies: rlax gives NaN.
    ([0.0, -INF], [0.0, -INF], 0, 1.0),
    ([0.0, -INF], [0.0, 0.0], 1, 0.0),
    ([0.0, -INF], [0.0, 0.0], 0, 2.0),
    ([0.0, 0.0], [0.0, -INF], 1, np.exp(80.0)),
    ([INF, 0.0], [0.0, 0.0], 0, 2.0),  # Certain.
    ([INF, 0.0], [0.0, 0.0], 1, 0.0),
    ([INF, INF], [0.0, 0.0], 1, 1.0),
    ([0.0, 0.0], [INF, -INF], 0, 0.5),
    ([INF, -INF], [INF, 0.0], 0, 1.0),
    ([-INF, -INF], [-INF, -INF], 0, 1.0),  # A row of padding.
    ([-INF, -INF], [0.0, 0.0], 0, 0.0),
    ([1000.0, -1000.0], [0.0, 0.0], 1, 0.0),
    ([0.0, 0.0], [1000.0, -1000.0], 1, np.exp(80.0)),
    ([0.0, 0.0], [0.0, 1.0], -1, 1.0),  # No action at all.
    ([0.0, 0.0], [0.0, 1.0], 2, 1.0),
]


@pytest.mark.parametrize(("pi", "mu", "a", "expected"), EXCLUDED)
def test_infinite_logits_give_the_ratio_that_they_mean_and_finite_gradients(pi, mu, a, expected):
    pi, mu = jnp.array(pi), jnp.array(mu)
    value, gradients = jax.value_and_grad(ratios, (0, 1))(pi, mu, a)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert all(np.all(np.isfinite(x)) for x in gradients)


def test_a_logit_that_is_no_number_is_not_hidden():
    assert np.isnan(ratios([0.0, np.nan], [0.0, 0.0], 0))


def test_ratios_of_bfloat16_logits_are_computed_in_float32():
    pi, mu = jnp.array([1.0, 0.25], jnp.bfloat16), jnp.array([0.5, 0.125], jnp.bfloat16)
    result = ratios(pi, mu, 0)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, ratios(pi.astype(float), mu.astype(float), 0), rtol=1e-6)


@pytest.mark.parametrize(
    ("pi", "mu", "a", "error", "match"),
    [
        (
            np.zeros((2, 3)),
            np.zeros((2, 4)),
            np.zeros(2, int),
            ValueError,
            r"pi_logits_t \[2, 3\], mu_logits_t \[2, 4\]",
        ),
        (np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(3, int), ValueError, r"pi_logits_t\[..., 0\] \[2\], a_t \[3\]"),
        (np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(2), TypeError, "a_t must hold integers"),
        (np.zeros((2, 3), int), np.zeros((2, 3), int), np.zeros(2, int), TypeError, "pi_logits_t must be floating"),
    ],
)
def test_logits_and_actions_that_do_not_fit_are_named(pi, mu, a, error, match):
    with pytest.raises(error, match=match):
        ratios(pi, mu, a)
