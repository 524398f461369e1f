"""Losses of distributions of returns: quantile regression, the cross-entropy of C51 and of HL-Gauss."""

import jax
import jax.numpy as jnp

from isjax._checks import check_positive, check_same_shape, describe, precise, series
from isjax.losses.action_values import half_squared, taken_action, weighted_mean
from isjax.ops.action_values import Ties, over_actions
from isjax.ops.distributional import categorical_mean, hl_gauss, project_categorical
from isjax.ops.policies import check_mask, expected_q, greedy_log_probs
from isjax.ops.recurrence import scaled
from isjax.types import Flags, Scalar, Series


def quantile_regression_loss(
    theta_tm1: jax.Array,
    target_tm1: jax.Array,
    is_valid_t: Flags | None = None,
    *,
    tau: jax.Array | None = None,
    huber: Scalar | None = 1.0,
    weight_tm1: Series | None = None,
) -> jax.Array:
    """`Σ_i mean_j |τ_i − 1{u < 0}| L(u)` with `u = target_j − θ_i`, the mean over valid steps.

    Dabney et al. 2018, https://arxiv.org/abs/1710.10044, eq. 8 to 10 (QR-DQN): its minimum are the quantiles of the
    target's distribution at the fractions τ. `L` is Huber's loss, as in eq. 10 not divided by κ.

    Args:
      theta_tm1: `[T, *B, N]`, quantiles; gradients flow into these alone.
      target_tm1: `[T, *B, M]`, samples or quantiles of what they should become, equally likely; constant.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      tau: fractions in (0, 1), `[N]` or those of each step `[T, *B, N]`; left out, the midpoints `(2 i + 1) / 2 N`.
      huber: κ > 0; `None` takes `L(u) = |u|`, plain quantile regression.
      weight_tm1: `[T, *B]`, factors of the steps, constant, as in `action_value_loss`.

    Raises:
      ValueError: shapes differ, or an option is out of range.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> quantile_regression_loss(jnp.array([[0.0, 4.0]]), jnp.array([[2.0]]), huber=None)
    Array(1., dtype=float32)
    """
    check_positive(huber=huber)
    theta_tm1, target_tm1 = precise(theta_tm1=theta_tm1, target_tm1=target_tm1)
    counts = _counted(is_valid_t, theta_tm1=theta_tm1)
    theta_tm1, target_tm1 = over_actions(counts, theta_tm1=theta_tm1, target_tm1=target_tm1)
    (tau,) = over_actions(counts, tau=_fractions(theta_tm1, tau))
    u = jax.lax.stop_gradient(target_tm1)[..., None, :] - theta_tm1[..., :, None]
    size = jnp.abs(u) if huber is None else half_squared(u, huber)
    slope = jnp.abs(jax.lax.stop_gradient(tau)[..., None] - (u < 0.0))
    return weighted_mean(jnp.sum(jnp.mean(slope * size, axis=-1), axis=-1), weight_tm1, is_valid_t)


def quantile_q_learning_loss(
    theta_tm1: jax.Array,
    a_tm1: jax.Array,
    theta_t: jax.Array,
    r_t: Series,
    discount_t: Series,
    is_valid_t: Flags | None = None,
    *,
    selector_t: jax.Array | None = None,
    mask_t: jax.Array | None = None,
    tau: jax.Array | None = None,
    huber: Scalar | None = 1.0,
    weight_tm1: Series | None = None,
) -> jax.Array:
    """QR-DQN's loss: `quantile_regression_loss` on `r + γ θ_j(s', a*)`, where a* has the largest mean.

    Dabney et al. 2018, https://arxiv.org/abs/1710.10044, algorithm 1. Of equally good actions a* is the first.

    Args:
      theta_tm1: `[T, *B, A, N]`, quantiles of all actions; gradients flow into those of the actions taken alone.
      a_tm1: `[T, *B]`, integers in [0, A), the actions taken.
      theta_t: `[T, *B, A, M]`, quantiles in the states actually reached, as `q_t` of `q_learning_loss`; constant.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated; there `theta_t` may hold anything.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      selector_t: `[T, *B, A]`, action values that choose a*, for double Q-learning; left out, the means of `theta_t`.
      mask_t: `[T, *B, A]`, true for the actions that are legal in the states reached; left out, all are.
      tau: see `quantile_regression_loss`, as the next two.
      huber: κ > 0, or `None`.
      weight_tm1: `[T, *B]`, factors of the steps.

    Raises:
      ValueError: shapes differ, or an option is out of range.
      TypeError: an array is not floating, a flag not boolean, or actions are not integers.

    >>> theta = jnp.array([[[0.0, 4.0], [1.0, 1.0]]])
    >>> quantile_q_learning_loss(theta, jnp.array([1]), theta, jnp.zeros(1), jnp.ones(1), huber=None)
    Array(2., dtype=float32)
    """
    r_t, discount_t = series(r_t=r_t, discount_t=discount_t, is_valid_t=is_valid_t)
    (theta_t,) = over_actions(discount_t, theta_t=theta_t)
    means = jnp.mean(theta_t, axis=-1) if selector_t is None else selector_t
    log_pi_t = _greedy(means, discount_t, mask_t, "first")
    best = expected_q(*jnp.broadcast_arrays(jnp.moveaxis(theta_t, -1, -2), log_pi_t[..., None, :]))
    target = r_t[..., None] + scaled(jnp.broadcast_to(discount_t[..., None], best.shape), best)
    theta = taken_action(a_tm1, is_valid_t, theta_tm1=theta_tm1)
    return quantile_regression_loss(theta, target, is_valid_t, tau=tau, huber=huber, weight_tm1=weight_tm1)


def categorical_loss(
    logits_tm1: jax.Array,
    target_tm1: jax.Array,
    is_valid_t: Flags | None = None,
    *,
    weight_tm1: Series | None = None,
) -> jax.Array:
    """`−Σ_i p_i log softmax(logits)_i`, the mean over valid steps: cross-entropy with a target's probabilities.

    Bellemare et al. 2017, https://arxiv.org/abs/1707.06887, the last line of algorithm 1.

    Args:
      logits_tm1: `[T, *B, K]`; gradients flow into these alone. Of `[T, *B, A, K]` take `ops.at_action(logits, a_tm1)`.
      target_tm1: `[T, *B, K]`, probabilities p, as `ops.project_categorical` or `ops.hl_gauss` gives them; constant.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      weight_tm1: `[T, *B]`, factors of the steps, constant, as in `action_value_loss`.

    Raises:
      ValueError: shapes differ.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> categorical_loss(jnp.log(jnp.array([[0.5, 0.5]])), jnp.array([[1.0, 0.0]])).round(4)
    Array(0.6931, dtype=float32)
    """
    check_same_shape(logits_tm1=logits_tm1, target_tm1=target_tm1)
    logits_tm1, target_tm1 = precise(logits_tm1=logits_tm1, target_tm1=target_tm1)
    counts = _counted(is_valid_t, logits_tm1=logits_tm1)
    logits_tm1, target_tm1 = over_actions(counts, logits_tm1=logits_tm1, target_tm1=target_tm1)
    log_p = jax.nn.log_softmax(logits_tm1)
    return weighted_mean(-jnp.sum(scaled(jax.lax.stop_gradient(target_tm1), log_p), axis=-1), weight_tm1, is_valid_t)


def hl_gauss_loss(
    logits_tm1: jax.Array,
    target_tm1: Series,
    edges: jax.Array,
    is_valid_t: Flags | None = None,
    *,
    deviation: Scalar | None = None,
    weight_tm1: Series | None = None,
) -> jax.Array:
    """Cross-entropy with `ops.hl_gauss` of a scalar target, the mean over valid steps: regression as classification.

    Farebrother et al. 2024, https://arxiv.org/abs/2403.03950, eq. 3 and section 3.1. The value that the logits stand
    for is `ops.categorical_mean(logits, (edges[1:] + edges[:-1]) / 2)`.

    Args:
      logits_tm1: `[T, *B, K]`; gradients flow into these alone. Of `[T, *B, A, K]` take `ops.at_action(logits, a_tm1)`.
      target_tm1: `[T, *B]`, what the values should become: any target of `isjax.ops`; constant.
      edges: `[K + 1]`, strictly increasing, of the bins; targets beyond them count as their end.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      deviation: σ > 0 of the Gaussian; left out, the paper's 0.75 times the mean width of a bin.
      weight_tm1: `[T, *B]`, factors of the steps, constant, as in `action_value_loss`.

    Raises:
      ValueError: shapes differ, or `deviation` is not above 0.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> edges = jnp.array([0.0, 1.0, 2.0])
    >>> hl_gauss_loss(jnp.array([[0.0, 0.0]]), jnp.array([0.5]), edges).round(4)
    Array(0.6931, dtype=float32)
    """
    (edges,) = precise(edges=edges)
    if deviation is None:
        deviation = 0.75 * (edges[-1] - edges[0]) / (len(edges) - 1)
    (target_tm1,) = series(target_tm1=target_tm1, is_valid_t=is_valid_t)
    probs = hl_gauss(target_tm1, edges, deviation)
    if jnp.shape(logits_tm1) != probs.shape:
        got = describe(logits_tm1=logits_tm1, target_tm1=target_tm1, edges=edges)
        raise ValueError(f"logits_tm1 must be {list(probs.shape)}, a bin between two edges, but got: {got}.")
    return categorical_loss(logits_tm1, probs, is_valid_t, weight_tm1=weight_tm1)


def categorical_q_learning_loss(
    logits_tm1: jax.Array,
    a_tm1: jax.Array,
    logits_t: jax.Array,
    r_t: Series,
    discount_t: Series,
    atoms: jax.Array,
    is_valid_t: Flags | None = None,
    *,
    selector_t: jax.Array | None = None,
    mask_t: jax.Array | None = None,
    ties: Ties = "average",
    weight_tm1: Series | None = None,
) -> jax.Array:
    """C51's loss: cross-entropy with the distribution of `r + γ Z(s', a*)` on the same atoms, a* of the largest mean.

    Bellemare et al. 2017, https://arxiv.org/abs/1707.06887, algorithm 1.

    Args:
      logits_tm1: `[T, *B, A, K]`; gradients flow into those of the actions taken alone.
      a_tm1: `[T, *B]`, integers in [0, A), the actions taken.
      logits_t: `[T, *B, A, K]`, in the states actually reached, as `q_t` of `q_learning_loss`; constant.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated; there `logits_t` may hold anything.
      atoms: `[K]`, strictly increasing, the values of the categories.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      selector_t: `[T, *B, A]`, action values that choose a*, for double Q-learning; left out, the means of `logits_t`.
      mask_t: `[T, *B, A]`, true for the actions that are legal in the states reached; left out, all are.
      ties: "average" mixes the distributions of equally good actions, "first" takes that of the first one.
      weight_tm1: `[T, *B]`, factors of the steps, constant, as in `action_value_loss`.

    Raises:
      ValueError: shapes differ, or `ties` is unknown.
      TypeError: an array is not floating, a flag not boolean, or actions are not integers.

    >>> atoms, sure = jnp.array([0.0, 1.0]), jnp.array([[[9.0, 0.0], [0.0, 99.0]]])
    >>> logits, a, one = jnp.zeros((1, 2, 2)), jnp.array([0]), jnp.ones(1)
    >>> categorical_q_learning_loss(logits, a, sure, 0.0 * one, one, atoms).round(4)
    Array(0.6931, dtype=float32)
    """
    r_t, discount_t = series(r_t=r_t, discount_t=discount_t, is_valid_t=is_valid_t)
    (logits_t,) = over_actions(discount_t, logits_t=logits_t)
    means = categorical_mean(logits_t, atoms)
    log_pi_t = _greedy(means if selector_t is None else selector_t, discount_t, mask_t, ties)
    (atoms,) = precise(atoms=atoms)
    probs = expected_q(*jnp.broadcast_arrays(jnp.moveaxis(jax.nn.softmax(logits_t), -1, -2), log_pi_t[..., None, :]))
    values = r_t[..., None] + discount_t[..., None] * atoms.reshape((1,) * r_t.ndim + (-1,))
    # Where nothing follows every category has the same value, so that any distribution does.
    probs = jnp.where(discount_t[..., None] == 0.0, 1.0 / len(atoms), probs)
    logits = taken_action(a_tm1, is_valid_t, logits_tm1=logits_tm1)
    return categorical_loss(logits, project_categorical(probs, values, atoms), is_valid_t, weight_tm1=weight_tm1)


def _greedy(q_t: jax.Array, discount_t: Series, mask_t: jax.Array | None, ties: Ties) -> jax.Array:
    """Log-probabilities of the best legal actions, `[T, *B, A]`; where nothing follows, of any."""
    (q_t,) = over_actions(discount_t, q_t=q_t)
    check_mask(q_t, mask_t=mask_t)
    return greedy_log_probs(q_t, mask_t, ties=ties)


def _counted(is_valid_t: Flags | None, **x: jax.Array) -> jax.Array:
    """1 in valid steps of the one array `[T, *B, K]` and 0 in padding."""
    ((name, values),) = x.items()
    if values.ndim < 2:
        raise ValueError(f"{name} must be [T, *B, K] with T ≥ 1, but its shape is {list(values.shape)}.")
    return series(is_valid_t=is_valid_t, **{f"{name}[..., 0]": jnp.ones(values.shape[:-1])})[0]


def _fractions(theta_tm1: jax.Array, tau: jax.Array | None) -> jax.Array:
    """τ in the shape of the quantiles `[T, *B, N]`."""
    count = theta_tm1.shape[-1]
    (tau,) = precise(tau=(jnp.arange(count) + 0.5) / count if tau is None else tau)
    if tau.shape == (count,):
        return jnp.broadcast_to(tau.reshape((1,) * (theta_tm1.ndim - 1) + (-1,)), theta_tm1.shape)
    if tau.shape == theta_tm1.shape:
        return tau
    raise ValueError(f"tau must be [{count}] or {list(theta_tm1.shape)}, but its shape is {list(tau.shape)}.")
