"""Losses on sequences that weigh `log π` with constants: truncated, masked, CISPO, TOPR, VESPO, DPPO, DRO.

Time is the position in a sequence, such as a text's tokens, every stream one sequence, and `is_valid_t` the mask of its
tokens. All take the same arguments, described at `truncated_is_loss`; a loss is minus weight × objective, aggregated.
"""

from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp

from isjax._checks import check_positive
from isjax.errors import FieldError
from isjax.losses._rows import MAX_RATIO
from isjax.losses._tokens import Tokens, tokens_of
from isjax.losses.aggregation import Aggregation
from isjax.ops.ratios import Level
from isjax.ops.sampler import masked_weights
from isjax.ops.sequences import sequence_lengths
from isjax.types import Flags, Scalar, Series

Divergence: TypeAlias = Literal["total-variation", "kl"]
"""Between two policies' odds of one token against all others."""


def truncated_is_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    level: Level = "step",
    truncation: Scalar = 2.0,
    weight_tm1: Series | None = None,
    segment_ids_t: jax.Array | None = None,
    aggregation: Aggregation = "token-mean",
    max_length: Scalar | None = None,
) -> jax.Array:
    """`−sg(min(ρ, C)) A log π`: truncated importance sampling.

    Ionides 2008; the ratio is that of the level named, see `ops.ratio_levels`. At the level "step" it is
    `per_step_ratio_loss`.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the tokens, under the policy that learns; gradients flow
        into these alone. A step whose token is impossible (`−inf`) adds nothing.
      log_mu_tm1: `[T, *B]`, the same under the policy that generated them, as it sampled them; or under the one that
        the ratio is to be taken to, π_old, where the sampler is a third policy and `weight_tm1` makes up for it.
      advantage_tm1: `[T, *B]`.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      level: "step", "sequence" or "geometric".
      truncation: C > 0.
      weight_tm1: `[T, *B]`, constant, multiplies every token's part: `π_old / μ`, truncated or masked
        (`ops.truncated_weights`, `ops.masked_weights`).
      segment_ids_t: `[T, *B]`, integers, where streams hold several sequences one after the other: a new one begins
        wherever the number changes.
      aggregation: how tokens become one number, see `aggregate`.
      max_length: with the aggregation "fixed-length".

    Raises:
      ValueError: shapes differ, or an option is out of range.
      TypeError: an array is of the wrong kind.

    >>> log_pi, log_mu = jnp.zeros(2) - 1.0, jnp.array([-2.0, 0.0])
    >>> truncated_is_loss(log_pi, log_mu, jnp.ones(2), level="sequence")
    Array(1., dtype=float32)
    """
    check_positive(truncation=truncation)
    tokens = tokens_of(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t, segment_ids_t)
    objective = tokens.weighted(tokens.constant_ratio(level, truncation))
    return tokens.loss(objective, weight_tm1, aggregation, max_length)


def masked_is_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    level: Level = "step",
    mask_level: Level | None = None,
    low: Scalar,
    high: Scalar,
    weight_tm1: Series | None = None,
    segment_ids_t: jax.Array | None = None,
    aggregation: Aggregation = "token-mean",
    max_length: Scalar | None = None,
) -> jax.Array:
    """`−sg(ρ · 1{low ≤ ρ ≤ high}) A log π`: masked importance sampling.

    Tokens whose ratio, at the level named, is outside the interval weigh 0. They stay in the denominator: the
    loss shrinks as more are masked. With another `mask_level` that one's ratio is judged, see `ops.masked_weights`.
    The arguments and errors are those of `truncated_is_loss`, but for:

    Options:
      level: "step", "sequence" or "geometric".
      mask_level: the same if left out.
      low: at least 0; 0 masks small ratios never.
      high: greater than 0; `inf` masks large ratios never, but they saturate at `exp(40)`.

    >>> masked_is_loss(jnp.array([-1.0, -1.0]), jnp.array([-1.0, -9.0]), jnp.ones(2), low=0.5, high=2.0)
    Array(0.5, dtype=float32)
    """
    tokens = tokens_of(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t, segment_ids_t)
    weight = masked_weights(
        jax.lax.stop_gradient(tokens.rows.log_rho_tm1),
        is_valid_t,
        level=level,
        mask_level=mask_level,
        low=low,
        high=high,
        segment_ids_t=segment_ids_t,
    )
    objective = tokens.weighted(jnp.minimum(weight, MAX_RATIO))
    return tokens.loss(objective, weight_tm1, aggregation, max_length)


def cispo_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    clip_low: Scalar = 1.0,
    clip_high: Scalar = 4.0,
    weight_tm1: Series | None = None,
    segment_ids_t: jax.Array | None = None,
    aggregation: Aggregation = "token-mean",
    max_length: Scalar | None = None,
) -> jax.Array:
    """`−sg(clip(ρ, 1 − ε_low, 1 + ε_high)) A log π`: no token is left out.

    MiniMax 2025, https://arxiv.org/abs/2506.13585, eq. 4 and 5: unlike PPO it clips the weight, so that every token
    keeps its gradient. The lower bound is off by default, as in the paper; the upper one is to be tuned (ScaleRL,
    https://arxiv.org/abs/2510.13786, has 1 + ε_high = 5). The arguments and errors are those of
    `truncated_is_loss`, but for:

    Options:
      clip_low: ε_low > 0; 1 and more is no bound.
      clip_high: ε_high > 0.

    >>> cispo_loss(jnp.array([-1.0]), jnp.array([-9.0]), jnp.array([1.0]), clip_high=0.5)
    Array(1.5, dtype=float32)
    """
    check_positive(clip_low=clip_low, clip_high=clip_high)
    tokens = tokens_of(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t, segment_ids_t)
    weight = jnp.maximum(tokens.constant_ratio("step", 1.0 + clip_high), 1.0 - clip_low)
    objective = tokens.weighted(weight)
    return tokens.loss(objective, weight_tm1, aggregation, max_length)


def topr_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    level: Level = "sequence",
    weight_tm1: Series | None = None,
    segment_ids_t: jax.Array | None = None,
    aggregation: Aggregation = "token-mean",
    max_length: Scalar | None = None,
) -> jax.Array:
    """`−sg(w) A log π`, with `w = 1` for `A ≥ 0` and `min(ρ, 1)` of the sequence else.

    Tapered off-policy REINFORCE, Le Roux et al. 2025, https://arxiv.org/abs/2503.14286: good sequences are
    imitated whatever their ratio, bad ones are pushed down only while the policy still generates them. The arguments
    and errors are those of `truncated_is_loss`, but for:

    Options:
      advantage_tm1: `[T, *B]`, the sequence's return in each of its steps, less a baseline or not.
      level: of the ratio; the paper's is the sequence's, a product that long texts drive to 0 or past 1.

    >>> log_pi, log_mu = jnp.array([[-1.0, -1.0]]), jnp.array([[-9.0, 7.0]])
    >>> jax.grad(topr_loss)(log_pi, log_mu, jnp.array([[2.0, -2.0]])).round(3)
    Array([[-1.,  0.]], dtype=float32)
    """
    tokens = tokens_of(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t, segment_ids_t)
    weight = jnp.where(tokens.advantage_tm1 >= 0, 1.0, tokens.constant_ratio(level, 1.0))
    objective = tokens.weighted(weight)
    return tokens.loss(objective, weight_tm1, aggregation, max_length)


def vespo_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    shape_positive: Scalar = 2.0,
    rate_positive: Scalar = 3.0,
    shape_negative: Scalar = 3.0,
    rate_negative: Scalar = 2.0,
    weight_tm1: Series | None = None,
    segment_ids_t: jax.Array | None = None,
    aggregation: Aggregation = "token-mean",
    max_length: Scalar | None = None,
) -> jax.Array:
    """`−sg(φ(W)) A log π` with `φ(W) = W^k exp(λ (1 − W))` of the sequence's product W.

    Variational sequence-level soft policy optimization, Shen et al. 2026, https://arxiv.org/abs/2602.10693: a weight
    of 1 where the policies agree, which falls to 0 on both sides and needs neither clipping nor a length. `k` and `λ`
    are one pair for `A ≥ 0` and another for `A < 0`. A sampler that differs from π_old enters W itself: hand its
    log-probabilities over as `log_mu_tm1`. The arguments and errors are those of `truncated_is_loss`, but for:

    Options:
      shape_positive: k > 0 for `A ≥ 0`.
      rate_positive: λ > 0 for `A ≥ 0`.
      shape_negative: k for `A < 0`.
      rate_negative: λ for `A < 0`.

    >>> log_pi = jnp.array([[-1.0, -1.0]])
    >>> jax.grad(vespo_loss)(log_pi, log_pi - jnp.log(jnp.array([[1.0, 2.0]])), jnp.ones((1, 2)))
    Array([[-0.5       , -0.09957413]], dtype=float32)
    """
    check_positive(shape_positive=shape_positive, rate_positive=rate_positive)
    check_positive(shape_negative=shape_negative, rate_negative=rate_negative)
    tokens = tokens_of(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t, segment_ids_t)
    is_good = tokens.advantage_tm1 >= 0
    shape, rate = jnp.where(is_good, shape_positive, shape_negative), jnp.where(is_good, rate_positive, rate_negative)
    log_w, w = jax.lax.stop_gradient(tokens.log_ratio("sequence")), tokens.constant_ratio("sequence")
    weight = jnp.exp(shape * jnp.minimum(log_w, jnp.log(MAX_RATIO)) + rate * (1.0 - w))
    objective = tokens.weighted(weight)
    return tokens.loss(objective, weight_tm1, aggregation, max_length)


def dppo_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    divergence: Divergence = "total-variation",
    low: Scalar = 0.2,
    high: Scalar = 0.2,
    truncation: Scalar = 20.0,
    weight_tm1: Series | None = None,
    segment_ids_t: jax.Array | None = None,
    aggregation: Aggregation = "token-mean",
    max_length: Scalar | None = None,
) -> jax.Array:
    """`−sg(M min(ρ, C)) A log π`: a token is masked where its odds have moved too far already, and would move further.

    Divergence proximal policy optimization, Qi et al. 2026, https://arxiv.org/abs/2602.04879, eq. 11 to 14: what is
    bounded is a divergence of the policies, in its binary form (this token against all others), in place of the ratio,
    which for a rare token is large and means little. With "total-variation" M is 0 where `A > 0` and
    `π − μ > high`, and where `A ≤ 0` and `π − μ < −low`; with "kl" where `KL(μ‖π)` of the two odds is above the bound
    on that side. The arguments and errors are those of `truncated_is_loss`, but for:

    Options:
      log_mu_tm1: `[T, *B]`, log-probabilities under the policy that sampled: the divergence is taken to that one.
      divergence: "total-variation" or "kl", whose usual bounds are 0.2 and 0.05.
      low: δ > 0 for tokens that are pushed down.
      high: δ > 0 for tokens that are pushed up.
      truncation: C > 0.

    >>> log_pi = jnp.log(jnp.array([0.9, 0.02]))
    >>> jax.grad(dppo_loss)(log_pi, jnp.log(jnp.array([0.6, 0.01])), jnp.ones(2)).round(4)
    Array([-0., -1.], dtype=float32)
    """
    check_positive(low=low, high=high, truncation=truncation)
    tokens = tokens_of(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t, segment_ids_t)
    weight = jnp.where(_is_near(tokens, divergence, low, high), tokens.constant_ratio("step", truncation), 0.0)
    objective = tokens.weighted(weight)
    return tokens.loss(objective, weight_tm1, aggregation, max_length)


def dro_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    beta: Scalar,
    level: Level = "step",
    weight_tm1: Series | None = None,
    segment_ids_t: jax.Array | None = None,
    aggregation: Aggregation = "token-mean",
    max_length: Scalar | None = None,
) -> jax.Array:
    """`−(A log π − β/2 (log π − log μ)²)`: a square in place of a ratio.

    Direct reward optimization, Richemond et al. 2024, https://arxiv.org/abs/2405.19107, whose policy gradient this has
    with `A = r − V`: no ratio is ever taken, so that any data will do. The square is the token's, as trainers have
    it, or the paper's, of the sum over the sequence ("sequence": with the aggregation "sequence-mean-token-sum" it is
    the paper's loss; every token bears its share). The arguments and errors are those of `truncated_is_loss`, but for:

    Options:
      beta: β > 0, how strongly π is held near μ.
      level: "step" or "sequence".

    >>> jax.grad(dro_loss)(jnp.array([-1.0]), jnp.array([-3.0]), jnp.array([1.0]), beta=0.25)
    Array([-0.5], dtype=float32)
    """
    check_positive(beta=beta)
    if level == "geometric":
        raise FieldError("level", "step or sequence", repr(level))
    tokens = tokens_of(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t, segment_ids_t)
    square = jnp.square(tokens.of_possible_tokens().log_ratio(level))
    if level == "sequence":
        counts = jnp.ones(jnp.shape(log_pi_tm1), bool) if is_valid_t is None else is_valid_t
        square = square / sequence_lengths(counts, segment_ids_t, square.dtype)
    objective = tokens.advantage_tm1 * tokens.rows.log_pi_tm1 - 0.5 * beta * square
    return tokens.loss(objective, weight_tm1, aggregation, max_length)


def _is_near(tokens: Tokens, divergence: Divergence, low: Scalar, high: Scalar) -> Flags:
    """Whether a token's odds are within bounds, or on their way back."""
    if divergence not in get_args(Divergence):
        raise FieldError("divergence", f"one of {', '.join(get_args(Divergence))}", repr(divergence))
    log_pi = jax.lax.stop_gradient(tokens.rows.log_pi_tm1)
    log_mu = jnp.minimum(log_pi - jax.lax.stop_gradient(tokens.rows.log_rho_tm1), 0.0)
    rises = tokens.advantage_tm1 > 0
    difference = jnp.exp(log_pi) - jnp.exp(log_mu)
    if divergence == "total-variation":
        return jnp.where(rises, difference <= high, difference >= -low)
    # log(1 − p), to the last digit for small and for large p.
    other_pi, other_mu = (jnp.log(jnp.maximum(-jnp.expm1(x), 1e-8)) for x in (log_pi, log_mu))
    kl = jnp.exp(log_mu) * (log_mu - log_pi) - jnp.expm1(log_mu) * (other_mu - other_pi)
    return jnp.where(rises, (kl <= high) | (difference <= 0), (kl <= low) | (difference >= 0))
