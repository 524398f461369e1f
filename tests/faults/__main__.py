"""`python -m tests.faults [logs folders commands kills] [--quick] [--seed N]`: runs the cases, counts the faults."""

import argparse
import importlib
import importlib.util
import sys
import time

from rich.console import Console
from rich.table import Table

from tests.faults.counting import Outcome, count

MODULES = ("logs", "folders", "commands", "kills")
KINDS = ("traceback", "silent wrong value", "wrong exit code", "long line")


def main(argv: list[str] | None = None) -> int:
    """Returns 1 if any case has a fault; writes nothing but to the terminal."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(MODULES))
    parser.add_argument("--quick", action="store_true", help="a few cases of each")
    parser.add_argument("--seed", type=int, default=0, help="of the generated cases")
    flags = parser.parse_args(argv)
    for name in flags.modules:
        if name not in MODULES:
            parser.error(f"MODULE must be one of {', '.join(MODULES)}, but it is {name!r}")
    there = [name for name in MODULES if importlib.util.find_spec(f"tests.faults.{name}")]
    found: dict[str, tuple[list[Outcome], float]] = {}
    for name in flags.modules or there:
        began = time.monotonic()
        outcomes = importlib.import_module(f"tests.faults.{name}").run(quick=flags.quick, seed=flags.seed)
        found[name] = outcomes, time.monotonic() - began
    return show(found)


def show(found: dict[str, tuple[list[Outcome], float]]) -> int:
    """Prints the counts and every case with a fault."""
    counts = {name: count(outcomes) for name, (outcomes, _) in found.items()}
    others = sorted({kind for each in counts.values() for kind in each} - set(KINDS))
    table = Table("", "cases", *KINDS, *others, "seconds")
    for name, (outcomes, seconds) in found.items():
        numbers = [len(outcomes), *(counts[name].get(kind, 0) for kind in (*KINDS, *others))]
        table.add_row(name, *(f"{number:,}" for number in numbers), f"{seconds:.0f}")
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    faulty = [outcome for outcomes, _ in found.values() for outcome in outcomes if outcome.fault]
    for outcome in faulty:
        text = f"\n{outcome.name}: {outcome.fault}\n  {outcome.command}\n  exit code {outcome.exit_code}"
        console.print(text, outcome.output[-2000:], sep="\n", markup=False, highlight=False, soft_wrap=True)
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main())
