"""How near an update comes to its floor: its environment steps, forward passes and gradient, each measured alone.

`python -m benchmarks.floor` takes about four minutes on two cores, writes `results/floor.json` and renews its table in
benchmarks/README.md; `--quick` measures one small case and writes nowhere.
Parts, for the same learners, batched and spread over the cores as a population is, 16 of them on a CPU and 1,024 on an
accelerator:
1. environment: steps of every environment with random actions, on resets drawn as the learner draws them;
2. forward: for every step, the policy of the acting network on one observation of each environment;
3. gradient: one forward and backward pass of the loss for each unroll and gradient step, and the optimizer's step;
4. update: all of it, with sampling, storing and metrics. The floor's share is (1 + 2 + 3) / 4.
"""

import argparse
import dataclasses
import functools
import json
import os

import jax

if __name__ == "__main__":  # before gymnax, which computes on import
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)

import jax.numpy as jnp

from benchmarks.harness import GUIDE, compiled, in_turn, on_accelerator, provenance, publish, seconds, spread
from benchmarks.harness import RESULTS as FOLDER
from benchmarks.readme import rows
from isjax.learner import Config, Hyper, make_learner
from isjax.learner.defaults import defaults
from isjax.learner.learner import _Program, make_agent
from isjax.learner.learning import Learning
from isjax.learner.state import LearnerState
from isjax.learner.unroll import choose_resets, draw_resets, step_and_reset
from isjax.learner.uses import get_algorithm
from isjax.population import _spread, cpu_batch, make_population

RESULTS = FOLDER / "floor.json"
ENVIRONMENTS, TURNS, BLOCK_S = ("CartPole-v1", "Breakout-MinAtar"), 15, 0.2
LEARNERS, LEARNERS_ON_ACCELERATORS = 16, 1024
PARTS = ("environment", "forward", "gradient")
LIKE_FOR_LIKE = dict(unroll_length=20, num_envs=32, epochs=1, minibatches=1, torso=(64, 64), share_torso=False)
"""The shape that a plain IMPALA of others has; activation tanh, as everywhere."""


def cases(env: str) -> dict[str, tuple[Config, Hyper]]:
    config, hyper = defaults(env)
    return {"default": (config, hyper), "like for like": (dataclasses.replace(config, **LIKE_FOR_LIKE), hyper)}


class Parts:
    """The parts of one learner's update; each method does `updates` updates' worth of its part."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.agent = make_agent(config)
        self.program = _Program(config, self.agent, get_algorithm(config, None))

    def environment(self, state: LearnerState, updates: jax.Array):
        """Steps with actions that were drawn before; observations are made, but kept nowhere."""
        adapter, config = self.agent.adapter, self.config
        shape = (config.unroll_length, config.num_envs)
        idle = jnp.zeros((config.num_envs, adapter.actions.num_params))

        def unroll(i, carry):
            action_key, step_key, reset_key = jax.random.split(jax.random.fold_in(state.key, i), 3)
            fresh = draw_resets(adapter, config, reset_key)
            actions = jax.vmap(adapter.actions.sample, (None, 0))(idle, adapter.actions.noise(action_key, shape))

            def step(carry, row):
                now, ends, total = carry
                t, action, keys = row
                chosen = choose_resets(config, fresh, t, ends)
                step_all = jax.vmap(functools.partial(step_and_reset, adapter))
                after, (observation, now) = step_all(keys, now, adapter.actions.execute(action), chosen)
                seen = sum(jnp.sum(x) for x in jax.tree.leaves(observation))
                return (now, ends + after.ended, total + jnp.sum(after.reward) + seen), None

            now, total = carry
            start = (now, jnp.zeros(config.num_envs, jnp.int32), total)
            inputs = (jnp.arange(config.unroll_length), actions, jax.random.split(step_key, shape))
            (now, _, total), _ = jax.lax.scan(step, start, inputs)
            return now, total

        return jax.lax.fori_loop(0, updates, unroll, (state.actors.state, jnp.zeros(())))

    def forward(self, state: LearnerState, unroll, updates: jax.Array):
        """The sum goes from step to step and from unroll to unroll, so that nothing can be moved out of the loops."""
        observations = jax.tree.map(lambda x: x[:-1], unroll.observation_tm1)

        def step(carry, observation):
            memory, total = carry
            policy, _, memory = self.agent.step(state.params, state.observation_moments, observation, memory)
            return (memory, total + jnp.sum(policy)), None

        def unrolled(_, total):
            return jax.lax.scan(step, (state.actors.memory, total), observations)[0][1]

        return jax.lax.fori_loop(0, updates, unrolled, jnp.zeros(()))

    def gradient(self, state: LearnerState, unroll, updates: jax.Array):
        """The learner's own steps on an unroll, without their metrics."""
        learning = Learning(self.config, self.agent, self.program.algorithm)

        def learn(i, state):
            learned = learning.learn(state, unroll, jax.random.fold_in(state.key, i))
            return dataclasses.replace(state, params=learned.params, optimizer=learned.optimizer)

        state = jax.lax.fori_loop(0, updates, learn, state)
        return state.params, state.optimizer


def programs(config: Config, hyper: Hyper, learners: int) -> tuple[dict, dict]:
    """Each part and the update as a function of how many updates; and seconds of compilation."""
    parts, population = Parts(config), make_population(make_learner(config), learners)
    state, _ = population.advance(population.init(jax.random.key(0), hyper), 20)
    unroll = jax.jit(jax.vmap(lambda state: parts.program.act(state, state.key)[0]))(state)

    def spread_out(function, *states):
        def group(*given):
            *states, updates = given
            return jax.vmap(lambda *each: function(*each, updates))(*states)

        batch = learners if on_accelerator() else cpu_batch(state)
        batched = jax.jit(_spread(group, batch, mesh=population.mesh))
        program, compile_s = compiled(batched, states, jnp.int32(1))
        return lambda updates: program(states, jnp.int32(updates)), compile_s

    made = {
        "environment": spread_out(parts.environment, state),
        "forward": spread_out(parts.forward, state, unroll),
        "gradient": spread_out(parts.gradient, state, unroll),
    }
    advance, compile_s = compiled(population.advance, state, jnp.int32(1))
    held = [state]

    def update(updates: int):
        held[0], metrics = advance(held[0], jnp.int32(updates))
        return metrics["alive"]

    # The update gives its state away: the parts have to have one of their own.
    held[0] = jax.tree.map(jnp.copy, state)
    made["update"] = (update, compile_s)
    return {name: each[0] for name, each in made.items()}, {name: each[1] for name, each in made.items()}


def measure(env: str, name: str, config: Config, hyper: Hyper, *, learners: int, turns: int, block_s: float) -> dict:
    functions, compile_s = programs(config, hyper, learners)
    functions["update"](1)
    updates = max(1, int(block_s / seconds(lambda: functions["update"](10)) * 10))
    taken = in_turn({part: lambda run=run: run(updates) for part, run in functions.items()}, turns)
    share = {part: spread([a / b for a, b in zip(taken[part], taken["update"], strict=True)]) for part in PARTS}
    floor = [sum(each) for each in zip(*(taken[part] for part in PARTS), strict=True)]
    record = {
        "environment": env,
        "case": name,
        "config": {key: getattr(config, key) for key in (*LIKE_FOR_LIKE, "activation", "resets_per_unroll")},
        "learners": learners,
        "updates_a_turn": updates,
        "us_per_update_of_all": {part: spread([1e6 * s / updates for s in each]) for part, each in taken.items()},
        "share": share,
        "floor_share": spread([a / b for a, b in zip(floor, taken["update"], strict=True)]),
        "env_steps_per_s": spread([learners * config.steps_per_update * updates / s for s in taken["update"]]),
        "compile_s": compile_s,
    }
    print(env, name, {part: round(x["median"], 2) for part, x in share.items()}, record["floor_share"], flush=True)
    return record


def table(result: dict) -> str:
    """The records as benchmarks/README.md shows them."""
    header = "environment, shape, environment steps, forward passes, gradient, floor's share of the update, steps/s"
    lines = []
    for record in result["records"]:
        shares = [f"{100 * record['share'][part]['median']:.0f} %" for part in PARTS]
        floor = " to ".join(f"{100 * record['floor_share'][q]:.0f}" for q in ("p10", "p90"))
        total = f"{100 * record['floor_share']['median']:.0f} % ({floor})"
        rate = f"{record['env_steps_per_s']['median'] / 1e6:.2f} M"
        lines.append([record["environment"], record["case"], *shares, total, rate])
    note = f"{result['learners']:,} learners; {result['device']}; jax {result['versions']['jax']}."
    return f"{rows(header.split(', '), lines)}\n{note}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small case, nothing is written")
    quick = parser.parse_args().quick
    learners = LEARNERS_ON_ACCELERATORS if on_accelerator() else LEARNERS
    learners, turns, block_s = (2, 2, 0.02) if quick else (learners, TURNS, BLOCK_S)
    records = []
    for env in ENVIRONMENTS[: 1 if quick else None]:
        for name, (config, hyper) in list(cases(env).items())[: 1 if quick else None]:
            records.append(measure(env, name, config, hyper, learners=learners, turns=turns, block_s=block_s))
            jax.clear_caches()
    result = provenance() | {"learners": learners, "turns": turns, "records": records}
    print(json.dumps([record["floor_share"] for record in records]))
    if not quick:
        publish(RESULTS, result, {GUIDE: table(result)})


if __name__ == "__main__":
    main()
