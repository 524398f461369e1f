"""Measures everything again: `isjax bench [NAME…] [--quick]`, or `python -m benchmarks`.

Each benchmark runs in a process of its own, one after the other, writes its record and renews its tables. Without
names all of them run, for a few hours on two cores; `--quick` tries them out and writes nowhere; `--tables` measures
nothing and renews every table from the records that there are. What an accelerator did stands in a folder of its own in
`results/`, with a page of tables.
"""

import argparse
import importlib
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = (
    "ops",
    "floor",
    "population",
    "ppo",
    "peers",
    "time_to_return",
    "estimators",
    "defaults",
    "algorithms",
)


def renew_tables(names: list[str]) -> None:
    """Writes the tables of records that exist, what the README claims first, and what accelerators did."""
    from benchmarks.accelerators import tables
    from benchmarks.harness import GUIDE, RESULTS
    from benchmarks.readme import MEASURED, write_table

    for name in names:
        for kind, text in tables(RESULTS, name).items():
            in_guide = kind == "guide_table" or name == "floor"
            write_table(name, text, GUIDE if in_guide else MEASURED)
    importlib.import_module("benchmarks.claim").main()
    importlib.import_module("benchmarks.accelerators").main()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="isjax bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="try them out, write nothing")
    parser.add_argument("--tables", action="store_true", help="measure nothing, renew tables from records")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(NAMES))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(NAMES)}")
    names = given.names or list(NAMES)
    if given.tables:
        renew_tables(names)
        return 0
    failed = []
    for name in names:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if given.quick else [])]
        if subprocess.run(command, cwd=HERE.parent, check=False).returncode:
            failed.append(name)
    if not given.quick:
        renew_tables([])
    if failed:
        print(f"Failed: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
