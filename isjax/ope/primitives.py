"""NumPy's counterparts of the primitives that programs are made of, but for loops and branches."""

import operator
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

EQUATIONS = 512
"""How many primitives that were compiled are kept for the next time."""
_KEPT: dict[int, tuple[Any, Callable[..., Any]]] = {}
"""Equations that were compiled, by their place in memory."""


def compiled(equation: Any, *values: Any) -> Any:
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
        return function(*values) if values[0].dtype.kind == "f" else compiled(equation, *values)

    return either


def _broadcast(equation: Any, x: np.ndarray, *more: Any) -> Any:
    shape, places = equation.params["shape"], equation.params["broadcast_dimensions"]
    if more:
        return compiled(equation, x, *more)
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
        return compiled(equation, which, *cases)
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
        return compiled(equation, x, *starts)
    first = [min(max(int(at), 0), n - size) for at, n, size in zip(starts, x.shape, sizes, strict=True)]
    return x[tuple(slice(at, at + size) for at, size in zip(first, sizes, strict=True))]


def _sort(equation: Any, *arrays: np.ndarray) -> Any:
    if equation.params["num_keys"] != 1:
        return compiled(equation, *arrays)
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
        return compiled(equation, x, index)
    return x[at]


def _scatter(equation: Any, x: np.ndarray, index: np.ndarray, updates: np.ndarray) -> Any:
    """Single entries that are replaced."""
    at = index[..., 0]
    is_simple = x.ndim == 1 and updates.shape == at.shape and index.shape[-1] == 1
    if not is_simple or np.any((at < 0) | (at >= len(x))):
        return compiled(equation, x, index, updates)
    x = x.copy()
    x[at] = updates
    return x


def _dot(equation: Any, x: np.ndarray, y: np.ndarray) -> Any:
    (left, right), batches = equation.params["dimension_numbers"]
    return compiled(equation, x, y) if any(batches) else np.tensordot(x, y, (tuple(left), tuple(right)))


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
        return compiled(equation, x, index, updates)
    x = x.copy()
    np.add.at(x, at, updates)
    return x


def _incomplete_beta(a: np.ndarray, b: np.ndarray, x: np.ndarray) -> Any:
    from scipy.special import betainc

    return betainc(a, b, x)


PRIMITIVES: dict[str, Callable[..., Any]] = {
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
    "scatter": _scatter,
    "scatter-add": _scatter_add,
    "select_n": _select,
    "slice": _slice,
    "sort": _sort,
    "squeeze": lambda equation, x: np.squeeze(x, tuple(equation.params["dimensions"])),
    "stack": lambda equation, *arrays: np.stack(arrays, equation.params.get("axis", 0)),
    "transpose": lambda equation, x: np.transpose(x, equation.params["permutation"]),
}  # fmt: skip
"""By the name of a primitive: functions of its equation and its values."""
