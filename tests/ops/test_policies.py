"""Greedy, ε-greedy and softmax policies: their definitions, ties, masks, gradients, and distrax."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import ops
from tests import oracles_q
from tests.peers import rlax

greedy = jax.jit(ops.greedy_log_probs, static_argnames="ties")
epsilon_greedy = jax.jit(ops.epsilon_greedy_log_probs, static_argnames="ties")
softmax = jax.jit(ops.softmax_log_probs)
expected_q = jax.jit(ops.expected_q)
TIES = pytest.mark.parametrize("ties", ["average", "first"])


def states(seed, count=40, actions=4):
    """`(q, mask)` `[count, A]`, with many ties, masks of any kind, and at least one legal action a state."""
    rng = np.random.default_rng(seed)
    q = rng.integers(-2, 2, size=(count, actions)).astype(float)
    mask = rng.random((count, actions)) < 0.6
    mask[np.arange(count), rng.integers(0, actions, count)] = True
    return q, mask


@TIES
def test_greedy_is_the_share_of_the_best_legal_actions(ties, x64):
    q, mask = states(0)
    expected = [oracles_q.greedy(*state, ties) for state in zip(q, mask, strict=True)]
    np.testing.assert_allclose(np.exp(greedy(q, mask, ties=ties)), expected, rtol=1e-12)


@TIES
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
def test_epsilon_greedy_explores_among_legal_actions(ties, epsilon, x64):
    q, mask = states(1)
    expected = [oracles_q.epsilon_greedy(a, epsilon, b, ties) for a, b in zip(q, mask, strict=True)]
    found = epsilon_greedy(q, epsilon, mask, ties=ties)
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-12)
    np.testing.assert_array_equal(jnp.isneginf(found), np.array(expected) == 0.0)


def test_softmax_is_its_definition_among_legal_actions(x64):
    q, mask = states(2)
    expected = [oracles_q.softmax(a, 0.7, b) for a, b in zip(q, mask, strict=True)]
    np.testing.assert_allclose(np.exp(softmax(q, 0.7, mask)), expected, rtol=1e-12)


def test_epsilon_greedy_is_that_of_distrax():
    q, _ = states(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = jax.jit(jax.vmap(rlax.epsilon_greedy(0.3).probs))(q.astype(np.float32))
    np.testing.assert_allclose(np.exp(epsilon_greedy(q, 0.3)), theirs, rtol=1e-6)


def test_each_state_may_have_its_own_greediness():
    q, mask = states(4, count=3)
    epsilon, temperature = jnp.array([0.0, 0.5, 1.0]), jnp.array([0.1, 1.0, 10.0])
    for policy, option in ((epsilon_greedy, epsilon), (softmax, temperature)):
        alone = [policy(q[i], option[i], mask[i]) for i in range(3)]
        np.testing.assert_allclose(policy(q, option, mask), alone, rtol=1e-6)
        np.testing.assert_allclose(jax.jit(jax.vmap(policy))(q, option, mask), alone, rtol=1e-6)


def test_softmax_is_greedy_at_small_temperatures_and_uniform_at_large_ones():
    q = jnp.array([1.0, 3.0, 3.0, -1e30])
    np.testing.assert_allclose(np.exp(softmax(q, 1e-30)), np.exp(greedy(q)))
    np.testing.assert_allclose(np.exp(softmax(q[:3], 1e30)), jnp.full(3, 1 / 3), rtol=1e-6)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30])
def test_values_of_illegal_actions_have_no_influence(garbage):
    mask = jnp.array([True, False, True])
    policies = {
        "greedy": lambda q: greedy(q, mask),
        "first": lambda q: greedy(q, mask, ties="first"),
        "epsilon": lambda q: epsilon_greedy(q, 0.2, mask),
        "softmax": lambda q: softmax(q, 0.5, mask),
    }
    for name, policy in policies.items():
        value = jax.jit(jax.value_and_grad(lambda q, policy=policy: expected_q(q, policy(q))))
        clean, dirty = (value(jnp.array([1.0, x, 2.0])) for x in (0.0, garbage))
        jax.tree.map(np.testing.assert_array_equal, clean, dirty)
        assert np.isfinite(dirty[0]), name
        assert dirty[1][1] == 0.0, name


def test_a_state_without_legal_actions_has_no_probabilities_and_value_zero():
    q, none = jnp.array([1.0, jnp.nan]), jnp.zeros(2, bool)
    for log_pi in (
        greedy(q, none),
        epsilon_greedy(q, 0.5, none),
        softmax(q, 1.0, none),
    ):
        np.testing.assert_array_equal(log_pi, [-np.inf, -np.inf])
        assert expected_q(q, log_pi) == 0.0


def test_a_value_that_is_not_a_number_is_not_hidden():
    q = jnp.array([1.0, jnp.nan])
    for log_pi in (
        greedy(q),
        greedy(q, ties="first"),
        epsilon_greedy(q, 0.1),
    ):
        assert np.isnan(expected_q(q, log_pi))


def test_the_gradient_of_a_mean_value_is_the_policy_and_that_of_its_logits_the_advantage(x64):
    q, log_pi = jnp.array([1.0, 4.0, 2.0]), jnp.log(jnp.array([0.5, 0.2, 0.3]))
    to_q, to_log_pi = jax.jit(jax.grad(expected_q, (0, 1)))(q, log_pi)
    np.testing.assert_allclose(to_q, [0.5, 0.2, 0.3], rtol=1e-12)
    np.testing.assert_allclose(to_log_pi, [0.5, 0.8, 0.6], rtol=1e-12)
    through_logits = jax.jit(jax.grad(lambda z: expected_q(q, softmax(z, 1.0))))(log_pi)
    np.testing.assert_allclose(through_logits, np.array([0.5, 0.2, 0.3]) * (q - 1.9), rtol=1e-9)


def test_the_value_of_the_greedy_policy_has_the_gradient_of_a_maximum():
    q = jnp.array([[1.0, 3.0, 3.0], [5.0, 3.0, 2.0]])
    ours = jax.jit(jax.grad(lambda q: jnp.sum(expected_q(q, greedy(q)))))(q)
    np.testing.assert_array_equal(ours, jax.jit(jax.grad(lambda q: jnp.sum(jnp.max(q, -1))))(q))


def test_of_an_action_taken_the_other_actions_are_not_seen():
    x, action = jnp.array([[1.0, jnp.nan], [jnp.inf, 4.0]]), jnp.array([0, 1])
    value, gradient = jax.jit(jax.value_and_grad(lambda x: jnp.sum(ops.at_action(x, action) ** 2)))(x)
    assert value == 17.0
    np.testing.assert_array_equal(gradient, [[2.0, 0.0], [0.0, 8.0]])
    many = jnp.arange(12.0).reshape(2, 2, 3)
    np.testing.assert_array_equal(ops.at_action(many, action), many[jnp.arange(2), action])


@pytest.mark.parametrize("action", [-1, 2])
def test_an_action_that_there_is_not_gives_no_number(action):
    assert np.isnan(ops.at_action(jnp.array([1.0, 2.0]), jnp.array(action)))


def test_bfloat16_is_computed_in_float32():
    q = jnp.array([1.0, 2.0], jnp.bfloat16)
    for log_pi in (greedy(q), epsilon_greedy(q, 0.1), softmax(q, 1.0)):
        assert log_pi.dtype == expected_q(q, log_pi).dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda q: ops.greedy_log_probs(q, ties="last"), "ties must be one of average, first, but it is 'last'"),
        (lambda q: ops.greedy_log_probs(q, jnp.ones((2, 2), bool)), r"q \[2, 3\], mask \[2, 2\]"),
        (lambda q: ops.epsilon_greedy_log_probs(q, 1.5), r"epsilon must lie in \[0, 1\], but it is 1.5"),
        (lambda q: ops.epsilon_greedy_log_probs(q, jnp.ones(3)), r"epsilon must be a scalar or \[2\]"),
        (lambda q: ops.softmax_log_probs(q, 0.0), "temperature must be greater than 0, but it is 0.0"),
        (lambda q: ops.expected_q(q, q[:, :2]), r"q \[2, 3\], log_pi \[2, 2\]"),
        (lambda q: ops.at_action(q, jnp.zeros(3, int)), r"x \[2, 3\], action \[3\]"),
        (lambda q: ops.greedy_log_probs(q[0, 0]), r"q must be \[..., A\] with A ≥ 1, but its shape is \[\]"),
    ],
)
def test_wrong_options_and_shapes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.zeros((2, 3)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda q: ops.greedy_log_probs(q, jnp.ones((2, 3))), "mask must be boolean"),
        (lambda q: ops.greedy_log_probs(q.astype(int)), "q must be floating"),
        (lambda q: ops.at_action(q, jnp.zeros(2)), "action must hold integers"),
        (lambda q: ops.softmax_log_probs(q, "1"), "temperature must be a number"),
    ],
)
def test_wrong_types_are_named(call, message):
    with pytest.raises(TypeError, match=message):
        call(jnp.zeros((2, 3)))
