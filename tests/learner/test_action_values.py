"""Algorithms of action values: returns against their definitions, who acts, target networks, and what is recorded."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import ope, ops
from isjax.cli import main
from isjax.environments.distributions import Categorical
from isjax.learner import Config, Hyper, make_learner
from isjax.learner.algorithms import Batch, algorithms, value_policies
from isjax.learner.algorithms.action_values import ActionValues
from isjax.learner.algorithms.value_traces import Return
from isjax.learner.defaults import defaults
from isjax.learner.learner import make_agent
from isjax.learner.recording import record
from isjax.learner.uses import check_settings, get_algorithm
from isjax.run.files import read_json
from isjax.run.policy import load
from isjax.types import Terms
from tests.learner.probes import Masked, Probe

NAMES = tuple(name for name in algorithms.names if algorithms.get(name).has_action_values)
SMALL = Config(num_envs=4, unroll_length=8, torso=(8,), evaluation_episodes=2)
ROWS, ENVS, ACTIONS = 6, 2, 3
DISCOUNT, LAMBDA, SIGMA, CLIP = 0.9, 0.7, 0.3, 1.2


# Returns, against the sums that define them.


class Case:
    """An unroll whose environment 0 terminates in row 1 and is cut in row 3; a state excludes its action 2."""

    def __init__(self, seed=0):
        x = np.random.default_rng(seed)
        shape = (ROWS, ENVS, ACTIONS)
        self.q_tm1, self.q_t, self.own_tm1, self.own_t = x.normal(size=(4, *shape))
        for q in (self.q_tm1, self.own_tm1):
            q[2, 1, 2] = -np.inf
        for q in (self.q_t, self.own_t):
            q[1, 1, 2] = -np.inf
        self.action = x.integers(0, 2, (ROWS, ENVS))
        self.r_t, self.log_mu = x.normal(size=(ROWS, ENVS)), np.log(x.uniform(0.2, 0.9, (ROWS, ENVS)))
        self.terminated, self.truncated = np.zeros((2, ROWS, ENVS), bool)
        self.terminated[1, 0] = self.truncated[3, 0] = True
        self.discount = np.where(self.terminated, 0.0, DISCOUNT)
        self.ended = self.terminated | self.truncated

    def batch(self, algorithm, hyper):
        """As the learner sees it: its own values, and those of the target network under `under`."""
        discount_t, same_episode_t = ops.endings(jnp.array(self.terminated), jnp.array(self.truncated), DISCOUNT)
        state = algorithm.init({}, hyper)._replace(updates=jnp.int32(5))
        own = jnp.asarray(self.own_tm1, jnp.float32), jnp.asarray(self.own_t, jnp.float32)
        seen = jnp.asarray(self.q_tm1, jnp.float32), jnp.asarray(self.q_t, jnp.float32)
        v_tm1, v_t = (algorithm.value(q, None, state, hyper) for q in own)
        log_pi = ops.at_action(algorithm.target_policy(own[0], state, hyper), jnp.asarray(self.action))
        none = jnp.zeros((ROWS, ENVS))
        rows = (jnp.asarray(x, jnp.float32) for x in (self.log_mu, self.r_t))
        terms = Terms(log_pi, none, v_tm1, v_t, *rows, discount_t, same_episode_t)
        under = Batch(terms, *seen, jnp.asarray(self.action), state, None)
        return Batch(terms, *own, jnp.asarray(self.action), state, lambda params: under)

    def taken(self, x):
        return np.take_along_axis(x, self.action[..., None], -1)[..., 0]


def probabilities(q, epsilon):
    """ε-greedy, of the legal actions."""
    legal = np.isfinite(q)
    greedy = np.arange(q.shape[-1]) == np.argmax(q, -1)[..., None]
    return legal * epsilon / legal.sum(-1, keepdims=True) + (1 - epsilon) * greedy


def mean_value(pi, q):
    return np.sum(np.where(pi > 0, pi * np.where(np.isfinite(q), q, 0.0), 0.0), -1)


def by_sums(case, q, v, factor):
    """`Q_t + Σ_k γ^{k−t} (Π c) δ_k`, from each row to the end of its episode or of the unroll."""
    found = np.zeros((ROWS, ENVS))
    for b in range(ENVS):
        for t in range(ROWS):
            weight, total = 1.0, q[t, b]
            for k in range(t, ROWS):
                total += weight * (case.r_t[k, b] + case.discount[k, b] * v[k, b] - q[k, b])
                if case.ended[k, b] or k + 1 == ROWS:
                    break
                weight *= case.discount[k, b] * LAMBDA * factor[k + 1, b]
            found[t, b] = total
    return found


def by_lambda(case, v, lambda_):
    """The mixture `(1 − λ) Σ λ^{n−1} G^{(n)} + λ^{N−1} G^{(N)}` of n-step returns that bootstrap from `v`."""
    found = np.zeros((ROWS, ENVS))
    for b in range(ENVS):
        for t in range(ROWS):
            end = next((k for k in range(t, ROWS) if case.ended[k, b]), ROWS - 1)
            n_step = []
            for stop in range(t, end + 1):
                rewards = sum(DISCOUNT ** (k - t) * case.r_t[k, b] for k in range(t, stop + 1))
                n_step.append(rewards + DISCOUNT ** (stop - t) * case.discount[stop, b] * v[stop, b])
            weights = [(1 - lambda_) * lambda_**n for n in range(len(n_step))]
            weights[-1] = lambda_ ** (len(n_step) - 1)
            found[t, b] = np.dot(weights, n_step)
    return found


def sarsa_values(case, q, v):
    """Of the action taken next, where the unroll has it; the mean otherwise."""
    found = v.copy()
    found[:-1] = np.where(case.ended[:-1], v[:-1], case.taken(q)[1:])
    return found


def found_by(name, case, hyper, **changes):
    algorithm = get_algorithm(Config(algorithm=name, steps=12_800, **changes))
    batch = case.batch(algorithm, hyper)
    if algorithm.prepare is not None:
        return np.asarray(algorithm.prepare(batch.terms, hyper)[1])
    return np.asarray(algorithm.returns(batch, hyper).target_tm1)


HYPER = Hyper(
    discount=DISCOUNT,
    lambda_=LAMBDA,
    sigma=SIGMA,
    target_epsilon=0.4,
    epsilon_start=0.5,
    epsilon_end=0.5,
    clip_rho=CLIP,
)


@pytest.mark.parametrize("double_q", [False, True])
@pytest.mark.parametrize("name", ["expected-sarsa", "dqn", "retrace", "tree-backup", "q-sigma"])
def test_a_return_with_a_target_network_is_the_sum_that_defines_it(name, double_q):
    case = Case()
    epsilon = 0.0 if name == "dqn" else 0.4
    choosing = (case.own_tm1, case.own_t) if double_q else (case.q_tm1, case.q_t)
    pi_tm1, pi_t = (probabilities(q, epsilon) for q in choosing)
    q, v, pi = case.taken(case.q_tm1), mean_value(pi_t, case.q_t), case.taken(pi_tm1)
    rho = pi / np.exp(case.log_mu)
    factor = {
        "retrace": np.minimum(1, rho),
        "tree-backup": pi,
        "q-sigma": SIGMA * rho + (1 - SIGMA) * pi,
    }.get(name, np.zeros_like(pi))
    found = found_by(name, case, HYPER, double_q=double_q)
    np.testing.assert_allclose(found, by_sums(case, q, v, factor), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["q-learning", "sarsa", "pqn"])
def test_a_return_without_a_target_network_is_the_sum_that_defines_it(name):
    case = Case(1)
    v = mean_value(probabilities(case.own_t, 0.5 if name == "sarsa" else 0.0), case.own_t)
    expected = {
        "q-learning": by_lambda(case, v, 0.0),
        "sarsa": by_lambda(case, sarsa_values(case, case.own_tm1, v), LAMBDA),
        "pqn": by_lambda(case, v, LAMBDA),
    }
    np.testing.assert_allclose(found_by(name, case, HYPER), expected[name], rtol=1e-5, atol=1e-5)


def test_values_of_a_softmax_policy_are_its_means():
    case, temperature = Case(2), 0.8
    weights = np.exp(case.q_t / temperature)
    v = mean_value(weights / weights.sum(-1, keepdims=True), case.q_t)
    found = found_by("expected-sarsa", case, Hyper(target_temperature=temperature), target_policy="softmax")
    np.testing.assert_allclose(found, case.r_t + case.discount * v, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("correction", ["ratios", "none"])
def test_a_loss_of_three_steps_weighs_what_the_target_policy_would_have_done(correction):
    """S&B 2018, section 7.3: the ratios of the actions after the first one, before the state bootstrapped from."""
    case, n = Case(3), 3
    pi = case.taken(probabilities(case.q_tm1, 0.0))
    v, q = mean_value(probabilities(case.q_t, 0.0), case.q_t), case.taken(case.own_tm1)
    losses = []
    for b in range(ENVS):
        for t in range(ROWS):
            total, weight = 0.0, 1.0
            for k in range(t, min(t + n, ROWS)):
                weight *= pi[k, b] / np.exp(case.log_mu[k, b]) if k > t else 1.0
                total += DISCOUNT ** (k - t) * case.r_t[k, b]
                if case.ended[k, b] or k + 1 in (t + n, ROWS):
                    total += DISCOUNT ** (k - t) * case.discount[k, b] * v[k, b]
                    break
            weight = min(weight, CLIP) if correction == "ratios" else 1.0
            losses.append(weight * 0.5 * (total - q[t, b]) ** 2)
    algorithm = get_algorithm(Config(algorithm="dqn", n_step=n, n_step_correction=correction))
    loss, metrics = algorithm.loss(case.batch(algorithm, HYPER), HYPER)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics["q/taken"], q.mean(), rtol=1e-5)


def test_only_the_value_of_the_action_taken_gets_a_gradient():
    case, algorithm = Case(4), get_algorithm(Config(algorithm="retrace", target_network="none"))
    batch = case.batch(algorithm, HYPER)
    legal = jnp.isfinite(batch.policy_tm1)

    def loss(x, y):
        own = batch._replace(policy_tm1=jnp.where(legal, x, -jnp.inf), policy_t=y)
        return algorithm.loss(own, HYPER)[0]

    gradient, other = jax.grad(loss, (0, 1))(jnp.where(legal, batch.policy_tm1, 0.0), batch.policy_t)
    is_taken = np.arange(ACTIONS) == case.action[..., None]
    assert (gradient != 0)[is_taken].all()
    assert (gradient[~is_taken] == 0).all()
    assert (other == 0).all()


# Who acts.


def trained(learner, updates, hyper):
    """The state after so many updates, by one program."""

    def run(key):
        return jax.lax.fori_loop(0, updates, lambda _, s: learner.update(s)[0], learner.init(key, hyper))

    return jax.jit(run)(jax.random.key(0))


@pytest.mark.parametrize("ties", ["first", "average"])
def test_an_epsilon_greedy_policy_is_what_is_sampled_and_what_its_log_probabilities_say(ties):
    q = jnp.array([1.0, 2.0, -jnp.inf, 2.0])
    log_mu = value_policies.epsilon_greedy(q, 0.3, ties)
    best = [0.7, 0.0] if ties == "first" else [0.35, 0.35]
    np.testing.assert_allclose(np.exp(log_mu), [0.1, 0.1 + best[0], 0.0, 0.1 + best[1]], rtol=1e-6)
    actions, count = Categorical(4), 40_000
    sampled = actions.sample(log_mu[None], actions.noise(jax.random.key(0), (count,)))
    shares = np.bincount(np.asarray(sampled), minlength=4) / count
    assert shares[2] == 0
    np.testing.assert_allclose(shares, np.exp(log_mu), atol=5 * 0.5 / math.sqrt(count))
    np.testing.assert_allclose(actions.log_prob(log_mu, jnp.arange(4)), log_mu, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("temperature", "expected"), [(1e-30, [0, 1, 0]), (1e30, [0.5, 0.5, 0]), (np.inf, [0.5, 0.5, 0])]
)
def test_a_softmax_policy_is_greedy_or_uniform_at_the_ends_of_its_temperature(temperature, expected):
    log_pi = value_policies.softmax(jnp.array([-1e3, 1e3, -jnp.inf]), temperature)
    np.testing.assert_allclose(np.exp(log_pi), expected, atol=1e-6)


def test_exploration_anneals_in_its_share_of_the_run_and_then_stays():
    config = Config(steps=12_800)
    hyper = Hyper(exploration_share=0.5, epsilon_end=0.2, behavior_temperature=np.inf, behavior_temperature_end=2.0)
    found = [value_policies.exploration(config, jnp.int32(u), hyper) for u in (0, 25, 50, 99, 200)]
    np.testing.assert_allclose([x.epsilon for x in found], [1.0, 0.6, 0.2, 0.2, 0.2], rtol=1e-6)
    np.testing.assert_allclose([x.temperature for x in found], [np.inf, np.inf, 2.0, 2.0, 2.0])
    at_once = value_policies.exploration(config, jnp.int32(0), Hyper(exploration_share=0.0, epsilon_end=0.2))
    np.testing.assert_allclose(at_once.epsilon, 0.2)


@pytest.mark.parametrize(("name", "exploration"), [("pqn", "epsilon-greedy"), ("retrace", "softmax")])
def test_no_illegal_action_is_taken_learned_from_or_evaluated(name, exploration):
    """An illegal action would pay NaN. The best legal one is 2, or 1 where 2 were illegal."""
    config = dataclasses.replace(SMALL, algorithm=name, exploration=exploration, steps=32 * 200)
    learner = make_learner(config, environment=Masked(3))
    state = trained(learner, 200, Hyper(learning_rate=1e-2, discount=0.5, epsilon_start=0.5))
    assert state.alive
    returns = jax.jit(learner.evaluate)(state, jax.random.key(1)).episode_return
    np.testing.assert_allclose(returns, 6.0)


# What is kept.


@functools.cache
def history(updates, **settings):
    """States from the start on, of a learner that learns from an environment with a time limit; and its update."""
    learner = make_learner(dataclasses.replace(SMALL, **settings), environment=Probe(3, ends="truncated"))
    states, update = [jax.jit(learner.init)(jax.random.key(0))], jax.jit(learner.update)
    for _ in range(updates):
        states.append(update(states[-1])[0])
    return states, update


PERIODIC = dict(algorithm="dqn", target_period=3, actor_lag=1, replay_fraction=0.5, replay_size=5, replay_priority=True)


def test_a_target_network_is_copied_after_every_period_and_not_in_between():
    states, _ = history(7, **PERIODIC)
    copied = [0, 0, 0, 3, 3, 3, 6, 6]
    for state, source in zip(states, copied, strict=True):
        jax.tree.map(np.testing.assert_array_equal, state.algorithm.target, states[source].params)
    assert [int(state.algorithm.updates) for state in states] == list(range(8))


def test_a_target_network_follows_by_its_rate():
    states, _ = history(3, algorithm="dqn", target_network="polyak")
    expected = states[0].params
    for state in states[1:]:
        expected = jax.tree.map(lambda old, new: 0.99 * old + 0.01 * new, expected, state.params)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), state.algorithm.target, expected
        )


def test_a_network_of_action_values_has_no_other_head():
    def parameters(**settings):
        learner = make_learner(dataclasses.replace(SMALL, algorithm="pqn", **settings), environment=Probe(3))
        return jax.eval_shape(learner.init, jax.random.key(0)).params["params"]["heads"]

    heads = parameters()
    assert heads["action_values"]["kernel"].shape == (8, 2)
    assert list(heads) == ["action_values"]
    assert sorted(parameters(heads="dueling")) == ["advantage", "value"]


@pytest.mark.parametrize("settings", [dict(algorithm="pqn", heads="hl-gauss", epochs=2, minibatches=2), PERIODIC])
def test_a_state_that_was_taken_off_the_device_goes_on_bit_for_bit(settings):
    states, update = history(7, **settings)
    state = states[-1]
    there = dataclasses.replace(state, key=jax.random.key_data(state.key))
    back = jax.tree.map(jnp.asarray, jax.device_get(there))
    back = dataclasses.replace(back, key=jax.random.wrap_key_data(back.key))
    again, _ = update(back)
    state, metrics = update(state)
    assert metrics["alive"]
    for x, y in zip(jax.tree.leaves(state.replace(key=None)), jax.tree.leaves(again.replace(key=None)), strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_fraction_of_one_learns_from_replay_alone():
    seen = []

    class Watching(algorithms.get("dqn")):
        def loss(self, batch, hyper):
            jax.debug.callback(lambda x: seen.append(np.asarray(x)), batch.terms.r_t)
            return super().loss(batch, hyper)

    config = dataclasses.replace(SMALL, algorithm="dqn", replay_fraction=1.0, replay_size=50)
    learner = make_learner(config, environment=Probe(3, reward="cue"), objective=Watching(config))
    state, update = jax.jit(learner.init)(jax.random.key(0)), jax.jit(learner.update)
    for _ in range(4):
        state, metrics = update(state)
    jax.effects_barrier()
    assert {x.shape for x in seen} == {(8, 4)}
    stored = np.asarray(state.replay.unrolls.r_t)[:4].transpose(0, 2, 1).reshape(-1, 8)
    for column in seen[-1].T:
        assert (stored == column).all(1).any()
    assert metrics["alive"]


# Learning, evaluation, records.


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("pqn", dict(heads="hl-gauss", value_min=-10.0, value_max=10.0, value_bins=21)),
        ("sarsa", dict()),
        ("retrace", dict(replay_fraction=0.5, replay_priority=True)),
        ("dqn", dict()),
    ],
)
def test_a_time_limit_is_no_end_of_the_rewards_to_come(name, settings):
    """1 / (1 − γ) = 5 for both actions; an end would give 1.75, and the next episode's value no less than it is."""
    config = Config(algorithm=name, num_envs=16, unroll_length=8, torso=(16,), steps=1500 * 128, **settings)
    probe = Probe(3, ends="truncated", shows_time=False)
    learner, agent = make_learner(config, environment=probe), make_agent(config, environment=probe)
    state = trained(learner, 1500, Hyper(learning_rate=1e-2, discount=0.8))
    q, _, _ = agent.step(state.params, None, jnp.array([[0.0, 0.0], [1.0, 0.0]]), ())
    np.testing.assert_allclose(q, 5.0, atol=0.25)


def test_the_greedy_policy_is_what_is_evaluated_and_recorded():
    """Off-policy estimates of the greedy policy from ε-greedy data cover what evaluating it comes to."""
    config = dataclasses.replace(SMALL, algorithm="q-learning", steps=32 * 500, evaluation_episodes=16)
    probe = Probe(3, reward="action_is_cue")
    learner, agent = make_learner(config, environment=probe), make_agent(config, environment=probe)
    state = trained(learner, 500, Hyper(learning_rate=1e-2))
    worth = float(jax.jit(learner.evaluate)(state, jax.random.key(1)).episode_return.mean())
    assert worth == 3.0
    recording = record(agent, state, jax.random.key(2), episodes=4000, uniform_share=0.4)
    assert set(np.unique(np.round(np.exp(recording.log_mu_tm1[:3]), 4))) == set(np.float32([0.2, 0.8]))
    assert set(np.unique(np.exp(recording.log_pi_tm1[:3]))) == {0.0, 1.0}
    log = recording.as_log()
    estimate = ope.per_decision_is(log.log_rho_tm1, log.r_t, 1.0, log.is_valid_t)
    assert abs(estimate.value - worth) < 4 * estimate.standard_error
    assert recording.r_t.sum(0).mean() < 2.7


def test_who_acted_in_training_can_act_in_a_record():
    config = dataclasses.replace(SMALL, algorithm="pqn", exploration="softmax")
    learner, agent = make_learner(config, environment=Probe(3)), make_agent(config, environment=Probe(3))
    hyper = Hyper(exploration_share=0.0, behavior_temperature_end=np.inf)
    state = jax.jit(learner.init)(jax.random.key(0), hyper)
    recording = record(agent, state, jax.random.key(2), episodes=16, explores=True)
    np.testing.assert_allclose(np.exp(recording.log_mu_tm1[:3]), 0.5, rtol=1e-6)
    assert set(np.unique(np.exp(recording.log_pi_tm1[:3]))) == {0.0, 1.0}


def test_a_run_is_trained_recorded_evaluated_and_its_best_learner_saved(tmp_path):
    run, log = tmp_path / "run", tmp_path / "log.parquet"
    flags = ["--algorithm", "retrace", "--learners", "2", "--steps", "400", "--num-envs", "4", "--quiet"]
    assert main(["train", *flags, "--evaluation-episodes", "2", "--out", str(run)]) == 0
    assert main(["record", str(run), "--out", str(log), "--episodes", "50", "--behavior", "training"]) == 0
    assert main(["evaluate", str(log), "--discount", "0.98"]) == 0
    assert main(["best", str(run), "--episodes", "4"]) == 0
    assert read_json(tmp_path / "log.parquet.json")["true_value"]["mean"] > 5
    policy = load(run / "best")
    observation = jnp.zeros((3, 4))
    actions = [policy.act(observation, key=key)[0] for key in (None, jax.random.key(0))]
    np.testing.assert_array_equal(*actions)


# Histograms of values.


def test_values_are_the_means_of_histograms_that_are_learned_by_their_cross_entropy():
    settings = dict(heads="hl-gauss", value_min=-3.0, value_max=5.0, value_bins=4)
    config = dataclasses.replace(SMALL, algorithm="retrace", replay_fraction=0.5, **settings)
    agent, observation = make_agent(config, environment=Probe(3)), jax.random.normal(jax.random.key(1), (6, 2))
    params = jax.jit(agent.init)(jax.random.key(0), observation)
    kernel = params["params"]["heads"]["bins"]["kernel"]
    assert kernel.shape == (8, 2 * 4)
    q, logits, _ = agent.step(jax.tree.map(lambda x: 30 * x, params), None, observation, ())
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(q, probs @ [-2.0, 0.0, 2.0, 4.0], rtol=1e-4, atol=1e-5)
    # Probabilities of the bins under a Gaussian of 0.75 of their width, those beyond the ends left out.
    target, weight = np.array([[0.3, -9.0, 5.0], [4.4, 1.0, 1.0]]), np.array([[1.0, 0.5, 0.2], [0.0, 1.0, 2.0]])
    action = np.array([[0, 1, 1], [0, 0, 1]])
    cdf = np.vectorize(lambda x: 0.5 * (1 + math.erf(x / math.sqrt(2))))
    below = cdf((np.array([-3.0, -1.0, 1.0, 3.0, 5.0]) - np.clip(target, -3.0, 5.0)[..., None]) / 1.5)
    bins = np.diff(below, axis=-1) / (below[..., -1:] - below[..., :1])
    taken = np.take_along_axis(np.asarray(probs).reshape(2, 3, 2, 4), action[..., None, None], 2)[:, :, 0]
    expected = np.mean(weight * -np.sum(bins * np.log(taken), -1))
    case, algorithm = Case(), get_algorithm(config)
    terms = case.batch(algorithm, HYPER).terms
    terms = jax.tree.map(lambda x: x[:2, :1].repeat(3, 1), terms)._replace(weight_tm1=jnp.asarray(weight, jnp.float32))
    batch = Batch(terms, q.reshape(2, 3, 2), None, jnp.asarray(action), None, None, logits.reshape(2, 3, 2, 4))
    loss, _ = algorithm.regression(batch, Return(jnp.asarray(target, jnp.float32)), HYPER)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


# Settings.


@pytest.mark.parametrize("name", NAMES)
def test_a_box_is_refused_in_one_line(name):
    with pytest.raises(ValueError, match=f"algorithm must be one without action values .* but it is {name}"):
        make_learner(Config(env="Pendulum-v1", algorithm=name))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("pqn", dict(double_q=True), "double_q must be off where there is no target network"),
        ("dqn", dict(double_q=True, target_network="none"), "double_q must be off where there is no target network"),
        ("sarsa", dict(replay_fraction=0.5), "replay_fraction must be left alone for sarsa"),
        ("pqn", dict(replay_fraction=0.5), "replay_fraction must be 0 for pqn"),
        ("pqn", dict(share_torso=False), "share_torso must be on for pqn, whose network gives action values"),
        ("q-learning", dict(target_network="polyak"), "target_network must be left alone for q-learning"),
        ("retrace", dict(n_step=3), "n_step must be left alone for retrace"),
        ("dqn", dict(n_step=0), "n_step must be at least 1, but it is 0"),
        ("dqn", dict(target_period=0), "target_period must be at least 1, but it is 0"),
        ("dqn", dict(replay_fraction=1.5), r"replay_fraction must be in \[0, 1\], but it is 1.5"),
        ("dqn", dict(epsilon_end=1.5), r"epsilon_end must be in \[0, 1\], but it is 1.5"),
        ("retrace", dict(target_temperature=0.5), "target_temperature must be left alone for retrace"),
        ("pqn", dict(exploration="softmax", epsilon_end=0.5), "epsilon_end must be left alone for pqn"),
        ("pqn", dict(entropy_cost=0.5), "entropy_cost must be left alone for pqn"),
        (
            "impala",
            dict(replay_fraction=0.5, replay_priority=True),
            "replay_priority must be off for impala, which",
        ),
        ("impala", dict(heads="hl-gauss"), "heads must be one of policies for impala, which has no action values"),
        (
            "dqn",
            dict(replay_fraction=0.0, replay_priority=True),
            "replay_priority must be .*re replay_fraction is 0",
        ),
        ("dqn", dict(priority_exponent=0.5), "priority_exponent must be left alone where replay_priority is off"),
        ("dqn", dict(value_bins=5), "value_bins must be left alone where heads is linear"),
        ("dqn", dict(value_min=200.0), "value_max must be more than value_min, which is 200, but it is 100"),
    ],
)
def test_settings_that_have_no_say_or_are_out_of_range_are_refused(name, changes, message):
    config, hyper = defaults("CartPole-v1", name)
    static = {key: x for key, x in changes.items() if hasattr(Config, key)}
    rest = {key: x for key, x in changes.items() if key not in static}
    with pytest.raises(ValueError, match=message):
        check_settings(dataclasses.replace(config, **static), dataclasses.replace(hyper, **rest))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("env", ["CartPole-v1", "MountainCar-v0", "Asterix-MinAtar"])
def test_the_defaults_of_every_environment_go_together(env, name):
    config, hyper = defaults(env, name)
    check_settings(config, hyper)
    assert isinstance(get_algorithm(config), ActionValues)
