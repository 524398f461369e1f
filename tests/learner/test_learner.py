import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from isjax.learner import Config, Hyper, make_learner
from isjax.learner.learning import Learning
from isjax.ops import RATIO_EDGES
from isjax.types import Terms
from tests.learner.probes import Boundless, Duck, Paying, Probe

SMALL = Config(num_envs=4, unroll_length=5, torso=(8,), evaluation_episodes=3)


class Pair(NamedTuple):
    init: object
    apply: object


def _climb(terms: Terms, hyper: Hyper):
    """A loss under which every gradient step adds the learning rate to the value's bias."""
    return -jnp.mean(terms.v_tm1), {"ratio/max": jnp.exp(jnp.max(terms.log_pi_tm1 - terms.log_mu_tm1))}


def _logit(key, observation):
    return {"w": jnp.zeros(())}


def _logit_apply(params, observation):
    """Logits [w, 0] and value w, whatever is seen: what acted can be read off the ratio."""
    w = jnp.broadcast_to(params["w"], observation.shape[:1])
    return jnp.stack([w, jnp.zeros_like(w)], axis=1), w


CLIMBING = Hyper(learning_rate=0.5, learning_rate_end=1.0, max_grad_norm=1e9)


def _climbing(**settings):
    config = dataclasses.replace(SMALL, optimizer="sgd", **settings)
    return make_learner(config, environment=Probe(3), network=Pair(_logit, _logit_apply), objective=_climb)


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_on_policy_every_log_ratio_is_exactly_zero(env):
    learner = make_learner(dataclasses.replace(SMALL, env=env))
    state = learner.init(jax.random.key(0))
    update = jax.jit(learner.update)
    for _ in range(4):
        state, metrics = update(state)
        assert metrics["ratio/min"] == metrics["ratio/max"] == metrics["ratio/ess_fraction"] == 1.0
        assert metrics["ratio/kl_k1"] == metrics["ratio/kl_k3"] == metrics["ratio/lag"] == 0.0


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1", "MountainCarContinuous-v0"])
@pytest.mark.parametrize("box_actions", ["tanh", "clip"])
def test_the_stored_log_probability_is_that_of_the_policy_that_acted(env, box_actions):
    """On-policy, learning recomputes what acting stored, up to the rounding of another batch size."""
    config = dataclasses.replace(SMALL, env=env, actor_lag=1, box_actions=box_actions, normalize_observations=True)
    learner = make_learner(
        config, objective=lambda t, h: (jnp.sum(t.v_tm1), {"gap": jnp.max(jnp.abs(t.log_pi_tm1 - t.log_mu_tm1))})
    )
    _, metrics = jax.jit(learner.update)(learner.init(jax.random.key(0)))
    assert metrics["gap"] < 1e-5


@pytest.mark.parametrize("lag", [1, 3])
def test_the_acting_policy_lags_by_exactly_so_many_updates(lag):
    learner = _climbing(actor_lag=lag)
    state = learner.init(jax.random.key(0), CLIMBING)
    update = jax.jit(learner.update)
    for u in range(7):
        state, metrics = update(state)
        w, acted = 0.5 * u, 0.5 * max(u - lag, 0)
        favored, other = (jax.nn.sigmoid(s * w) / jax.nn.sigmoid(s * acted) for s in (1, -1))
        assert metrics["ratio/lag"] == min(u, lag)
        assert any(np.isclose(metrics["ratio/max"], x, rtol=1e-5) for x in (favored, other)), u


def test_the_histogram_of_ratios_holds_those_of_all_rows_and_on_policy_there_is_none():
    learner = _climbing(actor_lag=1)
    state, metrics = jax.jit(learner.update)(learner.init(jax.random.key(0), CLIMBING))
    assert np.flatnonzero(metrics["ratio/histogram"]).tolist() == [len(RATIO_EDGES) // 2]
    _, metrics = jax.jit(learner.update)(state)
    ratios = [float(jax.nn.sigmoid(s * 0.5) / 0.5) for s in (1, -1)]
    np.testing.assert_array_equal(
        np.flatnonzero(metrics["ratio/histogram"]), np.searchsorted(RATIO_EDGES, ratios)[::-1]
    )
    np.testing.assert_allclose(metrics["ratio/histogram"].sum(), 1.0, rtol=1e-6)
    on_policy = _climbing()
    metrics = jax.eval_shape(lambda key: on_policy.update(on_policy.init(key, CLIMBING))[1], jax.random.key(0))
    assert "ratio/histogram" not in metrics


def test_every_update_draws_anew():
    learner = make_learner(SMALL, environment=Probe(1))
    state = learner.init(jax.random.key(0), Hyper(learning_rate=0.0))
    update = jax.jit(learner.update)
    losses = {float(update(dataclasses.replace(state, update=jnp.int32(u)))[1]["loss/total"]) for u in range(3)}
    assert len(losses) == 3


def test_epochs_and_minibatches_take_so_many_steps_and_recompute_the_ratio():
    learner = _climbing(epochs=3, minibatches=2)
    state, metrics = jax.jit(learner.update)(learner.init(jax.random.key(0), CLIMBING))
    np.testing.assert_allclose(state.params["w"], 6 * 0.5)
    assert metrics["ratio/max"] > 1.5


def test_every_epoch_uses_every_environment_once():
    learning = Learning(dataclasses.replace(SMALL, epochs=3, minibatches=2), None, None)
    groups = learning.minibatches(4, jax.random.key(0))
    assert groups.shape == (6, 2)
    np.testing.assert_array_equal(np.sort(groups.reshape(3, 4), axis=1), np.tile(np.arange(4), (3, 1)))
    assert len({tuple(np.asarray(g)) for g in groups.reshape(3, 4)}) > 1


@pytest.mark.parametrize("wrap", [lambda p: p, Duck])
def test_at_a_time_limit_the_value_is_that_of_the_state_reached(wrap):
    """V = 10·time/length, readable off the observation: 10 at the limit, 0 after the reset."""
    network = Pair(lambda k, o: {"w": jnp.ones(())}, lambda p, o: (jnp.zeros((o.shape[0], 2)), p["w"] * 10.0 * o[:, 1]))
    kept = {}

    def objective(terms, hyper):
        jax.debug.callback(lambda t: kept.update(t._asdict()), terms)
        return jnp.sum(terms.v_tm1), {}

    config = dataclasses.replace(SMALL, unroll_length=7)
    learner = make_learner(config, environment=wrap(Probe(2, ends="truncated")), network=network, objective=objective)
    state, _ = jax.jit(learner.update)(learner.init(jax.random.key(0)))
    jax.block_until_ready(state)
    jax.effects_barrier()
    np.testing.assert_allclose(kept["v_t"][:, 0], [5, 10, 5, 10, 5, 10, 5])
    np.testing.assert_allclose(kept["v_tm1"][:, 0], [0, 5, 0, 5, 0, 5, 0])
    np.testing.assert_array_equal(kept["same_episode_t"][:, 0], [1, 0, 1, 0, 1, 0, 1])
    np.testing.assert_allclose(kept["discount_t"], 0.99)


def test_a_learner_that_diverges_is_frozen_and_says_when():
    learner = _climbing()
    state = learner.init(jax.random.key(0), CLIMBING.replace(learning_rate=3e38))
    update = jax.jit(learner.update)
    for _ in range(4):
        before = state
        state, metrics = update(state)
    assert not state.alive
    assert not metrics["alive"]
    assert state.died_at == 2
    assert np.isfinite(state.params["w"])
    jax.tree.map(np.testing.assert_array_equal, jax.random.key_data(before.key), jax.random.key_data(state.key))
    jax.tree.map(np.testing.assert_array_equal, before.replace(key=None), state.replace(key=None))


def _finite(tree):
    return all(np.isfinite(x).all() for x in jax.tree.leaves(tree) if np.issubdtype(x.dtype, np.floating))


def _struck(state, learner, reward):
    """The state after an update in which learner `learner` of three was paid `reward` all along."""
    inner = state.actors.state
    cue = jnp.where(jnp.arange(3)[:, None] == learner, jnp.float32(reward), inner.cue)
    return state.replace(actors=state.actors._replace(state=inner.replace(cue=cue)))


@pytest.mark.parametrize(
    "settings",
    [
        dict(normalize_rewards=True),
        dict(normalize_rewards=True, replay_fraction=0.5, replay_size=3),
        dict(algorithm="ppo", normalize_advantages=True, epochs=2, minibatches=2),
        dict(algorithm="ppo-kl", normalize_rewards=True, normalize_observations=True, actor_lag=1),
        dict(algorithm="dqn", normalize_rewards=True, replay_fraction=0.5, replay_size=3),
        dict(algorithm="pqn", normalize_rewards=True, epochs=2, minibatches=2, layer_norm=True),
        dict(memory="gru", normalize_rewards=True),
    ],
    ids=lambda settings: "-".join(settings),
)
def test_whoever_is_alive_is_finite_throughout_and_the_others_do_not_notice(settings):
    learner = make_learner(dataclasses.replace(SMALL, **settings), environment=Paying(3))
    update = jax.jit(jax.vmap(learner.update))
    start = jax.vmap(learner.init)(jax.random.split(jax.random.key(0), 3))
    start = calm = update(_struck(start, 1, 0.5))[0]
    for _ in range(3):
        calm = update(_struck(calm, 1, 0.5))[0]
    for reward in (1e20, 3e38, np.inf, np.nan):
        struck = start
        for x in (reward, 0.5, 0.5):
            struck = update(_struck(struck, 1, x))[0]
        struck, other = (state.replace(key=None) for state in (struck, calm))
        for i in (0, 2):
            jax.tree.map(lambda x, y, i=i: np.testing.assert_array_equal(x[i], y[i]), struck, other)
        one = jax.tree.map(lambda x: x[1], struck)
        assert np.isfinite(reward) or not one.alive
        assert _finite(one.replace(actors=one.actors._replace(state=None)))
        assert one.alive or reward != 1e20 or "normalize_rewards" not in settings


def test_a_gradient_too_large_for_its_norm_is_a_death_and_not_a_standstill():
    network = Pair(
        lambda key, o: {"w": jnp.zeros(2)},
        lambda p, o: (jnp.zeros((o.shape[0], 2)), 1e25 * jnp.sum(p["w"]) + 0 * o[:, 0]),
    )
    config = dataclasses.replace(SMALL, optimizer="adam")
    learner = make_learner(config, environment=Probe(3), network=network, objective=_climb)
    state, metrics = jax.jit(learner.update)(learner.init(jax.random.key(0)))
    assert np.isfinite(metrics["loss/total"])
    assert not state.alive
    assert state.died_at == 1


def test_what_an_environment_keeps_to_itself_may_be_infinite():
    kept = make_learner(SMALL, environment=Boundless(3))
    after, _ = jax.jit(kept.update)(kept.init(jax.random.key(0)))
    assert after.alive
    assert np.isinf(after.actors.state.cue).all()


def test_an_nnx_module_serves_as_network_through_split_and_merge():
    class Module(nnx.Module):
        def __init__(self, features, rngs):
            self.hidden = nnx.Linear(features, 8, rngs=rngs)
            self.heads = nnx.Linear(8, 3, rngs=rngs)

        def __call__(self, x):
            heads = self.heads(nnx.tanh(self.hidden(x)))
            return heads[:, :2], heads[:, 2]

    graph = nnx.split(Module(4, nnx.Rngs(0)))[0]
    network = Pair(
        lambda key, observation: nnx.split(Module(observation.shape[1], nnx.Rngs(key)))[1],
        lambda params, observation: nnx.merge(graph, params)(observation),
    )
    learner = make_learner(SMALL, network=network)
    _, metrics = jax.jit(learner.update)(learner.init(jax.random.key(0)))
    assert metrics["alive"]
    assert metrics["loss/grad_norm"] > 0


def test_normalization_statistics_follow_what_the_learner_saw():
    config = dataclasses.replace(SMALL, env="Pendulum-v1", normalize_observations=True, normalize_rewards=True)
    learner = make_learner(config)
    update = jax.jit(learner.update)
    state = learner.init(jax.random.key(0))
    for _ in range(3):
        state, metrics = update(state)
    assert state.observation_moments.batches == state.reward_scale.moments.batches == 3
    assert state.reward_scale.moments.deviation * state.reward_scale.unit > 1.0
    assert metrics["ratio/max"] == 1.0


def test_evaluation_plays_each_episode_once_to_its_end():
    learner = make_learner(SMALL, environment=Probe(4, ends="truncated"))
    evaluation = jax.jit(learner.evaluate)(learner.init(jax.random.key(0)), jax.random.key(1))
    np.testing.assert_array_equal(evaluation.episode_return, [4.0] * 3)
    np.testing.assert_array_equal(evaluation.length, [4] * 3)


def test_evaluation_counts_nothing_after_the_first_episode():
    """Every step of CartPole pays 1, and its episodes differ in length."""
    learner = make_learner(dataclasses.replace(SMALL, evaluation_episodes=8, evaluation_policy="sample"))
    evaluation = jax.jit(learner.evaluate)(learner.init(jax.random.key(0)), jax.random.key(1))
    np.testing.assert_array_equal(evaluation.episode_return, evaluation.length)
    assert len(np.unique(evaluation.length)) > 1


def test_evaluation_uses_the_parameters_after_the_update_and_its_own_keys():
    learner = make_learner(
        dataclasses.replace(SMALL, optimizer="sgd"),
        environment=Probe(4, reward="action"),
        network=Pair(
            _logit, lambda p, o: (jnp.stack([0 * o[:, 0] - p["w"] + 0.1, 0 * o[:, 0]], 1), p["w"] + 0 * o[:, 0])
        ),
        objective=_climb,
    )
    state = learner.init(jax.random.key(0), CLIMBING)
    assert learner.evaluate(state, jax.random.key(1)).episode_return.sum() == 0
    after, _ = jax.jit(learner.update)(state)
    assert learner.evaluate(after, jax.random.key(1)).episode_return.sum() == 12
    np.testing.assert_array_equal(after.update, 1)


def test_jit_changes_nothing_and_compiles_once():
    learner = make_learner(SMALL)
    state = learner.init(jax.random.key(0))
    traces = []
    update = jax.jit(lambda s: (traces.append(1), learner.update(s))[1])
    once, metrics = update(state)
    update(once)
    assert len(traces) == 1
    _, metrics_eager = learner.update(state)
    for name in metrics:
        np.testing.assert_allclose(metrics[name], metrics_eager[name], rtol=2e-4, atol=1e-5, err_msg=name)


def test_the_learning_rate_is_annealed_to_its_end():
    learner = make_learner(
        dataclasses.replace(SMALL, optimizer="sgd", steps=80),
        environment=Probe(3),
        network=Pair(_logit, _logit_apply),
        objective=_climb,
    )
    state, update = learner.init(jax.random.key(0), CLIMBING.replace(learning_rate_end=0.0)), jax.jit(learner.update)
    values = []
    for _ in range(5):
        state, _ = update(state)
        values.append(float(state.params["w"]))
    np.testing.assert_allclose(values, np.cumsum([0.5, 0.375, 0.25, 0.125, 0.0]), rtol=1e-6)


def test_the_gradient_is_clipped_by_its_global_norm():
    learner = make_learner(
        dataclasses.replace(SMALL, optimizer="sgd"),
        environment=Probe(3),
        network=Pair(
            lambda k, o: {"a": jnp.zeros(()), "b": jnp.zeros(())},
            lambda p, o: (jnp.zeros((o.shape[0], 2)), 3 * p["a"] + 4 * p["b"] + 0 * o[:, 0]),
        ),
        objective=_climb,
    )
    start = learner.init(jax.random.key(0), Hyper(learning_rate=1.0, max_grad_norm=0.5))
    state, metrics = jax.jit(learner.update)(start)
    np.testing.assert_allclose([state.params["a"], state.params["b"]], [0.3, 0.4], rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/grad_norm"], 5.0, rtol=1e-5)


def test_keys_that_are_unsound_or_untyped_are_refused():
    learner = make_learner(SMALL)
    with pytest.raises(ValueError, match="rbg"):
        learner.init(jax.random.key(0, impl="unsafe_rbg"))
    with pytest.raises(TypeError, match="typed key"):
        learner.init(jax.random.PRNGKey(0))
    with pytest.raises(ValueError, match=r"key must be a single key, but its shape is \[3\]"):
        learner.init(jax.random.split(jax.random.key(0), 3))
    state = jax.eval_shape(learner.init, jax.random.key(0))
    with pytest.raises(TypeError, match="typed key"):
        learner.evaluate(state, jax.random.PRNGKey(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(unroll_length=0), "unroll_length must be at least 1, but it is 0"),
        (dict(actor_lag=-1), "actor_lag must be at least 0, but it is -1"),
        (dict(torso=(0,)), "torso must be widths of at least 1"),
        (dict(torso=64), "torso must be a tuple of whole numbers, but it is 64"),
        (dict(torso=(10**6, 10**6)), "torso must be layers of fewer than 2\\^31 weights"),
        (dict(num_envs=8.0), "num_envs must be a whole number, but it is 8.0"),
        (dict(num_envs="8"), "num_envs must be a whole number, but it is '8'"),
        (dict(num_envs=True), "num_envs must be a whole number, but it is True"),
        (dict(num_envs=10**12), "num_envs must be less than 2\\^31, but it is 1000000000000"),
        (dict(num_envs=2**20, unroll_length=2**12), "num_envs must be so small that num_envs · unroll_length"),
        (dict(steps=2**40), "steps must be less than 2\\^31 updates of num_envs · unroll_length = 128 steps"),
        (dict(epochs=2**20, minibatches=2**20), "epochs must be so few that epochs · minibatches is less than"),
        (dict(normalize_rewards=1), "normalize_rewards must be true or false, but it is 1"),
        (dict(correction="vtrace"), "correction must be one of v-trace, one-step, epsilon, none, but it is 'vtrace'"),
        (dict(env=3), "env must be a text, but it is 3"),
        (dict(env_params="a=1"), "env_params must be a tuple of texts, but it is 'a=1'"),
        (dict(replay_fraction=float("nan")), "replay_fraction must be a number, but it is nan"),
        (dict(replay_fraction=0.9999999), "replay_fraction must be at most 0.990099 to ask for no more"),
        (dict(replay_fraction=0.01), "replay_fraction must be above 0.0588 to come to an environment"),
        (dict(replay_fraction=0.5, replay_size=2**30), "replay_size must be so small that it holds fewer than"),
    ],
)
def test_bad_settings_name_the_field_and_what_is_allowed(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(num_envs=6, minibatches=4), "minibatches must be a divisor of num_envs, which is 6, but it is 4"),
        (
            dict(algorithm="ppo", minibatches=3),
            "minibatches must be a divisor of num_envs · unroll_length, which is 20",
        ),
        (dict(algorithm="trpo"), "share_torso must be off for trpo"),
        (dict(algorithm="ppo", replay_fraction=0.5), "replay_fraction must be 0 for ppo"),
        (dict(normalize_advantages=True), "normalize_advantages must be off for impala"),
        (dict(burn_in=2), "burn_in must be left alone where replay_fraction is 0, but it is 2"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make_learner(dataclasses.replace(SMALL, **settings))


def test_numbers_of_numpy_and_lists_make_the_same_config():
    same = Config(num_envs=np.int64(8), torso=[64, 64], normalize_rewards=np.True_, replay_fraction=np.float32(0.5))
    assert same == Config(num_envs=8, torso=(64, 64), normalize_rewards=True, replay_fraction=0.5)
    assert {type(x) for x in (same.num_envs, same.replay_fraction, same.normalize_rewards)} == {int, float, bool}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(discount=1.5), r"discount must be in \[0, 1\], but it is 1.5"),
        (dict(discount=np.array([0.9, np.nan])), r"discount must be in \[0, 1\], but it is nan"),
        (dict(discount="0.9"), "discount must be a number, or an array .* but it is '0.9'"),
        (dict(discount=True), "discount must be a number, or an array .* but it is True"),
        (dict(discount=None), "discount must be a number, or an array .* but it is None"),
        (dict(discount=np.ones((2, 2))), r"discount must be a number, or an array .* but it is of shape \[2, 2\]"),
        (dict(discount=np.ones(2), lambda_=np.ones(3)), "discount must be a number, or an array .* of shape"),
        (dict(learning_rate=np.nan), "learning_rate must be at least 0, but it is nan"),
        (dict(learning_rate=np.inf), "learning_rate must be a number that float32 can hold, but it is inf"),
        (dict(learning_rate=1e39), "learning_rate must be a number that float32 can hold, but it is 1e\\+39"),
        (dict(kl_cost=np.inf), "kl_cost must be a number that float32 can hold, but it is inf"),
        (dict(clip_rho=1e-50), "clip_rho must be a number that float32 can hold, but it is 1e-50"),
        (dict(max_grad_norm=np.nan), "max_grad_norm must be greater than 0, but it is nan"),
    ],
)
def test_bad_hyperparameters_name_the_field_and_what_is_allowed(settings, message):
    with pytest.raises(ValueError, match=message):
        Hyper(**settings).check()


def test_bounds_may_be_infinite_and_settings_of_many_learners_are_arrays():
    Hyper(clip_rho=np.inf, max_grad_norm=np.inf, discount=np.full(3, 0.9), learning_rate=[1e-3] * 3).check()


def test_hyperparameters_of_another_shape_are_refused_by_name():
    with pytest.raises(ValueError, match=r"discount must be a number, but it is of shape \[2\]"):
        make_learner(SMALL).init(jax.random.key(0), Hyper(discount=np.ones(2)))


def test_steps_are_counted_beyond_what_32_bits_hold():
    learner = make_learner(SMALL, environment=Probe(3))
    state = learner.init(jax.random.key(0)).replace(update=jnp.int32(2**30))
    np.testing.assert_allclose(jax.jit(learner.update)(state)[1]["env_steps"], (2**30 + 1) * 20, rtol=1e-7)


def test_an_unknown_algorithm_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="algorithm must be one of impala"):
        make_learner(Config(algorithm="impale"))
