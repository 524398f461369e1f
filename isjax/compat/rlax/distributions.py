"""Ratios of categorical policies, from their logits."""

import jax
import jax.numpy as jnp

from isjax._checks import check_integer, check_same_shape, precise
from isjax.compat.rlax._inputs import taken
from isjax.ops.ratios import clipped_ratio, log_ratios
from isjax.types import Series


def categorical_importance_sampling_ratios(pi_logits_t: jax.Array, mu_logits_t: jax.Array, a_t: jax.Array) -> Series:
    """Ratios `π(a|s) / μ(a|s)` of the actions taken, from the logits of both policies; finite, and so are gradients.

    An action that both policies exclude has a ratio of 1, and so has one that is not among the logits: padding. One
    that only π excludes has 0; one that only μ excludes has `exp(80)`, at which every ratio saturates. Logits of
    infinity share all the probability among them; a policy that excludes every action excludes the one taken.

    Args:
      pi_logits_t: `[..., A]`, logits of the target policy, `−inf` for an action that is excluded.
      mu_logits_t: `[..., A]`, logits of the behavior policy, likewise.
      a_t: `[...]`, integers, the actions taken.

    Returns:
      `[...]`, from 0 to `exp(80)`, float32 at least.

    Raises:
      ValueError: shapes differ.
      TypeError: logits are not floating, or the actions not integers.

    >>> mu = jnp.array([[0.0, 0.0, -jnp.inf], [0.0, 0.0, -jnp.inf]])
    >>> pi = jnp.array([[1.0, -jnp.inf, -jnp.inf], [1.0, 0.0, -jnp.inf]])
    >>> categorical_importance_sampling_ratios(pi, mu, jnp.array([0, 2]))
    Array([2., 1.], dtype=float32)
    """
    check_same_shape(pi_logits_t=pi_logits_t, mu_logits_t=mu_logits_t)
    pi_logits_t, mu_logits_t = precise(pi_logits_t=pi_logits_t, mu_logits_t=mu_logits_t)
    check_integer(a_t=a_t)
    check_same_shape(**{"pi_logits_t[..., 0]": pi_logits_t[..., 0], "a_t": a_t})
    log_pi_t, log_mu_t = (_log_probability(x, jnp.asarray(a_t)) for x in (pi_logits_t, mu_logits_t))
    return clipped_ratio(log_ratios(log_pi_t, log_mu_t), jnp.inf)


def _log_probability(logits: jax.Array, action: jax.Array) -> Series:
    """Of an action among logits that may be infinite, and `−inf` for one that is not among them."""
    largest = jnp.max(logits, axis=-1, keepdims=True)
    logits = jnp.where(jnp.isposinf(largest), jnp.where(jnp.isposinf(logits), 0.0, -jnp.inf), logits)
    excludes_all = jnp.isneginf(largest)
    log_probability = taken(jax.nn.log_softmax(jnp.where(excludes_all, 0.0, logits)), action)
    is_among = (action >= 0) & (action < logits.shape[-1]) & ~excludes_all[..., 0]
    return jnp.where(is_among, log_probability, -jnp.inf)
