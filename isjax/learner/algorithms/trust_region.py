"""Trust region policy optimization: the policy takes one step that a line search checks, then the critic learns."""

import jax
import jax.numpy as jnp

from isjax import losses
from isjax.errors import FieldError
from isjax.learner.algorithms.base import TARGETS, Algorithm, Batch, View, register_algorithm
from isjax.learner.algorithms.proximal import SEVERAL_PASSES
from isjax.learner.algorithms.targets import corrected_advantage, ratios
from isjax.learner.config import Config, Hyper
from isjax.types import Metrics, Series, Terms, Tree


@register_algorithm("trpo")
class TRPO(Algorithm):
    """A natural-gradient step of the policy with a line search (Schulman et al. 2015)."""

    uses = ("normalize_advantages", "max_kl", *TARGETS)
    # A step of its own for the policy wants a large batch; the critic then makes many small ones.
    defaults = SEVERAL_PASSES | dict(unroll_length=128, share_torso=False, learning_rate=2.5e-3)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if config.share_torso:
            rule = f"off for {config.algorithm}, or the critic would move the policy out of its trust region"
            raise FieldError("share_torso", rule, "on")

    def prepare(self, terms: Terms, hyper: Hyper) -> tuple[Series, Series]:
        return corrected_advantage(terms, hyper)

    def before(self, params: Tree, view: View, hyper: Hyper) -> tuple[Tree, Metrics]:
        def surrogate(params: Tree) -> jax.Array:
            batch = view(params)
            return -losses.surrogate_loss(batch.terms.log_pi_tm1, batch.terms.log_mu_tm1, batch.prepared.advantage_tm1)

        def kl(params: Tree) -> jax.Array:
            return jnp.mean(view(params).prepared.kl_tm1)

        step = losses.trust_region_step(surrogate, kl, params, max_kl=hyper.max_kl)
        return step.params, {
            "trust/accepted": step.accepted.astype(jnp.float32),
            "trust/kl": step.kl,
            "trust/kl_max": step.kl,
            "trust/improvement": step.improvement,
        }

    def loss(self, batch: Batch, hyper: Hyper) -> tuple[jax.Array, Metrics]:
        value = losses.value_loss(batch.terms.v_tm1, batch.prepared.target_tm1)
        metrics = {"loss/value": value, "loss/entropy": jnp.mean(batch.terms.entropy_tm1)}
        return value, jax.lax.stop_gradient(metrics | ratios(batch.terms, hyper))
