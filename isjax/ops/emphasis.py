"""Emphatic weights: how much each state of the behavior policy's stream matters to the target policy's updates."""

from typing import NamedTuple

import jax.numpy as jnp

from isjax._checks import along_time, check_fraction, check_positive, series
from isjax.ops.ratios import clipped_ratio
from isjax.ops.recurrence import backward_affine, scaled
from isjax.ops.returns import followed
from isjax.types import Flags, Scalar, Series


class Emphasis(NamedTuple):
    """What updates are weighed with, `[T, *B]` each."""

    follow_on_tm1: Series
    """`F_t = i_t + γ_t ρ_{t−1} F_{t−1}`: the discounted interest in all states from which π leads to this one."""
    emphasis_tm1: Series
    """`M_t = λ i_t + (1 − λ) F_t`: what the update of the state's value by `ρ_t δ_t` is multiplied by."""


def emphasis(
    discount_t: Series,
    log_rho_tm1: Series,
    same_episode_t: Flags | None = None,
    *,
    interest_tm1: Scalar | Series = 1.0,
    lambda_: Scalar | Series = 0.0,
    clip_rho: Scalar = jnp.inf,
    is_valid_t: Flags | None = None,
    associative: bool | None = None,
) -> Emphasis:
    """The follow-on trace and the emphasis of each row: with them semi-gradient TD is stable off-policy.

    Sutton, Mahmood & White 2016, https://arxiv.org/abs/1503.04269, eq. 17 to 19; Sutton & Barto 2018, section 11.8.
    The trace follows a stream forwards, so it is the package's backward recurrence on reversed arrays. It starts anew
    with the unroll and with each episode: `F = i`. As weights of a policy gradient it is the actor of Imani, Graves &
    White 2018 (ACE). Its variance grows with the products of ratios; `clip_rho` bounds each of them, at the price of
    a bias, as emphatic V-trace does (Jiang et al. 2021, https://arxiv.org/abs/2106.11779).

    Args:
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated.
      log_rho_tm1: `[T, *B]`, `log π(a|s) − log μ(a|s)`.
      same_episode_t: `[T, *B]`, false where a row ended its episode for either reason. May be left out if no row was
        cut by a time limit.
      interest_tm1: `i ≥ 0`, how much one cares for the state that a row starts from; a scalar, `[T]` or `[T, *B]`.
      lambda_: λ in [0, 1] of the update that is weighed; a scalar, `[T]` or `[T, *B]`.
      clip_rho: ρ̄ > 0; by default ratios saturate at `exp(80)` only.
      is_valid_t: `[T, *B]`, false for padding: such rows give 0, whatever they hold.
      associative: how to solve the recurrence, see `backward_affine`.

    Returns:
      `Emphasis(follow_on_tm1, emphasis_tm1)`; no gradient is stopped.

    Raises:
      ValueError: shapes differ, or an option is out of range.
      TypeError: an array is not floating, or a flag is not boolean.

    >>> emphasis(jnp.full(3, 0.5), jnp.zeros(3)).follow_on_tm1
    Array([1.  , 1.5 , 1.75], dtype=float32)
    """
    check_fraction(lambda_=lambda_)
    check_positive(clip_rho=clip_rho)
    discount_t, log_rho_tm1 = series(discount_t=discount_t, log_rho_tm1=log_rho_tm1, is_valid_t=is_valid_t)
    interest = jnp.broadcast_to(along_time(discount_t, interest_tm1=interest_tm1), discount_t.shape)
    interest = interest if is_valid_t is None else jnp.where(is_valid_t, interest, 0.0)
    goes_on_t = followed(same_episode_t, discount_t, is_valid_t)
    rho = clipped_ratio(jnp.where(goes_on_t, log_rho_tm1, 0.0), clip_rho)
    leads_t = scaled(jnp.where(goes_on_t, discount_t, 0.0), rho)
    # Row t takes what row t − 1 leads to: one row later, and backwards in time.
    gain_t = jnp.concatenate([jnp.zeros_like(leads_t[:1]), leads_t[:-1]])
    follow_on_tm1 = backward_affine(gain_t[::-1], interest[::-1], associative=associative)[::-1]
    share = along_time(discount_t, lambda_=lambda_)
    return Emphasis(follow_on_tm1, share * interest + (1.0 - share) * follow_on_tm1)
