"""Rejax's PPO or PQN as a worker: trains whole runs, or goes on step by step for as long as it is asked.

Runs in an environment of its own, which `workers.py` makes. Settings come as JSON in the first argument.
"""

import importlib.metadata
import json
import sys
import time

import jax
import numpy as np
from rejax import PPO, PQN


class Rejax:
    """Answers to questions, by the name of what to do."""

    def __init__(self, settings: dict) -> None:
        self.settings = settings
        own = dict(
            env=settings["env"],
            num_envs=settings["num_envs"],
            num_steps=settings["unroll_length"],
            num_epochs=settings["epochs"],
            num_minibatches=settings["minibatches"],
            learning_rate=settings["learning_rate"],
            gamma=settings["discount"],
            max_grad_norm=settings["max_grad_norm"],
            total_timesteps=settings["steps"],
            eval_freq=settings["steps"],
            skip_initial_evaluation=True,
        )
        kind = {"ppo": PPO, "pqn": PQN}[settings.get("algorithm", "ppo")]
        if kind is PQN:
            own |= dict(td_lambda=settings["lambda"])
        else:
            own |= dict(
                gae_lambda=settings["lambda"],
                clip_eps=settings["clip_epsilon"],
                vf_coef=settings["value_cost"],
                ent_coef=settings["entropy_cost"],
                agent_kwargs={"activation": "tanh", "hidden_layer_sizes": (64, 64)},
            )
        self.algorithm = kind.create(**own).replace(eval_callback=lambda algorithm, state, rng: ())
        self.evaluation = kind.create(env=settings["env"]).eval_callback
        self.programs = {}
        self.state = None

    def scores(self, state, seed: int) -> list[float]:
        """Of each learner: its mean return over Rejax's own 128 episodes, with actions sampled."""
        if "scores" not in self.programs:
            each = jax.vmap(lambda s, k: self.evaluation(self.algorithm, s, k)[1].mean())
            self.programs["scores"] = jax.jit(each)
        keys = jax.random.split(jax.random.key(seed), len(jax.tree.leaves(state)[0]))
        return np.asarray(self.programs["scores"](state, keys)).tolist()

    def train(self, learners: int, seed: int) -> dict:
        """A whole run of all learners in one call."""
        keys = jax.random.split(jax.random.key(seed), learners)
        compile_s, returns = None, []
        if learners not in self.programs:
            began = time.monotonic()
            self.programs[learners] = jax.jit(jax.vmap(self.algorithm.train)).lower(keys).compile()
            compile_s = time.monotonic() - began
        began = time.monotonic()
        state, _ = jax.block_until_ready(self.programs[learners](keys))
        seconds = time.monotonic() - began
        if compile_s is not None and learners > 1:  # once a size: what these settings reach
            returns = self.scores(state, seed + 1)
        return {"seconds": seconds, "compile_s": compile_s, "returns": returns}

    def start(self, learners: int, seed: int, iterations: int) -> dict:
        """Learners at their beginning, and a program of so many iterations of each."""

        def advance(state):
            return jax.lax.fori_loop(0, iterations, lambda _, s: self.algorithm.train_iteration(s), state)

        keys, compile_s = jax.random.split(jax.random.key(seed), learners), 0.0
        began = time.monotonic()
        if "init" not in self.programs:
            self.programs["init"] = jax.jit(jax.vmap(self.algorithm.init_state)).lower(keys).compile()
            self.state = self.programs["init"](keys)
            self.programs["advance"] = jax.jit(jax.vmap(advance), donate_argnums=0).lower(self.state).compile()
            compile_s = time.monotonic() - began
            self.scores(self.state, seed)
        self.state = jax.block_until_ready(self.programs["init"](keys))
        return {"compile_s": compile_s, "steps": iterations * self.algorithm.num_envs * self.algorithm.num_steps}

    def advance(self, seed: int) -> dict:
        """The next iterations, timed, and then an evaluation, which is not."""
        began = time.monotonic()
        self.state = jax.block_until_ready(self.programs["advance"](self.state))
        return {"seconds": time.monotonic() - began, "returns": self.scores(self.state, seed)}


def main() -> None:
    worker = Rejax(json.loads(sys.argv[1]))
    print(json.dumps({name: importlib.metadata.version(name) for name in ("rejax", "gymnax", "jax")}), flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        print(json.dumps(getattr(worker, question.pop("do"))(**question)), flush=True)


if __name__ == "__main__":
    main()
