"""Losses on sequences with a ratio to differentiate: GRPO, DAPO, GSPO, GMPO, LUSPO, SAPO.

Time is the position in a sequence, such as a text's tokens, every stream one sequence, and `is_valid_t` the mask of its
tokens. All take the arguments of `isjax.losses.truncated_is_loss` besides their own; the ratio is `π / μ`, or
`π / π_old` with `π_old / μ` as `weight_tm1`. Ratios saturate at `exp(40)`, where their gradient is 0.
"""

import jax
import jax.numpy as jnp

from isjax._checks import check_positive
from isjax.errors import FieldError
from isjax.losses._rows import ratio
from isjax.losses._tokens import tokens_of
from isjax.losses.aggregation import Aggregation
from isjax.ops.ratios import log_ratio_of
from isjax.types import Flags, Scalar, Series


def grpo_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    clip_low: Scalar = 0.2,
    clip_high: Scalar = 0.2,
    dual_clip: Scalar | None = None,
    weight_tm1: Series | None = None,
    segment_ids_t: jax.Array | None = None,
    aggregation: Aggregation = "sequence-mean-token-mean",
    max_length: Scalar | None = None,
) -> jax.Array:
    """`−min(ρ A, clip(ρ, 1 − ε_low, 1 + ε_high) A)`, the mean over sequences of the mean over their tokens.

    Group relative policy optimization, Shao et al. 2024, https://arxiv.org/abs/2402.03300, eq. 3, without its
    divergence: add `kl_to_reference_loss`. The advantages are those of `ops.group_advantages`. The arguments and
    errors are those of `truncated_is_loss`, but for:

    Options:
      clip_low: ε_low > 0.
      clip_high: ε_high > 0.
      dual_clip: c > 1 bounds the loss of bad tokens: at least `c A` counts where A is negative (Ye et al. 2020,
        https://arxiv.org/abs/1912.09729, eq. 5). The two-sided clipping `min(ρ, δ) A` of INTELLECT-2 is the same with
        c = δ. Usual are 3 to 10.

    >>> grpo_loss(jnp.log(jnp.array([1.5, 1.5])), jnp.zeros(2), jnp.array([1.0, -1.0]))
    Array(0.14999998, dtype=float32)
    """
    _check_clip(clip_low, clip_high, dual_clip)
    tokens = tokens_of(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t, segment_ids_t)
    objective = tokens.clipped(tokens.log_ratio("step"), 1.0 - clip_low, 1.0 + clip_high, dual_clip)
    return tokens.loss(objective, weight_tm1, aggregation, max_length)


def dapo_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    clip_low: Scalar = 0.2,
    clip_high: Scalar = 0.28,
    dual_clip: Scalar | None = None,
    weight_tm1: Series | None = None,
    segment_ids_t: jax.Array | None = None,
    aggregation: Aggregation = "token-mean",
    max_length: Scalar | None = None,
) -> jax.Array:
    """`−min(ρ A, clip(ρ, 1 − ε_low, 1 + ε_high) A)`, the mean over all tokens, with a wider upper bound.

    Decoupled clip and dynamic sampling policy optimization, Yu et al. 2025, https://arxiv.org/abs/2503.14476, eq. 8.
    Arguments and errors as in `grpo_loss`.

    >>> jax.grad(dapo_loss)(jnp.log(jnp.array([1.25, 1.29])), jnp.zeros(2), jnp.ones(2))
    Array([-0.625,  0.   ], dtype=float32)
    """
    _check_clip(clip_low, clip_high, dual_clip)
    tokens = tokens_of(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t, segment_ids_t)
    objective = tokens.clipped(tokens.log_ratio("step"), 1.0 - clip_low, 1.0 + clip_high, dual_clip)
    return tokens.loss(objective, weight_tm1, aggregation, max_length)


def dr_grpo_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    clip_low: Scalar = 0.2,
    clip_high: Scalar = 0.2,
    dual_clip: Scalar | None = None,
    weight_tm1: Series | None = None,
    segment_ids_t: jax.Array | None = None,
    aggregation: Aggregation = "fixed-length",
    max_length: Scalar | None = None,
) -> jax.Array:
    """`−min(ρ A, clip(ρ, 1 − ε_low, 1 + ε_high) A)`, the sum over tokens over sequences times a fixed length.

    GRPO done right, Liu et al. 2025, https://arxiv.org/abs/2503.20783: no sequence's own length enters. With the
    advantages "dr-grpo" of `ops.group_advantages`. Arguments and errors as in `grpo_loss`; `max_length` must be given,
    the longest that a sequence can be.

    >>> dr_grpo_loss(jnp.zeros((2, 1)), jnp.zeros((2, 1)), jnp.ones((2, 1)), max_length=8)
    Array(-0.25, dtype=float32)
    """
    _check_clip(clip_low, clip_high, dual_clip)
    tokens = tokens_of(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t, segment_ids_t)
    objective = tokens.clipped(tokens.log_ratio("step"), 1.0 - clip_low, 1.0 + clip_high, dual_clip)
    return tokens.loss(objective, weight_tm1, aggregation, max_length)


def gspo_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    clip_low: Scalar = 3e-4,
    clip_high: Scalar = 4e-4,
    weight_tm1: Series | None = None,
    segment_ids_t: jax.Array | None = None,
    aggregation: Aggregation = "sequence-mean-token-mean",
    max_length: Scalar | None = None,
) -> jax.Array:
    """`−min(s A, clip(s, 1 − ε_low, 1 + ε_high) A)`, with `s` the geometric mean of a sequence's ratios.

    Group sequence policy optimization, Zheng et al. 2025, https://arxiv.org/abs/2507.18071, eq. 5; gradients flow
    through `s`. By default the mean over sequences of the mean over their valid steps: long and short ones count alike,
    those without a valid step do not. A sequence with an impossible token (`−inf`) adds nothing. The arguments and
    errors are those of `truncated_is_loss`, but for:

    Options:
      advantage_tm1: `[T, *B]`, the sequence's advantage in each of its steps.
      clip_low: ε_low > 0.
      clip_high: ε_high > 0.

    >>> x = jnp.zeros((4, 2))
    >>> jax.grad(gspo_loss)(x, x, jnp.array([[1.0, -2.0]] * 4))[0]
    Array([-0.125,  0.25 ], dtype=float32)
    """
    check_positive(clip_low=clip_low, clip_high=clip_high)
    tokens = tokens_of(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t, segment_ids_t)
    tokens = tokens.of_possible_sequences()
    objective = tokens.clipped(tokens.log_ratio("geometric"), 1.0 - clip_low, 1.0 + clip_high)
    return tokens.loss(objective, weight_tm1, aggregation, max_length)


def gspo_token_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    clip_low: Scalar = 3e-4,
    clip_high: Scalar = 4e-4,
    weight_tm1: Series | None = None,
    segment_ids_t: jax.Array | None = None,
    aggregation: Aggregation = "sequence-mean-token-mean",
    max_length: Scalar | None = None,
) -> jax.Array:
    """GSPO with an advantage a token: `s_t = sg(s) π / sg(π)` takes the place of `s`.

    Zheng et al. 2025, https://arxiv.org/abs/2507.18071, eq. 14: the value of `s_t` is that of the sequence's `s`, its
    gradient `s ∇log π_t`. Where a sequence's tokens share one advantage, value and gradient are those of `gspo_loss`.
    Arguments and errors as there, but for:

    Options:
      advantage_tm1: `[T, *B]`, of each token.

    >>> x = jnp.zeros((2, 1))
    >>> jax.grad(gspo_token_loss)(x, x, jnp.array([[1.0], [-2.0]]))[:, 0]
    Array([-0.5,  1. ], dtype=float32)
    """
    check_positive(clip_low=clip_low, clip_high=clip_high)
    tokens = tokens_of(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t, segment_ids_t)
    tokens = tokens.of_possible_sequences()
    log_pi, log_s = tokens.rows.log_pi_tm1, jax.lax.stop_gradient(tokens.log_ratio("geometric"))
    log_s = log_s + log_pi - jax.lax.stop_gradient(log_pi)
    objective = tokens.clipped(log_s, 1.0 - clip_low, 1.0 + clip_high)
    return tokens.loss(objective, weight_tm1, aggregation, max_length)


def luspo_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    clip_low: Scalar = 3e-4,
    clip_high: Scalar = 4e-4,
    weight_tm1: Series | None = None,
    segment_ids_t: jax.Array | None = None,
    aggregation: Aggregation = "sequence-mean-token-sum",
    max_length: Scalar | None = None,
) -> jax.Array:
    """GSPO times the length of each sequence: the mean over sequences of the sum over their tokens.

    Length-unbiased sequence policy optimization, Liu et al. 2026, https://arxiv.org/abs/2602.05261: a token counts
    alike in long and in short sequences. Arguments and errors as in `gspo_loss`.

    >>> x = jnp.zeros((4, 2))
    >>> jax.grad(luspo_loss)(x, x, jnp.array([[1.0, -2.0]] * 4))[0]
    Array([-0.5,  1. ], dtype=float32)
    """
    check_positive(clip_low=clip_low, clip_high=clip_high)
    tokens = tokens_of(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t, segment_ids_t)
    tokens = tokens.of_possible_sequences()
    objective = tokens.clipped(tokens.log_ratio("geometric"), 1.0 - clip_low, 1.0 + clip_high)
    return tokens.loss(objective, weight_tm1, aggregation, max_length)


def gmpo_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    clip_low: Scalar = 0.4,
    clip_high: Scalar = 0.4,
    weight_tm1: Series | None = None,
    segment_ids_t: jax.Array | None = None,
    aggregation: Aggregation = "sequence-mean-token-mean",
    max_length: Scalar | None = None,
) -> jax.Array:
    """`−s A`, with `s` the geometric mean of ratios that were clipped token by token, as PPO does.

    Geometric-mean policy optimization, Zhao et al. 2025, https://arxiv.org/abs/2507.20673. Each log-ratio is
    kept below `ε_high` where the advantage is positive and above `−ε_low` where it is negative. Arguments and errors
    as in `gspo_loss`; the bounds are of log-ratios.

    >>> x = jnp.zeros((4, 2))
    >>> jax.grad(gmpo_loss)(x, x - 0.5, jnp.array([[1.0, -2.0]] * 4))[0].round(4)
    Array([0.    , 0.4122], dtype=float32)
    """
    check_positive(clip_low=clip_low, clip_high=clip_high)
    tokens = tokens_of(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t, segment_ids_t)
    log_rho = tokens.rows.log_rho_tm1
    above, below = jnp.minimum(log_rho, clip_high), jnp.maximum(log_rho, -clip_low)
    clipped = jnp.where(tokens.advantage_tm1 >= 0, above, below)
    s = ratio(log_ratio_of("geometric", clipped, is_valid_t, segment_ids_t))
    objective = s * tokens.of_possible_sequences().advantage_tm1
    return tokens.loss(objective, weight_tm1, aggregation, max_length)


def sapo_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    temperature_positive: Scalar = 1.0,
    temperature_negative: Scalar = 1.05,
    weight_tm1: Series | None = None,
    segment_ids_t: jax.Array | None = None,
    aggregation: Aggregation = "sequence-mean-token-mean",
    max_length: Scalar | None = None,
) -> jax.Array:
    """`−(4 / τ) σ(τ (ρ − 1)) A`: a soft gate in place of clipping, with a slope of 1 where the policies agree.

    Soft adaptive policy optimization, Gao et al. 2025, https://arxiv.org/abs/2511.20347, eq. 5 to 7. The gradient of
    log π is `4 σ (1 − σ) ρ A`, which fades as the ratio leaves 1; sooner with a larger τ. The arguments and errors are
    those of `truncated_is_loss`, but for:

    Options:
      temperature_positive: τ > 0 where A is positive.
      temperature_negative: τ elsewhere.

    >>> jax.grad(sapo_loss)(jnp.log(jnp.array([1.0, 3.0])), jnp.zeros(2), jnp.ones(2)).round(4)
    Array([-0.5 , -0.63], dtype=float32)
    """
    check_positive(temperature_positive=temperature_positive, temperature_negative=temperature_negative)
    tokens = tokens_of(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t, segment_ids_t)
    tau = jnp.where(tokens.advantage_tm1 > 0, temperature_positive, temperature_negative)
    gate = jax.nn.sigmoid(tau * (ratio(tokens.log_ratio("step")) - 1.0)) * (4.0 / tau)
    objective = gate * tokens.advantage_tm1
    return tokens.loss(objective, weight_tm1, aggregation, max_length)


def _check_clip(clip_low: Scalar, clip_high: Scalar, dual_clip: Scalar | None) -> None:
    check_positive(clip_low=clip_low, clip_high=clip_high, dual_clip=dual_clip)
    if isinstance(dual_clip, int | float) and not dual_clip > 1:
        raise FieldError("dual_clip", "greater than 1", dual_clip)
