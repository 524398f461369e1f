"""Rejax's PPO as a worker: for each number of learners on stdin, trains that many and answers with what it took.

Runs in an environment of its own, which `ppo.py` makes. Settings come as JSON in the first argument.
"""

import json
import sys
import time

import jax
import numpy as np
from rejax import PPO


def main() -> None:
    settings = json.loads(sys.argv[1])
    algorithm = PPO.create(
        env=settings["env"],
        num_envs=settings["num_envs"],
        num_steps=settings["unroll_length"],
        num_epochs=settings["epochs"],
        num_minibatches=settings["minibatches"],
        learning_rate=settings["learning_rate"],
        gamma=settings["discount"],
        gae_lambda=settings["lambda"],
        clip_eps=settings["clip_epsilon"],
        vf_coef=settings["value_cost"],
        ent_coef=settings["entropy_cost"],
        max_grad_norm=settings["max_grad_norm"],
        total_timesteps=settings["steps"],
        eval_freq=settings["steps"],
        agent_kwargs={"activation": "tanh", "hidden_layer_sizes": (64, 64)},
        skip_initial_evaluation=True,
    ).replace(eval_callback=lambda algorithm, state, rng: ())
    evaluate = PPO.create(env=settings["env"]).eval_callback
    programs = {}
    for line in sys.stdin:
        learners, seed = map(int, line.split())
        keys = jax.random.split(jax.random.key(seed), learners)
        compile_s = None
        if learners not in programs:
            began = time.monotonic()
            programs[learners] = jax.jit(jax.vmap(algorithm.train)).lower(keys).compile()
            compile_s = time.monotonic() - began
        began = time.monotonic()
        state, _ = jax.block_until_ready(programs[learners](keys))
        seconds = time.monotonic() - began
        scores = np.zeros(0)
        if compile_s is not None:  # once a size: what these settings reach
            returns = jax.jit(jax.vmap(lambda s, k: evaluate(algorithm, s, k)[1].mean()))(state, keys)
            scores = np.asarray(returns)
        print(json.dumps({"seconds": seconds, "compile_s": compile_s, "returns": scores.tolist()}), flush=True)


if __name__ == "__main__":
    main()
