"""Estimators that take a model's values as control variates: doubly robust, and its weighted form."""

import jax
import jax.numpy as jnp
import numpy as np

from isjax._checks import check_same_shape, series
from isjax.ope.episodes import Estimate, Log, count_episodes, episodes, estimate, mean_estimate, weighted
from isjax.ope.estimator import Estimator
from isjax.ope.per_decision import PER_DECISION, resampled_step_weights, step_weights, total_step_weight
from isjax.ope.resampling import Part, Ratios, Sample, mean_over_episodes
from isjax.ope.trajectory import linearized
from isjax.ops.ratios import clipped_ratio
from isjax.ops.recurrence import backward_affine
from isjax.ops.weights import log_sum_exp
from isjax.types import Flags, Scalar, Series


def doubly_robust(
    log_rho_tm1: Series,
    r_t: Series,
    discount: Scalar,
    is_valid_t: Flags | None = None,
    *,
    v_tm1: Series,
    q_tm1: Series,
) -> Estimate:
    """Doubly robust estimate: unbiased if the ratios are right, and exact if the model is.

    `V_t = v̂(s_t) + ρ_t (r_{t+1} + γ V_{t+1} − q̂(s_t, a_t))`: Jiang & Li 2016,
    https://arxiv.org/abs/1511.03722, eq. 10. With a model of zeros it is `per_decision_is`. Each ratio
    saturates at `exp(80)`; products beyond the largest float give infinity or NaN, where
    `weighted_doubly_robust` stays finite.

    Args:
      log_rho_tm1: `[T, N]`, `log π(a|s) − log μ(a|s)`; `−inf` where the target policy never acts so.
      r_t: `[T, N]`, rewards.
      discount: γ in [0, 1], a scalar.
      is_valid_t: `[T, N]`, false for padding, which follows an episode and may hold anything. A column
        without a valid step is no episode and does not count.
      v_tm1: `[T, N]`, the model's value of the state that a step starts from, under the target policy.
      q_tm1: `[T, N]`, the same of that state and the action taken. For the estimate to be unbiased, neither
        may be fitted to these very episodes.

    Returns:
      An `Estimate` of the value of the episodes' first states under the target policy.

    Raises:
      ValueError: the arrays are not all `[T, N]`, or the discount is not a number in [0, 1].
      TypeError: an array is not floating, or `is_valid_t` is not boolean.

    >>> log_rho = jnp.log(jnp.array([[2.0]])); r = jnp.array([[3.0]])
    >>> doubly_robust(log_rho, r, 1.0, v_tm1=jnp.array([[1.0]]), q_tm1=jnp.array([[2.5]])).value
    Array(2., dtype=float32)
    """
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    v_tm1, q_tm1 = model_values(log, v_tm1, q_tm1)
    rho = clipped_ratio(episodes(log_rho_tm1, r_t, discount, is_valid_t).log_rho_tm1, jnp.inf)
    gain = jnp.where(log.is_valid_t, discount * rho, 0.0)
    per_episode = backward_affine(gain, v_tm1 + weighted(rho, log.r_t - q_tm1))[0]
    return mean_estimate(per_episode, log_sum_exp(log.log_row_weight_t, 0), log.is_episode)


def weighted_doubly_robust(
    log_rho_tm1: Series,
    r_t: Series,
    discount: Scalar,
    is_valid_t: Flags | None = None,
    *,
    v_tm1: Series,
    q_tm1: Series,
) -> Estimate:
    """Doubly robust with weights that are normalized at each time step: biased, consistent, finite.

    `Σ_t γ^t Σ_i [w_{i,t} (r_{i,t+1} − q̂_{i,t}) + w_{i,t−1} v̂_{i,t}]` with `w_{i,t} = ρ_{i,0:t} / Σ_j ρ_{j,0:t}`
    and `w_{i,−1} = 1/N`: Thomas & Brunskill 2016, https://arxiv.org/abs/1604.00923, eq. 12. With a model of
    zeros it is `weighted_per_decision_is`.

    The arguments, the result and the errors are those of `doubly_robust`.

    >>> log_rho = jnp.log(jnp.array([[2.0]])); r = jnp.array([[3.0]])
    >>> weighted_doubly_robust(log_rho, r, 1.0, v_tm1=jnp.array([[1.0]]), q_tm1=jnp.array([[2.5]])).value
    Array(1.5, dtype=float32)
    """
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    weight_t = step_weights(log)
    value_t, contribution_t = step_contributions(log, weight_t, *model_values(log, v_tm1, q_tm1))
    total = total_step_weight(weight_t, log)
    return estimate(jnp.sum(value_t), jnp.sum(contribution_t, 0), total, log.is_episode)


def _resampled_steps(sample: Sample) -> list[Part]:
    log, v_tm1, q_tm1 = sample.log, sample.v_tm1, sample.q_tm1
    weight_t, discount_t = resampled_step_weights(log), np.exp(log.log_discount_t)[:, 0]
    before_t = np.concatenate([np.asarray(log.is_episode, np.float64)[None], weight_t[:-1]])
    return [
        Ratios(discount_t, weight_t * (log.r_t - q_tm1), weight_t),
        Ratios(discount_t, before_t * v_tm1, before_t),
    ]


def model_values(log: Log, v_tm1: Series, q_tm1: Series) -> tuple[Series, ...]:
    """The model's values in full precision, zero past the end of an episode and behind a discount of 0."""
    check_same_shape(v_tm1=v_tm1, q_tm1=q_tm1, r_t=log.r_t)
    return tuple(log.counted(x) for x in series(v_tm1=v_tm1, q_tm1=q_tm1, is_valid_t=log.is_valid_t))


def step_contributions(log: Log, weight_t: Series, v_tm1: Series, q_tm1: Series) -> tuple[jax.Array, Series]:
    """The `T + 1` terms whose first `j + 1` sum to the estimate by `j` steps of data and then the model.

    Term 0 is the model's value of the first states, term j adds the j-th reward and what the model now knows
    better: `γ^{j−1} w_{j−1} (r_j − q̂_{j−1}) + γ^j w_{j−1} v̂_j` (Thomas & Brunskill 2016).

    Returns:
      The terms `[T + 1]`, and what each episode contributes to them `[T + 1, N]`.
    """
    first = jnp.where(log.is_episode, 1.0, 0.0) / count_episodes(log.is_episode, weight_t)
    weight_before_t = jnp.concatenate([first[None].astype(weight_t.dtype), weight_t[:-1]])

    def parts(weight_t: Series, x_t: Series) -> tuple[jax.Array, Series]:
        value_t = jnp.sum(weighted(weight_t, x_t), 1)
        contribution_t = linearized(weight_t, x_t, value_t, log.is_episode)
        return log.discount_t[:, 0] * value_t, log.discount_t * contribution_t

    data, data_parts = parts(weight_t, log.r_t - q_tm1)
    model, model_parts = parts(weight_before_t, v_tm1)
    return _staggered(data, model), _staggered(data_parts, model_parts)


def _staggered(data: jax.Array, model: jax.Array) -> jax.Array:
    """The data of each step go with the model's word on the next; after the last step it has none."""
    end = jnp.zeros_like(data[:1])
    return jnp.concatenate([end, data]) + jnp.concatenate([model, end])


DOUBLY_ROBUST = Estimator(
    function=doubly_robust,
    family=PER_DECISION,
    title="doubly robust",
    resampling=mean_over_episodes,
    needs_model=True,
)
WEIGHTED_DOUBLY_ROBUST = Estimator(
    function=weighted_doubly_robust,
    family=PER_DECISION,
    title="weighted doubly robust",
    resampling=_resampled_steps,
    needs_model=True,
)
