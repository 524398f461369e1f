"""gymnax's environments, and objects with its interface."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.environments import make
from isjax.environments.adapter import adapt
from isjax.learner import Config, make_learner
from isjax.learner.unroll import step_and_reset
from tests.learner.probes import Duck, Probe, adapted


def _mnist_or_its_refusal(config):
    """The config where the data can be downloaded; elsewhere one clear line says that it cannot."""
    try:
        make(config.env)
    except ValueError:
        with pytest.raises(ValueError, match=r"\Aenv 'MNISTBandit-bsuite' downloads its data, which failed: .*\.\Z"):
            make_learner(config)
        return None
    return config


@pytest.mark.parametrize("env", gymnax.registered_envs)
def test_every_registered_environment_trains(env):
    config = Config(env=env, num_envs=2, unroll_length=3, torso=(8,), evaluation_episodes=2)
    if env == "MNISTBandit-bsuite":
        config = _mnist_or_its_refusal(config)
        if config is None:
            return
    with jax.numpy_rank_promotion("allow"):  # some environments of gymnax rely on it
        learner = make_learner(config)
        state = learner.init(jax.random.key(0))
        update = jax.jit(learner.update)
        for _ in range(2):
            state, metrics = update(state)
    assert metrics["alive"]
    assert metrics["env_steps"] == 12
    assert all(np.isfinite(x) for name, x in metrics.items() if name != "episode_return")


def test_an_unknown_environment_is_answered_with_near_matches():
    with pytest.raises(ValueError, match=r"'CartPol-v1'; did you mean CartPole-v1"):
        make("CartPol-v1")


def test_a_five_value_step_is_refused():
    with pytest.raises(ValueError, match=r"Duck.step must return .* returns 5 values"):
        adapted(Duck(Probe(), five_values=True))


def test_a_step_without_final_observation_is_refused():
    with pytest.raises(ValueError, match=r"final_observation"):
        adapted(Duck(Probe(), drop_final=True))


def test_integer_observations_are_one_hot_and_others_are_cast():
    rooms = adapt(make("FourRooms-misc"))
    encoded = rooms.encode(jnp.array([[1, 11, 4, 1]]))
    assert encoded.shape == (1, 4 * 11)
    np.testing.assert_array_equal(np.flatnonzero(encoded), [0, 11 + 10, 22 + 3, 33])
    lake = adapt(make("FrozenLake-misc"))
    np.testing.assert_array_equal(lake.encode(jnp.array([3]))[0], np.eye(16)[3])
    assert adapt(make("Breakout-MinAtar")).encode(jnp.zeros((1, 10, 10, 4))).shape == (1, 10, 10, 4)


@pytest.mark.parametrize("ends", ["terminated", "truncated", "both"])
def test_stepping_onto_drawn_resets_equals_the_step_of_gymnax(ends):
    """The same actions and resets through gymnax's own step and through ours."""
    probe = Probe(3, ends=ends)
    ours, theirs = adapted(probe), adapted(Duck(probe))
    assert not ours.resets_itself
    assert theirs.resets_itself
    _, state = ours.reset(jax.random.key(3))
    state_2 = state
    for t in range(8):
        key = jax.random.fold_in(jax.random.key(7), t)
        fresh = ours.reset(jax.random.split(key)[1])
        step, (observation, state) = step_and_reset(ours, key, state, jnp.int32(0), fresh)
        step_2, (observation_2, state_2) = step_and_reset(theirs, key, state_2, jnp.int32(0), None)
        jax.tree.map(np.testing.assert_array_equal, (observation, state), (observation_2, state_2))
        for one, other in zip(step, step_2, strict=True):
            if one is not step.state and other is not step_2.following:
                jax.tree.map(np.testing.assert_array_equal, one, other)


def test_an_episode_that_terminates_at_its_time_limit_is_terminated_and_not_truncated():
    probe = adapted(Probe(2, ends="both"))
    _, state = probe.reset(jax.random.key(0))
    step = probe.step(jax.random.key(0), state, jnp.int32(0))
    step = probe.step(jax.random.key(0), step.state, jnp.int32(0))
    assert step.terminated
    assert not step.truncated
