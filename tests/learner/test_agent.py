"""Memories and action masks: what acting stored is what learning finds again."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.learner import Config, Hyper, make_learner
from isjax.learner.learner import make_agent
from isjax.learner.recording import record
from isjax.learner.unroll import act, reset_actors
from tests.learner.probes import Masked, Probe

SMALL = Config(num_envs=4, unroll_length=8, torso=(6,), evaluation_episodes=3)


def with_memory(memory, **settings):
    return dataclasses.replace(SMALL, memory=memory, **settings)


def gap(terms, hyper):
    return jnp.sum(terms.v_tm1), {"gap": jnp.max(jnp.abs(terms.log_pi_tm1 - terms.log_mu_tm1))}


@pytest.mark.parametrize("memory", ["gru", "lstm"])
@pytest.mark.parametrize("ends", ["terminated", "truncated"])
def test_learning_recomputes_what_a_memory_did_across_endings_and_unrolls(memory, ends):
    """Episodes of 3 rows in unrolls of 8: memories are emptied by the previous ending, and carried into the next."""
    config = with_memory(memory, actor_lag=1)
    learner = make_learner(config, environment=Probe(3, ends=ends), objective=gap)
    update = jax.jit(learner.update)
    state = learner.init(jax.random.key(0), Hyper(learning_rate=0.0))
    state = state.replace(
        params=jax.tree.map(lambda x: x + 0.3, state.params), lagging=jax.tree.map(lambda x: x + 0.3, state.lagging)
    )
    for _ in range(3):
        state, metrics = update(state)
        assert metrics["gap"] < 1e-4


@pytest.mark.parametrize("memory", ["gru", "lstm"])
def test_values_with_a_memory_are_those_of_one_step_after_another(memory):
    """At a time limit, the value of the state reached, seen with the memory of the episode that was cut."""
    config = with_memory(memory)
    agent = make_agent(config, environment=Probe(3, ends="truncated"))
    actors = reset_actors(agent.adapter, 4, jax.random.key(0), agent.memory(4))
    params = jax.tree.map(lambda x: x + 0.3, agent.init(jax.random.key(1), actors.observation))

    def act_by(observation, memory):
        params_of_actions, _, memory = agent.step(params, None, observation, memory)
        return params_of_actions, memory

    step = jax.jit(lambda observation, memory: agent.step(params, None, observation, memory))
    run = jax.jit(lambda actors, key: act(agent.adapter, config, act_by, actors, key))
    _, actors, _ = run(actors, jax.random.key(2))
    unroll, _, _ = run(actors, jax.random.key(3))
    seen = jax.jit(lambda unroll: agent.forward_unroll(params, None, unroll))(unroll)
    carry = jax.tree.map(lambda x: x[0], unroll.memory)
    for t in range(8):
        policy, value, carry = step(unroll.observation_tm1[t], carry)
        np.testing.assert_allclose(seen.policy_tm1[t], policy, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(seen.v_tm1[t], value, rtol=1e-5, atol=1e-6)
        for env in range(4):
            if unroll.truncated_t[t, env]:
                reached = unroll.cut_observation[unroll.cut_slot_t[t, env], env]
                own = jax.tree.map(lambda x, env=env: x[env : env + 1], carry)
                policy, value = (x[0] for x in step(reached[None], own)[:2])
            else:
                policy, value = (x[env] for x in step(unroll.observation_tm1[t + 1], carry)[:2])
            np.testing.assert_allclose(seen.policy_t[t, env], policy, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(seen.v_t[t, env], value, rtol=1e-5, atol=1e-6)
        ended = unroll.terminated_t[t] | unroll.truncated_t[t]
        carry = jax.tree.map(lambda x, ended=ended: jnp.where(ended[:, None], 0.0, x), carry)
    assert unroll.truncated_t.sum() >= 8


@pytest.mark.parametrize("memory", ["none", "gru"])
def test_a_masked_action_is_never_taken_by_learner_evaluation_or_recording(memory):
    """The reward of an illegal action is NaN, and the log-probabilities that acting stored are those of the mask."""
    probe = Masked(3)
    config = with_memory(memory, actor_lag=1)
    learner = make_learner(config, environment=probe, objective=gap)
    state = learner.init(jax.random.key(0), Hyper(learning_rate=0.0))
    for _ in range(3):
        state, metrics = jax.jit(learner.update)(state)
        assert metrics["gap"] < 1e-4
        assert np.isfinite(metrics["episode_return"])
    assert np.isfinite(learner.evaluate(state, jax.random.key(1)).episode_return).all()
    recording = record(
        make_agent(config, environment=probe), state, jax.random.key(2), episodes=64, uniform_share=jnp.float32(1.0)
    )
    assert np.isfinite(recording.r_t).all()
    np.testing.assert_allclose(recording.log_mu_tm1[:3], np.log(0.5), rtol=1e-5)


@pytest.mark.parametrize("algorithm", ["impala", "trpo", "ppo-kl"])
def test_learning_under_a_mask_stays_finite(algorithm):
    config = dataclasses.replace(SMALL, algorithm=algorithm, share_torso=algorithm != "trpo")
    learner = make_learner(config, environment=Masked(2))
    state, metrics = (
        jax.jit(lambda s: jax.lax.fori_loop(0, 9, lambda _, s: learner.update(s)[0], s))(
            learner.init(jax.random.key(0))
        ),
        None,
    )
    state, metrics = jax.jit(learner.update)(state)
    assert state.alive
    assert np.isfinite(metrics["loss/grad_norm"])


def test_a_mask_of_continuous_actions_is_refused():
    class Continuous(Masked):
        def action_space(self, params=None):
            return Probe(1).observation_space()

    with pytest.raises(TypeError, match="action_mask is for Discrete actions"):
        make_learner(SMALL, environment=Continuous())
