"""Q(λ) with off-policy corrections, as a learner's algorithm of one's own."""

from isjax import ops
from isjax.learner import Config, Hyper
from isjax.learner.algorithms import register_algorithm
from isjax.learner.algorithms.action_values import ActionValues, Row
from isjax.learner.algorithms.value_traces import Bootstrap, Return
from isjax.types import Terms


def q_lambda(b: Bootstrap, terms: Terms, config: Config, hyper: Hyper) -> Return:
    """λ, whoever acted (Harutyunyan et al. 2016)."""
    target_tm1 = ops.q_lambda(
        b.q_tm1,
        b.v_t,
        terms.r_t,
        terms.discount_t,
        terms.same_episode_t,
        is_valid_t=terms.is_valid_t,
        lambda_=hyper.lambda_,
    )
    return Return(target_tm1)


@register_algorithm("off-policy-q-lambda")
class QLambda(ActionValues):
    """Retrace with a trace that no ratio cuts."""

    row = Row(q_lambda, "chosen", ("lambda_",))
