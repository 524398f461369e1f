"""Weights shrunk by a parameter: less variance for some bias, with or without a model that takes the rest."""

import functools
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri

from isjax._checks import check_fraction, check_positive
from isjax.errors import FieldError
from isjax.ope.episodes import Estimate, Log, mean_estimate, safe_log, weighted
from isjax.ope.estimator import Estimator, register
from isjax.ope.model_assisted import model_values
from isjax.ope.per_decision import PER_DECISION
from isjax.ope.resampling import mean_over_episodes
from isjax.ops.pareto import pareto_smoothed
from isjax.ops.ratios import clipped_ratio
from isjax.stats import check_level
from isjax.types import Flags, Scalar, Series

Shrinkage: TypeAlias = Literal["clip", "switch", "optimistic", "subgaussian", "pareto"]
"""How a weight w is made smaller: `min(w, λ)`, `w 1{w ≤ λ}`, `λ w / (w² + λ)`, `w / (1 − λ + λ w)`, or the largest
weights become quantiles of their fitted Pareto tail."""
OF_SUBGAUSSIAN = 21
OF_OTHERS = 24
"""How many parameters `slope_is` chooses from."""


def shrunk_weights(log_weight: jax.Array, *, kind: Shrinkage, parameter: Scalar | None = None) -> jax.Array:
    """Weights w that became smaller where they are large, as logarithms.

    Args:
      log_weight: `[N]`, or any shape but for "pareto"; `−inf` is a weight of 0.
      kind: "clip", `min(w, λ)` (Ionides 2008); "switch", `w` if at most λ and else 0 (Wang, Agarwal & Dudík 2017,
        https://arxiv.org/abs/1612.01205); "optimistic", `λ w / (w² + λ)` (Su et al. 2020,
        https://arxiv.org/abs/1907.09623, section 4.2), at most `√λ / 2`; "subgaussian", `w / (1 − λ + λ w)` (Metelli
        et al. 2021, with the harmonic mean), at most `1 / λ`; "pareto" (Vehtari et al. 2024), without a parameter.
      parameter: λ, above 0, and for "subgaussian" in [0, 1]. A λ of infinity, or 0 there, shrinks nothing.

    Returns:
      The shape of `log_weight`.

    Raises:
      ValueError: there is no such kind, or the parameter is out of range.

    >>> jnp.exp(shrunk_weights(jnp.log(jnp.array([1.0, 4.0])), kind="clip", parameter=2.0))
    Array([1., 2.], dtype=float32)
    """
    _check_kind(kind, parameter)
    if kind == "pareto":
        largest = jnp.max(log_weight, initial=-jnp.inf)
        smoothed = pareto_smoothed(log_weight).log_weights
        return smoothed + jnp.where(jnp.isneginf(largest), 0.0, largest)
    log_lambda = safe_log(jnp.asarray(parameter, log_weight.dtype))
    if kind == "clip":
        return jnp.minimum(log_weight, log_lambda)
    if kind == "switch":
        return jnp.where(log_weight <= log_lambda, log_weight, -jnp.inf)
    if kind == "optimistic":
        # w / (1 + w² / λ), whose logarithm is finite for any finite weight.
        return log_weight - jnp.logaddexp(0.0, 2.0 * log_weight - log_lambda)
    log_rest = safe_log(1.0 - jnp.asarray(parameter, log_weight.dtype))
    return jnp.where(jnp.isneginf(log_weight), -jnp.inf, log_weight - jnp.logaddexp(log_rest, log_lambda + log_weight))


def _check_kind(kind: str, parameter: Scalar | None) -> None:
    if kind not in get_args(Shrinkage):
        raise FieldError("kind", f"one of {', '.join(get_args(Shrinkage))}", repr(kind))
    if (parameter is None) != (kind == "pareto"):
        rule = "left out for pareto" if kind == "pareto" else f"given for {kind}"
        raise FieldError("parameter", rule, parameter)
    if kind == "subgaussian":
        check_fraction(parameter=parameter)
    else:
        check_positive(parameter=parameter)


def shrunk_is(
    log_rho_tm1: Series,
    r_t: Series,
    discount: Scalar,
    is_valid_t: Flags | None = None,
    *,
    kind: Shrinkage = "optimistic",
    parameter: Scalar | None = None,
    v_tm1: Series | None = None,
    q_tm1: Series | None = None,
) -> Estimate:
    """Per-decision importance sampling with shrunk products, `(1/N) Σ_i Σ_t γ^t f(ρ_{0:t}) r_{t+1}`: biased.

    With a model, what shrinking leaves out is the model's:
    `Σ_t γ^t (f(ρ_{0:t}) (r_{t+1} − q̂_t) + f(ρ_{0:t−1}) v̂_t)` with a first weight of 1. On a log of single steps these
    are the estimators of the papers named in `shrunk_weights`: with "switch" and a model that of Wang, Agarwal &
    Dudík 2017 in its doubly robust form, with "optimistic" doubly robust with optimistic shrinkage.

    Args:
      log_rho_tm1: `[T, N]`, `log π(a|s) − log μ(a|s)`; `−inf` where the target policy never acts so.
      r_t: `[T, N]`, rewards.
      discount: γ in [0, 1], a scalar.
      is_valid_t: `[T, N]`, false for padding, which follows an episode and may hold anything.
      kind: how weights are shrunk, see `shrunk_weights`.
      parameter: λ; `slope_is` chooses one from the data.
      v_tm1: `[T, N]`, a model's value of the state that a row starts from, under the target policy.
      q_tm1: `[T, N]`, the same of that state and the action taken; both or neither.

    Returns:
      An `Estimate`; its standard error does not know of the bias.

    Raises:
      ValueError: the arrays are not all `[T, N]`, or an option is out of range or missing.
      TypeError: an array is not floating, or `is_valid_t` is not boolean.

    >>> log_rho = jnp.log(jnp.array([[8.0, 0.5]])); r = jnp.ones((1, 2))
    >>> shrunk_is(log_rho, r, 1.0, kind="switch", parameter=4.0).value
    Array(0.25, dtype=float32)
    """
    _check_kind(kind, parameter)
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    log_product_t = jnp.where(log.is_episode[None], log.log_product_t, -jnp.inf)
    by_step = jax.vmap(lambda x: shrunk_weights(x, kind=kind, parameter=parameter))
    return _weighted_steps(log, by_step(log_product_t), v_tm1, q_tm1)


def _weighted_steps(log: Log, log_weight_t: Series, v_tm1: Series | None, q_tm1: Series | None) -> Estimate:
    """The mean over episodes of rewards, less a model if there is one, with these weights."""
    if (v_tm1 is None) != (q_tm1 is None):
        raise ValueError("v_tm1 and q_tm1 must be given together, but one of them is missing.")
    terms_t = weighted(log.discount_t * clipped_ratio(log_weight_t, jnp.inf), log.r_t)
    if v_tm1 is not None and q_tm1 is not None:
        v_tm1, q_tm1 = model_values(log, v_tm1, q_tm1)
        before_t = jnp.concatenate([jnp.zeros_like(log_weight_t[:1]), log_weight_t[:-1]])
        terms_t = weighted(log.discount_t * clipped_ratio(log_weight_t, jnp.inf), log.r_t - q_tm1)
        terms_t = terms_t + weighted(log.discount_t * clipped_ratio(before_t, jnp.inf), v_tm1)
    return mean_estimate(jnp.sum(terms_t, 0), log.mean_over_steps(log_weight_t), log.is_episode)


def slope_choice(values: Series, widths: Series) -> jax.Array:
    """Which of several estimates has about the least error, if they are ordered by falling variance and growing bias.

    SLOPE, Su, Srinath & Krishnamurthy 2020, https://arxiv.org/abs/2002.07729, algorithm 1: the last one whose
    interval meets those of all before it, `|θ̂_i − θ̂_j| ≤ c_i + (√6 − 1) c_j` for all `j < i`. Its error is within a
    factor of `√6 + 3` of the best one's.

    Args:
      values: `[K]`, θ̂, from the least biased to the most biased.
      widths: `[K]`, c, half the width of an interval for each one's own expectation; made to fall by a running
        minimum, as the theory asks for.

    Returns:
      The index of the one chosen.

    Raises:
      ValueError: shapes differ.

    >>> slope_choice(jnp.array([1.0, 1.2, 3.0]), jnp.array([1.0, 0.2, 0.1]))
    Array(1, dtype=int32)
    """
    if values.ndim != 1 or values.shape != widths.shape:
        raise ValueError(f"values and widths must be [K], but got: {list(values.shape)}, {list(widths.shape)}.")
    widths = jax.lax.cummin(jnp.where(jnp.isnan(widths), jnp.inf, widths))
    allowed = widths[:, None] + (jnp.sqrt(6.0) - 1.0) * widths[None, :]
    meets = jnp.abs(values[:, None] - values[None, :]) <= allowed
    before = jnp.arange(len(values))[:, None] > jnp.arange(len(values))[None, :]
    follows = jnp.all(meets | ~before, 1)
    # The first that does not meet all before it ends the search.
    return jnp.sum(jnp.cumprod(follows.astype(jnp.int32))) - 1


def slope_is(
    log_rho_tm1: Series,
    r_t: Series,
    discount: Scalar,
    is_valid_t: Flags | None = None,
    *,
    kind: Shrinkage = "optimistic",
    parameters: Sequence[float] | None = None,
    level: float = 0.9,
    v_tm1: Series | None = None,
    q_tm1: Series | None = None,
) -> Estimate:
    """Importance sampling with shrunk weights whose parameter `slope_choice` picks from the data.

    Args:
      log_rho_tm1: `[T, N]`, and so on as in `shrunk_is`.
      r_t: `[T, N]`.
      discount: γ in [0, 1].
      is_valid_t: `[T, N]`.
      kind: how weights are shrunk, see `shrunk_weights`; not "pareto", which has no parameter.
      parameters: λ from the least shrinkage to the most. By default 24 from 10⁶ down to 1 in equal factors, and for
        "subgaussian" 0, and 10^−4 to 1.
      level: of the intervals that are compared, in (0, 1).
      v_tm1: `[T, N]`, a model's values, see `shrunk_is`.
      q_tm1: `[T, N]`.

    Returns:
      The `Estimate` with the parameter chosen. Its standard error takes the choice as given.

    Raises:
      ValueError: an option is out of range.
      TypeError: an array is not floating, or `is_valid_t` is not boolean.

    >>> slope_is(jnp.zeros((1, 4)), jnp.ones((1, 4)), 1.0, kind="clip").value
    Array(1., dtype=float32)
    """
    if kind == "pareto":
        raise FieldError("kind", "one with a parameter", repr(kind))
    check_level(level)
    if parameters is None:
        parameters = default_parameters(kind)
    if not len(parameters):
        raise FieldError("parameters", "at least one", parameters)
    for parameter in parameters:
        _check_kind(kind, parameter)
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)

    def candidate(parameter: jax.Array) -> Estimate:
        return shrunk_is(
            log_rho_tm1, r_t, discount, is_valid_t, kind=kind, parameter=parameter, v_tm1=v_tm1, q_tm1=q_tm1
        )

    return chosen_by_slope(jax.lax.map(candidate, jnp.asarray(parameters, log.r_t.dtype)), level=level)


def chosen_by_slope(candidates: Estimate, *, level: float = 0.9) -> Estimate:
    """The one of `K` estimates, stacked along a first axis, that `slope_choice` picks by their standard errors."""
    widths = -ndtri(0.5 - 0.5 * level) * candidates.standard_error
    chosen = slope_choice(candidates.value, widths)
    return jax.tree.map(lambda x: x[chosen], candidates)


def default_parameters(kind: Shrinkage) -> tuple[float, ...]:
    """From the least shrinkage to the most."""
    if kind == "subgaussian":
        return (0.0, *(10.0 ** (-4.0 + 4.0 * k / (OF_SUBGAUSSIAN - 1)) for k in range(OF_SUBGAUSSIAN)))
    return tuple(10.0 ** (6.0 - 6.0 * k / (OF_OTHERS - 1)) for k in range(OF_OTHERS))


def _registered(name: str, function: Callable[..., Estimate], title: str, *, needs_model: bool = False) -> Estimator:
    return register(
        Estimator(
            name=name,
            function=function,
            family=PER_DECISION,
            title=title,
            resampling=mean_over_episodes,
            needs_model=needs_model,
            is_default=False,
            is_truncated=True,
            caveat="its interval does not know of the bias that smaller weights bring",
        )
    )


SLOPE_IS = _registered("slope_is", slope_is, "shrunk by SLOPE")
SLOPE_DOUBLY_ROBUST = _registered("slope_doubly_robust", slope_is, "shrunk doubly robust by SLOPE", needs_model=True)
SUBGAUSSIAN_IS = _registered("subgaussian_is", functools.partial(slope_is, kind="subgaussian"), "sub-Gaussian by SLOPE")
SWITCH_DOUBLY_ROBUST = _registered(
    "switch_doubly_robust", functools.partial(slope_is, kind="switch"), "switch by SLOPE", needs_model=True
)
PARETO_SMOOTHED_IS = _registered("pareto_smoothed_is", functools.partial(shrunk_is, kind="pareto"), "Pareto-smoothed")
