"""MAGIC: its parts against the paper's sums, its blend against exhaustive search, and where it should lean."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import ope
from isjax.ope.episodes import Log
from isjax.ope.magic import smallest_quadratic
from isjax.ope.model_assisted import model_values, step_contributions
from isjax.ope.per_decision import step_weights
from tests import oracles_ope as oracle


def test_its_terms_sum_to_the_blended_returns_of_the_paper(x64):
    episodes = oracle.random_episodes(0)
    log_rho, r, v, q, is_valid = oracle.pad(episodes, 5)
    log = Log.checked(log_rho, r, 0.9, jnp.asarray(is_valid))
    values, contributions = step_contributions(log, step_weights(log), *model_values(log, v, q))
    np.testing.assert_allclose(np.cumsum(values), oracle.blended_returns(episodes, 0.9), rtol=1e-10)
    np.testing.assert_allclose(np.mean(contributions, 1), values, rtol=1e-10, atol=1e-14)


def exact_blend(a):
    """The best of all supports on which the unconstrained minimum is positive."""
    best, value = None, np.inf
    for size in range(1, len(a) + 1):
        for support in itertools.combinations(range(len(a)), size):
            x = np.zeros(len(a))
            x[list(support)] = np.linalg.solve(a[np.ix_(support, support)], np.ones(size))
            x /= x.sum()
            if np.all(x >= 0) and x @ a @ x < value:
                best, value = x, x @ a @ x
    return best


@pytest.mark.parametrize("seed", range(5))
def test_the_blend_minimizes_the_quadratic_over_the_simplex(seed, x64):
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.uniform(-4, 4, 6))
    root = scale[:, None] * rng.normal(size=(6, 9))
    a = root @ root.T
    x, best = np.array(jax.jit(smallest_quadratic)(jnp.asarray(a))), exact_blend(a)
    assert x.min() >= 0
    assert x.sum() == pytest.approx(1.0)
    assert x @ a @ x == pytest.approx(best @ a @ best, rel=1e-6)


def test_a_right_model_is_followed_and_a_wrong_one_dropped():
    process = oracle.Mdp.random(5, horizon=4)
    exact = [np.array(x) for x in zip(*(process.values(k) for k in range(5)), strict=True)]
    trajectories, value = process.trajectories(), exact[0][4][0]
    chance = np.array([p for p, *_ in trajectories])
    blended, weighted = jax.jit(ope.magic), jax.jit(ope.weighted_doubly_robust)
    right, wrong = [], []
    for seed in range(5):
        drawn = np.random.default_rng(seed).choice(len(chance), 300, p=chance / chance.sum())
        for errors, shift in ((right, 0.0), (wrong, 5.0)):
            model = [x + shift for x in exact]
            log_rho, r, v, q, is_valid = oracle.pad([process.episode(*trajectories[i][1:], model) for i in drawn], 4)
            one, other = (f(log_rho, r, 0.9, is_valid, v_tm1=v, q_tm1=q) for f in (blended, weighted))
            errors.append(float(abs(one.value - value) / other.standard_error))
    # In standard errors of the weighted estimate, of which the median error is about 0.67.
    assert np.median(right) < 0.01
    assert np.median(wrong) < 2.0
