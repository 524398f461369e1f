"""Corrected returns of state-action pairs: Retrace, tree backup, Q(λ), importance sampling, any trace, RBIS.

All but the last are one recurrence, `G_t = Q_t + δ_t + γ c_{t+1} (G_{t+1} − Q_{t+1})`, with
`δ_t = r_t + γ v_t − Q_t`; they differ in the trace factor `c` alone.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from isjax._checks import check_fraction, series
from isjax.ops.ratios import MAX_LOG_RATIO, clipped_ratio, product_of_ratios
from isjax.ops.recurrence import backward_affine, backward_rows, scaled
from isjax.ops.returns import Trace, decay
from isjax.types import Flags, Scalar, Series


def retrace(
    q_tm1: Series,
    v_t: Series,
    r_t: Series,
    discount_t: Series,
    log_rho_tm1: Series,
    same_episode_t: Flags | None = None,
    *,
    is_valid_t: Flags | None = None,
    lambda_: Scalar | Series = 1.0,
    associative: bool | None = None,
) -> Series:
    """Retrace(λ): the trace factor is `λ min(1, ρ_t)`.

    Munos et al. 2016, https://arxiv.org/abs/1606.02647. No gradient is stopped here.

    Args:
      q_tm1: `[T, *B]`, `Q(s, a)` of the states that steps start from and the actions taken there.
      v_t: `[T, *B]`, `Σ_a π(a|s) Q(s, a)` of the states actually reached: at a time limit that of the
        final observation, never that of the first observation after the reset.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated.
      log_rho_tm1: `[T, *B]`, `log π(a|s) − log μ(a|s)`.
      same_episode_t: `[T, *B]`, false where a step ended its episode for either reason. May be left out
        if no step was cut by a time limit.
      is_valid_t: `[T, *B]`, false for padding: such steps give 0, whatever they hold.
      lambda_: λ in [0, 1]; a scalar, `[T]` or `[T, *B]`; step t's is for the step from its action to the next.
      associative: how to solve the recurrence, see `backward_affine`.

    Returns:
      `[T, *B]`, the returns that `q_tm1` should move to, float32 at least.

    Raises:
      ValueError: shapes differ, or an option is out of range.
      TypeError: an array is not floating, or a flag is not boolean.

    >>> x = jnp.zeros(2)
    >>> retrace(x, x, x + 1.0, x + 1.0, jnp.log(jnp.array([9.0, 0.5])))
    Array([1.5, 1. ], dtype=float32)
    """
    *rows, log_rho_tm1 = series(
        q_tm1=q_tm1, v_t=v_t, r_t=r_t, discount_t=discount_t, log_rho_tm1=log_rho_tm1, is_valid_t=is_valid_t
    )
    factor = functools.partial(clipped_ratio, clip=1.0)
    return _correct(rows, log_rho_tm1, factor, same_episode_t, is_valid_t, lambda_, associative)


def importance_sampled_q(
    q_tm1: Series,
    v_t: Series,
    r_t: Series,
    discount_t: Series,
    log_rho_tm1: Series,
    same_episode_t: Flags | None = None,
    *,
    is_valid_t: Flags | None = None,
    lambda_: Scalar | Series = 1.0,
    associative: bool | None = None,
) -> Series:
    """Importance-corrected temporal differences: the trace factor is `λ ρ_t`, unclipped.

    Precup, Sutton & Singh 2000; at λ = 1 the per-decision return with control variates of
    Sutton & Barto 2018, eq. 7.14. Ratios saturate at `exp(80)`, their products overflow to infinity.

    The arguments, the result and the errors are those of `retrace`.

    >>> x = jnp.zeros(2)
    >>> importance_sampled_q(x, x, x + 1.0, x + 1.0, jnp.log(jnp.array([9.0, 3.0])))
    Array([4., 1.], dtype=float32)
    """
    *rows, log_rho_tm1 = series(
        q_tm1=q_tm1, v_t=v_t, r_t=r_t, discount_t=discount_t, log_rho_tm1=log_rho_tm1, is_valid_t=is_valid_t
    )
    factor = functools.partial(clipped_ratio, clip=jnp.inf)
    return _correct(rows, log_rho_tm1, factor, same_episode_t, is_valid_t, lambda_, associative)


def tree_backup(
    q_tm1: Series,
    v_t: Series,
    r_t: Series,
    discount_t: Series,
    log_pi_tm1: Series,
    same_episode_t: Flags | None = None,
    *,
    is_valid_t: Flags | None = None,
    lambda_: Scalar | Series = 1.0,
    associative: bool | None = None,
) -> Series:
    """Tree backup(λ): the trace factor is `λ π(a_t|s_t)`; the behavior policy need not be known.

    Precup, Sutton & Singh 2000; Sutton & Barto 2018, section 7.5.

    `log_pi_tm1` `[T, *B]` are log-probabilities of the actions taken, under the target policy. The other
    arguments, the result and the errors are those of `retrace`.

    >>> x = jnp.zeros(2)
    >>> tree_backup(x, x, x + 1.0, x + 1.0, jnp.log(jnp.array([0.5, 0.25])))
    Array([1.25, 1.  ], dtype=float32)
    """
    *rows, log_pi_tm1 = series(
        q_tm1=q_tm1, v_t=v_t, r_t=r_t, discount_t=discount_t, log_pi_tm1=log_pi_tm1, is_valid_t=is_valid_t
    )
    factor = functools.partial(clipped_ratio, clip=jnp.inf)
    return _correct(rows, log_pi_tm1, factor, same_episode_t, is_valid_t, lambda_, associative)


def q_lambda(
    q_tm1: Series,
    v_t: Series,
    r_t: Series,
    discount_t: Series,
    same_episode_t: Flags | None = None,
    *,
    is_valid_t: Flags | None = None,
    lambda_: Scalar | Series = 1.0,
    associative: bool | None = None,
) -> Series:
    """Q(λ) with off-policy corrections: the trace factor is λ; right while the policies are close.

    Harutyunyan et al. 2016, https://arxiv.org/abs/1602.04951: it converges to the values of π for
    `λ < (1 − γ) / (γ ε)`, ε being the largest L1 distance between the policies in a state.

    The arguments, the result and the errors are those of `retrace`, less `log_rho_tm1`.

    >>> x = jnp.zeros(2)
    >>> q_lambda(x, x, x + 1.0, x + 1.0, lambda_=0.5)
    Array([1.5, 1. ], dtype=float32)
    """
    rows = series(q_tm1=q_tm1, v_t=v_t, r_t=r_t, discount_t=discount_t, is_valid_t=is_valid_t)
    return _correct(rows, rows[0], jnp.ones_like, same_episode_t, is_valid_t, lambda_, associative)


def general_off_policy_q(
    q_tm1: Series,
    v_t: Series,
    r_t: Series,
    discount_t: Series,
    c_tm1: Series,
    same_episode_t: Flags | None = None,
    *,
    is_valid_t: Flags | None = None,
    lambda_: Scalar | Series = 1.0,
    associative: bool | None = None,
) -> Series:
    """The general operator: the trace factor is `λ c_t`, whatever `c_t` is.

    `G_t = r_t + γ (v_t + λ c_{t+1} (G_{t+1} − Q_{t+1}))`, the operator that the others are cases of: Munos et
    al. 2016, https://arxiv.org/abs/1606.02647. It contracts to the values of π where `0 ≤ c_t ≤ ρ_t`.

    `c_tm1` `[T, *B]` are finite factors of the actions that steps start with; the first step's is without
    influence. The other arguments, the result and the errors are those of `retrace`.

    >>> x = jnp.zeros(2)
    >>> general_off_policy_q(x, x, x + 1.0, x + 1.0, jnp.array([9.0, 0.5]))
    Array([1.5, 1. ], dtype=float32)
    """
    *rows, c_tm1 = series(q_tm1=q_tm1, v_t=v_t, r_t=r_t, discount_t=discount_t, c_tm1=c_tm1, is_valid_t=is_valid_t)
    return _correct(rows, c_tm1, lambda c: c, same_episode_t, is_valid_t, lambda_, associative)


def rbis(
    q_tm1: Series,
    v_t: Series,
    r_t: Series,
    discount_t: Series,
    log_rho_tm1: Series,
    same_episode_t: Flags | None = None,
    *,
    is_valid_t: Flags | None = None,
    lambda_: Scalar = 1.0,
) -> Series:
    """Recency-bounded importance sampling: `G_s = Q_s + Σ_t γ^{t−s} β_{s,t} δ_t`, which a cut trace survives.

    `β_{s,t} = min(λ^{t−s}, ρ_t β_{s,t−1})` with `β_{s,s} = 1`: Daley et al. 2023,
    https://arxiv.org/abs/2301.11321. A later large ratio restores what a small one took, so that
    the trace depends on where it began and each step's sum is taken on its own: `T²` work for `T` steps.
    Ratios and λ count as at least `exp(−80)`.

    `lambda_` has to be a scalar; it bounds the trace. The other arguments, the result and the errors are
    those of `retrace`.

    >>> x = jnp.zeros(3); log_rho = jnp.log(jnp.array([1.0, 0.5, 2.0]))
    >>> rbis(x, x, x + 1.0, x + 1.0, log_rho)
    Array([2.5, 2. , 1. ], dtype=float32)
    """
    check_fraction(lambda_=lambda_)
    if jnp.ndim(lambda_) > 0:
        raise ValueError(f"lambda_ must be a scalar here, but its shape is {list(jnp.shape(lambda_))}.")
    q_tm1, v_t, r_t, discount_t, log_rho_tm1 = series(
        q_tm1=q_tm1, v_t=v_t, r_t=r_t, discount_t=discount_t, log_rho_tm1=log_rho_tm1, is_valid_t=is_valid_t
    )
    gain = decay(discount_t, 1.0, same_episode_t, is_valid_t)
    td = r_t + scaled(discount_t, v_t) - q_tm1
    goes_on = gain != 0
    log_product = product_of_ratios(jnp.clip(log_rho_tm1, -MAX_LOG_RATIO, MAX_LOG_RATIO), same_episode_t=goes_on)
    log_lambda = jnp.log(jnp.maximum(jnp.asarray(lambda_, td.dtype), math.exp(-MAX_LOG_RATIO)))
    row = jnp.arange(len(td)).reshape((-1,) + (1,) * (td.ndim - 1))

    episode = jnp.cumsum(jnp.concatenate([jnp.zeros_like(goes_on[:1]), ~goes_on[:-1]]), axis=0)

    def correction(start: jax.Array) -> jax.Array:
        # β_{s,t} is the least of λ^{k−s} ρ_{k+1:t} over s ≤ k ≤ t: at k the bound held for the last time.
        counts = (row >= start) & (episode == episode[start][None])
        log_rho = jnp.where(counts, log_product, 0.0)
        log_bound = jnp.where(counts, (row - start) * log_lambda - log_rho, jnp.inf)
        log_beta = jnp.where(counts, log_rho + jax.lax.cummin(log_bound, axis=0), -jnp.inf)
        return backward_affine(gain, jnp.exp(log_beta) * jnp.where(counts, td, 0.0))[start]

    return q_tm1 + jax.lax.map(correction, jnp.arange(len(td)))


def _correct(
    rows: Sequence[Series],
    x_tm1: Series,
    factor: Callable[[Series], Series],
    same_episode_t: Flags | None,
    is_valid_t: Flags | None,
    lambda_: Scalar | Series,
    associative: bool | None,
) -> Series:
    """The recurrence, for one trace factor `factor(x_tm1)` or another; nothing follows the last step."""
    q_tm1, v_t, r_t, discount_t = rows
    x_t = jnp.concatenate([x_tm1[1:], jnp.zeros_like(x_tm1[:1])])

    def affine(row: tuple[Series, Series, Series, Series, Trace]) -> tuple[Series, Series]:
        q_tm1, v_t, r_t, x_t, trace = row
        return scaled(trace.decay, factor(x_t)), r_t + scaled(trace.discount_t, v_t) - q_tm1

    moving = (q_tm1, v_t, r_t, x_t, Trace.checked(discount_t, lambda_, same_episode_t, is_valid_t))
    return backward_rows(moving, affine, lambda row, x, x_next: row[0] + x, associative=associative)
