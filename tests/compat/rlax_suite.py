"""Runs the tests that rlax is installed with, `isjax.compat.rlax` being in rlax's place.

`python -m tests.compat.rlax_suite [MODULE …] [--theirs]`: of all its modules or of those named, as `vtrace_test`; with
`--theirs` nothing is replaced, to compare. Prints a JSON object: how many tests ran and were skipped, those that
failed, the modules that could not be imported, and how often each function of ours was called.
"""

import argparse
import collections
import functools
import importlib
import json
import os
import pkgutil
import sys
import unittest
import warnings

# As many devices as some of the tests ask for; with one, others would be skipped.
os.environ |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
warnings.simplefilter("ignore")

import jax
import rlax
import rlax._src
from absl import flags

from isjax.compat import rlax as ours

SOURCES = sorted(x.name for x in pkgutil.iter_modules(rlax._src.__path__))
TESTS = [name for name in SOURCES if name.endswith("_test")]


def is_ours(name: str) -> bool:
    return getattr(getattr(ours, name), "__module__", "").startswith("isjax.")


def put_in_place(calls: collections.Counter) -> None:
    """Every function of ours replaces rlax's of the same name, wherever rlax defines it, and counts its calls."""

    def counted(name):
        function = getattr(ours, name)

        @functools.wraps(function)
        def call(*args, **kwargs):
            calls[name] += 1
            with jax.numpy_rank_promotion("raise"):
                return function(*args, **kwargs)

        return call

    names = [name for name in ours.__all__ if name.islower() and is_ours(name)]
    for source in set(SOURCES) - set(TESTS):
        module = importlib.import_module(f"rlax._src.{source}")
        for name in names:
            if hasattr(module, name):
                setattr(module, name, counted(name))
    sys.modules["rlax"] = ours


def run(modules: list[str], theirs: bool) -> dict:
    calls = collections.Counter()
    if not theirs:
        put_in_place(calls)
    suite, left_out = unittest.TestSuite(), {}
    for name in modules:
        try:
            module = importlib.import_module("rlax_test" if name == "rlax_test" else f"rlax._src.{name}")
        except ModuleNotFoundError as error:
            left_out[name] = str(error)
            continue
        suite.addTests(unittest.defaultTestLoader.loadTestsFromModule(module))
    flags.FLAGS(sys.argv[:1])
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=1).run(suite)
    failed = [str(test) for test, _ in (*result.failures, *result.errors)] + list(map(str, result.unexpectedSuccesses))
    return {
        "rlax": rlax.__version__,
        "ran": result.testsRun,
        "skipped": len(result.skipped),
        "failed": failed,
        "left_out": left_out,
        "calls": dict(sorted(calls.items())),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument("--theirs", action="store_true")
    options = parser.parse_args()
    sys.path.append(os.path.dirname(rlax.__file__))  # Where `rlax_test` lies.
    summary = run(options.modules or [*TESTS, "rlax_test"], options.theirs)
    print(json.dumps(summary, indent=2))
    sys.exit(bool(summary["failed"]))
