"""rlax's off-policy functions under rlax's names and signatures, and right at time limits where told of them.

Change `import rlax` to `from isjax.compat import rlax`. (`importance_corrected_td_errors` stands among rlax's
multistep returns, which does not export it.) Arguments, their order and defaults, results and
gradients are rlax's; what differs:

- `same_episode_t`, an additional argument, is false where a step ended its episode, for either reason.
  Without it the results are rlax's, also where a time limit cut an episode: there rlax takes the value of
  the next episode's first state for that of the state reached.
- `v_t` goes with it in the two functions that take `values` `[T + 1]`: there one place cannot hold both the
  value of a state that a time limit cut and that of the next episode's first state.
- `is_valid_t` of the loss leaves padded steps out.
- Results are finite for ratios of 0 and infinity: an unclipped ratio saturates at `exp(80)`.
- Arrays may be `[T, *B]` as well as `[T]`; bfloat16 is computed in float32.
- Errors are `ValueError` and `TypeError` where rlax raises `AssertionError`.

New code is better off with `isjax.ops`, whose functions take log-ratios and stop no gradients.
"""

from isjax.compat.rlax.multistep import (
    general_off_policy_returns_from_action_values,
    general_off_policy_returns_from_q_and_v,
    importance_corrected_td_errors,
    truncated_generalized_advantage_estimation,
)
from isjax.compat.rlax.policy_gradients import clipped_surrogate_pg_loss
from isjax.compat.rlax.value_learning import retrace, retrace_continuous
from isjax.compat.rlax.vtrace import (
    VTraceOutput,
    leaky_vtrace,
    leaky_vtrace_td_error_and_advantage,
    vtrace,
    vtrace_td_error_and_advantage,
)

__all__ = [
    "VTraceOutput",
    "clipped_surrogate_pg_loss",
    "general_off_policy_returns_from_action_values",
    "general_off_policy_returns_from_q_and_v",
    "importance_corrected_td_errors",
    "leaky_vtrace",
    "leaky_vtrace_td_error_and_advantage",
    "retrace",
    "retrace_continuous",
    "truncated_generalized_advantage_estimation",
    "vtrace",
    "vtrace_td_error_and_advantage",
]
