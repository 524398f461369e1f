import dataclasses
import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.learner import Config, Hyper, make_learner
from isjax.population import best_learner, cpu_batch, make_population

SMALL = Config(num_envs=4, unroll_length=5, torso=(8,), evaluation_episodes=3)
LEARNER = make_learner(SMALL)


@functools.cache
def _population(learners, devices=1):
    return make_population(LEARNER, learners, devices=jax.devices()[:devices])


def _run(learners, *, devices=1, hyper=None, updates=6, key=0):
    population = _population(learners, devices)
    state, metrics = population.advance(population.init(jax.random.key(key), hyper), updates)
    return state, metrics


def _counting(traces):
    """The learner, noting every time that it is traced."""
    return LEARNER._replace(update=lambda state: (traces.append(1), LEARNER.update(state))[1])


def _without_key(state):
    return state.replace(key=jax.random.key_data(state.key))


def _learner(tree, i):
    return jax.tree.map(lambda x: np.asarray(x)[i], tree)


def test_a_learner_alone_equals_itself_among_many():
    """Up to the rounding of differently batched products, 1e-4 after 6 updates."""
    state, metrics = _run(8)
    key = jax.random.fold_in(jax.random.key(0), 5)
    alone = LEARNER.init(key)
    update = jax.jit(LEARNER.update)
    for _ in range(6):
        alone, last = update(alone)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
        _learner(_without_key(state), 5),
        _without_key(alone),
    )
    assert int(metrics["env_steps"][5]) == int(last["env_steps"]) == 120


def test_devices_change_nothing_not_even_a_bit_where_batches_are_whole():
    one, metrics = _run(32)
    for count in (2, 4):
        many, others = _run(32, devices=count)
        assert len(many.update.sharding.device_set) == count
        jax.tree.map(np.testing.assert_array_equal, _without_key(one), _without_key(many))
        jax.tree.map(np.testing.assert_array_equal, metrics, others)


@pytest.mark.parametrize(("width", "batch"), [(8, 8), (5_000, 8), (6_000, 4), (10_000, 4), (12_000, 2)])
def test_fewer_learners_share_a_core_where_they_are_large(width, batch):
    """8 parameters a unit and as many moments of two kinds make 96 bytes: in 4 MiB 8 of 5,461 units, 4 of 10,922."""
    learner = make_learner(dataclasses.replace(SMALL, torso=(width,), share_torso=True))
    states = jax.eval_shape(jax.vmap(learner.init), jax.random.split(jax.random.key(0), 16))
    assert cpu_batch(states) == batch


def test_devices_change_no_more_than_rounding_where_batches_are_not_whole():
    one, _ = _run(8)
    many, _ = _run(8, devices=8)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), _without_key(one), _without_key(many)
    )


@pytest.mark.parametrize(("learners", "devices", "each"), [(1, 4, 4), (2, 8, 4)])
def test_one_learners_environments_over_several_devices(learners, devices, each):
    """Up to the rounding of sums over devices, 1e-4 after 6 updates."""
    one, _ = _run(learners)
    population = make_population(LEARNER, learners, devices=jax.devices()[:devices], devices_per_learner=each)
    state = population.init(jax.random.key(0))
    assert len(state.actors.episode_return.sharding.device_set) == devices
    assert state.actors.episode_return.addressable_shards[0].data.shape == (1, 1)
    assert "all-reduce" in population.advance.lower(state, 3).compile().as_text()
    many, _ = population.advance(state, 6)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), _without_key(one), _without_key(many)
    )


def test_the_compiled_program_has_no_collectives():
    population = _population(8, 8)
    text = population.advance.lower(population.init(jax.random.key(0)), 3).compile().as_text()
    for name in ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert name not in text


def test_a_learner_that_dies_leaves_the_others_bitwise_unchanged():
    healthy, _ = _run(4, hyper=Hyper(learning_rate=jnp.full(4, 1e-2), max_grad_norm=1e9))
    rates = jnp.full(4, 1e-2).at[2].set(jnp.inf)
    state, metrics = _run(4, hyper=Hyper(learning_rate=rates, max_grad_norm=1e9))
    np.testing.assert_array_equal(state.alive, [True, True, False, True])
    np.testing.assert_array_equal(metrics["alive"], state.alive)
    assert state.died_at[2] == 1
    for i in (0, 1, 3):
        jax.tree.map(
            np.testing.assert_array_equal, _learner(_without_key(state), i), _learner(_without_key(healthy), i)
        )
    assert all(np.isfinite(x[2]).all() for x in jax.tree.leaves(jax.tree.map(np.asarray, state.params)))


def test_learners_differ_and_seeds_differ():
    state, _ = _run(4)
    other, _ = _run(4, key=1)
    weights = np.asarray(state.params["params"]["heads"]["heads"]["kernel"]).reshape(4, -1)
    assert len({w.tobytes() for w in weights}) == 4
    assert not np.array_equal(weights, np.asarray(other.params["params"]["heads"]["heads"]["kernel"]).reshape(4, -1))


def test_hyperparameters_vary_by_learner_without_a_new_program():
    traces = []
    population = make_population(_counting(traces), 2)
    for rate in ([0.0, 1e-2], [1e-2, 0.0]):
        start = population.init(jax.random.key(0), Hyper(learning_rate=jnp.array(rate)))
        before = jax.tree.map(np.array, start.params)
        state, _ = population.advance(start, 2)
        moved = [
            any(
                (np.asarray(x)[i] != y[i]).any()
                for x, y in zip(jax.tree.leaves(state.params), jax.tree.leaves(before), strict=True)
            )
            for i in range(2)
        ]
        assert moved == [r > 0 for r in rate]
    assert len(traces) == 1


def test_the_number_of_updates_needs_no_new_program_and_chunks_add_up():
    traces = []
    population = make_population(_counting(traces), 2)
    whole, _ = population.advance(population.init(jax.random.key(0)), 5)
    state, _ = population.advance(population.init(jax.random.key(0)), 2)
    state, metrics = population.advance(state, 3)
    assert len(traces) == 1
    jax.tree.map(np.testing.assert_array_equal, _without_key(whole), _without_key(state))
    np.testing.assert_array_equal(metrics["update"], [5, 5])


def test_evaluation_draws_from_its_own_keys():
    population = _population(4)
    state = population.init(jax.random.key(0))
    one = population.evaluate(state, jax.random.key(1)).episode_return
    again = population.evaluate(state, jax.random.key(1)).episode_return
    other = population.evaluate(state, jax.random.key(2)).episode_return
    assert one.shape == (4, 3)
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_the_best_learner_is_alive_and_finite():
    scores = np.array([1.0, np.nan, 3.0, 2.0])
    assert best_learner(scores, np.array([True, True, False, True])) == 3
    with pytest.raises(ValueError, match="No learner is alive"):
        best_learner(scores, np.zeros(4, bool))


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match="learners must be at least 1, but it is 0"):
        make_population(LEARNER, 0)
    with pytest.raises(ValueError, match=r"discount must be a number or \[4\], but it is of shape \[3\]"):
        _population(4).init(jax.random.key(0), Hyper(discount=jnp.ones(3)))
    with pytest.raises(ValueError, match=r"index must be \[4\], but its shape is \[2\]"):
        _population(4).init(jax.random.key(0), None, jnp.arange(2))
    with pytest.raises(ValueError, match="devices_per_learner must divide the 8 devices, but it is 3"):
        make_population(LEARNER, 1, devices_per_learner=3)
    with pytest.raises(ValueError, match="devices_per_learner must divide num_envs, which is 4, but it is 8"):
        make_population(LEARNER, 1, devices_per_learner=8)


def test_learners_draw_from_the_streams_they_are_given():
    population = _population(4)
    state = population.init(jax.random.key(0), None, jnp.array([2, 3, 2, 0]))
    plain = population.init(jax.random.key(0))
    for i, stream in enumerate([2, 3, 2, 0]):
        jax.tree.map(np.testing.assert_array_equal, _learner(state.params, i), _learner(plain.params, stream))
    played = population.evaluate(state, jax.random.key(1), jnp.array([2, 3, 2, 0])).episode_return
    np.testing.assert_array_equal(played[0], played[2])


def test_sixty_four_learners_with_an_orthogonal_initializer_start_on_two_threads():
    """Its QR, batched over learners, can starve a pool of two threads for good."""
    program = """
import flax.linen as nn, jax
from isjax.learner import Config, make_learner
from isjax.population import make_population

class Orthogonal(nn.Module):
    @nn.compact
    def __call__(self, x):
        for width in (64, 64):
            x = nn.tanh(nn.Dense(width, kernel_init=nn.initializers.orthogonal())(x))
        x = nn.Dense(3, kernel_init=nn.initializers.orthogonal())(x)
        return x[:, :2], x[:, 2]

population = make_population(make_learner(Config(num_envs=2, unroll_length=2), network=Orthogonal()), 64)
state, _ = population.advance(population.init(jax.random.key(0)), 2)
print(int(state.update.sum()))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=True)
    assert result.stdout.strip() == "128"


def test_a_population_of_one_is_a_population():
    state, metrics = _run(1)
    assert metrics["alive"].shape == (1,)
    assert dataclasses.is_dataclass(state)


def test_learners_with_a_device_each_leave_the_compiler_no_sharding_to_work_out():
    population = _population(2, 2)
    state = jax.eval_shape(population.init, jax.random.key(0))
    assert population.mesh.size == 2
    assert population.advance.lower(state, 1).as_text().count("sharding_constraint") < 10


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_every_program_lowers_for_an_accelerator_and_never_calls_the_host(platform):
    def lower(program, *arguments):
        program.trace(*arguments).lower(lowering_platforms=(platform,))

    population = _population(2)
    key = jax.random.key(0)
    state = jax.eval_shape(population.init, key)
    lower(population.init, key)
    lower(population.advance, state, 1)
    lower(population.evaluate, state, key)
    with pytest.raises(ValueError, match="lowering platform"):  # from here, calls to a host cannot be lowered
        lower(jax.jit(lambda x: jax.debug.callback(print, x)), 1.0)
