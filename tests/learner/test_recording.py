"""Logs of policies over a Box whose dimensions have bounds of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from isjax.learner import Config, make_learner
from isjax.learner.learner import make_agent
from isjax.learner.recording import record
from tests.learner.probes import Probe


class Boxed(Probe):
    """The reward is NaN outside the bounds."""

    def __init__(self, low, high):
        super().__init__(3)
        self.low, self.high = jnp.array(low), jnp.array(high)

    def action_space(self, params=None):
        return spaces.Box(self.low, self.high, self.low.shape)

    def step_env(self, key, state, action, params):
        observation, state, _, terminated, info = super().step_env(key, state, 0, params)
        is_inside = jnp.all((action >= self.low) & (action <= self.high))
        return observation, state, jnp.where(is_inside, action[0], jnp.nan), terminated, info


MIXED, CLOSED = ((-1.0, 0.0, 2.0), (1.0, np.inf, 2.0)), ((-1.0, 2.0), (1.0, 2.0))


def _record(box, share, box_actions="tanh"):
    config = Config(num_envs=2, unroll_length=4, torso=(4,), box_actions=box_actions)
    environment = Boxed(*box)
    state = make_learner(config, environment=environment).init(jax.random.key(0))
    agent = make_agent(config, environment=environment)
    return record(agent, state, jax.random.key(1), episodes=512, uniform_share=share)


@pytest.mark.parametrize("box_actions", ["tanh", "clip"])
def test_a_mixed_box_is_recorded_within_its_bounds(box_actions):
    log = _record(MIXED, 0.0, box_actions)
    assert np.isfinite(log.r_t).all()
    assert np.isfinite(log.log_pi_tm1).all()
    np.testing.assert_array_equal(log.log_pi_tm1, log.log_mu_tm1)


def test_a_uniform_policy_over_a_box_with_a_constant_dimension_has_the_density_of_the_others():
    log = _record(CLOSED, 1.0)
    np.testing.assert_allclose(log.log_mu_tm1[:3], np.log(0.5), rtol=1e-5)
    ratios = np.exp(np.asarray(log.log_pi_tm1 - log.log_mu_tm1, np.float64))[:3].ravel()
    assert abs(ratios.mean() - 1.0) < 5 * ratios.std() / np.sqrt(ratios.size)


def test_no_uniform_policy_acts_in_a_box_that_is_open_on_a_side():
    with pytest.raises(ValueError, match="uniform_share must be 0 where actions are unbounded or clipped"):
        _record(MIXED, 0.5)
