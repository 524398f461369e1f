"""Whether every environment of every installed suite trains, and what a pool of resets is worth.

`python -m benchmarks.suites` makes three updates with each id (an hour or two on two cores), writes
`results/suites.json` after every one and says in one line why an id could not. Names of suites take these alone, and
`--sample N` so many ids of each, evenly spread; `--resume` goes on with the record. `--pools` measures steps per second
of Craftax-Classic by the size of its pool, and writes `results/pools.json`. `--quick` writes nowhere.
"""

import argparse
import time
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from benchmarks.harness import RESULTS, in_turn, provenance, read, write
from isjax.environments import registry
from isjax.learner import Config, make_learner

UPDATES = 3
SHAPE: dict[str, Any] = dict(num_envs=2, unroll_length=4, torso=(16,), evaluation_episodes=1)
CRAFTAX = "craftax/Craftax-Classic-Symbolic-v1"


def try_out(env: str) -> dict[str, Any]:
    """Three updates with an environment: whether the learner lives, or what stood against it."""
    began = time.perf_counter()
    try:
        learner = make_learner(Config(env=env, reset_pool=2, **SHAPE))
        state, update = jax.jit(learner.init)(jax.random.key(0)), jax.jit(learner.update)
        for _ in range(UPDATES):
            state, _ = update(state)
        reason = "" if bool(state.alive) else "the learner died"
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    finally:
        jax.clear_caches()
    return {"id": env, "trains": not reason, "reason": reason, "seconds": round(time.perf_counter() - began, 1)}


def ids(suite: str, sample: int) -> list[str]:
    """All ids of a suite, or so many, evenly spread."""
    found = sorted(registry.get_suite(suite).ids())
    if sample:
        found = [
            found[i] for i in np.unique(np.linspace(0, len(found) - 1, min(sample, len(found))).round().astype(int))
        ]
    return found if suite == registry.GYMNAX else [f"{suite}/{each}" for each in found]


def try_all(suites: list[str], sample: int, known: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of each suite that is installed, what was tried, after every id; what is known is not tried again."""
    jax.config.update("jax_disable_most_optimizations", True)  # nearly all of the time is the compiler's
    for suite in suites:
        if not registry.is_installed(suite):
            print(f"{suite}: not installed, {registry.install_command(suite)}", flush=True)
            continue
        tried = {each["id"]: each for each in known.get(suite, {}).get("tried", [])}
        for env in ids(suite, sample):
            if env not in tried:
                tried[env] = try_out(env)
                said = "trains" if tried[env]["trains"] else tried[env]["reason"]
                print(f"  {env}: {said} ({tried[env]['seconds']} s)", flush=True)
            count = sum(each["trains"] for each in tried.values())
            yield suite, {"of": len(registry.get_suite(suite).ids()), "train": count, "tried": list(tried.values())}
        print(f"{suite}: {count} of {len(tried)} train", flush=True)


def pools(turns: int, learners: int = 4) -> dict[str, Any]:
    """Steps per second of whole updates by how resets are drawn, in turn, and how many episodes started alike."""
    choices = {
        "every step": dict(resets_per_unroll=0),
        "one for each environment and unroll": dict(resets_per_unroll=1),
        "pool of 16, one in 128 steps": dict(reset_pool=16),
        "pool of 64, one in 128 steps": dict(reset_pool=64),
    }
    rivals, states, reused = {}, {}, {}
    for name, choice in choices.items():
        config = Config(env=CRAFTAX, num_envs=8, unroll_length=16, torso=(64,), **choice)
        learner = make_learner(config)
        update = jax.jit(jax.vmap(learner.update))
        states[name] = jax.jit(jax.vmap(learner.init))(jax.random.split(jax.random.key(0), learners))

        def go(name: str = name, update: Any = update) -> Any:
            states[name], metrics = update(states[name])
            reused.setdefault(name, []).append([np.sum(metrics.get("resets/reused", 0)), np.sum(metrics["episodes"])])
            return states[name].update

        rivals[name] = go
    taken = in_turn(rivals, turns)
    steps = learners * 8 * 16
    record = {}
    for name, seconds in taken.items():
        again, episodes = np.sum(reused[name], axis=0)
        record[name] = {
            "steps_per_s": steps / float(np.median(seconds)),
            "episodes": int(episodes),
            "started_alike": int(again),
        }
        print(
            f"{name:<36} {record[name]['steps_per_s']:>9,.0f} steps/s, {again:.0f} of {episodes:.0f} alike", flush=True
        )
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(registry.known_suites())}")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="ids of each suite; all if left out")
    parser.add_argument("--resume", action="store_true", help="leave out what is on record")
    parser.add_argument("--pools", action="store_true", help="measure pools of resets instead")
    parser.add_argument("--quick", action="store_true", help="write nothing")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if given.pools:
        found = pools(3 if given.quick else 20)
        if not given.quick:
            write(RESULTS / "pools.json", {**provenance(), "pools": found})
        return
    path = RESULTS / "suites.json"
    known = read(path)["suites"] if given.resume else {}
    for suite, found in try_all(given.suites or list(registry.known_suites()), given.sample, known):
        known[suite] = found
        if not given.quick:
            write(path, {**provenance(), "suites": known})


if __name__ == "__main__":
    main()
