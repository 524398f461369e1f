"""Returns of states: n-step off-policy, per-decision with control variates, λ-returns and GAE."""

from typing import NamedTuple

import jax.numpy as jnp

from isjax._checks import along_time, check_count, check_flags, check_fraction, check_same_shape, series
from isjax.ops.ratios import clipped_ratio
from isjax.ops.recurrence import backward_affine, backward_rows, scaled
from isjax.types import Flags, Scalar, Series

RATIOS_OF_KIND = {"state": (0, 0), "sarsa": (1, 1), "expected_sarsa": (1, 0)}
"""For each kind of n-step return: how many of the n ratios are left out in front, and added behind."""


class NStep(NamedTuple):
    """n-step returns and what they are to be weighted with, both `[T, *B]`."""

    return_tm1: Series
    """`G_{t:t+n}`, bootstrapped unless the episode terminated before."""
    log_weight_tm1: Series
    """Logarithm of the product of ratios that corrects the return."""


def n_step_off_policy(
    v_t: Series,
    r_t: Series,
    discount_t: Series,
    log_rho_tm1: Series,
    same_episode_t: Flags | None = None,
    *,
    n: int,
    kind: str = "state",
    is_valid_t: Flags | None = None,
) -> NStep:
    """n-step returns, and the product of ratios that makes each of them right off-policy.

    Sutton & Barto 2018, eq. 7.9 ("state": `ρ_{t:t+n−1}`), eq. 7.11 ("sarsa": `ρ_{t+1:t+n}`) and the text
    below it ("expected_sarsa": `ρ_{t+1:t+n−1}`). The update is `exp(log_weight) · (return − estimate)`;
    clip the logarithm first (`ops.clipped_ratio`). Returns and products stop where the episode or the
    unroll does. Memory grows as `n · T`.

    Args:
      v_t: `[T, *B]`, what to bootstrap from: for "state" the value of the state actually reached, for
        "sarsa" the value of the action taken there, for "expected_sarsa" the mean action value under the
        target policy. In a step that no step of the same episode follows, an expectation in each case.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated.
      log_rho_tm1: `[T, *B]`, `log π(a|s) − log μ(a|s)`.
      same_episode_t: `[T, *B]`, false where a step ended its episode for either reason. Left out, episodes
        end where the discount is 0.
      n: how many rewards a return sums, at least 1.
      kind: "state", "sarsa" or "expected_sarsa".
      is_valid_t: `[T, *B]`, false for padding: such steps give 0, whatever they hold.

    Returns:
      `NStep(return_tm1, log_weight_tm1)`.

    Raises:
      ValueError: shapes differ, or an option is out of range.
      TypeError: an array is not floating, or a flag is not boolean.

    >>> x = jnp.ones(3)
    >>> n_step_off_policy(x, x, x, 0.5 * x, n=2)
    NStep(return_tm1=Array([3., 3., 2.], dtype=float32), log_weight_tm1=Array([1. , 1. , 0.5], dtype=float32))
    """
    check_count(n=n)
    if kind not in RATIOS_OF_KIND:
        raise ValueError(f"kind must be one of {', '.join(RATIOS_OF_KIND)}, but it is {kind!r}.")
    v_t, r_t, discount_t, log_rho_tm1 = series(
        v_t=v_t, r_t=r_t, discount_t=discount_t, log_rho_tm1=log_rho_tm1, is_valid_t=is_valid_t
    )
    follows_t = followed(discount_t != 0.0 if same_episode_t is None else same_episode_t, v_t, is_valid_t)
    left_out, added = RATIOS_OF_KIND[kind]
    # Step k of a window is step t + k of the unroll. None goes past the end: nothing follows the last step.
    place = jnp.arange(n + added)
    index = jnp.minimum(place[:, None] + jnp.arange(len(v_t))[None], len(v_t) - 1)
    place = place.reshape((-1,) + (1,) * v_t.ndim)
    follows = follows_t[index]
    within, goes_on = index[:n], follows[:n] & (place[:n] < n - 1)
    bias = r_t[within] + scaled(jnp.where(goes_on, 0.0, discount_t[within]), v_t[within])
    returns = backward_affine(jnp.where(goes_on, discount_t[within], 0.0), bias)[0]
    is_reached = jnp.concatenate([jnp.ones_like(follows[:1]), jnp.cumprod(follows[:-1], axis=0) > 0])
    log_weight = jnp.sum(log_rho_tm1[index], axis=0, where=is_reached & (place >= left_out))
    return NStep(returns, log_weight)


def per_decision_control_variate(
    v_tm1: Series,
    v_t: Series,
    r_t: Series,
    discount_t: Series,
    log_rho_tm1: Series,
    same_episode_t: Flags | None = None,
    *,
    is_valid_t: Flags | None = None,
    lambda_: Scalar | Series = 1.0,
    associative: bool | None = None,
) -> Series:
    """Returns `G_t = ρ_t (r + γ G_{t+1}) + (1 − ρ_t) V(s_t)`: a small ratio leaves the value as it was.

    Sutton & Barto 2018, eq. 7.13 at λ = 1, section 12.9 for other λ. Equation 7.14, the same for action
    values, is `ops.importance_sampled_q`. V-trace is this with clipped ratios. Ratios saturate at
    `exp(80)`, their products overflow to infinity.

    The arguments and errors are those of `ops.vtrace`.

    Returns:
      `[T, *B]`, the returns that `v_tm1` should move to.

    >>> x = jnp.zeros(2)
    >>> per_decision_control_variate(x, x, x + 1.0, x + 1.0, jnp.log(jnp.array([0.5, 3.0])))
    Array([2., 3.], dtype=float32)
    """
    v_tm1, v_t, r_t, discount_t, log_rho_tm1 = series(
        v_tm1=v_tm1, v_t=v_t, r_t=r_t, discount_t=discount_t, log_rho_tm1=log_rho_tm1, is_valid_t=is_valid_t
    )
    rho = clipped_ratio(log_rho_tm1, jnp.inf)
    gain = scaled(decay(discount_t, lambda_, same_episode_t, is_valid_t), rho)
    return v_tm1 + backward_affine(gain, rho * (r_t + scaled(discount_t, v_t) - v_tm1), associative=associative)


def lambda_returns(
    v_t: Series,
    r_t: Series,
    discount_t: Series,
    same_episode_t: Flags | None = None,
    *,
    is_valid_t: Flags | None = None,
    lambda_: Scalar | Series = 1.0,
    associative: bool | None = None,
) -> Series:
    """On-policy λ-returns `G_t = r + γ ((1 − λ) V(s_{t+1}) + λ G_{t+1})`.

    Sutton & Barto 2018, section 12.8. At an episode's or the unroll's end the bracket is `V(s_{t+1})`.

    Args:
      v_t: `[T, *B]`, values of the states actually reached: at a time limit that of the final
        observation, never that of the first observation after the reset.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated.
      same_episode_t: `[T, *B]`, false where a step ended its episode for either reason. May be left out
        if no step was cut by a time limit.
      is_valid_t: `[T, *B]`, false for padding: such steps give 0, whatever they hold.
      lambda_: λ in [0, 1]; a scalar, `[T]` or `[T, *B]`.
      associative: how to solve the recurrence, see `backward_affine`.

    Returns:
      `[T, *B]`, float32 at least.

    Raises:
      ValueError: shapes differ, or an option is out of range.
      TypeError: an array is not floating, or a flag is not boolean.

    >>> x = jnp.ones(2)
    >>> lambda_returns(x, x, 0.5 * x)
    Array([1.75, 1.5 ], dtype=float32)
    """
    v_t, r_t, discount_t = series(v_t=v_t, r_t=r_t, discount_t=discount_t, is_valid_t=is_valid_t)
    gain = jnp.where(followed(same_episode_t, v_t, is_valid_t), decay(discount_t, lambda_), 0.0)
    return backward_affine(gain, r_t + scaled(discount_t - gain, v_t), associative=associative)


def gae(
    v_tm1: Series,
    v_t: Series,
    r_t: Series,
    discount_t: Series,
    same_episode_t: Flags | None = None,
    *,
    is_valid_t: Flags | None = None,
    lambda_: Scalar | Series = 0.95,
    associative: bool | None = None,
) -> Series:
    """Generalized advantage estimates `A_t = Σ_k (γλ)^k δ_{t+k}`, on-policy.

    Schulman et al. 2016, https://arxiv.org/abs/1506.02438, eq. 16. The λ-return less the value.

    `v_tm1` `[T, *B]` are values of the states that steps start from. The other arguments, the result and the
    errors are those of `lambda_returns`.

    >>> x = jnp.ones(2)
    >>> gae(x, x, x, x, lambda_=0.5)
    Array([1.5, 1. ], dtype=float32)
    """
    v_tm1, v_t, r_t, discount_t = series(v_tm1=v_tm1, v_t=v_t, r_t=r_t, discount_t=discount_t, is_valid_t=is_valid_t)

    def affine(row: tuple[Series, Series, Series, Trace]) -> tuple[Series, Series]:
        v_tm1, v_t, r_t, trace = row
        return trace.decay, r_t + scaled(trace.discount_t, v_t) - v_tm1

    rows = (v_tm1, v_t, r_t, Trace.checked(discount_t, lambda_, same_episode_t, is_valid_t))
    return backward_rows(rows, affine, lambda row, x, x_next: x, associative=associative)


class Trace(NamedTuple):
    """What a trace goes through from one step to the next: of all steps, or of one."""

    discount_t: Series
    lambda_: Series
    """`[]`, `[T, 1, ...]` or `[T, *B]`."""
    same_episode_t: Flags | None
    is_valid_t: Flags | None

    @classmethod
    def checked(
        cls, discount_t: Series, lambda_: Scalar | Series, same_episode_t: Flags | None, is_valid_t: Flags | None
    ) -> "Trace":
        """Of steps that were checked, with options that were not."""
        check_fraction(lambda_=lambda_)
        check_same_shape(discount_t=discount_t, same_episode_t=same_episode_t)
        check_flags(same_episode_t=same_episode_t)
        return cls(discount_t, along_time(discount_t, lambda_=lambda_), same_episode_t, is_valid_t)

    @property
    def decay(self) -> Series:
        """`γ λ`, and 0 where an episode or the data ended."""
        return self.gain(1.0)

    def gain(self, factor: Scalar | Series) -> Series:
        """`γ λ · factor`, and 0 where an episode or the data ended, whatever the factor is there."""
        gain = self.discount_t * self.lambda_ * factor
        for passes in (self.same_episode_t, self.is_valid_t):
            gain = gain if passes is None else jnp.where(passes, gain, 0.0)
        return gain


def decay(
    discount_t: Series,
    lambda_: Scalar | Series,
    same_episode_t: Flags | None = None,
    is_valid_t: Flags | None = None,
) -> Series:
    """`γ λ`, and 0 where an episode or the data ended: what is left of a trace from one step to the next."""
    return Trace.checked(discount_t, lambda_, same_episode_t, is_valid_t).decay


def followed(same_episode_t: Flags | None, like: Series, is_valid_t: Flags | None) -> Flags:
    """Where a step of the same episode follows in this unroll, `[T, *B]` as `like`: false in the last step."""
    check_same_shape(r_t=like, same_episode_t=same_episode_t)
    check_flags(same_episode_t=same_episode_t)
    follows_t = jnp.ones_like(like, bool) if same_episode_t is None else jnp.asarray(same_episode_t)
    if is_valid_t is not None:
        follows_t = follows_t & jnp.roll(is_valid_t, -1, axis=0)
    return follows_t.at[-1].set(False)
