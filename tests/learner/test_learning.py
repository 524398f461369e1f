"""Learning, end to end, on environments whose values are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.learner import Config, Hyper
from isjax.learner.learner import make_agent, make_learner
from tests.learner.probes import Probe

pytestmark = pytest.mark.learning

HYPER = Hyper(learning_rate=1e-2, discount=0.8, value_cost=1.0)


def _trained(probe, updates=800, **settings):
    """What the network says of observations `[cue, time / length]` after training."""
    config = Config(num_envs=16, unroll_length=8, torso=(32,), steps=updates * 128, **settings)
    learner, agent = make_learner(config, environment=probe), make_agent(config, environment=probe)

    @jax.jit
    def train(key):
        return jax.lax.fori_loop(0, updates, lambda _, s: learner.update(s)[0], learner.init(key, HYPER))

    state = train(jax.random.key(0))
    assert state.alive
    return lambda *rows: agent.step(state.params, state.observation_moments, jnp.array(rows, jnp.float32), ())[:2]


def test_the_value_of_one_certain_reward_is_learned():
    _, value = _trained(Probe(1))((0, 0), (1, 0))
    np.testing.assert_allclose(value, 1.0, atol=0.05)


def test_a_delayed_reward_is_discounted_on_the_way_back():
    _, value = _trained(Probe(3, reward="last"))((0, 0), (0, 1 / 3), (1, 2 / 3))
    np.testing.assert_allclose(value, [0.64, 0.8, 1.0], atol=0.05)


def test_values_depend_on_what_is_observed():
    _, value = _trained(Probe(1, reward="cue"))((0, 0), (1, 0))
    np.testing.assert_allclose(value, [-1.0, 1.0], atol=0.05)


def test_a_time_limit_is_no_end_of_the_rewards_to_come():
    """1 / (1 − γ) = 5; taking the limit for an end would give 1.75, the mean of 2.44, 1.8 and 1.

    The time is not shown: no row starts from the state at the limit, and nobody could learn its value.
    """
    _, value = _trained(Probe(3, ends="truncated", shows_time=False), updates=2000)((0, 0), (1, 0))
    np.testing.assert_allclose(value, 5.0, atol=0.1)


def test_an_episode_that_terminates_at_its_time_limit_ends_there():
    _, value = _trained(Probe(3, ends="both"))((0, 0), (1, 1 / 3), (0, 2 / 3))
    np.testing.assert_allclose(value, [2.44, 1.8, 1.0], atol=0.1)


def test_the_action_that_pays_is_chosen():
    logits, _ = _trained(Probe(1, reward="action"))((0, 0))
    assert jax.nn.softmax(logits[0])[1] > 0.95


OFF_POLICY = [
    dict(actor_lag=5),
    dict(epochs=2, minibatches=2),
    dict(replay_fraction=0.5, replay_size=20, replay_mask=True),
    dict(algorithm="pg-is", products="self-normalized", actor_lag=2),
    dict(algorithm="ppo", epochs=2, minibatches=4, normalize_advantages=True, clip_values=True),
    dict(algorithm="ppo-decoupled", epochs=2, actor_lag=5),
    dict(algorithm="awr", normalize_advantages=True),
    dict(algorithm="trpo", share_torso=False),
]


@pytest.mark.parametrize("settings", OFF_POLICY, ids=lambda settings: "-".join(map(str, settings.values())))
def test_the_action_that_pays_here_is_chosen_on_and_off_policy(settings):
    logits, value = _trained(Probe(1, reward="action_is_cue"), **settings)((0, 0), (1, 0))
    probability = jax.nn.softmax(logits)
    assert probability[0, 0] > 0.95
    assert probability[1, 1] > 0.95
    np.testing.assert_allclose(value, 1.0, atol=0.1)
