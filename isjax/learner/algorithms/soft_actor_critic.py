"""Soft actor-critic: a policy that actions' gradients reach, and critics that learn from earlier unrolls."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from isjax import losses, ops
from isjax.environments.distributions import Gaussian
from isjax.errors import FieldError
from isjax.learner.algorithms.action_values import RATIOS
from isjax.learner.algorithms.base import REPLAY, Algorithm, Batch, View, register_algorithm
from isjax.learner.algorithms.targets import followed, ratios
from isjax.learner.config import Config, Hyper
from isjax.ops.reduction import mean_over_valid
from isjax.types import Key, Metrics, Series, Tree


@register_algorithm("sac")
class SoftActorCritic(Algorithm):
    """Twin critics, a squashed policy and a learned temperature (Haarnoja et al. 2018b), with soft Retrace(λ)."""

    critics = 2
    uses = (
        *("lambda_", "polyak_rate", "critic_learning_rate", "temperature_learning_rate", "temperature"),
        *("target_entropy", *REPLAY),
    )
    defaults: ClassVar = dict(
        heads="state-std",
        activation="relu",
        layer_norm=True,
        normalize_rewards=False,
        num_envs=4,
        unroll_length=8,
        minibatches=16,
        replay_fraction=0.984375,
        replay_size=2000,
        learning_rate=3e-3,
        critic_learning_rate=3e-3,
        temperature_learning_rate=1e-2,
        max_grad_norm=float("inf"),
        polyak_rate=0.3,
        lambda_=0.0,
    )

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if not config.share_torso:
            rule = f"on for {config.algorithm}, whose critics are networks of their own"
            raise FieldError("share_torso", rule, "off")

    def parameters(self, params: Tree, hyper: Hyper) -> Tree:
        """See `Algorithm.parameters`: the logarithm of the temperature is one of them."""
        return params | {"log_temperature": jnp.log(hyper.temperature)}

    def learning_rates(self, hyper: Hyper) -> Tree:
        """See `Algorithm.learning_rates`."""
        return {
            "policy": hyper.learning_rate,
            "critics": hyper.critic_learning_rate,
            "log_temperature": hyper.temperature_learning_rate,
        }

    def init(self, params: Tree, hyper: Hyper) -> Tree:
        """Critics of a target network."""
        return params["critics"]

    def returns(self, batch: Batch, hyper: Hyper) -> Series:
        """What every critic's value of the action taken should become."""
        terms, critics, target = batch.terms, batch.critics, batch.state
        action_t, log_pi_t = _sampled(critics.actions, batch.policy_t, jax.random.fold_in(critics.key, 1))
        return ops.soft_retrace(
            critics.values_tm1(target, batch.action_tm1),
            critics.values_t(target, action_t),
            log_pi_t,
            terms.r_t,
            terms.discount_t,
            ops.log_ratios(terms.log_pi_tm1, terms.log_mu_tm1),
            terms.same_episode_t,
            is_valid_t=terms.is_valid_t,
            temperature=jnp.exp(critics.params["log_temperature"]),
            lambda_=hyper.lambda_,
        )

    def loss(self, batch: Batch, hyper: Hyper) -> tuple[jax.Array, Metrics]:
        critics, is_valid_t = batch.critics, batch.terms.is_valid_t
        temperature = jnp.exp(critics.params["log_temperature"])
        action_tm1, log_pi_tm1 = _sampled(critics.actions, batch.policy_tm1, jax.random.fold_in(critics.key, 0))
        judged_tm1 = critics.values_tm1(jax.lax.stop_gradient(critics.params["critics"]), action_tm1)
        policy = losses.sac_policy_loss(judged_tm1, log_pi_tm1, is_valid_t, temperature=temperature)
        target_tm1 = jax.lax.stop_gradient(self.returns(batch, hyper))
        q_tm1 = critics.values_tm1(critics.params["critics"], batch.action_tm1)
        value = losses.sac_critic_loss(q_tm1, target_tm1, is_valid_t)
        aim = hyper.target_entropy * critics.actions.free_dim
        dual = losses.temperature_loss(temperature, log_pi_tm1, is_valid_t, target_entropy=aim)
        metrics = {
            "loss/policy": policy,
            "loss/value": value,
            "loss/entropy": -mean_over_valid(log_pi_tm1, is_valid_t),
            "entropy/temperature": temperature,
            "q/taken": mean_over_valid(jnp.mean(q_tm1, axis=-1), is_valid_t),
            "q/target": mean_over_valid(target_tm1, is_valid_t),
        }
        told = {name: x for name, x in ratios(batch.terms, hyper).items() if name in RATIOS}
        return policy + value + dual, jax.lax.stop_gradient(metrics | told)

    def after(self, state: Tree, params: Tree, view: View, hyper: Hyper) -> tuple[Tree, Metrics]:
        return followed(state, params["critics"], hyper.polyak_rate), {}


def _sampled(actions: Gaussian, policy: jax.Array, key: Key) -> tuple[jax.Array, Series]:
    """Actions of a policy `[T, B, P]` that it can be differentiated by, and their log-probabilities."""
    action = actions.sample(policy, actions.noise(key, policy.shape[:-1]))
    return action, actions.log_prob(policy, action)
