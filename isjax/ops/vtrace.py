"""V-trace (Espeholt et al. 2018) and leaky V-trace (Zahavy et al. 2020), right at time limits."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from isjax._checks import check_fraction, check_positive, check_same_shape, series
from isjax.ops.ratios import clipped_ratio
from isjax.ops.recurrence import backward_rows, scaled
from isjax.ops.returns import Trace
from isjax.types import Flags, Scalar, Series


class VTrace(NamedTuple):
    """Corrected targets and advantages, both `[T, *B]`."""

    target_tm1: Series
    """`v_s`, what the value of the step's first state should become."""
    advantage_tm1: Series
    """The factor of `∇ log π` in the policy gradient, the clipped ratio included."""


def vtrace(
    v_tm1: Series,
    v_t: Series,
    r_t: Series,
    discount_t: Series,
    log_rho_tm1: Series,
    same_episode_t: Flags | None = None,
    *,
    is_valid_t: Flags | None = None,
    lambda_: Scalar | Series = 1.0,
    clip_rho: Scalar = 1.0,
    clip_c: Scalar = 1.0,
    clip_pg_rho: Scalar = 1.0,
    associative: bool | None = None,
) -> VTrace:
    """V-trace targets and policy-gradient advantages, from log-ratios.

    `v_s = V(s) + Σ_t (Π_{i<t} γ c_i) min(ρ̄, ρ_t) δ_t` with `c_i = λ min(c̄, ρ_i)`: Espeholt et al.
    2018, https://arxiv.org/abs/1802.01561, eq. 1; advantages as in section 4.2, with the λ of rlax.
    No gradient is stopped here; the losses do that.

    Args:
      v_tm1: `[T, *B]`, values of the states that steps start from.
      v_t: `[T, *B]`, values of the states actually reached: at a time limit that of the final
        observation, never that of the first observation after the reset.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated.
      log_rho_tm1: `[T, *B]`, `log π(a|s) − log μ(a|s)`.
      same_episode_t: `[T, *B]`, false where a step ended its episode for either reason: a termination
        or a time limit. May be left out if no step was cut by a time limit.
      is_valid_t: `[T, *B]`, false for padding: such steps give 0, whatever they hold.
      lambda_: λ in [0, 1]; a scalar, `[T]` or `[T, *B]`.
      clip_rho: ρ̄ > 0, bounds the ratio of the step's own temporal difference (it sets the fixed point).
      clip_c: c̄ > 0, bounds the ratios on the way back (it sets the speed of contraction).
      clip_pg_rho: bounds the ratio of the policy gradient.
      associative: how to solve the recurrence, see `backward_affine`.

    Returns:
      `VTrace(target_tm1, advantage_tm1)`, both `[T, *B]`, float32 at least.

    Raises:
      ValueError: shapes differ, or an option is out of range.
      TypeError: an array is not floating, or a flag is not boolean.

    >>> v = jnp.array([1.0, 1.0]); r = jnp.array([0.0, 2.0]); d = jnp.array([1.0, 0.0])
    >>> vtrace(v, v, r, d, jnp.zeros(2))
    VTrace(target_tm1=Array([2., 2.], dtype=float32), advantage_tm1=Array([1., 1.], dtype=float32))
    """
    check_positive(clip_rho=clip_rho, clip_c=clip_c, clip_pg_rho=clip_pg_rho)
    rows = _Rows.checked(v_tm1, v_t, r_t, discount_t, log_rho_tm1, same_episode_t, is_valid_t, lambda_)
    return _correct(rows, clipped_ratio, (clip_rho, clip_c, clip_pg_rho), associative=associative)


def leaky_vtrace(
    v_tm1: Series,
    v_t: Series,
    r_t: Series,
    discount_t: Series,
    log_rho_tm1: Series,
    same_episode_t: Flags | None = None,
    *,
    alpha: Scalar = 1.0,
    is_valid_t: Flags | None = None,
    lambda_: Scalar | Series = 1.0,
    clip_rho: Scalar = 1.0,
    clip_c: Scalar = 1.0,
    clip_pg_rho: Scalar = 1.0,
    associative: bool | None = None,
) -> VTrace:
    """V-trace whose clipped ratios leak: `(1 − α) ρ + α min(clip, ρ)` in place of `min(clip, ρ)`.

    Zahavy et al. 2020, https://arxiv.org/abs/2002.12928: α = 1 is V-trace, α = 0 importance sampling
    without any clipping. Unclipped ratios saturate at `exp(80)`.

    `alpha` is α in [0, 1] and may be traced (it is meta-learned in the paper). The other arguments, the
    result and the errors are those of `vtrace`.

    >>> v = jnp.zeros(1); r = jnp.ones(1); log_rho = jnp.log(jnp.array([3.0]))
    >>> leaky_vtrace(v, v, r, r, log_rho, alpha=0.5).target_tm1
    Array([2.], dtype=float32)
    """
    check_fraction(alpha=alpha)
    check_positive(clip_rho=clip_rho, clip_c=clip_c, clip_pg_rho=clip_pg_rho)
    rows = _Rows.checked(v_tm1, v_t, r_t, discount_t, log_rho_tm1, same_episode_t, is_valid_t, lambda_)
    ratio = functools.partial(leaky_ratio, alpha=alpha)
    return _correct(rows, ratio, (clip_rho, clip_c, clip_pg_rho), associative=associative)


def leaky_ratio(log_rho: jax.Array, clip: Scalar, alpha: Scalar) -> jax.Array:
    """`(1 − α) ρ + α min(clip, ρ)`, any shape; finite for any log-ratio."""
    return (1.0 - alpha) * clipped_ratio(log_rho, jnp.inf) + alpha * clipped_ratio(log_rho, clip)


class _Rows(NamedTuple):
    """Steps that were checked: floats in full precision, padding replaced by zeros."""

    v_tm1: Series
    v_t: Series
    r_t: Series
    log_rho_tm1: Series
    trace: Trace

    @classmethod
    def checked(
        cls, v_tm1, v_t, r_t, discount_t, log_rho_tm1, same_episode_t, is_valid_t, lambda_: Scalar | Series
    ) -> "_Rows":
        arrays = {"v_tm1": v_tm1, "v_t": v_t, "r_t": r_t, "discount_t": discount_t, "log_rho_tm1": log_rho_tm1}
        v_tm1, v_t, r_t, discount_t, log_rho_tm1 = series(**arrays, is_valid_t=is_valid_t)
        check_same_shape(v_tm1=v_tm1, same_episode_t=same_episode_t)
        # Nothing passes through padding, not even what an option holds there.
        return cls(v_tm1, v_t, r_t, log_rho_tm1, Trace.checked(discount_t, lambda_, same_episode_t, is_valid_t))

    @property
    def q_t(self) -> Series:
        """What the step's action is worth, by the value of the state actually reached."""
        return self.r_t + scaled(self.trace.discount_t, self.v_t)


def _correct(
    rows: _Rows, ratio: Callable[..., Series], clips: tuple[Scalar, Scalar, Scalar], *, associative: bool | None
) -> VTrace:
    """The equations, for ratios that `ratio` clips at ρ̄, c̄ and the policy gradient's bound."""
    clip_rho, clip_c, clip_pg_rho = clips
    # With one bound for all, ρ (q_t − V) + ρ λ γ x_{t+1} is the correction itself: nothing more to work out.
    one_bound = all(isinstance(clip, int | float) for clip in clips) and len(set(clips)) == 1

    def affine(row: _Rows) -> tuple[Series, Series]:
        gain = row.trace.gain(ratio(row.log_rho_tm1, clip_c))
        return gain, ratio(row.log_rho_tm1, clip_rho) * (row.q_t - row.v_tm1)

    def result(row: _Rows, correction: Series, correction_next: Series) -> VTrace:
        if one_bound:
            return VTrace(row.v_tm1 + correction, correction)
        # The step sees λ v_{s+1} + (1 − λ) V(s_{s+1}), which is V(s_{s+1}) plus λ of the next step's correction.
        q_t = row.q_t + scaled(row.trace.decay, correction_next)
        return VTrace(row.v_tm1 + correction, ratio(row.log_rho_tm1, clip_pg_rho) * (q_t - row.v_tm1))

    return backward_rows(rows, affine, result, associative=associative)
