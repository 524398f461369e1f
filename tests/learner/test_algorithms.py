"""Algorithms by name: what they prepare, what they keep, and what they never exceed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import ops
from isjax.cli import main
from isjax.environments.distributions import Categorical, Gaussian
from isjax.learner import Config, Hyper, make_learner, objectives
from isjax.learner.algorithms import Algorithm, Batch, algorithms, register_algorithm
from isjax.learner.algorithms.targets import corrected_advantage
from isjax.learner.defaults import defaults
from isjax.learner.learner import make_agent
from isjax.learner.learning import Learning
from isjax.learner.uses import get_algorithm
from isjax.run.files import read_json
from isjax.run.table import read_metrics
from isjax.types import Terms
from tests.learner.probes import Probe

SMALL = Config(num_envs=4, unroll_length=8, torso=(8,), evaluation_episodes=2)


def terms_of(key, gap=0.0, rows=7, envs=3):
    keys = jax.random.split(key, 7)
    log_pi, v, v_t, r = (jax.random.normal(k, (rows, envs)) for k in keys[:4])
    terminated, truncated = (jax.random.bernoulli(k, 0.2, (rows, envs)) for k in keys[4:6])
    discount_t, same_episode_t = ops.endings(terminated, truncated, 0.9)
    log_mu = log_pi - gap * jax.random.normal(keys[6], (rows, envs))
    return Terms(log_pi, jnp.zeros_like(r), v, v_t, log_mu, r, discount_t, same_episode_t)


def test_on_policy_advantages_are_those_of_gae():
    terms, hyper = terms_of(jax.random.key(0)), Hyper(lambda_=0.7)
    advantage, target = corrected_advantage(terms, hyper)
    expected = ops.gae(terms.v_tm1, terms.v_t, terms.r_t, terms.discount_t, terms.same_episode_t, lambda_=0.7)
    np.testing.assert_allclose(advantage, expected, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(target - terms.v_tm1, expected, rtol=2e-5, atol=1e-5)


def test_off_policy_advantages_are_those_of_vtrace_without_their_own_ratio():
    terms, hyper = terms_of(jax.random.key(1), gap=0.5), Hyper(lambda_=0.7, clip_pg_rho=1.3)
    log_rho = terms.log_pi_tm1 - terms.log_mu_tm1
    arrays = (terms.v_tm1, terms.v_t, terms.r_t, terms.discount_t, log_rho, terms.same_episode_t)
    expected = ops.vtrace(*arrays, lambda_=0.7, clip_pg_rho=1.3)
    advantage, target = corrected_advantage(terms, hyper)
    np.testing.assert_allclose(target, expected.target_tm1, rtol=1e-6)
    np.testing.assert_allclose(
        ops.clipped_ratio(log_rho, 1.3) * advantage, expected.advantage_tm1, rtol=2e-5, atol=1e-5
    )


def test_emphasis_weighs_policy_and_value_by_the_trace_that_follows_on_over_its_mean():
    """By the recursion of Sutton et al. (2016), step by step; rows that do not count hold NaN."""
    terms, hyper = terms_of(jax.random.key(3), gap=0.5), Hyper(lambda_=0.3, clip_rho=1.2, value_cost=0.7)
    valid = np.ones(terms.r_t.shape, bool)
    valid[5:, 0] = False
    rho = np.minimum(np.exp(terms.log_pi_tm1 - terms.log_mu_tm1), 1.2)
    weight, follow_on = np.zeros(valid.shape), np.zeros(valid.shape[1])
    for t in range(len(weight)):
        goes_on = terms.same_episode_t[t - 1] if t else False
        follow_on = 1.0 + np.where(goes_on, terms.discount_t[t - 1] * rho[t - 1] * follow_on, 0.0)
        weight[t] = np.where(valid[t], 0.3 + 0.7 * follow_on, 0.0)
    weight /= weight.sum() / valid.sum()
    terms = terms._replace(is_valid_t=jnp.asarray(valid), r_t=jnp.where(valid, terms.r_t, jnp.nan))
    arrays = (terms.v_tm1, terms.v_t, terms.r_t, terms.discount_t, terms.log_pi_tm1 - terms.log_mu_tm1)
    found = ops.vtrace(*arrays, terms.same_episode_t, lambda_=0.3, clip_rho=1.2, is_valid_t=terms.is_valid_t)

    def loss(log_pi, v):
        batch = Batch(terms._replace(log_pi_tm1=log_pi, v_tm1=v), *[None] * 5)
        return get_algorithm(dataclasses.replace(SMALL, emphasis=True)).loss(batch, hyper)[0]

    of_policy, of_value = jax.grad(loss, (0, 1))(terms.log_pi_tm1, terms.v_tm1)
    errors = np.where(valid, found.target_tm1 - terms.v_tm1, 0.0)
    np.testing.assert_allclose(of_policy, -weight * found.advantage_tm1 / valid.sum(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(of_value, -0.7 * weight * errors / valid.sum(), rtol=1e-4, atol=1e-6)


def test_an_action_impossible_under_both_policies_has_a_ratio_of_one():
    terms, hyper = terms_of(jax.random.key(2), gap=0.5), Hyper(lambda_=0.7)
    same = terms._replace(log_mu_tm1=terms.log_mu_tm1.at[3, 1].set(terms.log_pi_tm1[3, 1]))
    both = same._replace(
        log_pi_tm1=same.log_pi_tm1.at[3, 1].set(-jnp.inf), log_mu_tm1=same.log_mu_tm1.at[3, 1].set(-jnp.inf)
    )
    jax.tree.map(np.testing.assert_array_equal, corrected_advantage(both, hyper), corrected_advantage(same, hyper))


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_advantages_see_neither_terminal_values_nor_rows_that_do_not_count(garbage):
    terms, hyper = terms_of(jax.random.key(3), gap=0.5), Hyper(lambda_=0.7)
    terms = terms._replace(discount_t=terms.discount_t.at[2, 0].set(0.0))
    spoiled = terms._replace(v_t=jnp.where(terms.discount_t == 0, garbage, terms.v_t))
    jax.tree.map(np.testing.assert_array_equal, corrected_advantage(spoiled, hyper), corrected_advantage(terms, hyper))

    valid = jnp.ones((7, 3), bool).at[4].set(False)
    masked = terms._replace(is_valid_t=valid)
    spoiled = masked._replace(v_tm1=jnp.where(valid, terms.v_tm1, garbage))
    for a, b in zip(corrected_advantage(masked, hyper), corrected_advantage(spoiled, hyper), strict=True):
        np.testing.assert_array_equal(a[valid], b[valid])
    # What is left of a return where the rows that follow do not count ends with the value of the state reached.
    log_rho = terms.log_pi_tm1 - terms.log_mu_tm1
    arrays = (terms.v_tm1, terms.v_t, terms.r_t, terms.discount_t, log_rho, terms.same_episode_t)
    whole = ops.vtrace(*arrays, is_valid_t=valid, lambda_=0.7).advantage_tm1
    advantage = ops.clipped_ratio(log_rho, 1.0) * corrected_advantage(masked, hyper)[0]
    np.testing.assert_allclose(advantage[valid], whole[valid], rtol=2e-5, atol=1e-5)


def updated(updates=1, hyper=None, probe=None, **settings):
    config = dataclasses.replace(SMALL, **settings)
    learner = make_learner(config, environment=probe or Probe(3, reward="action_is_cue"))
    state = jax.jit(learner.init)(jax.random.key(0), hyper or Hyper())
    update = jax.jit(learner.update)
    kept = []
    for _ in range(updates):
        state, metrics = update(state)
        kept.append(metrics)
    return state, kept


@pytest.mark.parametrize(("env", "max_kl"), [("CartPole-v1", 1e-2), ("Pendulum-v1", 1e-3)])
def test_no_step_of_trpo_leaves_its_trust_region(env, max_kl):
    """Both kinds of actions; the KL is that of the step taken, measured on its rows."""
    config = dataclasses.replace(SMALL, env=env, algorithm="trpo", share_torso=False, unroll_length=32)
    learner = make_learner(config)
    state, update = learner.init(jax.random.key(0), Hyper(max_kl=max_kl)), jax.jit(learner.update)
    accepted = 0
    for _ in range(8):
        state, metrics = update(state)
        assert metrics["trust/kl"] <= max_kl * (1 + 1e-3)
        assert metrics["trust/kl_max"] == metrics["trust/kl"]
        accepted += metrics["trust/accepted"]
    assert accepted >= 6


def test_the_critic_of_trpo_leaves_the_policy_where_the_step_put_it():
    """The KL to before, measured after the critic's many steps, is still that of the step."""
    config = dataclasses.replace(SMALL, algorithm="trpo", share_torso=False, epochs=3, minibatches=4)
    agent, probe = make_agent(config, environment=Probe(3)), Probe(3, reward="action_is_cue")
    learner = make_learner(config, environment=probe)
    before = learner.init(jax.random.key(0))
    after, metrics = jax.jit(learner.update)(before)
    observation = jax.random.uniform(jax.random.key(1), (64, 2))
    policy, value, _ = agent.step(after.params, None, observation, ())
    old_policy, old_value, _ = agent.step(before.params, None, observation, ())
    assert np.abs(value - old_value).max() > 1e-3
    assert 0 < np.mean(agent.adapter.actions.kl(old_policy, policy)) < 10 * metrics["trust/kl"]


def test_the_penalty_of_ppo_kl_adapts_to_the_kl_that_an_update_came_to():
    state, kept = updated(6, Hyper(max_kl=1e-6), algorithm="ppo-kl", epochs=3)
    costs = [float(m["kl/cost"]) for m in kept]
    for m, cost, following in zip(kept, costs, costs[1:], strict=False):
        factor = 2.0 if m["kl/update"] > 1.5e-6 else 0.5 if m["kl/update"] < 1e-6 / 1.5 else 1.0
        np.testing.assert_allclose(following, cost * factor)
    assert costs[-1] > costs[0] == 1.0
    assert state.algorithm == costs[-1] * 2.0


@pytest.mark.parametrize("algorithm", ["impala", "pg-is", "ppo-decoupled", "awr"])
def test_the_first_of_several_steps_sees_ratios_of_exactly_one(algorithm):
    _, kept = updated(1, algorithm=algorithm)
    assert kept[0]["ratio/max"] == kept[0]["ratio/min"] == 1.0
    _, kept = updated(1, Hyper(learning_rate=0.05), algorithm=algorithm, epochs=3)
    assert kept[0]["ratio/max"] > 1.0


class Watching(Algorithm):
    """Hands every batch to a function of the host."""

    def __init__(self, config, watch):
        super().__init__(config)
        self.watch = watch

    def loss(self, batch, hyper):
        jax.debug.callback(lambda x: self.watch(jax.tree.map(np.asarray, x)), batch._replace(under=None))
        return jnp.mean(batch.terms.v_tm1), {}


class Prepares(Watching):
    def prepare(self, terms, hyper):
        return terms.r_t + 10.0 * terms.v_tm1, terms.v_tm1


def test_time_steps_are_shuffled_and_their_advantages_are_prepared():
    """Every gradient step sees a permutation's share of time steps, with what was settled before the first one."""
    kept = []
    config = dataclasses.replace(SMALL, epochs=2, minibatches=4)
    learner = make_learner(config, environment=Probe(3, reward="cue"), objective=Prepares(config, kept.append))
    state, _ = jax.jit(learner.update)(learner.init(jax.random.key(0), Hyper(learning_rate=0.1)))
    jax.block_until_ready(state)
    jax.effects_barrier()
    assert [batch.terms.log_pi_tm1.shape for batch in kept] == [(1, 8)] * 8
    advantages = [batch.prepared.advantage_tm1.ravel() for batch in kept]
    np.testing.assert_allclose(*(np.sort(np.concatenate(part)) for part in (advantages[:4], advantages[4:])), rtol=1e-6)
    first, last = kept[0], kept[-1]
    assert np.abs(first.terms.v_tm1 - first.prepared.old_v_tm1).max() < 1e-6
    assert np.abs(last.terms.v_tm1 - last.prepared.old_v_tm1).max() > 1e-3
    expected = last.terms.r_t + 10.0 * last.prepared.old_v_tm1
    np.testing.assert_allclose(last.prepared.advantage_tm1, expected, rtol=1e-5)
    np.testing.assert_allclose(first.prepared.kl_tm1, 0.0, atol=1e-6)


class Exploring(Watching):
    """Acts uniformly, whatever the network says, and keeps the parameters of the start."""

    def init(self, params, hyper):
        return params

    def behave(self, policy, state, hyper):
        return jnp.zeros_like(policy)


@pytest.mark.parametrize("memory", ["none", "gru"])
def test_ratios_are_to_the_distribution_that_acted_and_batches_are_seen_under_what_was_kept(memory):
    kept = []

    class Comparing(Exploring):
        def loss(self, batch, hyper):
            start = batch.under(batch.state)
            moved = jnp.max(jnp.abs(start.policy_t - batch.policy_t))
            return super().loss(batch, hyper)[0], {"own/moved": moved, "own/log_mu": jnp.mean(batch.terms.log_mu_tm1)}

    config = dataclasses.replace(SMALL, memory=memory)
    learner = make_learner(config, environment=Probe(3), objective=Comparing(config, kept.append))
    state = learner.init(jax.random.key(0), Hyper(learning_rate=0.1))
    start, told = state.params, []
    for _ in range(2):
        state, metrics = jax.jit(learner.update)(state)
        told.append(metrics)
    jax.effects_barrier()
    np.testing.assert_allclose([m["own/log_mu"] for m in told], np.log(0.5), rtol=1e-6)
    assert told[0]["own/moved"] == 0 < told[1]["own/moved"]
    assert "ratio/histogram" in told[0]
    jax.tree.map(np.testing.assert_array_equal, state.algorithm, start)
    assert kept[0].terms.log_pi_tm1.shape == kept[0].policy_t.shape[:2] == (8, 4)


OWN = """
import jax, jax.numpy as jnp
from isjax.learner import Algorithm, register_algorithm

@register_algorithm("own-critic")
class Critic(Algorithm):
    uses = ("temperature",)
    defaults = {"unroll_length": 4, "temperature": 2.0}

    def loss(self, batch, hyper):
        terms = batch.terms
        error = jax.lax.stop_gradient(terms.r_t + terms.discount_t * terms.v_t) - terms.v_tm1
        return hyper.temperature * jnp.mean(error**2), {"own/error": jnp.mean(jnp.abs(error))}
"""


def test_an_algorithm_of_ones_own_is_one_file_that_runs_and_sweeps_find_by_name(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_algorithm.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    name, out = "own_algorithm:own-critic", tmp_path / "run"
    small = ["--learners", "1", "--steps", "40", "--num-envs", "2", "--evaluation-episodes", "2", "--quiet", "--out"]
    assert main(["train", "--algorithm", name, *small, str(out)]) == 0
    saved = read_json(out / "config.json")
    assert (saved["config"]["unroll_length"], saved["hyper"]["temperature"]) == (4, 2.0)
    assert "own/error" in read_metrics(out).column_names
    assert main(["train", "--resume", "--out", str(out)]) == 0
    assert main(["train", "--algorithm", name, "--entropy-cost", "0.5", *small, str(tmp_path / "other")]) == 2
    assert f"--entropy-cost must be left alone for {name}, which does not use it" in capsys.readouterr().err
    assert main(["sweep", "--vary", f"algorithm=a2c,{name}", *small, str(tmp_path / "sweep")]) == 0
    del algorithms._classes["own-critic"]


def test_an_algorithm_under_a_name_that_is_taken_is_refused():
    with pytest.raises(ValueError, match="algorithm 'ppo' is taken: choose another name for Watching"):
        register_algorithm("ppo")(Watching)
    with pytest.raises(TypeError, match="algorithm 'own' must be a subclass of Algorithm"):
        register_algorithm("own")(Probe)
    with pytest.raises(ValueError, match=r"algorithm must be one of impala, .* is 'ppo_kl'; did you mean ppo-kl"):
        get_algorithm(Config(algorithm="ppo_kl"))


def test_names_of_version_0_1_are_there_with_a_warning():
    with pytest.warns(DeprecationWarning, match=r"isjax.learner.objectives.Algorithm is isjax.learner.algorithms"):
        assert objectives.Algorithm is Algorithm


@pytest.mark.parametrize("memory", ["gru", "lstm"])
def test_a_memory_keeps_rows_in_order(memory):
    config = dataclasses.replace(SMALL, algorithm="ppo", memory=memory, epochs=2, minibatches=2)
    learner = make_learner(config, environment=Probe(3, reward="action_is_cue"))
    state, metrics = jax.jit(learner.update)(learner.init(jax.random.key(0)))
    assert state.alive
    assert metrics["ratio/max"] > 1.0
    agent = make_agent(config, environment=Probe(3))
    learning = Learning(config, agent, get_algorithm(config))
    assert learning.minibatches(4, jax.random.key(0)).shape == (4, 2)


def test_standardized_advantages_have_mean_0_and_deviation_1():
    learning = Learning(dataclasses.replace(SMALL, normalize_advantages=True), None, None)
    x = learning.standardized(jnp.array([[1.0, 2.0, 6.0]]))
    np.testing.assert_allclose([x.mean(), x.std()], [0.0, 1.0], atol=1e-6)
    assert (learning.standardized(jnp.full((1, 1000), 0.1)) == 0).all()


@pytest.mark.parametrize("algorithm", algorithms.names)
@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1", "Breakout-MinAtar"])
def test_the_defaults_of_every_algorithm_go_together(env, algorithm):
    config, hyper = defaults(env, algorithm)
    assert config.algorithm == algorithm
    assert get_algorithm(config).loss
    hyper.check()


def test_the_kl_of_categoricals_is_exact_and_survives_excluded_actions():
    policy, other = jnp.log(jnp.array([0.2, 0.8, 0.0])), jnp.log(jnp.array([0.5, 0.5, 0.0]))
    expected = 0.2 * np.log(0.4) + 0.8 * np.log(1.6)
    np.testing.assert_allclose(Categorical(3).kl(policy, other), expected, rtol=1e-6)
    assert np.isfinite(jax.grad(lambda x: Categorical(3).kl(policy, x))(other)).all()
    assert Categorical(3).kl(policy, policy) == 0.0


def test_the_kl_of_gaussians_is_that_of_their_samples():
    actions = Gaussian((2,), (-1.0, -1.0), (1.0, 1.0))
    policy, other = jnp.array([0.1, -0.3, -0.5, -0.2]), jnp.array([0.4, 0.2, -0.1, -0.6])
    u = actions.sample(policy[None], actions.noise(jax.random.key(0), (400_000,)))
    log_ratio = actions.log_prob(policy[None], u) - actions.log_prob(other[None], u)
    error = 5 * float(log_ratio.std()) / np.sqrt(log_ratio.size)
    np.testing.assert_allclose(actions.kl(policy, other), log_ratio.mean(), atol=error)
    assert actions.kl(policy, policy) == 0.0
