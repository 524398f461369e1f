"""Learning from one unroll: the algorithm prepares, takes gradient steps, and updates what it keeps."""

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from isjax import ops
from isjax.learner import metrics as metrics_lib
from isjax.learner.agent import Agent, ForwardPass
from isjax.learner.algorithms.base import Algorithm, Batch, Prepared
from isjax.learner.config import Config, Hyper
from isjax.learner.replay import column_error
from isjax.learner.state import LearnerState
from isjax.ops.reduction import standardized
from isjax.randomness import Domain, stream
from isjax.types import Key, Metrics, Series, Terms, Tree, Unroll


class Learned(NamedTuple):
    """The parts of a learner that learning from an unroll changes, and its metrics."""

    params: Tree
    optimizer: Tree
    algorithm: Tree
    metrics: Metrics
    error: jax.Array | None = None
    """`[B]`, how far off each column is under the new parameters, where a replay draws by it."""


class PreparedSteps(NamedTuple):
    """Time steps `[1, N]` whose advantages are settled, to be learned from in any order.

    A network with a memory needs its time steps in order: they remain `[T, B]`, with their `unroll`.
    """

    observation_tm1: Tree
    action_tm1: jax.Array
    old_policy_tm1: jax.Array
    """`[..., P]`, the distributions before the first gradient step."""
    old_terms: Terms
    """Under the parameters before the first gradient step."""
    advantage_tm1: Series
    target_tm1: Series
    unroll: Unroll | None = None


Source = Unroll | PreparedSteps


class Learning(NamedTuple):
    """The parts that learning needs; its methods are pure functions."""

    config: Config
    agent: Agent
    algorithm: Algorithm

    def learn(self, state: LearnerState, unroll: Unroll, key: Key) -> Learned:
        """Everything that one update learns from its unroll."""
        source = unroll if self.algorithm.prepare is None else self.prepare(state, unroll)
        draws = stream(key, Domain.LEARNING)
        params, metrics = state.params, {}

        def view(params: Tree) -> Batch:
            return self.batch(params, state, source, draws)

        if self.algorithm.before is not None:
            params, metrics = self.algorithm.before(params, view, state.hyper)
        learned = self.gradient_steps(state, params, source, key)
        algorithm, told = self.algorithm.after(state.algorithm, learned.params, view, state.hyper)
        learned = learned._replace(algorithm=algorithm, metrics=metrics | learned.metrics | told)
        if not self.config.replay_priority:
            return learned
        batch = view(learned.params)
        error = column_error(self.algorithm.error(batch, state.hyper), batch.terms.is_valid_t)
        return learned._replace(error=error, metrics=learned.metrics | {"replay/error": jnp.mean(error)})

    def prepare(self, state: LearnerState, unroll: Unroll) -> PreparedSteps:
        """Advantages and targets under the parameters before the first gradient step."""
        forward, terms = self.terms(state.params, state, unroll)
        if self.is_on_policy:
            terms = terms._replace(log_mu_tm1=terms.log_pi_tm1)
        advantage_tm1, target_tm1 = self.algorithm.prepare(terms, state.hyper)
        observation_tm1 = jax.tree.map(lambda x: x[:-1], unroll.observation_tm1)
        steps = PreparedSteps(observation_tm1, unroll.action_tm1, forward.policy_tm1, terms, advantage_tm1, target_tm1)
        if self.agent.has_memory:
            return steps._replace(unroll=unroll)
        return jax.tree.map(lambda x: x.reshape(1, -1, *x.shape[2:]), steps)

    @property
    def is_on_policy(self) -> bool:
        """Whether the first gradient step of an update sees the very distributions that acted."""
        return self.config.is_on_policy and self.algorithm.behave is None

    def batch(self, params: Tree, state: LearnerState, source: Source, key: Key) -> Batch:
        """What the algorithm sees of these time steps under `params`; what it draws comes from `key`."""

        def under(params: Tree) -> Batch:
            return self.batch(params, state, source, key)

        if isinstance(source, Unroll):
            forward, terms = self.terms(params, state, source)
            policies = forward.policy_tm1, forward.policy_t
            batch = Batch(terms, *policies, source.action_tm1, state.algorithm, under, forward.v_tm1)
            if not self.algorithm.critics:
                return batch
            return batch._replace(critics=self.agent.critics(params, state.observation_moments, source, key))
        forward = self.forward_prepared(params, state, source)
        actions, old = self.agent.adapter.actions, source.old_terms
        policy, old_policy = (self.target_policy(x, state) for x in (forward.policy_tm1, source.old_policy_tm1))
        terms = old._replace(
            log_pi_tm1=actions.log_prob(policy, source.action_tm1),
            entropy_tm1=actions.entropy(policy),
            v_tm1=self.algorithm.value(forward.policy_tm1, forward.v_tm1, state.algorithm, state.hyper),
        )
        prepared = Prepared(
            advantage_tm1=self.standardized(source.advantage_tm1),
            target_tm1=source.target_tm1,
            old_log_pi_tm1=old.log_pi_tm1,
            old_v_tm1=old.v_tm1,
            kl_tm1=actions.kl(old_policy, policy),
        )
        policies = forward.policy_tm1, forward.policy_t
        return Batch(terms, *policies, source.action_tm1, state.algorithm, under, forward.v_tm1, prepared)

    def target_policy(self, policy: jax.Array, state: LearnerState) -> jax.Array:
        """The distribution that is learned about, from what the network says."""
        return self.algorithm.target_policy(policy, state.algorithm, state.hyper)

    def forward_prepared(self, params: Tree, state: LearnerState, steps: PreparedSteps) -> ForwardPass:
        """One forward pass over time steps in any order, or over the unroll that they are."""
        if steps.unroll is not None:
            return self.agent.forward_unroll(params, state.observation_moments, steps.unroll)
        observation = jax.tree.map(lambda x: x[0], steps.observation_tm1)
        policy, value, _ = self.agent.step(params, state.observation_moments, observation, ())
        return ForwardPass(policy[None], cast(jax.Array, None), value[None], steps.old_terms.v_t)

    def terms(self, params: Tree, state: LearnerState, unroll: Unroll) -> tuple[ForwardPass, Terms]:
        """One forward pass over an unroll, and the terms that follow from it."""
        forward = self.agent.forward_unroll(params, state.observation_moments, unroll)
        discount_t, same_episode_t = ops.endings(unroll.terminated_t, unroll.truncated_t, state.hyper.discount)
        actions, value = self.agent.adapter.actions, self.algorithm.value
        policy_tm1 = self.target_policy(forward.policy_tm1, state)
        terms = Terms(
            log_pi_tm1=actions.log_prob(policy_tm1, unroll.action_tm1),
            entropy_tm1=actions.entropy(policy_tm1),
            v_tm1=value(forward.policy_tm1, forward.v_tm1, state.algorithm, state.hyper),
            v_t=value(forward.policy_t, forward.v_t, state.algorithm, state.hyper),
            log_mu_tm1=unroll.log_mu_tm1,
            r_t=unroll.r_t,
            discount_t=discount_t,
            same_episode_t=same_episode_t,
            is_valid_t=self.valid_steps(state.hyper, unroll, policy_tm1),
            weight_tm1=unroll.weight_tm1,
        )
        return forward, terms

    def valid_steps(self, hyper: Hyper, unroll: Unroll, policy: jax.Array) -> jax.Array | None:
        """Time steps past their burn-in and, if asked for, near enough to the policy that acted."""
        if unroll.mu_tm1 is None:
            return unroll.is_valid_t
        kl = self.agent.adapter.actions.kl(jax.lax.stop_gradient(policy), unroll.mu_tm1)
        is_near = kl <= hyper.replay_max_kl
        return is_near if unroll.is_valid_t is None else unroll.is_valid_t & is_near

    def histogram(self, terms: Terms) -> Metrics:
        """A histogram of the ratios before clipping; nothing where they are all 1 by construction."""
        if self.is_on_policy and self.config.epochs * self.config.minibatches == 1:
            return {}
        log_rho_tm1 = jax.lax.stop_gradient(ops.log_ratios(terms.log_pi_tm1, terms.log_mu_tm1))
        return {"ratio/histogram": ops.ratio_histogram(log_rho_tm1, is_valid=terms.is_valid_t)}

    def standardized(self, advantage: jax.Array) -> jax.Array:
        """Advantages with mean 0 and deviation 1 in their batch, if asked for."""
        return standardized(advantage) if self.config.normalize_advantages else advantage

    def gradient_steps(self, state: LearnerState, params: Tree, source: Source, key: Key) -> Learned:
        """`epochs × minibatches` gradient steps; each recomputes what depends on the parameters.

        They are one vector here: an optimizer's step over many small arrays costs more than the gradient itself.
        """
        vector, as_params = ravel_pytree(params)
        rate = self.rates(params, state.hyper) * annealing(state.hyper, state.update, self.config.updates)
        transform = preconditioner(self.config, state.hyper)

        def loss_of(vector, source, is_first, key):
            batch = self.batch(as_params(vector), state, source, key)
            if self.is_on_policy:
                # The parameters that acted: log π is log μ, rounding of another batch size left out.
                terms = batch.terms
                same = jax.lax.stop_gradient(terms.log_pi_tm1)
                batch = batch._replace(terms=terms._replace(log_mu_tm1=jnp.where(is_first, same, terms.log_mu_tm1)))
            loss, metrics = self.algorithm.loss(batch, state.hyper)
            return loss, metrics | self.histogram(batch.terms)

        def gradient_step(vector, optimizer, source, is_first, key):
            (loss, metrics), gradient = jax.value_and_grad(loss_of, has_aux=True)(vector, source, is_first, key)
            direction, optimizer = transform.update(gradient, optimizer, vector)
            metrics |= {"loss/total": loss, "loss/grad_norm": optax.tree.norm(gradient)}
            return vector - rate * cast(jax.Array, direction), optimizer, metrics

        is_first, draws = self.algorithm.before is None, stream(key, Domain.LEARNING)
        if self.config.epochs * self.config.minibatches == 1:
            vector, optimizer, metrics = gradient_step(vector, state.optimizer, source, is_first, draws)
            return Learned(as_params(vector), optimizer, state.algorithm, metrics)

        def step(carry, row):
            columns, is_first, key = row
            vector, optimizer, merged = carry
            minibatch = jax.tree.map(lambda x: x[:, columns], source)
            vector, optimizer, metrics = gradient_step(vector, optimizer, minibatch, is_first, key)
            return (vector, optimizer, metrics_lib.merge(merged, metrics)), None

        columns = self.minibatches(jax.tree.leaves(source)[0].shape[1], key)
        first = (jnp.arange(columns.shape[0]) == 0) & is_first
        keys = jax.random.split(draws, len(columns))
        shapes = jax.eval_shape(gradient_step, vector, state.optimizer, source, first[0], keys[0])[2]
        carry = (vector, state.optimizer, metrics_lib.start(shapes))
        (vector, optimizer, merged), _ = jax.lax.scan(step, carry, (columns, first, keys))
        return Learned(as_params(vector), optimizer, state.algorithm, metrics_lib.finish(merged))

    def rates(self, params: Tree, hyper: Hyper) -> jax.Array:
        """Step sizes of all parameters as one vector, or one of them all."""
        if self.algorithm.learning_rates is None:
            return jnp.asarray(hyper.learning_rate)
        rates = jax.tree.broadcast(self.algorithm.learning_rates(hyper), params)
        return ravel_pytree(jax.tree.map(lambda rate, x: jnp.full_like(x, rate), rates, params))[0]

    def minibatches(self, columns: int, key: Key) -> jax.Array:
        """Indices `[epochs × minibatches, columns / minibatches]`: in each epoch every column once, shuffled."""
        config = self.config
        keys = jax.random.split(stream(key, Domain.MINIBATCHES), config.epochs)
        orders = jax.vmap(lambda k: jax.random.permutation(k, columns))(keys)
        return orders.reshape(config.epochs * config.minibatches, -1)


def preconditioner(config: Config, hyper: Hyper) -> optax.GradientTransformation:
    """The optimizer without its step size: clipping by global norm, then Adam, RAdam, RMSprop or nothing."""
    scale_by = {
        "adam": optax.scale_by_adam,
        "radam": optax.scale_by_radam,
        "rmsprop": optax.scale_by_rms,
        "sgd": optax.identity,
    }
    return optax.chain(optax.clip_by_global_norm(hyper.max_grad_norm), scale_by[config.optimizer]())


def start_optimizer(config: Config, hyper: Hyper, params: Tree) -> Tree:
    """The optimizer's state before the first step. It sees all parameters as one vector."""
    return preconditioner(config, hyper).init(ravel_pytree(params)[0])


def annealing(hyper: Hyper, update: jax.Array, updates: int) -> jax.Array:
    """What learning rates are multiplied by at an update, to anneal linearly."""
    return 1.0 + (hyper.learning_rate_end - 1.0) * jnp.minimum(update / updates, 1.0)
