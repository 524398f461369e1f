"""Traced programs that NumPy runs: for a few numbers about a log, compiling takes longer than computing.

A function is traced once, as for `jax.jit`. What is computed twice is computed once, what nobody needs is left out, and
the rest runs primitive by primitive, in the precision it was traced in. A primitive that NumPy has no counterpart for,
and a loop of many steps, is compiled on its own; so whatever traces also runs.
"""

import functools
import operator
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from isjax.ope.precision import in_float64

LONGEST_LOOP = 2000
"""Loops of more steps are compiled."""
PROGRAMS, EQUATIONS = 64, 512
"""How many programs, and single primitives that were compiled, are kept for the next time."""
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
            numbers[variable] = self.constant(x, variable.aval.dtype)

        def number(x: Any) -> int:
            return self.constant(x.val, x.aval.dtype) if isinstance(x, core.Literal) else numbers[x]

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
        function = _PRIMITIVES.get(name, _compiled)
        found = function(step.equation, *(values[x] for x in step.takes))
        values.update(zip(step.gives, found if step.equation.primitive.multiple_results else [found], strict=True))
        for x in step.forgets:
            del values[x]
    return [np.asarray(values[x]) for x in program.outputs]


_KEPT: dict[int, tuple[Any, Callable[..., Any]]] = {}
"""Equations that were compiled, by their place in memory."""


def _compiled(equation: Any, *values: Any) -> Any:
    """What JAX makes of one primitive."""
    if id(equation) not in _KEPT:
        if len(_KEPT) >= EQUATIONS:
            _KEPT.clear()
        found = equation.primitive.get_bind_params(equation.params)
        functions, options = found if isinstance(found, tuple) else ((), found)  # a tuple before JAX 0.10
        run = jax.jit(lambda *values: equation.primitive.bind(*functions, *values, **options))
        _KEPT[id(equation)] = equation, run
    return jax.device_get(_KEPT[id(equation)][1](*values))


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """A primitive without options."""
    return lambda equation, *values: function(*values)


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda equation, x: function(x, axis=tuple(equation.params["axes"]))


def _for_floats(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose counterpart for whole numbers rounds otherwise."""

    def either(equation: Any, *values: Any) -> Any:
        return function(*values) if values[0].dtype.kind == "f" else _compiled(equation, *values)

    return either


def _broadcast(equation: Any, x: np.ndarray, *more: Any) -> Any:
    shape, places = equation.params["shape"], equation.params["broadcast_dimensions"]
    if more:
        return _compiled(equation, x, *more)
    aligned = [1] * len(shape)
    for place, size in zip(places, np.shape(x), strict=True):
        aligned[place] = size
    return np.broadcast_to(np.reshape(x, aligned), shape)


def _iota(equation: Any, *more: Any) -> Any:
    shape, dimension = equation.params["shape"], equation.params["dimension"]
    aligned = [1] * len(shape)
    aligned[dimension] = shape[dimension]
    return np.broadcast_to(np.arange(shape[dimension], dtype=equation.params["dtype"]).reshape(aligned), shape)


def _select(equation: Any, which: np.ndarray, *cases: np.ndarray) -> Any:
    if len(cases) != 2:
        return _compiled(equation, which, *cases)
    if np.ndim(which) == 0:
        return cases[int(which)]
    return np.where(which, cases[1], cases[0])


def _slice(equation: Any, x: np.ndarray) -> np.ndarray:
    options = equation.params
    strides = options["strides"] or (1,) * x.ndim
    ends = zip(options["start_indices"], options["limit_indices"], strides, strict=True)
    return x[tuple(slice(*each) for each in ends)]


def _dynamic_slice(equation: Any, x: np.ndarray, *starts: np.ndarray) -> np.ndarray:
    sizes = equation.params["slice_sizes"]
    if len(starts) != x.ndim:
        return _compiled(equation, x, *starts)
    first = [min(max(int(at), 0), n - size) for at, n, size in zip(starts, x.shape, sizes, strict=True)]
    return x[tuple(slice(at, at + size) for at, size in zip(first, sizes, strict=True))]


def _sort(equation: Any, *arrays: np.ndarray) -> Any:
    if equation.params["num_keys"] != 1:
        return _compiled(equation, *arrays)
    axis = equation.params["dimension"]
    order = np.argsort(arrays[0], axis, kind="stable")
    return [np.take_along_axis(x, order, axis) for x in arrays]


def _gather(equation: Any, x: np.ndarray, index: np.ndarray) -> Any:
    """Single entries, or rows, that are there."""
    numbers = equation.params["dimension_numbers"]
    rest = tuple(range(1, x.ndim))
    is_simple = (
        tuple(numbers.start_index_map) == (0,)
        and tuple(numbers.collapsed_slice_dims) == (0,)
        and not numbers.operand_batching_dims
        and tuple(equation.params["slice_sizes"]) == (1, *x.shape[1:])
        and tuple(numbers.offset_dims) == tuple(np.array(rest, int) + index.ndim - 2)
    )
    at = index[..., 0]
    if not is_simple or np.any((at < 0) | (at >= len(x))):
        return _compiled(equation, x, index)
    return x[at]


def _scatter(equation: Any, x: np.ndarray, index: np.ndarray, updates: np.ndarray) -> Any:
    """Single entries that are replaced."""
    at = index[..., 0]
    is_simple = x.ndim == 1 and updates.shape == at.shape and index.shape[-1] == 1
    if not is_simple or np.any((at < 0) | (at >= len(x))):
        return _compiled(equation, x, index, updates)
    x = x.copy()
    x[at] = updates
    return x


def _dot(equation: Any, x: np.ndarray, y: np.ndarray) -> Any:
    (left, right), batches = equation.params["dimension_numbers"]
    return _compiled(equation, x, y) if any(batches) else np.tensordot(x, y, (tuple(left), tuple(right)))


def _is_known(program: Program) -> bool:
    """Whether NumPy has a counterpart for each step of it; for loops, where compiling each would take long."""
    return all(step.equation.primitive.name in _PRIMITIVES for step in program.steps)


def _platform(equation: Any) -> np.ndarray:
    """The choice for a CPU among those for several platforms."""
    names = [of or ("cpu",) for of in equation.params["platforms"]]
    return np.asarray(next(i for i, of in enumerate(names) if "cpu" in of), np.int32)


def _cumulative(equation: Any, x: np.ndarray) -> np.ndarray:
    axis = equation.params["axis"]
    return np.flip(np.cumsum(np.flip(x, axis), axis), axis) if equation.params["reverse"] else np.cumsum(x, axis)


def _scatter_add(equation: Any, x: np.ndarray, index: np.ndarray, updates: np.ndarray) -> Any:
    at = index[..., 0]
    is_simple = x.ndim == 1 and updates.shape == at.shape and index.shape[-1] == 1
    if not is_simple or np.any((at < 0) | (at >= len(x))):
        return _compiled(equation, x, index, updates)
    x = x.copy()
    np.add.at(x, at, updates)
    return x


def _scan(equation: Any, *values: np.ndarray) -> Any:
    options = equation.params
    body = _flattened(options["jaxpr"])
    if not 0 < options["length"] <= LONGEST_LOOP or not _is_known(body):
        return _compiled(equation, *values)
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
        return _compiled(equation, *values)
    carry = list(values[first:])
    while _run(going, [*values[:split], *carry])[0]:
        carry = _run(body, [*values[split:first], *carry])
    return carry


def _cond(equation: Any, which: np.ndarray, *values: np.ndarray) -> Any:
    branches = equation.params["branches"]
    return _run(_flattened(branches[int(np.clip(int(which), 0, len(branches) - 1))]), values)


def _incomplete_beta(a: np.ndarray, b: np.ndarray, x: np.ndarray) -> Any:
    from scipy.special import betainc

    return betainc(a, b, x)


_PRIMITIVES: dict[str, Callable[..., Any]] = {
    **{
        name: _plain(function)
        for name, function in {
            "abs": np.abs, "add": operator.add, "add_any": operator.add, "and": np.bitwise_and, "ceil": np.ceil,
            "copy": np.asarray, "copy_p": np.asarray, "eq": operator.eq, "exp": np.exp, "exp2": np.exp2,
            "expm1": np.expm1, "floor": np.floor, "ge": operator.ge, "gt": operator.gt, "is_finite": np.isfinite,
            "le": operator.le, "log": np.log, "log1p": np.log1p, "lt": operator.lt, "max": np.maximum,
            "min": np.minimum, "mul": operator.mul, "ne": operator.ne, "neg": operator.neg, "not": np.invert,
            "or": np.bitwise_or, "pow": np.power, "regularized_incomplete_beta": _incomplete_beta,
            "shift_right_arithmetic": np.right_shift, "sqrt": np.sqrt,
            "square": np.square, "stop_gradient": np.asarray, "sub": operator.sub, "tanh": np.tanh,
            "xor": np.bitwise_xor,
        }.items()
    },
    "argmax": lambda equation, x: np.argmax(x, equation.params["axes"][0]).astype(equation.params["index_dtype"]),
    "argmin": lambda equation, x: np.argmin(x, equation.params["axes"][0]).astype(equation.params["index_dtype"]),
    "broadcast_in_dim": _broadcast,
    "bitcast_convert_type": lambda equation, x: np.asarray(x).view(equation.params["new_dtype"]),
    "clamp": lambda equation, low, x, high: np.minimum(np.maximum(x, low), high),
    "concatenate": lambda equation, *arrays: np.concatenate(arrays, equation.params["dimension"]),
    "cond": _cond,
    "convert_element_type": lambda equation, x: np.asarray(x).astype(equation.params["new_dtype"], copy=False),
    "cumsum": _cumulative,
    "div": _for_floats(operator.truediv),
    "dot_general": _dot,
    "dynamic_slice": _dynamic_slice,
    "gather": _gather,
    "integer_pow": lambda equation, x: np.power(x, equation.params["y"], dtype=np.asarray(x).dtype),
    "iota": _iota,
    "platform_index": _platform,
    "reduce_and": _reduction(np.all),
    "reduce_max": _reduction(np.max),
    "reduce_min": _reduction(np.min),
    "reduce_or": _reduction(np.any),
    "reduce_sum": _reduction(np.sum),
    "reshape": lambda equation, x, *more: np.reshape(x, equation.params["new_sizes"]),
    "scan": _scan,
    "scatter": _scatter,
    "scatter-add": _scatter_add,
    "select_n": _select,
    "slice": _slice,
    "sort": _sort,
    "squeeze": lambda equation, x: np.squeeze(x, tuple(equation.params["dimensions"])),
    "stack": lambda equation, *arrays: np.stack(arrays, equation.params.get("axis", 0)),
    "transpose": lambda equation, x: np.transpose(x, equation.params["permutation"]),
    "while": _while,
}  # fmt: skip
