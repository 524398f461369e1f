import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.learner import Config, Hyper, make_learner
from isjax.learner.learner import make_agent
from isjax.learner.replay import Columns, Replay, column_error, joined
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
    replay = filled(2)
    columns = replay.uniform(4000, jnp.int32(2), jax.random.key(0))
    drawn = replay.take(columns, unroll_of(3.0), jnp.int32(2))
    columns = np.asarray(drawn.r_t)
    assert columns.shape == (T, 4000)
    assert (columns == columns[0]).all()
    np.testing.assert_array_equal(drawn.observation_tm1[0], columns[0])
    kinds, counts = np.unique(columns[0], return_counts=True)
    np.testing.assert_allclose(kinds, [1, 1.1, 2, 2.1, 3, 3.1], rtol=1e-6)
    assert np.abs(counts - 4000 / 6).max() < 5 * np.sqrt(4000 / 6)


def test_the_oldest_unroll_makes_room():
    replay = filled(5)
    drawn = replay.take(replay.uniform(400, jnp.int32(5), jax.random.key(0)), unroll_of(6.0), jnp.int32(5))
    assert set(np.floor(np.unique(drawn.r_t))) == {3, 4, 5, 6}


def test_a_dead_learner_stores_nothing():
    replay = filled(4)
    after = replay.stored(unroll_of(9.0), jnp.int32(4), jnp.array(False))
    jax.tree.map(np.testing.assert_array_equal, replay, after)


@pytest.mark.parametrize("settings", [dict(), dict(algorithm="dqn", replay_priority=True)])
def test_the_unroll_that_a_learner_dies_of_is_not_stored(settings):
    config = Config(num_envs=2, unroll_length=4, torso=(6,), replay_size=3, replay_fraction=0.5, **settings)
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


# Priorities.

ALPHA, BETA = 0.6, 0.7


def by_hand(priority, count, last, alpha):
    """Schaul et al. 2016, eq. 1, of the first `count` unrolls; those of unroll `last` are as large as any."""
    p = np.array(priority, np.float64)
    p[last] = p.max()
    p = np.maximum(p, p.max() * 2.0**-23) ** alpha
    p[count:] = 0.0
    return p / p.sum()


def prioritized(count, priority, size=4):
    replay = filled(count, size)
    return replay._replace(priority=jnp.asarray(priority, jnp.float32))


@pytest.mark.parametrize(("count", "alpha"), [(2, ALPHA), (6, ALPHA), (6, 0.0), (6, 1.0)])
def test_columns_are_drawn_in_proportion_to_their_priorities_and_weighed_against_it(count, alpha):
    """In `N` equal parts of the sum each column is drawn its expected number of times, give or take two."""
    draws = 5000
    priority = np.array([[3.0, 0.0], [1e-3, 5.0], [0.5, 2.0], [1.0, 0.25]])
    priority[count:] = 0.0
    replay = prioritized(count, priority)
    columns = replay.by_priority(draws, jnp.int32(count), jax.random.key(0), exponent=alpha, correction=BETA)
    expected = by_hand(priority, min(count + 1, 4), count % 4, alpha)
    counts = np.zeros((4, B))
    np.add.at(counts, (np.asarray(columns.slot), np.asarray(columns.env)), 1)
    assert np.abs(counts - draws * expected).max() <= 2.0
    drawn_p = expected[columns.slot, columns.env]
    weight = (expected.size * drawn_p) ** -BETA
    np.testing.assert_allclose(columns.weight, weight / weight.max(), rtol=2e-5)


@pytest.mark.parametrize("scale", [0.0, 1e-38, 1e38])
def test_priorities_of_any_size_leave_probabilities_and_weights_finite(scale):
    replay = prioritized(3, scale * np.array([[1.0, 1e-9], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]))
    columns = replay.by_priority(1000, jnp.int32(2), jax.random.key(0), exponent=1.0, correction=1.0)
    assert np.isfinite(columns.weight).all()
    assert columns.weight.max() == 1.0
    assert np.asarray(columns.slot).max() == 2


def test_no_column_that_is_not_stored_is_drawn_from_a_long_sum():
    """Of a million numbers a float32 sum is not exact; of those not filled none may be drawn for it."""
    size = 200_000
    like = jax.tree.map(lambda x: x[:, :1] if x.ndim > 1 else x, unroll_of(0.0))
    replay = Replay.start(like, size, is_prioritized=True)
    filled_rows = size // 2
    priority = np.where(np.arange(size)[:, None] < filled_rows, np.random.default_rng(0).random((size, 1)), 0.0)
    replay = replay._replace(priority=jnp.asarray(priority, jnp.float32))
    draw = jax.jit(lambda key: replay.by_priority(4096, jnp.int32(filled_rows - 1), key, exponent=1.0, correction=1.0))
    columns = draw(jax.random.key(0))
    assert np.asarray(columns.slot).max() < filled_rows
    assert np.asarray(columns.slot).max() > 0.99 * filled_rows
    assert np.asarray(replay.priority[columns.slot, columns.env]).min() > 0.0


@pytest.mark.parametrize("with_fresh", [True, False])
def test_errors_become_priorities_of_what_was_learned_from_and_of_nothing_else(with_fresh):
    replay = prioritized(3, [[1.0, 2.0], [3.0, 4.0], [5.0, 0.5], [0.0, 0.0]])
    columns = Columns(jnp.array([1, 3, 1]), jnp.array([0, 1, 0]))
    error = jnp.array([*[0.7, 0.8][: 2 * with_fresh], 0.1, 0.2, 0.3])
    after = replay.reprioritized(columns, error, jnp.int32(3), jnp.array(True))
    fresh = [0.7, 0.8] if with_fresh else [5.0, 0.2]
    np.testing.assert_allclose(after.priority, [[1.0, 2.0], [0.3, 4.0], [5.0, 0.5], fresh], rtol=1e-6)
    dead = replay.reprioritized(columns, error * jnp.nan, jnp.int32(3), jnp.array(False))
    np.testing.assert_array_equal(dead.priority, replay.priority)


def test_a_column_is_as_far_off_as_its_largest_error_and_a_little_of_its_mean():
    error, is_valid = jnp.array([[1.0, 9.0, 7.0], [-3.0, -1.0, 7.0]]), jnp.array([[1, 0, 0], [1, 1, 0]], bool)
    np.testing.assert_allclose(column_error(error, is_valid), [0.9 * 3 + 0.1 * 2, 1.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(column_error(error, None), [2.9, 8.6, 7.0], rtol=1e-6)


def learner_by_priority(**settings):
    config = dict(num_envs=2, unroll_length=4, torso=(6,), replay_size=5, replay_fraction=0.75, algorithm="retrace")
    config = Config(**config | dict(replay_priority=True) | settings)
    return config, make_learner(config, environment=Probe(3))


@pytest.mark.parametrize("fraction", [0.75, 1.0])
def test_a_learner_stores_the_errors_under_its_new_parameters(fraction):
    """Those of the first update's own unroll: nothing else is there to be drawn."""
    config, learner = learner_by_priority(replay_fraction=fraction, target_network="none")
    before = jax.jit(learner.init)(jax.random.key(0))
    after, metrics = jax.jit(learner.update)(before)
    agent = make_agent(config, environment=Probe(3))
    unroll = jax.tree.map(lambda x: x[0], after.replay.unrolls)
    q = np.asarray(agent.step(after.params, None, unroll.observation_tm1.reshape(10, -1), ())[0]).reshape(5, 2, 2)
    cut = np.asarray(agent.step(after.params, None, unroll.cut_observation.reshape(-1, 2), ())[0])
    cut = cut.reshape(-1, 2, 2).max(-1)
    slot, truncated, terminated = (np.asarray(x) for x in (unroll.cut_slot_t, unroll.truncated_t, unroll.terminated_t))
    v = np.where(truncated, np.take_along_axis(cut, slot, 0) if len(cut) > 1 else cut, q[1:].max(-1))
    taken = np.take_along_axis(q[:4], np.asarray(unroll.action_tm1)[..., None], -1)[..., 0]
    is_greedy = np.asarray(unroll.action_tm1) == q[:4].argmax(-1)
    trace = 0.95 * np.minimum(1.0, is_greedy / np.exp(np.asarray(unroll.log_mu_tm1)))
    error = np.zeros((5, 2))
    for t in reversed(range(4)):
        delta = np.asarray(unroll.r_t)[t] + 0.99 * ~terminated[t] * v[t] - taken[t]
        follows = ~(terminated[t] | truncated[t]) & (t < 3)
        error[t] = delta + np.where(follows, 0.99 * (trace[t + 1] if t < 3 else 0.0) * error[t + 1], 0.0)
    size = np.abs(error[:4])
    expected = 0.9 * size.max(0) + 0.1 * size.mean(0)
    found = np.asarray(after.replay.priority)
    was_learned = np.isin(found[0], [1.0], invert=True)
    assert was_learned.any()
    np.testing.assert_allclose(found[0][was_learned], expected[was_learned], rtol=1e-4)
    assert (found[1:] == 0).all()
    assert metrics["replay/weight"] == 1.0
