"""A network that takes structure sees the environment's own tree of observations."""

from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from isjax.learner import Config, Hyper, make_learner
from isjax.networks import Torso, torsos
from tests.learner.probes import Probe

SMALL = Config(num_envs=4, unroll_length=8, torso=(6,), evaluation_episodes=3)


class Structured(Probe):
    """A token to embed, a picture, numbers in half precision, and a mask; the token's own action is rewarded."""

    def __init__(self):
        super().__init__(1, reward="action_is_cue")

    def get_obs(self, state, params=None, key=None):
        token = state.cue.astype(jnp.int32)
        return {
            "token": token,
            "picture": jnp.full((4, 4, 1), 200, jnp.uint8),
            "numbers": super().get_obs(state).astype(jnp.float16),
            "action_mask": jnp.ones(2, bool),
        }

    def observation_space(self, params=None):
        return spaces.Dict(
            {
                "token": spaces.Discrete(2),
                "picture": spaces.Box(0, 255, (4, 4, 1), jnp.uint8),
                "numbers": spaces.Box(0.0, 1.0, (2,)),
                "action_mask": spaces.Box(0, 1, (2,), jnp.bool_),
            }
        )


def check(observation):
    assert jax.tree.map(lambda x: (x.shape[1:], str(x.dtype)), observation) == {
        "token": ((), "int32"),
        "picture": ((4, 4, 1), "uint8"),
        "numbers": ((2,), "float32"),
    }


class Embedding(Torso):
    takes_structure: ClassVar[bool] = True

    @nn.compact
    def __call__(self, observation):
        check(observation)
        token = nn.Embed(2, 3, name="embed")(observation["token"])
        picture = observation["picture"].reshape(-1, 16) / 255.0
        return self.dense(jnp.concatenate([token, picture, observation["numbers"]], axis=-1))


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    """For these tests alone: others count what is registered."""
    monkeypatch.setitem(torsos._classes, "test-structured", Embedding)


class Own(NamedTuple):
    init: object
    apply: object
    takes_structure: bool = True


@pytest.mark.parametrize(("algorithm", "memory"), [("impala", "none"), ("ppo", "gru")])
def test_a_registered_torso_sees_the_tree_and_learns_from_it(algorithm, memory):
    settings = dict(network="test-structured", torso=(16,), num_envs=16, unroll_length=8, steps=200 * 128)
    config = Config(algorithm=algorithm, memory=memory, **settings)
    learner = make_learner(config, environment=Structured())

    @jax.jit
    def train(state):
        return jax.lax.fori_loop(0, config.updates, lambda _, s: learner.update(s)[0], state)

    state = train(learner.init(jax.random.key(0), Hyper(learning_rate=1e-2)))
    assert state.alive
    assert state.params["params"]["torso"]["embed"]["embedding"].shape == (2, 3)
    assert jax.jit(learner.evaluate)(state, jax.random.key(1)).episode_return.mean() == 1.0


def test_a_network_of_ones_own_sees_the_tree():
    def apply(params, observation):
        check(observation)
        value = params["w"][observation["token"]]
        return jnp.zeros((*value.shape, 2)), value

    network = Own(lambda key, observation: check(observation) or {"w": jnp.zeros(2)}, apply)
    learner = make_learner(SMALL, environment=Structured(), network=network)
    state, metrics = jax.jit(learner.update)(learner.init(jax.random.key(0)))
    assert metrics["alive"]
    assert (np.asarray(state.params["w"]) != 0.0).all()


def test_another_network_sees_one_flat_array():
    def apply(params, observation):
        assert (observation.shape[1:], observation.dtype) == ((2 + 16 + 2,), jnp.float32)  # the token is one-hot
        return jnp.zeros((observation.shape[0], 2)), params["w"] + 0 * observation[:, 0]

    network = Own(lambda key, observation: {"w": jnp.zeros(())}, apply, takes_structure=False)
    learner = make_learner(SMALL, environment=Structured(), network=network)
    jax.eval_shape(lambda key: learner.update(learner.init(key)), jax.random.key(0))


def test_structured_observations_are_not_standardized():
    config = Config(network="test-structured", normalize_observations=True)
    with pytest.raises(ValueError, match="normalize_observations must be off where the network takes structured"):
        make_learner(config, environment=Structured())
