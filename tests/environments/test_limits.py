"""What an environment's code shows about its time limit, and what its parameters merely say."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.environments import make
from isjax.environments.adapter import adapt
from isjax.environments.api import UNLIMITED_STEPS
from isjax.environments.limits import declared_limit
from tests.learner.probes import Duck, Masked, Probe, adapted


def _limits(environment, params=None):
    adapter = adapted(environment, params)
    return adapter.uncut_steps, adapter.patience


@pytest.mark.parametrize("env", [name for name in gymnax.registered_envs if not name.startswith(("MNIST", "DeepSea"))])
def test_registered_environments_guarantee_their_limits(env):
    environment = make(env)
    with jax.numpy_rank_promotion("allow"):  # some environments of gymnax rely on it
        adapter = adapt(environment)
    assert (adapter.uncut_steps, adapter.patience) == (int(environment.params.max_steps_in_episode),) * 2


@pytest.mark.parametrize("probe", [Probe(3, ends="truncated"), Masked(3, ends="truncated"), Probe(3, ends="both")])
def test_a_subclass_that_counts_its_steps_guarantees_its_limit(probe):
    assert _limits(probe) == (3, 3)


class Ticking(Probe):
    """Its time moves by what `tick` makes of it."""

    def __init__(self, tick, start=0):
        super().__init__(9, ends="truncated")
        self.tick, self.start = tick, start

    def reset_env(self, key, params):
        observation, state = super().reset_env(key, params)
        return observation, state.replace(time=self.start)

    def step_env(self, key, state, action, params):
        observation, after, *rest = super().step_env(key, state, action, params)
        return observation, after.replace(time=self.tick(state.time)), *rest


@pytest.mark.parametrize(
    ("tick", "start"),
    [
        (lambda time: time + 2, 0),
        (lambda time: time, 0),
        (lambda time: time - 1, 0),
        (lambda time: time * 2 + 1, 0),
        (lambda time: jnp.where(time > 3, 9, time + 1), 0),
        (lambda time: jnp.maximum(time + 1, 5), 0),
        (lambda time: time + 1, 5),
        (lambda time: (time + 1).astype(jnp.uint8), jnp.uint8(0)),
        (lambda time: time + jnp.float32(0.5), 0.0),
    ],
)
def test_a_clock_that_does_not_count_steps_guarantees_nothing(tick, start):
    assert _limits(Ticking(tick, start)) == (1, UNLIMITED_STEPS)


@pytest.mark.parametrize("tick", [lambda time: time + 1, lambda time: 1 + jax.jit(lambda x: x)(time)])
def test_a_clock_that_counts_steps_is_seen_through_compiled_functions(tick):
    assert _limits(Ticking(tick)) == (9, 9)


def test_a_flag_or_a_step_of_its_own_guarantees_nothing():
    overridden = Probe(3, ends="truncated")
    overridden.is_truncated = lambda state, params: jnp.bool_(False)
    assert _limits(overridden)[0] == 1
    assert _limits(Duck(Probe(3, ends="truncated"))) == (1, UNLIMITED_STEPS)


def test_an_evaluation_waits_at_least_for_the_declared_limit():
    params = Probe(3).default_params.replace(max_steps_in_episode=20_000)
    assert _limits(Duck(Probe(3)), params) == (1, 20_000)


@pytest.mark.parametrize(
    ("declared", "limit"),
    [(7, 7), (7.0, 7), (6.5, 7), (0, 1), (-3, 1), (np.inf, None), (np.nan, None), (2**40, None), (None, None)],
)
def test_a_declared_limit_counts_the_steps_until_time_has_reached_it(declared, limit):
    assert declared_limit(Probe(3).default_params.replace(max_steps_in_episode=declared)) == limit


def test_a_traced_limit_is_none():
    def limit_of(steps):
        assert declared_limit(Probe(3).default_params.replace(max_steps_in_episode=steps)) is None
        return steps

    jax.eval_shape(limit_of, jnp.int32(3))
