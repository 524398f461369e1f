import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.environment import EnvParams

from isjax.learner import Config
from isjax.learner.unroll import act, cut_rows, reset_actors
from tests.learner.probes import Duck, Probe, adapted


def _act(environment, config, unrolls=1, seed=0):
    adapter = adapted(environment)
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
    assert unroll.cut_observation.shape[0] == cut_rows(adapted(environment), 8) == slots
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


def test_many_resets_an_unroll_are_used_in_turn_too():
    starts = np.stack(_first_cues(_act(Probe(1), Config(num_envs=32, unroll_length=20, resets_per_unroll=10))[0]))
    np.testing.assert_array_equal(starts[:, :10], starts[:, 10:20])
    assert len(np.unique(starts, axis=0)) == 32


class TruncatesEarly(Probe):
    """Declares a limit of 500 and cuts every 4 steps, by a flag of its own."""

    def is_truncated(self, state, params):
        return state.time % 4 == 0


class CountsByTwo(Probe):
    """gymnax's own flag, of a time that runs twice as fast as steps do."""

    def step_env(self, key, state, action, params):
        observation, state, *rest = super().step_env(key, state.replace(time=state.time + 1), action, params)
        return observation, state, *rest


class StartsLate(Probe):
    """gymnax's own flag, of a time that starts anywhere."""

    def reset_env(self, key, params):
        observation, state = super().reset_env(key, params)
        return observation, state.replace(time=jax.random.randint(key, (), 0, 4))


class ShortWrapped(Duck):
    """An object with a step of its own, whose parameters say another limit than it keeps."""

    @property
    def default_params(self):
        return EnvParams(max_steps_in_episode=500)

    def reset(self, key, params):
        return self.inner.reset(key, self.inner.default_params)

    def step(self, key, state, action, params):
        return self.inner.step(key, state, action, self.inner.default_params)


LIARS = {
    "flag": lambda: TruncatesEarly(500, ends="truncated"),
    "clock": lambda: CountsByTwo(8, ends="truncated"),
    "start": lambda: StartsLate(8, ends="truncated"),
    "wrapper": lambda: ShortWrapped(Probe(4, ends="truncated")),
}


@pytest.mark.parametrize("lies", LIARS)
def test_every_cut_keeps_the_state_reached_whatever_limit_is_declared(lies):
    """The value of a state is its second feature, time over length, 0 where an episode starts."""
    config = Config(num_envs=2, unroll_length=32)
    environment = LIARS[lies]()
    unroll, *_ = _act(environment, config)
    cuts = np.argwhere(np.asarray(unroll.truncated_t))
    assert len(cuts) > 8
    length = getattr(environment, "inner", environment).length
    for t, env in cuts:
        reached = unroll.cut_observation[unroll.cut_slot_t[t, env], env]
        before = unroll.observation_tm1[t, env]
        step = 2 if lies == "clock" else 1
        np.testing.assert_allclose(reached[1] - before[1], step / length, rtol=1e-5)
        assert reached[0] == before[0]
