"""Pools of reset states."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.learner import Config, make_learner
from isjax.learner.resets import ResetPool
from tests.learner.probes import Probe


class Numbered(NamedTuple):
    """Resets that are told apart by a number."""

    def reset(self, key):
        number = jax.random.randint(key, (), 0, 2**30)
        return number, {"number": number}


def starts_of(pool):
    return np.asarray(pool.starts[0])


def test_environments_that_end_take_the_next_places_in_turn():
    pool = ResetPool.draw(Numbered(), 4, jax.random.key(0))
    all_starts = starts_of(pool)
    (observation, state), pool = pool.take(jnp.array([False, True, False, True]))
    assert observation[1] == all_starts[0]
    assert state["number"][3] == all_starts[1]
    np.testing.assert_array_equal(pool.is_fresh, [False, False, True, True])
    (observation, _), pool = pool.take(jnp.array([True, False, True, True]))
    np.testing.assert_array_equal(observation[jnp.array([0, 2, 3])], all_starts[[2, 3, 0]])
    assert pool.reused == 1
    assert not pool.is_fresh.any()
    assert pool.turn == 1


def test_more_endings_at_once_than_places_are_counted_as_alike():
    pool = ResetPool.draw(Numbered(), 2, jax.random.key(0))
    _, pool = pool.take(jnp.ones(5, bool))
    assert pool.reused == 3
    assert pool.turn == 1


def test_nothing_changes_where_nothing_ends():
    pool = ResetPool.draw(Numbered(), 3, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, pool.take(jnp.zeros(4, bool))[1], pool)


def test_used_places_are_filled_first_and_the_next_ones_before_others():
    pool = ResetPool.draw(Numbered(), 4, jax.random.key(0))
    _, pool = pool.take(jnp.array([True, True, True]))
    before = starts_of(pool)
    filled = pool._replace(turn=jnp.int32(1), reused=jnp.int32(7)).refill(Numbered(), 2, jax.random.key(1))
    np.testing.assert_array_equal(starts_of(filled) != before, [False, True, True, False])
    np.testing.assert_array_equal(filled.is_fresh, [False, True, True, True])
    assert filled.reused == 0


def model(size, count, envs, endings):
    """How often episodes start where another one had, from the definition, in plain Python."""
    fresh, turn, found = [True] * size, 0, []
    for unroll in endings:
        order = [(turn + i) % size for i in range(size)]
        chosen = sorted(order, key=lambda place: (fresh[place], order.index(place)))[:count]
        for place in chosen:
            fresh[place] = True
        again = 0
        for ended in unroll:
            for _ in range(int(ended.sum())):
                again += not fresh[turn]
                fresh[turn] = False
                turn = (turn + 1) % size
        found.append(again)
    return found


@pytest.mark.parametrize(("size", "count"), [(3, 1), (5, 4), (8, 8)])
def test_the_metric_counts_what_a_plain_model_counts(size, count):
    endings = np.asarray(jax.random.bernoulli(jax.random.key(2), 0.15, (6, 7, 4)))
    pool, found = ResetPool.draw(Numbered(), size, jax.random.key(0)), []
    take, refill = jax.jit(ResetPool.take), jax.jit(lambda pool, key: pool.refill(Numbered(), count, key))
    for i, unroll in enumerate(endings):
        pool = refill(pool, jax.random.key(10 + i))
        for ended in unroll:
            pool = take(pool, jnp.asarray(ended))[1]
        found.append(int(pool.reused))
    assert found == model(size, count, 4, endings)


def test_a_learner_with_a_pool_says_how_honest_it_was():
    """Episodes of 2 steps: 4 environments end 16 in an unroll of 8; 4 are drawn, so that 12 start as others did."""
    config = Config(num_envs=4, unroll_length=8, reset_pool=4, reset_interval=8, torso=(4,))
    assert config.resets_per_update == 4
    learner = make_learner(config, environment=Probe(2))
    state, update = learner.init(jax.random.key(0)), jax.jit(learner.update)
    for _ in range(2):
        state, metrics = update(state)
        assert metrics["resets/pool"] == 4
        assert (metrics["episodes"], metrics["resets/reused"]) == (16, 12)
    assert (
        "resets/pool"
        not in jax.eval_shape(
            make_learner(Config(num_envs=2, unroll_length=2), environment=Probe(2)).update,
            make_learner(Config(num_envs=2, unroll_length=2), environment=Probe(2)).init(jax.random.key(0)),
        )[1]
    )


def test_a_pool_that_keeps_up_starts_every_episode_anew():
    config = Config(num_envs=4, unroll_length=8, reset_pool=32, reset_interval=2, torso=(4,))
    learner = make_learner(config, environment=Probe(2))
    state, update = learner.init(jax.random.key(0)), jax.jit(learner.update)
    for _ in range(3):
        state, metrics = update(state)
        assert metrics["resets/reused"] == 0


def test_the_same_learner_has_the_same_pool_alone_and_among_others():
    config = Config(num_envs=4, unroll_length=8, reset_pool=3, torso=(4,))
    learner = make_learner(config, environment=Probe(3))
    keys = jax.random.split(jax.random.key(0), 3)
    many, _ = jax.jit(jax.vmap(learner.update))(jax.vmap(learner.init)(keys))
    one, _ = jax.jit(learner.update)(learner.init(keys[1]))
    np.testing.assert_array_equal(many.actors.pool.starts[0][1], one.actors.pool.starts[0])
    np.testing.assert_array_equal(many.actors.pool.is_fresh[1], one.actors.pool.is_fresh)
