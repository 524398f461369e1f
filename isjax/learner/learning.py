"""Learning from one unroll: gradient steps, after a step in a trust region where the algorithm takes one."""

from typing import TYPE_CHECKING, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from isjax import ops
from isjax.learner import metrics as metrics_lib
from isjax.learner.agent import Agent, Seen
from isjax.learner.config import Config, Hyper
from isjax.learner.objectives import Algorithm
from isjax.learner.randomness import Domain, stream
from isjax.losses import adapt_beta, surrogate_loss, trust_region_step
from isjax.ops.reduction import standardized
from isjax.types import Key, Metrics, Terms, Tree, Unroll

if TYPE_CHECKING:
    from isjax.learner.learner import LearnerState


class Learned(NamedTuple):
    """What learning from an unroll changes, and what it tells."""

    params: Tree
    optimizer: Tree
    kl_cost: jax.Array | None
    metrics: Metrics


class Fixed(NamedTuple):
    """Rows `[1, N]` whose advantages are settled, to be learned from in any order.

    A network with a memory cannot do without order: its rows remain `[T, B]`, with their `unroll`.
    """

    observation_tm1: Tree
    action_tm1: jax.Array
    prox_tm1: jax.Array
    """`[..., P]`, the distributions before the first gradient step."""
    terms: Terms
    unroll: Unroll | None = None


Batch = Unroll | Fixed


class Learning(NamedTuple):
    """The parts that learning needs; its methods are pure functions."""

    config: Config
    agent: Agent
    algorithm: Algorithm

    def learn(self, state: "LearnerState", unroll: Unroll, key: Key) -> Learned:
        """Everything that one update learns from its unroll."""
        start = Learned(state.params, state.optimizer, state.kl_cost, {})
        if self.algorithm.fix is None:
            return self.descend(state, start, unroll, key)
        rows = self.fix(state, unroll)
        if self.algorithm.in_trust_region:
            start = self.step_in_trust_region(state, start, rows)
        learned = self.descend(state, start, rows, key)
        return learned if state.kl_cost is None else self.adapt(state, learned, rows)

    def fix(self, state: "LearnerState", unroll: Unroll) -> Fixed:
        """Advantages and targets under the parameters before the first gradient step."""
        seen, terms = self.see(state.params, state, unroll)
        if self.config.is_on_policy:
            terms = terms._replace(log_mu_tm1=terms.log_pi_tm1)
        assert self.algorithm.fix is not None
        advantage_tm1, target_tm1 = self.algorithm.fix(terms, state.hyper)
        terms = terms._replace(
            log_prox_tm1=terms.log_pi_tm1,
            v_prox_tm1=terms.v_tm1,
            advantage_tm1=advantage_tm1,
            target_tm1=target_tm1,
        )
        observation_tm1 = jax.tree.map(lambda x: x[:-1], unroll.observation_tm1)
        rows = Fixed(observation_tm1, unroll.action_tm1, seen.policy, terms)
        if self.agent.has_memory:
            return rows._replace(unroll=unroll)
        return jax.tree.map(lambda x: x.reshape(1, -1, *x.shape[2:]), rows)

    def terms(self, params: Tree, state: "LearnerState", batch: Batch) -> Terms:
        """What the objective sees of a batch under `params`."""
        if isinstance(batch, Unroll):
            return self.see(params, state, batch)[1]
        if batch.unroll is not None:
            seen = self.agent.along(params, state.observation_moments, batch.unroll)
        else:
            observation = jax.tree.map(lambda x: x[0], batch.observation_tm1)
            policy, value, _ = self.agent.step(params, state.observation_moments, observation, ())
            seen = Seen(policy[None], value[None], batch.terms.v_t)
        actions = self.agent.adapter.actions
        return batch.terms._replace(
            log_pi_tm1=actions.log_prob(seen.policy, batch.action_tm1),
            entropy_tm1=actions.entropy(seen.policy),
            v_tm1=seen.v_tm1,
            kl_tm1=actions.kl(batch.prox_tm1, seen.policy),
            kl_cost=cast(jax.Array, state.kl_cost),
            advantage_tm1=self.standardized(batch.terms.advantage_tm1),
        )

    def see(self, params: Tree, state: "LearnerState", unroll: Unroll) -> tuple[Seen, Terms]:
        """An unroll under `params`: one forward pass over its observations serves every term."""
        seen = self.agent.along(params, state.observation_moments, unroll)
        discount_t, same_episode_t = ops.endings(unroll.terminated_t, unroll.truncated_t, state.hyper.discount)
        actions = self.agent.adapter.actions
        terms = Terms(
            log_pi_tm1=actions.log_prob(seen.policy, unroll.action_tm1),
            entropy_tm1=actions.entropy(seen.policy),
            v_tm1=seen.v_tm1,
            v_t=seen.v_t,
            log_mu_tm1=unroll.log_mu_tm1,
            r_t=unroll.r_t,
            discount_t=discount_t,
            same_episode_t=same_episode_t,
            is_valid_t=self.valid_rows(state.hyper, unroll, seen.policy),
        )
        return seen, terms

    def valid_rows(self, hyper: Hyper, unroll: Unroll, policy: jax.Array) -> jax.Array | None:
        """Rows past their burn-in and, if asked for, near enough to the policy that acted."""
        if unroll.mu_tm1 is None:
            return unroll.is_valid_t
        kl = self.agent.adapter.actions.kl(jax.lax.stop_gradient(policy), unroll.mu_tm1)
        is_near = kl <= hyper.replay_max_kl
        return is_near if unroll.is_valid_t is None else unroll.is_valid_t & is_near

    def histogram(self, terms: Terms) -> Metrics:
        """Of the ratios, before clipping; nothing where they are all 1 by construction."""
        if self.config.is_on_policy and self.config.epochs * self.config.minibatches == 1:
            return {}
        log_rho_tm1 = jax.lax.stop_gradient(ops.log_ratios(terms.log_pi_tm1, terms.log_mu_tm1))
        return {"ratio/histogram": ops.ratio_histogram(log_rho_tm1, is_valid=terms.is_valid_t)}

    def standardized(self, advantage: jax.Array) -> jax.Array:
        """Advantages with mean 0 and deviation 1 in their batch, if asked for."""
        return standardized(advantage) if self.config.normalize_advantages else advantage

    def descend(self, state: "LearnerState", start: Learned, source: Batch, key: Key) -> Learned:
        """`epochs × minibatches` gradient steps; each recomputes what depends on the parameters.

        They are one vector here: an optimizer's step over many small arrays costs more than the gradient itself.
        """
        vector, as_params = ravel_pytree(start.params)
        rate = annealed(state.hyper, state.update, self.config.updates)
        transform = preconditioner(self.config, state.hyper)

        def loss_of(vector, batch, is_first):
            terms = self.terms(as_params(vector), state, batch)
            if self.config.is_on_policy:
                # The parameters that acted: log π is log μ, rounding of another batch size left out.
                same = jax.lax.stop_gradient(terms.log_pi_tm1)
                terms = terms._replace(log_mu_tm1=jnp.where(is_first, same, terms.log_mu_tm1))
            loss, metrics = self.algorithm.loss(terms, state.hyper)
            return loss, metrics | self.histogram(terms)

        def gradient_step(vector, optimizer, batch, is_first):
            (loss, metrics), gradient = jax.value_and_grad(loss_of, has_aux=True)(vector, batch, is_first)
            direction, optimizer = transform.update(gradient, optimizer, vector)
            metrics |= {"loss/total": loss, "loss/grad_norm": optax.tree.norm(gradient)}
            return vector - rate * cast(jax.Array, direction), optimizer, metrics

        is_first = not self.algorithm.in_trust_region
        if self.config.epochs * self.config.minibatches == 1:
            vector, optimizer, metrics = gradient_step(vector, start.optimizer, source, is_first)
            return Learned(as_params(vector), optimizer, start.kl_cost, start.metrics | metrics)

        def step(carry, row):
            columns, is_first = row
            vector, optimizer, merged = carry
            batch = jax.tree.map(lambda x: x[:, columns], source)
            vector, optimizer, metrics = gradient_step(vector, optimizer, batch, is_first)
            return (vector, optimizer, metrics_lib.merge(merged, metrics)), None

        columns = self.minibatches(jax.tree.leaves(source)[0].shape[1], key)
        first = (jnp.arange(columns.shape[0]) == 0) & is_first
        shapes = jax.eval_shape(gradient_step, vector, start.optimizer, source, first[0])[2]
        carry = (vector, start.optimizer, metrics_lib.start(shapes))
        (vector, optimizer, merged), _ = jax.lax.scan(step, carry, (columns, first))
        return Learned(as_params(vector), optimizer, start.kl_cost, start.metrics | metrics_lib.finish(merged))

    def minibatches(self, columns: int, key: Key) -> jax.Array:
        """`[epochs × minibatches, columns / minibatches]`: in each epoch every column once, shuffled."""
        config = self.config
        keys = jax.random.split(stream(key, Domain.MINIBATCHES), config.epochs)
        orders = jax.vmap(lambda k: jax.random.permutation(k, columns))(keys)
        return orders.reshape(config.epochs * config.minibatches, -1)

    def step_in_trust_region(self, state: "LearnerState", start: Learned, rows: Fixed) -> Learned:
        """The natural gradient's step on all rows; the critic's gradient steps come after it."""

        def surrogate(params):
            terms = self.terms(params, state, rows)
            return -surrogate_loss(terms.log_pi_tm1, terms.log_mu_tm1, terms.advantage_tm1)

        def kl(params):
            return jnp.mean(self.terms(params, state, rows).kl_tm1)

        step = trust_region_step(surrogate, kl, start.params, max_kl=state.hyper.max_kl)
        metrics = {
            "trust/accepted": step.accepted.astype(jnp.float32),
            "trust/kl": step.kl,
            "trust/kl_max": step.kl,
            "trust/improvement": step.improvement,
        }
        return start._replace(params=step.params, metrics=metrics)

    def adapt(self, state: "LearnerState", learned: Learned, rows: Fixed) -> Learned:
        """The penalty's factor for the next update, from the KL that this one came to."""
        kl = jnp.mean(self.terms(learned.params, state, rows).kl_tm1)
        assert state.kl_cost is not None
        kl_cost = adapt_beta(state.kl_cost, kl, state.hyper.max_kl)
        return learned._replace(kl_cost=kl_cost, metrics=learned.metrics | {"kl/update": kl, "kl/cost": state.kl_cost})


def preconditioner(config: Config, hyper: Hyper) -> optax.GradientTransformation:
    """What makes a direction of a gradient; the step size comes after it."""
    scale_by = {"adam": optax.scale_by_adam, "rmsprop": optax.scale_by_rms, "sgd": optax.identity}
    return optax.chain(optax.clip_by_global_norm(hyper.max_grad_norm), scale_by[config.optimizer]())


def start_optimizer(config: Config, hyper: Hyper, params: Tree) -> Tree:
    """The preconditioner's moments, of all parameters as one vector."""
    return preconditioner(config, hyper).init(ravel_pytree(params)[0])


def annealed(hyper: Hyper, update: jax.Array, updates: int) -> jax.Array:
    """The step size of an update."""
    return hyper.learning_rate * (1.0 + (hyper.learning_rate_end - 1.0) * jnp.minimum(update / updates, 1.0))
