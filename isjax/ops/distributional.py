"""Distributions of returns as categories: C51's projection, HL-Gauss's bins, and the mean of either."""

import jax
import jax.numpy as jnp
from jax.scipy.special import erf

from isjax._checks import check_positive, check_same_shape, describe, precise
from isjax.types import Scalar


def categorical_mean(logits: jax.Array, atoms: jax.Array) -> jax.Array:
    """`Σ_i softmax(logits)_i z_i`: the value that a categorical distribution over atoms stands for.

    Args:
      logits: `[..., K]`.
      atoms: `[K]`, the values of the categories; for HL-Gauss the centers of its bins.

    Returns:
      `[...]`, float32 at least.

    Raises:
      ValueError: the numbers of atoms differ.
      TypeError: an array is not floating.

    >>> categorical_mean(jnp.zeros(3), jnp.array([-1.0, 0.0, 4.0]))
    Array(1., dtype=float32)
    """
    logits, atoms = precise(logits=logits, atoms=atoms)
    if atoms.ndim != 1 or logits.ndim == 0 or logits.shape[-1] != len(atoms):
        raise ValueError(f"logits must be [..., K] and atoms [K], but got: {describe(logits=logits, atoms=atoms)}.")
    return jnp.sum(jax.nn.softmax(logits) * atoms.reshape((1,) * (logits.ndim - 1) + (-1,)), axis=-1)


def project_categorical(probs: jax.Array, values: jax.Array, atoms: jax.Array) -> jax.Array:
    """A distribution over any values, moved onto fixed atoms; its mean stays as it is within their range.

    Bellemare et al. 2017, https://arxiv.org/abs/1707.06887, eq. 7 (C51): each value's probability is shared among the
    two atoms beside it, more to the nearer one; values beyond the range count as the outermost atom. A single value of
    probability 1 gives the "two-hot" encoding. The distance between atoms need not be the same everywhere.

    Args:
      probs: `[..., N]`, probabilities.
      values: `[..., N]`, the values that have them, in any order; for C51 `r + γ z`.
      atoms: `[K]`, K ≥ 2, strictly increasing.

    Returns:
      `[..., K]`, probabilities, float32 at least.

    Raises:
      ValueError: shapes differ.
      TypeError: an array is not floating.

    >>> project_categorical(jnp.array([0.5, 0.5]), jnp.array([0.25, 9.0]), jnp.array([0.0, 1.0, 2.0]))
    Array([0.375, 0.125, 0.5  ], dtype=float32)
    """
    check_same_shape(probs=probs, values=values)
    probs, values, atoms = precise(probs=probs, values=values, atoms=atoms)
    _check_grid(atoms=atoms)
    if probs.ndim == 0:
        raise ValueError("probs must be [..., N], but its shape is [].")
    grid = atoms.reshape((1,) * probs.ndim + (-1,))
    # How far a value is on its way from each atom to the next one: what it gives to that one.
    way = jnp.clip((values[..., None] - grid[..., :-1]) / jnp.diff(grid, axis=-1), 0.0, 1.0)
    one, zero = jnp.ones_like(way[..., :1]), jnp.zeros_like(way[..., :1])
    share = jnp.concatenate([one, way], axis=-1) - jnp.concatenate([way, zero], axis=-1)
    return jnp.sum(jnp.where(probs[..., None] == 0.0, 0.0, share) * probs[..., None], axis=-2)


def hl_gauss(target: jax.Array, edges: jax.Array, deviation: Scalar) -> jax.Array:
    """HL-Gauss: a target as the probabilities that a Gaussian around it gives to the bins of a histogram.

    Imani & White 2018, https://arxiv.org/abs/1806.04613; Farebrother et al. 2024, https://arxiv.org/abs/2403.03950,
    section 3.1: the mass between the edges of a bin over that between the outermost edges, hence a sum of 1. Targets
    beyond the range count as its end.

    Args:
      target: `[...]`, the values.
      edges: `[K + 1]`, K ≥ 1, strictly increasing: bin i lies between edges i and i + 1. For
        `categorical_mean` take the centers `(edges[1:] + edges[:-1]) / 2`.
      deviation: σ > 0 of the Gaussian, in the unit of the values; the paper takes 0.75 times the width of a bin.

    Returns:
      `[..., K]`, probabilities, float32 at least.

    Raises:
      ValueError: `edges` are no list of edges, or `deviation` is not above 0.
      TypeError: an array is not floating.

    >>> (1000 * hl_gauss(jnp.array(1.5), jnp.array([0.0, 1.0, 2.0, 3.0]), 0.75)).round()
    Array([241., 519., 241.], dtype=float32)
    """
    check_positive(deviation=deviation)
    target, edges = precise(target=target, edges=edges)
    _check_grid(edges=edges)
    z = jnp.clip(target, edges[0], edges[-1])[..., None]
    below = erf((edges.reshape((1,) * target.ndim + (-1,)) - z) / (jnp.sqrt(2.0).astype(z.dtype) * deviation))
    return jnp.diff(below, axis=-1) / (below[..., -1:] - below[..., :1])


def _check_grid(**grid: jax.Array) -> None:
    ((name, x),) = grid.items()
    if x.ndim != 1 or len(x) < 2:
        raise ValueError(f"{name} must be a list of at least 2 numbers, but its shape is {list(x.shape)}.")
