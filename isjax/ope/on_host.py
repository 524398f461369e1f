"""Traced programs that NumPy runs: for a few numbers about a log, compiling takes longer than computing.

A function is traced once, as for `jax.jit`. What is computed twice is computed once, what nobody needs is left out, and
the rest runs primitive by primitive, in the precision it was traced in. A primitive that NumPy has no counterpart for,
and a loop of many steps, is compiled on its own; so whatever traces also runs.
"""

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from isjax.ope.precision import in_float64
from isjax.ope.primitives import PRIMITIVES, compiled

LONGEST_LOOP = 2000
"""Loops of more steps are compiled."""
PROGRAMS = 64
"""How many programs are kept for the next time."""
_INLINED = (
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "remat2",
    "remat",
    "checkpoint",
    "custom_jvp_call",
    "custom_vjp_call",
)


class Step(NamedTuple):
    """One primitive of a program."""

    equation: Any
    takes: tuple[int, ...]
    """Numbers of the values that it takes."""
    gives: tuple[int, ...]
    forgets: tuple[int, ...]
    """Numbers of the values that nobody takes afterwards."""


class Program(NamedTuple):
    """A traced function as a list of steps."""

    inputs: tuple[int, ...]
    constants: dict[int, np.ndarray]
    steps: list[Step]
    outputs: tuple[int, ...]


def on_host(function: Callable[..., Any], *arrays: Any, static: tuple[Hashable, ...] = ()) -> Any:
    """`function(*static, *arrays)`, traced in float64 and run by NumPy; a tree of arrays.

    A function that lives in a module is traced once for the same `static` and arrays of the same shapes; a lambda at
    every call.

    >>> float(on_host(lambda x: jax.numpy.sum(jax.numpy.exp(x)), np.zeros(3)))
    3.0
    """
    leaves, tree = jax.tree.flatten(arrays)
    given = [np.asarray(x) for x in leaves]
    with in_float64():
        kinds = tuple((x.shape, jax.dtypes.canonicalize_dtype(x.dtype)) for x in given)
        program, outputs = _program(function, static, tree, kinds)
        with np.errstate(all="ignore"):
            values = _run(program, [x.astype(kind, copy=False) for x, (_, kind) in zip(given, kinds, strict=True)])
    return jax.tree.unflatten(outputs, values)


@functools.lru_cache(PROGRAMS)
def _program(function: Callable[..., Any], static: tuple[Hashable, ...], tree: Any, kinds: Any) -> tuple[Program, Any]:
    """The function as a program, and the tree that its values make up."""
    arrays = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*kind) for kind in kinds])
    closed, shape = jax.make_jaxpr(functools.partial(function, *static), return_shape=True)(*arrays)
    return _flattened(closed), jax.tree.structure(shape)


class _Flattening:
    """Turns nested calls into one list, in which equal steps of equal values occur once."""

    def __init__(self) -> None:
        self.constants: dict[int, np.ndarray] = {}
        self.steps: list[tuple[Any, tuple[int, ...], tuple[int, ...]]] = []
        self._known: dict[Any, Any] = {}
        self._count = 0

    def fresh(self) -> int:
        self._count += 1
        return self._count

    def constant(self, x: Any, dtype: Any) -> int:
        array = np.asarray(x, dtype)
        name = (str(dtype), array.shape, array.tobytes())
        if name not in self._known:
            self._known[name] = self.fresh()
            self.constants[self._known[name]] = array
        return self._known[name]

    def inline(self, jaxpr: Any, constants: Sequence[Any], inputs: Sequence[int]) -> list[int]:
        numbers = dict(zip(jaxpr.invars, inputs, strict=True))
        for variable, x in zip(jaxpr.constvars, constants, strict=True):
            numbers[variable] = self.constant(x, np.asarray(x).dtype)

        def number(x: Any) -> int:
            return self.constant(x.val, getattr(x.aval, "dtype", None)) if isinstance(x, core.Literal) else numbers[x]

        for equation in jaxpr.eqns:
            takes = tuple(number(x) for x in equation.invars)
            if equation.primitive.name in _INLINED:
                inner = next(x for x in equation.params.values() if hasattr(x, "eqns") or hasattr(x, "jaxpr"))
                gives = self._call(inner, takes)
            else:
                gives = self._step(equation, takes)
            numbers.update(zip(equation.outvars, gives, strict=True))
        return [number(x) for x in jaxpr.outvars]

    def _call(self, inner: Any, takes: tuple[int, ...]) -> Sequence[int]:
        name = (id(inner), takes)
        if name not in self._known:
            self._known[name] = self.inline(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), takes)
        return self._known[name]

    def _step(self, equation: Any, takes: tuple[int, ...]) -> Sequence[int]:
        name = (equation.primitive.name, takes, _as_key(equation.params))
        if name not in self._known:
            gives = tuple(self.fresh() for _ in equation.outvars)
            self.steps.append((equation, takes, gives))
            self._known[name] = gives
        return self._known[name]


def _as_key(x: Any) -> Any:
    """Something that is equal for equal options, as long as the program is there that holds them."""
    if isinstance(x, dict):
        return tuple((name, _as_key(each)) for name, each in x.items())
    if isinstance(x, tuple | list):
        return tuple(_as_key(each) for each in x)
    if hasattr(x, "eqns"):
        return str(x)
    if hasattr(x, "jaxpr"):
        return str(x.jaxpr), tuple(map(id, x.consts))
    return x if isinstance(x, int | str | float | None) else str(x)


@functools.lru_cache(PROGRAMS * 8)
def _flattened(closed: Any) -> Program:
    flat = _Flattening()
    inputs = tuple(flat.fresh() for _ in closed.jaxpr.invars)
    outputs = tuple(flat.inline(closed.jaxpr, closed.consts, inputs))
    needed, steps = set(outputs), []
    for equation, takes, gives in reversed(flat.steps):
        if needed.isdisjoint(gives):
            continue
        forgets = {x for x in (*takes, *gives) if x not in needed} - flat.constants.keys()
        steps.append(Step(equation, takes, gives, tuple(forgets)))
        needed.update(takes)
    return Program(inputs, flat.constants, steps[::-1], outputs)


def _run(program: Program, given: Sequence[np.ndarray]) -> list[np.ndarray]:
    values: dict[int, Any] = program.constants | dict(zip(program.inputs, given, strict=True))
    for step in program.steps:
        name = step.equation.primitive.name
        function = PRIMITIVES.get(name, compiled)
        found = function(step.equation, *(values[x] for x in step.takes))
        values.update(zip(step.gives, found if step.equation.primitive.multiple_results else [found], strict=True))
        for x in step.forgets:
            del values[x]
    return [np.asarray(values[x]) for x in program.outputs]


def _is_known(program: Program) -> bool:
    """Whether NumPy has a counterpart for each step of it; for loops, where compiling each would take long."""
    return all(step.equation.primitive.name in PRIMITIVES for step in program.steps)


def _scan(equation: Any, *values: np.ndarray) -> Any:
    options = equation.params
    body = _flattened(options["jaxpr"])
    if not 0 < options["length"] <= LONGEST_LOOP or not _is_known(body):
        return compiled(equation, *values)
    fixed = options["num_consts"]
    carried = fixed + options["num_carry"]
    carry, rows = list(values[fixed:carried]), values[carried:]
    order = range(options["length"])
    collected: list[Any] = [None] * options["length"]
    for i in reversed(order) if options["reverse"] else order:
        found = _run(body, [*values[:fixed], *carry, *(x[i] for x in rows)])
        carry, collected[i] = found[: len(carry)], found[len(carry) :]
    return carry + [np.stack(each) for each in zip(*collected, strict=True)]


def _while(equation: Any, *values: np.ndarray) -> Any:
    options = equation.params
    split = options["cond_nconsts"]
    first = split + options["body_nconsts"]
    going, body = _flattened(options["cond_jaxpr"]), _flattened(options["body_jaxpr"])
    if not _is_known(body) or not _is_known(going):
        return compiled(equation, *values)
    carry = list(values[first:])
    while _run(going, [*values[:split], *carry])[0]:
        carry = _run(body, [*values[split:first], *carry])
    return carry


def _cond(equation: Any, which: np.ndarray, *values: np.ndarray) -> Any:
    branches = equation.params["branches"]
    return _run(_flattened(branches[int(np.clip(int(which), 0, len(branches) - 1))]), values)


PRIMITIVES |= {"cond": _cond, "scan": _scan, "while": _while}
