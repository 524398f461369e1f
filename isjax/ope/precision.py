"""Logs in float64, with rewards brought to a size of about 1: neither small nor large ones are lost."""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import experimental

from isjax._checks import check_same_shape
from isjax.errors import FieldError
from isjax.types import LoggedEpisodes


def in_float64() -> contextlib.AbstractContextManager[None]:
    """Within it JAX computes in float64, in this thread alone."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    return experimental.enable_x64(True)  # type: ignore[attr-defined]  # before JAX 0.8


def rescaled(log: LoggedEpisodes) -> tuple[LoggedEpisodes, int]:
    """The log in float64, its rewards and model values divided by a power of two that makes the largest about 1.

    Every estimate is proportional to them, and dividing by a power of two rounds nothing.

    Returns:
      The log, and the exponent of that power.

    Raises:
      ValueError: shapes differ, or a step that is valid holds what is not a number.
    """
    check_same_shape(**log._asdict())
    is_valid_t = np.asarray(log.is_valid_t)
    arrays = {
        name: np.where(is_valid_t, np.asarray(x, np.float64), 0.0)
        for name, x in log._asdict().items()
        if x is not None and name not in ("is_valid_t", "state_tm1")
    }
    for name, x in arrays.items():
        is_bad = np.isnan(x) | (np.isposinf(x) if name == "log_rho_tm1" else np.isinf(x))
        if is_bad.any():
            step, episode = np.argwhere(is_bad)[0]
            place = f"{name} step {step} of episode {episode} is {x[step, episode]}"
            raise FieldError("log", "hold finite numbers", place, "{field} must {rule}, but in {value}.")
    sizes = [np.max(np.abs(x), initial=0.0) for name, x in arrays.items() if name != "log_rho_tm1"]
    exponent = int(np.frexp(max(sizes))[1])
    for name in arrays.keys() - {"log_rho_tm1"}:
        arrays[name] = np.ldexp(arrays[name], -exponent)
    with in_float64():
        return log._replace(**{name: jnp.asarray(x) for name, x in arrays.items()}), exponent


def restored(x: Any, exponent: int) -> float:
    """A number that was computed from a rescaled log, in the log's own unit; infinite if that is too large."""
    with np.errstate(over="ignore"):
        return float(np.ldexp(np.float64(x), exponent))
