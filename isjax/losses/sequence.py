"""Policy losses on sequences, such as the tokens of a text: the level of each ratio is named.

Time is the position in the sequence, every stream one sequence, and `is_valid_t` the mask of its tokens.
"""

import jax
import jax.numpy as jnp

from isjax._checks import check_positive
from isjax.losses._rows import Rows, constant_ratio, off_policy_rows, ratio
from isjax.losses.proximal import clipped_objective
from isjax.ops.ratios import Level, ratio_levels
from isjax.ops.reduction import mean_over_valid
from isjax.types import Flags, Scalar, Series


def truncated_is_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    level: Level = "step",
    truncation: Scalar = 2.0,
) -> jax.Array:
    """`−sg(min(ρ, C)) A log π`, the mean over valid steps: truncated importance sampling.

    Ionides 2008; the ratio is that of the level named, see `ops.ratio_levels`. At the level "step" it is
    `per_step_ratio_loss`.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the tokens, under the policy that learns; gradients flow
        into these alone. A step whose token is impossible (`−inf`) adds nothing.
      log_mu_tm1: `[T, *B]`, the same under the policy that generated them, as it sampled them.
      advantage_tm1: `[T, *B]`.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      level: "step", "sequence" or "geometric".
      truncation: C > 0.

    Raises:
      ValueError: shapes differ, or an option is out of range.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> log_pi, log_mu = jnp.zeros(2) - 1.0, jnp.array([-2.0, 0.0])
    >>> truncated_is_loss(log_pi, log_mu, jnp.ones(2), level="sequence")
    Array(1., dtype=float32)
    """
    check_positive(truncation=truncation)
    rows = off_policy_rows(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t)
    weight = constant_ratio(ratio_levels(rows.log_rho_tm1, is_valid_t, level=level), truncation)
    return _weighted(weight, rows, is_valid_t)


def masked_is_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    level: Level = "step",
    low: Scalar,
    high: Scalar,
) -> jax.Array:
    """`−sg(ρ · 1{low ≤ ρ ≤ high}) A log π`, the mean over valid steps: masked importance sampling.

    Steps whose ratio, at the level named, is outside the interval weigh 0. They stay in the denominator: the
    loss shrinks as more steps are masked.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the tokens, under the policy that learns; gradients flow
        into these alone. A step whose token is impossible (`−inf`) adds nothing.
      log_mu_tm1: `[T, *B]`, the same under the policy that generated them.
      advantage_tm1: `[T, *B]`.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      level: "step", "sequence" or "geometric".
      low: at least 0; 0 masks small ratios never.
      high: greater than 0; `inf` masks large ratios never, but they saturate at `exp(40)`.

    Raises:
      ValueError: shapes differ, or an option is out of range.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> masked_is_loss(jnp.array([-1.0, -1.0]), jnp.array([-1.0, -9.0]), jnp.ones(2), low=0.5, high=2.0)
    Array(0.5, dtype=float32)
    """
    check_positive(high=high)
    if isinstance(low, int | float) and not low >= 0:
        raise ValueError(f"low must be at least 0, but it is {low}.")
    rows = off_policy_rows(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t)
    log_rho = ratio_levels(rows.log_rho_tm1, is_valid_t, level=level)
    inside = (log_rho >= jnp.log(low)) & (log_rho <= jnp.log(high))
    return _weighted(jnp.where(inside, constant_ratio(log_rho), 0.0), rows, is_valid_t)


def cispo_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    clip_low: Scalar = 1.0,
    clip_high: Scalar = 4.0,
) -> jax.Array:
    """`−sg(clip(ρ, 1 − ε_low, 1 + ε_high)) A log π`, the mean over valid steps: no token is left out.

    MiniMax 2025, https://arxiv.org/abs/2506.13585: unlike PPO it clips the weight, so that every token keeps
    its gradient. The lower bound is off by default, as in the paper; the upper one is to be tuned.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the tokens, under the policy that learns; gradients flow
        into these alone. A step whose token is impossible (`−inf`) adds nothing.
      log_mu_tm1: `[T, *B]`, the same under the policy that generated them.
      advantage_tm1: `[T, *B]`.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      clip_low: ε_low > 0; 1 and more is no bound.
      clip_high: ε_high > 0.

    Raises:
      ValueError: shapes differ, or an option is not above 0.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> cispo_loss(jnp.array([-1.0]), jnp.array([-9.0]), jnp.array([1.0]), clip_high=0.5)
    Array(1.5, dtype=float32)
    """
    check_positive(clip_low=clip_low, clip_high=clip_high)
    rows = off_policy_rows(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t)
    weight = jnp.maximum(constant_ratio(rows.log_rho_tm1, 1.0 + clip_high), 1.0 - clip_low)
    return _weighted(weight, rows, is_valid_t)


def topr_loss(
    log_pi_tm1: Series, log_mu_tm1: Series, advantage_tm1: Series, is_valid_t: Flags | None = None
) -> jax.Array:
    """`−sg(w) A log π`, the mean over valid steps, with `w = 1` for `A ≥ 0` and `min(ρ, 1)` of the sequence else.

    Tapered off-policy REINFORCE, Le Roux et al. 2025, https://arxiv.org/abs/2503.14286: good sequences are
    imitated whatever their ratio, bad ones are pushed down only while the policy still generates them.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the tokens, under the policy that learns; gradients flow
        into these alone. A step whose token is impossible (`−inf`) adds nothing.
      log_mu_tm1: `[T, *B]`, the same under the policy that generated them.
      advantage_tm1: `[T, *B]`, the sequence's return in each of its steps, less a baseline or not.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.

    Raises:
      ValueError: shapes differ.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> log_pi, log_mu = jnp.array([[-1.0, -1.0]]), jnp.array([[-9.0, 7.0]])
    >>> jax.grad(topr_loss)(log_pi, log_mu, jnp.array([[2.0, -2.0]])).round(3)
    Array([[-1.,  0.]], dtype=float32)
    """
    rows = off_policy_rows(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t)
    tapered = constant_ratio(ratio_levels(rows.log_rho_tm1, is_valid_t, level="sequence"), 1.0)
    return _weighted(jnp.where(rows.advantage_tm1 >= 0, 1.0, tapered), rows, is_valid_t)


def gspo_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    clip_low: Scalar = 3e-4,
    clip_high: Scalar = 4e-4,
) -> jax.Array:
    """`−min(s A, clip(s, 1 − ε_low, 1 + ε_high) A)`, with `s` the geometric mean of a sequence's ratios.

    Group sequence policy optimization, Zheng et al. 2025, https://arxiv.org/abs/2507.18071; gradients flow
    through `s`. The mean over sequences of the mean over their valid steps: long and short ones count alike,
    those without a valid step do not.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the tokens, under the policy that learns; gradients flow
        into these alone. A sequence with an impossible token (`−inf`) adds nothing.
      log_mu_tm1: `[T, *B]`, the same under the policy that generated them.
      advantage_tm1: `[T, *B]`, the sequence's advantage in each of its steps.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      clip_low: ε_low > 0.
      clip_high: ε_high > 0.

    Raises:
      ValueError: shapes differ, or an option is not above 0.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> x = jnp.zeros((4, 2))
    >>> jax.grad(gspo_loss)(x, x, jnp.array([[1.0, -2.0]] * 4))[0]
    Array([-0.125,  0.25 ], dtype=float32)
    """
    check_positive(clip_low=clip_low, clip_high=clip_high)
    rows = off_policy_rows(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t)
    rows = rows._replace(
        log_rho_tm1=ratio_levels(rows.log_rho_tm1, is_valid_t, level="geometric"),
        advantage_tm1=_of_possible_sequences(rows),
    )
    return -_mean_of_sequences(clipped_objective(rows, 1.0 - clip_low, 1.0 + clip_high), is_valid_t)


def gmpo_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    clip_low: Scalar = 0.4,
    clip_high: Scalar = 0.4,
) -> jax.Array:
    """`−s A`, with `s` the geometric mean of ratios that were clipped token by token, as PPO does.

    Geometric-mean policy optimization, Zhao et al. 2025, https://arxiv.org/abs/2507.20673. Each log-ratio is
    kept below `ε_high` where the advantage is positive and above `−ε_low` where it is negative. The mean
    over sequences of the mean over their valid steps, as in `gspo_loss`.

    The arguments and errors are those of `gspo_loss`; the bounds are of log-ratios.

    >>> x = jnp.zeros((4, 2))
    >>> jax.grad(gmpo_loss)(x, x - 0.5, jnp.array([[1.0, -2.0]] * 4))[0].round(4)
    Array([0.    , 0.4122], dtype=float32)
    """
    check_positive(clip_low=clip_low, clip_high=clip_high)
    rows = off_policy_rows(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t)
    clipped = jnp.where(
        rows.advantage_tm1 >= 0,
        jnp.minimum(rows.log_rho_tm1, clip_high),
        jnp.maximum(rows.log_rho_tm1, -clip_low),
    )
    s = ratio(ratio_levels(clipped, is_valid_t, level="geometric"))
    return -_mean_of_sequences(s * _of_possible_sequences(rows), is_valid_t)


def _weighted(weight: Series, rows: Rows, is_valid_t: Flags | None) -> jax.Array:
    """`−w A log π`, the mean over valid steps; the weights are constants."""
    return mean_over_valid(-jax.lax.stop_gradient(weight) * rows.advantage_tm1 * rows.log_pi_tm1, is_valid_t)


def _of_possible_sequences(rows: Rows) -> Series:
    """Advantages, and 0 in sequences with an impossible token."""
    return jnp.where(jnp.all(rows.possible_tm1, axis=0, keepdims=True), rows.advantage_tm1, 0.0)


def _mean_of_sequences(x: Series, is_valid_t: Flags | None) -> jax.Array:
    """The mean over sequences, of those with a valid step, of the mean over their valid steps."""
    if is_valid_t is None:
        return mean_over_valid(x)
    rows = jnp.maximum(jnp.sum(is_valid_t, axis=0), 1)
    return mean_over_valid(jnp.sum(x, axis=0, where=is_valid_t) / rows, jnp.any(is_valid_t, axis=0))
