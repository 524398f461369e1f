"""Stable-Baselines3 (torch, CPU) and SBX (JAX) as a worker: trains so many steps on CartPole and says how long it took.

Runs in an environment of its own, which `workers.py` makes. Settings come as JSON in the first argument: `algorithm`
(ppo, a2c, sbx-ppo) and `options`, the keyword arguments of its constructor; empty for its defaults.
"""

import importlib.metadata
import json
import sys
import time

import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.env_util import make_vec_env


def main() -> None:
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(1)  # two to four times faster for networks this small than its default
    options = dict(settings["options"])
    envs = make_vec_env("CartPole-v1", n_envs=options.pop("n_envs", 1), seed=0)
    if settings["algorithm"] == "sbx-ppo":
        import sbx

        options.pop("device", None)
        kind = sbx.PPO
    else:
        kind = {"ppo": PPO, "a2c": A2C}[settings["algorithm"]]
        options["device"] = "cpu"
    model = kind("MlpPolicy", envs, seed=0, **options)
    rollout = model.n_steps * model.n_envs
    began = time.monotonic()
    model.learn(2 * rollout)  # whatever compiles, compiles here
    names = ("stable-baselines3", "sbx-rl", "gymnasium", "torch", "jax")
    print(
        json.dumps({name: importlib.metadata.version(name) for name in names} | {"first_s": time.monotonic() - began}),
        flush=True,
    )
    for line in sys.stdin:
        steps = -(-json.loads(line)["steps"] // rollout) * rollout
        began = time.monotonic()
        model.learn(steps)
        print(json.dumps({"seconds": time.monotonic() - began, "steps": steps}), flush=True)


if __name__ == "__main__":
    main()
