"""Seaquest on a smaller board."""

import functools

import gymnax
import jax
import jax.numpy as jnp
import numpy as np

from isjax.environments import make
from isjax.environments.seaquest import SEAQUEST_ROOM
from isjax.learner.unroll import step_and_reset
from tests.learner.probes import adapted


@functools.cache
def _seaquest(name):
    """Plays 32 boards with random actions, half of them as hard from the start as they can ever become."""
    environment = {"gymnax": gymnax.make("Seaquest-MinAtar")[0], "isjax": make("Seaquest-MinAtar").inner}[name]
    adapter = adapted(environment)
    hardest = jnp.arange(32) % 2 == 1

    @jax.jit
    def play(key, num_actions):
        _, state = jax.vmap(adapter.reset)(jax.random.split(key, 32))
        spawn, move = (jnp.where(hardest, x, y) for x, y in ((1, state.e_spawn_speed), (2, state.move_speed)))
        start = state.replace(e_spawn_speed=spawn, e_spawn_timer=spawn, move_speed=move)
        fresh = jax.vmap(adapter.reset)(jax.random.split(key, 32))[0], start

        def row(state, key):
            action = jax.random.randint(jax.random.fold_in(key, 1), (32,), 0, num_actions)
            step_all = jax.vmap(functools.partial(step_and_reset, adapter))
            step, (observation, now) = step_all(jax.random.split(key, 32), state, action, fresh)
            counts = [now.e_fish_count, now.e_subs_count, now.e_bullet_count, now.divers_count, now.f_bullet_count]
            return now, ((observation, step.reward, step.terminated), jnp.stack(counts))

        return jax.lax.scan(row, start, jax.random.split(key, 300))[1]

    return play


def test_seaquest_is_the_game_of_gymnax():
    """Bit for bit, where shots hit, divers come aboard and episodes end, on easy boards and on the hardest."""
    (observation, reward, terminated), _ = ours = _seaquest("isjax")(jax.random.key(0), 6)
    jax.tree.map(np.testing.assert_array_equal, ours, _seaquest("gymnax")(jax.random.key(0), 6))
    assert reward.sum() > 50
    assert terminated.sum() > 50
    assert bool(jnp.all(jnp.any(observation, (0, 1, 2, 3)))), "every channel was seen"


def test_seaquest_never_fills_its_room():
    """The submarine stays where nothing reaches it, and so does everything else on the board."""
    (_, _, terminated), counts = _seaquest("gymnax")(jax.random.key(1), 1)
    assert not terminated.any()
    most = counts.max((0, 2))
    assert most[:2].sum() > 25, "the board is crowded"
    assert most.max() < SEAQUEST_ROOM
    assert (counts[:, 0] + counts[:, 1]).max() <= 31


def test_seaquest_with_parameters_of_its_own_has_all_the_room_of_gymnax():
    for overrides, room in (((), 32), (("init_spawn_speed=1",), 100)):
        environment = make("Seaquest-MinAtar", overrides)
        assert jax.eval_shape(environment.reset, jax.random.key(0))[1].divers.shape == (room, 4)
