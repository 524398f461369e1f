"""Visits to a state and n-step returns, turned into episodes that every estimator takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import ope
from tests import oracles_ope as oracle

from_visits = jax.jit(ope.from_visits, static_argnames=("every", "size"))


def visits(episodes, flags, every):
    """What follows each visit, episode by episode."""
    for episode, flag in zip(episodes, flags, strict=True):
        starts = [t for t in range(len(episode[0])) if flag[t]]
        yield from ((episode[0][t:], episode[1][t:]) for t in (starts if every else starts[:1]))


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("name", ["ordinary_is", "weighted_is", "weighted_per_decision_is"])
def test_estimates_from_visits_average_over_the_visits(name, every, x64):
    episodes = [e[:2] for e in oracle.random_episodes(0)]
    log_rho, r, is_valid = oracle.pad(episodes, 5)
    is_visit = np.random.default_rng(1).random(r.shape) < 0.5
    found = from_visits(is_visit, log_rho, r, is_valid, every=every)
    expected = list(visits(episodes, is_visit.T, every))
    estimate = jax.jit(getattr(ope, name))(found.log_rho_tm1, found.r_t, 0.9, found.is_valid_t)
    np.testing.assert_allclose(estimate.value, getattr(oracle, name)(expected, 0.9), rtol=1e-12)
    assert int(estimate.is_episode.sum()) == len(expected)


def test_every_visit_mean_over_all_trajectories_is_not_the_first_visit_mean():
    is_visit = jnp.array([[True], [True]])
    r = jnp.array([[1.0], [2.0]])
    first, every = (ope.from_visits(is_visit, 0.0 * r, r, every=every, size=2) for every in (False, True))
    assert [float(ope.ordinary_is(e.log_rho_tm1, e.r_t, 1.0, e.is_valid_t).value) for e in (first, every)] == [3.0, 2.5]


def test_visits_in_padding_do_not_count():
    is_visit = jnp.array([[False], [True]])
    found = ope.from_visits(is_visit, jnp.ones((2, 1)), jnp.ones((2, 1)), jnp.array([[True], [False]]))
    assert not found.is_valid_t.any()


@pytest.mark.parametrize("n", [1, 3, 9])
def test_n_step_estimates_cut_the_return_and_bootstrap(n, x64):
    episodes = oracle.random_episodes(2)
    log_rho, r, v_t, _, is_valid = oracle.pad(episodes, 5)
    cut = ope.n_step_episodes(log_rho, r, 0.9, is_valid, n=n, v_t=v_t)
    estimate = jax.jit(ope.ordinary_is)(cut.log_rho_tm1, cut.r_t, 0.9, cut.is_valid_t)
    expected = []
    for e in episodes:
        bootstrap = 0.9**n * e[2][n - 1] if n <= len(e[1]) else 0.0
        expected.append(np.exp(e[0][:n].sum()) * (oracle.returns((None, e[1][:n]), 0.9) + bootstrap))
    np.testing.assert_allclose(estimate.per_episode, expected, rtol=1e-12)


def test_n_below_one_is_refused():
    with pytest.raises(ValueError, match="n must be at least 1"):
        ope.n_step_episodes(jnp.ones((2, 1)), jnp.ones((2, 1)), 0.9, n=0)


def test_visits_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"is_visit_t \[3, 1\]"):
        ope.from_visits(jnp.ones((3, 1), bool), jnp.ones((2, 1)), jnp.ones((2, 1)))
