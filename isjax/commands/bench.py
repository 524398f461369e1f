"""`isjax bench`: what `python -m benchmarks` does, wherever one stands."""

import subprocess
import sys
from pathlib import Path

from isjax.commands.flags import BadArguments


def main(argv: list[str]) -> int:
    """Runs `isjax bench`."""
    repository = Path(__file__).parents[2]
    if not (repository / "benchmarks" / "__main__.py").exists():
        raise BadArguments("the benchmarks are in the repository: clone it, and install it with pip install -e .")
    return subprocess.run([sys.executable, "-m", "benchmarks", *argv], cwd=repository, check=False).returncode
