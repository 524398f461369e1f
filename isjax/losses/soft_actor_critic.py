"""The three losses of soft actor-critics: of critics, of a policy that actions' gradients reach, of the temperature.

Haarnoja et al. 2018b, https://arxiv.org/abs/1812.05905. Actions and their log-probabilities come from whatever policy
can be reparameterized; the targets of the critics are those of `isjax.ops.soft_retrace`.
"""

import jax
import jax.numpy as jnp

from isjax._checks import check_positive, series
from isjax.losses.value import weighted_mean
from isjax.ops.reduction import mean_over_valid
from isjax.ops.soft_values import by_critic, soft_value
from isjax.types import Flags, Scalar, Series


def sac_critic_loss(
    q_tm1: jax.Array, target_tm1: Series, is_valid_t: Flags | None = None, *, weight_tm1: Series | None = None
) -> jax.Array:
    """`½ Σ_i (target − Q_i(s, a))²`, the mean over valid steps: every critic moves to one target.

    Haarnoja et al. 2018b, https://arxiv.org/abs/1812.05905, eq. 5.

    Args:
      q_tm1: `[T, *B, N]`, what N critics say of the actions taken; gradients flow into these alone.
      target_tm1: `[T, *B]`, as `ops.soft_retrace` gives it; constant.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      weight_tm1: `[T, *B]`, factors of the steps, constant, as in `action_value_loss`.

    Raises:
      ValueError: shapes differ.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> sac_critic_loss(jnp.array([[1.0, 2.0], [0.0, 0.0]]), jnp.array([3.0, 1.0]))
    Array(1.75, dtype=float32)
    """
    (target_tm1,) = series(target_tm1=target_tm1, is_valid_t=is_valid_t)
    error = jax.lax.stop_gradient(target_tm1)[..., None] - by_critic(target_tm1, is_valid_t, q_tm1=q_tm1)
    return weighted_mean(0.5 * jnp.sum(jnp.square(error), axis=-1), weight_tm1, is_valid_t)


def sac_policy_loss(
    q_tm1: jax.Array, log_pi_tm1: Series, is_valid_t: Flags | None = None, *, temperature: Scalar
) -> jax.Array:
    """`α log π(a|s) − min_i Q_i(s, a)` of a sampled action `a = f(ε; s)`, the mean over valid steps.

    Haarnoja et al. 2018b, https://arxiv.org/abs/1812.05905, eq. 9.

    Args:
      q_tm1: `[T, *B, N]`, what N critics say of the sampled actions. Gradients flow through both arguments into the
        actions; those into the critics' own parameters have to be stopped there.
      log_pi_tm1: `[T, *B]`, log-probabilities of the sampled actions; after squashing, with the Jacobian (appendix C).
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      temperature: α > 0; constant.

    Raises:
      ValueError: shapes differ, or `temperature` is not above 0.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> sac_policy_loss(jnp.array([[3.0, 2.0]]), jnp.array([-1.0]), temperature=0.5)
    Array(-2.5, dtype=float32)
    """
    temperature = jax.lax.stop_gradient(temperature)
    return mean_over_valid(-soft_value(q_tm1, log_pi_tm1, is_valid_t, temperature=temperature), is_valid_t)


def temperature_loss(
    temperature: Scalar, log_pi_tm1: Series, is_valid_t: Flags | None = None, *, target_entropy: Scalar
) -> jax.Array:
    """`−α (log π(a|s) + H̄)`, the mean over valid steps: α grows while the entropy is below its target.

    Haarnoja et al. 2018b, https://arxiv.org/abs/1812.05905, eq. 18.

    Args:
      temperature: α > 0, `exp` of what is learned, so that it stays so; gradients flow into this alone.
      log_pi_tm1: `[T, *B]`, log-probabilities of sampled actions; constant.
      is_valid_t: `[T, *B]`; steps where it is false do not count.
      target_entropy: H̄ in nats; of actions in [−1, 1], minus their dimension is the custom.

    Raises:
      ValueError: shapes differ, or `temperature` is not above 0.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> temperature_loss(0.5, jnp.array([2.0, 4.0]), target_entropy=-1.0)
    Array(-1., dtype=float32)
    """
    check_positive(temperature=temperature)
    (log_pi_tm1,) = series(log_pi_tm1=log_pi_tm1, is_valid_t=is_valid_t)
    return -temperature * mean_over_valid(jax.lax.stop_gradient(log_pi_tm1) + target_entropy, is_valid_t)
