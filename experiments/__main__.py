"""Reruns experiments, each in a process of its own.

python -m experiments [NAME…] [--quick | --redraw]
python -m experiments --list
"""

import argparse
import subprocess
import sys

from experiments import index


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which ones; all if left out")
    parser.add_argument("--list", action="store_true", help="only print their names")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="a fraction of the work, and nothing written")
    how.add_argument("--redraw", action="store_true", help="renew figures and answers from the numbers on file")
    options = parser.parse_args(argv)
    if options.list:
        print("\n".join(index.names()))
        return 0
    unknown = sorted(set(options.names) - set(index.names()))
    if unknown:
        parser.error(f"no experiment is named {', '.join(unknown)}; there are {', '.join(index.names())}.")
    flags = [flag for flag, is_set in (("--quick", options.quick), ("--redraw", options.redraw)) if is_set]
    failed = []
    for name in options.names or index.names():
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"experiments.{name}.run", *flags]).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
