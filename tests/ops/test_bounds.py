"""The bounds of the theory against exact state distributions of tabular processes."""

import jax.numpy as jnp
import numpy as np
import pytest

from isjax import ops

STATES, ACTIONS, GAMMA = 5, 3, 0.9


def process(seed, step):
    """Two policies a step apart, and what follows from them exactly."""
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.full(STATES, 0.3), size=(STATES, ACTIONS))
    reward = rng.normal(size=(STATES, ACTIONS))
    old = rng.dirichlet(np.ones(ACTIONS), size=STATES)
    new = (1 - step) * old + step * rng.dirichlet(np.ones(ACTIONS), size=STATES)
    return transition, reward, old, new


def states_at(transition, policy, t):
    kernel = np.einsum("sa,sax->sx", policy, transition)
    return np.linalg.matrix_power(kernel, t)[0]


def total_variation(old, new):
    return 0.5 * np.abs(old - new).sum(-1).max()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("step", [0.01, 0.1, 1.0])
def test_drift_of_the_state_distribution_is_within_its_bound(seed, step, x64):
    transition, _, old, new = process(seed, step)
    epsilon = total_variation(old, new)
    for t in range(20):
        drift = np.abs(states_at(transition, new, t) - states_at(transition, old, t)).sum()
        bound = float(ops.state_drift_bound(epsilon, t))
        assert drift <= bound + 1e-12
        assert bound <= 2 * epsilon * t + 1e-12


def test_the_drift_bound_is_attained_when_every_disagreement_leads_away(x64):
    epsilon = 0.3
    stay = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    old, new = np.array([[1.0, 0.0]] * 2), np.array([[1 - epsilon, epsilon]] * 2)
    for t in range(6):
        drift = np.abs(states_at(stay, new, t) - states_at(stay, old, t)).sum()
        assert drift == pytest.approx(float(ops.state_drift_bound(epsilon, t)))


def advantages(transition, reward, policy, horizon):
    """`A[t, s, a]` of the old policy with a finite horizon."""
    v, table = np.zeros(STATES), []
    for _ in range(horizon):
        q = reward + GAMMA * transition @ v
        v = np.sum(policy * q, -1)
        table.append(q - v[:, None])
    return np.array(table[::-1]), v


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("step", [0.01, 0.1, 1.0])
def test_the_surrogate_is_off_by_no_more_than_its_bound(seed, step, x64):
    horizon = 12
    transition, reward, old, new = process(seed, step)
    advantage, v_old = advantages(transition, reward, old, horizon)
    _, v_new = advantages(transition, reward, new, horizon)
    expected = np.einsum("sa,tsa->ts", new, advantage)
    surrogate = sum(GAMMA**t * states_at(transition, old, t) @ expected[t] for t in range(horizon))
    epsilon = total_variation(old, new)
    bound = ops.surrogate_error_bound(epsilon, GAMMA, horizon, np.abs(expected).max())
    assert abs((v_new - v_old)[0] - surrogate) <= float(bound) + 1e-12


@pytest.mark.parametrize("seed", range(5))
def test_improvement_is_at_least_the_surrogate_less_the_penalty(seed, x64):
    horizon = 400
    transition, reward, old, new = process(seed, 0.05)
    advantage, v_old = advantages(transition, reward, old, horizon)
    _, v_new = advantages(transition, reward, new, horizon)
    kernel = np.einsum("sa,sax->sx", old, transition)
    visits = np.linalg.inv(np.eye(STATES) - GAMMA * kernel)[0]
    surrogate = visits @ np.sum(new * advantage[0], -1)
    penalty = ops.trust_region_bound(total_variation(old, new), GAMMA, np.abs(advantage[0]).max())
    assert (v_new - v_old)[0] >= surrogate - float(penalty) - 1e-9


def test_pinsker_bounds_the_total_variation(x64):
    old, new = np.random.default_rng(0).dirichlet(np.ones(4), size=(2, 50))
    kl = np.sum(old * np.log(old / new), -1)
    assert np.all(0.5 * np.abs(old - new).sum(-1) <= np.array(ops.total_variation_bound(jnp.asarray(kl))))
    assert np.all(np.array(ops.total_variation_bound(jnp.asarray(kl))) <= 1.0)


def test_bounds_are_those_of_the_formulas(x64):
    assert float(ops.state_drift_bound(0.1, 3)) == pytest.approx(2 * (1 - 0.9**3))
    by_hand = 0.5 * (0.9 * 0.2 + 0.81 * 2 * (1 - 0.81))
    assert float(ops.surrogate_error_bound(0.1, 0.9, 3, 0.5)) == pytest.approx(by_hand)
    assert float(ops.trust_region_bound(0.1, 0.9, 0.5)) == pytest.approx(4 * 0.01 * 0.9 / 0.01 * 0.5)
    assert float(ops.trust_region_bound(0.1, 1.0, 0.5)) == np.inf


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match="epsilon must lie in"):
        ops.state_drift_bound(1.5, 3)
    with pytest.raises(ValueError, match="horizon must be at least 1"):
        ops.surrogate_error_bound(0.1, 0.9, 0, 1.0)
    with pytest.raises(ValueError, match="discount must lie in"):
        ops.trust_region_bound(0.1, 2.0, 1.0)
