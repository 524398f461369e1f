"""Losses of soft actor-critics and their targets: by definition, by hand, at limits of time and in padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from isjax import losses, ops
from isjax.environments.distributions import Gaussian
from tests.losses.checks import close

ROWS, ENVS, CRITICS = 6, 3, 2
TEMPERATURE, LAMBDA, DISCOUNT = 0.7, 0.8, 0.9


def draw(seed=0):
    """Arguments of `soft_retrace` in float64: stream 0 terminates in row 1 and is cut in row 3."""
    x = np.random.default_rng(seed)
    q_tm1, q_t = x.normal(size=(2, ROWS, ENVS, CRITICS))
    log_pi_t, r_t, log_rho = x.normal(size=(3, ROWS, ENVS))
    discount_t, same = np.full((ROWS, ENVS), DISCOUNT), np.ones((ROWS, ENVS), bool)
    discount_t[1, 0] = 0.0
    same[1, 0] = same[3, 0] = False
    return [q_tm1, q_t, log_pi_t, r_t, discount_t, log_rho, same]


def by_sums(q_tm1, q_t, log_pi_t, r_t, discount_t, log_rho, same, lambda_):
    """`Q_t + Σ_k γ^{k−t} Π λ min(1, ρ) (r_k + γ (min Q − α log π) − Q_k)`, each row on its own."""
    found = np.zeros(r_t.shape)
    for t, b in np.ndindex(*r_t.shape):
        total, weight = min(q_tm1[t, b]), 1.0
        for k in range(t, len(r_t)):
            soft = min(q_t[k, b]) - TEMPERATURE * log_pi_t[k, b] if discount_t[k, b] else 0.0
            total += weight * (r_t[k, b] + discount_t[k, b] * soft - min(q_tm1[k, b]))
            if not same[k, b] or k + 1 == len(r_t):
                break
            weight *= discount_t[k, b] * lambda_ * min(1.0, np.exp(log_rho[k + 1, b]))
        found[t, b] = total
    return found


@pytest.mark.parametrize("lambda_", [0.0, LAMBDA, 1.0])
def test_a_soft_return_is_the_sum_that_defines_it(lambda_, x64):
    arguments = draw()
    found = ops.soft_retrace(*arguments, temperature=TEMPERATURE, lambda_=lambda_)
    close(found, by_sums(*arguments, lambda_))
    if lambda_ == 0.0:
        _, q_t, log_pi_t, r_t, discount_t, *_ = arguments
        close(found, r_t + discount_t * (q_t.min(-1) - TEMPERATURE * log_pi_t), rtol=1e-9)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30])
def test_neither_what_follows_a_terminal_state_nor_padding_counts(garbage):
    q_tm1, q_t, log_pi_t, r_t, discount_t, log_rho, same = (np.asarray(x, x.dtype) for x in draw(1))
    valid = np.ones((ROWS, ENVS), bool)
    valid[4:, 1] = False

    def found(fill):
        spoiled_q_t, spoiled_log_pi = q_t.copy(), log_pi_t.copy()
        spoiled_q_t[1, 0], spoiled_log_pi[1, 0] = fill, fill
        rows = [np.where(valid, x, fill) for x in (spoiled_log_pi, r_t, discount_t, log_rho)]
        rows = [np.float32(x) for x in (*(np.where(valid[..., None], x, fill) for x in (q_tm1, spoiled_q_t)), *rows)]
        target = ops.soft_retrace(*rows, same, is_valid_t=valid, temperature=TEMPERATURE, lambda_=LAMBDA)
        critic = jax.value_and_grad(losses.sac_critic_loss)(rows[0], target, valid)
        policy = jax.value_and_grad(losses.sac_policy_loss, (0, 1))
        sampled = np.where(valid, log_pi_t, fill).astype(np.float32)
        return (
            target,
            critic,
            policy(rows[0], sampled, valid, temperature=TEMPERATURE),
            losses.temperature_loss(TEMPERATURE, sampled, valid, target_entropy=-1.0),
        )

    clean = found(0.0)
    jax.tree.map(np.testing.assert_array_equal, clean, found(garbage))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(clean))
    np.testing.assert_array_equal(clean[1][1][~valid], 0.0)


def test_values_and_gradients_are_those_worked_out_by_hand(x64):
    q, log_pi, valid = jnp.array([[1.0, 5.0], [4.0, 2.0], [9.0, 9.0]]), jnp.array([-1.0, 0.5, 7.0]), [True, True, False]
    valid, target = jnp.array(valid), jnp.array([2.0, 3.0, 8.0])
    value, gradient = jax.value_and_grad(losses.sac_critic_loss, (0, 1))(q, target, valid)
    close(value, (0.5 * (1 + 9) + 0.5 * (1 + 1)) / 2)
    close(gradient[0], np.array([[-1, 3], [1, -1], [0, 0]]) / 2)
    close(gradient[1], 0.0)
    weighted = losses.sac_critic_loss(q, target, valid, weight_tm1=jnp.array([2.0, 0.5, 3.0]))
    close(weighted, (2 * 5 + 0.5 * 1) / 2)

    value, gradient = jax.value_and_grad(
        lambda q, log_pi, alpha: losses.sac_policy_loss(q, log_pi, valid, temperature=alpha), (0, 1, 2)
    )(q, log_pi, 0.7)
    close(value, (0.7 * -1 - 1 + 0.7 * 0.5 - 2) / 2)
    close(gradient[0], np.array([[-1, 0], [0, -1], [0, 0]]) / 2)
    close(gradient[1], np.array([0.7, 0.7, 0.0]) / 2)
    close(gradient[2], 0.0)

    value, gradient = jax.value_and_grad(
        lambda alpha, log_pi: losses.temperature_loss(alpha, log_pi, valid, target_entropy=-2.0), (0, 1)
    )(0.7, log_pi)
    close(value, -0.7 * ((-1 - 2) + (0.5 - 2)) / 2)
    close(gradient[0], 4.5 / 2)
    close(gradient[1], 0.0)


def test_the_policy_loss_is_least_at_the_softmax_of_the_values(x64):
    """Its minimum over policies in one state is `−α log Σ exp(Q / α)` (eq. 4), there in the limit of many actions."""
    actions = np.linspace(-1, 1, 401)
    q, alpha = 1.5 * np.sin(3 * actions), 0.4
    best = q / alpha - logsumexp(q / alpha)

    def expected(log_pi):
        each = [
            losses.sac_policy_loss(np.full((1, 1), x), np.full(1, y), temperature=alpha)
            for x, y in zip(q[::40], log_pi[::40], strict=True)
        ]
        return np.array(each)

    close(expected(best), -alpha * logsumexp(q / alpha))
    other = best + 0.3 * np.cos(actions)
    other = other - logsumexp(other)
    assert np.sum(np.exp(other) * (alpha * other - q)) > -alpha * logsumexp(q / alpha)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
def test_narrow_numbers_are_computed_in_float32(dtype):
    arguments = [np.asarray(x).astype(dtype) if x.dtype == float else x for x in draw(2)]
    wide = [np.asarray(x, np.float32) if x.dtype == dtype else x for x in arguments]
    found, expected = (ops.soft_retrace(*x, temperature=TEMPERATURE, lambda_=LAMBDA) for x in (arguments, wide))
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, expected)
    critic, expected = (losses.sac_critic_loss(x[0], x[3]) for x in (arguments, wide))
    assert critic.dtype == jnp.float32
    np.testing.assert_array_equal(critic, expected)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda q, x: losses.sac_critic_loss(x, x), ValueError, r"q_tm1 must be \[T, \*B, A\]"),
        (lambda q, x: losses.sac_critic_loss(q, x[:2]), ValueError, "q_tm1 must be"),
        (lambda q, x: losses.sac_policy_loss(q, x, temperature=0.0), ValueError, "temperature must be greater than 0"),
        (lambda q, x: losses.temperature_loss(-1.0, x, target_entropy=-1.0), ValueError, "temperature must be greater"),
        (lambda q, x: losses.sac_critic_loss(q, x, x), TypeError, "is_valid_t must be boolean"),
        (
            lambda q, x: ops.soft_retrace(q, q[:, :, :1], x, x, x, x, temperature=1.0),
            ValueError,
            "must share one shape, but got: q_tm1",
        ),
        (lambda q, x: ops.soft_value(q, x.astype(int), temperature=1.0), TypeError, "log_pi must be floating"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(np.zeros((ROWS, ENVS, CRITICS)), np.zeros((ROWS, ENVS)))


# The distribution that such a policy is.


def test_standard_units_do_not_depend_on_the_bounds(x64):
    """A Box [0, 6] × [−5, −3] and the same in [−1, 1]²: only the units of the density differ, by the log-widths."""
    wide, policy = Gaussian((2,), (0.0, -5.0), (6.0, -3.0)), jnp.array([[0.3, -1.0, 0.2, -0.4]])
    u = wide.sample(policy, jnp.array([[0.5, -1.0], [2.0, 0.1]]))
    mean, std = np.array([0.3, -1.0]), np.exp([0.2, -0.4])
    density = (
        -0.5 * ((np.asarray(u) - mean) / std) ** 2
        - np.log(std * np.sqrt(2 * np.pi))
        - np.log(1 - np.tanh(np.asarray(u)) ** 2)
    )
    close(wide.standard.log_prob(policy, u), density.sum(-1), rtol=1e-9)
    close(wide.standard.execute(u), np.tanh(u), rtol=1e-9)
    close(wide.log_prob(policy, u), density.sum(-1) - np.log(3.0) - np.log(1.0), rtol=1e-9)


def test_standard_units_of_each_kind_of_bounds():
    mixed = Gaussian((4,), (-np.inf, 0.0, -2.0, 3.0), (np.inf, np.inf, 2.0, 3.0))
    u = jnp.array([30.0, -0.5, 0.5, 0.7])
    np.testing.assert_allclose(mixed.standard.execute(u), [30.0, -0.5, np.tanh(0.5), 0.0], rtol=1e-6)
    assert (mixed.free_dim, mixed.standard.free_dim) == (3, 3)
    assert Gaussian((2,), None, None).standard.execute(jnp.array([5.0, -7.0])).tolist() == [5.0, -7.0]


@pytest.mark.parametrize("mean", [0.0, 3.0, 12.0, -60.0])
def test_log_probabilities_and_their_gradients_are_right_at_the_bounds(mean):
    """In float32, where tanh is ±1 and `log(1 − tanh²)` is −∞: against float64 of the logarithm of cosh."""
    actions, noise = Gaussian((1,), (-1.0,), (1.0,)), jnp.array([[-2.0], [0.0], [1.5]])

    def log_prob(mean):
        policy = jnp.stack([mean, jnp.log(0.5)])[None]
        return actions.log_prob(policy, actions.sample(policy, noise))

    u = mean + 0.5 * np.float64(noise)[:, 0]
    log_slope = -2 * (np.logaddexp(u, -u) - np.log(2))
    expected = -0.5 * np.float64(noise)[:, 0] ** 2 - np.log(0.5 * np.sqrt(2 * np.pi)) - log_slope
    np.testing.assert_allclose(log_prob(jnp.float32(mean)), expected, rtol=3e-6)
    # d/du of −log slope is 2 tanh(u); the density of the Gaussian itself does not change with its mean.
    np.testing.assert_allclose(jax.jacobian(log_prob)(jnp.float32(mean)), 2 * np.tanh(u), rtol=1e-5, atol=1e-6)
