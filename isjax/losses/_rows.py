"""What the losses on old data share: checked rows, and ratios that stay finite."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from isjax._checks import series
from isjax.ops.ratios import clipped_ratio, log_ratios
from isjax.ops.recurrence import scaled
from isjax.types import Flags, Scalar, Series

_MAX_LOG_RATIO = 40.0
MAX_RATIO = math.exp(_MAX_LOG_RATIO)
"""Where a ratio in a loss is not clipped lower, it saturates here, at about 2.4e17: sums over many rows, and
the squares that clipping a gradient by its norm takes, stay finite in float32 too."""


class Rows(NamedTuple):
    """Rows that were checked: float32 at least; what does not count was replaced and gets no gradient."""

    log_pi_tm1: Series
    """0 in padding and where the action is impossible (`−inf`)."""
    log_rho_tm1: Series
    """Gradients flow into `log_pi_tm1` alone; 0 in padding, `−inf` where only π excludes the action, and the
    logarithm of `MAX_RATIO` where only μ does."""
    advantage_tm1: Series
    """Constant; 0 in padding and where the action is impossible."""
    possible_tm1: Flags
    """False where π excludes the action."""


def off_policy_rows(log_pi_tm1: Series, log_mu_tm1: Series, advantage_tm1: Series, is_valid_t: Flags | None) -> Rows:
    """The arguments that these losses have in common, `[T, *B]` each.

    Raises:
      ValueError: shapes differ, or there is no row.
      TypeError: an array is not floating, or `is_valid_t` not boolean.
    """
    log_pi_tm1, log_mu_tm1, advantage_tm1 = series(
        log_pi_tm1=log_pi_tm1, log_mu_tm1=log_mu_tm1, advantage_tm1=advantage_tm1, is_valid_t=is_valid_t
    )
    possible = ~jnp.isneginf(log_pi_tm1)
    log_rho_tm1 = log_ratios(log_pi_tm1, jax.lax.stop_gradient(log_mu_tm1))
    return Rows(
        log_pi_tm1=jnp.where(possible, log_pi_tm1, 0.0),
        log_rho_tm1=jnp.where(jnp.isposinf(log_rho_tm1), _MAX_LOG_RATIO, log_rho_tm1),
        advantage_tm1=jnp.where(possible, jax.lax.stop_gradient(advantage_tm1), 0.0),
        possible_tm1=possible,
    )


def ratio(log_rho: jax.Array, clip: Scalar | None = None) -> jax.Array:
    """`min(clip, ρ)`, saturating at `MAX_RATIO`; gradients flow where it is not clipped."""
    return clipped_ratio(log_rho, MAX_RATIO if clip is None else jnp.minimum(clip, MAX_RATIO))


def constant_ratio(log_rho: jax.Array, clip: Scalar | None = None) -> jax.Array:
    """The same as a weight, through which no gradient flows."""
    return ratio(jax.lax.stop_gradient(log_rho), clip)


def cost(factor: Scalar, x: jax.Array) -> jax.Array:
    """A part of a loss times its factor: a factor of 0 leaves the part out, whatever it came to."""
    return scaled(jnp.asarray(factor, x.dtype), x)
