"""Policies that follow from action values: greedy, ε-greedy and softmax, and the value of a state under them."""

from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp

from isjax._checks import (
    check_flags,
    check_fraction,
    check_integer,
    check_positive,
    check_same_shape,
    describe,
    precise,
)
from isjax.errors import FieldError
from isjax.types import Scalar

Ties: TypeAlias = Literal["average", "first"]
"""Which of several best actions is the greedy one: all of them with equal odds, or the first, as `argmax` has it."""


def greedy_log_probs(q: jax.Array, mask: jax.Array | None = None, *, ties: Ties = "average") -> jax.Array:
    """Log-probabilities of the greedy policy, `−inf` for actions that are not the best.

    Args:
      q: `[..., A]`, action values. A NaN among those of legal actions makes the state's log-probabilities NaN.
      mask: `[..., A]`, true for legal actions; left out, all are. Without any legal action all are `−inf`.
      ties: "average" shares the probability among equally good actions, as `distrax.EpsilonGreedy` does; "first" gives
        it to the first of them, as `argmax` does. Take what the policy that acts does.

    Returns:
      `[..., A]`, float32 at least; no gradient flows through them.

    Raises:
      ValueError: shapes differ, or `ties` is unknown.
      TypeError: `q` is not floating, or `mask` not boolean.

    >>> q = jnp.array([1.0, 3.0, 3.0])
    >>> jnp.exp(greedy_log_probs(q)), jnp.exp(greedy_log_probs(q, ties="first"))
    (Array([0. , 0.5, 0.5], dtype=float32), Array([0., 1., 0.], dtype=float32))
    """
    if ties not in get_args(Ties):
        raise FieldError("ties", f"one of {', '.join(get_args(Ties))}", repr(ties))
    q, mask = _legal(q, mask)
    best = jnp.max(q, axis=-1, keepdims=True, where=mask, initial=-jnp.inf)
    is_best = mask & (q == best)
    if ties == "first":
        is_best = is_best & (jnp.cumsum(is_best, axis=-1) == 1)
    log_share = -jnp.log(jnp.maximum(jnp.sum(is_best, axis=-1, keepdims=True), 1).astype(q.dtype))
    log_pi = jnp.where(is_best, log_share, -jnp.inf)
    return jax.lax.stop_gradient(jnp.where(jnp.isnan(best), jnp.nan, log_pi))


def epsilon_greedy_log_probs(
    q: jax.Array, epsilon: Scalar | jax.Array, mask: jax.Array | None = None, *, ties: Ties = "average"
) -> jax.Array:
    """Log-probabilities of the ε-greedy policy, `log(ε / n + (1 − ε) · 1{greedy})` for `n` legal actions.

    Sutton & Barto 2018, section 5.4. It is this that belongs into `log_mu_tm1` of actions that an ε-greedy policy
    took, with the ε that it had then.

    Args:
      q: `[..., A]`, action values.
      epsilon: ε in [0, 1]; a scalar, or of the shape of `q` without `A`. The policy is greedy at 0, uniform at 1.
      mask: `[..., A]`, true for legal actions, which exploration keeps to; left out, all are.
      ties: see `greedy_log_probs`.

    Returns:
      `[..., A]`, float32 at least; `−inf` for actions that are never taken. Gradients flow to `epsilon` alone.

    Raises:
      ValueError: shapes differ, or an option is out of range.
      TypeError: `q` is not floating, or `mask` not boolean.

    >>> (100 * jnp.exp(epsilon_greedy_log_probs(jnp.array([1.0, 3.0]), 0.2))).round()
    Array([10., 90.], dtype=float32)
    """
    check_fraction(epsilon=epsilon)
    log_pi = greedy_log_probs(q, mask, ties=ties)
    q, mask = _legal(q, mask)
    epsilon = _per_state(q, epsilon=epsilon)
    uniform = jnp.where(mask, 1.0 / jnp.maximum(jnp.sum(mask, axis=-1, keepdims=True), 1).astype(q.dtype), 0.0)
    odds = epsilon * uniform + (1.0 - epsilon) * jnp.exp(log_pi)
    return jnp.where(odds == 0.0, -jnp.inf, jnp.log(jnp.where(odds == 0.0, 1.0, odds)))


def softmax_log_probs(q: jax.Array, temperature: Scalar | jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Log-probabilities of the policy `π(a|s) ∝ exp(Q(s, a) / temperature)`.

    Sutton & Barto 2018, eq. 13.2 with `h = Q / temperature`. The maximum is subtracted first: no temperature
    overflows.

    Args:
      q: `[..., A]`, action values.
      temperature: greater than 0, in the unit of the values; a scalar, or of the shape of `q` without `A`.
      mask: `[..., A]`, true for legal actions; left out, all are.

    Returns:
      `[..., A]`, float32 at least; `−inf` for illegal actions. Gradients flow to `q` and `temperature`.

    Raises:
      ValueError: shapes differ, or `temperature` is not above 0.
      TypeError: `q` is not floating, or `mask` not boolean.

    >>> (100 * jnp.exp(softmax_log_probs(jnp.array([0.0, jnp.log(3.0)]), 1.0))).round()
    Array([25., 75.], dtype=float32)
    """
    if not jnp.ndim(temperature):
        check_positive(temperature=temperature)
    q, mask = _legal(q, mask)
    best = jax.lax.stop_gradient(jnp.max(q, axis=-1, keepdims=True, where=mask, initial=-jnp.inf))
    counts = mask & (q != -jnp.inf)
    z = jnp.where(counts, q - jnp.where(jnp.isneginf(best), 0.0, best), 0.0) / _per_state(q, temperature=temperature)
    total = jnp.sum(jnp.exp(z), axis=-1, keepdims=True, where=counts)
    return jnp.where(counts, z - jnp.log(jnp.where(total == 0.0, 1.0, total)), -jnp.inf)


def expected_q(q: jax.Array, log_pi: jax.Array) -> jax.Array:
    """`Σ_a π(a|s) Q(s, a)`, the value of a state under a policy; 0 where no action is possible.

    An action of probability 0 adds nothing, whatever its value is. With `greedy_log_probs` of another network's values
    it is the value of double Q-learning.

    Args:
      q: `[..., A]`, action values.
      log_pi: `[..., A]`, log-probabilities of all actions.

    Returns:
      `[...]`, float32 at least; gradients flow to both.

    Raises:
      ValueError: shapes differ.
      TypeError: an array is not floating.

    >>> expected_q(jnp.array([2.0, 4.0, jnp.nan]), jnp.log(jnp.array([0.25, 0.75, 0.0])))
    Array(3.5, dtype=float32)
    """
    check_same_shape(q=q, log_pi=log_pi)
    q, log_pi = precise(q=q, log_pi=log_pi)
    possible = ~jnp.isneginf(log_pi)
    return jnp.sum(jnp.exp(jnp.where(possible, log_pi, -jnp.inf)) * jnp.where(possible, q, 0.0), axis=-1)


def at_action(x: jax.Array, action: jax.Array) -> jax.Array:
    """Of `x[..., a]` that of the action taken; what stands at other actions has no influence.

    Args:
      x: `[*S, A, ...]`: action values, log-probabilities, or more than one number an action.
      action: `[*S]`, integers in [0, A). Another number gives NaN.

    Returns:
      `[*S, ...]`, float32 at least.

    Raises:
      ValueError: `x` has no axis of actions behind the axes of `action`.
      TypeError: `x` is not floating, or `action` does not hold integers.

    >>> at_action(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, 0]))
    Array([2., 3.], dtype=float32)
    """
    check_integer(action=action)
    (x,) = precise(x=x)
    axis = jnp.ndim(action)
    if x.ndim <= axis or x.shape[:axis] != jnp.shape(action):
        raise ValueError(f"x must be [*S, A, ...] for an action [*S], but got: {describe(x=x, action=action)}.")
    action = jnp.asarray(action).reshape(jnp.shape(action) + (1,) * (x.ndim - axis))
    is_taken = jax.lax.broadcasted_iota(jnp.int32, x.shape, axis) == action
    found = jnp.sum(jnp.where(is_taken, x, 0.0), axis=axis)
    return jnp.where(jnp.any(is_taken, axis=axis), found, jnp.nan)


def _legal(q: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """`q` with 0 for illegal actions, and the mask."""
    (q,) = precise(q=q)
    if q.ndim == 0 or q.shape[-1] == 0:
        raise ValueError(f"q must be [..., A] with A ≥ 1, but its shape is {list(q.shape)}.")
    check_mask(q, mask=mask)
    mask = jnp.ones(q.shape, bool) if mask is None else jnp.asarray(mask)
    return jnp.where(mask, q, 0.0), mask


def check_mask(q: jax.Array, **mask: jax.Array | None) -> None:
    """Raises unless the mask given is boolean and of the shape of `q`."""
    check_same_shape(q=q, **mask)
    check_flags(**mask)


def _per_state(q: jax.Array, **options: Scalar | jax.Array) -> jax.Array:
    """The one option given, fit to be multiplied with `q` `[..., A]`."""
    ((name, x),) = options.items()
    x = jnp.asarray(x, q.dtype)
    if x.ndim == 0:
        return x
    if x.shape != q.shape[:-1]:
        raise ValueError(f"{name} must be a scalar or {list(q.shape[:-1])}, but its shape is {list(x.shape)}.")
    return x[..., None]
