"""The house stays as it was drawn: who imports whom, one backward recurrence, documented public names."""

import ast
import doctest
import importlib
import inspect
import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

PACKAGE = Path(__file__).parent.parent / "isjax"
SOURCES = sorted(PACKAGE.rglob("*.py"))
EACH_SOURCE = pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))

GROUND = {"_checks", "_renamed", "errors", "types"}
MAY_IMPORT = {
    "isjax": {"losses", "ope", "ops", "stats"},
    "registry": {"errors"},
    "types": set(),
    "_checks": {"errors", "types"},
    "errors": set(),
    "_renamed": {"errors"},
    "signals": set(),
    "randomness": {"types"},
    "stats": GROUND,
    "ops": GROUND,
    "losses": GROUND | {"ops"},
    "ope": GROUND | {"ops", "stats"},
    "compat": GROUND | {"losses", "ops"},
    "environments": GROUND | {"registry"},
    "networks": GROUND | {"registry"},
    "learner": GROUND | {"environments", "losses", "networks", "ops", "randomness", "registry"},
    "population": GROUND | {"learner", "ops", "stats"},
    "run": GROUND | {"isjax", "signals", "learner", "population", "randomness", "stats"},
    "report": GROUND | {"learner", "ops", "randomness", "run", "stats"},
    "commands": GROUND | {"environments", "learner", "ope", "randomness", "report", "run"},
    "cli": {"commands", "isjax", "signals"},
    "__main__": {"cli", "signals"},
}
"""For every part of the package the other parts that it may import, wherever in its files."""

JAX_ALONE = {"jax", "numpy"}
SUITES = {
    **{name: {f"environments/{name}.py"} for name in ("craftax", "brax", "jumanji", "navix", "pgx", "xminigrid")},
    "gymnax": {"environments/gymnax.py", "environments/seaquest.py"},
    "mujoco_playground": {"environments/playground.py"},
}
"""Packages of environments, and the files that may import them: no suite needs another one's."""
FROM_OUTSIDE = dict.fromkeys(MAY_IMPORT, JAX_ALONE) | {
    "ope": JAX_ALONE | {"pyarrow", "scipy"},
    "compat": JAX_ALONE | {"matplotlib", "rlax"},
    "environments": JAX_ALONE | {"PIL", *SUITES},
    "networks": JAX_ALONE | {"flax"},
    "learner": JAX_ALONE | {"chex", "distrax", "flax", "optax", "rlax"},
    "run": JAX_ALONE | {"matplotlib", "orbax", "pyarrow", "rich", "tensorboardX", "wandb"},
    "report": JAX_ALONE | {"plotly", "pyarrow"},
    "commands": JAX_ALONE | {"matplotlib", "pyarrow", "rich", "tyro"},
}


def part_of(path):
    """The part of the package that a file belongs to; `isjax` for its `__init__`."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "isjax" if first == "__init__" else first


def module_of(path):
    parts = ("isjax", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in SOURCES}


def syntax(path):
    return ast.parse(path.read_text(), str(path))


def imported(path):
    """Dotted names of all modules that a file imports, at its top or inside of its functions."""
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            if node.module == "isjax":
                yield from (f"isjax.{alias.name}" for alias in node.names)
            else:
                yield node.module


def imported_parts(path):
    for name in imported(path):
        top, _, rest = name.partition(".")
        if top == "isjax":
            part = rest.partition(".")[0]
            yield part if part in MAY_IMPORT else "isjax"


def imported_files(path):
    """The modules of the package that a file imports, each by the name of its own file."""
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in MODULES else node.module for name in names if node.module in MODULES)


def circles(graph):
    """Sets of modules that lead to each other."""
    reach = {name: set(found) for name, found in graph.items()}
    for between in graph:
        for found in reach.values():
            if between in found:
                found |= reach[between]
    return {
        frozenset(k for k in reach if k in reach[name] and name in reach[k]) for name in graph if name in reach[name]
    }


def test_no_files_import_each_other_in_a_circle():
    """Imports inside of functions and for types alone count too."""
    graph = {name: set(imported_files(path)) - {name} for name, path in MODULES.items()}
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == {frozenset("abc")}
    assert circles(graph) == set()


def load(name):
    """A module, whatever its own dependencies warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


@EACH_SOURCE
def test_imports_run_downwards_only(path):
    part = part_of(path)
    upwards = set(imported_parts(path)) - MAY_IMPORT[part] - {part}
    assert not upwards, f"isjax.{part} must not import {sorted(upwards)}"


@EACH_SOURCE
def test_only_the_parts_meant_to_import_other_packages_do(path):
    outside = {name.partition(".")[0] for name in imported(path)} - {"isjax"} - sys.stdlib_module_names
    unexpected = outside - FROM_OUTSIDE[part_of(path)]
    assert not unexpected, f"isjax.{part_of(path)} must not import {sorted(unexpected)}"
    for suite in outside & set(SUITES):
        assert str(path.relative_to(PACKAGE)) in SUITES[suite]


def test_operators_and_losses_load_jax_alone_say_nothing_and_change_nothing():
    program = """
import os, sys
import jax, jax.numpy
environment, config = dict(os.environ), dict(jax.config.values)
import isjax.losses, isjax.ops, isjax.compat.rlax, isjax.compat.sequences
heavy = {"chex", "distrax", "flax", "gymnax", "optax", "orbax", "pandas", "rlax"} & set(sys.modules)
assert not heavy, heavy
assert dict(os.environ) == environment
assert dict(jax.config.values) == config
assert not jax._src.xla_bridge._backends, "importing must not start a device"
"""
    command = [sys.executable, "-W", "error::UserWarning", "-c", program]
    result = subprocess.run(command, env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def scans(path):
    """`(function, line)` of every scan that runs backwards."""
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            reverse = [k.value for k in node.keywords if k.arg == "reverse"]
            if name in ("scan", "associative_scan") and reverse and getattr(reverse[0], "value", True):
                yield name


def test_there_is_one_backward_recurrence():
    found = {str(path.relative_to(PACKAGE)): sorted(scans(path)) for path in SOURCES}
    assert {path: names for path, names in found.items() if names} == {
        "ops/recurrence.py": ["associative_scan", "scan"]
    }


@EACH_SOURCE
def test_modules_are_short_and_say_what_they_are(path):
    assert len(path.read_text().splitlines()) <= 400
    assert ast.get_docstring(syntax(path)) or not path.read_text().strip()


@EACH_SOURCE
def test_only_the_command_line_prints(path):
    prints = [
        node.lineno
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not prints or part_of(path) in ("commands", "cli") or module_of(path) == "isjax.run.progress", (
        f"prints in lines {prints}"
    )


def public_names(path):
    """The literal `__all__` of a file, or nothing."""
    for node in syntax(path).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return []


def constants_classes_functions(name):
    """Sorts as ruff does: CONSTANTS, then Classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("path", [p for p in SOURCES if public_names(p)], ids=module_of)
def test_public_names_are_sorted_and_exist(path):
    names = public_names(path)
    assert names == sorted(names, key=constants_classes_functions)
    assert len(set(names)) == len(names)
    module = load(module_of(path))
    assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize("module", ["isjax.ops", "isjax.losses", "isjax.compat.rlax", "isjax.compat.sequences"])
def test_every_public_name_has_a_docstring_of_its_own(module):
    module = load(module)
    assert module.__all__
    # What compat.rlax hands on, once it is asked for, is rlax's own.
    for name in set(module.__all__) & set(vars(module)):
        # A NamedTuple or dataclass without one gets its signature for a docstring.
        text = inspect.getdoc(getattr(module, name)) or ""
        assert text, f"{name} has no docstring"
        assert not text.startswith(f"{name}("), f"{name} has no docstring"


@pytest.mark.parametrize("path", [p for p in SOURCES if ">>> " in p.read_text()], ids=module_of)
def test_examples_in_docstrings_give_what_they_say(path):
    result = doctest.testmod(load(module_of(path)), extraglobs={"jax": jax, "jnp": jnp, "np": np})
    assert result.attempted > 0
    assert result.failed == 0
