"""What each algorithm reaches with its defaults: 16 learners on CartPole-v1, or Pendulum-v1 where actions have to be
continuous, a memory where one is needed, and a task that is seldom solved by chance.

`python -m benchmarks.algorithms` takes about ten minutes on two cores, writes `results/algorithms.json` and renews
the table in docs/evidence/measured.md; `--quick` trains for a fraction of the steps and writes nowhere; `--only NAME`
renews the records whose command names that.
"""

import argparse
import tempfile
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.defaults import run
from benchmarks.harness import RESULTS as FOLDER
from benchmarks.harness import publish, read
from benchmarks.readme import MEASURED, rows
from isjax.learner.algorithms import algorithms

RESULTS = FOLDER / "algorithms.json"
MEMORY = "--env MemoryChain-bsuite --env-params memory_length=10 --learners 16"
MOUNTAIN_CAR = (
    "--env MountainCar-v0 --algorithm dqn --learners 10 --steps 400000 --unroll-length 16 --n-step 5"
    " --n-step-correction none --replay-fraction 0.875 --replay-size 1000 --minibatches 8"
    " --learning-rate 0.004 --learning-rate-end 0.1"
)
DISCRETE = [name for name in algorithms.names if not algorithms.get(name).critics]
RUNS = (
    *(f"--env CartPole-v1 --algorithm {name} --learners 16 --steps 500000" for name in DISCRETE),
    "--env Pendulum-v1 --algorithm sac --learners 16 --steps 10000",
    MEMORY,
    f"{MEMORY} --memory lstm",
    f"{MEMORY} --memory none",
    MOUNTAIN_CAR,
)


def largest_kl(folder: Path) -> float | None:
    """The largest mean KL of an accepted trust-region step, of any learner in any update."""
    name = "trust/kl_max"
    found = pq.read_table(folder / "metrics.parquet")
    return float(pc.max(found[name]).as_py()) if name in found.column_names else None


def table(records: list[dict]) -> str:
    """The records as the page shows them."""
    lines = []
    for record in records:
        final, kl = record["final_return"], record["largest_kl"]
        low, high = final["ci95"]
        worst = min(x for x in final["per_learner"] if x is not None)
        cells = [f"{final['iqm']:.2f}", f"{low:.2f} to {high:.2f}", f"{worst:.2f}"]
        lines.append([f"`{record['command']}`", *cells, "" if kl is None else f"{kl:.5f}"])
    header = ["command", "IQM return", "95 % interval", "worst learner", "largest KL of a step"]
    return f"{rows(header, lines)}\nSeed 0; every learner was alive at the end.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps, nothing is written")
    parser.add_argument("--only", default="", help="leave other records as they are")
    arguments = parser.parse_args()
    before = {r["command"]: r for r in read(RESULTS)} if RESULTS.exists() else {}
    records = []
    with tempfile.TemporaryDirectory() as root:
        for i, flags in enumerate(RUNS):
            command = f"isjax train {flags}"
            if arguments.only and arguments.only not in flags.split():
                records += [before[command]] if command in before else []
                continue
            record = run(flags, Path(root) / str(i), quick=arguments.quick)
            assert record["alive"] == record["learners"], command
            record["largest_kl"] = largest_kl(Path(root) / str(i))
            records.append(record)
            print(f"{command}: IQM {record['final_return']['iqm']:.2f}, KL {record['largest_kl']}", flush=True)
    if not arguments.quick:
        publish(RESULTS, records, {MEASURED: table(records)})


if __name__ == "__main__":
    main()
