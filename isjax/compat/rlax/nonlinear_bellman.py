"""Returns and errors of transformed values. Importing this module imports rlax, whose pairs of transformations it has.

A pair is `h` and its inverse: targets are `h(r + γ h⁻¹(value))`. van Hasselt et al. 2019,
https://arxiv.org/abs/1907.03687.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Concatenate, ParamSpec

import jax
import jax.numpy as jnp
from rlax import IDENTITY_PAIR, TxPair

from isjax.compat.rlax._inputs import action_values, actions, reached, taken
from isjax.compat.rlax.multistep import general_off_policy_returns_from_action_values
from isjax.compat.rlax.returns import lambda_returns, n_step_bootstrapped_returns
from isjax.compat.rlax.value_learning import retrace_targets
from isjax.types import Flags, Scalar, Series

P = ParamSpec("P")


def transform_values(
    build_targets: Callable[P, jax.Array], *value_argnums: int
) -> Callable[Concatenate[TxPair, P], jax.Array]:
    """`build_targets` behind one more argument, a pair `tx_pair`: of transformed values it gives transformed targets.

    Args:
      build_targets: a function that gives targets, one of whose arguments is `discount_t`.
      value_argnums: the places of its arguments that are values; these may be given by name, too.
    """
    signature = inspect.signature(build_targets)
    names = [list(signature.parameters)[place] for place in value_argnums]

    # As in rlax, what `inspect.signature` says of the result leaves the pair out.
    @functools.wraps(build_targets)
    def transformed(tx_pair: TxPair, *args: P.args, **kwargs: P.kwargs) -> jax.Array:
        bound = signature.bind(*args, **kwargs)
        values = reached(bound.arguments["discount_t"], *(jnp.asarray(bound.arguments[name]) for name in names))
        bound.arguments.update(zip(names, map(tx_pair.apply_inv, values), strict=True))
        return tx_pair.apply(build_targets(*bound.args, **bound.kwargs))

    transformed.__doc__ = f"""`{build_targets.__name__}` of transformed values, to transformed targets.

    A pair of transformations, `tx_pair`, comes before the other arguments. Of the function without it:

    {build_targets.__doc__}"""
    return transformed


transformed_lambda_returns = transform_values(lambda_returns, 2)
transformed_n_step_returns = transform_values(n_step_bootstrapped_returns, 2)
transformed_general_off_policy_returns_from_action_values = transform_values(
    general_off_policy_returns_from_action_values, 0
)


def transformed_q_lambda(
    q_tm1: jax.Array,
    a_tm1: jax.Array,
    r_t: Series,
    discount_t: Series,
    q_t: jax.Array,
    lambda_: Scalar | Series,
    stop_target_gradients: bool | jax.Array = True,
    tx_pair: TxPair = IDENTITY_PAIR,
    *,
    same_episode_t: Flags | None = None,
) -> Series:
    """Peng's or Watkins's Q(λ) errors of transformed values: `q_lambda`, whose other arguments and errors it has.

    >>> q = jnp.array([[1.0, 3.0], [2.0, 4.0]]); one = jnp.ones(2); a = jnp.array([0, 1])
    >>> transformed_q_lambda(q, a, one, one, q, 1.0)
    Array([5., 1.], dtype=float32)
    """
    q_tm1, q_t = action_values(r_t, q_tm1=q_tm1, q_t=q_t)
    actions(r_t, a_tm1=a_tm1)
    v_t = jnp.max(*reached(discount_t, q_t), axis=-1)
    target = transformed_lambda_returns(
        tx_pair, r_t, discount_t, v_t, lambda_, stop_target_gradients, same_episode_t=same_episode_t
    )
    return target - taken(q_tm1, a_tm1)


def transformed_retrace(
    q_tm1: jax.Array,
    q_t: jax.Array,
    a_tm1: jax.Array,
    a_t: jax.Array,
    r_t: Series,
    discount_t: Series,
    pi_t: jax.Array,
    mu_t: Series,
    lambda_: Scalar | Series,
    eps: Scalar = 1e-8,
    stop_target_gradients: bool | jax.Array = True,
    tx_pair: TxPair = IDENTITY_PAIR,
    *,
    same_episode_t: Flags | None = None,
) -> Series:
    """Retrace(λ) errors of transformed values: `retrace`, whose other arguments and errors it has.

    Kapturowski et al. 2019, https://openreview.net/forum?id=r1lyTjAqYX.

    >>> q = jnp.array([[1.0, 3.0], [2.0, 4.0]]); one = jnp.ones(2); a = jnp.array([0, 1])
    >>> transformed_retrace(q, q, a, a, one, one, 0.0 * q + 0.5, one, 1.0)
    Array([3.5, 0. ], dtype=float32)
    """
    q_tm1, q_t = action_values(r_t, q_tm1=q_tm1, q_t=q_t)
    actions(r_t, a_tm1=a_tm1)
    target = transform_values(retrace_targets, 0)(
        tx_pair, q_t, a_t, r_t, discount_t, pi_t, mu_t, lambda_, eps, stop_target_gradients,
        same_episode_t=same_episode_t,
    )  # fmt: skip
    return target - taken(q_tm1, a_tm1)


def transformed_n_step_q_learning(
    q_tm1: jax.Array,
    a_tm1: jax.Array,
    target_q_t: jax.Array,
    a_t: jax.Array,
    r_t: Series,
    discount_t: Series,
    n: int,
    stop_target_gradients: bool | jax.Array = True,
    tx_pair: TxPair = IDENTITY_PAIR,
    *,
    same_episode_t: Flags | None = None,
) -> Series:
    """n-step Q-learning errors of transformed values.

    Kapturowski et al. 2019, https://openreview.net/forum?id=r1lyTjAqYX.

    Args:
      q_tm1: `[T, *B, A]`, action values that learn, in the states that steps start from.
      a_tm1: `[T, *B]`, integers, the actions taken there.
      target_q_t: `[T, *B, A]`, action values to bootstrap from, in the states actually reached: at a time limit in the
        final observation, never in the first after the reset.
      a_t: `[T, *B]`, integers, the actions whose values those are: the greedy ones of `target_q_t`, or of another
        network in the same states.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated.
      n: how many steps a return sees at most, at least 1.
      stop_target_gradients: the targets are constants: gradients reach `q_tm1` only.
      tx_pair: the transformation that the action values have gone through, and its inverse.
      same_episode_t: `[T, *B]`, false where a step ended its episode, for either reason: the step bootstraps from
        `target_q_t`, and nothing of what comes later enters it.

    Returns:
      `[T, *B]`, float32 at least.

    Raises:
      ValueError: shapes differ, there is no step, or `n` is below 1.
      TypeError: an array is not floating, the actions or `n` are not integers, or a flag is not boolean.

    >>> q = jnp.array([[1.0, 3.0], [2.0, 4.0]]); one = jnp.ones(2); a = jnp.array([0, 1])
    >>> transformed_n_step_q_learning(q, a, q, a, one, one, 1)
    Array([1., 1.], dtype=float32)
    """
    q_tm1, target_q_t = action_values(r_t, q_tm1=q_tm1, target_q_t=target_q_t)
    actions(r_t, a_tm1=a_tm1, a_t=a_t)
    target = transformed_n_step_returns(
        tx_pair, r_t, discount_t, taken(target_q_t, a_t), n,
        stop_target_gradients=stop_target_gradients, same_episode_t=same_episode_t,
    )  # fmt: skip
    return target - taken(q_tm1, a_tm1)
