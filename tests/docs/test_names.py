"""Every public name has an example, and every formula a source: the names that lack one are counted, and are none."""

import importlib
import inspect
import re

import pytest

from tests.docs.pages import ROOT, programs

MODULES = ("ops", "losses", "ope", "learner", "environments", "networks", "population", "stats", "compat.sequences")
FORMULAS = ("ops", "losses", "ope")
SOURCE = re.compile(r"\b(?:19|20)\d\d[a-z]?\b|those of `\w+`|see `\w+`", re.IGNORECASE)
"""A year, as papers have one; or another function of the family, which has it."""
DEFINED_HERE = set(
    """
    aggregate at_action backward_affine bootstrap_interval categorical_mean check_propensities
    clipped_ratio endings evaluate_log expected_q greedy_log_probs log_ratios next_action_value normal_interval
    normalized_weights ratio_diagnostics ratio_histogram ratio_levels read_log register student_lower_bound
    """.split()  # noqa: SIM905
)
"""Definitions, textbook statistics and bookkeeping: there is nobody to cite."""
PROGRAMS = "\n".join(program.code for page in (ROOT / "docs").rglob("*.md") for program in programs(page.read_text()))
EXAMPLE = re.compile(r"^ *>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)
SHOWN = "\n".join(found[0] for path in (ROOT / "isjax").rglob("*.py") for found in EXAMPLE.finditer(path.read_text()))
"""All examples of docstrings with what they print."""


def public_names(module):
    """What a module's `__all__` names."""
    module = importlib.import_module(f"isjax.{module}")
    return {name: getattr(module, name) for name in module.__all__}


def returned():
    """The annotations of what functions return, and of its fields: their examples show it."""
    names = [x for module in MODULES for x in public_names(module).values()]
    found = [str(inspect.signature(x).return_annotation) for x in names if inspect.isfunction(x)]
    found += [str(inspect.get_annotations(x)) for x in names if inspect.isclass(x)]
    return " ".join(found)


def is_shown(name):
    return re.search(rf"\b{name}\b", PROGRAMS + SHOWN + returned()) is not None


@pytest.mark.parametrize("module", MODULES)
def test_no_public_name_is_without_an_example(module):
    """A function has one of its own; what it takes and returns may be seen in those of functions, or on a page."""
    names = public_names(module)
    assert names
    lacking = {name: x for name, x in names.items() if ">>> " not in (inspect.getdoc(x) or "")}
    assert [name for name, x in lacking.items() if inspect.isroutine(x) or not is_shown(name)] == []


@pytest.mark.parametrize("module", FORMULAS)
def test_no_formula_is_without_a_source(module):
    functions = {name: inspect.getdoc(x) or "" for name, x in public_names(module).items() if inspect.isfunction(x)}
    without = {name for name, text in functions.items() if not SOURCE.search(text)}
    assert without == DEFINED_HERE & set(functions)
