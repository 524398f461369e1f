"""Measures everything again: `isjax bench [NAME…] [--quick]`, or `python -m benchmarks`.

Each benchmark runs in a process of its own, one after the other, writes its record and renews its tables. Without
names all of them run, for a few hours on two cores; `--quick` tries them out and writes nowhere; `--tables` measures
nothing and renews every table from the records that there are.
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
    """Writes the tables of records that exist, and what the README claims first."""
    sys.path.insert(0, str(HERE))
    from harness import GUIDE, read
    from readme import write_table

    for name in names:
        module = importlib.import_module(name)
        if not module.RESULTS.exists():
            continue
        result = read(module.RESULTS)
        if hasattr(module, "table"):
            write_table(name, module.table(result), getattr(module, "TABLE_IN", None))
        if hasattr(module, "guide_table"):
            write_table(name, module.guide_table(result), GUIDE)
    importlib.import_module("claim").main()


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
        command = [sys.executable, str(HERE / f"{name}.py"), *(["--quick"] if given.quick else [])]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if not given.quick:
        renew_tables([])
    if failed:
        print(f"Failed: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
