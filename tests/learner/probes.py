"""Environments with known values, and an object that only looks like gymnax's."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import spaces
from gymnax.environments.environment import Environment, EnvParams, EnvState

from isjax.environments.adapter import Adapter, adapt, as_environment


def adapted(environment: Any, params: Any = None, **options: Any) -> Adapter:
    """The adapter of an object with gymnax's interface."""
    return adapt(as_environment(environment, params), **options)


@struct.dataclass
class ProbeState(EnvState):
    cue: jax.Array


class Probe(Environment):
    """`length` steps, then a terminal state or a time limit; observes [cue, time / length], or [cue, 0]."""

    def __init__(self, length: int = 1, *, ends: str = "terminated", reward: str = "one", shows_time: bool = True):
        super().__init__()
        self.length, self.ends, self.reward, self.shows_time = length, ends, reward, shows_time

    @property
    def default_params(self) -> EnvParams:
        return EnvParams(max_steps_in_episode=self.length if self.ends != "terminated" else 1000)

    def reset_env(self, key, params):
        state = ProbeState(time=0, cue=jax.random.bernoulli(key).astype(jnp.float32))
        return self.get_obs(state), state

    def step_env(self, key, state, action, params):
        time = state.time + 1
        last = time >= self.length
        reward = {
            "one": jnp.ones(()),
            "last": last.astype(jnp.float32),
            "cue": 2.0 * state.cue - 1.0,
            "action": jnp.asarray(action == 1, jnp.float32),
            "action_is_cue": (action == state.cue).astype(jnp.float32),
        }[self.reward]
        state = ProbeState(time=time, cue=state.cue)
        terminated = jnp.zeros((), bool) if self.ends == "truncated" else last
        return self.get_obs(state), state, reward, terminated, {}

    def get_obs(self, state, params=None, key=None):
        return jnp.stack([state.cue, self.shows_time * state.time / self.length])

    def action_space(self, params: Any = None):
        return spaces.Discrete(2)

    def observation_space(self, params: Any = None):
        return spaces.Box(0.0, 1.0, (2,))


class Paying(Probe):
    """Pays its cue, which an episode hands on to the next one: a test sets it by changing the state."""

    def step_env(self, key, state, action, params):
        observation, after, _, terminated, info = super().step_env(key, state, action, params)
        return observation, after.replace(time=after.time % self.length), state.cue, terminated & False, info

    def get_obs(self, state, params=None, key=None):
        return jnp.stack([state.time / self.length, 1.0])

    @property
    def default_params(self) -> EnvParams:
        return EnvParams(max_steps_in_episode=1000)


class Restless(Probe):
    """Draws in every step as in every reset."""

    def step_env(self, key, state, action, params):
        observation, after, reward, terminated, info = super().step_env(key, state, action, params)
        return observation, after, reward + jax.random.uniform(key), terminated, info


class Boundless(Paying):
    """Its state holds infinity, which nobody sees; it pays nothing."""

    def reset_env(self, key, params):
        state = ProbeState(time=0, cue=jnp.full((), jnp.inf))
        return self.get_obs(state), state

    def step_env(self, key, state, action, params):
        observation, after, _, terminated, info = super().step_env(key, state, action, params)
        return observation, after, jnp.zeros(()), terminated, info


class Masked(Probe):
    """Three actions, of which the one that the cue names is illegal; the reward is the action's index."""

    def get_obs(self, state, params=None, key=None):
        legal = jnp.arange(3) != state.cue.astype(jnp.int32)
        return {"seen": super().get_obs(state), "action_mask": legal}

    def step_env(self, key, state, action, params):
        observation, after, _, terminated, info = super().step_env(key, state, action, params)
        reward = jnp.where(action == state.cue.astype(jnp.int32), jnp.nan, jnp.float32(action))
        return observation, after, reward, terminated, info

    def action_space(self, params: Any = None):
        return spaces.Discrete(3)

    def observation_space(self, params: Any = None):
        seen, mask = spaces.Box(0.0, 1.0, (2,)), spaces.Box(0, 1, (3,), jnp.bool_)
        return spaces.Dict({"seen": seen, "action_mask": mask})


class Duck:
    """The four methods that the learner needs and nothing else, around any gymnax environment."""

    def __init__(self, inner: Environment, *, five_values: bool = False, drop_final: bool = False):
        self.inner, self.five_values, self.drop_final = inner, five_values, drop_final

    @property
    def default_params(self):
        return self.inner.default_params

    def reset(self, key, params):
        return self.inner.reset(key, params)

    def step(self, key, state, action, params):
        observation, state, reward, terminated, truncated, info = self.inner.step(key, state, action, params)
        if self.drop_final:
            info = {}
        if self.five_values:
            return observation, state, reward, terminated | truncated, info
        return observation, state, reward, terminated, truncated, info

    def action_space(self, params):
        return self.inner.action_space(params)

    def observation_space(self, params):
        return self.inner.observation_space(params)
