"""Estimated behavior policies and checks of given ones: against counting by hand, and logs that are wrong."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import ope
from tests.oracles_states import Process


@functools.partial(jax.jit, static_argnames=("history", "smoothing", "num_actions"))
def estimated(state, action, is_valid, history=0, smoothing=0.0, num_actions=None):
    options = {"history": history, "smoothing": smoothing, "num_actions": num_actions}
    return ope.estimate_behavior(state, action, is_valid, **options)


def by_counting(state, action, is_valid, history, smoothing=0.0, num_actions=0):
    def context(t, i):
        first = max(t - history, 0)
        return (t - first, *map(int, state[first : t + 1, i]), *map(int, action[first:t, i]))

    rows = [(t, i) for t in range(len(state)) for i in range(state.shape[1]) if is_valid[t, i]]
    found = np.zeros(state.shape)
    for t, i in rows:
        same = [row for row in rows if context(*row) == context(t, i)]
        taken = sum(action[row] == action[t, i] for row in same)
        found[t, i] = np.log((taken + smoothing) / (len(same) + smoothing * num_actions))
    return found


@pytest.mark.parametrize("history", [0, 1, 2])
def test_it_is_the_share_of_the_action_among_steps_with_the_same_history(history, x64):
    rng = np.random.default_rng(0)
    state, action = rng.integers(-1, 2, (5, 12)), rng.integers(0, 2, (5, 12))
    is_valid = np.arange(5)[:, None] < rng.integers(1, 6, 12)
    spoiled = np.where(is_valid, state, 99), np.where(is_valid, action, -5)
    found = estimated(*spoiled, is_valid, history)
    np.testing.assert_allclose(found, by_counting(state, action, is_valid, history), rtol=1e-12)
    np.testing.assert_array_equal(found[~is_valid], 0.0)


def test_smoothing_adds_to_every_action(x64):
    state, action = np.zeros((1, 3), int), np.array([[0, 0, 1]])
    found = estimated(state, action, state == 0, 0, 1.0, 4)
    np.testing.assert_allclose(np.exp(found), [[3 / 7, 3 / 7, 2 / 7]], rtol=1e-12)


def test_states_may_have_several_numbers(x64):
    rng = np.random.default_rng(1)
    state, action = rng.integers(0, 2, (4, 9, 2)), rng.integers(0, 2, (4, 9))
    both = state[..., 0] + 2 * state[..., 1]
    valid = np.ones((4, 9), bool)
    np.testing.assert_array_equal(estimated(state, action, valid, 1), estimated(both, action, valid, 1))


def test_small_integers_do_not_overflow():
    action = np.zeros((300, 2), np.int8)
    np.testing.assert_array_equal(estimated(action, action, action == 0, 2), 0.0)


def test_estimated_propensities_make_estimates_more_precise_than_the_true_ones():
    """Hanna, Niekum & Stone 2019: ratios of what was drawn, not of what should have been, correct sampling error."""
    process = Process.random(4, horizon=3)
    state, log_rho, r, is_valid = process.sample(np.random.default_rng(0), 200 * 200)
    # The action follows from the ratio, since π differs by action in every state.
    action = np.where(np.isclose(log_rho, np.log(process.pi[state, 0] / 0.5)), 0, 1)
    logs = [np.stack(np.split(x, 200, axis=1)) for x in (state, action, log_rho, r, is_valid)]

    def errors(state, action, log_rho, r, is_valid):
        log_pi = log_rho + np.log(0.5)
        own = log_pi - ope.estimate_behavior(state, action, is_valid)
        return [ope.per_decision_is(x, r, 1.0, is_valid).value - process.value(1.0) for x in (log_rho, own)]

    true, own = (np.mean(np.square(x)) for x in jax.jit(jax.vmap(errors))(*logs))
    assert own < 0.7 * true


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"history": -1}, "history must be at least 1, but it is -1"),
        ({"smoothing": -1.0}, "smoothing must be finite and at least 0, but it is -1"),
        ({"smoothing": 1.0}, "num_actions must be given where smoothing is above 0"),
        ({"state_tm1": jnp.zeros((2, 4), int)}, r"state_tm1 \[2, 4\], action_tm1 \[2, 3\]"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    arguments = {"state_tm1": jnp.zeros((2, 3), int), "action_tm1": jnp.zeros((2, 3), int)} | options
    with pytest.raises(ValueError, match=message):
        ope.estimate_behavior(**arguments)


def test_actions_that_are_no_integers_are_refused():
    with pytest.raises(TypeError, match="action_tm1 must hold integers"):
        ope.estimate_behavior(jnp.zeros((2, 3), int), jnp.zeros((2, 3)))


MU = np.array([0.2, 0.5, 0.7])


def logged(seed=0, count=400):
    """`(log_pi, log_mu, state, action)`, `[5, N]`, of a policy that takes action 1 with odds `MU`."""
    rng = np.random.default_rng(seed)
    state = rng.integers(0, 3, (5, count))
    action = (rng.random((5, count)) < MU[state]).astype(int)
    return np.log(np.where(action, 0.6, 0.4)), np.log(np.where(action, MU[state], 1 - MU[state])), state, action


@pytest.mark.parametrize("seed", range(20))
def test_right_propensities_give_no_complaint(seed):
    log_pi, log_mu, state, action = logged(seed)
    found = ope.check_propensities(log_pi, log_mu, state_tm1=state, action_tm1=action)
    assert found.complaints == ()
    assert abs(found.mean_ratio - 1.0) < 4 * found.standard_error
    np.testing.assert_allclose(found.state_mean_ratio, 1.0, atol=0.3)


def test_numbers_are_those_counted_by_hand():
    log_mu = np.log(np.full((2, 10), 0.5))
    log_pi = log_mu + np.log(np.where(np.arange(20).reshape(2, 10) < 5, 2.0, 1.0))
    state, action = np.arange(2)[:, None] + np.zeros((2, 10), int), np.arange(20).reshape(2, 10) % 5 // 4
    found = ope.check_propensities(log_pi, log_mu, state_tm1=state, action_tm1=action)
    per_episode = np.where(np.arange(10) < 5, 3.0, 2.0)
    assert found.mean_ratio == pytest.approx(1.25)
    assert found.standard_error == pytest.approx(np.std(per_episode, ddof=1) / np.sqrt(10) / 2)
    np.testing.assert_allclose(found.state_mean_ratio, [1.5, 1.0], rtol=1e-9)
    np.testing.assert_array_equal(found.calibration.frequency, [0.8, 0.2, 0.8, 0.2])
    np.testing.assert_allclose(found.calibration.propensity, 0.5, rtol=1e-9)
    np.testing.assert_allclose(found.calibration.deviation, [3, -3, 3, -3] / np.sqrt(2.5), rtol=1e-9)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda mu: np.exp(mu), r"all of log_mu lie in \[0, 1\]: these are probabilities"),
        (lambda mu: 0.0 * mu, "all propensities are 1: they are missing"),
        (lambda mu: mu + 2.0, "above 0: these are densities"),
        (lambda mu: np.where(mu < np.log(0.25), -np.inf, mu), "an action of propensity 0 was taken"),
        (lambda mu: np.where(mu < np.log(0.25), np.nan, mu), "some propensities are no numbers"),
        (lambda mu: mu - 0.5, "the mean ratio of steps is 1.6.*, not 1: propensities are wrong"),
        (lambda mu: mu[::-1], "in state . action . was taken in .* of the visits, where its propensity is"),
    ],
)
def test_what_does_not_fit_is_told(spoil, message):
    log_pi, log_mu, state, action = logged()
    found = ope.check_propensities(log_pi, spoil(log_mu), state_tm1=state, action_tm1=action)
    assert any(re.search(message, text) for text in found.complaints)


def test_a_state_with_other_propensities_is_named():
    log_pi, log_mu, state, _ = logged()
    found = ope.check_propensities(log_pi, np.where(state == 1, log_mu + 0.4, log_mu), state_tm1=state)
    assert any(text.startswith("in state 1 the mean ratio is 0.6") for text in found.complaints)


def test_densities_may_be_positive_and_padding_may_hold_anything():
    log_pi, log_mu, *_ = logged()
    valid = np.arange(5)[:, None] < np.random.default_rng(0).integers(1, 6, 400)
    clean = ope.check_propensities(log_pi, log_mu, valid)
    dirty = ope.check_propensities(np.where(valid, log_pi, np.nan), np.where(valid, log_mu, np.inf), valid)
    assert clean.mean_ratio == dirty.mean_ratio
    assert ope.check_propensities(log_pi + 2.0, log_mu + 2.0, densities=True).complaints == ()
