"""What the defaults reach: `isjax train` on one environment of each kind, as a user would call it.

`python -m benchmarks.defaults` takes about ten minutes on two cores, writes `results/defaults.json` and renews
the table in docs/evidence/measured.md; `--quick` trains for a hundredth of the steps and writes nowhere.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import RESULTS as FOLDER
from benchmarks.harness import commit, publish
from benchmarks.readme import MEASURED, rows

RESULTS = FOLDER / "defaults.json"

RUNS = (
    "--env CartPole-v1 --learners 16 --steps 500000",
    "--env CartPole-v1 --learners 16 --steps 500000 --actor-lag 8",
    "--env Catch-bsuite --learners 16",
    "--env FourRooms-misc --learners 16",
    "--env Acrobot-v1 --learners 16",
    "--env Pendulum-v1 --learners 16",
    "--env Breakout-MinAtar --learners 10 --steps 10000000",
)
KEPT = (
    "environment",
    "algorithm",
    "seed",
    "learners",
    "alive",
    "env_steps_per_learner",
    "env_steps_per_s",
    "compile_s",
    "wall_s",
    "final_return",
    "device",
    "versions",
)


def run(flags: str, folder: Path, *, quick: bool) -> dict:
    arguments = shlex.split(flags)
    if quick:
        arguments += ["--steps", "10000"]
    subprocess.run([sys.executable, "-m", "isjax", "train", *arguments, "--out", str(folder), "--quiet"], check=True)
    summary = json.loads((folder / "summary.json").read_text())
    return {"command": f"isjax train {flags}", "commit": commit()} | {name: summary[name] for name in KEPT}


def table(records: list[dict]) -> str:
    """The records as the page shows them."""
    header = "command, steps a learner, IQM return, 95 % interval, worst learner, alive, steps/s of all learners"
    lines = []
    for record in records:
        final = record["final_return"]
        low, high = final["ci95"]
        worst = min(x for x in final["per_learner"] if x is not None)
        lines.append(
            [
                f"`{record['command']}`",
                f"{record['env_steps_per_learner']:,}",
                f"{final['iqm']:.2f}",
                f"{low:.2f} to {high:.2f}",
                f"{worst:.2f}",
                f"{record['alive']} of {record['learners']}",
                f"{record['env_steps_per_s'] / 1e6:.2f} M",
            ]
        )
    devices = ", ".join(sorted({record["device"] for record in records}))
    return f"{rows(header.split(', '), lines)}\nSeed 0; {devices}; jax {records[0]['versions']['jax']}.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the steps, nothing is written")
    quick = parser.parse_args().quick
    records = []
    with tempfile.TemporaryDirectory() as root:
        for i, flags in enumerate(RUNS):
            record = run(flags, Path(root) / str(i), quick=quick)
            records.append(record)
            print(f"{record['command']}: IQM {record['final_return']['iqm']:.2f}", flush=True)
    if not quick:
        publish(RESULTS, records, {MEASURED: table(records)})


if __name__ == "__main__":
    main()
