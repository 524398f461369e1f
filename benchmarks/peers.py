"""Steps per second here and in other libraries: with equal settings, and defaults against defaults.

`python -m benchmarks.peers` takes about fifteen minutes on two cores, more when it installs the peers, writes
`results/peers.json` and renews its table in docs/evidence/measured.md; `--only WORD` renews the rows that contain it,
`--quick` tries one out and writes nowhere. Peers are installed, pinned, into environments of their own below
`--environments`: Rejax, Stable-Baselines3 and SBX, RLlib. PureJaxRL is no package: its rows need `--purejaxrl PATH`,
a copy of its ppo.py, and those of PureJaxQL `--purejaxql PATH`, one of its pqn_gymnax.py. Each row is a race in turns,
one learner or 16 on both sides, compilation left out; 16 learners
of peers that are written in JAX are vmapped on one device, as they are shipped, and share its threads. What is equal
stands in the record: environments, rows and passes of an update, step size, discounts, costs and network. What is
not: Stable-Baselines3, SBX and RLlib step environments of Gymnasium in Python; RLlib's actors are processes, and lag
behind.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

if __name__ == "__main__":  # before gymnax, which computes on import
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)

import jax.numpy as jnp

from benchmarks.harness import RESULTS as FOLDER
from benchmarks.harness import on_accelerator, place, provenance, publish, read, spread
from benchmarks.readme import MEASURED, rows
from benchmarks.time_to_return import PUBLISHED, TASKS
from benchmarks.workers import ENVIRONMENTS, Worker
from isjax.learner import Config, Hyper, make_learner
from isjax.learner.defaults import defaults
from isjax.population import make_population
from isjax.run.store import device_name

RESULTS = FOLDER / "peers.json"
TURNS, STEPS, OWN_S = 5, 4_000, 1.0
NETWORK: dict[str, Any] = dict(torso=(64, 64), share_torso=False, activation="tanh")
PPO = Config(
    algorithm="ppo", num_envs=8, unroll_length=128, epochs=4, minibatches=4, normalize_advantages=True, **NETWORK
)
A2C = Config(algorithm="a2c", num_envs=8, unroll_length=16, optimizer="rmsprop", **NETWORK)
IMPALA = Config(num_envs=10, unroll_length=50, torso=(256, 256), share_torso=False)
SHAPE = Config(num_envs=32, unroll_length=20, torso=(64, 64), share_torso=False, activation="tanh")
"""One pass over an unroll of 20 steps: the shape that a plain IMPALA has."""
BREAKOUT = "Breakout-MinAtar"
STEADY = Hyper(learning_rate=2.5e-4, learning_rate_end=1.0)
REJAX = PUBLISHED | dict(steps=102_400, num_envs=8, unroll_length=128, epochs=4, minibatches=4, learning_rate=2.5e-4)
REJAX_BREAKOUT = TASKS[BREAKOUT].rejax | dict(steps=20_480)
SB3 = dict(n_envs=8, learning_rate=2.5e-4, gamma=0.99, gae_lambda=0.95, ent_coef=0.01, vf_coef=0.5, max_grad_norm=0.5)
SB3_PPO = SB3 | dict(n_steps=128, n_epochs=4, batch_size=256, clip_range=0.2)
PUREJAXRL = dict(
    ENV_NAME="CartPole-v1",
    TOTAL_TIMESTEPS=102_400,
    NUM_ENVS=8,
    NUM_STEPS=128,
    UPDATE_EPOCHS=4,
    NUM_MINIBATCHES=4,
    LR=2.5e-4,
    ANNEAL_LR=False,
    GAMMA=0.99,
    GAE_LAMBDA=0.95,
    CLIP_EPS=0.2,
    ENT_COEF=0.01,
    VF_COEF=0.5,
    MAX_GRAD_NORM=0.5,
    ACTIVATION="tanh",
    DEBUG=False,
)
PQN = Config(
    algorithm="pqn",
    num_envs=32,
    unroll_length=64,
    epochs=4,
    minibatches=16,
    torso=(64, 64),
    activation="relu",
    layer_norm=True,
    resets_per_unroll=8,
)
STEADY_Q = Hyper(learning_rate=2.5e-4, learning_rate_end=1.0, max_grad_norm=10.0)
"""ε goes from 1 to 0.05 in a tenth of the run, λ is 0.95 and γ 0.99: these are what is left of the defaults."""
REJAX_PQN = dict(algorithm="pqn", env="CartPole-v1", steps=102_400, num_envs=32, unroll_length=64, epochs=4)
REJAX_PQN |= {"minibatches": 16, "learning_rate": 2.5e-4, "discount": 0.99, "lambda": 0.95, "max_grad_norm": 10.0}
PUREJAXQL = dict(
    ENV_NAME="CartPole-v1",
    TOTAL_TIMESTEPS=102_400,
    TOTAL_TIMESTEPS_DECAY=102_400,
    NUM_ENVS=32,
    NUM_STEPS=64,
    NUM_EPOCHS=4,
    NUM_MINIBATCHES=16,
    EPS_START=1.0,
    EPS_FINISH=0.05,
    EPS_DECAY=0.1,
    HIDDEN_SIZE=64,
    NORM_TYPE="layer_norm",
    LR=2.5e-4,
    MAX_GRAD_NORM=10,
    GAMMA=0.99,
    LAMBDA=0.95,
    TEST_DURING_TRAINING=False,
    WANDB_MODE="disabled",
)
RLLIB = dict(
    env_runners=2,
    envs_per_runner=5,
    options=dict(lr=2.5e-4, gamma=0.99, entropy_coeff=0.01, vf_loss_coeff=0.5, train_batch_size_per_learner=500),
)


class Race(NamedTuple):
    """One row: a peer's worker, and what of ours it is compared with."""

    peer: str
    settings: str
    """Equal, an unroll's shape, or defaults."""
    script: str
    environment: str
    """Of `workers.py`, where it is installed."""
    given: dict[str, Any]
    """What the worker is given."""
    config: Config
    hyper: Hyper
    learners: int = 1

    @property
    def title(self) -> str:
        """What the row is known by."""
        many = f"{self.learners} learner{'s' if self.learners > 1 else ''}"
        return f"{self.peer}, {self.settings}, {self.config.env}, {many}"


def races() -> list[Race]:
    own, many = defaults("CartPole-v1"), 256 if on_accelerator() else 16
    sb3 = ("sb3.py", "sb3")
    return [
        Race("Rejax PPO", "equal", "rejax_learners.py", "rejax", REJAX, PPO, STEADY),
        Race("PureJaxRL PPO", "equal", "purejaxrl.py", "purejaxrl", {"config": PUREJAXRL}, PPO, STEADY),
        Race("SB3 PPO", "equal", *sb3, {"algorithm": "ppo", "options": SB3_PPO}, PPO, STEADY),
        Race("SBX PPO", "equal", *sb3, {"algorithm": "sbx-ppo", "options": SB3_PPO}, PPO, STEADY),
        Race("SB3 A2C", "equal", *sb3, {"algorithm": "a2c", "options": SB3 | dict(n_steps=16)}, A2C, STEADY),
        Race("RLlib IMPALA", "equal", "rllib.py", "rllib", RLLIB, IMPALA, STEADY),
        *(
            Race(
                "PureJaxRL PPO",
                "one pass",
                "purejaxrl.py",
                "purejaxrl",
                {"config": once(env)},
                shape_in(env),
                STEADY,
                many,
            )
            for env in ("CartPole-v1", BREAKOUT)
        ),
        *(
            race
            for learners in (1, many)
            for race in (
                Race("Rejax PQN", "equal", "rejax_learners.py", "rejax", REJAX_PQN, pqn("adam"), STEADY_Q, learners),
                Race(
                    "PureJaxQL PQN",
                    "equal",
                    "purejaxrl.py",
                    "purejaxrl",
                    {"config": PUREJAXQL},
                    pqn("radam"),
                    STEADY_Q,
                    learners,
                ),
            )
        ),
        Race("Rejax PPO", "defaults", "rejax_learners.py", "rejax", PUBLISHED, *own),
        Race("Rejax PPO", "defaults", "rejax_learners.py", "rejax", PUBLISHED, *own, many),
        Race("Rejax PPO", "defaults", "rejax_learners.py", "rejax", REJAX_BREAKOUT, *defaults(BREAKOUT), many),
        Race("SB3 PPO", "defaults", *sb3, {"algorithm": "ppo", "options": {}}, *own),
        Race("SBX PPO", "defaults", *sb3, {"algorithm": "sbx-ppo", "options": {}}, *own),
        Race("SB3 A2C", "defaults", *sb3, {"algorithm": "a2c", "options": {}}, *own),
        Race("RLlib IMPALA", "defaults", "rllib.py", "rllib", {"options": {}}, *own),
    ]


def shape_in(env: str) -> Config:
    """Our settings in that shape; of CartPole, four episodes never end within 20 steps, since the shortest takes 8."""
    return dataclasses.replace(SHAPE, env=env, resets_per_unroll=3 if env == "CartPole-v1" else 1)


def pqn(optimizer: Any) -> Config:
    """Our settings of PQN, for as long as a peer trains, with its optimizer."""
    return dataclasses.replace(PQN, steps=REJAX_PQN["steps"], optimizer=optimizer)


def once(env: str) -> dict[str, Any]:
    """PureJaxRL's PPO with one pass over the whole of each short unroll."""
    shape = dict(NUM_ENVS=SHAPE.num_envs, NUM_STEPS=SHAPE.unroll_length, UPDATE_EPOCHS=1, NUM_MINIBATCHES=1)
    return PUREJAXRL | shape | dict(ENV_NAME=env, TOTAL_TIMESTEPS=32_000)


def ours(config: Config, hyper: Hyper, learners: int, own_s: float) -> tuple[Callable[[], float], float]:
    """A function that trains for about `own_s` seconds and gives steps per second; and seconds of compilation."""
    population = make_population(make_learner(config), learners)
    state = population.init(jax.random.key(0), hyper)
    began = time.perf_counter()
    program = population.advance.lower(state, jnp.int32(1)).compile()
    compile_s = time.perf_counter() - began
    held = [state]

    def train(updates: int) -> float:
        began = time.perf_counter()
        held[0], _ = jax.block_until_ready(program(held[0], jnp.int32(updates)))
        return learners * updates * config.steps_per_update / (time.perf_counter() - began)

    train(1)
    updates = max(1, int(own_s * train(5) / config.steps_per_update / learners))
    return lambda: train(updates), compile_s


def theirs(worker: Worker, race: Race, steps: int) -> Callable[[], float]:
    """A function that trains for about so many steps and gives steps per second."""

    def train() -> float:
        if race.environment == "rejax":
            seconds = worker.ask(do="train", learners=race.learners, seed=0)["seconds"]
            return race.learners * race.given["steps"] / seconds
        answer = worker.ask(steps=steps)
        return answer["steps"] / answer["seconds"]

    return train


def measure(race: Race, given: argparse.Namespace) -> dict[str, Any]:
    """The record of one row; one that says why, if the peer cannot be run here."""
    turns, own_s, steps = (1, 0.1, 2_000) if given.quick else (TURNS, OWN_S, STEPS)
    settings = race.given
    if race.environment == "purejaxrl":
        settings = settings | {"path": str(script_of(race.peer, given)), "learners": race.learners}
    record: dict[str, Any] = {"title": race.title, "peer": race.peer, "settings": race.settings}
    record |= {"environment": race.config.env, "learners": race.learners, "peer_settings": race.given}
    record["isjax_settings"] = shown(race.config, race.hyper)
    print(f"{race.title}:\n{json.dumps(race.given)}\n{json.dumps(record['isjax_settings'])}", flush=True)
    try:
        worker = Worker(race.script, race.environment, settings, given.environments)
    except (RuntimeError, subprocess.CalledProcessError) as error:
        print(f"{race.peer} does not run here: {error}", flush=True)
        return record | {"failed": type(error).__name__}
    them, (us, compile_s) = theirs(worker, race, steps), ours(race.config, race.hyper, race.learners, own_s)
    them()
    pairs = [(us(), them()) for _ in range(turns)]
    worker.close()
    record |= {
        "versions_of_peer": worker.versions,
        "isjax_steps_per_s": spread([a for a, _ in pairs]),
        "peer_steps_per_s": spread([b for _, b in pairs]),
        "times_faster": spread([a / b for a, b in pairs]),
        "compile_s": compile_s,
    }
    print(race.title, record["times_faster"], flush=True)
    return record


def script_of(peer: str, given: argparse.Namespace) -> Path | None:
    """The copy that was given of a peer that is no package."""
    return {"PureJaxRL": given.purejaxrl, "PureJaxQL": given.purejaxql}.get(peer.split()[0])


def shown(config: Config, hyper: Hyper) -> dict[str, Any]:
    """Our settings, as far as peers have the like."""
    names = "algorithm num_envs unroll_length epochs minibatches torso share_torso activation optimizer"
    return {name: getattr(config, name) for name in names.split()} | {k: float(v) for k, v in vars(hyper).items()}


def table(result: dict) -> str:
    """The records as the page shows them."""
    columns, lines = ("peer", "settings", "environment", "learners"), []
    for record in result["records"]:
        if "failed" in record:
            continue
        own, peer, faster = (record[name] for name in ("isjax_steps_per_s", "peer_steps_per_s", "times_faster"))
        times = f"{faster['median']:,.1f} ({faster['p10']:,.1f} to {faster['p90']:,.1f})"
        algorithm = record["isjax_settings"]["algorithm"]
        lines.append(
            [
                *(str(record[name]) for name in columns),
                f"{peer['median']:,.0f}",
                algorithm,
                f"{own['median']:,.0f}",
                times,
            ]
        )
    header = [*columns, "its steps/s", "against isjax", "steps/s here", "times faster"]
    versions = [x for r in result["records"] for x in r.get("versions_of_peer", {}).items()]
    found = sorted({f"{name} {version}" for name, version in versions if isinstance(version, str)})
    note = f"Peers: {', '.join(found)}; isjax: jax {result['versions']['jax']}; {result['device']}."
    return f"{rows(header, lines)}\n{note}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="where to install peers")
    parser.add_argument("--purejaxrl", type=Path, help="a copy of PureJaxRL's ppo.py, its wrappers beside it")
    parser.add_argument("--purejaxql", type=Path, help="a copy of PureJaxQL's pqn_gymnax.py")
    parser.add_argument("--only", default="", help="leave rows that do not contain this word as they are")
    parser.add_argument("--quick", action="store_true", help="one turn of the first row, nothing is written")
    given = parser.parse_args()
    kept = place(RESULTS, device_name(jax.devices()))
    records = {r["title"]: r for r in read(kept)["records"]} if kept.exists() else {}
    known = {race.title: race for race in races()}
    is_here = {name: race.environment != "purejaxrl" or script_of(race.peer, given) for name, race in known.items()}
    chosen = [name for name in known if given.only in name and is_here[name]]
    for name in chosen[: 1 if given.quick else None]:
        records[name] = measure(known[name], given)
        if not given.quick:  # row by row: one that is interrupted costs no other
            found = [records[name] for name in known if name in records]
            result = provenance(jax.devices()) | {"turns": TURNS, "cores": os.cpu_count(), "records": found}
            publish(RESULTS, result, {MEASURED: table(result)})


if __name__ == "__main__":
    main()
