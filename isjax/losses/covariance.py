"""Clip-Cov and KL-Cov: what a step takes from the entropy is held back at the few tokens that take the most.

All take the arguments of `isjax.losses.truncated_is_loss` besides their own.
"""

import jax
import jax.numpy as jnp

from isjax._checks import check_fraction, check_positive
from isjax.losses._rows import ratio
from isjax.losses._tokens import Tokens, tokens_of
from isjax.losses.aggregation import Aggregation
from isjax.ops.reduction import mean_over_valid
from isjax.types import Flags, Key, Scalar, Series


def clip_cov_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    key: Key,
    share: Scalar = 2e-4,
    low: Scalar = 1.0,
    high: Scalar = 5.0,
    clip_low: Scalar = 0.2,
    clip_high: Scalar = 0.2,
    weight_tm1: Series | None = None,
    segment_ids_t: jax.Array | None = None,
    aggregation: Aggregation = "token-mean",
    max_length: Scalar | None = None,
) -> jax.Array:
    """PPO's clipped objective, without the gradient of a few tokens drawn from those that cost the most entropy.

    Clip-Cov, Cui et al. 2025, https://arxiv.org/abs/2505.22617, eq. 10 to 12: of the tokens whose
    `(A − mean A)(log π − mean log π)` lies between two bounds, a share of all tokens is drawn and adds nothing; those
    that PPO clips are not drawn from, as in the authors' program. The arguments and errors are those of
    `truncated_is_loss`, but for:

    Options:
      key: what draws them.
      share: of all valid tokens, in [0, 1]; at least one token.
      low: ω_low, of the covariance.
      high: ω_high.
      clip_low: ε_low > 0, of PPO.
      clip_high: ε_high > 0.

    >>> log_pi, advantage = jnp.log(jnp.array([0.9, 0.1, 0.5])), jnp.array([3.0, -3.0, 0.0])
    >>> jax.grad(clip_cov_loss)(log_pi, log_pi, advantage, key=jax.random.key(0), low=0.0, share=0.7).round(3)
    Array([0., 0., 0.], dtype=float32)
    """
    check_positive(clip_low=clip_low, clip_high=clip_high)
    check_fraction(share=share)
    tokens = tokens_of(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t, segment_ids_t)
    rho, advantage = tokens.constant_ratio("step"), tokens.advantage_tm1
    is_clipped = jnp.where(advantage > 0, rho > 1.0 + clip_high, (advantage < 0) & (rho < 1.0 - clip_low))
    covariance = _covariance(tokens)
    candidates = tokens.counted() & ~is_clipped & (covariance > low) & (covariance < high)
    order = jnp.where(candidates, jax.random.uniform(key, covariance.shape), -1.0)
    is_drawn = candidates & _is_among_largest(order, share, tokens)
    bounded = tokens.clipped(tokens.log_ratio("step"), 1.0 - clip_low, 1.0 + clip_high)
    objective = jnp.where(is_drawn, 0.0, bounded)
    return tokens.loss(objective, weight_tm1, aggregation, max_length)


def kl_cov_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    share: Scalar = 2e-3,
    beta: Scalar = 1.0,
    weight_tm1: Series | None = None,
    segment_ids_t: jax.Array | None = None,
    aggregation: Aggregation = "token-mean",
    max_length: Scalar | None = None,
) -> jax.Array:
    """`−(ρ A − β |log ρ| · 1{among the largest covariances})`: a penalty on the tokens that cost the most entropy.

    KL-Cov, Cui et al. 2025, https://arxiv.org/abs/2505.22617, eq. 13 and 14: those whose
    `(A − mean A)(log π − mean log π)` is among a share of the largest are held near the policy that sampled them. The
    paper's divergence is estimated by `|log ρ|`, as in the authors' program. The arguments and errors are those of
    `truncated_is_loss`, but for:

    Options:
      share: of all valid tokens, in [0, 1]; at least one token. The paper has 2e-3 and 2e-4.
      beta: β > 0.

    >>> log_pi, advantage = jnp.log(jnp.array([0.9, 0.1, 0.5])), jnp.array([1.0, -1.0, 0.0])
    >>> jax.grad(kl_cov_loss)(log_pi, log_pi - 0.1, advantage, share=0.4).round(3)
    Array([-0.36800003,  0.702     ,  0.        ], dtype=float32)
    """
    check_fraction(share=share)
    check_positive(beta=beta)
    tokens = tokens_of(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t, segment_ids_t)
    is_held = _is_among_largest(jnp.where(tokens.counted(), _covariance(tokens), -jnp.inf), share, tokens)
    log_rho = tokens.of_possible_tokens().log_ratio("step")
    penalty = jnp.where(is_held, beta * log_rho * jax.lax.stop_gradient(jnp.sign(log_rho)), 0.0)
    objective = ratio(tokens.log_ratio("step")) * tokens.advantage_tm1 - penalty
    return tokens.loss(objective, weight_tm1, aggregation, max_length)


def _covariance(tokens: Tokens) -> Series:
    """`(A − mean A)(log π − mean log π)` of each token, the means over those that count; a constant."""
    log_pi, where = jax.lax.stop_gradient(tokens.rows.log_pi_tm1), tokens.counted()
    return _centered(tokens.advantage_tm1, where) * _centered(log_pi, where)


def _centered(x: Series, where: Flags) -> Series:
    return x - mean_over_valid(x, where)


def _is_among_largest(x: Series, share: Scalar, tokens: Tokens) -> Flags:
    """Of the tokens that count, the share with the largest numbers, and one at least."""
    number = jnp.maximum(jnp.floor(share * jnp.sum(tokens.counted())), 1)
    most = max(1, int(share * x.size)) if isinstance(share, int | float) else x.size
    places = jax.lax.top_k(x.ravel(), most)[1]
    chosen = jnp.zeros(x.size, bool).at[places].set(jnp.arange(most) < number)
    return tokens.counted() & chosen.reshape(x.shape)
