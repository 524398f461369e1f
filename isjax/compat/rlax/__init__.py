"""rlax, every public name of it: with rlax's signatures and results, and right at time limits where told of them.

Change `import rlax` to `from isjax.compat import rlax`. What sees more than one time step is written here, and so are
the importance ratios; everything else is rlax's own and imports rlax once it is asked for. Arguments, their order and
defaults, results and gradients are rlax's; what differs in the functions that are written here:

- `same_episode_t`, an additional argument, is false where a step ended its episode, for either reason. Without it the
  results are rlax's, also where a time limit cut an episode: there rlax takes the value of the next episode's first
  state for that of the state reached.
- `v_t` goes with it in the two functions that take `values` `[T + 1]`: there one place cannot hold both the value of a
  state that a time limit cut and that of the next episode's first state.
- `is_valid_t` of the loss leaves padded steps out.
- Results are finite for ratios of 0 and infinity, and for logits of either infinity: an unclipped ratio saturates at
  `exp(80)`. What a terminal state is worth has no influence, even if it is no number.
- Arrays may be `[T, *B]` as well as `[T]`; bfloat16 is computed in float32.
- Errors are `ValueError` and `TypeError` where rlax raises `AssertionError`.
- `retrace_targets` and `q_lambda_targets` are new; `importance_corrected_td_errors` and `VTraceOutput` are exported.

`jax.vmap` maps what is given by name over axis 0, whatever its `in_axes` say: with `in_axes=1` drop the `vmap` and
give `[T, B]` as it is.

New code is better off with `isjax.ops`, whose functions take log-ratios and stop no gradients.
"""

import functools
import importlib
import sys
import warnings
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlax import *  # noqa: F403  # pyright: ignore[reportWildcardImportFromLibrary]
    from rlax import categorical_sample, embed_oar, pixel_control_loss

from isjax.compat.rlax.distributions import categorical_importance_sampling_ratios
from isjax.compat.rlax.lambda_errors import q_lambda, q_lambda_targets, sarsa_lambda, td_lambda
from isjax.compat.rlax.multistep import (
    general_off_policy_returns_from_action_values,
    general_off_policy_returns_from_q_and_v,
    importance_corrected_td_errors,
    truncated_generalized_advantage_estimation,
)
from isjax.compat.rlax.policy_gradients import clipped_surrogate_pg_loss
from isjax.compat.rlax.returns import discounted_returns, lambda_returns, n_step_bootstrapped_returns
from isjax.compat.rlax.value_learning import persistent_q_learning, retrace, retrace_continuous, retrace_targets
from isjax.compat.rlax.vtrace import (
    VTraceOutput,
    leaky_vtrace,
    leaky_vtrace_td_error_and_advantage,
    vtrace,
    vtrace_td_error_and_advantage,
)

if TYPE_CHECKING:
    from isjax.compat.rlax.nonlinear_bellman import (
        transformed_general_off_policy_returns_from_action_values,
        transformed_lambda_returns,
        transformed_n_step_q_learning,
        transformed_n_step_returns,
        transformed_q_lambda,
        transformed_retrace,
    )

# fmt: off
# ruff: noqa: F405
__all__ = [
    "DISCOUNT_TRANSFORM_PAIR", "HYPERBOLIC_SIN_PAIR", "IDENTITY_PAIR", "SIGNED_HYPERBOLIC_PAIR", "SIGNED_LOGP1_PAIR",
    "AllSum", "EmaMoments", "EmaState", "LagrangePenalty", "PolicyTarget", "PopArtState", "TxPair", "VTraceOutput",
    "add_dirichlet_noise", "add_gaussian_noise", "add_ornstein_uhlenbeck_noise", "art", "batched_index",
    "categorical_cross_entropy", "categorical_double_q_learning", "categorical_importance_sampling_ratios",
    "categorical_kl_divergence", "categorical_l2_project", "categorical_q_learning", "categorical_sample",
    "categorical_td_learning", "clip_gradient", "clipped_entropy_softmax", "clipped_surrogate_pg_loss", "compose_tx",
    "compute_parametric_kl_penalty_and_dual_loss", "conditional_update", "constant_policy_targets", "create_ema",
    "discounted_returns", "double_q_learning", "dpg_loss", "embed_oar", "entropy_loss",
    "episodic_memory_intrinsic_rewards", "epsilon_greedy", "expected_sarsa", "expectile_loss", "extract_subsequences",
    "feature_control_rewards", "fix_step_type_on_interruptions", "gaussian_diagonal",
    "general_off_policy_returns_from_action_values", "general_off_policy_returns_from_q_and_v", "greedy",
    "huber_loss", "identity", "importance_corrected_td_errors", "knn_query", "l2_loss", "lambda_returns",
    "leaky_vtrace", "leaky_vtrace_td_error_and_advantage", "lhs_broadcast", "likelihood", "log_loss", "logit",
    "mpo_compute_weights_and_temperature_loss", "mpo_loss", "multivariate_normal_kl_divergence", "muzero_pair",
    "n_step_bootstrapped_returns", "normalize", "one_hot", "periodic_update", "persistent_q_learning",
    "pixel_control_loss", "pixel_control_rewards", "policy_gradient_loss", "pop", "popart", "power", "q_lambda",
    "q_lambda_targets", "q_learning", "qpg_loss", "quantile_expected_sarsa", "quantile_q_learning",
    "quantile_regression_loss", "qv_learning", "qv_max", "replace_masked", "retrace", "retrace_continuous",
    "retrace_targets", "rm_loss", "rpg_loss", "sample_start_indices", "sampled_policy_distillation_loss", "sarsa",
    "sarsa_lambda", "sigmoid", "signed_expm1", "signed_hyperbolic", "signed_logp1", "signed_parabolic", "softmax",
    "squashed_gaussian", "td_lambda", "td_learning", "transform_from_2hot", "transform_to_2hot",
    "transformed_general_off_policy_returns_from_action_values", "transformed_lambda_returns",
    "transformed_n_step_q_learning", "transformed_n_step_returns", "transformed_q_lambda", "transformed_retrace",
    "transpose_first_axis_to_last", "transpose_last_axis_to_first", "tree_fn", "tree_map_zipped",
    "tree_replace_masked", "tree_select", "tree_split_key", "tree_split_leaves",
    "truncated_generalized_advantage_estimation", "twohot_pair", "unbiased_transform_pair", "unnormalize",
    "unnormalize_linear", "vmpo_compute_weights_and_temperature_loss", "vmpo_loss", "vtrace",
    "vtrace_td_error_and_advantage", "zero_policy_targets",
]
# fmt: on
"""Every public name of rlax 0.1.9, and a few more."""

_OF_TRANSFORMED_VALUES = frozenset(name for name in __all__ if name.startswith("transformed_"))


@functools.cache
def _rlax() -> ModuleType:
    """Import rlax itself, once something is asked for that is its own, even if others import this module as `rlax`."""
    this = sys.modules[__name__]
    is_in_place = sys.modules.get("rlax") is this
    if is_in_place:
        del sys.modules["rlax"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Those of what rlax depends on.
            return importlib.import_module("rlax")
    finally:
        if is_in_place:
            sys.modules["rlax"] = this


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """What is not written here is rlax's own."""
        origin = _rlax() if name == "__version__" or not name.startswith("__") else None
        if name in _OF_TRANSFORMED_VALUES:
            origin = importlib.import_module("isjax.compat.rlax.nonlinear_bellman")
        if origin is None or not hasattr(origin, name):
            version = "" if origin is None else f", nor has rlax {origin.__version__}"
            this = sys.modules[__name__]
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}{version}", name=name, obj=this)
        return getattr(origin, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
