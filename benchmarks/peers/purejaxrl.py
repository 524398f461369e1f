"""PureJaxRL's published PPO script, of which a copy is given, as a worker: trains whole runs on CartPole.

Runs in an environment of its own, which `workers.py` makes. Settings come as JSON in the first argument: `path` of the
script, and `config`, the dictionary that its `make_train` takes.
"""

import importlib.metadata
import importlib.util
import json
import sys
import time
from pathlib import Path
from unittest.mock import MagicMock

import jax


def main() -> None:
    settings = json.loads(sys.argv[1])
    path = Path(settings["path"]).absolute()
    sys.path.insert(0, str(path.parent))  # its wrappers lie beside it
    for name in ("brax", "brax.envs", "brax.envs.wrappers", "brax.envs.wrappers.training", "navix"):
        sys.modules.setdefault(name, MagicMock())  # imported by the wrappers, not needed for CartPole
    spec = importlib.util.spec_from_file_location("published", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    config = settings["config"]
    began = time.monotonic()
    train = jax.jit(script.make_train(dict(config))).lower(jax.random.PRNGKey(0)).compile()
    first = {"first_s": time.monotonic() - began}
    print(json.dumps({name: importlib.metadata.version(name) for name in ("gymnax", "jax")} | first), flush=True)
    steps = int(config["TOTAL_TIMESTEPS"]) // (config["NUM_ENVS"] * config["NUM_STEPS"])
    steps *= config["NUM_ENVS"] * config["NUM_STEPS"]
    for turn, _ in enumerate(sys.stdin):
        began = time.monotonic()
        jax.block_until_ready(train(jax.random.PRNGKey(turn)))
        print(json.dumps({"seconds": time.monotonic() - began, "steps": steps}), flush=True)


if __name__ == "__main__":
    main()
