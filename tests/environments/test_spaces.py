"""Spaces of actions, and the distributions over them."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

import isjax.environments
from isjax.environments import make
from isjax.environments.adapter import adapt
from isjax.environments.distributions import Categorical, Gaussian
from isjax.environments.spaces import action_distribution
from isjax.learner import Config, make_learner
from tests.learner.probes import Probe, adapted


def test_an_action_space_that_is_neither_discrete_nor_box_is_refused():
    probe = Probe()
    probe.action_space = lambda params=None: gymnax.environments.spaces.Tuple(())
    with pytest.raises(TypeError, match=r"Discrete or Box"):
        adapted(probe)


def test_spaces_become_distributions():
    assert adapt(make("Acrobot-v1")).actions == Categorical(3)
    assert adapt(make("Pendulum-v1"), box_actions="clip").actions == Gaussian((1,), (-2.0,), (2.0,), "clip")


def _actions(space, box_actions="tanh"):
    probe = Probe()
    probe.action_space = lambda params=None: space
    probe.step_env = lambda key, state, action, params: Probe.step_env(probe, key, state, jnp.sum(action), params)
    return adapted(probe, box_actions=box_actions).actions


LARGE = float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    ("low", "high", "shape", "bounds"),
    [
        (-1.0, 1.0, (), ((-1.0,), (1.0,))),
        (-2, 3, (2, 2), ((-2.0,) * 4, (3.0,) * 4)),
        (0.0, np.inf, (1,), ((0.0,), (np.inf,))),
        (-np.inf, np.inf, (3,), (None, None)),
        (-1e300, 1e300, (1,), (None, None)),
        (-LARGE, LARGE, (1,), ((-LARGE,), (LARGE,))),
        (np.array([-1.0, -np.inf]), np.array([1.0, 5.0]), (2,), ((-1.0, -np.inf), (1.0, 5.0))),
        (np.array([[0.0], [1.0]]), 2.0, (2, 3), ((0.0,) * 3 + (1.0,) * 3, (2.0,) * 6)),
    ],
)
def test_bounds_of_a_box_belong_to_its_dimensions(low, high, shape, bounds):
    assert _actions(spaces.Box(low, high, shape)) == Gaussian(shape, *bounds)


class Shifted(spaces.Discrete):
    start = 1


class Binary:
    """As gymnasium has it: n flags."""

    n, shape = 3, (3,)


@pytest.mark.parametrize(
    ("space", "error", "match"),
    [
        (spaces.Box(1.0, -1.0, (2,)), ValueError, "low ≤ high, but in dimension 0 of 2 they are 1 and -1"),
        (spaces.Box(np.array([0.0, np.nan]), 1.0, (2,)), ValueError, "in dimension 1 of 2 they are nan and 1"),
        (
            spaces.Box(np.zeros(3), 1.0, (2,)),
            ValueError,
            r"Bounds of a Box must have its shape, \[2\], but theirs are \[3\]",
        ),
        (spaces.Box(0.0, 1.0, (0,)), ValueError, "at least one dimension"),
        (spaces.Box(0, 3, (1,), jnp.int32), TypeError, "Discrete or Box of real numbers, but it is .*int32"),
        (spaces.Discrete(0), ValueError, "with n ≥ 1, but it is Discrete"),
        (Shifted(3), ValueError, "must be one of {0, …, n − 1}"),
        (Binary(), ValueError, "must be one of {0, …, n − 1}"),
    ],
)
def test_action_spaces_that_cannot_be_acted_in_are_refused(space, error, match):
    with pytest.raises(error, match=match):
        _actions(space)


@pytest.mark.parametrize("box_actions", ["tanh", "clip"])
def test_learners_of_a_mixed_box_live_and_act_within_its_bounds(box_actions):
    """The reward is NaN outside them."""
    low, high = jnp.array([-1.0, 0.0, -LARGE, 2.0]), jnp.array([1.0, np.inf, LARGE, 2.0])

    class Bounded(Probe):
        def action_space(self, params=None):
            return spaces.Box(low, high, (4,))

        def step_env(self, key, state, action, params):
            observation, state, _, terminated, info = super().step_env(key, state, 0, params)
            reward = jnp.where(jnp.all((action >= low) & (action <= high)), -jnp.sum(action[:2] ** 2), jnp.nan)
            return observation, state, reward, terminated, info

    config = Config(num_envs=8, unroll_length=8, torso=(4,), box_actions=box_actions, evaluation_policy="sample")
    learner = make_learner(config, environment=Bounded(2))
    state = learner.init(jax.random.key(0))
    update = jax.jit(learner.update)
    for _ in range(5):
        state, metrics = update(state)
        assert np.isfinite(metrics["loss/total"])
    assert state.alive
    assert np.isfinite(learner.evaluate(state, jax.random.key(1)).episode_return).all()


def test_spaces_of_ones_own_are_those_of_gymnax():
    assert action_distribution(isjax.environments.Discrete(3)) == Categorical(3)
    one, other = (kind.Box(np.zeros(2), np.array([1.0, np.inf]), (2,)) for kind in (isjax.environments, spaces))
    assert action_distribution(one) == action_distribution(other) == Gaussian((2,), (0.0, 0.0), (1.0, np.inf))
