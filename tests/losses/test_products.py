"""Products of ratios: against sums over rows, and unbiased over every trajectory of a small process."""

import functools
import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import losses
from tests import oracles
from tests.losses.checks import check_weighted, draw_rows, option, random_arguments
from tests.strategies import SETTINGS, flags, floats


def weights(log_rho, same, valid, truncation, self_normalized):
    """By definition; `log_rho` is small enough for `exp`."""
    w = np.exp(oracles.log_products(log_rho, same, valid))
    w = w if truncation is None else np.minimum(w, truncation)
    if self_normalized:
        inside = np.ones(w.shape, bool) if valid is None else valid
        for t in range(len(w)):
            w[t] = np.where(inside[t], w[t], 0.0) / max(np.sum(w[t][inside[t]]), 1e-300) * inside[t].sum()
    return w


OPTIONS = pytest.mark.parametrize("options", list(itertools.product([None, 1.7], [False, True])))


@OPTIONS
@hypothesis.given(data=st.data())
@SETTINGS
def test_each_row_weighs_the_product_of_its_episodes_ratios_so_far(x64, options, data):
    log_pi, log_mu, advantage, valid = draw_rows(data)
    same = data.draw(st.one_of(st.none(), flags(log_pi.shape)))
    w = weights(log_pi - log_mu, same, valid, *options)

    loss = option(losses.product_of_ratios_loss, truncation=options[0], self_normalized=options[1])
    check_weighted(loss, w * advantage, log_pi, valid, log_mu, advantage, same)


def with_baseline(log_pi, log_mu, r_t, discount, same, baseline, valid, *, options):
    truncation, self_normalized = options
    return losses.per_decision_policy_gradient_loss(
        log_pi,
        log_mu,
        r_t,
        discount,
        same,
        valid,
        baseline_tm1=baseline,
        truncation=truncation,
        self_normalized=self_normalized,
    )


@OPTIONS
@hypothesis.given(data=st.data())
@SETTINGS
def test_per_decision_each_reward_weighs_the_ratios_before_it(x64, options, data):
    log_pi, log_mu, r_t, valid = draw_rows(data)
    same = data.draw(st.one_of(st.none(), flags(log_pi.shape)))
    discount = data.draw(floats(log_pi.shape, 0.0, 1.0))
    baseline = data.draw(st.one_of(st.none(), floats(log_pi.shape)))
    w = weights(log_pi - log_mu, same, valid, *options)
    every = np.ones(log_pi.shape, bool)
    expected = np.zeros(log_pi.shape)
    for t in range(len(log_pi)):
        seen = oracles.reach(every if same is None else same, every if valid is None else valid, t)
        for k in range(t, len(log_pi)):
            expected[t] += np.where(seen[k], np.prod(discount[t:k], axis=0) * w[k] * r_t[k], 0.0)
    expected -= 0.0 if baseline is None else w * baseline

    check_weighted(
        option(with_baseline, options=options), expected, log_pi, valid, log_mu, r_t, discount, same, baseline
    )


BOTH = pytest.mark.parametrize(
    "loss",
    [
        losses.product_of_ratios_loss,
        lambda p, m, r, same=None, **options: losses.per_decision_policy_gradient_loss(
            p, m, r, jnp.full(r.shape, 0.9), same, **options
        ),
    ],
    ids=["product", "per-decision"],
)


@BOTH
def test_self_normalized_weights_do_not_see_a_constant_shift_of_all_log_ratios(loss):
    log_pi, log_mu, advantage = random_arguments(0, 6, 5)
    results = [
        jax.grad(loss)(log_pi, log_mu - np.float32(shift), advantage, self_normalized=True)
        for shift in (0.0, 1.0, 300.0)
    ]
    np.testing.assert_allclose(results[1], results[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(results[2], results[0], rtol=1e-2, atol=1e-4)
    assert not np.allclose(jax.grad(loss)(log_pi, log_mu - 1.0, advantage), jax.grad(loss)(log_pi, log_mu, advantage))


@BOTH
def test_an_infinite_truncation_is_none(loss):
    arguments = random_arguments(1, 6, 5)
    np.testing.assert_array_equal(loss(*arguments, truncation=np.inf), loss(*arguments))
    assert loss(*arguments, truncation=1.0) != loss(*arguments)


@BOTH
def test_two_episodes_in_a_stream_are_like_two_streams(loss):
    arguments = random_arguments(2, 6, 2)
    beside = [np.concatenate([x[:3], x[3:]], axis=1) for x in arguments]
    same = np.ones((6, 2), bool)
    same[2] = False
    np.testing.assert_allclose(loss(*arguments, same), loss(*beside), rtol=1e-5)
    assert not np.allclose(loss(*arguments), loss(*beside), rtol=1e-2)


@BOTH
def test_streams_may_have_several_axes(loss):
    arguments = random_arguments(3, 4, 2, 3)
    flat = [x.reshape(4, 6) for x in arguments]
    for normalized in (False, True):
        several, one = (loss(*x, self_normalized=normalized) for x in (arguments, flat))
        np.testing.assert_allclose(several, one, rtol=1e-5)


@BOTH
def test_an_action_that_pi_excludes_ends_the_weight_of_its_episode_only(loss):
    log_pi, log_mu, advantage = random_arguments(4, 6)
    log_pi[1] = -np.inf
    same = np.array([True, True, False, True, True, True])
    gradient = jax.grad(loss)(log_pi, log_mu, advantage, same)
    np.testing.assert_array_equal(gradient[1:3], [0.0, 0.0])
    assert np.all(gradient[3:] != 0.0)
    assert gradient[0] != 0.0


@BOTH
def test_options_and_flags_are_checked(loss):
    arguments = random_arguments(5, 4)
    with pytest.raises(ValueError, match="truncation must be greater than 0"):
        loss(*arguments, truncation=0.0)
    with pytest.raises(TypeError, match="same_episode_t must be boolean"):
        loss(*arguments, np.ones(4))
    with pytest.raises(ValueError, match=r"log_pi_tm1 \[4\], same_episode_t \[3\]"):
        loss(*arguments, np.ones(3, bool))


# Unbiased: the expectation over every trajectory that the old policy may take, against exact gradients

STATES, ACTIONS, HORIZON = 2, 2, 3


class Process:
    """A process with rewards on state and action; every trajectory, and how likely the two policies make it."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.transition = rng.dirichlet(np.ones(STATES), size=(STATES, ACTIONS))
        self.reward = rng.normal(size=(STATES, ACTIONS))
        self.start = rng.dirichlet(np.ones(STATES))
        self.theta = rng.normal(size=(STATES, ACTIONS))
        self.mu = rng.dirichlet(np.ones(ACTIONS), size=STATES)
        paths = np.array(list(itertools.product(range(STATES), range(ACTIONS), repeat=HORIZON))).T
        self.s, self.a = paths[0::2], paths[1::2]  # [T, N]
        self.r = self.reward[self.s, self.a]
        self.moves = self.start[self.s[0]] * np.prod(self.transition[self.s[:-1], self.a[:-1], self.s[1:]], axis=0)
        self.likely_mu = self.moves * np.prod(self.mu[self.s, self.a], axis=0)

    def log_pi(self, theta):
        return jax.nn.log_softmax(theta)[self.s, self.a]

    def value(self, theta, discount):
        """`J(θ)`, the exact expected discounted return."""
        returns = np.sum(discount ** np.arange(HORIZON)[:, None] * self.r, axis=0)
        return jnp.sum(self.moves * jnp.exp(jnp.sum(self.log_pi(theta), axis=0)) * returns)

    def expected_gradient(self, loss):
        """`E_μ` of minus the gradient of `loss(log_pi, log_mu, path)` of single trajectories, summed over time."""

        log_mu = jnp.log(self.mu)[self.s, self.a]

        def of_one(theta, path):
            return loss(self.log_pi(theta)[:, path], log_mu[:, path], path)

        each = jax.jit(jax.vmap(jax.grad(of_one), (None, 0)))(self.theta, np.arange(self.s.shape[1]))
        return -HORIZON * jnp.einsum("n,nsa->sa", self.likely_mu, each)

    def q(self, policy, discount):
        """Action values `[T, S, A]` with the time that is left."""
        table, v = [], np.zeros(STATES)
        for _ in range(HORIZON):
            table.append(self.reward + discount * self.transition @ v)
            v = np.sum(policy * table[-1], axis=-1)
        return np.array(table[::-1])

    @property
    def pi(self):
        return np.asarray(jax.nn.softmax(self.theta))

    def along(self, table):
        """Entries of `[T, S, A]` or `[T, S]` on every trajectory."""
        t = np.arange(HORIZON)[:, None]
        return table[t, self.s, self.a] if table.ndim == 3 else table[t, self.s]


SEEDS = pytest.mark.parametrize("seed", range(3))
TO_GO = np.array([[1.0 if k >= t else 0.0 for k in range(HORIZON)] for t in range(HORIZON)])


def per_decision_to_go(process):
    """`Σ_{k≥t} ρ_{t+1:k} r_{k+1}`."""
    log_rho = np.log(process.pi / process.mu)[process.s, process.a]
    return np.stack(
        [
            sum(np.exp(np.sum(log_rho[t + 1 : k + 1], axis=0)) * process.r[k] for k in range(t, HORIZON))
            for t in range(HORIZON)
        ]
    )


@SEEDS
def test_the_process_is_enumerated_in_full(seed, x64):
    process = Process(seed)
    assert process.likely_mu.sum() == pytest.approx(1.0)
    assert float(process.value(process.theta, 1.0)) == pytest.approx(
        process.start @ np.sum(process.pi * process.q(process.pi, 1.0)[0], axis=-1)
    )


@SEEDS
@pytest.mark.parametrize("with_baseline", [False, True])
def test_the_per_decision_gradient_is_unbiased(seed, with_baseline, x64):
    process = Process(seed)
    baseline = process.along(np.random.default_rng(seed).normal(size=(HORIZON, STATES))) if with_baseline else None

    def loss(log_pi, log_mu, path):
        b = None if baseline is None else jnp.asarray(baseline)[:, path]
        r = jnp.asarray(process.r)[:, path]
        return losses.per_decision_policy_gradient_loss(log_pi, log_mu, r, jnp.ones(HORIZON), baseline_tm1=b)

    exact = jax.grad(process.value)(jnp.asarray(process.theta), 1.0)
    np.testing.assert_allclose(process.expected_gradient(loss), exact, rtol=1e-9, atol=1e-12)


@SEEDS
@pytest.mark.parametrize("form", ["action values", "advantages", "per-decision rewards-to-go"])
def test_the_product_of_ratios_gradient_is_unbiased(seed, form, x64):
    process = Process(seed)
    q = process.q(process.pi, 1.0)
    v = np.sum(process.pi * q, axis=-1)
    advantage = {
        "action values": process.along(q),
        "advantages": process.along(q - v[..., None]),
        "per-decision rewards-to-go": per_decision_to_go(process),
    }[form]

    def loss(log_pi, log_mu, path):
        return losses.product_of_ratios_loss(log_pi, log_mu, jnp.asarray(advantage)[:, path])

    exact = jax.grad(process.value)(jnp.asarray(process.theta), 1.0)
    np.testing.assert_allclose(process.expected_gradient(loss), exact, rtol=1e-9, atol=1e-12)


@SEEDS
def test_with_rows_discounted_by_their_time_the_gradient_is_that_of_the_discounted_return(seed, x64):
    process = Process(seed)
    advantage = 0.8 ** np.arange(HORIZON)[:, None] * process.along(process.q(process.pi, 0.8))

    def loss(log_pi, log_mu, path):
        return losses.product_of_ratios_loss(log_pi, log_mu, jnp.asarray(advantage)[:, path])

    exact = jax.grad(process.value)(jnp.asarray(process.theta), 0.8)
    np.testing.assert_allclose(process.expected_gradient(loss), exact, rtol=1e-9, atol=1e-12)


@SEEDS
def test_discounted_per_decision_gradients_count_states_alike_at_every_time(seed, x64):
    process = Process(seed)

    def per_decision(log_pi, log_mu, path):
        r = jnp.asarray(process.r)[:, path]
        return losses.per_decision_policy_gradient_loss(log_pi, log_mu, r, jnp.full(HORIZON, 0.8))

    # Σ_t E_π[q(s_t, a_t) ∇ log π(a_t|s_t)], with the exact distribution of trajectories of π.
    q = process.along(process.q(process.pi, 0.8))
    likely_pi = process.moves * np.prod(process.pi[process.s, process.a], axis=0)
    exact = jax.grad(lambda theta: jnp.sum(likely_pi * q * process.log_pi(theta)))(jnp.asarray(process.theta))
    np.testing.assert_allclose(process.expected_gradient(per_decision), exact, rtol=1e-9, atol=1e-12)


@SEEDS
def test_plain_rewards_to_go_are_weighed_as_the_old_policy_continues(seed, x64):
    process = Process(seed)
    to_go = TO_GO @ process.r

    def loss(log_pi, log_mu, path):
        return losses.product_of_ratios_loss(log_pi, log_mu, jnp.asarray(to_go)[:, path])

    q_mu = process.along(process.q(process.mu, 1.0))
    likely_pi = process.moves * np.prod(process.pi[process.s, process.a], axis=0)
    theta = jnp.asarray(process.theta)
    expected = jax.grad(lambda theta: jnp.sum(likely_pi * q_mu * process.log_pi(theta)))(theta)
    found = process.expected_gradient(loss)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert not np.allclose(found, jax.grad(process.value)(theta, 1.0), rtol=1e-2)


@SEEDS
def test_the_per_step_gradient_is_that_of_the_states_which_the_old_policy_visits(seed, x64):
    process = Process(seed)
    q = jnp.asarray(process.along(process.q(process.pi, 1.0)))
    loss = lambda log_pi, log_mu, path: losses.per_step_ratio_loss(log_pi, log_mu, q[:, path])  # noqa: E731
    kernel = np.einsum("sa,sax->sx", process.mu, process.transition)
    visits = [process.start @ np.linalg.matrix_power(kernel, t) for t in range(HORIZON)]
    table = process.q(process.pi, 1.0)
    exact = jax.grad(
        lambda theta: sum(jnp.sum(visits[t][:, None] * jax.nn.softmax(theta) * table[t]) for t in range(HORIZON))
    )(jnp.asarray(process.theta))
    np.testing.assert_allclose(process.expected_gradient(loss), exact, rtol=1e-9, atol=1e-12)


def test_a_product_of_a_thousand_large_ratios_stays_finite():
    log_mu = jnp.full((1000, 4), -5.0)
    for normalized in (False, True):
        loss = functools.partial(losses.product_of_ratios_loss, self_normalized=normalized)
        value, gradient = jax.value_and_grad(loss)(jnp.full((1000, 4), -0.1), log_mu, jnp.ones((1000, 4)))
        assert np.isfinite(value)
        assert np.all(np.isfinite(gradient))
    np.testing.assert_allclose(gradient, np.full((1000, 4), -1 / 4000), rtol=1e-5)
