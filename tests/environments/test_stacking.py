"""The last observations of an episode as one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from isjax.environments import Box, Discrete, Environment, Step
from isjax.environments.adapter import adapt, as_environment
from isjax.environments.stacking import stack_frames
from isjax.learner import Config, make_learner
from tests.learner.probes import Duck, Probe


@dataclasses.dataclass
class Clock(Environment):
    """Shows the time as a byte in an image, as a number, and as a mask that is not stacked."""

    length: int = 3
    action_space = Discrete(2)

    @property
    def observation_space(self):
        image = Box(0, 255, (2, 2, 1), jnp.uint8)
        return {"image": image, "time": Discrete(10), "action_mask": Box(0, 1, (2,), bool)}

    def reset(self, key):
        return self.observe(jnp.int32(1)), jnp.int32(1)

    def step(self, key, state, action):
        state = state + 1
        return Step(self.observe(state), state, 1.0, terminated=state > self.length)

    def observe(self, time):
        image = jnp.full((2, 2, 1), time, jnp.uint8)
        return {"image": image, "time": time, "action_mask": jnp.array([True, False])}


def test_an_episode_starts_with_its_first_observation_and_the_oldest_gives_way():
    environment = stack_frames(Clock(), 3)
    observation, state = environment.reset(jax.random.key(0))
    expected = [[1, 1, 1], [1, 1, 2], [1, 2, 3], [2, 3, 4]]
    for row in expected:
        np.testing.assert_array_equal(observation["image"][0, 0], row)
        np.testing.assert_array_equal(observation["time"], row)
        np.testing.assert_array_equal(observation["action_mask"], [True, False])
        after = environment.step(jax.random.key(1), state, 0)
        observation, state = after.observation, after.state
    assert after.observation["image"].dtype == jnp.uint8


def test_the_space_is_that_of_what_is_stacked():
    adapter = adapt(stack_frames(Clock(), 2))
    observation = jax.vmap(adapter.reset)(jax.random.split(jax.random.key(0), 1))[0]
    features = adapter.encode(observation)
    assert features.shape == (1, 8 + 2 * 10)
    np.testing.assert_allclose(features[0, :8], 1 / 255, rtol=1e-6)
    assert features[0, 8:].sum() == 2.0


def test_one_frame_is_the_environment_itself():
    environment = Clock()
    assert stack_frames(environment, 1) is environment


def test_an_environment_that_resets_itself_starts_its_stack_anew():
    """Its time is the second feature of two, from 0 in every episode."""
    environment = stack_frames(as_environment(Duck(Probe(2))), 2)
    _, state = environment.reset(jax.random.key(0))
    times = []
    for i in range(4):
        after = jax.jit(environment.step)(jax.random.key(i), state, jnp.int32(0))
        times.append((np.asarray(after.observation)[[1, 3]].tolist(), np.asarray(after.following[0])[[1, 3]].tolist()))
        state = after.following[1]
    assert times == [([0, 0.5], [0, 0.5]), ([0.5, 1.0], [0, 0]), ([0, 0.5], [0, 0.5]), ([0.5, 1.0], [0, 0])]


def test_a_learner_sees_the_frames_that_it_asks_for():
    frames = 3
    learner = make_learner(Config(num_envs=2, unroll_length=4, torso=(4,), frame_stack=frames), environment=Clock(9))
    state = learner.init(jax.random.key(0))
    assert state.actors.observation["image"].shape == (2, 2, 2, frames)
    state, _ = jax.jit(learner.update)(state)
    np.testing.assert_array_equal(state.actors.observation["time"][0], [5 - frames + 1 + i for i in range(frames)])
