"""Memories against one time step after another, and against a loop in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.learner import Config, Hyper, make_learner
from isjax.learner.learner import make_agent
from isjax.learner.unroll import act, expand, reset_actors
from isjax.networks import memories, take_steps
from tests.learner.probes import Probe

NAMES = [name for name in memories.names if name != "none"]
STEPS, BATCH, WIDTH, WINDOW = 9, 3, 8, 4


def emptied(memory, where):
    return jax.tree.map(lambda x: jnp.where(expand(where, x), jnp.zeros_like(x), x), memory)


def assert_close(found, expected):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), found, expected)


def example(name, seed=0):
    """A module, its parameters far from their start, features and first steps, and a memory that is half full."""
    module = memories.get(name)(width=WIDTH, window=WINDOW)
    keys = jax.random.split(jax.random.key(seed), 4)
    x = jax.random.normal(keys[0], (STEPS, BATCH, WIDTH))
    is_first = jax.random.bernoulli(keys[1], 0.25, (STEPS, BATCH))
    needed = jnp.zeros((1, BATCH), jnp.int32)
    params = module.init(keys[2], x, module.start(BATCH), is_first, needed)
    leaves, tree = jax.tree.flatten(params)
    noise = jax.random.split(keys[3], len(leaves))
    params = tree.unflatten([x + 0.3 * jax.random.normal(key, x.shape) for x, key in zip(leaves, noise, strict=True)])
    before = module.apply(params, x[:3] + 1.0, module.start(BATCH), is_first[:3], jnp.full((1, BATCH), 2))[1]
    return module, params, x, is_first, jax.tree.map(lambda x: x[0], before)


def one_by_one(module, params, x, is_first, memory):
    ys, after = [], []
    apply = jax.jit(module.apply)
    for t in range(x.shape[0]):
        memory = emptied(memory, is_first[t])
        no = jnp.zeros((1, BATCH), bool)
        y, found = apply(params, x[t : t + 1], memory, no, jnp.zeros((1, BATCH), jnp.int32))
        memory = jax.tree.map(lambda x: x[0], found)
        ys.append(y[0])
        after.append(memory)
    return jnp.stack(ys), jax.tree.map(lambda *each: jnp.stack(each), *after)


@pytest.mark.parametrize("name", NAMES)
def test_a_sequence_is_one_step_after_another_and_gives_the_memories_that_are_needed(name):
    module, params, x, is_first, memory = example(name)
    expected, after = one_by_one(module, params, x, is_first, memory)
    needed = jnp.array([[0, 8, 3], [5, 5, 0]])
    y, found = jax.jit(module.apply)(params, x, memory, is_first, needed)
    assert_close(y, expected)
    assert_close(found, take_steps(after, needed))


@pytest.mark.parametrize("name", NAMES)
def test_a_first_step_knows_nothing_of_what_was_before(name):
    module, params, x, is_first, memory = example(name)
    is_first = is_first.at[4].set(True)
    needed = jnp.full((1, BATCH), 6)
    y, found = module.apply(params, x, memory, is_first, needed)
    other, found_other = module.apply(
        params, x.at[:4].add(7.0), emptied(memory, jnp.ones(BATCH, bool)), is_first, needed
    )
    np.testing.assert_array_equal(y[4:], other[4:])
    jax.tree.map(np.testing.assert_array_equal, found, found_other)


def test_attention_sees_the_window_of_its_episode_and_no_more():
    """The paper's sums in a loop: softmax over the last `window` steps and the present one."""
    module, params, x, is_first, _ = example("attention")
    y, _ = module.apply(params, x, module.start(BATCH), is_first, jnp.zeros((1, BATCH), jnp.int32))
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])
    x64 = np.asarray(x, np.float64)
    normal = (x64 - x64.mean(-1, keepdims=True)) / np.sqrt(x64.var(-1, keepdims=True) + 1e-6)
    normal = normal * p["norm"]["scale"] + p["norm"]["bias"]
    query, key, value = (
        np.einsum("tbw,whd->tbhd", normal, p[name]["kernel"]) + p[name]["bias"] for name in ("query", "key", "value")
    )
    for b in range(BATCH):
        start = 0
        for t in range(STEPS):
            start = t if is_first[t, b] else start
            seen = range(max(start, t - WINDOW), t + 1)
            found = np.zeros(query.shape[2:])
            for h in range(query.shape[2]):
                score = [query[t, b, h] @ key[s, b, h] / np.sqrt(query.shape[3]) + p["bias"][t - s, h] for s in seen]
                weight = np.exp(score) / np.exp(score).sum()
                found[h] = sum(w * value[s, b, h] for w, s in zip(weight, seen, strict=True))
            expected = x64[t, b] + np.einsum("hd,hdw->w", found, p["out"]["kernel"]) + p["out"]["bias"]
            np.testing.assert_allclose(y[t, b], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_values_at_time_limits_are_those_of_a_loop_for_every_learner(name):
    """Two learners at once; episodes of 3 steps in unrolls of 8, the second of which starts within an episode."""
    config = Config(num_envs=2, unroll_length=8, torso=(6,), memory=name, memory_window=3)
    agent = make_agent(config, environment=Probe(3, ends="truncated"))

    def start(key):
        actors = reset_actors(agent.adapter, 2, key, agent.memory(2))
        params = jax.tree.map(lambda x: x + 0.3, agent.init(key, actors.observation))
        return params, actors

    def unrolled(params, actors, key):
        def policy(observation, memory):
            policy, _, memory = agent.step(params, None, observation, memory)
            return policy, memory

        first_key, key = jax.random.split(key)
        _, actors, _ = act(agent.adapter, config, policy, actors, first_key)
        unroll, _, _ = act(agent.adapter, config, policy, actors, key)
        return unroll, agent.forward_unroll(params, None, unroll)

    params, actors = jax.vmap(start)(jax.random.split(jax.random.key(0), 2))
    unrolls, seen = jax.jit(jax.vmap(unrolled))(params, actors, jax.random.split(jax.random.key(1), 2))
    step = jax.jit(lambda params, observation, memory: agent.step(params, None, observation, memory))
    for learner in range(2):
        own, unroll, found = jax.tree.map(lambda x, i=learner: x[i], (params, unrolls, seen))
        assert unroll.truncated_t.sum() >= 4
        memory = jax.tree.map(lambda x: x[0], unroll.memory)
        for t in range(8):
            _, value, memory = step(own, unroll.observation_tm1[t], memory)
            assert_close(found.v_tm1[t], value)
            reached = take_steps(unroll.cut_observation, unroll.cut_slot_t[t])
            reached = jnp.where(unroll.truncated_t[t][:, None], reached, unroll.observation_tm1[t + 1])
            assert_close(found.v_t[t], step(own, reached, memory)[1])
            memory = emptied(memory, unroll.terminated_t[t] | unroll.truncated_t[t])


@pytest.mark.parametrize("name", NAMES)
def test_a_learner_among_others_learns_as_it_does_alone(name):
    window = dict(memory_window=3) if name == "attention" else {}
    config = Config(num_envs=2, unroll_length=4, torso=(6,), memory=name, optimizer="sgd", **window)
    learner = make_learner(config, environment=Probe(3, ends="truncated"))
    states = jax.vmap(learner.init)(jax.random.split(jax.random.key(0), 3))
    together, metrics = jax.jit(jax.vmap(learner.update))(states)
    alone, _ = jax.jit(learner.update)(jax.tree.map(lambda x: x[1], states))
    assert metrics["alive"].all()
    assert_close(jax.tree.map(lambda x: x[1], together.params), alone.params)


@pytest.mark.learning
def test_attention_learns_what_it_has_to_remember():
    config = Config(
        env="MemoryChain-bsuite",
        env_params=("memory_length=10",),
        memory="attention",
        memory_window=16,
        torso=(32,),
        num_envs=16,
        unroll_length=32,
        steps=60_000,
        evaluation_episodes=64,
    )
    learner = make_learner(config)
    state = learner.init(jax.random.key(0), Hyper())

    @jax.jit
    def train(state):
        return jax.lax.fori_loop(0, config.updates, lambda _, state: learner.update(state)[0], state)

    evaluate = jax.jit(learner.evaluate)
    assert evaluate(state, jax.random.key(1)).episode_return.mean() < 0.5
    assert evaluate(train(state), jax.random.key(1)).episode_return.mean() == 1.0
