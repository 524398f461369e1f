"""Whole episodes: each to its end, or said to have been given up."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.environment import EnvParams

from isjax.learner import Config, make_learner
from isjax.learner.learner import make_agent
from isjax.learner.recording import record
from isjax.types import Cause
from tests.learner.probes import Duck, Masked, Probe

SMALL = Config(num_envs=2, unroll_length=4, torso=(4,), evaluation_episodes=3)


class DeclaresOne(Probe):
    """20 steps and then a cut, by a flag of its own, of an environment that declares a limit of 1."""

    @property
    def default_params(self):
        return EnvParams(max_steps_in_episode=1)

    def is_truncated(self, state, params):
        return state.time >= 20


class DeclaresOneWrapped(Duck):
    """The same of an object with a step of its own."""

    @property
    def default_params(self):
        return EnvParams(max_steps_in_episode=1)

    def reset(self, key, params):
        return self.inner.reset(key, self.inner.default_params)

    def step(self, key, state, action, params):
        return self.inner.step(key, state, action, self.inner.default_params)


@pytest.mark.parametrize("make", [lambda: DeclaresOne(20), lambda: DeclaresOneWrapped(Probe(20))])
def test_episodes_are_played_to_their_end_whatever_limit_is_declared(make):
    learner = make_learner(SMALL, environment=make())
    state = learner.init(jax.random.key(0))
    evaluation = learner.evaluate(state, jax.random.key(1))
    np.testing.assert_array_equal(evaluation.episode_return, [20.0] * 3)
    np.testing.assert_array_equal(evaluation.length, [20] * 3)
    assert evaluation.finished.all()
    recording = record(make_agent(SMALL, environment=make()), state, jax.random.key(2), episodes=2)
    np.testing.assert_array_equal(recording.r_t.sum(0), [20.0] * 2)
    assert recording.finished.all()


def test_an_episode_that_never_ends_is_given_up_and_says_so(monkeypatch):
    monkeypatch.setattr("isjax.environments.gymnax.UNLIMITED_STEPS", 50)
    endless = DeclaresOne(10**6)
    endless.is_truncated = lambda state, params: state.cue == 2
    learner = make_learner(SMALL, environment=endless)
    evaluation = learner.evaluate(learner.init(jax.random.key(0)), jax.random.key(1))
    np.testing.assert_array_equal(evaluation.length, [50] * 3)
    assert not evaluation.finished.any()


class Stuck(Masked):
    """From the third state on no action is legal where the cue is 1."""

    def get_obs(self, state, params=None, key=None):
        observation = super().get_obs(state)
        is_free = (state.time < 2) | (state.cue == 0)
        return observation | {"action_mask": observation["action_mask"] & is_free}


def test_an_episode_without_a_legal_action_is_given_up_there():
    config = dataclasses.replace(SMALL, evaluation_episodes=32)
    learner = make_learner(config, environment=Stuck(5))
    evaluation = learner.evaluate(learner.init(jax.random.key(0)), jax.random.key(1))
    assert np.isfinite(evaluation.episode_return).all()
    np.testing.assert_array_equal(evaluation.length, np.where(evaluation.finished, 5, 2))
    assert 0 < evaluation.finished.sum() < 32


def test_a_learner_that_came_to_a_state_without_a_legal_action_says_what_it_died_of():
    learner = make_learner(dataclasses.replace(SMALL, num_envs=16), environment=Stuck(5))
    update = jax.jit(learner.update)
    state = learner.init(jax.random.key(0))
    assert state.died_of == Cause.NONE
    state, _ = update(state)
    state, _ = update(state)
    assert not state.alive
    assert state.died_at == 1
    assert state.died_of == Cause.NO_LEGAL_ACTION


class MaskedAtTheEnd(Masked):
    """Nothing is legal in the last state, as in games that are over."""

    def get_obs(self, state, params=None, key=None):
        observation = super().get_obs(state)
        return observation | {"action_mask": observation["action_mask"] & (state.time < self.length)}


@pytest.mark.parametrize("ends", ["terminated", "truncated"])
def test_a_last_state_without_a_legal_action_harms_nobody(ends):
    learner = make_learner(SMALL, environment=MaskedAtTheEnd(3, ends=ends))
    state = learner.init(jax.random.key(0))
    update = jax.jit(learner.update)
    for _ in range(3):
        state, metrics = update(state)
    assert state.alive
    assert np.isfinite(metrics["loss/total"])
    assert learner.evaluate(state, jax.random.key(1)).finished.all()


def test_a_learner_whose_reward_is_nan_died_of_a_number():
    learner = make_learner(SMALL, environment=_Nan(3))
    state, _ = jax.jit(learner.update)(learner.init(jax.random.key(0)))
    assert not state.alive
    assert state.died_of == Cause.NOT_FINITE


class _Nan(Probe):
    def step_env(self, key, state, action, params):
        observation, state, _, terminated, info = super().step_env(key, state, action, params)
        return observation, state, jnp.float32(jnp.nan), terminated, info
