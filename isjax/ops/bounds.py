"""Why small steps work: bounds on the drift of the state distribution and on a surrogate's error."""

import jax
import jax.numpy as jnp

from isjax._checks import check_count, check_fraction
from isjax.ops.recurrence import scaled
from isjax.types import Scalar


def total_variation_bound(kl: Scalar) -> jax.Array:
    """Pinsker's bound on the total variation of two policies from their KL divergence: `√(KL / 2)`, at most 1.

    Tsybakov 2009, "Introduction to nonparametric estimation", lemma 2.5.

    Args:
      kl: in nats, at least 0 (what rounding put below counts as 0), in either direction; any shape.

    >>> total_variation_bound(jnp.array([0.02, 100.0]))
    Array([0.1, 1. ], dtype=float32)
    """
    return jnp.minimum(jnp.sqrt(0.5 * jnp.maximum(kl, 0.0)), 1.0)


def state_drift_bound(epsilon: Scalar, t: Scalar) -> jax.Array:
    """`2 (1 − (1 − ε)^t)`: how far two policies' distributions of the state at time t can be apart, in L1.

    Where the policies' total variation is at most ε in every state. Never above `2 ε t`. Ross & Bagnell
    2010, https://proceedings.mlr.press/v9/ross10a.html; Schulman et al. 2015, appendix A.

    Args:
      epsilon: ε in [0, 1].
      t: the number of steps, at least 0; broadcasts against `epsilon`.

    Raises:
      ValueError: `epsilon` is a number outside [0, 1].

    >>> state_drift_bound(0.5, jnp.array([0.0, 1.0, 2.0]))
    Array([0. , 1. , 1.5], dtype=float32)
    """
    check_fraction(epsilon=epsilon)
    return 2.0 * (1.0 - jnp.power(1.0 - epsilon, t))


def surrogate_error_bound(epsilon: Scalar, discount: Scalar, horizon: int, largest_advantage: Scalar) -> jax.Array:
    """How much the surrogate `E_μ[ρ A]` can be off the true improvement over `horizon` steps.

    `Σ_t γ^t · drift_t · max_s |E_{a~π} A(s, a)|` with the drift of `state_drift_bound`, t from 0: Kakade &
    Langford 2002; Schulman et al. 2015, appendix A.

    Args:
      epsilon: ε in [0, 1], the largest total variation of the two policies in a state.
      discount: γ in [0, 1].
      horizon: how many steps an episode takes at most.
      largest_advantage: `max_s |E_{a~π} A_μ(s, a)|`, at least 0.

    Raises:
      ValueError: an argument is a number out of range.

    >>> surrogate_error_bound(0.5, 1.0, 3, 2.0)
    Array(5., dtype=float32)
    """
    check_fraction(epsilon=epsilon, discount=discount)
    check_count(horizon=horizon)
    t = jnp.arange(horizon)
    drift = jnp.sum(jnp.power(discount, t) * state_drift_bound(epsilon, t))
    return scaled(drift, jnp.asarray(largest_advantage, drift.dtype))


def trust_region_bound(epsilon: Scalar, discount: Scalar, largest_advantage: Scalar) -> jax.Array:
    """TRPO's penalty `4 ε² γ / (1 − γ)² · max |A|`: improvement is at least the surrogate's less this.

    Schulman et al. 2015, https://arxiv.org/abs/1502.05477, theorem 1.

    Args:
      epsilon: ε in [0, 1], the largest total variation of the two policies in a state.
      discount: γ in [0, 1).
      largest_advantage: `max_{s,a} |A_μ(s, a)|`, at least 0.

    Raises:
      ValueError: an argument is a number out of range.

    >>> trust_region_bound(jnp.array([0.5]), 0.5, 2.0)
    Array([4.], dtype=float32)
    """
    check_fraction(epsilon=epsilon, discount=discount)
    squared = jnp.square(epsilon)
    return scaled(squared, 4.0 * discount / jnp.square(1.0 - discount) * largest_advantage)
