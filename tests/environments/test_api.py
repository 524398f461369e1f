"""An environment of one's own, which needs nothing but the interface."""

import dataclasses
import functools
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.environments import Box, Discrete, Environment, Step
from isjax.environments.adapter import adapt
from isjax.learner import Config, Hyper, make_learner
from isjax.learner.unroll import act, cut_rows, reset_actors

SMALL = Config(num_envs=16, unroll_length=16, torso=(16,), evaluation_episodes=4)


@dataclasses.dataclass
class Walk(Environment):
    """Action 1 goes on; three steps on is the goal. Observes the place and the time."""

    goal: int = 3
    max_steps: int | None = 4
    action_space = Discrete(2)
    observation_space = Box(0.0, 9.0, (2,))

    def reset(self, key):
        return jnp.zeros(2), jnp.zeros(2)

    def step(self, key, state, action):
        state = state + jnp.stack([action, 1.0])
        arrived = state[0] >= self.goal
        return Step(state, state, jnp.where(arrived, 1.0, -0.1), arrived)


class SaysItself(Walk):
    """The same with a flag of its own."""

    def __init__(self):
        super().__init__(max_steps=None)

    def step(self, key, state, action):
        after = super().step(key, state, action)
        return after._replace(truncated=after.state[1] >= 4)


class Network:
    """Any action, and a value that names place and time."""

    def init(self, key, observation):
        return jnp.ones(())

    def apply(self, params, observation):
        return jnp.zeros((observation.shape[0], 2)), params * (1.0 + observation[:, 0] + 100.0 * observation[:, 1])


def _told(terms, hyper):
    """No loss; what the terms say of both endings."""
    ended, terminated = ~terms.same_episode_t, terms.discount_t == 0.0
    cut = ended & ~terminated
    return 0.0 * jnp.sum(terms.v_tm1), {
        "own/terminated": jnp.sum(terminated, dtype=jnp.float32),
        "own/cut": jnp.sum(cut, dtype=jnp.float32),
        "own/least_at_cut": jnp.min(jnp.where(cut, terms.v_t, jnp.inf)),
        "own/most_at_cut": jnp.max(jnp.where(cut, terms.v_t, -jnp.inf)),
        "own/wrong_elsewhere": jnp.sum(jnp.where(ended[:-1], 0.0, jnp.abs(terms.v_t[:-1] - terms.v_tm1[1:]))),
    }


@pytest.mark.parametrize("environment", [Walk(), SaysItself()], ids=["counted", "says itself"])
def test_both_endings_are_told_apart_and_a_cut_is_bootstrapped_from_the_state_reached(environment):
    learner = make_learner(SMALL, environment=environment, network=Network(), objective=_told)
    _, metrics = jax.jit(learner.update)(learner.init(jax.random.key(0)))
    assert metrics["own/terminated"] > 5
    assert metrics["own/cut"] > 5
    assert 401 <= metrics["own/least_at_cut"] <= metrics["own/most_at_cut"] <= 403
    assert metrics["own/wrong_elsewhere"] == 0.0


def test_it_trains_under_vmap():
    learner = make_learner(SMALL, environment=Walk())
    init = functools.partial(learner.init, hyper=Hyper(learning_rate=1e-2, learning_rate_end=1.0))
    state = jax.vmap(init)(jax.random.split(jax.random.key(0), 3))
    update = jax.jit(jax.vmap(learner.update))
    for _ in range(30):
        state, metrics = update(state)
    assert metrics["alive"].all()
    evaluation = jax.vmap(learner.evaluate, (0, None))(state, jax.random.key(1))
    np.testing.assert_allclose(evaluation.episode_return, 0.8, rtol=1e-5)
    np.testing.assert_array_equal(evaluation.length, 3)


def _unroll(environment, length=12):
    adapter, config = adapt(environment), Config(num_envs=4, unroll_length=length)
    actors = reset_actors(adapter, 4, jax.random.key(0))
    policy = lambda observation, memory: (jnp.zeros((4, 2)), memory)  # noqa: E731
    return act(adapter, config, policy, actors, jax.random.key(1))[0]


def test_counted_episodes_are_cut_where_a_flag_of_ones_own_cuts_them():
    one, other = _unroll(Walk()), _unroll(SaysItself())
    for name in ("observation_tm1", "action_tm1", "terminated_t", "truncated_t"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.truncated_t.any()
    assert one.terminated_t.any()


class CutsEarlier(Walk):
    """Says 500 steps and cuts every third by itself."""

    def __init__(self):
        super().__init__(goal=100, max_steps=500)

    def step(self, key, state, action):
        after = super().step(key, state, action)
        return after._replace(truncated=after.state[1] >= 3)


@pytest.mark.parametrize(
    ("environment", "slots"),
    [(Walk(), 3), (SaysItself(), 12), (CutsEarlier(), 12), (Walk(max_steps=None), 1), (Walk(max_steps=500), 1)],
)
def test_there_is_room_for_every_cut_whatever_limit_is_declared(environment, slots):
    assert cut_rows(adapt(environment), 12) == slots
    unroll = _unroll(environment)
    for t, env in np.argwhere(np.asarray(unroll.truncated_t)):
        reached = unroll.cut_observation[unroll.cut_slot_t[t, env], env]
        assert reached[1] == unroll.observation_tm1[t, env, 1] + 1


def test_an_evaluation_waits_for_the_limit_or_for_as_long_as_the_environment_says():
    endless = Walk(goal=10**6, max_steps=None)
    endless.patience = 7
    learner = make_learner(SMALL, environment=endless)
    evaluation = learner.evaluate(learner.init(jax.random.key(0)), jax.random.key(1))
    np.testing.assert_array_equal(evaluation.length, 7)
    assert not evaluation.finished.any()
    assert adapt(Walk(max_steps=20_000)).patience == 20_000


class Tupled(Walk):
    def step(self, key, state, action):
        return tuple(super().step(key, state, action))


class ResetsItself(Walk):
    def step(self, key, state, action):
        return super().step(key, state, action)._replace(following=self.reset(key))


@pytest.mark.parametrize(
    ("environment", "error", "match"),
    [
        (Tupled(), TypeError, r"Tupled.step must return an isjax.environments.Step, but it returns a tuple\."),
        (Walk(max_steps=0), ValueError, r"max_steps of Walk must be None or a whole number from 1 .*, but it is 0\."),
        (Walk(max_steps=2.5), ValueError, r"max_steps of Walk must be .*, but it is 2\.5\."),
        (Walk(max_steps=True), ValueError, r"max_steps of Walk must be .*, but it is True\."),
        (Walk, TypeError, r"environment must be an isjax.environments.Environment or .*, but it is the class Walk\."),
        ("CartPole-v1", TypeError, r"environment must be .* have gymnax's methods .*, but it is 'CartPole-v1'\."),
        (ResetsItself(), ValueError, r"max_steps of ResetsItself must be None where its own step resets it"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_learner_is_built(environment, error, match):
    with pytest.raises(error, match=match):
        make_learner(SMALL, environment=environment)


def test_its_parameters_are_its_own():
    with pytest.raises(ValueError, match="environment_params must be left out where the environment has its own"):
        make_learner(SMALL, environment=Walk(), environment_params={"goal": 2})


class Rooms(Walk):
    """Observes its room by a number, beside other numbers."""

    observation_space: Any = MappingProxyType({"room": Discrete(4)})

    def reset(self, key):
        observation, state = super().reset(key)
        return {"room": observation[0].astype(jnp.int32)}, state

    def step(self, key, state, action):
        after = super().step(key, state, action)
        return after._replace(observation={"room": after.observation[0].astype(jnp.int32)})


def test_a_mapping_of_spaces_describes_a_mapping_of_observations():
    np.testing.assert_array_equal(adapt(Rooms()).encode({"room": jnp.array([2])}), [[0, 0, 1, 0]])


class Drawn(Walk):
    def draw(self, states, returns, path):
        path.write_text(str([float(state[1]) for state in states]))


def test_it_draws_its_own_states(tmp_path):
    adapter = adapt(Drawn())
    _, state = adapter.reset(jax.random.key(0))
    after = adapter.step(jax.random.key(0), state, jnp.int32(1))
    adapter.draw([state, after.state], np.zeros(2), tmp_path / "picture")
    assert (tmp_path / "picture").read_text() == "[0.0, 1.0]"
    with pytest.raises(NotImplementedError, match="Walk has no pictures of its own"):
        adapt(Walk()).draw([state], np.zeros(1), tmp_path / "picture")
