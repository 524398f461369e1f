"""Advantages from several answers to the same question: each is compared with the others of its group."""

from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp

from isjax._checks import check_flags, check_positive, check_same_shape, precise
from isjax.errors import FieldError
from isjax.types import Flags, Scalar

Baseline: TypeAlias = Literal["grpo", "dr-grpo", "rloo", "reinforce++", "reinforce++-baseline"]
"""What a reward is compared with, and by what the difference is divided: see `group_advantages`."""


def group_advantages(
    reward: jax.Array,
    is_valid: Flags | None = None,
    *,
    baseline: Baseline = "grpo",
    epsilon: Scalar = 1e-4,
) -> jax.Array:
    """Advantages of `N` groups of `G` answers, one a sequence.

    - "grpo": `(r − mean) / (std + ε)` of the group (Shao et al. 2024, https://arxiv.org/abs/2402.03300). Dividing
      weighs questions by how nearly all their answers agree.
    - "dr-grpo": `r − mean` of the group (Liu et al. 2025, https://arxiv.org/abs/2503.20783).
    - "rloo": `r − mean of the others` (Kool et al. 2019; Ahmadian et al. 2024, https://arxiv.org/abs/2402.14740),
      which is `G / (G − 1)` times "dr-grpo" and the unbiased one of the two; 0 for an answer that is alone.
    - "reinforce++": `(r − mean) / (std + ε)` of the whole batch (Hu et al. 2025, https://arxiv.org/abs/2501.03262).
    - "reinforce++-baseline": `r − mean` of the group, then over the batch's deviation (the same paper's second form).

    Deviations are those of samples, with `n − 1`, as trainers compute them; equal rewards have advantages of exactly
    0, whatever rounding leaves of them.

    Args:
      reward: `[*N, G]`, floating; a group along the last axis.
      is_valid: `[*N, G]`; answers where it is false (aborted, or padding) count for nothing and get 0.
      baseline: one of the five.
      epsilon: ε ≥ 0, added to a deviation that is divided by.

    Returns:
      `[*N, G]`, float32 at least.

    Raises:
      ValueError: shapes differ, there is no group axis, or an option is out of range.
      TypeError: an array is of the wrong kind.

    >>> group_advantages(jnp.array([[1.0, 0.0, 0.0, 0.0, 1.5]]), baseline="rloo")
    Array([[ 0.625, -0.625, -0.625, -0.625,  1.25 ]], dtype=float32)
    """
    if baseline not in get_args(Baseline):
        raise FieldError("baseline", f"one of {', '.join(get_args(Baseline))}", repr(baseline))
    if not (isinstance(epsilon, int | float) and epsilon == 0):
        check_positive(epsilon=epsilon)
    (reward,) = precise(reward=reward)
    if reward.ndim == 0:
        raise FieldError("reward", "[*N, G], with a group along its last axis", "of shape []")
    check_same_shape(reward=reward, is_valid=is_valid)
    check_flags(is_valid=is_valid)
    counts = jnp.ones(reward.shape, bool) if is_valid is None else is_valid
    reward = jnp.where(counts, reward, 0.0)
    group, batch = -1, tuple(range(reward.ndim))
    centered = _centered(reward, counts, batch if baseline == "reinforce++" else group)
    if baseline == "rloo":
        n = jnp.sum(counts, group, keepdims=True).astype(reward.dtype)
        return centered * (n / jnp.maximum(n - 1.0, 1.0))
    if baseline == "dr-grpo":
        return centered
    if baseline == "reinforce++-baseline":
        spread = _deviation(_centered(centered, counts, batch), counts, batch)
    else:
        spread = _deviation(centered, counts, group if baseline == "grpo" else batch)
    scale = spread + epsilon
    return centered / jnp.where(scale > 0, scale, 1.0)


def _centered(x: jax.Array, counts: Flags, axis) -> jax.Array:
    """`x` less its mean over those that count; exactly 0 for those that do not, and where all are equal."""
    number = jnp.maximum(jnp.sum(counts, axis, keepdims=True), 1).astype(x.dtype)
    lowest = jnp.min(jnp.where(counts, x, jnp.inf), axis, keepdims=True)
    # Relative to one of them: the mean of equal numbers may be another number.
    above = jnp.where(counts, x - lowest, 0.0)
    return jnp.where(counts, above - jnp.sum(above, axis, keepdims=True) / number, 0.0)


def _deviation(centered: jax.Array, counts: Flags, axis) -> jax.Array:
    """Of samples, from numbers less their mean; 0 for one alone."""
    number = jnp.sum(counts, axis, keepdims=True).astype(centered.dtype)
    return jnp.sqrt(jnp.sum(jnp.square(centered), axis, keepdims=True) / jnp.maximum(number - 1.0, 1.0))
