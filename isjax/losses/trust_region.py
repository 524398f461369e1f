"""Trust-region policy optimization: a natural-gradient step that a line search checks, on any pytree."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from isjax._checks import check_count, check_fraction, check_positive
from isjax.types import Scalar, Tree


class TrustRegionStep(NamedTuple):
    """What `trust_region_step` did; everything but `params` has shape `[]`."""

    params: Tree
    """The new parameters; where no step was accepted, the old ones bit for bit."""
    accepted: jax.Array
    """Boolean."""
    kl: jax.Array
    """Mean divergence of the step taken, in nats; 0 without one."""
    improvement: jax.Array
    """By how much the surrogate grew; 0 without a step."""
    backtracks: jax.Array
    """int32: how often the step was shortened before it was accepted, or in vain."""


def conjugate_gradient(
    matvec: Callable[[Tree], Tree], b: Tree, *, iterations: int = 10, tolerance: Scalar = 1e-6
) -> Tree:
    """Solves `A x = b` for a symmetric positive definite `A` that is known by its products with vectors.

    Hestenes & Stiefel 1952. Where `pᵀ A p` is not above 0, NaN included, it stops at the `x` it has: `A` is
    not positive definite, or the residual is down to rounding.

    Args:
      matvec: `x ↦ A x`, on pytrees of the structure of `b`.
      b: a pytree of floating arrays.
      iterations: how many products to take, at least 1.
      tolerance: stops where the residual's norm is at most this times that of `b`.

    Returns:
      `x`, a pytree like `b`; zeros for `b = 0`.

    Raises:
      ValueError: `iterations` is below 1.

    >>> conjugate_gradient(lambda x: jnp.array([2.0, 4.0]) * x, jnp.array([2.0, 2.0])).round(3)
    Array([1. , 0.5], dtype=float32)
    """
    check_count(iterations=iterations)
    threshold = tolerance**2 * _dot(b, b)

    def iterate(_, carry):
        x, residual, p, squared = carry
        ap = matvec(p)
        curvature = _dot(p, ap)
        goes_on = (squared > threshold) & (curvature > 0)
        step = jnp.where(goes_on, squared / jnp.where(goes_on, curvature, 1.0), 0.0)
        x = _where(goes_on, _axpy(step, p, x), x)
        residual = _where(goes_on, _axpy(-step, ap, residual), residual)
        squared_next = jnp.where(goes_on, _dot(residual, residual), squared)
        p = _where(goes_on, _axpy(squared_next / jnp.where(goes_on, squared, 1.0), p, residual), p)
        return x, residual, p, squared_next

    return jax.lax.fori_loop(0, iterations, iterate, (jax.tree.map(jnp.zeros_like, b), b, b, _dot(b, b)))[0]


def fisher_vector_product(
    kl: Callable[[Tree], jax.Array], params: Tree, vector: Tree, *, damping: Scalar = 0.0
) -> Tree:
    """`(F + damping · I) v`, where F is the Hessian of `kl` at `params`; forward over reverse, no matrix.

    With `kl(θ)` the mean of `KL(π_old‖π_θ)` over states and `params` those of π_old, F is the Fisher
    information matrix (Schulman et al. 2015, https://arxiv.org/abs/1502.05477, appendix C).

    Args:
      kl: parameters to a scalar.
      params: a pytree of floating arrays.
      vector: v, a pytree like `params`.
      damping: added to F's diagonal, at least 0.

    Returns:
      A pytree like `params`.

    >>> fisher_vector_product(lambda x: jnp.sum(x**2), jnp.ones(2), jnp.array([1.0, 3.0]), damping=0.5)
    Array([2.5, 7.5], dtype=float32)
    """
    return _fisher(kl, params, damping)(vector)


def trust_region_step(
    surrogate: Callable[[Tree], jax.Array],
    kl: Callable[[Tree], jax.Array],
    params: Tree,
    *,
    max_kl: Scalar,
    damping: Scalar = 0.1,
    iterations: int = 10,
    backtracks: int = 10,
    shrink: Scalar = 0.5,
) -> TrustRegionStep:
    """One step of TRPO: along `F⁻¹ ∇ surrogate`, as far as `max_kl` allows, then back until it is proved good.

    Schulman et al. 2015, https://arxiv.org/abs/1502.05477, appendix C. A candidate is accepted where the
    surrogate improved, `kl ≤ max_kl`, and both are finite; without one, or where the gradient is 0 or F is
    not positive, the parameters stay as they are. Works under `jit` and under `vmap` over learners.

    Args:
      surrogate: parameters to a scalar to maximize, such as minus `surrogate_loss`.
      kl: parameters to the mean of `KL(π_old‖π_θ)` in nats, 0 at `params`. What belongs to π_old, it holds
        as constants.
      params: a pytree of floating arrays, those of π_old.
      max_kl: δ > 0.
      damping: added to F's diagonal, at least 0.
      iterations: of the conjugate gradient, at least 1.
      backtracks: how many candidates to try, at least 1.
      shrink: factor from one candidate's step to the next one's, in (0, 1).

    Raises:
      ValueError: an option is out of range.

    >>> step = trust_region_step(lambda x: x, lambda x: 0.5 * x**2, jnp.zeros(()), max_kl=0.02, damping=0.01)
    >>> f"{step.params:.3f}", step.accepted, step.backtracks
    ('0.199', Array(True, dtype=bool), Array(0, dtype=int32))
    """
    check_positive(max_kl=max_kl, shrink=shrink)
    check_fraction(shrink=shrink)
    check_count(iterations=iterations, backtracks=backtracks)
    value, gradient = jax.value_and_grad(surrogate)(params)
    fisher = _fisher(kl, params, damping)
    direction = conjugate_gradient(fisher, gradient, iterations=iterations)
    curvature = _dot(direction, fisher(direction))
    usable = (curvature > 0) & jnp.isfinite(curvature)
    largest = jnp.where(usable, jnp.sqrt(2.0 * max_kl / jnp.where(usable, curvature, 1.0)), 0.0)

    # Built from arrays of the problem, so that inside `shard_map` all vary over the axes that those vary over.
    nothing = jnp.zeros_like(curvature + value + kl(params))

    def searches(carry):
        tried, accepted, *_ = carry
        return usable & ~accepted & (tried < backtracks)

    def attempt(carry):
        tried, *_ = carry
        candidate = _axpy(largest * jnp.power(shrink, tried), direction, params)
        improvement = (surrogate(candidate) - value).astype(nothing.dtype)
        divergence = kl(candidate).astype(nothing.dtype)
        finite = jnp.isfinite(improvement) & jnp.isfinite(divergence)
        accepted = finite & (improvement > 0) & (divergence <= max_kl)
        return tried + 1, accepted, candidate, improvement, divergence

    start = (nothing.astype(jnp.int32), nothing > 0, params, nothing, nothing)
    tried, accepted, candidate, improvement, divergence = jax.lax.while_loop(searches, attempt, start)
    return TrustRegionStep(
        params=_where(accepted, candidate, params),
        accepted=accepted,
        kl=jnp.where(accepted, divergence, 0.0),
        improvement=jnp.where(accepted, improvement, 0.0),
        backtracks=jnp.maximum(tried - 1, 0),
    )


def _fisher(kl: Callable[[Tree], jax.Array], params: Tree, damping: Scalar) -> Callable[[Tree], Tree]:
    """`v ↦ (F + damping · I) v`; the reverse pass runs once for all products."""
    _, hessian = jax.linearize(jax.grad(kl), params)
    return lambda vector: _axpy(damping, vector, hessian(vector))


def _dot(x: Tree, y: Tree) -> jax.Array:
    """The inner product over all leaves, in float32 at least."""

    def leaf(a, b):
        dtype = jnp.promote_types(a.dtype, jnp.float32)
        return jnp.sum(a.astype(dtype) * b.astype(dtype))

    return jax.tree.reduce(jnp.add, jax.tree.map(leaf, x, y))


def _axpy(scale: Scalar, x: Tree, y: Tree) -> Tree:
    """`scale · x + y`, in the dtypes of `y`."""
    return jax.tree.map(lambda a, b: (scale * a + b).astype(b.dtype), x, y)


def _where(condition: jax.Array, x: Tree, y: Tree) -> Tree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), x, y)
