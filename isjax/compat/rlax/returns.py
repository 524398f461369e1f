"""Returns of states: λ-returns, n-step and discounted returns."""

import jax
import jax.numpy as jnp

from isjax._checks import along_time, check_count, series
from isjax.compat.rlax._inputs import stopped
from isjax.ops.recurrence import backward_rows, scaled
from isjax.ops.returns import followed
from isjax.types import Flags, Scalar, Series


def lambda_returns(
    r_t: Series,
    discount_t: Series,
    v_t: Series,
    lambda_: Scalar | Series = 1.0,
    stop_target_gradients: bool | jax.Array = False,
    *,
    same_episode_t: Flags | None = None,
) -> Series:
    """Returns `G_t = r_t + γ ((1 − λ) v_t + λ G_{t+1})`; where the episode or the unroll ends, the bracket is `v_t`.

    Sutton & Barto 2018, section 12.8. On-policy `isjax.ops.lambda_returns`; off-policy λ may be `λ ρ_t`, that is
    larger than 1, and is not checked.

    Args:
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated.
      v_t: `[T, *B]`, values of the states actually reached: at a time limit that of the final observation, never that
        of the first after the reset.
      lambda_: λ, at least 0; a scalar, `[T]` or `[T, *B]`; without influence in the last step and at episode ends.
      stop_target_gradients: the returns are constants.
      same_episode_t: `[T, *B]`, false where a step ended its episode, for either reason: the step bootstraps from
        `v_t`, and nothing of what comes later enters it.

    Returns:
      `[T, *B]`, the returns of the states that steps start from, float32 at least.

    Raises:
      ValueError: shapes differ, or there is no step.
      TypeError: an array is not floating, or a flag is not boolean.

    >>> one = jnp.ones(2)
    >>> lambda_returns(one, one, one, 0.5)
    Array([2.5, 2. ], dtype=float32)
    """
    r_t, discount_t, v_t = series(r_t=r_t, discount_t=discount_t, v_t=v_t)
    rows = (r_t, discount_t, v_t, along_time(r_t, lambda_=lambda_), _followed(same_episode_t, r_t))
    return stopped(_solved(rows), stop_target_gradients)


def n_step_bootstrapped_returns(
    r_t: Series,
    discount_t: Series,
    v_t: Series,
    n: int,
    lambda_t: Scalar | Series = 1.0,
    stop_target_gradients: bool | jax.Array = False,
    *,
    same_episode_t: Flags | None = None,
) -> Series:
    """The same as `lambda_returns`, but each return sees `n` steps at most and then bootstraps.

    Sutton & Barto 2018, section 7.1, where λ is 1. A return also ends where its episode or the unroll does.
    `n` has to be at least 1; from `T` on it makes no difference. The other arguments, the result and the errors are
    those of `lambda_returns`, `lambda_t` being its `lambda_`.

    >>> one = jnp.ones(3)
    >>> n_step_bootstrapped_returns(one, one, one, 2)
    Array([3., 3., 2.], dtype=float32)
    """
    check_count(n=n)
    r_t, discount_t, v_t = series(r_t=r_t, discount_t=discount_t, v_t=v_t)
    rows = (r_t, discount_t, v_t, along_time(r_t, lambda_t=lambda_t), _followed(same_episode_t, r_t))
    if n >= len(r_t):
        return stopped(_solved(rows), stop_target_gradients)
    gain, bias = _affine(rows)

    # The return of k + 1 steps from one step is made of that of k steps from the next.
    def one_more(returns: Series, _: None) -> tuple[Series, None]:
        return bias + scaled(gain, jnp.roll(returns, -1, axis=0)), None

    returns, _ = jax.lax.scan(one_more, r_t + scaled(discount_t, v_t), None, length=n - 1)
    return stopped(returns, stop_target_gradients)


def discounted_returns(
    r_t: Series,
    discount_t: Series,
    v_t: Scalar | Series,
    stop_target_gradients: bool | jax.Array = False,
    *,
    same_episode_t: Flags | None = None,
) -> Series:
    """Returns `G_t = r_t + γ G_{t+1}`: `lambda_returns` with λ = 1, whose other arguments, result and errors it has.

    `v_t` counts in the last step and where a time limit cut an episode. It may be a scalar, the value of the last
    state; with `same_episode_t` it has to be `[T, *B]`.

    >>> discounted_returns(jnp.ones(2), jnp.ones(2), 3.0)
    Array([5., 4.], dtype=float32)
    """
    values = jnp.asarray(v_t)
    if values.ndim == 0:
        if same_episode_t is not None:
            raise ValueError("v_t must be [T, *B] where same_episode_t is given, but it is a scalar.")
        values = jnp.full_like(discount_t, values)
    return lambda_returns(r_t, discount_t, values, 1.0, stop_target_gradients, same_episode_t=same_episode_t)


def _followed(same_episode_t: Flags | None, like: Series) -> Flags:
    """Where a row of the same episode follows: `[T, *B]`, or `[T, 1, …]` if nothing was said of episodes."""
    if same_episode_t is None:
        return (jnp.arange(len(like)) < len(like) - 1).reshape((-1,) + (1,) * (like.ndim - 1))
    return followed(same_episode_t, like, None)


def _solved(rows: tuple[Series, Series, Series, Series, Flags]) -> Series:
    """The λ-returns."""
    return backward_rows(rows, _affine, lambda row, x, x_next: x)


def _affine(row: tuple[Series, Series, Series, Series, Flags]) -> tuple[Series, Series]:
    """What multiplies the return of the next row, and what is added to it, of all rows or of one."""
    r_t, discount_t, v_t, lambda_, follows_t = row
    gain = jnp.where(follows_t, discount_t * lambda_, 0.0)
    return gain, r_t + scaled(discount_t - gain, v_t)
