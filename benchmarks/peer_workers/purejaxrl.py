"""A published script of PureJaxRL or PureJaxQL, of which a copy is given, as a worker: trains whole runs, one or many.

Runs in an environment of its own, which `workers.py` makes. Settings come as JSON in the first argument: `path` of the
script, `config`, the dictionary that its `make_train` takes, and `learners`, over which it is vmapped.
"""

import importlib.metadata
import importlib.util
import json
import sys
import time
from pathlib import Path
from unittest.mock import MagicMock

import flax.linen
import jax

NOT_NEEDED = (
    *("brax", "brax.envs", "brax.envs.wrappers", "brax.envs.wrappers.training", "navix"),
    *("hydra", "omegaconf", "safetensors", "safetensors.flax", "wandb"),
)
"""What the scripts import, and training in gymnax's environments does without."""


def main() -> None:
    settings = json.loads(sys.argv[1])
    path = Path(settings["path"]).absolute()
    sys.path.insert(0, str(path.parent))  # its wrappers lie beside it
    for name in NOT_NEEDED:
        sys.modules.setdefault(name, MagicMock())
    if settings["learners"] > 1:  # the batched QR of orthogonal initializers starves a pool of two threads for good
        flax.linen.initializers.orthogonal = lambda scale: flax.linen.initializers.lecun_normal()
    spec = importlib.util.spec_from_file_location("published", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    config, learners = settings["config"], settings["learners"]
    began = time.monotonic()
    train = script.make_train(dict(config))

    def updates_only(key):
        """What a run came to, without the table of every step of every environment."""
        return train(key)["runner_state"][0].params

    keys = jax.random.split(jax.random.PRNGKey(0), learners)
    train_all = jax.jit(jax.vmap(updates_only)).lower(keys).compile()
    first = {"first_s": time.monotonic() - began}
    print(json.dumps({name: importlib.metadata.version(name) for name in ("gymnax", "jax")} | first), flush=True)
    steps = int(config["TOTAL_TIMESTEPS"]) // (config["NUM_ENVS"] * config["NUM_STEPS"])
    steps *= config["NUM_ENVS"] * config["NUM_STEPS"] * learners
    for turn, _ in enumerate(sys.stdin):
        keys = jax.random.split(jax.random.PRNGKey(turn), learners)
        began = time.monotonic()
        jax.block_until_ready(train_all(keys))
        print(json.dumps({"seconds": time.monotonic() - began, "steps": steps}), flush=True)


if __name__ == "__main__":
    main()
