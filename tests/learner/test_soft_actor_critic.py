"""Soft actor-critic in the learner: targets of an unroll, what moves at which rate, limits of time, refusals."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from isjax.cli import main
from isjax.learner import Config, Hyper, make_learner
from isjax.learner.algorithms.soft_actor_critic import SoftActorCritic
from isjax.learner.defaults import defaults
from isjax.learner.learner import make_agent
from isjax.learner.learning import Learning
from isjax.learner.uses import check_settings, get_algorithm
from isjax.run.files import read_json
from isjax.run.policy import load
from tests.learner.probes import Probe

SMALL = Config(algorithm="sac", num_envs=4, unroll_length=8, torso=(8,), heads="state-std", evaluation_episodes=2)
FAST = Hyper(learning_rate=1e-2, critic_learning_rate=1e-2, temperature_learning_rate=1e-2, discount=0.5)


class BoxProbe(Probe):
    """Pays 1, or 1 − (a − 3 − 2 cue)² for an action of the Box [0, 8]."""

    def step_env(self, key, state, action, params):
        observation, after, _, terminated, info = super().step_env(key, state, action, params)
        miss = jnp.square(jnp.squeeze(action) - 3.0 - 2.0 * state.cue) if self.reward == "cue" else 0.0
        return observation, after, 1.0 - miss, terminated, info

    def action_space(self, params=None):
        return spaces.Box(0.0, 8.0, (1,))


def trained(updates, probe, hyper, **settings):
    """`(state, metrics)` after so many updates."""
    learner = make_learner(dataclasses.replace(SMALL, steps=updates * 32, **settings), environment=probe)
    state = jax.jit(learner.init)(jax.random.key(0), hyper)
    state = jax.jit(lambda s: jax.lax.fori_loop(1, updates, lambda _, s: learner.update(s)[0], s))(state)
    return jax.jit(learner.update)(state)


def test_targets_are_the_sums_that_define_them_on_an_unroll_with_time_limits_and_resets():
    """Episodes of 3 steps in unrolls of 8: cuts, resets and the end of the unroll, each critic asked by hand."""
    probe, hyper = BoxProbe(3, ends="truncated", reward="cue"), Hyper(discount=0.9, lambda_=0.7, temperature=0.3)
    learner, agent = make_learner(SMALL, environment=probe), make_agent(SMALL, environment=probe)
    state = learner.init(jax.random.key(0), hyper)
    other = learner.init(jax.random.key(1), hyper).params
    state = state.replace(algorithm=other["critics"])
    unroll = _acted(learner, state)
    algorithm = get_algorithm(SMALL)
    batch = Learning(SMALL, agent, algorithm).batch(state.params, state, unroll, jax.random.key(3))
    found = np.asarray(algorithm.returns(batch, state.hyper))

    rows, envs = unroll.r_t.shape
    reached = np.array(unroll.observation_tm1[1:])
    assert unroll.truncated_t.any()
    for t, b in np.argwhere(unroll.truncated_t):
        reached[t, b] = unroll.cut_observation[unroll.cut_slot_t[t, b], b]
        assert reached[t, b, 1] == 1.0
    policy, _, _ = agent.step(state.params, None, jnp.array(reached.reshape(-1, 2)), ())
    mean, std = np.split(np.array(policy, float).reshape(rows, envs, 2), 2, axis=-1)
    std = np.exp(std)
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(3), 1), (rows, envs, 1))
    u = mean + std * np.array(noise, float)
    log_pi = (-0.5 * np.array(noise, float) ** 2 - np.log(std * np.sqrt(2 * np.pi)) - np.log(1 - np.tanh(u) ** 2))[
        ..., 0
    ]

    def least(observation, action):
        x = jnp.array(np.concatenate([observation, np.tanh(action)], -1).reshape(-1, 3), jnp.float32)
        critics = state.algorithm["params"]
        each = []
        for i in range(2):
            h = jnp.tanh(x @ critics["torso"]["dense_0"]["kernel"][i] + critics["torso"]["dense_0"]["bias"][i][None])
            each.append(h @ critics["value"]["kernel"][i] + critics["value"]["bias"][i][None])
        return np.min(np.array(each, float), axis=0).reshape(rows, envs)

    q, v = least(np.array(unroll.observation_tm1[:-1]), np.array(unroll.action_tm1)), least(reached, u) - 0.3 * log_pi
    log_rho = np.array(batch.terms.log_pi_tm1 - unroll.log_mu_tm1, float)
    expected = np.zeros((rows, envs))
    for t, b in np.ndindex(rows, envs):
        total, weight = q[t, b], 1.0
        for k in range(t, rows):
            total += weight * (unroll.r_t[k, b] + 0.9 * v[k, b] - q[k, b])
            if unroll.truncated_t[k, b] or k + 1 == rows:
                break
            weight *= 0.9 * 0.7 * min(1.0, np.exp(log_rho[k + 1, b]))
        expected[t, b] = total
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


def _acted(learner, state):
    """An unroll of another policy than that of the state."""
    program = learner.update.__self__
    behavior = state.replace(params=program.init(jax.random.key(2)).params)
    return program.act(behavior, jax.random.key(4))[0]


@pytest.mark.parametrize("lambda_", [0.0, 1.0])
def test_a_time_limit_is_no_end_of_the_rewards_to_come(lambda_):
    """1 / (1 − γ) = 5, entropy costing next to nothing; an end would give at most 1.75."""
    hyper = dataclasses.replace(FAST, discount=0.8, lambda_=lambda_, temperature=1e-4, polyak_rate=0.5)
    hyper = dataclasses.replace(hyper, temperature_learning_rate=0.0)
    settings = dict(replay_fraction=0.5, replay_size=20, minibatches=4)
    state, metrics = trained(400, BoxProbe(3, ends="truncated", shows_time=False), hyper, **settings)
    assert state.alive
    np.testing.assert_allclose([metrics["q/taken"], metrics["q/target"]], 5.0, atol=0.3)
    np.testing.assert_allclose(metrics["entropy/temperature"], 1e-4, rtol=1e-5)


def test_the_entropy_is_kept_where_each_learner_wants_it_and_the_best_action_is_found():
    """One step pays 1 − (a − 3 − 2 cue)²: the mode finds 3 and 5 of [0, 8], though learners' entropies differ."""
    config = dataclasses.replace(SMALL, torso=(32,), replay_fraction=0.5, replay_size=50, minibatches=4, steps=32 * 500)
    probe = BoxProbe(1, reward="cue")
    learner, agent = make_learner(config, environment=probe), make_agent(config, environment=probe)
    aims = np.float32([-1.0, -2.0])
    hyper = dataclasses.replace(FAST, temperature_learning_rate=3e-2, target_entropy=jnp.array(aims)).as_arrays(2)
    states = jax.vmap(learner.init)(jax.random.split(jax.random.key(0), 2), hyper)
    states = jax.jit(lambda s: jax.lax.fori_loop(0, 500, lambda _, s: jax.vmap(learner.update)(s)[0], s))(states)
    _, metrics = jax.jit(jax.vmap(learner.update))(states)
    np.testing.assert_allclose(metrics["loss/entropy"], aims, atol=0.35)
    assert metrics["entropy/temperature"][0] > metrics["entropy/temperature"][1] > 0.0
    for i in range(2):
        one = jax.tree.map(lambda x, i=i: x[i], states)
        policy, _ = agent.policy(one, jnp.array([[0.0, 0.0], [1.0, 0.0]]), ())
        np.testing.assert_allclose(
            agent.adapter.actions.execute(agent.adapter.actions.mode(policy))[:, 0], [3, 5], atol=0.4
        )


@pytest.mark.parametrize("still", ["policy", "critics", "log_temperature"])
def test_each_part_moves_at_a_rate_of_its_own(still):
    rates = {
        "policy": "learning_rate",
        "critics": "critic_learning_rate",
        "log_temperature": "temperature_learning_rate",
    }
    learner = make_learner(SMALL, environment=BoxProbe(3))
    before = learner.init(jax.random.key(0), dataclasses.replace(FAST, polyak_rate=0.25, **{rates[still]: 0.0}))
    after, _ = jax.jit(learner.update)(before)
    for part in rates:
        moved = max(
            np.abs(x - y).max()
            for x, y in zip(jax.tree.leaves(before.params[part]), jax.tree.leaves(after.params[part]), strict=True)
        )
        assert moved == 0 if part == still else 9e-3 < moved < 1.1e-2  # Adam's first step is the rate itself.
    expected = jax.tree.map(lambda x, y: 0.75 * x + 0.25 * y, before.params["critics"], after.params["critics"])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), after.algorithm, expected)


def test_each_gradient_step_draws_anew():
    seen = []

    class Watching(SoftActorCritic):
        def loss(self, batch, hyper):
            jax.debug.callback(lambda x: seen.append(tuple(x.tolist())), jax.random.key_data(batch.critics.key))
            return super().loss(batch, hyper)

    config = dataclasses.replace(SMALL, minibatches=4)
    learner = make_learner(config, environment=BoxProbe(3), objective=Watching(config))
    state, update = learner.init(jax.random.key(0)), jax.jit(learner.update)
    for _ in range(2):
        state, _ = update(state)
    jax.effects_barrier()
    assert len(set(seen)) == len(seen) == 8


def test_a_learner_goes_on_bit_for_bit_with_a_lag_and_a_replay_and_beside_one_that_dies():
    config = dataclasses.replace(SMALL, actor_lag=1, replay_fraction=0.5, replay_size=3, minibatches=2)
    learner = make_learner(config, environment=BoxProbe(3, reward="cue"))
    update = jax.jit(jax.vmap(learner.update))

    def started(rate):
        hyper = dataclasses.replace(FAST, critic_learning_rate=jnp.array([1e-2, rate])).as_arrays(2)
        return jax.vmap(learner.init)(jax.random.split(jax.random.key(0), 2), hyper)

    state, beside = started(1e-2), started(1e30)
    for _ in range(3):
        (state, metrics), (beside, other) = update(state), update(beside)
    assert metrics["alive"].tolist() == [True, True]
    assert other["alive"].tolist() == [True, False]
    assert metrics["ratio/ess_fraction"].max() < 1.0
    there = jax.device_get(state.replace(key=jax.random.key_data(state.key)))
    back = jax.tree.map(jnp.asarray, there)
    back, _ = update(back.replace(key=jax.random.wrap_key_data(back.key)))
    state, _ = update(state)
    for x, y in zip(jax.tree.leaves(state.replace(key=None)), jax.tree.leaves(back.replace(key=None)), strict=True):
        np.testing.assert_array_equal(x, y)
    beside, _ = update(beside)
    for x, y in zip(jax.tree.leaves(state.params), jax.tree.leaves(beside.params), strict=True):
        np.testing.assert_array_equal(x[0], y[0])
        assert np.isfinite(y[1]).all()


def test_a_run_is_trained_recorded_evaluated_swept_and_its_best_learner_saved(tmp_path):
    run, log = tmp_path / "run", tmp_path / "log.parquet"
    small = ["--env", "Pendulum-v1", "--algorithm", "sac", "--steps", "64", "--torso", "8", "--quiet"]
    small += ["--evaluation-episodes", "2"]
    assert main(["train", *small, "--learners", "2", "--out", str(run)]) == 0
    assert main(["record", str(run), "--out", str(log), "--episodes", "4", "--behavior", "mixture:0.2"]) == 0
    assert main(["evaluate", str(log), "--discount", "0.98"]) == 0
    assert main(["best", str(run), "--episodes", "2"]) == 0
    assert read_json(tmp_path / "log.parquet.json")["true_value"]["mean"] < 0
    action, _ = load(run / "best").act(jnp.array([[1.0, 0.0, 0.0]]))
    assert np.abs(action).max() <= 2.0
    vary = ["--vary", "target_entropy=-1,-0.5", "--vary", "polyak_rate=0.1,0.2"]
    assert main(["sweep", *small, *vary, "--learners", "1", "--out", str(tmp_path / "sweep")]) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            dict(env="CartPole-v1"),
            "algorithm must be one for the environment's actions, which are no Box, but it is sac",
        ),
        (dict(box_actions="clip"), "box_actions must be tanh for sac, .* but it is clip"),
        (dict(share_torso=False), "share_torso must be on for sac, .* but it is off"),
        (dict(memory="gru"), "network must be of dense layers, without memory, for sac, .* but it is mlp with gru"),
        (dict(network="conv"), "network must suit the observation"),
        (dict(heads="dueling"), "heads must be for Box actions as well"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message):
    config = dataclasses.replace(SMALL, env="Pendulum-v1")
    with pytest.raises(ValueError, match=message):
        make_learner(dataclasses.replace(config, **changes)).init(jax.random.key(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(entropy_cost=0.5), "entropy_cost must be left alone for sac"),
        (dict(n_step=3), "n_step must be left alone for sac"),
        (dict(critic_learning_rate=-1.0), "critic_learning_rate must be at least 0, but it is -1"),
        (dict(target_entropy=np.inf), "target_entropy must be a number that float32 can hold"),
        (dict(temperature=0.0), "temperature must be greater than 0"),
    ],
)
def test_numbers_that_have_no_say_or_are_out_of_range_are_refused(changes, message):
    config, hyper = defaults("Pendulum-v1", "sac")
    static = {name: x for name, x in changes.items() if hasattr(Config, name)}
    rest = {name: x for name, x in changes.items() if name not in static}
    with pytest.raises(ValueError, match=message):
        check_settings(dataclasses.replace(config, **static), dataclasses.replace(hyper, **rest))


@pytest.mark.parametrize("env", ["Pendulum-v1", "MountainCarContinuous-v0", "brax/hopper"])
def test_the_defaults_of_every_environment_go_together(env):
    check_settings(*defaults(env, "sac"))
