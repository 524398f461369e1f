"""RLlib's IMPALA as a worker, on the CPU: trains so many steps on CartPole and says how long it took.

Runs in an environment of its own, which `workers.py` makes. Settings come as JSON in the first argument:
`env_runners` and `envs_per_runner`, `options` for `training()`; empty for its defaults.
"""

import importlib.metadata
import json
import sys
import time

import ray
from ray.rllib.algorithms.impala import IMPALAConfig


def sampled(algorithm) -> int:
    """Environment steps so far, after one more of its iterations, which take ten seconds; none may have come in yet."""
    return algorithm.train().get("env_runners", {}).get("num_env_steps_sampled_lifetime", 0)


def main() -> None:
    settings = json.loads(sys.argv[1])
    # Its actors are promised more cores than there may be, or they would wait for them for good.
    ray.init(num_cpus=8, log_to_driver=False, include_dashboard=False, configure_logging=False)
    config = IMPALAConfig().environment("CartPole-v1").training(**settings["options"])
    runners = {"num_env_runners": settings["env_runners"]} if "env_runners" in settings else {}
    if "envs_per_runner" in settings:
        runners["num_envs_per_env_runner"] = settings["envs_per_runner"]
    algorithm = config.env_runners(**runners).build_algo()
    began = time.monotonic()
    taken = sampled(algorithm)
    first = {"first_s": time.monotonic() - began}
    print(json.dumps({name: importlib.metadata.version(name) for name in ("ray", "torch")} | first), flush=True)
    for line in sys.stdin:
        goal, began, before = taken + json.loads(line)["steps"], time.monotonic(), taken
        while taken < goal:
            taken = sampled(algorithm)
        print(json.dumps({"seconds": time.monotonic() - began, "steps": taken - before}), flush=True)
    algorithm.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()
