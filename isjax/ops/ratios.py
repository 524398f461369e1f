"""Importance ratios as log-ratios: products are sums, and `exp` is taken once, after clipping."""

from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp

from isjax._checks import check_flags, check_fraction, check_same_shape, check_time_axis, precise, series
from isjax.errors import FieldError
from isjax.ops.sequences import sequence_lengths, total_by_sequence
from isjax.types import Flags, Scalar, Series

MAX_LOG_RATIO = 80.0
"""Where an unclipped ratio is asked for, it saturates at `exp(80) ≈ 5.5e34`: finite in float32, and so
is its gradient."""
LARGEST_LOG_RATIO = 1e30
"""What infinity counts as in a sum of log-ratios: a ratio of 0 beside it still makes a product of 0."""

Level: TypeAlias = Literal["step", "sequence", "geometric"]
"""Whose ratio a step takes: its own, the product over its sequence, or the geometric mean over its sequence."""


def log_ratios(log_pi_tm1: Series, log_mu_tm1: Series) -> Series:
    """`log π(a|s) − log μ(a|s)`, and 0 for an action that is impossible under both policies.

    Args:
      log_pi_tm1: `[T, *B]`, log-probability of the action under the target policy.
      log_mu_tm1: `[T, *B]`, the same under the policy that the action was sampled from, after masks,
        temperature and exploration.

    Returns:
      `[T, *B]`; `−inf` where only π excludes the action, `inf` where only μ does.

    >>> log_ratios(jnp.array([-1.0, -jnp.inf]), jnp.array([-1.5, -jnp.inf]))
    Array([0.5, 0. ], dtype=float32)
    """
    check_same_shape(log_pi_tm1=log_pi_tm1, log_mu_tm1=log_mu_tm1)
    log_pi_tm1, log_mu_tm1 = precise(log_pi_tm1=log_pi_tm1, log_mu_tm1=log_mu_tm1)
    impossible = jnp.isneginf(log_pi_tm1) & jnp.isneginf(log_mu_tm1)
    return jnp.where(impossible, 0.0, log_pi_tm1) - jnp.where(impossible, 0.0, log_mu_tm1)


def clipped_ratio(log_rho: jax.Array, clip: Scalar) -> jax.Array:
    """`min(clip, ρ)`, clipped before `exp`: finite, with a finite gradient, for any log-ratio.

    Args:
      log_rho: any shape.
      clip: greater than 0; `inf` clips at `exp(80)` only.

    Returns:
      The shape of `log_rho`, float32 at least.

    >>> clipped_ratio(jnp.array([-1000.0, 0.0, 1000.0]), 2.0)
    Array([0., 1., 2.], dtype=float32)
    """
    (log_rho,) = precise(log_rho=log_rho)
    return jnp.exp(jnp.minimum(log_rho, jnp.minimum(jnp.log(clip), MAX_LOG_RATIO)))


def product_of_ratios(
    log_rho_tm1: Series, is_valid_t: Flags | None = None, *, same_episode_t: Flags | None = None
) -> Series:
    """Logarithms of the prefix products `ρ_{0:t}`, each the sum of the log-ratios so far.

    The weight of a trajectory is that of its last step (Sutton & Barto 2018, eq. 5.3).

    Args:
      log_rho_tm1: `[T, *B]`.
      is_valid_t: `[T, *B]`; a step where it is false contributes a factor of one, whatever it holds.
      same_episode_t: `[T, *B]`; false where an episode ends: the next step starts a new product.

    Returns:
      `log ρ_{0:t}`, `[T, *B]`. It is finite where `exp` of it would not be.

    >>> product_of_ratios(jnp.array([0.5, -0.25, 1.0]))
    Array([0.5 , 0.25, 1.25], dtype=float32)
    """
    (log_rho_tm1,) = series(log_rho_tm1=log_rho_tm1, is_valid_t=is_valid_t)
    check_same_shape(log_rho_tm1=log_rho_tm1, same_episode_t=same_episode_t)
    check_flags(same_episode_t=same_episode_t)
    log_rho_tm1 = jnp.minimum(log_rho_tm1, LARGEST_LOG_RATIO)
    start = jnp.zeros_like(log_rho_tm1[0])

    if same_episode_t is None:

        def step(log_product, log_rho):
            log_product = log_product + log_rho
            return log_product, log_product

        return jax.lax.scan(step, start, log_rho_tm1)[1]

    def step_within_episode(log_product, row):
        log_rho, same_episode = row
        log_product = log_product + log_rho
        return jnp.where(same_episode, log_product, 0.0), log_product

    # The first carry has to vary over every mesh axis that the flags vary over, as the others do.
    start = jnp.where(same_episode_t[0], start, 0.0)
    return jax.lax.scan(step_within_episode, start, (log_rho_tm1, same_episode_t))[1]


def ratio_levels(
    log_rho_tm1: Series, is_valid_t: Flags | None = None, *, level: Level, segment_ids_t: jax.Array | None = None
) -> Series:
    """Log-ratios at the level asked for: of the step, or one for the whole sequence in each of its steps.

    Time is the position in a sequence (of tokens, say), and every stream is one sequence. The logarithms are
    added up, never the ratios.

    Args:
      log_rho_tm1: `[T, *B]`.
      is_valid_t: `[T, *B]`; steps where it is false do not enter, and get 0.
      level: "step": `ℓ_t`; "sequence": `Σ_k ℓ_k`, the logarithm of the product; "geometric": the mean of
        `ℓ_k`, the logarithm of the geometric mean.
      segment_ids_t: `[T, *B]`, integers, where streams hold several sequences one after the other: a new one begins
        wherever the number changes.

    Returns:
      `[T, *B]`, float32 at least; clip before `exp` (`clipped_ratio`).

    Raises:
      ValueError: shapes differ, or there is no such level.
      TypeError: an array is not floating, `is_valid_t` not boolean, or `segment_ids_t` not of integers.

    >>> ratio_levels(jnp.array([0.5, 1.5]), level="geometric")
    Array([1., 1.], dtype=float32)
    """
    (log_rho_tm1,) = series(log_rho_tm1=log_rho_tm1, is_valid_t=is_valid_t)
    log_level = log_ratio_of(level, log_rho_tm1, is_valid_t, segment_ids_t)
    if is_valid_t is None or level == "step":
        return jnp.broadcast_to(log_level, log_rho_tm1.shape)
    return jnp.where(is_valid_t, log_level, 0.0)


def log_ratio_of(
    level: Level, log_rho_tm1: Series, is_valid_t: Flags | None, segment_ids_t: jax.Array | None
) -> jax.Array:
    """`ratio_levels` of checked log-ratios, 0 in padding: `[1, *B]` where one number stands for a whole stream."""
    if level not in get_args(Level):
        raise FieldError("level", f"one of {', '.join(get_args(Level))}", repr(level))
    if level == "step":
        return log_rho_tm1
    total = total_by_sequence(jnp.minimum(log_rho_tm1, LARGEST_LOG_RATIO), segment_ids_t)
    if level == "sequence":
        return total
    counts = jnp.ones(log_rho_tm1.shape, bool) if is_valid_t is None else is_valid_t
    return total / sequence_lengths(counts, segment_ids_t, total.dtype)


def endings(terminated_t: Flags, truncated_t: Flags, discount: Scalar) -> tuple[Series, Flags]:
    """The two facts about episode ends that every corrected return takes.

    Args:
      terminated_t: `[T, *B]`; the state reached is terminal.
      truncated_t: `[T, *B]`; a time limit cut the episode here. Both at once count as terminated.
      discount: γ in [0, 1].

    Returns:
      `discount_t` `[T, *B]`, γ and 0 where terminated; `same_episode_t` `[T, *B]`, false at either end.

    >>> endings(jnp.array([False, True]), jnp.array([True, False]), 0.9)
    (Array([0.9, 0. ], dtype=float32), Array([False, False], dtype=bool))
    """
    check_same_shape(terminated_t=terminated_t, truncated_t=truncated_t)
    check_flags(terminated_t=terminated_t, truncated_t=truncated_t)
    check_time_axis(terminated_t=terminated_t)
    check_fraction(discount=discount)
    dtype = jnp.promote_types(jnp.result_type(discount), jnp.float32)
    discount_t = jnp.where(terminated_t, jnp.zeros((), dtype), jnp.asarray(discount, dtype))
    return discount_t, ~(terminated_t | truncated_t)
