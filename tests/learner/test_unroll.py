import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.learner import Config
from isjax.learner.environments import adapt
from isjax.learner.unroll import act, cut_rows, reset_actors
from tests.learner.probes import Duck, Probe


def _act(environment, config, unrolls=1, seed=0):
    adapter = adapt(environment)
    actors = reset_actors(adapter, config.num_envs, jax.random.key(seed))
    run = jax.jit(
        lambda actors, key: act(adapter, config, lambda o, memory: (jnp.zeros((o.shape[0], 2)), memory), actors, key)
    )
    for i in range(unrolls):
        unroll, actors, finished = run(actors, jax.random.key(seed + i + 1))
    return unroll, actors, finished


@pytest.mark.parametrize(("wrap", "slots"), [(lambda p: p, 3), (Duck, 8)])
def test_rows_are_cut_where_the_time_limit_is_and_keep_the_observation_reached(wrap, slots):
    """A slot for every row, unless the environment's class guarantees its limit."""
    environment = wrap(Probe(3, ends="truncated"))
    unroll, _, finished = _act(environment, Config(num_envs=2, unroll_length=8))
    np.testing.assert_array_equal(unroll.truncated_t[:, 0], [0, 0, 1, 0, 0, 1, 0, 0])
    assert not unroll.terminated_t.any()
    assert unroll.cut_observation.shape[0] == cut_rows(adapt(environment), 8) == slots
    for row in (2, 5):
        slot = unroll.cut_slot_t[row]
        cut = unroll.cut_observation[slot, jnp.arange(2)]
        np.testing.assert_array_equal(cut[:, 1], 1.0)  # time / length of the state reached
        np.testing.assert_array_equal(unroll.observation_tm1[row + 1][:, 1], 0.0)  # the reset one
        np.testing.assert_array_equal(cut[:, 0], unroll.observation_tm1[row][:, 0])  # its own episode's cue
    assert (finished.episodes, finished.return_sum) == (4, 12)


def test_terminations_fill_no_slot():
    unroll, *_ = _act(Probe(2), Config(num_envs=2, unroll_length=5))
    assert unroll.terminated_t.sum() == 4
    np.testing.assert_array_equal(unroll.cut_observation, 0.0)


def test_episodes_run_on_across_unrolls():
    unroll, actors, finished = _act(Probe(5), Config(num_envs=1, unroll_length=4), unrolls=2)
    np.testing.assert_array_equal(unroll.terminated_t[:, 0], [1, 0, 0, 0])
    assert finished.return_sum == 5.0
    np.testing.assert_array_equal(actors.episode_return, [3.0])


def _first_cues(unroll):
    """The cue of every episode, a column of starts for each environment."""
    cues, ended = np.asarray(unroll.observation_tm1)[1:, :, 0], np.asarray(unroll.terminated_t)
    return [cues[ended[:, b], b] for b in range(ended.shape[1])]


def test_resets_of_every_step_are_fair_draws():
    starts = np.concatenate(_first_cues(_act(Probe(1), Config(num_envs=64, unroll_length=64))[0]))
    assert abs(starts.mean() - 0.5) < 5 * 0.5 / np.sqrt(starts.size)


def test_two_resets_an_unroll_are_used_in_turn_and_differ_between_environments():
    starts = np.stack(_first_cues(_act(Probe(2), Config(num_envs=64, unroll_length=8, resets_per_unroll=2))[0]))
    np.testing.assert_array_equal(starts[:, :2], starts[:, 2:4])
    assert (starts[:, 0] != starts[:, 1]).any()
    assert len(np.unique(starts[:, 0])) == 2


def test_all_randomness_differs_between_unrolls():
    config = Config(num_envs=4, unroll_length=16)
    one, *_ = _act(Probe(3), config, unrolls=1)
    two, *_ = _act(Probe(3), config, unrolls=2)
    assert (one.action_tm1 != two.action_tm1).any()
