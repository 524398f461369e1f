"""V-trace and leaky V-trace from ratios."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from isjax._checks import along_time, check_flags, check_same_shape, series
from isjax.compat.rlax._inputs import heard, saturated
from isjax.ops.recurrence import backward_affine, scaled
from isjax.types import Flags, Scalar, Series

__all__ = [
    "VTraceOutput",
    "leaky_vtrace",
    "leaky_vtrace_td_error_and_advantage",
    "vtrace",
    "vtrace_td_error_and_advantage",
]


class VTraceOutput(NamedTuple):
    """What an actor-critic needs, each `[T, *B]`."""

    errors: Series
    """`v_s − V(s)`: the corrected target minus the value."""
    pg_advantage: Series
    """The factor of `∇log π` in the policy gradient, the clipped ratio included; gradients flow through it."""
    q_estimate: Series
    """`r + γ [λ v_{s+1} + (1 − λ) V(s_{s+1})]`."""


def vtrace(
    v_tm1: Series,
    v_t: Series,
    r_t: Series,
    discount_t: Series,
    rho_tm1: Series,
    lambda_: Scalar | Series = 1.0,
    clip_rho_threshold: Scalar = 1.0,
    stop_target_gradients: bool | jax.Array = True,
    sample_mask: Flags | None = None,
    *,
    same_episode_t: Flags | None = None,
) -> Series:
    """V-trace errors `v_s − V(s)` from ratios: `leaky_vtrace` with α = 1.

    Espeholt et al. 2018, https://arxiv.org/abs/1802.01561, eq. 1, with c̄ = 1.

    >>> v = jnp.array([1.0, 1.0]); r = jnp.array([0.0, 2.0]); d = jnp.array([1.0, 0.0])
    >>> vtrace(v, v, r, d, jnp.ones(2))
    Array([1., 1.], dtype=float32)
    """
    return leaky_vtrace(
        v_tm1,
        v_t,
        r_t,
        discount_t,
        rho_tm1,
        1.0,
        lambda_,
        clip_rho_threshold,
        stop_target_gradients,
        sample_mask,
        same_episode_t=same_episode_t,
    )


def leaky_vtrace(
    v_tm1: Series,
    v_t: Series,
    r_t: Series,
    discount_t: Series,
    rho_tm1: Series,
    alpha_: Scalar = 1.0,
    lambda_: Scalar | Series = 1.0,
    clip_rho_threshold: Scalar = 1.0,
    stop_target_gradients: bool | jax.Array = True,
    sample_mask: Flags | None = None,
    *,
    same_episode_t: Flags | None = None,
) -> Series:
    """The errors of `leaky_vtrace_td_error_and_advantage` alone; `alpha_` is its `alpha`.

    >>> zero, one = jnp.zeros(1), jnp.ones(1)
    >>> leaky_vtrace(zero, zero, one, one, 3.0 * one, 0.5)
    Array([2.], dtype=float32)
    """
    return leaky_vtrace_td_error_and_advantage(
        v_tm1,
        v_t,
        r_t,
        discount_t,
        rho_tm1,
        alpha_,
        lambda_,
        clip_rho_threshold,
        stop_target_gradients=stop_target_gradients,
        sample_mask=sample_mask,
        same_episode_t=same_episode_t,
    ).errors


def vtrace_td_error_and_advantage(
    v_tm1: Series,
    v_t: Series,
    r_t: Series,
    discount_t: Series,
    rho_tm1: Series,
    lambda_: Scalar | Series = 1.0,
    clip_rho_threshold: Scalar = 1.0,
    clip_pg_rho_threshold: Scalar = 1.0,
    stop_target_gradients: bool | jax.Array = True,
    sample_mask: Flags | None = None,
    *,
    same_episode_t: Flags | None = None,
) -> VTraceOutput:
    """V-trace errors, advantages and action values: `leaky_vtrace_td_error_and_advantage` with α = 1.

    Espeholt et al. 2018, https://arxiv.org/abs/1802.01561, eq. 1 and section 4.2.

    >>> v = jnp.array([1.0, 1.0]); r = jnp.array([0.0, 2.0]); d = jnp.array([1.0, 0.0])
    >>> vtrace_td_error_and_advantage(v, v, r, d, jnp.ones(2)).pg_advantage
    Array([1., 1.], dtype=float32)
    """
    return leaky_vtrace_td_error_and_advantage(
        v_tm1,
        v_t,
        r_t,
        discount_t,
        rho_tm1,
        1.0,
        lambda_,
        clip_rho_threshold,
        clip_pg_rho_threshold,
        stop_target_gradients,
        sample_mask,
        same_episode_t=same_episode_t,
    )


def leaky_vtrace_td_error_and_advantage(
    v_tm1: Series,
    v_t: Series,
    r_t: Series,
    discount_t: Series,
    rho_tm1: Series,
    alpha: Scalar = 1.0,
    lambda_: Scalar | Series = 1.0,
    clip_rho_threshold: Scalar = 1.0,
    clip_pg_rho_threshold: Scalar = 1.0,
    stop_target_gradients: bool | jax.Array = True,
    sample_mask: Flags | None = None,
    *,
    same_episode_t: Flags | None = None,
) -> VTraceOutput:
    """Errors, advantages and action values of V-trace with ratios `(1 − α) ρ + α min(clip, ρ)`.

    Zahavy et al. 2020, https://arxiv.org/abs/2002.12928, with c̄ = 1; α = 1 is V-trace.

    Args:
      v_tm1: `[T, *B]`, values of the states that steps start from.
      v_t: `[T, *B]`, values of the states actually reached.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated.
      rho_tm1: `[T, *B]`, `π(a|s) / μ(a|s)`, at least 0.
      alpha: α in [0, 1], may be traced.
      lambda_: λ in [0, 1]; a scalar, `[T]` or `[T, *B]`.
      clip_rho_threshold: ρ̄.
      clip_pg_rho_threshold: bounds the ratio of the policy gradient.
      stop_target_gradients: the targets `v_s` are constants: gradients reach the values otherwise only.
      sample_mask: `[T, *B]`; a step where it is false takes over the error of the next step.
      same_episode_t: `[T, *B]`, false where a step ended its episode, for either reason: the step
        bootstraps from `v_t`, and nothing of what comes later enters it.

    Raises:
      ValueError: the shapes differ, or there is no step.
      TypeError: an array is not floating, or a flag is not boolean.

    >>> zero, one = jnp.zeros(1), jnp.ones(1)
    >>> leaky_vtrace_td_error_and_advantage(zero, zero, one, one, 3.0 * one, 0.5).pg_advantage
    Array([2.], dtype=float32)
    """
    v_tm1, v_t, r_t, discount_t, rho_tm1 = series(v_tm1=v_tm1, v_t=v_t, r_t=r_t, discount_t=discount_t, rho_tm1=rho_tm1)
    check_same_shape(v_tm1=v_tm1, sample_mask=sample_mask, same_episode_t=same_episode_t)
    check_flags(sample_mask=sample_mask, same_episode_t=same_episode_t)
    if sample_mask is not None:
        rows = (v_tm1, v_t, r_t, discount_t, rho_tm1)
        v_tm1, v_t, r_t, discount_t, rho_tm1 = (heard(x, sample_mask) for x in rows)
    lambda_ = along_time(v_tm1, lambda_=lambda_)
    gain = scaled(discount_t * lambda_, _leaky(rho_tm1, 1.0, alpha))
    bias = _leaky(rho_tm1, clip_rho_threshold, alpha) * (r_t + scaled(discount_t, v_t) - v_tm1)
    if sample_mask is not None:
        gain = jnp.where(sample_mask, gain, 1.0)
        bias = jnp.where(sample_mask, bias, 0.0)
    if same_episode_t is not None:
        gain = jnp.where(same_episode_t, gain, 0.0)
    errors = backward_affine(gain, bias)
    errors = jnp.where(stop_target_gradients, jax.lax.stop_gradient(errors + v_tm1) - v_tm1, errors)

    # λ v_{s+1} + (1 − λ) V(s_{s+1}): rlax reads both off the next step, which another episode may own.
    following = (_next_row(errors + v_tm1, v_t), _next_row(v_tm1, v_t))
    if same_episode_t is not None:
        following = tuple(jnp.where(same_episode_t, x, v_t) for x in following)
    bootstrap = scaled(lambda_, following[0]) + scaled(1.0 - lambda_, following[1])
    q_estimate = r_t + scaled(discount_t, bootstrap)
    pg_advantage = _leaky(rho_tm1, clip_pg_rho_threshold, alpha) * (q_estimate - v_tm1)
    return VTraceOutput(errors, pg_advantage, q_estimate)


def _leaky(rho: Series, clip: Scalar, alpha: Scalar) -> Series:
    """`(1 − α) ρ + α min(clip, ρ)`, finite for ρ from 0 to infinity."""
    rho = saturated(rho)
    return (1.0 - alpha) * rho + alpha * jnp.minimum(rho, clip)


def _next_row(x_t: Series, last: Series) -> Series:
    """`x_{t+1}`, and the last step of `last` at the end."""
    return jnp.concatenate([x_t[1:], last[-1:]])
