"""What an environment's functions must return, and that it is said where they do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import spaces
from gymnax.environments.environment import EnvParams
from gymnax.wrappers import FlattenObservationWrapper, LogWrapper

from isjax.learner import Config, make_learner
from tests.learner.probes import Duck, Masked, Probe, adapted


class Returns(Duck):
    """A wrapper that changes one of the six values of a step, or a reset's two."""

    def __init__(self, place, change, inner=None):
        super().__init__(inner or Probe(3))
        self.place, self.change = place, change

    def reset(self, key, params):
        found = super().reset(key, params)
        return self.change(found) if self.place == "reset" else found

    def step(self, key, state, action, params):
        found = list(super().step(key, state, action, params))
        if self.place == "final":
            found[5] = found[5] | {"final_observation": self.change(found[5]["final_observation"])}
        elif self.place != "reset":
            found[self.place] = self.change(found[self.place])
        return tuple(found)


WRONG = {
    "final observation of another shape": ("final", lambda x: x[None], r"final observation, \[2\], but it is \[1, 2\]"),
    "final observation of another size": ("final", lambda x: x[:1], r"final observation, \[2\], but it is \[1\]"),
    "final observation of another tree": ("final", lambda x: {"x": x}, r"as its final observation, \[2\], but it is"),
    "observation of another shape": (0, lambda x: x[:, None], r"as its observation, \[2\], but it is \[2, 1\]"),
    "state of another shape": (1, lambda s: s.replace(cue=s.cue[None]), r"state.cue, \[\], but it is \[1\]"),
    "state of another tree": (1, lambda s: (s.time, s.cue), "the tree that reset returns as its state"),
    "reward [1]": (2, lambda r: r[None], r"one number as its reward, but its shape is \[1\]"),
    "reward [2]": (2, lambda r: jnp.stack([r, r]), r"one number as its reward, but its shape is \[2\]"),
    "complex reward": (2, lambda r: r + 1j, "a real number as its reward, but its type is complex64"),
    "terminated [1]": (3, lambda x: x[None], r"one flag as terminated, but its shape is \[1\]"),
    "terminated 0 or 1": (3, lambda x: x.astype(jnp.int32), "terminated as a boolean, but its type is int32"),
    "truncated 0. or 1.": (4, lambda x: x.astype(jnp.float32), "truncated as a boolean, but its type is float32"),
    "three values of a reset": ("reset", lambda x: (*x, {}), r"reset must return \(observation, state\)"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_refused_when_the_learner_is_built(what):
    place, change, match = WRONG[what]
    with pytest.raises((ValueError, TypeError), match=match) as error:
        make_learner(Config(), environment=Returns(place, change))
    assert "Returns" in str(error.value)
    assert len(str(error.value)) < 300


class OwnSteps(Probe):
    """Of gymnax's class, with a reward for each of two agents."""

    def step_env(self, key, state, action, params):
        observation, after, reward, *rest = super().step_env(key, state, action, params)
        return observation, after, jnp.stack([reward, reward]), *rest


def test_subclasses_of_gymnax_are_checked_too():
    with pytest.raises(ValueError, match=r"OwnSteps.step must return one number as its reward, but its shape is \[2\]"):
        adapted(OwnSteps(3))


@struct.dataclass
class Position:
    time: int
    x: int


class Drifting(Probe):
    """Starts at the whole number 0 and moves by 0.25."""

    def reset_env(self, key, params):
        return jnp.zeros(1, jnp.int32), Position(time=0, x=0)

    def step_env(self, key, state, action, params):
        state = Position(time=state.time + 1, x=state.x + 0.25)
        return state.x[None], state, state.x, jnp.bool_(False), {}


def test_a_state_that_starts_as_a_whole_number_keeps_its_fractions():
    adapter = adapted(Drifting(5))
    observation, state = adapter.reset(jax.random.key(0))
    assert observation.dtype == state.x.dtype == jnp.float32
    for expected in (0.25, 0.5, 0.75):
        after = adapter.step(jax.random.key(0), state, jnp.int32(0))
        state = after.state
        np.testing.assert_allclose([state.x, after.observation[0], after.reward], expected)


@pytest.mark.parametrize(
    "change", [lambda r: r.astype(jnp.int32), lambda r: r > 0, float], ids=["int", "bool", "Python"]
)
def test_rewards_of_any_real_type_are_float32(change):
    environment = Returns(2, change if change is not float else lambda r: 1.0)
    adapter = adapted(environment)
    _, state = adapter.reset(jax.random.key(0))
    reward = adapter.step(jax.random.key(0), state, jnp.int32(0)).reward
    assert reward.dtype == jnp.float32
    assert reward == 1.0


@pytest.mark.parametrize("wrap", [LogWrapper, FlattenObservationWrapper])
def test_wrappers_of_gymnax_train_and_keep_final_observations(wrap):
    learner = make_learner(
        Config(num_envs=2, unroll_length=6, torso=(4,), evaluation_episodes=2),
        environment=wrap(Probe(3, ends="truncated")),
        environment_params=EnvParams(max_steps_in_episode=3),
    )
    state, metrics = jax.jit(learner.update)(learner.init(jax.random.key(0)))
    assert state.alive
    assert metrics["episodes"] == 4
    np.testing.assert_array_equal(learner.evaluate(state, jax.random.key(1)).length, 3)


def test_a_mask_of_another_length_than_the_actions_is_refused():
    masked = Masked(3)
    masked.action_space = lambda params=None: spaces.Discrete(4)
    with pytest.raises(ValueError, match=r"a flag for each action, \[4\], but its shape is \[3\]"):
        adapted(masked)


class Overridden(Probe):
    """Its reset, and its reset alone, is its own."""

    def reset(self, key, params=None):
        observation, state = super().reset(key, params)
        return observation, state.replace(cue=jnp.float32(7.0))


def test_a_reset_of_its_own_is_not_taken_for_the_one_that_its_steps_draw():
    adapter = adapted(Overridden(1))
    assert adapter.resets_itself
    _, state = adapter.reset(jax.random.key(0))
    assert state.cue == 7.0
    assert adapter.step(jax.random.key(0), state, jnp.int32(0)).following[1].cue != 7.0
