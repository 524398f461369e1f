import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.learner import Config, Hyper, make_learner
from isjax.learner.replay import Replay, joined
from isjax.types import Unroll
from tests.learner.probes import Paying, Probe

T, B = 3, 2


def unroll_of(number):
    """Every entry says which unroll it is from and in which environment it stands: `number + env / 10`."""
    rows = number + jnp.broadcast_to(jnp.arange(B) / 10, (T, B))
    flags = jnp.zeros((T, B), bool)
    cut = rows[:1]
    return Unroll(jnp.concatenate([rows, rows[:1]]), rows, rows, rows, flags, flags, cut, jnp.zeros((T, B), int))


def filled(count, size=4):
    replay = Replay.start(unroll_of(0.0), size)
    for u in range(count):
        replay = replay.stored(unroll_of(float(u + 1)), jnp.int32(u), jnp.array(True))
    return replay


def test_whole_columns_are_drawn_uniformly_from_what_is_stored():
    drawn = filled(2).drawn(4000, unroll_of(3.0), jnp.int32(2), jax.random.key(0))
    columns = np.asarray(drawn.r_t)
    assert columns.shape == (T, 4000)
    assert (columns == columns[0]).all()
    np.testing.assert_array_equal(drawn.observation_tm1[0], columns[0])
    kinds, counts = np.unique(columns[0], return_counts=True)
    np.testing.assert_allclose(kinds, [1, 1.1, 2, 2.1, 3, 3.1], rtol=1e-6)
    assert np.abs(counts - 4000 / 6).max() < 5 * np.sqrt(4000 / 6)


def test_the_oldest_unroll_makes_room():
    drawn = filled(5).drawn(400, unroll_of(6.0), jnp.int32(5), jax.random.key(0))
    assert set(np.floor(np.unique(drawn.r_t))) == {3, 4, 5, 6}


def test_a_dead_learner_stores_nothing():
    replay = filled(4)
    after = replay.stored(unroll_of(9.0), jnp.int32(4), jnp.array(False))
    jax.tree.map(np.testing.assert_array_equal, replay, after)


def test_the_unroll_that_a_learner_dies_of_is_not_stored():
    config = Config(num_envs=2, unroll_length=4, torso=(6,), replay_size=3, replay_fraction=0.5)
    learner = make_learner(config, environment=Paying(3))
    before = jax.jit(learner.update)(learner.init(jax.random.key(0)))[0]
    state = before.actors.state
    poisoned = state.replace(cue=jnp.full_like(state.cue, jnp.inf))
    dead, _ = jax.jit(learner.update)(before.replace(actors=before.actors._replace(state=poisoned)))
    assert not dead.alive
    jax.tree.map(np.testing.assert_array_equal, before.replay, dead.replay)


def test_old_rewards_are_scaled_as_rewards_are_now():
    """An old 0.01 weighs a hundredth of a new 1, whatever the scale was when it was stored."""
    kept = []

    def objective(terms, hyper):
        jax.debug.callback(lambda r: kept.append(np.asarray(r)), terms.r_t)
        return jnp.mean(terms.v_tm1 + terms.log_pi_tm1), {}

    config = Config(
        num_envs=2, unroll_length=4, torso=(6,), replay_size=5, replay_fraction=0.75, normalize_rewards=True
    )
    learner = make_learner(config, environment=Paying(1), objective=objective)
    state, update = learner.init(jax.random.key(0)), jax.jit(learner.update)

    def paid(state, reward):
        """Every episode that begins from here on pays so much."""
        inner = state.actors.state
        return state.replace(actors=state.actors._replace(state=inner.replace(cue=jnp.full_like(inner.cue, reward))))

    for reward in (0.01, 0.01, 1.0, 1.0, 1.0, 1.0):
        state, _ = update(paid(state, reward))
    jax.block_until_ready(state)
    jax.effects_barrier()
    assert np.isin(state.replay.unrolls.r_t, np.float32([0.01, 1.0])).all()
    values = np.unique(kept[-1])
    assert len(values) == 2
    np.testing.assert_allclose(values[1] / values[0], 100.0, rtol=1e-5)


@pytest.mark.parametrize("algorithm", ["impala", "pg-is"])
@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_a_replay_keeps_its_types_where_float64_is_on(algorithm, memory, x64):
    config = Config(
        num_envs=2,
        unroll_length=4,
        torso=(6,),
        algorithm=algorithm,
        memory=memory,
        replay_size=3,
        replay_fraction=0.5,
        replay_mask=True,
        normalize_rewards=True,
        normalize_observations=True,
    )
    learner = make_learner(config, environment=Probe(3))
    before = jax.eval_shape(learner.init, jax.random.key(0))
    after, metrics = jax.eval_shape(learner.update, before)
    assert jax.tree.map(lambda x: x.dtype, before) == jax.tree.map(lambda x: x.dtype, after)
    learned = (after.params, after.optimizer, after.reward_scale, after.observation_moments, after.actors.memory)
    assert {x.dtype.name for x in jax.tree.leaves(learned)} <= {"float32", "int32"}
    assert after.replay.unrolls.r_t.dtype == metrics["episode_return"].dtype == jnp.float32


def test_only_replayed_columns_burn_in():
    both = joined(unroll_of(1.0), unroll_of(2.0), burn_in=2)
    np.testing.assert_array_equal(both.is_valid_t, [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]])
    assert joined(unroll_of(1.0), unroll_of(2.0), burn_in=0).is_valid_t is None


def seen_by_objective(updates, hyper=None, **settings):
    """The terms of each of so many updates."""
    kept = []

    def objective(terms, hyper):
        jax.debug.callback(lambda t: kept.append(jax.tree.map(np.asarray, t)), terms)
        return jnp.mean(terms.v_tm1 + terms.log_pi_tm1), {}

    config = Config(num_envs=2, unroll_length=4, torso=(6,), replay_size=5, **settings)
    learner = make_learner(config, environment=Probe(3), objective=objective)
    state = jax.jit(learner.init)(jax.random.key(0), hyper or Hyper())
    update = jax.jit(learner.update)
    for _ in range(updates):
        state, _ = update(state)
    jax.block_until_ready(state)
    jax.effects_barrier()
    return kept


def test_a_batch_holds_the_fraction_asked_for_and_its_stored_log_probabilities():
    terms = seen_by_objective(4, replay_fraction=0.75)[-1]
    assert terms.log_mu_tm1.shape == (4, 8)
    fresh, old = np.split(terms.log_pi_tm1 - terms.log_mu_tm1, [2], axis=1)
    np.testing.assert_allclose(fresh, 0.0, atol=1e-6)
    assert np.abs(old).max() > 1e-4


def test_rows_too_far_from_the_policy_that_acted_are_left_out():
    hyper = Hyper(learning_rate=0.5, learning_rate_end=1.0, replay_max_kl=1e-3)
    terms = seen_by_objective(6, hyper, replay_fraction=0.5, replay_mask=True)[-1]
    assert terms.is_valid_t[:, :2].all()
    assert not terms.is_valid_t[:, 2:].all()


def test_the_ring_survives_a_jitted_population_of_updates():
    config = Config(num_envs=2, unroll_length=4, torso=(6,), replay_size=3, replay_fraction=0.5)
    learner = make_learner(config, environment=Probe(3))
    states = jax.vmap(learner.init)(jax.random.split(jax.random.key(0), 3))
    states, metrics = (
        jax.jit(lambda s: jax.lax.fori_loop(0, 7, lambda _, s: jax.vmap(learner.update)(s)[0], s))(states),
        None,
    )
    one = learner.init(jax.random.split(jax.random.key(0), 3)[1])
    for _ in range(7):
        one, metrics = jax.jit(learner.update)(one)
    alone, among = one.replay.unrolls, jax.tree.map(lambda x: x[1], states.replay.unrolls)
    for x, y in zip(jax.tree.leaves(alone), jax.tree.leaves(among), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4)
    assert metrics["alive"]
    assert config.replayed_envs == 2
