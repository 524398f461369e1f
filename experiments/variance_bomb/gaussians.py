"""Two normal policies of unit width, a gap δ apart: the behavior policy at 0, the target policy at δ.

The reward is 1 for an action above δ, so that the value of the target policy is ½ whatever the gap.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from isjax import ope
from isjax.ops import effective_sample_size, gaussian_renyi_2

TRUE_VALUE = 0.5


def play(key: jax.Array, gap: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    """`(log ρ, reward)` of `n` actions of the behavior policy."""
    action = jax.random.normal(key, (n,))
    return gap * action - gap**2 / 2, (action > gap).astype(jnp.float32)


def judged(log_rho: jax.Array, reward: jax.Array) -> dict[str, jax.Array]:
    """Effective share of the samples, and both estimates."""
    return {
        "ess": effective_sample_size(log_rho) / log_rho.size,
        "ordinary": ope.ordinary_is(log_rho[None], reward[None], 1.0).value,
        "weighted": ope.weighted_is(log_rho[None], reward[None], 1.0).value,
    }


@functools.partial(jax.jit, static_argnames="n")
def sampled(keys: jax.Array, gap: jax.Array, *, n: int) -> dict[str, jax.Array]:
    """`[len(keys)]` each, of `n` samples a run."""
    return jax.lax.map(lambda key: judged(*play(key, gap, n)), keys)


def exact_ess(gaps: np.ndarray) -> np.ndarray:
    """`exp(−δ²)`, the share of many samples that is effective."""
    gaps = jnp.asarray(gaps, jnp.float32)
    one, zero = jnp.ones_like(gaps), jnp.zeros_like(gaps)
    return np.exp(-np.asarray(gaussian_renyi_2(gaps, one, zero, one), np.float64))


def exact_error(gap: float, n: int) -> float:
    """Root mean squared error of the ordinary estimate: `E[ρ² r] = exp(δ²) Φ(δ)`."""
    above = 0.5 * (1.0 + math.erf(gap / math.sqrt(2.0)))
    return math.sqrt((math.exp(gap**2) * above - TRUE_VALUE**2) / n)
